"""The places between which the tests move ledgers: one entry each, so that a new kind of store is added here alone.

Also a store that is full of what a store can hold (`fill`), and a recorder in memory whose positions skip.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path

import msgspec
import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent
from eventsourcing.dcb.popo import InMemoryDCBRecorder

from adapters.authority import SOURCE
from adapters.ingest import ingest
from adapters.judging import judge
from adapters.ledger import Ledger
from adapters.ports import Aside, Backend, Problem, Record, Recorder, Seal
from adapters.stores import backends, codec
from adapters.stores.memory import InMemoryJournal
from domain.decide import COMMAND, Command, decide_command
from domain.resources import Key
from domain.world import World
from tests.replaying import LONG_SEARCH, lines_of

RECORDING = "s0-buggy"


class MemoryRecorder(InMemoryDCBRecorder, Recorder):
    """The package's recorder in memory. `skip` positions are lost before every append, as by one that was refused."""

    skip = 0

    def head(self) -> int:
        return self.events[-1].position if self.events else 0

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        for _ in range(self.skip):
            next(self.position_sequence)
        return super().append(events, condition)

    def seal(self, position: int) -> Seal | None:
        return None

    def verify(self) -> Iterator[Problem]:
        return iter(())


class SkippingRecorder(MemoryRecorder):
    skip = 3


class InMemory:
    """A store in memory: a `Container` of nothing."""

    def verify(self) -> Iterator[Problem]:
        return iter(())


@contextmanager
def in_memory(path: Path, recorder: type[MemoryRecorder] = MemoryRecorder) -> Iterator[Backend]:
    yield Backend(path.name, recorder(), InMemoryJournal(), InMemory())


Opened = Callable[[Path], AbstractContextManager[Backend]]

PLACES: dict[str, Opened] = {
    "sqlite": lambda path: backends.opened(str(path)),
    "memory": in_memory,
    "skipping": lambda path: in_memory(path, SkippingRecorder),
}
"""By name: an empty store of that kind, which needs no server. `path` names a file that is not there yet."""


SERVERS = {"redis": "redis_address", "postgres": "postgres"}
"""By name: the fixture that gives the address of a ledger that is not there yet."""

NAMES = [*PLACES, *SERVERS]

PAIRS = [
    (one, other)
    for one, other in product(NAMES, NAMES)
    if LONG_SEARCH or "sqlite" in (one, other) or NAMES.index(other) == (NAMES.index(one) + 1) % len(NAMES)
]
"""From where to where: each store with the default one, both ways, and in a ring with the others."""


def opened_place(name: str, path: Path, request: pytest.FixtureRequest) -> AbstractContextManager[Backend]:
    """An empty store of the kind of that name; servers are started where one is asked for."""
    if name in SERVERS:
        return backends.opened(request.getfixturevalue(SERVERS[name])())
    return PLACES[name](path)


def fill(store: Backend, folder: Path) -> None:
    """Put in what a store can hold: two generations, commands, input kept aside in two formats of one path."""
    lines = lines_of(RECORDING)
    some, others = folder / "some.log", folder / "others.log"
    some.write_bytes(b"\n".join([*lines[3::4], b"{no record}"]))
    others.write_bytes(b"\n".join([line for place, line in enumerate(lines) if place % 4 != 3]))
    for path in (some, others):
        ingest(str(path), store.journal)
        judge(store.journal, Ledger(store.recorder))
    made = Command(
        event="VPCCreated", key=Key("vpc", "", "by-command"), identity="1", actor="alice", time=1_795_224_999_000_000
    )
    commanded = decide_command(World(), made)
    store.recorder.append([codec.encode(event) for event in commanded])
    record = Record("command:1", b"12345678", 1, msgspec.msgpack.encode(made))
    store.journal.commit(store.journal.source(SOURCE, COMMAND), [record], [], b"")
    for format in ("klog", "ipset"):
        store.journal.commit(
            store.journal.source("both.log", format), [], [Aside.of(7, "it is neither", b"\x00\xff")], b""
        )
    store.journal.source("nothing came.log", "klog")
    assert Ledger(store.recorder).generation == 2
