"""API objects as they are answered, watched, listed and printed: as much of them as becomes fields of an operation.

Whichever source shows an object, its fields are made here, so that the same object says the same in all of them.
`audit_log.py` reads answers with it, `objects.py` what kubectl prints.
"""

from __future__ import annotations

from typing import Any

import msgspec

from domain.operations import Fields, flatten
from domain.resources import Kind

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a body may raise."""


class Metadata(msgspec.Struct):
    """As much as tells which object, which revision, and whether it is going."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    finalizers: list[str] | None = None


class Details(msgspec.Struct):
    """Of a Status: the object it is about."""

    uid: str = ""


class _Owner(msgspec.Struct):
    kind: str = ""
    name: str = ""


class WholeMetadata(Metadata):
    """All metadata that becomes fields: `managedFields` and the like are skipped, not read."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    ownerReferences: list[_Owner] | None = None


class Object(msgspec.Struct):
    """An object of any kind, or a Status in its place."""

    kind: str = ""
    metadata: WholeMetadata = msgspec.field(default_factory=WholeMetadata)
    spec: dict[str, Any] | None = None
    status: Any = None
    details: Details | None = None
    message: str = ""


class _Container(msgspec.Struct):
    ports: list[dict[str, Any]] | None = None


class _PodSpec(msgspec.Struct, omit_defaults=True):
    nodeName: str | None = None
    hostNetwork: bool | None = None
    containers: list[_Container] | None = None


class _PodStatus(msgspec.Struct, omit_defaults=True):
    phase: str | None = None
    podIP: str | None = None
    podIPs: list[dict[str, Any]] | None = None


class Pod(msgspec.Struct):
    """Of a pod only what its network hangs on: the rest is the kubelet's, and large."""

    kind: str = ""
    metadata: WholeMetadata = msgspec.field(default_factory=WholeMetadata)
    spec: _PodSpec | None = None
    status: _PodStatus | str | None = None
    details: Details | None = None
    message: str = ""


class _Endpoints(Object):
    subsets: list[Any] | None = None


class _Slice(Object):
    addressType: str | None = None
    endpoints: list[Any] | None = None
    ports: list[Any] | None = None


class _NodeSpec(msgspec.Struct, omit_defaults=True):
    podCIDR: str | None = None
    podCIDRs: list[str] | None = None


class _NodeStatus(msgspec.Struct, omit_defaults=True):
    addresses: list[dict[str, Any]] | None = None


class Node(msgspec.Struct):
    """Of a node only its place in the network: the rest is the kubelet's heartbeat."""

    kind: str = ""
    metadata: WholeMetadata = msgspec.field(default_factory=WholeMetadata)
    spec: _NodeSpec | None = None
    status: _NodeStatus | str | None = None
    details: Details | None = None
    message: str = ""


Answered = Object | Pod | Node

_object = msgspec.json.Decoder(Object)
_by_kind: dict[str, msgspec.json.Decoder[Answered]] = {
    "pod": msgspec.json.Decoder(Pod),
    "node": msgspec.json.Decoder(Node),
    "endpoints": msgspec.json.Decoder(_Endpoints),
    "endpointslice": msgspec.json.Decoder(_Slice),
}


def shown_as(kind: Kind, body: bytes) -> Answered:
    """An object of that kind, read. Raises one of `UNREADABLE`."""
    return _by_kind.get(kind.name, _object).decode(body)


def fields_of(shown: Answered) -> Fields:
    """The fields of an object, by path."""
    metadata = shown.metadata
    spec: Any = shown.spec
    status: Any = shown.status
    others: dict[str, Any] | None = None
    if isinstance(shown, _Endpoints):
        others = {"subsets": shown.subsets}
    elif isinstance(shown, _Slice):
        others = {name: getattr(shown, name) for name in ("addressType", "endpoints", "ports")}
    elif isinstance(shown, Pod | Node):
        spec = msgspec.structs.asdict(shown.spec) if shown.spec is not None else None
        status = msgspec.structs.asdict(shown.status) if isinstance(shown.status, _PodStatus | _NodeStatus) else None
        if isinstance(shown, Pod) and spec is not None:
            spec["containers[].ports"] = _named_ports(spec.pop("containers"))
    return flatten(
        finalizers=metadata.finalizers,
        deletion=metadata.deletionTimestamp,
        labels=metadata.labels,
        annotations=metadata.annotations,
        owners=[f"{owner.kind}/{owner.name}" for owner in metadata.ownerReferences or ()],
        spec=spec,
        status=status if isinstance(status, dict) else None,
        others=others,
    )


def _named_ports(containers: list[_Container] | None) -> list[dict[str, Any]] | None:
    """The ports that a policy can name; nothing else of a container matters to the network."""
    named = [port for container in containers or () for port in container.ports or () if port.get("name")]
    return named or None


def revision_of(text: str) -> int | None:
    """A resourceVersion; etcd's are of 63 bit, so what has more digits is none."""
    return int(text) if len(text) <= 18 and text.isascii() and text.isdecimal() else None


def why_unreadable(error: Exception) -> str:
    """What is wrong with a body that raised one of `UNREADABLE`, for a person."""
    if isinstance(error, RecursionError):
        return "it is nested deeper than any object of an API server"
    return str(error).replace("JSON is malformed", "it is not JSON") or type(error).__name__
