"""A consumer in a process of its own, for tests that kill it: `-m tests.feeds.redis_stream_child ADDRESS LEDGER`."""

import sys
import threading

from adapters.feeds.redis_stream import RedisStream
from adapters.intake import Intake
from adapters.stores import backends

if __name__ == "__main__":
    address, ledger = sys.argv[1:]
    stop = threading.Event()
    with backends.opened(ledger) as backend:
        feed = RedisStream(Intake(backend.journal, lambda records: None), address)
        thread = threading.Thread(target=feed.run, args=[stop])
        thread.start()
        sys.stdin.read()
        stop.set()
        thread.join()
