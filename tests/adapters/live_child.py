"""The daemon's engine that tests kill: `python -m tests.adapters.live_child LEDGER FILE…`.

It takes the lines of the files a batch at a time, as a webhook brings them, and says on standard output how many lines are
durable, each time; then it goes on until it is killed, or told to stop on standard input.
"""

import gzip
import sys
from pathlib import Path

from adapters import app, live
from adapters.live import Live

BATCH = 25


def main(ledger: str, *paths: str) -> None:
    live.SNAPSHOT_SECONDS = 0.05  # type: ignore[misc]
    live.MERGE_SECONDS = 0.05  # type: ignore[misc]
    lines = [line for path in paths for line in gzip.decompress(Path(path).read_bytes()).splitlines()]
    with app.opened(ledger) as store:
        engine = Live(store, ledger, window=0.3)
        engine.start()
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        print("started", flush=True)
        for start in range(0, len(lines), BATCH):
            inlet.take(lines[start : start + BATCH])
            print(min(start + BATCH, len(lines)), flush=True)
        sys.stdin.readline()
        print("stopped" if engine.stop(60) else engine.failure(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
