"""uvicorn with the limits that it has not: heads that never end, readers that never read, too many connections, TLS.

A connection that asks for nothing may be closed at any time to make place for one that does, so idle ones keep nobody
out. `adapters/daemon.py` starts and stops it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
import time
from asyncio import TimerHandle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_log = logging.getLogger(__name__)
REREAD_SECONDS = 10.0
CLIENTS = 6
"""Where in what is seen of the certificates' files that of the clients' authority begins."""


class Limits(NamedTuple):
    """What one connection may ask of us. Sizes are in bytes, times in seconds."""

    connections: int = 1000
    head: int = 64 << 10
    head_seconds: float = 10.0
    idle_seconds: float = 90.0
    """For how long a connection is kept that has asked before. A Go client keeps it for 90 s."""
    stuck_seconds: float = 30.0
    """For how long an answer may wait for a reader that takes nothing of it."""


class Certificate(NamedTuple):
    """The server's own, and who signs the clients'."""

    chain: Path
    key: Path
    clients: Path | None = None


def context_of(certificate: Certificate) -> ssl.SSLContext:
    """TLS 1.2 or later; a client's certificate is looked at where it shows one. Raises `OSError` (`ssl.SSLError` is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate.chain, certificate.key)
    if certificate.clients is not None:
        context.load_verify_locations(certificate.clients)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _Config(Config):
    limits: Limits
    context: ssl.SSLContext | None
    """The one by which clients are believed now."""


class Connection(HttpToolsProtocol):
    """One connection."""

    common_name: str | None = None
    """Of the client's certificate, where it showed one that is signed as it should be."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.app_state = {**app_state, "connection": self}
        self._limits = cast(_Config, config).limits
        self._head_open = True
        self._heads = 0
        self._head_bytes = 0
        self._too_long = False
        self._head_timer: TimerHandle | None = None
        self._stuck_timer: TimerHandle | None = None
        self.since = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer on it."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or one that is idle has to go; where none is, say so."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections and not self._make_place():
            self._refuse(503, "too many connections")
            return
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.context is not cast(_Config, self.config).context:
            transport.close()  # the clients' authority was replaced while this handshake went on
            return
        self.common_name = _common_name(secured)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget_head()
        self._cancel_stuck()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes of a head: the parser itself would keep all of it."""
        if self.transport.is_closing():
            return
        was_open, before = self._head_open, self._heads
        super().data_received(data)
        if not (was_open and self._head_open and self._heads == before) or self.transport.is_closing():
            return
        # A head was open before and is still, and it is the same one: all of this belongs to it.
        self._head_bytes += len(data)
        if self._head_bytes > self._limits.head:
            self._refuse(431, "the request's headers are too large")
        elif self._head_timer is None and self.idle:
            self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head_open = True

    def on_headers_complete(self) -> None:
        """A head is whole."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._limits.head:
            self._too_long = True
            raise ValueError("too long")  # the parser stops, and asks for a 400
        self._head_open = False
        self._heads += 1
        self._head_bytes = 0
        self._forget_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        super().on_message_complete()
        self._head_open = True

    def send_400_response(self, msg: str) -> None:
        """What cannot be read, or is too long to be."""
        if self._too_long:
            self._refuse(431, "the request's headers are too large")
        else:
            self._refuse(400, "this is no HTTP request")

    def pause_writing(self) -> None:
        """The reader takes nothing: for a while that is its own affair."""
        super().pause_writing()
        self._cancel_stuck()
        self._stuck_timer = self.loop.call_later(self._limits.stuck_seconds, self._give_up)

    def resume_writing(self) -> None:
        """It reads again."""
        self._cancel_stuck()
        super().resume_writing()

    def end_soon(self) -> None:
        """Close it when its answer is whole: who asked comes again. An answer without end is ended, too."""
        self.shutdown()
        self.loop.call_later(self._limits.stuck_seconds, self.transport.abort)

    def _make_place(self) -> bool:
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self and one.idle]
        if not others:
            return False
        oldest = min(others, key=lambda one: one.since)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self._head_is_late)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refuse(408, "no whole request came in time")

    def _cancel_stuck(self) -> None:
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None

    def _give_up(self) -> None:
        self._stuck_timer = None
        _log.info("a reader took nothing of its answer for %g s, and was let go", self._limits.stuck_seconds)
        self.transport.abort()

    def _refuse(self, status: int, why: str) -> None:
        if self.transport.is_closing():
            return
        if self.idle:  # else it would be written into the middle of an answer
            content = why.encode()
            head = (
                f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()


_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _common_name(secured: Any) -> str | None:
    certificate = secured.getpeercert() if secured is not None else None
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None


class Server(uvicorn.Server):
    """Listens on one socket, which is bound already."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        limits: Limits,
        certificate: Certificate | None,
        *,
        grace: float,
    ) -> None:
        config = _Config(
            cast(Any, app),
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=cast(int, limits.idle_seconds),  # it takes any number
            timeout_graceful_shutdown=max(1, int(grace)),
        )
        config.limits = limits
        super().__init__(config)
        self._listener = listener
        self._certificate = certificate
        config.context = context_of(certificate) if certificate is not None else None
        self._stands = _stands(certificate)
        self._looked = time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await self.lifespan.startup()
        self.servers = [await self._listen()]
        self.started = True

    async def _listen(self) -> asyncio.Server:
        loop, config = asyncio.get_running_loop(), cast(_Config, self.config)
        make = functools.partial(
            Connection, config=config, server_state=self.server_state, app_state=self.lifespan.state
        )
        secure: dict[str, Any] = {}
        if config.context is not None:
            # A handshake that never ends holds a socket as well as a head that never does.
            secure = {"ssl": config.context, "ssl_handshake_timeout": config.limits.head_seconds}
        return await loop.create_server(make, sock=self._listener, backlog=config.backlog, **secure)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. What was renewed, ours or who signs the clients', holds from the next handshake on."""
        now = time.monotonic()
        if self._certificate is not None and now - self._looked > REREAD_SECONDS:
            self._looked = now
            try:
                await self._look_again(self._certificate)
            except OSError as error:
                _log.error("the certificates cannot be read again: %s; those from before stay", error)
        return await super().on_tick(counter)

    async def _look_again(self, certificate: Certificate) -> None:
        stands = _stands(certificate)
        if stands == self._stands:
            return
        config, fresh = cast(_Config, self.config), context_of(certificate)
        assert config.context is not None
        if stands[CLIENTS:] == self._stands[CLIENTS:]:
            config.context.load_cert_chain(certificate.chain, certificate.key)  # which fits: `fresh` has taken it
        else:
            # An authority cannot be taken out of a context, and sessions that clients proved themselves in could be
            # taken up again in it: another listens on the same socket, with a context of its own.
            before, self._listener = self.servers, self._listener.dup()
            config.context = fresh
            self.servers = [await self._listen()]
            for server in before:
                server.close()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection) and connection.common_name is not None:
                    connection.end_soon()
        self._stands = stands
        _log.info("the certificates were read again")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: the daemon hears signals itself."""
        yield


def _stands(certificate: Certificate | None) -> tuple[int, ...]:
    if certificate is None:
        return ()
    seen = [path.stat() for path in certificate if path is not None]
    return tuple(number for one in seen for number in (one.st_ino, one.st_size, one.st_mtime_ns))


def bound(host: str, port: int) -> socket.socket:
    """A socket at that address, not listening yet. Raises `OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
