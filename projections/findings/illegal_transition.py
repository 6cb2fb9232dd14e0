"""NL100 illegal-transition: a refused transition that no other finding tells of.

`judge` is next: it runs all rules and joins what has one cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

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
    Rule,
    Step,
    begin_and_end,
    called,
    witnesses,
)

REFUSALS_KEPT = 10_000

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

    def conclude(self, conclusion: Conclusion) -> Iterator[Finding]:
        seen: dict[tuple[Key, str], int] = {}
        for refusal in self._refusals:
            if self._rests_on_clocks(conclusion, refusal):
                continue
            slot = (refusal.key, refusal.uid + refusal.attempted)
            seen[slot] = seen.get(slot, -1) + 1
            still = self._still(conclusion.world, refusal)
            yield self.finding(
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
                occurrence=seen[slot],
                follows=refusal.subnet if refusal.key.kind in ("ip", "subnet") else None,
            )

    def _still(self, world: World, refusal: _Refusal) -> bool:
        """Whether the state that it led to is still there: of a ghost, whether anything still names it."""
        resource = world.get(refusal.key)
        if resource is not None:
            return resource.state == refusal.state and (resource.uid == refusal.uid)
        departed = world.departed[refusal.key.kind].get(refusal.key)
        if departed is None or departed.state != refusal.state:
            return False
        return _is_held(world, refusal.key)

    def _rests_on_clocks(self, conclusion: Conclusion, refusal: _Refusal) -> bool:
        """Whether it would have been allowed had a removal beside it come a little earlier or later."""
        times = [self._resolved[refusal.at]] if refusal.at in self._resolved else []
        if refusal.attempted == VOCABULARY[refusal.key.kind].begun:
            # What it names may have gone a little later than it seems, and a rule in its way a little sooner.
            gone = conclusion.world.departed
            times += [left.time for kind in ("vpc", "subnet") for left in gone[kind].values() if left.at < refusal.at]
            if refusal.key.kind in RULES:
                times += [left.time for kind in RULES for left in gone[kind].values() if left.at > refusal.at]
        return bool(conclusion.uncertainty) and any(
            abs(time - refusal.time) <= conclusion.uncertainty for time in times
        )


def _is_held(world: World, key: Key) -> bool:
    return any(True for kind in HOLDERS.get(key.kind, ()) for _ in world.naming(key, kind))


def explained(refusal: Finding, others: list[Finding]) -> bool:
    """Whether another finding tells of this refusal: it cites it, or it is about an address of that subnet."""
    for other in others:
        if any(witness.at == refusal.since for witness in other.witnesses):
            return True
        if other.key == refusal.key and other.uid == refusal.uid and refusal.key.kind == "ip":
            return True
    return False
