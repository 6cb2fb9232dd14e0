"""The life of a Service as kube-router sees it (kube-router: buildServicesInfo; dossier 3.9).

What makes a Service one for kube-router is a cluster address: one without (headless, ExternalName) is skipped altogether,
with whatever external addresses it has. What of it stands in IPVS and in the sets of a node, no API object says;
`projections/ipset_contents` says what should. `endpoints` is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.events import Vocabulary, Write, appears, names_nothing, one_of, starts
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Lifecycle, Row
from domain.operations import DELETION

UNEXPOSED = "UNEXPOSED"  # without a cluster address: headless, or a name for something outside
EXPOSED = "EXPOSED"

LIVE = (UNEXPOSED, EXPOSED, SIGHTED)

CLUSTER_IP = "spec.clusterIP"
CLUSTER_IPS = "spec.clusterIPs"
EXTERNAL_IPS = "spec.externalIPs"
PORTS = "spec.ports"
LOAD_BALANCER = "status.loadBalancer"

LIFECYCLE = Lifecycle(
    "service",
    (
        Row("ServiceCreated", (ABSENT, GONE), UNEXPOSED, "a user asks for a service"),
        Row("ServiceSighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "ServiceSightedTerminating",
            (ABSENT, GONE, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("ServiceExposed", (*LIVE,), EXPOSED, "it has a cluster address, mostly from its creation on"),
        Row("ServiceExposed", (TERMINATING,), SAME, "its cluster addresses change while it goes"),
        Row("ServiceUnexposed", (*LIVE,), UNEXPOSED, "its cluster address is taken off: it becomes an ExternalName"),
        Row("ServiceUnexposed", (TERMINATING,), SAME, "its cluster address is taken off while it goes"),
        Row("ServiceExternalAddressesChanged", (*LIVE, TERMINATING), SAME, "its external addresses change"),
        Row("ServicePortsChanged", (*LIVE, TERMINATING), SAME, "its ports change, and with them every address:port"),
        Row("ServiceSpecChanged", (*LIVE, TERMINATING), SAME, "its selector, type or traffic policy changes"),
        Row("ServiceStatusReported", (*LIVE, TERMINATING), SAME, "a load balancer's addresses are reported"),
        Row("ServiceAnnotated", (*LIVE, TERMINATING), SAME, "labels or annotations change: kube-router.io/service.*"),
        Row("ServiceDeletionRequested", LIVE, TERMINATING, "deleted, and a load balancer's finalizer holds it"),
        Row("ServiceRemoved", (*LIVE, TERMINATING), GONE, "deleted: its addresses are nobody's now"),
        Row("ServiceVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
    note="`InIPVS`, `InSets` and `Stale` of the dossier are a node's, one each for every address and port: no API object "
    "shows them.",
)


def cluster_addresses(fields: Mapping[str, Any]) -> list[str]:
    """Its cluster addresses, `clusterIP` first; none for a headless one. The list came with Kubernetes 1.20."""
    one, more = fields.get(CLUSTER_IP), fields.get(CLUSTER_IPS)
    both = [one, *(more if isinstance(more, list) else ())]
    return list(dict.fromkeys(str(address) for address in both if _is_address(address)))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", "None")


def _names_address(before: Any, after: Any) -> bool:
    return any(_is_address(value) for value in (after if isinstance(after, list) else (after,)))


def _made_with(fields: Mapping[str, Any]) -> str:
    return "ServiceExposed" if cluster_addresses(fields) else ""


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="ServiceCreated",
    sighted="ServiceSighted",
    sighted_terminating="ServiceSightedTerminating",
    deletion_requested="ServiceDeletionRequested",
    ended="ServiceRemoved",
    vanished="ServiceVanished",
    writes=(
        Write("ServiceDeletionRequested", one_of(DELETION), appears),
        Write("ServiceExposed", one_of(CLUSTER_IP, CLUSTER_IPS), _names_address),
        Write("ServiceUnexposed", one_of(CLUSTER_IP, CLUSTER_IPS)),
        Write("ServiceExternalAddressesChanged", one_of(EXTERNAL_IPS)),
        Write("ServicePortsChanged", one_of(PORTS)),
        Write("ServiceSpecChanged", starts("spec.")),
        Write("ServiceStatusReported", starts("status.")),
        Write("ServiceAnnotated", starts("metadata.")),
    ),
    refers=names_nothing,
    reference_paths=frozenset(),
    made_with=_made_with,
)
