"""Moves a whole store, journal and ledger, from one place to another, whatever keeps it there.

What travels is *portable*: rows that name sources by their place in the list of sources, and events by their place in
the log. Positions do not travel, because they may skip in one store and not in another; only a `GenerationStarted` names
one, and it is translated on both sides. The receiver compares what its store holds already with what comes, and writes
the rest: so a transfer that was killed goes on where it stopped, and nothing is there twice. The journal goes first: a
transfer that broke off leaves what an import that broke off leaves.

`archive.py` puts the same rows into a file.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, NamedTuple

import msgspec
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBReadResponse
from eventsourcing.persistence import IntegrityError

from adapters.judging import Judged
from adapters.ledger import Ledger
from adapters.ports import Aside, Entry, Journal, KeptAside, LedgerDamaged, Record, Recorder, Source, StoreError
from adapters.pruned import require_whole
from adapters.stores import codec
from domain.events import GENERATION

BLOCK_ROWS = 4_000
BLOCK_BYTES = 1 << 20
"""How much is in one block, unless a single row has more: what a transfer holds in memory, and writes at once."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

SourceRow = tuple[str, str]
"""Path, format."""
RecordRow = tuple[Count, Count, str, Annotated[bytes, msgspec.Meta(max_length=64)], bytes]
"""Place of its source in the list of sources, from 0; line, identity, fingerprint, payload."""
AsideRow = tuple[Count, Count, str, bytes, Count]
"""Place of its source, line, reason, excerpt, size."""
SummaryRow = bytes
"""What the committer keeps about a source: one row a source, in the order of the list."""
EventRow = tuple[str, Annotated[list[str], msgspec.Meta(max_length=1_000_000)], bytes]
"""Type, tags, data. In a `GenerationStarted` the number of the event stands where its position is in a store."""


class Sources(msgspec.Struct, frozen=True, array_like=True, tag="sources", forbid_unknown_fields=True):
    """Where the records came from, in the order in which that was first named."""

    rows: Annotated[list[SourceRow], msgspec.Meta(max_length=BLOCK_ROWS)]


class Records(msgspec.Struct, frozen=True, array_like=True, tag="records", forbid_unknown_fields=True):
    """Records of the journal, in the order of arrival."""

    rows: Annotated[list[RecordRow], msgspec.Meta(max_length=BLOCK_ROWS)]


class Asides(msgspec.Struct, frozen=True, array_like=True, tag="aside", forbid_unknown_fields=True):
    """Input that was kept aside, in the order in which it came."""

    rows: Annotated[list[AsideRow], msgspec.Meta(max_length=BLOCK_ROWS)]


class Summaries(msgspec.Struct, frozen=True, array_like=True, tag="summaries", forbid_unknown_fields=True):
    """What is kept about each source: last of the journal, so that it is never ahead of the records."""

    rows: Annotated[list[SummaryRow], msgspec.Meta(max_length=BLOCK_ROWS)]


class Events(msgspec.Struct, frozen=True, array_like=True, tag="events", forbid_unknown_fields=True):
    """Events of the ledger in the order of the log, of every generation."""

    rows: Annotated[list[EventRow], msgspec.Meta(max_length=BLOCK_ROWS)]


Block = Sources | Records | Asides | Summaries | Events
KINDS: tuple[type[Block], ...] = (Sources, Records, Asides, Summaries, Events)
"""The kinds of blocks, in the order in which they come."""

_encode = msgspec.msgpack.Encoder().encode


class Refused(StoreError):
    """The store that is to receive holds something else, or more."""


class Counts(NamedTuple):
    """How many rows there are of each kind, in the order of `KINDS`."""

    sources: int
    records: int
    aside: int
    summaries: int
    events: int


class Content(NamedTuple):
    """What was transferred: how many rows, and a digest over all of them, however they lay in blocks."""

    counts: Counts
    digest: bytes


