"""A ledger in PostgreSQL: who may write it, what is said when it cannot be opened, lost connections, positions that skip."""

import gzip
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError
from hypothesis import example, given
from hypothesis import strategies as st

from adapters import app, ledger
from adapters.ledger import Ledger
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
from adapters.stores import postgres_server as store
from adapters.stores.postgres_recorder import PostgresRecorder
from adapters.stores.postgres_server import PostgresSchema, restored, storable
from domain.events import Event
from domain.resources import Key
from tests.replaying import DATA
from tests.servers.postgres_server import PASSWORD, PostgresServer

pytestmark = pytest.mark.usefixtures("no_endless_wait")


@pytest.fixture
def address(postgres) -> str:
    return str(postgres())


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    with PostgresServer() as server:
        yield server


def event(number: int, *tags: str) -> DCBEvent:
    return DCBEvent("Moved", b"%d" % number, list(tags))


def administrator(address: str) -> psycopg.Connection:
    """A connection of the database's owner to the schema of a ledger."""
    base, _, ledger = address.partition("?ledger=")
    connection = psycopg.connect(base, autocommit=True)
    connection.execute(f"SET search_path = netledger_{ledger}, public".encode())
    return connection


def skip(address: str, count: int) -> None:
    """Take positions that no event gets, as an append does that is taken back."""
    name = f"netledger_{address.partition('?ledger=')[2]}"
    with closing(administrator(address)) as connection:
        sequence = f"{name}.{store.events_table(name)}_id_seq"
        connection.execute("SELECT nextval(%s) FROM generate_series(1, %s)", (sequence, count))


# ---- text


@given(st.text(alphabet="\0\1" + "01a2"), st.text(alphabet="\0\1" + "01a2"))
@example("\0", "\0010")
@example("\1", "\0011")
def test_any_text_can_be_stored_and_no_two_become_one(one, other):
    assert "\0" not in storable(one)
    assert restored(storable(one)) == one
    assert (storable(one) == storable(other)) == (one == other)


def test_paths_and_reasons_with_nul_come_back(address):
    from adapters.ports import Aside

    with store.opened(address, "write") as backend:
        source = backend.journal.source("a\0.log", "audit")
        backend.journal.commit(source, [Record("r\0", b"12345678", 1, b"x")], [Aside.of(1, "\0\1 reason", b"y")], b"")
        assert backend.journal.source("a\0.log", "audit") == source
        assert backend.journal.sources()[0].path == "a\0.log"
        assert backend.journal.locate(["r\0"]) == {"r\0": ("a\0.log", 1)}
        assert [kept.reason for kept in backend.journal.kept_aside()] == ["\0\1 reason"]
        assert list(backend.journal.verify()) == []


# ---- opening


def test_a_ledger_is_kept_and_several_in_one_database_are_apart(postgres):
    first, second = postgres(), postgres()
    with store.opened(first, "write") as one, store.opened(second, "write") as other:
        one.recorder.append([event(1)])
        assert other.recorder.head() == 0
        assert PASSWORD not in one.address
    with store.opened(first, "read") as again:
        assert [found.event for found in again.recorder.read()] == [event(1)]
        assert list(again.container.verify()) == []


def test_a_second_writer_is_told_who_writes_and_gets_in_when_that_one_is_gone(address):
    with store.opened(address, "write"):
        with pytest.raises(LedgerLocked, match=r"process \d+ on .+ is writing it; stop that one") as refused:
            store.opened(address, "write").__enter__()
        assert PASSWORD not in str(refused.value)
        with store.opened(address, "read") as reader:
            assert reader.recorder.head() == 0
    with store.opened(address, "write") as backend:
        assert backend.recorder.append([event(1)]) == 1


