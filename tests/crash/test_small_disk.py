"""What the real operating system says when there is no room, no right to write, or another writer."""

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eventsourcing.dcb.api import DCBEvent

from adapters.ports import LedgerLocked, StoreError
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder

WRITERS = 4
OPENINGS = 8
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount() -> bool:
    """Whether this user may have a mount namespace of its own; a container may forbid it."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="may not mount here; test_disk_errors.py simulates the same everywhere")
def test_a_real_disk_that_is_full_or_read_only_refuses_and_keeps_what_there_is(tmp_path):
    command = [*NAMESPACE, sys.executable, "-m", "tests.crash.small_disk", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    too_small, full, read_only, appended = result.stdout.splitlines()
    for told in (too_small, full):
        assert "shop.ledger" in told
        assert "make room, then try again" in told
    assert "shop.ledger" in read_only
    assert int(appended.split()[1]) > 5


@contextmanager
def files_not_above(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_on_the_size_of_files_fails_the_append_as_a_whole_and_goes_on_without_it(ledger_path):
    with SQLiteFile(ledger_path) as file:
        recorder, journal = SQLiteRecorder(file), SQLiteJournal(file)
        kept = DCBEvent("Small", b"kept", ["n:1"])
        position = recorder.append([kept])
        log = ledger_path.with_name("shop.ledger-wal").stat().st_size
        with (
            files_not_above(log + 50_000),
            pytest.raises(StoreError, match=r"cannot write to it \(ledger .*shop.ledger"),
        ):
            recorder.append([DCBEvent("Big", os.urandom(5000), ["n:2"]) for _ in range(50)])
        assert [found.event for found in recorder.read()] == [kept]
        assert recorder.append([kept]) > position
        assert [*recorder.verify(), *journal.verify()] == []


def append_in_turn(path: Path, writer: int) -> int:
    """Open, append one event, close, again and again against the others; how often it was refused the lock."""
    refusals = 0
    for number in range(OPENINGS):
        while True:
            try:
                with SQLiteFile(path) as file:
                    SQLiteRecorder(file).append([DCBEvent("Turn", b"%d/%d" % (writer, number), [f"writer:{writer}"])])
                break
            except LedgerLocked:
                refusals += 1
    return refusals


def test_writers_that_race_for_the_lock_take_turns_and_lose_nothing(ledger_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    with processes.Pool(WRITERS) as pool:
        refusals = pool.starmap(append_in_turn, [(ledger_path, writer) for writer in range(WRITERS)], chunksize=1)
    assert sum(refusals) > 0
    with SQLiteFile(ledger_path) as file:
        recorder = SQLiteRecorder(file)
        found = [event.event.data for event in recorder.read()]
        assert sorted(found) == sorted(b"%d/%d" % (w, n) for w in range(WRITERS) for n in range(OPENINGS))
        for writer in range(WRITERS):
            own = [data for data in found if data.startswith(b"%d/" % writer)]
            assert own == [b"%d/%d" % (writer, number) for number in range(OPENINGS)]
        assert list(recorder.verify()) == []
