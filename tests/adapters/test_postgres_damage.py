"""What is stored in PostgreSQL and then changed: `verify` says where."""

import random
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pytest
from eventsourcing.dcb.api import DCBEvent

from adapters.ports import Aside, LedgerDamaged, Problem, Record
from adapters.stores import postgres_server as store
from tests.adapters.conftest import LONG_SEARCH

pytestmark = pytest.mark.usefixtures("no_endless_wait")

FLIPS = 2000 if LONG_SEARCH else 25

# Twelve events in three appends, 1-4, 5-9 and 10-12; nine records in three blocks, 1-3, 4-6 and 7-9.
APPENDS = ((1, 4), (5, 9), (10, 12))
COMMITS = ((1, 3), (4, 6), (7, 9))


@pytest.fixture
def written(postgres) -> str:
    address = str(postgres())
    with store.opened(address, "write") as backend:
        for first, last in APPENDS:
            backend.recorder.append(
                [DCBEvent(f"T{p % 3}", b"<event %d>" % p, [f"n:{p}", "all"]) for p in range(first, last + 1)]
            )
        source = backend.journal.source("a.log", "audit")
        for first, last in COMMITS:
            records = [Record(f"r{n}", b"%08d" % n, n, b"<record %d>" % n) for n in range(first, last + 1)]
            backend.journal.commit(source, records, [Aside.of(100 + last, "not JSON", b"<garbage>")], b"summary")
    return address


def change(address: str, *statements: str) -> None:
    base, _, ledger = address.partition("?ledger=")
    name = f"netledger_{ledger}"
    with closing(psycopg.connect(base)) as connection, connection.transaction():
        connection.execute(f"SET LOCAL search_path = {name}".encode())
        # As a hand that is not bound by the tables' own rules.
        connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            named = statement.format(events=store.events_table(name), tags=store.tags_table(name))
            connection.execute(named.encode())


def problems(address: str) -> list[Problem]:
    with store.opened(address, "read") as backend:
        return [*backend.container.verify(), *backend.recorder.verify(), *backend.journal.verify()]


def test_what_nobody_touched_has_no_problem(written):
    assert urlsplit(written).scheme == "postgresql"
    assert problems(written) == []


