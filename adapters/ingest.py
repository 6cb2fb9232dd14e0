"""Reads files into the journal: opens what it is given, sees what dialect it is in, keeps what concerns us.

What cannot be used is kept aside with its line number and reason, and the rest goes on. Nothing larger than a record is
held in memory, and of a line no more than `LINE_BYTES`. `adapters/ordering.py` is next: it reads the journal back in
the one true order.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, cast

import msgspec

from adapters.ports import Aside, Journal, Record, Source
from adapters.sources import dialects
from adapters.sources.dialect import About, Ignored, Line, Reader, Recognised, Unknown
from adapters.sources.ipset_timeline import files_named
from domain.order import Head

LINE_BYTES = 32 << 20
"""The longest line that is looked at, in bytes. An API server's largest object is about 1.5 MiB, a list some MiB."""

BATCH_RECORDS = 2_000
BATCH_BYTES = 4 << 20
HEAD_LINES = 10_000
"""How many of the bad lines before a file shows its dialect are kept aside; more are only counted."""
UNKNOWN_FORMAT = "unknown"

Progress = Callable[[int], None]
"""Told how many bytes of a file (as it lies on disk) were read since the last call."""


class NothingToRead(Exception):
    """A path that cannot be read. The message names it, and says why and what to do."""


class Tally(msgspec.Struct):
    """What became of the records of one source, in this reading: the five counts add up to `records`.

    `ignored` say nothing about our kinds; `unknown` are good records whose words the dialect's tables do not know;
    `unrecognised` could not be read, and `wrong` says where and why the first of them could not.
    """

    path: str
    format: str
    records: int = 0
    recognised: int = 0
    ignored: int = 0
    unknown: int = 0
    unrecognised: int = 0
    duplicates: int = 0
    wrong: str = ""


class Span(msgspec.Struct):
    """How long a source lasts, over all readings of it: every record counts, ignored ones too.

    `skew` is by how many microseconds its clock is ahead; the times are as that clock says. `stretches` are the minutes
    that have records, as first and last of those that follow each other: what lies between two stretches is silence.
    Of a live source `lines` counts what it has delivered, and `resume` is where to go on.
    """

    first: str = ""
    last: str = ""
    skew: int = 0
    stretches: list[tuple[str, str]] = []
    minute: str = ""  # the last one that was noted
    lines: int = 0
    resume: str = ""

    def reach(self, time: str, clocked: bool = True) -> None:
        """Take in one record's time. RFC 3339 times in UTC compare as text; what is no time is left out.

        What has no clock names times that may be years old, and at its end one before which it did not end.
        """
        if time > self.last and self.minute and len(time) >= 20 and time.startswith(self.minute):
            self.last = time  # as nearly all are: later than the last, in the same minute
            return
        if len(time) < 20 or time[4] != "-" or time[10] != "T" or not time[:4].isdecimal():
            return
        if time > self.last:
            self.last = time
        if not clocked:
            return
        if not self.first or time < self.first:
            self.first = time
        if not time.startswith(self.minute) or not self.minute:
            self.minute = time[:16]
            self._note(self.minute)

    def _note(self, minute: str) -> None:
        stretches = self.stretches
        place = bisect_left(stretches, (minute, minute))  # of the first that begins then or later
        around = stretches[max(place - 1, 0) : place + 1]
        if any(first <= minute <= last for first, last in around):
            return
        stretches[max(place - 1, 0) : place + 1] = joined([*around, (minute, minute)])


