"""What is stored and then changed: `verify` says where, and nothing gives it out as what was written."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.dcb.api import DCBEvent

from adapters.ports import Aside, LedgerDamaged, Problem, Record, StoreError
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.adapters.conftest import LONG_SEARCH

pytestmark = pytest.mark.usefixtures("no_endless_wait")

FLIPS = 20_000 if LONG_SEARCH else 1000

# Twelve events in three appends, 1-4, 5-9 and 10-12; nine records in three blocks, 1-3, 4-6 and 7-9.
APPENDS = ((1, 4), (5, 9), (10, 12))
COMMITS = ((1, 3), (4, 6), (7, 9))


@pytest.fixture
def written(ledger_path: Path) -> Path:
    write(ledger_path)
    return ledger_path


def write(path: Path) -> None:
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        for first, last in APPENDS:
            recorder.append(
                [DCBEvent(f"T{p % 3}", b"<event %d>" % p, [f"n:{p}", "all"]) for p in range(first, last + 1)]
            )
        journal = SQLiteJournal(file)
        source = journal.source("a.log", "audit")
        for first, last in COMMITS:
            records = [Record(f"r{n}", b"%08d" % n, n, b"<record %d>" % n) for n in range(first, last + 1)]
            journal.commit(source, records, [Aside.of(100 + last, "not JSON", b"<garbage>")], b"summary")


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("flipped", 1, lambda blob: blob[:2] + bytes([blob[2] ^ 1]) + blob[3:])
        for statement in statements:
            connection.execute(statement)


def problems(path: Path) -> list[Problem]:
    with SQLiteFile(path, mode="read") as file:
        return [*SQLiteRecorder(file).verify(), *SQLiteJournal(file).verify()]


def places(path: Path) -> list[tuple[str, int | None]]:
    return [(problem.part, problem.number) for problem in problems(path)]


def flipped(column: str, table: str, where: str) -> str:
    """A statement that turns over one bit of a blob, by the function that `change` lends to SQLite."""
    return f"UPDATE {table} SET {column} = flipped({column}) WHERE {where}"


def test_what_nobody_touched_has_no_problem(written):
    assert problems(written) == []


ROOM_BEHIND_6 = tuple(
    f"UPDATE {table} SET position = {moved} WHERE {which}"
    for table in ("event", "seal", "event_tag")
    for moved, which in (("-position - 1", "position > 6"), ("-position", "position < 0"))
)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(flipped("data", "event", "position = 6"), [6], id="a flipped bit in the data"),
        pytest.param(flipped("tags", "event", "position = 6"), [6], id="a flipped bit in the tags"),
        pytest.param(flipped("link", "event", "position = 6"), [6], id="a flipped bit in the link"),
        pytest.param(flipped("chain", "seal", "position = 9"), [9], id="a flipped bit in a seal"),
        pytest.param("UPDATE event SET type = 1 + (type = 1) WHERE position = 6", [6], id="another type"),
        pytest.param("UPDATE event SET data = '<event 6>' WHERE position = 6", [6], id="data as text"),
        pytest.param("UPDATE name SET name = 'T9' WHERE name = 'T2'", [2, 5, 11], id="a type renamed"),
        pytest.param("DELETE FROM event WHERE position = 1", [1], id="the first dropped"),
        pytest.param("DELETE FROM event WHERE position = 6", [6], id="one dropped"),
        pytest.param("DELETE FROM event WHERE position = 9", [9], id="the last of an append dropped"),
        pytest.param("DELETE FROM event WHERE position = 12", [12], id="the very last dropped"),
        pytest.param("DELETE FROM event WHERE position > 9", [10], id="the whole last append dropped"),
        pytest.param("DELETE FROM event", [1], id="all dropped"),
        pytest.param(
            (
                "UPDATE event SET position = -6 WHERE position = 6",
                "UPDATE event SET position = 6 WHERE position = 7",
                "UPDATE event SET position = 7 WHERE position = -6",
            ),
            [6],
            id="two swapped",
        ),
        pytest.param(
            "INSERT INTO event SELECT 13, type, tags, data, link FROM event WHERE position = 12",
            [13],
            id="one inserted at the end",
        ),
        pytest.param(
            (
                *ROOM_BEHIND_6,
                "INSERT INTO event SELECT 7, type, tags, data, link FROM event WHERE position = 6",
            ),
            [7],
            id="one inserted in the middle",
        ),
        pytest.param(
            (flipped("data", "event", "position = 2"), flipped("data", "event", "position = 11")),
            [2, 11],
            id="two flipped in two appends",
        ),
        pytest.param(
            "DELETE FROM event_tag WHERE position = 6 AND tag = (SELECT id FROM name WHERE name = 'all')",
            [6],
            id="one tag not found any more",
        ),
        pytest.param("UPDATE event_tag SET type = type + 1 WHERE position = 6", [6, 6], id="the type of a tag"),
        pytest.param("INSERT INTO event_tag VALUES (2, 6, 1)", [None], id="a tag that the event has not"),
        pytest.param("UPDATE name SET name = 'n:99' WHERE name = 'n:6'", [6], id="a tag renamed"),
    ],
)
def test_verify_says_which_event_is_not_what_was_appended(written, statements, expected):
    change(written, *([statements] if isinstance(statements, str) else statements))
    assert places(written) == [("ledger", position) for position in expected]


BLOCK = "source, checksum, content FROM journal_block LIMIT 1"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(flipped("content", "journal_block", "number = 4"), [4], id="a flipped bit in a block"),
        pytest.param("UPDATE journal_block SET source = 2 WHERE number = 4", [4], id="another source"),
        pytest.param("DELETE FROM journal_block WHERE number = 1", [1], id="the first block dropped"),
        pytest.param("DELETE FROM journal_block WHERE number = 4", [4], id="a block dropped"),
        pytest.param("DELETE FROM journal_block WHERE number = 7", [None], id="the last block dropped"),
        pytest.param(
            (
                "UPDATE journal_block SET number = -4 WHERE number = 4",
                "UPDATE journal_block SET number = 4 WHERE number = 7",
                "UPDATE journal_block SET number = 7 WHERE number = -4",
            ),
            [4, 7],
            id="two blocks swapped",
        ),
        pytest.param(
            f"INSERT INTO journal_block SELECT 10, records, {BLOCK}",
            [10],
            id="a block inserted",
        ),
        pytest.param(
            f"INSERT INTO journal_block SELECT 5, 1, {BLOCK}",
            [7, 5],
            id="a block inserted inside another",
        ),
        pytest.param("DELETE FROM journal_identity WHERE line = 5", [5], id="an identity dropped"),
        pytest.param("UPDATE journal_identity SET line = 50 WHERE line = 5", [5], id="an identity's line"),
        pytest.param(flipped("fingerprint", "journal_identity", "line = 5"), [5], id="a fingerprint"),
        pytest.param("INSERT INTO journal_identity VALUES (x'00', x'00', 1, 1)", [None], id="an identity inserted"),
        pytest.param("UPDATE source SET path = 'b.log'", [None], id="a source renamed"),
        pytest.param("UPDATE journal_aside SET reason = 'fine' WHERE id = 2", [None], id="a reason changed"),
        pytest.param("DELETE FROM journal_aside WHERE id = 2", [None], id="what was kept aside dropped"),
    ],
)
def test_verify_says_which_record_is_not_what_was_received(written, statements, expected):
    change(written, *([statements] if isinstance(statements, str) else statements))
    assert sorted(places(written), key=str) == sorted((("journal", number) for number in expected), key=str)


def test_a_damaged_block_is_not_read_as_evidence(written):
    change(written, flipped("content", "journal_block", "number = 4"))
    with SQLiteFile(written, mode="read") as file:
        journal = SQLiteJournal(file)
        entries = journal.read()
        assert [next(entries).number for _ in range(3)] == [1, 2, 3]
        with pytest.raises(LedgerDamaged, match="block 4: its checksum"):
            next(entries)
        assert [entry.number for entry in journal.read(after=6)] == [7, 8, 9]
        change(written, "DELETE FROM journal_block WHERE number = 4")
        with pytest.raises(LedgerDamaged, match="lost entry 4"):
            list(journal.read())


def test_a_flipped_byte_in_the_file_itself_is_named(written):
    content = bytearray(written.read_bytes())
    place = content.index(b"<event 6>")
    content[place] ^= 1
    written.write_bytes(content)
    assert places(written) == [("ledger", 6)]


def read_all(path: Path) -> tuple[object, ...]:
    with SQLiteFile(path, mode="read") as file:
        journal = SQLiteJournal(file)
        identities = [entry.identity for entry in journal.read()]
        return (
            list(SQLiteRecorder(file).read()),
            SQLiteRecorder(file).digest(),
            list(journal.read()),
            journal.sources(),
            list(journal.kept_aside()),
            journal.locate(identities),
        )


def outcome(ask: Callable[[Path], object], path: Path) -> object:
    try:
        return ask(path)
    except StoreError as error:
        return error


def test_whatever_byte_of_the_file_changes_it_is_refused_or_named_or_makes_no_difference(written, tmp_path):
    chance = random.Random()
    original = written.read_bytes()
    before = read_all(written)
    # Most of a page is empty; a change there is no test of anything.
    used = [place for place, byte in enumerate(original) if byte]
    noticed = 0
    for attempt in range(FLIPS):
        place, mask = chance.choice(used), 1 << chance.randrange(8)
        content = bytearray(original)
        content[place] ^= mask
        damaged = tmp_path / f"damaged-{attempt}.ledger"
        damaged.write_bytes(content)
        found = outcome(problems, damaged)
        if found == []:
            assert outcome(read_all, damaged) == before, f"bit {mask} of byte {place}: changed, and not noticed"
        else:
            noticed += 1
        damaged.unlink()
    assert noticed > FLIPS // 4


def test_a_file_cut_short_is_refused_or_named(written, tmp_path):
    content = written.read_bytes()
    for size in range(0, len(content), 4096 + 512):
        cut = tmp_path / "cut.ledger"
        cut.write_bytes(content[:size])
        assert outcome(problems, cut) != [], f"cut to {size} bytes, and not noticed"
