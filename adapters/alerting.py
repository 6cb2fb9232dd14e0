"""Alerts: what opens and heals, posted to webhooks in the form of Alertmanager's API v2, and what is open again each minute.

Alertmanager forgets what it is not told again, so a firing alert that it lost comes back, and one whose end it missed goes.
Only findings that are `open` fire; one that heals, is withdrawn, or is not certain any more ends with its time. It began when
the log says so. What is told is never more than one page of changes at a time, and what is open.
`outlets.py` has the loop, `announcing.py` the Kubernetes Events.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from adapters import report
from adapters.changes import Change
from adapters.live import Live
from adapters.outlets import ANSWER_SECONDS, SEVERITIES, NotHeard, Refused, Teller
from adapters.ports import StoreError
from adapters.stores.backends import masked, shown
from projections.findings.rule import HEALED

AGAIN_SECONDS: Final = 60.0
PATH: Final = "/api/v2/alerts"
ALERTS_A_POST: Final = 64
ANNOTATION_CHARACTERS: Final = 4_000
ANSWER_BYTES: Final = 2_000
"""What is read of an answer: enough of it for a sentence."""
_FOR_WHAT_IT_SAYS = (400, 413, 422)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = frozenset({"alertname", "severity", "rule", "kind", "namespace", "name", "finding"})


class Target(NamedTuple):
    """A webhook, and what goes with every alert to it."""

    url: str
    """Without a path, Alertmanager's own is meant."""
    token_file: Path | None = None
    """A bearer token, read anew for each request: it may be replaced."""
    ca: Path | None = None
    """Who signed its certificate, where that is nobody the system knows (PEM)."""
    severities: Collection[str] = SEVERITIES
    labels: Mapping[str, str] = {}
    """Labels of every alert, such as the cluster's name."""
    external_url: str = ""
    """Where people reach this daemon: alerts lead there."""


class AlertWebhook(Teller):
    """Tells one webhook."""

    kind: ClassVar[str] = "alerts"
    broken: ClassVar[tuple[type[Exception], ...]] = (httpx2.HTTPError, httpx2.InvalidURL)

    def __init__(self, live: Live, target: Target) -> None:
        """Raises `StoreError` for an address that is none."""
        self._target = target
        self._url, self._login = _address(target.url)
        # Its name on disk holds nothing that lets anybody in.
        digest = blake2b(shown(target.url).encode(), digest_size=12).hexdigest()
        super().__init__(live, f"alerts {digest}", f"alerts {masked(target.url)}", target.severities)
        self._client: httpx2.Client | None = None
        self._again_at = 0.0  # and at once after a start: Alertmanager may have forgotten meanwhile

    def tell(self, changes: Sequence[Change], stop: threading.Event) -> bool:
        """Of each finding what became of it last."""
        last: dict[str, Change] = {}
        for change in changes:
            id = change.finding["id"]
            if self.wanted(change) or id in last:
                last[id] = change
        return self._post_all(last.values(), stop)

    def tell_again(self, stop: threading.Event) -> None:
        """What is open, each minute."""
        if (now := time.monotonic()) >= self._again_at:
            self._post_all(self.open_now()[1], stop)
            self._again_at = now + AGAIN_SECONDS

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _post_all(self, changes: Iterable[Change], stop: threading.Event) -> bool:
        for some in _in_parts(changes, ALERTS_A_POST):
            if stop.is_set():
                return False
            self._post([alert(change, self._target.labels, self._target.external_url) for change in some])
        return True

    def _post(self, alerts: list[dict[str, Any]]) -> None:
        """Where one of several is refused for what it says, the others are told without it."""
        try:
            self._send(alerts)
            self.heard(len(alerts))
        except Refused as error:
            if len(alerts) == 1:
                self.drop(alerts[0]["labels"]["finding"], str(error))
                return
            middle = len(alerts) // 2
            self._post(alerts[:middle])
            self._post(alerts[middle:])

    def _send(self, alerts: list[dict[str, Any]]) -> None:
        if self._client is None:
            self._client = self._connected()
        code, said = answered(self._client, self._url, msgspec.json.encode(alerts), self._headers())
        if 200 <= code < 300:
            return
        if code in _FOR_WHAT_IT_SAYS:
            raise Refused(f"{code} {said}".strip())
        if 300 <= code < 400:
            raise NotHeard(f"it answers {code}: it is somewhere else; give the address that it leads to")
        if code in (401, 403):
            raise NotHeard(
                f"it answers {code}: credentials are missing or wrong (--alert-token-file, or in the address)"
            )
        raise NotHeard(f"it answers {code} {said}".strip())

    def _connected(self) -> httpx2.Client:
        ca = self._target.ca
        try:
            if self._url.startswith("http:"):
                verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and made in no time
            else:
                verify = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except OSError as error:  # ssl.SSLError is one
            raise NotHeard(f"--alert-ca {ca} cannot be used: {error.strerror or error}; it is a PEM file") from error
        return httpx2.Client(verify=verify, auth=self._login, timeout=httpx2.Timeout(ANSWER_SECONDS))

    def _headers(self) -> list[tuple[str, str]]:
        path = self._target.token_file
        return [] if path is None else [("authorization", f"Bearer {read_token(path)}")]


