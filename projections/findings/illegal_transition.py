"""NL100 illegal-transition: a refused transition that no other finding tells of.

`judge` is next: it runs all rules and joins what has one cause.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple

from domain.events import REFUSED, Event
from domain.kinds import HOLDERS, VOCABULARY
from domain.nat_rule import RULES
from domain.resources import Key
from domain.world import World
from projections.findings.rule import (
    HEALED,
    OPEN,
    WARNING,
    Conclusion,
    Finding,
    Notes,
    Rule,
    Step,
    Told,
    begin_and_end,
    called,
    witnesses,
)

REFUSALS_KEPT = 10_000

_NAMED = ("vpc", "subnet")
"""What others name so that it may not go before them."""

_HOLDING = frozenset(holder for holders in HOLDERS.values() for holder in holders)


class _Refusal(NamedTuple):
    """One refused fact."""

    key: Key
    uid: str
    attempted: str
    state: str
    reason: str
    at: int
    time: int
    subnet: Key | None


class Refused(NamedTuple):
    """One refused fact as it is told: among all of them, as the how many-th of its name, and whether it is still so."""

    number: int
    refusal: _Refusal
    occurrence: int
    still: bool


class IllegalTransition(Rule):
    """NL100."""

    code = "NL100"
    name = "illegal-transition"
    severity = WARNING
    fires = "a transition that the lifecycle's table does not allow was observed, and no other finding tells of it."
    upstream = ("kube-ovn#5068", "kube-ovn#3469", "kube-ovn#5115")
    watches: ClassVar = {
        kind: frozenset({REFUSED}) | (begin_and_end(kind) if kind in _HOLDING else frozenset()) for kind in VOCABULARY
    }

    def __init__(self) -> None:
        self._refusals: list[_Refusal] = []
        self._resolved: dict[int, int] = {}  # refusal's place: when the last that named the ghost it left went
        self._ghosts: dict[Key, int] = {}  # a ghost, and the place of the refusal that made it one

    def apply(self, event: Event, at: int, world: World) -> None:
        if event.type == REFUSED and event.leads_to and len(self._refusals) < REFUSALS_KEPT:
            subnet = next((Key("subnet", "", tag[7:]) for tag in event.tags if tag.startswith("subnet:")), None)
            self._refusals.append(
                _Refusal(event.key, event.uid, event.attempted, event.leads_to, event.reason, at, event.time, subnet)
            )
            if event.attempted == VOCABULARY[event.key.kind].ended:
                self._ghosts[event.key] = at
        elif self._ghosts and event.happened == VOCABULARY[event.key.kind].ended:
            for ghost in [key for key in self._ghosts if key.tag in event.tags and not _is_held(world, key)]:
                self._resolved[self._ghosts.pop(ghost)] = event.time

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        for told in self.refusals(conclusion):
            if told.still:
                yield self.tell(conclusion, told)

    def places(self, after: int) -> Iterator[int]:
        """Where the refusals stand, but for so many of the first."""
        return (refusal.at for refusal in islice(self._refusals, after, None))

    def refusals(self, conclusion: Conclusion) -> list[Refused]:
        """All that do not rest on clocks, with the numbers they have. None is ever over: its state may come again."""
        clocks = _Departures(conclusion)
        seen: dict[tuple[Key, str], int] = {}
        found = []
        for number, refusal in enumerate(self._refusals):
            if conclusion.uncertainty and self._rests_on_clocks(clocks, refusal):
                continue
            slot = (refusal.key, refusal.uid + refusal.attempted)
            seen[slot] = seen.get(slot, -1) + 1
            found.append(Refused(number, refusal, seen[slot], self._still(conclusion.world, refusal)))
        return found

    def tell(self, conclusion: Conclusion, told: Refused) -> Finding:
        """One of them."""
        refusal, still = told.refusal, told.still
        return self.finding(
            status=OPEN if still else HEALED,
            key=refusal.key,
            uid=refusal.uid,
            field=refusal.attempted,
            reported=refusal.state,
            since=refusal.at,
            witnesses=witnesses(("refused", [refusal.at])),
            explanation=(
                f"{refusal.attempted} of {called(refusal.key)} by {conclusion.said(refusal.at)} is not allowed: "
                f"{refusal.reason}. It happened all the same, and left {called(refusal.key)} {refusal.state}."
                + ("" if still else " Nothing is left of that now.")
            ),
            consequence="What hangs on it is left without what it needs; see the lifecycle for the ways out.",
            repair=[Step(f"netledger history {refusal.key.kind}/{refusal.key.path}", "shows what led to it")]
            if still
            else [],
            occurrence=told.occurrence,
            follows=refusal.subnet if refusal.key.kind in ("ip", "subnet") else None,
        )

    def over(self) -> Sequence[Sequence[Any]]:
        return ()

    def ended(self, fault: Refused) -> int:
        return fault.refusal.at

    def tell_over(self, conclusion: Conclusion, fault: Refused, notes: Notes) -> Finding:
        return self.tell(conclusion, fault)

    def _still(self, world: World, refusal: _Refusal) -> bool:
        """Whether the state that it led to is still there: of a ghost, whether anything still names it."""
        resource = world.get(refusal.key)
        if resource is not None:
            return resource.state == refusal.state and (resource.uid == refusal.uid)
        departed = world.departed[refusal.key.kind].get(refusal.key)
        if departed is None or departed.state != refusal.state:
            return False
        return _is_held(world, refusal.key)

    def _rests_on_clocks(self, clocks: _Departures, refusal: _Refusal) -> bool:
        """Whether it would have been allowed had a removal beside it come a little earlier or later."""
        resolved = self._resolved.get(refusal.at)
        if resolved is not None and abs(resolved - refusal.time) <= clocks.uncertainty:
            return True
        if refusal.attempted != VOCABULARY[refusal.key.kind].begun:
            return False
        # What it names may have gone a little later than it seems, and a rule in its way a little sooner.
        if any(at < refusal.at for at in clocks.near(_NAMED, refusal.time)):
            return True
        return refusal.key.kind in RULES and any(at > refusal.at for at in clocks.near(tuple(RULES), refusal.time))


class _Departures:
    """What went, by time: a removal beside another moment is found without looking at all of them."""

    def __init__(self, conclusion: Conclusion) -> None:
        self.uncertainty = conclusion.uncertainty
        self._departed = conclusion.world.departed
        self._by_time: dict[tuple[str, ...], list[tuple[int, int]]] = {}

    def near(self, kinds: tuple[str, ...], time: int) -> Iterator[int]:
        """The places of those of these kinds that went within the uncertainty of a time."""
        went = self._by_time.get(kinds)
        if went is None:
            went = sorted((left.time, left.at) for kind in kinds for left in self._departed[kind].values())
            self._by_time[kinds] = went
        for place in range(bisect_left(went, (time - self.uncertainty, 0)), len(went)):
            if went[place][0] > time + self.uncertainty:
                return
            yield went[place][1]


def _is_held(world: World, key: Key) -> bool:
    return any(True for kind in HOLDERS.get(key.kind, ()) for _ in world.naming(key, kind))
