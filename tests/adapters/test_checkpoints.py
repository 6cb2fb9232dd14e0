"""Checkpoints: whatever is in their file, or is not, the state at a moment is what a fold of the whole log gives."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBReadResponse,
    DCBSequencedEvent,
    DCBSubscription,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from adapters import app, report
from adapters.app import Store
from adapters.checkpoints import Checkpoints, Maker, Spacing
from adapters.ingest import ingest
from adapters.judging import judge
from adapters.ledger import Ledger, Moment, Placed
from adapters.ports import Problem, Recorder, Seal
from adapters.stores.backends import beside
from adapters.stores.memory import InMemoryJournal
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from domain.events import Event
from domain.kinds import VOCABULARY
from domain.lifecycle import ABSENT
from domain.resources import KINDS, Key
from domain.world import World
from projections.reading import looked_at, standing_in
from tests.replaying import DATA, LONG_SEARCH, recording, replayed

CLOSE = Spacing(checkpoint=40, for_each=0, mark=7, chunk=3)
WIDER = Spacing(checkpoint=350, for_each=0, mark=25, chunk=20)
NAMES = ("mixed-small", "mixed-seed7", "s4-buggy", "s0-buggy", "quirks-truncate", "s3-buggy")


def told(world: World) -> dict[str, Any]:
    """All that a world says, orders that matter included."""
    return {
        "live": {key: astuple(resource) for key, resource in world.live.items()},
        "departed": {kind: list(departed.items()) for kind, departed in world.departed.items()},
        "controllers": world.controllers,
        "listed": world.listed,
        "naming": {named: list(referrers) for named, referrers in world._referrers.items()},
    }


def folded(events: Sequence[Event], moment: Moment | None) -> tuple[World, int]:
    """The world by folding every event from the first on."""
    world, last = World(), 0
    for at, event in enumerate(events, 1):
        if moment is not None and moment.passed_by(Placed(at, at, event, b"")):
            break
        world.evolve(event, at)
        last = at
    return world, last


def moments_of(events: Sequence[Event], chance: random.Random, count: int) -> list[Moment | None]:
    extremes = (Moment(0, None), Moment(None, 0), Moment(1 << 60, None), Moment(None, 1 << 60))
    found: list[Moment | None] = [None, chance.choice(extremes)]
    for event in chance.choices(events, k=count):
        found.append(Moment(event.time + chance.choice((-1, 0, 1)), None))
        if event.order is not None:
            found.append(Moment(None, event.order.anchor + chance.choice((-1, 0, 0, 1))))
    return found


def hold(checkpoints: Checkpoints, events: Sequence[Event], chance: random.Random, count: int = 6) -> None:
    """What is answered is what the fold gives, at moments and for names taken at random."""
    keys = sorted({event.key for event in events})
    for moment in moments_of(events, chance, count):
        world, at = folded(events, moment)
        found, found_at = checkpoints.world_at(moment)
        assert (told(found), found_at) == (told(world), at), moment
        for key in [*chance.choices(keys, k=count), Key("vpc", "", "never-heard-of")]:
            resource, right = checkpoints.resource_at(key, moment), world.get(key)
            assert (resource and astuple(resource)) == (right and astuple(right)), (moment, key)


def seeded() -> random.Random:
    return random.Random(0 if not LONG_SEARCH else None)


@contextmanager
def kept(path: Path, spacing: Spacing = CLOSE) -> Iterator[tuple[Checkpoints, Ledger, SQLiteRecorder]]:
    with SQLiteFile(path, "read") as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)
        yield Checkpoints(beside(str(path), "checkpoints"), ledger, recorder, spacing), ledger, recorder


def events_in(path: Path) -> list[Event]:
    with kept(path) as (_, ledger, _recorder):
        return [placed.event for placed in ledger.events()]


def written(path: Path, *batches: Sequence[Event]) -> Path:
    """A ledger file with these events, an append a batch."""
    with SQLiteFile(path) as file:
        ledger = Ledger(SQLiteRecorder(file))
        for batch in batches:
            ledger.append(batch)
    return path


def in_batches(events: Sequence[Event], size: int = 90) -> list[Sequence[Event]]:
    return [events[first : first + size] for first in range(0, len(events), size)]


@cache
def events_of(name: str) -> list[Event]:
    return replayed(name).events


def checkpoints_in(path: Path) -> list[int]:
    with sqlite3.connect(beside(str(path), "checkpoints")) as connection:
        return [place for (place,) in connection.execute("SELECT place FROM checkpoint ORDER BY place")]


# ---- what is kept


@pytest.mark.parametrize("name", NAMES)
def test_a_world_that_is_restored_is_the_one_that_was_kept_also_for_what_comes_after(name, tmp_path):
    events = events_of(name)
    path = written(tmp_path / "kept.ledger", events)
    for cut in seeded().sample(range(1, len(events)), 2):
        with kept(path, Spacing(cut, 0, 7, 20)) as (checkpoints, _, _recorder):
            checkpoints.catch_up()
            assert checkpoints_in(path)[0] == cut
            # From the checkpoint on, to the end.
            assert told(checkpoints.world_at()[0]) == told(folded(events, None)[0])
        beside(str(path), "checkpoints").unlink()


@pytest.mark.parametrize("name", NAMES)
def test_a_resource_is_what_its_own_events_alone_make_it(name):
    """What `resource_at` rests on: an event moves no resource but that of its own name."""
    events = events_of(name)
    world, alone = World(), {event.key: World() for event in events}
    for at, event in enumerate(events, 1):
        world.evolve(event, at)
        alone[event.key].evolve(event, at)
        if at % 50 == 0 or at == len(events):
            for key, own in alone.items():
                resource, right = own.get(key), world.get(key)
                assert (resource and astuple(resource)) == (right and astuple(right)), (at, key)


@pytest.mark.parametrize("name", (*NAMES, "s1-buggy", "s2-buggy-A"))
def test_what_claims_should_be_is_told_from_the_kinds_that_are_looked_at_alone(name):
    """What a world of some kinds rests on."""
    events = events_of(name)
    world, some = World(), {kind.name: World() for kind in KINDS}
    for at, event in enumerate(events, 1):
        world.evolve(event, at)
        for kind, own in some.items():
            if event.key.kind in looked_at(kind):
                own.evolve(event, at)
        if at % 40 == 0 or at == len(events):
            for resource in world.live.values():
                own = some[resource.key.kind]
                assert standing_in(own, own.live[resource.key]) == standing_in(world, resource), (at, resource.key)


def test_whether_a_name_that_is_gone_is_still_remembered_changes_nothing_for_its_next_bearer():
    """How many names of gone resources are remembered hangs on those of others, and `resource_at` reads none of them."""
    for vocabulary in VOCABULARY.values():
        table = vocabulary.lifecycle
        left = {
            table.leads_to(state, event) for state in table.states for event in (vocabulary.ended, vocabulary.vanished)
        }
        for state in left & table.resting:
            for begun in vocabulary.beginnings:
                assert table.leads_to(state, begun) == table.leads_to(ABSENT, begun), (table.kind, state, begun)


# ---- answers


@pytest.mark.parametrize("name", NAMES)
def test_the_state_at_any_moment_is_what_the_whole_fold_gives(name, tmp_path):
    events = events_of(name)
    spacing = CLOSE if len(events) < 1500 else WIDER
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    with kept(path, spacing) as (checkpoints, _, _recorder):
        hold(checkpoints, events, seeded(), 5 if not LONG_SEARCH else 100)
    assert len(checkpoints_in(path)) >= min(len(events) // (2 * spacing.checkpoint), 3)


@settings(
    max_examples=8 if not LONG_SEARCH else 400,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.explicit, Phase.generate],  # each example makes files: to shrink one takes minutes
)
@given(data=st.data())
def test_answers_hang_on_no_spacing_and_on_no_place_at_which_the_making_stopped(data, tmp_path_factory):
    name = data.draw(st.sampled_from(("mixed-small", "s4-buggy", "quirks-truncate")))
    events = events_of(name)
    numbers = st.integers(5, 120)
    path = tmp_path_factory.mktemp("spaced") / "kept.ledger"
    for _ in range(data.draw(st.integers(1, 3))):
        spacing = Spacing(data.draw(numbers), data.draw(st.integers(0, 2)), data.draw(numbers), data.draw(numbers))
        have = len(events_in(path)) if path.exists() else 0
        size = data.draw(st.integers(20, 400))
        if have < len(events):
            written(path, *in_batches(events[have : have + data.draw(st.integers(1, len(events)))], size))
        with kept(path, spacing) as (checkpoints, ledger, recorder):
            if data.draw(st.booleans()):  # one that is told of so many events, and then is no more
                stop = data.draw(st.integers(0, len(events)))
                maker = Maker(checkpoints.path, ledger, recorder, spacing, resume=False)
                world = World()
                for placed in ledger.events():
                    if placed.at > stop:
                        break
                    world.evolve(placed.event, placed.at)
                    maker.note(placed.event, placed.at, placed.position)
                    maker.settle(world)
                maker.close()
            hold(checkpoints, events_in(path), random.Random(data.draw(st.integers(0, 1 << 30))), 3)


class Skipping(Recorder):
    """A recorder whose positions skip some numbers before each append, as PostgreSQL's do behind a refused one."""

    def __init__(self, recorder: Recorder, skipped: int) -> None:
        self._recorder = recorder
        self._skipped = skipped
        self._ends: list[int] = []

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        self._ends.append(self._recorder.append(events, condition))
        return self._outside(self._ends[-1])

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> DCBReadResponse:
        inside = self._recorder.read(query, after=self._inside(after or 0), limit=limit)
        return _Moved(
            (DCBSequencedEvent(one.event, self._outside(one.position)) for one in inside), self.head() or None
        )

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> DCBSubscription[Any]:
        raise NotImplementedError

    def head(self) -> int:
        return self._outside(self._recorder.head())

    def seal(self, position: int) -> Seal | None:
        inside = self._inside(position)
        return self._recorder.seal(inside) if self._outside(inside) == position else None

    def verify(self) -> Iterator[Problem]:
        return self._recorder.verify()

    def _outside(self, position: int) -> int:
        return position and position + self._skipped * (1 + sum(end < position for end in self._ends))

    def _inside(self, position: int) -> int:
        """The last position inside that lies at or before this one."""
        inside = self._recorder.head()
        while self._outside(inside) > position:
            inside -= 1
        return inside


