"""One SQLite file that holds a ledger and a journal: opening it, one writer at a time, readers beside it.

The tables are all here, so that what is in the file can be read on one page. What goes into them is
`sqlite_recorder.py` (events, the ledger) and `sqlite_journal.py` (records, the journal).

One writer a file: it holds an operating system lock on `PATH.lock`, which ends with the process however
the process ends; inside stands who holds it. Readers are never blocked: the file is in WAL mode, and every
read is one short statement, so that the write-ahead log can be folded back into the file at any time.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from adapters.ports import (
    LedgerDamaged,
    LedgerLocked,
    LedgerMissing,
    LedgerReadOnly,
    Mode,
    NewerLedger,
    NotALedger,
    OlderLedger,
    Problem,
    StoreError,
    StoreFull,
)
from adapters.stores import holder

APPLICATION_ID: Final = 0x6E6C6467  # "nldg", in the file's header
SCHEMA_VERSION: Final = 2
BUSY_TIMEOUT_SECONDS: Final = 5.0
WRITER_CACHE_KIB: Final = 4 * 1024
READER_CACHE_KIB: Final = 4 * 1024
IDLE_READERS: Final = 4
# A checkpoint writes every changed page of the indexes once: rarer ones write the same page less often.
CHECKPOINT_PAGES: Final = 1000
WAL_KEPT_BYTES: Final = 64 * 1024 * 1024
COPIED_BYTES: Final = 1024 * 1024

_SCHEMA: Final = """
-- The ledger, in blocks that are never written again, but for those that are pruned.
CREATE TABLE event_block (
    first INTEGER PRIMARY KEY,     -- position of its first event: 1, or the one behind the block before
    events INTEGER NOT NULL,       -- how many
    number INTEGER NOT NULL,       -- of the block, from 1
    root BLOB NOT NULL,            -- of the hash tree over its events
    trees BLOB NOT NULL,           -- the block's own hash, then the roots of the trees over blocks that it completes
    content BLOB NOT NULL,
    original BLOB                  -- of a pruned block: the hash of the content that it had
);
-- One row where old events were dropped: up to which position, and what all events up to there add up to.
CREATE TABLE base (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL,
    kept BLOB NOT NULL,            -- hash over the blocks up to there
    content BLOB NOT NULL,
    checksum BLOB NOT NULL         -- over the other columns
);
-- One row: the last position, the number of blocks, the root of the hash tree over them.
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    digest BLOB NOT NULL
);
-- Which blocks hold a type or a tag. It follows from the blocks.
CREATE TABLE posting_run (
    id INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    after INTEGER NOT NULL,        -- it stands for the blocks of the positions behind this one
    upto INTEGER NOT NULL,         -- up to this one
    postings INTEGER NOT NULL,
    checksum BLOB NOT NULL         -- over its pages and the other columns
);
CREATE TABLE posting_page (
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,        -- its first posting
    content BLOB NOT NULL,         -- zstd of sorted 64-bit integers
    PRIMARY KEY (run, first)
) WITHOUT ROWID;

