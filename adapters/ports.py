"""What the engine asks of a store: the journal's interface, what goes in and out of it, how a store fails.

Two things are kept. The *ledger* holds events; its interface is the `eventsourcing` package's own
`eventsourcing.dcb.api.DCBRecorder`, and two questions more: `Recorder`. The *journal* holds the records as they were
received; its interface is `Journal`. A `Backend` is the place that keeps both. `stores/backends.py` tells by an address
which one; `stores/sqlite_file.py` is a file, `stores/sqlite_recorder.py` and `stores/sqlite_journal.py` are its two
halves, `stores/memory.py` is a journal for tests.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Literal, NamedTuple, Protocol

import msgspec
from eventsourcing.dcb.api import DCBQuery, DCBRecorder, DCBSequencedEvent

Mode = Literal["write", "read"]

EXCERPT_BYTES = 4096
"""How much of an input that could not be used is kept as evidence, in bytes."""


class StoreError(Exception):
    """A store could not do what was asked. The message is for the operator; nothing half-done is kept."""


class LedgerMissing(StoreError):
    """There is no ledger at this place."""


class NotALedger(StoreError):
    """Something is there, but not a ledger."""


class OlderLedger(StoreError):
    """An earlier version of netledger made this ledger; it has to be made anew in today's format first."""


class NewerLedger(StoreError):
    """A later version of netledger made this ledger."""


class LedgerLocked(StoreError):
    """Another writer holds this ledger; the message says who."""


class LedgerReadOnly(StoreError):
    """The ledger cannot be written: opened for reading, or the file system forbids it."""


class StoreFull(StoreError):
    """No room is left; the append or commit was taken back as a whole."""


class LedgerDamaged(StoreError):
    """What is stored is not what was written; `verify` says where."""


class Record(msgspec.Struct, frozen=True):
    """One unit as a source gave it.

    The same identity with another fingerprint is a collision: it is kept aside, not swallowed.
    """

    identity: str
    """What makes it this record, such as `audit:<auditID>/<stage>/<requestReceivedTimestamp>`."""
    fingerprint: bytes
    """8 bytes over what it says."""
    line: int
    """Line number in its source, from 1."""
    payload: bytes
    """As received."""


class Aside(msgspec.Struct, frozen=True):
    """Input that could not be used, kept with its reason. `Aside.of` cuts the excerpt to its bound."""

    line: int
    reason: str
    excerpt: bytes
    """The first `EXCERPT_BYTES` of it."""
    size: int
    """Bytes of the original."""

    @classmethod
    def of(cls, line: int, reason: str, original: bytes) -> "Aside":
        """Keep the beginning of `original`, and say how long it was."""
        return cls(line, reason, original[:EXCERPT_BYTES], len(original))


def collided(record: Record, path: str, line: int) -> Aside:
    """What every journal keeps of a record whose identity other content has, from line `line` of `path`."""
    reason = f"collision: {record.identity} was received before with other content, at {path}:{line}"
    return Aside.of(record.line, reason, record.payload)


class Receipt(msgspec.Struct, frozen=True):
    """What became of one commit. It is handed out only when all of it is on disk."""

    accepted: list[bool]
    """For each record of the commit, in order: is it new?"""
    duplicates: int
    """Records known already, with the same fingerprint."""
    collisions: int
    """Records whose identity is known with another fingerprint; they are kept aside."""


class Entry(msgspec.Struct, frozen=True):
    """One record read back from the journal."""

    number: int
    """Place in the order of arrival: from 1, without gaps."""
    source: int
    line: int
    identity: str
    payload: bytes
    fingerprint: bytes
    """As in its `Record`."""
    heads: bytes = b""
    """Of a record whose payload was pruned: what its place in the order needs (MessagePack)."""


class Source(msgspec.Struct, frozen=True):
    """Where records came from: a file, a stream, a connection."""

    id: int
    path: str
    format: str
    summary: bytes
    """What the committer keeps about this source (opaque here); empty before the first commit."""


class KeptAside(msgspec.Struct, frozen=True):
    """One input that was kept aside, read back."""

    path: str
    line: int
    reason: str
    excerpt: bytes
    size: int


class Problem(msgspec.Struct, frozen=True):
    """One place where what is stored is not what was written."""

    part: str
    """`file`, `ledger` or `journal`."""
    number: int | None
    """The position in the ledger or the number in the journal, where it can be told."""
    reason: str

    def __str__(self) -> str:
        place = self.part if self.number is None else f"{self.part} {self.number}"
        return f"{place}: {self.reason}"


