"""Projections are disposable: folded again from the ledger they are what the import left, and resuming adds nothing."""

import pytest

from adapters.judging import Judged, fold
from adapters.ledger import Ledger
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.replaying import Replayed, conclude, recording, replay, replayed

RECORDINGS = (
    "s0-buggy",
    "s1-buggy",
    "s2-buggy-A",
    "s4-buggy",
    "s4-control-ordered",
    "quirks-truncate",
    "mixed-small",
    "mixed-seed7",
)


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_is_rebuilt_from_the_ledger_is_what_the_import_left(name, tmp_path):
    with SQLiteFile(tmp_path / "kept.ledger") as file:
        journal = SQLiteJournal(file)
        run = replay(*recording(name), journal=journal, recorder=SQLiteRecorder(file))
    with SQLiteFile(tmp_path / "kept.ledger", mode="read") as file:
        journal = SQLiteJournal(file)
        ledger = Ledger(SQLiteRecorder(file))
        rebuilt = fold(ledger)
        events = [placed.event for placed in ledger.events()]
        again = Replayed(rebuilt, events, conclude(rebuilt, events, journal), [])
    for other in (run, replayed(name)):
        assert again.digest == other.digest
        assert again.events == other.events
        assert again.findings == other.findings
        assert again.standings() == other.standings()
        assert counted(again.judged) == counted(other.judged)


@pytest.mark.parametrize("name", ["s4-buggy", "mixed-small"])
def test_importing_the_same_files_again_appends_nothing_and_changes_no_answer(name, tmp_path):
    heads = []
    for _ in range(2):
        with SQLiteFile(tmp_path / "kept.ledger") as file:
            recorder = SQLiteRecorder(file)
            run = replay(*recording(name), journal=SQLiteJournal(file), recorder=recorder)
            heads.append(recorder.head())
    assert heads[0] == heads[1] == len(replayed(name).events)
    assert run.tallies[0].recognised == 0
    assert run.tallies[0].duplicates == replayed(name).tallies[0].recognised + replayed(name).tallies[0].duplicates
    assert (run.digest, run.findings) == (replayed(name).digest, replayed(name).findings)


def counted(judged: Judged) -> tuple[object, ...]:
    """What else a pass counts: the audit trail and the coverage."""
    reading = judged.reading
    coverage = reading.coverage
    return (
        reading.trail.by_actor,
        reading.refusals,
        coverage.unknown,
        coverage.sighted,
        coverage.revisions,
        reading.gaps,
    )