def joined(stretches: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Stretches of minutes, in order, as few as they can be: those that touch are one."""
    found: list[tuple[str, str]] = []
    for first, last in sorted(stretches):
        if found and first <= following(found[-1][1]):
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


@lru_cache(maxsize=64)
def following(minute: str) -> str:
    """The minute after one: `2026-11-21T02:00` after `2026-11-21T01:59`. What is no minute has none after it."""
    try:
        return (datetime.fromisoformat(minute) + timedelta(minutes=1)).isoformat()[:16]
    except (ValueError, OverflowError):
        return minute


def files_in(paths: Iterable[str]) -> list[str]:
    """The files that paths stand for: a folder for what is in it, `-` for standard input; each once, in name order.

    Raises `NothingToRead`.
    """
    found: dict[str, None] = {}
    for path in paths:
        place = Path(path)
        if path == "-":
            found[path] = None
        elif place.is_dir():
            if not os.access(place, os.R_OK | os.X_OK):
                raise NothingToRead(f"{path}: the folder may not be read; check its permissions")
            inside = sorted(str(file) for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
            if not inside:
                raise NothingToRead(
                    f"{path}: the folder holds no files; name the recordings, or the folder they are in"
                )
            found.update(dict.fromkeys(inside))
        elif place.exists():
            found[path] = None
        else:
            raise NothingToRead(f"{path}: there is no such file or folder; check the path")
    # What a timeline of ipsets names is read through it, with the time and the writer that the timeline knows.
    named = set().union(*(files_named(path) for path in found if path != "-"))
    return [path for path in found if path == "-" or not named or str(Path(path).resolve()) not in named]


def size_of(paths: Iterable[str]) -> int:
    """Bytes of all files together, for a progress bar; what has no size counts 0."""
    return sum(Path(path).stat().st_size for path in paths if path != "-" and Path(path).is_file())


def ingest(
    path: str,
    journal: Journal,
    progress: Progress = lambda bytes_read: None,
    accepted: Callable[[int, list[Head]], None] = lambda number, heads: None,
    *,
    format: str | None = None,
    about: About | None = None,
) -> Tally:
    """Read one file into the journal. Everything counted as recognised is on disk when this returns.

    `accepted` is told the number and the heads of every record that is new to the journal. `format` is the name of a
    dialect, for a source that does not show what it is; `about` is what is known of it from outside.

    Raises `NothingToRead` where the file cannot be opened, and the journal's `StoreError`.
    """
    with _opened(path) as (raw, lines):
        about = (about or About())._replace(path=path, modified=_modified(path))
        return _Reading(about, journal, raw, progress, accepted).read(lines, dialects.called(format or ""))


def skew_of(source: Source) -> int:
    """By how many microseconds a source's clock is ahead."""
    return msgspec.msgpack.decode(source.summary, type=Span).skew if source.summary else 0


def moved(heads: list[Head], skew: int) -> list[Head]:
    """Heads by the clock that rules, of a source whose own is `skew` microseconds ahead of it."""
    if not skew:
        return heads
    return [
        msgspec.structs.replace(head, time=head.time - skew, received=head.received - skew) if head.clocked else head
        for head in heads
    ]


def _modified(path: str) -> int:
    return Path(path).stat().st_mtime_ns // 1000 if path != "-" else 0


class _Reading:
    """One pass through one file."""

    def __init__(
        self,
        about: About,
        journal: Journal,
        raw: _Counted,
        progress: Progress,
        accepted: Callable[[int, list[Head]], None],
    ) -> None:
        self.about = about
        self.accepted = accepted
        self.heads: list[list[Head]] = []
        self.journal = journal
        self.raw = raw
        self.progress = progress
        self.tally = Tally(about.path, UNKNOWN_FORMAT)
        self.source = 0
        self.clocked = True
        self.span = Span()
        self.records: list[Record] = []
        self.held = 0
        self.aside: list[Aside] = []

    def read(self, lines: Iterator[Line], dialect: Reader | None) -> Tally:
        beginning: list[Line] = []
        while dialect is None:
            # Until it shows what it is, a file may be anything, and nothing is kept of it.
            self._skip(beginning)
            beginning = list(_beginning(lines))
            if not beginning:
                self.aside = []
                return self.tally
            dialect = dialects.recognise([line for _, line, wrong in beginning if not wrong])
        self.tally.format = dialect.FORMAT
        self.clocked = dialect.CLOCKED
        self.source = self.journal.source(self.tally.path, self.tally.format)
        before = next(source for source in self.journal.sources() if source.id == self.source)
        if before.summary:
            self.span = msgspec.msgpack.decode(before.summary, type=Span)
        if self.about.skew is not None:
            self.span.skew = self.about.skew
        for number, payload, what in dialect.read(chain(beginning, lines), self.about):
            self._take(number, payload, what)
        self._commit()
        return self.tally

    def _skip(self, lines: Iterable[Line]) -> None:
        for number, line, wrong in lines:
            if line.strip() or wrong:
                self.tally.records += 1
                self.tally.unrecognised += 1
                if len(self.aside) < HEAD_LINES:
                    self.aside.append(Aside.of(number, wrong or "it is in no format that is known here", line))

    def _take(self, number: int, payload: bytes, what: Recognised | Ignored | Unknown | str) -> None:
        tally = self.tally
        if isinstance(what, Recognised):
            tally.records += 1
            self.span.reach(what.time, self.clocked)
            self.heads.append(moved(what.heads, self.span.skew))
            self.records.append(Record(what.identity, what.fingerprint, number, payload))
            self.held += len(payload)
        elif isinstance(what, str):
            tally.records += 1
            tally.unrecognised += 1
            tally.wrong = tally.wrong or f"line {number}: {what}"
            self.aside.append(Aside.of(number, what, payload))
            self.held += len(payload)
        else:
            tally.records += what.records
            self.span.reach(what.time, self.clocked)
            if isinstance(what, Ignored):
                tally.ignored += what.records
            else:
                tally.unknown += what.records
        if self.held >= BATCH_BYTES or len(self.records) >= BATCH_RECORDS or len(self.aside) >= BATCH_RECORDS:
            self._commit()
        elif not tally.records % BATCH_RECORDS:
            self.progress(self.raw.taken())

    def _commit(self) -> None:
        number = self.journal.head()
        receipt = self.journal.commit(self.source, self.records, self.aside, msgspec.msgpack.encode(self.span))
        self.tally.recognised += sum(receipt.accepted)
        self.tally.duplicates += receipt.duplicates
        self.tally.unrecognised += receipt.collisions
        for heads, is_new in zip(self.heads, receipt.accepted, strict=True):
            if is_new:
                number += 1
                self.accepted(number, heads)
        self.records, self.heads, self.aside, self.held = [], [], [], 0
        self.progress(self.raw.taken())


def _beginning(lines: Iterator[Line]) -> Iterator[Line]:
    """The next lines, as many as it takes to see what they are."""
    size = 0
    for count, line in enumerate(lines, 1):
        yield line
        size += len(line[1])
        if count == dialects.BEGINNING_LINES or size >= dialects.BEGINNING_BYTES:
            return


# ---- opening


class _Counted(io.RawIOBase):
    """A file that counts what was read of it as it lies on disk, so that a bar can move."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = self.file.readinto(buffer)  # type: ignore[attr-defined]
        self.count += count
        return int(count)

    def taken(self) -> int:
        """Bytes since the last call."""
        count, self.count = self.count, 0
        return count


class _opened:
    """A file's lines as `(number, line, what is wrong with it)`, plain or gzip, and the counter under it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> tuple[_Counted, Iterator[Line]]:
        try:
            self.file: IO[bytes] = sys.stdin.buffer if self.path == "-" else Path(self.path).open("rb")
        except OSError as error:
            raise NothingToRead(f"{self.path}: cannot be opened ({error.strerror}); check its permissions") from error
        raw = _Counted(self.file)
        stream: IO[bytes] = io.BufferedReader(raw, 1 << 20)
        if stream.peek(2)[:2] == b"\x1f\x8b":  # type: ignore[attr-defined]
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=stream))
        return raw, _lines(stream)

    def __exit__(self, *error: object) -> None:
        if self.path != "-":
            self.file.close()


def _lines(stream: IO[bytes]) -> Iterator[Line]:
    """The lines, numbered from 1, empty ones too. A file that breaks off ends with a line that says so."""
    number = 0
    while True:
        try:
            line = stream.readline(LINE_BYTES + 1)
            number += 1
            if not line:
                return
            if len(line) > LINE_BYTES and not line.endswith(b"\n"):
                yield number, line[:8192], f"the line is longer than {LINE_BYTES >> 20} MiB"
                while not line.endswith(b"\n") and line:
                    line = stream.readline(1 << 20)
                continue
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield number + 1, b"", f"the gzip file breaks off or is damaged here: {error}"
            return
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line.rstrip(b"\r\n"), ""
