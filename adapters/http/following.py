"""Findings as they open and heal, as server-sent events: one thread waits for all who follow, each has a short queue.

Who reads slower than findings come is let go when that queue is full, and goes on from where it was (`Last-Event-ID`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool

from adapters.changes import Change
from adapters.http.bodies import overloaded
from adapters.live import Live

QUEUE: Final = 256
"""Changes that wait for one reader."""
WAIT_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class _Follower:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE)
        self.lost = False

    def hand(self, changes: Sequence[Change]) -> None:
        """In the event loop's thread."""
        for change in changes:
            if self.lost:
                return
            try:
                self.queue.put_nowait(change)
            except asyncio.QueueFull:
                self.lost = True

    def end(self) -> None:
        self.lost = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Followers:
    """All who follow."""

    def __init__(self, live: Live, most: int) -> None:
        self._live = live
        self._most = most
        self._lock = threading.Lock()
        self._followers: set[_Follower] = set()
        self._thread: threading.Thread | None = None
        self._last = 0
        self._ended = False
        self.dropped = 0
        """Readers that were too slow."""

    def __len__(self) -> int:
        return len(self._followers)

    async def follow(self, after: int | None, heartbeat: float) -> AsyncIterator[bytes]:
        """Server-sent events of what comes behind number `after`; from now on, where it is `None`. Raises `Problem`."""
        await run_in_threadpool(self._begin)
        if self._ended:
            raise overloaded("this daemon is stopping")
        if len(self._followers) >= self._most:
            raise overloaded(f"{self._most} streams are open")
        return self._events(after, heartbeat)

    async def _events(self, after: int | None, heartbeat: float) -> AsyncIterator[bytes]:
        # Here and not before: of a reader that is gone already this never begins, and nobody would take it off again.
        follower = _Follower()
        with self._lock:
            if self._ended:
                return
            self._followers.add(follower)
            last = self._last if after is None else after
        try:
            # With the number that it goes on from, so that who loses the connection before any change misses none.
            yield b": what opens, changes and heals from here on\nid: %d\n\n" % last
            # Some at a time. What comes in between stands in the queue already, and is not told twice.
            while after is not None and (changes := await run_in_threadpool(self._live.changes, last)):
                for change in changes:
                    yield _event(change)
                    last = change.number
            while not (follower.lost and follower.queue.empty()):
                try:
                    async with asyncio.timeout(heartbeat):
                        found = await follower.queue.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if found is None:
                    return
                if found.number > last:
                    yield _event(found)
                    last = found.number
            self.dropped += 1
            yield b": you read too slowly; come again with Last-Event-ID\n\n"
        finally:
            with self._lock:
                self._followers.discard(follower)

    def close(self) -> None:
        """End every stream."""
        with self._lock:
            self._ended = True
            followers = list(self._followers)
        for follower in followers:
            with suppress(RuntimeError):  # its loop is closed
                follower.loop.call_soon_threadsafe(follower.end)
        if self._thread is not None:
            self._thread.join(2 * WAIT_SECONDS)

    def _begin(self) -> None:
        with self._lock:
            if self._thread is not None or self._ended:
                return
            self._last = self._live.last_change()
            self._thread = threading.Thread(target=self._wait, name="followers", daemon=True)
            self._thread.start()

    def _wait(self) -> None:
        while not self._ended:
            try:
                changes = self._live.changes(self._last, WAIT_SECONDS)
            except Exception:
                _log.exception("the changes of findings cannot be read; those who follow are let go")
                self._let_go()
                return
            if not changes:
                continue
            with self._lock:
                self._last = changes[-1].number
                followers = list(self._followers)
            for follower in followers:
                follower.loop.call_soon_threadsafe(follower.hand, changes)

    def _let_go(self) -> None:
        with self._lock:
            followers = list(self._followers)
            self._thread = None  # who comes next begins anew
        for follower in followers:
            follower.loop.call_soon_threadsafe(follower.end)


def _event(change: Change) -> bytes:
    data = msgspec.json.encode(change)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (change.number, change.what.encode(), data)
