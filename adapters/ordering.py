"""Puts the journal's records into the one true order, on disk where they are many, so that memory stays bounded.

Two sorts, with `domain/order.py` between them: by stage time, because the order needs to see what had completed when;
then by the keys it gives. `adapters/judging.py` is next: it decides what comes out of here.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import msgspec
import zstandard

from adapters.ports import Journal
from adapters.sources import audit_log
from domain.operations import Operation, OrderKey
from domain.order import Head, Sequencer

RUN_BYTES = 16 << 20
"""How much is sorted in memory before it goes to disk as one run."""

CHUNK_BYTES = 64 << 10
"""How much of a run is read back at a time: there may be a few hundred runs."""


class Ordered(NamedTuple):
    """One record, or one object's part of it, at its place: `operation` is read from `payload` when it is asked for."""

    order: OrderKey
    outcome: str
    payload: bytes

    def operation(self) -> Operation:
        """The bodies, read: what the record says."""
        return audit_log.operation(self.payload, self.order.part, self.order, self.outcome)


def in_order(journal: Journal, progress: Callable[[int], None] = lambda records: None) -> Iterator[Ordered]:
    """All records of the journal in the true order. `progress` is told of each block of records it has looked at."""
    by_time = _Sorter()
    seen = 0
    for entry in journal.read():
        for head in audit_log.heads(entry.identity, entry.payload):
            by_time.add((head.time, head.identity, head.part), _pack((head, entry.payload)))
        seen += 1
        if not seen % 1_000:
            progress(1_000)
    progress(seen % 1_000)
    by_key = _Sorter()
    sequencer: Sequencer[bytes] = Sequencer()
    for _, packed in by_time:
        head, payload = _unpack_head(packed)
        for order, outcome, carried in sequencer.feed(head, payload):
            by_key.add(msgspec.structs.astuple(order), _pack((outcome, carried)))
    for order, outcome, carried in sequencer.flush():
        by_key.add(msgspec.structs.astuple(order), _pack((outcome, carried)))
    for key, packed in by_key:
        outcome, payload = _unpack_placed(packed)
        yield Ordered(OrderKey(*key), outcome, payload)


_encoder = msgspec.msgpack.Encoder()
_pack = _encoder.encode
_unpack_head = msgspec.msgpack.Decoder(tuple[Head, bytes]).decode
_unpack_placed = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_unpack_chunk = msgspec.msgpack.Decoder(list[tuple[tuple[Any, ...], bytes]]).decode


class _Sorter:
    """Sorts `(key, bytes)` pairs of which no two keys are equal: add them all, then read them back once."""

    def __init__(self) -> None:
        self._items: list[tuple[tuple[Any, ...], bytes]] = []
        self._bytes = 0
        self._runs: list[IO[bytes]] = []

    def add(self, key: tuple[Any, ...], value: bytes) -> None:
        self._items.append((key, value))
        self._bytes += len(value) + 200  # the pair and its key, about
        if self._bytes >= RUN_BYTES:
            self._spill()

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        if not self._runs:
            self._items.sort()
            yield from self._items
            self._items = []
            return
        self._spill()
        yield from heapq.merge(*(self._read(run) for run in self._runs))

    def _spill(self) -> None:
        if not self._items:
            return
        self._items.sort()
        run = tempfile.TemporaryFile(prefix="netledger-")  # noqa: SIM115 - lives until it was merged
        compressor = zstandard.ZstdCompressor(level=1)
        chunk: list[tuple[tuple[Any, ...], bytes]] = []
        size = 0
        for item in self._items:
            chunk.append(item)
            size += len(item[1])
            if size >= CHUNK_BYTES:
                _write(run, compressor.compress(_pack(chunk)))
                chunk, size = [], 0
        if chunk:
            _write(run, compressor.compress(_pack(chunk)))
        run.seek(0)
        self._runs.append(run)
        self._items, self._bytes = [], 0

    def _read(self, run: IO[bytes]) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        decompressor = zstandard.ZstdDecompressor()
        with run:
            while length := run.read(4):
                yield from _unpack_chunk(decompressor.decompress(run.read(struct.unpack("<I", length)[0])))


def _write(run: IO[bytes], chunk: bytes) -> None:
    run.write(struct.pack("<I", len(chunk)))
    run.write(chunk)
