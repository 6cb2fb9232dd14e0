"""What a ledger keeps in the place of the events that were pruned: what they add up to, and which records they rest on.

`Pruned` is one value, which the store keeps beside the blocks that it stands for. Every fold begins with its reading instead
of the log's first event, places and all; and of the journal's records it knows which are decided already, so that none is
decided twice. `ledger.py` reads it, `judging.py` goes on from it, `retention.py` makes it.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b

import msgspec
import zstandard

from adapters import reading_codec
from adapters.ports import Base, LedgerDamaged, StoreError
from adapters.sources.dialect import iso
from domain.operations import OrderKey
from projections.reading import Reading

LATE = "it belongs before what was pruned, and is not decided"
"""Why a record is kept aside that came too late, or a record that is evidence of one that is gone: how the reason begins."""

EVIDENCE_BYTES = 8


class Decided(msgspec.Struct, kw_only=True, dict=True):
    """Which records of the journal are decided in what was pruned, by number."""

    records: int
    """The last number in the journal then."""
    whole: bytes
    """A bit for each record up to there. zstd."""
    lacking: dict[int, list[int]]
    """Of records on several objects: the parts that are not decided."""
    late: set[int]
    """The records that came too late for an earlier pruning."""
    evidence: bytes
    """8 bytes of BLAKE2b for each record that is evidence of one that is decided."""

    @classmethod
    def of(
        cls, records: int, bits: bytes, lacking: dict[int, list[int]], late: set[int], evidence: set[bytes]
    ) -> Decided:
        """From a bit for each record, and hashes of identities."""
        whole = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(bits)
        return cls(records=records, whole=whole, lacking=lacking, late=late, evidence=b"".join(sorted(evidence)))

    def has(self, number: int, part: int) -> bool:
        """Whether this part of a record is decided."""
        return self._has(number) and part not in self.lacking.get(number, ())

    def needs_no_more(self, number: int, identity: str) -> bool:
        """Whether nothing of a record will be decided any more, but its place in the order."""
        return (self._has(number) and not self.lacking.get(number)) or (
            number <= self.records and self.knows_evidence(identity)
        )

    def knows_evidence(self, identity: str) -> bool:
        """Whether that record was evidence of one that is decided, when it was."""
        return evidence_hash(identity) in self.evidence_hashes

    def _has(self, number: int) -> bool:
        return number <= self.records and bool(self.bits[number >> 3] >> (number & 7) & 1)

    @property
    def count(self) -> int:
        """How many records are decided, or evidence of one that is."""
        return int.from_bytes(self.bits, "little").bit_count() + len(self.evidence_hashes)

    @cached_property
    def bits(self) -> bytes:
        """A bit for each record."""
        return zstandard.ZstdDecompressor().decompress(self.whole)

    @cached_property
    def evidence_hashes(self) -> frozenset[bytes]:
        """Of the records that are evidence."""
        step = EVIDENCE_BYTES
        return frozenset(self.evidence[place : place + step] for place in range(0, len(self.evidence), step))


class Pruned(msgspec.Struct, kw_only=True):
    """Everything up to the place `at`, which stands at `position`. Times are microseconds since 1970."""

    at: int
    position: int
    latest: int
    """The latest time of an event up to there."""
    anchor: int
    """The highest revision that an event up to there is anchored at."""
    order: OrderKey | None
    """Where the last of them that was observed stands; `None` where all of them rest on commands."""
    runs: list[tuple[int, int]]
    """Where places and positions drift apart, as in `Ledger`."""
    last_time: int
    digest: str
    """Of the generation up to there."""
    reading: bytes
    when: int
    by: str
    """Who pruned."""
    with_version: str
    """Which netledger did."""
    dropped: int
    """How many events are gone."""
    decided: Decided

    def restored(self) -> Reading:
        """What all of it adds up to. Raises `StoreError`."""
        return reading_codec.decode(self.reading)

    def is_too_late(self, number: int, order: OrderKey) -> bool:
        """Whether a record came since, and belongs before the end of what was pruned."""
        return number in self.decided.late or (
            number > self.decided.records and self.order is not None and order <= self.order
        )


def require_whole(base: Base | None, what: str) -> None:
    """Raises `StoreError` where events were pruned from a ledger: it cannot `what` then."""
    if base is not None:
        raise StoreError(
            f"events before {iso(read(base).latest)} were pruned from this ledger, so it cannot {what}; take its file "
            "as it is while nobody writes it, or use a copy from before the pruning"
        )


def evidence_hash(identity: str) -> bytes:
    """What a record that is evidence is known by."""
    return blake2b(identity.encode(), digest_size=EVIDENCE_BYTES).digest()


def kept(pruned: Pruned) -> Base:
    """As the store keeps it."""
    return Base(pruned.position, msgspec.msgpack.encode(pruned))


def read(base: Base) -> Pruned:
    """As the store has kept it. Raises `LedgerDamaged`."""
    try:
        return msgspec.msgpack.decode(base.content, type=Pruned)
    except msgspec.MsgspecError as error:
        raise LedgerDamaged(
            f"what stands for the ledger's pruned events cannot be read ({error}); verify it"
        ) from error
