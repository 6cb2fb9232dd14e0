"""Which event an operation is, or why it is refused.

`decide` is for what was observed: it has happened, so its facts are taken as true; where the table does not allow it,
the event is a `TransitionRefused` that carries the evidence and leads to the state off the path that the table names.
`decide_command` is for what has not happened yet: where the table does not allow it, nothing changes but the record
of the refusal. Both end with `consequences`: what follows for the neighbours, each an event of its own.

Nothing here changes the world; `World.evolve` does, with what comes out of here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from domain import eip, ip, nat_gateway, nat_rule, pod, subnet
from domain.events import OBSERVED, REFUSED, Changes, Event, Vocabulary, differences
from domain.evidence import COARSE
from domain.ipset_writes import events_of
from domain.kinds import VOCABULARY
from domain.lifecycle import ABSENT, GONE, SAME
from domain.operations import (
    DELETION,
    FINALIZERS,
    MADE,
    MISSED,
    RAN,
    REMOVED,
    SEEN,
    SEEN_ABSENT,
    SEEN_GONE,
    TESTIFIED,
    UNCHANGED,
    UNKNOWN,
    Fields,
    Operation,
    request_of,
)
from domain.resources import BY_NAME, Key
from domain.world import Change, Resource, World

COMMAND = "command"
EARLIER = "earlier-namesake"  # it is about an object of that name that is gone already

_HAPPENED = frozenset({MADE, REMOVED, SEEN, SEEN_GONE})
_ENDED = frozenset({REMOVED, SEEN_GONE})


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody wants to happen and that may still be refused.

    `event` is the past-tense type that it would be; `fields` are what the object would have set; `time` is
    microseconds since 1970; `identity` makes the same command given twice one event; `purpose` is what it is for, in
    somebody's words.
    """

    event: str
    key: Key
    identity: str
    actor: str
    time: int
    uid: str = ""
    fields: Fields = {}
    purpose: str = ""


def decide(world: World, operation: Operation) -> list[Event]:
    """The events that an observed operation is, in order. Total: it refuses by recording, and never raises."""
    if operation.key.kind == "ipset" and operation.outcome != TESTIFIED:
        return events_of(world, operation)
    made = _Decision(world, operation)
    if operation.outcome == TESTIFIED:
        made.testified()
    elif operation.outcome == RAN:
        made.ran()
    elif operation.outcome == SEEN_ABSENT:
        made.absent()
    elif operation.outcome == MADE and operation.subresource in ("binding", "eviction"):
        made.answered_with_a_status()
    elif operation.outcome in _HAPPENED or (operation.outcome == UNCHANGED and world.get(operation.key) is None):
        made.happened()
    elif (
        operation.outcome == UNKNOWN
        and not operation.verb.startswith("delete")
        and operation.key.name  # a generated name is only in the answer
        and world.get(operation.key) is None
    ):
        made.begin(made.vocabulary.sighted, {}, outcome=UNKNOWN)
    else:
        made.observed(operation.outcome)
    return [*made.events, *consequences(world, made.events)]


def decide_command(world: World, command: Command) -> list[Event]:
    """The event that a command is, and what follows from it; or one `TransitionRefused` that changes nothing."""
    vocabulary = VOCABULARY[command.key.kind]
    resource = world.get(command.key)
    before = resource.fields if resource else {}
    fields = {**before, **command.fields}
    # What begins an object is folded from nothing, so its event says all of it.
    known: Fields = {} if command.event in vocabulary.beginnings else before
    if command.event == vocabulary.deletion_requested:
        fields[DELETION] = fields.get(DELETION) or str(command.time)
    reason = why_not(world, command.event, command.key, fields)
    common: dict[str, Any] = {
        "key": command.key,
        "uid": command.uid or (resource.uid if resource else ""),
        "record": f"{COMMAND}:{command.identity}",
        "time": command.time,
        "actor": command.actor,
        "operation": COMMAND,
        "purpose": command.purpose,
        "tags": _boundary(world, vocabulary, command.key, before, fields),
    }
    if reason is not None:
        return [Event(type=REFUSED, attempted=command.event, reason=reason, **common)]
    event = Event(type=command.event, changed=differences(known, fields), **common)
    return [event, *consequences(world, [event])]


