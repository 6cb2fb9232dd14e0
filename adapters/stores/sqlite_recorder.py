"""The ledger: events appended to one ordered log, in the file that `sqlite_file.py` opens.

`SQLiteRecorder` is the `eventsourcing` package's `DCBRecorder`: an append may carry the condition that no
event of a query came after a position, and is refused if one did. Positions are given inside the
transaction that appends, so they have no gaps. A condition is an index seek, however long the log is.

Every event is bound to all before it by a hash chain; `verify` walks it and names the first event that is
not what was appended. What came in is kept by `sqlite_journal.py`.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain as concatenated
from sqlite3 import Connection
from typing import Final

import msgspec
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBReadResponse,
    DCBRecorder,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.persistence import IntegrityError, ProgrammingError

from adapters.ports import LedgerDamaged, Problem, StoreError
from adapters.stores.sqlite_file import Row, SQLiteFile

PAGE_EVENTS: Final = 1000
# Bound by the number of parameters of one statement, which is 999 in older builds of SQLite.
SEARCH_PAGE_EVENTS: Final = 500
CACHED_NAMES: Final = 100_000
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


def chained(previous: bytes, type_frame: bytes, tags_frame: bytes, data: bytes) -> bytes:
    """The chain at an event: 32 bytes over the chain before it and what it says.

    Type and tags come as MessagePack, which says where it ends; the data is the rest.
    """
    return blake2b(previous + type_frame + tags_frame + data, digest_size=CHAIN_BYTES).digest()


class SQLiteRecorder(DCBRecorder):
    """Events in an SQLite file; safe to use from several threads.

    Errors of the store are `adapters.ports.StoreError`; a refused condition is the package's
    `IntegrityError`, an append of nothing its `ProgrammingError`.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._name_ids: OrderedDict[str, int] = OrderedDict()
        self._type_names: dict[int, str] = {}

    def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        rows = self._file.query("SELECT position FROM seal ORDER BY position DESC LIMIT 1")
        return rows[0][0] if rows else 0

    def digest(self) -> bytes:
        """32 bytes that stand for all events in their order, however they were batched."""
        rows = self._file.query("SELECT chain FROM seal ORDER BY position DESC LIMIT 1")
        return rows[0][0] if rows else GENESIS

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
            rows = connection.execute("SELECT position, chain FROM seal ORDER BY position DESC LIMIT 1")
            position, chain = rows.fetchone() or (0, GENESIS)
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
        except StoreError as error:
            yield Problem("ledger", None, str(error))

    def page(self, query: DCBQuery | None, after: int, upto: int, limit: int) -> list[DCBSequencedEvent]:
        """At most `limit` events that match, of the positions `after` < position <= `upto`."""
        searches = self._searches(query, self._known_ids(query))
        if searches is None:
            rows = self._file.query(
                "SELECT position, type, tags, data FROM event"
                " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
                (after, upto, limit),
            )
            return self._sequenced(rows)
        positions: set[int] = set()
        for sql, parameters in searches:
            positions.update(row[0] for row in self._file.query(sql, (after, upto, limit, *parameters)))
        found = sorted(positions)[:limit]
        rows = self._file.query(
            f"SELECT position, type, tags, data FROM event WHERE position IN ({_marks(found)}) ORDER BY position",
            found,
        )
        return self._sequenced(rows)

    def _events(
        self, query: DCBQuery | None, after: int, upto: int, limit: int | None
    ) -> Iterator[DCBSequencedEvent]:
        size = SEARCH_PAGE_EVENTS if query is not None and query.items else PAGE_EVENTS
        wanted = upto if limit is None else limit
        while wanted > 0:
            page = self.page(query, after, upto, min(size, wanted))
            yield from page
            if len(page) < min(size, wanted):
                return
            wanted -= len(page)
            after = page[-1].position

    def _sequenced(self, rows: list[Row]) -> list[DCBSequencedEvent]:
        names = self._type_names
        for type_id in {row[1] for row in rows} - names.keys():
            found = self._file.query("SELECT name FROM name WHERE id = ?", (type_id,))
            if not found:
                raise LedgerDamaged(f"the ledger {self._file.path} names an event type {type_id} it does not hold")
            names[type_id] = found[0][0]
        try:
            return [
                DCBSequencedEvent(DCBEvent(names[type_id], data, _decode_tags(tags)), position)
                for position, type_id, tags, data in rows
            ]
        except msgspec.DecodeError as error:
            raise LedgerDamaged(f"the ledger {self._file.path} holds tags that cannot be read: {error}") from error

    def _known_ids(self, query: DCBQuery | None) -> dict[str, int]:
        items = query.items if query is not None else []
        names = {name for item in items for name in (*item.types, *item.tags)}
        return _select_ids(self._file.query, names)

    def _searches(self, query: DCBQuery | None, ids: Mapping[str, int]) -> list[_Search] | None:
        """The statements that together find what matches; None if everything does."""
        if query is None or not query.items:
            return None
        searches: list[_Search] = []
        for item in query.items:
            if not item.types and not item.tags:
                return None
            # A name that no event ever had matches nothing.
            types = [ids[name] for name in dict.fromkeys(item.types) if name in ids]
            tags = [ids[name] for name in dict.fromkeys(item.tags) if name in ids]
            if (item.types and not types) or len(tags) < len(set(item.tags)):
                continue
            if tags:
                searches.append(_search_by_tags(tags, types))
            else:
                searches.extend((_SEARCH_BY_TYPE, [type_id]) for type_id in types)
        return searches

    def _refuse_if_matched(self, connection: Connection, condition: DCBAppendCondition) -> None:
        query = condition.fail_if_events_match
        after = condition.after or 0
        names = {name for item in query.items for name in (*item.types, *item.tags)}
        ids = {name: self._name_ids[name] for name in names if name in self._name_ids}
        select = lambda sql, parameters: connection.execute(sql, parameters).fetchall()  # noqa: E731
        ids |= _select_ids(select, names - ids.keys())
        for sql, parameters in self._searches(query, ids) or (
            [(_SEARCH_ALL, [])] if self._searches(query, ids) is None else []
        ):
            row = connection.execute(sql, (after, LAST_POSITION, 1, *parameters)).fetchone()
            if row is not None:
                raise IntegrityError(
                    f"append refused: the event at position {row[0]} came after position {after}"
                    f" and matches the condition {query}"
                )

    def _intern(self, connection: Connection, names: Iterable[str]) -> dict[str, int]:
        """The ids of all these names; new ones are written, but not yet remembered."""
        ids: dict[str, int] = {}
        unknown = []
        for name in names:
            known = self._name_ids.get(name)
            if known is None:
                unknown.append(name)
            else:
                ids[name] = known
        if unknown:
            select = lambda sql, parameters: connection.execute(sql, parameters).fetchall()  # noqa: E731
            ids |= _select_ids(select, unknown)
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM name").fetchone()
            new = {name: last + 1 + i for i, name in enumerate(name for name in unknown if name not in ids)}
            connection.executemany("INSERT INTO name VALUES (?, ?)", [(id, name) for name, id in new.items()])
            ids |= new
        return ids

    def _remember(self, ids: Mapping[str, int]) -> None:
        self._name_ids.update(ids)
