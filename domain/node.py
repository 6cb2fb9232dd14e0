"""The life of a Node's place in the network: its pod ranges and its addresses (kube-router: syncNodeIPSets; dossier 4.1).

A node without a pod range is in no set: kube-router skips it, addresses and all. The node controller gives the range, once;
an annotation may overrule it. Of a node's status only the addresses are looked at: the rest is the kubelet's heartbeat.
`decide` is next: it asks these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.events import Vocabulary, Write, appears, names_nothing, one_of, starts
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Lifecycle, Row
from domain.operations import DELETION

REGISTERED = "REGISTERED"
ROUTABLE = "ROUTABLE"  # it was given a range for its pods

LIVE = (REGISTERED, ROUTABLE, SIGHTED)

POD_CIDR = "spec.podCIDR"
POD_CIDRS = "spec.podCIDRs"
CIDR_ANNOTATION = "metadata.annotations[kube-router.io/pod-cidr]"
CIDRS_ANNOTATION = "metadata.annotations[kube-router.io/pod-cidrs]"
ADDRESSES = "status.addresses"

LIFECYCLE = Lifecycle(
    "node",
    (
        Row("NodeCreated", (ABSENT, GONE), REGISTERED, "a kubelet registers its node"),
        Row("NodeSighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "NodeSightedTerminating",
            (ABSENT, GONE, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("NodePodRangeAssigned", (*LIVE,), ROUTABLE, "it is given a range for its pods"),
        Row("NodePodRangeAssigned", (TERMINATING,), SAME, "it is given a range while it goes"),
        Row(
            "NodePodRangeWithdrawn", (*LIVE,), REGISTERED, "its range is taken off it, which no API server lets through"
        ),
        Row("NodePodRangeWithdrawn", (TERMINATING,), SAME, "a range is taken off it while it goes"),
        Row("NodeStatusReported", (*LIVE, TERMINATING), SAME, "its kubelet reports other addresses"),
        Row("NodeAnnotated", (*LIVE, TERMINATING), SAME, "labels or annotations change, a range in one of them too"),
        Row("NodeDeletionRequested", LIVE, TERMINATING, "deleted, and a finalizer of somebody's holds it"),
        Row("NodeRemoved", (*LIVE, TERMINATING), GONE, "deleted: it is in no set any more"),
        Row("NodeVanished", (*LIVE, TERMINATING), GONE, "another node bears its name: it went unseen"),
    ),
    note="That a node is ready or cordoned says nothing of the network's tables, and is not looked at.",
)


def pod_ranges(fields: Mapping[str, Any]) -> list[str]:
    """Its ranges for pods: annotations before the spec, lists before single values (kube-router: pkg/utils/pod_cidr.go)."""
    for path in (CIDRS_ANNOTATION, CIDR_ANNOTATION, POD_CIDRS, POD_CIDR):
        value = fields.get(path)
        ranges = value if isinstance(value, list) else str(value or "").split(",")
        if found := [str(text).strip() for text in ranges if str(text).strip()]:
            return found
    return []


def addresses(fields: Mapping[str, Any], *, external: bool = True) -> list[str]:
    """The addresses that count as the node's: internal ones; where there are none, for kube-router, its `external` ones.

    (kube-router: GetNodeIP in pkg/utils/node.go; kube-ovn: getOtherNodes in pkg/daemon/gateway.go.)
    """
    reported = fields.get(ADDRESSES)
    listed = [one for one in reported if isinstance(one, dict)] if isinstance(reported, list) else []
    for kind in ("InternalIP", "ExternalIP") if external else ("InternalIP",):
        if found := [str(one.get("address")) for one in listed if one.get("type") == kind and one.get("address")]:
            return found
    return []


def _made_with(fields: Mapping[str, Any]) -> str:
    return "NodePodRangeAssigned" if fields.get(POD_CIDR) or fields.get(POD_CIDRS) else ""


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="NodeCreated",
    sighted="NodeSighted",
    sighted_terminating="NodeSightedTerminating",
    deletion_requested="NodeDeletionRequested",
    ended="NodeRemoved",
    vanished="NodeVanished",
    writes=(
        Write("NodeDeletionRequested", one_of(DELETION), appears),
        Write("NodePodRangeAssigned", one_of(POD_CIDR, POD_CIDRS), lambda before, after: bool(after)),
        Write("NodePodRangeWithdrawn", one_of(POD_CIDR, POD_CIDRS)),
        Write("NodeStatusReported", starts("status.")),
        Write("NodeAnnotated", starts("metadata.", "spec.")),
    ),
    refers=names_nothing,
    reference_paths=frozenset(),
    made_with=_made_with,
)
