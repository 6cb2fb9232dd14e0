"""What happens on a real disk that is too small, then larger, then read-only: `-m tests.crash.small_disk FOLDER`.

Runs in a mount namespace of its own, in which it may mount: `unshare --user --map-root-user --mount`.
"""

import os
import subprocess
import sys
from pathlib import Path

from eventsourcing.dcb.api import DCBEvent

from adapters.ports import LedgerReadOnly, StoreFull
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder


def mount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=True)


def fill(folder: Path) -> None:
    mount(folder, "-o", "size=8k")
    try:
        SQLiteFile(folder / "shop.ledger").close()
        raise AssertionError("a ledger was made where there is no room for one")
    except StoreFull as error:
        print(error)
    mount(folder, "-o", "remount,size=1m")
    appended: list[DCBEvent] = []
    with SQLiteFile(folder / "shop.ledger") as file:
        recorder = SQLiteRecorder(file)
        try:
            while True:
                event = DCBEvent("Big", os.urandom(20_000), [f"number:{len(appended)}"])
                recorder.append([event])
                appended.append(event)
        except StoreFull as error:
            print(error)
        # Reading needs no room, and what failed is not there.
        assert [found.event for found in recorder.read()] == appended
        mount(folder, "-o", "remount,size=16m")
        recorder.append([event])
        assert list(recorder.verify()) == []
    mount(folder, "-o", "remount,ro")
    try:
        SQLiteFile(folder / "shop.ledger").close()
        raise AssertionError("a ledger on a read-only disk was opened for writing")
    except LedgerReadOnly as error:
        print(error)
    with SQLiteFile(folder / "shop.ledger", "read") as file:
        assert [found.event for found in SQLiteRecorder(file).read()] == [*appended, event]
        assert [*SQLiteRecorder(file).verify(), *SQLiteJournal(file).verify()] == []
    print("appended", len(appended))


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