class _Moved(DCBReadResponse):
    def __init__(self, events: Iterator[DCBSequencedEvent], head: int | None) -> None:
        self._events, self._head = events, head

    @property
    def head(self) -> int | None:
        return self._head

    def __next__(self) -> DCBSequencedEvent:
        return next(self._events)


def test_where_positions_skip_places_are_counted_and_not_reckoned(tmp_path):
    events = events_of("s4-buggy")
    with SQLiteFile(tmp_path / "inside.ledger") as file:
        recorder = Skipping(SQLiteRecorder(file), 3)
        ledger = Ledger(recorder)
        for batch in in_batches(events, 25):
            ledger.append(batch)
        checkpoints = Checkpoints(tmp_path / "kept.checkpoints", ledger, recorder, CLOSE)
        hold(checkpoints, events, seeded(), 5)


def test_an_answer_folds_no_more_than_lies_behind_a_checkpoint(tmp_path, monkeypatch):
    events = events_of("mixed-small")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    read: list[int] = []
    of_all = Ledger.events

    def counted(self: Ledger, *arguments: Any, **options: Any) -> Iterator[Placed]:
        for placed in of_all(self, *arguments, **options):
            read.append(placed.at)
            yield placed

    with kept(path) as (checkpoints, _, _recorder):
        checkpoints.catch_up()
        monkeypatch.setattr(Ledger, "events", counted)
        for moment in moments_of(events, seeded(), 20):
            checkpoints.world_at(moment)
            assert len(read) <= CLOSE.checkpoint + 1
            read.clear()
            checkpoints.resource_at(events[len(events) // 2].key, moment)
            assert len(read) <= CLOSE.mark + 1
            read.clear()


# ---- while judging


def judged_in_parts(path: Path, parts: Sequence[Path], spacing: Spacing) -> None:
    """Replays into a kept ledger, one after the other, in the given order."""
    journal = InMemoryJournal()
    for part in parts:
        ingest(str(part), journal)
        with SQLiteFile(path) as file:
            recorder = SQLiteRecorder(file)
            ledger = Ledger(recorder)
            checkpoints = Checkpoints(beside(str(path), "checkpoints"), ledger, recorder, spacing)
            with checkpoints.making() as maker:
                judge(journal, ledger, maker=maker)
                assert maker.is_kept


@pytest.mark.parametrize("order", [(2, 0, 1), *([(0, 1, 2), (2, 1, 0), (1, 2, 0)] if LONG_SEARCH else [])])
def test_a_generation_that_begins_in_the_middle_keeps_what_comes_before_it(order, tmp_path, monkeypatch):
    monkeypatch.setattr("adapters.judging.BATCH_EVENTS", 300)
    parts = recording("mixed-seed7")
    path = tmp_path / "kept.ledger"
    done: list[Path] = []
    for number in order:
        done.append(parts[number])
        judged_in_parts(path, done, WIDER)
        events = events_in(path)
        with kept(path, WIDER) as (checkpoints, ledger, _):
            made = checkpoints_in(path)
            assert made and made[-1] <= len(events)
            assert_reached(checkpoints, ledger)
            hold(checkpoints, events, seeded(), 2)
            assert checkpoints_in(path) == made, "a question made again what judging had left"
    assert events == events_of("mixed-seed7")


def assert_reached(checkpoints: Checkpoints, ledger: Ledger) -> None:
    last = max(placed.position for placed in ledger.events())
    with sqlite3.connect(checkpoints.path) as connection:
        assert connection.execute("SELECT reach FROM bound").fetchone() == (last,)


def test_a_reader_that_knows_no_generation_yet_keeps_nothing_wrong(tmp_path):
    """It was opened before another began: what it makes then must not pass for what is right now."""
    events = events_of("mixed-small")
    half = len(events) // 2
    path = written(tmp_path / "kept.ledger", *in_batches(events[: half + 60]))
    with kept(path, Spacing(30, 0, 5, 3)) as (stale, _, _recorder):
        with SQLiteFile(path) as file:
            ledger = Ledger(SQLiteRecorder(file))
            at = next(placed for placed in ledger.events() if placed.at == half)
            ledger.restart_after(at.position, half)
            ledger.append(events[half:])
        hold(stale, events[: half + 60], seeded(), 3)
    with kept(path) as (checkpoints, _, _recorder):
        hold(checkpoints, events, seeded(), 6)


def test_two_that_make_them_at_once_leave_what_is_right(tmp_path):
    events = events_of("mixed-small")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    with kept(path) as (checkpoints, ledger, recorder):
        makers = [
            Maker(checkpoints.path, ledger, recorder, Spacing(every, 0, mark, 3), resume=False)
            for every, mark in ((31, 4), (47, 11))
        ]
        world = World()
        for placed in ledger.events():
            world.evolve(placed.event, placed.at)
            for maker in makers:
                maker.note(placed.event, placed.at, placed.position)
                maker.settle(world)
        for maker in makers:
            maker.finish()
            assert maker.is_kept
            maker.close()
        hold(checkpoints, events, seeded())


# ---- whatever is wrong with the file


def test_another_ledger_of_the_same_name_is_not_answered_from_these(tmp_path):
    one = events_of("mixed-small")
    others = {
        "another": events_of("s4-buggy"),
        "its beginning": one[: len(one) // 2],
        "its end": one[len(one) // 2 :],
        "the same but for one": [*one[:20], *one[21:]],
        "as many, one of them otherwise": [*one[:20], one[3], *one[21:]],
    }
    for name, events in others.items():
        path = written(tmp_path / "kept.ledger", *in_batches(one))
        with kept(path) as (checkpoints, _, _recorder):
            checkpoints.catch_up()
            assert checkpoints_in(path), name
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        written(path, *in_batches(events))
        with kept(path) as (checkpoints, _, _recorder):
            hold(checkpoints, events, seeded(), 1)
        path.unlink()


def test_a_maker_whose_file_another_ledger_took_writes_nothing_into_it(tmp_path):
    ours, theirs = events_of("mixed-small"), events_of("s4-buggy")
    written(tmp_path / "one.ledger", *in_batches(ours))
    written(tmp_path / "two.ledger", *in_batches(theirs))
    path = tmp_path / "shared.checkpoints"
    with (
        kept(tmp_path / "one.ledger") as (_, one, one_recorder),
        kept(tmp_path / "two.ledger") as (_, two, two_recorder),
    ):
        maker = Maker(path, one, one_recorder, CLOSE, resume=False)
        Checkpoints(path, two, two_recorder, CLOSE).catch_up()
        before = path.read_bytes()
        world = World()
        for placed in one.events():
            world.evolve(placed.event, placed.at)
            maker.note(placed.event, placed.at, placed.position)
            maker.settle(world)
        maker.finish()
        assert not maker.is_kept and path.read_bytes() == before
        hold(Checkpoints(path, two, two_recorder, CLOSE), theirs, seeded(), 3)
        hold(Checkpoints(path, one, one_recorder, CLOSE), ours, seeded(), 3)


def test_what_was_folded_by_other_rules_is_made_again(tmp_path, monkeypatch):
    events = events_of("s4-buggy")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    with kept(path) as (checkpoints, _, _recorder):
        checkpoints.catch_up()
        before = checkpoints.path.read_bytes()
        monkeypatch.setattr("adapters.checkpoints.rules", lambda: b"other rules")
        checkpoints.world_at()
        assert checkpoints.path.read_bytes() != before
        hold(checkpoints, events, seeded(), 3)


def damages() -> dict[str, Callable[[Path], object]]:
    def in_the_way(path: Path) -> None:
        path.unlink()
        path.mkdir()
        (path / "full").touch()

    return {
        "deleted": lambda path: path.unlink(),
        "empty": lambda path: path.write_bytes(b""),
        "no database": lambda path: path.write_bytes(b"no database at all" * 500),
        "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
        "a folder in its place": in_the_way,
        "another program's": lambda path: subprocess.run(
            [sys.executable, "-c", "import sqlite3, sys, os; os.unlink(sys.argv[1]);"
             "c = sqlite3.connect(sys.argv[1]); c.execute('CREATE TABLE bound (x)')", str(path)], check=True
        ),
    }  # fmt: skip


@pytest.mark.parametrize("damage", damages())
def test_whatever_is_in_its_place_the_answer_is_right(damage, tmp_path):
    events = events_of("s4-buggy")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    with kept(path) as (checkpoints, _, _recorder):
        checkpoints.catch_up()
        damages()[damage](checkpoints.path)
        hold(checkpoints, events, seeded(), 2)
        assert checkpoints.path.is_dir() or checkpoints_in(path), "it was not made again"


def test_flipped_bits_are_noticed(tmp_path):
    events = events_of("s4-buggy")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    chance = seeded()
    with kept(path, Spacing(120, 0, 30, 8)) as (checkpoints, _, _recorder):
        checkpoints.catch_up()
        sound = checkpoints.path.read_bytes()
        for _ in range(60 if not LONG_SEARCH else 3000):
            content = bytearray(sound)
            for _ in range(chance.choice((1, 1, 8))):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            checkpoints.path.write_bytes(content)
            hold(checkpoints, events, chance, 1)


def test_a_locked_file_is_left_alone_and_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr("adapters.disposable.BUSY_SECONDS", 0.0)
    events = events_of("s4-buggy")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    with kept(path) as (checkpoints, _, _recorder):
        checkpoints.catch_up()
        before = checkpoints.path.read_bytes()
        other = sqlite3.connect(checkpoints.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        hold(checkpoints, events, seeded(), 1)
        other.execute("ROLLBACK")
        other.close()
        assert checkpoints.path.read_bytes() == before


MAKES_THEM = """
import sys
from pathlib import Path
from tests.adapters.test_checkpoints import CLOSE, kept
path = Path(sys.argv[1])
with kept(path, CLOSE) as (checkpoints, _, _recorder):
    print("ready", flush=True)
    while True:
        checkpoints.catch_up()
        checkpoints.path.unlink()
"""


def test_a_maker_killed_at_any_moment_leaves_what_the_next_can_use_or_throw_away(tmp_path):
    events = events_of("mixed-small")
    path = written(tmp_path / "kept.ledger", *in_batches(events))
    chance = random.Random()
    for _ in range(3 if not LONG_SEARCH else 50):
        command = [sys.executable, "-c", MAKES_THEM, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=DATA.parent.parent.parent) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        with kept(path) as (checkpoints, _, _recorder):
            hold(checkpoints, events, chance, 2)


# ---- what people see


@pytest.mark.parametrize("name", ["s4-buggy", "s2-buggy-A", "s3-buggy", *(["mixed-small"] if LONG_SEARCH else [])])
def test_get_at_a_moment_says_the_same_with_and_without_them(name, tmp_path):
    address = str(tmp_path / "kept.ledger")
    with app.opened(address) as store:
        app.replay(store, [str(path) for path in recording(name)])
    shutil.copy(address, tmp_path / "copy.ledger")
    with app.opened(address, "read") as store:
        assert store.checkpoints is not None
        near = store._replace(checkpoints=Checkpoints(store.checkpoints.path, store.ledger, store.recorder, CLOSE))
        events = [placed.event for placed in store.ledger.events()]
        for moment in moments_of(events, seeded(), 3):
            if moment is not None:
                for kind in [one for one in KINDS if one.served]:
                    same_answers(near, store, kind, moment)


def same_answers(near: Store, far: Store, kind: Any, moment: Moment) -> None:
    rows = report.resources_at(far._replace(checkpoints=None), kind, moment)
    assert report.resources_at(near, kind, moment) == rows
    for row in rows[:2]:
        key = Key(kind.name, row["namespace"] or "", row["name"])
        assert report.resources_at(near, kind, moment, key) == [row]


def test_a_replay_into_a_kept_ledger_leaves_them_and_a_throw_away_one_has_none(tmp_path):
    address = str(tmp_path / "kept.ledger")
    with app.opened(address) as store:
        app.replay(store, [str(DATA / "s0-buggy" / "audit.log.gz")])
        assert store.checkpoints is not None and store.checkpoints.path.exists()
    with app.opened(None) as store:
        assert store.checkpoints is None


@pytest.mark.parametrize("address", ["redis_address", "postgres"])
def test_a_ledger_on_a_server_has_checkpoints_in_the_cache_of_its_user(address, request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    named = request.getfixturevalue(address)()
    with app.opened(named) as store:
        app.replay(store, [str(recording("s0-buggy")[0])])
    assert [path.suffix for path in (tmp_path / "netledger").iterdir() if path.suffix == ".checkpoints"]
    with app.opened(named, "read") as store:
        events = [placed.event for placed in store.ledger.events()]
        kept = Checkpoints(tmp_path / "other.checkpoints", store.ledger, store.recorder, CLOSE)
        for moment in moments_of(events, random.Random(7), 12):
            world, last = folded(events, moment)
            assert kept.world_at(moment)[1] == last and told(kept.world_at(moment)[0]) == told(world)
            for key in {event.key for event in events}:
                resource, wanted = kept.resource_at(key, moment), world.get(key)
                assert (resource and astuple(resource)) == (wanted and astuple(wanted))
