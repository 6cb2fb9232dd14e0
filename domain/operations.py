"""What a record says that somebody asked for, or did, to one resource.

A source's reader turns each record into operations; `order` says where each stands, and `decide` says what it means.
An operation carries the object as it was answered, flattened to field paths, so that a field, a claim and a
difference all have one name: `spec.vpc`, `status.subnets`, `metadata.labels[app]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.resources import Key

Fields = dict[str, Any]
"""Field path to value, of one object at one moment. An absent path is an absent field."""

MADE = "made"  # the write made a new revision, or a new object
REMOVED = "removed"  # the object went with it
UNCHANGED = "unchanged"  # answered with success, and nothing moved
REFUSED = "refused"  # the API server said no
DRY_RUN = "dry-run"  # looked like a success, and was only tried
UNKNOWN = "unknown"  # no bodies: what it did cannot be read from the record
RAN = "ran"  # a command was started in a pod

FINALIZERS = "metadata.finalizers"
DELETION = "metadata.deletionTimestamp"


class OrderKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where an operation stands in the one true order: compare as a tuple.

    `anchor` is an API server revision; `own` is 0 for the write that made that revision and 1 for what happened
    after it without a revision of its own; `time` is the stage time in microseconds since 1970; `identity` is the
    record's, so that no two keys are equal; `part` counts the objects that one record is about (deletecollection).
    """

    anchor: int
    own: int
    time: int
    identity: str
    part: int = 0


class Operation(msgspec.Struct, kw_only=True):
    """One thing asked of one resource.

    `time` and `received` are microseconds since 1970. `revision` is the one this write made (`None` where it made
    none); `read_revision` is the one its writer had read, where the record says so. `after` are the fields of
    the answer, `asked` the paths that the request named. `command` are the words of an exec.
    """

    order: OrderKey
    key: Key
    verb: str
    subresource: str = ""
    outcome: str
    code: int = 0
    reason: str = ""
    actor: str = ""
    agent: str = ""
    time: int = 0
    received: int = 0
    uid: str = ""
    revision: int | None = None
    read_revision: int | None = None
    after: Fields | None = None
    asked: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def request_of(record: str) -> str:
    """The request that a record is one stage of: identities end in `/STAGE`."""
    return record.rpartition("/")[0]


# Annotations that repeat the whole object, and bookkeeping that every write moves.
_NOISE = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
# Of a pod only what its network hangs on is kept: the rest is the kubelet's, and large.
_POD_SPEC = ("nodeName",)
_POD_STATUS = ("phase", "podIP", "podIPs")


def flatten(kind: str, body: Mapping[str, Any]) -> Fields:
    """The fields of an API object, by path. `managedFields`, versions and times of bookkeeping are left out.

    Top-level fields of `spec` and `status` are one path each; every label and annotation is one path, because
    each may have a writer of its own. Null, which the API server stores as absence, is absence here too.
    """
    fields: Fields = {}
    metadata = body.get("metadata") or {}
    if finalizers := metadata.get("finalizers"):
        fields[FINALIZERS] = finalizers
    if deletion := metadata.get("deletionTimestamp"):
        fields[DELETION] = deletion
    for label, value in (metadata.get("labels") or {}).items():
        fields[f"metadata.labels[{label}]"] = value
    for annotation, value in (metadata.get("annotations") or {}).items():
        if annotation not in _NOISE:
            fields[f"metadata.annotations[{annotation}]"] = value
    if owners := metadata.get("ownerReferences"):
        fields["metadata.ownerReferences"] = [f"{owner.get('kind')}/{owner.get('name')}" for owner in owners]
    spec = body.get("spec") or {}
    status = body.get("status") or {}
    if kind == "pod":
        spec = {name: spec[name] for name in _POD_SPEC if name in spec}
        status = {name: status[name] for name in _POD_STATUS if name in status}
    for name, value in spec.items():
        if value is not None:
            fields[f"spec.{name}"] = value
    for name, value in status.items():
        if value is not None:
            fields[f"status.{name}"] = value
    return fields


def asked_paths(kind: str, body: Any) -> tuple[str, ...]:
    """The paths that a request body names: of a merge patch or object the ones in it, of a JSON patch its targets."""
    if isinstance(body, Mapping):
        named = flatten(kind, _without_nulls(body))
        return tuple(sorted(named))
    if isinstance(body, list):
        return tuple(sorted({_json_pointer(str(step.get("path", ""))) for step in body if isinstance(step, Mapping)}))
    return ()


def _without_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    """A null in a merge patch deletes a key: it names that key all the same."""
    return {
        name: _without_nulls(value) if isinstance(value, Mapping) else ("" if value is None else value)
        for name, value in body.items()
    }


def _json_pointer(pointer: str) -> str:
    words = [word.replace("~1", "/").replace("~0", "~") for word in pointer.strip("/").split("/")]
    if words[:1] == ["metadata"] and len(words) > 2 and words[1] in ("labels", "annotations"):
        return f"metadata.{words[1]}[{words[2]}]"
    return ".".join(words[:2])
