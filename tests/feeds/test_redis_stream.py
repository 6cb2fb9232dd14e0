"""Redis streams, on a real server: nothing is lost when consumers are killed, and what comes twice is told as a duplicate."""

import gzip
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.feeds.redis_stream import RedisStream, read_address
from adapters.intake import Intake
from adapters.ports import Journal, StoreError
from adapters.stores import backends
from tests.adapters.conftest import LONG_SEARCH, redis_server
from tests.feeds.conftest import DATA, records_of, replayed, running, until
from tests.servers.redis_server import Server

__all__ = ["redis_server"]

KILLS = 40 if LONG_SEARCH else 3
names = itertools.count(1)


@pytest.fixture(scope="session")
def audit_lines() -> list[bytes]:
    lines = gzip.decompress((DATA / "mixed-small" / "audit.log.gz").read_bytes()).splitlines()
    return lines[1500:2700]


@pytest.fixture
def stream(redis_server: Server) -> str:
    return f"audit{next(names)}"


def address(server: Server, stream: str, more: str = "") -> str:
    return f"{server.url}/{stream}?group=netledger{more}"


@contextmanager
def reading(at: str, ledger: str) -> Iterator[tuple[RedisStream, Intake, Journal]]:
    with backends.opened(ledger) as backend:
        intake = Intake(backend.journal, lambda records: None)
        feed = RedisStream(intake, at)
        with running(feed):
            yield feed, intake, backend.journal


def expected(tmp_path: Path, lines: list[bytes]) -> dict[str, bytes]:
    whole = tmp_path / "whole.log"
    whole.write_bytes(b"\n".join(lines))
    return replayed(whole, tmp_path)


def taken(intake: Intake, what: str) -> int:
    return sum(getattr(inlet.taken, what) for inlet in intake.inlets())


def pending(client: Any, stream: str) -> int:
    return int(client.xpending(stream, "netledger")["pending"])


def test_entries_are_kept_as_they_come_and_acknowledged(
    redis_server: Server, stream: str, ledger: str, tmp_path: Path, audit_lines: list[bytes]
):
    client = redis_server.client()
    for line in audit_lines[:100]:
        client.xadd(stream, {"record": line, "node": "a"})
    with reading(address(redis_server, stream), ledger) as (feed, intake, journal):
        until(lambda: taken(intake, "records") == 100)
        for line in audit_lines[100:150]:
            client.xadd(stream, {"anything": line})
        until(lambda: taken(intake, "records") == 150)
        until(lambda: pending(client, stream) == 0)
        assert records_of(journal) == expected(tmp_path, audit_lines[:150])
        assert feed.state().connected and feed.state().position
        assert taken(intake, "aside") == 0


