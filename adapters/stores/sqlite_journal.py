"""The journal: records as they were received, in the file that `sqlite_file.py` opens.

Records lie in compressed blocks (`journal_block.py`), one or a few a commit. Beside them stands one small row an
identity, which is how the same record is told when it comes again, and how a record's file and line are found; a block
says what those of its records add up to, so that SQLite can tell by itself whether a bit of them has changed. What is
decided from records goes to `sqlite_recorder.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from sqlite3 import Connection
from typing import Final

import msgspec
import zstandard

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
from adapters.stores.journal_block import Stored, checksum
from adapters.stores.sqlite_file import UNREADABLE, Row, SQLiteFile

LOOKUP_ROWS: Final = 500

_Stored = tuple[int, str, bytes, bytes | list[bytes]]
"""A `Stored` record; of one that was pruned its heads stand where its payload stood, in a list."""

_encode = msgspec.msgpack.Encoder().encode
_decode_block = msgspec.msgpack.Decoder(list[_Stored]).decode


class SQLiteJournal:
    """A `Journal` in an SQLite file; safe to use from several threads."""

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file

    def source(self, path: str, format: str) -> int:
        known = self._file.query("SELECT id FROM source WHERE path = ? AND format = ?", (path, format))
        if known:
            return int(known[0][0])
        with self._file.transaction() as connection:
            # Between looking and now another thread may have made it.
            found = connection.execute("SELECT id FROM source WHERE path = ? AND format = ?", (path, format))
            if row := found.fetchone():
                return int(row[0])
            (id,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM source").fetchone()
            columns = (id, path, format, b"")
            connection.execute("INSERT INTO source VALUES (?, ?, ?, ?, ?)", (*columns, checksum(*columns)))
        return int(id)

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        keys = [_key(record.identity) for record in records]
        with self._file.transaction() as connection:
            named = connection.execute("SELECT path, format FROM source WHERE id = ?", (source,)).fetchone()
            if named is None:
                raise StoreError(f"cannot commit: the journal has no source {source}; ask source() for one first")
            connection.execute(
                "UPDATE source SET summary = ?, checksum = ? WHERE id = ?",
                (summary, checksum(source, *named, summary), source),
            )
            known = {row[0]: row[1:] for row in _identities(connection, sorted(set(keys)))}
            new: dict[int, tuple[int, int, int]] = {}
            fresh: list[Stored] = []
            accepted: list[bool] = []
            collisions: list[Aside] = []
            for key, record in zip(keys, records, strict=True):
                before = known.get(key) or new.get(key)
                fingerprint = _number(record.fingerprint)
                accepted.append(before is None)
                if before is None:
                    new[key] = (fingerprint, source, record.line)
                    fresh.append((record.line, record.identity, record.fingerprint, record.payload))
                elif before[0] != fingerprint:
                    collisions.append(collided(record, _path(connection, before[1]), before[2]))
            # In the order of the index, neighbours meet the same page.
            connection.executemany(
                "INSERT INTO journal_identity VALUES (?, ?, ?, ?)", [(key, *new[key]) for key in sorted(new)]
            )
            _keep_blocks(connection, source, fresh)
            _keep_aside(connection, source, [*aside, *collisions])
        return Receipt(accepted, accepted.count(False) - len(collisions), len(collisions))

    def read(self, after: int = 0) -> Iterator[Entry]:
        # The head is asked for at the call, not when the first entry is taken.
        return self._read(max(after, 0), self.head())

    def sources(self) -> list[Source]:
        return [Source(*row) for row in self._file.query("SELECT id, path, format, summary FROM source ORDER BY id")]

    def locate(self, identities: Iterable[str]) -> dict[str, tuple[str, int]]:
        by_key = {_key(identity): identity for identity in identities}
        keys = sorted(by_key)
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(keys), LOOKUP_ROWS):
            some = keys[start : start + LOOKUP_ROWS]
            rows = self._file.query(
                "SELECT journal_identity.identity, source.path, journal_identity.line"
                " FROM journal_identity JOIN source ON source.id = journal_identity.source"
                f" WHERE journal_identity.identity IN ({_marks(some)})",
                some,
            )
            found.update((by_key[key], (path, line)) for key, path, line in rows)
        return found

    def kept_aside(self) -> Iterator[KeptAside]:
        last = 0
        while rows := self._file.query(
            "SELECT journal_aside.id, source.path, line, reason, excerpt, size"
            " FROM journal_aside JOIN source ON source.id = journal_aside.source"
            " WHERE journal_aside.id > ? ORDER BY journal_aside.id LIMIT ?",
            (last, LOOKUP_ROWS),
        ):
            for id, *columns in rows:
                if id <= last:
                    raise LedgerDamaged(f"the journal in {self._file.path} is out of order; verify it")
                yield KeptAside(*columns)
                last = id

    def head(self) -> int:
        rows = self._file.query("SELECT number, records FROM journal_block ORDER BY number DESC LIMIT 1")
        if not rows:
            return 0
        number, records = rows[0]
        if not isinstance(records, int):
            raise LedgerDamaged(f"the journal in {self._file.path}: block {number} is damaged; verify it")
        return int(number + records - 1)

    def verify(self) -> Iterator[Problem]:
        try:
            yield from self._verify_blocks()
            yield from self._verify_sources()
            yield from self._verify_aside()
        except UNREADABLE as error:
            yield Problem("journal", None, f"could not be read to its end: {error}")

    def _read(self, after: int, head: int) -> Iterator[Entry]:
        inflate = zstandard.ZstdDecompressor().decompress
        while after < head:
            # The block that holds the next entry is the last one that does not begin behind it.
            rows = self._file.query(f"{_BLOCKS} WHERE number <= ? ORDER BY number DESC LIMIT 1", (after + 1,))
            stored = _opened(rows[0], inflate) if rows else []
            if isinstance(stored, str):
                raise LedgerDamaged(f"the journal in {self._file.path}: block {rows[0][0]}: {stored}; verify it")
            if not rows or not rows[0][0] <= after + 1 < rows[0][0] + len(stored):
                raise LedgerDamaged(f"the journal in {self._file.path} has lost entry {after + 1}; verify it")
            number, _, source, *_ = rows[0]
            for line, identity, fingerprint, payload in stored[after + 1 - number :]:
                after += 1
                if isinstance(payload, bytes):
                    yield Entry(after, source, line, identity, payload, fingerprint)
                else:
                    yield Entry(after, source, line, identity, b"", fingerprint, payload[0])

    def _verify_blocks(self) -> Iterator[Problem]:
        previous = 0
        expected: int | None = 1  # None behind a block that is damaged, and cannot say what it held
        held = 0
        sound = True
        while rows := self._file.query(f"{_BLOCKS} WHERE number > ? ORDER BY number LIMIT 16", (previous,)):
            for row in rows:
                number, records, _, identities, *_ = row
                if number <= previous:
                    yield Problem("journal", number, f"comes behind {previous}: the table is out of order")
                    return
                if expected is not None and number != expected:
                    sound = False
                    yield Problem("journal", expected, f"missing: the next block begins with entry {number}")
                previous = number
                if (reason := _unfit(row)) is not None:
                    sound, expected = False, None
                    yield Problem("journal", number, reason)
                else:
                    expected = number + records
                    held += identities
        # SQLite adds them up without handing them over: to compare them one by one would take longer than all the rest.
        ((known,),) = self._file.query(f"SELECT coalesce(sum({_IDENTITY_SUM}), 0) FROM journal_identity")
        if sound and known != held:
            yield from self._wrong_identities()

    def _wrong_identities(self) -> Iterator[Problem]:
        """Which rows of the index of identities do not fit their records: each is asked for."""
        after, found, records = 0, 0, self.head()
        inflate = zstandard.ZstdDecompressor().decompress
        while after < records:
            (row,) = self._file.query(f"{_BLOCKS} WHERE number > ? ORDER BY number LIMIT 1", (after,))
            stored = _opened(row, inflate)
            if isinstance(stored, str):
                yield Problem("journal", row[0], stored)
                return
            for offset, reason in self._not_identified(row[2], stored):
                found += 1
                yield Problem("journal", row[0] + offset, reason)
            after = row[0] + len(stored) - 1
        if not found:
            ((identities,),) = self._file.query("SELECT count(*) FROM journal_identity")
            reason = f"{identities} identities are known, and the blocks hold {records} records"
            yield Problem("journal", None, reason)

    def _not_identified(self, source: int, stored: Sequence[_Stored]) -> Iterator[tuple[int, str]]:
        for start in range(0, len(stored), LOOKUP_ROWS):
            some = stored[start : start + LOOKUP_ROWS]
            keys = [_key(identity) for _, identity, _, _ in some]
            rows = self._file.query(f"{_IDENTITIES} IN ({_marks(keys)})", keys)
            known = {row[0]: row[1:] for row in rows}
            for offset, (line, identity, fingerprint, _) in enumerate(some, start):
                held = known.get(keys[offset - start])
                if held is None:
                    yield offset, f"the index of identities does not have {identity}"
                elif held != (_number(fingerprint), source, line):
                    yield (
                        offset,
                        f"the index of identities has another fingerprint, source or line for {identity}",
                    )

    def _verify_sources(self) -> Iterator[Problem]:
        for *columns, sum in self._file.query("SELECT id, path, format, summary, checksum FROM source"):
            if sum != checksum(*columns):
                yield Problem("journal", None, f"source {columns[0]} ({columns[1]}) is not what was written")

    def _verify_aside(self) -> Iterator[Problem]:
        last = 0
        while rows := self._file.query(
            "SELECT id, source, line, reason, excerpt, size, checksum FROM journal_aside"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (last, LOOKUP_ROWS),
        ):
            for id, source, line, reason, excerpt, size, sum in rows:
                if id != last + 1:
                    yield Problem("journal", None, f"missing: what was kept aside as number {last + 1}")
                if id <= last:
                    return
                if sum != checksum(source, line, reason, excerpt, size):
                    yield Problem("journal", None, f"what was kept aside as number {id} is not what was written")
                last = id


def prune(connection: Connection, remains: Callable[[Entry], bytes | None]) -> None:
    """Within a transaction: drop the payloads of the records of which something `remains`. Raises `LedgerDamaged`."""
    inflate = zstandard.ZstdDecompressor().decompress
    deflate = zstandard.ZstdCompressor(level=journal_block.COMPRESSION_LEVEL).compress
    last = 0
    while row := connection.execute(f"{_BLOCKS} WHERE number > ? ORDER BY number LIMIT 1", (last,)).fetchone():
        last, count, source, identities, *_ = row
        stored = _opened(row, inflate)
        if isinstance(stored, str):
            raise LedgerDamaged(f"the journal's block {last} cannot be pruned: {stored}; verify the ledger")
        pruned: list[_Stored] = []
        for number, (line, identity, fingerprint, payload) in enumerate(stored, last):
            heads = None
            if isinstance(payload, bytes):
                heads = remains(Entry(number, source, line, identity, payload, fingerprint))
            pruned.append((line, identity, fingerprint, payload if heads is None else [heads]))
        if pruned != stored:
            content = deflate(_encode(pruned))
            connection.execute(
                "UPDATE journal_block SET checksum = ?, content = ? WHERE number = ?",
                (checksum(last, count, source, identities, content), content, last),
            )


_BLOCKS: Final = "SELECT number, records, source, identities, checksum, content FROM journal_block"
_IDENTITY_SUM: Final = "identity % 2147483647 + fingerprint % 2147483629 + source + line"
_IDENTITIES: Final = "SELECT identity, fingerprint, source, line FROM journal_identity WHERE identity"


def _identities(connection: Connection, keys: Sequence[int]) -> Iterator[Row]:
    for start in range(0, len(keys), LOOKUP_ROWS):
        some = keys[start : start + LOOKUP_ROWS]
        yield from connection.execute(f"{_IDENTITIES} IN ({_marks(some)})", some)


def _path(connection: Connection, source: int) -> str:
    (path,) = connection.execute("SELECT path FROM source WHERE id = ?", (source,)).fetchone()
    return str(path)


def _keep_blocks(connection: Connection, source: int, records: Sequence[Stored]) -> None:
    rows = connection.execute("SELECT number + records FROM journal_block ORDER BY number DESC LIMIT 1")
    (number,) = rows.fetchone() or (1,)
    deflate = journal_block.deflater()
    for block in journal_block.divided(records):
        content = deflate(block)
        identities = sum(
            _key(identity) % 2147483647 + _number(fingerprint) % 2147483629 + source + line
            for line, identity, fingerprint, _ in block
        )
        columns = (number, len(block), source, identities)
        connection.execute(
            "INSERT INTO journal_block VALUES (?, ?, ?, ?, ?, ?)", (*columns, checksum(*columns, content), content)
        )
        number += len(block)


def _keep_aside(connection: Connection, source: int, aside: Iterable[Aside]) -> None:
    rows = []
    for item in aside:
        columns = (source, item.line, item.reason, item.excerpt[:EXCERPT_BYTES], item.size)
        rows.append((*columns, checksum(*columns)))
    # The same file read again keeps the same input aside again.
    connection.executemany(
        "INSERT OR IGNORE INTO journal_aside (source, line, reason, excerpt, size, checksum) VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )


def _unfit(row: Row) -> str | None:
    *said, sum, content = row
    return journal_block.unfit(tuple(said), sum, content)


def _opened(row: Row, inflate: Callable[[bytes], bytes]) -> list[_Stored] | str:
    """The records of a block, or the reason why it is not what was written."""
    if (reason := _unfit(row)) is not None:
        return reason
    try:
        stored = _decode_block(inflate(row[-1]))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        return f"its content cannot be read: {error}"
    if len(stored) != row[1]:
        return f"it holds {len(stored)} records and says {row[1]}"
    return stored


def _key(identity: str) -> int:
    return _number(blake2b(identity.encode(), digest_size=8).digest())


def _number(eight: bytes) -> int:
    """8 bytes as an integer that SQLite can hold, without the last bit."""
    return int.from_bytes(eight[:8], "big") >> 1


def _marks(parameters: Sequence[object]) -> str:
    return ", ".join("?" * len(parameters))
