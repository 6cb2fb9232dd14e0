"""The readers, in the order in which they are asked: the one place that knows them all.

`ingest` asks `recognise` what a source is; `ordering` asks `of` whose a record in the journal is, by its identity. A
reader is imported when it is first asked: an audit log is told by the first, and most commands need no other.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from adapters.sources.dialect import Reader, Records

READERS: dict[str, str] = {
    "audit.k8s.io": "audit_log",
    "cloudevents": "cloudevents",
    "ipset": "ipset",
    "klog": "klog",
    "objects": "objects",
}
"""What reads sources: its `FORMAT`, and its module."""

RECORDS: dict[str, str] = {
    "audit": "audit_log",
    "object": "objects",
    "event": "kubernetes_events",
    "ipset": "ipset",
    "klog": "klog",
}
"""What knows records: its `PREFIX`, and its module. A source may hold those of several."""

BEGINNING_LINES = 200
BEGINNING_BYTES = 64 << 10
"""How much of a source is looked at, at a time, to see what it is."""

_BY_PREFIX: dict[str, Records] = {}  # those that were asked


def recognise(beginning: list[bytes]) -> Reader | None:
    """The dialect of a source that begins with these lines; `None` if they are of none."""
    return next((reader for reader in map(_reader, READERS) if reader.recognises(beginning)), None)


def called(format: str) -> Reader | None:
    """The dialect of that name."""
    return _reader(format) if format in READERS else None


def of(identity: str) -> Records:
    """The dialect that a record is in, by its identity."""
    prefix = identity.partition(":")[0]
    records = _BY_PREFIX.get(prefix)
    if records is None:
        module = import_module(f"{__package__}.{RECORDS[prefix]}")
        records = _BY_PREFIX[prefix] = cast(Records, module)
    return records


def _reader(format: str) -> Reader:
    return cast(Reader, import_module(f"{__package__}.{READERS[format]}"))
