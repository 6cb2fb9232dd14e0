"""Appends to PostgreSQL beside raw COPY of the same bytes on the same server: `python -m benchmarks.postgres`.

Batches of 1000 events with three tags each, appended under a condition, each batch durable before the next; and the
floor: type, data and tags of the same events by binary COPY into one table without an index, a transaction a batch.
Rounds of the two alternate on one server, which this starts; what is compared is wall-clock time, as most of the work
is the server's. `appending` gives the row; `store` puts it into the table of all.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import psycopg
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem

from adapters.ports import Recorder
from adapters.stores import backends
from benchmarks.measuring import Comparison, spread
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


def appending(rounds: int = ROUNDS) -> Comparison:
    """The events a second of each round, and of the floor beside it."""
    chance = random.Random(SEED)
    ours: list[float] = []
    floor: list[float] = []
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
                ours.append(append)
                floor.append(copy)
    what = "PostgreSQL: durable append, batches of 1000, 3 tags each, conditioned"
    return Comparison(what, "COPY of the same into one table on the same server", "events/s", ours, floor, 0.3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    row = appending(parser.parse_args().rounds)
    for name, values in (("append", row.ours), ("copy", row.floor), ("ratio", row.ratios)):
        digits = 3 if name == "ratio" else 0
        figures = (f"{kind} {value:.{digits}f}" for kind, value in spread(values).items())
        print(name.ljust(8), *figures, sep="  ")


if __name__ == "__main__":
    main()
