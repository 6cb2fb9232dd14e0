"""Follows log files while they grow: over rotation by renaming, by copying and truncating, and over the time it was down.

What is known of a position in a file is which bytes it began with, so another file of that name is not believed, and the same
bytes are found again under any name: `audit.log` becomes `audit-2026-11-21T02-47-36.123.log`, `audit.log.1`, and then `….gz`.
From a part that is finished, the way goes on to the next younger one, and at the end to the file itself. A last line
without an end is held back until it ends, or until the file is no longer written. `Inlet.follow` in `adapters/intake.py` is
next: it takes the lines, and keeps the position with the records.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import os
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from adapters.feeds.feed import Backoff, FeedState, Health, together
from adapters.ingest import LINE_BYTES
from adapters.intake import Inlet, Intake
from adapters.ports import Aside, StoreError
from adapters.sources import dialects
from adapters.sources.dialect import About, Line

POLL_SECONDS = 0.2
LOOK_SECONDS = 1.0
"""How often a pattern is looked at for files that are new."""
HEAD_BYTES = 1024
"""How much of its beginning tells a file from others of its name."""
CHUNK_BYTES = 1 << 20
BACK_BYTES = 4 << 20
"""How far before its position a file is read again where lines hang together, so that the reader knows what came before."""
RECOGNISED_BYTES = 4 << 20
"""In how much of its beginning a file has to show what it is."""

EACH_LINE_ALONE = ("audit.k8s.io", "cloudevents")
"""Dialects of which a line needs none before it."""

GONE_WHILE_AWAY = (
    "the file that was followed up to here ({path}, byte {offset}) is there no more, and no rotated part begins as it did: "
    "what was written behind that is not in this source; keep more rotated parts, or bring the missing one in with replay"
)
TRUNCATED = (
    "{path} was emptied behind byte {offset}, and no copy of it is beside it: if more was written there, it is lost; rotate "
    "by renaming, or keep the copies"
)


class Place(msgspec.Struct, frozen=True):
    """Up to where a file is kept. The file is the one that begins with `size` bytes of which `head` is the hash."""

    device: int
    inode: int
    offset: int
    head: str
    size: int
    line: int
    """How many lines were read, in all parts together."""
    time: float
    """When this was so, in seconds since 1970."""
    path: str


class Follow:
    """A feed: one file, or all that a pattern names. Parts that were rotated away are read as parts of their file.

    `format` is a dialect's name, for files that do not show what they are.
    """

    def __init__(self, intake: Intake, pattern: str, *, format: str | None = None, about: About | None = None) -> None:
        self._intake = intake
        self._pattern = pattern
        self._format = format
        self._about = about or About()
        self._files: dict[str, _File] = {}

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        threads: list[threading.Thread] = []
        while True:
            for path in self._paths():
                if path not in self._files:
                    file = self._files[path] = _File(self._intake, path, self._format, self._about)
                    thread = threading.Thread(target=file.run, args=[stop], name=f"follow {path}", daemon=True)
                    thread.start()
                    threads.append(thread)
            if stop.wait(LOOK_SECONDS):
                break
        for thread in threads:
            thread.join()

    def state(self) -> FeedState:
        """How it is now."""
        parts = tuple(file.health.state() for file in list(self._files.values()))
        if not parts:
            return FeedState(self._pattern, False, 0.0, "", 0, "", "no file is there yet that this names")
        return together(self._pattern, parts) if len(parts) > 1 or parts[0].name != self._pattern else parts[0]

    def _paths(self) -> list[str]:
        if not glob.has_magic(self._pattern) or Path(self._pattern).exists():
            return [self._pattern]
        # A part that was rotated away has the name of its file in it, which the pattern names too.
        wanted = Path(self._pattern).name
        return [
            path
            for path in sorted(glob.glob(self._pattern))  # noqa: PTH207 (it may begin anywhere)
            if Path(path).is_file() and not ((made := rotated(Path(path).name)) and fnmatch.fnmatch(made.base, wanted))
        ]


class Rotated(NamedTuple):
    """What a rotated part's name says: of which file it is, and where among the others it stands, oldest first."""

    base: str
    order: tuple[int, int, str]


_STAMPED = re.compile(r"(.+)-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d{1,9})?)(\.[^.]*)?")  # kube-apiserver's own
_DATED = re.compile(r"(.+?)[.-](\d{8}(?:-?\d{1,10})?)")  # logrotate's dateext, the kubelet's
_NUMBERED = re.compile(r"(.+)\.(\d{1,4})")  # logrotate's


