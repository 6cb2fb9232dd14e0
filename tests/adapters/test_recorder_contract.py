"""What every recorder must do, asked of the package's own one in memory and of ours.

Positions rise strictly in the order of the commits, and those of one append follow one another. That there is no gap
between appends holds for the stores whose numbers are ours, and is asked of them in `CONTIGUOUS` only.
"""

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from eventsourcing.dcb import tests as package_tests
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBQueryItem,
    DCBReadResponse,
    DCBRecorder,
    DCBSequencedEvent,
)
from eventsourcing.dcb.popo import InMemoryDCBRecorder
from eventsourcing.persistence import IntegrityError, ProgrammingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.ports import Recorder, StoreError
from adapters.stores import backends
from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.adapters.conftest import LONG_SEARCH

pytestmark = pytest.mark.usefixtures("no_endless_wait")

WRITERS = 8


# Where a refused append, or one taken back, may leave a gap: the server counts, not the store.
MAY_SKIP = ("PostgresRecorder",)


@pytest.fixture(params=["memory", "sqlite", "sqlite, throw-away", "redis", "postgres"])
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DCBRecorder]:
    if request.param == "memory":
        yield InMemoryDCBRecorder()
        return
    if request.param == "redis":
        with RedisServer(request.getfixturevalue("redis_address")()) as server:
            yield RedisRecorder(server)
        return
    if request.param == "postgres":
        with backends.opened(request.getfixturevalue("postgres")()) as backend:
            yield backend.recorder
        return
    with SQLiteFile(tmp_path / "contract.ledger", durable=request.param == "sqlite") as file:
        yield SQLiteRecorder(file)


def event(name: str, *tags: str, data: bytes = b"") -> DCBEvent:
    return DCBEvent(type=name, data=data, tags=list(tags))


def tagged(*tags: str) -> DCBQuery:
    return DCBQuery([DCBQueryItem(tags=list(tags))])


def positions(response: DCBReadResponse) -> list[int]:
    return [found.position for found in response]


def assert_rising(found: list[int], count: int, recorder: DCBRecorder) -> None:
    """So many positions, strictly rising; without gaps where the store promises that."""
    assert len(found) == count
    assert found == sorted(set(found))
    if type(recorder).__name__ not in MAY_SKIP:
        assert found == list(range(1, count + 1))


# The class is not named at the top of this module, or pytest would collect it here.
def test_reads_and_appends_as_the_package_asks_of_every_recorder(recorder):
    package_tests.DCBRecorderTestCase()._test_append_read(recorder)


def test_subscribes_as_the_package_asks_of_every_recorder(recorder):
    package_tests.DCBRecorderTestCase()._test_append_subscribe(recorder)


def test_events_come_back_exactly_as_given(recorder):
    given_events = [
        event("A", "vpc:shop", "subnet:a", "vpc:shop", data=bytes(range(256))),
        event("", data=b""),
        event("名前", "", "nul:\0", "vpc:Shop", "vpc:shop "),
    ]
    recorder.append(given_events)
    assert [found.event for found in recorder.read()] == given_events
    assert positions(recorder.read(tagged("vpc:shop"))) == [1]
    assert positions(recorder.read(tagged("nul:\0"))) == [3]
    assert positions(recorder.read(tagged("nul:"))) == []


def test_an_append_of_nothing_is_a_programming_error(recorder):
    with pytest.raises(ProgrammingError):
        recorder.append([])


def test_a_refused_append_leaves_no_event_and_where_the_store_counts_no_gap(recorder):
    recorder.append([event("A", "vpc:a")])
    for _ in range(3):
        with pytest.raises(IntegrityError):
            recorder.append([event("B", "new:tag"), event("C")], DCBAppendCondition(tagged("vpc:a"), after=0))
    position = recorder.append([event("D", "new:tag")], DCBAppendCondition(tagged("vpc:a"), after=1))
    assert [(found.position, found.event.type) for found in recorder.read()] == [(1, "A"), (position, "D")]
    assert positions(recorder.read(tagged("new:tag"))) == [position]
    assert_rising([1, position], 2, recorder)


