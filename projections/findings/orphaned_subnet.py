"""NL104 orphaned-subnet: a subnet names a VPC that was seen to go.

By itself it stops nothing; until kube-ovn#6836 it kept every new namespace from its network, and that is
`namespace_not_bound`, which is next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from domain.events import OBSERVED, REFUSED, Event
from domain.kinds import VOCABULARY
from domain.resources import Key
from domain.subnet import ORPHANED
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
    Terms,
    Told,
    begin_and_end,
    clock,
    kubectl,
    short,
    witnesses,
)


class _Orphan(NamedTuple):
    """A subnet without its VPC: since when, and how that went."""

    key: Key
    uid: str
    vpc: str
    since: int
    vpc_deletion: int
    vpc_gone: int
    born: int


class OrphanedSubnet(Rule):
    """NL104."""

    code = "NL104"
    name = "orphaned-subnet"
    severity = WARNING
    fires = "a subnet that is not in deletion names a VPC that does not exist: since when, and who removed the VPC."
    upstream = ("kube-ovn#5028", "kube-ovn#5068", "kube-ovn#4104", "kube-ovn#6836")
    watches: ClassVar = {
        "subnet": begin_and_end("subnet", "SubnetOrphaned", "SubnetAdopted"),
    }

    def __init__(self) -> None:
        self._open: dict[Key, _Orphan] = {}
        self._deletions: dict[Key, int] = {}
        self._healed: list[tuple[_Orphan, int, int]] = []

    def apply(self, event: Event, at: int, world: World) -> None:
        if event.type == OBSERVED:
            return
        vocabulary = VOCABULARY["subnet"]
        subnet = world.get(event.key)
        known = self._open.get(event.key)
        if known is not None and event.happened == vocabulary.deletion_requested:
            self._deletions[event.key] = at
        orphaned = subnet is not None and subnet.state == ORPHANED
        if orphaned and known is None and subnet is not None:
            name = str(subnet.get("spec.vpc") or "")
            departed = world.gone(Key("vpc", "", name))
            self._open[event.key] = _Orphan(
                key=event.key,
                uid=subnet.uid,
                vpc=name,
                since=at,
                vpc_deletion=departed.deletion_at if departed else 0,
                vpc_gone=departed.at if departed else 0,
                born=subnet.born_at if event.type == REFUSED else 0,
            )
        elif known is not None and (subnet is None or (not orphaned and not subnet.terminating)):
            del self._open[event.key]
            self._healed.append((known, at, self._deletions.pop(event.key, 0)))

    def orphans(self, world: World) -> list[Key]:
        """The subnets that are orphans now, those in deletion too: they block a handler as long as they are there."""
        return [key for key in self._open if key in world.live]

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        for orphan in self._open.values():
            finding = self._tell(conclusion, orphan, 0, self._deletions.get(orphan.key, 0))
            finding.occurrence = over.told(orphan.key)
            yield finding

    def over(self) -> Sequence[Sequence[Any]]:
        return (self._healed,)

    def ended(self, fault: tuple[_Orphan, int, int]) -> int:
        return fault[1]

    def terms(self, conclusion: Conclusion, fault: tuple[_Orphan, int, int]) -> Terms:
        orphan, until, _ = fault
        return Terms(orphan.key, conclusion.brief(orphan.since, until))

    def tell_over(self, conclusion: Conclusion, fault: tuple[_Orphan, int, int], notes: Notes) -> Finding:
        return self._tell(conclusion, *fault)

    def _tell(self, conclusion: Conclusion, orphan: _Orphan, until: int, deletion: int) -> Finding:
        if orphan.vpc_gone:
            removal = conclusion.event(orphan.vpc_gone)
            how = f"that VPC was removed by {short(removal.actor)} at {clock(removal.time)} ({removal.operation})"
        else:
            how = "that VPC is gone"
        made = " before it was made" if orphan.born else " under it"
        explanation = f"Subnet {orphan.key.name} names VPC {orphan.vpc} in spec.vpc; {how}{made}."
        if until:
            event = conclusion.event(until)
            explanation += f" It was put right by {short(event.actor)} at {clock(event.time)} ({event.happened})."
        name = orphan.key
        return self.finding(
            status=HEALED if until else OPEN,
            key=name,
            uid=orphan.uid,
            field="spec.vpc",
            reported=orphan.vpc,
            since=orphan.since,
            until=until or None,
            witnesses=witnesses(
                ("cause", [orphan.vpc_deletion, orphan.vpc_gone]),
                ("created", [orphan.born]),
                ("healing", [deletion, until]),
            ),
            explanation=explanation,
            consequence=(
                "Releases before kube-ovn#5031 annotate no new namespace while it is there; releases before #6836 may "
                "bind new namespaces to the wrong subnets, without an error."
            ),
            repair=[]
            if until
            else [
                Step(
                    f"kubectl get ips.kubeovn.io -l ovn.kubernetes.io/subnet={name.name}",
                    "see whether addresses are in use in it; if so, do not delete it: create "
                    f"VPC {orphan.vpc} again instead",
                ),
                Step(
                    f"kubectl delete {kubectl(name)}",
                    "otherwise delete the orphan; waiting namespaces are bound after it",
                ),
            ],
        )
