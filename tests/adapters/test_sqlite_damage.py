"""What is stored and then changed: `verify` says where, and nothing gives it out as what was written."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.dcb.api import DCBEvent, DCBQuery, DCBQueryItem

from adapters.ports import Aside, LedgerDamaged, Problem, Record, StoreError
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_index import RUN_EVENTS
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.adapters.conftest import LONG_SEARCH

pytestmark = pytest.mark.usefixtures("no_endless_wait")

FLIPS = 20_000 if LONG_SEARCH else 1000

# Twelve events in three blocks, 1-4, 5-9 and 10-12; nine records in three blocks, 1-3, 4-6 and 7-9.
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
        return [*file.verify(), *SQLiteRecorder(file).verify(), *SQLiteJournal(file).verify()]


def places(path: Path) -> list[tuple[str, int | None]]:
    return [(problem.part, problem.number) for problem in problems(path)]


def flipped(column: str, table: str, where: str) -> str:
    """A statement that turns over one bit of a blob, by the function that `change` lends to SQLite."""
    return f"UPDATE {table} SET {column} = flipped({column}) WHERE {where}"


def test_what_nobody_touched_has_no_problem(written):
    assert problems(written) == []


BEHIND_5 = "number, root, trees, content, original FROM event_block WHERE first = 5"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(flipped("content", "event_block", "first = 5"), [5], id="a flipped bit in an event"),
        pytest.param(flipped("root", "event_block", "first = 5"), [5], id="a flipped bit in a root"),
        pytest.param(flipped("trees", "event_block", "first = 5"), [5], id="a flipped bit in a hash"),
        pytest.param(
            "UPDATE event_block SET trees = CAST(trees || trees AS BLOB) WHERE first = 5", [5], id="a tree more"
        ),
        pytest.param("UPDATE event_block SET content = 'text' WHERE first = 5", [5], id="content as text"),
        pytest.param("UPDATE event_block SET number = 7 WHERE first = 5", [5], id="another number"),
        pytest.param("UPDATE event_block SET events = 4 WHERE first = 5", [5, 9], id="an event fewer"),
        pytest.param("UPDATE event_block SET events = 'x' WHERE first = 5", [5, 6], id="no number of events"),
        pytest.param("DELETE FROM event_block WHERE first = 1", [1], id="the first block dropped"),
        pytest.param("DELETE FROM event_block WHERE first = 5", [5], id="a block dropped"),
        pytest.param("DELETE FROM event_block WHERE first = 10", [10], id="the last block dropped"),
        pytest.param("DELETE FROM event_block", [1], id="all dropped"),
        pytest.param(
            (
                "UPDATE event_block SET first = -1 WHERE first = 1",
                "UPDATE event_block SET first = 1, events = 4 WHERE first = 5",
                "UPDATE event_block SET first = 5, events = 5 WHERE first = -1",
            ),
            [1, 5],
            id="two blocks swapped",
        ),
        pytest.param(f"INSERT INTO event_block SELECT 13, 5, {BEHIND_5}", [13, 13], id="a block inserted at the end"),
        pytest.param(
            (
                "UPDATE event_block SET first = 15 WHERE first = 10",
                f"INSERT INTO event_block SELECT 10, 5, {BEHIND_5}",
            ),
            [10, 15, 13],
            id="a block inserted in the middle",
        ),
        pytest.param("UPDATE head SET position = 11", [12], id="a head that stands before the last event"),
        pytest.param("UPDATE head SET blocks = 2", [12], id="a head that says another number of blocks"),
        pytest.param(flipped("digest", "head", "id = 1"), [12], id="a flipped bit in the head"),
        pytest.param("DELETE FROM head", [1], id="the head dropped"),
        pytest.param(
            (flipped("content", "event_block", "first = 1"), flipped("content", "event_block", "first = 10")),
            [1, 10],
            id="two flipped in two blocks",
        ),
    ],
)
def test_verify_says_which_events_are_not_what_was_appended(written, statements, expected):
    change(written, *([statements] if isinstance(statements, str) else statements))
    assert places(written) == [("ledger", position) for position in expected]


LONG = 2 * RUN_EVENTS + 500


@pytest.fixture
def indexed(ledger_path: Path) -> Path:
    """Enough events for two runs of the index, and some that no run stands for yet."""
    with SQLiteFile(ledger_path) as file:
        recorder = SQLiteRecorder(file)
        for first in range(1, LONG, 500):
            recorder.append([DCBEvent("T", b"%d" % p, [f"n:{p % 700}"]) for p in range(first, first + 500)])
    return ledger_path


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param(flipped("content", "posting_page", "run = 2"), [4501], id="a flipped bit in a page"),
        pytest.param("UPDATE posting_page SET first = first + 1 WHERE run = 1", [1], id="a page in another place"),
        pytest.param("DELETE FROM posting_page WHERE run = 1", [1], id="the pages of a run dropped"),
        pytest.param("DELETE FROM posting_run WHERE id = 1", [None, 4501], id="a run dropped"),
        pytest.param(flipped("checksum", "posting_run", "id = 1"), [1], id="a flipped bit in a checksum"),
        pytest.param("UPDATE posting_run SET upto = 4400 WHERE id = 1", [1, 4501], id="a run said to be shorter"),
    ],
)
def test_verify_says_which_part_of_the_index_is_not_what_was_written(indexed, statement, expected):
    assert places(indexed) == []
    change(indexed, statement)
    assert sorted(places(indexed), key=str) == sorted((("ledger", place) for place in expected), key=str)


BLOCK = "source, identities, checksum, content FROM journal_block LIMIT 1"


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
        pytest.param(
            "UPDATE journal_identity SET fingerprint = fingerprint + 1 WHERE line = 5", [5], id="a fingerprint"
        ),
        pytest.param("UPDATE journal_block SET identities = 7 WHERE number = 4", [4], id="what identities add up to"),
        pytest.param("INSERT INTO journal_identity VALUES (7, 7, 1, 1)", [None], id="an identity inserted"),
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
    with closing(sqlite3.connect(written)) as connection:
        ((block,),) = connection.execute("SELECT content FROM event_block WHERE first = 5")
    content = bytearray(written.read_bytes())
    content[content.index(block) + len(block) // 2] ^= 1
    written.write_bytes(content)
    assert places(written) == [("ledger", 5)]


def test_a_damaged_block_of_events_is_not_given_out(written):
    change(written, "UPDATE event_block SET content = substr(content, 1, 20) WHERE first = 5")
    with SQLiteFile(written, mode="read") as file:
        recorder = SQLiteRecorder(file)
        events = iter(recorder.read())
        assert [next(events).position for _ in range(4)] == [1, 2, 3, 4]
        with pytest.raises(LedgerDamaged, match="block of event 5: its content cannot be read"):
            next(events)
        with pytest.raises(LedgerDamaged, match="block of event 5"):
            list(recorder.read(DCBQuery([DCBQueryItem(tags=["n:6"])])))
        assert [found.position for found in recorder.read(after=9)] == [10, 11, 12]


def read_all(path: Path) -> tuple[object, ...]:
    with SQLiteFile(path, mode="read") as file:
        journal = SQLiteJournal(file)
        identities = [entry.identity for entry in journal.read()]
        return (
            list(SQLiteRecorder(file).read()),
            SQLiteRecorder(file).seal(12),
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
