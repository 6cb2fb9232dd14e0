"""Everything that the live engine holds, as it was at some moments: `LEDGER.snapshots`, beside the ledger.

From the newest a daemon goes on when it starts, without folding the log; from an older one, when records come late. The
older they are the fewer of them are kept. The file follows from journal and ledger: a snapshot that does not fit the ledger
is not believed, and without one everything is folded from the beginning. `live.py` writes and asks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import domain
import projections
from adapters import reading_codec
from adapters.disposable import begun, code_of, opened
from adapters.ledger import Ledger
from adapters.ports import Recorder, StoreError
from projections.reading import Reading

VERSION: Final = 1
NEWEST_KEPT: Final = 8
"""So many of the newest are all kept; of those before them about four for each doubling of their age."""

_TABLES = """CREATE TABLE snapshot (
    number INTEGER PRIMARY KEY, rules BLOB, seal BLOB, position INTEGER, place INTEGER, records INTEGER, fed INTEGER,
    checksum BLOB, content BLOB
)"""
_COLUMNS: Final = "number, rules, seal, position, place, records, fed"


class Snapshot(NamedTuple):
    """What was folded at a place of the ledger, and what waited then."""

    position: int
    place: int
    runs: list[tuple[int, int]]
    """How places and positions go together up to there, as in `Ledger`."""
    records: int
    """Up to which number the journal's records had come."""
    fed: int
    """Before which time, in microseconds since 1970, a record is too late for it."""
    reading: Reading
    last_time: int
    window: tuple[Any, ...]


class Snapshots:
    """Those of one ledger. Nothing here fails because of their file: then there are none."""

    def __init__(self, path: Path, recorder: Recorder) -> None:
        self.path = path
        self._recorder = recorder

    def keep(self, snapshot: Snapshot) -> None:
        """Add one, and drop some of the old. The ledger ends at its position."""
        content, _ = reading_codec.packed((snapshot.reading, snapshot.last_time, snapshot.runs, snapshot.window))
        seal = self._seal(snapshot.position)
        if seal is None:
            return
        with suppress(sqlite3.Error, OSError), self._opened("rwc") as connection, begun(connection):
            (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM snapshot").fetchone()
            said = (number, rules(), seal, snapshot.position, snapshot.place, snapshot.records, snapshot.fed)
            connection.execute(
                "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*said, _checksum(said, content), content)
            )
            numbers = [one for (one,) in connection.execute("SELECT number FROM snapshot ORDER BY number DESC")]
            connection.executemany("DELETE FROM snapshot WHERE number = ?", [(one,) for one in _dropped(numbers)])

    def newest(self, ledger: Ledger, before: int | None = None, upto: int | None = None) -> Snapshot | None:
        """The newest that fits the ledger; with `before`, that a record of that time is not too late for.

        With `upto`, of those that stand at or below that position.
        """
        try:
            with self._opened("ro") as connection:
                rows = connection.execute(
                    f"SELECT {_COLUMNS}, checksum FROM snapshot"
                    " WHERE (?1 IS NULL OR fed < ?1) AND (?2 IS NULL OR position <= ?2) ORDER BY number DESC",
                    (before, upto),
                ).fetchall()
                for *said, checksum in rows:
                    number, its_rules, seal, position, place, records, fed = said
                    if its_rules != rules() or position > ledger.head or seal != self._seal(position):
                        continue
                    if position and not ledger.keeps(position):
                        continue
                    (content,) = connection.execute(
                        "SELECT content FROM snapshot WHERE number = ?", (number,)
                    ).fetchone()
                    if checksum != _checksum(tuple(said), content):
                        continue
                    with suppress(StoreError):
                        reading, last_time, runs, window = reading_codec.unpacked(content)
                        return Snapshot(position, place, runs, records, fed, reading, last_time, window)
        except (sqlite3.Error, OSError, ValueError, TypeError):
            return None
        return None

    def drop_behind(self, position: int) -> None:
        """Those of a generation that was superseded behind that position are of no use."""
        with suppress(sqlite3.Error, OSError), self._opened("rw") as connection:
            connection.execute("DELETE FROM snapshot WHERE position > ?", (position,))

    def _seal(self, position: int) -> bytes | None:
        seal = self._recorder.seal(position)
        return seal.digest if seal is not None else None

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        with closing(opened(self.path, mode)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if mode == "rwc" and version != VERSION:
                connection.execute("DROP TABLE IF EXISTS snapshot")
                connection.execute(_TABLES)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            yield connection


def _dropped(numbers: list[int]) -> list[int]:
    """Of numbers from the newest to the oldest, those that need not be kept."""
    # What is kept at an age divides by what is asked of it at every lower age: it has not been dropped before.
    return [
        number
        for number in numbers[NEWEST_KEPT:]
        if number % (1 << max((numbers[0] - number) // 4, 1).bit_length() - 1)
    ]


def _checksum(said: tuple[Any, ...], content: bytes) -> bytes:
    return blake2b(repr(said).encode() + content, digest_size=16).digest()


@cache
def rules() -> bytes:
    """16 bytes that stand for how this netledger decides and judges."""
    return code_of(VERSION, domain, projections)
