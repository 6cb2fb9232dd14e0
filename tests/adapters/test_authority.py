"""The engine as authority: what is admitted is never forgotten, and of two writers on one boundary one wins."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
from eventsourcing.dcb.popo import InMemoryDCBRecorder

from adapters.authority import Authority, record_of
from adapters.judging import judge
from adapters.ledger import Ledger
from adapters.report import says
from adapters.stores import codec
from adapters.stores.memory import InMemoryJournal
from adapters.stores.redis_journal import RedisJournal
from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from domain.decide import Command, decide_command
from domain.resources import Key
from domain.world import World
from projections import vpc_status

VPC = Key("vpc", "", "shop")


def command(event: str, key: Key, number: int, **fields: object) -> Command:
    return Command(
        event=event, key=key, identity=f"{event}-{key.path}-{number}", actor="alice", time=number, fields=fields
    )


def subnet(name: str) -> Key:
    return Key("subnet", "", name)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path: Path):
    if request.param == "memory":
        yield InMemoryDCBRecorder(), InMemoryJournal()
        return
    if request.param == "redis":
        with RedisServer(request.getfixturevalue("redis_address")()) as server:
            yield RedisRecorder(server), RedisJournal(server)
        return
    with SQLiteFile(tmp_path / "commands.ledger") as file:
        yield SQLiteRecorder(file), SQLiteJournal(file)


def test_a_refused_command_says_why_and_what_could_come_next_and_changes_nothing(store):
    authority = Authority(*store)
    authority.execute(command("VPCCreated", VPC, 1))
    authority.execute(command("SubnetCreated", subnet("a"), 2, **{"spec.vpc": "shop"}))
    verdict = authority.execute(command("VPCRemoved", VPC, 3))
    assert not verdict.admitted
    assert "vpc/shop is CREATED" in verdict.reason and "subnet a still names it" in verdict.reason
    assert "What could come next: " in verdict.reason and "VPCDeletionRequested" in verdict.reason
    assert VPC in authority.reading.world.live
    assert authority.execute(command("SubnetRemoved", subnet("a"), 4)).admitted
    assert authority.execute(command("VPCRemoved", VPC, 5)).admitted


def test_what_a_command_is_for_stays_with_its_event_whether_it_is_admitted_or_refused(store):
    recorder, journal = store
    authority = Authority(recorder, journal)
    given = msgspec.structs.replace(command("VPCCreated", VPC, 1), purpose="the shop opens")
    assert authority.execute(given).event.purpose == "the shop opens"
    assert authority.execute(command("SubnetCreated", subnet("a"), 2, **{"spec.vpc": "shop"})).admitted
    refused = authority.execute(msgspec.structs.replace(command("VPCRemoved", VPC, 3), purpose="it closes"))
    assert not refused.admitted and "subnet a still names it" in refused.reason
    events = [codec.decode(found.event.data) for found in recorder.read()]
    assert [event.purpose for event in events] == ["the shop opens", "", "it closes"]
    assert says(events[0]) == "(for: the shop opens)" and says(events[2]) == (
        f"VPCRemoved refused: {refused.reason} (for: it closes)"
    )


def test_a_command_that_is_for_nothing_said_is_kept_as_it_always_was():
    plain = command("VPCCreated", VPC, 1)
    before = {
        "event": "VPCCreated", "key": ["vpc", "", "shop"], "identity": plain.identity, "actor": "alice", "time": 1,
        "uid": "", "fields": {},
    }  # fmt: skip
    assert record_of(plain).payload == msgspec.msgpack.encode(before)
    (event,) = decide_command(World(), plain)
    assert b"purpose" not in codec.encode(event).data
    said = msgspec.structs.replace(plain, purpose="why not")
    assert msgspec.msgpack.decode(record_of(said).payload, type=Command) == said


def test_the_same_command_given_twice_is_one_event(store):
    recorder, journal = store
    first = Authority(recorder, journal).execute(command("VPCCreated", VPC, 1))
    again = Authority(recorder, journal).execute(command("VPCCreated", VPC, 1))
    assert again == first
    assert len(list(recorder.read())) == 1 and journal.head() == 1


def test_two_writers_on_one_boundary_never_both_win(store):
    recorder, journal = store
    Authority(recorder, journal).execute(command("VPCCreated", VPC, 1))
    barrier = threading.Barrier(8)
    verdicts = []

    def write(number: int) -> None:
        authority = Authority(recorder, journal)
        barrier.wait()
        # Half of them put a subnet into the Vpc, half remove the Vpc: whoever comes second must see the first.
        if number % 2:
            verdicts.append(authority.execute(command("VPCRemoved", VPC, 10 + number)))
        else:
            name = subnet(f"s{number}")
            verdicts.append(authority.execute(command("SubnetCreated", name, 10 + number, **{"spec.vpc": "shop"})))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 8
    admitted = [verdict.event.type for verdict in verdicts if verdict.admitted]
    # Either the Vpc went first, and every subnet was refused; or a subnet was first, and nobody removed the Vpc.
    assert admitted == ["VPCRemoved"] or set(admitted) == {"SubnetCreated"}


def test_no_projection_forgets_an_admitted_command(store):
    recorder, journal = store
    Authority(recorder, journal).execute(command("VPCCreated", VPC, 1))

    def write(number: int) -> None:
        authority = Authority(recorder, journal)
        for step in range(5):
            name = subnet(f"s{number}-{step}")
            assert authority.execute(
                command("SubnetCreated", name, number * 10 + step, **{"spec.vpc": "shop"})
            ).admitted

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = Authority(recorder, journal)
    late.execute(command("VPCGuarded", VPC, 99, **{"metadata.finalizers": ["kubeovn.io/kube-ovn-controller"]}))
    vpc = late.reading.world.live[VPC]
    listed = vpc_status.standing(late.reading.world, vpc).lawful["status.subnets"]
    assert listed == sorted(f"s{number}-{step}" for number in range(1, 5) for step in range(5))


def test_judging_a_ledger_keeps_what_was_commanded(store):
    recorder, journal = store
    authority = Authority(recorder, journal)
    authority.execute(command("VPCCreated", VPC, 1))
    ledger = Ledger(recorder)
    judged = judge(journal, ledger)
    assert VPC in judged.reading.world.live
    assert ledger.generation == 1
