"""Which blocks hold a type or a tag: an index of postings, in sorted runs that are merged as the log grows.

A row for each tag of each event costs more than the event. So a posting stands for a name in a block, not in an event, and
is one integer: a hash of the name, then the position at which the block begins. Those of the last few thousand events are
held in memory, read from their blocks when a file is opened; then they are sorted and written as a run of pages, and eight
runs of one level become one of the next, up to a bound that keeps a merge short. Two names may share a hash: what is found
here is where to look, and `event_block.py` says what is there. `sqlite_recorder.py` asks.
"""

from __future__ import annotations

import sys
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from sqlite3 import Connection
from typing import Any, Final, NamedTuple
from zlib import crc32

import zstandard

from adapters.ports import LedgerDamaged, Problem
from adapters.stores.event_block import inflate
from adapters.stores.sqlite_file import Row

RUN_EVENTS: Final = 4096
"""How many events are looked for in memory before their postings are written."""
FANOUT: Final = 8
LAST_LEVEL: Final = 2
"""Runs of this level are merged no more: each stands for at least 262,144 events, and a merge of more would be felt."""
PAGE_POSTINGS: Final = 256
"""As few as fill a page of the file's half, for one is opened for every run that is asked."""
HELD_POSTINGS: Final = 1 << 18
"""How many postings of runs that are asked often are held in memory: two megabytes."""
STRIPE_POSTINGS: Final = 1 << 16
"""How many postings a merge holds in memory, about."""
CHECKSUM_BYTES: Final = 16

_PLACE_BITS: Final = 36
_HASH_MASK: Final = (1 << 27) - 1
_TYPE_SEED: Final = crc32(b"type")

Select = Callable[[str, Sequence[Any]], list[Row]]


class Run(NamedTuple):
    """The postings of the blocks of the positions `after` < position <= `upto`."""

    id: int
    level: int
    after: int
    upto: int
    postings: int
    checksum: bytes


_RUNS: Final = "SELECT id, level, after, upto, postings, checksum FROM posting_run ORDER BY after"
# The page that may hold the first posting asked for is the last one that does not begin behind it.
_PAGES: Final = (
    "SELECT content FROM posting_page WHERE run = ?1 AND first <= ?3 AND first >= coalesce("
    "(SELECT max(first) FROM posting_page WHERE run = ?1 AND first <= ?2), ?2) ORDER BY first"
)


@lru_cache(maxsize=1 << 14)
def tag_hash(tag: str) -> int:
    """What a tag is known by in the index."""
    return crc32(tag.encode()) & _HASH_MASK


@lru_cache(maxsize=1 << 10)
def type_hash(name: str) -> int:
    """What an event's type is known by in the index."""
    return crc32(name.encode(), _TYPE_SEED) & _HASH_MASK


class Tail:
    """The blocks that no run stands for yet, of the positions `after` < position <= `upto`."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.upto = after
        self._blocks: dict[int, int | list[int]] = {}  # of most names there is one: a list for each would be slow

    def add(self, behind: Iterable[tuple[int, int, set[int]]]) -> None:
        """Take in the next blocks: first and last position, hashes. What is known, or not the next, is left out."""
        blocks = self._blocks
        for first, last, hashes in behind:
            if first != self.upto + 1:
                continue
            for hash in hashes:
                firsts = blocks.setdefault(hash, first)
                if isinstance(firsts, list):
                    firsts.append(first)
                elif firsts != first:
                    blocks[hash] = [firsts, first]
            self.upto = last

    def holding(self, hash: int, since: int, upto: int) -> list[int]:
        """The first positions of the blocks that hold it, of `since` <= first <= `upto`."""
        firsts = self._blocks.get(hash, [])
        if isinstance(firsts, int):
            firsts = [firsts]
        return firsts[bisect_left(firsts, since) : bisect_right(firsts, upto)]

    def postings(self) -> list[int]:
        """All of it, in no order."""
        found: list[int] = []
        for hash, firsts in self._blocks.items():
            for first in firsts if isinstance(firsts, list) else (firsts,):
                found.append(hash << _PLACE_BITS | first)
        return found


class Held:
    """Runs that were asked as often as they have pages, held whole: from then on that costs less than to read pages.

    A run is known by its checksum: its number may be given again when a transaction is taken back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[bytes, int] = {}
        self._runs: OrderedDict[bytes, array[int]] = OrderedDict()  # least recently used first

    def postings(self, select: Select, run: Run) -> array[int] | None:
        """All postings of a run; `None` where it is asked too seldom, or is gone."""
        with self._lock:
            if (held := self._runs.get(run.checksum)) is not None:
                self._runs.move_to_end(run.checksum)
                return held
            asked = self._asked[run.checksum] = self._asked.get(run.checksum, 0) + 1
        if asked * PAGE_POSTINGS < run.postings or run.postings > HELD_POSTINGS // 4:
            return None
        postings = array("q")
        for (content,) in select("SELECT content FROM posting_page WHERE run = ? ORDER BY first", (run.id,)):
            postings.extend(_opened(content, run))
        if len(postings) != run.postings:
            return None
        with self._lock:
            self._runs[run.checksum] = postings
            while sum(map(len, self._runs.values())) > HELD_POSTINGS:
                self._runs.popitem(last=False)
            # Of runs that were merged meanwhile nobody will ask again.
            self._asked = {checksum: asked for checksum, asked in self._asked.items() if checksum not in self._runs}
        return postings


