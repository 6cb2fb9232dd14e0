"""From the journal to the true order, in memory and through files on disk: the same, and nothing is left behind."""

import gc
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import ordering
from adapters.ingest import ingest
from adapters.ordering import Ordered, in_order
from adapters.ports import Entry, Journal
from adapters.stores.memory import InMemoryJournal
from domain.operations import MADE, REMOVED, UNCHANGED
from tests.replaying import lines_of, replay

NAME = "quirks-managedfields-webhook"
"""It has a deletecollection, an exec in two stages, removals of every shape, and eight writers at once."""

LIMITS = ("RUN_BYTES", "WAITING_BYTES", "CHUNK_BYTES")
"""What bounds the memory of ordering, as far as this version has it."""


def journal_of(*files: Iterable[bytes]) -> Journal:
    """A journal into which these files, given as their lines, were read."""
    journal = InMemoryJournal()
    with tempfile.TemporaryDirectory() as folder:
        for number, lines in enumerate(files):
            path = Path(folder) / f"audit-{number}.log"
            path.write_bytes(b"".join(line + b"\n" for line in lines))
            ingest(str(path), journal)
    return journal


class Opened:
    """The temporary files that were opened while this stands in for `tempfile.TemporaryFile`."""

    def __init__(self) -> None:
        self.files: list[IO[bytes]] = []
        self._open = tempfile.TemporaryFile

    def __call__(self, *arguments: Any, **options: Any) -> IO[bytes]:
        file: IO[bytes] = self._open(*arguments, **options)
        self.files.append(file)
        return file

    def still_open(self) -> list[IO[bytes]]:
        return [file for file in self.files if not file.closed]


def limited(patch: pytest.MonkeyPatch, size: int) -> Opened:
    """Lower every bound on memory to `size` bytes, and watch what goes to disk instead."""
    for name in LIMITS:
        if hasattr(ordering, name):
            patch.setattr(ordering, name, size)
    opened = Opened()
    patch.setattr(tempfile, "TemporaryFile", opened)
    return opened


def test_every_record_comes_out_once_in_the_order_of_its_key():
    journal = journal_of(lines_of(NAME))
    places = list(in_order(journal))
    keys = [place.order for place in places]
    assert all(before < after for before, after in pairwise(keys))
    parts = Counter(place.order.identity for place in places)
    assert set(parts) == {entry.identity for entry in journal.read()}
    several = {identity: count for identity, count in parts.items() if count > 1}
    assert sorted(several.values()) == [3, 3], "a deletecollection of VPCs and one of Services"


def test_each_place_carries_the_record_that_it_is_about():
    for place in in_order(journal_of(lines_of(NAME))):
        record = json.loads(place.payload)
        assert place.order.identity.startswith(f"audit:{record['auditID']}@")
        operation = place.operation()
        assert operation.order == place.order
        assert operation.verb == record["verb"]


@pytest.mark.parametrize("size", [1, 5_000, 100_000])
def test_what_is_sorted_on_disk_comes_out_as_in_memory(monkeypatch, size):
    shuffled = list(lines_of(NAME))
    Random(7).shuffle(shuffled)
    journal = journal_of(shuffled)
    in_memory = list(in_order(journal))
    opened = limited(monkeypatch, size)
    assert list(in_order(journal)) == in_memory
    assert opened.files, "the limit should have sent runs to disk"


def test_a_whole_incident_judged_through_disk_is_judged_the_same(monkeypatch, tmp_path):
    path = tmp_path / "audit.log"
    path.write_bytes(b"\n".join(lines_of("mixed-small")))
    in_memory = replay(path)
    opened = limited(monkeypatch, 50_000)
    on_disk = replay(path)
    assert len(opened.files) > 5
    assert on_disk.digest == in_memory.digest
    assert on_disk.findings == in_memory.findings


def test_no_file_is_left_when_all_was_read(monkeypatch, tmp_path):
    journal = journal_of(lines_of(NAME))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = limited(monkeypatch, 5_000)
    for _ in in_order(journal):
        pass
    assert opened.files
    assert opened.still_open() == []
    assert list(tmp_path.iterdir()) == []


