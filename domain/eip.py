"""The life of an IptablesEIP (kube-ovn: pkg/controller/vpc_nat_gw_eip.go; dossier 3.6, #5114, #4924, #1847).

It is ready when `eip-add` ran for its address in the gateway's pod of today, and for no other reason: `status.ready` is
a claim. `nat_rule` is next: what hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.nat_rule import RULES
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, World

REQUESTED = "REQUESTED"
READY = "READY"  # configured in the gateway's pod of today
REDO = "REDO"  # that pod was replaced, or the address was taken off it
GHOST = "GHOST"  # gone, while a rule still names it

LIVE = (REQUESTED, READY, REDO, SIGHTED)

ADDRESS_LABEL = "metadata.labels[ovn.kubernetes.io/eip_v4_ip]"


def address_of(fields: Mapping[str, Any]) -> str:
    """Its IPv4 address: what it was given in the spec, else what its status or its label say; empty if none yet."""
    return str(fields.get("spec.v4ip") or fields.get("status.ip") or fields.get(ADDRESS_LABEL) or "")


def _rule_names_it(world: World, change: Change) -> str | None:
    rules = {kind: sorted(r.key.name for r in world.naming(change.key, kind) if not r.blurred) for kind in RULES}
    named = [f"{kind.upper()} {', '.join(names[:3])}" for kind, names in rules.items() if names]
    alone = sum(map(len, rules.values())) == 1
    return f"{' and '.join(named)} still hang{'s' if alone else ''} on it" if named else None


rule_names_it = Guard("rule_names_it", "a rule still names it", _rule_names_it)

LIFECYCLE = Lifecycle(
    "eip",
    (
        Row("EIPCreated", (ABSENT, GONE, GHOST), REQUESTED, "a user asks for an external address"),
        Row("EIPSighted", (ABSENT, GONE, GHOST, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "EIPSightedTerminating",
            (ABSENT, GONE, GHOST, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("EIPConfigured", LIVE, READY, "eip-add was started for its address in the gateway's pod of today"),
        Row("EIPConfigured", (TERMINATING,), SAME, "eip-add was started while it was going"),
        Row("EIPDeconfigured", LIVE, REDO, "eip-del was started for its address"),
        Row("EIPDeconfigured", (TERMINATING,), SAME, "eip-del was started: its deletion is under way"),
        Row(
            "EIPGatewayPodReplaced",
            (READY, REDO, SIGHTED),
            REDO,
            "the new gateway pod starts with no addresses",
        ),
        Row("EIPGatewayPodReplaced", (REQUESTED, TERMINATING), SAME, "a new gateway pod came"),
        Row("EIPGuarded", (*LIVE, TERMINATING), SAME, "the controller puts its finalizer on, last of all"),
        Row("EIPUnguarded", (*LIVE, TERMINATING), SAME, "a finalizer comes off"),
        Row(
            "EIPSpecChanged",
            (*LIVE, TERMINATING),
            SAME,
            "the controller fills in the address, or a user changes it",
        ),
        Row("EIPLabelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row(
            "EIPStatusReported",
            (*LIVE, TERMINATING),
            SAME,
            "the controller writes ready, nat and redo: claims",
        ),
        Row("EIPDeletionRequested", LIVE, TERMINATING, "a user deletes it; the finalizer holds it"),
        Row(
            "EIPRemoved",
            (*LIVE, TERMINATING),
            GONE,
            "the last finalizer came off, or there was none to hold it",
            (rule_names_it,),
            GHOST,
        ),
        Row("EIPVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
    note="`status.ready` moves no state: the controller may write it before, after or without configuring anything.",
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.natGwDp"):
        yield Key("nat-gateway", "", name)
    if name := fields.get("spec.externalSubnet"):
        yield Key("subnet", "", name)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="EIPCreated",
    sighted="EIPSighted",
    sighted_terminating="EIPSightedTerminating",
    deletion_requested="EIPDeletionRequested",
    ended="EIPRemoved",
    vanished="EIPVanished",
    writes=(
        *guarded_writes("EIP"),
        Write("EIPSpecChanged", starts("spec.")),
        Write("EIPStatusReported", starts("status.")),
        Write("EIPLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({"spec.natGwDp", "spec.externalSubnet"}),
)