def rotated(name: str) -> Rotated | None:
    """What a file's name says of rotation; `None` where it says nothing."""
    name = name.removesuffix(".gz")
    if found := _STAMPED.fullmatch(name):
        return Rotated(found[1] + (found[3] or ""), (1, 0, found[2]))
    if found := _DATED.fullmatch(name):
        return Rotated(found[1], (1, 0, found[2]))
    if found := _NUMBERED.fullmatch(name):
        return Rotated(found[1], (0, -int(found[2]), ""))
    return None


class _Stopped(Exception):
    """The reader is not to believe that the source ends here."""


class _Truncated(Exception):
    """The file is no longer what it was."""


class _Part:
    """One file on the disk, open, at the end of a line."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Raises `OSError`, and what gzip raises where it is damaged before `offset`."""
        self.path = path
        self.file: IO[bytes] = path.open("rb", buffering=0)
        status = os.fstat(self.file.fileno())
        self.device, self.inode = status.st_dev, status.st_ino
        self.unpacked: gzip.GzipFile | None = None
        if self.file.read(2) == b"\x1f\x8b":
            self.file.seek(0)
            self.unpacked = gzip.GzipFile(fileobj=self.file)
        self.offset = 0
        """Where the next line begins."""
        self.begin = b""
        """The first bytes of it, up to `HEAD_BYTES`."""
        self._buffer = b""
        self._read = 0
        self._skips = False  # the line is too long, and the rest of it is to come
        self._broken = ""
        self._ended = False
        if self.unpacked is None:
            self.begin = os.pread(self.file.fileno(), min(HEAD_BYTES, offset), 0)
            self._read = min(offset, status.st_size)
        while self.unpacked is not None and self._read < offset:
            if not (got := self._some(min(CHUNK_BYTES, offset - self._read))):
                break
            self._took(got)
        self.offset = self._read

    def close(self) -> None:
        self.file.close()

    def place(self, offset: int, line: int) -> str:
        """A position in it, as it is kept."""
        size = len(self.begin)
        place = Place(self.device, self.inode, offset, hash_of(self.begin), size, line, time.time(), str(self.path))
        return msgspec.json.encode(place).decode()

    def lines(self) -> Iterator[tuple[bytes, str]]:
        """The whole lines that are there now, with what is wrong with each. Raises `_Truncated`."""
        while data := self._some(CHUNK_BYTES):
            # Asked after reading: then what was read is of the file that began so.
            self._check()
            self._took(data)
            yield from self._split(data)
        self._check()
        if self._broken:
            why, self._broken = self._broken, ""
            yield b"", why

    def upto(self, offset: int) -> bytes:
        """What lies between its place and an offset."""
        found = b""
        while self._read < offset and (data := self._some(offset - self._read)):
            self._took(data)
            found += data
        return found

    def first(self, count: int) -> bytes:
        """The first bytes; asked before any line is."""
        return self._some(count)

    def rest(self) -> Iterator[tuple[bytes, str]]:
        """The last line, which nobody will end any more."""
        line, self._buffer = self._buffer, b""
        if line and not self._skips:
            self.offset += len(line)
            yield line.lstrip(b"\0"), ""

    def _some(self, most: int) -> bytes:
        if self.unpacked is None:
            return os.pread(self.file.fileno(), most, self._read)
        try:
            return self.unpacked.read(most) if not self._ended else b""
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._ended = True
            self._broken = f"the gzip file {self.path} breaks off or is damaged here: {error}"
            return b""

    def _took(self, data: bytes) -> None:
        if self._read < HEAD_BYTES:
            self.begin = (self.begin[: self._read] + data)[:HEAD_BYTES]
        self._read += len(data)

    def _check(self) -> None:
        if self.unpacked is not None:
            return
        if os.fstat(self.file.fileno()).st_size < self._read or (
            self.begin and os.pread(self.file.fileno(), len(self.begin), 0) != self.begin
        ):
            raise _Truncated

    def _split(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        *lines, rest = (self._buffer + data).split(b"\n")
        self._buffer = rest
        for line in lines:
            self.offset += len(line) + 1
            if self._skips:
                self._skips = False
            elif len(line) > LINE_BYTES:
                yield line[:8192], _TOO_LONG
            else:
                # Who writes on at the old place, behind an end that was cut off, leaves a hole of zeros.
                yield line.lstrip(b"\0").rstrip(b"\r"), ""
        if len(rest) > LINE_BYTES:
            self.offset += len(rest)
            self._buffer = b""
            if rest.strip(b"\0") and not self._skips:
                self._skips = True
                yield rest[:8192], _TOO_LONG


_TOO_LONG = f"the line is longer than {LINE_BYTES >> 20} MiB"


def hash_of(head: bytes) -> str:
    """What stands for a file's beginning in a position."""
    return hashlib.blake2b(head, digest_size=16).hexdigest()


class _File:
    """One file with its rotated parts, in a thread of its own."""

    def __init__(self, intake: Intake, path: str, format: str | None, about: About) -> None:
        self._intake = intake
        self._path = Path(path)
        self._format = format
        self._about = about
        self.health = Health(path)
        self._ends: deque[tuple[int, int, _Part]] = deque()  # of lines that were handed on: number, end, part
        self._lines_read = 0

    def run(self, stop: threading.Event) -> None:
        backoff = Backoff()
        while not stop.is_set():
            try:
                self._once(stop, backoff)
            except _Stopped:
                return
            except StoreError as error:
                self.health.failed(str(error))
            except OSError as error:
                self.health.failed(f"{self._path}: cannot be read ({error.strerror}); check its permissions")
            except Exception as error:
                # Not known yet; the other files go on, and so does this, from its last position.
                self.health.failed(f"{self._path}: {type(error).__name__}: {error}")
            stop.wait(backoff.next())

    def _once(self, stop: threading.Event, backoff: Backoff) -> None:
        format = self._format or self._intake.format_of(str(self._path)) or self._recognised(stop)
        about = self._about
        with suppress(FileNotFoundError):
            about = about._replace(modified=self._path.stat().st_mtime_ns // 1000)
        inlet = self._intake.inlet(str(self._path), format, about)
        place = msgspec.json.decode(inlet.resume, type=Place) if inlet.resume else None
        self._ends.clear()
        back = 0 if format in EACH_LINE_ALONE else BACK_BYTES

        def resume(number: int) -> str:
            while len(self._ends) > 1 and self._ends[1][0] <= number:
                self._ends.popleft()
            line, offset, part = self._ends[0]
            self.health.delivered(f"{part.path}:{offset}")
            backoff.reset()
            return part.place(offset, line)

        inlet.follow(self._lines(stop, inlet, place, back), resume, after=place.line if place else 0)

    def _recognised(self, stop: threading.Event) -> str:
        """The dialect that the file shows, once it is there and long enough to show one."""
        size = -1
        while True:
            try:
                with self._path.open("rb") as file:
                    grown = os.fstat(file.fileno()).st_size
                    if grown != size:
                        size = grown
                        lines = file.read(RECOGNISED_BYTES).split(b"\n")[:-1]
                        if found := _dialect_of(lines):
                            return found
                if size >= RECOGNISED_BYTES:
                    self.health.failed(
                        f"{self._path} is in no format that is known here; say with format= which it is, if it is one"
                    )
                else:
                    self.health.waiting("the file does not show yet in which format it is")
            except FileNotFoundError:
                size = -1
                self.health.waiting("the file is not there")
            if stop.wait(POLL_SECONDS):
                raise _Stopped

    # ---- lines

    def _lines(self, stop: threading.Event, inlet: Inlet, place: Place | None, back: int) -> Iterator[Line | None]:
        self._lines_read = place.line if place else 0
        part = self._opened(inlet, place)
        while part is None:
            self.health.waiting("the file is not there")
            yield None
            if stop.wait(POLL_SECONDS):
                raise _Stopped
            part = self._opened(inlet, place)
        try:
            if back and place is not None and part.offset:
                yield from _before(part.path, part.offset, back, place.line)
            while True:
                self.health.well()
                try:
                    for line, wrong in part.lines():
                        yield self._handed_on(part, line, wrong)
                        if stop.is_set():
                            yield None
                            raise _Stopped
                    following = self._after(part)
                except _Truncated:
                    following = self._after_truncated(stop, inlet, part)
                else:
                    if following is None:
                        yield None
                        if stop.wait(POLL_SECONDS):
                            raise _Stopped
                        continue
                    with suppress(_Truncated):
                        # Whoever wrote has gone on to the next: what is there now is all.
                        for line, wrong in (*part.lines(), *part.rest()):
                            yield self._handed_on(part, line, wrong)
                part.close()
                part = following
        finally:
            part.close()

    def _handed_on(self, part: _Part, line: bytes, wrong: str) -> Line:
        self._lines_read += 1
        self._ends.append((self._lines_read, part.offset, part))
        return self._lines_read, line, wrong

    # ---- parts

    def _parts(self) -> list[Path]:
        """All that is there of the file, oldest first, itself last. Of a part that is just being packed, the plain one."""
        found: dict[str, tuple[tuple[int, int, str], Path]] = {}
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._path.parent):
                made = rotated(entry.name)
                if made is not None and made.base == self._path.name and entry.is_file():
                    name = entry.name.removesuffix(".gz")
                    if name not in found or name == entry.name:
                        found[name] = (made.order, Path(entry.path))
        parts = [path for _, path in sorted(found.values(), key=lambda one: one[0])]
        return [*parts, *([self._path] if self._path.exists() else [])]

    def _opened(self, inlet: Inlet, place: Place | None) -> _Part | None:
        """The part to go on in, at its place; `None` where nothing is there."""
        while True:
            try:
                parts = self._parts()
                if place is None:
                    if self._path not in parts:
                        return None
                    begun = _Part(self._path)
                    begun.begin = begun.first(HEAD_BYTES)
                    inlet.keep([], resume=begun.place(0, 0))  # from now on, nothing of it is missed
                    return begun
                # The same file first: a copy of it may be in the making.
                for path in sorted(parts, key=lambda path: path.stat().st_ino != place.inode):
                    if (part := _at(path, place)) is not None:
                        return part
                # What was changed since then may hold what is not kept.
                younger = [path for path in parts if path.stat().st_mtime >= place.time] or parts[-1:]
                if not younger:
                    return None
                self._missed(inlet, GONE_WHILE_AWAY.format(path=place.path, offset=place.offset))
                return _Part(younger[0])
            except FileNotFoundError:
                continue  # it was rotated meanwhile

    def _after(self, part: _Part) -> _Part | None:
        """The part that comes behind this one; `None` while this one is written still, or may be."""
        try:
            now = self._path.stat()
            if part.unpacked is None and (now.st_dev, now.st_ino) == (part.device, part.inode):
                return None
            listed = self._listed()
            parts = list(listed)
            known = [path for path in parts if _is(path, part)]
            if known:
                behind = parts[parts.index(known[-1]) + 1 :]
            else:  # it was removed while it was open: those that were written later
                last = os.fstat(part.file.fileno()).st_mtime
                behind = [path for path in parts if path.stat().st_mtime > last or path == self._path]
            if not behind or (behind[0] == self._path and not now.st_size):
                # Until something is in the new file, the one who writes may have the old one open still.
                return None
            following = _Part(behind[0])
            if self._listed() == listed and listed[behind[0]] == (following.device, following.inode):
                return following
            following.close()
        except FileNotFoundError:
            pass
        return None  # it was rotated meanwhile, and another part may lie between: looked at again

    def _listed(self) -> dict[Path, tuple[int, int]]:
        """All parts in their order, and which file each name is now."""
        found = {}
        for path in self._parts():
            status = path.stat()
            found[path] = (status.st_dev, status.st_ino)
        return found

    def _after_truncated(self, stop: threading.Event, inlet: Inlet, part: _Part) -> _Part:
        """The copy of what the file was, behind what was read of it; where there is none, the file from its beginning."""
        while True:
            try:
                if part.begin:
                    place = msgspec.json.decode(part.place(part.offset, 0), type=Place)
                    for path in self._parts():
                        if path != self._path and (copy := _at(path, place)) is not None:
                            return copy
                    self._missed(inlet, TRUNCATED.format(path=part.path, offset=part.offset))
                return _Part(self._path)
            except FileNotFoundError:
                if stop.wait(POLL_SECONDS):
                    raise _Stopped from None

    def _missed(self, inlet: Inlet, why: str) -> None:
        inlet.keep([], aside=[Aside.of(0, why, b"")])


def _before(path: Path, offset: int, back: int, number: int) -> Iterator[Line]:
    """The lines of the last `back` bytes before an offset at which line `number` ended."""
    with suppress(FileNotFoundError):
        part = _Part(path, max(offset - back, 0))
        first = part.offset
        data = part.upto(offset)
        part.close()
        lines = data.split(b"\n")[:-1]
        if first:
            del lines[:1]  # it begins before
        first = number - len(lines) + 1
        yield from ((first + at, line.rstrip(b"\r"), "") for at, line in enumerate(lines) if first + at > 0)


def _at(path: Path, place: Place) -> _Part | None:
    """The file open at a place, if it is the one that is meant."""
    part = _Part(path)
    try:
        same = (part.device, part.inode) == (place.device, place.inode)
        begin = part.first(place.size)
        if hash_of(begin) != place.head or len(begin) < place.size or not (place.size or same):
            return None
    finally:
        part.close()
    return _Part(path, place.offset)


def _is(path: Path, part: _Part) -> bool:
    """Whether a file is the one that is open, or holds the same."""
    status = path.stat()
    if (status.st_dev, status.st_ino) == (part.device, part.inode):
        return True
    if not part.begin:
        return False
    other = _Part(path)
    try:
        return other.first(len(part.begin)) == part.begin
    finally:
        other.close()


def _dialect_of(lines: list[bytes]) -> str:
    """The first dialect that a stretch of these lines shows; empty where none does."""
    for first in range(0, len(lines), dialects.BEGINNING_LINES):
        if reader := dialects.recognise(lines[first : first + dialects.BEGINNING_LINES]):
            return reader.FORMAT
    return ""