class Tally:
    """Counts and digests the blocks that go by."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(KINDS, 0)
        self._digest = hashlib.blake2b(digest_size=32)

    def add(self, block: Block) -> None:
        """Take a block in."""
        self.counts[type(block)] += len(block.rows)
        for row in block.rows:
            self._digest.update(_encode(row))

    def content(self) -> Content:
        """What went by so far."""
        return Content(Counts(*self.counts.values()), self._digest.digest())


class Places:
    """The positions of a log's events by their number, from 1: what it takes to translate between the two.

    Only where the difference between the two changes is anything kept.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self._numbers = array("q")
        self._positions = array("q")

    def add(self, position: int) -> None:
        """The next event has this position."""
        self.count += 1
        if position != self.last + 1 or self.count == 1:
            self._numbers.append(self.count)
            self._positions.append(position)
        self.last = position

    def number_at(self, position: int) -> int:
        """How many events there are up to a position."""
        run = bisect_right(self._positions, position) - 1
        if run < 0:
            return 0
        upto = self._numbers[run + 1] - 1 if run + 1 < len(self._numbers) else self.count
        return min(self._numbers[run] + position - self._positions[run], upto)

    def position_of(self, number: int) -> int:
        """The position of an event; 0 for number 0."""
        run = bisect_right(self._numbers, number) - 1
        return self._positions[run] + number - self._numbers[run] if run >= 0 else 0


# ---- out of a store


class _Held:
    """What a store holds, as portable rows; each kind is read once, in the order of `KINDS`.

    A store may be written while it is read. The end of the ledger is taken before that of the journal, so that no event
    goes without its record.
    """

    def __init__(self, recorder: Recorder, journal: Journal) -> None:
        self.places = Places()
        events = recorder.read()
        entries = journal.read()
        self.sources = journal.sources()
        self._place_of = {source.id: place for place, source in enumerate(self.sources)}
        self.rows: dict[type[Block], Iterator[Any]] = {
            Sources: ((source.path, source.format) for source in self.sources),
            Records: self._records(entries),
            Asides: self._asides(journal),
            Summaries: (source.summary for source in self.sources),
            Events: self._events(events),
        }

    def _records(self, entries: Iterator[Entry]) -> Iterator[RecordRow]:
        for entry in entries:
            yield self._place_of[entry.source], entry.line, entry.identity, entry.fingerprint, entry.payload

    def _asides(self, journal: Journal) -> Iterator[AsideRow]:
        places: dict[str, list[int]] = {}
        for place, source in enumerate(self.sources):
            places.setdefault(source.path, []).append(place)
        # Of one path read in two formats, what both kept aside is told twice: once for each.
        told: Counter[KeptAside] = Counter()
        for kept in journal.kept_aside():
            of_path = places[kept.path]
            place = of_path[0]
            if len(of_path) > 1:
                place = of_path[min(told[kept], len(of_path) - 1)]
                told[kept] += 1
            yield place, kept.line, kept.reason, kept.excerpt, kept.size

    def _events(self, events: DCBReadResponse) -> Iterator[EventRow]:
        for found in events:
            event = found.event
            data = event.data
            if event.type == GENERATION:
                data = _superseding(data, self.places.number_at)
            self.places.add(found.position)
            yield event.type, list(event.tags), data


def _superseding(data: bytes, translated: Callable[[int], int]) -> bytes:
    """A `GenerationStarted` that says in other numbers what it supersedes."""
    marker = codec.decode(data)
    before, after = marker.changed["after"]
    return codec.encode(msgspec.structs.replace(marker, changed={"after": (before, translated(after))})).data


def blocks(recorder: Recorder, journal: Journal) -> Iterator[Block]:
    """A whole store, in the order in which it is written elsewhere. Raises `StoreError`."""
    require_whole(recorder.base(), "be copied event by event")
    held = _Held(recorder, journal)
    for kind in KINDS:
        for rows in _in_blocks(held.rows[kind]):
            yield kind(rows)


