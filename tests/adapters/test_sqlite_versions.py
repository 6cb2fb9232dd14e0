"""A ledger of every format opens for ever. One of format 1 is read as it is, and made anew when it is written.

`data/version-N.ledger` was written by a netledger of that format: the end of tests/incidents/data/s0-buggy after a line
that is no record, and then all of it, so that it holds two generations and something that was kept aside.
"""

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapters import app, ledger
from adapters.ports import LedgerDamaged, LedgerLocked
from adapters.stores import backends, sqlite_version_1
from adapters.stores.sqlite_file import SCHEMA_VERSION, locked
from tests.replaying import recording

KEPT = {version: Path(__file__).parent / "data" / f"version-{version}.ledger" for version in (1, 2)}
DIGEST = "2a63c75da4c971c60c8affb5ae8d1ed6"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.ledger"
    shutil.copy(KEPT[1], path)
    return path


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((version,),) = connection.execute("PRAGMA user_version")
    return int(version)


def check(store: app.Store) -> None:
    """It holds what the netledger of then had put in."""
    assert [*store.container.verify(), *store.recorder.verify(), *store.journal.verify()] == []
    assert list(ledger.verify(store.recorder)) == []
    assert (store.recorder.head(), store.journal.head(), store.ledger.generation) == (35, 26, 2)
    assert len(list(store.ledger.events())) == 26
    assert [source.path for source in store.journal.sources()] == ["late.log", "audit.log"]
    ((kept),) = store.journal.kept_aside()
    assert (kept.path, kept.line, kept.excerpt) == ("late.log", 1, b'{"bad')
    entries = list(store.journal.read())
    assert store.journal.locate([entries[0].identity])[entries[0].identity] == ("late.log", entries[0].line)


def test_there_is_a_ledger_of_every_format():
    assert max(KEPT) == SCHEMA_VERSION
    assert {version: version_of(path) for version, path in KEPT.items()} == {version: version for version in KEPT}


@pytest.mark.parametrize("version", KEPT)
def test_it_is_read_and_left_as_it_is(old, version):
    shutil.copy(KEPT[version], old)
    before = old.read_bytes()
    with app.opened(str(old), "read") as store:
        check(store)
    assert old.read_bytes() == before


@pytest.mark.parametrize("version", KEPT)
def test_it_is_of_todays_format_when_it_was_written_and_goes_on_from_there(old, version, monkeypatch):
    shutil.copy(KEPT[version], old)
    monkeypatch.chdir(old.parent)
    with gzip.open(recording("s0-buggy")[0]) as log:
        Path("audit.log").write_bytes(log.read())
    with app.opened(str(old)) as store:
        check(store)
        outcome = app.replay(store, ["audit.log"])
        assert outcome.tallies[0].recognised == 0 and outcome.judged.digest == DIGEST
    assert version_of(old) == SCHEMA_VERSION
    assert sorted(path.name for path in old.parent.iterdir()) == [
        "audit.log",
        "old.ledger",
        "old.ledger.checkpoints",
        "old.ledger.lock",
        "old.ledger.trail",
    ]
    with app.opened(str(old), "read") as store:
        check(store)


def test_what_its_log_of_writes_still_holds_is_not_lost(old):
    """As a netledger of then leaves it that was killed: the last commits stand beside the file."""
    beside = old.with_name("killed.ledger")
    with closing(sqlite3.connect(old, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO journal_aside VALUES (2, 1, 9, 'no record', x'00', 1, x'00')")
        for suffix in ("", "-wal"):
            shutil.copy(f"{old}{suffix}", f"{beside}{suffix}")
    for mode in ("read", "write"):
        with backends.opened(str(beside), mode) as store:
            assert [kept.line for kept in store.journal.kept_aside()] == [1, 9]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET data = zeroblob(length(data)) WHERE position = 7",
        "DELETE FROM event WHERE position = 7",
        "DELETE FROM event WHERE position = 35",
        "UPDATE journal_block SET content = zeroblob(length(content))",
        "DELETE FROM journal_block WHERE number = 1",
        "DROP TABLE seal",
    ],
)
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_damaged_one_is_refused_and_left_as_it_is(old, statement, mode):
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(statement)
    before = old.read_bytes()
    with pytest.raises(LedgerDamaged), backends.opened(str(old), mode):
        pass
    assert version_of(old) == 1 and old.read_bytes() == before
    assert not [path for path in old.parent.iterdir() if sqlite_version_1.SUFFIX in path.name]


def test_one_that_another_process_writes_is_not_made_anew(old):
    with locked(old), pytest.raises(LedgerLocked), backends.opened(str(old)):
        pass
    assert version_of(old) == 1


def test_what_a_killed_upgrade_left_behind_is_in_nobodys_way(old):
    old.with_name(f"{old.name}{sqlite_version_1.SUFFIX}").write_bytes(b"half a ledger")
    old.with_name(f"{old.name}{sqlite_version_1.SUFFIX}-wal").write_bytes(b"of one")
    with app.opened(str(old)) as store:
        check(store)