class Index:
    """Where the names of one file's events are found. Safe to use from several threads."""

    def __init__(self, hashes_behind: Callable[[Select, int, int], Iterator[tuple[int, int, set[int]]]]) -> None:
        """`hashes_behind` reads the blocks of `after` < position <= `upto`: first and last position, hashes."""
        self._hashes_behind = hashes_behind
        self._lock = threading.Lock()
        self._tail = Tail(0)
        self._held = Held()

    def blocks(self, select: Select, hashes: Sequence[int], since: int, upto: int) -> list[set[int]]:
        """For each hash the first positions of the blocks that may hold its name, of `since` <= first <= `upto`."""
        while True:
            runs = runs_of(select)
            found = [
                {
                    first
                    for run in runs
                    if run.after < upto and run.upto >= since
                    for first in self._found_in(select, run, hash, since, upto)
                }
                for hash in hashes
            ]
            tail = self._caught_up(select, runs, upto)
            with self._lock:
                for hash, firsts in zip(hashes, found, strict=True):
                    firsts.update(tail.holding(hash, since, upto))
            # Where a writer merged runs meanwhile, their pages may have been gone when they were asked for.
            if runs_of(select) == runs:
                return found

    def add(self, blocks: Iterable[tuple[int, int, set[int]]], after: int) -> None:
        """Take in blocks that are on disk now, where the runs stand for all up to `after`."""
        with self._lock:
            if self._tail.after != after:
                self._tail = Tail(after)
            self._tail.add(blocks)

    def write(self, connection: Connection, blocks: Sequence[tuple[int, int, set[int]]]) -> int:
        """Within the transaction that appends these blocks: write a run where enough has come together.

        Gives the position up to which the runs stand for all.
        """
        before, last = blocks[0][0] - 1, blocks[-1][1]
        with self._lock:
            after, known = self._tail.after, self._tail.upto
        if known == before and last - after < RUN_EVENTS:
            return after

        def select(sql: str, parameters: Sequence[Any]) -> list[Row]:
            return connection.execute(sql, parameters).fetchall()

        runs = runs_of(select)
        after = runs[-1].upto if runs else 0
        if last - after < RUN_EVENTS:
            return after
        tail = self._caught_up(select, runs, before)
        with self._lock:
            postings = tail.postings()
        postings += [hash << _PLACE_BITS | first for first, _, hashes in blocks for hash in hashes]
        postings.sort()
        runs.append(_write_run(connection, 0, after, last, [postings]))
        level = 0
        while level < LAST_LEVEL and len(merged := [run for run in runs if run.level == level]) >= FANOUT:
            runs = [run for run in runs if run.level != level]
            stripes = _merged(select, merged)
            runs.append(_write_run(connection, level + 1, merged[0].after, merged[-1].upto, stripes))
            for run in merged:
                connection.execute("DELETE FROM posting_page WHERE run = ?", (run.id,))
                connection.execute("DELETE FROM posting_run WHERE id = ?", (run.id,))
            level += 1
        return last

    def _found_in(self, select: Select, run: Run, hash: int, since: int, upto: int) -> Iterator[int]:
        low, high = hash << _PLACE_BITS | since, hash << _PLACE_BITS | upto
        held = self._held.postings(select, run)
        pages = [held] if held is not None else [_opened(row[0], run) for row in select(_PAGES, (run.id, low, high))]
        for postings in pages:
            for posting in postings[bisect_left(postings, low) : bisect_right(postings, high)]:
                yield posting & ((1 << _PLACE_BITS) - 1)

    def _caught_up(self, select: Select, runs: Sequence[Run], upto: int) -> Tail:
        """The tail behind these runs, as far as `upto`. The lock is not held while anything is read."""
        after = runs[-1].upto if runs else 0
        with self._lock:
            if self._tail.after != after:
                self._tail = Tail(after)
            tail, known = self._tail, self._tail.upto
        if known < upto:
            behind = list(self._hashes_behind(select, known, upto))
            with self._lock:
                tail.add(behind)
        return tail


