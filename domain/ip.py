"""The life of an IP object: one address that a pod holds in a subnet (kube-ovn: pkg/controller/ip.go; #4898, #5364).

An IP has no status. It may outlive neither its pod nor its subnet; when it does, nobody is left who would release it.
`pod` is next: who holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, one_of, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, Guard, Lifecycle, Row
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, World

RECORDED = "RECORDED"  # the object is there, without finalizer: before 1.15 a call of its own sets that
HELD = "HELD"
RELEASING = "RELEASING"
STRANDED = "STRANDED"  # its subnet is gone; its pod may still be there
LEAKED = "LEAKED"  # subnet and pod are both gone

LIVE = (RECORDED, HELD, SIGHTED)
OFF = (STRANDED, LEAKED)

RESERVED_LABEL = "metadata.labels[ovn.kubernetes.io/ip_reserved]"


def subnet_of(fields: Mapping[str, Any]) -> str:
    """The subnet that the address is in: the spec's, else the label's."""
    return str(fields.get("spec.subnet") or fields.get("metadata.labels[ovn.kubernetes.io/subnet]") or "")


def pod_of(key: Key, fields: Mapping[str, Any]) -> Key | None:
    """The pod that holds it; `None` where no pod does: an address of a node, a u2o interconnection or a querier.

    kube-ovn names those `node-NODE`, `u2o-interconnection.VPC.SUBNET`, `mcast-querier.SUBNET`; they have no namespace.
    """
    namespace, name = fields.get("spec.namespace"), fields.get("spec.podName")
    if not namespace or not name or key.name.startswith(("node-", "u2o-interconnection.", "mcast-querier.")):
        return None
    return Key("pod", str(namespace), str(name))


def survives_its_pod(fields: Mapping[str, Any]) -> bool:
    """Whether it is meant to outlive its pod: reserved by a user, or of a StatefulSet's or a VM's pod."""
    return fields.get(RESERVED_LABEL) == "true" or bool(fields.get("spec.podType"))


def _subnet_is_gone(world: World, change: Change) -> str | None:
    name = subnet_of(change.fields)
    departed = world.gone(Key("subnet", "", name)) if name else None
    return f"the subnet {name} that it is in is gone" if departed is not None and departed.seen else None


def _identity_is_fixed(world: World, change: Change) -> str | None:
    return "the subnet, namespace and pod of an IP never change (kube-ovn: handleUpdateIP logs and ignores it)"


subnet_is_gone = Guard("subnet_is_gone", "the subnet it is in is gone", _subnet_is_gone)
identity_is_fixed = Guard("identity_is_fixed", "an IP's subnet and pod never change", _identity_is_fixed)

LIFECYCLE = Lifecycle(
    "ip",
    (
        Row(
            "IPAllocated",
            (ABSENT, GONE),
            RECORDED,
            "the controller gave a pod an address, or a user reserved one",
            (subnet_is_gone,),
            STRANDED,
        ),
        Row("IPSighted", (ABSENT, GONE, *LIVE, *OFF, RELEASING), SIGHTED, "first heard of in mid-life"),
        Row(
            "IPSightedTerminating",
            (ABSENT, GONE, *LIVE, *OFF, RELEASING),
            RELEASING,
            "first heard of when its deletion had been asked for",
        ),
        Row(
            "IPGuarded",
            (RECORDED, SIGHTED),
            HELD,
            "the controller puts its finalizer on (since 1.15 in the create)",
        ),
        Row("IPGuarded", (HELD, *OFF), SAME, "the finalizer comes on late"),
        Row("IPUnguarded", (HELD, SIGHTED), RECORDED, "the finalizer comes off an object that is not deleted"),
        Row("IPUnguarded", (RECORDED, *OFF, RELEASING), SAME, "one of several finalizers comes off"),
        Row("IPMoved", (*LIVE, *OFF, RELEASING), SAME, "its subnet or pod changes", (identity_is_fixed,)),
        Row(
            "IPSpecChanged",
            (*LIVE, *OFF, RELEASING),
            SAME,
            "the node, the container or an address is filled in",
        ),
        Row(
            "IPLabelled",
            (*LIVE, *OFF, RELEASING),
            SAME,
            "labels change: a user reserves it, or its node changes",
        ),
        Row("IPStranded", LIVE, STRANDED, "its subnet went under it (#4898)"),
        Row("IPStranded", (*OFF, RELEASING), SAME, "its subnet went while it was being released"),
        Row(
            "IPLeaked",
            (*LIVE, STRANDED),
            LEAKED,
            "its subnet and its pod are gone: nobody is left to release it",
        ),
        Row("IPLeaked", (LEAKED, RELEASING), SAME, "its subnet and its pod went while it was being released"),
        Row("IPReclaimed", OFF, HELD, "a subnet of that name is there again"),
        Row("IPReclaimed", (RELEASING,), SAME, "a subnet of that name is there again"),
        Row("IPReleaseRequested", LIVE, RELEASING, "its pod went, or a user deletes it"),
        Row(
            "IPReleaseRequested",
            OFF,
            SAME,
            "a delete only marks it: who would take the finalizer off is gone",
        ),
        Row("IPReleased", (*LIVE, *OFF, RELEASING), GONE, "the last finalizer came off, or there was none"),
        Row("IPVanished", (*LIVE, *OFF, RELEASING), GONE, "another object bears its name: it went unseen"),
    ),
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := subnet_of(fields):
        yield Key("subnet", "", name)
    if (pod := pod_of(key, fields)) is not None:
        yield pod


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="IPAllocated",
    sighted="IPSighted",
    sighted_terminating="IPSightedTerminating",
    deletion_requested="IPReleaseRequested",
    ended="IPReleased",
    vanished="IPVanished",
    writes=(
        *(
            write._replace(event=write.event.replace("IPDeletionRequested", "IPReleaseRequested"))
            for write in guarded_writes("IP")
        ),
        Write("IPMoved", one_of("spec.subnet", "spec.namespace", "spec.podName"), lambda before, after: bool(before)),
        Write("IPSpecChanged", starts("spec.")),
        Write("IPLabelled", starts("metadata.", "status.")),
    ),
    refers=_refers,
    reference_paths=frozenset(
        {"spec.subnet", "spec.namespace", "spec.podName", "metadata.labels[ovn.kubernetes.io/subnet]"}
    ),
)
