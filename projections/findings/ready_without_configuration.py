"""NL106 ready-without-configuration: an EIP or a rule says ready, and nothing configured it in the gateway's pod of today.

A write that makes `ready` true is wrong at once; a `ready` left over from the pod before is pending, then overdue. What
the log cannot tell (no exec recorded for that pod, or a pod older than the log) is never found. `illegal_transition`
is next.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from domain import nat_gateway
from domain.events import OBSERVED, Event
from domain.kinds import VOCABULARY
from domain.nat_rule import RULES
from domain.resources import Key
from domain.world import Resource, World
from projections.eip_readiness import NAT, READY, readiness
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
    called,
    clock,
    guarded_patch,
    kubectl,
    seconds,
    short,
    witnesses,
)

PODS_KEPT = 10_000
STORY_KEPT = 24
"""How many events beside an EIP are remembered since its gateway's pod came: its rules', and its own status."""


class _Fault(NamedTuple):
    """A `ready` that nothing backs."""

    key: Key
    uid: str
    since: int
    time: int
    made: bool  # a write made it true; else it is left over from the pod before
    rule: str
    pod: Key
    pod_uid: str
    pod_born: int
    pod_before: tuple[int, ...]
    unset: int
    story: tuple[int, ...]


class ReadyWithoutConfiguration(Rule):
    """NL106."""

    code = "NL106"
    name = "ready-without-configuration"
    severity = ERROR
    fires = (
        "a write makes `ready` true after today's gateway pod was created, and nothing has configured that address (for a "
        "rule: its own verb) in that pod since; at once. A `ready` left over from the pod before is pending, then open when "
        "overdue. Objects in deletion do not count; without any exec recorded for that pod the answer is unknown."
    )
    upstream = ("kube-ovn#5114", "kube-ovn#5141", "kube-ovn#4684", "kube-ovn#6841")
    watches: ClassVar = {
        **dict.fromkeys(("eip", *RULES), ALL),
        "pod": frozenset({"GatewayCommandStarted", VOCABULARY["pod"].ended}),
    }

    def __init__(self, reactions: Reactions) -> None:
        self._reactions = reactions
        self._open: dict[Key, _Fault] = {}
        self._healed: list[tuple[_Fault, int, int]] = []
        self._unset: dict[Key, int] = {}  # when ready was last set to false
        self._story: dict[Key, list[int]] = {}  # EIP: what happened to it and its rules since the pod came
        self._replaced: dict[Key, int] = {}  # EIP or rule: since when it waits to be configured again
        self._before: dict[Key, tuple[int, ...]] = {}  # pod name: how the one before went
        self._started: dict[tuple[Key, str, str], int] = {}  # pod's name, kind and rule: when it was started last
        self._with_exec: dict[str, None] = {}  # pods, by uid, that an exec was recorded for

    # ---- folding

    def apply(self, event: Event, at: int, world: World) -> None:
        if event.type == OBSERVED:
            return
        if event.key.kind == "pod":
            if event.happened == "GatewayCommandStarted":
                self._with_exec[event.uid] = None
                if len(self._with_exec) > PODS_KEPT:
                    del self._with_exec[next(iter(self._with_exec))]
                for _, command in event.changed.values():
                    meaning = nat_gateway.meaning_of(command)
                    if meaning is not None and meaning[1] == nat_gateway.ADDED:
                        self._started[event.key, meaning[0], meaning[2]] = event.time
                while len(self._started) > PODS_KEPT:
                    del self._started[next(iter(self._started))]
            departed = world.gone(event.key)
            gateways = any(tag.startswith("nat-gateway:") for tag in event.tags)
            if event.happened == "PodRemoved" and departed is not None and gateways:
                self._before[event.key] = tuple(place for place in (departed.deletion_at, departed.at) if place)
                if len(self._before) > PODS_KEPT:
                    del self._before[next(iter(self._before))]
            return
        resource = world.get(event.key)
        self._tell_story(event, at, world)
        if resource is None or resource.terminating:
            self._close(event.key, at, event.time)
            self._replaced.pop(event.key, None)
            if resource is None:
                self._unset.pop(event.key, None)
                self._story.pop(event.key, None)
            return
        if event.happened.endswith("GatewayPodReplaced"):
            self._replaced[event.key] = event.time
            self._story.pop(event.key, None)
            self._leave_over(event, at, world, resource)
        elif event.happened.endswith("Configured") and not event.happened.endswith("Deconfigured"):
            self._configured(event, at)
        elif READY in event.changed:
            self._reported(event, at, world, resource)

    def _tell_story(self, event: Event, at: int, world: World) -> None:
        """Keep what happened to an EIP and to the rules on it, for whoever asks how it came to be ready."""
        named = [Key("eip", "", tag[4:]) for tag in event.tags if tag.startswith("eip:")]
        eips = [eip for eip in named if world.gone(eip) is None]
        vocabulary = VOCABULARY[event.key.kind]
        telling = READY in event.changed or NAT in event.changed
        if event.key.kind in RULES:
            telling |= event.happened in (vocabulary.begun, vocabulary.deletion_requested, vocabulary.ended)
        if telling:
            for eip in eips:
                story = self._story.setdefault(eip, [])
                if len(story) < STORY_KEPT:
                    story.append(at)

    def _reported(self, event: Event, at: int, world: World, resource: Resource) -> None:
        before, after = event.changed[READY]
        if after is not True:
            self._unset[event.key] = at
            self._close(event.key, at, event.time)
            return
        if before is True or event.happened in _first(event.key.kind):
            return
        pod = nat_gateway.pod_of_today(world, nat_gateway.gateway_of(world, resource))
        rule = nat_gateway.rule_of(world, resource)
        if pod is None or not pod.seen_from_birth or not rule:
            return
        if nat_gateway.configured_in(pod, event.key.kind, rule):
            return
        self._open[event.key] = self._fault(event, at, resource, pod, rule, made=True)

    def _leave_over(self, event: Event, at: int, world: World, resource: Resource) -> None:
        """A pod came, and what is said of the one before stands still."""
        known = self._open.get(event.key)
        if known is not None and known.made:
            return  # it was wrong before, and is so still
        if resource.get(READY) is True:
            name = next((tag[4:] for tag in event.tags if tag.startswith("pod:")), "")
            namespace, _, pod_name = name.partition("/")
            pod = world.get(Key("pod", namespace, pod_name))
            rule = nat_gateway.rule_of(world, resource)
            # The new pod is made by this very event: the world has it already.
            if pod is not None and rule:
                self._open[event.key] = self._fault(event, at, resource, pod, rule, made=False)

    def _fault(self, event: Event, at: int, resource: Resource, pod: Resource, rule: str, *, made: bool) -> _Fault:
        return _Fault(
            key=event.key,
            uid=resource.uid,
            since=at,
            time=event.time,
            made=made,
            rule=rule,
            pod=pod.key,
            pod_uid=pod.uid,
            pod_born=pod.born_at,
            pod_before=self._before.get(pod.key, ()),
            unset=self._unset.get(event.key, 0),
            story=tuple(self._story.get(event.key, ())),
        )

    def _configured(self, event: Event, at: int) -> None:
        waited = self._replaced.pop(event.key, None)
        if waited is not None:
            self._reactions.seen(event.key.kind, event.time - waited)
        fault = self._open.get(event.key)
        if fault is not None and event.received and event.received <= fault.time:
            # The exec overlaps the write: which came first rests on time alone, and no finding rests on that.
            del self._open[event.key]
            return
        self._close(event.key, at, event.time)

    def _close(self, key: Key, at: int, time: int) -> None:
        fault = self._open.pop(key, None)
        if fault is not None and (fault.made or time - fault.time > FLOOR):
            told = fault._replace(story=(*fault.story, *self._story.get(key, ())))
            self._healed.append((told, at, time - fault.time))

    # ---- concluding

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        for fault in self._open.values():
            if self._is_known(conclusion, fault):
                late = fault.made or conclusion.overdue.since(fault.key.kind, fault.time)
                finding = self._tell(conclusion, fault, OPEN if late else PENDING, None)
                finding.occurrence = over.told(fault.key)
                yield finding

    def over(self) -> Sequence[Sequence[Any]]:
        return (self._healed,)

    def ended(self, fault: tuple[_Fault, int, int]) -> int:
        return fault[1]

    def terms(self, conclusion: Conclusion, fault: tuple[_Fault, int, int]) -> Terms:
        one, until, span = fault
        return Terms(
            slot=one.key,
            doubtful=conclusion.brief(one.since, until),
            trigger="" if one.made else one.key.kind,
            span=span,
            grounds=((one.pod, one.pod_uid), (one.pod, one.key.kind, one.rule)),
        )

    def holds(self, conclusion: Conclusion, fault: tuple[_Fault, int, int]) -> bool:
        return self._is_known(conclusion, fault[0])

    def note(self, fault: tuple[_Fault, int, int], notes: Notes) -> None:
        notes.setdefault("pods", {}).setdefault((fault[0].pod, fault[0].pod_uid))

    def moved(self, conclusion: Conclusion, notes: Notes) -> Iterator[Hashable]:
        """Of the pods whether any exec is known in them, of the commands when they were started last."""
        pods: dict[tuple[Key, str], bool | None] = notes.get("pods", {})
        for ground, was in pods.items():
            now = self._has_exec(conclusion.world, *ground)
            if now != was:
                pods[ground] = now
                yield ground
        started: dict[tuple[Key, str, str], int] = notes.get("started", {})
        if started != self._started:
            notes["started"] = dict(self._started)
            yield from (slot for slot, time in self._started.items() if started.get(slot) != time)
            yield from started.keys() - self._started.keys()

    def tell_over(self, conclusion: Conclusion, fault: tuple[_Fault, int, int], notes: Notes) -> Finding:
        one, until, _ = fault
        return self._tell(conclusion, one, HEALED, until)

    def _is_known(self, conclusion: Conclusion, fault: _Fault) -> bool:
        """Whether any exec at all was recorded for the pod: without one, that one is missing says nothing.

        Nor is it known where the exec came so close to the pod that, for the clocks, it may have run in the one before.
        """
        started = self._started.get((fault.pod, fault.key.kind, fault.rule))
        if started is not None and abs(conclusion.event(fault.pod_born).time - started) <= conclusion.uncertainty:
            return False
        return self._has_exec(conclusion.world, fault.pod, fault.pod_uid)

    def _has_exec(self, world: World, key: Key, uid: str) -> bool:
        pod = world.get(key)
        if pod is None or pod.uid != uid:
            return uid in self._with_exec
        return pod.programmed is not None

    def _tell(self, conclusion: Conclusion, fault: _Fault, status: str, until: int | None) -> Finding:
        world = conclusion.world
        resource = world.get(fault.key)
        verb = nat_gateway.verb_of(fault.key.kind)
        event = conclusion.event(fault.since)
        pod = conclusion.event(fault.pod_born)
        if fault.made:
            what = f"{short(event.actor)} set status.ready to true at {clock(event.time)} (revision {event.revision})"
        else:
            what = "status.ready is true since before that"
        explanation = (
            f"The gateway's pod of today, {fault.pod.path} (uid {fault.pod_uid[:8]}), was made at {clock(pod.time)} and "
            f"starts with no addresses. {what}, and there is no evidence that {verb} {fault.rule} was started in that pod"
            f"{' before' if until is not None else ''}."
        )
        if until is not None:
            healing = conclusion.event(until)
            explanation += (
                f" It became right {seconds(healing.time - event.time)} later, by {short(healing.actor)} at "
                f"{clock(healing.time)} ({healing.happened})."
            )
        story = [*fault.story, *(self._story.get(fault.key, []) if until is None else [])]
        ready, _ = readiness(world, resource) if resource is not None else (None, "")
        key = fault.key
        return self.finding(
            status=status,
            key=key,
            uid=fault.uid,
            field=READY,
            reported=resource.get(READY) if resource is not None and until is None else True,
            lawful=bool(ready) if until is None else None,
            since=fault.since,
            until=until,
            witnesses=witnesses(
                ("overwriting" if fault.made else "leftover", [fault.since]),
                ("lost", [fault.unset]),
                ("cause", [*fault.pod_before, fault.pod_born]),
                ("healing", [until] if until else []),
                ("because", [place for place in story if place < fault.since]),
                ("then", [place for place in story if fault.since < place <= (until or place)]),
            ),
            explanation=explanation,
            consequence=(
                f"{_unserved(key.kind, fault.rule)}, although {called(key)} says ready, and the controller "
                "skips configuring it because it says so (kube-ovn#5114)."
            ),
            repair=[]
            if until is not None
            else [
                _look(fault),
                Step(
                    guarded_patch(
                        key,
                        resource.revision if resource is not None else None,
                        '{"op":"replace","path":"/status/ready","value":false}',
                        status=True,
                    ),
                    f"says what is true; with ready false and redo set the controller runs {verb} again",
                ),
                Step(f"kubectl get {kubectl(key)} -w", "wait until the controller sets ready again"),
            ],
        )


def _unserved(kind: str, rule: str) -> str:
    """What does not work without a rule."""
    outside, _, inside = rule.partition(",")
    if kind == "snat":
        return f"Traffic from {inside} does not leave by {outside}"
    return f"Traffic to {outside} is not answered by the gateway"


def _look(fault: _Fault) -> Step:
    """How a person sees in the pod what is configured there."""
    run = f"kubectl exec -n {fault.pod.namespace} {fault.pod.name} --"
    if fault.key.kind in ("snat", "dnat"):
        return Step(f"{run} iptables-save -t nat", f"see whether {fault.rule} is on the gateway after all")
    return Step(f"{run} ip addr", f"see whether {fault.rule.split(',')[0]} is on the gateway after all")


def _first(kind: str) -> tuple[str, ...]:
    vocabulary = VOCABULARY[kind]
    return (vocabulary.sighted, vocabulary.sighted_terminating)
