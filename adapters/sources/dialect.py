"""What a reader of one dialect gives, and what it is told: the interface that every module beside this one fills.

A reader is asked four things: whether the beginning of a source is its dialect, what the records in it are, what the
order needs of each, and, once it is known where a record stands, what operation it is. The first two happen once, while
a source is read; the last two also when the journal is judged again, so they need no more than what the journal keeps:
a record's identity and its payload. `dialects.py` lists the readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, Protocol

import msgspec

from domain.operations import Operation, OrderKey
from domain.order import Head

Line = tuple[int, bytes, str]
"""Its number from 1, its bytes without what ends it, and what is wrong with it (too long, damaged), empty if nothing."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class About(NamedTuple):
    """What is known of a source from outside: by its name, its file's date, or a person's word.

    `modified` is when the file was last written, in microseconds since 1970, 0 where it has no such time. `year` and
    `timezone` are for times that lack them; `node` says which node an ipset dump or a node's log is of; `skew` is by how
    many microseconds its clock is ahead of the others, `None` where nobody says.
    """

    path: str = ""
    modified: int = 0
    year: int | None = None
    timezone: tzinfo = UTC
    node: str = ""
    skew: int | None = None


class Recognised(NamedTuple):
    """A record that says something about our kinds.

    `time` is when, as RFC 3339 in UTC, empty where the record has no clock; `heads` are what the order needs of it.
    """

    identity: str
    fingerprint: bytes
    time: str
    heads: list[Head]


class Ignored(msgspec.Struct, frozen=True):
    """`records` good records that say nothing about our kinds. The time counts for how long the source lasts."""

    time: str
    records: int = 1


class Unknown(msgspec.Struct, frozen=True):
    """`records` records of the dialect whose words its tables do not know: counted, not kept aside."""

    time: str
    records: int = 1


class NotARecord(Exception):
    """This is no record of the dialect. The message says what is wrong with it, for a person."""


class Found(NamedTuple):
    """One record, or a run of uninteresting ones, from the line with that number on. A text says why it is no record."""

    line: int
    payload: bytes
    what: Recognised | Ignored | Unknown | str


class Reader(Protocol):
    """What reads sources of one format: a module. What a pass has to remember lives in the iterator of `read`."""

    FORMAT: str
    """Its name for people, and for `--format`."""
    CLOCKED: bool
    """Whether its records say when they were made: else their times are only such that they cannot be older."""

    def recognises(self, beginning: list[bytes]) -> bool:
        """Whether a source that begins with these lines (some hundred) is in this dialect."""
        ...

    def read(self, lines: Iterator[Line], about: About) -> Iterator[Found]:
        """All of a source, in its order. What cannot be used comes as text and the rest goes on; it never raises."""
        ...


class Records(Protocol):
    """What knows the records of one prefix, once they are in the journal: a module."""

    PREFIX: str
    """What the identities of its records start with, before the first colon."""

    def heads(self, identity: str, payload: bytes) -> list[Head]:
        """What the order needs of a recognised record: one head for each object it is about."""
        ...

    def operation(self, payload: bytes, order: OrderKey, outcome: str) -> Operation:
        """What the record says of object `order.part`, now that its place (`order.identity` is its own) is known."""
        ...


def moment(text: str, name: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time; without a zone it is UTC. Raises `NotARecord`."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise NotARecord(f"{name} {text[:40]!r} is not a time") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    since = when - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def iso(time: int) -> str:
    """A moment in microseconds since 1970 as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(time / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
