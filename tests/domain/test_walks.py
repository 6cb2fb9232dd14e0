"""Every walk of commands, enumerated: no state that a table forbids, and a refusal that changes nothing and says why.

A neighbourhood is walked to depth 5, or 4, or 3: a Vpc with a subnet; a subnet with an address and its pod; a gateway with
its pod and an EIP; an EIP with rules of one kind, and of two; an OvnEip with its rule; a namespace with a subnet; a Service
with its endpoints; a policy with a node. Everything but OVN's own kinds and kube-router's is walked together to depth 3.
At each step every event type of every kind in it is tried as a command. Worlds that are equal are walked on from once:
what is decided depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from domain.decide import Command, decide_command
from domain.events import REFUSED, Event
from domain.kinds import LIFECYCLES, VOCABULARY
from domain.lifecycle import ABSENT, GONE
from domain.namespace import SWITCH
from domain.operations import FINALIZERS, Fields
from domain.ovn_rule import RULES as OVN_RULES
from domain.resources import FINALIZER, Key
from domain.world import World
from tests.domain.stories import GATEWAY_LABELS, GATEWAY_POD, key_of

ADDRESS = "192.168.100.11"
PORTS: Fields = {"spec.externalPort": "8080", "spec.protocol": "tcp", "spec.internalPort": "80"}
KUBE_ROUTER = ("service", "endpoints", "endpointslice", "networkpolicy", "node")
OBJECTS: dict[str, Fields] = {
    "vpc/shop": {},
    "subnet/a": {"spec.vpc": "shop"},
    "pod/shop/web": {},
    "ip/web.shop": {"spec.subnet": "a", "spec.namespace": "shop", "spec.podName": "web"},
    "nat-gateway/gw": {"spec.vpc": "shop"},
    GATEWAY_POD: GATEWAY_LABELS,
    "eip/out": {"spec.natGwDp": "gw", "spec.v4ip": ADDRESS},
    "fip/f": {"spec.eip": "out", "spec.internalIp": "10.0.0.9"},
    "fip/g": {"spec.eip": "out", "spec.internalIp": "10.0.0.10"},
    "snat/s": {"spec.eip": "out", "spec.internalCIDR": "10.0.0.0/24"},
    "dnat/d": {"spec.eip": "out", **PORTS, "spec.internalIp": "10.0.0.9"},
    "dnat/e": {"spec.eip": "out", **PORTS, "spec.internalIp": "10.0.0.10"},
    "oeip/out": {"spec.type": "nat"},
    "oeip/node": {"spec.type": "lsp"},
    "ofip/f": {"spec.ovnEip": "out", "spec.vpc": "shop"},
    "osnat/s": {"spec.ovnEip": "out", "spec.vpc": "shop"},
    "odnat/d": {"spec.ovnEip": "node", "spec.vpc": "shop"},
    "namespace/shop": {},
    "service/shop/web": {"spec.clusterIP": "10.96.0.10"},
    "service/shop/headless": {"spec.clusterIP": "None"},
    "endpoints/shop/web": {"subsets": [{"addresses": [{"ip": "10.0.0.9"}]}]},
    "endpointslice/shop/web-1": {
        "metadata.labels[kubernetes.io/service-name]": "web",
        "endpoints": [{"addresses": ["10.0.0.9"]}],
    },
    "networkpolicy/shop/deny": {"spec.podSelector": {}},
    "node/one": {"spec.podCIDR": "10.244.1.0/24"},
    "node/two": {},
    "ipset/node/web": {"members": ["10.0.0.9"], "type": "hash:ip", "options": "family inet maxelem 65536"},
}
"""The small world: path to what its create would set."""

SECOND = ("fip/g", "dnat/e")
"""What is there only to be in the way of the first of its kind."""

ELSEWHERE = (*(kind for kind in LIFECYCLES if kind.startswith("o")), *KUBE_ROUTER, "ipset")
"""The kinds that have nothing to do with the rest."""

NEIGHBOURHOODS: dict[str, tuple[tuple[str, ...], int]] = {
    "vpc": (("vpc/shop", "subnet/a"), 5),
    "subnet": (("subnet/a", "ip/web.shop", "pod/shop/web"), 5),
    "gateway": (("nat-gateway/gw", GATEWAY_POD, "eip/out"), 5),
    "address": (("eip/out", "fip/f", "fip/g"), 5),
    "range": (("eip/out", "snat/s"), 5),
    "port": (("eip/out", "dnat/d", "dnat/e"), 4),
    "shadow": (("fip/f", "dnat/d"), 4),
    "ovn address": (("oeip/out", "ofip/f"), 4),
    "ovn range": (("oeip/out", "osnat/s"), 4),
    "ovn port": (("oeip/node", "odnat/d"), 4),
    "namespace": (("namespace/shop", "subnet/a"), 5),
    "service": (("service/shop/web", "endpoints/shop/web", "endpointslice/shop/web-1"), 3),
    "headless": (("service/shop/headless", "node/two"), 4),
    "policy": (("networkpolicy/shop/deny", "node/one"), 5),
    "ipset": (("ipset/node/web", "namespace/shop"), 5),
    "all": (tuple(path for path in OBJECTS if path not in SECOND and path.split("/")[0] not in ELSEWHERE), 3),
}

WRITTEN: dict[str, Fields] = {
    "NamespaceBound": {SWITCH: "a"},
    "NamespaceUnbound": {SWITCH: None},
    "GatewayCommandStarted": {"command[0]": f"eip-add {ADDRESS}"},
    "FIPRetargeted": {"spec.internalIp": "10.0.0.11"},
    "SNATRetargeted": {"spec.internalCIDR": "10.0.1.0/24"},
    "DNATRetargeted": {"spec.internalIp": "10.0.0.11"},
}
"""What a command writes beside those of every kind; those not named here would write what moves no state."""


def commands_on(paths: tuple[str, ...]) -> Iterator[Command]:
    """Every event type of each of these as a command."""
    for path in paths:
        key = key_of(path)
        vocabulary = VOCABULARY[key.kind]
        for event in LIFECYCLES[key.kind].events:
            fields = WRITTEN.get(event, {})
            if event in (vocabulary.begun, vocabulary.sighted, vocabulary.sighted_terminating):
                fields = OBJECTS[path]
            elif event.endswith("Guarded"):
                fields = {FINALIZERS: [FINALIZER]}
            elif event.endswith("Unguarded"):
                fields = {FINALIZERS: None}
            yield Command(event=event, key=key, identity=f"{event} {path}", actor="alice", time=1, fields=fields)


def folded(events: tuple[Event, ...]) -> World:
    """The world after a history."""
    world = World()
    for at, event in enumerate(events, 1):
        world.evolve(event, at)
    return world


def picture(world: World) -> Any:
    """Everything in a world that a decision could rest on, without the numbers that tell equal worlds apart."""
    live = []
    for key, resource in sorted(world.live.items()):
        started = sorted(resource.programmed or {}, key=lambda command: (resource.programmed or {})[command])
        fields = tuple(sorted((path, str(value)) for path, value in resource.fields.items()))
        live.append((key, resource.state, fields, resource.refers, tuple(started), resource.seen_from_birth))
    departed = sorted((key, gone.state, gone.seen) for kind in world.departed.values() for key, gone in kind.items())
    return tuple(live), tuple(departed)


def named_by(world: World, kind: str, field: str, name: str) -> bool:
    """Whether a live object of `kind` has `name` in `field`: what the guards ask, found without the world's index."""
    return any(key.kind == kind and resource.get(field) == name for key, resource in world.live.items())


