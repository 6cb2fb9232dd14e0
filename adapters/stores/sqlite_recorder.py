"""The ledger: events appended to one ordered log, in the file that `sqlite_file.py` opens.

`SQLiteRecorder` is the `eventsourcing` package's `DCBRecorder`: an append may carry the condition that no event of a query
came after a position, and is refused if one did. Positions are given inside the transaction that appends, so they have no
gaps. Appends that wait for each other are written together, as blocks of events (`event_block.py`), which a hash tree binds
to the head; `sqlite_index.py` finds the blocks that hold a tag. Blocks that were pruned stay in the tree, and reading skips
what they lack. What came in is kept by `sqlite_journal.py`.
"""

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice, pairwise
from sqlite3 import Connection
from typing import Any, Final, NamedTuple

import msgspec
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBQueryItem,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.persistence import IntegrityError, ProgrammingError

from adapters.ports import Base, Entry, LedgerDamaged, Problem, Proof, Recorder, Seal, StoreError
from adapters.stores import sqlite_index, sqlite_journal
from adapters.stores.event_block import (
    BLOCK_EVENTS,
    GENESIS,
    HASH_BYTES,
    Block,
    Tree,
    Unreadable,
    block_hash,
    content_hash,
    cut,
    event_hashes,
    grown,
    head_of,
    packed_kept,
    packer,
    path_in,
    path_over,
    perfect_trees,
    root_of,
    root_over,
    unpacked,
)
from adapters.stores.read_response import ReadResponse
from adapters.stores.sqlite_file import UNREADABLE, Row, SQLiteFile
from adapters.stores.sqlite_index import Index, Select, tag_hash, type_hash

GROUP_EVENTS: Final = 4000
"""How many events of waiting appends are written together, about: what one transaction holds in memory."""
PAGE_BLOCKS: Final = 16
CACHED_BYTES: Final = 4 << 20
"""Content of blocks that a search unpacked, kept for the next one."""
SUBSCRIPTION_EVENTS: Final = 500
POLL_SECONDS: Final = 0.02

_encode = msgspec.msgpack.Encoder().encode

_BLOCKS: Final = "SELECT first, events, content, original FROM event_block"


class Head(NamedTuple):
    """Where the log ends."""

    position: int
    blocks: int
    digest: bytes
    """The root of the hash tree over all blocks."""


class _Append:
    """An append that waits for its turn. What can be wrong with it shows here, and not when it is written with others."""

    def __init__(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None) -> None:
        self.events = events
        self.heads = [head_of(event) for event in events]
        self.leaves = event_hashes(self.heads, [event.data for event in events])
        self.condition = condition
        self.position = 0
        self.error: Exception | None = None
        # Held while there is nothing for its thread to do: a lock is the cheapest thing to wait on.
        self.asleep = threading.Lock()
        self.asleep.acquire()
        self.next: _Append | None = None
        """Whom its thread wakes when it is awake: all at once they would only wait for the interpreter."""

    @property
    def is_done(self) -> bool:
        return bool(self.position or self.error)

    def wake_next(self) -> None:
        if self.next is not None:
            self.next.asleep.release()


