"""The journal's entrance remembers how far its sources have come: who asks ten times a second asks no disk."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from adapters.app import end_of, silences, span_of
from adapters.ingest import Span
from adapters.intake import Intake
from adapters.ports import Aside, Receipt, Record, Source, StoreFull
from adapters.stores.memory import InMemoryJournal
from tests.replaying import lines_of


class Journal(InMemoryJournal):
    """It counts how often its sources are read, and is full when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_full = False

    def sources(self) -> list[Source]:
        self.asked += 1
        return super().sources()

    def told(self) -> list[Source]:
        """Those that something came from, uncounted."""
        return [source for source in super().sources() if source.summary]

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        if self.is_full:
            raise StoreFull("no room")
        return super().commit(source, records, aside, summary)


def test_sources_are_as_the_journal_has_them_and_are_read_once():
    journal = Journal()
    journal.commit(journal.source("before.log", "audit.k8s.io"), [], [], msgspec.msgpack.encode(Span(lines=3)))
    intake = Intake(journal, lambda records: None)
    assert intake.sources() == journal.told()
    lines = lines_of("s0-buggy")
    inlets = [intake.inlet(name, "audit.k8s.io") for name in ("one", "two")]
    asked = journal.asked
    for start in range(0, 400, 40):
        inlets[start // 40 % 2].take(lines[start : start + 40])
        assert intake.sources() == journal.told()
        assert end_of(intake) == end_of(journal) > 0
        assert (span_of(intake), silences(intake)) == (span_of(journal), silences(journal))
        journal.asked = asked
    assert [source.path for source in intake.sources()] == ["before.log", "one", "two"]
    assert journal.asked == asked


def test_what_was_not_kept_is_not_remembered():
    journal = Journal()
    intake = Intake(journal, lambda records: None)
    inlet = intake.inlet("webhook", "audit.k8s.io")
    lines = lines_of("s0-buggy")
    inlet.take(lines[:40])
    before = intake.sources()
    journal.is_full = True
    with pytest.raises(StoreFull):
        inlet.take(lines[40:80])
    assert intake.sources() == before == journal.told()
    journal.is_full = False
    inlet.take(lines[40:80])
    assert intake.sources() == journal.told() != before
    assert msgspec.msgpack.decode(intake.sources()[0].summary)["lines"] == 120
