"""What every journal must do, asked of the one in memory and of those that keep anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.ports import EXCERPT_BYTES, Aside, Journal, Record, StoreError
from adapters.stores import backends
from adapters.stores.journal_block import BLOCK_BYTES
from adapters.stores.memory import InMemoryJournal
from adapters.stores.redis_journal import RedisJournal
from adapters.stores.redis_server import RedisServer
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from tests.adapters.conftest import LONG_SEARCH


@pytest.fixture(params=["memory", "sqlite", "sqlite, throw-away", "redis", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    if request.param == "memory":
        yield InMemoryJournal()
        return
    if request.param == "redis":
        with RedisServer(request.getfixturevalue("redis_address")()) as server:
            yield RedisJournal(server)
        return
    if request.param == "postgres":
        with backends.opened(request.getfixturevalue("postgres")()) as backend:
            yield backend.journal
        return
    with SQLiteFile(tmp_path / "contract.ledger", durable=request.param == "sqlite") as file:
        yield SQLiteJournal(file)


def record(identity: str, line: int, says: bytes = b"the same") -> Record:
    return Record(identity, says.ljust(8)[:8], line, b'{"says": "%s"}' % says)


def test_records_come_back_as_received_in_the_order_of_arrival(journal):
    first = journal.source("audit-1.log", "audit")
    second = journal.source("audit-2.log", "audit")
    journal.commit(second, [record("b", 1), record("a", 2)], [], b"")
    journal.commit(first, [record("c", 7, bytes(range(8)))], [], b"")
    assert [(e.number, e.source, e.line, e.identity, e.payload) for e in journal.read()] == [
        (1, second, 1, "b", record("b", 1).payload),
        (2, second, 2, "a", record("a", 2).payload),
        (3, first, 7, "c", record("c", 7, bytes(range(8))).payload),
    ]
    assert journal.head() == 3
    assert [entry.number for entry in journal.read(after=1)] == [2, 3]
    assert list(journal.read(after=3)) == []
    assert list(journal.verify()) == []


def test_an_empty_journal_answers(journal):
    assert journal.head() == 0
    assert list(journal.read()) == []
    assert journal.sources() == []
    assert list(journal.kept_aside()) == []
    assert journal.locate(["a"]) == {}
    assert list(journal.verify()) == []


def test_the_same_record_again_is_counted_and_not_kept_twice(journal):
    source = journal.source("a.log", "audit")
    receipt = journal.commit(source, [record("a", 1), record("a", 2), record("b", 3)], [], b"")
    assert (receipt.accepted, receipt.duplicates, receipt.collisions) == ([True, False, True], 1, 0)
    other = journal.source("b.log", "audit")
    receipt = journal.commit(other, [record("b", 1), record("c", 2), record("a", 3)], [], b"")
    assert (receipt.accepted, receipt.duplicates, receipt.collisions) == ([False, True, False], 2, 0)
    assert [entry.identity for entry in journal.read()] == ["a", "b", "c"]
    assert journal.locate(["a", "b", "c", "nobody"]) == {
        "a": ("a.log", 1),
        "b": ("a.log", 3),
        "c": ("b.log", 2),
    }
    assert list(journal.kept_aside()) == []


def test_one_record_object_twice_in_a_commit_is_a_duplicate(journal):
    once = record("a", 1)
    receipt = journal.commit(journal.source("a.log", "audit"), [once, once], [], b"")
    assert (receipt.accepted, receipt.duplicates) == ([True, False], 1)


def test_a_record_with_a_taken_identity_is_kept_aside_with_its_reason(journal):
    source = journal.source("a.log", "audit")
    journal.commit(source, [record("a", 1)], [], b"")
    receipt = journal.commit(source, [record("a", 9, b"other"), record("b", 10), record("b", 11, b"x")], [], b"")
    assert (receipt.accepted, receipt.duplicates, receipt.collisions) == ([False, True, False], 0, 2)
    assert [entry.line for entry in journal.read()] == [1, 10]
    first, second = journal.kept_aside()
    assert (first.path, first.line, first.excerpt) == ("a.log", 9, record("a", 9, b"other").payload)
    assert "collision: a was received before with other content, at a.log:1" in first.reason
    assert "a.log:10" in second.reason


def test_input_kept_aside_is_cut_and_kept_once_however_often_it_is_read(journal):
    source = journal.source("a.log", "audit")
    garbage = Aside.of(3, "not JSON", b"x" * 10_000)
    uncut = Aside(4, "not JSON", b"y" * 10_000, 10_000)
    for _ in range(2):
        journal.commit(source, [], [garbage, uncut], b"")
    journal.commit(source, [], [Aside.of(3, "not JSON", b"z")], b"")
    assert [(a.path, a.line, a.reason, len(a.excerpt), a.size) for a in journal.kept_aside()] == [
        ("a.log", 3, "not JSON", EXCERPT_BYTES, 10_000),
        ("a.log", 4, "not JSON", EXCERPT_BYTES, 10_000),
        ("a.log", 3, "not JSON", 1, 1),
    ]
    assert list(journal.verify()) == []


def test_a_source_is_known_by_path_and_format_and_keeps_its_last_summary(journal):
    source = journal.source("a.log", "audit")
    assert journal.source("a.log", "audit") == source
    assert journal.source("a.log", "klog") != source
    journal.commit(source, [], [], b"first")
    journal.commit(source, [record("a", 1)], [], b"second")
    assert [(s.id, s.path, s.format, s.summary) for s in journal.sources()] == [
        (source, "a.log", "audit", b"second"),
        (journal.source("a.log", "klog"), "a.log", "klog", b""),
    ]


def test_a_commit_for_an_unknown_source_is_refused_and_keeps_nothing(journal):
    with pytest.raises(StoreError, match="no source 7"):
        journal.commit(7, [record("a", 1)], [], b"")
    assert journal.head() == 0
    assert journal.locate(["a"]) == {}


def test_commits_larger_than_a_block_are_read_back_whole_from_anywhere(journal):
    source = journal.source("a.log", "audit")
    sizes = [10, BLOCK_BYTES + 5, 10, 10, BLOCK_BYTES // 2, BLOCK_BYTES // 2, 1, *[2] * 9000]
    records = [Record(f"r{i}", b"12345678", i + 1, b"p" * size) for i, size in enumerate(sizes)]
    journal.commit(source, records, [], b"")
    journal.commit(source, [record("last", 1)], [], b"")
    assert [len(entry.payload) for entry in journal.read()] == [*sizes, len(record("last", 1).payload)]
    for after in (1, 2, 3, 4, 5000, 9006):
        assert next(journal.read(after)).number == after + 1
    assert list(journal.verify()) == []


def test_reading_stops_where_the_journal_ended_when_it_was_asked(journal):
    source = journal.source("a.log", "audit")
    journal.commit(source, [record("a", 1)], [], b"")
    entries = journal.read()
    journal.commit(source, [record("b", 2)], [], b"")
    assert [entry.identity for entry in entries] == ["a"]


COMMITS = st.lists(
    st.tuples(
        st.sampled_from(["a.log", "b.log"]),
        st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([b"1", b"2"])), max_size=6),
    ),
    max_size=6,
)


@given(COMMITS)
@settings(deadline=None)
def test_sqlite_accepts_and_answers_exactly_as_memory_does(tmp_path_factory, commits):
    path = tmp_path_factory.mktemp("journal") / "compared.ledger"
    with SQLiteFile(path, durable=False) as file:
        compare_with_memory(SQLiteJournal(file), commits)


@given(COMMITS)
@settings(deadline=None)
def test_redis_accepts_and_answers_exactly_as_memory_does(redis_address, commits):
    with RedisServer(redis_address(), alone=False) as server:
        compare_with_memory(RedisJournal(server), commits)


# Fewer than of SQLite: each append and commit waits for a disk.
@given(COMMITS)
@settings(deadline=None, max_examples=300 if LONG_SEARCH else 20, suppress_health_check=list(HealthCheck))
def test_postgres_accepts_and_answers_exactly_as_memory_does(emptied_postgres, commits):
    compare_with_memory(emptied_postgres().journal, commits)


def compare_with_memory(journal: Journal, commits: list[tuple[str, list[tuple[str, bytes]]]]) -> None:
    memory = InMemoryJournal()
    line = 0
    for name, said in commits:
        records = [record(identity, line := line + 1, says) for identity, says in said]
        receipts = [j.commit(j.source(name, "audit"), records, [], b"s%d" % line) for j in (memory, journal)]
        assert receipts[0] == receipts[1]
    assert list(journal.read()) == list(memory.read())
    assert list(journal.kept_aside()) == list(memory.kept_aside())
    assert journal.sources() == memory.sources()
    assert journal.locate("abcdef") == memory.locate("abcdef")
    assert list(journal.verify()) == []
