"""A stand-in for a kube-apiserver: discovery, lists and watches over HTTP on loopback, out of what a real one told a watch.

It is no API server: it knows no rules, and takes no writes but Events. It replays recorded watch events as they were
received, in chunks, with bookmarks and the 410 of the recording, in pages, for a token; and it does what a network does:
answers late, or with an error, or breaks off in the middle of a line. The watch and the Events of `netledger` have been tried
against this alone.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from domain.resources import BY_TITLE, KINDS

TOO_OLD = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":'
    b'"too old resource version: 1 (340)","reason":"Expired","code":410}}'
)
"""As recorded."""


class Change(NamedTuple):
    """One watch event: what of which kind, at which revision, and the object as it was received."""

    revision: int
    api: str
    type: str
    uid: str
    object: bytes


def changes_in(lines: Iterable[bytes]) -> list[Change]:
    """The events of a recorded watch, in the order of revisions."""
    found = []
    for line in lines:
        event = json.loads(line)
        body = event["object"]
        kind = BY_TITLE[body["apiVersion"].rpartition("/")[0], body["kind"]]
        metadata = body["metadata"]
        raw = line[line.index(b'"object":') + 9 : line.rindex(b"}")]
        assert json.loads(raw) == body
        found.append(Change(int(metadata["resourceVersion"]), kind.api, event["type"], metadata["uid"], raw))
    return sorted(found, key=lambda change: change.revision)


class ApiServer:
    """A server in this process; a context manager. `served` are the kinds that are installed."""

    def __init__(self, served: Iterable[str] | None = None, token: str = "good") -> None:
        self.served = set(served if served is not None else (kind.api for kind in KINDS if kind.served))
        self.token = token
        self.forbidden: set[str] = set()
        self.revision = 1
        self.forgotten = 0
        """Up to which revision a watch cannot begin any more."""
        self.gone_as_status = False
        self.faults: deque[tuple[str, float]] = deque()
        """What happens to the next requests for objects: `("status", 500)`, `("cut", bytes)`, `("late", seconds)`."""
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.written: dict[tuple[str, str], dict[str, Any]] = {}
        """The Events that were POSTed, by namespace and name."""
        self.posts = 0
        self.gone: set[str] = set()
        """Namespaces that are not there."""
        self.told: dict[str, list[bytes]] = {}
        """Each kind's events, as lines, in the form in which they are sent."""
        self._changes: list[Change] = []
        self._bookmarks = 0
        self._ended = 0
        self._closed = False
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port that it had before if it had one."""
        self._closed = False
        stand_in = self

        class Handler(_Handler):
            api = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """End all watches and listen no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, folder: Path) -> str:
        """A file that leads here."""
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{"name": "here", "cluster": {"server": self.url}}],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                    "users": [{"name": "me", "user": {"token": self.token}}],
                }
            )
        )
        return str(path)

    def happen(self, changes: Iterable[Change]) -> None:
        """These happened now."""
        with self._changed:
            for change in changes:
                self._changes.append(change)
                self.revision = max(self.revision, change.revision)
                self.told.setdefault(change.api, []).append(_line(change))
            self._changed.notify_all()

    def bookmark(self) -> None:
        """Tell every watch at which revision it is."""
        with self._changed:
            self._bookmarks += 1
            self._changed.notify_all()

    def end_watches(self) -> None:
        """As when their time is over."""
        with self._changed:
            self._ended += 1
            self._changed.notify_all()

    def forget(self, revision: int | None = None) -> None:
        """Compact: watches cannot begin before this revision (now) any more."""
        self.forgotten = self.revision if revision is None else revision

    # ---- what it holds

    def write(self, namespace: str, event: dict[str, Any]) -> tuple[int, str]:
        """Take an Event, by the rules of the real one's validation: the code and the words of its answer."""
        metadata, regarding = event["metadata"], event["regarding"]
        if namespace in self.gone:
            return 404, f'namespaces "{namespace}" not found'
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", metadata["name"]) or len(metadata["name"]) > 253:
            return 422, "metadata.name: Invalid value"
        if metadata["namespace"] != namespace or regarding.get("namespace", "default") != namespace:
            return 422, "regarding.namespace: Invalid value: does not match event.namespace"
        if len(event["note"].encode()) > 1024:
            return 422, "note: Invalid value: can have at most 1024 bytes"
        for field in ("reportingController", "reportingInstance", "reason", "action", "eventTime"):
            if not event.get(field) or len(event[field]) > 128:
                return 422, f"{field}: Required value"
        if event["type"] not in ("Normal", "Warning"):
            return 422, "type: Invalid value"
        if (namespace, metadata["name"]) in self.written:
            return 409, f'events.events.k8s.io "{metadata["name"]}" already exists'
        self.written[namespace, metadata["name"]] = event
        return 201, "Created"

    def there(self, api: str) -> tuple[int, list[bytes]]:
        """What is there of a kind, and the revision at which it is so."""
        with self._changed:
            found: dict[str, bytes] = {}
            for change in self._changes:
                if change.api == api:
                    if change.type == "DELETED":
                        found.pop(change.uid, None)
                    else:
                        found[change.uid] = change.object
            return self.revision, list(found.values())

    def list_of(self, api: str, first: int = 0, limit: int = 0) -> bytes:
        """A page of a list: `limit` objects behind the first so many; all of them where it is 0."""
        kind = next(kind for kind in KINDS if kind.api == api)
        revision, items = self.there(api)
        limit = limit or len(items)
        page = items[first : first + limit]
        if not kind.group:  # what is built in leaves kind and apiVersion to the list
            page = [item.replace(f'"apiVersion":"v1","kind":"{kind.title}",'.encode(), b"", 1) for item in page]
        metadata = {"resourceVersion": str(revision)}
        if first + limit < len(items):
            metadata["continue"] = str(first + limit)
        version = f"{kind.group}/v1" if kind.group else "v1"
        head = json.dumps(
            {"kind": f"{kind.title}List", "apiVersion": version, "metadata": metadata}, separators=(",", ":")
        )
        return head[:-1].encode() + b',"items":[' + b",".join(page) + b"]}"

    def follow(self, api: str, after: int, seconds: float) -> Iterable[bytes]:
        """The lines of a watch; an empty one where it only waited."""
        at, bookmarks, ended = 0, self._bookmarks, self._ended
        deadline = time.monotonic() + seconds
        while True:
            with self._changed:
                if at == len(self._changes) and bookmarks == self._bookmarks:
                    self._changed.wait(0.05)
                if self._closed or ended != self._ended or time.monotonic() > deadline:
                    return
                coming, at = self._changes[at:], len(self._changes)
                said, bookmarks = bookmarks != self._bookmarks, self._bookmarks
                revision = self.revision
            for change in coming:
                if change.api == api and change.revision > after:
                    yield _line(change)
            if said:
                body = {"kind": "Any", "apiVersion": "v1", "metadata": {"resourceVersion": str(revision)}}
                yield json.dumps({"type": "BOOKMARK", "object": body}, separators=(",", ":")).encode()
            yield b""