def seen_to_go(world: World, path: str) -> bool:
    """Whether a name is not there and was seen to go."""
    key = key_of(path)
    departed = world.departed[key.kind].get(key)
    return key not in world.live and departed is not None and departed.seen


def another_rule(world: World, own: Key) -> bool:
    """Whether another living FIP or DNAT uses the EIP: every DNAT of this small world has the same port."""
    return any(
        key.kind in ("fip", "dnat") and key != own and resource.get("spec.eip") == "out" and not resource.terminating
        for key, resource in world.live.items()
    )


FORBIDDEN: dict[str, Callable[[World, Key], bool]] = {
    "VPCRemoved": lambda world, key: named_by(world, "subnet", "spec.vpc", "shop"),
    "SubnetCreated": lambda world, key: seen_to_go(world, "vpc/shop"),
    "SubnetRemoved": lambda world, key: named_by(world, "ip", "spec.subnet", "a"),
    "IPAllocated": lambda world, key: seen_to_go(world, "subnet/a"),
    "IPMoved": lambda world, key: True,
    "NatGatewayRemoved": lambda world, key: named_by(world, "eip", "spec.natGwDp", "gw"),
    "EIPRemoved": lambda world, key: any(named_by(world, rule, "spec.eip", "out") for rule in ("fip", "snat", "dnat")),
    "FIPCreated": another_rule,
    "DNATCreated": another_rule,
    "OvnEIPRemoved": lambda world, key: any(named_by(world, rule, "spec.ovnEip", key.name) for rule in OVN_RULES),
    **{
        f"{name}Created": lambda world, key: key.kind == "odnat" and key_of("oeip/node") in world.live
        for name in ("OvnFIP", "OvnSNAT", "OvnDNAT")
    },
}
"""When an event is forbidden though its state allows it: the guards, said a second time and more simply."""

