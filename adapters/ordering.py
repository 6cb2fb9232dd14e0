"""Puts the journal's records into the one true order, on disk where they are many, so that memory stays bounded.

What is sorted are heads, not records: by stage time, because the order needs to see what had completed when; then by
the keys that `domain/order.py` gives. The records themselves are read from the journal once more, front to back, and
wait for their turn (`Payloads`). `adapters/judging.py` is next: it decides what comes out of here.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import IO, Any, Generic, NamedTuple, TypeVar

import msgspec
import zstandard

from adapters.ingest import moved, skew_of
from adapters.ports import Entry, Journal
from adapters.sources import dialects
from domain import evidence
from domain.decide import COMMAND
from domain.evidence import Shown
from domain.operations import Operation, OrderKey
from domain.order import Head, Sequencer

RUN_BYTES = 4 << 20
"""How much is sorted in memory before it goes to disk as one run."""

WAITING_BYTES = 8 << 20
"""How many bytes of records wait in memory for their turn before they wait on disk."""

FAR = 20_000
"""What lies by more records than that ahead of what was read by then is looked up: it came late, and few do."""

LOOKED_UP = 400
"""How many records are read for that: what came late came together."""

CHUNK_BYTES = 32 << 10
"""How much of a run is read back at a time: there may be a few hundred runs."""


Value = TypeVar("Value")


class Ordered(NamedTuple):
    """One record, or one object's part of it, at its place: `operation` is read from `payload` when it is asked for.

    A record that was pruned has its place, and no payload any more.

    `received` is when it was asked for, in microseconds since 1970, 0 where its source does not say; `evidence` are the
    identities of other records that show the same.
    """

    order: OrderKey
    outcome: str
    payload: bytes
    received: int
    evidence: tuple[str, ...]
    number: int
    """Of its record in the journal."""

    def operation(self) -> Operation:
        """The bodies, read: what the record says."""
        operation = dialects.of(self.order.identity).operation(self.payload, self.order, self.outcome)
        operation.received = self.received
        operation.evidence = self.evidence
        return operation


class Heads:
    """The heads of the journal's records, by stage time: read from it, or added as records are ingested."""

    def __init__(self, first: int = 1) -> None:
        """Of the records with numbers from `first` on."""
        self.by_time: Sorter[bytes] = Sorter(bytes, bytes, len)
        self.parts: dict[int, int] = {}  # of the records that are not about one object: about how many
        self.first = first
        self.needless = bytearray()  # from `first` on: 1 for the records that nobody asks for, or evidence only
        self.unclocked = False
        self.upto = first - 1

    def add(self, number: int, heads: list[Head]) -> None:
        """Take the heads of the record with that number in; numbers rise."""
        self.upto = number
        if len(heads) != 1:
            self.parts[number] = len(heads)
        for head in heads:
            self.by_time.add((head.time, head.identity, head.part), _pack((head, number, ())))
            self.unclocked = self.unclocked or not head.clocked

    def read(self, journal: Journal, progress: Callable[[int], None] = lambda records: None) -> None:
        """Take in what the journal holds and is not taken in yet."""
        count = 0
        skews = {source.id: skew_of(source) for source in journal.sources()}
        for entry in journal.read(self.upto):
            if entry.identity.startswith(f"{COMMAND}:"):
                self.upto = entry.number  # a command is decided where it is given: it was not observed
            else:
                self.add(entry.number, moved(heads_of(entry), skews[entry.source]))
            count += 1
            if not count % 1_000:
                progress(1_000)
        progress(count % 1_000)

    def shown(self, also: Callable[[Iterable[Shown]], Iterable[Shown]] | None = None) -> Iterable[Shown]:
        """Them by time, once; what has no clock joined to what has, or dated by it. `also` brings more of it."""
        shown: Iterable[Shown] = (Shown(*_unpack_head(packed)) for _, packed in self.by_time)
        if also is not None:
            shown = also(shown)
        elif not self.unclocked:
            return shown
        self.needless.extend(bytes(self.upto - self.first + 1 - len(self.needless)))
        return joined(self._unless_needed(shown))

    def _unless_needed(self, shown: Iterable[Shown]) -> Iterator[Shown]:
        for one in shown:
            if not one.head.clocked and evidence.is_of_an_object(one.head) and one.carried >= self.first:
                self.needless[one.carried - self.first] = 1  # until it comes out
            yield one

    def need(self, number: int) -> None:
        """A record came out: it will be asked for."""
        if self.needless and number >= self.first:
            self.needless[number - self.first] = 0


