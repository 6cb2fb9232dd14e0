"""Starts daemons for tests, each a process of its own on a free port of loopback, and always stops them."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.adapters.http.conftest import SENDER

ROOT = Path(__file__).parents[3]
READY_SECONDS = 20.0


class Daemon:
    """One daemon."""

    def __init__(self, *options: str | Path, **environment: str) -> None:
        command = [sys.executable, "-m", "tests.adapters.http.serving_child", "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, *map(str, options)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self.lines: list[dict[str, Any]] = []
        self._found: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait_for(self, message: str) -> dict[str, Any]:
        """The line of its log that says so; all lines before it are read over."""
        while (line := self._found.get(timeout=READY_SECONDS)) is not None:
            if line["message"] == message:
                return line
        raise AssertionError(f"the daemon ended before it said {message!r}: {self.lines}")

    def ready(self) -> tuple[str, int]:
        """Where it listens, once it does."""
        host, _, port = self.wait_for("ready")["address"].rpartition("//")[2].rpartition(":")
        return host, int(port)

    def end(self, number: int = signal.SIGTERM, timeout: float = 12.0) -> int:
        """Its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = json.loads(line) if line.startswith(b"{") else {"message": line.decode().strip()}
            self.lines.append(found)
            self._found.put(found)
        self._found.put(None)


def connected(address: tuple[str, int], data: bytes = b"") -> socket.socket:
    """A connection on which some bytes were sent."""
    connection = socket.create_connection(address, timeout=10)
    connection.sendall(data)
    return connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = bytearray()
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    connection.close()
    return bytes(found)


def posted(body: bytes, *more: str, token: str = SENDER) -> bytes:
    """A POST of a batch as bytes."""
    head = [
        "POST /ingest/audit?timeout=30s HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body)}",
        f"Authorization: Bearer {token}",
        *more,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