class SQLiteRecorder(Recorder):
    """Events in an SQLite file; safe to use from several threads.

    Errors of the store are `adapters.ports.StoreError`; a refused condition is the package's
    `IntegrityError`, an append of nothing its `ProgrammingError`.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._waiting: deque[_Append] = deque()
        self._is_writing = False
        self._queue_lock = threading.Lock()
        self._pack = packer()
        self._index = Index(_hashes_behind)
        self._tree: tuple[int, Tree] = (0, [])  # over the first so many blocks
        # Least recently used first.
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._cached_bytes = 0
        self._blocks_lock = threading.Lock()
        self._base_position: int | None = None

    def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return _head(self._file.query).position

    def seal(self, position: int) -> Seal | None:
        """The root of the hash tree over the blocks up to a position; `None` where no block ends there."""
        select = self._file.query
        head = _head(select)
        if position == head.position:
            return Seal(position, head.digest)
        if position == 0:
            return Seal(0, GENESIS)
        blocks = self._blocks_upto(select, position)
        return None if blocks is None else Seal(position, root_of(_tree_over(select, blocks)))

    def prove(self, position: int, upto: int | None = None) -> Proof:
        """That the event at `position` is in the log with the head at `upto`. Raises `StoreError`."""
        select = self._file.query
        head = _head(select)
        upto = head.position if upto is None else upto
        blocks = self._blocks_upto(select, upto)
        if blocks is None or not 0 < position <= upto:
            raise StoreError(
                f"there is no proof for position {position} up to {upto}: the log ends at {head.position}, and a proof "
                "leads to a position that was its end once, such as an attested one"
            )
        *row, number = select(
            "SELECT first, events, content, original, number FROM event_block WHERE first <= ? ORDER BY first DESC LIMIT 1",
            (position,),
        )[0]
        block = self._unpacked(row)
        first, events, content, original = row
        offset = position - first
        if not block.heads[offset]:
            base = self.base()
            raise StoreError(
                f"there is no proof for position {position}: it was dropped when the ledger was pruned up to position "
                f"{base.position if base else '?'}; what was kept of each resource is its first and last events, and those "
                "that today's findings and states rest on"
            )
        try:
            levels = block.levels()
        except Unreadable as error:
            raise self._damaged(first, error) from error
        return Proof(
            position=position,
            head=block.heads[offset],
            data=block.data[offset],
            first=first,
            events=events,
            content=content_hash(content) if original is None else original,
            in_block=path_in(levels, offset),
            above=path_over(blocks, number, lambda end, height: _tree_ending_at(select, end, height)),
            upto=upto,
            digest=root_of(_tree_over(select, blocks)).hex(),
        )

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        """Append all events, on disk when this returns, or none of them.

        Threads that append at the same time share one transaction, and so one wait for the disk.

        Returns:
            The position of the last one.

        Raises:
            IntegrityError: an event matches the condition.
            ProgrammingError: there is nothing to append.
            StoreError: the store could not keep them.
        """
        if not events:
            raise ProgrammingError("cannot append nothing: an append needs at least one event")
        mine = _Append(events, condition)
        with self._queue_lock:
            self._waiting.append(mine)
            is_my_turn, self._is_writing = not self._is_writing, True
        if not is_my_turn:
            self._sleep(mine)
        # Awake: another has written it, or it is this one's turn to write for all who wait.
        try:
            if not mine.is_done:
                self._write_waiting()
        finally:
            mine.wake_next()
        if mine.error is not None:
            raise mine.error
        return mine.position

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> ReadResponse:
        """Events that match, in order, up to the head at the time of the call; read from disk block by block.

        Raises:
            StoreError: the store cannot be read; also later, while reading on.
        """
        upto = self.head()
        events = self._events(query, after or 0, upto)
        if limit is None:
            return ReadResponse(events, upto or None, is_limited=False)
        return ReadResponse(islice(events, max(limit, 0)), None, is_limited=True)

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> "SQLiteSubscription":
        """Events that match, in order, then those to come, from this and from other processes."""
        return SQLiteSubscription(self, self._file, query, after)

    def between(self, query: DCBQuery | None, after: int, upto: int) -> Iterator[DCBSequencedEvent]:
        """Events that match, in order, of the positions `after` < position <= `upto`."""
        return self._events(query, after, upto)

    def at(self, positions: Sequence[int]) -> Iterator[DCBSequencedEvent]:
        """The events at these positions, which rise. One that was pruned, or is not there, is left out."""
        select, upto = self._file.query, self.head()
        block: Block | None = None
        for position in positions:
            if not 0 < position <= upto:
                continue
            if block is None or position > block.last:
                ((first,),) = select("SELECT max(first) FROM event_block WHERE first <= ?", (position,))
                block = self._block(select, first or 1)
            yield from self._events_in(block, [position - block.first])

    def page(self, query: DCBQuery | None, after: int, upto: int, limit: int) -> list[DCBSequencedEvent]:
        """At most `limit` events that match, in order, of the positions `after` < position <= `upto`."""
        return list(islice(self._events(query, after, upto), limit))

    def verify(self) -> Iterator[Problem]:
        """Read everything again; name the blocks that are not what was appended.

        Finds flipped bits, and events that were dropped, swapped or inserted. What the index says is compared with what
        was written to it.
        """
        try:
            yield from _verify_blocks(self._file.query)
            yield from _verify_base(self._file.query)
            yield from sqlite_index.verify(self._file.query, self.head())
        except UNREADABLE as error:
            yield Problem("ledger", None, f"could not be read to its end: {error}")

    # ---- pruning

    def base(self) -> Base | None:
        """Up to where old events were dropped, and what stands for them; `None` where none were."""
        try:
            base = _base(self._file.query)
        except Unreadable as error:
            raise LedgerDamaged(
                f"the ledger {self._file.path}: {error}; restore a copy, or replay the sources"
            ) from error
        if self._base_position is None:
            self._base_position = base.position if base is not None else 0
        return base

    def require_pruning(self) -> None:
        """A file keeps a hash tree: its events can be dropped."""

    def prune(
        self, base: Base, keep: Sequence[int], remains: Callable[[Entry], bytes | None] = lambda entry: None
    ) -> None:
        """Drop the events up to `base.position`, but for those in `keep`, which rises.

        `remains` says what stays of a record of the journal whose payload goes as well. It is one transaction, which holds
        up the writers of this process; then the space is given back, for which the file is written anew: that takes as
        much room again, for so long.

        Raises:
            StoreError: the store could not do it; it is as it was.
        """
        with self._file.transaction() as connection:
            select = _selecting(connection)
            first, hashed = 0, blake2b(digest_size=HASH_BYTES)
            while rows := select(
                f"{_BLOCKS} WHERE first > ? AND first <= ? ORDER BY first LIMIT ?",
                (first, base.position, PAGE_BLOCKS),
            ):
                for row in rows:
                    first, _, content, original = row
                    block = self._unpacked(row)
                    kept = [*keep[bisect_left(keep, first) : bisect_right(keep, block.last)]]
                    kept += range(max(first, base.position + 1), block.last + 1)
                    if len(kept) == len(block.heads):
                        hashed.update(_kept_hash(first, content))
                        continue
                    try:
                        content_kept = packed_kept(block.pruned(position - first for position in kept))
                    except Unreadable as error:
                        raise self._damaged(first, error) from error
                    connection.execute(
                        "UPDATE event_block SET content = ?, original = ? WHERE first = ?",
                        (content_kept, content_hash(content) if original is None else original, first),
                    )
                    hashed.update(_kept_hash(first, content_kept))
            kept_hash = hashed.digest()
            checksum = _base_checksum(base.position, kept_hash, base.content)
            connection.execute(
                "INSERT OR REPLACE INTO base VALUES (1, ?, ?, ?, ?)", (base.position, kept_hash, base.content, checksum)
            )
            sqlite_journal.prune(connection, remains)
        self._base_position = base.position
        with self._blocks_lock:
            self._blocks.clear()
            self._cached_bytes = 0
        try:
            self._file.compact()
        except StoreError as error:
            raise StoreError(
                f"the events were dropped, and the room that they took stays in the file for what comes: {error}"
            ) from error

    # ---- appending

    def _sleep(self, mine: _Append) -> None:
        try:
            mine.asleep.acquire()
        except BaseException:  # Ctrl-C: the others must not wait for one who has gone
            with self._queue_lock:
                if is_waiting := mine in self._waiting:
                    self._waiting.remove(mine)
                    if mine.asleep.acquire(blocking=False):  # it was its turn already
                        self._pass_on()
            if not is_waiting:
                mine.asleep.acquire()  # it is being written just now
                mine.wake_next()
            raise

    def _pass_on(self) -> None:
        """Let one of those who wait write, if there are any. The queue's lock is held."""
        self._is_writing = bool(self._waiting)
        if self._waiting:
            self._waiting[0].asleep.release()

    def _write_waiting(self) -> None:
        """Write, in one transaction, what waits, the caller's own first; then let one of those write who came meanwhile."""
        group: list[_Append] = []
        events = 0
        with self._queue_lock:
            while self._waiting and events < GROUP_EVENTS:
                group.append(self._waiting.popleft())
                events += len(group[-1].events)
        try:
            for waiting, position in self._write(group):
                waiting.position = position
        except Exception as error:
            for waiting in group:
                waiting.error = waiting.error or error
        except BaseException:
            for waiting in group:
                waiting.error = waiting.error or StoreError("the append was interrupted; nothing of it was kept")
            raise
        finally:
            with self._queue_lock:
                for one, other in pairwise(group):
                    one.next = other
                self._pass_on()

    def _write(self, group: Sequence[_Append]) -> list[tuple[_Append, int]]:
        """Give positions to those whose condition holds, and keep their events. The others get their error."""
        admitted: list[tuple[_Append, int]] = []
        heads: list[bytes] = []
        leaves: list[bytes] = []
        events: list[DCBEvent] = []
        with self._file.transaction() as connection:
            select = _selecting(connection)
            head = _head(select)
            for waiting in group:
                if waiting.condition is not None:
                    # What was admitted just now counts as well as what is on disk.
                    staged = Block(head.position + 1, heads, [])
                    try:
                        self._refuse_if_matched(select, waiting.condition, head.position, staged)
                    except IntegrityError as error:
                        waiting.error = error
                        continue
                heads += waiting.heads
                leaves += waiting.leaves
                events += waiting.events
                admitted.append((waiting, head.position + len(heads)))
            if heads:
                blocks = self._keep(connection, head, heads, leaves, events)
                indexed = self._index.write(connection, blocks)
        if heads:
            # Only now: what was taken back must not be remembered.
            self._index.add(blocks, indexed)
        return admitted

    def _keep(
        self,
        connection: Connection,
        head: Head,
        heads: Sequence[bytes],
        leaves: Sequence[bytes],
        events: Sequence[DCBEvent],
    ) -> list[tuple[int, int, set[int]]]:
        """Insert the blocks; gives the first and last position and the hashes of the names of each."""
        tree = self._tree_over(_selecting(connection), head)
        position, number = head.position, head.blocks
        data = [event.data for event in events]
        blocks: list[tuple[int, int, set[int]]] = []
        for part in cut(data):
            first, count = position + 1, part.stop - part.start
            root = root_over(leaves[part])
            content = self._pack(heads[part], data[part])
            trees = b"".join(grown(tree, number, block_hash(first, count, root, content_hash(content))))
            number += 1
            position += count
            connection.execute(
                "INSERT INTO event_block VALUES (?, ?, ?, ?, ?, ?, NULL)", (first, count, number, root, trees, content)
            )
            blocks.append((first, position, _hashes_of(events[part])))
        connection.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", (position, number, root_of(tree)))
        # Of a transaction that is taken back the number of blocks will not be the one asked for.
        self._tree = (number, tree)
        return blocks

    def _tree_over(self, select: Select, head: Head) -> Tree:
        """The perfect trees over all blocks there are; a copy, to grow."""
        blocks, tree = self._tree
        if blocks == head.blocks and root_of(tree) == head.digest:
            return list(tree)
        return _tree_over(select, head.blocks)

    def _refuse_if_matched(self, select: Select, condition: DCBAppendCondition, upto: int, staged: Block) -> None:
        query, after = condition.fail_if_events_match, condition.after or 0
        found: int | None = None
        if after < upto:
            on_disk = next(self._events(query, after, upto, select), None)
            found = None if on_disk is None else on_disk.position
        if found is None and staged.heads:
            items = query.items or [DCBQueryItem()]
            offset = next(staged.matching(items, after, staged.last), None)
            found = None if offset is None else staged.first + offset
        if found is not None:
            raise IntegrityError(
                f"append refused: the event at position {found} came after position {after}"
                f" and matches the condition {query}"
            )

    # ---- reading

    def _blocks_upto(self, select: Select, position: int) -> int | None:
        """How many blocks there are up to this position; `None` where no block ends there."""
        rows = select(
            "SELECT number, first + events - 1 FROM event_block WHERE first <= ? ORDER BY first DESC LIMIT 1",
            (position,),
        )
        return rows[0][0] if rows and rows[0][1] == position else None

    def _events(
        self, query: DCBQuery | None, after: int, upto: int, select: Select | None = None
    ) -> Iterator[DCBSequencedEvent]:
        """The events that match, in order, of the positions `after` < position <= `upto`."""
        after = max(after, 0)
        if after >= upto:
            return
        select = select or self._file.query
        base = self._known_base(select)
        items = query.items if query is not None else []
        if not items or any(not item.types and not item.tags for item in items):
            for block in self._blocks_behind(select, after, upto):
                self._refuse_pruned_since(block, max(after, base), upto)
                yield from self._events_in(block, block.within(after, upto))
        else:
            for first in self._places(select, items, after, upto):
                block = self._block(select, first)
                self._refuse_pruned_since(block, max(after, base), upto)
                yield from self._events_in(block, block.matching(items, after, upto))

    def _events_in(self, block: Block, offsets: Iterable[int]) -> list[DCBSequencedEvent]:
        try:
            return block.events(offsets)
        except Unreadable as error:
            raise self._damaged(block.first, error) from error

    def _places(self, select: Select, items: Sequence[DCBQueryItem], after: int, upto: int) -> list[int]:
        """The first positions of the blocks that may hold what matches."""
        # The block that holds the first position asked for may begin before it.
        ((since,),) = select("SELECT max(first) FROM event_block WHERE first <= ?", (after + 1,))
        places: set[int] = set()
        for item in items:
            types = list(dict.fromkeys(map(type_hash, item.types)))
            tags = list(dict.fromkeys(map(tag_hash, item.tags)))
            found = self._index.blocks(select, [*types, *tags], since or 1, upto)
            narrowed = [set().union(*found[: len(types)])] if types else []
            places |= set.intersection(*narrowed, *found[len(types) :])
        return sorted(places)

    def _blocks_behind(self, select: Select, after: int, upto: int) -> Iterator[Block]:
        """The blocks that hold the positions `after` < position <= `upto`."""
        ((first,),) = select("SELECT max(first) FROM event_block WHERE first <= ?", (after + 1,))
        expected = first = first or 1
        while first <= upto:
            rows = select(f"{_BLOCKS} WHERE first >= ? ORDER BY first LIMIT ?", (first, PAGE_BLOCKS))
            for row in rows:
                if row[0] != expected:
                    break
                block = self._unpacked(row)
                yield block
                expected = block.last + 1
                if expected > upto:
                    return
            if expected == first:
                raise LedgerDamaged(f"the ledger {self._file.path} has lost the event at {first}; verify it")
            first = expected

    def _block(self, select: Select, first: int) -> Block:
        with self._blocks_lock:
            if (block := self._blocks.get(first)) is not None:
                self._blocks.move_to_end(first)
                return block
        rows = select(f"{_BLOCKS} WHERE first = ?", (first,))
        if not rows:
            raise LedgerDamaged(f"the ledger {self._file.path} has lost the event at {first}; verify it")
        block = self._unpacked(rows[0])
        with self._blocks_lock:
            if first not in self._blocks:
                self._blocks[first] = block
                self._cached_bytes += _size(block)
                while self._cached_bytes > CACHED_BYTES and len(self._blocks) > 1:
                    _, dropped = self._blocks.popitem(last=False)
                    self._cached_bytes -= _size(dropped)
        return block

    def _unpacked(self, row: Sequence[Any]) -> Block:
        try:
            return unpacked(*row)
        except Unreadable as error:
            raise self._damaged(row[0], error) from error

    def _known_base(self, select: Select) -> int:
        """Up to which position this one knows that events were dropped: as it was when first something was read."""
        if self._base_position is None:
            rows = select("SELECT position FROM base", ())
            self._base_position = rows[0][0] if rows else 0
        return self._base_position

    def _refuse_pruned_since(self, block: Block, after: int, upto: int) -> None:
        """Who reads on has counted on what is gone now."""
        if block.beside is None or block.last <= after:
            return
        for offset in block.within(after, upto):
            if not block.heads[offset]:
                raise StoreError(
                    f"the ledger {self._file.path} was pruned since it was opened: the event at {block.first + offset} is "
                    "gone; open it again"
                )

    def _damaged(self, first: int, error: Exception) -> LedgerDamaged:
        return LedgerDamaged(f"the ledger {self._file.path}: the block of event {first}: {error}; verify it")


