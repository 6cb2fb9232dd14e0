"""The readers, in the order in which they are asked: the one place that knows them all.

`ingest` asks `recognise` what a source is; `ordering` asks `of` whose a record in the journal is, by its identity.
"""

from __future__ import annotations

from adapters.sources import audit_log, cloudevents, ipset, klog, kubernetes_events, objects
from adapters.sources.dialect import Reader, Records

DIALECTS: tuple[Reader, ...] = (audit_log, cloudevents, ipset, klog, objects)
"""What reads sources."""

RECORDS: tuple[Records, ...] = (audit_log, objects, kubernetes_events, ipset, klog)
"""What knows records: a source may hold those of several."""

BEGINNING_LINES = 200
BEGINNING_BYTES = 64 << 10
"""How much of a source is looked at, at a time, to see what it is."""

_BY_PREFIX: dict[str, Records] = {records.PREFIX: records for records in RECORDS}


def recognise(beginning: list[bytes]) -> Reader | None:
    """The dialect of a source that begins with these lines; `None` if they are of none."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(beginning)), None)


def called(format: str) -> Reader | None:
    """The dialect of that name."""
    return next((dialect for dialect in DIALECTS if format == dialect.FORMAT), None)


def of(identity: str) -> Records:
    """The dialect that a record is in, by its identity."""
    return _BY_PREFIX[identity.partition(":")[0]]
