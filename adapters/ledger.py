"""The ledger: the events of one cluster in order, in whatever recorder keeps them.

The recorder (`eventsourcing`'s `DCBRecorder`) knows positions; the ledger adds *generations*. A record that sorts before
what was already decided makes everything from that point on be decided again: the new events are appended behind a
`GenerationStarted`, and those they replace stay where they are, superseded. What reads in order skips them. So an event
has two numbers: its position in the log, and its place in the current generation's order, which is what `World` and the
findings count by. `adapters/judging.py` writes here; every question reads here.

Where old events were pruned, `base` stands for all up to a place: what folds begins there, and places go on behind it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import takewhile
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
from eventsourcing.dcb.api import DCBAppendCondition, DCBQuery, DCBQueryItem, DCBRecorder, DCBSequencedEvent

from adapters import pruned
from adapters.ports import Problem, Recorder, StoreError
from adapters.pruned import Pruned
from adapters.sources.dialect import iso
from adapters.stores import codec
from domain.events import GENERATION, Event
from domain.resources import Key

NO_KEY = Key("", "", "")

CITED_KEPT = 10_000
"""How many events that were asked for by their place are held."""

START = (0, 0)
"""The place and the position that come before all others."""


class NotTold(StoreError):
    """The state at a moment cannot be told any more: it was pruned, or decided again. The message says what can be asked."""


class Placed(NamedTuple):
    """An event with its two numbers: `at` is its place in the generation's order, `position` its place in the log."""

    at: int
    position: int
    event: Event
    data: bytes


class Moment(NamedTuple):
    """A point in the log that a person named: a time in microseconds since 1970, an API server revision, or a position."""

    time: int | None
    revision: int | None
    position: int | None = None

    def passed_by(self, placed: Placed) -> bool:
        """Whether an event lies behind it."""
        event = placed.event
        if self.position is not None:
            return placed.position > self.position
        if self.revision is not None:
            return event.order is not None and event.order.anchor > self.revision
        assert self.time is not None
        return event.time > self.time


class _Span(NamedTuple):
    """A stretch of the log that belongs to the current generation: positions above `after`, up to `upto`."""

    after: int
    upto: int | None
    first_at: int


