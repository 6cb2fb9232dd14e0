"""A disk that remembers what was asked of it, so that it can be seen as a power failure would have left it.

`Disk` stands, while it is entered, between the engine and its files: SQLite opens them through a VFS that writes down every
write, truncation, deletion and wait for the disk (`operations`), and can answer with an error instead (`fault`). The engine
is the real one, on the SQLite that `apsw` brings; only `sqlite3.connect`, `os.fsync` and `os.pwrite` are exchanged. `Platter`
walks along what was written down and gives, for any moment, the files as they may then be: what was waited for is there, of
the rest every sector may be or not be. What the engine promised until that moment is kept by `history.py`.
"""

import errno
import itertools
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NamedTuple, Self
from unittest import mock

import apsw

SECTOR_BYTES: Final = 512
NONE: Final[Mapping[str, object]] = {}

Fault = Literal["full", "short write", "write error", "sync error", "truncation error", "deletion error"]
"""`full` and `short write` are ENOSPC with nothing and with a part written, the rest is EIO."""

_CODES: Final[dict[str, int]] = {
    "full": apsw.SQLITE_FULL,
    "short write": apsw.SQLITE_FULL,
    "write error": apsw.SQLITE_IOERR_WRITE,
    "sync error": apsw.SQLITE_IOERR_FSYNC,
    "truncation error": apsw.SQLITE_IOERR_TRUNCATE,
    "deletion error": apsw.SQLITE_IOERR_DELETE,
}


class Write(NamedTuple):
    file: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: int
    size: int


class Sync(NamedTuple):
    """The file was waited for. Where that failed, what was unwritten may never be written: the system forgets it."""

    file: int
    failed: bool = False


class Name(NamedTuple):
    """From now on the name is that of this file, or of none."""

    name: str
    file: int | None


class SyncDirectory(NamedTuple):
    """All names were waited for."""


class Mark(NamedTuple):
    """What the engine's caller did or was told at this moment; `history.py` knows it."""

    said: Any


Operation = Write | Truncate | Sync | Name | SyncDirectory | Mark