BY_REFUSED_FACTS_ONLY = {"GHOST", "CLASHING", "UNUSABLE"}
"""States that only a fact leads to that had happened though it was forbidden. No command does."""


class Walk:
    """All walks over a neighbourhood, and what was seen on them."""

    def __init__(self, paths: tuple[str, ...], depth: int) -> None:
        self.commands = list(commands_on(paths))
        self.admitted: set[tuple[str, str, str]] = set()
        self.guards: set[str] = set()
        self.decisions = 0
        frontier: list[tuple[Event, ...]] = [()]
        seen = {picture(World())}
        for _ in range(depth):
            reached: list[tuple[Event, ...]] = []
            for history in frontier:
                for longer, after in self.step(history):
                    if after not in seen:
                        seen.add(after)
                        reached.append(longer)
            frontier = reached
        self.worlds = len(seen)

    def step(self, history: tuple[Event, ...]) -> Iterator[tuple[tuple[Event, ...], Any]]:
        """Try every command at the end of a history; gives each longer history, and what the world is then."""
        world = folded(history)
        before = picture(world)
        for command in self.commands:
            self.decisions += 1
            events = decide_command(world, command)
            if events[0].type == REFUSED:
                self.check_refusal(world, command, events)
                world.evolve(events[0], len(history) + 1)
                continue
            self.check_admitted(history, world, command, events)
            longer = (*history, *events)
            yield longer, picture(folded(longer))
        assert picture(world) == before, f"deciding or refusing changed the world after {told(history)}"

    def check_refusal(self, world: World, command: Command, events: list[Event]) -> None:
        """Refused for a reason that holds, alone, leading nowhere, and with everything in the message."""
        lifecycle = LIFECYCLES[command.key.kind]
        state = world.state(command.key)
        row = lifecycle.row(state, command.event)
        (refusal,) = events
        assert refusal.leads_to == "" and refusal.changed == {} and refusal.attempted == command.event
        assert row is None or FORBIDDEN[command.event](world, command.key), f"{command.event} should be admitted"
        start, _, next_ones = refusal.reason.partition(" What could come next: ")
        assert start.startswith(f"{command.key} is {state}: {command.event} may not happen")
        possible = [event for event in lifecycle.next_events(state) if event != command.event]
        assert next_ones == (", ".join(possible) or "nothing")
        if row is None:
            assert start.endswith("in that state.")
        else:
            self.guards |= {guard.name for guard in row.unless}
            assert len(start.partition("may not happen: ")[2].split()) >= 4, f"no reason in {refusal.reason!r}"

    def check_admitted(self, history: tuple[Event, ...], world: World, command: Command, events: list[Event]) -> None:
        """Every event, those that follow too, is a row of its table from the state that there was."""
        assert events[0].type == command.event
        forbidden = FORBIDDEN.get(command.event)
        assert forbidden is None or not forbidden(world, command.key), (
            f"{command.event} should be refused after {told(history)}"
        )
        after = folded(history)
        for number, event in enumerate(events, len(history) + 1):
            lifecycle = LIFECYCLES[event.key.kind]
            state = after.state(event.key)
            row = lifecycle.row(state, event.type)
            assert row is not None, f"{event.type} from {state} after {told(history)}"
            after.evolve(event, number)
            assert after.state(event.key) == lifecycle.leads_to(state, event.type)
            assert after.state(event.key) not in BY_REFUSED_FACTS_ONLY
            self.admitted.add((event.key.kind, state, event.type))


