"""What the tests of followed files run in processes of their own: `-m tests.feeds.follow_child JOB …`."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from adapters.feeds.follow import Follow
from adapters.intake import Intake
from adapters.stores import backends


def follow(pattern: str, ledger: str) -> None:
    """Follow until standard input ends, or until it is killed."""
    stop = threading.Event()
    with backends.opened(ledger) as backend:
        feed = Follow(Intake(backend.journal, lambda records: None), pattern)
        thread = threading.Thread(target=feed.run, args=[stop])
        thread.start()
        sys.stdin.read()
        stop.set()
        thread.join()


def write(source: str, log: str, how: str, part_bytes: str, seconds: str) -> None:
    """Write the lines of a file to a log, in pieces that do not end where lines do, and rotate it now and then."""
    data = Path(source).read_bytes()
    path = Path(log)
    piece = max(len(data) // 400, 1)
    pause = float(seconds) / 400
    numbers = iter(range(1, 10_000))
    file = path.open("ab", buffering=0)
    at = 0
    while at < len(data):
        file.write(data[at : at + piece])
        at += piece
        time.sleep(pause)
        if file.tell() < int(part_bytes) or at >= len(data):
            continue
        end = data.find(b"\n", at) + 1 or len(data)
        file.write(data[at:end])  # whoever rotates, rotates between two lines
        at = end
        if how == "rename":
            file.close()
            path.rename(path.with_name(f"audit-2026-11-21T03-00-{next(numbers):02}.000.log"))
            time.sleep(pause)
            file = path.open("ab", buffering=0)
        elif how == "late":  # as one that is told by a signal, and writes to the old one meanwhile
            path.rename(path.with_name(f"audit.log-20261121{next(numbers):04}"))
            new = path.open("ab", buffering=0)
            end = data.find(b"\n", at + piece) + 1 or len(data)
            time.sleep(pause)
            file.write(data[at:end])
            at = end
            file.close()
            file = new
        elif how == "numbered":
            for old in range(60, 0, -1):
                if (one := path.with_name(f"audit.log.{old}")).exists():
                    one.rename(path.with_name(f"audit.log.{old + 1}"))
            path.rename(path.with_name("audit.log.1"))
            file.close()
            file = path.open("ab", buffering=0)
        elif how == "copytruncate":
            shutil.copyfile(path, path.with_name(f"audit.log-20261121{next(numbers):04}"))
            os.truncate(path, 0)
    file.close()


if __name__ == "__main__":
    job, *arguments = sys.argv[1:]
    jobs: dict[str, Callable[..., None]] = {"follow": follow, "write": write}
    jobs[job](*arguments)