def _line(change: Change) -> bytes:
    return b'{"type":"' + change.type.encode() + b'","object":' + change.object + b"}"


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.api.posts += 1
        fault, value = self.api.faults.popleft() if self.api.faults else ("", 0.0)
        if fault == "late":
            time.sleep(value)
        words = self.path.strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {self.api.token}":
            self._status(401, "Unauthorized")
        elif fault == "status":
            self._status(int(value), "as the test wants it")
        elif words[:4] != ["apis", "events.k8s.io", "v1", "namespaces"] or words[5:] != ["events"]:
            self._status(404, "the server could not find the requested resource")
        elif "events" in self.api.forbidden:
            self._status(403, 'events.events.k8s.io is forbidden: User "me" cannot create resource')
        else:
            code, said = self.api.write(words[4], json.loads(body))
            if fault == "cut":
                self.close_connection = True
            else:
                self._status(code, said)

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        words = parts.path.strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {self.api.token}":
            return self._status(401, "Unauthorized")
        group = "" if words[0] == "api" else words[1]
        rest = words[1:] if words[0] == "api" else words[2:]
        kinds = [kind for kind in KINDS if kind.served and kind.group == group and kind.api in self.api.served]
        if not kinds:
            return self._status(404, "the server could not find the requested resource")
        if not rest:
            version = {"groupVersion": f"{group}/v1", "version": "v1"}
            return self._body({"kind": "APIGroup", "name": group, "versions": [version], "preferredVersion": version})
        if len(rest) == 1:
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            served = [{"name": kind.plural, "kind": kind.title, "verbs": verbs} for kind in kinds]
            return self._body({"kind": "APIResourceList", "groupVersion": "v1", "resources": served})
        kind = next(kind for kind in kinds if kind.plural == rest[1])
        self.api.asked.append((kind.api, parameters))
        cut = 0
        if self.api.faults:
            fault, value = self.api.faults.popleft()
            if fault == "status":
                return self._status(int(value), "as the test wants it")
            if fault == "late":
                time.sleep(value)
            cut = int(value) if fault == "cut" else 0
        if kind.api in self.api.forbidden:
            return self._status(403, f'{kind.plural} is forbidden: User "me" cannot list resource')
        if "watch" in parameters:
            return self._watch(kind.api, parameters, cut)
        return self._list(kind.api, parameters)

    def _list(self, api: str, parameters: dict[str, str]) -> None:
        first, limit = int(parameters.get("continue", "0")), int(parameters.get("limit", "0"))
        self._bytes(200, self.api.list_of(api, first, limit) + b"\n")

    def _watch(self, api: str, parameters: dict[str, str], cut: int) -> None:
        after = int(parameters["resourceVersion"])
        if after < self.api.forgotten and self.api.gone_as_status:
            return self._status(410, "too old resource version", "Expired")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if after < self.api.forgotten:
            self._chunk(TOO_OLD + b"\n")
            self._chunk(b"")
            return None
        sent = 0
        for line in self.api.follow(api, after, float(parameters.get("timeoutSeconds", "300"))):
            if not line:
                continue
            if cut and sent + len(line) > cut:
                self._chunk(line[: cut - sent])
                self.close_connection = True
                return None
            self._chunk(line + b"\n")
            sent += len(line)
        self._chunk(b"")
        return None

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _status(self, code: int, message: str, reason: str = "") -> None:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        self._bytes(code, json.dumps({**status, "reason": reason, "code": code}).encode())

    def _body(self, body: dict[str, Any]) -> None:
        self._bytes(200, json.dumps(body).encode())

    def _bytes(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)
