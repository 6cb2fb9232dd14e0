"""Puts what live sources deliver into the journal: durable when it returns, what cannot be read kept aside, repeats told.

An `Inlet` is one source: the audit webhook of an API server, a watch, a stream, a file that grows. What it remembers of
where to go on is kept with its records, in one commit, so that after a kill none is missed. `adapters/ingest.py` does the
same for files that are read whole. `adapters/live.py` is next: it is told of every new record, and decides it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from adapters.authority import SOURCE as COMMANDS
from adapters.ingest import BATCH_BYTES, BATCH_RECORDS, Span, moved
from adapters.ports import Aside, Journal, Record, Source
from adapters.sources import dialects
from adapters.sources.dialect import About, Found, Ignored, Line, Reader, Recognised
from domain.decide import COMMAND
from domain.order import Head


class New(NamedTuple):
    """A record that is new to the journal, with what the order needs of it."""

    number: int
    heads: list[Head]
    payload: bytes


class Taken(msgspec.Struct):
    """What became of what was delivered. All of it is on disk."""

    recognised: int = 0
    """Records on our kinds that are new."""
    ignored: int = 0
    """Good records that say nothing about our kinds."""
    unknown: int = 0
    """Good records whose words the dialect's tables do not know."""
    aside: int = 0
    """Input that could not be used, and records that collided: kept aside with the reason."""
    duplicates: int = 0

    @property
    def records(self) -> int:
        """All of them."""
        return self.recognised + self.ignored + self.unknown + self.aside + self.duplicates

    def add(self, other: Taken) -> None:
        """Count others as well."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


Told = Callable[[Sequence[New]], None]
"""Who is told of what is new, and on disk, in the order of the journal: the records of one source at a time."""


class Intake:
    """The journal's entrance, for several threads at once."""

    def __init__(self, journal: Journal, told: Told) -> None:
        self._journal = journal
        self._told = told
        # Numbers are given in the order of commits, and whoever is told is told in that order.
        self._committing = threading.Lock()
        self._inlets: dict[tuple[str, str], Inlet] = {}
        self._sources: dict[int, Source] | None = None

    def inlet(self, path: str, format: str, about: About | None = None) -> Inlet:
        """The inlet of a source, by its name and dialect: always the same one. Raises `StoreError`.

        Raises `KeyError` where there is no such dialect.
        """
        reader = dialects.called(format)
        if reader is None:
            raise KeyError(format)
        with self._committing:
            inlet = self._inlets.get((path, format))
            if inlet is None:
                about = (about or About())._replace(path=path)
                inlet = self._inlets[path, format] = Inlet(self, self._journal, reader, about)
            return inlet

    def format_of(self, path: str) -> str | None:
        """The dialect in which a source of that name was followed last; `None` where it never was. Raises `StoreError`."""
        with self._committing:
            found = None
            for source in self._journal.sources():
                if source.path == path and source.summary and msgspec.msgpack.decode(source.summary, type=Span).resume:
                    found = source.format
            return found

    def sources(self) -> list[Source]:
        """The journal's, as they were when their last record was kept. Raises `StoreError`.

        They are read once: whoever holds the ledger open for writing is the only one who adds to them.
        """
        with self._committing:
            if self._sources is None:
                self._sources = {source.id: source for source in self._journal.sources()}
            return list(self._sources.values())

    def inlets(self) -> list[Inlet]:
        """All that were asked for."""
        with self._committing:
            return list(self._inlets.values())

    def command(self, record: Record) -> bool:
        """Keep a command, which is decided where it is given; false where it is known already. Raises `StoreError`."""
        with self._committing:
            source = self._journal.source(COMMANDS, COMMAND)
            return self._journal.commit(source, [record], [], b"").accepted[0]

    def commit(
        self, inlet: Inlet, records: Sequence[Record], heads: Sequence[list[Head]], aside: Sequence[Aside]
    ) -> Taken:
        """For inlets."""
        with self._committing:
            number = self._journal.head()
            summary = msgspec.msgpack.encode(inlet.span)
            try:
                receipt = self._journal.commit(inlet.source, records, aside, summary)
            except BaseException:
                self._sources = None  # what is kept now, the journal knows
                raise
            if self._sources is not None:
                self._sources[inlet.source] = Source(inlet.source, inlet.path, inlet.format, summary)
            new: list[New] = []
            for record, some, accepted in zip(records, heads, receipt.accepted, strict=True):
                if accepted:
                    number += 1
                    new.append(New(number, some, record.payload))
            if new:
                self._told(new)
        return Taken(recognised=len(new), duplicates=receipt.duplicates, aside=receipt.collisions)


