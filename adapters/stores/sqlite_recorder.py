"""The ledger: events appended to one ordered log, in the file that `sqlite_file.py` opens.

`SQLiteRecorder` is the `eventsourcing` package's `DCBRecorder`: an append may carry the condition that no
event of a query came after a position, and is refused if one did. Positions are given inside the
transaction that appends, so they have no gaps. A condition is an index seek, however long the log is.

Every event is bound to all before it by a hash chain; `verify` walks it and names the first event that is
not what was appended. What came in is kept by `sqlite_journal.py`.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain as concatenated
from sqlite3 import Connection
from typing import Any, Final

import msgspec
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBReadResponse,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.persistence import IntegrityError, ProgrammingError

from adapters.ports import LedgerDamaged, Problem, Recorder, StoreError
from adapters.stores.sqlite_file import UNREADABLE, Row, SQLiteFile

PAGE_EVENTS: Final = 1000
# Bound by the number of parameters of one statement, which is 999 in older builds of SQLite.
SEARCH_PAGE_EVENTS: Final = 500
CACHED_NAMES: Final = 8_000
POLL_SECONDS: Final = 0.02
CHAIN_BYTES: Final = 32
LINK_BYTES: Final = 8
GENESIS: Final = bytes(CHAIN_BYTES)
LAST_POSITION: Final = 2**63 - 1

_encode = msgspec.msgpack.Encoder().encode
_decode_tags = msgspec.msgpack.Decoder(list[str]).decode

# One way to find events: a statement that selects positions in ascending order, and its own parameters.
# ?1 is the position after which, ?2 the one up to which, ?3 how many at most.
_Search = tuple[str, list[int]]
_RANGE: Final = "position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3"
_EVERYTHING: Final[_Search] = (f"SELECT position FROM event WHERE {_RANGE}", [])
_BY_TYPE: Final = f"SELECT position FROM event WHERE type = ?4 AND {_RANGE}"
_EVENT_COLUMNS: Final = "SELECT position, type, tags, data FROM event"

_Select = Callable[[str, Sequence[Any]], list[Row]]


def chained(previous: bytes, type_frame: bytes, tags_frame: bytes, data: bytes) -> bytes:
    """The chain at an event: 32 bytes over the chain before it and what it says.

    Type and tags come as MessagePack, which says where it ends; the data is the rest.
    """
    return blake2b(previous + type_frame + tags_frame + data, digest_size=CHAIN_BYTES).digest()


class SQLiteRecorder(Recorder):
    """Events in an SQLite file; safe to use from several threads.

    Errors of the store are `adapters.ports.StoreError`; a refused condition is the package's
    `IntegrityError`, an append of nothing its `ProgrammingError`.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        # Least recently used first. Its lock is never held while anything is written.
        self._name_ids: OrderedDict[str, int] = OrderedDict()
        self._name_ids_lock = threading.Lock()
        self._type_names: dict[int, str] = {}

    def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return self._last_seal(self._file.query)[0]

    def digest(self) -> bytes:
        """32 bytes that stand for all events in their order, however they were batched."""
        return self._last_seal(self._file.query)[1]

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        """Append all events, on disk when this returns, or none of them.

        Returns:
            The position of the last one.

        Raises:
            IntegrityError: an event matches the condition.
            ProgrammingError: there is nothing to append.
            StoreError: the store could not keep them.
        """
        if not events:
            raise ProgrammingError("cannot append nothing: an append needs at least one event")
        with self._file.transaction() as connection:
            if condition is not None:
                self._refuse_if_matched(connection, condition)
            position, chain = self._last_seal(_selecting(connection))
            names = dict.fromkeys(concatenated.from_iterable((event.type, *event.tags) for event in events))
            ids = self._intern(connection, names)
            type_frames = {name: _encode(name) for name in {event.type for event in events}}
            event_rows = []
            tag_rows = []
            for event in events:
                position += 1
                tags = _encode(event.tags)
                chain = chained(chain, type_frames[event.type], tags, event.data)
                type_id = ids[event.type]
                event_rows.append((position, type_id, tags, event.data, chain[:LINK_BYTES]))
                for tag in dict.fromkeys(event.tags):
                    tag_rows.append((ids[tag], position, type_id))
            # In the order of the index, neighbours meet the same page.
            tag_rows.sort()
            connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", event_rows)
            connection.executemany("INSERT INTO event_tag VALUES (?, ?, ?)", tag_rows)
            connection.execute("INSERT INTO seal VALUES (?, ?)", (position, chain))
        # Only now: the ids of a transaction that was taken back must not be remembered.
        self._remember(ids)
        return int(position)

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> "SQLiteReadResponse":
        """Events that match, in order, up to the head at the time of the call; read from disk page by page.

        Raises:
            StoreError: the store cannot be read; also later, while reading on.
        """
        upto = self.head()
        events = self._events(query, after or 0, upto, limit)
        if limit is None:
            return SQLiteReadResponse(events, upto or None, is_limited=False)
        return SQLiteReadResponse(events, None, is_limited=True)

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> "SQLiteSubscription":
        """Events that match, in order, then those to come, from this and from other processes."""
        return SQLiteSubscription(self, self._file, query, after)

    def verify(self) -> Iterator[Problem]:
        """Read everything again; name, for every stretch appended at once, the first event that does not fit.

        Finds flipped bits, and events that were dropped, swapped, inserted or are not found by their tags.
        """
        yield from self._file.verify()
        try:
            yield from self._verify_events()
        except UNREADABLE as error:
            yield Problem("ledger", None, f"could not be read to its end: {error}")

    def page(self, query: DCBQuery | None, after: int, upto: int, limit: int) -> list[DCBSequencedEvent]:
        """At most `limit` events that match, in order, of the positions `after` < position <= `upto`."""
        searches = _searches(query, _select_ids(self._file.query, _names(query)))
        if searches == [_EVERYTHING]:
            where, parameters = (
                "position > ? AND position <= ? ORDER BY position LIMIT ?",
                [after, upto, limit],
            )
        else:
            positions: set[int] = set()
            for sql, own in searches:
                positions.update(row[0] for row in self._file.query(sql, (after, upto, limit, *own)))
            parameters = sorted(positions)[:limit]
            where = f"position IN ({_marks(parameters)}) ORDER BY position"
        return self._sequenced(self._file.query(f"{_EVENT_COLUMNS} WHERE {where}", parameters))

    def _events(self, query: DCBQuery | None, after: int, upto: int, limit: int | None) -> Iterator[DCBSequencedEvent]:
        largest = SEARCH_PAGE_EVENTS if query is not None and query.items else PAGE_EVENTS
        wanted = upto if limit is None else limit
        while wanted > 0:
            size = min(largest, wanted)
            page = self.page(query, after, upto, size)
            yield from page
            if len(page) < size:
                return
            wanted -= len(page)
            after = page[-1].position

    def _sequenced(self, rows: list[Row]) -> list[DCBSequencedEvent]:
        names = self._type_names
        for type_id in {row[1] for row in rows} - names.keys():
            found = self._file.query("SELECT name FROM name WHERE id = ?", (type_id,))
            if not found:
                raise LedgerDamaged(f"the ledger {self._file.path} has no name for event type {type_id}")
            names[type_id] = found[0][0]
        try:
            return [
                DCBSequencedEvent(DCBEvent(names[type_id], data, _decode_tags(tags)), position)
                for position, type_id, tags, data in rows
            ]
        except msgspec.DecodeError as error:
            raise LedgerDamaged(f"the ledger {self._file.path} has tags that cannot be read: {error}") from error

    def _refuse_if_matched(self, connection: Connection, condition: DCBAppendCondition) -> None:
        query = condition.fail_if_events_match
        after = condition.after or 0
        for sql, own in _searches(query, self._known_ids(connection, _names(query))):
            row = connection.execute(sql, (after, LAST_POSITION, 1, *own)).fetchone()
            if row is not None:
                raise IntegrityError(
                    f"append refused: the event at position {row[0]} came after position {after}"
                    f" and matches the condition {query}"
                )

    def _last_seal(self, select: _Select) -> tuple[int, bytes]:
        rows = select("SELECT position, chain FROM seal ORDER BY position DESC LIMIT 1", ())
        if not rows:
            return 0, GENESIS
        position, chain = rows[0]
        if not isinstance(chain, bytes):
            raise LedgerDamaged(f"the ledger {self._file.path}: the seal at {position} is damaged; verify it")
        return position, chain

    def _known_ids(self, connection: Connection, names: Collection[str]) -> dict[str, int]:
        ids = {name: id for name in names if (id := self._name_ids.get(name)) is not None}
        unknown = [name for name in names if name not in ids]
        return ids | _select_ids(_selecting(connection), unknown)

    def _intern(self, connection: Connection, names: Collection[str]) -> dict[str, int]:
        """The ids of all these names; new ones are written, but not yet remembered."""
        ids = self._known_ids(connection, names)
        if len(ids) < len(names):
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM name").fetchone()
            new = {name: last + i for i, name in enumerate((name for name in names if name not in ids), 1)}
            connection.executemany("INSERT INTO name VALUES (?, ?)", [(id, name) for name, id in new.items()])
            ids |= new
        return ids

    def _remember(self, ids: Mapping[str, int]) -> None:
        with self._name_ids_lock:
            for name, id in ids.items():
                self._name_ids[name] = id
                self._name_ids.move_to_end(name)
            while len(self._name_ids) > CACHED_NAMES:
                self._name_ids.popitem(last=False)

    def _verify_events(self) -> Iterator[Problem]:
        sealed_upto = self.head()
        last = 0
        chain: bytes | None = GENESIS  # None after a problem, until a seal says it again
        sealed = True
        indexed = 0
        sound = True
        while True:
            rows = self._file.query(
                "SELECT event.position, event.type, name.name, event.tags, event.data, event.link, seal.chain"
                " FROM event LEFT JOIN name ON name.id = event.type"
                " LEFT JOIN seal ON seal.position = event.position"
                " WHERE event.position > ? ORDER BY event.position LIMIT ?",
                (last, PAGE_EVENTS),
            )
            fitting: list[tuple[int, int, list[str]]] = []
            for position, type_id, type_name, tags, data, link, seal in rows:
                reason = None
                if position <= last:
                    yield Problem("ledger", position, f"comes behind {last}: the table is out of order")
                    return
                if position != last + 1:
                    missing = f"{last + 1}" if position == last + 2 else f"{last + 1} to {position - 1}"
                    yield Problem("ledger", last + 1, f"missing: {missing} dropped before {position}")
                    sound, chain = False, None
                elif chain is not None:
                    chain, reason = _next_chain(chain, type_name, tags, data, link)
                    if reason is None and seal is not None and seal != chain:
                        reason = "the seal of its append does not fit it and all before it"
                    if reason is not None:
                        yield Problem("ledger", position, reason)
                        sound = False
                    else:
                        fitting.append((position, type_id, list(dict.fromkeys(_decode_tags(tags)))))
                if chain is None and seal is not None:
                    chain = seal
                last, sealed = position, seal is not None
            for position, tag in self._not_indexed(fitting):
                yield Problem("ledger", position, f"not found by its tag {tag!r}: the index of tags does not fit")
                sound = False
            indexed += sum(len(tags) for _, _, tags in fitting)
            if len(rows) < PAGE_EVENTS:
                break
        if last < sealed_upto:
            yield Problem("ledger", last + 1, f"missing: dropped, the log was sealed up to {sealed_upto}")
        elif not sealed and chain is not None:
            yield Problem("ledger", last, "no append ended here: the last events were inserted or a seal dropped")
        elif sound:
            # Where an event is damaged already, what the index has for it says nothing more.
            ((held,),) = self._file.query("SELECT count(*) FROM event_tag WHERE position <= ?", (last,))
            if held != indexed:
                yield Problem("ledger", None, f"the index of tags has {held} rows where the events have {indexed}")

    def _not_indexed(self, events: list[tuple[int, int, list[str]]]) -> Iterator[tuple[int, str]]:
        """The (position, tag) pairs of these (position, type, tags) that the index does not have."""
        ids = _select_ids(self._file.query, {tag for _, _, tags in events for tag in tags})
        wanted = [(position, tag, type_id) for position, type_id, tags in events for tag in tags]
        for start in range(0, len(wanted), SEARCH_PAGE_EVENTS // 2):
            some = wanted[start : start + SEARCH_PAGE_EVENTS // 2]
            pairs = [number for position, tag, _ in some for number in (ids.get(tag, 0), position)]
            held = set(
                self._file.query(
                    f"WITH pair (tag, position) AS (VALUES {', '.join(['(?, ?)'] * len(some))})"
                    " SELECT event_tag.tag, event_tag.position, event_tag.type FROM pair CROSS JOIN event_tag"
                    " ON event_tag.tag = pair.tag AND event_tag.position = pair.position",
                    pairs,
                )
            )
            for position, tag, type_id in some:
                if (ids.get(tag), position, type_id) not in held:
                    yield position, tag


class SQLiteReadResponse(DCBReadResponse):
    """Events read page by page. `head` is where the next read may go on.

    Without a limit that is the last position there was; with one, that of the last event given, or
    None: to say so before the end, the rest of the events is read ahead.
    """

    def __init__(self, events: Iterator[DCBSequencedEvent], head: int | None, *, is_limited: bool) -> None:
        self._events = events
        self._head = head
        self._is_limited = is_limited

    @property
    def head(self) -> int | None:
        if self._is_limited:
            ahead = list(self._events)
            self._events = iter(ahead)
            if ahead:
                self._head = ahead[-1].position
        return self._head

    def __next__(self) -> DCBSequencedEvent:
        event = next(self._events)
        if self._is_limited:
            self._head = event.position
        return event


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
        page = self._recorder.page(self._query, self._last_position, upto, SEARCH_PAGE_EVENTS)
        self._page.extend(page)
        # What does not match need not be looked at again.
        self._last_position = page[-1].position if len(page) == SEARCH_PAGE_EVENTS else upto

    def _wait(self, changes: int) -> None:
        while not self._changed.wait(POLL_SECONDS):
            if self._file.changes() != changes:
                return


def _next_chain(
    chain: bytes, type_name: str | None, tags: object, data: object, link: object
) -> tuple[bytes | None, str | None]:
    """The chain at an event, or the reason why it is not what was appended."""
    if type_name is None or not isinstance(tags, bytes) or not isinstance(data, bytes):
        return None, "its type, tags or data are not what an append writes"
    following = chained(chain, _encode(type_name), tags, data)
    if following[:LINK_BYTES] != link:
        return None, "does not fit the chain: it, or its place, is not what was appended"
    return following, None


def _names(query: DCBQuery | None) -> set[str]:
    items = query.items if query is not None else []
    return {name for item in items for name in (*item.types, *item.tags)}


def _searches(query: DCBQuery | None, ids: Mapping[str, int]) -> list[_Search]:
    """The searches that together find what matches, given the ids of all names that any event ever had."""
    if query is None or not query.items:
        return [_EVERYTHING]
    searches: list[_Search] = []
    for item in query.items:
        if not item.types and not item.tags:
            return [_EVERYTHING]
        types = [ids[name] for name in dict.fromkeys(item.types) if name in ids]
        tags = [ids[name] for name in dict.fromkeys(item.tags) if name in ids]
        if (item.types and not types) or len(tags) < len(set(item.tags)):
            continue
        if tags:
            searches.append(_search_by_tags(tags, types))
        else:
            searches.extend((_BY_TYPE, [type_id]) for type_id in types)
    return searches


def _search_by_tags(tags: list[int], types: list[int]) -> _Search:
    """Walk the index of the first tag, and ask about the others at every step: the rarest tag goes first."""
    first, *others = tags
    sql = "SELECT position FROM event_tag AS walked WHERE tag = ?4 AND position > ?1 AND position <= ?2"
    if types:
        sql += f" AND type IN ({_marks(types)})"
    if others:
        sql += (
            f" AND (SELECT count(*) FROM event_tag AS asked WHERE asked.tag IN ({_marks(others)})"
            f" AND asked.position = walked.position) = {len(others)}"
        )
    return f"{sql} ORDER BY position LIMIT ?3", [first, *types, *others]


def _select_ids(select: _Select, names: Iterable[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    wanted = list(names)
    for start in range(0, len(wanted), SEARCH_PAGE_EVENTS):
        some = wanted[start : start + SEARCH_PAGE_EVENTS]
        ids.update(select(f"SELECT name, id FROM name WHERE name IN ({_marks(some)})", some))
    return ids


def _selecting(connection: Connection) -> _Select:
    return lambda sql, parameters: connection.execute(sql, parameters).fetchall()


def _marks(parameters: Collection[object]) -> str:
    return ", ".join("?" * len(parameters))
