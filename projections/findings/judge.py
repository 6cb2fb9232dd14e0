"""All rules together: feeds them, asks them, and doubts what may be otherwise for lack of a record.

The order of `RULES` is the order of their docs; the order in which they are fed matters only where one asks another
(`stuck_deletion` asks `lost_update` and `leaked_ip`). `concluded` puts together what they find. `reading` feeds this;
`adapters` shows what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domain.events import REFUSED, TESTIMONIES, Event
from domain.world import World
from projections.coverage import Gap
from projections.findings.concluded import Concluded, Findings
from projections.findings.illegal_transition import IllegalTransition
from projections.findings.ipset_foreign_write import IPSetForeignWrite
from projections.findings.ipset_lost_member import IPSetLostMember
from projections.findings.ipset_stale_member import IPSetStaleMember
from projections.findings.leaked_ip import LeakedIP
from projections.findings.lost_update import LostUpdate
from projections.findings.namespace_not_bound import NamespaceNotBound
from projections.findings.orphaned_subnet import OrphanedSubnet
from projections.findings.overdue import Overdue, Reactions
from projections.findings.ready_without_configuration import ReadyWithoutConfiguration
from projections.findings.rule import OPEN, STATUSES, UNKNOWN, Conclusion, Finding, Rule, Witness, called
from projections.findings.stuck_deletion import StuckDeletion
from projections.ipset_membership import Memberships

RULES: tuple[type[Rule], ...] = (
    IllegalTransition,
    LostUpdate,
    StuckDeletion,
    LeakedIP,
    OrphanedSubnet,
    NamespaceNotBound,
    ReadyWithoutConfiguration,
    IPSetLostMember,
    IPSetForeignWrite,
    IPSetStaleMember,
)


class Judge:
    """The rules of one ledger, and what they conclude."""

    def __init__(self, memberships: Memberships) -> None:
        self.reactions = Reactions()
        lost_update = LostUpdate()
        leaked_ip = LeakedIP(self.reactions)
        orphaned = OrphanedSubnet()
        self.rules: tuple[Rule, ...] = (
            lost_update,
            leaked_ip,
            StuckDeletion(lost_update, leaked_ip, self.reactions),
            orphaned,
            NamespaceNotBound(orphaned, self.reactions),
            ReadyWithoutConfiguration(self.reactions),
            IPSetLostMember(memberships),
            IPSetForeignWrite(memberships),
            IPSetStaleMember(memberships),
            IllegalTransition(),
        )
        self._feeds: dict[tuple[str, str], tuple[Callable[[Event, int, World], None], ...]] = {}

    def apply(self, event: Event, at: int, world: World) -> None:
        """Take one event in, after `world` has."""
        slot = (event.key.kind, event.type)
        feeds = self._feeds.get(slot)
        if feeds is None:
            feeds = self._feeds[slot] = tuple(rule.apply for rule in self.rules if _watches(rule, *slot))
        for feed in feeds:
            feed(event, at, world)

    def conclude(
        self,
        world: World,
        end: int,
        event: Callable[[int], Event],
        patience: int | None = None,
        *,
        uncertainty: int = 0,
        coarse: int = 0,
        lost: Sequence[Gap] = (),
        concluded: Concluded | None = None,
    ) -> Findings:
        """All findings, the open ones first, then by when they began.

        `end` is the time of the last record in microseconds since 1970; `event` gives an event by its place;
        `patience` in microseconds overrides what overdue means; for `uncertainty`, also in microseconds, see
        `Conclusion`, and for `coarse`, `Overdue`. `lost` are the records that must have been lost: what would be open,
        and rests on one of them, is unknown. What was `concluded` before, on this log, is not concluded again.
        """
        conclusion = Conclusion(world, Overdue(self.reactions, end, patience, coarse), event, uncertainty)
        concluded = concluded if concluded is not None else Concluded()
        findings = concluded.bring_up(self.rules, conclusion)
        for finding in findings.now:
            if finding.status == OPEN and (gap := _missing(finding, lost, event)) is not None:
                _doubt(finding, gap)
        findings.now.sort(key=lambda finding: (STATUSES.index(finding.status), finding.since, finding.id))
        return findings


def _missing(finding: Finding, lost: Sequence[Gap], event: Callable[[int], Event]) -> Gap | None:
    """The first lost record that was about what a finding is about, what it cites, or a neighbour of either."""
    if not lost:
        return None
    concerned = {finding.key.tag}
    for witness in finding.witnesses:
        concerned.update(event(witness.at).tags)
    return next((gap for gap in lost if gap.key.tag in concerned or finding.key.tag in gap.tags), None)


def _doubt(finding: Finding, gap: Gap) -> None:
    """Make a finding unknown: it says which record is missing, and cites what shows that."""
    finding.status = UNKNOWN
    upto = f", up to revision {gap.revision}," if gap.revision is not None else ""
    finding.explanation += (
        f" Whether it is so is unknown: a record about {called(gap.key)}{upto} must be missing, because {gap.why}."
    )
    if all(witness.at != gap.at for witness in finding.witnesses):
        finding.witnesses = sorted([*finding.witnesses, Witness("gap", gap.at)], key=lambda witness: witness.at)


def _watches(rule: Rule, kind: str, event: str) -> bool:
    """Whether a rule is fed events of a type on a kind."""
    if kind not in rule.watches or event in TESTIMONIES:
        return False
    types = rule.watches[kind]
    return types is None or event in types or event == REFUSED
