"""What the handlers of all routes work with: the live engine, who may ask, the bounds, and what is counted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from adapters.feeds.feed import Feed
from adapters.http.access import Access
from adapters.http.bodies import Room
from adapters.http.following import Followers
from adapters.http.metrics import Metrics
from adapters.live import Live, Stand
from adapters.outlets import Outlet

TAKING_THREADS = 4
"""A commit waits for the disk, and reading a batch for a core: more threads than these wait for each other."""


class Bounds(NamedTuple):
    """How much of anything is taken. Sizes are in bytes, times in seconds."""

    body: int = 64 << 20
    in_flight: int = 256 << 20
    takes: int = 64
    streams: int = 64
    request_seconds: float = 30.0
    heartbeat_seconds: float = 15.0
    lag_seconds: float = 300.0
    free: int = 64 << 20


class Service:
    """One of it, made by `adapters/daemon.py`, and given to every handler."""

    def __init__(
        self, live: Live, access: Access, bounds: Bounds, folder: Path | None = None, feeds: Sequence[Feed] = ()
    ) -> None:
        """`folder` is where the ledger's file is; `None` where a server keeps it. `feeds` deliver by themselves."""
        self.live = live
        self.access = access
        self.bounds = bounds
        self.folder = folder
        self.feeds = feeds
        self.room = Room(bounds.in_flight)
        self.metrics = Metrics(self)
        self.followers = Followers(live, bounds.streams)
        self.outlets: Sequence[Outlet] = ()
        """Whom the daemon tells by itself; set before anybody asks."""
        self.rebuilding = threading.Lock()
        self.threads = ThreadPoolExecutor(TAKING_THREADS, "take")
        self.taking = 0
        """Batches that are being kept, or wait for a thread. Only the event loop's thread changes it."""

    def findings(self) -> tuple[Stand, dict[str, Any]]:
        """Where the engine stands, and what is wrong, as it tells it."""
        return self.live.stand(), self.live.findings()

    def close(self) -> None:
        """Wait for what is being kept, and tell those who follow that it is over."""
        self.followers.close()
        self.threads.shutdown(wait=True)
