"""The life of a pod's network, and what runs in a NAT gateway's pod (kube-ovn: pkg/controller/pod.go, dossier 3.4, 3.5).

The controller writes the network into annotations (`allocated`, then `routed`); that is what is seen of it. A pod that
is a NAT gateway's is also where addresses are configured: what was started in it, and that it is this pod and no
other, decides whether an EIP is ready. `nat_gateway` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from domain.events import Vocabulary, Write, one_of, starts
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, Lifecycle, Row
from domain.operations import DELETION
from domain.resources import Key

NEW = "NEW"
ALLOCATED = "ALLOCATED"  # the default network has an address
ROUTED = "ROUTED"
DELETING = "DELETING"

LIVE = (NEW, ALLOCATED, ROUTED, SIGHTED)

GATEWAY_LABEL = "metadata.labels[ovn.kubernetes.io/vpc-nat-gw]"
APP_LABEL = "metadata.labels[app]"
NAMED_PORTS = "spec.containers[].ports"  # of all its containers, those that a policy can name
HOST_NETWORK = "spec.hostNetwork"
INIT_ANNOTATION = "metadata.annotations[ovn.kubernetes.io/vpc_nat_gw_init]"
_ALLOCATED = "metadata.annotations[ovn.kubernetes.io/allocated]"
_ROUTED = "metadata.annotations[ovn.kubernetes.io/routed]"

LIFECYCLE = Lifecycle(
    "pod",
    (
        Row("PodCreated", (ABSENT, GONE), NEW, "a user or a controller asks for a pod"),
        Row("PodSighted", (ABSENT, GONE, *LIVE, DELETING), SIGHTED, "first heard of in mid-life"),
        Row(
            "PodSightedTerminating",
            (ABSENT, GONE, *LIVE, DELETING),
            DELETING,
            "first heard of when it was going",
        ),
        Row("PodBound", (*LIVE, DELETING), SAME, "the scheduler gives it a node"),
        Row("PodNetworkAllocated", (NEW, SIGHTED), ALLOCATED, "the controller gave it an address (annotation)"),
        Row(
            "PodNetworkAllocated",
            (ALLOCATED, ROUTED, DELETING),
            SAME,
            "the controller gave it another address",
        ),
        Row(
            "PodNetworkRouted",
            (NEW, ALLOCATED, SIGHTED),
            ROUTED,
            "the controller set its routes (annotation)",
        ),
        Row("PodNetworkRouted", (ROUTED, DELETING), SAME, "routes set again"),
        Row("GatewayInitialised", (*LIVE, DELETING), SAME, "nat-gateway.sh init was done in it (annotation)"),
        Row("GatewayCommandStarted", (*LIVE, DELETING), SAME, "nat-gateway.sh was started in it by exec"),
        Row("PodLabelled", (*LIVE, DELETING), SAME, "labels or annotations change"),
        Row("PodSpecChanged", (*LIVE, DELETING), SAME, "its node is filled in"),
        Row("PodStatusReported", (*LIVE, DELETING), SAME, "the kubelet reports its phase and addresses"),
        Row(
            "PodDeletionRequested",
            (*LIVE, DELETING),
            DELETING,
            "deleted with a grace period; the kubelet ends it",
        ),
        Row("PodRemoved", (*LIVE, DELETING), GONE, "deleted with grace period 0: it is gone"),
        Row("PodVanished", (*LIVE, DELETING), GONE, "another pod bears its name: it went unseen"),
    ),
    note="`kube-ovn-cni` wiring a pod up (`Wired` in the dossier) leaves no trace in an audit log.",
)


def gateway_of(fields: Mapping[str, Any]) -> str:
    """The NAT gateway whose pod this is; empty for any other pod (labels that kube-ovn's genNatGwStatefulSet sets)."""
    if fields.get(GATEWAY_LABEL) != "true":
        return ""
    return str(fields.get(APP_LABEL) or "").removeprefix("vpc-nat-gw-")


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := gateway_of(fields):
        yield Key("nat-gateway", "", name)


def _is_true(before: Any, after: Any) -> bool:
    return bool(after == "true")


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="PodCreated",
    sighted="PodSighted",
    sighted_terminating="PodSightedTerminating",
    deletion_requested="PodDeletionRequested",
    ended="PodRemoved",
    vanished="PodVanished",
    writes=(
        Write("PodDeletionRequested", one_of(DELETION)),
        Write("PodNetworkAllocated", one_of(_ALLOCATED), _is_true),
        Write("PodNetworkRouted", one_of(_ROUTED), _is_true),
        Write("GatewayInitialised", one_of(INIT_ANNOTATION), _is_true),
        Write("PodSpecChanged", starts("spec.")),
        Write("PodStatusReported", starts("status.")),
        Write("PodLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({GATEWAY_LABEL, APP_LABEL}),
)
