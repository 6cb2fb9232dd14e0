"""The readers, in the order in which they are asked: the one place that knows them all.

`ingest` asks `recognise` what a source is; `ordering` asks `of` whose a record in the journal is, by its identity.
"""

from __future__ import annotations

from adapters.sources import audit_log, klog
from adapters.sources.dialect import Dialect

DIALECTS: tuple[Dialect, ...] = (audit_log, klog)

BEGINNING_LINES = 200
BEGINNING_BYTES = 64 << 10
"""How much of a source is looked at, at a time, to see what it is."""

_BY_PREFIX: dict[str, Dialect] = {dialect.PREFIX: dialect for dialect in DIALECTS}


def recognise(beginning: list[bytes]) -> Dialect | None:
    """The dialect of a source that begins with these lines; `None` if they are of none."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(beginning)), None)


def called(format: str) -> Dialect | None:
    """The dialect of that name."""
    return next((dialect for dialect in DIALECTS if format == dialect.FORMAT), None)


def of(identity: str) -> Dialect:
    """The dialect that a record is in, by its identity."""
    return _BY_PREFIX[identity.partition(":")[0]]
