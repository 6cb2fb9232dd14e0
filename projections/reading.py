"""One pass over the log: every event goes to the coverage, the world, the audit trail and the rules, in this order.

Ingest and rebuild use this same class, so what they leave is the same. `findings` is next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from domain.events import REFUSED, Event
from domain.evidence import COARSE
from domain.resources import KINDS
from domain.world import Resource, World
from projections import eip_readiness, ip_usage, namespace_binding, vpc_status
from projections.audit_trail import AuditTrail
from projections.clocks import Clocks
from projections.coverage import Coverage, Gap
from projections.findings.concluded import Concluded, Findings
from projections.findings.judge import Judge
from projections.ipset_membership import Memberships
from projections.standing import Standing


class _Claims(NamedTuple):
    """How it is told what the claims of a kind should be, and which other kinds are looked at for it."""

    standing: Callable[[World, Resource], Standing]
    others: tuple[str, ...]
    that_name_it: bool = False
    """Whether of those only the ones that name it are."""


_READINESS = _Claims(eip_readiness.standing, (*eip_readiness.KINDS, *eip_readiness.OVN, "pod"))
_CLAIMS: dict[str, _Claims] = {
    "vpc": _Claims(vpc_status.standing, ("subnet",)),
    "subnet": _Claims(ip_usage.standing, ("ip", "eip", "oeip"), that_name_it=True),
    **dict.fromkeys((*eip_readiness.KINDS, *eip_readiness.OVN), _READINESS),
    "namespace": _Claims(namespace_binding.standing, ("subnet",)),
}


def standing_in(world: World, resource: Resource) -> Standing:
    """What a resource's claims should be; empty for kinds without any. What belongs in an ipset, no world can tell."""
    claims = _CLAIMS.get(resource.key.kind)
    return claims.standing(world, resource) if claims is not None else Standing()


def looked_at(kind: str) -> frozenset[str]:
    """The kinds that a world has to have for `standing_in` to tell of one of them: itself, and what its claims are about."""
    claims = _CLAIMS.get(kind)
    return frozenset((kind, *(claims.others if claims is not None else ())))


def looks_at_those_that_name_it(kind: str) -> bool:
    """Whether `standing_in` tells of one of that kind from itself and the resources that name it."""
    claims = _CLAIMS.get(kind)
    return claims is None or claims.that_name_it


def resources_of(world: World) -> Iterator[Resource]:
    """The live resources, by kind in the order of `KINDS`, then by name."""
    order = {kind.name: place for place, kind in enumerate(KINDS)}
    return iter(sorted(world.live.values(), key=lambda resource: (order[resource.key.kind], resource.key)))


class Reading:
    """Everything that is folded from the log. `at` is the place of the last event taken in."""

    def __init__(self) -> None:
        self.world = World()
        self.trail = AuditTrail()
        self.memberships = Memberships()
        self.judge = Judge(self.memberships)
        self.at = 0
        self.refusals = 0
        self.coverage = Coverage()
        self.clocks = Clocks()
        self.skew = 0
        self._latest_received = 0

    def apply(self, event: Event) -> None:
        """Take the next event in."""
        self.at += 1
        self.coverage.apply(event, self.at, self.world)
        self.world.evolve(event, self.at)
        self.trail.apply(event)
        self.clocks.apply(event)
        self.memberships.apply(event, self.at, self.world)
        self.judge.apply(event, self.at, self.world)
        if event.type == REFUSED:
            self.refusals += 1
        if event.revision is not None and event.received:
            # What has the later revision cannot have been answered before the earlier one was asked for, by one clock.
            self.skew = max(self.skew, self._latest_received - event.time)
            self._latest_received = max(self._latest_received, event.received)

    @property
    def gaps(self) -> list[Gap]:
        """The records that must have been lost."""
        return list(self.coverage.gaps(self.world))

    @property
    def uncertainty(self) -> int:
        """Within how many microseconds the order of what has no revision is not known: 0 where one clock ruled.

        What the revisions show of a skew is at most the skew, short of the time between two writes: so twice that.
        """
        return 2 * self.skew

    def conclude(
        self,
        end: int,
        event: Callable[[int], Event],
        patience: int | None = None,
        concluded: Concluded | None = None,
    ) -> Findings:
        """What is wrong: see `Judge.conclude`."""
        return self.judge.conclude(
            self.world,
            end,
            event,
            patience,
            uncertainty=self.uncertainty,
            coarse=COARSE if self.coverage.clockless else 0,
            # Where clocks differ, which of two answers made a revision may be mistaken, and nothing need be lost.
            lost=[] if self.uncertainty else [gap for gap in self.gaps if gap.is_open],
            concluded=concluded,
        )

    def standing(self, resource: Resource) -> Standing:
        """What a resource's claims should be; empty for kinds without any."""
        if resource.key.kind == "ipset":
            return self.memberships.standing(resource)
        return standing_in(self.world, resource)

    def resources(self) -> Iterator[Resource]:
        """The live resources, by kind in the order of `KINDS`, then by name."""
        return resources_of(self.world)