def test_opened_for_reading_nothing_is_written_or_made(address):
    with pytest.raises(LedgerMissing, match=r"there is no ledger at .*nothing to read"):
        store.opened(address, "read").__enter__()
    with closing(administrator(address)) as connection:
        name = f"netledger_{address.partition('?ledger=')[2]}"
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)).fetchall() == []
    with store.opened(address, "write"):
        pass
    with store.opened(address, "read") as backend:
        with pytest.raises(LedgerReadOnly, match="opened for reading"):
            backend.recorder.append([event(1)])
        with pytest.raises(LedgerReadOnly):
            backend.journal.source("a.log", "audit")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"password": "wrong"}, StoreError, "password authentication failed.*check the user and the password"),
        ({"user": "nobody"}, StoreError, "check the user and the password"),
        ({"database": "absent"}, LedgerMissing, 'database "absent" does not exist.*createdb'),
        ({"port": "1"}, StoreError, "refused.*is the server running"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_without_its_password(postgres_server, change, kind, said):
    with pytest.raises(kind, match=said) as refused:
        store.opened(postgres_server.address(**change), "write").__enter__()
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("ledger", ["Shop", "a-b", "a.b", "", "x" * 31, 'a";drop', "a&ledger=b"])
def test_a_name_that_is_no_ledger_name_is_refused(postgres_server, ledger):
    place = postgres_server.address()
    quoted = ledger if "&" in ledger else quote(ledger)
    with pytest.raises(StoreError, match=r"\?ledger= takes one name") as refused:
        store.opened(f"{place}?ledger={quoted}", "write").__enter__()
    assert PASSWORD not in str(refused.value)


def test_a_parameter_that_libpq_does_not_know_is_named(postgres_server):
    with pytest.raises(
        StoreError, match=r"is not an address of PostgreSQL .*tablespace.*write postgresql://"
    ) as refused:
        store.opened(f"{postgres_server.address()}?tablespace=x", "write").__enter__()
    assert PASSWORD not in str(refused.value)


def test_somebody_elses_schema_a_newer_ledger_and_a_damaged_one_are_left_as_they_are(postgres):
    foreign, newer = postgres(), postgres()
    with closing(administrator(foreign)) as connection:
        connection.execute(f"CREATE SCHEMA netledger_{foreign.partition('?ledger=')[2]}".encode())
        connection.execute("CREATE TABLE orders (id int)")
    with pytest.raises(NotALedger, match="holds other tables, such as orders"):
        store.opened(foreign, "write").__enter__()
    with store.opened(newer, "write"):
        pass
    with closing(administrator(newer)) as connection:
        connection.execute("UPDATE netledger SET format = 9")
        for mode in ("write", "read"):
            with pytest.raises(NewerLedger, match="version 9; this netledger knows version 1"):
                store.opened(newer, mode).__enter__()
        connection.execute("DELETE FROM netledger")
    with pytest.raises(LedgerDamaged, match="0 rows instead of one"):
        store.opened(newer, "read").__enter__()


def test_a_user_without_the_privilege_is_told_which(postgres_server, address):
    with closing(administrator(address)) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'".encode())
    with_ledger = postgres_server.address(address.partition("?ledger=")[2], user="guest")
    with pytest.raises(StoreError, match="GRANT CREATE ON DATABASE"):
        store.opened(with_ledger, "write").__enter__()
    with store.opened(address, "write"):
        pass
    with pytest.raises(StoreError, match="USAGE on the schema"):
        store.opened(with_ledger, "read").__enter__()


def test_a_server_that_takes_no_writes_or_forgets_or_cannot_hold_all_names_is_refused(postgres_server, address):
    quiet = f"{address}&options={quote('-c default_transaction_read_only=on')}"
    with pytest.raises(LedgerReadOnly, match="takes no writes"):
        store.opened(quiet, "write").__enter__()
    with closing(administrator(postgres_server.address())) as connection:
        connection.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match=r"encoding is LATIN1.*createdb --encoding UTF8"):
        store.opened(postgres_server.address(database="narrow"), "write").__enter__()
    with PostgresServer(fsync="off") as server:
        with pytest.raises(StoreError, match=r"fsync = off.*--allow-volatile"):
            store.opened(server.address(), "write").__enter__()
        with store.opened(server.address(), "write", allow_volatile=True) as backend:
            assert backend.recorder.append([event(1)]) == 1
        # The same server as a standby, which reads and refuses to write.
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        with pytest.raises(LedgerReadOnly, match="is a standby; name the primary"):
            store.opened(server.address(), "write").__enter__()
        with store.opened(server.address(), "read") as backend, backend.recorder.subscribe() as subscription:
            assert next(subscription).event == event(1)


def test_an_answer_before_the_disk_has_it_is_not_accepted_of_a_session(address):
    with closing(administrator(address)) as connection:
        connection.execute("ALTER ROLE netledger IN DATABASE netledger SET synchronous_commit = off")
        try:
            with PostgresSchema(address) as schema:
                assert schema.query("SHOW synchronous_commit") == [("on",)]
        finally:
            connection.execute("ALTER ROLE netledger IN DATABASE netledger RESET synchronous_commit")


# ---- positions that skip


