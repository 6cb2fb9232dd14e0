"""What is going on when the power fails: appends and commits of all kinds, from one thread or several, in several sessions.

Every attempt is told before it is made, and so is what became of it; `history.py` holds that against what is found.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from eventsourcing.dcb.api import DCBAppendCondition, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError

from adapters.ports import Record, StoreError
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.crash.history import Attempt, Opened, Said, committed

NUMBERS_A_THREAD = 10_000
_REFUSED_WHERE_ANYTHING_IS = DCBAppendCondition(DCBQuery([DCBQueryItem(tags=["shop"])]))

Tell = Callable[[Said | Opened], None]
Look = Callable[[SQLiteRecorder, SQLiteJournal], None]


@dataclass(frozen=True)
class Workload:
    """How often it opens the file, and what each of its threads does meanwhile."""

    sessions: int = 3
    appenders: int = 1
    appends: int = 20
    """Of each appender in each session."""
    commits: int = 6
    """To the journal, in each session."""
    largest: int = 100
    """Events in an append at most; most have one to thirty."""
    first_number: int = 0
    """Below the numbers of its attempts."""
    acknowledges_early: bool = False
    """Whether it says so before the store did: for a simulator that must find out."""

    def run(self, path: Path, tell: Tell, chance: Random, look: Look = lambda recorder, journal: None) -> None:
        """Do all of it. With one appender everything happens in one thread, and the same way every time.

        `look` is called between what one thread does, and before the file is closed.
        """
        hands = [
            _Hand(self, tell, Random(chance.random()), self.first_number + NUMBERS_A_THREAD * number)
            for number in range(self.appenders)
        ]
        for _ in range(self.sessions):
            tell(Opened())
            with SQLiteFile(path) as file:
                recorder, journal = SQLiteRecorder(file), SQLiteJournal(file)
                first, *others = hands
                if others:
                    _together([first.commits(journal), *(hand.appends(recorder) for hand in hands)], recorder)
                else:
                    for _ in _alternately(first.appends(recorder), first.commits(journal), chance):
                        look(recorder, journal)
                look(recorder, journal)


class _Hand:
    """One thread's attempts, numbered through all its sessions."""

    def __init__(self, workload: Workload, tell: Tell, chance: Random, number: int) -> None:
        self._workload = workload
        self._tell = tell
        self._chance = chance
        self._number = number
        self._committed: list[Record] = []

    def appends(self, recorder: SQLiteRecorder) -> Iterator[None]:
        for _ in range(self._workload.appends):
            attempt = self._attempt("ledger")
            condition = attempt.condition()
            if self._chance.random() < 0.1:
                condition = _REFUSED_WHERE_ANYTHING_IS
            self._tell(Said(attempt, "begun"))
            if self._workload.acknowledges_early:
                self._tell(Said(attempt, "acknowledged", recorder.head() + attempt.size))
            try:
                position = recorder.append(attempt.events(), condition)
            except IntegrityError:
                self._tell(Said(attempt, "refused"))
            except StoreError as error:
                self._tell(Said(attempt, "failed", error=error))
            else:
                self._tell(Said(attempt, "acknowledged", position))
            yield

    def commits(self, journal: SQLiteJournal) -> Iterator[None]:
        for _ in range(self._workload.commits):
            attempt = self._attempt("journal")
            self._tell(Said(attempt, "begun"))
            try:
                accepted = committed(journal, attempt, self._committed)
                # Nobody else commits.
                number = journal.head()
            except StoreError as error:
                self._tell(Said(attempt, "failed", error=error))
            else:
                assert accepted == [False] * len(self._committed) + [True] * attempt.size
                self._committed = [attempt.records()[-1]]
                self._tell(Said(attempt, "acknowledged", number))
            yield

    def _attempt(self, part: str) -> Attempt:
        self._number += 1
        chance = self._chance
        size = min(
            chance.choice((1, 1, 1, 2, 7, 30, chance.randint(1, self._workload.largest))), self._workload.largest
        )
        each_bytes = chance.choice((20, 20, 100, 300)) if size > 10 else chance.choice((20, 200, 1000, 9000))
        return Attempt(
            "ledger" if part == "ledger" else "journal", self._number, size, each_bytes, chance.random() < 0.5
        )


def _together(works: Sequence[Iterator[None]], recorder: SQLiteRecorder) -> None:
    """Each in a thread of its own."""
    errors: list[BaseException] = []

    def drain(work: Iterator[None]) -> None:
        try:
            for _ in work:
                pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drain, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            # A reader beside them, which may keep the log from being begun anew.
            sum(1 for _ in recorder.read())
    finally:
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _alternately(appends: Iterator[None], commits: Iterator[None], chance: Random) -> Iterator[None]:
    waiting = [appends, appends, appends, commits]
    while waiting:
        steps = chance.choice(waiting)
        try:
            yield next(steps)
        except StopIteration:
            waiting = [other for other in waiting if other is not steps]
