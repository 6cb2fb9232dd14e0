"""The import that `test_import_kill` kills: `python -m tests.incidents.importing_child LEDGER FILE…`.

It says on standard output what is acknowledged, after it is: `journal N`, the entries on disk; `ledger N`, the position
of the last event; `done DIGEST`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent

from adapters import ingest, judging
from adapters.ledger import Ledger
from adapters.ports import Aside, Receipt, Record
from adapters.stores import sqlite_file
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder


class TellingJournal(SQLiteJournal):
    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        receipt = super().commit(source, records, aside, summary)
        print("journal", self.head(), flush=True)
        return receipt


class TellingRecorder(SQLiteRecorder):
    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        last = super().append(events, condition)
        print("ledger", last, flush=True)
        return last


def main(ledger: str, *paths: str) -> None:
    # Small commits, so that a kill meets many of them; rare as checkpoints are, it has to meet one.
    ingest.BATCH_RECORDS = 10
    judging.BATCH_EVENTS = 10
    sqlite_file.CHECKPOINT_PAGES = 40  # type: ignore[misc]
    with SQLiteFile(Path(ledger)) as file:
        journal = TellingJournal(file)
        for path in paths:
            ingest.ingest(path, journal)
        print("done", judging.judge(journal, Ledger(TellingRecorder(file))).digest, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