class Ledger:
    """The events of the current generation. Raises the recorder's errors."""

    def __init__(self, recorder: DCBRecorder) -> None:
        self.recorder = recorder
        self.generation = 1
        self._spans: list[_Span] = [_Span(0, None, 1)]
        # Where positions skip, the place in the order and the position drift apart: (first place, first position).
        self._runs: list[tuple[int, int]] = []
        self.head = 0
        self.count = 0
        self._cited: dict[int, Placed] = {}
        # Before anything is read: who reads on over what is pruned later is told so.
        base = recorder.base() if isinstance(recorder, Recorder) else None
        self.base: Pruned | None = None
        if base is not None:
            self.base = pruned.read(base)
            self._runs = list(self.base.runs)
            self.count = self.base.at
        markers = DCBQuery(items=[DCBQueryItem(types=[GENERATION])])
        for found in recorder.read(markers):
            self._spans = _restarted(self._spans, found.position, codec.decode(found.event.data))
            self.generation += 1
        self.head = recorder.read(limit=None, after=None).head or 0

    def as_it_stands(self) -> Ledger:
        """Another, for one question, which stands where this one does now. Nothing is read for it."""
        other = copy(self)
        other._runs, other._cited = list(self._runs), {}
        return other

    @property
    def start(self) -> tuple[int, int]:
        """The place and the position behind which a fold begins."""
        return START if self.base is None else (self.base.at, self.base.position)

    def events(self, query: DCBQuery | None = None, *, after: tuple[int, int] | None = None) -> Iterator[Placed]:
        """All events of the current generation, in order, or those behind a place and its position.

        What was pruned is not among them, nor what was kept of it: that `base` stands for. With a query what was kept is
        looked through as well, and `at` is 0: places are counted over all events.
        """
        at, position = after or (self.start if query is None else START)
        counts = after is None or at == self.count
        apart = -1  # by how much the position is ahead of the place: nearly always what it was at the event before
        decode = codec.decode
        for found in self._found(query, position):
            position, data = found.position, found.event.data
            if query is None:
                at += 1
                if counts and position - at != apart:
                    apart = position - at
                    self._count(at, position)
                elif counts and at > self.count:
                    self.count = at
            yield Placed(at, position, decode(data), data)

    def go_on(self, at: int, runs: Sequence[tuple[int, int]]) -> None:
        """Count on from a place that was read before, by what `runs_upto` gave then."""
        self._runs, self.count = list(runs), at

    def runs_upto(self, at: int) -> list[tuple[int, int]]:
        """Where places and positions drift apart, up to a place that was read: first place and position of each run."""
        return [run for run in self._runs if run[0] <= at]

    def kept(self) -> Iterator[Placed]:
        """The events of the current generation that are there still of those that `base` stands for, in order."""
        if self.base is None:
            return
        places, number = self.base.runs, 0
        for found in self._found(None, 0):
            if found.position > self.base.position:
                return
            while number + 1 < len(places) and places[number + 1][1] <= found.position:
                number += 1
            at, position = places[number]
            yield Placed(
                at + found.position - position, found.position, codec.decode(found.event.data), found.event.data
            )

    def refuse_before(self, moment: Moment) -> None:
        """Raises `NotTold` where the state at a moment cannot be told: it was pruned, or the position is superseded."""
        position, base = moment.position, self.base
        if position is not None and 0 < position <= self.head and not self.keeps(position):
            last = max((upto for _, upto in self.stretches() if upto < position), default=0)
            raise NotTold(
                f"position {position} is of an earlier generation: what stood there was decided again, behind position "
                f"{last}, which stays; ask for position:{last}, or for one of generation {self.generation} "
                "(`netledger events -o wide` shows them)"
            )
        if base is None:
            return
        if position is not None:
            told, asked = base.position, moment.position
        elif moment.revision is not None:
            told, asked = base.anchor, moment.revision
        else:
            told, asked = base.latest, moment.time
        if asked is not None and asked < told:
            upto = iso(base.latest)
            raise NotTold(
                f"what was before {upto} (revision {base.anchor}, position {base.position}) was pruned from this ledger on "
                f"{iso(base.when)}: the state at an earlier moment cannot be told; ask for a later one, or ask a copy from "
                "before"
            )

    def own(self, key: Key, after: int, upto: int) -> Iterator[Placed]:
        """The events on just this resource of the positions `after` < position <= `upto`, in order; `at` is 0."""
        # What names it bears its tag too, and is passed over undecoded.
        needle = msgspec.msgpack.encode(key)
        query = DCBQuery(items=[DCBQueryItem(tags=[key.tag])])
        for span in self._spans:
            first, last = max(span.after, after), upto if span.upto is None else min(span.upto, upto)
            for found in self._between(query, first, last) if first < last else ():
                if needle in found.event.data and (event := codec.decode(found.event.data)).key == key:
                    yield Placed(0, found.position, event, found.event.data)

    def _between(self, query: DCBQuery, after: int, upto: int) -> Iterator[DCBSequencedEvent]:
        if isinstance(self.recorder, Recorder):
            return self.recorder.between(query, after, upto)
        return takewhile(lambda found: found.position <= upto, self.recorder.read(query, after=after))

    def stretches(self) -> list[tuple[int, int]]:
        """Which positions belong to the current generation: above the first number, up to the second."""
        return [(span.after, self.head if span.upto is None else span.upto) for span in list(self._spans)]

    def keeps(self, position: int) -> bool:
        """Whether what stands at a position belongs to the current generation. Its place is then what it ever was."""
        return any(after < position <= upto for after, upto in self.stretches())

    def _found(self, query: DCBQuery | None, after: int) -> Iterator[DCBSequencedEvent]:
        for span in self._spans:
            if span.upto is not None and span.upto <= after:
                continue
            for found in self.recorder.read(query, after=max(span.after, after)):
                if span.upto is not None and found.position > span.upto:
                    break
                if found.position > self.head:
                    return  # another has appended it since: an answer is of one moment
                if found.event.type != GENERATION:
                    yield found

    def concerning(self, *keys: Key, types: Sequence[str] = ()) -> Iterator[Placed]:
        """The events that concern any of these resources, in order."""
        items = [DCBQueryItem(types=list(types), tags=[key.tag]) for key in keys]
        return self.events(DCBQuery(items=items))

    def append(self, events: Sequence[Event], condition: DCBAppendCondition | None = None) -> list[bytes]:
        """Append events behind the head; durable on return. Gives their bytes. Raises `IntegrityError` on a conflict."""
        encoded = [codec.encode(event) for event in events]
        last = self.recorder.append(encoded, condition)
        count = self.count + len(events)
        self._count(self.count + 1, last - len(events) + 1)
        self.count, self.head = count, last
        return [event.data for event in encoded]

    def restart_after(self, placed_position: int, at: int) -> None:
        """Begin a new generation: what stands behind `placed_position` is superseded, and `at` places remain."""
        marker = Event(
            type=GENERATION,
            key=NO_KEY,
            record=f"generation:{self.generation + 1}",
            time=0,
            changed={"after": (None, placed_position)},
        )
        self.head = self.recorder.append([codec.encode(marker)])
        self._start(self.head, marker)
        self.count = at
        self._cited.clear()
        self._runs = [run for run in self._runs if run[0] <= at]

    def position_of(self, at: int) -> int:
        """The position in the log of a place in the order."""
        if at > self.count:
            for _ in self.events():  # nobody has read so far yet: places are counted by reading
                pass
        place = bisect_right(self._runs, (at, float("inf"))) - 1
        first_at, first_position = self._runs[place]
        return first_position + at - first_at

    def event_at(self, at: int) -> Placed:
        """The event at a place in the order."""
        # Findings cite the same few events each time they are told.
        known = self._cited.get(at)
        if known is None:
            known = self._cited[at] = self._event_at(at)
            if len(self._cited) > CITED_KEPT:
                del self._cited[next(iter(self._cited))]
        return known

    def _event_at(self, at: int) -> Placed:
        position = self.position_of(at)
        if isinstance(self.recorder, Recorder):
            found = next(iter(self.recorder.at([position])), None)
        else:
            found = next(iter(self.recorder.read(after=position - 1, limit=1)), None)
        if found is None or found.position != position:
            raise StoreError(
                f"the event at position {position} (place {at}) is not in the ledger: it was pruned; verify the ledger if it "
                "should be there"
            )
        return Placed(at, found.position, codec.decode(found.event.data), found.event.data)

    def _start(self, position: int, marker: Event) -> None:
        # Whoever reads on goes by the spans of before. There may be as many as there were late records.
        self._spans = _restarted(list(self._spans), position, marker)
        self.generation += 1

    def _count(self, at: int, position: int) -> None:
        """Remember where the difference between places and positions changes, and only there."""
        if self._runs and self._runs[-1][1] - self._runs[-1][0] == position - at and self._runs[-1][0] <= at:
            self.count = max(self.count, at)
            return
        if not self._runs or self._runs[-1][0] < at:
            self._runs.append((at, position))
        self.count = max(self.count, at)


def _restarted(spans: list[_Span], position: int, marker: Event) -> list[_Span]:
    """These spans with a generation that begins at a position: what stands behind its cut is none of it any more."""
    after = marker.changed["after"][1]
    while spans and spans[-1].after >= after:
        spans.pop()
    if spans and (spans[-1].upto is None or spans[-1].upto > after):
        spans[-1] = spans[-1]._replace(upto=after)
    spans.append(_Span(position, None, 0))
    return spans


def verify(recorder: DCBRecorder) -> Iterator[Problem]:
    """Read every event of the log, superseded ones too, with the format's own reader, and name what does not fit.

    The recorder knows whether its bytes are those that were written; this knows whether they are events.
    """
    for found in recorder.read():
        try:
            fields = msgpack.unpackb(found.event.data, strict_map_key=False)
            said = (fields["type"], list(fields.get("tags", ())))
        except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
            yield Problem("ledger", found.position, f"it is no event: {error or type(error).__name__}")
            continue
        if said != (found.event.type, list(found.event.tags)):
            yield Problem("ledger", found.position, f"it says {said[0]}, and is filed as {found.event.type}")
