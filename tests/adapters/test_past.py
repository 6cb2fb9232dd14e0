"""An earlier moment folded for a daemon: the same from a snapshot as from the beginning, one at a time, in bounded time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import app, past, reasons
from adapters.app import Store
from adapters.judging import Judged, fold
from adapters.ledger import Ledger, Moment, NotTold
from adapters.past import NotNow, Past
from adapters.snapshots import Snapshot, Snapshots
from adapters.stores.memory import InMemoryJournal
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from domain.resources import Key
from tests.replaying import replayed

PARTS = 5


class Kept(Snapshots):
    """Snapshots that tell which one was taken."""

    taken: list[int | None]

    def newest(self, ledger: Ledger, before: int | None = None, upto: int | None = None) -> Snapshot | None:
        found = super().newest(ledger, before, upto)
        self.taken.append(None if found is None else found.position)
        return found


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Kept]]:
    """A ledger of which a part was decided again, with a snapshot now and then."""
    path = tmp_path_factory.mktemp("past") / "some.ledger"
    events = replayed("mixed-small").events
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        kept = Kept(path.with_name("some.ledger.snapshots"), recorder)
        kept.taken = []
        ledger = Ledger(recorder)
        size = len(events) // PARTS
        for part in range(PARTS):
            ledger.append(events[part * size : (part + 1) * size])
            if part == 2:  # what was there is decided again, the same
                ledger.restart_after(size, size)
                kept.drop_behind(size)
                ledger.append(events[size : 3 * size])
            judged = fold(Ledger(recorder))
            runs = ledger.runs_upto(ledger.count)
            kept.keep(Snapshot(ledger.head, ledger.count, runs, 0, 0, judged.reading, judged.last_time, ()))
        yield Store(file, recorder, InMemoryJournal(), ledger), kept


def opened(store: Store) -> Store:
    """As one question opens it."""
    return store._replace(ledger=Ledger(store.recorder))


def told(store: Store, judged: Judged, moment: Moment) -> list[Any]:
    outcome = app.conclude_at(store, judged, moment)
    keys = sorted(judged.reading.world.live)[::7]
    return [
        judged.reading.at,
        judged.last_time,
        outcome.findings,
        [reasons.why(store, outcome, key, coverage={}) for key in keys],
        [(one.key, one.state, one.fields) for one in judged.reading.resources()],
    ]


def test_from_a_snapshot_a_moment_is_what_folding_the_whole_log_up_to_it_gives(grown):
    store, kept = grown
    placed = list(Ledger(store.recorder).events())
    kept.taken.clear()
    moments = []
    for one in placed[40 :: len(placed) // 12]:
        moments += [Moment(None, None, one.position), Moment(one.event.time, None)]
        if one.event.order is not None:
            moments.append(Moment(None, one.event.order.anchor))
    for moment in moments:
        right = opened(store)
        expected = told(right, fold(right.ledger, moment), moment)
        asked = opened(store)
        with Past(kept).judged_at(asked, moment, 30) as judged:
            assert told(asked, judged, moment) == expected
    assert len(set(kept.taken)) == PARTS - 1, (
        "of the generation before only the first is left, and one stands at the end"
    )
    assert None in kept.taken


def test_without_any_snapshot_the_log_is_folded_from_its_beginning(grown, tmp_path):
    store, _ = grown
    none = Snapshots(tmp_path / "none", store.recorder)
    moment = Moment(None, None, store.ledger.head - 40)
    with Past(none).judged_at(opened(store), moment, 30) as judged:
        assert judged.reading.at == fold(opened(store).ledger, moment).reading.at > 0


def test_what_was_superseded_is_refused(grown):
    store, kept = grown
    (_, last), *_ = store.ledger.stretches()
    with pytest.raises(NotTold), Past(kept).judged_at(opened(store), Moment(None, None, last + 1), 30):
        pass


def test_one_is_folded_at_a_time_and_whoever_comes_meanwhile_is_told_so_at_once(grown):
    store, kept = grown
    asked, moment = Past(kept), Moment(None, None, 200)
    refused: list[Exception] = []

    def ask() -> None:
        try:
            with asked.judged_at(opened(store), moment, 30):
                pass
        except NotNow as error:
            refused.append(error)

    with asked.judged_at(opened(store), moment, 30):
        other = threading.Thread(target=ask)
        other.start()
        other.join(10)
        assert not other.is_alive()
    assert "ask again in a moment" in str(refused[0])
    with asked.judged_at(opened(store), moment, 30) as judged:
        assert judged.reading.at


def test_what_takes_longer_than_a_request_may_is_given_up_and_the_next_may_ask(grown, monkeypatch, tmp_path):
    store, _ = grown
    monkeypatch.setattr(past, "LOOK_EVENTS", 10)
    asked = Past(Snapshots(Path(tmp_path / "none"), store.recorder))
    with (
        pytest.raises(NotNow, match=r"longer than the 0 s.*--ledger"),
        asked.judged_at(opened(store), Moment(None, None, 900), 0),
    ):
        pass
    with asked.judged_at(opened(store), Moment(None, None, 5), 0) as judged:
        assert judged.reading.at == 5 and judged.reading.world.get(Key("vpc", "", "no-such")) is None
