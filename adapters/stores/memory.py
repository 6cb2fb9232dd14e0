"""The journal in memory: for tests, and as the shortest full statement of what a journal does.

The one that keeps anything is `sqlite_journal.py`; one contract suite holds both to the same behaviour.
"""

from collections.abc import Iterable, Iterator, Sequence

from adapters.ports import (
    EXCERPT_BYTES,
    Aside,
    Entry,
    KeptAside,
    Problem,
    Receipt,
    Record,
    Source,
    StoreError,
    collided,
)


class InMemoryJournal:
    """A `Journal` that forgets everything when it goes."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._entries: list[Entry] = []
        self._first: dict[str, tuple[Record, int]] = {}
        self._aside: dict[tuple[int, Aside], None] = {}

    def source(self, path: str, format: str) -> int:
        for source in self._sources:
            if (source.path, source.format) == (path, format):
                return source.id
        self._sources.append(Source(len(self._sources) + 1, path, format, b""))
        return len(self._sources)

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        if not 1 <= source <= len(self._sources):
            raise StoreError(f"cannot commit: the journal has no source {source}; ask source() for one first")
        accepted = []
        collisions = []
        for record in records:
            is_new = record.identity not in self._first
            accepted.append(is_new)
            if is_new:
                self._first[record.identity] = (record, source)
                number = len(self._entries) + 1
                self._entries.append(
                    Entry(number, source, record.line, record.identity, record.payload, record.fingerprint)
                )
                continue
            first, first_source = self._first[record.identity]
            if first.fingerprint != record.fingerprint:
                collisions.append(collided(record, self._sources[first_source - 1].path, first.line))
        for item in [*aside, *collisions]:
            self._aside[source, Aside(item.line, item.reason, item.excerpt[:EXCERPT_BYTES], item.size)] = None
        known = self._sources[source - 1]
        self._sources[source - 1] = Source(source, known.path, known.format, summary)
        return Receipt(accepted, accepted.count(False) - len(collisions), len(collisions))

    def read(self, after: int = 0) -> Iterator[Entry]:
        return iter(self._entries[max(after, 0) :])

    def sources(self) -> list[Source]:
        return list(self._sources)

    def locate(self, identities: Iterable[str]) -> dict[str, tuple[str, int]]:
        found = {}
        for identity in identities:
            if identity in self._first:
                record, source = self._first[identity]
                found[identity] = (self._sources[source - 1].path, record.line)
        return found

    def kept_aside(self) -> Iterator[KeptAside]:
        for source, aside in list(self._aside):
            path = self._sources[source - 1].path
            yield KeptAside(path, aside.line, aside.reason, aside.excerpt, aside.size)

    def head(self) -> int:
        return len(self._entries)

    def verify(self) -> Iterator[Problem]:
        return iter(())
