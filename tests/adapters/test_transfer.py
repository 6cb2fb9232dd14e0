"""A whole store from any place to any other: nothing lost, nothing twice, and the same answers, also after a kill."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventsourcing.dcb.api import DCBEvent

from adapters import transfer
from adapters.judging import judge
from adapters.ledger import Ledger, verify
from adapters.ports import Aside, Backend, LedgerDamaged, Record, StoreFull
from adapters.stores import backends
from adapters.transfer import Places, Refused, blocks, copy, digest_of
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.places import PAIRS, SkippingRecorder, fill, in_memory, opened_place
from tests.adapters.test_cli import run

pytestmark = pytest.mark.usefixtures("no_endless_wait")

KILLS = 40 if LONG_SEARCH else 6


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def source(request, pair, tmp_path: Path) -> Iterator[Backend]:
    with opened_place(pair[0], tmp_path / "source.ledger", request) as store:
        fill(store, tmp_path)
        yield store


@pytest.fixture
def target(request, pair, tmp_path: Path) -> Iterator[Backend]:
    with opened_place(pair[1], tmp_path / "target.ledger", request) as store:
        yield store


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small store is many blocks."""
    monkeypatch.setattr(transfer, "BLOCK_ROWS", 4)


def copied(source: Backend, target: Backend) -> transfer.Copied:
    return copy((source.recorder, source.journal), (target.recorder, target.journal), "the source")


def rows(store: Backend) -> list[object]:
    return [(type(block), row) for block in blocks(store.recorder, store.journal) for row in block.rows]


def assert_same(source: Backend, target: Backend) -> None:
    """By what the ports tell, not by what a transfer says of itself."""
    one, other = source.journal, target.journal
    paths = {source.id: (source.path, source.format, source.summary) for source in one.sources()}
    others = {source.id: (source.path, source.format, source.summary) for source in other.sources()}
    assert list(paths.values()) == list(others.values())
    assert list(one.kept_aside()) == list(other.kept_aside())
    entries = [(paths[e.source], e.line, e.identity, e.payload, e.fingerprint) for e in one.read()]
    assert entries == [(others[e.source], e.line, e.identity, e.payload, e.fingerprint) for e in other.read()]
    ledger, of_target = Ledger(source.recorder), Ledger(target.recorder)
    assert ledger.generation == of_target.generation
    assert [placed.data for placed in ledger.events()] == [placed.data for placed in of_target.events()]
    assert [found.event.type for found in source.recorder.read()] == [
        found.event.type for found in target.recorder.read()
    ]
    assert [found.event.tags for found in source.recorder.read()] == [
        found.event.tags for found in target.recorder.read()
    ]
    for part in (target.container, target.recorder, target.journal):
        assert list(part.verify()) == []
    assert list(verify(target.recorder)) == []


def test_a_copy_holds_all_that_its_source_holds_in_the_same_order(source, target, small_blocks):
    result = copied(source, target)
    assert result.digest == digest_of(source.recorder)
    assert_same(source, target)
    assert result.content.counts.aside == len(list(source.journal.kept_aside())) == 3
    assert result.content.counts.events == len(list(source.recorder.read()))


def test_a_copy_is_judged_on_as_its_source_would_be(source, target):
    copied(source, target)
    before = target.recorder.head()
    assert (
        judge(target.journal, Ledger(target.recorder)).digest == judge(source.journal, Ledger(source.recorder)).digest
    )
    assert target.recorder.head() == before, "nothing was left to decide"


def test_a_copy_of_a_copy_back_to_the_first_kind_is_the_first(source, target, tmp_path):
    copied(source, target)
    with backends.opened(str(tmp_path / "back.ledger")) as back:
        copied(target, back)
        assert_same(source, back)