class Journal(Protocol):
    """Records in the order of their arrival, each identity once. Every method raises `StoreError`."""

    def source(self, path: str, format: str) -> int:
        """The id of a source, made if it is new."""
        ...

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        """Keep all of this, or nothing: one durable transaction.

        `summary` replaces what the source's last commit left. The same input kept aside twice is kept once.
        """
        ...

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Entries with a number above `after`, in order, up to the head at the time of the call."""
        ...

    def sources(self) -> list[Source]:
        """All sources, in the order in which they were first named."""
        ...

    def locate(self, identities: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Path and line at which each of these records was first received; unknown ones are left out."""
        ...

    def kept_aside(self) -> Iterator[KeptAside]:
        """Input that could not be used and records that collided, in the order in which they came."""
        ...

    def head(self) -> int:
        """The number of the last entry; 0 when there is none."""
        ...

    def verify(self) -> Iterator[Problem]:
        """Read everything again and name what does not fit."""
        ...


class Seal(NamedTuple):
    """Where a log ended, and 32 bytes that stand for everything up to there."""

    position: int
    digest: bytes


class Base(NamedTuple):
    """Up to which position old events were dropped, and what the ledger keeps in their place (opaque to the store)."""

    position: int
    content: bytes


Path = list[tuple[bool, bytes]]
"""What has to be hashed with a leaf of a hash tree, from it up to the root: whether it stands left of it, and its hash."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """That an event stands at a position of the log with this head."""

    netledger: Literal["proof/1"] = "proof/1"
    position: int
    head: bytes
    """The event's type and tags: a MessagePack array of strings."""
    data: bytes
    """The event."""
    first: int
    """The position at which its block begins."""
    events: int
    """How many events its block holds."""
    content: bytes
    """The hash of the block's content."""
    in_block: Path
    """What to hash with the event, from it up to the root of its block."""
    above: Path
    """What to hash with the block, up to the digest."""
    upto: int
    """The position of the head that it leads to."""
    digest: str
    """Of that head: hexadecimal."""


class Recorder(DCBRecorder):
    """A ledger's events. What the package's interface says, its own errors for a refused condition, else `StoreError`."""

    @abstractmethod
    def head(self) -> int:
        """The position of the last event; 0 when there is none."""

    def between(self, query: DCBQuery | None, after: int, upto: int) -> Iterator[DCBSequencedEvent]:
        """Events that match, in order, of the positions `after` < position <= `upto`.

        A store of its own does not look at what lies behind.
        """
        return takewhile(lambda found: found.position <= upto, self.read(query, after=after))

    def at(self, positions: Sequence[int]) -> Iterator[DCBSequencedEvent]:
        """The events at these positions, which rise. One that was pruned, or is not there, is left out."""
        for position in positions:
            for found in self.read(after=position - 1, limit=1):
                if found.position == position:
                    yield found

    @abstractmethod
    def seal(self, position: int) -> Seal | None:
        """What stands for everything up to a position at which an append ended; `None` where none ended there."""

    def prove(self, position: int, upto: int | None = None) -> Proof:
        """That the event at `position` is in the log with the head at `upto`, or today's. Raises `StoreError`."""
        raise StoreError(
            "this store binds its events in a chain, and a proof would be as long as the log: copy it into a file "
            "(`netledger copy`), which keeps a hash tree, attest that one, and prove there"
        )

    def base(self) -> Base | None:
        """Up to where old events were dropped, and what stands for them; `None` where none were. Raises `StoreError`."""
        return None

    def require_pruning(self) -> None:
        """Raises `StoreError` where nothing can be dropped from this store."""
        raise StoreError(
            "this store binds its events in a chain, and nothing can be taken out of one: copy it into a file "
            "(`netledger copy`), which keeps a hash tree, and prune that"
        )

    def prune(self, base: Base, keep: Sequence[int], remains: Callable[[Entry], bytes | None]) -> None:
        """Drop the events up to `base.position` but for those in `keep`, which rises; all of it, or nothing.

        `remains` is asked of every record of the journal: what stays of it where its payload is to go as well (`heads` of
        `Entry`), `None` where it stays whole. Raises `StoreError`.
        """
        self.require_pruning()

    @abstractmethod
    def verify(self) -> Iterator[Problem]:
        """Read everything again and name what is not as it was written."""


class Container(Protocol):
    """The file or the connection that holds a ledger and its journal."""

    def verify(self) -> Iterator[Problem]:
        """What does not fit in the container itself, before one asks what is in it."""
        ...


class Backend(NamedTuple):
    """An open store. `address` is as it may be printed."""

    address: str
    recorder: Recorder
    journal: Journal
    container: Container
    durability: str = ""
    """What a server does with what it acknowledged, for the operator; empty where that needs no word, as of a file."""
