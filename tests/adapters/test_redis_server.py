"""A Redis server as a store: how it is addressed, what it must be set to, who may write, and how it says what is wrong."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError

from adapters.ports import (
    LedgerDamaged,
    LedgerLocked,
    LedgerMissing,
    LedgerReadOnly,
    NewerLedger,
    NotALedger,
    Record,
    StoreError,
    StoreFull,
)
from adapters.stores import backends
from adapters.stores import redis_server as store
from adapters.stores.redis_journal import RedisJournal
from adapters.stores.redis_recorder import RedisRecorder
from adapters.stores.redis_server import RedisServer, read_address
from tests.adapters.sqlite_child import event_at, record_at
from tests.servers.proxy import Proxy
from tests.servers.redis_server import Server, free_port

pytestmark = pytest.mark.usefixtures("no_endless_wait")

COMMANDS = (
    "+ping +info +type +evalsha +eval +get +set +pttl +del +hget +hmget +hset +hgetall +hlen +hincrby +sadd"
    " +xadd +xrange +xread +xlen +rpush +lindex +lrange +llen"
)
"""What docs/ledgers.md says that a user needs."""
ASKED_LATER = {"ping", "hgetall", "xread", "eval"}


@pytest.fixture(scope="module")
def breakable() -> Iterator[Server]:
    """A server whose settings tests may change, if they change them back."""
    with Server() as server:
        yield server


def child(job: str, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.adapters.redis_child", job, address]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# ---- addresses


def test_an_address_names_server_user_database_and_ledger():
    found = read_address("rediss://shop:p%40ss@db.example:6380/2?ledger=prod.eu&ca=/etc/ca.pem")
    assert found.hosts == [("db.example", 6380)]
    assert (found.user, found.password, found.database, found.ledger) == ("shop", "p@ss", 2, "prod.eu")
    assert found.secure and found.options["ca"] == "/etc/ca.pem"
    assert "p%40ss" not in found.shown


def test_an_address_of_sentinels_or_of_a_cluster_names_several_hosts():
    found = read_address("redis+sentinel://h1,h2:26380,[::1]:5/mymaster/3?ledger=shop")
    assert found.hosts == [("h1", 26379), ("h2", 26380), ("::1", 5)]
    assert (found.topology, found.service, found.database) == ("sentinel", "mymaster", 3)
    assert read_address("redis+cluster://h1,h2:7001").hosts == [("h1", 6379), ("h2", 7001)]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("redis://h/shop", "no database's number"),
        ("redis://h1,h2/0", "several hosts"),
        ("redis://h:port/0", "no host and port"),
        ("redis+sentinel://h1/", "name of the service"),
        ("redis+cluster://h1/3", "a cluster has none"),
        ("redis://h/0?ledger={shop}", "no name of a ledger"),
        ("redis://h/0?name=shop", "no option 'name'"),
        ("redis://h/0?timeout=soon", "a number of seconds"),
        ("redis://h/0?timeout=0", "a number of seconds"),
    ],
)
def test_an_address_of_another_form_is_refused_with_the_form(address, told):
    with pytest.raises(StoreError, match=told) as refused:
        read_address(address)
    assert "the form is redis" in str(refused.value)


def test_no_password_is_ever_printed():
    for address in ("redis://u:secret@h/0", "redis+sentinel://u:secret@h1,h2/m?sentinel_password=secret&ledger=a"):
        assert "secret" not in backends.shown(address)
        assert "secret" not in read_address(address).shown


# ---- what is there


def test_a_ledger_that_is_not_there_cannot_be_read(redis_address):
    with pytest.raises(LedgerMissing, match="nothing to read"):
        RedisServer(redis_address(), "read")


def test_what_is_opened_for_reading_writes_nothing(redis_address):
    address = redis_address()
    with RedisServer(address) as server:
        RedisRecorder(server).append([event_at(1)])
        with RedisServer(address, "read") as reader:
            assert RedisRecorder(reader).head() == 1
            with pytest.raises(LedgerReadOnly, match="opened for reading"):
                RedisRecorder(reader).append([event_at(2)])
            with pytest.raises(LedgerReadOnly):
                RedisJournal(reader).source("a.log", "audit")


def test_several_ledgers_on_one_server_know_nothing_of_each_other(redis_server, redis_address):
    one, other = redis_address(), redis_address()
    with RedisServer(one) as a, RedisServer(other) as b:
        RedisRecorder(a).append([event_at(1), event_at(2)])
        RedisRecorder(b).append([event_at(3)])
        assert [found.event for found in RedisRecorder(a).read()] == [event_at(1), event_at(2)]
        assert [found.event for found in RedisRecorder(b).read()] == [event_at(3)]
        keys = redis_server.client().keys(b.key("*").replace("{", r"\{"))
        assert keys and all(key.startswith(b.key("").encode()) for key in keys)


def test_a_ledger_of_a_newer_format_is_left_as_it_is(breakable):
    address = f"{breakable.url}?ledger=newer"
    with RedisServer(address) as server:
        recorder = RedisRecorder(server)
        breakable.client().hset(server.key("meta"), "format", 2)
        with pytest.raises(NewerLedger):
            recorder.append([event_at(1)])
    for mode in ("read", "write"):
        with pytest.raises(NewerLedger, match="version 2"):
            RedisServer(address, mode)


@pytest.mark.parametrize("mode", ["read", "write"])
def test_keys_of_something_else_are_left_as_they_are(breakable, mode):
    breakable.client().set("netledger:{taken}:meta", "mine")
    breakable.client().hset("netledger:{other}:meta", "mine", 1)
    for name in ("taken", "other"):
        with pytest.raises(NotALedger, match="left as it is"):
            RedisServer(f"{breakable.url}?ledger={name}", mode)
    assert breakable.client().get("netledger:{taken}:meta") == b"mine"


def test_a_key_of_another_kind_among_the_ledgers_is_damage(breakable):
    with RedisServer(f"{breakable.url}?ledger=mixed") as server:
        breakable.client().set(server.key("events"), "mine")
        with pytest.raises(LedgerDamaged, match="something else wrote"):
            RedisRecorder(server).append([event_at(1)])


# ---- how durable it is


def test_the_settings_of_the_server_are_told(redis_address):
    with backends.opened(redis_address()) as kept:
        assert "appendonly yes, appendfsync always: what it acknowledges is on its disk" in kept.durability


def test_a_server_that_forgets_is_refused_unless_that_is_allowed(breakable):
    address = f"{breakable.url}?ledger=volatile"
    breakable.client().config_set("appendonly", "no")
    try:
        with pytest.raises(StoreError, match=r"appendonly no.*--allow-volatile"), backends.opened(address):
            pass
        with backends.opened(address, allow_volatile=True) as kept:
            assert "lost when it stops" in kept.durability
        with backends.opened(address, "read") as kept:
            assert kept.recorder.head() == 0
    finally:
        breakable.client().config_set("appendonly", "yes")
    breakable.client().config_set("appendfsync", "everysec")
    try:
        with backends.opened(address) as kept:
            assert "last two seconds" in kept.durability
    finally:
        breakable.client().config_set("appendfsync", "always")


def test_a_server_that_drops_keys_is_refused_unless_that_is_allowed(breakable):
    address = f"{breakable.url}?ledger=evicted"
    breakable.client().config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StoreError, match="allkeys-lru drops keys"):
            RedisServer(address)
        with RedisServer(address, allow_volatile=True) as server:
            assert "allkeys-lru" in server.durability
    finally:
        breakable.client().config_set("maxmemory-policy", "noeviction")


# ---- one writer


def test_a_second_writer_is_told_who_the_first_is(redis_address):
    address = redis_address()
    with child("hold", address) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"holding\n"
        with pytest.raises(LedgerLocked, match=rf"process {holder.pid} on .*redis_child.*is writing it"):
            RedisServer(address)
        with RedisServer(address, "read") as reader:
            assert RedisRecorder(reader).head() == 0
        holder.stdin.close()
        holder.wait()
    with RedisServer(address):
        pass


def test_a_holder_that_was_killed_is_in_the_way_for_a_few_seconds_only(redis_address):
    address = redis_address()
    with child("hold", address) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"holding\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        before = time.monotonic()
        with RedisServer(address):
            assert time.monotonic() - before < 3


def test_the_lease_is_kept_for_as_long_as_the_ledger_is_open(redis_address, monkeypatch):
    monkeypatch.setattr(store, "LEASE_SECONDS", 0.4)
    address = redis_address()
    with RedisServer(address) as server:
        time.sleep(1)
        with pytest.raises(LedgerLocked):
            RedisServer(address)
        RedisRecorder(server).append([event_at(1)])


def test_a_writer_that_comes_back_after_another_took_over_writes_nothing(redis_address, monkeypatch):
    monkeypatch.setattr(store, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(RedisServer, "_renew", lambda server, note: None)  # as if the process had been stopped
    address = redis_address()
    with RedisServer(address) as first:
        recorder, journal = RedisRecorder(first), RedisJournal(first)
        source = journal.source("a.log", "audit")
        recorder.append([event_at(1)])
        with RedisServer(address) as second:
            for write in (
                lambda: recorder.append([event_at(2)]),
                lambda: journal.commit(source, [record_at(1)], [], b""),
                lambda: journal.source("b.log", "audit"),
            ):
                with pytest.raises(LedgerLocked, match="took it over"):
                    write()
            assert RedisRecorder(second).append([event_at(2)]) == 2
            assert RedisJournal(second).head() == 0


def test_a_lease_that_ran_out_and_that_nobody_took_is_good_again(redis_server, redis_address):
    with RedisServer(redis_address()) as server:
        redis_server.client().delete(server.key("lease"))
        assert RedisRecorder(server).append([event_at(1)]) == 1


def test_the_lease_is_given_back_at_the_end_and_not_that_of_another(redis_server, redis_address):
    with RedisServer(redis_address()) as server:
        assert redis_server.client().exists(server.key("lease"))
    assert not redis_server.client().exists(server.key("lease"))


def test_writers_without_the_lease_are_held_apart_by_their_conditions(redis_address):
    """Eight connections, each a recorder of its own, decide at the same position: one of them may be right about it."""
    address = redis_address()
    rounds = 15
    start = threading.Barrier(8)
    wins: list[int] = []

    def write(writer: int) -> None:
        with RedisServer(address, alone=False) as server:
            recorder, journal = RedisRecorder(server), RedisJournal(server)
            source = journal.source(f"{writer}.log", "audit")
            query = DCBQuery([DCBQueryItem(tags=["eip:e1"], types=["Won", "Lost"])])
            for number in range(rounds):
                decided_at = max((found.position for found in recorder.read(query)), default=0)
                start.wait(20)
                with suppress(IntegrityError):
                    recorder.append([DCBEvent("Won", b"", ["eip:e1"])], DCBAppendCondition(query, decided_at))
                    wins.append(number)
                journal.commit(source, [record_at(writer * 1000 + number)], [], b"%d" % number)
                start.wait(20)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert wins == list(range(rounds))
    with RedisServer(address, "read") as server:
        assert [found.position for found in RedisRecorder(server).read()] == list(range(1, rounds + 1))
        entries = list(RedisJournal(server).read())
        assert [entry.number for entry in entries] == list(range(1, 8 * rounds + 1))
        assert len({entry.identity for entry in entries}) == 8 * rounds
        assert list(RedisJournal(server).verify()) == []


# ---- long logs and large appends


def test_a_condition_looks_at_as_much_in_a_long_log_as_in_a_short_one(breakable):
    """Counted in what the script asks the server, which no neighbour on the machine disturbs."""
    conditions = [
        (["vpc:shop"], [], 0),  # the tag's last event came before
        (["vpc:shop", "rare"], [], 1),  # two that never meet: the rare one leads
        (["vpc:shop"], ["Seldom"], 1),
        (["rare"], ["Moved", "Seldom"], 0),
    ]
    asked = []
    for length in (2_000, 40_000):
        with RedisServer(f"{breakable.url}?ledger=length-{length}") as server:
            recorder = RedisRecorder(server)
            recorder.append([DCBEvent("Seldom", b"", ["rare"])])
            for _ in range(length // 2_000):
                recorder.append([DCBEvent("Moved", b"", ["vpc:shop"])] * 2_000)
            recorder.append([DCBEvent("Seldom", b"", ["other"])])
            for tags, types, after in conditions:
                before = _looks(breakable)
                query = DCBQuery([DCBQueryItem(tags=tags, types=types)])
                recorder.append([DCBEvent("Other", b"", [])], DCBAppendCondition(query, after or length + 1))
                asked.append(_looks(breakable) - before)
            after = length // 2
            both = DCBQuery([DCBQueryItem(tags=["vpc:shop"])])
            before = _looks(breakable)
            assert next(recorder.read(both, after=after, limit=1)).position == after + 1
            asked.append(_looks(breakable) - before)
    short, long = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    for few, more in zip(short, long, strict=True):
        assert more <= few + 12


def _looks(server: Server) -> int:
    counted = server.client().info("commandstats")
    return sum(counted.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("lindex", "lrange", "xrange"))


def test_an_append_of_very_many_events_and_tags_is_one_append(redis_address):
    with RedisServer(redis_address()) as server:
        recorder = RedisRecorder(server)
        many = [DCBEvent(f"T{n % 3}", b"%d" % n, [f"n:{n}", f"m:{n % 40_000}", "all"]) for n in range(1, 30_001)]
        assert recorder.append(many) == 30_000
        assert [found.event for found in recorder.read()] == many
        query = DCBQuery([DCBQueryItem(types=["T1"], tags=["all"])])
        assert [found.position for found in recorder.read(query)] == list(range(1, 30_001, 3))
        assert list(recorder.verify()) == []


def test_an_event_larger_than_a_block_is_kept_whole(redis_address):
    with RedisServer(redis_address()) as server:
        recorder = RedisRecorder(server)
        large = os.urandom(3_000_000)
        recorder.append([DCBEvent("A", data, ["a"]) for data in (b"", large, b"x", large, b"y")])
        assert [len(found.event.data) for found in recorder.read(after=1)] == [3_000_000, 1, 3_000_000, 1]
        only = DCBQuery([DCBQueryItem(tags=["a"])])
        assert [found.event.data for found in recorder.read(only)] == [b"", large, b"x", large, b"y"]


def test_a_subscription_follows_what_matches_in_the_blocks_that_come(redis_address):
    address = redis_address()
    with RedisServer(address) as server, RedisServer(address, "read") as follower:
        recorder = RedisRecorder(server)
        query = DCBQuery([DCBQueryItem(types=["B"], tags=["odd"]), DCBQueryItem(tags=["seven"])])
        with RedisRecorder(follower).subscribe(query) as subscription, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: [next(subscription).position for _ in range(3)])
            time.sleep(0.05)
            recorder.append(
                [DCBEvent("A", b"", ["odd"]), DCBEvent("B", b"", ["even"]), DCBEvent("B", b"", ["x", "odd"])]
            )
            recorder.append([DCBEvent("A", b"", ["seven"]), DCBEvent("B", b"", ["seven", "odd"])])
            assert waiting.result(timeout=10) == [3, 4, 5]


def test_a_subscription_ends_when_its_server_is_closed(redis_address):
    server = RedisServer(redis_address())
    subscription = RedisRecorder(server).subscribe()
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(list, subscription)
        time.sleep(0.1)
        before = time.monotonic()
        server.close()
        assert ending.result(timeout=10) == []
        assert time.monotonic() - before < 2


# ---- what goes wrong


@pytest.mark.parametrize(
    "form", ["redis://{}/0", "rediss://{}/0", "redis+sentinel://{}/mymaster", "redis+cluster://{}"]
)
def test_nothing_that_listens_is_told_at_once(form):
    with pytest.raises(StoreError, match="is the server running there") as told:
        RedisServer(form.format(f"u:secret@127.0.0.1:{free_port()}"))
    assert "secret" not in str(told.value)


def test_a_server_that_is_no_cluster_and_one_that_is_no_sentinel_are_told(redis_server):
    with pytest.raises(StoreError, match="begins with redis://"):
        RedisServer(f"redis+cluster://127.0.0.1:{redis_server.port}")
    with pytest.raises(StoreError, match="unknown command 'SENTINEL'"):
        RedisServer(f"redis+sentinel://127.0.0.1:{redis_server.port}/mymaster")


def test_a_server_that_does_not_answer_is_given_up(redis_server):
    with Proxy(redis_server.port) as proxy:
        proxy.silent = True
        with pytest.raises(StoreError, match="did not answer in time"):
            RedisServer(f"redis://127.0.0.1:{proxy.port}/0?timeout=0.2")


def test_a_server_that_is_gone_for_long_is_given_up_and_what_is_unknown_is_said(redis_server, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.5)
    with Proxy(redis_server.port) as proxy:
        server = RedisServer(f"redis://127.0.0.1:{proxy.port}/0?ledger=gone&timeout=0.2", alone=False)
        proxy.silent = True
        with pytest.raises(StoreError, match="whether this write was kept is not known"):
            RedisRecorder(server).append([event_at(1)])
        with pytest.raises(StoreError, match="cannot read it"):
            RedisRecorder(server).head()
        server.close()


def test_full_memory_keeps_nothing_of_the_append_and_all_before_it(breakable):
    with RedisServer(f"{breakable.url}?ledger=full") as server:
        recorder, journal = RedisRecorder(server), RedisJournal(server)
        source = journal.source("a.log", "audit")
        used = breakable.client().info("memory")["used_memory"]
        breakable.client().config_set("maxmemory", used + 1_000_000)
        written = 0
        try:
            with pytest.raises(StoreFull, match="maxmemory"):
                while True:
                    recorder.append([event_at(written + 1 + i) for i in range(300)])
                    written += 300
            with pytest.raises(StoreFull):
                journal.commit(source, [Record("large", b"12345678", 1, os.urandom(2_000_000))], [], b"")
        finally:
            breakable.client().config_set("maxmemory", 0)
        assert recorder.head() == written > 0
        assert journal.head() == 0
        assert list(recorder.verify()) == list(journal.verify()) == []
        assert recorder.append([event_at(written + 1)]) == written + 1


def test_a_user_needs_the_commands_and_keys_that_the_page_names_and_no_others(breakable):
    page = (Path(__file__).parents[2] / "docs" / "ledgers.md").read_text(encoding="utf-8")
    assert " ".join(page.split()).count(COMMANDS) == 1
    client = breakable.client()
    client.execute_command("ACL", "SETUSER", "shop", "on", ">p@ss", "~netledger:{acl}:*", "-@all", *COMMANDS.split())
    with RedisServer(f"redis://shop:p%40ss@127.0.0.1:{breakable.port}/0?ledger=acl") as server:
        recorder, journal = RedisRecorder(server), RedisJournal(server)
        recorder.append([event_at(1)], DCBAppendCondition(DCBQuery([DCBQueryItem(tags=["n:1"])]), 0))
        journal.commit(journal.source("a.log", "audit"), [record_at(1)], [], b"")
        with recorder.subscribe() as subscription:
            assert next(subscription).position == 1
        assert list(recorder.verify()) == list(journal.verify()) == []
        assert "not allowed to ask" in server.durability
    with pytest.raises(StoreError, match=r"needs ~netledger:\{other\}:\*") as refused:
        RedisServer(f"redis://shop:p%40ss@127.0.0.1:{breakable.port}/0?ledger=other")
    assert "p%40ss" not in str(refused.value) and "p@ss" not in str(refused.value)


# The others change nothing, or are asked for only where something is new.
@pytest.mark.parametrize("missing", sorted(set(re.findall(r"\w+", COMMANDS)) - ASKED_LATER))
def test_a_user_that_lacks_a_command_is_refused_before_anything_is_half_written(breakable, missing):
    client = breakable.client()
    client.execute_command(
        "ACL", "SETUSER", "less", "reset", "on", ">p", "~*", "-@all", *COMMANDS.split(), f"-{missing}"
    )
    with pytest.raises(StoreError, match=r"the commands that docs/ledgers\.md names"):
        RedisServer(f"redis://less:p@127.0.0.1:{breakable.port}/0?ledger=less")


def test_a_wrong_password_and_none_are_told_apart_from_a_server_that_is_gone(breakable):
    client = breakable.client()
    client.execute_command("ACL", "SETUSER", "eve", "on", ">right", "~*", "+@all")
    with pytest.raises(StoreError, match="right user and password") as refused:
        RedisServer(f"redis://eve:wrong-one@127.0.0.1:{breakable.port}/0")
    assert "wrong-one" not in str(refused.value)
    client.execute_command("ACL", "SETUSER", "default", "resetpass", ">needed")
    try:
        with pytest.raises(StoreError, match="right user and password"):
            RedisServer(breakable.url)
    finally:
        import redis

        redis.Redis("127.0.0.1", breakable.port, password="needed").execute_command(
            "ACL", "SETUSER", "default", "nopass"
        )


def test_a_connection_is_encrypted_and_the_certificate_looked_at(redis_server, tmp_path):
    if shutil.which("openssl") is None:
        pytest.fail("no openssl to make a certificate with: install it (Debian: apt-get install openssl)")
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # The server that the wheel brings speaks no TLS itself; what stands before it here does.
    with Proxy(redis_server.port, context) as proxy:
        address = f"rediss://127.0.0.1:{proxy.port}/0?ledger=tls"
        with RedisServer(f"{address}&ca={certificate}") as server:
            assert RedisRecorder(server).append([event_at(1)]) == 1
        with pytest.raises(StoreError, match="check the certificates"):
            RedisServer(address)


# ---- several servers


@pytest.fixture
def announced() -> Callable[[], Server]:
    return lambda: Server([f"cluster-port {free_port()}", "cluster-enabled yes", "cluster-announce-ip 127.0.0.1"])


def test_a_cluster_keeps_a_ledger_on_one_of_its_nodes_and_may_move_it(announced):
    with announced() as first, announced() as second:
        slot = first.client().execute_command("CLUSTER", "KEYSLOT", "{shop}")
        first.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slot)
        second.client().execute_command("CLUSTER", "ADDSLOTSRANGE", slot + 1, 16383)
        bus = next(line for line in second._settings if line.startswith("cluster-port")).split()[1]
        first.client().execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, bus)
        for server in (first, second):
            while "cluster_state:ok" not in _cluster_info(server):
                time.sleep(0.02)
        with RedisServer(f"redis+cluster://127.0.0.1:{second.port},127.0.0.1:{first.port}?ledger=shop") as server:
            recorder, journal = RedisRecorder(server), RedisJournal(server)
            recorder.append([event_at(n + 1) for n in range(1200)])
            journal.commit(journal.source("a.log", "audit"), [record_at(1)], [], b"")
            assert first.client().exists(server.key("meta"))
            with recorder.subscribe(after=1199) as subscription, ThreadPoolExecutor(1) as pool:
                assert next(subscription).position == 1200
                waiting = pool.submit(next, subscription)
                recorder.append([event_at(1201)])
                assert waiting.result(timeout=10).position == 1201
                waiting = pool.submit(next, subscription)
                _move(slot, first, second)
                assert second.client().exists(server.key("meta"))
                assert recorder.append([event_at(1202)]) == 1202
                assert waiting.result(timeout=10).position == 1202
            assert list(recorder.verify()) == list(journal.verify()) == []
            only = DCBQuery([DCBQueryItem(tags=["n:7"])])
            assert [found.position for found in recorder.read(only)] == [7]


def _move(slot: int, source: Server, target: Server) -> None:
    """Move a slot with all its keys to another node, as `redis-cli --cluster reshard` does."""
    from_id, to_id = (server.client().execute_command("CLUSTER", "MYID") for server in (source, target))
    target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
    source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
    while keys := source.client().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
        source.client().execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for server in (target, source):
        server.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", to_id)


def _cluster_info(server: Server) -> str:
    return str(server.client().execute_command("CLUSTER", "INFO"))


def test_when_a_sentinel_names_another_server_writing_goes_on_there():
    at_once = "repl-diskless-sync-delay 0"
    with Server([at_once]) as first, Server([at_once, f"replicaof 127.0.0.1 {first.port}"]) as second:
        while second.client().info("replication").get("master_link_status") != "up":
            time.sleep(0.02)
        with pytest.raises(LedgerReadOnly, match="this server is a replica"):
            RedisServer(f"{second.url}?ledger=shop")
        watch = [
            f"sentinel monitor mymaster 127.0.0.1 {first.port} 1",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 2000",
        ]
        with Server(watch, ["--sentinel"]) as sentinel:
            while not sentinel.client().execute_command("SENTINEL", "REPLICAS", "mymaster"):
                time.sleep(0.05)
            with RedisServer(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster?ledger=shop") as server:
                assert "1 replica, acknowledged before they have it" in server.durability
                recorder = RedisRecorder(server)
                recorder.append([event_at(1)])
                while second.client().info("replication")["slave_repl_offset"] < _offset(first):
                    time.sleep(0.01)
                first.kill()
                assert recorder.append([event_at(2)]) == 2
                assert [found.event for found in recorder.read()] == [event_at(1), event_at(2)]
                assert second.client().info("replication")["role"] == "master"
            with pytest.raises(StoreError, match="cannot open it"):
                RedisServer(f"redis+sentinel://127.0.0.1:{sentinel.port}/another?ledger=shop")


def _offset(server: Server) -> int:
    offset: int = server.client().info("replication")["master_repl_offset"]
    return offset
