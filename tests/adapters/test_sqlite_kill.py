"""A writer killed at any moment: the file opens, holds together, and has everything it acknowledged."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.sqlite_child import event_at, record_at

pytestmark = pytest.mark.usefixtures("no_endless_wait")

KILLS = 100 if LONG_SEARCH else 15
KILLS_A_FILE = 5


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path):
    chance = random.Random()
    acknowledgements = 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill // KILLS_A_FILE}.ledger"
        # Now while it starts or makes the file, now while it writes.
        from_the_start = kill % KILLS_A_FILE == 0
        delay = chance.uniform(0.1, 0.5) if from_the_start else chance.uniform(0, 0.15)
        acknowledged = written_until_killed(path, delay, from_the_start=from_the_start)
        acknowledgements += sum(map(bool, acknowledged.values()))
        with SQLiteFile(path) as file:
            recorder = SQLiteRecorder(file)
            journal = SQLiteJournal(file)
            told = f"killed after {delay:.4f} s, {'from the start' if from_the_start else 'while writing'}"
            assert list(recorder.verify()) == [], told
            assert list(journal.verify()) == [], told
            assert recorder.head() >= acknowledged["ledger"], told
            assert journal.head() >= acknowledged["journal"], told
            for number, found in enumerate(recorder.read(), 1):
                assert (found.position, found.event) == (number, event_at(number)), told
            for number, entry in enumerate(journal.read(), 1):
                assert (entry.number, entry.payload) == (number, record_at(number).payload), told
            if journal.head():
                assert [source.summary for source in journal.sources()] == [b"%d" % journal.head()], told
    assert acknowledgements >= KILLS, "the kills came too early to show anything"


def written_until_killed(path: Path, delay: float, *, from_the_start: bool) -> dict[str, int]:
    """What a writer acknowledged last before it was killed, `delay` seconds after its start or first word."""
    command = [sys.executable, "-m", "tests.adapters.sqlite_child", "write", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = b"" if from_the_start else process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        output = first + process.stdout.read()
        assert process.stderr.read() == b""
    acknowledged = {"ledger": 0, "journal": 0}
    # The last line may be cut short.
    for line in output.split(b"\n")[:-1]:
        part, number = line.split()
        acknowledged[part.decode()] = int(number)
    return acknowledged
