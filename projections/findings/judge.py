"""All rules together: feeds them, asks them, leaves out what another finding tells of, and joins what has one cause.

The order of `RULES` is the order of their docs; the order in which they are fed matters only where one asks another
(`stuck_deletion` asks `lost_update` and `leaked_ip`). `reading` feeds this; `adapters` shows what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domain.events import REFUSED, TESTIMONIES, Event
from domain.resources import Key
from domain.world import World
from projections.coverage import Gap
from projections.findings.illegal_transition import IllegalTransition, explained
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
    ) -> list[Finding]:
        """All findings, the open ones first, then by when they began.

        `end` is the time of the last record in microseconds since 1970; `event` gives an event by its place;
        `patience` in microseconds overrides what overdue means; for `uncertainty`, also in microseconds, see
        `Conclusion`, and for `coarse`, `Overdue`. `lost` are the records that must have been lost: what would be open,
        and rests on one of them, is unknown.
        """
        conclusion = Conclusion(world, Overdue(self.reactions, end, patience, coarse), event, uncertainty)
        found = [finding for rule in self.rules for finding in rule.conclude(conclusion)]
        refusals = [finding for finding in found if finding.rule == IllegalTransition.code]
        others = [finding for finding in found if finding.rule != IllegalTransition.code]
        leaks = [finding for finding in others if finding.rule == LeakedIP.code]
        others += [r for r in refusals if not explained(r, others) and not _of_a_leak(r, leaks)]
        _join(others)
        for finding in others:
            if finding.status == OPEN and (gap := _missing(finding, lost, event)) is not None:
                _doubt(finding, gap)
        return sorted(others, key=lambda finding: (STATUSES.index(finding.status), finding.since, finding.id))


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


def _of_a_leak(refusal: Finding, leaks: list[Finding]) -> bool:
    """Whether an address that was put into a subnet after it had gone, or held it, is told of as a leak."""
    return any(leak.key == refusal.key or leak.follows == refusal.key for leak in leaks)


def _join(findings: list[Finding]) -> None:
    """Give findings of one cause their root: the finding on what they follow from, else the first of their group."""
    by_key: dict[Key, list[Finding]] = {}
    for finding in findings:
        by_key.setdefault(finding.key, []).append(finding)
    groups: dict[Key, list[Finding]] = {}
    follows: list[tuple[Finding, Finding]] = []
    for finding in findings:
        if finding.follows is None:
            continue
        roots = [root for root in by_key.get(finding.follows, ()) if root is not finding and root.rule != finding.rule]
        if finding.rule == LeakedIP.code:
            groups.setdefault(finding.follows, []).append(finding)
        elif roots:
            root = max(roots, key=lambda root: (root.until is None, root.since))
            follows.append((finding, root))
            if finding.rule == NamespaceNotBound.code:
                roles = {"trigger": "blocked", "healing": "unblocked"}
                told = {witness.at for witness in root.witnesses}
                root.witnesses = sorted(
                    [*root.witnesses]
                    + [Witness(roles[w.role], w.at) for w in finding.witnesses if w.role in roles and w.at not in told],
                    key=lambda witness: witness.at,
                )
    for group in groups.values():
        first = min(group, key=lambda finding: (finding.since, finding.id))
        for finding in group:
            if finding is not first:
                finding.root = first.id
    for finding, root in follows:
        finding.root = root.root or root.id
