"""The life of a Vpc (kube-ovn: pkg/controller/vpc.go; dossier of #5220, #5071, #5068, #4104).

What matters: since #5071 a Vpc carries a finalizer that comes off when `status.subnets` is empty; before, a delete
removed it at once, under its subnets. `subnet` is next: it is what hangs on a Vpc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, World

CREATED = "CREATED"  # no finalizer yet, or a release that sets none
GUARDED = "GUARDED"  # the controller's finalizer is on
GHOST = "GHOST"  # gone, while subnets still name it

LIVE = (CREATED, GUARDED, SIGHTED)


def _subnet_names_it(world: World, change: Change) -> str | None:
    names = [subnet.key.name for subnet in world.naming(change.key, "subnet") if not subnet.blurred]
    if not names:
        return None
    some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"subnet{'s' if len(names) > 1 else ''} {some} still name{'' if len(names) > 1 else 's'} it"


subnet_names_it = Guard("subnet_names_it", "a subnet still names it, terminating or not", _subnet_names_it)

LIFECYCLE = Lifecycle(
    "vpc",
    (
        # event, may happen in, leads to, because, unless, otherwise
        Row("VPCCreated", (ABSENT, GONE, GHOST), CREATED, "a user asks for a network of its own"),
        Row("VPCSighted", (ABSENT, GONE, GHOST, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "VPCSightedTerminating",
            (ABSENT, GONE, GHOST, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("VPCGuarded", (CREATED, SIGHTED), GUARDED, "the controller puts its finalizer on (since #5071)"),
        Row("VPCGuarded", (GUARDED,), SAME, "an upgrade adds the new finalizer name beside the old (#3748)"),
        Row(
            "VPCUnguarded",
            (GUARDED, SIGHTED),
            CREATED,
            "the finalizer comes off an object that is not deleted",
        ),
        Row("VPCUnguarded", (CREATED, TERMINATING), SAME, "one of several finalizers comes off"),
        Row("VPCSpecChanged", (*LIVE, TERMINATING), SAME, "a user changes routes, peers or namespaces"),
        Row("VPCLabelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row("VPCStatusReported", (*LIVE, TERMINATING), SAME, "the controller writes what it believes: a claim"),
        Row("VPCDeletionRequested", LIVE, TERMINATING, "a user deletes it; the finalizer holds it"),
        Row(
            "VPCRemoved",
            (*LIVE, TERMINATING),
            GONE,
            "the last finalizer came off, or there was none to hold it",
            (subnet_names_it,),
            GHOST,
        ),
        Row("VPCVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
    note="`status.standby`, `status.subnets` and the rest of `status` are claims and move no state.",
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.defaultSubnet"):
        yield Key("subnet", "", name)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="VPCCreated",
    sighted="VPCSighted",
    sighted_terminating="VPCSightedTerminating",
    deletion_requested="VPCDeletionRequested",
    ended="VPCRemoved",
    vanished="VPCVanished",
    writes=(
        *guarded_writes("VPC"),
        Write("VPCSpecChanged", starts("spec.")),
        Write("VPCStatusReported", starts("status.")),
        Write("VPCLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({"spec.defaultSubnet"}),
)
