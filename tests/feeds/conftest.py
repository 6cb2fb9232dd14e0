"""What the tests of live sources share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.feeds.feed import Feed
from adapters.ingest import ingest
from adapters.ports import Journal
from adapters.stores import backends

DATA = Path(__file__).parent.parent / "incidents" / "data"


def records_of(journal: Journal) -> dict[str, bytes]:
    """Everything in a journal, in the order of its identities."""
    entries = [(entry.identity, entry.payload) for entry in journal.read()]
    assert len(dict(entries)) == len(entries), "a record is in the journal twice"
    return dict(sorted(entries))


def replayed(path: Path, folder: Path) -> dict[str, bytes]:
    """The records of a file, read offline."""
    with backends.opened(str(folder / "offline.ledger")) as backend:
        ingest(str(path), backend.journal)
        return records_of(backend.journal)


def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def running(feed: Feed) -> Iterator[None]:
    """A feed in a thread, which ends with the block."""
    stop = threading.Event()
    thread = threading.Thread(target=feed.run, args=[stop], daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive(), "the feed does not stop"


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "shop.ledger")
