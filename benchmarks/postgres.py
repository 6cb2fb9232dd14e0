"""Appends to PostgreSQL beside raw COPY of the same bytes on the same server: `python -m benchmarks.postgres`.

Batches of 1000 events with three tags each, appended under a condition, each batch durable before the next; and the
floor: type, data and tags of the same events by binary COPY into one table without an index, a transaction a batch.
Rounds of the two alternate on one server, which this starts; what is compared is wall-clock time, as most of the work
is the server's. `appending` gives the figures; `run` is the place for them in the page.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from contextlib import closing
from statistics import median
from typing import Any, Final

import psycopg
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem

from adapters.ports import Recorder
from adapters.stores import backends
from tests.servers.postgres_server import PostgresServer

BATCH: Final = 1000
BATCHES: Final = 10
ROUNDS: Final = 7
DATA_BYTES: Final = 250
SEED: Final = 1


def events(chance: random.Random, first: int) -> list[DCBEvent]:
    """A batch as replay appends it: an object's own tag, one that many share, one that some do."""
    return [
        DCBEvent(
            "IPAllocated",
            chance.randbytes(DATA_BYTES),
            [f"ip:{number}", f"subnet:{number % 50}", f"pod:{number % 3000}"],
        )
        for number in range(first, first + BATCH)
    ]


def appended(recorder: Recorder, batches: Sequence[list[DCBEvent]]) -> float:
    """Events a second of durable appends, each under the condition that its first tag's object is new."""
    began = time.perf_counter()
    for batch in batches:
        query = DCBQuery([DCBQueryItem(tags=[batch[0].tags[0]])])
        recorder.append(batch, DCBAppendCondition(query, after=0))
    return BATCH * len(batches) / (time.perf_counter() - began)


def copied(connection: psycopg.Connection, batches: Sequence[list[DCBEvent]]) -> float:
    """Events a second of COPY, a durable transaction a batch."""
    began = time.perf_counter()
    for batch in batches:
        with connection.transaction(), connection.cursor().copy("COPY floor FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(("text", "bytea", "text[]"))
            for event in batch:
                copy.write_row((event.type, event.data, event.tags))
    return BATCH * len(batches) / (time.perf_counter() - began)


def appending(rounds: int = ROUNDS) -> dict[str, Any]:
    """The events a second of each round, and the ratio of the two: median, lowest, highest."""
    chance = random.Random(SEED)
    found: dict[str, list[float]] = {"append": [], "copy": [], "ratio": []}
    with (
        PostgresServer() as server,
        backends.opened(server.address("benchmark")) as backend,
        closing(psycopg.connect(server.address(), autocommit=True)) as connection,
    ):
        connection.execute("CREATE TABLE floor (type text, data bytea, tags text[])")
        first = 0
        for round_number in range(rounds + 1):
            batches = [events(chance, first + BATCH * i) for i in range(BATCHES)]
            first += BATCH * BATCHES
            append, copy = appended(backend.recorder, batches), copied(connection, batches)
            if round_number:  # the first warms up
                for name, value in (("append", append), ("copy", copy), ("ratio", append / copy)):
                    found[name].append(value)
    return {name: {"median": median(values), "low": min(values), "high": max(values)} for name, values in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    for name, values in appending(parser.parse_args().rounds).items():
        digits = 3 if name == "ratio" else 0
        print(name.ljust(8), *(f"{kind} {value:.{digits}f}" for kind, value in values.items()), sep="  ")


if __name__ == "__main__":
    main()
