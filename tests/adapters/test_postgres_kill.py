"""The server killed with all its processes, or the writer killed, at any moment: what was acknowledged is there, once."""

import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from adapters.stores import backends
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.postgres_child import THREADS, event_at, record_at
from tests.servers.postgres_server import PostgresServer

pytestmark = pytest.mark.usefixtures("no_endless_wait")

RUNS = 10 if LONG_SEARCH else 2
SERVER_KILLS_A_RUN = 12 if LONG_SEARCH else 2


def test_what_was_acknowledged_before_a_kill_is_there_after_it_once():
    """One writing process lives through several deaths of its server, and then dies itself."""
    chance = random.Random()
    with PostgresServer() as server:
        address = server.address("killed")
        everything: Counter[str] = Counter()
        for run in range(RUNS):
            acknowledged = written_through_kills(server, address, str(run), chance)
            everything.update(acknowledged)
            with backends.opened(address) as backend:
                kept = [found.event.data for found in backend.recorder.read()]
                journalled = [entry.identity for entry in backend.journal.read()]
                assert len(kept) == len(set(kept)), "an event was kept twice"
                assert len(journalled) == len(set(journalled)), "a record was kept twice"
                for writer, count in everything.items():
                    missing = {event_at(writer, number).data for number in range(count)} - set(kept)
                    assert missing == set(), "an event that was acknowledged is lost"
                    missing_records = {record_at(writer, number).identity for number in range(count)} - set(journalled)
                    assert missing_records == set(), "a record that was acknowledged is lost"
                    # In order and without a hole: no append was half kept.
                    own = [data for data in kept if data.startswith(writer.encode() + b" ")]
                    assert own == [event_at(writer, number).data for number in range(len(own))]
                assert [*backend.container.verify(), *backend.recorder.verify(), *backend.journal.verify()] == []
        assert len(everything) == RUNS * THREADS, "some writer never had a word acknowledged"


def written_through_kills(server: PostgresServer, address: str, run: str, chance: random.Random) -> dict[str, int]:
    """How much each thread of a writer had acknowledged when it was killed."""
    command = [sys.executable, "-m", "tests.adapters.postgres_child", address, run]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        first = writer.stdout.readline()
        for _ in range(SERVER_KILLS_A_RUN):
            time.sleep(chance.uniform(0.05, 0.5))
            server.kill()
            server.start()
        time.sleep(chance.uniform(0.3, 0.6))
        # It wrote on, over every death of its server, until it dies itself.
        assert writer.poll() is None, writer.stderr.read().decode()
        writer.kill()
        output = first + writer.stdout.read()
        assert writer.stderr.read() == b""
    acknowledged: dict[str, int] = {}
    # The last line may be cut short.
    for line in output.split(b"\n")[:-1]:
        name, number = line.split()
        acknowledged[name.decode()] = int(number)
    return acknowledged
