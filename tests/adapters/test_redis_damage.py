"""Keys that somebody changed behind the store's back: `verify` says where. Answers that were lost: all is written once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError

from adapters import proof
from adapters.ports import Aside, LedgerDamaged, LedgerLocked, StoreError
from adapters.stores import redis_journal, redis_recorder
from adapters.stores.redis_journal import RedisJournal
from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.sqlite_child import event_at, record_at
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.usefixtures("no_endless_wait")

Entries = list[tuple[bytes, dict[bytes, bytes]]]


@pytest.fixture
def client(redis_server) -> Any:
    return redis_server.client()


@pytest.fixture
def server(redis_address) -> Iterator[RedisServer]:
    """A ledger of six blocks, two of them of one append, and a journal of three blocks and two things kept aside."""
    with RedisServer(redis_address()) as server:
        recorder, journal = RedisRecorder(server), RedisJournal(server)
        for start, size in ((1, 1), (2, 300), (302, 2), (304, 50), (354, 3)):
            recorder.append([event_at(position) for position in range(start, start + size)])
        source = journal.source("a.log", "audit")
        for start in (1, 11, 21):
            aside = [Aside.of(start, "not JSON", b"{")] if start > 1 else []
            journal.commit(source, [record_at(number) for number in range(start, start + 10)], aside, b"")
        assert [*server.verify(), *recorder.verify(), *journal.verify()] == []
        yield server


def rewrite(client: Any, key: str, changed: Callable[[Entries], Entries]) -> None:
    """Put other entries in the place of a stream's."""
    entries = changed(list(client.xrange(key)))
    with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        for id, fields in entries:
            pipeline.xadd(key, fields, id=id)
        pipeline.execute()


def flipped(value: bytes, place: int) -> bytes:
    return value[:place] + bytes([value[place] ^ 4]) + value[place + 1 :]


def replaced(entries: Entries, place: int, field: bytes, value: bytes) -> Entries:
    id, fields = entries[place]
    return [*entries[:place], (id, {**fields, field: value}), *entries[place + 1 :]]


def put_last(client: Any, key: str, field: bytes, value: bytes) -> None:
    rewrite(client, key, lambda entries: replaced(entries, len(entries) - 1, field, value))


def content_of(fields: dict[bytes, bytes]) -> bytes:
    return b"z" if b"z" in fields else b"r"