class SQLiteSubscription(DCBSubscription[SQLiteRecorder]):
    """Events as they come. An append of this process wakes it at once, one of another within `POLL_SECONDS`.

    It ends when it is stopped or its file is closed. One thread may wait in it while another stops it.
    """

    def __init__(self, recorder: SQLiteRecorder, file: SQLiteFile, query: DCBQuery | None, after: int | None) -> None:
        super().__init__(recorder, query, after)
        self._file = file
        self._page: deque[DCBSequencedEvent] = deque()
        self._changed = threading.Event()
        file.listen(self._changed)

    def stop(self) -> None:
        """End the subscription; a `next` that waits in another thread raises StopIteration."""
        super().stop()
        self._file.unlisten(self._changed)
        self._changed.set()

    def __next__(self) -> DCBSequencedEvent:
        while not (self._has_been_stopped or self._file.closed):
            if self._page:
                return self._page.popleft()
            # Before reading: what is appended meanwhile changes them again.
            self._changed.clear()
            if self._has_been_stopped:
                break
            try:
                changes = self._file.changes()
                self._read_on()
                if not self._page:
                    self._wait(changes)
            except StoreError:
                if not self._file.closed:
                    raise
        raise StopIteration

    def _read_on(self) -> None:
        upto = self._recorder.head()
        if upto <= self._last_position:
            return
        page = self._recorder.page(self._query, self._last_position, upto, SUBSCRIPTION_EVENTS)
        self._page.extend(page)
        # What does not match need not be looked at again.
        self._last_position = page[-1].position if len(page) == SUBSCRIPTION_EVENTS else upto

    def _wait(self, changes: int) -> None:
        while not self._changed.wait(POLL_SECONDS):
            if self._file.changes() != changes:
                return