def heads_of(entry: Entry) -> list[Head]:
    """What the order needs of a record, by the clock of its source."""
    if entry.heads:
        return _unpack_heads(entry.heads)
    return dialects.of(entry.identity).heads(entry.identity, entry.payload)


def in_order(
    journal: Journal,
    progress: Callable[[int], None] = lambda records: None,
    heads: Heads | None = None,
    sequencer: Sequencer[tuple[int, int, tuple[str, ...]]] | None = None,
) -> Iterator[Ordered]:
    """All records of the journal in the true order, each handed out once.

    `heads` are those that were added while the records were ingested; the rest is read from the journal. `progress` is
    told of each block of records that is. `sequencer` is for who wants to go on with it.
    """
    heads = heads if heads is not None else Heads()
    heads.read(journal, progress)
    by_key: Sorter[bytes] = Sorter(bytes, bytes, len)
    sequencer = sequencer if sequencer is not None else Sequencer()
    for head, number, others in heads.shown():
        heads.need(number)
        for order, outcome, carried in sequencer.feed(head, (number, head.received, others)):
            by_key.add(msgspec.structs.astuple(order), _pack((outcome, *carried)))
    for order, outcome, carried in sequencer.flush():
        by_key.add(msgspec.structs.astuple(order), _pack((outcome, *carried)))
    with Payloads(journal, heads) as payloads:
        for key, packed in by_key:
            outcome, number, received, others = _unpack_placed(packed)
            yield Ordered(OrderKey(*key), outcome, payloads.take(number), received, others, number)


def joined(shown: Iterable[Shown]) -> Iterator[Shown]:
    """Heads by time, in whatever order they come: what has no clock is joined to what has, or dated by it."""
    by_object, by_revision, by_time = heads_by(), heads_by(), heads_by()

    def place(one: Shown) -> None:
        by_time.add((one.head.time, one.head.identity, one.head.part), one)

    for one in shown:
        if evidence.is_of_an_object(one.head):
            by_object.add(evidence.by_object(one.head), one)
        else:
            place(one)
    for one in evidence.join(one for _, one in by_object):
        if one.head.clocked:
            place(one)
            if not one.head.revision:
                continue
        by_revision.add(evidence.by_revision(one.head), one)
    for one in evidence.dated(one for _, one in by_revision):
        place(one)
    return (one for _, one in by_time)


KEY_BYTES = 200
"""What a pair and its key take beside its value, about."""

HEAD_BYTES = 800
"""What a head takes in memory, about."""

_first = itemgetter(0)
_encoder = msgspec.msgpack.Encoder()
_pack = _encoder.encode
_inflate = zstandard.ZstdDecompressor().decompress  # one for all runs: each would hold its own window
_unpack_heads = msgspec.msgpack.Decoder(list[Head]).decode
_unpack_head = msgspec.msgpack.Decoder(tuple[Head, int, tuple[str, ...]]).decode
_unpack_placed = msgspec.msgpack.Decoder(tuple[str, int, int, tuple[str, ...]]).decode
_unpack_chunk = msgspec.msgpack.Decoder(list[tuple[tuple[Any, ...], bytes]]).decode