def runs_of(select: Select) -> list[Run]:
    """All runs, in the order of the positions that they stand for."""
    return [Run(*row) for row in select(_RUNS, ())]


def verify(select: Select, head: int) -> Iterator[Problem]:
    """Whether the pages are those that were written. `head` is the last position there is."""
    after = 0
    for run in runs_of(select):
        checksum = _Checksum()
        first = -1
        while rows := select(
            "SELECT first, content FROM posting_page WHERE run = ? AND first > ? ORDER BY first LIMIT 64",
            (run.id, first),
        ):
            for place, content in rows:
                checksum.add(place, content)
                if place <= first:
                    yield Problem("ledger", run.after + 1, "the pages of the index are out of order")
                    return
                first = place
        if checksum.of(run) != run.checksum:
            yield Problem("ledger", run.after + 1, f"the index of events {run.after + 1} to {run.upto} does not fit")
        elif run.after != after or run.upto > head:
            yield Problem("ledger", run.after + 1, f"the index has no run that begins behind {after}")
        after = run.upto
    ((pages,),) = select("SELECT count(*) FROM posting_page WHERE run NOT IN (SELECT id FROM posting_run)", ())
    if pages:
        yield Problem("ledger", None, f"the index has {pages} pages of no run")


class _Checksum:
    """Over the pages of a run and what it says it stands for."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=CHECKSUM_BYTES)

    def add(self, first: int, content: bytes) -> None:
        self._hash.update(b"%d %d " % (first, len(content)))
        self._hash.update(content)

    def of(self, run: Run) -> bytes:
        self._hash.update(b"%d %d %d %d %d" % run[:5])
        return self._hash.digest()


def _opened(content: bytes, run: Run) -> array[int]:
    postings = array("q")
    try:
        postings.frombytes(inflate(content))
        if sys.byteorder == "big":
            postings.byteswap()
    except (zstandard.ZstdError, ValueError, TypeError) as error:
        raise LedgerDamaged(
            f"the ledger's index of events {run.after + 1} to {run.upto} cannot be read ({error}); verify the ledger"
        ) from error
    return postings


def _write_run(connection: Connection, level: int, after: int, upto: int, stripes: Iterable[list[int]]) -> Run:
    deflate = zstandard.ZstdCompressor(level=1).compress
    (id,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM posting_run").fetchone()
    checksum = _Checksum()
    total = 0
    for postings in stripes:
        total += len(postings)
        for start in range(0, len(postings), PAGE_POSTINGS):
            page = array("q", postings[start : start + PAGE_POSTINGS])
            first = page[0]
            if sys.byteorder == "big":
                page.byteswap()
            content = deflate(page.tobytes())
            checksum.add(first, content)
            connection.execute("INSERT INTO posting_page VALUES (?, ?, ?)", (id, first, content))
    run = Run(id, level, after, upto, total, b"")
    run = run._replace(checksum=checksum.of(run))
    connection.execute("INSERT INTO posting_run VALUES (?, ?, ?, ?, ?, ?)", run)
    return run


def _merged(select: Select, runs: Sequence[Run]) -> Iterator[list[int]]:
    """The postings of several runs in order, so many at a time that memory stays bounded."""
    stripes = sum(run.postings for run in runs) // STRIPE_POSTINGS + 1
    bounds = [(_HASH_MASK + 1) * stripe // stripes << _PLACE_BITS for stripe in range(stripes + 1)]
    for low, high in pairwise(bounds):
        together: list[int] = []
        for run in runs:
            for (content,) in select(_PAGES, (run.id, low, high - 1)):
                postings = _opened(content, run)
                together.extend(postings[bisect_left(postings, low) : bisect_left(postings, high)])
        together.sort()
        if together:
            yield together