def _head(select: Select) -> Head:
    rows = select("SELECT position, blocks, digest FROM head", ())
    if not rows:
        return Head(0, 0, GENESIS)
    head = Head(*rows[0])
    if not isinstance(head.position, int) or not isinstance(head.blocks, int) or not isinstance(head.digest, bytes):
        raise LedgerDamaged("the ledger's head is damaged; verify it")
    return head


def _base(select: Select) -> Base | None:
    rows = select("SELECT position, kept, content, checksum FROM base", ())
    if not rows:
        return None
    position, kept, content, checksum = rows[0]
    if not isinstance(position, int) or checksum != _base_checksum(position, kept, content):
        raise Unreadable("what its pruned events added up to is not what was written")
    return Base(position, content)


def _base_checksum(position: int, kept: bytes, content: bytes) -> bytes:
    return blake2b(_encode((position, kept, content)), digest_size=HASH_BYTES).digest()


def _kept_hash(first: int, content: bytes) -> bytes:
    return first.to_bytes(8, "big") + content_hash(content)


def _hashes_of(events: Iterable[DCBEvent]) -> set[int]:
    types: set[str] = set()
    tags: set[str] = set()
    for event in events:
        types.add(event.type)
        tags.update(event.tags)
    return {*map(type_hash, types), *map(tag_hash, tags)}