DATA_FLIPPED = "UPDATE {{events}} SET data = set_byte(data, 1, get_byte(data, 1) # 1) WHERE id = {0}"
SWAPPED = (
    "UPDATE {events} SET id = 99 WHERE id = 6",
    "UPDATE {events} SET id = 6 WHERE id = 7",
    "UPDATE {events} SET id = 7 WHERE id = 99",
)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param((DATA_FLIPPED.format(6),), {("ledger", 6)}, id="a bit of an event"),
        pytest.param(
            (DATA_FLIPPED.format(2), DATA_FLIPPED.format(11)), {("ledger", 2), ("ledger", 11)}, id="two appends"
        ),
        pytest.param(("UPDATE {events} SET type = 'T9' WHERE id = 7",), {("ledger", 7)}, id="a type"),
        pytest.param(
            ("UPDATE {events} SET tags = array_append(tags, 'other') WHERE id = 3",),
            {("ledger", 3)},
            id="a tag that was added",
        ),
        pytest.param(("DELETE FROM {events} WHERE id = 6",), {("ledger", 6)}, id="dropped, in an append"),
        pytest.param(("DELETE FROM {events} WHERE id = 12",), {("ledger", 12)}, id="dropped, at the end"),
        pytest.param(
            ("DELETE FROM {events} WHERE id BETWEEN 5 AND 9", "DELETE FROM {tags} WHERE main_id BETWEEN 5 AND 9"),
            {("ledger", 5)},
            id="dropped, an append",
        ),
        pytest.param(
            (
                "DELETE FROM {events} WHERE id BETWEEN 5 AND 9",
                "DELETE FROM {tags} WHERE main_id BETWEEN 5 AND 9",
                "DELETE FROM seal WHERE last = 9",
            ),
            {("ledger", 10)},
            id="dropped, an append and its seal",
        ),
        pytest.param(SWAPPED, {("ledger", 6)}, id="swapped"),
        pytest.param(
            ("INSERT INTO {events} VALUES (13, 'T1', 'x', '{{}}')",), {("ledger", 13)}, id="inserted behind the last"
        ),
        pytest.param(
            (
                "UPDATE {events} SET id = id + 101 WHERE id > 9",
                "UPDATE {events} SET id = id - 100 WHERE id > 99",
                "UPDATE {tags} SET main_id = main_id + 1 WHERE main_id > 9",
                "UPDATE seal SET first = 11, last = 13 WHERE last = 12",
                "INSERT INTO {events} VALUES (10, 'T1', 'x', '{{}}')",
            ),
            {("ledger", 10), ("ledger", 11)},
            id="inserted between two appends",
        ),
        pytest.param(("DELETE FROM seal WHERE last = 9",), {("ledger", 5), ("ledger", 10)}, id="a seal dropped"),
        pytest.param(
            ("UPDATE seal SET chain = set_byte(chain, 9, get_byte(chain, 9) # 1) WHERE last = 9",),
            {("ledger", 9), ("ledger", 10)},
            id="a bit of a seal",
        ),
        pytest.param(
            ("DELETE FROM {tags} WHERE main_id = 4 AND tag = 'all'",), {("ledger", 4)}, id="not found by a tag"
        ),
        pytest.param(("INSERT INTO {tags} VALUES ('n:1', 8)",), {("ledger", 8)}, id="found by a tag it has not"),
        pytest.param(
            ("DELETE FROM journal_block WHERE number = 4",), {("journal", 4)}, id="a block of records dropped"
        ),
        pytest.param(("DELETE FROM journal_block WHERE number = 7",), {("journal", None)}, id="the last block dropped"),
        pytest.param(
            ("UPDATE journal_block SET content = set_byte(content, 9, get_byte(content, 9) # 1) WHERE number = 4",),
            {("journal", 4)},
            id="a bit of a block",
        ),
        pytest.param(("UPDATE journal_identity SET line = 99 WHERE line = 5",), {("journal", 5)}, id="a record's line"),
        pytest.param(("UPDATE source SET path = 'b.log'",), {("journal", None)}, id="a source's path"),
        pytest.param(
            ("UPDATE journal_aside SET line = 1 WHERE id = 2",), {("journal", None)}, id="what was kept aside"
        ),
        pytest.param(("DELETE FROM journal_aside WHERE id = 2",), {("journal", None)}, id="kept aside, dropped"),
    ],
)
def test_verify_says_where_something_was_changed(written, statements, expected):
    change(written, *statements)
    found = problems(written)
    places = {(problem.part, problem.number) for problem in found}
    # An event that was changed may be out of step with the index of tags too; that is told beside it.
    assert expected <= places, found
    assert {place for place in places - expected if place[0] != "ledger"} == set(), found


def test_any_flipped_bit_of_an_event_is_found_at_its_place(written):
    chance = random.Random()
    for _ in range(FLIPS):
        position = chance.randint(1, 12)
        byte, bit = chance.randrange(9), chance.randrange(8)
        turned = f"set_byte(data, {byte}, get_byte(data, {byte}) # {1 << bit})"
        flip = f"UPDATE {{events}} SET data = {turned} WHERE id = {position}"
        change(written, flip)
        assert [(p.part, p.number) for p in problems(written)] == [("ledger", position)]
        change(written, flip)
    assert problems(written) == []


def test_a_damaged_block_is_not_given_out(written):
    change(
        written, "UPDATE journal_block SET content = set_byte(content, 9, get_byte(content, 9) # 1) WHERE number = 4"
    )
    with store.opened(written, "read") as backend:
        entries = backend.journal.read()
        assert [next(entries).number for _ in range(3)] == [1, 2, 3]
        with pytest.raises(LedgerDamaged, match="block 4: its checksum does not fit"):
            next(entries)
    change(written, "DELETE FROM journal_block WHERE number = 4")
    with store.opened(written, "read") as backend, pytest.raises(LedgerDamaged, match="has lost entry 4"):
        list(backend.journal.read())


def test_a_table_that_is_gone_is_named(written):
    change(written, "DROP TABLE seal")
    assert 'relation "seal" does not exist' in str(problems(written))
