"""Who is asking, and what they may do: bearer tokens from a file, and client certificates. Three rights, each by itself.

`routes` asks for a right before any handler runs. Tokens are held as their SHA-256, so that nothing in memory, in a log
or in an error can give one away.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

READ, INGEST, COMMAND = "read", "ingest", "command"
RIGHTS = (READ, INGEST, COMMAND)
"""To ask; to post records; to give commands. None of them includes another."""

SHORTEST_TOKEN = 16
REREAD_SECONDS = 1.0

_log = logging.getLogger(__name__)
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


class AccessError(Exception):
    """Credentials that cannot be used. The message names the file and the line, and never what stands there."""


class Actor(NamedTuple):
    """Somebody who proved who they are."""

    name: str
    rights: frozenset[str]


class Denied(Exception):
    """No. `status` is 401 where nobody proved who they are, else 403."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


ANYBODY = Actor("anybody", frozenset(RIGHTS))
"""Who asks where `--no-auth` was said."""


def rights_of(words: str, where: str) -> frozenset[str]:
    """`read,ingest` as a set. Raises `AccessError`."""
    rights = frozenset(word.strip() for word in words.split(","))
    if wrong := rights - set(RIGHTS):
        raise AccessError(
            f"{where}: there is no right {min(wrong)!r}; the rights are {', '.join(RIGHTS)}, with commas between"
        )
    return rights


class Tokens:
    """The tokens of a file, read again when it changes. A line is `TOKEN NAME RIGHT,RIGHT`, or `sha256:HEX` for TOKEN."""

    def __init__(self, path: Path) -> None:
        """Raises `AccessError`."""
        self.path = path
        self._actors, self._stands = self._read()
        self._looked = time.monotonic()

    def actor(self, token: str) -> Actor | None:
        """Whose token it is. Every one is compared, and whole, so that the time it takes tells nothing."""
        self._look_again()
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, actor in self._actors:
            if hmac.compare_digest(given, known):
                found = actor
        return found

    def __len__(self) -> int:
        return len(self._actors)

    def _look_again(self) -> None:
        now = time.monotonic()
        if now - self._looked < REREAD_SECONDS:
            return
        self._looked = now
        try:
            if _stands(self.path) == self._stands:
                return
            self._actors, self._stands = self._read()
            _log.info("tokens read again", extra={"fields": {"file": str(self.path), "tokens": len(self._actors)}})
        except (AccessError, OSError) as error:
            # Whoever edits the file must not lock a cluster out by half a line: what was right stays until it is again.
            _log.error("tokens not read again: %s; those from before stay", error)

    def _read(self) -> tuple[list[tuple[bytes, Actor]], tuple[int, ...]]:
        try:
            stands = _stands(self.path)
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise AccessError(f"the token file {self.path} cannot be read: {reason}") from None
        if stands[0] & stat.S_IRWXO:
            raise AccessError(
                f"the token file {self.path} is open to every user of this machine (mode {stands[0] & 0o777:04o}); run "
                f"chmod o-rwx {self.path}, and make new tokens if somebody may have read it"
            )
        actors = []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if line and not line.startswith("#"):
                actors.append(_token(line.split(), f"{self.path}:{number}"))
        if not actors:
            raise AccessError(f"the token file {self.path} holds no token; a line is: TOKEN NAME read,ingest")
        return actors, stands


def _token(words: list[str], where: str) -> tuple[bytes, Actor]:
    if len(words) != 3:
        raise AccessError(f"{where}: a line has three words, TOKEN NAME RIGHT,RIGHT, and this one has {len(words)}")
    token, name, rights = words
    actor = Actor(name, rights_of(rights, where))
    if token.startswith("sha256:"):
        digest = token.removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise AccessError(f"{where}: behind sha256: stand 64 hexadecimal digits, as sha256sum prints them")
        return bytes.fromhex(digest), actor
    if len(token) < SHORTEST_TOKEN:
        raise AccessError(f"{where}: the token is shorter than {SHORTEST_TOKEN} characters; try: openssl rand -hex 32")
    return hashlib.sha256(token.encode()).digest(), actor


def _stands(path: Path) -> tuple[int, ...]:
    seen = path.stat()
    return seen.st_mode, seen.st_ino, seen.st_size, seen.st_mtime_ns


def make_token(path: Path) -> None:
    """A file with one new token that has every right, for this user alone. Raises `AccessError`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(
                f"# Made at the first start. A line is: TOKEN NAME {','.join(RIGHTS)}\n"
                f"{secrets.token_hex(32)} admin {','.join(RIGHTS)}\n"
            )
    except OSError as error:
        raise AccessError(
            f"a token cannot be written into {path}: {error.strerror}; make a token file and name it with --tokens"
        ) from None


class Access:
    """All ways to prove who one is that this daemon takes."""

    def __init__(
        self, tokens: Tokens | None, clients: Mapping[str, frozenset[str]] | None = None, *, open: bool = False
    ) -> None:
        """`clients` are rights by the common name of a client's certificate; `open` lets anybody in, on loopback."""
        self._tokens = tokens
        self._clients = dict(clients or {})
        self._open = open

    def require(self, right: str, headers: Mapping[str, str], certificate: str | None) -> Actor:
        """Who asks, if they may; `certificate` is the common name that a client's certificate proved. Raises `Denied`."""
        actor = self._actor(headers, certificate)
        if right not in actor.rights:
            raise Denied(403, f"{actor.name} does not have the right `{right}`; its rights are {_told(actor.rights)}")
        return actor

    def _actor(self, headers: Mapping[str, str], certificate: str | None) -> Actor:
        if self._open:
            # A page in a browser on this machine may reach loopback, too: it says where it comes from, or asks by a
            # name of its own.
            if "origin" in headers or not _LOOPBACK.fullmatch(headers.get("host", "")):
                raise Denied(403, "without authentication only programs on this machine are answered, by its own name")
            return ANYBODY
        given = headers.get("authorization")
        if given is not None:
            scheme, _, token = given.partition(" ")
            actor = self._tokens.actor(token.strip()) if self._tokens and scheme.lower() == "bearer" else None
            if actor is None:
                raise Denied(401, "this token is not known here")
            return actor
        if certificate is not None:
            if certificate not in self._clients:
                raise Denied(403, f"the client certificate of {certificate!r} has no rights here; see --client")
            return Actor(certificate, self._clients[certificate])
        raise Denied(401, "say who you are: Authorization: Bearer TOKEN, or a client certificate")


def _told(rights: Iterable[str]) -> str:
    return ", ".join(right for right in RIGHTS if right in set(rights)) or "none"
