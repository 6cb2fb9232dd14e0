"""Ledger files of format 1, which kept a row an event: read, and made into files of today's format.

A file that is opened for writing is made anew beside the old one and takes its place in one step, so that a crash leaves one
or the other, whole. One that is opened for reading is left as it is: what is asked is asked of a copy that is thrown away.
`sqlite.py` comes here when `sqlite_file.py` says how old a file is; what is read goes through `adapters/transfer.py`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBReadResponse,
    DCBSequencedEvent,
    DCBSubscription,
)

from adapters.ports import (
    Aside,
    Entry,
    KeptAside,
    LedgerDamaged,
    LedgerReadOnly,
    Problem,
    Receipt,
    Record,
    Recorder,
    Seal,
    Source,
    StoreError,
)
from adapters.stores.read_response import ReadResponse
from adapters.stores.sqlite_file import SQLiteFile, locked, synchronise_directory
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder

SUFFIX: Final = ".upgrading"
_PAGE: Final = 1000
_TOLD: Final = "this ledger has format 1, and is only read"

_encode = msgspec.msgpack.Encoder().encode
_decode_tags = msgspec.msgpack.Decoder(list[str]).decode
_decode_block = msgspec.msgpack.Decoder(list[tuple[int, str, bytes, bytes]]).decode


def upgraded(path: Path) -> None:
    """Make the file at `path` one of today's format. Raises `StoreError`; the old file stays as it was then."""
    fresh = path.with_name(path.name + SUFFIX)
    with locked(path):
        _remove(fresh)
        try:
            with closing(_connected(path, "rw")) as old:
                with SQLiteFile(fresh) as new:
                    _copied(old, path, new)
                # The old file's write-ahead log goes away: it must not meet the new file.
                old.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            _remove(fresh)
            raise LedgerDamaged(
                f"the ledger {path} has format 1 and cannot be read to be made anew ({error}); it was left as it is; restore "
                "a copy, or replay the sources"
            ) from error
        except BaseException:
            _remove(fresh)
            raise
        fresh.replace(path)
        _remove(fresh)
        synchronise_directory(path.parent)


@contextmanager
def copied(path: Path, folder: Path) -> Iterator[Path]:
    """A copy of the file in today's format, in `folder`. Raises `StoreError`."""
    fresh = folder / path.name
    try:
        with closing(_connected(path, "ro")) as old, SQLiteFile(fresh, durable=False) as new:
            _copied(old, path, new)
    except sqlite3.Error as error:
        raise LedgerDamaged(f"the ledger {path} has format 1 and cannot be read: {error}") from error
    yield fresh


def _copied(old: sqlite3.Connection, path: Path, new: SQLiteFile) -> None:
    from adapters import transfer  # it knows stores by their ports, and is above them

    recorder, journal = _Recorder(old), _Journal(old)
    transfer.received(
        lambda: transfer.blocks(recorder, journal), SQLiteRecorder(new), SQLiteJournal(new), f"the ledger {path}"
    )


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    if mode == "ro" and not os.access(path.parent, os.W_OK, effective_ids=True):
        # A reader of a write-ahead log makes files beside it. Where it may not, and there is no log, nobody is writing.
        mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _remove(fresh: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        with suppress(FileNotFoundError):
            fresh.with_name(fresh.name + suffix).unlink()


class _Recorder(Recorder):
    """The events of a file of format 1. Reading checks the chain of hashes that it was kept with."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def head(self) -> int:
        ((head,),) = self._connection.execute("SELECT coalesce(max(position), 0) FROM seal")
        return int(head)

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> DCBReadResponse:
        if query is not None or limit is not None or after:
            raise StoreError(f"{_TOLD} from its beginning to its end")
        return ReadResponse(self._events(), self.head() or None, is_limited=False)

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        raise LedgerReadOnly(_TOLD)

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> DCBSubscription[Any]:
        raise StoreError(_TOLD)

    def seal(self, position: int) -> Seal | None:
        rows = self._connection.execute("SELECT chain FROM seal WHERE position = ?", (position,)).fetchall()
        return Seal(position, rows[0][0]) if rows else None

    def verify(self) -> Iterator[Problem]:
        try:
            for _ in self._events():
                pass
        except LedgerDamaged as error:
            yield Problem("ledger", None, str(error))

    def _events(self) -> Iterator[DCBSequencedEvent]:
        position, chain = 0, bytes(32)
        while rows := self._connection.execute(
            "SELECT event.position, name.name, event.tags, event.data, event.link, seal.chain"
            " FROM event LEFT JOIN name ON name.id = event.type LEFT JOIN seal ON seal.position = event.position"
            " WHERE event.position > ? ORDER BY event.position LIMIT ?",
            (position, _PAGE),
        ).fetchall():
            for own, type_name, tags, data, link, seal in rows:
                chain = blake2b(chain + _encode(type_name) + tags + data, digest_size=32).digest()
                if own != position + 1 or chain[:8] != link or seal not in (None, chain):
                    raise LedgerDamaged(
                        f"the event {own} of this ledger of format 1 is not what was appended; restore a copy, or replay the "
                        "sources"
                    )
                position = own
                yield DCBSequencedEvent(DCBEvent(type_name, data, _decode_tags(tags)), position)
        if position != self.head():
            raise LedgerDamaged(f"this ledger of format 1 ends at {position}, and was sealed up to {self.head()}")


class _Journal:
    """The records of a file of format 1."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def source(self, path: str, format: str) -> int:
        raise LedgerReadOnly(_TOLD)

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        raise LedgerReadOnly(_TOLD)

    def locate(self, identities: Iterable[str]) -> dict[str, tuple[str, int]]:
        raise StoreError(_TOLD)

    def sources(self) -> list[Source]:
        rows = self._connection.execute("SELECT id, path, format, summary FROM source ORDER BY id")
        return [Source(*row) for row in rows]

    def head(self) -> int:
        rows = self._connection.execute("SELECT number + records - 1 FROM journal_block ORDER BY number DESC LIMIT 1")
        return int((rows.fetchone() or (0,))[0])

    def read(self, after: int = 0) -> Iterator[Entry]:
        inflate = zstandard.ZstdDecompressor().decompress
        expected = 1
        for (number,) in self._connection.execute("SELECT number FROM journal_block ORDER BY number").fetchall():
            (row,) = self._connection.execute(
                "SELECT records, source, checksum, content FROM journal_block WHERE number = ?", (number,)
            )
            records, source, checksum, content = row
            if checksum != _checksum(number, records, source, content) or number != expected:
                raise LedgerDamaged(f"the block {number} of this journal of format 1 is not what was written")
            for place, (line, identity, fingerprint, payload) in enumerate(_decode_block(inflate(content)), number):
                if place > after:
                    yield Entry(place, source, line, identity, payload, fingerprint)
            expected = number + records

    def kept_aside(self) -> Iterator[KeptAside]:
        yield from (
            KeptAside(*row)
            for row in self._connection.execute(
                "SELECT source.path, line, reason, excerpt, size FROM journal_aside"
                " JOIN source ON source.id = journal_aside.source ORDER BY journal_aside.id"
            )
        )

    def verify(self) -> Iterator[Problem]:
        try:
            for _ in self.read():
                pass
        except LedgerDamaged as error:
            yield Problem("journal", None, str(error))


def _checksum(*columns: int | str | bytes) -> bytes:
    return blake2b(_encode(columns), digest_size=16).digest()
