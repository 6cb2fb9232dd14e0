"""What all events so far add up to: the facts of every live resource, what its claims were last reported to be,
and who names whom.

`World.evolve` is the fold. It never refuses: what may happen was asked in `decide`, and an old log stays readable
when a table is tightened. Beside the resources it keeps just what a later decision needs of those that are gone, in
bounded number. The read models of `projections/` and the rules of `projections/findings/` look at it after each event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from domain import lifecycle
from domain.events import OBSERVED, REFUSED, RUNS, TESTIMONIES, Event, Vocabulary
from domain.ipset import LISTED
from domain.kinds import VOCABULARY
from domain.operations import DELETION, FIELD_MANAGER, FINALIZERS, UNKNOWN, Fields, request_of
from domain.resources import FINALIZER, KINDS, Key

DEPARTED_KEPT = 4_000
"""How many names of gone resources of each kind are remembered: enough for what comes just after a removal."""


_OWN_KINDS = frozenset({kind.name for kind in KINDS if kind.group})


class Resource(msgspec.Struct, array_like=True, eq=False):
    """One live object. `at` numbers are places in the order of events (`Event` number, from 1).

    `fields` holds facts and reported claims alike: which is which, `projections/` says.
    """

    key: Key
    uid: str
    born_at: int
    born_time: int
    seen_from_birth: bool
    last_at: int
    tags: tuple[str, ...]
    """Its own, and those of what it names."""
    state: str = lifecycle.ABSENT
    fields: Fields = {}
    refers: tuple[Key, ...] = ()
    linked_at: int = 0
    """When it came to name what it names now."""
    revision: int | None = None
    deletion_at: int = 0
    deletion_time: int = 0
    blurred: bool = False
    """A write went by whose effect cannot be read (no bodies), so that what `fields` says may be old."""
    guarded_by: str = ""
    """Who put the controller's finalizer on."""
    programmed: dict[str, tuple[int, str]] | None = None
    """Of a gateway pod: the commands that were started in it, each with when and by which request."""
    hearsay: bool = False
    """Whether only a controller's log says so."""
    run: tuple[str, int] | None = None
    """The last thing that a controller's log says of its work on it, and when."""

    @classmethod
    def begun(cls, key: Key, uid: str, at: int, time: int, *, seen_from_birth: bool) -> Resource:
        """One of which nothing is known but that it came to be."""
        return cls(key, uid, at, time, seen_from_birth, at, (key.tag,))

    @property
    def terminating(self) -> bool:
        """Whether its deletion was asked for."""
        return DELETION in self.fields

    @property
    def finalizers(self) -> list[str]:
        """The names of who must let go before it can go."""
        return list(self.fields.get(FINALIZERS) or ())

    def get(self, path: str, default: Any = None) -> Any:
        """The value of a field, `default` where it is absent."""
        return self.fields.get(path, default)


class Departed(NamedTuple):
    """A resource that is gone: which one, when, by which event, and in which state its name was left."""

    uid: str
    state: str
    at: int
    time: int
    seen: bool  # False: it must have gone, but nothing in the log says how
    deletion_at: int
    by_hand: bool  # somebody else took the finalizer off than who had put it on


class Change(NamedTuple):
    """What a guard is asked about: an event that is about to happen to a resource with these fields after it."""

    event: str
    key: Key
    before: Resource | None
    fields: Mapping[str, Any]


