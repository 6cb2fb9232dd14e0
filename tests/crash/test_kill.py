"""A writer of several threads is killed at any moment, also while it opens or closes the file, again and again on one file.

The kernel keeps what was written: this shows what the simulation cannot, that the real locks, the real shared memory and the
operating system leave nothing behind that the next writer would stumble over. tests/adapters/test_sqlite_kill.py kills a
writer of one thread.
"""

import multiprocessing
import os
import time
from pathlib import Path
from random import Random
from typing import Final, Literal

from adapters.stores import sqlite_file
from tests.adapters.conftest import LONG_SEARCH
from tests.crash.history import Attempt, History, Opened, Said, check_reopened, goes_on
from tests.crash.power import AFRESH, LEDGER, SMALL
from tests.crash.workload import Workload

KILLS = 300 if LONG_SEARCH else 40
KILLS_A_FILE = 5
MOST_BYTES = 6_000
"""How much a writer says before it is killed, at most: a slow machine gets as far as a fast one."""
PATIENCE_SECONDS = 60
PARTS: Final[dict[str, Literal["ledger", "journal"]]] = {"ledger": "ledger", "journal": "journal"}
# Nothing fails here.
WHATS: Final[dict[str, Literal["begun", "acknowledged", "refused"]]] = {
    "begun": "begun",
    "acknowledged": "acknowledged",
    "refused": "refused",
}


def test_what_several_threads_acknowledged_before_a_kill_is_there_after_it(memory, tmp_path):
    chance = Random()
    acknowledged = while_writing = 0
    history = History()
    for kill in range(KILLS):
        # On the disk and in memory: what is killed there has got further.
        folder = (tmp_path, memory)[kill // KILLS_A_FILE % 2] / f"{kill // KILLS_A_FILE}"
        if kill % KILLS_A_FILE == 0:
            folder.mkdir()
            acknowledged += len(history.acknowledged)
            history = History()
        words = folder / f"{kill}.words"
        # One in eight before it has said a word: while it opens the file.
        said = chance.randrange(MOST_BYTES) if kill % 8 else 0
        killed_after(said, chance.uniform(0, 0.02), folder / LEDGER, words, 1_000_000 * (kill + 1), chance.random())
        follow(words, history)
        while_writing += any(attempt not in history.acknowledged for attempt in history.begun.values())
        check_reopened(folder / LEDGER, history, AFRESH // 2 + kill)
        for attempt in goes_on(AFRESH // 2 + kill):
            history.follow(Said(attempt, "begun"))
    assert acknowledged > 5 * KILLS, "the kills came too early to show anything"
    assert while_writing > KILLS // 4


def killed_after(said: int, seconds: float, path: Path, words: Path, first_number: int, seed: float) -> None:
    """Let a process write until it has said so many bytes, and a moment longer, and kill it."""
    # It is forked from a process that has everything imported, so that time goes into writing.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    words.touch()
    writer = processes.Process(target=write_until_killed, args=(path, words, first_number, seed))
    writer.start()
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words.stat().st_size < said and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(seconds)
    finally:
        writer.kill()
        writer.join()


def write_until_killed(path: Path, words: Path, first_number: int, seed: float) -> None:
    """Append and commit from several threads, and now and then open the file anew; say each word before the next step."""
    sqlite_file.CHECKPOINT_PAGES = SMALL["wal_autocheckpoint"]  # type: ignore[misc]
    told = os.open(words, os.O_WRONLY | os.O_APPEND)

    def tell(said: Said | Opened) -> None:
        if isinstance(said, Opened):
            line = "opened"
        else:
            part, number, size, each_bytes, conditioned = said.attempt
            line = f"{said.what} {part} {number} {size} {each_bytes} {conditioned:d} {said.position}"
        # One call: of a line that a kill comes by there is all or nothing.
        os.write(told, f"{line}\n".encode())

    workload = Workload(sessions=10_000, appenders=4, appends=5, commits=4, largest=40, first_number=first_number)
    workload.run(path, tell, Random(seed))


def follow(words: Path, history: History) -> None:
    """Tell a history what a writer said."""
    for line in words.read_text().splitlines():
        what, *rest = line.split()
        if what == "opened":
            history.follow(Opened())
            continue
        part, number, size, each_bytes, conditioned, position = rest
        attempt = Attempt(PARTS[part], int(number), int(size), int(each_bytes), conditioned == "1")
        history.follow(Said(attempt, WHATS[what], int(position)))
