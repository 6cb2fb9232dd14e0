"""The life of an OvnEip: an external address that OVN itself answers for (kube-ovn: ovn_eip.go; dossier 3.7, #6872, #7405).

Nothing is started in a pod for it, so an audit log shows what was asked for and not whether OVN has it. The controller
holds it while a rule uses it. `ovn_rule` is next: what hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.ovn_rule import RULES
from domain.resources import BY_NAME, Key

if TYPE_CHECKING:
    from domain.world import Change, World

CREATED = "CREATED"
GUARDED = "GUARDED"
GHOST = "GHOST"  # gone, while a rule still uses it

LIVE = (CREATED, GUARDED, SIGHTED)


def _ovn_rule_uses_it(world: World, change: Change) -> str | None:
    names = [
        f"{BY_NAME[kind].title} {rule.key.name}"
        for kind in RULES
        for rule in world.naming(change.key, kind)
        if not rule.blurred
    ]
    return f"{', '.join(sorted(names)[:3])} still use{'s' if len(names) == 1 else ''} it" if names else None


ovn_rule_uses_it = Guard("ovn_rule_uses_it", "a rule still uses it, terminating or not", _ovn_rule_uses_it)

LIFECYCLE = Lifecycle(
    "oeip",
    (
        Row(
            "OvnEIPCreated",
            (ABSENT, GONE, GHOST),
            CREATED,
            "a user asks for an external address, or the controller makes one for a router's or a node's port",
        ),
        Row("OvnEIPSighted", (ABSENT, GONE, GHOST, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "OvnEIPSightedTerminating",
            (ABSENT, GONE, GHOST, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("OvnEIPGuarded", (CREATED, SIGHTED), GUARDED, "the controller puts its finalizer on"),
        Row("OvnEIPGuarded", (GUARDED,), SAME, "an upgrade adds the new finalizer name beside the old (#3748)"),
        Row("OvnEIPUnguarded", (GUARDED, SIGHTED), CREATED, "the finalizer comes off an object that is not deleted"),
        Row("OvnEIPUnguarded", (CREATED, TERMINATING), SAME, "one of several finalizers comes off"),
        Row(
            "OvnEIPSpecChanged",
            (*LIVE, TERMINATING),
            SAME,
            "the controller fills in the address; a change of it is not followed",
        ),
        Row("OvnEIPLabelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row("OvnEIPStatusReported", (*LIVE, TERMINATING), SAME, "the controller writes ready and nat: claims"),
        Row("OvnEIPDeletionRequested", LIVE, TERMINATING, "a user deletes it; the finalizer holds it"),
        Row(
            "OvnEIPRemoved",
            (*LIVE, TERMINATING),
            GONE,
            "the last finalizer came off, or there was none to hold it",
            (ovn_rule_uses_it,),
            GHOST,
        ),
        Row("OvnEIPVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
    note="`status.ready` moves no state: whether OVN has the address, no audit log shows.",
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.externalSubnet"):
        yield Key("subnet", "", name)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="OvnEIPCreated",
    sighted="OvnEIPSighted",
    sighted_terminating="OvnEIPSightedTerminating",
    deletion_requested="OvnEIPDeletionRequested",
    ended="OvnEIPRemoved",
    vanished="OvnEIPVanished",
    writes=(
        *guarded_writes("OvnEIP"),
        Write("OvnEIPSpecChanged", starts("spec.")),
        Write("OvnEIPStatusReported", starts("status.")),
        Write("OvnEIPLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({"spec.externalSubnet"}),
)
