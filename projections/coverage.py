"""What the log can and cannot speak for: unknown beginnings, bodies that are missing, and records that must have been lost.

A lost record is noticed by what other records say of it: an answer shows a change that no write in the log made, a
writer had read a revision that nothing here made, a name has another bearer, a list lacks what was there, the API server
did not find what should be there, a watch shows a write that the audit log around it lacks. What is noticed on a
resource makes findings about it uncertain (`findings/judge.py`): that nothing came, or that something was not allowed,
may be for lack of the record. What nobody notices, nobody can tell. `reading` feeds this; `findings` is next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from domain.events import OBSERVED, REFUSED, Event
from domain.operations import DELETION, MISSED, SEEN_ABSENT, UNKNOWN
from domain.resources import Key
from domain.world import World

GAPS_KEPT = 1_000

CHANGED = "an answer shows a change that no write in the log made"
READ = "its writer had read a revision that no write in the log made"
ABSENT = "a later list lacks it, and its end is not in the log"
REPLACED = "its name has another bearer, and its end is not in the log"
NOT_FOUND = "the API server did not find it, and its end is not in the log"
ONLY_WATCHED = "a watch shows this write, and the audit log lacks it"

_NOT_FOUND = 404
_ON_THE_OBJECT = ("update ", "patch ", "delete ")
"""What is refused so for want of the object itself: an exec may want a container, a create its namespace."""


class Gap(NamedTuple):
    """A record that must have been, and is not in the log: of which resource, noticed at which place and revision."""

    key: Key
    why: str
    revision: int | None
    at: int
    tags: tuple[str, ...] = ()  # its own, and those of what it names

    @property
    def is_open(self) -> bool:
        """Whether something stays unknown of the resource: what a watch shows is known, but for who did it."""
        return self.why != ONLY_WATCHED


class _Watched(NamedTuple):
    """The writes of a kind that only a watch showed, since the audit log's last on that kind: lost if there is a next."""

    audited: bool
    waiting: list[Gap]


class Coverage:
    """What is missing. `apply` takes each event in before the world does."""

    def __init__(self) -> None:
        self.sighted = 0
        self.unknown: dict[str, int] = {}  # why an operation's effect could not be told: how often
        self.revisions: list[int] = []
        self._gaps: list[Gap] = []
        self._denied: dict[Key, tuple[str, Gap]] = {}
        self._watched: dict[str, _Watched] = {}
        self.clockless = False  # whether times of some events are only the earliest that they can be

    def apply(self, event: Event, at: int, world: World) -> None:
        """Take the event at a place in, with the world as it was before it."""
        if event.outcome == UNKNOWN and event.reason:
            self.unknown[event.reason] = self.unknown.get(event.reason, 0) + 1
        elif event.type.endswith("Sighted"):
            self.sighted += 1
        elif event.outcome == MISSED:
            self._add(Gap(event.key, CHANGED, event.revision, at, event.tags))
        elif event.type.endswith("Vanished"):
            why = ABSENT if event.outcome == SEEN_ABSENT else REPLACED
            self._add(Gap(event.key, why, event.revision, at, event.tags))
        elif event.read_revision is not None:
            resource = world.get(event.key)
            if (
                resource is not None
                and resource.uid == event.uid
                and event.read_revision > (resource.revision or 0) > 0
            ):
                self._add(Gap(event.key, READ, event.read_revision, at, event.tags))
        if event.type == OBSERVED and event.code == _NOT_FOUND and event.operation.startswith(_ON_THE_OBJECT):
            if (resource := world.get(event.key)) is not None:
                self._denied.setdefault(event.key, (resource.uid, Gap(event.key, NOT_FOUND, None, at, event.tags)))
        elif event.key in self._denied and event.type not in (OBSERVED, REFUSED):
            del self._denied[event.key]  # it was there still, or went just then
        if event.revision is not None:
            self._revision(event, at)

    def gaps(self, world: World) -> Iterator[Gap]:
        """Every lost record that is noticed by now, in the order in which it was."""
        denied = [gap for key, (uid, gap) in self._denied.items() if (r := world.get(key)) is not None and r.uid == uid]
        yield from sorted([*self._gaps, *denied], key=lambda gap: gap.at)

    def _revision(self, event: Event, at: int) -> None:
        revision = event.revision
        assert revision is not None
        if not self.revisions:
            self.revisions = [revision, revision]
        elif revision > self.revisions[1]:
            self.revisions[1] = revision
        watched = self._watched.get(event.key.kind)
        if event.received:
            if watched is None or not watched.audited:
                self._watched[event.key.kind] = _Watched(True, [])
            elif watched.waiting:
                for gap in watched.waiting:
                    self._add(gap)
                watched.waiting.clear()
            return
        self.clockless = True
        if event.outcome == SEEN_ABSENT:
            return  # when it went, and at which revision, is not known
        if event.type == OBSERVED or (event.key.kind == "pod" and event.changed.keys() == {DELETION}):
            return  # it shows what an answer without a revision brought about (binding, the end of a pod's grace period)
        if watched is not None and watched.audited and len(watched.waiting) < GAPS_KEPT:
            place = Gap(event.key, ONLY_WATCHED, revision, at, event.tags)
            if not watched.waiting or watched.waiting[-1][:3] != place[:3]:  # one write, several events
                watched.waiting.append(place)

    def _add(self, gap: Gap) -> None:
        if len(self._gaps) < GAPS_KEPT:
            self._gaps.append(gap)