class Disk:
    """What lies in one folder, used through SQLite; a context manager, one at a time.

    `pragmas` are set to other values than the engine sets them to: to make checkpoints frequent, or to break durability on
    purpose. Each must have been met when the disk is left, or the engine has changed.
    """

    _numbers = itertools.count(1)

    def __init__(self, folder: Path, *, pragmas: Mapping[str, object] = NONE) -> None:
        self.folder = folder
        self.operations: list[Operation] = []
        self.fault: Callable[[str, str], Fault | None] = lambda what, name: None
        """Asked before every `write`, `sync`, `truncate` and `delete` of the file of this name."""
        self._chance = Random(0)
        self._pragmas = pragmas
        self._unmet = set(pragmas)
        self._lock = threading.RLock()
        # What lay there before has been there for long. Shared memory and locks do not outlive a power failure.
        before = [
            path for path in sorted(folder.iterdir()) if path.suffix != ".lock" and not path.name.endswith("-shm")
        ]
        self.found = {path.name: path.read_bytes() for path in before}
        self._files: dict[str, int] = {name: number for number, name in enumerate(self.found)}
        self._next_file = len(self.found)
        self._vfs_name = f"netledger-disk-{next(self._numbers)}"

    def __enter__(self) -> Self:
        self._vfs = _Vfs(self, self._vfs_name)
        self._patches: list[Any] = [
            mock.patch("sqlite3.connect", self._connect(sqlite3.connect)),
            mock.patch("os.fsync", self._fsync(os.fsync)),
            mock.patch("os.pwrite", self._pwrite(os.pwrite)),
        ]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for patch in self._patches:
            patch.stop()
        self._vfs.unregister()
        if kind is None:
            assert not self._unmet, (
                f"the engine no longer sets {self._unmet}: this does not simulate what it is meant to"
            )

    def mark(self, said: object) -> None:
        """Write down that this happened now."""
        with self._lock:
            self.operations.append(Mark(said))

    def rewritten(self, sql: str) -> str:
        """The SQL with the other values for its pragmas."""
        if "PRAGMA" in sql:
            for name, value in self._pragmas.items():
                sql, met = re.subn(rf"(PRAGMA {name} *= *)\w+", rf"\g<1>{value}", sql)
                if met:
                    self._unmet.discard(name)
        return sql

    # ---- what the VFS tells

    def opened(self, name: str, existed: bool) -> int:
        with self._lock:
            if not existed or name not in self._files:
                self._files[name] = self._next_file
                self._next_file += 1
                self.operations.append(Name(name, self._files[name]))
            return self._files[name]

    def deleted(self, name: str, synchronised: bool) -> None:
        with self._lock:
            self._files.pop(name, None)
            self.operations.append(Name(name, None))
            if synchronised:
                self.operations.append(SyncDirectory())

    def wrote(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)

    def part_of(self, data: bytes) -> bytes:
        return data[: self._chance.randrange(len(data))]

    def _connect(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def connect(database: str, **options: Any) -> Any:
            if not database.startswith(self.folder.as_uri()):
                return real(database, **options)
            return Connection(database, self._vfs_name, self.rewritten, float(options.get("timeout", 5)))

        return connect

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            if os.path.samestat(os.fstat(descriptor), self.folder.stat()):
                self.wrote(SyncDirectory())
            elif name := self._name(descriptor):
                if self.fault("sync", name):
                    self.wrote(Sync(self._files[name], failed=True))
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                self.wrote(Sync(self._files[name]))
            else:
                real(descriptor)

        return fsync

    def _pwrite(self, real: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            name = self._name(descriptor)
            if name is None:
                return real(descriptor, data, offset)
            fault = self.fault("write", name)
            if fault == "short write":
                # The system says how much; the next attempt meets the full disk.
                data = self.part_of(data) or data[:1]
            elif fault:
                number = errno.ENOSPC if fault == "full" else errno.EIO
                raise OSError(number, os.strerror(number))
            self.wrote(Write(self._files[name], offset, data))
            return real(descriptor, data, offset)

        return pwrite

    def _name(self, descriptor: int) -> str | None:
        """The name of an open file, if it is one of those that are looked after."""
        status = os.fstat(descriptor)
        for name in list(self._files):
            path = self.folder / name
            if path.exists() and os.path.samestat(status, path.stat()):
                return name
        return None


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        kept = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
        if name is None or not flags[0] & kept:
            return apsw.VFSFile("", name, flags)
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = Path(filename)
        if not path.exists():
            super().xDelete(filename, syncdir)
        if fault := self._disk.fault("delete", path.name):
            raise apsw.exception_for(_CODES[fault])
        super().xDelete(filename, False)
        self._disk.deleted(path.name, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        existed = path.exists()
        super().__init__("", name, flags)
        self._disk = disk
        self._name = path.name
        self._file = disk.opened(path.name, existed)
        # SQLite's own VFS waits for the directory with the first wait for a journal or a log that it may have made.
        self._synchronises_directory = bool(flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL))

    def excepthook(self, *_: object) -> bool:
        """An error that SQLite swallows on purpose needs no word on stderr."""
        return True

    def xWrite(self, data: bytes, offset: int) -> None:
        data = bytes(data)
        fault = self._disk.fault("write", self._name)
        if fault == "short write":
            data = self._disk.part_of(data)
        if fault in (None, "short write") and data:
            super().xWrite(data, offset)
            self._disk.wrote(Write(self._file, offset, data))
        if fault:
            raise apsw.exception_for(_CODES[fault])

    def xTruncate(self, newsize: int) -> None:
        if fault := self._disk.fault("truncate", self._name):
            raise apsw.exception_for(_CODES[fault])
        super().xTruncate(newsize)
        self._disk.wrote(Truncate(self._file, newsize))

    def xSync(self, flags: int) -> None:
        # Nothing is waited for: whether the disk would have done it is what is simulated.
        if fault := self._disk.fault("sync", self._name):
            self._disk.wrote(Sync(self._file, failed=True))
            raise apsw.exception_for(_CODES[fault])
        self._disk.wrote(Sync(self._file))
        if self._synchronises_directory:
            self._disk.wrote(SyncDirectory())
            self._synchronises_directory = False


class Connection:
    """As much of a `sqlite3.Connection` as the engine uses, on `apsw`: whole results, and sqlite3's errors."""

    def __init__(self, address: str, vfs: str, rewritten: Callable[[str], str], timeout: float) -> None:
        self._rewritten = rewritten
        flags = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        with _translated():
            self._connection = apsw.Connection(address, flags=flags, vfs=vfs)
            self._connection.set_busy_timeout(int(timeout * 1000))
        self._rolled_back = False
        self._connection.set_rollback_hook(self._on_rollback)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes()

    def execute(self, sql: str, parameters: Any = ()) -> "Rows":
        with _translated():
            return self._run(lambda: Rows(list(self._connection.execute(self._rewritten(sql), parameters))), sql)

    def executemany(self, sql: str, rows: Any) -> "Rows":
        with _translated():
            return self._run(lambda: Rows(list(self._connection.executemany(self._rewritten(sql), rows))), sql)

    def executescript(self, sql: str) -> "Rows":
        return self.execute(sql)

    def close(self) -> None:
        with _translated():
            self._connection.close()

    def _on_rollback(self) -> None:
        self._rolled_back = True

    def _run(self, statement: Callable[[], "Rows"], sql: str) -> "Rows":
        self._rolled_back = False
        try:
            return statement()
        except apsw.Error:
            # SQLite checkpoints behind a commit, and an error of that is none of the commit. apsw tells it all the same.
            if "COMMIT" in sql.upper() and not (self._rolled_back or self._connection.in_transaction):
                return Rows([])
            raise


class Rows:
    """What a statement gave, already read."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        code = getattr(error, "extendedresult", 0) or getattr(error, "result", apsw.SQLITE_MISUSE)
        match code & 0xFF:
            case apsw.SQLITE_CORRUPT | apsw.SQLITE_NOTADB:
                kind: type[sqlite3.Error] = sqlite3.DatabaseError
            case apsw.SQLITE_CONSTRAINT:
                kind = sqlite3.IntegrityError
            case apsw.SQLITE_MISUSE:
                kind = sqlite3.ProgrammingError
            case _:
                kind = sqlite3.OperationalError
        told = kind(f"{type(error).__name__} {error}".strip())
        told.sqlite_errorcode = code
        raise told from error


class _Waiting:
    """One operation on a file that was not waited for, or that was in vain."""

    __slots__ = ("certain", "forgotten", "operation")

    def __init__(self, operation: Write | Truncate) -> None:
        self.operation = operation
        self.certain = False
        self.forgotten = False


class Platter:
    """What is certainly on the disk, and what may be, after the operations that were `follow`ed."""

    def __init__(self, found: dict[str, bytes]) -> None:
        self._certain = {number: bytearray(content) for number, content in enumerate(found.values())}
        self._waiting: dict[int, list[_Waiting]] = {number: [] for number in self._certain}
        # The file that a name may stand for: the last one certainly did, or still does.
        self._names: dict[str, list[int | None]] = {name: [number] for number, name in enumerate(found)}

    def follow(self, operation: Operation) -> None:
        match operation:
            case Write(file) | Truncate(file):
                self._waiting[file].append(_Waiting(operation))
            case Sync(file, failed):
                self._synchronise(file, failed)
            case Name(name, file):
                self._names.setdefault(name, [None]).append(file)
                if file is not None:
                    self._certain[file] = bytearray()
                    self._waiting[file] = []
            case SyncDirectory():
                self._names = {name: files[-1:] for name, files in self._names.items()}

    def image(self, chance: Random, kept: float | None = None) -> dict[str, bytes]:
        """One of the ways in which the files may lie there after a power failure at this moment.

        `kept` is the share of what was not waited for that is kept all the same: 1 is what a killed process leaves.
        """
        if kept is None:
            # Nothing, everything, and anything between them: the extremes are how disks fail most.
            kept = chance.choice((0.0, 1.0, 0.1, 0.5, 0.9, chance.random()))
        torn = chance.choice((0.0, 0.3, 1.0))
        image = {}
        for name, files in self._names.items():
            file = files[-1] if kept == 1 else files[0] if kept == 0 else chance.choice(files)
            if file is not None:
                content = bytearray(self._certain[file])
                for waiting in self._waiting[file]:
                    if waiting.certain:
                        _apply(content, waiting.operation)
                    elif waiting.forgotten and kept in (0, 1):
                        # As likely forgotten as not, whatever became of the rest.
                        _apply_some(content, waiting.operation, 0.5, torn, chance)
                    else:
                        _apply_some(content, waiting.operation, kept, torn, chance)
                image[name] = bytes(content)
        return image

    def _synchronise(self, file: int, failed: bool) -> None:
        some = self._waiting[file]
        for waiting in some:
            if failed:
                waiting.forgotten = waiting.forgotten or not waiting.certain
            else:
                waiting.certain = waiting.certain or not waiting.forgotten
        done = 0
        while done < len(some) and some[done].certain:
            _apply(self._certain[file], some[done].operation)
            done += 1
        del some[:done]


def _apply(content: bytearray, operation: Write | Truncate) -> None:
    if isinstance(operation, Truncate):
        size = operation.size
        content[size:] = bytes(max(size - len(content), 0))
        return
    _lengthen(content, operation.offset)
    content[operation.offset : operation.offset + len(operation.data)] = operation.data


def _lengthen(content: bytearray, size: int) -> None:
    if len(content) < size:
        content.extend(bytes(size - len(content)))


def _apply_some(content: bytearray, operation: Write | Truncate, kept: float, torn: float, chance: Random) -> None:
    """The operation as it may be after a power failure: done, not done, or of a write some sectors."""
    whole = chance.random() < kept
    if isinstance(operation, Truncate) or kept == 1 or chance.random() >= torn:
        if whole:
            _apply(content, operation)
        return
    offset, data = operation.offset, operation.data
    end = offset + len(data)
    if chance.random() < 0.3:
        # A prefix: what a short write leaves, to the byte.
        _apply(content, Write(operation.file, offset, data[: chance.randrange(len(data) + 1)]))
        return
    # The file may have got its length before its content, and then shows zeros, or what lay on the disk before.
    before = len(content)
    if chance.random() < 0.5:
        _lengthen(content, end)
        if chance.random() < 0.3:
            content[before:] = chance.randbytes(len(content) - before)
    start = offset
    while start < end:
        stop = min((start // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        if chance.random() < 0.5:
            _apply(content, Write(operation.file, start, data[start - offset : stop - offset]))
        start = stop
