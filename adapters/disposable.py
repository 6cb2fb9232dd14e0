"""A file beside the ledger that follows from it, in SQLite: nothing is lost with it, and so nothing may fail because of it.

What is in it need not be certain on the disk, for what a crash leaves torn is noticed and made again. `checkpoints.py`,
`trail_index.py` and `snapshots.py` keep theirs so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Final

BUSY_SECONDS: Final = 2.0


class Unusable(Exception):
    """What is in the file is not what was written into it."""


# SQLite quotes what it found in a damaged file, and that need not be text.
ERRORS: Final = (Unusable, sqlite3.Error, OSError, UnicodeDecodeError)
_SPARED: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PERM,
}
"""What SQLite says of a file in which nothing need be wrong."""


def opened(path: Path, mode: str) -> sqlite3.Connection:
    """The file, as SQLite's URI mode says: `ro`, `rw`, `rwc`. Raises SQLite's errors."""
    # Transactions are begun and ended here by name.
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        # A crash of the machine may lose the last of it, and what it leaves torn is noticed.
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def begun(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes, whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def code_of(version: int, *packages: ModuleType) -> bytes:
    """16 bytes that stand for the code of packages: what another code made of the same log may be something else."""
    digest = blake2b(b"%d" % version, digest_size=16)
    for package in packages:
        for path in sorted(Path(folder) for folder in package.__path__):
            for module in sorted(path.rglob("*.py")):
                digest.update(module.read_bytes())
    return digest.digest()


def is_damage(error: Exception) -> bool:
    """Whether it says that the file is not what was written, and not that it is in use, or may not be written."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, (Unusable, UnicodeDecodeError)) or (
        isinstance(error, sqlite3.Error) and (code is None or code & 0xFF not in _SPARED)
    )


def throw_away(path: Path) -> None:
    """The file goes; it is made again."""
    for name in (path, path.with_name(f"{path.name}-journal")):
        with suppress(OSError):
            name.unlink(missing_ok=True)
