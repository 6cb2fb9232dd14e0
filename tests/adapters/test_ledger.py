"""The ledger: places and positions, generations, and what `verify` sees."""

from __future__ import annotations

from random import Random

from eventsourcing.dcb.api import DCBEvent
from eventsourcing.dcb.popo import InMemoryDCBRecorder

from adapters.ledger import Ledger, verify
from adapters.stores import codec
from domain.events import Event
from domain.resources import Key


def event(number: int) -> Event:
    return Event(type="VPCCreated", key=Key("vpc", "", f"v{number}"), record=f"r{number}", time=number)


def test_every_place_finds_its_own_event_over_many_appends_and_a_new_generation():
    ledger = Ledger(InMemoryDCBRecorder())
    for batch in ([1], [2, 3, 4], [5, 6], [7]):
        ledger.append([event(number) for number in batch])
    assert [ledger.event_at(at).event.time for at in range(1, 8)] == [1, 2, 3, 4, 5, 6, 7]
    ledger.restart_after(3, 3)
    ledger.append([event(40), event(50)])
    assert [ledger.event_at(at).event.time for at in range(1, 6)] == [1, 2, 3, 40, 50]
    assert [placed.event.time for placed in ledger.events()] == [1, 2, 3, 40, 50]


def test_a_ledger_of_many_generations_is_opened_as_it_was_left_and_another_for_a_question_reads_nothing():
    recorder, random = InMemoryDCBRecorder(), Random(3)
    ledger = Ledger(recorder)
    kept: list[int] = []
    for number in range(300):
        ledger.append([event(number)] * random.randint(1, 4))
        kept += [number] * (ledger.count - len(kept))
        if random.random() < 0.7:
            at = random.randint(max(0, len(kept) - 6), len(kept))
            ledger.restart_after(ledger.position_of(at) if at else 0, at)
            del kept[at:]
    for other in (Ledger(recorder), ledger.as_it_stands()):
        assert (other.generation, other.head, other.stretches()) == (ledger.generation, ledger.head, ledger.stretches())
        assert [placed.event.time for placed in other.events()] == kept
    recorder.read = None  # type: ignore[method-assign,assignment]
    question = ledger.as_it_stands()
    assert question.position_of(len(kept)) == ledger.position_of(len(kept))


def test_a_ledger_opened_anew_reads_the_same_generation():
    recorder = InMemoryDCBRecorder()
    ledger = Ledger(recorder)
    ledger.append([event(number) for number in range(1, 6)])
    ledger.restart_after(2, 2)
    ledger.append([event(30)])
    again = Ledger(recorder)
    assert again.generation == 2
    assert [placed.event.time for placed in again.events()] == [1, 2, 30]
    assert [again.event_at(at).event.time for at in (1, 2, 3)] == [1, 2, 30]


def test_verify_names_what_is_no_event_and_what_is_filed_under_another_type():
    recorder = InMemoryDCBRecorder()
    ledger = Ledger(recorder)
    ledger.append([event(1)])
    assert list(verify(ledger.recorder)) == []
    recorder.append([DCBEvent(type="VPCCreated", data=b"\xc1 not MessagePack", tags=[])])
    recorder.append([DCBEvent(type="VPCRemoved", data=codec.encode(event(2)).data, tags=[])])
    assert [(problem.number, problem.part) for problem in verify(ledger.recorder)] == [(2, "ledger"), (3, "ledger")]
    assert "it says VPCCreated, and is filed as VPCRemoved" in str(list(verify(ledger.recorder))[1])


def test_an_event_is_found_at_its_place_though_nobody_has_read_the_log_before():
    recorder = InMemoryDCBRecorder()
    Ledger(recorder).append([event(1), event(2), event(3)])
    assert Ledger(recorder).event_at(2).event.time == 2