-- The journal.
CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    summary BLOB NOT NULL,
    checksum BLOB NOT NULL,        -- over the other columns
    UNIQUE (path, format)
);
CREATE TABLE journal_block (
    number INTEGER PRIMARY KEY,    -- of its first record; from 1, without gaps
    records INTEGER NOT NULL,
    source INTEGER NOT NULL,
    identities INTEGER NOT NULL,   -- sum over the rows of its records in journal_identity
    checksum BLOB NOT NULL,        -- over the other columns
    content BLOB NOT NULL          -- zstd of a MessagePack array of [line, identity, fingerprint, payload], or [heads]
);
CREATE TABLE journal_identity (
    identity INTEGER PRIMARY KEY,  -- 63 bits of BLAKE2b
    fingerprint INTEGER NOT NULL,  -- its first 63 bits
    source INTEGER NOT NULL,
    line INTEGER NOT NULL
);
CREATE TABLE journal_aside (
    id INTEGER PRIMARY KEY,        -- from 1, without gaps
    source INTEGER NOT NULL,
    line INTEGER NOT NULL,
    reason TEXT NOT NULL,
    excerpt BLOB NOT NULL,
    size INTEGER NOT NULL,
    checksum BLOB NOT NULL,        -- over the other columns; finds the same input kept aside before
    UNIQUE (source, line, checksum)
);
"""

# SQLite quotes what it found in a damaged file, and that need not be text.
_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)

# What else reading on can meet in a damaged file: a value of a kind that nothing ever wrote there.
UNREADABLE: Final = (StoreError, TypeError, ValueError, OverflowError)

Row = tuple[Any, ...]


class SQLiteFile:
    """A ledger file, open for one writer or for reading; a context manager that closes it.

    Any number of threads may use it: writers take turns, readers do not wait for them.

    `durable=False` is for a throw-away file that is made, used and deleted by one process: nothing is
    waited for, and a crash of the machine may leave it unreadable.

    Raises:
        LedgerMissing: nothing to read there, or no directory to make it in.
        NotALedger: a directory, another kind of file, another program's database.
        NewerLedger: made by a later version.
        LedgerLocked: another writer has it open; the message says who.
        LedgerReadOnly: it, or its directory, may not be written.
        StoreError: anything else that the operating system or SQLite says against it.
    """

    def __init__(self, path: str | Path, mode: Mode = "write", *, durable: bool = True) -> None:
        # One file, one lock, whatever link it was reached by.
        self.path = Path(path).resolve()
        self.mode = mode
        self._durable = durable
        self._closed = False
        self._write_lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._listeners: set[threading.Event] = set()
        self._lock_descriptor: int | None = None
        self._parameters = "mode=rwc" if mode == "write" else "mode=ro"

        self._refuse_impossible_place()
        if mode == "write":
            self._lock_descriptor = _take_lock(self.path)
        try:
            self._open()
        except _ERRORS as error:
            self.close()
            raise self._explained(error, "open it") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the file and let go of it. Subscriptions end. Closing twice is fine."""
        with self._write_lock, self._watch_lock:
            self._closed = True
            connections = [self._watcher, *self._idle_readers, self._writer]
            self._watcher = self._writer = None
            self._idle_readers.clear()
            for connection in connections:
                if connection is not None:
                    with suppress(sqlite3.Error):
                        connection.close()
            if self._lock_descriptor is not None:
                _release_lock(self._lock_descriptor)
                self._lock_descriptor = None
        self._wake()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it is on disk when the block ends, or nothing of it.

        Threads take turns. Not to be nested.

        Raises:
            StoreFull, LedgerReadOnly, LedgerDamaged, StoreError: nothing of the block was kept.
        """
        with self._write_lock:
            connection = self._writing_connection()
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        with suppress(sqlite3.Error):
                            connection.execute("ROLLBACK")
                    raise
            except _ERRORS as error:
                raise self._explained(error, "write to it") from error
        self._wake()

    def compact(self) -> None:
        """Write the file anew without the room that nothing uses, for which it takes as much again for so long.

        Raises:
            StoreFull, StoreError: it is as it was.
        """
        with self._write_lock:
            connection = self._writing_connection()
            try:
                connection.execute("VACUUM")
                if self._durable:
                    # What was dropped must not stay in the log either. It does where somebody reads it just now.
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except _ERRORS as error:
                raise self._explained(error, "give the space back") from error

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of one short read: a page, not a table.

        Raises:
            LedgerDamaged, StoreError: it could not be read.
        """
        try:
            if not self._durable and self.mode == "write":
                # A throw-away file has no write-ahead log: a reader of its own would wait for the writer.
                with self._write_lock:
                    return self._writing_connection().execute(sql, parameters).fetchall()
            with self._reader() as connection:
                return connection.execute(sql, parameters).fetchall()
        except _ERRORS as error:
            raise self._explained(error, "read it") from error

    def changes(self) -> int:
        """A number that is another one after another process has written."""
        if not self._durable and self.mode == "write":
            return 0
        with self._watch_lock:
            self._refuse_when_closed()
            try:
                if self._watcher is None:
                    self._watcher = self._connect(READER_CACHE_KIB)
                # Counted for each connection, so it must always be the same one.
                version: int = self._watcher.execute("PRAGMA data_version").fetchone()[0]
            except _ERRORS as error:
                raise self._explained(error, "read it") from error
            return version

    def listen(self, listener: threading.Event) -> None:
        """Set `listener` after every write of this process, and when the file is closed."""
        self._listeners.add(listener)

    def unlisten(self, listener: threading.Event) -> None:
        """Wake `listener` no more."""
        self._listeners.discard(listener)

    def verify(self) -> Iterator[Problem]:
        """SQLite's own check of its pages and indexes: the one long read; it does not hold up the writer."""
        try:
            for (line,) in self.query("PRAGMA integrity_check(20)"):
                if line != "ok":
                    yield Problem("file", None, f"SQLite's integrity_check says: {line}")
        except StoreError as error:
            yield Problem("file", None, str(error))

    def _wake(self) -> None:
        for listener in list(self._listeners):
            listener.set()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StoreError(f"the ledger {self.path} was closed before this call; open it again")

    def _writing_connection(self) -> sqlite3.Connection:
        self._refuse_when_closed()
        if self._writer is None:
            raise LedgerReadOnly(f"cannot write to the ledger {self.path}: it was opened for reading")
        return self._writer

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        self._refuse_when_closed()
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = self._connect(READER_CACHE_KIB)
        try:
            yield connection
        finally:
            if len(self._idle_readers) < IDLE_READERS and not self._closed:
                self._idle_readers.append(connection)
            else:
                connection.close()

    def _refuse_impossible_place(self) -> None:
        """Say plainly what SQLite would call "unable to open database file".

        The file itself is left to SQLite: to open and close it here would drop the locks that other
        connections of this process hold on it, as POSIX has it.
        """
        try:
            if self.path.is_dir():
                raise NotALedger(f"{self.path} is a directory, not a ledger; name a file in it")
            exists = self.path.exists()
        except OSError as error:
            raise StoreError(f"cannot look at the ledger {self.path}: {error.strerror}") from error
        if not exists and self.mode == "read":
            raise LedgerMissing(f"there is no ledger at {self.path}; nothing to read")
        if not exists and not self.path.parent.is_dir():
            raise LedgerMissing(f"cannot make the ledger {self.path}: there is no directory {self.path.parent}")
        if exists and not os.access(self.path, os.R_OK, effective_ids=True):
            raise StoreError(f"cannot read the ledger {self.path}: permission denied")
        if exists and self.mode == "write" and not os.access(self.path, os.W_OK, effective_ids=True):
            raise LedgerReadOnly(
                f"cannot write the ledger {self.path}: permission denied; allow it, or open it for reading"
            )

    def _open(self) -> None:
        if self.mode == "read":
            self._open_for_reading()
            return
        self._writer = connection = self._connect(WRITER_CACHE_KIB)
        is_new = self._refuse_foreign_or_newer(connection)
        if not self._durable and not is_new:
            raise StoreError(f"{self.path} exists: a throw-away ledger must be a new file; open it with durable=True")
        if self._durable:
            # Not before: the log of another program's database is not ours to touch.
            self._write_log_again()
        connection.execute(f"PRAGMA journal_mode = {'WAL' if self._durable else 'MEMORY'}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        if is_new:
            # One transaction: after a crash the file is either a ledger or still an empty database.
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
            if self._durable:
                synchronise_directory(self.path.parent)

    def _write_log_again(self) -> None:
        """Put on the disk what a writer that did not end well left in the write-ahead log.

        SQLite would take every commit that it reads there for durable. One that was written and never waited for is not;
        and where the wait failed, the system keeps it in memory, calls it written, and no later wait writes it. So it is
        written once more, byte for byte, and waited for. A writer that ends well leaves a log only where somebody reads.
        """
        log = _beside(self.path, "-wal")
        try:
            descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise LedgerReadOnly(
                f"cannot write the ledger {self.path}: its log {log.name} cannot be opened: {error.strerror};"
                " allow writing to it, or open the ledger for reading"
            ) from error
        try:
            place = 0
            while some := os.pread(descriptor, COPIED_BYTES, place):
                place += os.pwrite(descriptor, some, place)
            os.fsync(descriptor)
        except OSError as error:
            raise StoreError(
                f"cannot open the ledger {self.path}: its log {log.name} cannot be written: {error.strerror};"
                " it was left as it is; see to the disk, then try again"
            ) from error
        finally:
            os.close(descriptor)

    def _open_for_reading(self) -> None:
        try:
            self._open_reader()
        except sqlite3.OperationalError:
            # A reader of a write-ahead log needs a file beside it. Where it may not make one and there is
            # no such log, nobody is writing, and the file can be read as it lies (a read-only copy).
            may_make_files = os.access(self.path.parent, os.W_OK, effective_ids=True)
            if may_make_files or _beside(self.path, "-wal").exists():
                raise
            self._parameters = "mode=ro&immutable=1"
            self._open_reader()

    def _open_reader(self) -> None:
        connection = self._connect(READER_CACHE_KIB)
        self._idle_readers.append(connection)
        if self._refuse_foreign_or_newer(connection):
            raise NotALedger(f"{self.path} is not a netledger ledger: it is empty")

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?{self._parameters}",
            uri=True,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _refuse_foreign_or_newer(self, connection: sqlite3.Connection) -> bool:
        """Whether the database is still empty; nothing was written to it yet."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and version == 0 and tables == 0:
            return True
        if application != APPLICATION_ID:
            raise NotALedger(
                f"{self.path} is not a netledger ledger but another program's database; it was left as it is"
            )
        if version < SCHEMA_VERSION:
            raise OlderLedger(f"{self.path} has ledger version {version}; this netledger writes {SCHEMA_VERSION}")
        if version > SCHEMA_VERSION:
            raise NewerLedger(
                f"{self.path} has ledger version {version}; this netledger knows version {SCHEMA_VERSION};"
                " use the netledger that made it, or a later one"
            )
        # SQLite believes what a damaged table definition says, and then answers wrongly without a word.
        if connection.execute(_DEFINITIONS).fetchall() != _definitions():
            raise LedgerDamaged(
                f"{self.path} is damaged: its tables are not defined as netledger defined them;"
                " restore a copy, or replay the sources"
            )
        return False

    def _explained(self, error: sqlite3.Error | UnicodeDecodeError, attempt: str) -> StoreError:
        """What SQLite's error means for an operator."""
        told = f"cannot {attempt} (ledger {self.path}): {error}"
        code = getattr(error, "sqlite_errorcode", 0)
        if isinstance(error, UnicodeDecodeError):
            code = sqlite3.SQLITE_CORRUPT
        # The low byte is the kind of failure, the rest its variety.
        match code & 0xFF:
            case sqlite3.SQLITE_FULL:
                return StoreFull(f"{told}; nothing of this write was kept; make room, then try again")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_CONSTRAINT:
                return LedgerDamaged(f"{told}; verify it to learn where; restore a copy, or replay the sources")
            case sqlite3.SQLITE_NOTADB:
                return NotALedger(f"{self.path} is not a netledger ledger ({error}); it was left as it is")
            case sqlite3.SQLITE_READONLY:
                return LedgerReadOnly(f"{told}; allow writing to the file and its directory")
            case sqlite3.SQLITE_BUSY:
                waited = f"waited {BUSY_TIMEOUT_SECONDS:.0f} s"
                return StoreError(f"{told} ({waited}); another program holds the file; try again")
            case _:
                return StoreError(told)


_DEFINITIONS: Final = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


@cache
def _definitions() -> list[Row]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return connection.execute(_DEFINITIONS).fetchall()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def synchronise_directory(directory: Path) -> None:
    """Without it a new file's name may be gone after a power failure, though its content was waited for."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the one writer of the ledger at `path`, without opening it. Raises `LedgerLocked`, `LedgerReadOnly`."""
    descriptor = _take_lock(path.resolve())
    try:
        yield
    finally:
        _release_lock(descriptor)


def _release_lock(descriptor: int) -> None:
    # The lock file stays: to remove it would race with the next writer, who may have it open.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _take_lock(path: Path) -> int:
    """The descriptor that holds the lock on `PATH.lock`; the lock ends when it is closed."""
    lock = _beside(path, ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerReadOnly(
            f"cannot write the ledger {path}: its lock file {lock.name} cannot be opened: {error.strerror};"
            " allow writing to the directory, or open the ledger for reading"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        writer = holder.told(os.pread(descriptor, 4096, 0))
        os.close(descriptor)
        raise LedgerLocked(
            f"cannot open the ledger {path} for writing: {writer} is writing it;"
            " stop that one, or open the ledger for reading"
        ) from error
    except OSError as error:
        os.close(descriptor)
        told = f"cannot lock {lock}: {error.strerror}; keep the ledger on a local file system"
        raise StoreError(told) from error
    # The note is only for messages: a full disk must not stop an open that needs no room.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.note().encode(), 0)
    return descriptor
