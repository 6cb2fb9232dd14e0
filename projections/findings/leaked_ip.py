"""NL103 leaked-ip: an IP object that outlived its pod and its subnet, so that nobody is left who would release it.

It counts from when its pod was seen to go, by namespace and name, and its subnet was gone (A) or terminating (B). One
that somebody else than its controller released by hand was leaked, and healed. `orphaned_subnet` is next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from domain.events import OBSERVED, Event
from domain.ip import pod_of, subnet_of, survives_its_pod
from domain.kinds import VOCABULARY
from domain.resources import FINALIZER, Key
from domain.world import Departed, Resource, World
from projections.findings.overdue import Reactions, release_of
from projections.findings.rule import (
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
    called,
    clock,
    guarded_patch,
    kubectl,
    seconds,
    short,
    witnesses,
)

TRIGGER = release_of("ip")


class _Left(NamedTuple):
    """What an address was left by: its pod, its subnet, and since when both."""

    pod: Departed
    subnet_name: str
    subnet_deletion: int
    subnet_gone: int
    since: int
    since_time: int


class _Release(NamedTuple):
    """An address that was left, and then released by hand."""

    key: Key
    uid: str
    born: int
    left: _Left
    removed: int
    span: int


class LeakedIP(Rule):
    """NL103."""

    code = "NL103"
    name = "leaked-ip"
    severity = ERROR
    fires = (
        "an IP object's pod was seen to go (by namespace and name; not reserved, not of a StatefulSet or VM, not a node's, "
        "u2o or querier address), its subnet is gone (A) or terminating (B), and its release is overdue, or its finalizer "
        "was taken off by somebody other than who put it on (a hand repair: healed)."
    )
    upstream = ("kube-ovn#4898", "kube-ovn#5364", "kube-ovn#5775", "kube-ovn#6275", "kube-ovn#4243")
    watches: ClassVar = {kind: begin_and_end(kind) for kind in ("ip", "pod", "subnet")}

    def __init__(self, reactions: Reactions) -> None:
        self._reactions = reactions
        self._pods: dict[Key, Departed] = {}  # IP: how its pod went
        self._subnets: dict[Key, tuple[str, int, int, int]] = {}  # IP: subnet, its deletion, its end, time of the first
        self._ips: dict[Key, tuple[str, int, int]] = {}  # IP: uid, born, born time; of those that lost pod or subnet
        self._releases: list[_Release] = []

    # ---- folding

    def apply(self, event: Event, at: int, world: World) -> None:
        if event.type == OBSERVED:
            return
        match event.key.kind:
            case "ip":
                self._ip(event, at, world)
            case "pod":
                self._pod(event, world)
            case "subnet":
                self._subnet(event, at, world)

    def _ip(self, event: Event, at: int, world: World) -> None:
        key, vocabulary = event.key, VOCABULARY["ip"]
        ip = world.get(key)
        if ip is None:
            self._released(event, at, world)
            return
        if event.happened in vocabulary.beginnings:
            self._forget(key)
            holder = pod_of(key, ip.fields)
            if holder is not None and (departed := world.gone(holder)) is not None and departed.seen:
                self._pods[key] = departed
            name = subnet_of(ip.fields)
            subnet_key = Key("subnet", "", name)
            if (gone := world.gone(subnet_key)) is not None and gone.seen:
                self._subnets[key] = (name, gone.deletion_at, gone.at, gone.time)
            elif (subnet := world.get(subnet_key)) is not None and subnet.terminating:
                self._subnets[key] = (name, subnet.deletion_at, 0, subnet.deletion_time)
            self._ips[key] = (ip.uid, ip.born_at, ip.born_time)

    def _pod(self, event: Event, world: World) -> None:
        vocabulary = VOCABULARY["pod"]
        if event.happened == vocabulary.ended:
            departed = world.gone(event.key)
            for ip in world.naming(event.key, "ip"):
                if departed is not None and not survives_its_pod(ip.fields):
                    self._pods[ip.key] = departed
        elif event.happened in (vocabulary.begun, vocabulary.sighted):
            for ip in world.naming(event.key, "ip"):
                self._pods.pop(ip.key, None)

    def _subnet(self, event: Event, at: int, world: World) -> None:
        vocabulary = VOCABULARY["subnet"]
        if event.happened in (vocabulary.begun, vocabulary.sighted):
            for ip in world.naming(event.key, "ip"):
                self._subnets.pop(ip.key, None)
        elif event.happened in (
            vocabulary.deletion_requested,
            vocabulary.ended,
            vocabulary.sighted_terminating,
        ):
            ended = event.happened == vocabulary.ended
            for ip in world.naming(event.key, "ip"):
                _, deletion, _, time = self._subnets.get(ip.key, ("", at if not ended else 0, 0, event.time))
                self._subnets[ip.key] = (event.key.name, deletion, at if ended else 0, time)

    def _released(self, event: Event, at: int, world: World) -> None:
        key = event.key
        left, known, pod = self._left(key), self._ips.get(key), self._pods.get(key)
        departed = world.gone(key)
        self._forget(key)
        if departed is None or not departed.seen or known is None:
            return
        if not departed.by_hand:
            # Its own controller released it: however late, somebody was left to do so, and it was not leaked.
            if pod is not None:
                self._reactions.seen(TRIGGER, event.time - max(pod.time, known[2]))
        elif left is not None:
            span = event.time - left.since_time
            self._releases.append(_Release(key, known[0], known[1], left, at, span))

    def _forget(self, key: Key) -> None:
        for kept in (self._pods, self._subnets, self._ips):
            kept.pop(key, None)

    def _left(self, key: Key) -> _Left | None:
        """Since when an address has neither pod nor subnet; `None` while it has one of them."""
        pod, subnet, known = self._pods.get(key), self._subnets.get(key), self._ips.get(key)
        if pod is None or subnet is None or known is None:
            return None
        name, deletion, gone, time = subnet
        since, since_time = max((pod.at, pod.time), (gone or deletion, time), (known[1], known[2]), key=lambda p: p[1])
        return _Left(pod, name, deletion, gone, since, since_time)

    def _candidate(self, world: World, key: Key) -> tuple[Resource, _Left] | None:
        ip = world.get(key)
        left = self._left(key)
        if ip is None or left is None or ip.blurred or survives_its_pod(ip.fields) or not ip.finalizers:
            return None
        return ip, left

    def concerns(self, key: Key) -> bool:
        """Whether this IP is left by pod and subnet: its own deletion is a consequence then, and no second finding."""
        return self._left(key) is not None

    def told_of(self, removed: int) -> bool:
        """Whether the IP that went with the last event, at this place, is told of as leaked, and released by hand."""
        return bool(self._releases) and self._releases[-1].removed == removed

    def leaked(self, conclusion: Conclusion) -> set[Key]:
        """The IPs that are leaked now."""
        found = set()
        for key in self._pods:
            candidate = self._candidate(conclusion.world, key)
            if candidate is not None and _is_overdue(conclusion, candidate[1]):
                found.add(key)
        return found

    # ---- concluding

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        for key in self._pods:
            candidate = self._candidate(conclusion.world, key)
            if candidate is not None:
                yield self._tell(conclusion, *candidate)

    def over(self) -> Sequence[Sequence[Any]]:
        return (self._releases,)

    def ended(self, fault: _Release) -> int:
        return fault.removed

    def terms(self, conclusion: Conclusion, fault: _Release) -> Terms:
        return Terms(fault.key)

    def tell_over(self, conclusion: Conclusion, fault: _Release, notes: Notes) -> Finding:
        return self._tell_release(conclusion, fault)

    def _tell(self, conclusion: Conclusion, ip: Resource, left: _Left) -> Finding:
        overdue = _is_overdue(conclusion, left)
        explanation = self._story(conclusion, ip.born_at, left)
        if ip.deletion_at:
            explanation += f" A delete by {conclusion.said(ip.deletion_at)} only marked it: the finalizer stays on."
        late = seconds(conclusion.overdue.end - left.since_time)
        explanation += f" For {late} nobody has released it."
        position = ip.finalizers.index(FINALIZER) if FINALIZER in ip.finalizers else 0
        repair = [
            Step(f"kubectl get {kubectl(ip.key)} -o yaml", "check that its pod and its subnet are really gone"),
        ]
        if not ip.terminating:
            repair.append(Step(f"kubectl delete {kubectl(ip.key)} --wait=false", "marks it as going"))
        repair.append(
            Step(
                guarded_patch(
                    ip.key,
                    ip.revision if ip.terminating else None,
                    f'{{"op":"remove","path":"/metadata/finalizers/{position}"}}',
                ),
                "takes the finalizer off, and the object goes; nothing else uses the address",
            )
        )
        return self.finding(
            status=OPEN if overdue else PENDING,
            key=ip.key,
            uid=ip.uid,
            field="metadata.finalizers",
            reported=ip.finalizers,
            lawful=[],
            since=left.since,
            witnesses=self._witnesses(ip.born_at, left, ip.deletion_at),
            explanation=explanation,
            consequence=(
                "The address is never given out again, and a subnet of that name can never go while it is there."
                if left.subnet_gone
                else f"Subnet {left.subnet_name} waits for it in deletion."
            ),
            repair=repair,
            follows=Key("subnet", "", left.subnet_name),
        )

    def _tell_release(self, conclusion: Conclusion, release: _Release) -> Finding:
        event = conclusion.event(release.removed)
        return self.finding(
            status=HEALED,
            key=release.key,
            uid=release.uid,
            since=release.left.since,
            until=release.removed,
            field="metadata.finalizers",
            witnesses=[
                *self._witnesses(release.born, release.left, 0),
                *witnesses(("healing", [release.removed])),
            ],
            explanation=(
                f"{self._story(conclusion, release.born, release.left)} {short(event.actor)} took its finalizer off "
                f"by hand at {clock(event.time)}, {seconds(release.span)} after it was left."
            ),
            consequence="Until then the address could not be given out, and its subnet could not go.",
            follows=Key("subnet", "", release.left.subnet_name),
        )

    def _story(self, conclusion: Conclusion, born: int, left: _Left) -> str:
        event = conclusion.event(born)
        made = (
            f"{called(event.key)} was made by {conclusion.said(born)}"
            if event.happened == "IPAllocated"
            else f"{called(event.key)} is older than the log"
        )
        subnet = (
            f"Subnet {left.subnet_name} went at {clock(conclusion.event(left.subnet_gone).time)}"
            if left.subnet_gone
            else f"Subnet {left.subnet_name} is in deletion"
            + (f" since {clock(conclusion.event(left.subnet_deletion).time)}" if left.subnet_deletion else "")
        )
        order = ", after its subnet had gone" if left.subnet_gone and born > left.subnet_gone else ""
        return f"{made}{order}. {subnet}, and its pod went at {clock(left.pod.time)}."

    def _witnesses(self, born: int, left: _Left, deletion: int) -> list:  # type: ignore[type-arg]
        return witnesses(
            ("created", [born]),
            ("cause", [left.subnet_deletion, left.subnet_gone, left.pod.deletion_at, left.pod.at]),
            ("consequence", [deletion]),
        )


def _is_overdue(conclusion: Conclusion, left: _Left) -> bool:
    """Whether the release is overdue; that the subnet is gone already is what stops a controller (kube-ovn#4898)."""
    return conclusion.overdue.since(TRIGGER, left.since_time, cause_seen=bool(left.subnet_gone))
