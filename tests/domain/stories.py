"""A small language for histories: what was there (`given`), what somebody did (`when`), what must hold (`then`).

A `Story` plays the API server: it keeps the objects, gives out uids and revisions, moves its clock, and turns what
somebody does into operations as a source's reader would. What it tells is printed, so pytest shows it on failure.

    story = Story()
    story.given.create("vpc/shop", held=True)
    story.when.delete("vpc/shop", by="alice")
    story.then.is_in("vpc/shop", "TERMINATING")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.decide import decide
from domain.events import OBSERVED, REFUSED, Event
from domain.operations import (
    DELETION,
    DRY_RUN,
    FINALIZERS,
    MADE,
    RAN,
    REMOVED,
    SEEN,
    SEEN_GONE,
    UNCHANGED,
    UNKNOWN,
    Fields,
    Operation,
    OrderKey,
)
from domain.operations import REFUSED as REFUSED_REQUEST
from domain.resources import FINALIZER, Key
from domain.world import Resource, World
from projections.findings.rule import Finding, clock
from projections.reading import Reading
from projections.standing import Standing

START = 1_800_000_000_000_000
"""When every story begins, in microseconds since 1970."""
STEP = 100_000
"""How long one step takes, in microseconds."""

SECOND = 1_000_000
HOUR = 3600.0

CONTROLLER = "system:serviceaccount:kube-system:ovn"
GARBAGE_COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
KUBELET = "system:node:worker-1"

GATEWAY_POD = "pod/kube-system/vpc-nat-gw-gw-0"
GATEWAY_LABELS: Fields = {
    "metadata.labels[app]": "vpc-nat-gw-gw",
    "metadata.labels[ovn.kubernetes.io/vpc-nat-gw]": "true",
}


def key_of(path: str) -> Key:
    """`vpc/shop` or `pod/shop/web-0` as a key."""
    kind, _, rest = path.partition("/")
    namespace, _, name = rest.rpartition("/")
    return Key(kind, namespace, name)


class _Object:
    """One object as the API server has it."""

    def __init__(self, uid: str, fields: Fields) -> None:
        self.uid = uid
        self.fields = fields


class Story:
    """A history in the making, and everything that is folded from it."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.events: list[Event] = []
        self.last: list[Event] = []
        self.now = START
        self.revision = 100
        self._objects: dict[Key, _Object] = {}
        self._born = 0
        self._requests = 0
        self._word = "given"

    # ---- the three words

    @property
    def given(self) -> Story:
        """What was there before."""
        self._word = "given"
        return self

    @property
    def when(self) -> Story:
        """What somebody does."""
        self._word = "when"
        return self

    @property
    def then(self) -> Story:
        """What must hold now."""
        self._word = "then"
        return self

    # ---- what somebody does

    def create(
        self,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        by: str = "alice",
        held: bool = False,
        uid: str = "",
        **operation: Any,
    ) -> list[Event]:
        """A create that is answered with 201; `held` puts kube-ovn's finalizer on at once."""
        made = self._put(path, fields, held, uid)
        return self.tell(path, "create", MADE, by=by, code=201, after=dict(made.fields), **operation)

    def write(
        self, path: str, changes: Mapping[str, Any], *, by: str = CONTROLLER, verb: str = "patch", **operation: Any
    ) -> list[Event]:
        """A write that makes a revision; a value of `None` takes the field away."""
        thing = self._objects[key_of(path)]
        self._change(thing, changes)
        return self.tell(path, verb, MADE, by=by, after=dict(thing.fields), **operation)

    def status(self, path: str, changes: Mapping[str, Any], *, by: str = CONTROLLER, **operation: Any) -> list[Event]:
        """A write through the status subresource: `{"subnets": […]}` for `status.subnets`."""
        named = {f"status.{name}": value for name, value in changes.items()}
        return self.write(path, named, by=by, subresource="status", **operation)

    def hold(self, path: str, *, by: str = CONTROLLER) -> list[Event]:
        """The finalizer comes on, in a write of its own."""
        return self.write(path, {FINALIZERS: [FINALIZER]}, by=by)

    def delete(self, path: str, *, by: str = "alice") -> list[Event]:
        """A delete: of what has a finalizer, and of a pod or namespace the first time, it only asks."""
        key = key_of(path)
        thing = self._objects[key]
        waits = thing.fields.get(FINALIZERS) or key.kind in ("pod", "namespace")
        if waits and DELETION not in thing.fields:
            self._change(thing, {DELETION: f"2027-01-15T{clock(self.now)}Z"})
            return self.tell(path, "delete", MADE, by=by, after=dict(thing.fields))
        if thing.fields.get(FINALIZERS):
            return self.tell(path, "delete", UNCHANGED, by=by, after=dict(thing.fields))
        return self.remove(path, by=by, verb="delete")

    def release(self, path: str, *, by: str = CONTROLLER) -> list[Event]:
        """The last finalizer comes off: what was in deletion goes with it."""
        thing = self._objects[key_of(path)]
        if DELETION in thing.fields:
            return self.remove(path, by=by, verb="patch")
        return self.write(path, {FINALIZERS: None}, by=by)

    def remove(self, path: str, *, by: str = CONTROLLER, verb: str = "delete") -> list[Event]:
        """The object goes with this request."""
        thing = self._objects.pop(key_of(path))
        self._change(thing, {FINALIZERS: None})
        return self.tell(path, verb, REMOVED, by=by, uid=thing.uid, after=dict(thing.fields))

    def run(self, path: str, line: str, *, by: str = CONTROLLER, request: str = "", **operation: Any) -> list[Event]:
        """An exec in a pod: `eip-add 192.168.100.11` is what nat-gateway.sh is asked; `request` names its request."""
        words = ("bash", "-c", f"bash /kube-ovn/nat-gateway.sh {line}")
        return self.tell(
            path, "create", RAN, by=by, code=101, subresource="exec", command=words, request=request, **operation
        )

    def refuse(self, path: str, *, verb: str = "patch", by: str = CONTROLLER, code: int = 409) -> list[Event]:
        """A request that the API server says no to."""
        return self.tell(path, verb, REFUSED_REQUEST, by=by, code=code, reason="Conflict", after=None)

    def dry_run(self, path: str, *, verb: str = "delete", by: str = "alice") -> list[Event]:
        """A request that is only tried."""
        return self.tell(path, verb, DRY_RUN, by=by, after=None)

    def look(self, path: str, *, verb: str = "get", by: str = "alice") -> list[Event]:
        """A read or a no-op: answered with the object as it is, and no new revision."""
        return self.tell(path, verb, UNCHANGED, by=by, after=dict(self._objects[key_of(path)].fields))

    def blur(self, path: str, changes: Mapping[str, Any] | None = None, *, by: str = CONTROLLER) -> list[Event]:
        """A write recorded at Metadata level: it did something, and the record does not say what."""
        if (thing := self._objects.get(key_of(path))) is not None:
            self._change(thing, changes or {})
        return self.tell(path, "patch", UNKNOWN, by=by, after=None, reason="below RequestResponse")

    def watch(self, path: str, changes: Mapping[str, Any], *, created: bool = False) -> list[Event]:
        """A write that only a watch shows: what came of it, and neither who did it nor when."""
        if created:
            self._put(path, {}, False, "")
        thing = self._objects[key_of(path)]
        self._change(thing, changes)
        verb = "create" if created else "watch"
        return self.tell(path, verb, SEEN, by="", after=dict(thing.fields), received=0, code=0)

    def watch_end(self, path: str) -> list[Event]:
        """A removal that only a watch shows: the object as it was, finalizers and all."""
        thing = self._objects.pop(key_of(path))
        return self.tell(path, "watch", SEEN_GONE, by="", uid=thing.uid, after=dict(thing.fields), received=0, code=0)

    def exists(self, path: str, fields: Mapping[str, Any] | None = None, *, held: bool = False, uid: str = "") -> None:
        """An object that was there before the log began."""
        self._say(f"{path} is there since before the log")
        self._put(path, fields, held, uid)

    def unseen(self, path: str, changes: Mapping[str, Any]) -> None:
        """A write that the log does not have."""
        self._say(f"{path} changes unseen: {', '.join(changes)}")
        self._change(self._objects[key_of(path)], changes)
        self.revision += 1

    def ends_unseen(self, path: str) -> None:
        """A removal that the log does not have."""
        self._say(f"{path} goes unseen")
        del self._objects[key_of(path)]
        self.revision += 1

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._say(f"{seconds:g} s pass")
        self.now += int(seconds * SECOND)

    # ---- how it is recorded

    def tell(
        self, path: str, verb: str, outcome: str, *, by: str, request: str = "", part: int = 0, **more: Any
    ) -> list[Event]:
        """One operation, decided and folded; gives the events it became."""
        key = key_of(path)
        self.now += STEP
        self._requests += 1
        made = outcome in (MADE, SEEN, SEEN_GONE)
        if made:
            self.revision += 1
        thing = self._objects.get(key)
        stage = "ResponseComplete"
        request = request or f"audit:{self._requests:04}@{self.now}"
        identity = f"{request}/{stage if outcome != RAN or 'stage' not in more else more.pop('stage')}"
        described: dict[str, Any] = {
            "order": OrderKey(self.revision, 0 if made else 1, self.now, identity, part),
            "key": key,
            "verb": verb,
            "outcome": outcome,
            "actor": by,
            "time": self.now,
            "received": self.now - STEP // 20,
            "uid": thing.uid if thing is not None else "",
            "revision": self.revision if made else None,
            "code": 200,
        }
        operation = Operation(**{**described, **more})
        self.last = decide(self.reading.world, operation)
        for event in self.last:
            self.events.append(event)
            self.reading.apply(event)
        became = "; ".join(self.recorded_of(self.last))
        subresource = f"/{operation.subresource}" if operation.subresource else ""
        self._say(f"{by} {verb} {path}{subresource} ({outcome}): {became}")
        return self.last

    def _put(self, path: str, fields: Mapping[str, Any] | None, held: bool, uid: str) -> _Object:
        self._born += 1
        made = _Object(uid or f"uid-{self._born:04}", {})
        self._objects[key_of(path)] = made
        self._change(made, {**(fields or {}), **({FINALIZERS: [FINALIZER]} if held else {})})
        return made

    def _change(self, thing: _Object, changes: Mapping[str, Any]) -> None:
        for field, value in changes.items():
            if value is None:
                thing.fields.pop(field, None)
            else:
                thing.fields[field] = value

    def _say(self, text: str) -> None:
        print(f"{self._word:>5} {clock(self.now)} {text}")

    # ---- what must hold

    @property
    def world(self) -> World:
        """The fold of everything told so far."""
        return self.reading.world

    def uid(self, path: str) -> str:
        """The uid that the API server gave."""
        return self._objects[key_of(path)].uid

    def live(self, path: str) -> Resource:
        """The resource in the world; fails where it is not there."""
        resource = self.world.get(key_of(path))
        assert resource is not None, f"{path} is not in the world, it is {self.world.state(key_of(path))}"
        return resource

    def standing(self, path: str) -> Standing:
        """What the resource's claims should be."""
        return self.reading.standing(self.live(path))

    def is_in(self, path: str, state: str) -> None:
        """The lifecycle state of a name."""
        got = self.world.state(key_of(path))
        assert got == state, f"{path} should be {state}, and is {got}"

    def recorded(self, *expected: str) -> None:
        """The last step became exactly these: `VPCCreated vpc/a`, `refused VPCRemoved vpc/a`, `observed vpc/a`."""
        got = self.recorded_of(self.last)
        assert got == list(expected), f"the last step should be {list(expected)}, and is {got}"

    @staticmethod
    def recorded_of(events: list[Event]) -> list[str]:
        """Events as the stories write them."""
        return [
            f"refused {event.attempted} {event.key}"
            if event.type == REFUSED
            else f"observed {event.key}"
            if event.type == OBSERVED
            else f"{event.type} {event.key}"
            for event in events
        ]

    def refusals(self) -> list[str]:
        """Everything that was refused, as `VPCRemoved vpc/shop`."""
        return [f"{event.attempted} {event.key}" for event in self.events if event.type == REFUSED]

    def findings(self, after: float = 0.0, patience: float | None = None) -> list[Finding]:
        """What is found when the log ends `after` seconds from now."""
        found: list[Finding] = list(
            self.reading.conclude(
                self.now + int(after * SECOND),
                lambda at: self.events[at - 1],
                None if patience is None else int(patience * SECOND),
            )
        )
        for finding in found:
            self._say(f"found {finding.status} {finding.id}: {finding.explanation}")
        return found

    def found(self, after: float = 0.0, patience: float | None = None) -> list[str]:
        """The findings as `open lost-update vpc/shop`, sorted."""
        return sorted(f"{f.status} {f.name} {f.key}" for f in self.findings(after, patience))

    def finding(self, name: str, after: float = 0.0) -> Finding:
        """The one finding of that rule; fails where there is none or more than one."""
        found = [finding for finding in self.findings(after) if finding.name == name]
        assert len(found) == 1, f"there should be one {name}, and there are {len(found)}"
        return found[0]

    def witnessed(self, finding: Finding) -> list[str]:
        """A finding's witnesses as `lost VPCStatusReported vpc/shop`, in order."""
        return [
            f"{witness.role} {text}"
            for witness in finding.witnesses
            for text in self.recorded_of([self.events[witness.at - 1]])
        ]

    def silent(self, after: float = HOUR) -> None:
        """Nothing is found, not even when the log goes on for an hour."""
        assert self.found() == []
        assert self.found(after) == []


def gateway(story: Story, *, eip: str = "eip/out", address: str = "192.168.100.11", configured: bool = True) -> None:
    """Given: a gateway `gw` with its pod, and an EIP on it that was configured in that pod."""
    story.given.create("nat-gateway/gw", {"spec.vpc": "shop", "spec.subnet": "net"})
    story.given.create(GATEWAY_POD, GATEWAY_LABELS, by="system:serviceaccount:kube-system:statefulset-controller")
    story.given.create(eip, {"spec.natGwDp": "gw", "spec.v4ip": address})
    story.given.hold(eip)
    if configured:
        story.given.run(GATEWAY_POD, f"eip-add {address}/24")
        story.given.status(eip, {"ready": True, "ip": address})


def replace_gateway_pod(story: Story) -> None:
    """The gateway's pod goes, and its StatefulSet makes another of the same name."""
    story.delete(GATEWAY_POD, by="alice")
    story.delete(GATEWAY_POD, by=KUBELET)
    story.create(GATEWAY_POD, GATEWAY_LABELS, by="system:serviceaccount:kube-system:statefulset-controller")
