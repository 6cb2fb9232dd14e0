"""The live engine: whatever comes when, it ends with what a replay of the same records finds."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters import app, judging, live, report
from adapters.changes import Change
from adapters.ingest import ingest
from adapters.judging import Deciding, Judged
from adapters.ledger import Moment
from adapters.live import Conflict, Live
from adapters.past import Past
from adapters.ports import StoreError, StoreFull
from adapters.snapshots import Snapshots
from domain.decide import Command
from domain.events import Event
from domain.resources import Key
from tests.replaying import LONG_SEARCH, lines_of, recording

RECORDINGS = ("s0-buggy", "s2-buggy-A", "s4-buggy")
BATCH = 40


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds in the field waits for a moment here."""
    monkeypatch.setattr(live, "SNAPSHOT_SECONDS", 0.05)
    monkeypatch.setattr(live, "MERGE_SECONDS", 0.05)
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.1)


@contextmanager
def running(path: Path, window: float = 0.3) -> Iterator[Live]:
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=window)
        engine.start()
        try:
            yield engine
        finally:
            engine.stop(0.0 if sys.exc_info()[0] else 60.0)


def batches_of(name: str) -> list[list[bytes]]:
    lines = list(lines_of(name))
    return [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]


def in_order(batches: list[list[bytes]], chance: random.Random) -> list[list[bytes]]:
    return batches


def overtaking(batches: list[list[bytes]], chance: random.Random) -> list[list[bytes]]:
    places = [number + chance.uniform(0, 6) for number in range(len(batches))]
    return [batch for _, batch in sorted(zip(places, batches, strict=True))]


def some_late(batches: list[list[bytes]], chance: random.Random) -> list[list[bytes]]:
    late = {number for number in range(len(batches)) if chance.random() < 0.1}
    return [b for n, b in enumerate(batches) if n not in late] + [b for n, b in enumerate(batches) if n in late]


def shuffled(batches: list[list[bytes]], chance: random.Random) -> list[list[bytes]]:
    return chance.sample(batches, len(batches))


def repeated(batches: list[list[bytes]], chance: random.Random) -> list[list[bytes]]:
    return [b for batch in batches for b in ([batch, batch] if chance.random() < 0.3 else [batch])]


