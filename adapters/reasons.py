"""The answers to `blame`, `diff` and `why`, as plain documents: who made a field what it is, what changed, what blocks.

`blame` and `diff` read one resource's own events and no others. `why` asks what is folded from the whole log, which who
calls it holds: a daemon for as long as it runs, a command for one answer. `cli/explaining` and the daemon ask here;
`telling` puts the answers into words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from adapters.app import Outcome, Store
from adapters.ledger import Moment, Placed
from adapters.report import NotKnown, cited
from adapters.sources.dialect import iso
from adapters.stores import codec
from adapters.trail_index import Trail, Wanted
from domain.events import REFUSED, TESTIMONIES
from domain.kinds import VOCABULARY
from domain.resources import Key
from domain.world import Resource
from projections.field_history import FieldHistory, State, Written, changes, fields_written, may_write
from projections.why.answer import why as explained

Document = dict[str, Any]

LOST_UPDATE = "lost-update"


def blame(
    store: Store,
    key: Key,
    moment: Moment | None = None,
    *,
    standing: Document | None = None,
    findings: Sequence[Document] = (),
    coverage: Document | None = None,
) -> Document:
    """Each field of a resource at a moment: what it says, who made it say so, when, by which request, on what basis.

    `standing` is the resource's document as `get` gives it, which says what its claims should be; `findings` are those of
    the ledger as documents, which say what a writer had read where its own record does not. Raises `NotKnown` where the
    resource is not there, and `StoreError`.
    """
    past = _Past(store, key)
    upto = position_at(store, moment)
    there = past.state_at(upto)
    if not there.there:
        raise past.not_there(" then" if moment is not None else " any more")
    written = past.last_writes(there.fields, upto)
    events = cited(store, past.placed(place for one in written.values() for place in (one.position, *one.overlooked)))
    lawful, drift = (standing["lawful"], standing["drift"]) if standing is not None else ({}, {})
    bases = _inferred(key, findings, upto)
    rows = []
    for path in sorted(there.fields):
        wrote = written.get(path)
        rows.append(
            {
                "field": path,
                "value": there.fields[path],
                "by": events[wrote.position] if wrote is not None else None,
                "basis": _basis(wrote, bases.get((path, wrote.position)) if wrote is not None else None, events),
                "lawful": lawful.get(path),
                "drifts": path in drift,
            }
        )
    for path in sorted(drift.keys() - there.fields.keys()):  # what should be there, and nobody wrote
        rows.append(
            {"field": path, "value": None, "by": None, "basis": None, "lawful": drift[path]["lawful"], "drifts": True}
        )
    return {
        "schema": "netledger/blame/v1",
        "resource": _resource(key, there.uid),
        "position": upto,
        "state": there.state,
        "revision": there.revision,
        "fields": rows,
        "coverage": coverage,
    }


def diff(
    store: Store,
    key: Key,
    begin: Moment | None = None,
    end: Moment | None = None,
    *,
    every: bool = False,
    coverage: Document | None = None,
) -> Document:
    """What changed of a resource between two moments, field by field, and who made each change last.

    Without `begin` it is from when the object that is there at the end came to be known, or from where events were pruned;
    without `end` to the end of the log or, of one that is gone, to its own. `every` reads all that was written between:
    it also tells what was changed and is back, and how often each field was written. Raises `NotKnown` and `StoreError`.
    """
    past = _Past(store, key)
    upto = position_at(store, end)
    after = past.state_at(upto)
    gone: int | None = None
    if end is None and not after.there and (gone := past.ended(upto)) is not None:
        upto = gone - 1
        after = past.state_at(upto)
    since = position_at(store, begin) if begin is not None else past.born(upto)
    if since is None or not past.is_heard_of(upto):
        raise past.not_there(" before that" if end is not None else " any more")
    if since > upto:
        raise NotKnown(f"the beginning of the diff of {key} (position {since}) lies behind its end (position {upto})")
    before = past.state_at(since)
    written = past.all_writes(since, upto, before) if every else None
    if written is None:
        changed = [change.field for change in changes(before.fields, after.fields, {})]
        written = past.last_writes(changed, upto, since, same=before.there and before.uid == after.uid != "")
    told = [one for one in changes(before.fields, after.fields, written if every else {}) if every or not one.is_back]
    began, ended = past.newest(since), past.newest(upto)
    places = {one.position for one in written.values()} | {place for place in (began, ended, gone) if place is not None}
    events = cited(store, past.placed(places))
    rows = []
    for change in told:
        wrote = written.get(change.field)
        rows.append(
            {
                "field": change.field,
                "before": change.before,
                "after": change.after,
                "added": change.added,
                "removed": change.removed,
                "back": change.is_back,
                "writes": wrote.writes if every and wrote is not None else None,
                "by": events[wrote.position] if wrote is not None else None,
            }
        )
    return {
        "schema": "netledger/diff/v1",
        "resource": _resource(key, after.uid or before.uid),
        "from": _end(before, since, events.get(began or 0)),
        "to": _end(after, upto, events.get(ended or 0)),
        "gone": events.get(gone or 0),
        "replaced": before.there and after.there and before.uid != after.uid,
        "fields": rows,
        "coverage": coverage,
    }


def position_at(store: Store, moment: Moment | None) -> int:
    """The position of the last event before a moment; without one, the head of the log. Raises `StoreError`."""
    if moment is None:
        return store.ledger.head
    if store.checkpoints is not None:
        return store.checkpoints.position_at(moment)
    store.ledger.refuse_before(moment)
    _, position = store.ledger.start
    for placed in store.ledger.events():
        if moment.passed_by(placed):
            break
        position = placed.position
    return position


FIRST_READ, MOST_READ = 16, 1024
"""How many events are read at once, from the newest back: few first, because what is asked for is mostly new."""


class _Past:
    """One resource's own events, by their places in the trail: only those are read that can answer."""

    def __init__(self, store: Store, key: Key) -> None:
        self._store = store
        self._ledger = store.ledger
        self._trail = store.trail if store.trail is not None else Trail(None, store.ledger, store.recorder)
        self._key = key
        self._vocabulary = VOCABULARY[key.kind]
        _, self._cut = store.ledger.start
        self._read: dict[int, Placed] = {}

    # ---- the events

    def _positions(
        self,
        after: int,
        upto: int,
        limit: int | None = None,
        may: Callable[[str], bool] | None = None,
        *,
        oldest: bool = False,
    ) -> list[int]:
        """The positions of its events above one and up to another, of types that `may`, the newest or the `oldest` first."""
        within = [(max(low, after), min(high, upto)) for low, high in self._ledger.stretches()]
        wanted = Wanted(
            [stretch for stretch in within if stretch[0] < stretch[1]],
            place=lambda place: place == (self._key.kind, self._key.namespace),
            act=(lambda act: may(act.type)) if may is not None else None,
            name=self._key.name,
        )
        return self._trail.page(wanted, limit, reverse=not oldest)

    def placed(self, positions: Iterable[int]) -> list[Placed]:
        """The events at these positions, in order."""
        wanted = sorted(set(positions))
        for found in self._store.recorder.at([position for position in wanted if position not in self._read]):
            event = codec.decode(found.event.data)
            self._read[found.position] = Placed(0, found.position, event, found.event.data)
        return [self._read[position] for position in wanted if position in self._read]

    def _backwards(self, after: int, upto: int, may: Callable[[str], bool]) -> Iterator[Placed]:
        """Its events of types that `may` (asked anew for every lot), the newest first."""
        count = FIRST_READ
        while positions := self._positions(after, upto, count, may):
            yield from reversed(self.placed(positions))
            upto, count = positions[-1] - 1, min(4 * count, MOST_READ)

    def newest(self, upto: int) -> int | None:
        """The position of its last event up to one."""
        return next(iter(self._positions(0, upto, 1)), None)

    def is_heard_of(self, upto: int) -> bool:
        """Whether anything in the log up to a position is about it."""
        return self.newest(upto) is not None

    def not_there(self, when: str) -> NotKnown:
        """That it is not, or that nothing is known of it at all."""
        key = self._key
        if not self.is_heard_of(self._ledger.head):
            return NotKnown(f"nothing in this ledger is about {key}")
        return NotKnown(f"{key} is not there{when}; `netledger history {key}` shows what the log knows of it")

    # ---- what it was

    def state_at(self, position: int) -> State:
        """What it was behind the event at a position."""
        if self._store.checkpoints is not None:
            moment = Moment(None, None, position) if position < self._ledger.head else None
            return FieldHistory(self._key, self._store.checkpoints.resource_at(self._key, moment)).state()
        history = FieldHistory(self._key)
        for placed in self.placed(self._positions(0, position)):
            history.apply(placed.event, placed.position)
        return history.state()

    def ended(self, upto: int) -> int | None:
        """Where the last object of that name ended; `None` where none was seen to be there."""
        ends = {self._vocabulary.ended, self._vocabulary.vanished}
        for placed in self._backwards(self._cut, upto, lambda type: type in ends or type == REFUSED):
            if placed.event.happened in ends:
                return placed.position
        return None

    def born(self, upto: int) -> int | None:
        """Where the record ended that showed the last object of that name first; where pruning did, if that was later."""
        begins = self._vocabulary.beginnings
        for placed in self._backwards(0, upto, lambda type: type in begins or type == REFUSED):
            if placed.event.happened in begins:
                position, record = placed.position, placed.event.record
                for after in self._positions(position, upto, FIRST_READ, oldest=True):
                    if self.placed([after])[0].event.record != record:
                        break
                    position = after
                return max(position, self._cut)
        return self._cut or None

    # ---- who wrote it

    def last_writes(self, fields: Iterable[str], upto: int, since: int = 0, *, same: bool = True) -> dict[str, Written]:
        """The last event up to a position that wrote each of these fields, of those that can be told.

        `same` says that one and the same object is there all the time above `since`: else every event is looked at.
        """
        wanted = set(fields)
        if not same:
            written = self.all_writes(since, upto, self.state_at(since))
            return {path: one for path, one in written.items() if path in wanted}
        kind, found = self._key.kind, dict[str, Written]()
        begins = self._vocabulary.beginnings

        def may(type: str) -> bool:
            return any(may_write(kind, type, path) for path in wanted)

        for placed in self._backwards(max(since, self._cut), upto, may) if wanted else ():
            self._take(placed, wanted, found)
            if not wanted or placed.event.happened in begins:
                return found
        if wanted and since < self._cut:
            # Of what was pruned, each resource's last event is kept: nothing came between it and what is there.
            for placed in self.placed(self._positions(0, min(self._cut, upto), 1)):
                self._take(placed, wanted, found)
        return found

    def _take(self, placed: Placed, wanted: set[str], found: dict[str, Written]) -> None:
        wrote = {path: change for path, change in fields_written(placed.event).items() if path in wanted}
        overlooked = self._overlooked(placed) if wrote else ()
        for path, (before, after) in wrote.items():
            found[path] = Written(before, after, placed.position, placed.event, 1, overlooked)
        wanted.difference_update(wrote)

    def _overlooked(self, placed: Placed) -> tuple[int, ...]:
        """The writes on the same object that came after what the writer of this one says it had read."""
        event, found = placed.event, list[int]()
        if event.read_revision is None or event.revision is None:
            return ()
        for before in self._backwards(self._cut, placed.position - 1, lambda type: type not in TESTIMONIES):
            revision = before.event.revision
            if revision is not None and revision <= event.read_revision:
                break
            if revision is not None and revision < event.revision and before.event.uid == event.uid:
                found.append(before.position)
        return tuple(reversed(found))

    def all_writes(self, since: int, upto: int, start: State) -> dict[str, Written]:
        """The last write of every field that was written above a position, with how often; by reading all between."""
        history = FieldHistory(self._key, _resource_of(self._key, start))
        for placed in self.placed(self._positions(since, upto)):
            history.apply(placed.event, placed.position)
        return history.written


