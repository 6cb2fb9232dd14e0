"""The reorder window: what comes out of it is the one true order, or it says what came too late for that."""

import copy
import random
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import ordering
from adapters.ingest import ingest
from adapters.intake import New
from adapters.ordering import Ordered, heads_of, in_order
from adapters.ports import Entry, Record
from adapters.snapshots import _dropped
from adapters.stores.memory import InMemoryJournal
from adapters.window import Window
from tests.replaying import DATA, LONG_SEARCH, recording

NOON = 1_795_300_000_000_000
"""A time of day behind all the recordings."""


@cache
def journal_of(name: str) -> InMemoryJournal:
    journal = InMemoryJournal()
    for path in recording(name):
        ingest(str(path), journal)
    return journal


@cache
def entries_of(name: str) -> tuple[Entry, ...]:
    return tuple(journal_of(name).read())


def new(entry: Entry) -> New:
    return New(entry.number, heads_of(entry), entry.payload)


def said(ordered: Iterable[Ordered]) -> list[tuple[Any, ...]]:
    return [(one.order, one.outcome, one.payload, one.evidence, one.number) for one in ordered]


@cache
def true_order(name: str) -> list[tuple[Any, ...]]:
    return said(in_order(journal_of(name)))


def through(window: Window, entries: Sequence[Entry], pause: float) -> list[tuple[Any, ...]]:
    """What comes out when one comes after the other."""
    out: list[Ordered] = []
    now = 100.0
    for entry in entries:
        now += pause
        window.add(new(entry), now, NOON)
        out += window.ripe(now)
    return said([*out, *window.ripe(now, everything=True)])


RECORDINGS = st.sampled_from(["s0-buggy", "s2-buggy-A", "s4-buggy", "quirks-batchlog"])


@settings(max_examples=400 if LONG_SEARCH else 60, deadline=None)
@given(name=RECORDINGS, seed=st.integers(0, 2**32), mess=st.sampled_from([0, 1, 3, 10, 1000]), data=st.data())
def test_what_is_not_late_comes_out_in_the_true_order_however_it_came(name, seed, mess, data):
    chance = random.Random(seed)
    entries = sorted(entries_of(name), key=lambda entry: entry.number + chance.uniform(0, mess))
    window = Window(journal_of(name), data.draw(st.sampled_from([0.0, 0.5, 5.0, 60.0])))
    out = through(window, entries, data.draw(st.sampled_from([0.0, 0.01, 0.3, 10.0])))
    late = set(window.late)
    wanted = [one for one in true_order(name) if one[-1] not in late]
    if not late:
        assert out == wanted
    # However much is late, nothing is lost, nothing comes twice, and what comes out does so in order.
    assert sorted([one[-1] for one in out]) == sorted(one[-1] for one in wanted)
    keys = [one[0] for one in out]
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", ["s0-buggy", "s2-buggy-A", "s4-buggy", "mixed-small"])
@pytest.mark.parametrize("mess", [0, 20])
def test_within_the_window_nothing_is_late(name, mess):
    chance = random.Random(1)
    entries = sorted(entries_of(name), key=lambda entry: entry.number + chance.uniform(0, mess))
    window = Window(journal_of(name), 60.0)
    assert through(window, entries, 0.01) == true_order(name)
    assert window.late == {}


