"""A webhook for tests, over HTTP on loopback: it takes alerts as Alertmanager does, and fails as a test wants it.

What it holds an alert to is what Alertmanager's API v2 does: labels that are not empty and well named, a beginning that is
not behind the end. It keeps the last word on each set of labels, so `firing()` is what a person would be told.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

PATH = "/api/v2/alerts"
Labels = tuple[tuple[str, str], ...]


class Webhook:
    """A server in this process; a context manager."""

    def __init__(self, context: ssl.SSLContext | None = None, token: str = "", login: str = "") -> None:
        self.posts: list[list[dict[str, Any]]] = []
        """What was taken, a POST each."""
        self.heads: list[dict[str, str]] = []
        self.faults: deque[tuple[str, float]] = deque()
        """What happens to the next requests: `("status", 500)`, `("hang", seconds)`, `("cut", 0)`, `("endless", 500)`, whose
        answer has no end, and `("lost", 0)`: taken, but its answer is lost."""
        self.always: tuple[str, float] | None = None
        self.refused: set[str] = set()
        """Names of resources whose alerts it takes for wrong."""
        self.asked = 0
        self.port = 0
        self._context = context
        self._authorization = token and f"Bearer {token}"
        self._login = login
        self._server: ThreadingHTTPServer | None = None
        self._held: dict[Labels, dict[str, Any]] = {}
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port that it had before if it had one."""
        webhook = self

        class Handler(_Handler):
            at = webhook

        self.closing.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self._context is not None:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        self.closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, alerts: list[dict[str, Any]]) -> str:
        """Keep them; what is wrong with one, where something is."""
        for alert in alerts:
            if wrong := self._wrong(alert):
                return wrong
        self.posts.append(alerts)
        for alert in alerts:
            self._held[tuple(sorted(alert["labels"].items()))] = alert
        return ""

    def firing(self) -> set[str]:
        """The findings that it takes for open."""
        now = datetime.now(UTC)
        return {
            alert["labels"]["finding"]
            for alert in list(self._held.values())
            if "endsAt" not in alert or datetime.fromisoformat(alert["endsAt"]) > now
        }

    def told(self) -> list[dict[str, Any]]:
        """Every alert of every POST, in order."""
        return [alert for post in self.posts for alert in post]

    def forget(self) -> None:
        """As one that was started anew."""
        self._held.clear()

    def let_in(self, head: dict[str, str]) -> bool:
        """Whether it is who may send."""
        given = head.get("authorization", "")
        return given in {one for one in (self._authorization, self._login) if one} or not (
            self._authorization or self._login
        )

    def _wrong(self, alert: dict[str, Any]) -> str:
        labels, starts, ends = alert["labels"], alert["startsAt"], alert.get("endsAt")
        if not labels or any(not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) or not labels[name] for name in labels):
            return "label set is wrong"
        if ends is not None and datetime.fromisoformat(starts) > datetime.fromisoformat(ends):
            return "start time must be before end time"
        if any(not isinstance(value, str) for value in [*labels.values(), *alert["annotations"].values()]):
            return "no text"
        return "refused" if labels["name"] in self.refused else ""


class _Handler(BaseHTTPRequestHandler):
    at: Webhook
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.at.asked += 1
        body = self.rfile.read(int(self.headers["content-length"]))
        head = {name.lower(): value for name, value in self.headers.items()}
        fault, value = self.at.faults.popleft() if self.at.faults else self.at.always or ("", 0.0)
        if fault == "hang":
            self.at.closing.wait(value)
        if fault in ("cut", "hang"):
            self.close_connection = True
            return
        if fault == "endless":
            self.send_response(int(value))
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            with suppress(OSError):
                while not self.at.closing.is_set():
                    self.wfile.write(b"x" * (1 << 16))
        elif fault == "status":
            self._answer(int(value), b'{"message":"as the test wants it"}' * 500)
        elif not self.at.let_in(head):
            self._answer(401, b"who?")
        elif self.path != PATH:
            self._answer(404, b"not here")
        else:
            self.at.heads.append(head)
            wrong = self.at.take(json.loads(body))
            if fault == "lost":
                self.close_connection = True
                return
            self._answer(400 if wrong else 200, wrong.encode())

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """For a person to try: prints what is posted, until Ctrl-C."""
    with Webhook() as webhook:
        print(f"posts are taken at {webhook.url}", flush=True)
        seen = 0
        while True:
            time.sleep(0.2)
            for alert in webhook.told()[seen:]:
                seen += 1
                print(json.dumps(alert), flush=True)


if __name__ == "__main__":
    main()
