"""One operation that several sources show is one: joins what an audit log, a watch and a snapshot say of one revision.

A write made one revision of one object, so (uid, revision) names it in every source; and an object goes once, so its uid
names its removal. Where sources show the same, the audit log outranks a watch, which outranks a snapshot: an audit event
says who, when and on what basis; a watch, what came of it, in the revision's own place; a snapshot, that it was so by then.
The one that outranks is the record of the operation, the others are its evidence (docs/why/sources.md).

A removal that an audit log shows has no revision of its own. A watch that shows it has, and gives it its true place; a list
that lacks an object, which was there before, only says that it went by then.

A watch and a snapshot have no clock. What they alone show is dated by `dated`, between the writes on either side. Both
read sorted streams and hold one object's removal or revision at a time; the sorting is the adapters'. `order` comes
next, and gives each operation its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from domain.operations import MADE, REMOVED, SEEN, SEEN_ABSENT, SEEN_GONE
from domain.order import Head

COARSE = 1_000_000
"""How exactly the time of what has no clock is known, in microseconds: objects name whole seconds."""

WAITING = 10_000
"""How many operations without a clock wait for the next that has one; a source without any has none to wait for."""


class Shown(NamedTuple):
    """A head, what its source carries with it (the number of its record), and the identities of the other evidence."""

    head: Head
    carried: int
    evidence: tuple[str, ...] = ()


def is_of_an_object(head: Head) -> bool:
    """Whether another source may show the same: it made or showed a revision of an object, or its removal."""
    return bool(head.uid) and head.outcome in (MADE, REMOVED, SEEN, SEEN_GONE, SEEN_ABSENT)


def by_object(head: Head) -> tuple[Any, ...]:
    """The key by which `join` wants its stream sorted: an object's revisions, of each the highest rank first; its end."""
    ends = head.outcome in (REMOVED, SEEN_GONE, SEEN_ABSENT)
    first = head.time if head.clocked else -head.time  # who names the later moment knows more
    return head.uid, ends, 0 if ends else head.revision, _rank(head), first, head.identity, head.part


def join(shown: Iterable[Shown]) -> Iterator[Shown]:
    """The operations of a stream sorted `by_object`, each with its evidence. What is evidence only does not come out.

    Of several answers of an audit log with one revision all come out: which of them made it, `order` says.
    """
    for (_, ends, _), group in groupby(shown, lambda one: by_object(one.head)[:3]):
        first, *others = group
        head = first.head
        if head.clocked and ends:
            seen_at = next((one.head.revision for one in others if one.head.outcome == SEEN_GONE), 0)
            if seen_at:
                head = msgspec.structs.replace(head, revision=seen_at, owns=True)
        evidence = dict.fromkeys(one.head.identity for one in others if not one.head.clocked)
        yield Shown(head, first.carried, tuple(evidence))
        yield from (one for one in others if one.head.clocked)


def by_revision(head: Head) -> tuple[Any, ...]:
    """The key by which `dated` wants its stream sorted."""
    return head.revision, not head.clocked, head.time, head.identity


def dated(shown: Iterable[Shown]) -> Iterator[Shown]:
    """What has no clock, each with a time that it can have had, of a stream sorted `by_revision`.

    It cannot have been before what the object itself names or before any write that came before it, nor after the next
    write that has a clock. An object's birth is dated as early as it can be, because what has no revision (exec, binding)
    may be about it; everything else as late, because what has no revision may have brought it about.
    """
    latest = 0
    made: set[str] = set()  # the objects whose answer with this revision was seen: a later one is a no-op's
    at = 0
    waiting: deque[Shown] = deque()
    for one in shown:
        head = one.head
        if head.revision != at:
            at, made = head.revision, set()
        if head.clocked:
            if head.uid not in made:
                made.add(head.uid)
                yield from (_at(early, max(early.head.time, head.time - 1)) for early in waiting)
                waiting.clear()
                latest = max(latest, head.time)
            continue
        latest = max(latest, head.time)
        if head.creates:
            yield _at(one, latest)
        else:
            waiting.append(_at(one, latest))
        if len(waiting) > WAITING:
            yield waiting.popleft()
    yield from waiting


def _at(one: Shown, time: int) -> Shown:
    return one._replace(head=msgspec.structs.replace(one.head, time=time))


def _rank(head: Head) -> int:
    if head.clocked:
        return 0
    if head.outcome == SEEN_ABSENT:
        return 3
    return 1 if head.creates else 2
