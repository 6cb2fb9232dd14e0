"""NL101 lost-update: a write put back what an earlier write had removed, and nothing since made that right again.

It goes member by member: a list is the members in it, a single value is one member, a count is compared with what was
counted. Only claims that have a lawful value are looked at; `ready` is `ready_without_configuration`'s. A member counts
as wrong only if the log knows that it is: what it never heard of is unknown. `stuck_deletion` is next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from domain.events import OBSERVED, Event
from domain.kinds import VOCABULARY
from domain.nat_rule import RULES
from domain.resources import Key
from domain.subnet import serves_its_vpc
from domain.world import Resource, World
from projections import eip_readiness, ip_usage, vpc_status
from projections.findings.rule import (
    ALL,
    ERROR,
    HEALED,
    OPEN,
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
    short,
    witnesses,
)

CLAIMS = {
    "vpc": (vpc_status.SUBNETS, vpc_status.PEERS, vpc_status.SWITCH),
    "subnet": (ip_usage.USING[4], ip_usage.USING[6]),
    "eip": (eip_readiness.NAT,),
}
COUNTS = frozenset(ip_usage.USING.values())
VALUES_KEPT = 16
"""How many values of one claim are remembered, for the revisions that a stale writer may have read."""


class _Value(NamedTuple):
    """What a claim said over a stretch of its object's revisions: places and revisions of the first and last write."""

    members: frozenset[str]
    first: int
    first_revision: int | None
    last: int
    last_revision: int | None


class _Claim:
    """The history of one field of one object, as far as a lost update needs it."""

    __slots__ = ("added", "removed", "spec_writes", "values")

    def __init__(self) -> None:
        self.values: list[_Value] = []
        self.removed: dict[str, tuple[int, int]] = {}  # member: by which write, and when
        self.added: dict[str, tuple[int, int]] = {}
        self.spec_writes: list[int] = []


class _Right(NamedTuple):
    """Whether a member belongs in a claim, since which place, and at what time where that place rests on time alone."""

    right: bool | None
    since: int = 0
    time: int | None = None


class _Fault(NamedTuple):
    """One lost update that was seen."""

    key: Key
    uid: str
    field: str
    extra: frozenset[str]  # put back, though they should not be there
    missing: frozenset[str]  # dropped, though they should be
    lost: int
    overwriting: int
    basis: _Value | None
    read_revision: int | None
    spec_writes: tuple[int, ...]
    causes: dict[str, list[int]]
    reported: Any
    lawful: Any = None  # what it should have been when it was overwritten
    margin: int | None = (
        None  # microseconds between the lost write and what made it right, where that rests on time alone
    )


