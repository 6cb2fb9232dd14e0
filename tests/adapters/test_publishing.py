"""Projections pushed to a real Redis server are those of the log, whole, at the position that they say."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from adapters import app, live
from adapters.live import Live
from adapters.ports import StoreError
from adapters.publishing import Publisher
from projections.lawful import ipset_members, vpc_statuses
from projections.reading import Reading
from tests.replaying import lines_of, timeline
from tests.servers.redis_server import Server


@pytest.fixture
def client(redis_server: Server) -> Iterator[Any]:
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def prefix() -> str:
    return f"p{random.getrandbits(40)}"


@contextmanager
def running(path: Path, window: float = 0.1) -> Iterator[Live]:
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=window)
        engine.start()
        yield engine
        engine.stop(60.0)


def pushed(client: Any, prefix: str) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    """Everything under a prefix, read at one moment."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(f"{{{prefix}}}:stand")
        pipe.smembers(f"{{{prefix}}}:vpcs")
        pipe.smembers(f"{{{prefix}}}:ipsets")
        stand, vpcs, ipsets = pipe.execute()
    with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(f"{{{prefix}}}:stand")
        for name in sorted(vpcs):
            pipe.hgetall(f"{{{prefix}}}:vpc:{name}")
        for name in sorted(ipsets):
            pipe.smembers(f"{{{prefix}}}:ipset:{name}")
        again, *values = pipe.execute()
    if again != stand:
        return pushed(client, prefix)
    return (
        stand,
        dict(zip(sorted(vpcs), values[: len(vpcs)], strict=True)),
        {name: frozenset(value) for name, value in zip(sorted(ipsets), values[len(vpcs) :], strict=True)},
    )


def test_what_is_pushed_at_a_position_is_what_the_log_says_up_to_there(
    tmp_path, client, prefix, redis_server, monkeypatch
):
    monkeypatch.setattr("adapters.publishing.INTERVAL_SECONDS", 0.02)
    path = tmp_path / "live.ledger"
    seen: dict[int, tuple[Any, Any]] = {}
    stop = threading.Event()
    with running(path, window=3.0) as engine:
        publisher = Publisher(engine, f"{redis_server.url}?prefix={prefix}")
        thread = threading.Thread(target=publisher.run, args=(stop,))
        thread.start()
        lines = list(lines_of("mixed-small"))
        for start in range(0, len(lines), 60):
            engine.intake.inlet("webhook", "audit.k8s.io").take(lines[start : start + 60])
            time.sleep(0.02)
            stand, *values = pushed(client, prefix)
            if stand and stand["position"] != "0":
                assert stand["generation"] == "1"
                seen[int(stand["position"])] = (values[0], values[1])
        assert engine.stop(60)
        stop.set()
        thread.join()
        stand, *values = pushed(client, prefix)
        assert int(stand["position"]) == engine.stand().position == publisher.position
        seen[int(stand["position"])] = (values[0], values[1])
    assert len(seen) > 2, "nothing was seen of the way"
    with app.opened(str(path), "read") as store:
        reading = Reading()
        for placed in store.ledger.events():
            reading.apply(placed.event)
            if placed.position in seen:
                assert (vpc_statuses(reading), ipset_members(reading)) == seen.pop(placed.position)
    assert not seen


def test_what_goes_is_taken_away_and_what_the_server_forgot_is_pushed_again(tmp_path, client, prefix, redis_server):
    with running(tmp_path / "live.ledger") as engine:
        publisher = Publisher(engine, f"{redis_server.url}?prefix={prefix}")
        client.sadd(f"{{{prefix}}}:vpcs", "of-another-day")
        client.hset(f"{{{prefix}}}:vpc:of-another-day", "drift", "[]")
        engine.intake.inlet("webhook", "audit.k8s.io").take(list(lines_of("s0-buggy")))
        assert engine.stop(60)
        publisher.push()
        stand, vpcs, _ = pushed(client, prefix)
        assert set(vpcs) == {"ovn-cluster", "vpc-shop"} or set(vpcs) == {"vpc-shop"}
        assert json.loads(vpcs["vpc-shop"]["subnets"]) == []
        assert json.loads(vpcs["vpc-shop"]["drift"]) == ["status.subnets"]
        client.delete(*client.keys(f"{{{prefix}}}:*"))
        publisher.push()
        assert pushed(client, prefix) == (stand, vpcs, {})


def test_a_server_that_is_down_is_said_and_pushed_to_when_it_is_there_again(tmp_path, monkeypatch):
    monkeypatch.setattr("adapters.publishing.RETRY_SECONDS", 0.05)
    with Server() as server, running(tmp_path / "live.ledger") as engine:
        publisher = Publisher(engine, f"{server.url}?prefix=here")
        engine.intake.inlet("webhook", "audit.k8s.io").take(list(lines_of("s1-buggy")))
        assert engine.stop(60)
        server.kill()
        stop = threading.Event()
        thread = threading.Thread(target=publisher.run, args=(stop,))
        thread.start()
        wait_for(lambda: publisher.failure)
        server.start()
        wait_for(lambda: publisher.failure is None and publisher.position == engine.stand().position)
        stop.set()
        thread.join()


def wait_for(question: Callable[[], Any]) -> None:
    until = time.monotonic() + 20
    while not question():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def test_members_of_ipsets_are_pushed_too(tmp_path, client, prefix, redis_server):
    path = tmp_path / "kept.ledger"
    with app.opened(str(path)) as store:
        audit = [str(file) for file in timeline("s3-control-order").parent.glob("audit*.gz")]
        app.replay(store, [str(timeline("s3-control-order")), *audit])
    with running(path) as engine:
        Publisher(engine, f"{redis_server.url}?prefix={prefix}").push()
        with engine.reading() as reading:
            wanted = ipset_members(reading)
        assert wanted and pushed(client, prefix)[2] == wanted


def test_an_address_that_is_none_is_a_sentence():
    with pytest.raises(StoreError, match="cannot be pushed"):
        Publisher(None, "http://somewhere")  # type: ignore[arg-type]


def test_folded_again_beside_the_engine_nothing_is_lost_and_nobody_reads_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SNAPSHOT_SECONDS", 0.05)
    with running(tmp_path / "live.ledger") as engine:
        lines = list(lines_of("mixed-small"))
        empty: list[int] = []
        stop = threading.Event()

        def watch() -> None:
            most = 0
            while not stop.is_set():
                with engine.reading() as reading:
                    if reading.at < most:
                        empty.append(reading.at)
                    most = max(most, reading.at)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for start in range(0, len(lines), 200):
            engine.intake.inlet("webhook", "audit.k8s.io").take(lines[start : start + 200])
            engine.rebuild()
        assert engine.stop(60)
        stop.set()
        watcher.join()
        assert empty == []
        before = engine.findings()["findings"]
        assert engine.rebuild() == engine.stand().events
        engine._conclude()
        assert engine.findings()["findings"] == before