def _hashes_behind(select: Select, after: int, upto: int) -> Iterator[tuple[int, int, set[int]]]:
    """First and last position and the hashes of the names of the blocks of `after` < position <= `upto`."""
    while after < upto:
        rows = select(f"{_BLOCKS} WHERE first > ? ORDER BY first LIMIT ?", (after, PAGE_BLOCKS))
        if not rows:
            return
        for row in rows:
            try:
                block = unpacked(*row)
                yield (
                    block.first,
                    block.last,
                    _hashes_of(found.event for found in block.events(range(len(block.heads)))),
                )
            except Unreadable as error:
                raise LedgerDamaged(f"the ledger's block of event {row[0]}: {error}; verify it") from error
            after = block.last


def _tree_over(select: Select, blocks: int) -> Tree:
    return [_tree_ending_at(select, number, height) for number, height in perfect_trees(blocks)]


def _tree_ending_at(select: Select, number: int, height: int) -> bytes:
    """The root of the tree of that height whose last block has that number."""
    # Blocks are found by position; their numbers rise with it.
    low, ((high,),) = 1, select("SELECT max(first) FROM event_block", ())
    while True:
        rows = select(
            "SELECT first, number, trees FROM event_block WHERE first <= ? ORDER BY first DESC LIMIT 1",
            ((low + high) // 2,),
        )
        if rows and rows[0][1] == number:
            return bytes(rows[0][2][height * HASH_BYTES : (height + 1) * HASH_BYTES])
        if not rows or low >= high:
            raise LedgerDamaged(f"the ledger has lost its block {number}; verify it")
        if rows[0][1] > number:
            high = rows[0][0] - 1
        else:
            ((low,),) = select("SELECT min(first) FROM event_block WHERE first > ?", (rows[0][0],))


def _verify_blocks(select: Select) -> Iterator[Problem]:
    tree: Tree = []
    position = number = 0
    sound = True
    while rows := select(
        "SELECT first, events, number, root, trees, content, original FROM event_block WHERE first > ?"
        " ORDER BY first LIMIT ?",
        (position, PAGE_BLOCKS),
    ):
        for first, events, own_number, root, trees, content, original in rows:
            if first <= position:
                yield Problem("ledger", first, f"comes behind {position}: the table is out of order")
                return
            if first != position + 1:
                missing = f"{position + 1}" if first == position + 2 else f"{position + 1} to {first - 1}"
                yield Problem("ledger", position + 1, f"missing: {missing} dropped before {first}")
                sound = False
            reason = None
            readable = isinstance(events, int) and 0 < events <= BLOCK_EVENTS
            if not readable or not all(isinstance(column, bytes) for column in (root, trees, content)):
                reason = "its columns are not what an append writes"
                events = events if readable else 1
            elif original is not None and (fault := _fault_of_kept(first, events, root, content, original)) is not None:
                reason = fault
            elif block_hash(first, events, root, original or content_hash(content)) != trees[:HASH_BYTES]:
                reason = "does not fit its hash: an event of it, or their order or number, is not what was appended"
            elif sound and (own_number != number + 1 or b"".join(grown(tree, number, trees[:HASH_BYTES])) != trees):
                reason = "does not fit the hash tree: it, or one before it, is not what was appended here"
            if reason is not None:
                place = (
                    f"the event {first}" if events == 1 else f"the block of the events {first} to {first + events - 1}"
                )
                yield Problem("ledger", first, f"{place} {reason}")
                sound = False
            position, number = first + events - 1, number + 1
    head = _head(select)
    if position < head.position:
        yield Problem("ledger", position + 1, f"missing: dropped, the log reached up to {head.position}")
    elif position > head.position:
        yield Problem("ledger", head.position + 1, f"inserted: the log reached up to {head.position}")
    elif sound and (number, root_of(tree)) != (head.blocks, head.digest):
        yield Problem("ledger", position, "the head does not fit the blocks")


def _fault_of_kept(first: int, events: int, root: bytes, content: bytes, original: Any) -> str | None:
    """Why what a pruned block still holds is not of what was appended; `None` where it is."""
    if not isinstance(original, bytes) or len(original) != HASH_BYTES:
        return "was pruned, and does not say what it held"
    try:
        levels = unpacked(first, events, content, original).levels()
    except Unreadable as error:
        return f"was pruned, and what is kept of it cannot be checked: {error}"
    # Where nothing is kept, nothing leads to the root, and the hash of the block says that it is the one.
    if content and levels[-1][0] != root:
        return "was pruned, and an event that was kept of it is not what was appended"
    return None


def _verify_base(select: Select) -> Iterator[Problem]:
    try:
        base = _base(select)
    except Unreadable as error:
        yield Problem("ledger", None, str(error))
        return
    upto = base.position if base is not None else 0
    ((pruned,),) = select("SELECT count(*) FROM event_block WHERE original IS NOT NULL AND first > ?", (upto,))
    if pruned:
        yield Problem(
            "ledger", upto + 1, f"{pruned} blocks behind {upto} were pruned, and nothing stands for their events"
        )
    if base is None:
        return
    first, hashed = 0, blake2b(digest_size=HASH_BYTES)
    while rows := select(
        "SELECT first, content FROM event_block WHERE first > ? AND first <= ? ORDER BY first LIMIT ?",
        (first, upto, PAGE_BLOCKS),
    ):
        for first, content in rows:
            hashed.update(_kept_hash(first, content))
    ((kept,),) = select("SELECT kept FROM base", ())
    if kept != hashed.digest():
        yield Problem(
            "ledger", None, f"the events that were kept of those up to {upto} are not those that were kept then"
        )


def _size(block: Block) -> int:
    return sum(map(len, block.heads)) + sum(map(len, block.data))


def _selecting(connection: Connection) -> Select:
    def select(sql: str, parameters: Sequence[Any]) -> list[Row]:
        return connection.execute(sql, parameters).fetchall()

    return select
