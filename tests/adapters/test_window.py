"""The reorder window: what comes out of it is the one true order, or it says what came too late for that."""

import random
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ingest import ingest
from adapters.intake import New
from adapters.ordering import Ordered, heads_of, in_order
from adapters.ports import Entry
from adapters.snapshots import _dropped
from adapters.stores.memory import InMemoryJournal
from adapters.window import Window
from tests.replaying import LONG_SEARCH, recording

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


@settings(max_examples=400 if LONG_SEARCH else 60)
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


@settings(max_examples=200 if LONG_SEARCH else 40)
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


def test_what_waits_long_is_read_from_the_journal_again(monkeypatch):
    monkeypatch.setattr("adapters.window.PAYLOAD_BYTES", 5_000)
    entries = list(entries_of("mixed-small"))
    random.Random(3).shuffle(entries)
    window = Window(journal_of("mixed-small"), 1000.0)
    assert through(window, entries, 0.001) == true_order("mixed-small")


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
