"""What was attempted, what was acknowledged, and whether what is found after a crash fits that.

An attempt is one append to the ledger or one commit to the journal. Its content follows from it, so that what is found can be
compared to the byte. The engine is asked through its public classes alone: how it lays things out in the file is its own
affair. What happens meanwhile on the disk is written down by `disk.py`; `workload.py` makes the attempts.
"""

import os
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError

from adapters.ports import Aside, Record, StoreError
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder

SOURCE = ("crash.log", "audit")


class Violation(AssertionError):
    """What was promised did not hold."""


class Attempt(NamedTuple):
    """So many events or records, of about so many bytes each; the number is given once."""

    part: Literal["ledger", "journal"]
    number: int
    size: int
    each_bytes: int
    conditioned: bool = False

    def events(self) -> Sequence[DCBEvent]:
        """What is appended to the ledger."""
        return _events(self)

    def records(self) -> Sequence[Record]:
        """What is committed to the journal."""
        return _records(self)

    def aside(self) -> Aside:
        """What is kept aside with it."""
        return Aside.of(self.number, "cannot be read", b"<unreadable %d>" % self.number)

    def condition(self) -> DCBAppendCondition | None:
        """That it is not there yet: what a client says that must not append twice."""
        if not self.conditioned:
            return None
        return DCBAppendCondition(DCBQuery([DCBQueryItem(tags=[f"attempt:{self.number}"])]))


class Said(NamedTuple):
    """A word on an attempt: `begun` before the call, the rest after it came back; acknowledged, with its last position."""

    attempt: Attempt
    what: Literal["begun", "acknowledged", "refused", "failed"]
    position: int = 0
    error: StoreError | None = None


class Opened(NamedTuple):
    """A word before the file is opened, again or for the first time."""


class Content(NamedTuple):
    """What a store says that it has."""

    events: list[tuple[int, DCBEvent]]
    entries: list[tuple[int, Record]]
    aside: list[int]
    summaries: list[bytes]


class History:
    """What a client knows of its attempts at one moment."""

    def __init__(self) -> None:
        self.begun: dict[tuple[str, int], Attempt] = {}
        self.acknowledged: dict[Attempt, int] = {}
        self.refused: set[Attempt] = set()
        self.failed: set[Attempt] = set()
        self.in_doubt: set[Attempt] = set()

    def follow(self, said: Said | Opened) -> None:
        """Take note of a word."""
        if isinstance(said, Opened):
            # A commit of which only the wait failed may lie there whole, and to open the file decides.
            self.in_doubt |= self.failed
            self.failed.clear()
            return
        attempt = said.attempt
        match said.what:
            case "begun":
                self.begun[attempt.part, attempt.number] = attempt
            case "acknowledged":
                self.acknowledged[attempt] = said.position
            case "refused":
                self.refused.add(attempt)
            case "failed":
                self.failed.add(attempt)

    def copy(self) -> "History":
        """As it is now."""
        other = History()
        other.begun = dict(self.begun)
        other.acknowledged = dict(self.acknowledged)
        other.refused = set(self.refused)
        other.failed = set(self.failed)
        other.in_doubt = set(self.in_doubt)
        return other

    def check(self, content: Content, *, crashed: bool = True) -> list[Attempt]:
        """Raise a Violation unless everything acknowledged is there, whole, once and in its place, and nothing else but
        attempts that were begun, whole and once.

        While the file is open, an attempt that failed is not there. After a crash it may be, behind everything
        acknowledged: its error came before its fate was known.

        Returns:
            The attempts of which nobody had heard yet, and that are there.
        """
        ledger = self._attempts("ledger", [(position, event.data, event) for position, event in content.events])
        journal = self._attempts("journal", [(number, record.payload, record) for number, record in content.entries])
        for found in (ledger, journal):
            self._check_acknowledged(found, crashed)
        for attempt in self.acknowledged:
            if attempt not in ledger and attempt not in journal:
                raise Violation(f"{attempt} was acknowledged and is lost")
        if [attempt.aside().line for attempt in journal] != content.aside:
            raise Violation(f"kept aside is {content.aside}, and the journal has {list(journal)}")
        summary = b"%d" % list(journal)[-1].number if journal else b""
        if content.summaries not in ([summary], [] if not journal else [summary]):
            raise Violation(f"the source's summary is {content.summaries}, and its last commit says {summary!r}")
        return [attempt for attempt in (*ledger, *journal) if attempt not in self.acknowledged]

    def _attempts(self, part: str, found: Sequence[tuple[int, bytes, DCBEvent | Record]]) -> dict[Attempt, int]:
        """The attempts that are there, in order, with the last position of each."""
        attempts: dict[Attempt, int] = {}
        start = before = 0
        while start < len(found):
            number = int(found[start][1].split(b"/", 1)[0])
            attempt = self.begun.get((part, number))
            if attempt is None:
                raise Violation(f"{part}: attempt {number} is there and was never begun")
            if attempt in attempts:
                raise Violation(f"{attempt} is there twice, or in pieces")
            some = found[start : start + attempt.size]
            expected = attempt.events() if part == "ledger" else attempt.records()
            if [item for _, _, item in some] != list(expected):
                raise Violation(f"{attempt} is not there as it was given: {len(some)} from {found[start][0]} on")
            for place, _, _ in some:
                if place <= before:
                    raise Violation(f"{part}: {place} comes behind {before}")
                before = place
            attempts[attempt] = before
            start += attempt.size
        return attempts

    def _check_acknowledged(self, found: dict[Attempt, int], crashed: bool) -> None:
        last = max((place for attempt, place in found.items() if attempt in self.acknowledged), default=0)
        for attempt, place in found.items():
            if attempt in self.refused:
                raise Violation(f"{attempt} was refused, and is there")
            if attempt in self.failed and (not crashed or place < last):
                raise Violation(f"{attempt} failed, and is there, at {place}; the last acknowledged is at {last}")
            if attempt in self.acknowledged and place != self.acknowledged[attempt]:
                raise Violation(f"{attempt} was acknowledged at {self.acknowledged[attempt]}, and is at {place}")


