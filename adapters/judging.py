"""Decides the journal's records in their true order and keeps the ledger and all that is folded from it up to date.

What the ledger already holds is folded, not decided again, as long as it agrees with the order; at the first record
that sorts before what was decided a new generation begins. So an import that was killed goes on where it stopped, and a
late file lands in its true place. `adapters/report.py` is next: it shows what came out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from adapters.ledger import Ledger, Moment, Placed
from adapters.ordering import Heads, Ordered, in_order
from adapters.ports import Aside, Journal
from adapters.pruned import LATE, Decided, Pruned
from adapters.stores import codec
from domain.decide import decide
from domain.events import Event
from domain.operations import OrderKey
from domain.world import World
from projections.reading import Reading

BATCH_EVENTS = 4_000


class Maker(Protocol):
    """What keeps a read model while a log is judged: it is told of every event, in order."""

    def note(self, event: Event, at: int, position: int) -> None:
        """Take the next event of the log in; it stands in the log by now."""
        ...

    def settle(self, world: World) -> None:
        """The world is that of all events noted so far, and of no other."""
        ...

    def restart_after(self, at: int) -> None:
        """A new generation begins behind that place."""
        ...


class Judged:
    """What a pass leaves: everything folded, and the digest of the generation. `base` stands for events that were pruned."""

    def __init__(self, base: Pruned | None = None, *, reading: Reading | None = None, last_time: int = 0) -> None:
        """With a `reading` it goes on from what was folded before, and there is no digest."""
        self._digest = hashlib.blake2b(digest_size=16) if reading is None else None
        self.late = 0
        """How many records came that belong before what was pruned."""
        if reading is not None:
            self.reading = reading
            self.last_time = last_time
        elif base is None:
            self.reading = Reading()
            self.last_time = 0
        else:
            self.reading = base.restored()
            self.last_time = base.last_time
            assert self._digest is not None
            self._digest.update(base.digest.encode())

    def fold(self, event: Event, data: bytes) -> None:
        """Take one event of the ledger in."""
        self.reading.apply(event)
        self.last_time = max(self.last_time, event.time)
        self.count(data)

    def count(self, data: bytes) -> None:
        """Add an event's bytes to the digest."""
        if self._digest is not None:
            self._digest.update(len(data).to_bytes(4, "little"))
            self._digest.update(data)

    @property
    def digest(self) -> str:
        """Of the generation: its events in order, without positions, file names or times of ingest.

        What was pruned counts with the digest that it had. It is empty where folding did not begin with the first event.
        """
        return self._digest.hexdigest() if self._digest is not None else ""


def judge(
    journal: Journal,
    ledger: Ledger,
    progress: Callable[[str, int], None] = lambda stage, count: None,
    heads: Heads | None = None,
    maker: Maker | None = None,
    *,
    again: bool = False,
) -> Judged:
    """Bring the ledger up to what the journal holds. Raises `StoreError` and the recorder's errors.

    `heads` are those of the records that were just ingested, so that they need not be read again; `maker` keeps
    read models on the way. `again` decides also what is decided already: at the first record of which something else comes
    out now, a new generation begins.
    """
    deciding = Deciding(journal, ledger, Judged(ledger.base), maker, again=again)
    for ordered in in_order(journal, lambda count: progress("order", count), heads):
        progress("decide", 1)
        deciding.take(ordered)
    deciding.finish()
    return deciding.judged


