"""What the tests of the stores share, and those of who is told of findings."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType

import psycopg
import pytest

from adapters import outlets
from adapters.ports import Backend
from adapters.stores import backends
from adapters.stores.sqlite_file import SQLiteFile
from tests.adapters.noting import Noting
from tests.servers.postgres_server import PostgresServer
from tests.servers.redis_server import NoServer, Server

LONG_SEARCH = os.environ.get("NETLEDGER_SEARCH") == "long"
MODULE_SECONDS = 1200 if LONG_SEARCH else 300


@pytest.fixture(scope="module")
def no_endless_wait() -> Iterator[None]:
    """A subscription that misses an event waits for ever; the test of it must not."""

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the tests of this module did not end within {MODULE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    # Again and again: leaving a block may wait, too.
    signal.setitimer(signal.ITIMER_REAL, MODULE_SECONDS, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def hurried_outlets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds in the field, before somebody is told, waits for a moment here."""
    monkeypatch.setattr(outlets, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(outlets, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(outlets, "MOST_SECONDS", 0.05)


@pytest.fixture
def engine(tmp_path: Path) -> Noting:
    """One that finds what a test says."""
    return Noting(tmp_path / "shop.ledger.changes")


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "shop.ledger"


@pytest.fixture
def ledger_file(ledger_path: Path) -> Iterator[SQLiteFile]:
    with SQLiteFile(ledger_path) as file:
        yield file


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """One server for all tests that do it no harm."""
    try:
        with Server() as server:
            yield server
    except NoServer as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def redis_address(redis_server: Server) -> Callable[[], str]:
    """Gives the address of a ledger that is not there yet."""
    numbers = itertools.count(1)
    return lambda: f"{redis_server.url}?ledger=t{next(numbers)}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests; without one they fail, and say how to get one."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> Callable[[], str]:
    """The address of a ledger of its own, each time it is called."""
    numbers = itertools.count(1)
    return lambda: postgres_server.address(f"test_{next(numbers)}")


@pytest.fixture(scope="module")
def emptied_postgres(postgres: Callable[[], str]) -> Iterator[Callable[[], Backend]]:
    """One ledger in PostgreSQL, emptied each time it is called: to make one takes a tenth of a second."""
    address = postgres()
    with backends.opened(address) as backend:
        name = f"netledger_{address.partition('?ledger=')[2]}"
        tables = (
            "seal",
            "source",
            "journal_block",
            "journal_identity",
            "journal_aside",
            f"{name}_tt_main",
            f"{name}_tt_tag",
        )
        statements = [f"DELETE FROM {name}.{table}" for table in tables]
        statements.append(f"SELECT setval('{name}.{name}_tt_main_id_seq', 1, false)")
        with closing(psycopg.connect(address.partition("?")[0], autocommit=True)) as connection:

            def emptied() -> Backend:
                connection.execute("; ".join(statements).encode())
                return backend

            yield emptied