def descriptors() -> int:
    """How many files this process holds open."""
    gc.collect()
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_no_file_is_left_when_reading_stops_half_way(monkeypatch, tmp_path):
    journal = journal_of(lines_of(NAME))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = descriptors()
    opened = limited(monkeypatch, 5_000)
    places = in_order(journal)
    next(places)
    assert opened.still_open()
    del places
    opened.files.clear()
    assert descriptors() == before
    assert list(tmp_path.iterdir()) == []


def test_what_came_late_together_is_looked_up_and_nothing_waits_for_it(monkeypatch):
    """Else all between would wait, and go to disk."""
    lines = list(lines_of("mixed-small"))
    journal = journal_of([*lines[100:], *lines[:100]])
    opened = limited(monkeypatch, 1 << 24)
    monkeypatch.setattr(ordering, "WAITING_BYTES", 300_000)
    expected = list(in_order(journal))
    assert opened.files, "it all waits where nothing is looked up"
    opened.files.clear()
    monkeypatch.setattr(ordering, "FAR", 500)
    assert list(in_order(journal)) == expected
    assert not opened.files


def test_a_log_in_no_order_is_not_looked_up_record_by_record(monkeypatch):
    monkeypatch.setattr(ordering, "FAR", 10)
    lines = list(lines_of("mixed-small"))
    Random(3).shuffle(lines)
    journal = journal_of(lines)
    read, reads = journal.read, list[int]()

    def counted(after: int = 0) -> Iterator[Entry]:
        reads.append(after)
        return read(after)

    monkeypatch.setattr(journal, "read", counted)
    list(in_order(journal))
    assert len(reads) < 30 + len(lines) // ordering.LOOKED_UP


def test_an_empty_journal_has_an_empty_order():
    assert list(in_order(InMemoryJournal())) == []


def test_progress_counts_every_record_once():
    journal = journal_of(lines_of("mixed-small"))
    told: list[int] = []
    list(in_order(journal, told.append))
    assert sum(told) == journal.head() > 1_000
    assert len(told) > 1


def essence(places: Iterable[Ordered]) -> list[tuple[Any, ...]]:
    return [(place.order, place.outcome, place.payload) for place in places]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    random=st.randoms(use_true_random=False),
    files=st.integers(1, 4),
    size=st.sampled_from((500, 20_000, 1 << 24)),
    far=st.sampled_from((0, 5, 60, 20_000)),
)
def test_any_shuffle_split_and_duplication_of_the_lines_gives_the_same_order(random, files, size, far):
    expected = essence(in_order(journal_of(lines_of("s0-buggy"))))
    lines = list(lines_of("s0-buggy"))
    lines += random.sample(lines, 40)
    random.shuffle(lines)
    with pytest.MonkeyPatch.context() as patch:
        limited(patch, size)
        patch.setattr(ordering, "FAR", far)
        patch.setattr(ordering, "LOOKED_UP", max(far // 10, 1))
        assert essence(in_order(journal_of(*(lines[n::files] for n in range(files))))) == expected


@pytest.mark.parametrize("name", ["mixed-small", "s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy"])
def test_removals_follow_deletions_and_no_ops_follow_their_makers_in_real_logs(name):
    made: set[tuple[str, int]] = set()
    last: dict[str, int] = {}
    removals = 0
    for place in in_order(journal_of(lines_of(name))):
        operation = place.operation()
        answered = int(
            (json.loads(place.payload).get("responseObject") or {}).get("metadata", {}).get("resourceVersion") or 0
        )
        if place.outcome == MADE and operation.revision is not None:
            assert operation.revision == answered
            made.add((operation.uid, answered))
            last[operation.uid] = answered
        elif place.outcome == UNCHANGED:
            assert (operation.uid, answered) in made or operation.uid not in last, "its maker is older than the log"
        elif place.outcome == REMOVED:
            removals += 1
            assert place.order.anchor >= last.get(operation.uid, 0)
            if place.order.own and answered:
                assert (operation.uid, answered) in made, "the deletion request made the revision that it answers"
    assert removals
