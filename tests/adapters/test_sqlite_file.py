"""Opening the one file, who may write it, and what an operator is told when it cannot be."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eventsourcing.dcb.api import DCBEvent, DCBQuery, DCBQueryItem

from adapters.ports import (
    LedgerDamaged,
    LedgerLocked,
    LedgerMissing,
    LedgerReadOnly,
    NewerLedger,
    NotALedger,
    Record,
    StoreError,
    StoreFull,
)
from adapters.stores.sqlite_file import SCHEMA_VERSION, SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.adapters.sqlite_child import event_at

pytestmark = pytest.mark.usefixtures("no_endless_wait")

NOBODY = 65534


@contextmanager
def child(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.adapters.sqlite_child", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def copied_bytes(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if entry.suffix != ".lock"}


def test_what_was_appended_is_there_when_the_file_is_opened_again(ledger_path):
    for position in (1, 2, 3):
        with SQLiteFile(ledger_path) as file:
            assert SQLiteRecorder(file).append([event_at(position)]) == position
    with SQLiteFile(ledger_path, mode="read") as file:
        assert [found.event for found in SQLiteRecorder(file).read()] == [event_at(p) for p in (1, 2, 3)]
        assert list(SQLiteRecorder(file).verify()) == []


def test_a_second_writer_in_this_process_is_refused(ledger_path, ledger_file):
    with pytest.raises(LedgerLocked, match=f"process {os.getpid()} on "):
        SQLiteFile(ledger_path)
    link = ledger_path.with_name("same.ledger")
    link.symlink_to(ledger_path)
    with pytest.raises(LedgerLocked):
        SQLiteFile(link)
    SQLiteRecorder(ledger_file).append([event_at(1)])
    ledger_file.close()
    with SQLiteFile(ledger_path) as again:
        assert SQLiteRecorder(again).head() == 1


def test_a_second_writer_is_told_which_process_writes_and_since_when(ledger_path):
    with child("hold", ledger_path) as holder:
        assert said(holder) == "holding"
        with pytest.raises(LedgerLocked) as refusal:
            SQLiteFile(ledger_path)
        note = json.loads(ledger_path.with_name("shop.ledger.lock").read_text())
        assert note["pid"] == holder.pid
        for part in (str(ledger_path), f"process {holder.pid}", "sqlite_child.py hold", note["since"]):
            assert part in str(refusal.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with SQLiteFile(ledger_path) as file:
            assert SQLiteRecorder(file).head() == 0


def test_the_holders_note_keeps_no_password_of_its_command_line(ledger_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["netledger", "serve", "--from", "redis://reader:s3cret@broker/0"])
    with SQLiteFile(ledger_path), pytest.raises(LedgerLocked) as refusal:
        SQLiteFile(ledger_path)
    assert "redis://***@broker/0" in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def test_a_reader_may_come_beside_the_writer_and_may_not_write(ledger_path, ledger_file):
    writer = SQLiteRecorder(ledger_file)
    with SQLiteFile(ledger_path, mode="read") as file:
        reader = SQLiteRecorder(file)
        writer.append([event_at(1)])
        assert [found.position for found in reader.read()] == [1]
        with pytest.raises(LedgerReadOnly, match="opened for reading"):
            reader.append([event_at(2)])
        with pytest.raises(LedgerReadOnly, match="opened for reading"):
            SQLiteJournal(file).source("a.log", "audit")


def test_opening_for_reading_leaves_the_writers_locks_alone(ledger_path, ledger_file):
    """A process that opens and closes the file beside its own connection would lose that one's locks."""
    SQLiteRecorder(ledger_file).append([event_at(1)])
    SQLiteFile(ledger_path, mode="read").close()
    visit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM event_block'); c.close()"
    subprocess.run([sys.executable, "-c", visit, str(ledger_path)], check=True)
    # Had they been lost, the visitor would have thought itself the last one out, and removed the log.
    assert ledger_path.with_name("shop.ledger-wal").exists()
    SQLiteRecorder(ledger_file).append([event_at(2)])
    with SQLiteFile(ledger_path, mode="read") as file:
        assert SQLiteRecorder(file).head() == 2


def test_a_durable_ledger_waits_for_the_disk_at_every_append(ledger_file):
    """No kill of a process shows this, only a power failure would."""
    with ledger_file.transaction() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_reader_processes_follow_a_writer_without_missing_or_repeating(ledger_path, ledger_file):
    recorder = SQLiteRecorder(ledger_file)
    recorder.append([event_at(p) for p in range(1, 1201)])
    with child("follow", ledger_path, 3000) as first, child("follow", ledger_path, 3000) as second:
        assert said(first) == "reading 1200"
        assert said(second) == "reading 1200"
        for start in range(1201, 3001, 9):
            recorder.append([event_at(p) for p in range(start, start + 9)])
        assert recorder.head() == 3000
        assert said(first) == "followed to 3000"
        assert said(second) == "followed to 3000"


