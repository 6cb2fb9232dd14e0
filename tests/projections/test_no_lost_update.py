"""No lost update: writers that decide on the same boundary never both win, and no admitted command is ever forgotten.

A command is decided on a fold kept at a position, and appended under the condition that nothing that concerns the same
resources came after that position. This holds the recorder in memory and the one on SQLite to it, in every interleaving
of two commands over a small world, and with many writers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBReadResponse, DCBRecorder
from eventsourcing.dcb.popo import InMemoryDCBRecorder

from adapters.authority import Authority, Verdict
from adapters.stores import codec
from adapters.stores.memory import InMemoryJournal
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from domain.decide import Command, decide_command
from domain.events import REFUSED, Event
from domain.namespace import SWITCH
from domain.operations import FINALIZERS
from domain.resources import FINALIZER, Key
from domain.world import World
from projections import namespace_binding, vpc_status
from projections.reading import Reading
from tests.domain.stories import GATEWAY_LABELS, GATEWAY_POD, key_of


@pytest.fixture(params=["memory", "sqlite"])
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DCBRecorder]:
    if request.param == "memory":
        yield InMemoryDCBRecorder()
        return
    with SQLiteFile(tmp_path / "commands.ledger", durable=False) as file:
        yield SQLiteRecorder(file)


def command(event: str, path: str, **fields: object) -> Command:
    """`spec_vpc="shop"` is `spec.vpc`."""
    named = {name.replace("_", ".", 1): value for name, value in fields.items()}
    return Command(event=event, key=key_of(path), identity=f"{event} {path}", actor="alice", time=1, fields=named)


def read(recorder: DCBRecorder) -> Reading:
    """Everything folded, from the first event."""
    reading = Reading()
    for found in recorder.read():
        reading.apply(codec.decode(found.event.data))
    return reading


def submit(recorder: DCBRecorder, wanted: Command) -> Verdict:
    """Execute a command as a writer of its own."""
    return Authority(recorder, InMemoryJournal()).execute(wanted)


def states(world: World) -> dict[Key, tuple[str, dict[str, object]]]:
    """What a world says of every live resource."""
    return {key: (resource.state, dict(resource.fields)) for key, resource in world.live.items()}


class Overtaken(DCBRecorder):
    """A recorder on which somebody else is quicker, just before the first append."""

    def __init__(self, recorder: DCBRecorder, rival: Command) -> None:
        self._recorder = recorder
        self._rival: Command | None = rival
        self.appends = 0

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        self.appends += 1
        if self._rival is not None:
            rival, self._rival = self._rival, None
            submit(self._recorder, rival)
        return self._recorder.append(events, condition)

    def read(self, *arguments: Any, **options: Any) -> DCBReadResponse:
        return self._recorder.read(*arguments, **options)

    def subscribe(self, *arguments: Any, **options: Any) -> Any:
        return self._recorder.subscribe(*arguments, **options)


# ---- every interleaving of two

IP_FIELDS = {"spec_subnet": "a", "spec_namespace": "shop", "spec_podName": "web"}
FIP_FIELDS = {"spec_eip": "out", "spec_internalIp": "10.0.0.9"}
PORT = {"spec_externalPort": "80", "spec_protocol": "tcp", "spec_internalIp": "10.0.0.9", "spec_internalPort": "80"}

WORLD = [
    command("VPCCreated", "vpc/shop"),
    command("SubnetCreated", "subnet/a", spec_vpc="shop"),
    command("SubnetCreated", "subnet/empty", spec_vpc="shop"),
    command("VPCCreated", "vpc/empty"),
    command("PodCreated", "pod/shop/web"),
    command("IPAllocated", "ip/web.shop", **IP_FIELDS),
    command("NatGatewayCreated", "nat-gateway/gw"),
    command("NatGatewayCreated", "nat-gateway/idle"),
    Command(event="PodCreated", key=key_of(GATEWAY_POD), identity="pod", actor="alice", time=1, fields=GATEWAY_LABELS),
    command("EIPCreated", "eip/out", spec_natGwDp="gw", spec_v4ip="192.168.100.11"),
    command("EIPCreated", "eip/idle", spec_natGwDp="gw"),
    command("FIPCreated", "fip/f", **FIP_FIELDS),
    command("NamespaceCreated", "namespace/shop"),
]

RIVALS = [
    command("VPCRemoved", "vpc/empty"),
    command("VPCDeletionRequested", "vpc/shop"),
    command("SubnetCreated", "subnet/new", spec_vpc="empty"),
    command("SubnetSpecChanged", "subnet/empty", spec_vpc="empty"),
    command("SubnetDeletionRequested", "subnet/a"),
    command("SubnetRemoved", "subnet/empty"),
    command("IPAllocated", "ip/new.shop", **{**IP_FIELDS, "spec_subnet": "empty"}),
    command("IPReleased", "ip/web.shop"),
    command("PodRemoved", "pod/shop/web"),
    command("NatGatewayRemoved", "nat-gateway/idle"),
    command("EIPCreated", "eip/new", spec_natGwDp="idle", spec_v4ip="192.168.100.12"),
    command("EIPSpecChanged", "eip/idle", spec_v4ip="192.168.100.13"),
    command("EIPRemoved", "eip/idle"),
    command("FIPCreated", "fip/one", spec_eip="idle", spec_internalIp="10.0.0.20"),
    command("FIPCreated", "fip/two", spec_eip="idle", spec_internalIp="10.0.0.21"),
    command("FIPRetargeted", "fip/f", spec_internalIp="10.0.0.10"),
    command("FIPRemoved", "fip/f"),
    command("SNATCreated", "snat/one", spec_eip="idle", spec_internalCIDR="10.0.0.0/24"),
    command("DNATCreated", "dnat/one", spec_eip="idle", **PORT),
    command("DNATCreated", "dnat/two", spec_eip="idle", **PORT),
    Command(
        event="GatewayCommandStarted",
        key=key_of(GATEWAY_POD),
        identity="exec eip",
        actor="alice",
        time=1,
        fields={"command[0]": "eip-add 192.168.100.13"},
    ),
    command("PodRemoved", GATEWAY_POD),
    Command(
        event="NamespaceBound",
        key=key_of("namespace/shop"),
        identity="bind",
        actor="alice",
        time=1,
        fields={SWITCH: "empty"},
    ),
]

FLOATING_IP = Command(
    event="GatewayCommandStarted",
    key=key_of(GATEWAY_POD),
    identity="exec fip",
    actor="alice",
    time=1,
    fields={"command[0]": "floating-ip-add 192.168.100.11,10.0.0.10"},
)


def named(one: Command) -> str:
    return f"{one.identity} ({one.event} {one.key})"


def given_world() -> InMemoryDCBRecorder:
    """A recorder in memory that holds the small world."""
    recorder = InMemoryDCBRecorder()
    recorder.append([codec.encode(event) for event in GIVEN])
    return recorder


def decided_one_after_another(commands: list[Command]) -> list[Event]:
    """What commands are if nobody is ever overtaken."""
    reading, decided = Reading(), []
    for one in commands:
        for event in decide_command(reading.world, one):
            decided.append(event)
            reading.apply(event)
    return decided


GIVEN = decided_one_after_another(WORLD)


def test_the_small_world_is_admitted():
    assert [event.type for event in GIVEN if event.type == REFUSED] == []


@pytest.mark.parametrize("late", RIVALS, ids=named)
def test_a_writer_that_is_overtaken_ends_where_it_would_have_ended_behind_the_other(late):
    for rival in RIVALS:
        if rival is late:
            continue
        recorder = given_world()
        submit(Overtaken(recorder, rival), late)
        expected = Reading()
        for event in decided_one_after_another([*WORLD, rival, late]):
            expected.apply(event)
        got = read(recorder)
        assert states(got.world) == states(expected.world), f"{named(late)} was overtaken by {named(rival)}"
        assert got.refusals == expected.refusals, f"{named(late)} was overtaken by {named(rival)}"


def test_a_rule_that_is_retargeted_while_it_is_configured_does_not_end_half_done():
    recorder = given_world()
    submit(Overtaken(recorder, FLOATING_IP), command("FIPRetargeted", "fip/f", spec_internalIp="10.0.0.10"))
    assert read(recorder).world.state(key_of("fip/f")) == "READY"


def test_a_pod_that_goes_while_the_subnet_of_its_stranded_address_comes_back_leaks_nothing():
    recorder = InMemoryDCBRecorder()
    for given in (
        command("SubnetSightedTerminating", "subnet/a"),
        command("PodCreated", "pod/shop/web"),
        command("IPAllocated", "ip/web.shop", **IP_FIELDS),
        command("IPStranded", "ip/web.shop"),
        command("SubnetVanished", "subnet/a"),
    ):
        assert submit(recorder, given).admitted
    submit(Overtaken(recorder, command("SubnetCreated", "subnet/a")), command("PodRemoved", "pod/shop/web"))
    assert read(recorder).world.state(key_of("ip/web.shop")) == "HELD"


@pytest.mark.parametrize(
    ("given", "quick", "late", "why"),
    [
        pytest.param(
            [command("VPCCreated", "vpc/shop")],
            command("VPCRemoved", "vpc/shop"),
            command("SubnetCreated", "subnet/a", spec_vpc="shop"),
            "the Vpc shop that it names is gone",
            id="a Vpc goes, a subnet is made in it",
        ),
        pytest.param(
            [command("VPCCreated", "vpc/shop")],
            command("SubnetCreated", "subnet/a", spec_vpc="shop"),
            command("VPCRemoved", "vpc/shop"),
            "subnet a still names it",
            id="a subnet is made, its Vpc goes",
        ),
        pytest.param(
            [command("SubnetCreated", "subnet/a")],
            command("IPAllocated", "ip/i", spec_subnet="a"),
            command("SubnetRemoved", "subnet/a"),
            "ip/i is still in it",
            id="an address is allocated, its subnet goes",
        ),
        pytest.param(
            [command("NatGatewayCreated", "nat-gateway/gw")],
            command("EIPCreated", "eip/out", spec_natGwDp="gw"),
            command("NatGatewayRemoved", "nat-gateway/gw"),
            "EIP out still uses it",
            id="an EIP is made, its gateway goes",
        ),
        pytest.param(
            [command("EIPCreated", "eip/out")],
            command("FIPCreated", "fip/one", spec_eip="out"),
            command("FIPCreated", "fip/two", spec_eip="out"),
            "EIP out is already used by FIP one",
            id="two rules on one EIP",
        ),
        pytest.param(
            [command("EIPCreated", "eip/out")],
            command("DNATCreated", "dnat/one", spec_eip="out", **PORT),
            command("DNATCreated", "dnat/two", spec_eip="out", **PORT),
            "port 80/tcp of EIP out is already used by DNAT one",
            id="two DNATs on one port",
        ),
        pytest.param(
            [command("EIPCreated", "eip/out")],
            command("DNATCreated", "dnat/one", spec_eip="out", **PORT),
            command("FIPCreated", "fip/one", spec_eip="out"),
            "EIP out is already used by DNAT one",
            id="a DNAT and a FIP on one EIP",
        ),
        pytest.param(
            [command("EIPCreated", "eip/out")],
            command("SNATCreated", "snat/one", spec_eip="out"),
            command("EIPRemoved", "eip/out"),
            "SNAT one still hangs on it",
            id="a SNAT is made, its EIP goes",
        ),
        pytest.param(
            [command("OvnEIPCreated", "oeip/out")],
            command("OvnFIPCreated", "ofip/one", spec_ovnEip="out"),
            command("OvnEIPRemoved", "oeip/out"),
            "OvnFip one still uses it",
            id="an OvnFip is made, its OvnEip goes",
        ),
        pytest.param(
            [command("OvnEIPCreated", "oeip/out")],
            command("OvnEIPSpecChanged", "oeip/out", spec_type="lsp"),
            command("OvnSNATCreated", "osnat/one", spec_ovnEip="out"),
            "OvnEip out is of type lsp",
            id="an OvnEip becomes a gateway node's, a rule is made on it",
        ),
        pytest.param(
            [],
            command("VPCCreated", "vpc/shop"),
            Command(event="VPCCreated", key=key_of("vpc/shop"), identity="again", actor="bob", time=1),
            "VPCCreated may not happen in that state",
            id="one name made twice",
        ),
    ],
)
def test_two_that_decide_on_one_boundary_never_both_win(given, quick, late, why, recorder):
    for one in given:
        assert submit(recorder, one).admitted
    overtaken = Overtaken(recorder, quick)
    verdict = submit(overtaken, late)
    assert overtaken.appends == 2, "the first append was refused by the recorder, and it was decided again"
    assert not verdict.admitted and why in verdict.reason
    reading = read(recorder)
    assert reading.refusals == 1
    assert [found.event.type for found in recorder.read()][-2:] == [quick.event, REFUSED]


def test_the_same_finalizer_put_on_by_two_at_once_is_decided_twice_on_what_is_there(recorder):
    submit(recorder, command("VPCCreated", "vpc/shop"))
    fields = {FINALIZERS: [FINALIZER]}
    one, two = (
        Command(event="VPCGuarded", key=key_of("vpc/shop"), identity=name, actor=name, time=2, fields=fields)
        for name in ("one", "two")
    )
    submit(Overtaken(recorder, one), two)
    changes = [codec.decode(found.event.data).changed for found in recorder.read()]
    assert changes == [{}, {FINALIZERS: (None, [FINALIZER])}, {}]


# ---- many at once


def at_once(*work: Callable[[], None]) -> None:
    """Run all of them at once, and fail if one does."""
    with ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(one) for one in work]:
            future.result(timeout=60)


def test_no_admitted_command_is_forgotten_with_many_writers_at_once(recorder):
    submit(recorder, command("VPCCreated", "vpc/shop"))
    admitted: dict[str, str] = {}

    def write(writer: int) -> None:
        authority = Authority(recorder, InMemoryJournal())
        for number in range(4):
            made = command("SubnetCreated", f"subnet/s{writer}-{number}", spec_vpc="shop")
            assert authority.execute(made).admitted
            admitted[made.key.name] = "made"
            if number % 2:
                removed = command("SubnetRemoved", f"subnet/s{writer}-{number - 1}")
                assert authority.execute(removed).admitted
                admitted[removed.key.name] = "removed"

    at_once(*(partial(write, number) for number in range(4)))
    final = read(recorder)
    expected = sorted(name for name, what in admitted.items() if what == "made")
    assert len(admitted) == 16 and len(expected) == 8
    vpc = final.world.live[key_of("vpc/shop")]
    assert vpc_status.standing(final.world, vpc).lawful[vpc_status.SUBNETS] == expected


def test_of_many_that_map_one_eip_at_once_exactly_one_wins(recorder):
    submit(recorder, command("EIPCreated", "eip/out"))
    verdicts: list[bool] = []

    def write(writer: int) -> None:
        verdicts.append(submit(recorder, command("FIPCreated", f"fip/f{writer}", spec_eip="out")).admitted)

    at_once(*(partial(write, number) for number in range(6)))
    assert sorted(verdicts) == [False] * 5 + [True]
    final = read(recorder)
    assert len([key for key in final.world.live if key.kind == "fip"]) == 1
    assert final.refusals == 5


def test_what_a_writer_keeps_folded_equals_what_is_folded_anew(recorder):
    authority = Authority(recorder, InMemoryJournal())
    for given in [*WORLD, *RIVALS]:
        authority.execute(given)
    kept, anew = authority.reading, read(recorder)
    assert states(kept.world) == states(anew.world)
    assert {r.key: kept.standing(r) for r in kept.resources()} == {r.key: anew.standing(r) for r in anew.resources()}
    namespace = anew.world.live[key_of("namespace/shop")]
    assert namespace_binding.standing(anew.world, namespace).reported == {SWITCH: ["empty"]}


def test_the_same_command_given_twice_is_one_event(recorder):
    creation = command("VPCCreated", "vpc/shop")
    first, again = submit(recorder, creation), submit(recorder, creation)
    assert first.admitted and again.admitted and first.position == again.position == 1
    assert len(list(recorder.read())) == 1
