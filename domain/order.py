"""The one true order of what was observed: revisions first, time only inside a group.

`revision, then time` is no order (10 at time 5, 11 at time 3 and one without revision at time 4 go in a circle).
So each operation gets a key `(anchor, own, stage time, identity)`:

* A write that made a new revision is anchored at it, with `own` 0. Of several answers with one (uid, revision) only the
  earliest made it; the others are no-ops that answered with a revision of old.
* Everything else (removals, exec, binding, refused and dry-run requests, no-ops, records without bodies) has no revision
  of its own: it is anchored at the highest revision completed by its stage time, with `own` 1, never below its own
  object's last revision, and never at or above a later create of its name.

`Sequencer` takes heads by stage time and gives keys. It holds back what has no revision of its own for `HOLD`, so that a
create that overlaps it is seen; what comes out is then sorted by key, on disk where it is large.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from domain.operations import MADE, REMOVED, SEEN, SEEN_ABSENT, SEEN_GONE, UNCHANGED, OrderKey
from domain.resources import Key

HOLD = 2_000_000
"""Microseconds for which a record without revision waits for a create of its name that overlaps it."""

REVISIONS_KEPT = 8
"""How many revisions of one object are remembered: writes of one object come out of order by a few."""

OBJECTS_KEPT = 200_000
"""Of how many live objects the revisions are remembered; one that went is forgotten."""

CREATES_KEPT = 10_000
"""Of how many names the last create is remembered, for a removal that is answered after it."""


_HAVE_A_REVISION = frozenset({MADE, SEEN, SEEN_GONE, SEEN_ABSENT})

Carried = TypeVar("Carried")


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What the order needs of a record, and no more.

    `time` and `received` are microseconds since 1970. `revision` is the one that the answer shows, 0 for none.
    `outcome` is as in `operations`, with `MADE` for every answer that may have made its revision. `creates` says that
    the object began with it; `owns` that the revision is its own though the object went with it (a pod's DELETE with
    grace period 0 answers so; every other removal answers a revision of old). `clocked` says that the source has a
    clock: what a watch shows has none, and its `time` is only the latest that the object itself names.
    """

    time: int
    identity: str
    part: int
    received: int
    key: Key
    uid: str
    revision: int
    outcome: str
    creates: bool = False
    owns: bool = False
    clocked: bool = True


class Sequencer(Generic[Carried]):
    """Gives every head its key. Feed in order of `(time, identity, part)`; read what each feed releases; then `flush`."""

    def __init__(self) -> None:
        self.completed = 0
        self._made: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._waiting: OrderedDict[int, tuple[Head, int, Carried]] = OrderedDict()
        self._waiting_by_key: dict[Key, list[int]] = {}
        self._created: OrderedDict[Key, tuple[int, str]] = OrderedDict()  # the last create of a name: revision and uid
        self._number = 0

    def feed(self, head: Head, carried: Carried) -> Iterator[tuple[OrderKey, str, Carried]]:
        """Keys that are settled now: `(key, outcome, carried)`, in no order."""
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][0].time > head.time - HOLD:
                break
            yield self._release(oldest)
        if head.revision and (head.owns or head.outcome in _HAVE_A_REVISION):
            if self._is_new(head):
                if head.creates:
                    self._create(head)
                self.completed = max(self.completed, head.revision)
                if head.outcome in (REMOVED, SEEN_GONE, SEEN_ABSENT):
                    self._made.pop(head.uid, None)
                yield OrderKey(head.revision, 0, head.time, head.identity, head.part), head.outcome, carried
                return
            head = msgspec.structs.replace(head, outcome=UNCHANGED)
        self._wait(head, carried)

    def flush(self) -> Iterator[tuple[OrderKey, str, Carried]]:
        """The keys of all that is still waiting."""
        while self._waiting:
            yield self._release(next(iter(self._waiting)))

    def knows(self, uid: str, revision: int) -> bool:
        """Whether an answer with this revision of a live object went through."""
        return revision in self._made.get(uid, ())

    def _is_new(self, head: Head) -> bool:
        """Whether this is the earliest answer with that (uid, revision)."""
        seen = self._made.get(head.uid, ())
        if head.revision in seen:
            return False
        self._made[head.uid] = (*seen, head.revision)[-REVISIONS_KEPT:]
        self._made.move_to_end(head.uid)
        if len(self._made) > OBJECTS_KEPT:
            self._made.popitem(last=False)
        return True

    def _create(self, head: Head) -> None:
        """What waits for that name was about the one before: it stays below."""
        self._created[head.key] = (head.revision, head.uid)
        self._created.move_to_end(head.key)
        if len(self._created) > CREATES_KEPT:
            self._created.popitem(last=False)
        for number in self._waiting_by_key.get(head.key, ()):
            waiting, anchor, carried = self._waiting[number]
            if anchor >= head.revision and waiting.uid != head.uid:
                self._waiting[number] = (waiting, head.revision - 1, carried)

    def _wait(self, head: Head, carried: Carried) -> None:
        seen = self._made.get(head.uid, (0,)) if head.uid else (0,)
        own = max(head.revision, *seen)
        anchor = max(self.completed, own)
        created, uid = self._created.get(head.key, (0, ""))
        if head.uid and uid and uid != head.uid and own < created:
            anchor = min(anchor, created - 1)  # it is about the one before, though it was answered later
        if head.outcome == REMOVED:
            self._made.pop(head.uid, None)
        self._number += 1
        self._waiting[self._number] = (head, anchor, carried)
        self._waiting_by_key.setdefault(head.key, []).append(self._number)

    def _release(self, number: int) -> tuple[OrderKey, str, Carried]:
        head, anchor, carried = self._waiting.pop(number)
        numbers = self._waiting_by_key[head.key]
        numbers.remove(number)
        if not numbers:
            del self._waiting_by_key[head.key]
        return OrderKey(anchor, 1, head.time, head.identity, head.part), head.outcome, carried