def test_reads_of_many_pages_are_complete_and_ordered(recorder):
    batch = [event(f"T{i % 3}", f"n:{i % 2}", "all") for i in range(2503)]
    recorder.append(batch)
    everything = list(range(1, 2504))
    assert positions(recorder.read()) == everything
    assert positions(recorder.read(tagged("all"))) == everything
    assert positions(recorder.read(tagged("all"), after=1200, limit=1111)) == everything[1200:2311]
    assert positions(recorder.read(after=1200, limit=1111)) == everything[1200:2311]
    either = DCBQuery([DCBQueryItem(tags=["n:0"]), DCBQueryItem(types=["T0", "T1"])])
    assert positions(recorder.read(either)) == [p for p in everything if (p - 1) % 2 == 0 or (p - 1) % 3 < 2]


def test_a_read_gives_what_was_there_when_it_was_asked(recorder):
    recorder.append([event("A") for _ in range(1500)])
    response = recorder.read()
    next(response)
    recorder.append([event("B")])
    assert positions(response)[-1] == 1500
    assert response.head == 1500


def test_a_query_of_very_many_items_and_tags_is_answered(recorder):
    many = [f"slot:{i}" for i in range(1200)]
    recorder.append([event("Booked", *many), event("Booked", many[7])])
    assert positions(recorder.read(tagged(*many))) == [1]
    any_of_them = DCBQuery([DCBQueryItem(tags=[tag]) for tag in many])
    assert positions(recorder.read(any_of_them)) == [1, 2]
    with pytest.raises(IntegrityError):
        recorder.append([event("Booked")], DCBAppendCondition(any_of_them, after=1))
    assert recorder.append([event("Booked")], DCBAppendCondition(any_of_them, after=2)) > 2


def test_of_writers_on_one_boundary_one_wins_each_round(recorder):
    """Eight threads decide at the same position; only one of them may be right about it."""
    rounds = 25
    start = threading.Barrier(WRITERS)
    wins: list[tuple[int, int]] = []

    def write(writer: int) -> None:
        for round_number in range(rounds):
            decided_at = max(positions(recorder.read(tagged("eip:e1"))), default=0)
            start.wait()
            condition = DCBAppendCondition(tagged("eip:e1"), after=decided_at)
            with suppress(IntegrityError):
                position = recorder.append([event("Won", "eip:e1", f"by:{writer}")], condition)
                wins.append((round_number, position))
            start.wait()

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    assert [round_number for round_number, _ in wins] == list(range(rounds))
    assert_rising(positions(recorder.read()), rounds, recorder)


def test_writers_on_boundaries_of_their_own_never_stop_each_other(recorder):
    def write(writer: int) -> None:
        decided_at = 0
        for _ in range(25):
            condition = DCBAppendCondition(tagged(f"eip:{writer}"), after=decided_at)
            decided_at = recorder.append([event("Moved", f"eip:{writer}")] * 2, condition)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    found = list(recorder.read())
    assert_rising([one.position for one in found], WRITERS * 50, recorder)
    # The two of one append stand side by side, and nobody came between them.
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert (second.position, second.event) == (first.position + 1, first.event)


def test_subscribers_see_every_event_once_and_in_order_while_writers_write(recorder):
    total = WRITERS * 40

    def subscribe(query: DCBQuery | None) -> list[int]:
        with recorder.subscribe(query) as subscription:
            return [next(subscription).position for _ in range(total)]

    def write(writer: int) -> None:
        for _ in range(40):
            recorder.append([event("Moved", f"eip:{writer}", "all")])

    with ThreadPoolExecutor(WRITERS + 4) as pool:
        seen = [pool.submit(subscribe, query) for query in (None, None, tagged("all"), tagged("all"))]
        list(pool.map(write, range(WRITERS)))
        for subscriber in seen:
            seen_by_one = subscriber.result(timeout=20)
            assert_rising(seen_by_one, total, recorder)
            assert seen_by_one == positions(recorder.read())


def test_a_subscription_taken_up_again_goes_on_where_the_last_one_ended(recorder):
    recorder.append([event("A", "odd" if i % 2 else "even") for i in range(1300)])
    seen: list[int] = []
    while len(seen) < 650:
        with recorder.subscribe(tagged("odd"), after=seen[-1] if seen else None) as subscription:
            seen.extend(next(subscription).position for _ in range(min(77, 650 - len(seen))))
        recorder.append([event("A", "even")])
    assert seen == list(range(2, 1301, 2))


def test_stop_wakes_a_subscriber_that_waits(recorder):
    subscription = recorder.subscribe()
    received: list[DCBSequencedEvent] = []
    waiter = threading.Thread(target=lambda: received.extend(subscription))
    with subscription:
        waiter.start()
        recorder.append([event("A")])
        while not received:
            time.sleep(0.001)
    waiter.join(timeout=5)
    assert not waiter.is_alive()
    assert [found.position for found in received] == [1]
    with pytest.raises(StopIteration):
        next(subscription)


