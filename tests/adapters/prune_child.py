"""A process that prunes a ledger up to its end, again and again a little further; it is killed while it does."""

import sys

from adapters import app, retention
from adapters.retention import Cut, NothingToPrune


def main(path: str, *positions: str) -> None:
    """Say when it begins, and what is done."""
    print("ready", flush=True)
    for position in positions:
        with app.opened(path) as store:
            try:
                plan = retention.planned(store.recorder, store.journal, store.ledger, Cut(None, int(position)))
            except NothingToPrune:
                continue
            print("begun", position, flush=True)
            retention.prune(store.recorder, plan)
        print("done", position, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
