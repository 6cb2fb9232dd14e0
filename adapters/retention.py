"""Old events dropped from a kept ledger: what is up to a point of the log is replaced by what it adds up to.

Nothing that is told afterwards may be another: so what all rules and projections remember at that point is kept whole
(`reading_codec.py`), and of the events those that it refers to, each resource's first and last, and the marks of generations.
The records of the journal that were decided by then lose their payload, and keep their identity and their place in the
order. All of it is one transaction of the store (`stores/sqlite_recorder.py`); `cli/keeping.py` asks first.
"""

from __future__ import annotations

import getpass
from array import array
from bisect import bisect_left
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

import msgspec

from adapters import pruned, reading_codec
from adapters.app import read_moment
from adapters.judging import Judged
from adapters.ledger import Ledger, Moment, Placed
from adapters.ordering import heads_of, in_order
from adapters.ports import Entry, Journal, Recorder
from adapters.pruned import Decided, Pruned, evidence_hash
from adapters.stores import codec
from domain.events import GENERATION
from domain.operations import OrderKey


class Cut(NamedTuple):
    """Where a person wants a log to be cut: everything before a moment, or up to before a position."""

    before: Moment | None
    position: int = 0

    def lies_before(self, placed: Placed) -> bool:
        """Whether an event is not to be dropped."""
        if self.before is None:
            return placed.position >= self.position
        event = placed.event
        if self.before.revision is not None:
            return event.order is not None and event.order.anchor >= self.before.revision
        assert self.before.time is not None
        return event.time >= self.before.time


class Plan(NamedTuple):
    """What would be dropped, and what would stay of it. Times are microseconds since 1970; `size` is in bytes."""

    pruned: Pruned
    keep: array[int]
    """The positions of the events that stay, of those up to the cut."""
    events: int
    size: int
    oldest: int
    newest: int
    records: int
    """How many records of the journal lose their payload, about."""


class NothingToPrune(Exception):
    """There is nothing that could be dropped. The message says why."""


def read_cut(text: str) -> Cut:
    """`--before`: a time, a revision (digits), or `position:N`. Raises `NotAMoment`."""
    moment = read_moment(text)
    return Cut(moment) if moment.position is None else Cut(None, moment.position)


def planned(recorder: Recorder, journal: Journal, ledger: Ledger, cut: Cut) -> Plan:
    """What a cut would drop; nothing is changed. The ledger stands where its journal stands (`judging.judge`).

    Raises:
        NothingToPrune: there is nothing before the cut.
        StoreError: this store cannot prune, or cannot be read.
    """
    recorder.require_pruning()
    end = _end_of(ledger, cut)
    if end == ledger.start:
        first = next(ledger.events(), None)
        told = f"; the first that could be dropped is at position {first.position}" if first is not None else ""
        raise NothingToPrune(f"there is no event before that{told}")
    at, position = end
    judged, latest, anchor, order = _folded(ledger, at)
    reading, places = reading_codec.encode(judged.reading)
    keep = _kept(recorder, ledger, position, {ledger.position_of(place) for place in places})
    events = size = newest = 0
    oldest: int | None = None
    for found in recorder.read():
        if found.position > position:
            break
        if not _holds(keep, found.position):
            time = codec.decode(found.event.data).time
            events, size, newest = events + 1, size + len(found.event.data), max(newest, time)
            oldest = time if oldest is None else min(oldest, time)
    if not events:
        raise NothingToPrune(
            "there is no event before that which could be dropped: each is one resource's first or last, or today's findings "
            "and states rest on it"
        )
    before = ledger.base
    made = Pruned(
        at=at,
        position=position,
        latest=latest,
        anchor=anchor,
        order=order,
        runs=ledger.runs_upto(at),
        last_time=judged.last_time,
        digest=judged.digest,
        reading=reading,
        when=_now(),
        by=_who(),
        with_version=version("netledger"),
        dropped=events + (before.dropped if before is not None else 0),
        decided=_decided(journal, order, before),
    )
    records = made.decided.count - (before.decided.count if before is not None else 0)
    return Plan(made, keep, events, size, oldest or 0, newest, records)