def test_copying_again_changes_nothing_and_more_of_the_source_is_added(source, target):
    copied(source, target)
    before = (target.recorder.head(), target.journal.head(), rows(target))
    assert copied(source, target).content.counts.events == len(list(source.recorder.read()))
    assert (target.recorder.head(), target.journal.head(), rows(target)) == before
    id = source.journal.source("later.log", "klog")
    source.journal.commit(id, [Record("later", b"12345678", 1, b"x")], [Aside.of(2, "later", b"y")], b"\x80")
    source.recorder.append([DCBEvent(*_more(source))])
    copied(source, target)
    assert_same(source, target)


def _more(store: Backend) -> tuple[str, bytes, list[str]]:
    event = next(iter(store.recorder.read())).event
    return event.type, event.data, list(event.tags)


class Stopped(Exception):
    """The process was killed here."""


class Stopping:
    """Lets so many writes through to what it wraps, and then no more: before the write, or after it was acknowledged."""

    def __init__(self, inner: Any, left: list[int], after: bool) -> None:
        self.inner, self.left, self.after = inner, left, after

    def __getattr__(self, name: str):
        method = getattr(self.inner, name)
        if name not in ("append", "commit", "source"):
            return method

        def write(*arguments):
            self.left[0] -= 1
            if self.left[0] < 0 and not self.after:
                raise Stopped
            result = method(*arguments)
            if self.left[0] < 0:
                raise Stopped
            return result

        return write


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
def test_a_copy_stopped_at_any_write_goes_on_there_and_nothing_is_twice(tmp_path, small_blocks, after):
    with in_memory(tmp_path / "source", SkippingRecorder) as source:
        fill(source, tmp_path)
        stops = 0
        for writes in range(200):
            with in_memory(tmp_path / "target", SkippingRecorder) as target:
                left = [writes]
                recorder: Any = Stopping(target.recorder, left, after)
                stopping = target._replace(recorder=recorder, journal=Stopping(target.journal, left, after))
                try:
                    copied(source, stopping)
                except Stopped:
                    stops += 1
                    copied(source, target)
                    assert_same(source, target)
                else:
                    break
        assert 20 < stops < 200


def test_a_copy_killed_at_any_moment_goes_on_where_it_stopped(tmp_path):
    source, chance = tmp_path / "source.ledger", random.Random()
    with backends.opened(str(source)) as store:
        fill(store, tmp_path)
    began = time.monotonic()
    assert copying(source, tmp_path / "whole.ledger", None) == 0
    seconds = time.monotonic() - began
    broken_off = 0
    for kill in range(KILLS):
        target = tmp_path / f"{kill}.ledger"
        broken_off += copying(source, target, chance.uniform(0, seconds / 2)) != 0
        with backends.opened(str(source), "read") as one, backends.opened(str(target)) as other:
            copied(one, other)
            assert_same(one, other)
    assert broken_off >= KILLS // 3, "the kills came too late to show anything"


