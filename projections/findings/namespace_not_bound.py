"""NL105 namespace-not-bound: a namespace that a subnet serves was made, and the controller never annotated it.

The reaction that never comes is the fault; the orphan that blocks the handler is the root, if one was seen.
`ready_without_configuration` is next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from domain.events import OBSERVED, Event
from domain.kinds import VOCABULARY
from domain.namespace import SWITCH
from domain.operations import REFUSED as REFUSED_REQUEST
from domain.resources import Key
from domain.world import World
from projections.findings.orphaned_subnet import OrphanedSubnet
from projections.findings.overdue import FLOOR, Reactions
from projections.findings.rule import (
    ALL,
    ERROR,
    HEALED,
    OPEN,
    PENDING,
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
    seconds,
    short,
    witnesses,
)
from projections.namespace_binding import chooses, labels_of, serving

TRIGGER = "namespace"


class _Waiting(NamedTuple):
    """A namespace that waits to be annotated."""

    key: Key
    uid: str
    trigger: int
    time: int
    subnets: tuple[str, ...]
    orphans: tuple[Key, ...]
    failures: tuple[int, ...] = ()


class NamespaceNotBound(Rule):
    """NL105."""

    code = "NL105"
    name = "namespace-not-bound"
    severity = ERROR
    fires = (
        "a namespace made or relabelled within the log, which a live subnet serves, has no network annotations, while the "
        "log shows a controller that writes them, and (a) that controller was seen failing on it, or (b) it is overdue."
    )
    upstream = ("kube-ovn#5028", "kube-ovn#6836", "kube-ovn#5068")
    watches: ClassVar = {"namespace": ALL, "subnet": begin_and_end("subnet", "SubnetSpecChanged")}

    def __init__(self, orphaned: OrphanedSubnet, reactions: Reactions) -> None:
        self._orphaned = orphaned
        self._reactions = reactions
        self._waiting: dict[Key, _Waiting] = {}
        self._late: list[tuple[_Waiting, int, int]] = []
        self._binders: dict[str, None] = {}
        self._serving: dict[Key, None] = {}  # subnets that can serve a namespace: the default, and those that choose

    # ---- folding

    def apply(self, event: Event, at: int, world: World) -> None:
        vocabulary = VOCABULARY[event.key.kind]
        if event.key.kind == "subnet":
            self._subnet(event.key, world)
            return
        namespace = world.get(event.key)
        if event.type == OBSERVED:
            waiting = self._waiting.get(event.key)
            if waiting is not None and event.outcome == REFUSED_REQUEST and event.actor in self._binders:
                self._waiting[event.key] = waiting._replace(failures=(*waiting.failures, at)[-4:])
            return
        if namespace is None or namespace.terminating:
            self._waiting.pop(event.key, None)
        elif event.happened == "NamespaceBound":
            self._bound(event, at)
        elif event.happened == vocabulary.begun:
            if namespace.get(SWITCH) is None:
                self._wait(event, at, world)
        elif (
            event.happened == "NamespaceRelabelled" and event.key not in self._waiting and namespace.get(SWITCH) is None
        ):
            self._relabelled(event, at, world)

    def _subnet(self, key: Key, world: World) -> None:
        subnet = world.get(key)
        can = subnet is not None and (
            subnet.get("spec.default") is True
            or bool(subnet.get("spec.namespaces"))
            or bool(subnet.get("spec.namespaceSelectors"))
        )
        if can:
            self._serving.setdefault(key, None)
        else:
            self._serving.pop(key, None)

    def _wait(self, event: Event, at: int, world: World) -> None:
        namespace = world.live[event.key]
        subnets = serving(world, self._serving, event.key.name, labels_of(namespace.fields))
        if subnets:
            orphans = tuple(self._orphaned.orphans(world))
            self._waiting[event.key] = _Waiting(event.key, namespace.uid, at, event.time, tuple(subnets), orphans)

    def _relabelled(self, event: Event, at: int, world: World) -> None:
        """A label change is a trigger only if a selector chooses the namespace now and did not before."""
        namespace = world.live[event.key]
        labels = labels_of(namespace.fields)
        before = dict(labels)
        for path, (old, _) in event.changed.items():
            label = path.removeprefix("metadata.labels[").removesuffix("]")
            before.pop(label, None)
            if old is not None:
                before[label] = str(old)
        for key in self._serving:
            subnet = world.get(key)
            if subnet is None or subnet.terminating:
                continue
            if chooses(subnet, event.key.name, labels) and not chooses(subnet, event.key.name, before):
                self._wait(event, at, world)
                return

    def _bound(self, event: Event, at: int) -> None:
        self._binders.setdefault(event.actor, None)
        waiting = self._waiting.pop(event.key, None)
        if waiting is None:
            return
        span = event.time - waiting.time
        if not waiting.orphans:  # what delayed it was seen: it is no measure for others
            self._reactions.seen(TRIGGER, span)
        if span > FLOOR:
            self._late.append((waiting, at, span))

    # ---- concluding

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        if not self._binders:
            return  # no controller that annotates was seen: whether one should have, the log cannot say
        for waiting in self._waiting.values():
            late = conclusion.overdue.end - waiting.time
            failing = bool(waiting.failures) and late > FLOOR
            overdue = failing or conclusion.overdue.since(TRIGGER, waiting.time, cause_seen=bool(waiting.orphans))
            finding = self._tell(conclusion, waiting, OPEN if overdue else PENDING, None)
            finding.occurrence = over.told(waiting.key)
            yield finding

    def over(self) -> Sequence[Sequence[Any]]:
        return (self._late,)

    def ended(self, fault: tuple[_Waiting, int, int]) -> int:
        return fault[1]

    def terms(self, conclusion: Conclusion, fault: tuple[_Waiting, int, int]) -> Terms:
        waiting, _, span = fault
        return Terms(waiting.key, trigger=TRIGGER, span=span, cause_seen=bool(waiting.orphans))

    def words(self, conclusion: Conclusion) -> str:
        measure = self._reactions.measure(TRIGGER)
        return f" Others were annotated within {seconds(measure[1])}." if measure is not None else ""

    def tell_over(self, conclusion: Conclusion, fault: tuple[_Waiting, int, int], notes: Notes) -> Finding:
        waiting, until, _ = fault
        return self._tell(conclusion, waiting, HEALED, until)

    def _tell(self, conclusion: Conclusion, waiting: _Waiting, status: str, until: int | None) -> Finding:
        trigger = conclusion.event(waiting.trigger)
        did = "made" if trigger.happened == "NamespaceCreated" else "relabelled"
        usual = self.words(conclusion)
        explanation = (
            f"Namespace {waiting.key.name} was {did} by {short(trigger.actor)} at {clock(trigger.time)}; "
            f"subnet {', '.join(waiting.subnets)} serves it."
        )
        if until is None:
            late = seconds(conclusion.overdue.end - waiting.time)
            explanation += f" {late} later it still has no network annotations.{usual}"
        else:
            event = conclusion.event(until)
            explanation += (
                f" It was annotated only {seconds(event.time - trigger.time)} later, by {short(event.actor)} "
                f"at {clock(event.time)}.{usual}"
            )
        if waiting.failures:
            refused = conclusion.event(waiting.failures[-1])
            explanation += f" The controller's own request on it was refused at {clock(refused.time)}."
        if waiting.orphans:
            names = ", ".join(key.name for key in waiting.orphans[:3])
            explanation += (
                f" Subnet {names}, whose VPC is gone, was there: the handler stumbles over it (kube-ovn#5028)."
                if len(waiting.orphans) == 1
                else f" Subnets {names} were there, orphans that the handler stumbles over (kube-ovn#5028)."
            )
        else:
            explanation += (
                " That is consistent with an orphan subnet from before the log (kube-ovn#5028); none was seen."
            )
        return self.finding(
            status=status,
            key=waiting.key,
            uid=waiting.uid,
            field=SWITCH,
            reported=None,
            lawful=list(waiting.subnets),
            since=waiting.trigger,
            until=until,
            witnesses=witnesses(
                ("trigger", [waiting.trigger]),
                ("failure", waiting.failures),
                ("healing", [until] if until else []),
            ),
            explanation=explanation,
            consequence="Pods in it get no address: the controller's log says `namespace … network annotations is empty`.",
            repair=[]
            if until is not None
            else [
                Step(
                    "kubectl get subnets.kubeovn.io -o custom-columns=NAME:.metadata.name,VPC:.spec.vpc && "
                    "kubectl get vpcs.kubeovn.io",
                    "look for a subnet whose VPC is not in the second list, and remove or adopt it first",
                ),
                Step(
                    f"kubectl annotate {kubectl(waiting.key)} netledger.io/requeue=1 --overwrite",
                    "any write to the namespace makes the controller look at it again",
                ),
            ],
            follows=waiting.orphans[0] if waiting.orphans else None,
        )