class Deciding:
    """Decides records in the true order beside what the ledger holds already, and appends what is new.

    `judged` stands at the place and position `after`; what the ledger holds behind it is compared, not decided again,
    unless `again`.
    """

    def __init__(
        self,
        journal: Journal,
        ledger: Ledger,
        judged: Judged,
        maker: Maker | None = None,
        *,
        after: tuple[int, int] | None = None,
        again: bool = False,
    ) -> None:
        self.ledger = ledger
        self.judged = judged
        self.generations = 0
        """How many were begun."""
        self.same_upto = judged.reading.at
        """Up to which place the events are those that the ledger held before."""
        self._journal = journal
        self._maker = maker
        self._again = again
        self._known = _Known(ledger, after)
        self._batch: list[Event] = []
        self._late: set[str] = set()

    @property
    def pending(self) -> bool:
        """Whether the ledger holds events of records that have not come."""
        return self._known.pending

    def take(self, ordered: Ordered) -> None:
        """The next record. Raises `StoreError` and the recorder's errors."""
        base = self.ledger.base
        if base is not None and _is_behind(base, ordered, self._late):
            return
        known = self._known
        for placed in known.commands():
            self._take(placed)
        cut = known.last_position
        world = self.judged.reading.world
        if known.follows(ordered.order, ordered.evidence):
            taken = list(known.take())
            if not self._again or _are(taken, decide(world, ordered.operation())):
                for placed in taken:
                    self._take(placed)
                return
            self._restart(cut)
        elif known.pending:
            self._restart(cut)
        for event in decide(world, ordered.operation()):
            self.judged.reading.apply(event)
            self.judged.last_time = max(self.judged.last_time, event.time)
            self._batch.append(event)
        if len(self._batch) >= BATCH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Put what was decided into the ledger."""
        if not self._batch:
            return
        for data in self.ledger.append(self._batch):
            self.judged.count(data)
        if self._maker is not None:
            count = len(self._batch)
            at, position = self.ledger.count - count, self.ledger.head - count
            for number, event in enumerate(self._batch, 1):
                self._maker.note(event, at + number, position + number)
            self._maker.settle(self.judged.reading.world)
        self._batch.clear()

    def finish(self) -> None:
        """There are no more records: what the ledger holds beyond them is superseded."""
        for placed in self._known.commands():
            self._take(placed)
        if self._known.pending:
            self._restart(self._known.last_position)
        self.flush()
        if self.ledger.base is not None and self._late:
            self.judged.late = _keep_aside(self._journal, self.ledger.base.decided, self._late)

    def _take(self, placed: Placed) -> None:
        self.judged.fold(placed.event, placed.data)
        if not self.generations:
            self.same_upto = self.judged.reading.at
        if self._maker is not None:
            self._maker.note(placed.event, placed.at, placed.position)
            self._maker.settle(self.judged.reading.world)

    def _restart(self, cut: int) -> None:
        """Begin a new generation behind the position `cut`, the last one that stays.

        What was commanded was admitted, and stays: only what was observed is decided again.
        """
        commanded = [placed.event for placed in self._known.rest() if placed.event.order is None]
        self.ledger.restart_after(cut, self.judged.reading.at)
        self.generations += 1
        if self._maker is not None:
            self._maker.restart_after(self.judged.reading.at)
        for event in commanded:
            self.judged.reading.apply(event)
        self._batch += commanded


def _is_behind(base: Pruned, ordered: Ordered, late: set[str]) -> bool:
    """Whether a record is decided already, or cannot be any more; what came too late for that is added to `late`."""
    if base.decided.has(ordered.number, ordered.order.part):
        late.update(one for one in ordered.evidence if not base.decided.knows_evidence(one))
        return True
    if not ordered.payload:
        return True  # it was evidence of what is decided, and what it is evidence of now came too late itself
    if base.is_too_late(ordered.number, ordered.order):
        late.update((ordered.order.identity, *ordered.evidence))
        return True
    return False


def _keep_aside(journal: Journal, decided: Decided, late: set[str]) -> int:
    """Say of records, once, that they came too late to be decided, and tell how many did. They stay in the journal."""
    # What was decided itself may be evidence of what came too late.
    came = [
        entry.identity
        for entry in journal.read(min((decided.records, *(number - 1 for number in decided.late))))
        if entry.identity in late and (entry.number > decided.records or entry.number in decided.late)
    ]
    said = {one.reason for one in journal.kept_aside()}
    identities = [identity for identity in came if f"{LATE}: {identity}" not in said]
    sources = {source.path: source for source in journal.sources()}
    aside: dict[str, list[Aside]] = {}
    for identity, (path, line) in journal.locate(identities).items():
        aside.setdefault(path, []).append(Aside.of(line, f"{LATE}: {identity}", identity.encode()))
    for path, some in aside.items():
        journal.commit(sources[path].id, [], some, sources[path].summary)
    return len(came)


def fold(ledger: Ledger, moment: Moment | None = None) -> Judged:
    """Fold what the ledger holds, up to the first event that lies behind a moment. Raises `StoreError`."""
    if moment is not None:
        ledger.refuse_before(moment)
    judged = Judged(ledger.base)
    for placed in ledger.events():
        if moment is not None and moment.passed_by(placed):
            break
        judged.fold(placed.event, placed.data)
    return judged


def _are(placed: Sequence[Placed], decided: Sequence[Event]) -> bool:
    """Whether events of the ledger are just those that are decided now, whichever version of the envelope holds them."""
    if len(placed) != len(decided):
        return False
    for known, event in zip(placed, decided, strict=True):
        data = codec.encode(event).data
        if data != known.data and codec.decode(data) != msgspec.structs.replace(known.event, schema=event.schema):
            return False
    return True


class _Known:
    """The events that the ledger holds already, a record's at a time."""

    def __init__(self, ledger: Ledger, after: tuple[int, int] | None) -> None:
        self._events: Iterator[Placed] = ledger.events(after=after)
        self._next: Placed | None = next(self._events, None)
        _, self.last_position = after or ledger.start

    @property
    def pending(self) -> bool:
        """Whether there is more of them."""
        return self._next is not None

    def follows(self, order: OrderKey, evidence: tuple[str, ...]) -> bool:
        """Whether the next of them come from the record at this place, and rest on the same evidence."""
        if self._next is None:
            return False
        event = self._next.event
        return event.order == order and event.evidence == evidence

    def take(self) -> Iterator[Placed]:
        """The events of that record."""
        assert self._next is not None
        order = self._next.event.order
        while self._next is not None and self._next.event.order == order:
            yield self._advance()

    def commands(self) -> Iterator[Placed]:
        """The events that come next and rest on commands: those have no place in the order of what was observed."""
        while self._next is not None and self._next.event.order is None:
            yield self._advance()

    def rest(self) -> Iterator[Placed]:
        """All that is left, superseded now."""
        while self._next is not None:
            yield self._advance()

    def _advance(self) -> Placed:
        assert self._next is not None
        taken = self._next
        self.last_position = taken.position
        self._next = next(self._events, None)
        return taken
