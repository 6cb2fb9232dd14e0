"""Where a source goes on is kept with its records or not at all: a commit that fails moves nothing."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.feeds.follow import Follow
from adapters.intake import Intake
from adapters.ports import Aside, Receipt, Record, StoreError, StoreFull
from adapters.sources.dialect import Line
from adapters.stores.memory import InMemoryJournal
from tests.feeds.conftest import DATA, records_of, replayed, running, until


class FullNowAndThen(InMemoryJournal):
    """A disk that is full for the commits with these numbers."""

    def __init__(self, *full: int) -> None:
        super().__init__()
        self.full = full
        self.tried = 0

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        self.tried += 1
        if self.tried in self.full:
            raise StoreFull("the disk is full; nothing of this was kept")
        return super().commit(source, records, aside, summary)


@pytest.fixture(scope="session")
def lines() -> list[bytes]:
    return gzip.decompress((DATA / "mixed-small" / "audit.log.gz").read_bytes()).splitlines()[1500:1600]


def test_what_a_full_disk_did_not_keep_is_not_gone_on_from(lines: list[bytes]):
    journal = FullNowAndThen(2)
    inlet = Intake(journal, lambda records: None).inlet("stream", "audit.k8s.io")
    inlet.take(lines[:50], resume="50")
    with pytest.raises(StoreError):
        inlet.take(lines[50:], resume="100")
    assert inlet.resume == "50"
    inlet.take(lines[50:60], resume="60")
    assert Intake(journal, lambda records: None).inlet("stream", "audit.k8s.io").resume == "60"


def test_a_stream_that_is_followed_goes_on_from_its_last_commit(lines: list[bytes]):
    journal = FullNowAndThen(3)
    intake = Intake(journal, lambda records: None)
    inlet = intake.inlet("stream", "audit.k8s.io")
    assert intake.format_of("stream") is None

    def coming(first: int) -> Iterator[Line | None]:
        for number, line in enumerate(lines[first:], first + 1):
            yield number, line, ""
            if not number % 20:
                yield None

    with pytest.raises(StoreError):
        inlet.follow(coming(0), str)
    assert inlet.resume == "40" and intake.format_of("stream") == "audit.k8s.io"
    # Lines from before the position tell the reader what came before, and are not kept again.
    inlet.follow(coming(20), str, after=40)
    assert inlet.resume == "100" and inlet.taken.duplicates == 0
    whole = InMemoryJournal()
    Intake(whole, lambda records: None).inlet("stream", "audit.k8s.io").take(lines)
    assert records_of(journal) == records_of(whole)


def test_a_file_is_followed_on_when_the_disk_has_room_again(lines: list[bytes], tmp_path: Path):
    path = tmp_path / "audit.log"
    path.write_bytes(b"\n".join(lines) + b"\n")
    journal = FullNowAndThen(2, 3)
    feed = Follow(Intake(journal, lambda records: None), str(path))
    expected = replayed(path, tmp_path)
    with running(feed):
        until(lambda: journal.head() == len(expected))
        until(lambda: feed.state().connected)
    assert records_of(journal) == expected and feed.state().failures == 2
