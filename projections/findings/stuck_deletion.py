"""NL102 stuck-deletion: an object that is terminating and will stay so, because nothing is left that would free it.

Two ways: what its guard counts is a ghost or leaked, so it never goes (at once); or nothing that its guard counts is
left, and the controller is overdue. Waiting for a living holder is never stuck. `leaked_ip` is next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from domain.events import OBSERVED, Event
from domain.kinds import HOLDERS, VOCABULARY
from domain.resources import FINALIZER, Key
from domain.world import Resource, World
from projections import vpc_status
from projections.findings.leaked_ip import LeakedIP
from projections.findings.lost_update import LostUpdate
from projections.findings.overdue import FLOOR, GUARD, Reactions, release_of
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
    called,
    guarded_patch,
    kubectl,
    seconds,
    witnesses,
)

_PREFIX = {
    "subnet": "Subnet",
    "ip": "IP",
    "eip": "EIP",
    "fip": "FIP",
    "snat": "SNAT",
    "dnat": "DNAT",
    "oeip": "OvnEIP",
    "ofip": "OvnFIP",
    "osnat": "OvnSNAT",
    "odnat": "OvnDNAT",
    "nat-gateway": "NatGateway",
}

DEPARTURES_KEPT = 16


class _Wait(NamedTuple):
    """A deletion that ended by hand: from its trigger to its removal, for when the limit is known."""

    key: Key
    uid: str
    deletion: int
    trigger_at: int
    departures: tuple[int, ...]
    removed: int
    span: int


class StuckDeletion(Rule):
    """NL102."""

    code = "NL102"
    name = "stuck-deletion"
    severity = ERROR
    fires = (
        "an object is terminating, its finalizer is on, and (a) what its guard counts is a ghost or leaked, at once, or "
        "(b) nothing that its guard counts is left and the controller is overdue. Waiting for a living holder is never stuck."
    )
    upstream = ("kube-ovn#5220", "kube-ovn#4898", "kube-ovn#4243", "kube-ovn#6092", "kube-ovn#7210")
    watches: ClassVar = {
        kind: ALL if kind == "vpc" else begin_and_end(kind, f"{_PREFIX[kind]}Guarded") for kind in HOLDERS
    }

    def __init__(self, lost_update: LostUpdate, leaked_ip: LeakedIP, reactions: Reactions) -> None:
        self._lost_update = lost_update
        self._leaked_ip = leaked_ip
        self._reactions = reactions
        self._departures: dict[Key, list[tuple[int, int]]] = {}  # holder's target: (place, time) of those that went
        self._by_hand: dict[Key, bool] = {}  # holder's target: whether the last that went was released by hand
        self._ghosted: dict[Key, int] = {}  # since when a terminating VPC waits for a ghost
        self._unghosted: list[tuple[Key, str, int, int, int, frozenset[str]]] = []
        self._ghosts: dict[Key, frozenset[str]] = {}
        self._waits: list[_Wait] = []
        self._terminating: dict[Key, tuple[str, int, int, bool]] = {}

    # ---- folding

    def apply(self, event: Event, at: int, world: World) -> None:
        key = event.key
        vocabulary = VOCABULARY[key.kind]
        resource = world.get(key)
        if event.type != OBSERVED:
            if event.happened == vocabulary.ended:
                self._departed(event, at, world)
            if resource is None:
                self._removed(event, at, world)
            elif resource.terminating and resource.finalizers:
                known = bool(resource.deletion_at) and resource.seen_from_birth
                self._terminating[key] = (resource.uid, resource.deletion_at, resource.deletion_time, known)
            elif event.type.endswith("Guarded") and resource.seen_from_birth:
                span = event.time - resource.born_time
                if span <= FLOOR:  # one that comes later is an upgrade's, not a reaction to the create
                    self._reactions.seen(GUARD, span)
        for vpc in [key] if key.kind == "vpc" else list(self._ghosted):
            self._watch_ghosts(vpc, at, world)

    def _departed(self, event: Event, at: int, world: World) -> None:
        for tag in event.tags:
            kind, _, name = tag.partition(":")
            if event.key.kind not in HOLDERS.get(kind, ()):
                continue
            target = Key(kind, "", name)
            if target in world.live:
                departures = self._departures.setdefault(target, [])
                departures.append((at, event.time))
                del departures[:-DEPARTURES_KEPT]
                departed = world.gone(event.key)
                self._by_hand[target] = departed is not None and departed.by_hand

    def _removed(self, event: Event, at: int, world: World) -> None:
        departures = self._departures.pop(event.key, [])
        self._by_hand.pop(event.key, None)
        wait = self._terminating.pop(event.key, None)
        departed = world.gone(event.key)
        if wait is None or departed is None or not departed.seen or not wait[3]:
            return
        uid, deletion, deletion_time, _ = wait
        last_at, last_time = max([(deletion, deletion_time), *departures[-1:]], key=lambda pair: pair[1])
        span = event.time - last_time
        if not departed.by_hand:
            # Its own controller let it go: however late, it was not stuck.
            if event.key.kind != "ip":  # an IP's release is measured from its pod's end
                self._reactions.seen(release_of(event.key.kind), span)
            return
        held = any(True for kind in HOLDERS[event.key.kind] for _ in world.naming(event.key, kind))
        if not held and span > FLOOR and not (event.key.kind == "ip" and self._leaked_ip.told_of(at)):
            places = tuple(place for place, _ in departures)
            self._waits.append(_Wait(event.key, uid, deletion, last_at, places, at, span))

    def _watch_ghosts(self, key: Key, at: int, world: World) -> None:
        """Since when, and until when, a terminating VPC lists a subnet that a lost update put back."""
        vpc = world.get(key)
        ghosts = (
            self._lost_update.ghosts(key) if vpc is not None and vpc.terminating and vpc.finalizers else frozenset()
        )
        if ghosts:
            self._ghosted.setdefault(key, at)
            self._ghosts[key] = ghosts
        elif key in self._ghosted:
            since = self._ghosted.pop(key)
            wait = self._terminating.get(key)
            uid, deletion = (vpc.uid, vpc.deletion_at) if vpc is not None else (wait[0], wait[1]) if wait else ("", 0)
            self._unghosted.append((key, uid, deletion, since, at, self._ghosts.pop(key)))

    # ---- concluding

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        leaked: frozenset[Key] | None = None
        for key in self._terminating:
            resource = conclusion.world.get(key)
            if resource is not None and resource.terminating and resource.finalizers and not resource.blurred:
                if leaked is None:
                    leaked = frozenset(self._leaked_ip.leaked(conclusion))
                yield from self._judge(conclusion, resource, leaked)

    def over(self) -> Sequence[Sequence[Any]]:
        return self._unghosted, self._waits

    def ended(self, fault: _Wait | tuple[Any, ...]) -> int:
        return fault.removed if isinstance(fault, _Wait) else int(fault[4])

    def terms(self, conclusion: Conclusion, fault: _Wait | tuple[Any, ...]) -> Terms:
        if isinstance(fault, _Wait):
            return Terms((fault.key, fault.uid), trigger=release_of(fault.key.kind), span=fault.span)
        return Terms((fault[0], fault[1]))

    def tell_over(self, conclusion: Conclusion, fault: _Wait | tuple[Any, ...], notes: Notes) -> Finding:
        if isinstance(fault, _Wait):
            return self.finding(
                status=HEALED,
                key=fault.key,
                uid=fault.uid,
                since=fault.trigger_at,
                until=fault.removed,
                witnesses=witnesses(
                    ("cause", [fault.deletion]), ("released", fault.departures), ("healing", [fault.removed])
                ),
                explanation=(
                    f"{called(fault.key)} was in deletion with nothing left to wait for; "
                    f"{conclusion.said(fault.removed)} took its finalizer off by hand, {seconds(fault.span)} later."
                ),
                consequence="Whatever waited for its name or its addresses waited with it.",
            )
        key, uid, deletion, since, until, ghosts = fault
        return self.finding(
            status=HEALED,
            key=key,
            uid=uid,
            since=since,
            until=until,
            witnesses=witnesses(("cause", [deletion]), ("overwriting", [since]), ("healing", [until])),
            explanation=f"{called(key)} was in deletion and waited for {', '.join(sorted(ghosts))}, which was gone.",
            consequence="It could not go until its status was put right.",
            follows=key,
        )

    def _judge(self, conclusion: Conclusion, resource: Resource, leaked: frozenset[Key]) -> Iterator[Finding]:
        world, key = conclusion.world, resource.key
        if key.kind == "vpc" and key in self._ghosted:
            ghosts = sorted(self._lost_update.ghosts(key))
            yield self._stuck(
                conclusion,
                resource,
                since=self._ghosted[key],
                status=OPEN,
                why=f"its guard counts status.subnets, which lists {', '.join(ghosts)}, gone, but put back by a lost update",
                follows=key,
                cited=[("overwriting", [self._lost_update.opened_at(key)])],
            )
            return
        holders = [h for kind in HOLDERS[key.kind] for h in world.naming(key, kind)]
        leaks = {h.key for h in holders} & leaked
        if leaks and len(leaks) == len(holders):
            first = min(leaks)
            yield self._stuck(
                conclusion,
                resource,
                since=resource.deletion_at,
                status=OPEN,
                why=f"all that is left in it has leaked: {', '.join(str(leak) for leak in sorted(leaks)[:4])}",
                follows=first,
                cited=[("holder", [world.live[leak].born_at for leak in sorted(leaks)][:8])],
            )
            return
        if holders or (key.kind == "ip" and self._leaked_ip.concerns(key)) or not self._nothing_unseen(world, resource):
            return
        departures = self._departures.get(key, [])
        last = max([(resource.deletion_at, resource.deletion_time), *departures], key=lambda pair: pair[1])
        overdue = conclusion.overdue.since(release_of(key.kind), last[1], cause_seen=self._by_hand.get(key, False))
        late = seconds(conclusion.overdue.end - last[1])
        yield self._stuck(
            conclusion,
            resource,
            since=last[0],
            status=OPEN if overdue else PENDING,
            why=f"nothing that its guard counts is left, and for {late} the controller has not taken the finalizer off",
            cited=[
                ("released", [place for place, _ in departures]),
                ("last-chance", [resource.last_at]),
            ],
        )

    def _nothing_unseen(self, world: World, resource: Resource) -> bool:
        """Whether the log can tell that no holder is left: it saw the object made, or its own count says none."""
        if resource.key.kind == "vpc":
            listed = resource.get(vpc_status.SUBNETS) or []
            known = [world.gone(Key("subnet", "", str(name))) is not None for name in listed]
            return all(known) and (resource.seen_from_birth or not listed)
        if resource.seen_from_birth:
            return True
        if resource.key.kind == "subnet":
            return not resource.get("status.v4usingIPs") and not resource.get("status.v6usingIPs")
        return not HOLDERS[resource.key.kind]

    def _stuck(
        self,
        conclusion: Conclusion,
        resource: Resource,
        *,
        since: int,
        status: str,
        why: str,
        cited: list[tuple[str, list[int]]],
        follows: Key | None = None,
    ) -> Finding:
        key = resource.key
        deletion = conclusion.said(resource.deletion_at) if resource.deletion_at else "somebody, before this log"
        finalizer = resource.finalizers.index(FINALIZER) if FINALIZER in resource.finalizers else 0
        return self.finding(
            status=status,
            key=key,
            uid=resource.uid,
            field="metadata.finalizers",
            reported=resource.finalizers,
            lawful=[],
            since=since,
            witnesses=witnesses(("cause", [resource.deletion_at]), *cited),
            explanation=f"{called(key)} was deleted by {deletion}, and is still there: {why}.",
            consequence=_CONSEQUENCES.get(key.kind, "It stays in deletion, and its name cannot be used again."),
            follows=follows,
            repair=[]
            if follows is not None
            else [
                Step(f"kubectl get {kubectl(key)} -o yaml", "check that nothing it should wait for is left"),
                Step(
                    guarded_patch(
                        key,
                        resource.revision,
                        f'{{"op":"remove","path":"/metadata/finalizers/{finalizer}"}}',
                    ),
                    "takes the finalizer off, and the object goes; what the controller would have cleaned up in OVN "
                    "stays until its garbage collection runs",
                ),
            ],
        )


_CONSEQUENCES = {
    "vpc": "The VPC stays in deletion, its logical router stays in OVN, and its name cannot be used again.",
    "subnet": "The subnet stays in deletion: its range cannot be used again, and its VPC cannot go either.",
    "ip": "The IP object stays in deletion and holds its subnet.",
    "eip": "The EIP stays in deletion and keeps its external address.",
    "oeip": "The OvnEip stays in deletion and keeps its external address.",
}
