"""Who wrote which field of one resource: the fold of its own events, in order, behind `blame` and `diff`.

No event moves another resource than its own, so these alone tell what its fields were at every moment, and which event
made each what it was. What a claim should have been instead needs the neighbours, and is `standing`'s. `reading` is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from domain.events import REFUSED, TESTIMONIES, Changes, Event
from domain.ipset import MEMBERS
from domain.kinds import VOCABULARY
from domain.operations import FINALIZERS, Fields
from domain.resources import Key
from domain.world import Resource, World

UNORDERED = frozenset(
    {FINALIZERS, MEMBERS, "metadata.ownerReferences", "spec.namespaces", "spec.excludeIps", "status.subnets"}
)
"""The lists in which order means nothing."""


class Written(NamedTuple):
    """A field and the event that wrote it last. `writes` is how often it was written in the stretch that is looked at.

    `overlooked` are the positions of the writes on the same object that came after what the writer says it had read:
    what it wrote rested on an older state than the one it wrote over.
    """

    before: Any
    after: Any
    position: int
    event: Event
    writes: int
    overlooked: tuple[int, ...] = ()


class State(NamedTuple):
    """What a resource was at a moment: nothing where it was not there."""

    there: bool
    state: str
    uid: str
    revision: int | None
    fields: Fields


class FieldHistory:
    """The events on one resource, one after the other. `start` is what it was before the first of them.

    `written` has each field's last write since `look_from_here` or the beginning, those that took it away too.
    """

    def __init__(self, key: Key, start: Resource | None = None) -> None:
        self.key = key
        self.written: dict[str, Written] = {}
        self._world = World.restored([start] if start is not None else [], [])
        self._writes: list[tuple[int, int]] = []  # (revision, position) of the object that is there

    @property
    def resource(self) -> Resource | None:
        """The resource as it is now; `None` where it is not there."""
        return self._world.get(self.key)

    def state(self) -> State:
        """What it is now, kept apart from what comes."""
        resource = self.resource
        if resource is None:
            return State(False, self._world.state(self.key), "", None, {})
        return State(True, resource.state, resource.uid, resource.revision, dict(resource.fields))

    def look_from_here(self) -> None:
        """Forget what was written so far; what it amounts to stays."""
        self.written = {}

    def apply(self, event: Event, position: int) -> None:
        """Take the next of its events in."""
        before = self.resource
        overlooked = self._overlooked(event)
        self._world.evolve(event, position)
        after = self.resource
        if before is not after:
            self._writes = []
            for path, value in before.fields.items() if before is not None else ():
                if after is None or path not in after.fields:
                    self._write(path, value, None, event, position, ())
        if after is None:
            return
        for path, (old, new) in fields_written(event).items():
            self._write(path, old, new, event, position, overlooked)
        if event.revision is not None and (not self._writes or self._writes[-1][0] != event.revision):
            self._writes.append((event.revision, position))

    def _overlooked(self, event: Event) -> tuple[int, ...]:
        if event.read_revision is None or event.revision is None:
            return ()
        read, made = event.read_revision, event.revision
        return tuple(position for revision, position in self._writes if read < revision < made)

    def _write(self, path: str, old: Any, new: Any, event: Event, position: int, overlooked: tuple[int, ...]) -> None:
        known = self.written.get(path)
        writes = known.writes + 1 if known is not None else 1
        self.written[path] = Written(old, new, position, event, writes, overlooked)


def fields_written(event: Event) -> Changes:
    """What an event did to the fields of its resource: nothing by testimony, or by a command that was refused."""
    if event.type in TESTIMONIES or (event.type == REFUSED and not event.leads_to):
        return {}
    # A command in a gateway's pod is no field of it.
    return {path: change for path, change in event.changed.items() if path[0] != "c"}


@lru_cache(maxsize=65_536)
def may_write(kind: str, type: str, path: str) -> bool:
    """Whether an event of a type can have written a field: a kind's vocabulary sorts what moved into its events by field.

    What the vocabulary does not sort (beginnings, refusals, attempts, a binding, types of former releases) may write any.
    """
    if type in TESTIMONIES:
        return False
    vocabulary = VOCABULARY[kind]
    writes = [write for write in vocabulary.writes if write.event == type]
    return not writes or type == vocabulary.deletion_requested or any(write.covers(path) for write in writes)


class Change(NamedTuple):
    """One field between two moments. Of a list in which order means nothing, `added` and `removed` are its members."""

    field: str
    before: Any
    after: Any
    added: list[Any] | None
    removed: list[Any] | None

    @property
    def is_back(self) -> bool:
        """Whether it says at the end what it said at the beginning."""
        return bool(self.before == self.after) or (self.added == [] and self.removed == [])


def changes(before: Fields, after: Fields, written: Mapping[str, Written]) -> list[Change]:
    """Every field that differs between two states, or was written on the way and is back, by its path."""
    paths = {path for path in (*before, *after) if before.get(path) != after.get(path)} | written.keys()
    return [_change(path, before.get(path), after.get(path)) for path in sorted(paths)]


def _change(path: str, before: Any, after: Any) -> Change:
    lists = [[] if value is None else value for value in (before, after)]
    if path not in UNORDERED or not all(isinstance(value, list) for value in lists):
        return Change(path, before, after, None, None)
    old, new = lists
    return Change(path, before, after, [one for one in new if one not in old], [one for one in old if one not in new])
