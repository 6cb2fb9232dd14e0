"""The journal in PostgreSQL: records as they were received, in the schema that `postgres_server.py` opens.

Records lie in compressed blocks (`journal_block.py`), one or a few a commit. Beside them stands one small row an identity,
which is how the same record is told when it comes again, and how a record's file and line are found. What is decided from
records goes to `postgres_recorder.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import zstandard
from psycopg import Connection
from psycopg.rows import DictRow

from adapters.ports import (
    EXCERPT_BYTES,
    Aside,
    Entry,
    KeptAside,
    LedgerDamaged,
    Problem,
    Receipt,
    Record,
    Source,
    StoreError,
    collided,
)
from adapters.stores import journal_block
from adapters.stores.journal_block import Stored, checksum, key
from adapters.stores.postgres_server import PostgresSchema, restored, rows, storable

LOOKUP_ROWS: Final = 2000
ASIDE_ROWS: Final = 500

_BLOCK: Final = "SELECT number, records, source, checksum, content FROM journal_block"
_IDENTITIES: Final = "SELECT identity, fingerprint, source, line FROM journal_identity WHERE identity = ANY(%s)"


class PostgresJournal:
    """A `Journal` in a PostgreSQL schema; safe to use from several threads."""

    def __init__(self, schema: PostgresSchema) -> None:
        self._schema = schema

    def source(self, path: str, format: str) -> int:
        sum = checksum(path, format)
        known = self._schema.query("SELECT id FROM source WHERE key = %s", (sum,))
        return int(known[0][0]) if known else self._schema.write(lambda connection: _source(connection, path, format))

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        return self._schema.write(lambda connection: _commit(connection, source, records, aside, summary))

    def read(self, after: int = 0) -> Iterator[Entry]:
        # The head is asked for at the call, not when the first entry is taken.
        return self._read(max(after, 0), self.head())

    def sources(self) -> list[Source]:
        found = self._schema.query("SELECT id, path, format, summary FROM source ORDER BY id")
        return [Source(id, restored(path), restored(format), summary) for id, path, format, summary in found]

    def locate(self, identities: Iterable[str]) -> dict[str, tuple[str, int]]:
        by_key = {key(identity): identity for identity in identities}
        keys = sorted(by_key)
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(keys), LOOKUP_ROWS):
            some = self._schema.query(
                "SELECT identity, source.path, journal_identity.line FROM journal_identity"
                " JOIN source ON source.id = journal_identity.source WHERE identity = ANY(%s)",
                (keys[start : start + LOOKUP_ROWS],),
            )
            found.update((by_key[identity], (restored(path), line)) for identity, path, line in some)
        return found

    def kept_aside(self) -> Iterator[KeptAside]:
        last = 0
        while some := self._schema.query(
            "SELECT journal_aside.id, source.path, line, reason, excerpt, size"
            " FROM journal_aside JOIN source ON source.id = journal_aside.source"
            " WHERE journal_aside.id > %s ORDER BY journal_aside.id LIMIT %s",
            (last, ASIDE_ROWS),
        ):
            for _, path, line, reason, excerpt, size in some:
                yield KeptAside(restored(path), line, restored(reason), excerpt, size)
            last = some[-1][0]

    def head(self) -> int:
        found = self._schema.query("SELECT number + records - 1 FROM journal_block ORDER BY number DESC LIMIT 1")
        return int(found[0][0]) if found else 0

    def verify(self) -> Iterator[Problem]:
        try:
            yield from self._verify_blocks()
            yield from self._verify_sources()
            yield from self._verify_aside()
        except (StoreError, TypeError, ValueError) as error:
            yield Problem("journal", None, f"could not be read to its end: {error}")

    def _read(self, after: int, head: int) -> Iterator[Entry]:
        inflate = zstandard.ZstdDecompressor().decompress
        while after < head:
            # The block that holds the next entry is the last one that does not begin behind it.
            found = self._schema.query(f"{_BLOCK} WHERE number <= %s ORDER BY number DESC LIMIT 1", (after + 1,))
            stored = _opened(inflate, *found[0]) if found else []
            if isinstance(stored, str):
                raise LedgerDamaged(f"the journal in {self._schema.address}: block {found[0][0]}: {stored}; verify it")
            if not found or not found[0][0] <= after + 1 < found[0][0] + len(stored):
                raise LedgerDamaged(f"the journal in {self._schema.address} has lost entry {after + 1}; verify it")
            number, _, source, _, _ = found[0]
            for line, identity, fingerprint, payload in stored[after + 1 - number :]:
                after += 1
                yield Entry(after, source, line, identity, payload, fingerprint)

    def _verify_blocks(self) -> Iterator[Problem]:
        inflate = zstandard.ZstdDecompressor().decompress
        previous = 0
        expected: int | None = 1  # None behind a block that is damaged, and cannot say what it held
        sound = True
        while found := self._schema.query(f"{_BLOCK} WHERE number > %s ORDER BY number LIMIT 1", (previous,)):
            number, _, source, _, _ = found[0]
            if expected is not None and number != expected:
                sound = False
                yield Problem("journal", expected, f"missing: the next block begins with entry {number}")
            stored = _opened(inflate, *found[0])
            previous = number
            if isinstance(stored, str):
                sound, expected = False, None
                yield Problem("journal", number, stored)
            else:
                expected = number + len(stored)
                for offset, reason in self._not_identified(source, stored):
                    sound = False
                    yield Problem("journal", number + offset, reason)
        # A last block that is gone leaves the identities of its records behind.
        ((identities, records),) = self._schema.query(
            "SELECT (SELECT count(*) FROM journal_identity),"
            " (SELECT coalesce(sum(records), 0)::bigint FROM journal_block)"
        )
        if sound and identities != records:
            reason = f"{identities} identities are known, and the blocks hold {records} records"
            yield Problem("journal", None, reason)

    def _not_identified(self, source: int, stored: Sequence[Stored]) -> Iterator[tuple[int, str]]:
        keys = [key(identity) for _, identity, _, _ in stored]
        known = {row[0]: row[1:] for row in self._schema.query(_IDENTITIES, (keys,))}
        for offset, (line, identity, fingerprint, _) in enumerate(stored):
            held = known.get(keys[offset])
            if held is None:
                yield offset, f"the index of identities does not have {identity}"
            elif held != (fingerprint, source, line):
                yield offset, f"the index of identities has another fingerprint, source or line for {identity}"

    def _verify_sources(self) -> Iterator[Problem]:
        for id, path, format, summary, sum, by in self._schema.query(
            "SELECT id, path, format, summary, checksum, key FROM source ORDER BY id"
        ):
            named = (restored(path), restored(format))
            if sum != checksum(id, *named, summary) or by != checksum(*named):
                yield Problem("journal", None, f"source {id} ({path}) is not what was written")

    def _verify_aside(self) -> Iterator[Problem]:
        last = 0
        while some := self._schema.query(
            "SELECT id, source, line, reason, excerpt, size, checksum FROM journal_aside WHERE id > %s ORDER BY id LIMIT %s",
            (last, ASIDE_ROWS),
        ):
            for id, source, line, reason, excerpt, size, sum in some:
                if id != last + 1:
                    yield Problem("journal", None, f"missing: what was kept aside as number {last + 1}")
                if sum != checksum(source, line, restored(reason), excerpt, size):
                    yield Problem("journal", None, f"what was kept aside as number {id} is not what was written")
                last = id


def _source(connection: Connection[DictRow], path: str, format: str) -> int:
    # Between looking and now another thread may have made it.
    found = rows(connection, "SELECT id FROM source WHERE key = %s", (checksum(path, format),))
    if found:
        return int(found[0][0])
    ((id,),) = rows(connection, "SELECT coalesce(max(id), 0) + 1 FROM source")
    connection.execute(
        "INSERT INTO source VALUES (%s, %s, %s, %s, %s, %s)",
        (id, storable(path), storable(format), b"", checksum(id, path, format, b""), checksum(path, format)),
    )
    return int(id)


def _commit(
    connection: Connection[DictRow],
    source: int,
    records: Sequence[Record],
    aside: Sequence[Aside],
    summary: bytes,
) -> Receipt:
    paths = {id: (restored(path), restored(format)) for id, path, format in rows(connection, _SOURCES)}
    if source not in paths:
        raise StoreError(f"cannot commit: the journal has no source {source}; ask source() for one first")
    connection.execute(
        "UPDATE source SET summary = %s, checksum = %s WHERE id = %s",
        (summary, checksum(source, *paths[source], summary), source),
    )
    keys = [key(record.identity) for record in records]
    known = {row[0]: row[1:] for row in rows(connection, _IDENTITIES, (list(set(keys)),))}
    new: dict[bytes, tuple[bytes, int, int]] = {}
    fresh: list[Stored] = []
    accepted: list[bool] = []
    collisions: list[Aside] = []
    for identity, record in zip(keys, records, strict=True):
        before = known.get(identity) or new.get(identity)
        accepted.append(before is None)
        if before is None:
            new[identity] = (record.fingerprint, source, record.line)
            fresh.append((record.line, record.identity, record.fingerprint, record.payload))
        elif before[0] != record.fingerprint:
            collisions.append(collided(record, paths[before[1]][0], before[2]))
    if new:
        # In the order of the index, neighbours meet the same page.
        with connection.cursor().copy("COPY journal_identity FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(("bytea", "bytea", "int8", "int8"))
            for identity in sorted(new):
                copy.write_row((identity, *new[identity]))
    _keep_blocks(connection, source, fresh)
    _keep_aside(connection, source, [*aside, *collisions])
    return Receipt(accepted, accepted.count(False) - len(collisions), len(collisions))


def _opened(
    inflate: Callable[[bytes], bytes], number: int, records: int, source: int, sum: bytes, content: bytes
) -> list[Stored] | str:
    return journal_block.opened(inflate, (number, records, source), sum, content, records=records)


_SOURCES: Final = "SELECT id, path, format FROM source"


def _keep_blocks(connection: Connection[DictRow], source: int, records: Sequence[Stored]) -> None:
    ends = rows(connection, "SELECT number + records FROM journal_block ORDER BY number DESC LIMIT 1")
    number = ends[0][0] if ends else 1
    deflate = journal_block.deflater()
    for block in journal_block.divided(records):
        content = deflate(block)
        connection.execute(
            "INSERT INTO journal_block VALUES (%s, %s, %s, %s, %b)",
            (number, len(block), source, checksum(number, len(block), source, content), content),
        )
        number += len(block)


def _keep_aside(connection: Connection[DictRow], source: int, aside: Sequence[Aside]) -> None:
    if not aside:
        return
    ((last,),) = rows(connection, "SELECT coalesce(max(id), 0) FROM journal_aside")
    for item in aside:
        columns = (source, item.line, item.reason, item.excerpt[:EXCERPT_BYTES], item.size)
        # The same file read again keeps the same input aside again.
        kept = connection.execute(
            "INSERT INTO journal_aside VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (checksum) DO NOTHING",
            (last + 1, source, item.line, storable(item.reason), columns[3], item.size, checksum(*columns)),
        )
        last += kept.rowcount