def prune(recorder: Recorder, plan: Plan) -> None:
    """Do what was planned: all of it, or nothing. Whoever had the ledger open has to open it again. Raises `StoreError`."""
    made = plan.pruned
    encode = msgspec.msgpack.Encoder().encode

    def remains(entry: Entry) -> bytes | None:
        return encode(heads_of(entry)) if made.decided.needs_no_more(entry.number, entry.identity) else None

    recorder.prune(pruned.kept(made), plan.keep, remains)


def _end_of(ledger: Ledger, cut: Cut) -> tuple[int, int]:
    """Place and position of the last event to be pruned: all events of one record go, or none."""
    end = last = ledger.start
    order: OrderKey | None = None
    for placed in ledger.events():
        if placed.event.order is None or placed.event.order != order:
            end, order = last, placed.event.order
        if cut.lies_before(placed):
            return end
        last = placed.at, placed.position
    return last


def _folded(ledger: Ledger, upto: int) -> tuple[Judged, int, int, OrderKey | None]:
    """Everything up to a place, with the latest time, the highest anchor and the last place in the order."""
    judged = Judged(ledger.base)
    base = ledger.base
    latest, anchor, order = (base.latest, base.anchor, base.order) if base is not None else (0, 0, None)
    for placed in ledger.events():
        if placed.at > upto:
            break
        judged.fold(placed.event, placed.data)
        latest = max(latest, placed.event.time)
        if placed.event.order is not None:
            order = placed.event.order
            anchor = max(anchor, order.anchor)
    return judged, latest, anchor, order


def _kept(recorder: Recorder, ledger: Ledger, upto: int, cited: set[int]) -> array[int]:
    """The positions that stay: the first and the last of each bearer of a name, what is cited, the marks of generations.

    What was commanded stays as well: only its event tells, when the same command is given again, what became of it.
    """
    bearers: dict[tuple[str, str, str, str], list[int]] = {}
    superseded: dict[tuple[str, str, str, str], list[int]] = {}
    for found in recorder.read():
        if found.position > upto:
            break
        if found.event.type == GENERATION:
            cited.add(found.position)
            continue
        event = codec.decode(found.event.data)
        if event.order is None:
            cited.add(found.position)
        known = bearers if ledger.keeps(found.position) else superseded
        known.setdefault((*event.key, event.uid), [found.position, found.position])[1] = found.position
    for ends in (superseded | bearers).values():
        cited.update(ends)
    return array("q", sorted(position for position in cited if position <= upto))


def _decided(journal: Journal, order: OrderKey | None, before: Pruned | None) -> Decided:
    """Which records stand up to there in the order, with what was decided before and may be ordered otherwise by now."""
    known = before.decided if before is not None else None
    whole = bytearray(known.bits if known is not None else b"")
    whole.extend(bytes((journal.head() >> 3) + 1 - len(whole)))
    lacking = dict(known.lacking) if known is not None else {}
    late = set(known.late) if known is not None else set()
    evidence = set(known.evidence_hashes) if known is not None else set()
    for ordered in in_order(journal) if order is not None else ():
        number, part = ordered.number, ordered.order.part
        if before is not None and before.is_too_late(ordered.number, ordered.order):
            late.add(number)
        elif order is not None and ordered.order <= order:
            whole[number >> 3] |= 1 << (number & 7)
            evidence.update(map(evidence_hash, ordered.evidence))
            if part in lacking.get(number, ()):
                lacking[number] = [one for one in lacking[number] if one != part]
        elif whole[number >> 3] >> (number & 7) & 1 and not (before is not None and before.decided.has(number, part)):
            lacking.setdefault(number, []).append(part)
    return Decided.of(journal.head(), bytes(whole), lacking, late, evidence)


def _holds(positions: array[int], position: int) -> bool:
    place = bisect_left(positions, position)
    return place < len(positions) and positions[place] == position


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # there may be no name for the user of a container
        return ""