class Payloads:
    """The journal's records by number, read front to back and handed out in another order.

    Logs are nearly in order already, so few wait at a time. When those that wait are more than so many bytes they
    go to a file, where each is found by its offset: eight bytes of memory a record, however shuffled the input is.
    """

    def __init__(self, journal: Journal, heads: Heads, waiting_bytes: int | None = None) -> None:
        self._journal = journal
        self._entries = journal.read(heads.first - 1)
        self._most = WAITING_BYTES if waiting_bytes is None else waiting_bytes
        self._read = heads.first - 1
        self._ahead: dict[int, bytes] = {}
        self._lookups = (
            16  # as many more as there may be: a log that is out of order is not read for each of its records
        )
        self._taken = 0
        self._first, self._upto = heads.first, heads.upto  # what came after the order was made is not in it
        self._parts = heads.parts
        self._needless = heads.needless
        self._waiting: dict[int, bytes] = {}
        self._bytes = 0
        self._spilled: IO[bytes] | None = None
        self._offsets = array("q")

    def __enter__(self) -> Payloads:
        return self

    def __exit__(self, *error: object) -> None:
        if self._spilled is not None:
            self._spilled.close()

    def take(self, number: int) -> bytes:
        """A record's payload. Each is asked for as often as it has parts, and then forgotten."""
        self._taken += 1
        if not self._taken % LOOKED_UP:
            self._lookups += 1
        while True:
            payload = self._waiting.get(number)
            if payload is not None:
                if self._parts.get(number, 1) > 1:
                    self._parts[number] -= 1
                else:
                    del self._waiting[number]
                    self._bytes -= len(payload)
                return payload
            if self._offsets and self._offsets[number - self._first] >= 0:
                return self._from_disk(number)
            if number > self._read + FAR and (number in self._ahead or self._lookups):
                return self._from_ahead(number)
            entry = next(self._entries)
            self._read = entry.number
            if entry.number > self._upto:
                continue
            if not self._parts.get(entry.number, 1) or (self._needless and self._needless[entry.number - self._first]):
                continue
            self._waiting[entry.number] = entry.payload
            self._bytes += len(entry.payload)
            if self._bytes > self._most:
                self._spill()

    def _from_ahead(self, number: int) -> bytes:
        if number not in self._ahead:
            self._lookups -= 1
            if len(self._ahead) > FAR:
                self._ahead.clear()
            self._ahead.update(
                (entry.number, entry.payload) for entry in islice(self._journal.read(number - 1), LOOKED_UP)
            )
        self._parts[number] = self._parts.get(number, 1) - 1  # none: it is passed over where it stands
        return self._ahead[number]

    def _spill(self) -> None:
        if self._spilled is None:
            self._spilled = tempfile.TemporaryFile(prefix="netledger-")  # noqa: SIM115 - closed with the block
            self._offsets = array("q", [-1]) * (self._upto - self._first + 1)
        self._spilled.seek(0, 2)
        for number, payload in self._waiting.items():
            self._offsets[number - self._first] = self._spilled.tell()
            self._spilled.write(struct.pack("<I", len(payload)) + payload)
        self._waiting, self._bytes = {}, 0

    def _from_disk(self, number: int) -> bytes:
        assert self._spilled is not None
        self._spilled.seek(self._offsets[number - self._first])
        (length,) = struct.unpack("<I", self._spilled.read(4))
        return self._spilled.read(length)


class Sorter(Generic[Value]):
    """Sorts pairs of a key and a value, of which no two keys are equal: add them all, then read them back once.

    They are held as they are, and only where they are many they go to disk, packed.
    """

    def __init__(
        self, pack: Callable[[Value], bytes], unpack: Callable[[bytes], Value], size: Callable[[Value], int]
    ) -> None:
        """`size` is how many bytes of memory a value takes, about."""
        self._pack = pack
        self._unpack = unpack
        self._size = size
        self._items: list[tuple[tuple[Any, ...], Value]] = []
        self._bytes = 0
        self._runs: list[IO[bytes]] = []

    def add(self, key: tuple[Any, ...], value: Value) -> None:
        """Take one in."""
        self._items.append((key, value))
        self._bytes += self._size(value) + KEY_BYTES
        if self._bytes >= RUN_BYTES:
            self._spill()

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], Value]]:
        if not self._runs:
            self._items.sort(key=_first)
            yield from self._items
            self._items = []
            return
        self._spill()
        unpack = self._unpack
        for key, packed in heapq.merge(*(self._read(run) for run in self._runs)):
            yield key, unpack(packed)

    def _spill(self) -> None:
        if not self._items:
            return
        self._items.sort(key=_first)
        run = tempfile.TemporaryFile(prefix="netledger-")  # noqa: SIM115 - lives until it was merged
        compressor = zstandard.ZstdCompressor(level=1)
        chunk: list[tuple[tuple[Any, ...], bytes]] = []
        size = 0
        for key, value in self._items:
            packed = self._pack(value)
            chunk.append((key, packed))
            size += len(packed) + KEY_BYTES
            if size >= CHUNK_BYTES:
                _write(run, compressor.compress(_pack(chunk)))
                chunk, size = [], 0
        if chunk:
            _write(run, compressor.compress(_pack(chunk)))
        run.seek(0)
        self._runs.append(run)
        self._items, self._bytes = [], 0

    def _read(self, run: IO[bytes]) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        with run:
            while length := run.read(4):
                yield from _unpack_chunk(_inflate(run.read(struct.unpack("<I", length)[0])))


def heads_by() -> Sorter[Shown]:
    """A sorter of heads."""
    return Sorter(_pack, lambda packed: Shown(*_unpack_head(packed)), lambda shown: HEAD_BYTES)


def _write(run: IO[bytes], chunk: bytes) -> None:
    run.write(struct.pack("<I", len(chunk)))
    run.write(chunk)