def content_of(recorder: SQLiteRecorder, journal: SQLiteJournal) -> Content:
    """Everything, read."""
    return Content(
        [(found.position, found.event) for found in recorder.read()],
        [
            (entry.number, Record(entry.identity, entry.fingerprint, entry.line, entry.payload))
            for entry in journal.read()
        ],
        [kept.line for kept in journal.kept_aside()],
        [source.summary for source in journal.sources()],
    )


def problems_of(recorder: SQLiteRecorder, journal: SQLiteJournal) -> None:
    """Raise a Violation where `verify` names a problem."""
    problems = [*recorder.verify(), *journal.verify()]
    if problems:
        raise Violation("; ".join(map(str, problems[:5])))


def check_reopened(path: Path, history: History, afresh: int) -> None:
    """Open what a crash left, by nothing but opening it, and hold it against what was promised; then go on writing.

    `afresh` is the number of the attempts to go on with, which no other has.

    Raises:
        Violation: with what did not hold; also where the engine refuses to open it.
    """
    try:
        with SQLiteFile(path) as file:
            recorder, journal = SQLiteRecorder(file), SQLiteJournal(file)
            content = content_of(recorder, journal)
            unheard = history.check(content)
            problems_of(recorder, journal)
            _go_on(recorder, journal, history, content, unheard, afresh)
    except StoreError as error:
        raise Violation(f"{type(error).__name__}: {error}") from error


def _go_on(
    recorder: SQLiteRecorder,
    journal: SQLiteJournal,
    history: History,
    content: Content,
    unheard: Sequence[Attempt],
    afresh: int,
) -> None:
    """The client does again what it does not know the end of; each must end up there once."""
    for attempt in unheard:
        if attempt.part == "ledger":
            # Only a condition keeps an append from being done twice.
            again = attempt._replace(conditioned=True)
            try:
                recorder.append(again.events(), again.condition())
            except IntegrityError:
                continue
            raise Violation(f"{attempt} is there and was appended again under the condition that it is not")
        if any(committed(journal, attempt)):
            raise Violation(f"{attempt} is there and was taken again")
    new, commit = goes_on(afresh)
    head = recorder.append(new.events())
    if content.events and head <= content.events[-1][0]:
        raise Violation(f"the next append was acknowledged at {head}, and {content.events[-1][0]} was taken")
    if [found.event for found in recorder.read(after=content.events[-1][0] if content.events else 0)] != new.events():
        raise Violation("what is appended next is not what is read next")
    if committed(journal, commit) != [True, True]:
        raise Violation("the next commit was not taken")


def goes_on(afresh: int) -> tuple[Attempt, Attempt]:
    """What `check_reopened` goes on with: an append and a commit."""
    return Attempt("ledger", afresh, 2, 50), Attempt("journal", afresh, 2, 50)


def committed(journal: SQLiteJournal, attempt: Attempt, before: Sequence[Record] = ()) -> list[bool]:
    """Commit an attempt behind records that came before; which of all these were new."""
    source = journal.source(*SOURCE)
    records = [*before, *attempt.records()]
    return journal.commit(source, records, [attempt.aside()], b"%d" % attempt.number).accepted


@lru_cache(maxsize=4096)
def _events(attempt: Attempt) -> Sequence[DCBEvent]:
    return [
        DCBEvent(
            f"Kind{(attempt.number + index) % 7}",
            content,
            [f"attempt:{attempt.number}", f"eip:{(attempt.number * 31 + index) % 40}", "shop"],
        )
        for index, content in enumerate(_contents(attempt))
    ]


@lru_cache(maxsize=4096)
def _records(attempt: Attempt) -> Sequence[Record]:
    return [
        Record(f"record-{attempt.number}-{index}", b"%08d" % (attempt.number % 10**8), index + 1, content)
        for index, content in enumerate(_contents(attempt))
    ]


def _contents(attempt: Attempt) -> Iterable[bytes]:
    chance = random.Random(f"{attempt.part} {attempt.number}")
    for index in range(attempt.size):
        beginning = b"%d/%d/%d/" % (attempt.number, index, attempt.size)
        yield beginning + chance.randbytes(max(attempt.each_bytes - len(beginning), 0))


def lay_down(path: Path, image: dict[str, bytes], chance: random.Random) -> None:
    """Put an image's files where the ledger at `path` was, with the rubbish that a power failure may leave beside them."""
    for name, content in image.items():
        path.with_name(name).write_bytes(content)
    # Shared memory is no file that anyone waits for: it is gone, or anything at all.
    if chance.random() < 0.5:
        size = chance.choice((0, 100, 32768))
        path.with_name(f"{path.name}-shm").write_bytes(chance.choice((bytes(size), chance.randbytes(size))))
    if chance.random() < 0.5:
        note = b'{"pid": %d, "host": "gone", "command": "netledger", "since": "2026-11-21"}' % os.getpid()
        path.with_name(f"{path.name}.lock").write_bytes(chance.choice((b"", b"{", note, chance.randbytes(40))))
