"""What the test of a killed PostgreSQL server runs in a process of its own: `-m tests.adapters.postgres_child ADDRESS`.

It appends and commits for ever, in several threads, and says what is acknowledged, after it is. When the server is gone
it goes on where it was, as a store does; it ends with its standard input.
"""

import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem

from adapters.ports import Backend, Record
from adapters.stores import backends

THREADS = 3


def event_at(writer: str, number: int) -> DCBEvent:
    return DCBEvent("Moved", b"%s %d" % (writer.encode(), number), [f"writer:{writer}", f"n:{number % 50}"])


def record_at(writer: str, number: int) -> Record:
    return Record(f"{writer} {number}", b"%08d" % number, number, b"payload of %d" % number * 10)


def write(backend: Backend, writer: str, stopped: threading.Event) -> None:
    """Append numbered events, each append under the condition that it follows this writer's last one."""
    chance = random.Random()
    query = DCBQuery([DCBQueryItem(tags=[f"writer:{writer}"])])
    source = backend.journal.source(f"{writer}.log", "audit")
    after = number = 0
    while not stopped.is_set():
        size = chance.choice((1, 3, 60))
        events = [event_at(writer, number + i) for i in range(size)]
        after = backend.recorder.append(events, DCBAppendCondition(query, after=after))
        records = [record_at(writer, number + i) for i in range(size)]
        receipt = backend.journal.commit(source, records, [], b"%d" % (number + size))
        assert all(receipt.accepted), "a record was kept twice"
        number += size
        # One write, so that the lines of threads do not mix.
        os.write(1, b"%s %d\n" % (writer.encode(), number))


def main(address: str, run: str) -> None:
    stopped = threading.Event()
    with backends.opened(address) as backend, ThreadPoolExecutor(THREADS) as pool:
        writers = [pool.submit(write, backend, f"{run}-{thread}", stopped) for thread in range(THREADS)]
        sys.stdin.read()
        stopped.set()
        for writer in writers:
            writer.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
