"""Measures appends on a Redis server beside the plainest thing that server can do: `python -m benchmarks.redis_append`.

Both write the same events to the same server, which syncs its disk before it answers. Ours: batches of 1000 with three tags
each, under a condition, through `RedisRecorder`. Beside it: the same 1000 types, tags and data as one pipeline of XADD,
which checks nothing, indexes nothing and chains nothing. Rounds of the two alternate; what is compared is the ratio within a
round. `measured` is for the table of all stores.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import msgspec
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem

from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer
from benchmarks.measuring import Comparison
from tests.servers.redis_server import Server

BATCH: Final = 1000
BATCHES: Final = 20
ROUNDS: Final = 9
SINGLES: Final = 300


def events(count: int, seed: int) -> list[DCBEvent]:
    """Events as an import appends them: about 250 bytes each, 2 kinds of resource that recur and one that mostly does not."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        subnet, pod = chance.randrange(200), f"{chance.getrandbits(40):010x}"
        tags = [f"subnet:net-{subnet}", f"vpc:vpc-{subnet % 12}", f"ip:web-{pod}.shop"]
        data = {
            "type": "IPAllocated",
            "key": ["ip", "", f"web-{pod}.shop"],
            "uid": f"{chance.getrandbits(128):032x}",
            "revision": 1_000_000 + number * 3,
            "actor": "system:serviceaccount:kube-system:ovn",
            "operation": "create ips",
            "record": f"audit:{chance.getrandbits(128):032x}@2026-11-21T01:24:04.{number % 10**6:06}Z/ResponseComplete",
            "tags": tags,
        }
        made.append(DCBEvent("IPAllocated", msgspec.msgpack.encode(data), tags))
    return made


def measured(
    rounds: int = ROUNDS, batches: int = BATCHES, singles: int = SINGLES
) -> tuple[list[Comparison], dict[str, float]]:
    """The rows, and what else is worth knowing: events read a second, bytes of memory an event."""
    with Server() as server, RedisServer(f"{server.url}?ledger=bench") as opened:
        recorder, client = RedisRecorder(opened), server.client()
        nobody = DCBQuery([DCBQueryItem(tags=["subnet:none"]), DCBQueryItem(tags=["vpc:none"])])

        def append(some: Sequence[DCBEvent]) -> None:
            recorder.append(some, DCBAppendCondition(nobody, after=0))

        def add(some: Sequence[DCBEvent]) -> None:
            pipeline = client.pipeline(transaction=False)
            for event in some:
                pipeline.xadd("raw", {"t": event.type, "g": msgspec.msgpack.encode(event.tags), "d": event.data})
            pipeline.execute()

        append(events(BATCH, 0))
        add(events(BATCH, 0))
        batch = Comparison(
            "Redis: durable append, batches of 1000, 3 tags each, conditioned",
            "pipelined XADD of the same on the same server",
            "events/s",
            [],
            [],
            0.3,
        )
        single = Comparison(
            "Redis: durable append of one event, 3 tags, conditioned", "XADD of the same", "events/s", [], [], 0.3
        )
        for number in range(rounds):
            pages = [events(BATCH, number * batches + i + 1) for i in range(batches)]
            ones = [[event] for event in pages[0][:singles]]
            # Who goes first meets another disk than who goes second: they take turns.
            for row, parts in ((batch, pages), (single, ones)):
                sides = [(row.ours, append), (row.floor, add)]
                for figures, write in sides if number % 2 else reversed(sides):
                    figures.append(_speed(write, parts))
        more = _read(recorder, client, opened)
    return [batch, single], more


def _speed(write: Callable[[Sequence[DCBEvent]], None], parts: Sequence[Sequence[DCBEvent]]) -> float:
    began = time.perf_counter()
    for part in parts:
        write(part)
    return sum(map(len, parts)) / (time.perf_counter() - began)


def _read(recorder: RedisRecorder, client: Any, opened: RedisServer) -> dict[str, float]:
    began = time.perf_counter()
    count = sum(1 for _ in recorder.read())
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    assert list(recorder.verify()) == []
    verifying = time.perf_counter() - began
    sizes = [client.memory_usage(key, samples=0) for key in client.scan_iter(match=r"netledger:*", count=10_000)]
    return {
        "events": count,
        "events read a second": count / seconds,
        "events verified a second": count / verifying,
        "bytes an event": sum(sizes) / count,
        "bytes of its block": client.memory_usage(opened.key("events"), samples=0) / count,
        "bytes an event of raw XADD": client.memory_usage("raw", samples=0) / client.xlen("raw"),
    }


def main() -> None:
    """Measure and print."""
    rows, more = measured()
    for row in rows:
        ratios = sorted(row.ratios)
        print(
            f"{row.what}: {median(row.ours):,.0f} events/s, {row.beside}: {median(row.floor):,.0f} events/s; "
            f"ratio {median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}]"
        )
    for name, value in more.items():
        print(f"{name}: {value:,.0f}")


if __name__ == "__main__":
    main()