def _resource_of(key: Key, state: State) -> Resource | None:
    """A resource that has a state's fields, for a history to go on from."""
    if not state.there:
        return None
    resource = Resource.begun(key, state.uid, 0, 0, seen_from_birth=False)
    resource.state, resource.revision, resource.fields = state.state, state.revision, dict(state.fields)
    return resource


def _inferred(key: Key, findings: Sequence[Document], upto: int) -> dict[tuple[str, int], Document]:
    """What the writers of lost updates had read, by field and position of the write."""
    found = {}
    for finding in findings:
        named = finding["resource"]
        if finding["name"] != LOST_UPDATE or (named["kind"], named["namespace"] or "", named["name"]) != tuple(key):
            continue
        lost = next((one for one in finding["witnesses"] if one["role"] == "lost"), None)
        if finding["since"]["position"] <= upto and lost is not None:
            found[finding["field"], finding["since"]["position"]] = {
                "known": bool(finding["basis"] and finding["basis"]["known"]),
                "revisions": finding["basis"]["revisions"] if finding["basis"] else None,
                "stale": True,
                "overlooked": [{name: said for name, said in lost.items() if name != "role"}],
            }
    return found


def _basis(written: Written | None, inferred: Document | None, events: Mapping[int, Document]) -> Document | None:
    """Which revisions the writer had read, whether it says so itself, and the writes that it did not know of."""
    if inferred is not None:
        return inferred
    if written is None or written.event.read_revision is None:
        return None
    read = written.event.read_revision
    overlooked = [events[position] for position in written.overlooked]
    return {"known": True, "revisions": [read, read], "stale": bool(overlooked), "overlooked": overlooked}


