"""The daemon with everything it can be told to read, over kills and restarts: at the end it says what a replay says."""

from __future__ import annotations

import gzip
import random
import signal
import threading
import time
from contextlib import ExitStack
from typing import Any

import httpx2 as httpx
import redis

from adapters import app, report
from adapters.ports import EXCERPT_BYTES
from tests.adapters.http.conftest import READER, SENDER, as_
from tests.adapters.http.daemons import Daemon
from tests.adapters.test_live import told
from tests.replaying import LONG_SEARCH, lines_of, recording
from tests.servers.redis_server import Server

KILLS = 20 if LONG_SEARCH else 3


def offline(name: str) -> list[dict[str, Any]]:
    with app.opened(None) as store:
        return told(report.document(store, app.replay(store, [str(path) for path in recording(name)])))


def asked(address: tuple[str, int], path: str) -> httpx.Response:
    return httpx.get(f"http://{address[0]}:{address[1]}{path}", headers=as_(READER), timeout=20)


def found(address: tuple[str, int], wanted: int) -> dict[str, Any]:
    """The findings, when so many records are in and none waits."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        document: dict[str, Any] = asked(address, "/v1/findings").json()
        provisional = document["provisional"]
        metrics = asked(address, "/metrics").text
        received = float(
            next(line.split()[1] for line in metrics.splitlines() if line.startswith("netledger_journal_records "))
        )
        if received >= wanted and provisional["settled"]:
            return document
        time.sleep(0.1)
    raise AssertionError((received, wanted, provisional))


def records_of(name: str) -> int:
    with app.opened(None) as store:
        app.replay(store, [str(path) for path in recording(name)])
        return store.journal.head()


def test_a_log_that_comes_by_three_ways_at_once_is_one_log(tmp_path, tokens_path, redis_server: Server):
    lines = list(lines_of("mixed-small"))
    log = tmp_path / "audit.log"
    log.write_bytes(b"")
    stream = f"audit{random.getrandbits(32)}"
    options = ["--tokens", tokens_path, "--log-format", "json", "--window", "0.5", "--follow", log]
    source = f"{redis_server.url}/{stream}?group=netledger&format=audit.k8s.io"
    client = redis.Redis.from_url(redis_server.url)
    with Daemon("--ledger", tmp_path / "live.ledger", *options, "--source", source, CHILD_REAL="1") as daemon:
        address = daemon.ready()
        url = f"http://{address[0]}:{address[1]}/ingest/audit"
        with log.open("ab") as file:
            for number, line in enumerate(lines):
                if number % 3 == 0:
                    file.write(line + b"\n")
                elif number % 3 == 1:
                    client.xadd(stream, {"record": line})
        for start in range(0, len(lines), 90):
            items = b",".join(line for line in lines[start : start + 90][2::3])
            body = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + items + b"]}"
            assert httpx.post(url, content=body, headers=as_(SENDER)).status_code == 200
        document = found(address, records_of("mixed-small"))
        assert told(document) == offline("mixed-small")
        ready = asked(address, "/readyz?verbose").text
        assert f"[+]source follow {log} ok" in ready or f"[+]source {log} ok" in ready, ready
        assert stream in ready
        assert "netledger_source_connected" in asked(address, "/metrics").text
        assert daemon.end() == 0
    with app.opened(str(tmp_path / "live.ledger")) as store:
        outcome = app.replay(store, [])
        assert told(report.document(store, outcome)) == offline("mixed-small")


def test_killed_again_and_again_while_it_is_sent_to_it_loses_nothing_it_acknowledged(tmp_path, tokens_path):
    """The sender does as an API server: what was not answered with 200 is sent again."""
    chance = random.Random()
    lines = list(lines_of("mixed-small"))
    batches = [lines[start : start + 40] for start in range(0, len(lines), 40)]
    options = ["--ledger", tmp_path / "live.ledger", "--tokens", tokens_path, "--log-format", "json", "--window", "0.5"]
    waiting = list(range(len(batches)))
    acknowledged: set[int] = set()
    kills = 0
    while waiting:
        with ExitStack() as stack, Daemon(*options, CHILD_REAL="1") as daemon:
            address = daemon.ready()
            url = f"http://{address[0]}:{address[1]}/ingest/audit"
            killer = threading.Timer(chance.uniform(0.02, 0.4), daemon.process.send_signal, [signal.SIGKILL])
            if kills < KILLS:
                killer.start()
            again = []
            client = stack.enter_context(httpx.Client(headers=as_(SENDER), timeout=20))
            for number in waiting:
                body = (
                    b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + b",".join(batches[number]) + b"]}"
                )
                try:
                    answer = client.post(url, content=body)
                    assert answer.status_code == 200
                    acknowledged.add(number)
                except httpx.HTTPError:
                    again.append(number)
                time.sleep(0.004)
            killer.cancel()
            waiting = again
            if daemon.process.poll() is None and not waiting:
                document = found(address, records_of("mixed-small"))
                assert told(document) == offline("mixed-small")
                assert daemon.end() == 0
            elif daemon.process.poll() is None:
                daemon.end()
            else:
                kills += 1
    assert acknowledged == set(range(len(batches)))
    with app.opened(str(tmp_path / "live.ledger"), "read") as store:
        assert [*store.container.verify(), *store.recorder.verify(), *store.journal.verify()] == []


def test_what_no_reader_can_use_is_kept_aside_however_long_it_is_and_the_rest_goes_on(tmp_path, tokens_path):
    with Daemon(
        "--ledger", tmp_path / "live.ledger", "--tokens", tokens_path, "--log-format", "json", CHILD_REAL="1"
    ) as daemon:
        address = daemon.ready()
        url = f"http://{address[0]}:{address[1]}/ingest/audit"
        junk = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":["%s"]}' % (b"x" * 100_000)
        body = (
            b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":['
            + b",".join([junk, *lines_of("s0-buggy")])
            + b"]}"
        )
        answer = httpx.post(url, content=gzip.compress(body), headers={**as_(SENDER), "content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["taken"]["aside"]) == (200, 1)
        assert len(found(address, 26)["findings"]) == 2
        assert daemon.end() == 0
    with app.opened(str(tmp_path / "live.ledger"), "read") as store:
        (kept,) = store.journal.kept_aside()
        assert len(kept.excerpt) == EXCERPT_BYTES and kept.size == len(junk)