def test_a_ledger_copes_with_positions_that_skip(address):
    """Places, positions, generations and conditions over a log with holes, in the middle and at every boundary."""
    chance = random.Random(7)
    with store.opened(address, "write") as backend:
        ledger = Ledger(backend.recorder)
        expected: list[int] = []
        for round_number in range(40):
            skip(address, chance.choice((0, 1, 5)))
            numbers = [round_number * 10 + i for i in range(chance.choice((1, 3)))]
            if round_number in (11, 23, 24):
                at = chance.randrange(1, len(expected))
                ledger.restart_after(ledger.position_of(at), at)
                del expected[at:]
                skip(address, 2)
            ledger.append([told(number) for number in numbers])
            expected += numbers
        again = Ledger(backend.recorder)
        for one in (ledger, again):
            placed = list(one.events())
            assert [found.event.time for found in placed] == expected
            assert [found.at for found in placed] == list(range(1, len(expected) + 1))
            assert [one.event_at(at).event.time for at in range(1, len(expected) + 1)] == expected
            assert [one.position_of(found.at) for found in placed] == [found.position for found in placed]
            assert (one.head, one.generation) == (backend.recorder.head(), 4)
            assert one.head > one.count
        whole = [found.position for found in backend.recorder.read()]
        assert whole == sorted(set(whole))
        assert whole[-1] > len(whole)
        assert list(backend.recorder.verify()) == []
        last = whole[-1]
        skip(address, 3)
        everything = DCBQuery()
        assert backend.recorder.append([event(1)], DCBAppendCondition(everything, after=last)) > last + 3
        with pytest.raises(IntegrityError):
            backend.recorder.append([event(1)], DCBAppendCondition(everything, after=last + 3))


def told(number: int) -> Event:
    return Event(type="VPCCreated", key=Key("vpc", "", f"v{number}"), record=f"r{number}", time=number)


def test_a_full_disk_takes_the_append_back_and_the_next_one_skips(address):
    """The server's own error for a disk without room, raised where the last row of an append is written."""
    with store.opened(address, "write") as backend, closing(administrator(address)) as connection:
        assert backend.recorder.append([event(1, "a")]) == 1
        connection.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        connection.execute("CREATE TRIGGER no_room BEFORE INSERT ON receipt EXECUTE FUNCTION no_room()")
        for size in (2, 500):  # by the package's function, and by COPY
            with pytest.raises(StoreFull, match="nothing of this write was kept; make room"):
                backend.recorder.append([event(2, "a")] * size)
        source = "SELECT count(*) FROM source"
        with pytest.raises(StoreFull):
            backend.journal.source("a.log", "audit")
        assert connection.execute(source.encode()).fetchone() == (0,)
        connection.execute("DROP TRIGGER no_room ON receipt")
        assert backend.recorder.append([event(3, "a")]) == 504
        assert [found.position for found in backend.recorder.read()] == [1, 504]
        assert list(backend.recorder.verify()) == []


def test_a_tag_too_long_for_the_index_is_refused_whole_and_said(address):
    chance = random.Random(1)
    with store.opened(address, "write") as backend:
        with pytest.raises(StoreError, match="a tag is limited to about"):
            backend.recorder.append([event(1), event(2, "".join(chance.choices("abcdefghijklmnop", k=9000)))])
        assert backend.recorder.head() == 0


def test_a_password_among_the_parameters_is_not_printed(postgres_server):
    plain = postgres_server.address().replace(f":{PASSWORD}@", "@")
    with store.opened(f"{plain}?password={PASSWORD}&ledger=quiet", "write") as backend:
        assert PASSWORD not in backend.address


def test_an_event_that_matches_many_items_of_a_query_hides_none_behind_it(address):
    """The package counts an event against the limit once an item; a page of few events is not the last one."""
    with store.opened(address, "write") as backend:
        tags = [f"t:{number}" for number in range(40)]
        backend.recorder.append([event(number, *tags) for number in range(120)])
        any_of_them = DCBQuery([DCBQueryItem(tags=[tag]) for tag in tags])
        either = DCBQuery([*any_of_them.items, DCBQueryItem(types=["Moved"])])
        for query in (any_of_them, either):
            assert [f.position for f in backend.recorder.read(query, limit=100)] == list(range(1, 101))
            assert [f.position for f in backend.recorder.read(query)] == list(range(1, 121))


# ---- connections that are lost


def test_an_append_whose_answer_was_lost_is_made_once(address, monkeypatch):
    """The connection is lost at the COMMIT, now before the server hears it, now after it has kept everything."""
    with store.opened(address, "write") as backend:
        recorder = backend.recorder
        assert isinstance(recorder, PostgresRecorder)
        schema = recorder._schema
        source = backend.journal.source("a.log", "audit")
        original = psycopg.Connection.transaction
        for number, kept in enumerate((True, False, True, False), 1):
            lost = threading.Event()

            def transaction(self, *rest, kept=kept, lost=lost, **more):
                return losing(original(self, *rest, **more), self, kept, lost)

            monkeypatch.setattr(psycopg.Connection, "transaction", transaction)
            recorder.append([event(number, "n"), event(number, "n")])
            assert lost.is_set()
            lost.clear()
            receipt = backend.journal.commit(source, [Record(f"r{number}", b"12345678", number, b"x")], [], b"")
            assert receipt.accepted == [True]
            assert lost.is_set()
            monkeypatch.undo()
        assert [found.event.data for found in recorder.read()] == [b"%d" % n for n in (1, 1, 2, 2, 3, 3, 4, 4)]
        assert [entry.identity for entry in backend.journal.read()] == ["r1", "r2", "r3", "r4"]
        assert [*recorder.verify(), *backend.journal.verify(), *schema.verify()] == []