def _resource(key: Key, uid: str) -> Document:
    return {"kind": key.kind, "namespace": key.namespace or None, "name": key.name, "uid": uid or None}


def _end(state: State, position: int, last: Document | None) -> Document:
    return {
        "position": position,
        "there": state.there,
        "state": state.state if state.there else None,
        "uid": state.uid or None,
        "revision": state.revision,
        "last": last,
    }


def why(
    store: Store,
    outcome: Outcome,
    key: Key,
    member: str = "",
    *,
    coverage: Document | None = None,
) -> Document:
    """Why a resource is as it is: from what is asked about to the root, each link an event or a named absence.

    `outcome` holds the reading of the whole log and what was found in it; `member` is the one that is asked about, of an
    ipset. Raises `NotKnown` where nothing in the log is about the resource, and `StoreError`.
    """
    reading = outcome.judged.reading
    placed: dict[int, Placed] = {}

    def event_at(at: int) -> Placed:
        if at not in placed:
            placed[at] = store.ledger.event_at(at)
        return placed[at]

    world = reading.world
    if world.get(key) is None and world.gone(key) is None:
        raise NotKnown(f"nothing in this ledger is about {key}")
    answer = explained(reading, outcome.findings, outcome.end, lambda at: event_at(at).event, key, member)
    cites = {at for link in answer.chain for at in (link.at, *link.also) if at}
    events = cited(store, [event_at(at) for at in sorted(cites)])
    end = iso(outcome.end) if outcome.end else None
    chain = []
    for link in answer.chain:
        event = events[event_at(link.at).position] if link.at else None
        absence = {"what": link.absent, "since": event["at"] if event else None, "until": end} if link.absent else None
        chain.append(
            {
                "says": link.says,
                "resource": str(link.key),
                "state": world.state(link.key),
                "event": event,
                "absence": absence,
                "also": [events[event_at(at).position] for at in link.also],
            }
        )
    resource = world.get(key)
    return {
        "schema": "netledger/why/v1",
        "resource": _resource(key, resource.uid if resource is not None else ""),
        "member": member or None,
        "state": world.state(key),
        "verdict": answer.verdict,
        "says": answer.says,
        "chain": chain,
        "finding": answer.finding,
        "repair": [{"run": step.run, "why": step.why} for step in answer.repair],
        "coverage": coverage,
    }
