"""The life of an IptablesFIPRule: one EIP for one inside address (kube-ovn: vpc_nat_gw_nat.go; dossier 3.6, #5115).

Like its EIP it is ready when its own verb, `floating-ip-add`, ran in the gateway's pod of today. `namespace` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, one_of, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, World

REQUESTED = "REQUESTED"
READY = "READY"
REDO = "REDO"
CLASHING = "CLASHING"  # made on an EIP that another rule uses

LIVE = (REQUESTED, READY, REDO, SIGHTED, CLASHING)


def inside_address_of(fields: Mapping[str, Any]) -> str:
    """The inside address that the rule maps to."""
    return str(fields.get("spec.internalIp") or "")


def _other_fip_uses_the_eip(world: World, change: Change) -> str | None:
    eip = change.fields.get("spec.eip")
    if not eip:
        return None
    others = [
        fip.key.name
        for fip in world.naming(Key("eip", "", str(eip)), "fip")
        if fip.key != change.key and not fip.terminating and not fip.blurred
    ]
    return f"EIP {eip} is already used by FIP {others[0]}" if others else None


other_fip_uses_the_eip = Guard(
    "other_fip_uses_the_eip",
    "another FIP uses its EIP (kube-ovn refuses to program it)",
    _other_fip_uses_the_eip,
)

LIFECYCLE = Lifecycle(
    "fip",
    (
        Row(
            "FIPCreated",
            (ABSENT, GONE),
            REQUESTED,
            "a user maps an EIP to an inside address",
            (other_fip_uses_the_eip,),
            CLASHING,
        ),
        Row("FIPSighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "FIPSightedTerminating",
            (ABSENT, GONE, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("FIPConfigured", LIVE, READY, "floating-ip-add was started for it in the gateway's pod of today"),
        Row("FIPConfigured", (TERMINATING,), SAME, "floating-ip-add was started while it was going"),
        Row("FIPDeconfigured", LIVE, REDO, "floating-ip-del was started for it"),
        Row("FIPDeconfigured", (TERMINATING,), SAME, "floating-ip-del was started: its deletion is under way"),
        Row("FIPGatewayPodReplaced", (READY, REDO, SIGHTED), REDO, "the new gateway pod starts with no rules"),
        Row("FIPGatewayPodReplaced", (REQUESTED, CLASHING, TERMINATING), SAME, "a new gateway pod came"),
        Row(
            "FIPGuarded",
            (*LIVE, TERMINATING),
            SAME,
            "the controller puts its finalizer on (first, since #5142)",
        ),
        Row("FIPUnguarded", (*LIVE, TERMINATING), SAME, "a finalizer comes off"),
        Row("FIPRetargeted", (READY, REDO), REDO, "it maps another address now"),
        Row("FIPRetargeted", (REQUESTED, SIGHTED, CLASHING, TERMINATING), SAME, "it maps another address now"),
        Row("FIPSpecChanged", (*LIVE, TERMINATING), SAME, "a user changes it"),
        Row("FIPLabelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row("FIPStatusReported", (*LIVE, TERMINATING), SAME, "the controller writes ready and redo: claims"),
        Row("FIPDeletionRequested", LIVE, TERMINATING, "a user deletes it; the finalizer holds it"),
        Row(
            "FIPRemoved",
            (*LIVE, TERMINATING),
            GONE,
            "the last finalizer came off, or there was none to hold it",
        ),
        Row("FIPVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.eip"):
        yield Key("eip", "", name)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="FIPCreated",
    sighted="FIPSighted",
    sighted_terminating="FIPSightedTerminating",
    deletion_requested="FIPDeletionRequested",
    ended="FIPRemoved",
    vanished="FIPVanished",
    writes=(
        *guarded_writes("FIP"),
        Write("FIPRetargeted", one_of("spec.eip", "spec.internalIp")),
        Write("FIPSpecChanged", starts("spec.")),
        Write("FIPStatusReported", starts("status.")),
        Write("FIPLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({"spec.eip"}),
)
