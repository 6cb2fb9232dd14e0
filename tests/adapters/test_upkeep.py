"""The files that questions are answered from follow a log that grows, and no question brings them up."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters import app, disposable, live, reasons, report, trail, trail_index, upkeep
from adapters.app import Store
from adapters.checkpoints import Checkpoints
from adapters.ledger import Ledger, Moment
from adapters.live import Live
from adapters.trail import Question
from adapters.trail_index import Trail
from domain.resources import Key, kind_called
from tests.adapters.test_live import batches_of, running, some_late, wait_for
from tests.replaying import recording

SHOP = Key("vpc", "", "vpc-shop")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SECONDS", 0.05)
    monkeypatch.setattr(upkeep, "SHARE", 0)
    monkeypatch.setattr(upkeep, "CHECKPOINT_EVENTS", 20)
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 40)
    monkeypatch.setattr(live, "MERGE_SECONDS", 0.05)


def plainly(store: Store) -> Store:
    """The same, with nothing beside the ledger: each question reads all of it."""
    return store._replace(checkpoints=None, trail=Trail(None, store.ledger, store.recorder))


def answers(store: Store) -> list[Any]:
    """What every question that the files answer says about the shop."""
    vpc = kind_called("vpc")
    middle = Moment(None, None, next(iter(store.ledger.stretches()))[0] + 1)
    coverage: dict[str, Any] = {}
    asked: list[Callable[[], Any]] = [
        lambda: trail.events(store, Question(), coverage),
        lambda: trail.events(store, Question(actors=("alice",), reverse=True, limit=3), coverage),
        lambda: trail.who(store, SHOP, coverage),
        lambda: report.resources_at(store, vpc, Moment(None, 330)),
        lambda: reasons.position_at(store, Moment(None, 320)),
        lambda: reasons.blame(store, SHOP),
        lambda: reasons.diff(store, SHOP, middle),
    ]
    found = []
    for question in asked:
        try:
            found.append(question())
        except report.NotKnown as error:
            found.append(str(error))
    return found


def reach(path: Path) -> tuple[int, int]:
    """Up to which position the trail and the checkpoints of a ledger go."""
    with app.opened(str(path), "read") as store:
        kept = Trail(path.with_name(f"{path.name}.trail"), store.ledger, store.recorder)
        with kept._connected() as connection:
            found = kept._read(connection).reach
    with sqlite3.connect(path.with_name(f"{path.name}.checkpoints")) as connection:
        ((checkpoints,),) = connection.execute("SELECT reach FROM bound").fetchall()
    connection.close()
    return found, checkpoints


def test_at_every_time_a_question_is_answered_as_from_the_log_itself(tmp_path: Path):
    """Also while late records begin one generation after the other."""
    with running(tmp_path / "live.ledger", window=0.05) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        seen = set()
        for number, batch in enumerate(some_late(batches_of("mixed-small"), random.Random(3))):
            inlet.take(batch)
            time.sleep(0.01)
            if number % 8:
                continue
            with engine.asked() as store:
                assert answers(store) == answers(plainly(store))
                seen.add((store.ledger.generation, store.ledger.head))
        assert engine.stop(60)  # all of it is decided, and nothing moves any more
        with engine.asked() as store:
            found = answers(store)
            assert found == answers(plainly(store))
            assert len(found[0]["events"]) == engine.stand().events
            seen.add((store.ledger.generation, store.ledger.head))
        assert len(seen) > 3 and max(generation for generation, _ in seen) > 1, "it was asked while it grew"


def test_the_files_follow_the_log_and_no_question_brings_them_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "live.ledger"
    with running(path, window=0.05) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in batches_of("mixed-small"):
            inlet.take(batch)
        wait_for(lambda: engine.stand().undecided == 0)
        head = engine.stand().position
        wait_for(lambda: path.with_name("live.ledger.checkpoints").exists() and min(reach(path)) > head - 100)
        with monkeypatch.context() as patched, engine.asked() as store:
            patched.setattr(upkeep.Upkeep, "_bring_up", lambda *given, **more: None)
            patched.setattr(Checkpoints, "catch_up", lambda self: pytest.fail("a question brought the checkpoints up"))
            assert answers(store) == answers(plainly(store))
        assert engine.stop(60)
        head = engine.stand().position
    assert reach(path) == (head, head), "the next start finds nothing to do"


def test_what_is_behind_is_brought_up_before_anybody_may_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "live.ledger"
    with running(path) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in batches_of("s0-buggy"):
            inlet.take(batch)
        assert engine.stop(60)
        head = engine.stand().position
    for name in ("trail", "checkpoints"):
        path.with_name(f"live.ledger.{name}").unlink()
    monkeypatch.setattr(upkeep.Upkeep, "_run", lambda self: None)
    with app.opened(str(path)) as store:
        engine = Live(store, str(path))
        engine.start()
        try:
            assert reach(path) == (head, head)
        finally:
            engine.stop()


def test_what_could_not_be_brought_up_while_a_question_read_it_is_brought_up_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(disposable, "BUSY_SECONDS", 0.01)
    path = tmp_path / "live.ledger"
    with app.opened(str(path)) as store:
        app.replay(store, [str(part) for part in recording("s0-buggy")])
        path.with_name("live.ledger.checkpoints").unlink()
        kept = upkeep.Upkeep(store.recorder, str(path))
        with closing(sqlite3.connect(path.with_name("live.ledger.checkpoints"), isolation_level=None)) as question:
            question.execute("BEGIN EXCLUSIVE")
            kept._bring_up(everything=True)
        kept._bring_up(everything=True)
        assert reach(path) == (store.ledger.head, store.ledger.head)


def test_files_that_cannot_be_written_change_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "live.ledger"
    for name in ("trail", "checkpoints"):
        path.with_name(f"live.ledger.{name}").mkdir()
    with running(path, window=0.05) as engine:
        inlet = engine.intake.inlet("webhook", "audit.k8s.io")
        for batch in batches_of("s0-buggy"):
            inlet.take(batch)
        wait_for(lambda: engine.stand().undecided == 0 and engine.stand().events)
        with engine.asked() as store:
            assert len(answers(store)[0]["events"]) == engine.stand().events
            assert Ledger(store.recorder).head == engine.stand().position
