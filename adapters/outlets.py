"""Whom the daemon tells: one thread each, so that one who does not answer holds up neither the engine nor another.

A teller follows the numbered changes of findings (`changes.py`) and keeps, beside the ledger, up to which of them it was
heard. That is written down after the answer: a kill between the two tells the same again, and nothing is ever left out. What
waits to be told waits on disk, in the changes themselves. `alerting.py` is a webhook in Alertmanager's form, `announcing.py`
writes Kubernetes Events; `publishing.py` pushes projections, and is another kind of outlet.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Final, Protocol

from adapters.changes import OPENED, Change
from adapters.feeds.feed import Backoff, FeedState, Health
from adapters.live import Live
from adapters.ports import StoreError
from projections.findings.rule import ERROR, WARNING

WAIT_SECONDS: Final = 0.5
FIRST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 10.0
END_SECONDS: Final = 1.5
"""For how long all outlets together are waited for at the end: what they had not told they tell after the next start."""
SEVERITIES: Final = (ERROR, WARNING)

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Somebody who is told."""

    kind: ClassVar[str]
    """In a word, for metrics."""
    sent: int
    """How many messages were heard, since the process began."""
    dropped: int
    """How many were refused for what they say, and not tried again."""

    def run(self, stop: threading.Event) -> None:
        """Tell until `stop` is set. What goes wrong is told by `state`, waited out, and tried again; it never raises."""

    def state(self) -> FeedState:
        """How it is now; nothing in it holds a password. Any thread may ask."""

    def behind(self) -> int:
        """How many changes, or events, it has not been told of yet."""


@contextmanager
def running(outlets: Sequence[Outlet]) -> Iterator[None]:
    """All of them, each in a thread of its own, for as long as the block lasts."""
    stop = threading.Event()
    threads = [threading.Thread(target=one.run, args=[stop], name=one.kind, daemon=True) for one in outlets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        until = time.monotonic() + END_SECONDS
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0.0))


class NotHeard(Exception):
    """It was not told, and is tried again; the message says why."""


class Refused(Exception):
    """It is refused for what it says: the same again would be refused again."""


class Teller(ABC):
    """Tells of changes of findings, in their order, each at least once over any number of restarts."""

    kind: ClassVar[str]
    broken: ClassVar[tuple[type[Exception], ...]] = ()
    """What else its connection raises where it breaks."""

    def __init__(self, live: Live, who: str, name: str, severities: Collection[str]) -> None:
        """`who` names it among all that are told of this ledger, the same over restarts; `name` is for people."""
        self._live = live
        self._who = who
        self._severities = frozenset(severities)
        self._number: int | None = None
        self._health = Health(name)
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS)
        self.sent = 0
        self.dropped = 0

    @abstractmethod
    def tell(self, changes: Sequence[Change], stop: threading.Event) -> bool:
        """Tell of them; false where it was told to stop meanwhile. Raises `NotHeard`, and what the connection raises."""

    def tell_again(self, stop: threading.Event) -> None:
        """What is told from time to time though nothing changed. Raises as `tell`."""
        del stop

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; the next one is made from what the files say then."""

    def run(self, stop: threading.Event) -> None:
        """Tell until it is told to stop."""
        broken: tuple[type[Exception], ...] = (NotHeard, StoreError, OSError, *self.broken)
        while not stop.is_set():
            try:
                self._once(stop)
                self._went_well()
                continue
            except broken as error:
                self._went_wrong(" ".join(str(error).split()) or type(error).__name__)
            except Exception as error:
                log.exception("this is a bug in netledger: %s", self._health.name)
                self._went_wrong(f"{type(error).__name__}; this is a bug in netledger, please report it")
            self.close()
            stop.wait(self._backoff.next())
        self.close()

    def state(self) -> FeedState:
        """How it is now."""
        return self._health.state()

    def behind(self) -> int:
        """Changes since the last one that it was told of: at most, for numbers may skip."""
        return max(self._live.last_change() - (self._number or 0), 0)

    def wanted(self, change: Change) -> bool:
        """Whether it is of a severity that is told of, and opens or ends.

        Of what may yet turn out well (`pending`), or be so for a record that is missing (`unknown`), nobody is told: neither
        is a reason to wake a person.
        """
        return (change.is_open or change.was_open) and change.finding["severity"] in self._severities

    def open_now(self) -> tuple[int, list[Change]]:
        """The number of the last change, and what is open by then, as if it opened now."""
        number, findings = self._live.standing()
        now = time.time_ns() // 1_000
        changes = (Change(number, now, OPENED, finding) for finding in findings)
        return number, [change for change in changes if self.wanted(change)]

    def _once(self, stop: threading.Event) -> None:
        if self._number is None:
            self._number = self._live.told(self._who)
        if self._number is None:
            # Who is new is told of what is open, and not of all that ever healed.
            number, changes = self.open_now()
        else:
            found = self._live.changes(self._number, WAIT_SECONDS)
            number, changes = (found[-1].number if found else self._number), found
        if (number != self._number or changes) and self.tell(changes, stop):
            self._live.tell(self._who, number)
            self._number = number
            self._health.position = str(number)
        if not stop.is_set():
            self.tell_again(stop)

    def _went_well(self) -> None:
        if self._health.error:
            log.info("%s: heard again", self._health.name)
        self._health.well()
        self._backoff.reset()

    def _went_wrong(self, why: str) -> None:
        if not self._health.error:
            log.warning("%s: not heard, and tried again: %s", self._health.name, why)
        self._health.failed(why)

    def heard(self, count: int = 1) -> None:
        """So many messages were heard."""
        self.sent += count
        self._health.last = time.time()

    def drop(self, what: str, why: str) -> None:
        """One was refused for what it says; it is not tried again."""
        self.dropped += 1
        log.warning("%s: refused, and not told again: %s: %s", self._health.name, what, why)


def severities_of(given: str) -> frozenset[str]:
    """`error,warning` of `--alert-severity`. Raises `StoreError`."""
    found = frozenset(word.strip() for word in given.split(","))
    if wrong := found - set(SEVERITIES):
        raise StoreError(f"--alert-severity: there is no {min(wrong)!r}; what there is: {', '.join(SEVERITIES)}")
    return found
