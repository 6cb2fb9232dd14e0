"""A server or a writer killed at any moment: what was acknowledged is there once, and the work goes on by itself."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem

from adapters.ports import Record
from adapters.stores import redis_server
from adapters.stores.redis_journal import RedisJournal
from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.sqlite_child import event_at, record_at
from tests.servers.redis_server import Server

pytestmark = pytest.mark.usefixtures("no_endless_wait")

KILLS = 120 if LONG_SEARCH else 12
WRITER_KILLS = 50 if LONG_SEARCH else 4
WRITERS = 4


@pytest.fixture
def own_server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_what_a_killed_server_acknowledged_is_there_once_and_the_writers_go_on(own_server):
    """Writers, a journal and a follower ride through all kills; none of them is told of any."""
    address = f"{own_server.url}?ledger=killed"
    stopping = threading.Event()
    acknowledged: dict[bytes, int] = {}
    committed: list[str] = []
    followed: list[tuple[int, bytes]] = []

    def write(writer: int) -> None:
        chance = random.Random()
        with RedisServer(address, alone=False) as server:
            recorder = RedisRecorder(server)
            own = DCBQuery([DCBQueryItem(tags=[f"by:{writer}"])])
            number = last = 0
            while not stopping.is_set():
                size = chance.choice((1, 3, 60))
                names = [b"%d/%d" % (writer, number + i) for i in range(size)]
                # One append that was kept and not known of would be in the way of the next for ever.
                condition = DCBAppendCondition(own, after=last)
                last = recorder.append([DCBEvent("Moved", name, ["all", f"by:{writer}"]) for name in names], condition)
                acknowledged.update((name, last - size + 1 + i) for i, name in enumerate(names))
                number += size

    def keep() -> None:
        with RedisServer(address, alone=False) as server:
            journal = RedisJournal(server)
            source = journal.source("a.log", "audit")
            while not stopping.is_set():
                records = [Record(f"r{len(committed) + i}", b"12345678", 1, b"payload") for i in range(20)]
                receipt = journal.commit(source, records, [], b"")
                assert receipt.accepted == [True] * 20, "a commit was written twice"
                committed.extend(record.identity for record in records)

    def follow(ready: threading.Event) -> None:
        with RedisServer(address, "read") as server, RedisRecorder(server).subscribe() as subscription:
            ready.set()
            for found in subscription:
                followed.append((found.position, found.event.data))
                if found.event.type == "End":
                    return

    with RedisServer(address, alone=False), ThreadPoolExecutor(WRITERS + 2) as pool:
        ready = threading.Event()
        work = [pool.submit(write, writer) for writer in range(WRITERS)] + [pool.submit(keep)]
        following = pool.submit(follow, ready)
        ready.wait(10)
        chance = random.Random()
        grew = 0
        try:
            for _ in range(KILLS):
                before = len(acknowledged)
                time.sleep(chance.uniform(0.05, 0.25))
                own_server.kill()
                grew += len(acknowledged) > before
                time.sleep(chance.uniform(0, 0.05))
                own_server.start()
        finally:
            stopping.set()
            for each in work:
                each.result(timeout=60)
            with RedisServer(address, alone=False) as server:
                end = RedisRecorder(server).append([DCBEvent("End", b"", [])])
        following.result(timeout=60)
    assert grew > KILLS / 2, "the kills came too early to show anything"
    with RedisServer(address, "read") as server:
        recorder, journal = RedisRecorder(server), RedisJournal(server)
        assert [*recorder.verify(), *journal.verify()] == []
        found = [(event.position, event.event.data) for event in recorder.read()]
        assert [position for position, _ in found] == list(range(1, end + 1))
        assert {data: position for position, data in found[:-1]} == acknowledged
        assert len(found) == len(acknowledged) + 1
        assert followed == found
        assert [entry.identity for entry in journal.read()] == committed


def test_what_a_killed_writer_was_told_is_kept_is_there_and_the_next_one_gets_the_lease(redis_address, monkeypatch):
    monkeypatch.setattr(redis_server, "LEASE_SECONDS", 0.5)
    address = redis_address()
    acknowledgements = 0
    for kill in range(WRITER_KILLS):
        acknowledged = {b"ledger": 0, b"journal": 0}
        command = [sys.executable, "-m", "tests.adapters.redis_child", "write", address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            first = process.stdout.readline() if kill else b""
            time.sleep(random.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            output = first + process.stdout.read()
            assert process.stderr.read() == b""
        for line in output.split(b"\n")[:-1]:
            part, reached = line.split()
            acknowledged[part] = int(reached)
            acknowledgements += 1
        with RedisServer(address) as server:
            recorder, journal = RedisRecorder(server), RedisJournal(server)
            assert [*recorder.verify(), *journal.verify()] == []
            assert recorder.head() >= acknowledged[b"ledger"]
            assert journal.head() >= acknowledged[b"journal"]
            for number, found in enumerate(recorder.read(), 1):
                assert (found.position, found.event) == (number, event_at(number))
            for number, entry in enumerate(journal.read(), 1):
                assert (entry.number, entry.payload) == (number, record_at(number).payload)
    assert acknowledgements >= WRITER_KILLS, "the kills came too early to show anything"