def told(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Findings without the positions, which depend on what came late, and without where a record was received."""

    def plain(event: dict[str, Any] | None) -> dict[str, Any] | None:
        kept = ("role", "audit_id", "at", "actor", "revision", "operation", "resource", "event", "says")
        return event and {name: event[name] for name in kept if name in event}

    return [
        {
            **finding,
            "since": plain(finding["since"]),
            "until": plain(finding["until"]),
            "witnesses": [plain(witness) for witness in finding["witnesses"]],
        }
        for finding in document["findings"]
    ]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a replay of a recording answers."""
    known: dict[str, dict[str, Any]] = {}

    def answer(name: str) -> dict[str, Any]:
        if name not in known:
            with app.opened(None) as store:
                outcome = app.replay(store, [str(path) for path in recording(name)])
                known[name] = report.document(store, outcome)
        return known[name]

    return answer


def ends_as_a_replay(path: Path, document: dict[str, Any]) -> None:
    """What is kept is what a replay of the same records would keep: judging it again changes nothing."""
    with app.opened(str(path)) as store:
        generation = store.ledger.generation
        assert app.brought_up(store).digest == document["ledger"]["digest"]
        assert store.ledger.generation == generation


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize(
    "order", [in_order, overtaking, some_late, shuffled, repeated], ids=lambda order: order.__name__
)
def test_whatever_order_records_come_in_the_findings_are_those_of_a_replay(tmp_path, offline, name, order):
    path, chance = tmp_path / "live.ledger", random.Random(f"{name} {order.__name__}")
    with running(path) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in order(batches_of(name), chance):
            inlet.take(batch)
            time.sleep(chance.choice([0, 0, 0.002, 0.01]))
        assert engine.stop(60)
        assert told(engine.findings()) == told(offline(name))
        assert engine.stand().undecided == 0
    ends_as_a_replay(path, offline(name))


def test_in_order_and_within_the_window_nothing_is_decided_twice(tmp_path):
    with running(tmp_path / "live.ledger", window=5.0) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in overtaking(batches_of("mixed-small"), random.Random(1)):
            inlet.take(batch)
        assert engine.stop(60)
        assert (engine.stand().generation, engine.stand().late) == (1, 0)


def test_what_is_decided_is_asked_while_more_comes_and_says_that_it_is_provisional(tmp_path, offline):
    with running(tmp_path / "live.ledger", window=0.2) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        batches = batches_of("s0-buggy")
        for batch in batches[:-1]:
            inlet.take(batch)
        seen = wait_for(lambda: engine.stand().undecided == 0 and engine.findings()["findings"])
        assert [finding["name"] for finding in seen] == ["lost-update", "stuck-deletion"]
        inlet.take(batches[-1])
        assert engine.findings()["provisional"]["undecided"] >= 0
        with engine.asked() as store:
            first = next(store.ledger.concerning(Key("vpc", "", "vpc-shop")))
            assert first.event.type == "VPCCreated"
        with engine.reading() as reading:
            assert reading.world.get(Key("vpc", "", "vpc-shop")) is not None


def wait_for(question: Callable[[], Any], seconds: float = 20.0) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := question():
            return answer
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_a_record_from_a_clock_that_is_years_ahead_holds_up_nobody_and_is_not_forgotten(tmp_path):
    lines = list(lines_of("s0-buggy"))
    ahead = json.loads(
        next(line for line in lines if b'"verb":"patch"' in line and b'"vpcs"' in line and b"ResponseC" in line)
    )
    ahead |= {"auditID": "ahead", "stageTimestamp": "2093-01-01T00:00:00.000000Z"}
    path = tmp_path / "live.ledger"
    with running(path, window=0.2) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        inlet.take([json.dumps(ahead).encode()])
        for batch in batches_of("s0-buggy"):
            inlet.take(batch)
        seen = wait_for(lambda: len(engine.findings()["findings"]) == 2 and engine.stand())
        assert (seen.undecided, seen.late) == (1, 0)
        assert engine.stop(60)
        assert engine.stand().undecided == 0
    with app.opened(str(path), "read") as store:
        assert "ahead" in [placed.event.record.split(":")[1].split("@")[0] for placed in store.ledger.events()]


# ---- started again


def test_started_again_it_goes_on_from_its_snapshot_without_folding_the_log(tmp_path, offline, monkeypatch):
    path = tmp_path / "live.ledger"
    batches = batches_of("mixed-small")
    for part in (batches[:30], batches[30:60], batches[60:]):
        with running(path) as engine:
            inlet = engine.intake.inlet("webhook", "audit.k8s.io")
            for batch in part:
                inlet.take(batch)
        # From now on nothing may be folded from the beginning.
        monkeypatch.setattr(Live, "_begin", lambda self, ledger: pytest.fail("it began with the first record"))
    with running(path) as engine:
        assert told(engine.findings()) == told(offline("mixed-small"))
    ends_as_a_replay(path, offline("mixed-small"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"no database"),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: changed(path, "UPDATE snapshot SET content = zeroblob(length(content))"),
        lambda path: changed(path, "UPDATE snapshot SET seal = zeroblob(32)"),
        lambda path: changed(path, "UPDATE snapshot SET rules = x'00'"),
        lambda path: changed(path, "UPDATE snapshot SET fed = fed + 1, records = records - 1"),
    ],
    ids=["gone", "no database", "cut", "content", "another ledger", "other rules", "what it says"],
)
def test_whatever_became_of_the_snapshots_the_answer_is_the_same(tmp_path, offline, damage):
    path = tmp_path / "live.ledger"
    batches = batches_of("s4-buggy")
    with running(path) as engine:
        for batch in batches[: len(batches) // 2]:
            engine.intake.inlet("webhook", "audit.k8s.io").take(batch)
    damage(tmp_path / "live.ledger.snapshots")
    with running(path) as engine:
        for batch in batches[len(batches) // 2 :]:
            engine.intake.inlet("webhook", "audit.k8s.io").take(batch)
        assert engine.stop(60)
        assert told(engine.findings()) == told(offline("s4-buggy"))
    ends_as_a_replay(path, offline("s4-buggy"))


def changed(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)


KILLS = 40 if LONG_SEARCH else 5


def test_killed_at_any_moment_it_has_what_it_acknowledged_and_ends_as_a_replay(tmp_path, offline):
    chance = random.Random()
    path = tmp_path / "live.ledger"
    files = [str(file) for file in recording("mixed-small")]
    acknowledged = 0
    count = len(lines_of("mixed-small"))
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.adapters.live_child", str(path), *files]
        with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"started\n"
            said = b""
            for _ in range(chance.randint(1, count // 25)):
                said = process.stdout.readline()
            time.sleep(chance.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            acknowledged = max(acknowledged, int(said))
        with app.opened(str(path), "read") as store:
            problems = [*store.container.verify(), *store.recorder.verify(), *store.journal.verify()]
            assert problems == []
            lines = {entry.payload for entry in store.journal.read()}
        relevant = {line for line in lines_of("mixed-small")[:acknowledged] if line in lines or recognised(line)}
        assert relevant <= lines
    command = [sys.executable, "-m", "tests.adapters.live_child", str(path), *files]
    done = subprocess.run(command, input=b"\n", capture_output=True, timeout=120)
    assert done.stdout.endswith(b"stopped\n"), done.stderr.decode()
    with app.opened(str(path)) as store:
        document = report.document(store, app.replay(store, []))
    assert told(document) == told(offline("mixed-small"))
    ends_as_a_replay(path, offline("mixed-small"))


def recognised(line: bytes) -> bool:
    from adapters.sources.audit_log import classify
    from adapters.sources.dialect import Recognised

    return isinstance(classify(line), Recognised)


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """A start that lasts: it has read the journal, and goes on when it is told."""
    reading, go_on = threading.Event(), threading.Event()
    switch = Live._switch

    def held(self: Live, *given: Any) -> None:
        reading.set()
        assert go_on.wait(20)
        switch(self, *given)

    monkeypatch.setattr(Live, "_switch", held)
    return reading, go_on


def test_what_comes_while_it_starts_is_taken_and_decided_after(tmp_path, offline, held_up):
    reading, go_on = held_up
    path = tmp_path / "live.ledger"
    batches = batches_of("s4-buggy")
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=0.2)
        starting = threading.Thread(target=engine.start)
        starting.start()
        assert reading.wait(20)
        for batch in batches[: len(batches) // 2]:
            engine.intake.inlet("webhook", "audit.k8s.io").take(batch)
        assert "starts" in (engine.failure() or "")
        for ask in (
            engine.findings,
            engine.rebuild,
            lambda: engine.command(vpc("x")),
            lambda: engine.reading().__enter__(),
        ):
            with pytest.raises(StoreError, match="ask again"):
                ask()
        go_on.set()
        starting.join()
        assert engine.failure() is None
        for batch in batches[len(batches) // 2 :]:
            engine.intake.inlet("webhook", "audit.k8s.io").take(batch)
        assert engine.stop(60)
        assert told(engine.findings()) == told(offline("s4-buggy"))
    ends_as_a_replay(path, offline("s4-buggy"))


def test_told_to_stop_while_it_starts_it_gives_up_and_the_next_start_finishes(tmp_path, offline, monkeypatch):
    path = tmp_path / "live.ledger"
    with app.opened(str(path)) as store:
        for file in recording("s4-buggy"):
            ingest(str(file), store.journal)
        engine = Live(store, str(path))
        take = Deciding.take
        monkeypatch.setattr(Deciding, "take", lambda self, ordered: (engine.stop(0.0), take(self, ordered))[1])
        with pytest.raises(StoreError, match="before it had started"):
            engine.start()
        monkeypatch.setattr(Deciding, "take", take)
    with running(path) as engine:
        assert told(engine.findings()) == told(offline("s4-buggy"))


# ---- commands


def vpc(name: str, identity: str = "one", event: str = "VPCCreated") -> Command:
    return Command(event=event, key=Key("vpc", "", name), identity=identity, actor="alice", time=1_795_224_000_000_000)


def test_a_command_is_decided_on_what_was_observed_and_kept_where_it_is_decided(tmp_path, offline):
    path = tmp_path / "live.ledger"
    batches = batches_of("s0-buggy")
    with running(path, window=0.1) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in batches[:7]:
            inlet.take(batch)
        wait_for(lambda: engine.stand().undecided == 0)
        made = engine.command(vpc("by-command"))
        assert (made.admitted, made.event.type) == (True, "VPCCreated")
        assert engine.command(vpc("by-command")) == made
        refused = engine.command(vpc("by-command", "again"))
        assert not refused.admitted and "by-command" in refused.reason
        with pytest.raises(Conflict, match="was last changed at position"):
            engine.command(vpc("by-command", "third", "VPCDeletionRequested"), expected=made.position + 1)
        gone = engine.command(vpc("by-command", "fourth", "VPCDeletionRequested"), expected=made.position)
        assert gone.admitted
        for batch in batches[7:]:
            inlet.take(batch)
        assert engine.stop(60)
        assert told(engine.findings())[0] == told(offline("s0-buggy"))[0]
    with running(path) as engine:
        assert engine.command(vpc("by-command")).position == made.position


def test_a_command_that_was_admitted_stays_when_late_records_come(tmp_path):
    path = tmp_path / "live.ledger"
    lines = [line for line in lines_of("s4-buggy") if recognised(line)]
    with running(path, window=0.1) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        inlet.take(lines[len(lines) // 2 :])
        wait_for(lambda: engine.stand().undecided == 0)
        assert engine.command(vpc("by-command")).admitted
        inlet.take(lines[: len(lines) // 2])
        assert engine.stop(60)
        assert engine.stand().merges >= 1
        with engine.reading() as reading:
            assert reading.world.get(Key("vpc", "", "by-command")) is not None
    with app.opened(str(path), "read") as store:
        commanded = [placed for placed in store.ledger.events() if placed.event.order is None]
        assert len(commanded) == 1


# ---- what is new


def test_records_and_commands_are_decided_while_an_earlier_moment_is_folded(tmp_path, monkeypatch):
    batches = batches_of("s4-buggy")
    begun, go_on, found = threading.Event(), threading.Event(), []
    fold = Judged.fold

    def halting(judged: Judged, event: Event, data: bytes) -> None:
        fold(judged, event, data)
        if threading.current_thread().name == "asking" and judged.reading.at == 10:
            begun.set()
            assert go_on.wait(30)

    monkeypatch.setattr(Judged, "fold", halting)
    with running(tmp_path / "live.ledger") as engine:
        engine.past = Past(Snapshots(tmp_path / "none", engine._store.recorder))  # so that it has much to fold
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in batches[:-3]:
            inlet.take(batch)
        wait_for(lambda: engine.stand().events > 20 and not engine.stand().undecided)

        def ask() -> None:
            with engine.asked() as store, engine.past.judged_at(store, Moment(None, None, 20), 30) as judged:
                found.append((judged.reading.at, len(judged.reading.world.live)))

        asking = threading.Thread(target=ask, name="asking")
        asking.start()
        assert begun.wait(10)
        before = engine.stand().events
        for batch in batches[-3:]:
            inlet.take(batch)
        wait_for(lambda: engine.stand().events > before and not engine.stand().undecided)
        assert engine.command(vpc("meanwhile")).admitted
        assert not found
        go_on.set()
        asking.join(10)
        with engine.asked() as store:
            then = judging.fold(store.ledger, Moment(None, None, 20)).reading
        assert found == [(20, len(then.world.live))]


def test_changes_are_numbered_over_restarts_and_tell_the_whole_story_of_a_finding(tmp_path):
    path = tmp_path / "live.ledger"
    batches = batches_of("mixed-small")
    seen: list[Change] = []
    for part in (batches[:35], batches[35:]):
        with running(path, window=0.1) as engine:
            inlet = engine.intake.inlet("webhook", "audit.k8s.io")
            for batch in part:
                inlet.take(batch)
                time.sleep(0.003)
            assert engine.stop(60)
            after = seen[-1].number if seen else 0
            while more := engine.changes(after):
                seen += more
                after = more[-1].number
            open_now = {f["id"]: f["status"] for f in engine.findings()["findings"]}
    numbers = [change.number for change in seen]
    assert numbers == sorted(set(numbers))
    told_last: dict[str, str] = {}
    for change in seen:
        if change.what == "withdrawn":
            del told_last[change.finding["id"]]
        else:
            told_last[change.finding["id"]] = change.finding["status"]
    assert told_last == open_now


def test_who_waits_for_a_change_is_told_as_it_happens(tmp_path):
    with running(tmp_path / "live.ledger", window=0.1) as engine:
        assert engine.changes(timeout=0.05) == []
        for batch in batches_of("s0-buggy"):
            engine.intake.inlet("webhook", "audit.k8s.io").take(batch)
        (first, *_) = engine.changes(timeout=20)
        assert (first.what, first.finding["name"]) == ("opened", "lost-update")


# ---- a store that fails


def test_when_the_disk_is_full_it_stands_still_says_so_and_goes_on_when_there_is_room(tmp_path, offline, monkeypatch):
    path = tmp_path / "live.ledger"
    full = StoreFull("no room is left for the ledger")
    with running(path, window=0.1) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        batches = batches_of("s4-buggy")
        for batch in batches[:10]:
            inlet.take(batch)
        recorder = type(engine._store.recorder)
        append = recorder.append

        def refuse(*arguments: Any, **options: Any) -> int:
            raise full

        monkeypatch.setattr(recorder, "append", refuse)
        for batch in batches[10:]:
            inlet.take(batch)
        assert wait_for(engine.failure) == str(full)
        monkeypatch.setattr(recorder, "append", append)
        wait_for(lambda: engine.failure() is None)
        assert engine.stop(60)
        assert told(engine.findings()) == told(offline("s4-buggy"))
    ends_as_a_replay(path, offline("s4-buggy"))


# ---- a ledger on a server


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_on_a_server_too_it_goes_on_from_its_snapshot_and_merges_what_is_late(
    tmp_path, offline, kind, request, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # what is beside a server's ledger lies where one works
    address = request.getfixturevalue("redis_address" if kind == "redis" else "postgres")()
    batches = some_late(batches_of("s4-buggy"), random.Random(4))
    for part in (batches[: len(batches) // 2], batches[len(batches) // 2 :]):
        with app.opened(address) as store:
            engine = Live(store, address, window=0.2)
            engine.start()
            for batch in part:
                engine.intake.inlet("webhook", "audit.k8s.io").take(batch)
            assert engine.stop(60)
            document = engine.findings()
        # From now on nothing may be folded from the beginning.
        monkeypatch.setattr(Live, "_begin", lambda self, ledger: pytest.fail("it began with the first record"))
    assert told(document) == told(offline("s4-buggy"))
    with app.opened(address) as store:
        assert app.brought_up(store).digest == offline("s4-buggy")["ledger"]["digest"]