@settings(max_examples=200 if LONG_SEARCH else 40, deadline=None)
@given(name=RECORDINGS, cut=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_what_is_kept_of_it_goes_on_where_it_was(name, cut, seed):
    chance = random.Random(seed)
    entries = sorted(entries_of(name), key=lambda entry: entry.number + chance.uniform(0, 5))
    split = int(len(entries) * cut)
    window, now = Window(journal_of(name), 1.0), 100.0
    out: list[Ordered] = []
    for entry in entries[:split]:
        window.add(new(entry), now, NOON)
        out += window.ripe(now)
    if window.late:
        return
    another = Window(journal_of(name), 1.0)
    waited = set(another.restore(window.state()))
    assert waited <= {entry.number for entry in entries[:split]}
    for entry in [*(one for one in entries[:split] if one.number in waited), *entries[split:]]:
        another.add(new(entry), now, NOON)
    whole = said([*out, *another.ripe(now, everything=True)])
    if not another.late:
        assert whole == true_order(name)


@cache
def journal_of_both(name: str) -> InMemoryJournal:
    """The audit log and the watch beside it, which has no clock."""
    journal = InMemoryJournal()
    for path in (*recording(name), DATA / name / "watch.jsonl.gz"):
        ingest(str(path), journal)
    return journal


def rearranged(journal: InMemoryJournal, chance: random.Random, mess: float) -> InMemoryJournal:
    """A journal into which the same records came in another order."""
    entries = sorted(journal.read(), key=lambda entry: entry.number % 3_000 + chance.uniform(0, mess))
    other = InMemoryJournal()
    source = other.source("webhook", "audit.k8s.io")
    other.commit(source, [Record(one.identity, b"", one.number, one.payload) for one in entries], [], b"")
    return other


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
@settings(
    max_examples=200 if LONG_SEARCH else 25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    journal=st.sampled_from([(journal_of, "s0-buggy"), (journal_of, "s4-buggy"), (journal_of_both, "s1-buggy")]),
    seed=st.integers(0, 2**32),
    mess=st.sampled_from([0, 30, 300]),
    pause=st.sampled_from([0.01, 0.3]),
    everything=st.booleans(),
)
def test_however_many_are_caught_up_with_they_come_out_as_if_they_were_few(
    monkeypatch, on_disk, journal, seed, mess, pause, everything
):
    """From some moment of a window on: what had its turn in it comes out, with what came late, and the others wait."""
    with monkeypatch.context() as patch:
        if on_disk:
            patch.setattr(ordering, "RUN_BYTES", 5_000)
            patch.setattr(ordering, "WAITING_BYTES", 5_000)
        chance = random.Random(seed)
        shuffled = rearranged(journal[0](journal[1]), chance, mess)
        arrived = [new(entry) for entry in shuffled.read()]
        like, now = Window(shuffled, 0.5), 100.0
        state, upto, before, out = copy.deepcopy(like.state()), 0, 0, []
        kept = chance.choice([0, chance.randint(0, len(arrived))])
        for one in arrived:
            like.add(one, now, NOON)
            out += said(like.ripe(now))
            now += pause
            if one.number == kept and not like.late:
                state, upto, before = copy.deepcopy(like.state()), one.number, len(out)
        window = Window(shuffled, 0.5)
        waited = set(window.restore(state))
        again = [one for one in arrived if one.number in waited or one.number > upto]
        came = said(window.catch_up(again, now, NOON, like, everything=everything))
        if window.late:
            assert kept, "from the beginning nothing comes too late"
            return  # whoever asks goes farther back
        whole = [*out[:before], *came, *said(window.ripe(now, everything=True))]
        if window.late:
            assert not everything, "nothing waited that may turn out to belong before what came"
            return
        # What a watch showed of what had its turn before is no evidence any more, and is dated by what comes with it.
        if journal[0] is journal_of or (everything and not kept):
            assert whole == said(in_order(shuffled))
        assert len(whole) == before + len(came) or not everything


def test_what_waits_long_is_read_from_the_journal_again(monkeypatch):
    monkeypatch.setattr("adapters.window.PAYLOAD_BYTES", 5_000)
    entries = list(entries_of("mixed-small"))
    random.Random(3).shuffle(entries)
    window = Window(journal_of("mixed-small"), 1000.0)
    assert through(window, entries, 0.001) == true_order("mixed-small")


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_of_old_snapshots_some_of_every_age_are_kept(last):
    kept: list[int] = []
    for number in range(1, last + 1):
        kept.insert(0, number)
        gone = set(_dropped(kept))
        kept = [one for one in kept if one not in gone]
    ages = [last - one for one in kept]
    assert ages[: min(8, last)] == list(range(min(8, last)))
    for age, older in pairwise(ages):
        assert older - age <= max(older // 2, 1) + 1
    assert len(kept) <= 8 + 8 * last.bit_length()
