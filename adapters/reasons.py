"""The answers to `blame`, `diff` and `why`, as plain documents: who made a field what it is, what changed, what blocks.

`blame` and `diff` read one resource's own events and no others. `why` asks what is folded from the whole log, which who
calls it holds: a daemon for as long as it runs, a command for one answer. `cli/explaining` and the daemon ask here;
`telling` puts the answers into words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.app import Outcome, Store
from adapters.ledger import Moment, Placed
from adapters.report import NotKnown, cited
from adapters.sources.dialect import iso
from domain.resources import Key
from domain.world import Resource
from projections.field_history import FieldHistory, State, Written, changes
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
    upto = position_at(store, moment)
    past = _Past(store, key, upto)
    for placed in past.events():
        past.take(placed)
    there = past.history.state()
    if not there.there:
        raise _not_there(key, past, " then" if moment is not None else "")
    events = cited(store, past.cited(there.fields))
    lawful, drift = (standing["lawful"], standing["drift"]) if standing is not None else ({}, {})
    bases = _inferred(key, findings, upto)
    rows = []
    for path in sorted(there.fields):
        written = past.written(path)
        position = written.position if written is not None else None
        rows.append(
            {
                "field": path,
                "value": there.fields[path],
                "by": events[position] if position is not None else None,
                "basis": _basis(written, bases.get((path, position or 0)), events),
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

    Without `begin` it is from when the object that is there at the end came to be known; without `end` to the end of the
    log or, of one that is gone, to its own. `every` also tells what was changed and is back. Raises `NotKnown` and
    `StoreError`.
    """
    upto = position_at(store, end)
    past = _Past(store, key, upto)
    placed = list(past.events())
    if not placed and past.start is None:
        raise _not_there(key, past, " before that" if end is not None else "")
    gone = None
    if end is None:
        placed, gone = _to_its_end(past.start, placed, key)
    since = position_at(store, begin) if begin is not None else _birth(past.start, placed, key)
    if begin is not None and since > upto:
        raise NotKnown(f"the beginning of the diff of {key} (position {since}) lies behind its end (position {upto})")
    reached = past.since
    states: list[tuple[State, Placed | None]] = []
    last: Placed | None = None
    for one in placed:
        if not states and one.position > since:
            states.append((past.history.state(), last))
            past.look_from_here()
        past.take(one)
        last, reached = one, one.position
    if not states:
        states.append((past.history.state(), last))
        past.look_from_here()
    states.append((past.history.state(), last))
    (before, began), (after, ended) = states
    found = [
        change for change in changes(before.fields, after.fields, past.history.written) if every or not change.is_back
    ]
    back = sum(change.is_back for change in changes(before.fields, after.fields, past.history.written))
    ends = [one for one in (began, ended, gone) if one is not None]
    events = cited(store, [*past.cited(change.field for change in found), *ends])
    rows = []
    for change in found:
        written = past.written(change.field)
        rows.append(
            {
                "field": change.field,
                "before": change.before,
                "after": change.after,
                "added": change.added,
                "removed": change.removed,
                "back": change.is_back,
                "writes": written.writes if written is not None else 0,
                "by": events[written.position] if written is not None else None,
            }
        )
    return {
        "schema": "netledger/diff/v1",
        "resource": _resource(key, after.uid or before.uid),
        "from": _end(before, since, events[began.position] if began is not None else None),
        "to": _end(after, upto if end is not None else reached, events[ended.position] if ended is not None else None),
        "gone": events[gone.position] if gone is not None else None,
        "replaced": before.there and after.there and before.uid != after.uid,
        "fields": rows,
        "back": back,
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


class _Past:
    """One resource's own events up to a position, behind what it was when older ones were pruned."""

    def __init__(self, store: Store, key: Key, upto: int) -> None:
        self._ledger = store.ledger
        self._key = key
        self._upto = upto
        base = store.ledger.base
        self.start = base.restored().world.get(key) if base is not None else None
        _, self.since = store.ledger.start
        self.history = FieldHistory(key, self.start)
        self._kept: dict[str, Placed] = {}  # of what was pruned: what the last of its events wrote
        self._placed: dict[int, Placed] = {}

    def events(self) -> Iterator[Placed]:
        """Its events, in order."""
        return self._ledger.own(self._key, self.since, self._upto)

    def take(self, placed: Placed) -> None:
        """Fold one of them in."""
        self.history.apply(placed.event, placed.position)
        self._placed[placed.position] = placed

    def look_from_here(self) -> None:
        """Tell only of what is written from here on."""
        self.history.look_from_here()

    def written(self, path: str) -> Written | None:
        """The last write of a field; `None` where it was pruned."""
        if (written := self.history.written.get(path)) is not None:
            return written
        placed = self._last_kept().get(path)
        if placed is None or self.history.resource is None or placed.event.uid != self.history.resource.uid:
            return None
        before, after = placed.event.changed[path]
        return Written(before, after, placed.position, placed.event, 1)

    def _last_kept(self) -> dict[str, Placed]:
        """What the last event wrote that was pruned with: it is kept, and nothing came between it and what is there."""
        if self.start is not None and not self._kept:
            last = None
            for last in self._ledger.own(self._key, 0, self.since):  # noqa: B007 - the last is wanted
                pass
            if last is not None:
                self._kept = dict.fromkeys(last.event.changed, last)
                self._placed[last.position] = last
        return self._kept

    def cited(self, paths: Any) -> list[Placed]:
        """The events that wrote these fields last."""
        found = [self.written(path) for path in paths]
        places = [place for one in found if one is not None for place in (one.position, *one.overlooked)]
        return [self._placed[place] for place in places]

    def is_heard_of(self) -> bool:
        """Whether anything in the log is about it, at any time."""
        return next(self._ledger.own(self._key, 0, self._ledger.head), None) is not None


def _to_its_end(start: Resource | None, placed: list[Placed], key: Key) -> tuple[list[Placed], Placed | None]:
    """The events without those from which on it is gone, and the one that ended it, if it is gone at the end."""
    history, last = FieldHistory(key, start), 0
    for number, one in enumerate(placed, 1):
        history.apply(one.event, one.position)
        if history.resource is not None:
            last = number
    return (placed[:last], placed[last]) if history.resource is None and 0 < last < len(placed) else (placed, None)


def _birth(start: Resource | None, placed: Sequence[Placed], key: Key) -> int:
    """The position at which the object that is there last was first known as it was: its first record's last event."""
    history, birth, record = FieldHistory(key, start), 0, ""
    for one in placed:
        before = history.resource
        history.apply(one.event, one.position)
        if history.resource is not before and history.resource is not None:
            record = one.event.record
        if record and one.event.record == record:
            birth = one.position
        elif record:
            record = ""
    return birth


def _not_there(key: Key, past: _Past, when: str) -> NotKnown:
    if past.start is None and not past.is_heard_of():
        return NotKnown(f"nothing in this ledger is about {key}")
    return NotKnown(
        f"{key} is not there{when or ' any more'}; `netledger history {key}` shows what the log knows of it"
    )


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
        "state": state.state,
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
