"""The live engine: decides records as they come, and raises and heals findings as they happen.

One thread takes what `intake.py` put into the journal, lets it wait in the `Window` for what belongs before it, decides it
as a replay would (`judging.Deciding`), and asks the rules. Questions are answered from what is decided by then. What comes
later than the window waits a while, with others that do; then the engine goes back to a `Snapshot` from before it, decides
again from there beside what is asked meanwhile, and switches over: a new generation. `adapters/http` asks it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, cast

import msgspec

from adapters import finding_documents, report
from adapters.app import Outcome, Store, end_of
from adapters.authority import Verdict, decided_in, record_of, verdict_of
from adapters.changes import Change, Changes
from adapters.finding_documents import Packed
from adapters.ingest import skew_of
from adapters.intake import Intake, New
from adapters.judging import Deciding, Judged
from adapters.ledger import Ledger
from adapters.ordering import Heads, Ordered, in_order
from adapters.past import Past
from adapters.ports import StoreError
from adapters.snapshots import Snapshot, Snapshots
from adapters.stores import backends
from adapters.upkeep import Upkeep
from adapters.window import Carried, Window, again
from domain.decide import Command, decide_command
from domain.operations import OrderKey
from domain.order import Sequencer
from domain.resources import Key
from projections.findings.concluded import Concluded
from projections.reading import Reading

TICK_SECONDS: Final = 0.1
SNAPSHOT_SECONDS: Final = 15.0
SHARE: Final = 20
"""What is done now and then (snapshots, verdicts, merges) takes at most one part in so many of the time."""
MERGE_SHARE: Final = 4
MERGE_SECONDS: Final = 2.0
"""For how long late records wait for others, at least."""
RETRY_SECONDS: Final = 5.0
STEP_RECORDS: Final = 500
"""How many records are decided before others may ask."""

STARTING: Final = "the engine starts: it reads where it was, and decides what the journal holds beyond that"

log = logging.getLogger(__name__)


class Stand(msgspec.Struct, frozen=True):
    """Where the engine has come to."""

    generation: int
    position: int
    """Of the last event in the ledger; 0 when there is none."""
    events: int
    """Of the current generation."""
    refusals: int
    received: int
    """Records in the journal."""
    undecided: int
    """Records that are in the journal and wait: for the reorder window, or for their turn."""
    lag: float
    """For how many seconds the oldest of them has waited."""
    late: int
    """Records that came later than the window, since this process began."""
    merges: int
    """How often a new generation was begun for them."""


class Conflict(Exception):
    """The resource changed since the position that a command was meant for. The message says at which position."""


class Live:
    """One ledger, open for writing, with an engine thread. All methods may be called from several threads."""

    def __init__(self, store: Store, address: str, *, window: float = 5.0, patience: float | None = None) -> None:
        """`address` is the ledger's; `window` and `patience` are in seconds."""
        self._store = store
        self._seconds = window
        self._patience = None if patience is None else round(patience * 1_000_000)
        self.intake = Intake(store.journal, self._told)
        self._snapshots = Snapshots(backends.beside(address, "snapshots"), store.recorder)
        self._changes = Changes(backends.beside(address, "changes"))
        self._upkeep = Upkeep(store.recorder, address)
        self.past = Past(self._snapshots)
        self._arrived: deque[New] = deque()
        self._wake = threading.Condition()
        self._turn = threading.RLock()  # whoever decides: the engine, or a command
        self._fold = threading.Lock()  # whoever looks at what is folded, or folds
        self._begun = threading.Event()
        self._stopping = False
        self._failure: str | None = None
        self._late = self._merges = self._taking = 0
        self._next_snapshot = self._next_verdict = self._next_merge = 0.0
        self._judged_upto: tuple[Any, ...] = ()
        self._kept_at: tuple[int, ...] = ()
        self._window = Window(store.journal, window)
        self._deciding = Deciding(store.journal, Ledger(store.recorder), Judged(reading=Reading()))
        self._found = Concluded()
        self._is_noted = False  # whether the changes know all that was found before
        self._document: dict[str, Any] = {}
        self._is_whole = False  # whether nothing waited when that was made
        self._concluded: tuple[Store, Outcome] | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # ---- asked by others

    def start(self) -> None:
        """Go on from where the last process was. Returns when questions can be answered. Raises `StoreError`.

        Meanwhile records are taken, and whoever asks is told to ask again.
        """
        with self._turn:
            self._go_back(None)
            self._conclude()
        self._upkeep.start()
        self._begun.set()
        # Of what came while the journal was read nobody was told.
        with self._turn:
            now, clock = time.monotonic(), time.time_ns() // 1000
            for new in again(self._store.journal, (), self._window.upto, self._skews()):
                self._window.add(new, now, clock)
        self._thread.start()

    def stop(self, timeout: float = 8.0) -> bool:
        """Decide what is waiting, write down where it stands; false where that was not done in time (nothing is lost)."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.ident is None:
            return False  # it was about to start, and gives up
        until = time.monotonic() + timeout
        self._thread.join(timeout)
        self._upkeep.stop(max(until - time.monotonic(), 0.0))
        return not self._thread.is_alive() and self._failure is None

    def stand(self) -> Stand:
        """Where it has come to."""
        ledger, reading = self._deciding.ledger, self._deciding.judged.reading
        since = self._window.waiting_since()
        with self._wake:
            undecided = self._window.undecided + len(self._arrived) + self._taking
        return Stand(
            generation=ledger.generation,
            position=ledger.head,
            events=ledger.count,
            refusals=reading.refusals,
            received=self._store.journal.head(),
            undecided=undecided,
            lag=0.0 if since is None else max(time.monotonic() - since, 0.0),
            late=self._late,
            merges=self._merges,
        )

    def failure(self) -> str | None:
        """Why the engine stands still (a full disk, a damaged ledger); `None` where it goes on."""
        return STARTING if not self._begun.is_set() else self._failure

    def command(self, command: Command, expected: int | None = None) -> Verdict:
        """Decide a command on what is decided so far; the same identity given twice is one event.

        `expected` is the position of the last event on the resource that its sender knew.

        Raises `Conflict` where another came since, and `StoreError`.
        """
        self._require_begun()
        with self._turn:
            ledger, reading = self._deciding.ledger, self._deciding.judged.reading
            if not self.intake.command(record_of(command)):
                known = ((placed.position, placed.event) for placed in ledger.concerning(command.key))
                if (before := decided_in(known, command)) is not None:
                    return before
            resource = reading.world.get(command.key)
            last = ledger.position_of(resource.last_at) if resource is not None else 0
            if expected is not None and last != expected:
                raise Conflict(
                    f"{command.key} was last changed at position {last}, and {command.event} was meant for position "
                    f"{expected}; look at it again, and give the command anew if it is still meant"
                )
            events = decide_command(reading.world, command)
            with self._fold:
                for event in events:
                    reading.apply(event)
                data = ledger.append(events)
                for one in data:
                    self._deciding.judged.count(one)
            self._hurry()
            return verdict_of(events[0], ledger.head - len(events) + 1)

    def position_of(self, key: Key) -> int:
        """The position of the last event that moved a live resource: what `expected` of a command is held to. 0 without."""
        with self._fold:
            resource = self._deciding.judged.reading.world.get(key)
            return self._deciding.ledger.position_of(resource.last_at) if resource is not None else 0

    def findings(self) -> dict[str, Any]:
        """Where the ledger stands, coverage and findings as in `netledger replay -o json`, of what is decided so far.

        `provisional` says how many records are not, and for how long the oldest of them has waited; `settled` whether this
        answer is of all that came.
        """
        self._require_begun()
        stand, document, whole = self.stand(), self._document, self._is_whole
        said = document["ledger"]
        settled = (
            whole and not stand.undecided and (said["generation"], said["head"]) == (stand.generation, stand.position)
        )
        return {
            **document,
            "provisional": {"undecided": stand.undecided, "seconds": round(stand.lag, 3), "settled": settled},
        }

    def changes(self, after: int = 0, timeout: float = 0.0) -> list[Change]:
        """The changes with a number above `after`, oldest first; waits for one where there is none yet."""
        return self._changes.after(after, timeout)

    def last_change(self) -> int:
        """The number of the last change; 0 where there is none."""
        last: int = self._changes.last
        return last

    def standing(self) -> tuple[int, list[dict[str, Any]]]:
        """The number of the last change, and the findings that are open by then. Raises `StoreError`."""
        number, noted = self._changes.standing()
        fresh = {finding["id"]: finding for finding in finding_documents.open_ones(self._document.get("findings", ()))}
        return number, [fresh.get(finding["id"], finding) for finding in noted]

    def told(self, who: str) -> int | None:
        """Up to which change somebody was told; `None` of who never was. Raises `StoreError`."""
        return self._changes.told(who)

    def tell(self, who: str, number: int) -> None:
        """Somebody was told of all changes up to that number, and is not told again after a restart. Raises `StoreError`."""
        self._changes.tell(who, number)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """What is folded, standing still meanwhile: be quick."""
        self._require_begun()
        with self._fold:
            yield self._deciding.judged.reading

    @contextmanager
    def outcome(self) -> Iterator[tuple[Store, Outcome]]:
        """What was concluded last, with the ledger that it is of, standing still meanwhile: be quick."""
        self._require_begun()
        with self._fold:
            assert self._concluded is not None  # `start` concludes
            yield self._concluded

    @contextmanager
    def asked(self) -> Iterator[Store]:
        """The store for one question, as it stands now."""
        self._require_begun()
        store = self._store
        ledger = self._deciding.ledger.as_it_stands()
        yield store._replace(ledger=ledger, checkpoints=self._upkeep.checkpoints(ledger), trail=self._upkeep.trail)

    def rebuild(self) -> int:
        """Fold everything again from the log, beside the engine, and switch over at once; gives how many events.

        Raises `StoreError`.
        """
        self._require_begun()
        while True:
            ledger = Ledger(self._store.recorder)
            judged = Judged(ledger.base)
            for placed in ledger.events():
                judged.fold(placed.event, placed.data)
            with self._turn:
                deciding = self._deciding
                if deciding.ledger.generation != ledger.generation:
                    continue  # what was folded is superseded
                last = ledger.position_of(ledger.count) if ledger.count else 0
                for placed in deciding.ledger.events(after=(ledger.count, last)):
                    judged.fold(placed.event, placed.data)
                fresh = Deciding(
                    self._store.journal, deciding.ledger, judged, after=(judged.reading.at, deciding.ledger.head)
                )
                with self._fold:
                    self._deciding = fresh
                    self._found = Concluded(self._found, judged.reading.at)
                self._judged_upto = ()
                return judged.reading.at

    # ---- the engine

    def _require_begun(self) -> None:
        if not self._begun.is_set():
            raise StoreError(f"{STARTING}; ask again in a moment")

    def _skews(self) -> dict[int, int]:
        return {source.id: skew_of(source) for source in self._store.journal.sources()}

    def _told(self, records: Sequence[New]) -> None:
        if not self._begun.is_set():
            return  # they are in the journal, and are found there
        with self._wake:
            self._arrived.extend(records)
            self._wake.notify_all()

    def _hurry(self) -> None:
        with self._wake:
            self._next_verdict = 0.0
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._arrived and not self._stopping:
                    self._wake.wait(TICK_SECONDS)
                arrived = list(self._arrived)
                self._arrived.clear()
                self._taking = len(arrived)
                stopping = self._stopping
            try:
                with self._turn:
                    if self._failure is not None:
                        self._go_back(None)  # what is in memory may be ahead of what is on disk
                        log.info("the engine goes on")
                        self._failure = None
                    self._step(arrived, everything=stopping)
                    if stopping and not self._arrived:
                        self._keep_snapshot()
                        return
            except Exception as error:
                # The journal has the records: they are decided when the store can be written again.
                reason = str(error)
                if not isinstance(error, StoreError):
                    log.exception("the engine failed")
                    reason = f"{type(error).__name__}: {error}; this is a bug in netledger, please report it"
                if self._failure is None:
                    log.error("the engine stands still: %s", reason)
                self._failure = reason
                with self._wake:
                    if self._stopping:
                        return
                    self._wake.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _step(self, arrived: Sequence[New], *, everything: bool) -> None:
        now, clock = time.monotonic(), time.time_ns() // 1000
        for new in arrived:
            if new.number > self._window.upto:  # else it was found in the journal already
                self._window.add(new, now, clock)
        self._taking = 0
        self._decide(now, everything=everything)
        if self._window.late and (everything or now >= self._next_merge):
            self._merge(everything=everything)
        if everything or now >= self._next_verdict:
            begun = time.monotonic()
            self._conclude()
            ended = time.monotonic()
            self._next_verdict = ended + max(SHARE * (ended - begun), TICK_SECONDS)
        if now >= self._next_snapshot:
            self._keep_snapshot()

    def _decide(self, now: float, *, everything: bool) -> None:
        ripe = self._window.ripe(now, everything=everything)
        while True:
            with self._fold:
                count = 0
                for count, ordered in enumerate(ripe, 1):
                    self._deciding.take(ordered)
                    if count == STEP_RECORDS:
                        break
                self._deciding.flush()
            if count < STEP_RECORDS:
                return

    def _merge(self, *, everything: bool) -> None:
        """Decide again from before the late records, beside what is asked meanwhile."""
        begun = time.monotonic()
        late = len(self._window.late)
        self._go_back(min(self._window.late.values()), everything=everything)
        self._late += late
        self._merges += 1
        taken = time.monotonic() - begun
        self._next_merge = time.monotonic() + max(MERGE_SHARE * taken, MERGE_SECONDS)
        log.info("merged late records", extra={"records": late, "seconds": round(taken, 3)})

    def _go_back(self, before: int | None, *, everything: bool = False) -> None:
        """Go on from the newest snapshot that no record before that time is too late for, or from the beginning.

        Without a time everything that the journal holds is decided by the end.
        """
        everything = everything or before is None
        upto: int | None = None
        while True:
            ledger = Ledger(self._store.recorder)
            snapshot = self._snapshots.newest(ledger, before, upto)
            if snapshot is None:
                self._begin(ledger)
                return
            window = Window(self._store.journal, self._seconds)
            waited = window.restore(snapshot.window)
            window.upto = snapshot.records
            ripe = self._again(window, waited, snapshot.records, everything=everything)
            first = next(ripe, None)
            if not window.late:
                break
            upto = snapshot.position - 1  # it was not far enough
        ledger.go_on(snapshot.place, snapshot.runs)
        judged = Judged(reading=snapshot.reading, last_time=snapshot.last_time)
        deciding = Deciding(self._store.journal, ledger, judged, after=(snapshot.place, snapshot.position))
        for ordered in chain([first] if first is not None else [], ripe):
            self._give_up_if_told()
            deciding.take(ordered)
        if deciding.pending and not everything:
            for ordered in window.ripe(time.monotonic(), everything=True):
                deciding.take(ordered)
        deciding.finish()
        self._switch(window, deciding, snapshot.position)

    def _again(self, window: Window, waited: Iterable[int], upto: int, *, everything: bool) -> Iterator[Ordered]:
        """What the journal holds and a snapshot did not, as far as it was ripe."""
        journal = self._store.journal
        now, clock = time.monotonic(), time.time_ns() // 1000
        records = again(journal, waited, upto, self._skews())
        return window.catch_up(records, now, clock, self._window, everything=everything)

    def _begin(self, ledger: Ledger) -> None:
        """Everything from the beginning, ordered on disk: there may be any number of records."""
        journal = self._store.journal
        window = Window(journal, self._seconds)
        deciding = Deciding(journal, ledger, Judged(ledger.base))
        sequencer: Sequencer[Carried] = Sequencer()
        heads = Heads()
        last: OrderKey | None = None
        latest = 0
        for ordered in in_order(journal, heads=heads, sequencer=sequencer):
            self._give_up_if_told()
            deciding.take(ordered)
            last = ordered.order
            latest = max(latest, last.time)
        deciding.finish()
        window.go_on(sequencer, last, latest, heads.upto)
        self._switch(window, deciding, 0)

    def _give_up_if_told(self) -> None:
        if self._stopping and not self._begun.is_set():
            raise StoreError("the engine was stopped before it had started; what was decided by then is kept")

    def _switch(self, window: Window, deciding: Deciding, kept: int) -> None:
        if deciding.generations:
            self._snapshots.drop_behind(kept)
        with self._fold:
            self._window, self._deciding = window, deciding
            self._found = Concluded(self._found, deciding.same_upto)
        self._judged_upto = ()

    def _keep_snapshot(self) -> None:
        begun = time.monotonic()
        ledger, judged = self._deciding.ledger, self._deciding.judged
        stands = ledger.generation, ledger.head, self._window.upto, self._window.fed
        if not self._window.late and stands != self._kept_at:  # else it is there already
            self._kept_at = stands
            self._snapshots.keep(
                Snapshot(
                    position=ledger.head,
                    place=ledger.count,
                    runs=ledger.runs_upto(ledger.count),
                    records=self._window.upto,
                    fed=self._window.fed,
                    reading=judged.reading,
                    last_time=judged.last_time,
                    window=self._window.state(),
                )
            )
        now = time.monotonic()
        self._next_snapshot = now + max(SNAPSHOT_SECONDS, SHARE * (now - begun))

    def _conclude(self) -> None:
        """Ask the rules, and say what is new."""
        store = self._store
        judged, ledger = self._deciding.judged, self._deciding.ledger
        end = end_of(self.intake)
        is_whole = not self._window.undecided
        if (oldest := self._window.oldest) is not None:
            end = max(min(end, oldest), judged.last_time)  # what waits may be what is missed
        upto = (ledger.generation, ledger.head, end, is_whole)
        if upto == self._judged_upto:
            return
        asked = Store(store.container, store.recorder, store.journal, ledger, store.durability)
        is_noted, self._is_noted = self._is_noted, False  # should it fail, what moved is not known any more
        with self._fold:
            findings = judged.reading.conclude(
                end, lambda place: ledger.event_at(place).event, self._patience, self._found
            )
            outcome = Outcome([], judged, findings, end)
            before = self._document.get("findings")
            documents = finding_documents.documents(asked, findings, before)
            document = report.verdict(asked, outcome, documents, self.intake)
            self._concluded = asked, outcome
        fresh = [cast(Packed, entry.document) for entry in (findings.fresh if is_noted else findings.over)]
        self._changes.note(documents.now, time.time_ns() // 1000, over=fresh, gone=findings.gone, whole=not is_noted)
        self._is_noted = True
        self._document, self._is_whole = document, is_whole
        self._judged_upto = upto