class World:
    """The fold of all events. `evolve` takes them in order; everything else reads."""

    def __init__(self) -> None:
        self.live: dict[Key, Resource] = {}
        self.departed: dict[str, dict[Key, Departed]] = {kind: {} for kind in VOCABULARY}
        self.controllers: set[str] = set()  # who was seen to do what only a controller does
        self.listed: set[str] = set()  # nodes whose ipsets were all shown once: what was not among them was not there
        self._referrers: dict[Key, dict[Key, None]] = {}

    @classmethod
    def restored(
        cls,
        live: Iterable[Resource],
        departed: Iterable[tuple[Key, Departed]],
        controllers: Iterable[str] = (),
        listed: Iterable[str] = (),
    ) -> World:
        """The world that these were taken from, in whatever order they come."""
        world = cls()
        world.live = {resource.key: resource for resource in live}
        for key, left in sorted(departed, key=lambda known: known[1].at):
            world.departed[key.kind][key] = left
        world.controllers.update(controllers)
        world.listed.update(listed)
        for resource in sorted(world.live.values(), key=lambda resource: resource.linked_at):
            for named in resource.refers:
                world._referrers.setdefault(named, {})[resource.key] = None
        return world

    # ---- reading

    def get(self, key: Key) -> Resource | None:
        """The live resource of that name, if there is one."""
        return self.live.get(key)

    def gone(self, key: Key) -> Departed | None:
        """How the last one of that name went, if it is not there and was seen to be."""
        return None if key in self.live else self.departed[key.kind].get(key)

    def naming(self, key: Key, kind: str) -> Iterator[Resource]:
        """The live resources of `kind` that name `key`, in the order in which they came to."""
        for referrer in self._referrers.get(key, ()):
            if referrer.kind == kind and (resource := self.live.get(referrer)) is not None:
                yield resource

    def state(self, key: Key) -> str:
        """The lifecycle state of a name: of the live resource, else the one its last bearer left, else ABSENT."""
        if (resource := self.live.get(key)) is not None:
            return resource.state
        departed = self.departed[key.kind].get(key)
        return departed.state if departed else lifecycle.ABSENT

    # ---- folding

    def evolve(self, event: Event, at: int) -> None:
        """Fold one event in. `at` is its place in the order, from 1 and rising."""
        vocabulary = VOCABULARY.get(event.key.kind)
        if vocabulary is None:
            return
        if event.type == OBSERVED:
            self._observe(event, at)
        elif event.type in TESTIMONIES:
            if event.type in RUNS and (resource := self.live.get(event.key)) is not None:
                resource.run = (event.type, at)
        elif event.type != REFUSED or event.leads_to:
            self._happen(event, at, vocabulary)

    def _observe(self, event: Event, at: int) -> None:
        if event.outcome == LISTED:
            self.listed.add(event.key.namespace)
        resource = self.live.get(event.key)
        if resource is None:
            return
        if event.revision is not None and event.uid == resource.uid:
            resource.revision = event.revision  # a write that moved nothing which is looked at here
        if event.changed:
            self._write(resource, event, at, VOCABULARY[event.key.kind])
        if event.outcome == UNKNOWN:
            resource.blurred = True

    def _happen(self, event: Event, at: int, vocabulary: Vocabulary) -> None:
        happened = event.happened
        key = event.key
        resource = self.live.get(key)
        state = resource.state if resource is not None else self.state(key)
        target = event.leads_to or vocabulary.lifecycle.leads_to(state, happened)
        if happened == vocabulary.ended or happened == vocabulary.vanished:
            self._depart(event, at, target, resource, seen=happened == vocabulary.ended)
            return
        if resource is None or happened in vocabulary.beginnings:
            if resource is not None:
                self._unlink(resource)
            resource = Resource.begun(
                key, event.uid, at, event.time, seen_from_birth=_is_seen_from_birth(event, vocabulary)
            )
            self.live[key] = resource
            self.departed[key.kind].pop(key, None)
        resource.state = target
        resource.last_at = at
        if event.uid and not resource.uid:
            resource.uid = event.uid
        if event.revision is not None:
            resource.revision = event.revision
        if event.changed:
            self._write(resource, event, at, vocabulary)
        if event.outcome == UNKNOWN:
            resource.blurred = True
        if key.kind in _OWN_KINDS and happened.endswith("StatusReported") and not event.agent.startswith("kubectl"):
            self.controllers.add(event.actor)

    def _write(self, resource: Resource, event: Event, at: int, vocabulary: Vocabulary) -> None:
        fields = resource.fields
        reference_paths = vocabulary.reference_paths
        moved_references = False
        for path, (before, after) in event.changed.items():
            if path[0] == "c":  # a command in the pod is no field of it
                if resource.programmed is None:
                    resource.programmed = {}
                resource.programmed[after] = (at, request_of(event.record))
                resource.hearsay = bool(event.cause)
                continue
            if after is None:
                fields.pop(path, None)
            else:
                fields[_held_once(path)] = after
            if path == FINALIZERS:
                if FINALIZER in (after or ()) and FINALIZER not in (before or ()):
                    resource.guarded_by = event.actor
                    # Since 1.15 the controller makes IPs with it; any other create that brings it along is a restore.
                    if event.happened != vocabulary.begun or resource.key.kind == "ip":
                        self.controllers.add(event.actor)
            elif path == DELETION:
                if after is not None and not resource.deletion_at:
                    resource.deletion_at = at
                    resource.deletion_time = event.time
            elif path in reference_paths:
                moved_references = True
        if moved_references:
            self._unlink(resource)
            resource.refers = tuple(dict.fromkeys(vocabulary.refers(resource.key, fields)))
            resource.linked_at = at
            for named in resource.refers:
                self._referrers.setdefault(named, {})[resource.key] = None
            resource.tags = tuple(dict.fromkeys((resource.key.tag, *(named.tag for named in resource.refers))))

    def _depart(self, event: Event, at: int, target: str, resource: Resource | None, *, seen: bool) -> None:
        key = event.key
        if resource is not None:
            self._unlink(resource)
            del self.live[key]
        departed = self.departed[key.kind]
        departed.pop(key, None)
        departed[key] = Departed(
            uid=resource.uid if resource else event.uid,
            state=target,
            at=at,
            time=event.time,
            seen=seen,
            deletion_at=resource.deletion_at if resource else 0,
            by_hand=resource is not None and self._is_by_hand(resource, event.actor),
        )
        if len(departed) > DEPARTED_KEPT:
            del departed[next(iter(departed))]

    def _is_by_hand(self, resource: Resource, actor: str) -> bool:
        """Whether somebody else took an object's finalizer off than the controller that had put it on.

        One that came with the create is its maker's only if that is a controller: a backup is restored with finalizers.
        A watch does not say who it was, or only by the name of a field manager, which is none of an audit log's names.
        """
        guard = resource.guarded_by
        if guard.endswith(FIELD_MANAGER) != actor.endswith(FIELD_MANAGER):
            return False
        if not guard or not actor or guard == actor or actor in self.controllers:
            return False
        return guard in self.controllers

    def _unlink(self, resource: Resource) -> None:
        for named in resource.refers:
            if (referrers := self._referrers.get(named)) is not None:
                referrers.pop(resource.key, None)
                if not referrers:
                    del self._referrers[named]
        resource.refers = ()


@lru_cache(maxsize=4096)
def _held_once(path: str) -> str:
    """The copy of a field's path that all resources share: every event brings its own, a fifth of a world."""
    return path


def _is_seen_from_birth(event: Event, vocabulary: Vocabulary) -> bool:
    """Whether the log knows all of an object's life: it was made, and where a source without a clock alone shows that, what
    has no revision cannot be told to come before or after. Of a pod that is what counts: the commands started in it.
    """
    return event.happened == vocabulary.begun and (
        event.key.kind != "pod" or event.received > 0 or event.revision is None
    )
