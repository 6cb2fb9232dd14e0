"""The disk fills up or answers with errors: the append fails as a whole, nothing acknowledged suffers, and it goes on.

And the power may fail at any moment of all that. Which errors there are says `disk.py`.
"""

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final, get_args

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent

from adapters.ports import NotALedger, StoreError, StoreFull
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.adapters.conftest import LONG_SEARCH
from tests.crash.disk import Disk, Fault, Platter
from tests.crash.history import (
    Attempt,
    History,
    Opened,
    Said,
    Violation,
    check_reopened,
    content_of,
    lay_down,
    problems_of,
)
from tests.crash.power import AFRESH, LEDGER, SMALL, search
from tests.crash.workload import Workload

RUNS = 250 if LONG_SEARCH else 20
SESSIONS: Final = 3
WHERE: Final[dict[Fault, str]] = {
    "full": "write",
    "short write": "write",
    "write error": "write",
    "sync error": "sync",
    "truncation error": "truncate",
    "deletion error": "delete",
}
# About as often as it happens in a session.
OFTEN: Final = {"write": 250, "sync": 30, "truncate": 8, "delete": 3}


def test_every_error_of_the_disk_is_tried():
    assert set(WHERE) == set(get_args(Fault))


@pytest.mark.parametrize("fault", WHERE)
def test_an_error_of_the_disk_fails_the_append_as_a_whole_and_nothing_acknowledged_suffers(fault, memory, tmp_path):
    hit = failed = 0
    for run in range(RUNS):
        # Every other one with several threads, whose appends may fail together.
        appenders = 1 + 3 * (run % 2)
        disk, history, hits = run_with(fault, memory / "run", Random(f"{fault} {run}"), appenders)
        hit += hits > 0
        failed += bool(history.in_doubt)
        check_reopened(memory / "run" / LEDGER, history, AFRESH)
        search(disk, 3, f"{fault} {run}", memory, tmp_path)
        shutil.rmtree(memory / "run")
    assert hit > RUNS // 2, "too few of these runs met their error to show anything"
    if WHERE[fault] in ("write", "sync"):
        assert failed > RUNS // 4


def test_an_engine_that_acknowledges_what_failed_is_found_out(memory, monkeypatch):
    append = SQLiteRecorder.append

    def keeps_quiet(
        self: SQLiteRecorder, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None
    ) -> int:
        try:
            return append(self, events, condition)
        except StoreError:
            return self.head() + len(events)

    monkeypatch.setattr(SQLiteRecorder, "append", keeps_quiet)
    with pytest.raises(Violation, match="acknowledged"):
        for run in range(RUNS):
            _, history, _ = run_with("sync error", memory / f"{run}", Random(run))
            check_reopened(memory / f"{run}" / LEDGER, history, AFRESH)


def test_what_opening_finds_of_an_append_whose_wait_failed_outlives_a_power_failure(memory):
    """The system takes for written what the disk refused; who opens the file then sees it, and may rest on it."""
    appends = [Attempt("ledger", number, 3, 100) for number in (1, 2)]
    folder = memory / "run"
    folder.mkdir()
    with Disk(folder) as disk:
        with SQLiteFile(folder / LEDGER) as file:
            recorder = SQLiteRecorder(file)
            recorder.append(appends[0].events())
            disk.fault = lambda what, name: "sync error" if what == "sync" else None
            with pytest.raises(StoreError):
                recorder.append(appends[1].events())
            assert [found.event for found in recorder.read()] == appends[0].events()
        disk.fault = well
        with SQLiteFile(folder / LEDGER) as file:
            seen = list(SQLiteRecorder(file).read())
            assert [found.event for found in seen] == [*appends[0].events(), *appends[1].events()]
            platter = Platter(disk.found)
            for operation in disk.operations:
                platter.follow(operation)
    for seed in range(20):
        after = memory / f"{seed}"
        after.mkdir()
        lay_down(after / LEDGER, platter.image(Random(seed), kept=0), Random(seed))
        with SQLiteFile(after / LEDGER) as file:
            assert list(SQLiteRecorder(file).read()) == seen


def test_the_log_of_another_programs_database_is_not_touched(ledger_path):
    log = ledger_path.with_name("shop.ledger-wal")
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE bookmark (url TEXT)")
        os.utime(log, (1, 1))
        with pytest.raises(NotALedger):
            SQLiteFile(ledger_path)
        assert log.stat().st_mtime == 1


def test_a_ledgers_own_log_is_written_again_when_it_was_left_behind(ledger_path):
    log = ledger_path.with_name("shop.ledger-wal")
    with SQLiteFile(ledger_path) as file:
        SQLiteRecorder(file).append([DCBEvent("Left", b"", [])])
        left = {path.name: path.read_bytes() for path in (ledger_path, log)}
    for name, content in left.items():
        ledger_path.with_name(name).write_bytes(content)
    os.utime(log, (1, 1))
    with SQLiteFile(ledger_path) as file:
        assert log.stat().st_mtime > 1
        assert log.read_bytes() == left[log.name]
        assert SQLiteRecorder(file).head() == 1


def well(what: str, name: str) -> None:
    """A disk without faults."""


def run_with(fault: Fault, folder: Path, chance: Random, appenders: int = 1) -> tuple[Disk, History, int]:
    """Several sessions on a disk that goes bad in one of the first two, for one answer or until the operator repairs it."""
    folder.mkdir()
    disk = Disk(folder, pragmas=SMALL)
    history = History()
    answers = 0
    first = chance.randrange(OFTEN[WHERE[fault]])
    last = first + chance.choice((1, 3, 10**6))

    def going_bad(what: str, name: str) -> Fault | None:
        nonlocal answers
        if what != WHERE[fault]:
            return None
        answers += 1
        return fault if first < answers <= last else None

    def tell(said: Said | Opened) -> None:
        disk.mark(said)
        history.follow(said)
        if isinstance(said, Said) and said.error is not None:
            assert answers > first, f"the disk was well, and yet: {said.error}"
            if fault in ("full", "short write"):
                assert isinstance(said.error, StoreFull), said.error
                assert "make room" in str(said.error)

    def look(recorder: SQLiteRecorder, journal: SQLiteJournal) -> None:
        if history.failed:
            history.check(content_of(recorder, journal), crashed=False)

    with disk:
        bad_session = chance.randrange(SESSIONS - 1)
        for session in range(SESSIONS):
            if session == bad_session:
                disk.fault = going_bad
            workload = Workload(
                sessions=1,
                appenders=appenders,
                appends=12 // appenders,
                commits=4,
                largest=30,
                first_number=AFRESH // 10 * session,
            )
            try:
                workload.run(folder / LEDGER, tell, Random(chance.random()), look)
            except StoreError as error:
                # It could not even be opened.
                assert session == bad_session, error
            disk.fault = well
        # A last time, on the disk that was repaired.
        workload = Workload(sessions=1, appends=2, commits=1, first_number=AFRESH // 10 * SESSIONS)
        workload.run(folder / LEDGER, tell, Random(chance.random()), problems_of)
    history.follow(Opened())
    return disk, history, max(answers - first, 0)
