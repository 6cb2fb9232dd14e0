"""The life of a Subnet (kube-ovn: pkg/controller/subnet.go; dossier of #5220, #5028, #4898).

A subnet names a Vpc and is named by addresses. It may not go while it holds one; it is an orphan while the Vpc it
names is not there. `ip` is next: the addresses in it.
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

CREATED = "CREATED"
GUARDED = "GUARDED"
ORPHANED = "ORPHANED"  # the Vpc it names is not there
GHOST = "GHOST"  # gone, while addresses still name it

LIVE = (CREATED, GUARDED, SIGHTED, ORPHANED)

HOLDERS = ("ip", "eip", "oeip")
"""The kinds that have an address in a subnet."""


def serves_its_vpc(fields: Mapping[str, Any]) -> bool:
    """Whether a Vpc's status lists this subnet: its provider is OVN (kube-ovn: isOvnSubnet, getVpcSubnets)."""
    provider = fields.get("spec.provider") or "ovn"
    return provider == "ovn" or provider.endswith(".ovn")


def _vpc_is_gone(world: World, change: Change) -> str | None:
    name = change.fields.get("spec.vpc")
    if not name or not serves_its_vpc(change.fields):
        return None
    departed = world.gone(Key("vpc", "", name))
    return f"the Vpc {name} that it names is gone" if departed is not None and departed.seen else None


def _address_in_it(world: World, change: Change) -> str | None:
    names = [resource.key for kind in HOLDERS for resource in world.naming(change.key, kind) if not resource.blurred]
    if not names:
        return None
    some = ", ".join(str(key) for key in sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{some} {'is' if len(names) == 1 else 'are'} still in it"


vpc_is_gone = Guard("vpc_is_gone", "the Vpc it names is gone", _vpc_is_gone)
address_in_it = Guard("address_in_it", "an IP, EIP or OvnEip object still names it", _address_in_it)

LIFECYCLE = Lifecycle(
    "subnet",
    (
        Row(
            "SubnetCreated",
            (ABSENT, GONE, GHOST),
            CREATED,
            "a user asks for a range of addresses",
            (vpc_is_gone,),
            ORPHANED,
        ),
        Row("SubnetSighted", (ABSENT, GONE, GHOST, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "SubnetSightedTerminating",
            (ABSENT, GONE, GHOST, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("SubnetGuarded", (CREATED, SIGHTED), GUARDED, "the controller puts its finalizer on"),
        Row("SubnetGuarded", (GUARDED, ORPHANED), SAME, "the finalizer comes on late, or under a second name"),
        Row(
            "SubnetUnguarded",
            (GUARDED, SIGHTED),
            CREATED,
            "the finalizer comes off an object that is not deleted",
        ),
        Row("SubnetUnguarded", (CREATED, ORPHANED, TERMINATING), SAME, "one of several finalizers comes off"),
        Row(
            "SubnetSpecChanged",
            (*LIVE, TERMINATING),
            SAME,
            "a user or the controller fills in or changes its spec",
        ),
        Row("SubnetLabelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row(
            "SubnetStatusReported",
            (*LIVE, TERMINATING),
            SAME,
            "the controller writes counts and conditions: claims",
        ),
        Row("SubnetOrphaned", (CREATED, GUARDED, SIGHTED), ORPHANED, "its Vpc went under it (#5068, #4104)"),
        Row("SubnetOrphaned", (ORPHANED, TERMINATING), SAME, "its Vpc went while it was going itself"),
        Row("SubnetAdopted", (ORPHANED,), GUARDED, "a Vpc of that name is there again, or it names another"),
        Row("SubnetAdopted", (TERMINATING,), SAME, "a Vpc of that name is there again"),
        Row("SubnetDeletionRequested", LIVE, TERMINATING, "a user deletes it; the finalizer holds it"),
        Row(
            "SubnetRemoved",
            (*LIVE, TERMINATING),
            GONE,
            "the last finalizer came off, or there was none to hold it",
            (address_in_it,),
            GHOST,
        ),
        Row("SubnetVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
    note="Conditions (Validated, Ready, Error) and counts are claims of the controller and move no state.",
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.vpc"):
        yield Key("vpc", "", name)
    for namespace in fields.get("spec.namespaces") or ():
        yield Key("namespace", "", namespace)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="SubnetCreated",
    sighted="SubnetSighted",
    sighted_terminating="SubnetSightedTerminating",
    deletion_requested="SubnetDeletionRequested",
    ended="SubnetRemoved",
    vanished="SubnetVanished",
    writes=(
        *guarded_writes("Subnet"),
        Write("SubnetSpecChanged", starts("spec.")),
        Write("SubnetStatusReported", starts("status.")),
        Write("SubnetLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({"spec.vpc", "spec.namespaces"}),
)
