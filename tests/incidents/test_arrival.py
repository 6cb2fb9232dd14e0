"""The same records give the same answer, however they arrive: shuffled, twice, in any files, in one go or one by one.

What must be equal is everything: the digest, every event, and every finding with its witnesses and its words.
"""

import gzip
import tempfile
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import ordering
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_journal import SQLiteJournal
from adapters.stores.sqlite_recorder import SQLiteRecorder
from tests.replaying import LONG_SEARCH, Replayed, lines_of, replay, replayed

SMALL = ("s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy", "quirks-batchlog")
EXAMPLES = 300 if LONG_SEARCH else 60
MIXED_EXAMPLES = 60 if LONG_SEARCH else 10
MERGES = 100 if LONG_SEARCH else 25


class Part(NamedTuple):
    """One file of an arrival."""

    name: str
    compressed: bool
    lines: list[bytes]


@st.composite
def arrivals(draw: st.DrawFn, lines: tuple[bytes, ...]) -> list[Part]:
    """The lines in some order, with some block of them again somewhere, in some files that are read in some order."""
    random = Random(draw(st.integers(0, 2**32), label="seed of the shuffle"))
    arriving = list(lines)
    if draw(st.booleans(), label="shuffled"):
        random.shuffle(arriving)
    start = draw(st.integers(0, len(arriving)), label="start of the block that comes twice")
    length = draw(st.integers(0, len(arriving)), label="its length")
    again = draw(st.integers(0, len(arriving)), label="where it comes again")
    arriving[again:again] = arriving[start : start + length]
    cuts = sorted(draw(st.lists(st.integers(0, len(arriving)), max_size=5), label="where files end"))
    ends = [*cuts, len(arriving)]
    names = draw(
        st.lists(st.text("abz09.-", min_size=1, max_size=8), min_size=len(ends), max_size=len(ends), unique=True),
        label="file names",
    )
    compressed = draw(st.lists(st.booleans(), min_size=len(ends), max_size=len(ends)), label="compressed")
    return [
        Part(f"audit-{name}.log", packed, arriving[first:last])
        for name, packed, first, last in zip(names, compressed, [0, *cuts], ends, strict=True)
    ]


def written(parts: Iterable[Part], folder: str) -> list[Path]:
    paths = []
    for part in parts:
        path = Path(folder) / part.name
        content = b"".join(line + b"\n" for line in part.lines)
        path.write_bytes(gzip.compress(content, 1) if part.compressed else content)
        paths.append(path)
    return paths


def assert_the_same(run: Replayed, wanted: Replayed) -> None:
    assert run.digest == wanted.digest
    assert run.events == wanted.events
    assert run.findings == wanted.findings
    assert run.standings() == wanted.standings()


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), name=st.sampled_from(SMALL))
def test_any_order_any_duplicates_and_any_files_give_the_same_answer(data, name):
    with tempfile.TemporaryDirectory(prefix="netledger-test-") as folder:
        run = replay(*written(data.draw(arrivals(lines_of(name)), label="arrival"), folder))
    assert_the_same(run, replayed(name))
    assert sum(tally.recognised for tally in run.tallies) == replayed(name).tallies[0].recognised


@settings(max_examples=MIXED_EXAMPLES, deadline=None)
@given(data=st.data())
def test_a_busy_cluster_s_log_gives_the_same_answer_in_any_order(data):
    with tempfile.TemporaryDirectory(prefix="netledger-test-") as folder:
        run = replay(*written(data.draw(arrivals(lines_of("mixed-small")), label="arrival"), folder))
    assert_the_same(run, replayed("mixed-small"))


def test_a_long_log_that_is_sorted_on_disk_gives_the_same_answer(tmp_path, monkeypatch):
    lines = list(lines_of("mixed-seed7"))
    Random(7).shuffle(lines)
    monkeypatch.setattr(ordering, "RUN_BYTES", 1 << 18)
    half = len(lines) // 2
    parts = [Part("audit-2.log", True, lines[:half]), Part("audit-1.log", False, lines[half:])]
    assert_the_same(replay(*written(parts, str(tmp_path))), replayed("mixed-seed7"))


@settings(max_examples=MERGES, deadline=None)
@given(data=st.data(), name=st.sampled_from(SMALL))
def test_files_merged_one_after_the_other_into_a_kept_ledger_give_the_answer_of_all_at_once(data, name):
    """A late file lands in its true place: what was decided behind it is decided again, as a new generation."""
    with tempfile.TemporaryDirectory(prefix="netledger-test-") as folder:
        for path in written(data.draw(arrivals(lines_of(name)), label="arrival"), folder):
            with SQLiteFile(Path(folder) / "kept.ledger") as file:
                run = replay(path, journal=SQLiteJournal(file), recorder=SQLiteRecorder(file))
    assert_the_same(run, replayed(name))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_the_parts_of_a_rotated_log_may_be_merged_in_any_order(order, tmp_path):
    lines = list(lines_of("mixed-small"))
    third = len(lines) // 3 + 1
    parts = [Part(f"audit-{n}.log", True, lines[n * third : (n + 1) * third]) for n in range(3)]
    paths = written(parts, str(tmp_path))
    heads = []
    for place in order:
        with SQLiteFile(tmp_path / "kept.ledger") as file:
            recorder = SQLiteRecorder(file)
            run = replay(paths[place], journal=SQLiteJournal(file), recorder=recorder)
            heads.append(recorder.head())
            assert list(recorder.verify()) == []
    assert_the_same(run, replayed("mixed-small"))
    # In the order of time little is decided twice; in any other the superseded events stay where they were.
    superseded = heads[-1] - len(run.events)
    assert superseded > len(run.events) // 4 or order == (0, 1, 2)