class LostUpdate(Rule):
    """NL101."""

    code = "NL101"
    name = "lost-update"
    severity = ERROR
    fires = (
        "a write moves a claim that has a lawful value (a VPC's subnets, peers and default switch, a Subnet's counts of "
        "used addresses, an EIP's nat) away from it, back to what an earlier write on the same object had removed, with "
        "nothing since that makes it lawful again. A re-created namesake does; a plain A-B-A of any other field is nothing."
    )
    upstream = ("kube-ovn#5220", "kube-ovn#6650", "kube-ovn#6350", "kube-ovn#7215", "kube-ovn#2887")
    watches: ClassVar = {
        "vpc": ALL,
        "subnet": ALL,
        "eip": ALL,
        "ip": begin_and_end("ip"),
        **{kind: begin_and_end(kind, f"{kind.upper()}Retargeted") for kind in RULES},
    }

    def __init__(self) -> None:
        self._claims: dict[Key, dict[str, _Claim]] = {}
        self._open: dict[tuple[Key, str], _Fault] = {}
        self._healed: list[tuple[_Fault, int]] = []
        self._usage = ip_usage.Usage()
        self._rules_gone: dict[Key, dict[str, int]] = {}  # EIP: of each kind of rule, when its last went
        self._moved: dict[Key, int] = {}  # subnet: when it came to name another VPC

    # ---- folding

    def apply(self, event: Event, at: int, world: World) -> None:
        key = event.key
        resource = world.get(key)
        vocabulary = VOCABULARY[key.kind]
        if event.type == OBSERVED:
            return
        self._neighbours(event, at, world)
        if key.kind not in CLAIMS:
            return
        if resource is None:
            self._end(key, at)
            return
        if event.happened in vocabulary.beginnings:
            self._end(key, at)
            self._claims[key] = {}
        claims = self._claims.setdefault(key, {})
        for field in CLAIMS[key.kind]:
            if field in event.changed:
                self._written(event, at, world, resource, field, claims.setdefault(field, _Claim()))
            elif (claim := claims.get(field)) is not None and claim.values and event.revision is not None:
                last = claim.values[-1]
                claim.values[-1] = last._replace(last=at, last_revision=event.revision)
                if any(path.startswith("spec.") for path in event.changed):
                    claim.spec_writes = [*claim.spec_writes, at][-8:]

    def _written(self, event: Event, at: int, world: World, resource: Resource, field: str, claim: _Claim) -> None:
        before = members_of(field, event.changed[field][0])
        after = members_of(field, event.changed[field][1])
        if event.revision is None:
            return
        first_seen = not claim.values
        if not first_seen:
            self._heal_if_lawful(world, resource, field, at)
            extra = frozenset(m for m in after - before if self._put_back(world, resource, field, m, claim))
            missing = frozenset(m for m in before - after if self._dropped(world, resource, field, m, claim))
            if extra or missing:
                self._fault(event, at, world, resource, field, claim, extra, missing)
        for member in before - after:
            claim.removed[member] = (at, event.time)
            claim.added.pop(member, None)
        for member in after - before:
            claim.removed.pop(member, None)
            claim.added[member] = (at, event.time)
        claim.values = [*claim.values, _Value(after, at, event.revision, at, event.revision)][-VALUES_KEPT:]

    def _put_back(self, world: World, resource: Resource, field: str, member: str, claim: _Claim) -> bool:
        """Whether a member came back that an earlier write had taken out, and that was never right since."""
        removed = claim.removed.get(member)
        if not removed:
            return False
        right, since, _ = self._right(world, resource, field, member)
        return right is False and since <= removed[0]

    def _dropped(self, world: World, resource: Resource, field: str, member: str, claim: _Claim) -> bool:
        """Whether a member went that an earlier write had put in, and that was right all the time since."""
        if field in COUNTS:
            return False  # a count is one member: what came instead of it is looked at
        added = claim.added.get(member)
        if not added:
            return False
        right, since, _ = self._right(world, resource, field, member)
        return right is True and since <= added[0]

    def _fault(
        self,
        event: Event,
        at: int,
        world: World,
        resource: Resource,
        field: str,
        claim: _Claim,
        extra: frozenset[str],
        missing: frozenset[str],
    ) -> None:
        writes = {member: claim.removed[member] for member in extra} | {m: claim.added[m] for m in missing}
        lost = max(place for place, _ in writes.values())
        margins = [
            writes[member][1] - time
            for member in extra | missing
            if (time := self._right(world, resource, field, member)[2]) is not None
        ]
        margin = min(margins, default=None)
        basis = next(
            (v for v in reversed(claim.values) if v.last < lost and extra <= v.members and not missing & v.members),
            None,
        )
        causes: dict[str, list[int]] = {}
        for member in sorted(extra | missing):
            causes[member] = self._causes(world, resource, field, member)
        slot = (resource.key, field)
        before = self._open.get(slot)
        if before is not None:  # one finding a resource and field: a second write of the same kind makes it no other
            extra, missing, lost = extra | before.extra, missing | before.missing, before.lost
            causes = {**causes, **before.causes}
            basis, margin = before.basis, before.margin
        fault = _Fault(
            key=resource.key,
            uid=resource.uid,
            field=field,
            extra=extra,
            missing=missing,
            lost=lost,
            overwriting=at,
            basis=basis,
            read_revision=event.read_revision,
            spec_writes=tuple(place for place in claim.spec_writes if basis is None or place >= basis.first),
            causes=causes,
            reported=event.changed[field][1],
            margin=margin,
        )
        self._open[slot] = fault._replace(lawful=self._lawful(world, resource, fault))

    def _neighbours(self, event: Event, at: int, world: World) -> None:
        """What makes a claim right or wrong without a write to it."""
        key, vocabulary = event.key, VOCABULARY[event.key.kind]
        match key.kind:
            case "subnet":
                if "spec.vpc" in event.changed:
                    self._moved[key] = at
                if key not in world.live:
                    self._moved.pop(key, None)
                self._usage.apply(event, at, world)
                for fault in list(self._open.values()):
                    if fault.field in (vpc_status.SUBNETS, vpc_status.SWITCH) and key.name in fault.causes:
                        if event.happened in (vocabulary.deletion_requested, vocabulary.ended):
                            fault.causes[key.name].append(at)
                        self._heal_if_lawful(world, world.get(fault.key), fault.field, at)
            case "ip":
                subnet = self._usage.apply(event, at, world)
                if subnet is not None:
                    for field in COUNTS:
                        self._heal_if_lawful(world, world.get(subnet), field, at)
            case kind if kind in RULES:
                for name in (tag.removeprefix("eip:") for tag in event.tags if tag.startswith("eip:")):
                    eip = world.get(Key("eip", "", name))
                    if eip is None:
                        continue
                    gone = self._rules_gone.setdefault(eip.key, {})
                    if kind in eip_readiness.rules_on(world, eip):
                        gone.pop(kind, None)
                    else:
                        gone.setdefault(kind, at)

    def _right(self, world: World, resource: Resource, field: str, member: str) -> _Right:
        """Whether a member belongs in a claim now, and since when; `None` where the log cannot tell."""
        if field == vpc_status.PEERS:
            listed = member in vpc_status.peers_of(resource)
            claim = self._claims[resource.key].get(field)
            since = claim.spec_writes[-1] if claim and claim.spec_writes else resource.born_at
            return _Right(listed, since)
        if field in (vpc_status.SUBNETS, vpc_status.SWITCH):
            return self._subnet_belongs(world, resource, field, member)
        if field in COUNTS:
            if not resource.seen_from_birth or resource.blurred or not serves_its_vpc(resource.fields):
                return _Right(None)  # of an external subnet, EIPs and others count too
            version = next(v for v, name in ip_usage.USING.items() if name == field)
            if str(self._usage.using(resource.key, version)) == member:
                return _Right(True)
            place, time = self._usage.last_was(resource.key, version, _whole(member))
            return _Right(False, place, time)
        if member in eip_readiness.rules_on(world, resource):
            return _Right(True, min(r.born_at for r in world.naming(resource.key, member) if not r.terminating))
        gone = self._rules_gone.get(resource.key, {}).get(member)
        return _Right(None) if gone is None else _Right(False, gone)

    def _subnet_belongs(self, world: World, vpc: Resource, field: str, name: str) -> _Right:
        key = Key("subnet", "", name)
        subnet = world.get(key)
        if subnet is None:
            departed = world.gone(key)
            if departed is None or not departed.seen:
                return _Right(None)
            if departed.deletion_at:
                return _Right(False, departed.deletion_at)
            return _Right(False, departed.at, departed.time)
        if subnet.blurred:
            return _Right(None)
        here = subnet.get("spec.vpc") == vpc.key.name and serves_its_vpc(subnet.fields)
        if not here:
            return _Right(False, max(subnet.born_at, self._moved.get(key, 0)))
        if subnet.terminating:
            return _Right(False, subnet.deletion_at or subnet.born_at)
        since = max(subnet.born_at, self._moved.get(key, 0))
        if field == vpc_status.SWITCH:
            return _Right(True, since) if vpc_status.is_default_switch(world, vpc, name) else _Right(None)
        return _Right(True, since)

    def _causes(self, world: World, resource: Resource, field: str, member: str) -> list[int]:
        """The events that made a member right or wrong."""
        if field not in (vpc_status.SUBNETS, vpc_status.SWITCH):
            return []
        key = Key("subnet", "", member)
        subnet = world.get(key)
        if subnet is not None:
            return [place for place in (subnet.deletion_at or subnet.born_at,) if place]
        departed = world.gone(key)
        return [place for place in (departed.deletion_at, departed.at) if place] if departed else []

    def _heal_if_lawful(self, world: World, resource: Resource | None, field: str, at: int) -> None:
        if resource is None:
            return
        fault = self._open.get((resource.key, field))
        if fault is None:
            return
        now = members_of(field, resource.get(field))
        wrong = any(self._right(world, resource, field, m)[0] is False for m in fault.extra & now)
        wrong = wrong or any(self._right(world, resource, field, m)[0] is True for m in fault.missing - now)
        if not wrong:
            self._healed.append((self._open.pop((resource.key, field)), at))

    def _end(self, key: Key, at: int) -> None:
        """An object is gone: what was wrong with it is over."""
        self._claims.pop(key, None)
        self._rules_gone.pop(key, None)
        for slot in [slot for slot in self._open if slot[0] == key]:
            self._healed.append((self._open.pop(slot), at))

    def ghosts(self, key: Key) -> frozenset[str]:
        """The names that an open lost update put back into a VPC's `status.subnets`: nobody will take them out again."""
        fault = self._open.get((key, vpc_status.SUBNETS))
        return fault.extra if fault is not None else frozenset()

    def opened_at(self, key: Key) -> int:
        """When that lost update happened."""
        fault = self._open.get((key, vpc_status.SUBNETS))
        return fault.overwriting if fault is not None else 0

    # ---- concluding

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        for fault in self._open.values():
            if fault.margin is not None and fault.margin <= conclusion.uncertainty:
                continue  # whether it was right before the lost write or after is for the clocks to say
            finding = self._tell(conclusion, fault, None)
            finding.occurrence = over.told(_slot(fault))
            yield finding

    def over(self) -> Sequence[Sequence[Any]]:
        return (self._healed,)

    def ended(self, fault: tuple[_Fault, int]) -> int:
        return fault[1]

    def terms(self, conclusion: Conclusion, fault: tuple[_Fault, int]) -> Terms:
        one, until = fault
        doubtful = conclusion.brief(one.overwriting, until)
        return Terms(_slot(one), doubtful if one.margin is None else min(doubtful, one.margin))

    def tell_over(self, conclusion: Conclusion, fault: tuple[_Fault, int], notes: Notes) -> Finding:
        return self._tell(conclusion, *fault)

    def _tell(self, conclusion: Conclusion, fault: _Fault, until: int | None) -> Finding:
        world, lost, over = (
            conclusion.world,
            conclusion.event(fault.lost),
            conclusion.event(fault.overwriting),
        )
        resource = world.get(fault.key) if until is None else None
        lawful = self._lawful(world, resource, fault) if resource is not None else fault.lawful
        basis = fault.basis
        revisions: tuple[int, int] | None = None
        if fault.read_revision is not None:
            revisions = (fault.read_revision, fault.read_revision)
        elif basis is not None and basis.first_revision is not None and basis.last_revision is not None:
            revisions = (basis.first_revision, basis.last_revision)
        causes = [place for places in fault.causes.values() for place in places]
        deletion = resource.deletion_at if resource is not None else 0
        cited = witnesses(
            ("lost", [fault.lost]),
            ("overwriting", [fault.overwriting]),
            ("cause", causes),
            ("basis", [basis.first, basis.last] if basis else []),
            ("basis", fault.spec_writes[-4:]),
            ("healing", [until] if until else []),
            ("consequence", [deletion]),
        )
        what = _members(fault)
        read = (
            f"Its writer had read revision {fault.read_revision}."
            if fault.read_revision is not None
            else (
                f"Its writer had read what revisions {revisions[0]} to {revisions[1]} said (inferred)."
                if revisions
                else "What it had read, the log does not show."
            )
        )
        why = self._why(conclusion, fault, until)
        who = "the same user" if over.actor == lost.actor else short(over.actor)
        explanation = (
            f"{short(lost.actor)} wrote {fault.field} at {clock(lost.time)} (revision {lost.revision}), and {who} "
            f"overwrote that at {clock(over.time)} (revision {over.revision}): {what}. {read} {why}"
        ).strip()
        if until is not None:
            heal = conclusion.event(until)
            explanation += f" It was put right by {short(heal.actor)} at {clock(heal.time)} ({heal.happened})."
        return self.finding(
            status=OPEN if until is None else HEALED,
            key=fault.key,
            uid=fault.uid,
            field=fault.field,
            reported=resource.get(fault.field) if resource is not None else fault.reported,
            lawful=lawful,
            since=fault.overwriting,
            until=until,
            known=fault.read_revision is not None,
            revisions=revisions,
            witnesses=cited,
            explanation=explanation,
            consequence=self._consequence(fault),
            repair=self._repair(resource, fault, lawful) if resource is not None else [],
        )

    def _lawful(self, world: World, resource: Resource, fault: _Fault) -> Any:
        if fault.key.kind == "vpc":
            now = members_of(fault.field, resource.get(fault.field))
            right = sorted((now - fault.extra) | fault.missing)
            return right if fault.field != vpc_status.SWITCH else (right[0] if right else "")
        if fault.field in COUNTS:
            return ip_usage.standing(world, resource).lawful[fault.field]
        return ",".join(eip_readiness.rules_on(world, resource))

    def _why(self, conclusion: Conclusion, fault: _Fault, until: int | None) -> str:
        told = []
        for member in sorted(fault.extra):
            places = fault.causes.get(member) or []
            if places and fault.key.kind == "vpc":
                went = conclusion.event(places[0]).happened in ("SubnetDeletionRequested", "SubnetRemoved")
                told.append(
                    f"Subnet {member} was deleted by {conclusion.said(places[0])}, before the write that was lost."
                    if went
                    else f"Subnet {member} belongs to another VPC."
                )
        for member in sorted(fault.missing):
            places = fault.causes.get(member) or []
            if places:
                made = conclusion.event(places[0]).happened == "SubnetCreated"
                told.append(
                    f"Subnet {member} was made by {conclusion.said(places[0])}{' and is there' if until is None else ''}."
                    if made
                    else f"Subnet {member} names this VPC."
                )
        return " ".join(told)

    def _consequence(self, fault: _Fault) -> str:
        if fault.field == vpc_status.SUBNETS and fault.extra:
            return (
                f"Once {called(fault.key)} is deleted its finalizer never comes off, because the controller waits until "
                "status.subnets is empty; routes of its NAT gateways stop being updated (kube-ovn#5220)."
            )
        if fault.field == vpc_status.SUBNETS:
            return (
                "To the controller the missing subnet is no part of the VPC: no routes, no NAT for it (kube-ovn#5162)."
            )
        if fault.field in COUNTS:
            return (
                "The controller decides by this count: a deleted subnet waits for ever, or goes under addresses in use."
            )
        return "Whoever relies on this field acts on a state that is not there."

    def _repair(self, resource: Resource, fault: _Fault, lawful: Any) -> list[Step]:
        path = "/" + fault.field.replace(".", "/")
        value = json.dumps(lawful)
        return [
            Step(
                f"kubectl get {kubectl(fault.key)} -o jsonpath='{{.metadata.resourceVersion}} {{.{fault.field}}}'",
                f"check that it still says so at revision {resource.revision}; if it has moved on, replay a newer log first",
            ),
            Step(
                guarded_patch(
                    fault.key,
                    resource.revision,
                    f'{{"op":"replace","path":"{path}","value":{value}}}',
                    status=True,
                ),
                f"writes the lawful value {value}; refused if anybody wrote the object meanwhile",
            ),
        ]


def _slot(fault: _Fault) -> tuple[Key, str, str]:
    return fault.key, fault.uid, fault.field


def members_of(field: str, value: Any) -> frozenset[str]:
    """The members of a claim's value: a list's items, the words of a comma list, a single value, a count."""
    if value is None or value == "":
        return frozenset()
    if isinstance(value, list):
        return frozenset(map(str, value))
    if field == eip_readiness.NAT:
        return frozenset(word for word in str(value).split(",") if word)
    if isinstance(value, float):
        return frozenset({str(int(value))})
    return frozenset({str(value)})


def _whole(text: str) -> int:
    return int(text) if text.lstrip("-").isdecimal() else -1


def _members(fault: _Fault) -> str:
    parts = []
    if fault.extra:
        parts.append(f"{', '.join(sorted(fault.extra))} came back, though the earlier write had taken it out")
    if fault.missing:
        parts.append(f"{', '.join(sorted(fault.missing))} fell out, though the earlier write had put it in")
    return "; ".join(parts)