def answered(
    client: httpx2.Client, path: str, content: bytes, headers: Iterable[tuple[str, str]] = ()
) -> tuple[int, str]:
    """POST some JSON: the answer's status, and the beginning of what it says. Raises what the connection raises."""
    sent: Any = [("content-type", "application/json"), *headers]
    until = time.monotonic() + ANSWER_SECONDS
    with client.stream("POST", path, content=content, headers=sent) as answer:
        said = b""
        for piece in answer.iter_raw():
            said += piece
            if len(said) >= ANSWER_BYTES or time.monotonic() > until:
                break
    return answer.status_code, " ".join(said[:ANSWER_BYTES].decode("utf-8", "replace").split())[:300]


def read_token(path: Path) -> str:
    """The token in a file. Raises `NotHeard`, without a word of what stands there."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise NotHeard(f"--alert-token-file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise NotHeard(f"--alert-token-file {path} holds no token: one line of visible characters")
    return token


def alert(
    change: Change, labels: Mapping[str, str] | None = None, external_url: str = "", now: int | None = None
) -> dict[str, Any]:
    """An alert as `POST /api/v2/alerts` takes it. `now` is in microseconds since 1970.

    A firing one has no `endsAt`: how long it stands without being told again is the receiver's own affair, whose clock it
    would be. One that ended did so when the log says, or when it was noticed, and not in the future.
    """
    finding, now = change.finding, time.time_ns() // 1_000 if now is None else now
    resource = finding["resource"]
    ends: int | None = None
    if not change.is_open:
        healed = finding["until"] if finding["status"] == HEALED else None
        ends = min(_microseconds(healed["at"]) if healed else change.time, now)
    begins = min(_microseconds(finding["since"]["at"]), now if ends is None else ends)
    repair = "\n".join(f"{step['run']}  # {step['why']}" for step in finding["repair"])
    said = {
        "summary": report.title(finding),
        "description": finding["explanation"],
        "consequence": finding["consequence"],
        "repair": repair,
    }
    own = {
        "alertname": finding["name"],
        "severity": finding["severity"],
        "rule": finding["rule"],
        "kind": resource["kind"],
        "namespace": resource["namespace"],
        "name": resource["name"],
        "finding": finding["id"],
    }
    return {
        "labels": {name: value for name, value in {**(labels or {}), **own}.items() if value},
        "annotations": {name: _shortened(text) for name, text in said.items() if text},
        "startsAt": _written(begins),
        **({"endsAt": _written(ends)} if ends is not None else {}),
        **({"generatorURL": f"{external_url.rstrip('/')}/v1/findings/{quote(finding['id'])}"} if external_url else {}),
    }


def labels_of(given: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` of `--alert-label`. Raises `StoreError`."""
    found: dict[str, str] = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not value or not _LABEL.fullmatch(name):
            raise StoreError(f"--alert-label {one}: it is NAME=VALUE, such as cluster=shop")
        if name in _OWN:
            raise StoreError(f"--alert-label {one}: {name} is what every alert says by itself; choose another name")
        found[name] = value
    return found


def _address(url: str) -> tuple[str, tuple[str, str] | None]:
    """Where to post, and who as. What is in the address must not be in one that a library logs."""
    try:
        parsed, parts = httpx2.URL(url), urlsplit(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise StoreError(f"--alert-webhook {masked(url)} is no address: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise StoreError(
            f"--alert-webhook {masked(url)} is no address of a webhook: it begins with http:// or https://"
        )
    login = (parsed.username, parsed.password) if parsed.userinfo else None
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=PATH if parts.path in ("", "/") else parts.path)
    return plain.geturl(), login


def _in_parts(changes: Iterable[Change], size: int) -> Iterator[list[Change]]:
    part: list[Change] = []
    for change in changes:
        part.append(change)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _microseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def _written(time: int) -> str:
    return datetime.fromtimestamp(time / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _shortened(text: str) -> str:
    return text if len(text) <= ANNOTATION_CHARACTERS else text[: ANNOTATION_CHARACTERS - 1] + "…"
