"""NL100 illegal-transition: a refused transition that no other finding tells of.

`judge` is next: it runs all rules and joins what has one cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from domain.events import REFUSED, Event
from domain.kinds import VOCABULARY
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
    called,
    witnesses,
)

REFUSALS_KEPT = 10_000


class _Refusal(NamedTuple):
    """One refused fact."""

    key: Key
    uid: str
    attempted: str
    state: str
    reason: str
    at: int
    subnet: Key | None


class IllegalTransition(Rule):
    """NL100."""

    code = "NL100"
    name = "illegal-transition"
    severity = WARNING
    fires = "a transition that the lifecycle's table does not allow was observed, and no other finding tells of it."
    upstream = ("kube-ovn#5068", "kube-ovn#3469", "kube-ovn#5115")
    watches: ClassVar = {kind: frozenset({REFUSED}) for kind in VOCABULARY}

    def __init__(self) -> None:
        self._refusals: list[_Refusal] = []

    def apply(self, event: Event, at: int, world: World) -> None:
        if event.type == REFUSED and event.leads_to and len(self._refusals) < REFUSALS_KEPT:
            subnet = next((Key("subnet", "", tag[7:]) for tag in event.tags if tag.startswith("subnet:")), None)
            self._refusals.append(
                _Refusal(event.key, event.uid, event.attempted, event.leads_to, event.reason, at, subnet)
            )

    def conclude(self, conclusion: Conclusion) -> Iterator[Finding]:
        seen: dict[tuple[Key, str], int] = {}
        for refusal in self._refusals:
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
        return any(True for kind in VOCABULARY for _ in world.naming(refusal.key, kind))


def explained(refusal: Finding, others: list[Finding]) -> bool:
    """Whether another finding tells of this refusal: it cites it, or it is about an address of that subnet."""
    for other in others:
        if any(witness.at == refusal.since for witness in other.witnesses):
            return True
        if other.key == refusal.key and other.uid == refusal.uid and refusal.key.kind == "ip":
            return True
    return False
