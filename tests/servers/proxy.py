"""A connection that misbehaves: stands between a client and a server, loses answers, falls silent, or speaks TLS in front."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Hands on what comes in on its `port` to another port of this machine; a context manager that ends it.

    `lose` says how many of the next answers to a script are lost: the script has run, and the connection is cut. While
    `silent` is set, nothing is handed on.
    """

    def __init__(self, target: int, secured: ssl.SSLContext | None = None) -> None:
        self.lose = 0
        self.lost = 0
        self.silent = False
        self._target = target
        self._secured = secured
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in [self._listener, *self._sockets]:
            _close(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._secured is not None:
                client = self._secured.wrap_socket(client, server_side=True)
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            _close(client)
            return
        self._sockets |= {client, server}
        asked = threading.Event()
        threading.Thread(target=self._hand_on, args=(client, server, asked, True), daemon=True).start()
        self._hand_on(server, client, asked, False)

    def _hand_on(self, source: socket.socket, target: socket.socket, asked: threading.Event, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.silent:
                    continue
                if asks and b"EVAL" in data:
                    asked.set()
                elif not asks and asked.is_set():
                    asked.clear()
                    if self.lose > 0 and not data.startswith(b"-NOSCRIPT"):
                        self.lose -= 1
                        self.lost += 1
                        break
                target.sendall(data)
        for each in (source, target):
            _close(each)
            self._sockets.discard(each)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        each.close()