class Inlet:
    """One source. Its methods may be called by several threads; what is read of a stream, by one."""

    def __init__(self, intake: Intake, journal: Journal, reader: Reader, about: About) -> None:
        self._intake = intake
        self._reader = reader
        self.about = about
        self.source = journal.source(about.path, reader.FORMAT)
        before = next(source for source in journal.sources() if source.id == self.source)
        self.span = msgspec.msgpack.decode(before.summary, type=Span) if before.summary else Span()
        if about.skew is not None:
            self.span.skew = about.skew
        self.taken = Taken()
        """All since this process began."""
        self._lock = threading.Lock()

    @property
    def path(self) -> str:
        """Its name."""
        return self.about.path

    @property
    def format(self) -> str:
        """Its dialect."""
        return self._reader.FORMAT

    @property
    def resume(self) -> str:
        """What the source said last of where to go on; empty at the beginning."""
        return self.span.resume

    def take(self, units: Sequence[bytes], *, aside: Sequence[Aside] = (), resume: str | None = None) -> Taken:
        """Keep what was delivered: each unit is a line of the dialect by itself. Durable on return. Raises `StoreError`.

        `aside` is what the caller could not make units of; `resume` is where to go on behind all of it.
        """
        # What takes the time is done before others have to wait.
        found = list(self._reader.read(((number, unit, "") for number, unit in enumerate(units, 1)), self.about))
        with self._lock:
            first = self.span.lines
            self.span.lines += max(len(units), *(one.line for one in aside)) if aside else len(units)
            moved_aside = [msgspec.structs.replace(one, line=one.line + first) for one in aside]
            return self._commit([one._replace(line=one.line + first) for one in found], moved_aside, resume)

    def keep(self, found: Sequence[Found], *, aside: Sequence[Aside] = (), resume: str | None = None) -> Taken:
        """Keep what a reader of the dialect found, each in a line of its own. Durable on return. Raises `StoreError`.

        For who holds the reader, because what it remembers has to outlast a batch.
        """
        with self._lock:
            numbered = [one._replace(line=self.span.lines + number) for number, one in enumerate(found, 1)]
            self.span.lines += len(numbered)
            moved_aside = [
                msgspec.structs.replace(one, line=self.span.lines + number) for number, one in enumerate(aside, 1)
            ]
            self.span.lines += len(moved_aside)
            return self._commit(numbered, moved_aside, resume)

    def follow(
        self,
        lines: Iterator[Line | None],
        resume: Callable[[int], str],
        *,
        after: int = 0,
        batch: int = BATCH_RECORDS,
    ) -> None:
        """Keep what a stream delivers in a dialect that has to see its lines in turn, until the stream ends.

        `None` among the lines says that no more has come for now: then what is held is committed, and nothing that was
        handed on waits for longer. `resume` gives where to go on behind the line with that number. What is found in lines
        up to `after` was kept before: they are there so that the reader knows what came before. Raises `StoreError`.
        """
        held: list[Found] = []
        size = 0

        def commit() -> None:
            nonlocal size
            if held:
                with self._lock:
                    self.span.lines = max(self.span.lines, held[-1].line)
                    # What the reader still holds back lies behind the last that it gave.
                    self._commit(held, [], resume(held[-1].line))
                held.clear()
                size = 0

        def some() -> Iterator[Line]:
            for line in lines:
                if line is None:
                    commit()
                else:
                    yield line

        for one in self._reader.read(some(), self.about):
            if one.line <= after:
                continue
            held.append(one)
            size += len(one.payload)
            if len(held) >= batch or size >= BATCH_BYTES:
                commit()
        commit()

    def _commit(self, found: Iterable[Found], aside: Sequence[Aside], resume: str | None) -> Taken:
        taken = Taken()
        records: list[Record] = []
        heads: list[list[Head]] = []
        wrong = list(aside)
        clocked = self._reader.CLOCKED
        for number, payload, what in found:
            if isinstance(what, Recognised):
                self.span.reach(what.time, clocked)
                heads.append(moved(what.heads, self.span.skew))
                records.append(Record(what.identity, what.fingerprint, number, payload))
            elif isinstance(what, str):
                wrong.append(Aside.of(number, what, payload))
            else:
                self.span.reach(what.time, clocked)
                if isinstance(what, Ignored):
                    taken.ignored += what.records
                else:
                    taken.unknown += what.records
        before = self.span.resume
        if resume is not None:
            self.span.resume = resume
        taken.aside = len(wrong)
        try:
            taken.add(self._intake.commit(self, records, heads, wrong))
        except BaseException:
            self.span.resume = before  # nothing was kept: whoever goes on, goes on from there
            raise
        self.taken.add(taken)
        return taken
