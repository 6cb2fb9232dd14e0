"""The questions of `answering.py`, put to a daemon: the same methods, the same documents, over HTTP.

The daemon answers as `Answers` does, and adds where its ledger stands and what is provisional; that is taken off again, and
kept aside for who prints. `cli/kept.py` chooses between the two; `http/questions.py` is the other end.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from random import uniform
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx2 as http

from adapters.answering import Document
from adapters.report import NotKnown
from adapters.trail import Question
from domain.resources import Key, Kind

PAGE: Final = 5_000
"""How many events are asked for at once where all are wanted."""
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 120.0
SILENT_SECONDS: Final = 60.0
"""A stream says every 15 s that it is there still."""
LONGEST_REST_SECONDS: Final = 30.0


class ServerError(Exception):
    """A daemon cannot be asked, or refuses. The message names it, says why, and what to do."""


class Away(ServerError):
    """It cannot be reached now, or is overloaded: the same again later may succeed."""


class Credentials(NamedTuple):
    """How to prove who one is, and whom to believe. All are files: a token; PEM of who signs, of a certificate, its key."""

    token: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Remote:
    """One daemon, as long as the block lasts. Everything raises `ServerError`; moments and tokens it reads itself."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        """Raises `ServerError` and `OSError`; nothing is sent yet."""
        self.address = address.rstrip("/")
        self.coverage: Document = {}
        """Of the last answer."""
        self.provisional: Document = {}
        """What may still change it."""
        self._credentials = credentials
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ServerError(f"{_shown(address)!r} is no address of a daemon; such as https://netledger.example:8440")
        if "@" in parts.netloc:
            raise ServerError(
                "a name and a password in the address are not sent; give a token in a file: --token-file FILE"
            )
        is_here = _is_loopback(parts.hostname)
        headers = {}
        if credentials.token is not None:
            if parts.scheme == "http" and not is_here:
                raise ServerError(
                    f"{self.address} is plain HTTP, and the token of {credentials.token} would be readable on the way; use "
                    "https://"
                )
            headers["authorization"] = f"Bearer {_token(credentials.token)}"
        self._client = http.Client(
            headers=headers,
            verify=_context(credentials) if parts.scheme == "https" else False,
            timeout=http.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not is_here,  # no proxy leads to this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    # ---- the questions

    def findings(self) -> Document:
        """As `Answers.findings`."""
        return self._ask("findings")

    def resources(
        self, kind: Kind, namespace: str | None = None, name: str | None = None, at: str | None = None
    ) -> Document:
        """As `Answers.resources`."""
        if name is None:
            return self._ask(f"resources/{kind.name}", namespace=namespace, at=at)
        try:
            found = self._ask(_path("resources", Key(kind.name, namespace or "", name)), at=at)
        except NotKnown:
            return {**self._ask(f"resources/{kind.name}", namespace=namespace, at=at), "resources": []}
        return {"resources": [found["resource"]], "coverage": found["coverage"]}

    def names(self, kind: Kind) -> list[str]:
        """As `Answers.names`."""
        rows = self.resources(kind)["resources"]
        return [f"{row['namespace']}/{row['name']}" if row["namespace"] else row["name"] for row in rows]

    def known(self) -> dict[str, list[str]]:
        """As `Answers.known`."""
        document = self._ask("known")
        return {name: document[name] for name in ("actors", "verbs", "types")}

    def events(self, question: Question, since: str | None = None, until: str | None = None) -> Document:
        """As `Answers.events`; of many, page by page."""
        filters = {
            "actor": question.actors,
            "kind": question.kinds,
            "namespace": question.namespaces,
            "name": question.name,
            "selector": question.selector,
            "verb": question.verbs,
            "event": question.types,
            "refused": question.refused,
        }
        return self._paged("events", "events", question, since, until, filters)

    def history(self, key: Key, question: Question, since: str | None = None, until: str | None = None) -> Document:
        """As `Answers.history`; of a long one, page by page."""
        return self._paged(_path("history", key), "history", question, since, until, {})

    def who(self, key: Key) -> Document:
        """As `Answers.who`."""
        return self._ask(_path("who", key))

    def diff(self, key: Key, begin: str | None = None, end: str | None = None, *, every: bool = False) -> Document:
        """As `Answers.diff`."""
        return self._ask(_path("diff", key), **{"from": begin, "to": end, "all": every})

    def blame(self, key: Key, kind: Kind, at: str | None = None) -> Document:
        """As `Answers.blame`."""
        return self._ask(_path("blame", key), at=at)

    def why(self, key: Key, member: str = "", at: str | None = None) -> Document:
        """As `Answers.why`."""
        return self._ask(_path("why", key), member=member or None, at=at)

    def ipset(self, name: str, node: str | None = None, at: str | None = None) -> Document:
        """As `Answers.ipset`."""
        return self._ask(f"ipsets/{quote(name, safe='')}", node=node, at=at)

    def changes(self) -> Iterator[Document]:
        """The changes of findings as they come, without end; a connection that is lost is taken up where it was.

        Each is `number`, `time` (microseconds since 1970), `what` and the `finding`. Raises
        `ServerError` where it cannot be reached at first, or refuses.
        """
        last: str | None = None
        connected = False
        rest = 1.0
        while True:
            try:
                for kind, value in self._stream(last):
                    connected, rest = True, 1.0
                    if kind == "id":
                        last = value
                    else:
                        yield json.loads(value)
            except Away:
                if not connected:
                    raise
            time.sleep(rest * uniform(0.8, 1.2))
            rest = min(2 * rest, LONGEST_REST_SECONDS)

    # ---- how they are put

    def _paged(
        self,
        path: str,
        name: str,
        question: Question,
        since: str | None,
        until: str | None,
        filters: dict[str, Any],
    ) -> Document:
        rows: list[Document] = []
        restarted = False
        token = question.token
        while True:
            left = PAGE if question.limit is None else min(question.limit - len(rows), PAGE)
            asked = {**filters, "since": since, "until": until, "reverse": question.reverse, "limit": left}
            page = self._ask(path, **asked, **{"continue": token})
            rows += page[name]
            restarted = restarted or page["restarted"]
            token = page["continue"]
            if token is None or len(rows) == question.limit:
                return {
                    "generation": page["generation"],
                    "restarted": restarted,
                    "events": rows,
                    "continue": token,
                    "coverage": page["coverage"],
                    **({"labels": page["labels"]} if "labels" in page else {}),
                }

    def _ask(self, path: str, **asked: Any) -> Document:
        parameters = {
            name: "true" if value is True else value
            for name, value in asked.items()
            if value is not None and value is not False and value != ()
        }
        try:
            response = self._client.get(f"{self.address}/v1/{path}", params=parameters)
        except http.HTTPError as error:
            raise self._unreachable(error) from error
        document = self._document(response)
        for name in ("ledger", "provisional"):
            found = document.pop(name, {})
        self.provisional = found
        self.coverage = document["coverage"]
        return document

    def _stream(self, last: str | None) -> Iterator[tuple[str, str]]:
        """What comes with `id` and `data`, until the stream ends."""
        headers = {"last-event-id": last} if last is not None else {}
        timeout = http.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        url = f"{self.address}/v1/findings"
        try:
            with self._client.stream(
                "GET", url, params={"watch": "true"}, headers=headers, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    response.read()
                    self._document(response)
                for line in response.iter_lines():
                    name, _, value = line.partition(": ")
                    if name in ("id", "data"):
                        yield name, value
        except http.HTTPError as error:
            raise self._unreachable(error) from error

    def _document(self, response: http.Response) -> Document:
        """What came back. Raises `ServerError`, and `NotKnown`."""
        try:
            document = response.json()
        except ValueError:
            document = None
        status = response.status_code
        if not isinstance(document, dict) or (status != 200 and "detail" not in document):
            raise ServerError(
                f"{self.address} answered {status}, and not as a netledger daemon does; see that the address is right"
            )
        if status == 200:
            return document
        said = str(document["detail"])
        if status == 404:
            raise NotKnown(said)
        if status == 401:
            raise ServerError(f"{self.address} does not know who you are: {said}{self._proved_by()}")
        if status == 403:
            raise ServerError(f"{self.address} refuses: {said}{self._proved_by()}")
        if status >= 500 or status == 429:
            raise Away(f"{self.address} cannot answer now: {said}")
        raise ServerError(said)

    def _proved_by(self) -> str:
        token, cert = self._credentials.token, self._credentials.cert
        shown = [f"the token of {token}"] if token else []
        shown += [f"the certificate of {cert}"] if cert else []
        if not shown:
            return "; give --token-file FILE (or NETLEDGER_TOKEN_FILE), or --cert FILE"
        return f"; shown was {' and '.join(shown)}"

    def _unreachable(self, error: Exception) -> ServerError:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ServerError(
                f"the certificate of {self.address} is not trusted: {cause.verify_message}; name who signed it with --ca FILE"
            )
        if isinstance(cause, ssl.SSLError):
            return ServerError(
                f"{self.address}: no secure connection comes about ({cause.reason or cause}); it may speak plain HTTP, or "
                "want a certificate (--cert FILE --key FILE)"
            )
        if isinstance(error, http.TimeoutException):
            return Away(f"{self.address} does not answer in time; see /readyz?verbose there, or ask for less (--limit)")
        return Away(
            f"{self.address} cannot be reached ({str(error) or type(error).__name__}); is a daemon running there, and is the "
            "address right?"
        )


def _path(question: str, key: Key) -> str:
    return "/".join([question, *(quote(part, safe="") for part in key if part)])


def _shown(address: str) -> str:
    """Without what stands before an @: it may be a password."""
    before, at, behind = address.partition("@")
    return f"...@{behind}" if at else before


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(path: str) -> str:
    """The first token of a file: alone, or as a line of the daemon's own token file has it."""
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        word = line.strip().partition(" ")[0]
        if word.startswith("sha256:"):
            raise ServerError(
                f"{path} holds the hash of a token, by which nobody can prove anything: put the token there"
            )
        if word and not word.startswith("#"):
            if not word.isascii() or not word.isprintable():
                raise ServerError(
                    f"{path} holds no token: one is printable ASCII, such as `openssl rand -hex 32` prints"
                )
            return word
    raise ServerError(f"{path} holds no token; write one into it, such as the daemon's own token file has")


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=credentials.ca)
    except ssl.SSLError as error:
        raise ServerError(f"{credentials.ca} holds no certificates in PEM ({error.reason or error})") from None
    if credentials.cert is not None:
        try:
            context.load_cert_chain(credentials.cert, credentials.key)
        except ssl.SSLError as error:
            raise ServerError(
                f"{credentials.cert} with the key {credentials.key or 'in it'} is no certificate to show "
                f"({error.reason or error}); both are PEM, and the key is the certificate's"
            ) from None
    return context
