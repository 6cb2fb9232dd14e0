"""How much memory it takes to decide a long stretch of a journal again, because records came late.

A journal of so many made-up audit records is filled, with some that came at its end and belong to its beginning, and put in
order as the live engine does it when it goes back to a snapshot from before them. Beside it stands what a window takes
that holds all of them. `python -m benchmarks.merge [RECORDS]` prints seconds of CPU time and bytes as JSON; each way takes a
process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from adapters.intake import Intake
from adapters.stores import backends
from adapters.window import Window, again

RECORDS = 1_000_000
PODS = 5_000
APART = 1_400
"""Microseconds from one record to the next: 12,000 events a second, of which one in seventeen is a record."""
FIRST = 1_795_224_000_000_000
LATE = 0.01
"""The share of records that come at the end."""
BATCH_RECORDS = 1_000
WAYS = ("all held", "caught up with")


def lines(records: int) -> Iterator[bytes]:
    """Status writes on pods, as an API server tells of them; the late ones last."""
    random = Random(5)
    late: list[bytes] = []
    for number in range(1, records + 1):
        line = _line(number)
        if random.random() < LATE:
            late.append(line)
        else:
            yield line
    yield from late


def _line(number: int) -> bytes:
    name = f"web-{number % PODS}"
    when = datetime.fromtimestamp((FIRST + number * APART) / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{number % PODS}", "resourceVersion": str(number)}
    record = {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "stage": "ResponseComplete",
        "auditID": f"5eafa12f-80a7-4549-9592-{number * 7919:012x}", "verb": "patch",
        "requestURI": f"/api/v1/namespaces/shop/pods/{name}/status", "user": {"username": "system:node:worker-1"},
        "objectRef": {"resource": "pods", "namespace": "shop", "name": name, "subresource": "status", "apiVersion": "v1"},
        "responseStatus": {"code": 200}, "requestReceivedTimestamp": when, "stageTimestamp": when,
        "responseObject": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "status": {"phase": "Running"}},
    }  # fmt: skip
    return json.dumps(record).encode()


def fill(path: Path, records: int) -> None:
    """A journal that holds them."""
    with backends.opened(str(path), "write") as kept:
        inlet = Intake(kept.journal, lambda new: None).inlet("webhook", "audit.k8s.io")
        batch: list[bytes] = []
        for line in lines(records):
            batch.append(line)
            if len(batch) == BATCH_RECORDS:
                inlet.take(batch)
                batch.clear()
        inlet.take(batch)


def measure(path: Path, way: str) -> dict[str, Any]:
    """Put them in order, and throw them away."""
    begun = time.process_time()
    with backends.opened(str(path), "read") as kept:
        skews = {source.id: 0 for source in kept.journal.sources()}
        at_rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        window, like = Window(kept.journal, 5.0), Window(kept.journal, 5.0)
        news = again(kept.journal, (), 0, skews)
        clock = time.time_ns() // 1000
        if way == WAYS[0]:
            for new in news:
                window.add(new, 0.0, clock)
            ordered = window.ripe(0.0, everything=True)
        else:
            ordered = window.catch_up(news, 0.0, clock, like, everything=True)
        last, count = None, 0
        for one in ordered:
            count += 1
            assert last is None or last < one.order, (last, one.order)
            last = one.order
        assert not window.late
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "way": way,
        "records": count,
        "cpu_seconds": time.process_time() - begun,
        "at_rest_bytes": at_rest,
        "peak_bytes": peak,
    }


def main(records: int) -> None:
    """Fill a journal, measure both ways, print."""
    with (
        tempfile.TemporaryDirectory(prefix="netledger-merge-") as folder,
        get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
    ):
        path = Path(folder) / "late.ledger"
        pool.apply(fill, (path, records))
        print(json.dumps([pool.apply(measure, (path, way)) for way in reversed(WAYS)], indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