def test_what_shows_another_dialect_is_read_in_that(
    redis_server: Server, stream: str, ledger: str, tmp_path: Path, audit_lines: list[bytes]
):
    """The body of a webhook's POST, and a watch event, among the lines of a log."""
    client = redis_server.client()
    items = b",".join(audit_lines[:30])
    body = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[' + items + b"]}"
    watch = gzip.decompress((DATA / "quirks-managedfields-webhook" / "watch-raw.jsonl.gz").read_bytes()).splitlines()
    for value in (body, audit_lines[30], watch[1]):
        client.xadd(stream, {"record": value})
    with reading(address(redis_server, stream), ledger) as (_, intake, journal):
        until(lambda: taken(intake, "records") == 32)
        found = records_of(journal)
    wanted = expected(tmp_path, audit_lines[:31])
    assert {identity: found[identity] for identity in wanted} == wanted
    assert [one for one in found if one.startswith("object:")] and len(found) == len(wanted) + 1


def test_what_cannot_be_read_is_kept_aside_with_its_entry_and_acknowledged(
    redis_server: Server, stream: str, ledger: str, audit_lines: list[bytes]
):
    client = redis_server.client()
    wrong = client.xadd(stream, {"record": b"\xff{ no record"})
    several = client.xadd(stream, {"a": "1", "b": "2"})
    client.xadd(stream, {"record": audit_lines[0][:-20]})
    client.xadd(stream, {"record": audit_lines[0]})
    with reading(address(redis_server, stream, "&format=audit.k8s.io"), ledger) as (_, intake, journal):
        until(lambda: taken(intake, "records") == 4)
        until(lambda: pending(client, stream) == 0)
        assert taken(intake, "aside") == 3
        reasons = " | ".join(one.reason for one in journal.kept_aside())
        assert several.decode() in reasons
    other = f"{stream}-other"
    client.xadd(other, {"record": b"\xff{ no record"})
    with reading(address(redis_server, other), ledger) as (_, intake, journal):
        until(lambda: taken(intake, "aside") == 1)
        assert "in no format" in " ".join(one.reason for one in journal.kept_aside())
    assert wrong


def test_consumers_that_are_killed_in_the_middle_lose_nothing(
    redis_server: Server, stream: str, tmp_path: Path, audit_lines: list[bytes]
):
    """Two daemons share one group, with a ledger each; one is killed again and again, and at last for ever."""
    client = redis_server.client()
    dying, living = str(tmp_path / "dying.ledger"), str(tmp_path / "living.ledger")
    at = address(redis_server, stream, "&idle=0.4&consumer=")
    lines = iter(audit_lines)
    with reading(f"{at}living", living) as (_, _, journal):
        for _ in range(KILLS):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.feeds.redis_stream_child", f"{at}dying", dying], stdin=subprocess.PIPE
            )
            try:
                until(lambda: b"dying" in {one["name"] for one in consumers(client, stream)})
                for line in itertools.islice(lines, len(audit_lines) // KILLS):
                    client.xadd(stream, {"record": line})
            finally:
                child.kill()
                child.wait()
        until(lambda: pending(client, stream) == 0 and lag(client, stream) == 0, 15)
        with backends.opened(dying) as backend:
            theirs = records_of(backend.journal)
        ours = records_of(journal)
        assert len(ours) > 100, "nothing came to the one that lived"
    assert dict(sorted({**theirs, **ours}.items())) == expected(tmp_path, audit_lines)


def consumers(client: Any, stream: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = client.xinfo_consumers(stream, "netledger")
    except Exception:
        return []
    return found


def lag(client: Any, stream: str) -> int:
    return int(client.xinfo_groups(stream)[0]["lag"] or 0)


def test_what_a_dead_consumer_left_is_claimed_and_a_repeat_is_told_as_a_duplicate(
    redis_server: Server, stream: str, ledger: str, audit_lines: list[bytes]
):
    client = redis_server.client()
    with reading(address(redis_server, stream, "&idle=0.3"), ledger) as (_, intake, _):
        until(lambda: bool(consumers(client, stream)))
        for line in audit_lines[:20]:
            client.xadd(stream, {"record": line})
        until(lambda: taken(intake, "records") == 20)
    first = taken(intake, "recognised")
    assert first
    for line in audit_lines[:20]:
        client.xadd(stream, {"record": line})
    assert client.xreadgroup("netledger", "dead", {stream: ">"}, count=100)
    trimmed = client.xadd(stream, {"record": b"{}"})
    client.xreadgroup("netledger", "dead", {stream: ">"})
    client.xdel(stream, trimmed)
    time.sleep(0.35)
    with reading(address(redis_server, stream, "&idle=0.3"), ledger) as (_, intake, journal):
        until(lambda: taken(intake, "duplicates") == first)
        until(lambda: pending(client, stream) == 0)
        until(lambda: taken(intake, "aside") == 1)
        assert trimmed.decode() in "".join(one.reason for one in journal.kept_aside())
        assert taken(intake, "recognised") == 0


def test_a_server_that_restarts_and_a_group_that_is_gone_are_healed(
    ledger: str, tmp_path: Path, audit_lines: list[bytes]
):
    with Server() as server:
        client = server.client()
        with reading(address(server, "audit"), ledger) as (feed, intake, journal):
            until(lambda: feed.state().connected)
            for line in audit_lines[:50]:
                client.xadd("audit", {"record": line})
            until(lambda: taken(intake, "records") == 50)
            server.kill()
            until(lambda: not feed.state().connected and "is tried again" in feed.state().error)
            server.start()
            client = server.client()
            until(lambda: feed.state().connected)
            client.xgroup_destroy("audit", "netledger")
            for line in audit_lines[50:100]:
                client.xadd("audit", {"record": line})
            wanted = expected(tmp_path, audit_lines[:100])
            until(lambda: journal.head() == len(wanted))
            client.flushall()
            client.xadd("audit", {"record": audit_lines[100]})
            until(lambda: taken(intake, "records") >= 151)
            assert feed.state().failures >= 1 and feed.state().connected


def test_a_key_that_is_no_stream_is_told(redis_server: Server, stream: str, ledger: str):
    redis_server.client().set(stream, "text")
    with reading(address(redis_server, stream), ledger) as (feed, _, _):
        until(lambda: "name a stream" in feed.state().error)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("redis://host/0?group=g", "the name of the stream is missing"),
        ("redis://host/0/audit", "the consumer group is missing"),
        ("redis://u:secret@host/0/audit?group=g&format=xml", "there is no format 'xml'"),
        ("redis://u:secret@host/0/audit?group=g&idle=never", "idle is a number of seconds"),
        ("redis://u:secret@host/0/audit?group=g&colour=red", "there is no option 'colour'"),
        ("redis+sentinel://u:secret@host/audit?group=g", "the name of the service"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(given: str, told: str):
    with pytest.raises(StoreError, match=told) as refused:
        read_address(given)
    assert "secret" not in str(refused.value)


def test_an_address_names_server_stream_and_group():
    made = read_address("rediss://u:secret@host:7000/3/audit?group=g&consumer=c&ca=x.pem")
    assert (made.stream, made.group, made.consumer) == ("audit", "g", "c")
    assert (made.server.hosts, made.server.database, made.server.secure) == ([("host", 7000)], 3, True)
    assert made.server.options == {"ca": "x.pem"}
    sentinel = read_address("redis+sentinel://a:1,b:2/main/0/audit?group=g")
    assert (sentinel.server.topology, sentinel.server.service, sentinel.stream) == ("sentinel", "main", "audit")
    assert "secret" not in json.dumps(made.shown)
