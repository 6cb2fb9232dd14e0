"""The live engine: decides records as they come, and raises and heals findings as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from adapters.app import Store
from adapters.authority import Verdict
from adapters.intake import Intake
from domain.decide import Command
from projections.reading import Reading


class Stand(msgspec.Struct, frozen=True):
    """Where the engine has come to."""

    generation: int
    position: int
    """Of the last event in the ledger; 0 when there is none."""
    events: int
    """Of the current generation."""
    refusals: int
    received: int
    """Records in the journal."""
    undecided: int
    """Records that are in the journal and wait: for the reorder window, or for their turn."""
    lag: float
    """For how many seconds the oldest of them has waited."""
    late: int
    """Records that came later than the window, since this process began."""
    merges: int
    """How often a new generation was begun for them."""


class Change(msgspec.Struct, frozen=True):
    """A finding that opened, changed its status or healed. Numbers rise, also over a restart, and may skip."""

    number: int
    time: int
    """Microseconds since 1970: when it was noticed."""
    what: str
    """`opened`, `healed`, `changed` (status or severity), `withdrawn` (later records showed that it never was)."""
    finding: dict[str, Any]
    """As in `netledger findings -o json`."""


class Conflict(Exception):
    """The resource changed since the position that a command was meant for. The message says at which position."""


class Live:
    """One ledger, open for writing, with an engine thread. All methods may be called from several threads."""

    intake: Intake

    def __init__(self, store: Store, address: str, *, window: float = 5.0, patience: float | None = None) -> None:
        """`address` is the ledger's; `window` and `patience` are in seconds."""
        raise NotImplementedError

    def start(self) -> None:
        """Go on from where the last process was. Returns when questions can be answered."""
        raise NotImplementedError

    def stop(self, timeout: float = 8.0) -> bool:
        """Decide what is waiting, write down where it stands; false where that was not done in time (nothing is lost)."""
        raise NotImplementedError

    def stand(self) -> Stand:
        """Where it has come to."""
        raise NotImplementedError

    def failure(self) -> str | None:
        """Why the engine stands still (a full disk, a damaged ledger); `None` where it goes on."""
        raise NotImplementedError

    def command(self, command: Command, expected: int | None = None) -> Verdict:
        """Decide a command on what is decided so far; the same identity given twice is one event.

        `expected` is the position of the last event on the resource that its sender knew.

        Raises `Conflict` where another came since, and `StoreError`.
        """
        raise NotImplementedError

    def findings(self) -> dict[str, Any]:
        """The document of `netledger replay -o json`, of what is decided so far, with `provisional` beside."""
        raise NotImplementedError

    def changes(self, after: int = 0, timeout: float = 0.0) -> list[Change]:
        """The changes with a number above `after`, oldest first, those that are kept still; waits for one where there is none."""
        raise NotImplementedError

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """What is folded, standing still meanwhile: be quick."""
        raise NotImplementedError
        yield

    @contextmanager
    def asked(self) -> Iterator[Store]:
        """The store for one question, as it stands now."""
        raise NotImplementedError
        yield