def why_not(world: World, event: str, key: Key, fields: Mapping[str, Any]) -> str | None:
    """The sentence that refuses `event`: the resource, its state, what was tried, why not, and what could come next."""
    lifecycle = VOCABULARY[key.kind].lifecycle
    state = world.state(key)
    row = lifecycle.row(state, event)
    if row is None:
        why = f"{event} may not happen in that state"
    else:
        change = Change(event, key, world.get(key), fields)
        why = row.refusal(world, change)
        if not why:
            return None
        why = f"{event} may not happen: {why}"
    possible = ", ".join(other for other in lifecycle.next_events(state) if other != event) or "nothing"
    return f"{key} is {state}: {why}. What could come next: {possible}"


def tags_of(vocabulary: Vocabulary, key: Key, *fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The resources that an event concerns: its own, and those it names before and after. The boundary of a command."""
    named = [key, *(other for some in fields for other in vocabulary.refers(key, some))]
    return tuple(dict.fromkeys(other.tag for other in named))


def _boundary(world: World, vocabulary: Vocabulary, key: Key, *fields: Fields) -> tuple[str, ...]:
    """The tags of a command: what it names, and for a rule the gateway on whose pod its readiness is decided."""
    tags = tags_of(vocabulary, key, *fields)
    resource = world.get(key)
    if key.kind in nat_rule.RULES and resource is not None and (gateway := nat_gateway.gateway_of(world, resource)):
        tags = (*tags, Key("nat-gateway", "", gateway).tag)
    return tags


class _Decision:
    """The events of one operation in the making; `state` runs ahead of the world as they are added."""

    def __init__(self, world: World, operation: Operation) -> None:
        self.world = world
        self.operation = operation
        self.vocabulary = VOCABULARY[operation.key.kind]
        self.before = world.get(operation.key)
        self.state = world.state(operation.key)
        self.events: list[Event] = []
        self.phrase = f"{operation.verb} {BY_NAME[operation.key.kind].plural}"
        if operation.subresource:
            self.phrase += f"/{operation.subresource}"

    def happened(self) -> None:
        """A write that made something, or took something away."""
        operation, before = self.operation, self.before
        if before is not None and operation.uid and before.uid and operation.uid != before.uid:
            if operation.outcome in _ENDED or (operation.revision or 0) < (before.revision or 0):
                self.observed(EARLIER)
                return
            self.add(self.vocabulary.vanished, {}, before.fields)
            before = None
        elif before is None and self._is_of_a_departed():
            self.observed(EARLIER)
            return
        after = operation.after
        created = operation.verb == "create" or operation.code == 201
        if created and operation.outcome in (MADE, SEEN) and after is not None:
            if before is not None:  # its uid is unknown or the same, and yet it is made: the last one went unseen
                self.add(self.vocabulary.vanished, {}, before.fields)
            self.begin(self.vocabulary.begun, after)
            return
        if before is None or (before.blurred and after is not None):
            known = dict(after or {})
            if operation.verb == "delete" and operation.outcome == MADE:
                known.pop(DELETION, None)  # it was not terminating before this very request
            terminating = DELETION in known
            self.begin(self.vocabulary.sighted_terminating if terminating else self.vocabulary.sighted, known)
            fields = known
        else:
            fields = before.fields
        if operation.outcome in _ENDED:
            self.add(self.vocabulary.ended, {}, fields)
        elif operation.outcome == MADE:
            self.write(fields, after or {})
        elif operation.outcome == SEEN:
            self.sort(differences(fields, after or {}), after or {})
        if not self.events:
            self.observed(UNCHANGED)

    def absent(self) -> None:
        """A list lacks it: it went, and nobody saw what led to that. Where its end is known, this says nothing new."""
        before = self.before
        if before is None:
            self.observed(UNCHANGED)
        elif before.uid != self.operation.uid:
            self.observed(EARLIER)
        else:
            self.add(self.vocabulary.vanished, {}, before.fields, outcome=SEEN_ABSENT)

    def write(self, before: Fields, after: Fields) -> None:
        """What moved by this write; what its subresource cannot write was moved by a write that is not in the log."""
        status_only = self.operation.subresource == "status"
        deletes = self.operation.verb.startswith("delete")  # a namespace's phase goes with its deletion
        own: Changes = {}
        missed: Changes = {}
        for path, change in differences(before, after).items():
            writes = path != FINALIZERS if deletes else path.startswith("status.") == status_only
            (own if writes else missed)[path] = change
        if missed:
            self.observed(MISSED, missed)
        self.sort(own, after)

    def sort(self, changes: Changes, after: Fields) -> None:
        """Sort what moved into events, in the order of the vocabulary."""
        by_event: dict[str, Changes] = {}
        for path, (old, new) in changes.items():
            for event, when in _covering(self.operation.key.kind, path):
                if when is None or when(old, new):
                    by_event.setdefault(event, {})[path] = (old, new)
                    break
        if len(by_event) > 1:
            order = [write.event for write in self.vocabulary.writes]
            by_event = dict(sorted(by_event.items(), key=lambda item: order.index(item[0])))
        for event, changed in by_event.items():
            self.add(event, changed, after)

    def ran(self) -> None:
        """A command started in a pod."""
        commands = nat_gateway.commands_of(self.operation.command)
        if not commands:
            self.observed(RAN)
            return
        fields: Fields = self.before.fields if self.before else {}
        if self.before is None:
            self.begin(self.vocabulary.sighted, {}, outcome=UNKNOWN)
        started = (self.before.programmed or {}) if self.before else {}
        request = request_of(self.operation.order.identity)
        if all(started.get(command, (0, ""))[1] == request for command in commands):
            self.observed(RAN)  # a later stage of the request that started them: exec shows two
            return
        changed: Changes = {f"command[{n}]": (None, command) for n, command in enumerate(commands)}
        self.add("GatewayCommandStarted", changed, fields)

    def testified(self) -> None:
        """Somebody says so: the event is what was said, and the phrase is how."""
        operation = self.operation
        self.phrase = operation.verb
        self.events.append(self._event(operation.testimony, {}, {}))
        if operation.command and self.before is not None:
            self.events += self._started_by_word(self.before)

    def _started_by_word(self, resource: Resource) -> Iterator[Event]:
        """A command in the gateway's pod of today that only the controller's log shows (kube-ovn: execNatGwRules)."""
        gateway = nat_gateway.gateway_of(self.world, resource)
        today = nat_gateway.pod_of_today(self.world, gateway) if gateway else None
        commands = nat_gateway.commands_of(self.operation.command)
        if today is None or not commands or (today.programmed is not None and not today.hearsay):
            return  # where an audit log shows what is started in that pod, it shows all of it
        if not today.seen_from_birth and self.operation.time - today.born_time <= COARSE:
            return  # it may have been started in the pod before
        said = self.events[0]
        yield msgspec.structs.replace(
            said,
            type="GatewayCommandStarted",
            key=today.key,
            uid=today.uid,
            cause=f"{said.type} {said.key.tag}",
            changed={f"command[{n}]": (None, command) for n, command in enumerate(commands)},
            tags=today.tags,
        )

    def answered_with_a_status(self) -> None:
        """Binding and eviction: the answer shows no object, but what it did to the pod is known."""
        before = self.before
        if before is None:
            self.observed(UNKNOWN)
            return
        changed = differences({}, self.operation.after or {})
        event = "PodBound" if self.operation.subresource == "binding" else self.vocabulary.deletion_requested
        self.add(event, changed, {**before.fields, **(self.operation.after or {})})

    def _is_of_a_departed(self) -> bool:
        departed = self.world.gone(self.operation.key)
        return departed is not None and bool(departed.uid) and departed.uid == self.operation.uid

    def begin(self, event: str, fields: Fields, **more: Any) -> None:
        """The first event of an object: made, or heard of in mid-life."""
        self.add(event, {path: (None, fields[path]) for path in sorted(fields)}, fields, **more)

    def observed(self, outcome: str, changed: Changes | None = None) -> None:
        """Nothing happened, or nothing that can be told."""
        before = self.before.fields if self.before else {}
        self.events.append(self._event(OBSERVED, changed or {}, before, outcome=outcome))

    def add(self, event: str, changed: Changes, fields: Mapping[str, Any], **more: Any) -> None:
        """Ask the table; append the event, or the refusal that records it."""
        row = self.vocabulary.lifecycle.row(self.state, event)
        reason = ""
        if row is None:
            reason = f"{event} may not happen in {self.state}"
            leads_to = GONE if event in (self.vocabulary.ended, self.vocabulary.vanished) else self.state
        else:
            if row.unless:
                change = Change(event, self.operation.key, self.before, fields)
                reason = row.refusal(self.world, change)
            leads_to = row.otherwise if reason else row.target
            if leads_to == SAME:
                leads_to = self.state
        if reason:
            refused = {"attempted": event, "reason": reason, "leads_to": leads_to}
            self.events.append(self._event(REFUSED, changed, fields, **refused, **more))
        else:
            self.events.append(self._event(event, changed, fields, **more))
        self.state = leads_to

    def _event(self, kind: str, changed: Changes, fields: Mapping[str, Any], **more: Any) -> Event:
        operation, before = self.operation, self.before
        if before is not None and self.vocabulary.reference_paths.isdisjoint(changed):
            tags = before.tags
        elif before is None and not fields:
            tags = _tags_by_name(operation.key)
        else:
            tags = tags_of(self.vocabulary, operation.key, before.fields if before else {}, fields)
        if operation.reason and "reason" not in more:
            more["reason"] = operation.reason
        return Event(
            type=kind,
            key=operation.key,
            uid=operation.uid or (before.uid if before else ""),
            record=operation.order.identity,
            time=operation.time,
            received=operation.received,
            actor=operation.actor,
            agent=operation.agent,
            operation=self.phrase,
            revision=operation.revision,
            read_revision=operation.read_revision,
            order=operation.order,
            code=operation.code,
            evidence=operation.evidence,
            changed=changed,
            tags=tags,
            **more,
        )


@lru_cache(maxsize=4096)
def _tags_by_name(key: Key) -> tuple[str, ...]:
    """The tags of what nothing is known of but its name, as of most that a controller's log speaks of alone."""
    return tags_of(VOCABULARY[key.kind], key, {})


@lru_cache(maxsize=4096)
def _covering(kind: str, path: str) -> tuple[tuple[str, Callable[[Any, Any], bool] | None], ...]:
    """The writes of a kind that a path may make, without those behind the first that takes any value."""
    covering = []
    for write in VOCABULARY[kind].writes:
        if write.covers(path):
            covering.append((write.event, write.when))
            if write.when is None:
                break
    return tuple(covering)


# ---- what follows for the neighbours


_FOLLOWED = frozenset(
    {REFUSED, "SubnetSpecChanged", "GatewayCommandStarted"}
    | {event for kind in ("vpc", "subnet", "pod") for event in VOCABULARY[kind].beginnings}
    | {VOCABULARY[kind].ended for kind in ("vpc", "subnet", "pod", "service")}
    | {event for kind in ("eip", *nat_rule.RULES) for event in VOCABULARY[kind].lifecycle.events}
    | {vocabulary.begun for vocabulary in VOCABULARY.values() if vocabulary.made_with is not None}
)
"""The types that may have consequences: of all others none is looked for."""


def consequences(world: World, events: Iterable[Event]) -> list[Event]:
    """What `events` mean for the resources beside them, as events of their own with the first ones as cause."""
    found: list[Event] = []
    for event in events:
        if event.type not in _FOLLOWED:
            continue
        vocabulary = VOCABULARY[event.key.kind]
        happened = event.happened
        began = happened in vocabulary.beginnings
        ended = happened == vocabulary.ended
        match event.key.kind:
            case "vpc" if ended:
                found += _orphaned(world, event)
            case "vpc" if began:
                found += _follow(event, "SubnetAdopted", _orphans(world, event.key))
            case "subnet" if ended:
                found += _stranded(world, event)
            case "subnet" if began:
                found += _follow(event, "IPReclaimed", _off_path_ips(world, event.key))
            case "subnet" if "spec.vpc" in event.changed:
                found += _adopted_by_another(world, event)
            case "ip" if began and event.type == REFUSED:
                found += _leaked_at_birth(world, event)
            case "pod" if ended:
                found += _leaked(world, event)
                found += _gateway_pod(world, event, "GatewayPodStopped")
            case "pod" if happened == "PodCreated":
                found += _gateway_pod(world, event, "GatewayPodStarted")
                found += _redo(world, event)
            case "pod" if happened == "GatewayCommandStarted":
                found += _configured(world, event)
            case "eip" | "fip" | "snat" | "dnat" if event.changed and not ended:
                found += _configured_before(world, event)
            case "service" if ended:
                found += _follow(event, VOCABULARY["endpoints"].ended, _endpoints_of(world, event.key))
            case _ if vocabulary.made_with is not None and happened == vocabulary.begun:
                found += _made_with(vocabulary, event)
    return found


def _follow(event: Event, kind: str, resources: Iterable[Resource], cause: str = "") -> Iterator[Event]:
    """`kind` for each of `resources`, where its table has it; each rests on the record of its cause."""
    for resource in resources:
        vocabulary = VOCABULARY[resource.key.kind]
        if vocabulary.lifecycle.row(resource.state, kind) is None:
            continue
        yield Event(
            type=kind,
            key=resource.key,
            uid=resource.uid,
            record=event.record,
            time=event.time,
            received=event.received,
            actor=event.actor,
            agent=event.agent,
            operation=event.operation,
            order=event.order,
            cause=cause or f"{event.happened} {event.key.tag}",
            tags=tuple(dict.fromkeys((*tags_of(vocabulary, resource.key, resource.fields), event.key.tag))),
        )


def _made_with(vocabulary: Vocabulary, event: Event) -> Iterator[Event]:
    """What an object's creation is beside itself, by what it was made with."""
    assert vocabulary.made_with is not None, "only kinds that have one come here"
    newborn = Resource.begun(event.key, event.uid, 0, event.time, seen_from_birth=True)
    newborn.fields = {path: after for path, (_, after) in event.changed.items()}
    newborn.state = vocabulary.lifecycle.leads_to(ABSENT, vocabulary.begun)
    if happened := vocabulary.made_with(newborn.fields):
        yield from _follow(event, happened, [newborn])


def _endpoints_of(world: World, service: Key) -> list[Resource]:
    """What the API server removes with a Service, in the same request (kubernetes: core/service/storage, afterDelete)."""
    resource = world.get(Key("endpoints", service.namespace, service.name))
    return [resource] if resource is not None else []


def _orphaned(world: World, event: Event) -> Iterator[Event]:
    subnets = [s for s in world.naming(event.key, "subnet") if subnet.serves_its_vpc(s.fields)]
    return _follow(event, "SubnetOrphaned", subnets)


def _orphans(world: World, vpc: Key) -> list[Resource]:
    return [s for s in world.naming(vpc, "subnet") if s.state == subnet.ORPHANED]


def _adopted_by_another(world: World, event: Event) -> Iterator[Event]:
    resource = world.get(event.key)
    name = event.changed["spec.vpc"][1]
    if resource is None or resource.state != subnet.ORPHANED or not name or world.gone(Key("vpc", "", name)):
        return iter(())
    return _follow(event, "SubnetAdopted", [resource])


def _stranded(world: World, event: Event) -> Iterator[Event]:
    for address in list(world.naming(event.key, "ip")):
        yield from _follow(
            event, "IPLeaked" if _pod_is_gone(world, address.key, address.fields) else "IPStranded", [address]
        )


def _off_path_ips(world: World, key: Key) -> list[Resource]:
    return [address for address in world.naming(key, "ip") if address.state in ip.OFF]


def _leaked(world: World, event: Event) -> Iterator[Event]:
    return _follow(event, "IPLeaked", [a for a in world.naming(event.key, "ip") if a.state == ip.STRANDED])


def _leaked_at_birth(world: World, event: Event) -> Iterator[Event]:
    """An address made for a subnet and a pod that are both gone already."""
    fields = {path: after for path, (_, after) in event.changed.items()}
    if event.leads_to != ip.STRANDED or not _pod_is_gone(world, event.key, fields):
        return
    newborn = Resource.begun(event.key, event.uid, 0, event.time, seen_from_birth=True)
    newborn.state, newborn.fields = ip.STRANDED, fields
    yield from _follow(event, "IPLeaked", [newborn])


def _pod_is_gone(world: World, key: Key, fields: Mapping[str, Any]) -> bool:
    holder = ip.pod_of(key, fields)
    departed = world.gone(holder) if holder is not None else None
    return departed is not None and departed.seen and not ip.survives_its_pod(fields)


def _gateway_pod(world: World, event: Event, kind: str) -> Iterator[Event]:
    gateway = world.get(Key("nat-gateway", "", _gateway_named_by(world, event)))
    return _follow(event, kind, [gateway] if gateway is not None else [])


def _gateway_named_by(world: World, event: Event) -> str:
    """The gateway whose pod an event is about, by the labels it had before or has now."""
    resource = world.get(event.key)
    fields = dict(resource.fields) if resource is not None and resource.uid == event.uid else {}
    fields.update({path: after for path, (_, after) in event.changed.items() if after is not None})
    return pod.gateway_of(fields)


def _redo(world: World, event: Event) -> Iterator[Event]:
    """A new gateway pod starts empty: what was configured in the one before has to be done again."""
    gateway = _gateway_named_by(world, event)
    if not gateway:
        return
    for address in list(world.naming(Key("nat-gateway", "", gateway), "eip")):
        yield from _follow(event, "EIPGatewayPodReplaced", [address])
        for kind in nat_rule.RULES:
            yield from _follow(event, f"{kind.upper()}GatewayPodReplaced", world.naming(address.key, kind))


def _configured(world: World, event: Event) -> Iterator[Event]:
    """A command in the gateway's pod of today makes EIPs and their rules ready, or takes them off."""
    gateway = _gateway_named_by(world, event)
    today = nat_gateway.pod_of_today(world, gateway) if gateway else None
    if today is None or today.key != event.key:
        return
    eips = list(world.naming(Key("nat-gateway", "", gateway), "eip"))
    for _, command in event.changed.values():
        meaning = nat_gateway.meaning_of(command)
        if meaning is None:
            continue
        kind, verb, rule = meaning
        happened = f"{kind.upper()}{'Configured' if verb == nat_gateway.ADDED else 'Deconfigured'}"
        candidates = eips if kind == "eip" else [r for e in eips for r in world.naming(e.key, kind)]
        matching = [c for c in candidates if nat_gateway.rule_of(world, c) == rule]
        yield from _follow(event, happened, matching, cause=f"GatewayCommandStarted {event.key.tag}")


def _configured_before(world: World, event: Event) -> Iterator[Event]:
    """eip-add may run before the EIP's address is in its spec: then the write that names the address makes it ready."""
    resource = world.get(event.key)
    began = resource is None or resource.uid != event.uid
    after = Resource.begun(event.key, event.uid, 0, event.time, seen_from_birth=began)
    after.fields = {} if resource is None or began else dict(resource.fields)
    for path, (_, value) in event.changed.items():
        after.fields[path] = value
    after.state = VOCABULARY[event.key.kind].lifecycle.leads_to(world.state(event.key), event.happened)
    configured = eip.READY if event.key.kind == "eip" else nat_rule.READY
    if after.state == configured or after.terminating:
        return
    rule = nat_gateway.rule_of(world, after)
    today = nat_gateway.pod_of_today(world, nat_gateway.gateway_of(world, after))
    if today is None or not rule or not nat_gateway.configured_in(today, event.key.kind, rule):
        return
    yield from _follow(event, f"{event.key.kind.upper()}Configured", [after], f"GatewayCommandStarted {today.key.tag}")