def copying(source: Path, target: Path, kill_after: float | None) -> int:
    """The exit status of a copy in a process of its own, killed so long after its first word."""
    command = [sys.executable, "-m", "tests.adapters.copying_child", str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if kill_after is not None:
            time.sleep(kill_after)
            process.send_signal(signal.SIGKILL)
        process.stdout.read()
    return process.returncode


# ---- what is refused


def _other_record(store: Backend) -> None:
    id = store.journal.source("another.log", "klog")
    store.journal.commit(id, [Record("another", b"12345678", 1, b"x")], [], b"")


def _more_aside(store: Backend) -> None:
    store.journal.commit(store.journal.sources()[0].id, [], [Aside.of(99, "later", b"")], b"")


def _more_events(store: Backend) -> None:
    store.recorder.append([DCBEvent(*_more(store))])


@pytest.mark.parametrize("change", [_other_record, _more_aside, _more_events])
def test_a_store_that_holds_more_is_refused_and_left_as_it_is(source, target, change):
    copied(source, target)
    change(target)
    before = rows(target)
    with pytest.raises(Refused, match="the store holds more"):
        copied(source, target)
    assert rows(target) == before


def test_a_store_whose_events_are_others_is_refused_before_anything_is_written(source, target):
    """Its journal is a beginning of the source's, and would be added to."""
    first = source.journal.sources()[0]
    target.journal.source(first.path, first.format)
    target.recorder.append([DCBEvent("Moved", b"x", [])])
    before = rows(target)
    with pytest.raises(Refused, match="the store holds other events than the source, from number 1 on"):
        copied(source, target)
    assert rows(target) == before


def test_another_writer_in_the_target_is_noticed_before_its_events_are_mixed_in(source, target):
    receiver = transfer.Receiver(target.recorder, target.journal, "the source")
    with pytest.raises(Refused, match="another writer"):
        for block in blocks(source.recorder, source.journal):
            if isinstance(block, transfer.Events):
                target.recorder.append([DCBEvent("Moved", b"", [])])
            receiver.take(block)
    assert [found.event.type for found in target.recorder.read()] == ["Moved"]


def test_a_store_that_forgets_what_it_acknowledged_is_found_out_by_reading_it_again(source, target, monkeypatch):
    append = target.recorder.append

    def forgetful(events, condition=None):
        return append([*events[:-1], DCBEvent("Moved", b"", [])], condition)

    monkeypatch.setattr(target.recorder, "append", forgetful)
    with pytest.raises(LedgerDamaged, match="is not what is in the source"):
        copied(source, target)


def test_a_full_store_is_said_to_be_full_and_the_copy_goes_on_when_there_is_room(source, target, monkeypatch):
    def full(*arguments):
        raise StoreFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(target.recorder, "append", full)
        with pytest.raises(StoreFull):
            copied(source, target)
    copied(source, target)
    assert_same(source, target)


# ---- positions


def test_a_generation_begins_behind_the_same_event_wherever_positions_skip(source, target):
    """What is superseded is named by a position, and positions differ."""
    copied(source, target)
    for store in (source, target):
        marker = next(f for f in store.recorder.read() if f.event.type == "GenerationStarted")
        after = msgspec.msgpack.decode(marker.event.data)["changed"]["after"][1]
        kept = [f for f in store.recorder.read() if f.position <= after]
        first = [f.event.data for f in source.recorder.read()][: len(kept)]
        assert [f.event.data for f in kept] == first
        assert marker.position > after


def test_places_translate_positions_that_skip_both_ways():
    places, positions = Places(), [4, 5, 6, 10, 11, 20, 24]
    for position in positions:
        places.add(position)
    assert [places.position_of(number) for number in range(8)] == [0, *positions]
    for position in range(30):
        assert places.number_at(position) == sum(one <= position for one in positions)


# ---- the command


def test_the_command_copies_and_says_the_digest_that_replay_says(tmp_path):
    source, target = tmp_path / "a.ledger", tmp_path / "b.ledger"
    with backends.opened(str(source)) as store:
        fill(store, tmp_path)
        digest = digest_of(store.recorder)
    result = run("copy", "--from", source, "--to", target)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("copied ") and digest in result.stdout and result.stdout.endswith(f"to {target}\n")
    assert run("verify", "--ledger", target).exit_code == 0
    assert run("get", "vpc", "--ledger", target).stdout == run("get", "vpc", "--ledger", source).stdout
    assert run("copy", "--from", source, "--to", target).exit_code == 0


def test_the_command_refuses_what_makes_no_sense_and_says_why(tmp_path):
    source = tmp_path / "a.ledger"
    with backends.opened(str(source)):
        pass
    result = run("copy", "--from", source, "--to", tmp_path / "." / "a.ledger")
    assert result.exit_code == 2 and "both what is to be copied and where to" in result.stderr
    result = run("copy", "--from", tmp_path / "nowhere.ledger", "--to", tmp_path / "b.ledger")
    assert result.exit_code == 2 and "there is no ledger" in result.stderr
    assert not (tmp_path / "b.ledger").exists()
