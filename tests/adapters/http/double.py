"""A stand-in for the live engine: it judges the whole journal when it is asked, over a real store and the real entrance.

What it answers is what an offline replay of the same records would, so the routes are tested with true answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adapters import app, report
from adapters.app import Outcome, Store
from adapters.authority import Authority, Verdict
from adapters.changes import Change
from adapters.checkpoints import Checkpoints
from adapters.intake import Intake, New
from adapters.judging import Judged
from adapters.ledger import Ledger
from adapters.live import Conflict, Live, Stand
from adapters.past import Past
from adapters.snapshots import Snapshots
from adapters.stores import backends
from adapters.trail_index import Trail
from domain.decide import Command
from domain.resources import Key
from projections.reading import Reading


class Double(Live):
    """As `Live`, of the same arguments."""

    def __init__(self, store: Store, address: str, *, window: float = 5.0, patience: float | None = None) -> None:
        self.store = store
        self.intake = Intake(store.journal, self._told)
        self.past = Past(Snapshots(backends.beside(address, "snapshots"), store.recorder))
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self._new = True
        self._made: tuple[Judged, dict[str, Any]] | None = None
        self._noted: list[Change] = []
        self.wrong: str | None = None
        self.lag = 0.0
        self.stopped = False

    def _told(self, records: Sequence[New]) -> None:
        self._new = True

    def _bring_up(self) -> tuple[Judged, dict[str, Any]]:
        with self._lock:
            if self._new or self._made is None:
                self._new = False
                # Somebody else's cursor is not moved: the ledger is read as it stands now.
                store = self.store._replace(ledger=Ledger(self.store.recorder))
                outcome: Outcome = app.conclude(store, app.brought_up(store), [])
                document = report.document(store, outcome)
                before = {one["id"]: one["status"] for one in (self._made[1]["findings"] if self._made else ())}
                for one in document["findings"]:
                    if before.get(one["id"]) != one["status"]:
                        self.change("opened" if one["id"] not in before else "changed", one)
                self._made = outcome.judged, document
            return self._made

    def change(self, what: str, finding: dict[str, Any]) -> None:
        """A change, as if the engine had noticed it."""
        with self._changed:
            number = self._noted[-1].number + 3 if self._noted else 7
            self._noted.append(Change(number, time.time_ns() // 1_000, what, finding))
            self._changed.notify_all()

    def start(self) -> None:
        self._bring_up()

    def stop(self, timeout: float = 8.0) -> bool:
        self.stopped = True
        return True

    def stand(self) -> Stand:
        judged, document = self._bring_up()
        return Stand(
            generation=document["ledger"]["generation"],
            position=document["ledger"]["head"],
            events=document["ledger"]["events"],
            refusals=judged.reading.refusals,
            received=self.store.journal.head(),
            undecided=0,
            lag=self.lag,
            late=0,
            merges=0,
        )

    def failure(self) -> str | None:
        return self.wrong

    def command(self, command: Command, expected: int | None = None) -> Verdict:
        with self._lock:
            last = self.position_of(command.key)
            if expected is not None and last != expected:
                raise Conflict(f"{command.key} changed at position {last}, and {expected} was known")
            verdict = Authority(self.store.recorder, self.store.journal).execute(command)
            self._new = True
            return verdict

    def position_of(self, key: Key) -> int:
        resource = self._bring_up()[0].reading.world.get(key)
        return Ledger(self.store.recorder).position_of(resource.last_at) if resource is not None else 0

    def findings(self) -> dict[str, Any]:
        return {**self._bring_up()[1], "provisional": {"undecided": 0, "seconds": 0.0, "settled": True}}

    def changes(self, after: int = 0, timeout: float = 0.0) -> list[Change]:
        with self._changed:
            self._changed.wait_for(lambda: any(one.number > after for one in self._noted), timeout)
            return [one for one in self._noted if one.number > after][:100]

    def last_change(self) -> int:
        return self._noted[-1].number if self._noted else 0

    def rebuild(self) -> int:
        with self._lock:
            self._new = True
            return self._bring_up()[0].reading.at

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        with self._lock:
            yield self._bring_up()[0].reading

    @contextmanager
    def asked(self) -> Iterator[Store]:
        with self._lock:
            self._bring_up()
            ledger = Ledger(self.store.recorder)
            recorder, kept = self.store.recorder, self.store.checkpoints
            checkpoints = None if kept is None else Checkpoints(kept.path, ledger, recorder)
            yield self.store._replace(ledger=ledger, checkpoints=checkpoints, trail=Trail(None, ledger, recorder))

    @contextmanager
    def outcome(self) -> Iterator[tuple[Store, Outcome]]:
        with self._lock:
            store = self.store._replace(ledger=Ledger(self.store.recorder))
            yield store, app.conclude(store, self._bring_up()[0], [])
