"""What the tests of the SQLite file run in processes of their own: `-m tests.adapters.sqlite_child JOB`."""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from eventsourcing.dcb.api import DCBEvent

from adapters.ports import Record
from adapters.stores import sqlite_file
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder


def event_at(position: int) -> DCBEvent:
    return DCBEvent("Moved", b"%d" % position * 20, [f"eip:{position % 50}", f"n:{position}"])


def record_at(number: int) -> Record:
    return Record(f"record-{number}", b"%08d" % (number % 10**8), number, b"payload of %d" % number * 10)


def say(*words: object) -> None:
    print(*words, flush=True)


def write_until_killed(path: Path) -> None:
    """Append and commit for ever; say what is acknowledged, after it is."""
    # Rare as checkpoints are, a kill has to meet one.
    sqlite_file.CHECKPOINT_PAGES = 40  # type: ignore[misc]
    chance = random.Random()
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        journal = SQLiteJournal(file)
        source = journal.source("child.log", "audit")
        while True:
            size = chance.choice((1, 3, 60))
            head = recorder.head()
            say("ledger", recorder.append([event_at(head + 1 + i) for i in range(size)]))
            head = journal.head()
            journal.commit(source, [record_at(head + 1 + i) for i in range(size)], [], b"%d" % (head + size))
            say("journal", head + size)


def hold(path: Path) -> None:
    """Hold the file open for writing until standard input ends."""
    with SQLiteFile(path):
        say("holding")
        sys.stdin.read()


def follow(path: Path, upto: str) -> None:
    """Follow the ledger to a position; say how long the longest wait between two events was."""
    with SQLiteFile(path, mode="read") as file:
        say("reading", len(list(SQLiteRecorder(file).read())))
        longest = 0.0
        expected = 1
        with SQLiteRecorder(file).subscribe() as subscription:
            before = time.monotonic()
            for found in subscription:
                longest = max(longest, time.monotonic() - before)
                before = time.monotonic()
                if found.position != expected or found.event != event_at(expected):
                    say("expected", expected, "and got", found)
                    return
                if expected == int(upto):
                    break
                expected += 1
        say("followed to", expected)


def append(path: Path, count: str) -> None:
    """Append so many events, one by one."""
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        for _ in range(int(count)):
            recorder.append([event_at(recorder.head() + 1)])


if __name__ == "__main__":
    job, place, *more = sys.argv[1:]
    jobs: dict[str, Callable[..., None]] = {
        "write": write_until_killed,
        "hold": hold,
        "follow": follow,
        "append": append,
    }
    jobs[job](Path(place), *more)
