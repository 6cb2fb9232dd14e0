"""The ledger in PostgreSQL: the `eventsourcing` package's own recorder, in the schema that `postgres_server.py` opens.

Its tables, its statements for reading and its function for appending are used; many events at once go into the same
tables by COPY. What is added: every append takes the lock that the package takes for some conditions only, so that
positions are given in the order of the commits and the events of one append stand side by side (without it a reader may
see 5 before 4 is there, and never see 4); any query, where the package answers three kinds; reading in pages; text with
U+0000; and a seal for every append, in its transaction.

Positions rise, and may skip: PostgreSQL gives a number once, also where the append that took it was taken back, and a
server that was killed goes on up to 32 further. A seal says which positions an append has, and binds each event to all
before it by a hash chain; `verify` walks it. What came in is kept by `postgres_journal.py`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final

import msgspec
import psycopg
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBQueryItem,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.dcb.postgres_tt import PostgresDCBRecorderTT
from eventsourcing.persistence import IntegrityError, ProgrammingError
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from adapters.ports import Problem, Recorder, Seal, StoreError
from adapters.stores.postgres_server import PostgresSchema, restored, rows, storable, tags_table
from adapters.stores.read_response import ReadResponse

# Up to here COPY is no quicker than the package's function; of 1000 it is more than twice as quick.
COPIED_EVENTS: Final = 10
PAGE_EVENTS: Final = 1000
# The package's search by tags finds all that is left before it gives a page: a long read takes larger ones, up to this.
LARGEST_PAGE_EVENTS: Final = 8000
FOLLOWED_EVENTS: Final = 500
# How often one that waits looks whether it was stopped, and, where a server cannot tell it of news, for news.
POLL_SECONDS: Final = 0.1
CHAIN_BYTES: Final = 32
LINK_BYTES: Final = 8
GENESIS: Final = bytes(CHAIN_BYTES)
INDEX_PROBLEMS: Final = 20

_COPY_EVENTS: Final = SQL("COPY {schema}.{events_table} (id, type, data, tags) FROM STDIN (FORMAT BINARY)")
_COPY_TAGS: Final = SQL("COPY {schema}.{tags_table} (tag, main_id) FROM STDIN (FORMAT BINARY)")

_encode = msgspec.msgpack.Encoder().encode


def chained(previous: bytes, position: int, event: DCBEvent) -> bytes:
    """The chain at an event: 32 bytes over the chain before it, its place and what it says.

    Position, type and tags come as MessagePack, which says where it ends; the data is the rest.
    """
    framed = b"".join((previous, _encode(position), _encode(event.type), _encode(event.tags), event.data))
    return blake2b(framed, digest_size=CHAIN_BYTES).digest()


class PostgresRecorder(PostgresDCBRecorderTT, Recorder):
    """Events in a PostgreSQL schema; safe to use from several threads.

    Errors of the store are `adapters.ports.StoreError`; a refused condition is the package's
    `IntegrityError`, an append of nothing its `ProgrammingError`.
    """

    def __init__(self, schema: PostgresSchema) -> None:
        self._schema = schema
        # It asks the server for its types.
        schema.read(lambda _: PostgresDCBRecorderTT.__init__(self, schema.datastore, events_table_name=schema.name))
        sequence = f"{schema.name}.{self.events_table_name}_id_seq"
        self._take_positions = f"SELECT setval('{sequence}', nextval('{sequence}') + %s)"
        self._copy_events = self.format(_COPY_EVENTS)
        self._copy_tags = self.format(_COPY_TAGS)
        self._notify = self.format(SQL("NOTIFY {channel}"))

    def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return self._schema.read(self._head)

    def seal(self, position: int) -> Seal | None:
        """The hash chain at a position at which an append ended; `None` where none ended there."""
        if position == 0:
            return Seal(0, GENESIS)
        found = self._schema.query("SELECT chain FROM seal WHERE last = %s", (position,))
        return Seal(position, bytes(found[0][0])) if found else None

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        """Append all events, on disk when this returns, or none of them; their positions follow one another.

        Returns:
            The position of the last one.

        Raises:
            IntegrityError: an event matches the condition.
            ProgrammingError: there is nothing to append.
            StoreError: the store could not keep them.
        """
        if not events:
            raise ProgrammingError("cannot append nothing: an append needs at least one event")
        return self._schema.write(lambda connection: self._append(connection, events, condition))

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> ReadResponse:
        """Events that match, in order, up to the head at the time of the call; read from the server page by page.

        Raises:
            StoreError: the store cannot be read; also later, while reading on.
        """
        upto = self.head()
        events = self._events(query, after or 0, upto, limit)
        return ReadResponse(events, (upto or None) if limit is None else None, is_limited=limit is not None)

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> PostgresSubscription:  # type: ignore[override]
        """Events that match, in order, then those to come, from this and from other processes."""
        return PostgresSubscription(self, self._schema, query, after)

    def between(self, query: DCBQuery | None, after: int, upto: int) -> Iterator[DCBSequencedEvent]:
        """Events that match, in order, of the positions `after` < position <= `upto`."""
        return self._events(query, after, upto, None)

    def page(self, query: DCBQuery | None, after: int, upto: int, limit: int) -> list[DCBSequencedEvent]:
        """At most `limit` events that match, in order, of the positions `after` < position <= `upto`."""
        return self._schema.read(lambda connection: self._page(connection, query, after, upto, limit))

    def verify(self) -> Iterator[Problem]:
        """Read everything again; name, for every stretch appended at once, the first event that does not fit.

        Finds flipped bits, and events that were dropped, swapped, inserted or are not found by their tags.
        """
        try:
            yield from self._verify_events()
            yield from self._verify_tags()
        except (StoreError, TypeError, ValueError) as error:
            yield Problem("ledger", None, f"could not be read to its end: {error}")

    # ---- appending

    def _append(
        self, connection: Connection[DictRow], events: Sequence[DCBEvent], condition: DCBAppendCondition | None
    ) -> int:
        if condition is not None:
            after = condition.after or 0
            found = self._page(connection, condition.fail_if_events_match, after, None, 1)
            if found:
                raise IntegrityError(
                    f"append refused: the event at position {found[0].position} came after position {after}"
                    f" and matches the condition {condition.fail_if_events_match}"
                )
        seals = rows(connection, "SELECT chain FROM seal ORDER BY last DESC LIMIT 1")
        chain = bytes(seals[0][0]) if seals else GENESIS
        if len(events) < COPIED_EVENTS:
            stored = self.construct_psycopg_dcb_events([_storable(event) for event in events])
            last = self._unconditional_append(connection.cursor(), stored)
        else:
            last = self._copy(connection, events)
        first = last - len(events) + 1
        links = []
        for position, event in enumerate(events, first):
            chain = chained(chain, position, event)
            links.append(chain[:LINK_BYTES])
        connection.execute("INSERT INTO seal VALUES (%s, %s, %s, %s)", (last, first, chain, b"".join(links)))
        return last

    def _copy(self, connection: Connection[DictRow], events: Sequence[DCBEvent]) -> int:
        """What the package's function does for many events, with COPY: several times as fast, and of any size.

        The numbers are the table's own, taken at once; nobody else takes any while the table is locked.
        """
        ((last,),) = rows(connection, self._take_positions, (len(events) - 1,))
        first = int(last) - len(events) + 1
        tag_rows: list[tuple[str, int]] = []
        with connection.cursor().copy(self._copy_events) as copy:
            copy.set_types(("int8", "text", "bytea", "text[]"))
            for position, event in enumerate(events, first):
                tags = [storable(tag) for tag in event.tags]
                copy.write_row((position, storable(event.type), event.data, tags))
                tag_rows += [(tag, position) for tag in tags]
        # In the order of the index, neighbours meet the same page.
        tag_rows.sort()
        with connection.cursor().copy(self._copy_tags) as copy:
            copy.set_types(("text", "int8"))
            for row in tag_rows:
                copy.write_row(row)
        # As the package's function does, for those that listen.
        connection.execute(self._notify)
        return int(last)

    # ---- reading

    def _head(self, connection: Connection[DictRow]) -> int:
        found = connection.execute(self.sql_select_max_id).fetchone()
        return int(found["max"] or 0) if found else 0

    def _page(
        self, connection: Connection[DictRow], query: DCBQuery | None, after: int, upto: int | None, limit: int
    ) -> list[DCBSequencedEvent]:
        found: dict[int, DCBSequencedEvent] = {}
        for part in _parts(query):
            for event in self._found(connection, part, after, limit):
                found[event.position] = event
        ordered = sorted(position for position in found if upto is None or position <= upto)
        return [_restored(found[position]) for position in ordered[:limit]]

    def _found(
        self, connection: Connection[DictRow], part: DCBQuery | None, after: int, limit: int
    ) -> Iterator[DCBSequencedEvent]:
        """The first `limit` events that match a query of a kind that the package answers, or all where there are fewer."""
        while limit > 0:
            events, _ = self._read(connection.cursor(), part, after=after, limit=limit, return_head=False)
            yield from events
            # The package counts an event once for each item it matches, so of several items fewer need not be all.
            if part is None or len(part.items) == 1 or not events:
                return
            limit -= len(events)
            after = events[-1].position

    def _events(self, query: DCBQuery | None, after: int, upto: int, limit: int | None) -> Iterator[DCBSequencedEvent]:
        wanted = upto if limit is None else limit
        size = PAGE_EVENTS
        while wanted > 0:
            asked = min(size, wanted)
            page = self.page(query, after, upto, asked)
            yield from page
            if len(page) < asked:
                return
            wanted -= len(page)
            after = page[-1].position
            if query is not None and query.items:
                size = min(size * 2, LARGEST_PAGE_EVENTS)

    # ---- verifying

    def _verify_events(self) -> Iterator[Problem]:
        sealed_upto = 0
        chain: bytes | None = GENESIS  # None after a problem, until a seal says it again
        upto = self.head()
        while seals := self._schema.query(
            "SELECT first, last, chain, links FROM seal WHERE last > %s ORDER BY last LIMIT 100", (sealed_upto,)
        ):
            for first, last, sealed, links in seals:
                if first <= sealed_upto:
                    yield Problem("ledger", first, f"the seal of {first} to {last} overlaps the one before")
                    chain = None
                yield from self._unsealed(sealed_upto, first - 1)
                if len(links) != (last - first + 1) * LINK_BYTES:
                    yield Problem("ledger", first, f"the seal of {first} to {last} is not what an append writes")
                    chain = None
                else:
                    chain, problem = self._followed(chain, first, last, bytes(links))
                    if problem is None and chain is not None and chain != sealed:
                        problem = Problem("ledger", last, "the seal of its append does not fit it and all before it")
                    if problem is not None:
                        yield problem
                chain = bytes(sealed)
                sealed_upto = last
        yield from self._unsealed(sealed_upto, upto)

    def _followed(
        self, chain: bytes | None, first: int, last: int, links: bytes
    ) -> tuple[bytes | None, Problem | None]:
        """The chain behind the events of one append, or the first of them that does not fit."""
        position = first - 1
        while position < last:
            page = self.page(None, position, last, PAGE_EVENTS)
            for found in page:
                if found.position != position + 1:
                    break
                position += 1
                if chain is None:
                    continue
                chain = chained(chain, position, found.event)
                start = (position - first) * LINK_BYTES
                if chain[:LINK_BYTES] != links[start : start + LINK_BYTES]:
                    reason = "does not fit the chain: it, or its place, is not what was appended"
                    return None, Problem("ledger", position, reason)
            if not page or page[-1].position != position:
                told = "" if position + 1 == last else f", of the append of {first} to {last}"
                return None, Problem("ledger", position + 1, f"missing: dropped{told}")
        return chain, None

    def _unsealed(self, after: int, upto: int) -> Iterator[Problem]:
        """The first event of a stretch that should hold none."""
        if after < upto:
            for found in self.page(None, after, upto, 1):
                reason = "no append of ours put it there: it was inserted, or its seal was dropped"
                yield Problem("ledger", found.position, reason)

    def _verify_tags(self) -> Iterator[Problem]:
        names = {
            "events": Identifier(self._schema.name, self.events_table_name),
            "tags": Identifier(self._schema.name, tags_table(self._schema.name)),
        }
        sql = SQL(_TAGS_THAT_DIFFER).format(**names).as_string()
        for position, tag, is_missing in self._schema.query(sql, (INDEX_PROBLEMS,)):
            if is_missing:
                yield Problem("ledger", position, f"not found by its tag {restored(tag)!r}: the index of tags lacks it")
            else:
                yield Problem(
                    "ledger", position, f"the index of tags has {restored(tag)!r} for it, and it has no such tag"
                )


_TAGS_THAT_DIFFER: Final = """
WITH wanted AS (SELECT id, unnest(tags) AS tag FROM {events}), held AS (SELECT main_id AS id, tag FROM {tags})
(SELECT id, tag, true FROM (SELECT * FROM wanted EXCEPT ALL SELECT * FROM held) AS missing
UNION ALL SELECT id, tag, false FROM (SELECT * FROM held EXCEPT ALL SELECT * FROM wanted) AS foreign_rows)
ORDER BY 1, 2 LIMIT %s
"""


class PostgresSubscription(DCBSubscription[PostgresRecorder]):
    """Events as they come. The server tells of an append at once, whichever process made it (LISTEN, NOTIFY).

    A server that restarts is waited for, and the subscription goes on where it was. It ends when it is stopped or its
    ledger is closed. One thread may wait in it while another stops it.
    """

    def __init__(
        self, recorder: PostgresRecorder, schema: PostgresSchema, query: DCBQuery | None, after: int | None
    ) -> None:
        super().__init__(recorder, query, after)
        self._schema = schema
        self._page: deque[DCBSequencedEvent] = deque()
        self._ear: Connection[DictRow] | None = None

    def __exit__(self, *args: object, **kwargs: object) -> None:
        super().__exit__(*args, **kwargs)
        self._stop_listening()

    def __next__(self) -> DCBSequencedEvent:
        while not (self._has_been_stopped or self._schema.closed):
            if self._page:
                return self._page.popleft()
            try:
                self._read_on()
                if not self._page:
                    self._wait()
            except StoreError:
                if not self._schema.closed:
                    self._stop_listening()
                    raise
        self._stop_listening()
        raise StopIteration

    def _read_on(self) -> None:
        upto = self._recorder.head()
        if upto <= self._last_position:
            return
        page = self._recorder.page(self._query, self._last_position, upto, FOLLOWED_EVENTS)
        self._page.extend(page)
        # What does not match need not be looked at again.
        self._last_position = page[-1].position if len(page) == FOLLOWED_EVENTS else upto

    def _wait(self) -> None:
        """Wait a moment for news. What came before it listened is read before it waits."""
        try:
            if self._ear is None:
                self._ear = self._schema.datastore.connect()
                self._ear.execute(SQL("LISTEN {}").format(Identifier(self._recorder.channel_name)))
                return
            for _ in self._ear.notifies(timeout=POLL_SECONDS, stop_after=1):
                pass
        except psycopg.Error:
            # Lost, or a standby, which cannot tell: look again soon.
            self._stop_listening()
            time.sleep(POLL_SECONDS)

    def _stop_listening(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            with suppress(psycopg.Error):
                ear.close()


def _parts(query: DCBQuery | None) -> list[DCBQuery | None]:
    """Queries that the package answers, which find together what this one does: everything, by tags, by one type."""
    if query is None or not query.items:
        return [None]
    by_tags: list[DCBQueryItem] = []
    types: dict[str, None] = {}
    for item in query.items:
        if item.tags:
            by_tags.append(DCBQueryItem(types=_unique(item.types), tags=_unique(item.tags)))
        elif item.types:
            types.update(dict.fromkeys(_unique(item.types)))
        else:
            return [None]
    parts: list[DCBQuery | None] = [DCBQuery([DCBQueryItem(types=[name])]) for name in types]
    return [DCBQuery(by_tags), *parts] if by_tags else parts


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(storable, names)))


def _storable(event: DCBEvent) -> DCBEvent:
    return DCBEvent(storable(event.type), event.data, [storable(tag) for tag in event.tags])


def _restored(found: DCBSequencedEvent) -> DCBSequencedEvent:
    event = found.event
    return DCBSequencedEvent(
        DCBEvent(restored(event.type), event.data, [restored(tag) for tag in event.tags]), found.position
    )