def _in_blocks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    block: list[Any] = []
    size = 0
    for row in rows:
        bytes_of_row = len(_encode(row))
        if block and (len(block) == BLOCK_ROWS or size + bytes_of_row > BLOCK_BYTES):
            yield block
            block, size = [], 0
        block.append(row)
        size += bytes_of_row
    if block:
        yield block


# ---- into a store


class Receiver:
    """Takes the blocks of one store into another. `writing=False` only compares: nothing is changed.

    `name` is what is received, for messages.
    """

    def __init__(self, recorder: Recorder, journal: Journal, name: str, *, writing: bool = True) -> None:
        self._recorder = recorder
        self._journal = journal
        self._name = name
        self._writing = writing
        self._held = _Held(recorder, journal)
        self._sources: list[Source] = list(self._held.sources)
        self._named = {(source.path, source.format) for source in self._sources}
        self._summaries = 0
        self._stage = 0
        self._tally = Tally()

    @property
    def is_empty(self) -> bool:
        """Whether the receiving store held nothing at all."""
        return not self._sources and self._recorder.head() == 0

    def take(self, block: Block) -> None:
        """Take the next block in; on disk when this returns, as far as it was not there already.

        Raises:
            Refused: the store holds something else, or more; nothing of this block was written.
            StoreError: the store cannot keep it.
        """
        self._reach(KINDS.index(type(block)))
        rows: Sequence[Any] = block.rows
        if isinstance(block, Summaries):
            self._summarise(block.rows)
        else:
            held = self._held.rows[type(block)]
            there = 0
            for row in rows:
                other = next(held, None)
                if other is None:
                    break
                if other != row:
                    raise self._differing(type(block), self._tally.counts[type(block)] + there + 1)
                there += 1
            if self._writing and there < len(rows):
                self._write(block, rows[there:])
        self._tally.add(block)

    def finish(self) -> Content:
        """Say what came, all of which is in the store now. Raises `Refused` where the store holds more."""
        self._reach(len(KINDS))
        return self._tally.content()

    def _reach(self, stage: int) -> None:
        if stage < self._stage:
            raise Refused(f"{self._name} is out of order: {_called(KINDS[stage])} come behind what follows them")
        for kind in KINDS[self._stage : stage]:
            # Of what there is about sources, the last word counts.
            if kind is not Summaries and next(self._held.rows[kind], None) is not None:
                raise Refused(
                    f"the store holds more {_called(kind)} than {self._name} ({self._tally.counts[kind]:,}): something else "
                    "was put into it; name an empty one"
                )
        self._stage = stage

    def _differing(self, kind: type[Block], number: int) -> Refused:
        return Refused(
            f"the store holds other {_called(kind)} than {self._name}, from number {number:,} on: it is neither empty nor "
            "the beginning of the same; name an empty one"
        )

    def _write(self, block: Block, rows: Sequence[Any]) -> None:
        match block:
            case Sources():
                for path, format in rows:
                    if (path, format) in self._named:
                        raise Refused(f"{self._name} names the source {path} twice")
                    self._named.add((path, format))
                    self._sources.append(Source(self._journal.source(path, format), path, format, b""))
            case Records():
                for source, some in self._by_source(rows):
                    records = [Record(identity, mark, line, payload) for _, line, identity, mark, payload in some]
                    receipt = self._journal.commit(source.id, records, [], source.summary)
                    if not all(receipt.accepted):
                        twice = records[receipt.accepted.index(False)].identity
                        raise Refused(f"the record {twice} comes twice in {self._name}, or is written by another now")
            case Asides():
                for source, some in self._by_source(rows):
                    aside = [Aside(line, reason, excerpt, size) for _, line, reason, excerpt, size in some]
                    self._journal.commit(source.id, [], aside, source.summary)
            case Events():
                self._write_events(rows)

    def _by_source(self, rows: Iterable[Any]) -> Iterator[tuple[Source, list[Any]]]:
        for place, some in groupby(rows, lambda row: row[0]):
            if place >= len(self._sources):
                raise Refused(f"{self._name} is damaged: it has no source {place}, and records of it")
            yield self._sources[place], list(some)

    def _summarise(self, rows: Sequence[bytes]) -> None:
        for summary in rows:
            if self._summaries >= len(self._sources) and self._writing:
                raise Refused(f"{self._name} is damaged: it tells of more sources than it names")
            if self._writing and (source := self._sources[self._summaries]).summary != summary:
                self._journal.commit(source.id, [], [], summary)
            self._summaries += 1

    def _write_events(self, rows: Sequence[EventRow]) -> None:
        batch: list[DCBEvent] = []
        for type, tags, data in rows:
            if type == GENERATION:
                # It names an event before it, whose position is known only when that is appended.
                self._append(batch)
                batch = []
                data = _superseding(data, self._held.places.position_of)
            batch.append(DCBEvent(type=type, data=data, tags=list(tags)))
        self._append(batch)

    def _append(self, batch: Sequence[DCBEvent]) -> None:
        if not batch:
            return
        places = self._held.places
        try:
            last = self._recorder.append(batch, DCBAppendCondition(DCBQuery(), after=places.last))
        except IntegrityError:
            raise Refused(
                "another writer appended to the store meanwhile; nothing of this batch was kept: let one writer at a "
                "time into it"
            ) from None
        for position in range(last - len(batch) + 1, last + 1):
            places.add(position)


