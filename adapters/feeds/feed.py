"""What every live source has in common: that it runs until it is told to stop, and says how it is.

`watch.py` is an API server's watch, `redis_stream.py` a Redis stream, `follow.py` files that grow; each next in its own way
to `adapters/intake.py`. What comes by HTTP is no feed: it is sent, not fetched.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec


class FeedState(msgspec.Struct, frozen=True):
    """How a feed is, for `/readyz` and metrics. Nothing in it holds a password."""

    name: str
    connected: bool
    """Whether it could deliver now, if there were something."""
    last: float
    """When it delivered last, in seconds since 1970; 0 where it has not since the process began."""
    position: str
    """Up to where everything is on disk, in the source's own words; empty at the beginning."""
    failures: int
    """How often something went wrong since the process began."""
    error: str
    """What is wrong now; empty where nothing is."""
    waits: str
    """What it waits for (a kind that is not installed, a file that is not there); empty where for nothing but records."""
    parts: tuple[FeedState, ...] = ()
    """The same of each kind, or each file."""


class Feed(Protocol):
    """A live source."""

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set. What goes wrong is told by `state`, waited out, and tried again; it never raises."""

    def state(self) -> FeedState:
        """How it is now. Any thread may ask."""


@contextmanager
def running(feed: Feed, name: str, patience: float = 5.0) -> Iterator[Feed]:
    """A feed in a thread of its own, for as long as the block lasts; at its end it has `patience` seconds to finish.

    One that is not done by then ends with the process: what it had not handed over is fetched again by the next.
    """
    stop = threading.Event()
    thread = threading.Thread(target=feed.run, args=[stop], name=name, daemon=True)
    thread.start()
    try:
        yield feed
    finally:
        stop.set()
        thread.join(patience)


class Health:
    """What a feed, or a part of one, notes of itself; written by the thread that runs it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connected = False
        self.last = 0.0
        self.position = ""
        self.failures = 0
        self.error = ""
        self.waits = ""

    def well(self) -> None:
        """It is connected, and nothing is wrong."""
        self.connected, self.error, self.waits = True, "", ""

    def delivered(self, position: str) -> None:
        """Something came, and is on disk."""
        self.last, self.position = time.time(), position

    def failed(self, error: str) -> None:
        """Something went wrong; it is tried again."""
        self.connected, self.error, self.waits = False, error, ""
        self.failures += 1

    def waiting(self, what: str) -> None:
        """Nothing is wrong, and yet nothing can come."""
        self.connected, self.error, self.waits = False, "", what

    def state(self, parts: tuple[FeedState, ...] = ()) -> FeedState:
        """As the others are told."""
        return FeedState(
            self.name, self.connected, self.last, self.position, self.failures, self.error, self.waits, parts
        )


def together(name: str, parts: tuple[FeedState, ...]) -> FeedState:
    """The state of a feed that is made of parts: as connected as the least of them that waits for nothing."""
    wrong = [f"{part.name}: {part.error}" for part in parts if part.error]
    waits = [f"{part.name}: {part.waits}" for part in parts if part.waits]
    wanted = [part for part in parts if not part.waits]
    return FeedState(
        name=name,
        connected=bool(wanted) and all(part.connected for part in wanted),
        last=max((part.last for part in parts), default=0.0),
        position="",
        failures=sum(part.failures for part in parts),
        error="; ".join(wrong),
        waits="; ".join(waits),
        parts=parts,
    )


class Backoff:
    """How long to wait before the next attempt, in seconds: doubled each time, up to a bound, and never quite the same.

    Many clients that lost one server do not come back in one moment.
    """

    def __init__(self, first: float = 0.2, most: float = 30.0) -> None:
        self._first = first
        self._most = most
        self._tried = 0

    def next(self) -> float:
        """The next wait: between half of what it may be, and all of it."""
        self._tried += 1
        return min(self._first * 2.0 ** min(self._tried - 1, 20), self._most) * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well."""
        self._tried = 0
