"""What the tests of the Redis store run in processes of their own: `-m tests.adapters.redis_child JOB ADDRESS`."""

import sys

from adapters.stores import redis_server
from adapters.stores.redis_journal import RedisJournal
from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer
from tests.adapters.sqlite_child import event_at, record_at, say


def hold(address: str) -> None:
    """Hold the ledger open for writing until standard input ends."""
    redis_server.LEASE_SECONDS = 1.5  # type: ignore[misc]
    with RedisServer(address):
        say("holding")
        sys.stdin.read()


def write(address: str) -> None:
    """Append and commit for ever; say what is acknowledged, after it is."""
    redis_server.LEASE_SECONDS = 0.5  # type: ignore[misc]
    with RedisServer(address) as server:
        recorder, journal = RedisRecorder(server), RedisJournal(server)
        source = journal.source("child.log", "audit")
        while True:
            head = recorder.head()
            say("ledger", recorder.append([event_at(head + 1 + i) for i in range(40)]))
            number = journal.head()
            journal.commit(source, [record_at(number + 1 + i) for i in range(40)], [], b"")
            say("journal", number + 40)


if __name__ == "__main__":
    job, place = sys.argv[1:]
    {"hold": hold, "write": write}[job](place)
