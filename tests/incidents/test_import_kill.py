"""An import killed at any moment: the ledger verifies, nothing acknowledged is missing, and it resumes to the same end.

`importing_child` is what is killed.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.replaying import LONG_SEARCH, lines_of, recording, replay, replayed

KILLS = 100 if LONG_SEARCH else 15
KILLS_A_LEDGER = 3
RECORDING = "mixed-small"
TIMEOUT_SECONDS = 60.0


class Said(NamedTuple):
    """What an import acknowledged before it ended: entries of the journal, positions of the ledger, the digest."""

    journal: int
    ledger: int
    done: str
    words: int
    """How often it said so."""


def test_an_import_killed_at_any_moment_loses_nothing_and_resumes_to_the_same_answer(tmp_path):
    chance = random.Random()
    whole = imported(tmp_path / "undisturbed.ledger", recording(RECORDING))
    assert whole.done == replayed(RECORDING).digest
    interrupted = 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill // KILLS_A_LEDGER}.ledger"
        words = chance.randint(1, whole.words)
        told = f"kill {kill % KILLS_A_LEDGER + 1} of {path.name}, after {words} words"
        said = imported(path, recording(RECORDING), kill_after=words)
        interrupted += bool(said.journal or said.ledger) and not said.done
        assert_kept(path, said, told)
        if (kill + 1) % KILLS_A_LEDGER == 0 or kill + 1 == KILLS:
            assert_resumes(path, told)
    assert interrupted >= KILLS // 3, "the kills came too early or too late to show anything"


def test_an_import_killed_while_it_decides_again_resumes_to_the_same_answer(tmp_path):
    """The late half of a log is in the ledger; the early half comes, and a new generation begins."""
    lines = lines_of(RECORDING)
    early, late = tmp_path / "early.log", tmp_path / "late.log"
    early.write_bytes(b"\n".join(lines[: len(lines) // 2]))
    late.write_bytes(b"\n".join(lines[len(lines) // 2 :]))
    chance = random.Random()
    words = 0
    for kill in range(KILLS // 3):
        path = tmp_path / f"{kill}.ledger"
        imported(path, [late])
        said = imported(path, [early], kill_after=chance.randint(1, words) if words else None)
        words = words or said.words
        told = f"kill {kill + 1}"
        assert_kept(path, said, told)
        assert_resumes(path, told)


def assert_kept(path: Path, said: Said, told: str) -> None:
    with SQLiteFile(path) as file:
        recorder, journal = SQLiteRecorder(file), SQLiteJournal(file)
        assert list(recorder.verify()) == [], told
        assert list(journal.verify()) == [], told
        assert journal.head() >= said.journal, told
        assert recorder.head() >= said.ledger, told
        assert [found.position for found in recorder.read()] == list(range(1, recorder.head() + 1)), told
        assert [entry.number for entry in journal.read()] == list(range(1, journal.head() + 1)), told


def assert_resumes(path: Path, told: str) -> None:
    wanted = replayed(RECORDING)
    with SQLiteFile(path) as file:
        run = replay(*recording(RECORDING), journal=SQLiteJournal(file), recorder=SQLiteRecorder(file))
    assert run.digest == wanted.digest, told
    assert run.events == wanted.events, told
    assert run.findings == wanted.findings, told


def imported(path: Path, logs: list[Path], kill_after: int | None = None) -> Said:
    """Run an import; kill it soon after so many words, if it has not ended by then."""
    command = [sys.executable, "-m", "tests.incidents.importing_child", str(path), *map(str, logs)]
    # Counted in words, for how long anything takes depends on who else is on the machine. Unbuffered: `communicate` does
    # not know of what a buffer has read beyond a line.
    with subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = b""
        if kill_after is not None:
            first = b"".join(process.stdout.readline() for _ in range(kill_after))
            time.sleep(random.uniform(0, 0.004))
            process.send_signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert errors == b"", errors.decode()
    heads = {"journal": 0, "ledger": 0}
    done = ""
    # The last line may be cut short.
    lines = (first + output).split(b"\n")[:-1]
    for line in lines:
        word, value = line.decode().split()
        if word == "done":
            done = value
        else:
            heads[word] = int(value)
    assert done or kill_after is not None, "the import ended without a digest"
    return Said(heads["journal"], heads["ledger"], done, len(lines))


@pytest.fixture(autouse=True)
def _the_answer_is_known() -> None:
    """Replayed before the clock runs."""
    replayed(RECORDING)
