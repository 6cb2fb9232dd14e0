"""A ledger and its journal in one SQLite file: what `backends.py` opens where an address is a path.

`sqlite_file.py` is the file, `sqlite_recorder.py` and `sqlite_journal.py` are the halves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.ports import Backend, Mode, OlderLedger
from adapters.stores.backends import path_of
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder


@contextmanager
def opened(address: str, mode: Mode, *, allow_volatile: bool = False) -> Iterator[Backend]:
    """The ledger file at an address. A file on disk forgets nothing, whatever is allowed. Raises what `SQLiteFile` does."""
    path = path_of(address)
    assert path is not None
    try:
        file = SQLiteFile(path, mode)
    except OlderLedger:
        with _made_anew(path, mode) as file:
            yield _backend(file)
        return
    with file:
        yield _backend(file)


@contextmanager
def _made_anew(path: Path, mode: Mode) -> Iterator[SQLiteFile]:
    from adapters.stores import sqlite_version_1

    if mode == "write":
        sqlite_version_1.upgraded(path)
        with SQLiteFile(path, mode) as file:
            yield file
        return
    with (
        tempfile.TemporaryDirectory(prefix="netledger-") as folder,
        sqlite_version_1.copied(path, Path(folder)) as fresh,
        SQLiteFile(fresh, mode) as file,
    ):
        yield file


@contextmanager
def thrown_away() -> Iterator[Backend]:
    """A store that is gone when the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix="netledger-") as folder,
        SQLiteFile(Path(folder) / "replay.ledger", durable=False) as file,
    ):
        yield _backend(file)


def _backend(file: SQLiteFile) -> Backend:
    return Backend(str(file.path), SQLiteRecorder(file), SQLiteJournal(file), file)
