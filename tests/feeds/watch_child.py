"""A watch in a process of its own, for tests that kill it: `-m tests.feeds.watch_child KUBECONFIG LEDGER`."""

import sys
import threading

from adapters.feeds.watch import Watch
from adapters.intake import Intake
from adapters.stores import backends

if __name__ == "__main__":
    kubeconfig, ledger = sys.argv[1:]
    stop = threading.Event()
    with backends.opened(ledger) as backend:
        feed = Watch(Intake(backend.journal, lambda records: None), kubeconfig, cluster="shop")
        thread = threading.Thread(target=feed.run, args=[stop])
        thread.start()
        sys.stdin.read()
        stop.set()
        thread.join()
