"""What a record says that somebody asked for, or did, to one resource.

A source's reader turns each record into operations; `order` says where each stands, and `decide` says what it means.
An operation carries the object as it was answered, flattened to field paths, so that a field, a claim and a
difference all have one name: `spec.vpc`, `status.subnets`, `metadata.labels[app]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
SEEN = "seen"  # a source shows what the object was at a revision, and not who made it so
SEEN_GONE = "seen-gone"  # a source shows that the object went, and not by whose doing
SEEN_ABSENT = "seen-absent"  # a later list lacks the object: it went before, and nobody saw how
MISSED = "missed"  # the answer shows a change whose own write is not in the log
TESTIFIED = "testified"  # a controller's log or a Kubernetes Event says so: a claim about what was done

FIELD_MANAGER = " (field manager)"
"""What an actor's name ends in where it is known only as a field manager, from an object's `managedFields`."""

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
    the answer. `command` are the words of an exec. `testimony` is the type of event that a controller's log or a
    Kubernetes Event bears witness to. `evidence` are the identities of other records that show the same operation.
    `sequence` is the number that a source gave the record among its own.
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
    command: tuple[str, ...] = ()
    testimony: str = ""
    evidence: tuple[str, ...] = ()
    sequence: int | None = None


# An annotation that repeats the whole object.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


# The fields that name other resources: rules look things up by them, so a value of another type, which no API server
# lets through, is no value.
_NAMES = frozenset(
    {
        f"spec.{name}"
        for name in ("vpc", "subnet", "provider", "natGwDp", "externalSubnet", "eip", "ovnEip", "defaultSubnet")
    }
)
_LISTS_OF_NAMES = frozenset({"spec.namespaces", "spec.excludeIps", "status.subnets"})


def flatten(
    *,
    finalizers: list[str] | None = None,
    deletion: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owners: Iterable[str] = (),
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
) -> Fields:
    """The fields of an API object, by path.

    Top-level fields of `spec` and `status` are one path each; every label and annotation is one path, because each may
    have a writer of its own. `others` are what a few kinds have beside these (`subsets`). Null, which the API server
    stores as absence, is absence here too. `owners` are `Kind/name`.
    """
    fields: Fields = {}
    if finalizers:
        fields[FINALIZERS] = finalizers
    if deletion:
        fields[DELETION] = deletion
    if labels:
        for name, value in labels.items():
            fields[f"metadata.labels[{name}]"] = value
    if annotations:
        for name, value in annotations.items():
            if name != _LAST_APPLIED:
                fields[f"metadata.annotations[{name}]"] = value
    if owners:
        fields["metadata.ownerReferences"] = list(owners)
    if spec:
        for name, value in spec.items():
            if value is not None:
                fields["spec." + name] = value
    if status:
        for name, value in status.items():
            if value is not None:
                fields["status." + name] = value
    if others:
        for name, value in others.items():
            if value is not None:
                fields[name] = value
    for path in _NAMES.intersection(fields):
        if not isinstance(fields[path], str):
            del fields[path]
    for path in _LISTS_OF_NAMES.intersection(fields):
        value = fields[path]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            del fields[path]
    return fields


def request_of(record: str) -> str:
    """The request that a record is one stage of: identities end in `/STAGE`."""
    return record.rpartition("/")[0]