def test_a_subscriber_hears_of_what_another_process_appends(ledger_path):
    SQLiteFile(ledger_path).close()
    with (
        SQLiteFile(ledger_path, mode="read") as file,
        SQLiteRecorder(file).subscribe() as subscription,
        child("append", ledger_path, 20),
    ):
        assert [next(subscription).position for _ in range(20)] == list(range(1, 21))


def test_a_reader_in_the_middle_of_reading_does_not_hold_the_log_back(ledger_path, ledger_file):
    recorder = SQLiteRecorder(ledger_file)
    recorder.append([event_at(p) for p in range(1, 3001)])
    with SQLiteFile(ledger_path, mode="read") as file:
        response = SQLiteRecorder(file).read()
        next(response)
        recorder.append([event_at(3001)])
        with sqlite3.connect(ledger_path) as connection:
            (busy, left, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.close()
        assert (busy, left) == (0, 0)
        assert len(list(response)) == 2999


def test_readers_do_not_wait_for_a_transaction_that_takes_long(ledger_file):
    recorder = SQLiteRecorder(ledger_file)
    recorder.append([event_at(1)])
    seen: list[int] = []
    with ledger_file.transaction() as connection:
        connection.execute("INSERT INTO posting_page VALUES (99, 1, 'unfinished')")
        reader = threading.Thread(target=lambda: seen.extend(e.position for e in recorder.read()))
        reader.start()
        reader.join(timeout=5)
        assert seen == [1]


def test_closing_ends_subscriptions_and_refuses_what_comes_after(ledger_path):
    file = SQLiteFile(ledger_path)
    recorder = SQLiteRecorder(file)
    subscription = recorder.subscribe()
    waiter = threading.Thread(target=lambda: list(subscription))
    waiter.start()
    file.close()
    file.close()
    waiter.join(timeout=5)
    assert not waiter.is_alive()
    for attempt in (recorder.head, lambda: recorder.append([event_at(1)]), lambda: list(recorder.read())):
        with pytest.raises(StoreError, match="was closed"):
            attempt()


def test_an_append_that_fails_half_way_keeps_nothing_and_remembers_nothing(ledger_file):
    recorder = SQLiteRecorder(ledger_file)
    recorder.append([event_at(1)])
    with ledger_file.transaction() as connection:
        # The next append meets it after its first block is written.
        connection.execute("INSERT INTO event_block VALUES (1002, 1, 2, x'', x'', x'', NULL)")
    with pytest.raises(LedgerDamaged):
        recorder.append([DCBEvent("New", b"", ["new:tag"])] * 1001)
    with ledger_file.transaction() as connection:
        connection.execute("DELETE FROM event_block WHERE first = 1002")
    assert recorder.head() == 1
    recorder.append([DCBEvent("Later", b"", ["later:tag"]), DCBEvent("New", b"", ["new:tag"])])
    assert [found.event.type for found in recorder.read()] == ["Moved", "Later", "New"]
    assert [found.position for found in recorder.read(DCBQuery([DCBQueryItem(tags=["new:tag"])]))] == [3]
    assert list(recorder.verify()) == []


def test_a_throw_away_ledger_must_be_new_and_can_be_read_beside(ledger_path):
    with SQLiteFile(ledger_path, durable=False) as file:
        SQLiteRecorder(file).append([event_at(1)])
        with SQLiteFile(ledger_path, mode="read") as reading:
            assert SQLiteRecorder(reading).head() == 1
    with pytest.raises(StoreError, match="must be a new file"):
        SQLiteFile(ledger_path, durable=False)
    with SQLiteFile(ledger_path) as file:
        assert SQLiteRecorder(file).append([event_at(2)]) == 2


def test_an_empty_file_becomes_a_ledger_but_cannot_be_read_as_one(ledger_path):
    ledger_path.touch()
    with pytest.raises(NotALedger, match="empty"):
        SQLiteFile(ledger_path, mode="read")
    with SQLiteFile(ledger_path) as file:
        assert SQLiteRecorder(file).append([event_at(1)]) == 1


@pytest.mark.parametrize("mode", ["write", "read"])
@pytest.mark.parametrize("content", [b"hello\n", b'{"kind": "Event"}\n' * 1000], ids=["short", "long"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(ledger_path, mode, content):
    ledger_path.write_bytes(content)
    with pytest.raises(NotALedger, match=str(ledger_path)):
        SQLiteFile(ledger_path, mode)
    assert copied_bytes(ledger_path) == {"shop.ledger": content}


@pytest.mark.parametrize("mode", ["write", "read"])
def test_another_programs_database_is_refused_and_left_as_it_is(ledger_path, mode):
    with sqlite3.connect(ledger_path) as connection:
        connection.execute("CREATE TABLE bookmark (url TEXT)")
    connection.close()
    before = copied_bytes(ledger_path)
    with pytest.raises(NotALedger, match="another program's database"):
        SQLiteFile(ledger_path, mode)
    assert copied_bytes(ledger_path) == before


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_ledger_of_a_newer_version_is_refused_with_both_versions(ledger_path, mode):
    SQLiteFile(ledger_path).close()
    with sqlite3.connect(ledger_path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(NewerLedger, match=f"version {SCHEMA_VERSION + 1}.*version {SCHEMA_VERSION}"):
        SQLiteFile(ledger_path, mode)


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_directory_is_refused(tmp_path, mode):
    with pytest.raises(NotALedger, match="is a directory"):
        SQLiteFile(tmp_path, mode)


def test_a_missing_file_or_directory_is_named(tmp_path):
    with pytest.raises(LedgerMissing, match=r"no ledger at .*shop\.ledger"):
        SQLiteFile(tmp_path / "shop.ledger", mode="read")
    with pytest.raises(LedgerMissing, match=r"no directory .*nowhere"):
        SQLiteFile(tmp_path / "nowhere" / "shop.ledger")
    assert list(tmp_path.iterdir()) == []


def test_after_a_refusal_the_file_can_be_opened_at_once(ledger_path):
    ledger_path.write_bytes(b"not a ledger")
    with pytest.raises(NotALedger):
        SQLiteFile(ledger_path)
    ledger_path.unlink()
    SQLiteFile(ledger_path).close()


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """A directory that another user may enter; root's rights would see through every permission."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def without_privileges() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_read_only_directory_is_named_when_writing_and_no_hindrance_when_reading(shared_directory):
    path = shared_directory / "shop.ledger"
    with SQLiteFile(path) as file:
        SQLiteRecorder(file).append([event_at(1)])
    path.with_name("shop.ledger.lock").unlink()
    path.chmod(0o666)
    shared_directory.chmod(0o555)
    with without_privileges():
        with pytest.raises(LedgerReadOnly, match=r"shop.ledger.lock cannot be opened: Permission denied"):
            SQLiteFile(path)
        with pytest.raises(LedgerReadOnly, match="allow writing to the directory"):
            SQLiteFile(shared_directory / "new.ledger")
        with SQLiteFile(path, mode="read") as file:
            assert [found.event for found in SQLiteRecorder(file).read()] == [event_at(1)]
            assert list(SQLiteRecorder(file).verify()) == []
    shared_directory.chmod(0o755)


def test_a_file_that_may_not_be_written_or_read_is_named(shared_directory):
    path = shared_directory / "shop.ledger"
    SQLiteFile(path).close()
    shared_directory.chmod(0o777)
    with without_privileges():
        path_of_nobody = shared_directory / "own.ledger"
        SQLiteFile(path_of_nobody).close()
        path_of_nobody.chmod(0o444)
        with pytest.raises(LedgerReadOnly, match="permission denied; allow it, or open it for reading"):
            SQLiteFile(path_of_nobody)
        SQLiteFile(path_of_nobody, mode="read").close()
        path_of_nobody.chmod(0o000)
        with pytest.raises(StoreError, match=r"cannot read the ledger .*permission denied"):
            SQLiteFile(path_of_nobody, mode="read")


def test_a_full_disk_refuses_the_append_as_a_whole_and_goes_on_when_there_is_room(ledger_file):
    recorder = SQLiteRecorder(ledger_file)
    journal = SQLiteJournal(ledger_file)
    source = journal.source("a.log", "audit")
    recorder.append([event_at(1)])
    with ledger_file.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreFull, match="make room, then try again"):
        recorder.append([DCBEvent("Big", os.urandom(5000), ["big:one"]) for _ in range(20)])
    with pytest.raises(StoreFull):
        journal.commit(source, [Record("big", b"12345678", 1, os.urandom(100_000))], [], b"lost")
    assert recorder.head() == 1
    assert journal.head() == 0
    assert [s.summary for s in journal.sources()] == [b""]
    with ledger_file.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert recorder.append([DCBEvent("Big", os.urandom(5000), ["big:one"])]) == 2
    assert journal.commit(source, [Record("big", b"12345678", 1, b"")], [], b"kept").accepted == [True]
    assert list(recorder.verify()) == []
    assert list(journal.verify()) == []
