"""Reads what was sent, within bounds of size, time and memory, and refuses the rest without holding anybody's socket.

`Room` counts the bytes that all requests hold together. `ingest` and `commands` read with `body_of`.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from adapters.http.answers import Problem
from adapters.paper import counted

RETRY_AFTER = "5"
"""Seconds. An API server waits ten before it tries again, and takes no advice."""


class Room:
    """How many bytes requests may hold in memory, all together. For several threads."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.held = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Hold `size` more bytes, if there is room for all of them."""
        with self._lock:
            if self.held + size > self.bound:
                return False
            self.held += size
            return True

    def give(self, size: int) -> None:
        """Hold them no longer."""
        with self._lock:
            self.held -= size


class Share:
    """What one request holds of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.held = 0

    def need(self, size: int) -> None:
        """Hold `size` bytes at least. Raises `Problem`: 503 where there is no room."""
        more = size - self.held
        if more <= 0:
            return
        if not self._room.take(more):
            raise overloaded(f"{counted(self._room.held, 'byte')} of other requests are being kept")
        self.held = size


@contextmanager
def share_of(room: Room) -> Iterator[Share]:
    """A share that is given back at the end."""
    share = Share(room)
    try:
        yield share
    finally:
        room.give(share.held)


def overloaded(why: str) -> Problem:
    """The answer of a daemon that has enough to do."""
    return Problem(
        503, f"too much at once: {why}; nothing of this was kept, send it again", {"retry-after": RETRY_AFTER}
    )


async def body_of(request: Request, share: Share, *, most: int, seconds: float) -> bytes:
    """The whole body, as it was sent; it counts against the share from its first byte on.

    Raises `Problem`: 408, 413 or 503. What is too large is refused before it is read.
    """
    try:
        return await _read(request, share, most, seconds)
    except Problem as problem:
        problem.unread = True
        raise


async def _read(request: Request, share: Share, most: int, seconds: float) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        if int(length) > most:
            raise _too_large(int(length), most)
        # Its whole length at once: to find out in the middle that there is no room would waste what was sent.
        share.need(int(length))
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                if len(body) + len(piece) > most:
                    raise _too_large(None, most)
                share.need(len(body) + len(piece))
                body += piece
    except TimeoutError:
        raise Problem(
            408, f"the body did not come within {seconds:g} s; only {counted(len(body), 'byte')} did"
        ) from None
    return bytes(body)


def _too_large(size: int | None, most: int) -> Problem:
    told = counted(size, "byte") if size is not None else "more"
    return Problem(413, f"the body has {told}, and {most:,} are taken at most (--max-body); send smaller batches")


class NotGzip(Exception):
    """It says that it is gzip, and cannot be inflated. The message says why."""


def inflated(body: bytes, share: Share, *, most: int) -> bytes:
    """A gzip body inflated, never holding more than it may. Raises `NotGzip`, and `Problem` (413, 503)."""
    compressed = len(body)
    found = bytearray()
    while body:
        reader = zlib.decompressobj(wbits=31)
        while not reader.eof:
            try:
                piece = reader.decompress(body, 1 << 20)
            except zlib.error as error:
                raise NotGzip(str(error)) from None
            if not piece and not reader.unconsumed_tail and not reader.eof:
                raise NotGzip("it ends in the middle")
            if len(found) + len(piece) > most:
                raise Problem(
                    413, f"inflated, the body has more than {most:,} bytes (--max-body); send smaller batches"
                )
            share.need(compressed + len(found) + len(piece))
            found += piece
            body = reader.unconsumed_tail
        body = reader.unused_data
    return bytes(found)