def told(history: tuple[Event, ...]) -> str:
    """A history for people."""
    return ", ".join(f"{event.type} {event.key}" for event in history) or "nothing"


@cache
def walked(neighbourhood: str) -> Walk:
    """Each neighbourhood is walked once."""
    return Walk(*NEIGHBOURHOODS[neighbourhood])


@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_no_walk_of_commands_reaches_a_state_that_its_table_forbids(neighbourhood):
    walk = walked(neighbourhood)
    print(f"{neighbourhood}: {walk.worlds} worlds, {walk.decisions} decisions")
    assert walk.worlds > 100


def test_the_walks_try_every_row_of_every_table_that_commands_can_reach():
    tried = {cell for name in NEIGHBOURHOODS for cell in walked(name).admitted}
    rows = {
        (kind, state, event)
        for kind, lifecycle in LIFECYCLES.items()
        for state, event in lifecycle.table
        if state not in BY_REFUSED_FACTS_ONLY and event != "IPMoved"
    }
    assert rows - tried == set()
    assert {state for _, state, _ in tried} >= {ABSENT, GONE}


def test_every_guard_speaks_on_some_walk():
    spoke = {guard for name in NEIGHBOURHOODS for guard in walked(name).guards}
    guards = {guard.name for lifecycle in LIFECYCLES.values() for row in lifecycle.rows for guard in row.unless}
    assert spoke == guards


def test_a_refusal_names_the_resource_its_state_what_was_tried_why_not_and_what_could_come_next():
    world = World()
    for at, command in enumerate(
        [
            Command(event="VPCCreated", key=key_of("vpc/shop"), identity="1", actor="alice", time=1),
            Command(
                event="SubnetCreated",
                key=key_of("subnet/a"),
                identity="2",
                actor="alice",
                time=2,
                fields={"spec.vpc": "shop"},
            ),
        ],
        1,
    ):
        (event,) = decide_command(world, command)
        world.evolve(event, at)
    removal = Command(event="VPCRemoved", key=key_of("vpc/shop"), identity="3", actor="bob", time=3)
    (refusal,) = decide_command(world, removal)
    assert refusal.reason == (
        "vpc/shop is CREATED: VPCRemoved may not happen: subnet a still names it. What could come next: "
        + ", ".join(event for event in LIFECYCLES["vpc"].next_events("CREATED") if event != "VPCRemoved")
    )
    assert refusal.actor == "bob" and refusal.record == "command:3"


def test_an_event_that_no_table_has_is_refused_like_any_other():
    made_up = Command(event="VPCPainted", key=key_of("vpc/shop"), identity="1", actor="alice", time=1)
    (refusal,) = decide_command(World(), made_up)
    assert refusal.type == REFUSED
    assert refusal.reason.startswith("vpc/shop is ABSENT: VPCPainted may not happen in that state")


SETTLED = [
    pytest.param(path, event, id=f"{event} {path}")
    for path in OBJECTS
    if path not in SECOND
    for event in LIFECYCLES[key_of(path).kind].next_events(
        LIFECYCLES[key_of(path).kind].leads_to(ABSENT, VOCABULARY[key_of(path).kind].begun)
    )
    if event not in (VOCABULARY[key_of(path).kind].ended, VOCABULARY[key_of(path).kind].vanished, "IPMoved")
]


@pytest.mark.parametrize(("path", "event"), SETTLED)
def test_a_command_never_makes_the_world_forget_what_an_earlier_one_set(path, event):
    world, key = World(), key_of(path)
    commands = {command.event: command for command in commands_on((path,))}
    for at, name in enumerate((VOCABULARY[key.kind].begun, event), 1):
        for decided in decide_command(world, commands[name]):
            assert decided.type != REFUSED
            world.evolve(decided, at)
    expected = {**OBJECTS[path], **commands[event].fields}
    kept = {field: value for field, value in world.live[key].fields.items() if field in expected}
    assert kept == {
        field: value for field, value in expected.items() if value is not None and not field.startswith("command")
    }