class losing:
    """A transaction whose connection is cut, once, when it ends."""

    def __init__(self, transaction, connection, kept: bool, lost: threading.Event) -> None:
        self._transaction, self._connection, self._kept, self._lost = transaction, connection, kept, lost

    def __enter__(self):
        return self._transaction.__enter__()

    def __exit__(self, kind, *rest):
        if kind is not None or self._lost.is_set():
            return self._transaction.__exit__(kind, *rest)
        self._lost.set()
        if self._kept:
            self._transaction.__exit__(kind, *rest)
        self._connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


def test_a_writer_whose_sessions_were_ended_goes_on_and_one_that_was_followed_does_not(address):
    with store.opened(address, "write") as backend, closing(administrator(address)) as connection:
        for number in range(3):
            backend.recorder.append([event(number)])
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'netledger %%'"
            )
        assert [found.event.data for found in backend.recorder.read()] == [b"0", b"1", b"2"]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'netledger %%'"
        )
        with store.opened(address, "write") as follower:
            follower.recorder.append([event(3)])
        with pytest.raises(LedgerLocked, match=r"the connection was lost and process .* took over"):
            backend.recorder.append([event(4)])
        assert [found.event.data for found in backend.recorder.read()] == [b"0", b"1", b"2", b"3"]


def test_a_subscription_and_a_reader_outlive_restarts_of_the_server(own_server):
    address = own_server.address("followed")
    rounds, size = 3, 30
    with store.opened(address, "write") as backend, store.opened(address, "read") as reader:

        def follow() -> list[bytes]:
            with reader.recorder.subscribe() as subscription:
                return [next(subscription).event.data for _ in range(rounds * size)]

        with ThreadPoolExecutor(1) as pool:
            followed = pool.submit(follow)
            for round_number in range(rounds):
                for number in range(size):
                    backend.recorder.append([event(round_number * size + number)])
                half_read = reader.recorder.read()
                next(half_read)
                if round_number % 2:
                    own_server.stop()
                else:
                    own_server.kill()
                own_server.start()
                assert len(list(half_read)) == (round_number + 1) * size - 1
            assert followed.result(timeout=20) == [b"%d" % number for number in range(rounds * size)]


def test_a_server_that_does_not_come_back_is_an_error_and_not_a_wait_for_ever(own_server, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.3)
    with store.opened(own_server.address(), "write") as backend:
        backend.recorder.append([event(1)])
        own_server.kill()
        with pytest.raises(StoreError, match=r"cannot read it .*refused.*is the server running"):
            backend.recorder.head()
        with pytest.raises(StoreError, match="cannot write to it"):
            backend.recorder.append([event(2)])
        with backend.recorder.subscribe() as subscription, pytest.raises(StoreError):
            next(subscription)


# ---- an incident


def test_an_incident_replayed_into_postgres_is_judged_as_in_a_file_again_and_late(postgres, tmp_path):
    log = DATA / "s0-buggy" / "audit.log.gz"
    in_a_file = replayed(str(tmp_path / "s0.ledger"), log)
    address = postgres()
    first = replayed(address, log)
    assert first == in_a_file
    assert first[1], "the incident has findings"
    # Again: everything is known, and nothing is appended.
    assert replayed(address, log) == in_a_file
    with app.opened(address, "read") as kept:
        assert kept.ledger.generation == 1
        problems = [
            *kept.container.verify(),
            *kept.recorder.verify(),
            *kept.journal.verify(),
            *ledger.verify(kept.recorder),
        ]
        assert problems == []
    # A file that comes late lands in its true place.
    lines = gzip.decompress(log.read_bytes()).splitlines(keepends=True)
    chance = random.Random(3)
    comes_late = [chance.random() < 0.3 for _ in lines]
    early, late = tmp_path / "early.log", tmp_path / "late.log"
    early.write_bytes(b"".join(line for line, is_late in zip(lines, comes_late, strict=True) if not is_late))
    late.write_bytes(b"".join(line for line, is_late in zip(lines, comes_late, strict=True) if is_late))
    other = postgres()
    assert replayed(other, early)[0] != in_a_file[0]
    skip(other, 3)
    assert replayed(other, late) == in_a_file
    with app.opened(other, "read") as kept:
        assert kept.ledger.generation == 2
        assert list(kept.recorder.verify()) == []


def replayed(address: str, path: Path) -> tuple[str, list[str]]:
    """The digest, and what was found."""
    with app.opened(address) as kept:
        outcome = app.replay(kept, [str(path)])
        return outcome.judged.digest, [repr(finding) for finding in outcome.findings]