def _called(kind: type[Block]) -> str:
    return "input that was kept aside" if kind is Asides else kind.__name__.lower()


def received(
    again: Callable[[], Iterator[Block]],
    recorder: Recorder,
    journal: Journal,
    name: str,
    progress: Callable[[int], None] = lambda rows: None,
    *,
    repeatable: bool = True,
) -> Content:
    """Take all blocks that `again()` gives into a store, and read the store once more to see that it holds just them.

    Where the store is not empty and the blocks can be had twice, they are compared before anything is written.

    Raises:
        Refused: the store holds something else, or more.
        LedgerDamaged: what was read back is not what was written.
        StoreError: the store cannot keep it, or what is read is damaged.
    """
    receiver = Receiver(recorder, journal, name)
    if repeatable and not receiver.is_empty:
        comparing = Receiver(recorder, journal, name, writing=False)
        for block in again():
            comparing.take(block)
        comparing.finish()
    for block in again():
        receiver.take(block)
        progress(len(block.rows))
    content = receiver.finish()
    tally = Tally()
    for block in blocks(recorder, journal):
        tally.add(block)
        progress(len(block.rows))
    if tally.content() != content:
        raise LedgerDamaged(
            f"what is in the store now is not what is in {name}: {_told(tally.content())}, and it was {_told(content)}; "
            "verify both; another may have written into the store meanwhile"
        )
    return content


def _told(content: Content) -> str:
    return f"{content.counts.records:,} records, {content.counts.events:,} events, digest {content.digest.hex()[:16]}"


class Copied(NamedTuple):
    """What a transfer comes to: its content, and the digest of the generation as `replay` and `rebuild` tell it."""

    content: Content
    digest: str


def copy(
    source: tuple[Recorder, Journal],
    target: tuple[Recorder, Journal],
    name: str,
    progress: Callable[[int], None] = lambda rows: None,
) -> Copied:
    """Copy a whole store into another that is empty, or that holds the beginning of it. `name` is the source's.

    Raises what `received` does; `LedgerDamaged` also where the digests of the two generations differ.
    """
    head = source[0].head()
    content = received(lambda: blocks(*source), *target, name, progress)
    digest = digest_of(target[0])
    # Where the source has grown meanwhile, its generation may have ended: then the events, which are equal, have to do.
    if source[0].head() == head and (other := digest_of(source[0])) != digest:
        raise LedgerDamaged(f"the copy of {name} has the digest {digest}, and {name} itself {other}; verify both")
    return Copied(content, digest)


def digest_of(recorder: Recorder) -> str:
    """The digest of a ledger's generation, as its judge tells it."""
    judged = Judged()
    for placed in Ledger(recorder).events():
        judged.count(placed.data)
    return judged.digest