@pytest.mark.parametrize(("block", "first"), [(0, 1), (1, 2), (2, 252), (3, 302), (4, 304), (5, 354)])
def test_a_flipped_bit_is_found_in_the_block_where_it_is(server, client, block, first):
    def flip(entries: Entries) -> Entries:
        field = content_of(entries[block][1])
        value = entries[block][1][field]
        return replaced(entries, block, field, flipped(value, len(value) // 2))

    rewrite(client, server.key("events"), flip)
    problems = list(RedisRecorder(server).verify())
    assert problems and problems[0].number == first
    assert len({problem.number for problem in problems}) == 1


def test_every_flipped_bit_of_a_block_is_found(server, client):
    """Of the last block: behind it only the seal is left to notice."""
    (_, fields) = client.xrevrange(server.key("events"), count=1)[0]
    for field, value in fields.items():
        for place in range(0, len(value), 1 if LONG_SEARCH else 4):
            put_last(client, server.key("events"), field, flipped(value, place))
            problems = list(RedisRecorder(server).verify())
            assert problems and problems[0].number in (354, 356), (field, place)
        put_last(client, server.key("events"), field, value)
    assert list(RedisRecorder(server).verify()) == []


@pytest.mark.parametrize(
    ("block", "told"), [(0, "1 dropped before 2"), (2, "252 to 301 dropped before 302"), (5, "sealed up to 356")]
)
def test_a_dropped_block_is_found(server, client, block, told):
    rewrite(client, server.key("events"), lambda entries: entries[:block] + entries[block + 1 :])
    assert told in str(next(RedisRecorder(server).verify()))
    if block == 2:
        with pytest.raises(LedgerDamaged, match=r"lost position 252|events that are gone"):
            list(RedisRecorder(server).read())


def test_two_blocks_that_were_swapped_are_found(server, client):
    def swap(entries: Entries) -> Entries:
        (a, one), (b, other) = entries[3], entries[5]
        return [*entries[:3], (a, {**other}), entries[4], (b, {**one})]

    rewrite(client, server.key("events"), swap)
    assert next(RedisRecorder(server).verify()).number == 302


def test_a_block_that_was_put_in_is_found(server, client):
    _, fields = client.xrevrange(server.key("events"), count=1)[0]
    client.xadd(server.key("events"), fields, id="357-1")
    client.hset(server.key("meta"), "position", 357)
    assert next(RedisRecorder(server).verify()).number == 357


def test_a_tail_cut_off_with_its_seal_moved_back_is_found(server, client):
    client.xtrim(server.key("events"), maxlen=1000)
    rewrite(client, server.key("events"), lambda entries: entries[:-1])
    client.hset(server.key("meta"), "position", 353)
    assert "seal" in next(RedisRecorder(server).verify()).reason


def test_a_log_that_was_written_anew_and_fits_itself_is_not_what_was_attested(server, redis_address):
    recorder = RedisRecorder(server)
    attestation = proof.attested(recorder, server.address.shown)
    earlier = recorder.seal(303)
    recorder.append([event_at(357)])
    assert list(proof.against(recorder, attestation)) == []
    assert recorder.seal(303) == earlier != recorder.seal(301)
    assert recorder.seal(300) is None and recorder.seal(358) is None
    with RedisServer(redis_address()) as other:
        anew = RedisRecorder(other)
        assert "the log ends at 0" in str(next(proof.against(anew, attestation)))
        anew.append([DCBEvent("Moved", b"another", [])])
        anew.append([event_at(position) for position in range(2, 357)])
        assert list(anew.verify()) == []
        assert "not what was attested" in str(next(proof.against(anew, attestation)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda client, key: client.lpop(key("tag:eip:7")), "eip:7"),
        (lambda client, key: client.delete(key("tag:n:300")), "n:300"),
        (lambda client, key: client.rpush(key("tag:eip:7"), 356), "eip:7"),
        (lambda client, key: client.lset(key("type:Moved"), 100, 100), "Moved"),
        (lambda client, key: client.hset(key("meta"), "postings", 7), "7 postings"),
    ],
)
def test_an_index_that_does_not_fit_the_events_is_found(server, client, change, told):
    change(client, server.key)
    assert told in str(next(RedisRecorder(server).verify()))


@pytest.mark.parametrize(
    "change",
    [
        lambda client, key: rewrite(client, key("journal"), lambda e: e[1:]),
        lambda client, key: rewrite(client, key("journal"), lambda e: e[:-1]),
        lambda client, key: rewrite(client, key("journal"), lambda e: replaced(e, 1, b"z", flipped(e[1][1][b"z"], 20))),
        lambda client, key: rewrite(client, key("journal"), lambda e: [(e[0][0], e[1][1]), (e[1][0], e[0][1]), e[2]]),
        lambda client, key: client.hdel(key("identities"), client.hkeys(key("identities"))[3]),
        lambda client, key: client.hset(key("identities"), "another", b"x"),
        lambda client, key: client.hset(key("sources"), "1", flipped(client.hget(key("sources"), "1"), 3)),
        lambda client, key: client.hset(key("sources"), "2", client.hget(key("sources"), "1")),
        lambda client, key: client.delete(key("source-ids")),
        lambda client, key: rewrite(client, key("aside"), lambda e: e[1:]),
        lambda client, key: rewrite(client, key("aside"), lambda e: [(e[0][0], e[1][1]), (e[1][0], {b"row": b"x"})]),
        lambda client, key: client.hset(key("meta"), "number", 40),
    ],
)
def test_a_journal_that_is_not_what_was_written_is_found(server, client, change):
    change(client, server.key)
    assert list(RedisJournal(server).verify()) != []


# ---- answers that are lost


@pytest.fixture
def through(redis_server, redis_address) -> Iterator[tuple[Proxy, RedisServer]]:
    """A connection that loses answers."""
    with Proxy(redis_server.port) as proxy:
        address = redis_address().replace(f":{redis_server.port}/", f":{proxy.port}/")
        with RedisServer(address, alone=False) as server:
            yield proxy, server


def test_an_append_whose_answer_was_lost_is_appended_once(through):
    proxy, server = through
    recorder = RedisRecorder(server)
    query = DCBQuery([DCBQueryItem(tags=["all"])])
    for position in range(1, 13):
        proxy.lose = position % 3
        # It would be refused now: by its own event.
        condition = DCBAppendCondition(query, after=position - 1)
        assert recorder.append([DCBEvent("A", b"%d" % position, ["all"])], condition) == position
    assert proxy.lost == 12
    assert [found.event.data for found in recorder.read()] == [b"%d" % n for n in range(1, 13)]


def test_a_refusal_whose_answer_was_lost_is_a_refusal(through):
    proxy, server = through
    recorder = RedisRecorder(server)
    recorder.append([event_at(1)])
    proxy.lose = 2
    with pytest.raises(IntegrityError):
        recorder.append([event_at(2)], DCBAppendCondition(DCBQuery(), after=0))
    assert proxy.lost == 2
    assert recorder.head() == 1


def test_a_commit_whose_answer_was_lost_is_committed_once_and_its_records_are_new(through):
    proxy, server = through
    journal = RedisJournal(server)
    proxy.lose = 2
    source = journal.source("a.log", "audit")
    for number in range(1, 9):
        proxy.lose = number % 4
        receipt = journal.commit(source, [record_at(number)], [Aside.of(number, "bad", b"x")], b"")
        assert (receipt.accepted, receipt.duplicates, receipt.collisions) == ([True], 0, 0)
    assert proxy.lost > 8
    assert [entry.payload for entry in journal.read()] == [record_at(number).payload for number in range(1, 9)]
    assert len(list(journal.kept_aside())) == 8
    assert list(journal.verify()) == []


def test_what_was_kept_is_said_to_be_kept_though_another_took_over_before_the_answer(
    redis_server, redis_address, monkeypatch
):
    with Proxy(redis_server.port) as proxy:
        address = redis_address().replace(f":{redis_server.port}/", f":{proxy.port}/")
        with RedisServer(address) as server:
            recorder, journal = RedisRecorder(server), RedisJournal(server)
            source = journal.source("a.log", "audit")
            evaluate = RedisServer._evaluate
            taken_over = server.fence

            def taken_over_between(self, script, keys, arguments):
                if script in (redis_recorder._APPEND, redis_journal._COMMIT):
                    proxy.lose = 1 if arguments[1] == b"" else 0
                    redis_server.client().hset(server.key("meta"), "fence", 99 if arguments[1] else taken_over)
                return evaluate(self, script, keys, arguments)

            monkeypatch.setattr(RedisServer, "_evaluate", taken_over_between)
            assert recorder.append([event_at(1)]) == 1
            assert journal.commit(source, [record_at(1)], [], b"").accepted == [True]
            monkeypatch.setattr(RedisServer, "_evaluate", evaluate)
            assert proxy.lost == 2
            with pytest.raises(LedgerLocked):
                recorder.append([event_at(2)])
            assert (recorder.head(), journal.head()) == (1, 1)


def test_where_it_can_no_longer_be_told_whether_it_was_kept_it_is_said(through, redis_server, monkeypatch):
    """So many others wrote before the connection was back that the append's trace is forgotten."""
    proxy, server = through
    recorder, journal = RedisRecorder(server), RedisJournal(server)
    source = journal.source("a.log", "audit")
    short = redis_recorder._APPEND.replace(str(redis_recorder.APPENDS_KEPT), "100").replace("'~', 100", "'=', 100")
    monkeypatch.setattr(redis_recorder, "_APPEND", short)
    shorter = redis_journal._COMMIT.replace(str(redis_journal.COMMITS_KEPT), "100").replace("'~', 100", "'=', 100")
    monkeypatch.setattr(redis_journal, "_COMMIT", shorter)
    direct = server.address.shown.replace(f":{proxy.port}/", f":{redis_server.port}/")
    with RedisServer(direct, alone=False) as other_server:
        other, other_journal = RedisRecorder(other_server), RedisJournal(other_server)
        evaluate = RedisServer._evaluate

        def slow(self, script, keys, arguments):
            if self is server and script in (short, shorter):
                proxy.lose = 1 if arguments[1] == b"" else 0
                # Between the first time it is sent and the second, others write.
                for number in range(0 if proxy.lose else 120):
                    other.append([event_at(1)])
                    other_journal.commit(source, [record_at(1000 + number)], [], b"")
            return evaluate(self, script, keys, arguments)

        monkeypatch.setattr(RedisServer, "_evaluate", slow)
        with pytest.raises(StoreError, match="no longer be told whether this was kept"):
            recorder.append([event_at(2)])
        with pytest.raises(StoreError, match="no longer be told whether this was kept"):
            journal.commit(source, [record_at(1)], [], b"")