NAMES = st.sampled_from(["a", "b", "c", "d", "A", "ä", ""])
EVENTS = st.builds(DCBEvent, type=NAMES, data=st.binary(max_size=3), tags=st.lists(NAMES, max_size=4))
QUERIES = st.none() | st.builds(
    DCBQuery,
    items=st.lists(
        st.builds(DCBQueryItem, types=st.lists(NAMES, max_size=3), tags=st.lists(NAMES, max_size=3)),
        max_size=3,
    ),
)
POSITIONS = st.none() | st.integers(-1, 12)


Batch = tuple[list[DCBEvent], DCBAppendCondition | None]
Read = tuple[DCBQuery | None, int | None, int | None]
CONDITIONS = st.none() | st.builds(DCBAppendCondition, QUERIES.map(lambda q: q or DCBQuery()), POSITIONS)
BATCHES = st.lists(st.tuples(st.lists(EVENTS, min_size=1, max_size=4), CONDITIONS), max_size=6)
READS = st.lists(st.tuples(QUERIES, POSITIONS, POSITIONS), min_size=1, max_size=6)


@given(batches=BATCHES, reads=READS)
@settings(deadline=None)
def test_sqlite_answers_and_refuses_exactly_as_memory_does(batches, reads):
    with (
        tempfile.TemporaryDirectory() as directory,
        SQLiteFile(Path(directory) / "compared.ledger", durable=False) as file,
    ):
        compare_with_memory(SQLiteRecorder(file), batches, reads)


@given(batches=BATCHES, reads=READS)
@settings(deadline=None)
def test_redis_answers_and_refuses_exactly_as_memory_does(redis_address, batches, reads):
    with RedisServer(redis_address(), alone=False) as server:
        compare_with_memory(RedisRecorder(server), batches, reads)


# Fewer than of SQLite: each append and commit waits for a disk.
@given(batches=BATCHES, reads=READS)
@settings(deadline=None, max_examples=300 if LONG_SEARCH else 30, suppress_health_check=list(HealthCheck))
def test_postgres_answers_and_refuses_exactly_as_memory_does(emptied_postgres, batches, reads):
    compare_with_memory(emptied_postgres().recorder, batches, reads)


def compare_with_memory(recorder: Recorder, batches: list[Batch], reads: list[Read]) -> None:
    """Both are given the same; in one process, where nothing is taken back but by a condition, no store skips."""
    memory = InMemoryDCBRecorder()
    for events, condition in batches:
        assert _append(memory, events, condition) == _append(recorder, events, condition)
    for query, after, limit in reads:
        expected = memory.read(query, after=after, limit=limit)
        found = recorder.read(query, after=after, limit=limit)
        assert found.head == expected.head
        assert list(found) == list(expected)
        assert found.head == expected.head
    assert list(recorder.verify()) == []


def _append(recorder: DCBRecorder, events: list[DCBEvent], condition: DCBAppendCondition | None) -> int | str:
    try:
        return recorder.append(events, condition)
    except IntegrityError:
        return "refused"


def test_an_append_that_cannot_be_kept_fails_alone_and_not_those_beside_it(recorder: DCBRecorder):
    """In a group that shares one transaction one that is wrong must not take the others with it."""
    wrong = event("A", "lone surrogate: \ud800", data=b"1")

    def append(number: int) -> bool:
        if number % 5:
            return recorder.append([event("A", f"n:{number}", data=b"%d" % number)]) > 0
        try:
            recorder.append([wrong])
        except (ValueError, StoreError):
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        kept = list(pool.map(append, range(200)))
    assert all(kept[number] for number in range(200) if number % 5)
    assert len(list(recorder.read())) == sum(kept)


def test_what_lies_between_two_positions_is_what_a_read_gives_of_them(recorder):
    for first in range(0, 60, 7):
        recorder.append([event("A", "all", f"n:{p % 3}", data=b"%d" % p) for p in range(first, first + 7)])
    if not isinstance(recorder, Recorder):
        pytest.skip("the package's own recorder has no such question")
    for query in (None, tagged("n:1"), tagged("all", "n:2"), tagged("no such tag")):
        found = list(recorder.read(query))
        places = [0, *positions(recorder.read())]
        for after in places[::5]:
            for upto in places[::4]:
                wanted = [one for one in found if after < one.position <= upto]
                assert list(recorder.between(query, after, upto)) == wanted
