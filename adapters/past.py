"""All that was known at an earlier moment, for questions to a daemon that need all of it: `why --at`, an ipset `--at`.

What a checkpoint holds is not enough for them, so the log is folded: from the newest snapshot that stands before the moment,
else from its beginning. It runs beside the engine and waits for none of its locks; one at a time, and for no longer than a
request may take, so that whoever asks for much does not keep the others waiting. `http/questions.py` asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from adapters.app import Store
from adapters.judging import Judged
from adapters.ledger import Moment
from adapters.ports import StoreError
from adapters.reasons import position_at
from adapters.snapshots import Snapshots
from adapters.sources.dialect import iso

LOOK_EVENTS: Final = 512
"""After so many events it is seen whether there is time left."""


class NotNow(StoreError):
    """The past cannot be folded now, or not in the time that there is. The message says what to do."""


class Past:
    """That of one ledger; safe to ask from several threads."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._one = threading.Lock()

    @contextmanager
    def judged_at(self, store: Store, moment: Moment, seconds: float) -> Iterator[Judged]:
        """What all events before a moment add up to, as long as the block lasts; `store` is this question's own.

        Raises:
            NotNow: somebody else's is being answered, or it takes longer than so many seconds.
            NotTold: what was then was pruned, or decided again.
            StoreError: the ledger cannot be read.
        """
        if not self._one.acquire(blocking=False):
            raise NotNow(
                "another question about an earlier moment is being answered, and each folds the log for it; ask again in "
                "a moment"
            )
        try:
            yield self._folded(store, moment, seconds)
        finally:
            self._one.release()

    def _folded(self, store: Store, moment: Moment, seconds: float) -> Judged:
        until = time.monotonic() + seconds
        ledger = store.ledger
        snapshot = self._snapshots.newest(ledger, upto=position_at(store, moment))
        if snapshot is None:
            judged, after = Judged(ledger.base), None
        else:
            ledger.go_on(snapshot.place, snapshot.runs)
            judged = Judged(reading=snapshot.reading, last_time=snapshot.last_time)
            after = snapshot.place, snapshot.position
        for number, placed in enumerate(ledger.events(after=after), 1):
            if moment.passed_by(placed):
                break
            judged.fold(placed.event, placed.data)
            if not number % LOOK_EVENTS and time.monotonic() > until:
                raise NotNow(
                    f"folding the log up to that moment takes longer than the {seconds:g} s that a request may take: it came "
                    f"as far as {iso(placed.event.time)}; ask the ledger itself (--ledger), or for a moment nearer to now"
                )
        return judged
