"""The lives of Endpoints and EndpointSlices: which addresses serve a Service (dossier 3.9).

Both say the same in two shapes: Endpoints are one object a Service, by its name; slices are several, by a label, and
each of one family. Controllers of Kubernetes write both; kube-router reads slices since 2.0 (buildEndpointSliceInfo).
An object without an address that is ready is as good as none. `network_policy` is next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from domain.events import Vocabulary, Write, appears, one_of, starts
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Lifecycle, Row
from domain.operations import DELETION
from domain.resources import Key

EMPTY = "EMPTY"
SERVING = "SERVING"

LIVE = (EMPTY, SERVING, SIGHTED)

SUBSETS = "subsets"
ENDPOINTS = "endpoints"
SERVICE_LABEL = "metadata.labels[kubernetes.io/service-name]"


def addresses_in_subsets(subsets: Any) -> list[tuple[str, str]]:
    """The ready addresses of an Endpoints object's `subsets`, each with the name of its node (empty where unknown)."""
    return [
        (str(address.get("ip") or ""), str(address.get("nodeName") or ""))
        for subset in _mappings(subsets)
        for address in _mappings(subset.get("addresses"))
    ]


def addresses_in_slice(endpoints: Any) -> list[tuple[str, str]]:
    """The ready addresses of an EndpointSlice's `endpoints`, each with the name of its node (empty where unknown).

    A `ready` that is not there counts as ready (discovery.k8s.io/v1, EndpointConditions).
    """
    return [
        (str(address), str(endpoint.get("nodeName") or ""))
        for endpoint in _mappings(endpoints)
        if not isinstance(endpoint.get("conditions"), dict) or endpoint["conditions"].get("ready") is not False
        for address in _listed(endpoint.get("addresses"))
    ]


def service_of(key: Key, fields: Mapping[str, Any]) -> Key | None:
    """The Service that Endpoints or a slice serve: Endpoints by their name, a slice by its label."""
    name = key.name if key.kind == "endpoints" else fields.get(SERVICE_LABEL)
    return Key("service", key.namespace, str(name)) if name else None


def serving(key: Key, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ready addresses of either kind, each with the name of its node."""
    if key.kind == "endpoints":
        return addresses_in_subsets(fields.get(SUBSETS))
    return addresses_in_slice(fields.get(ENDPOINTS))


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in _listed(values) if isinstance(value, dict)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    service = service_of(key, fields)
    return () if service is None else (service,)


def _life(kind: str, prefix: str, noun: str) -> Lifecycle:
    return Lifecycle(
        kind,
        (
            Row(f"{prefix}Created", (ABSENT, GONE), EMPTY, f"a controller makes {noun} for a service"),
            Row(f"{prefix}Sighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
            Row(
                f"{prefix}SightedTerminating",
                (ABSENT, GONE, *LIVE, TERMINATING),
                TERMINATING,
                "first heard of when its deletion had been asked for",
            ),
            Row(f"{prefix}Filled", (*LIVE,), SERVING, "an address is ready in it, of however many"),
            Row(f"{prefix}Filled", (TERMINATING,), SAME, "addresses change while it goes"),
            Row(f"{prefix}Emptied", (*LIVE,), EMPTY, "no address in it is ready"),
            Row(f"{prefix}Emptied", (TERMINATING,), SAME, "its last address goes while it goes"),
            Row(f"{prefix}Changed", (*LIVE, TERMINATING), SAME, "its ports, labels or annotations change"),
            Row(f"{prefix}DeletionRequested", LIVE, TERMINATING, "deleted, and a finalizer of somebody's holds it"),
            Row(f"{prefix}Removed", (*LIVE, TERMINATING), GONE, "its service went, or its last pod"),
            Row(f"{prefix}Vanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
        ),
    )


def _vocabulary(
    kind: str, prefix: str, noun: str, field: str, addresses: Callable[[Any], list[tuple[str, str]]], reference: str
) -> Vocabulary:
    return Vocabulary(
        lifecycle=_life(kind, prefix, noun),
        begun=f"{prefix}Created",
        sighted=f"{prefix}Sighted",
        sighted_terminating=f"{prefix}SightedTerminating",
        deletion_requested=f"{prefix}DeletionRequested",
        ended=f"{prefix}Removed",
        vanished=f"{prefix}Vanished",
        writes=(
            Write(f"{prefix}DeletionRequested", one_of(DELETION), appears),
            Write(f"{prefix}Filled", one_of(field), lambda before, after: bool(addresses(after))),
            Write(f"{prefix}Emptied", one_of(field)),
            Write(f"{prefix}Changed", starts("")),
        ),
        refers=_refers,
        reference_paths=frozenset({reference}),
        made_with=lambda fields: f"{prefix}Filled" if addresses(fields.get(field)) else "",
    )


VOCABULARIES: dict[str, Vocabulary] = {
    "endpoints": _vocabulary("endpoints", "Endpoints", "them", SUBSETS, addresses_in_subsets, SUBSETS),
    "endpointslice": _vocabulary("endpointslice", "EndpointSlice", "one", ENDPOINTS, addresses_in_slice, SERVICE_LABEL),
}
