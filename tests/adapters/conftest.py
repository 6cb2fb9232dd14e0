"""What the tests of the stores share."""

import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType

import pytest

from adapters.stores.sqlite_file import SQLiteFile
from tests.servers.redis_server import NoServer, Server

LONG_SEARCH = os.environ.get("NETLEDGER_SEARCH") == "long"
MODULE_SECONDS = 1200 if LONG_SEARCH else 120


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
    numbers = count(1)
    return lambda: f"{redis_server.url}?ledger=t{next(numbers)}"
