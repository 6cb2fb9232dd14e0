"""Reads a Redis stream as one of a consumer group: acknowledged only when it is on disk, taken over from who died.

Each entry holds what a source sent: an audit event, an `EventList` as the webhook posts it, a watch event, a CloudEvent. What
it is, it shows. Many daemons share one group, and each entry goes to one of them; what one of them read and did not
acknowledge, because it was killed, another claims after a while. So an entry may come twice, and is told as a duplicate.

Address, encryption, Sentinel and passwords are those of `adapters/stores/redis_server.py`. `adapters/intake.py` is next.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis import exceptions as errors

from adapters.feeds.feed import Backoff, FeedState, Health
from adapters.intake import Intake
from adapters.ports import Aside, StoreError
from adapters.sources import dialects
from adapters.stores import redis_server
from adapters.stores.backends import shown
from adapters.stores.redis_server import ANSWER_SECONDS, ERRORS, Address, client_of, word_of

FORM = "redis://[USER:PASSWORD@]HOST[:PORT]/DATABASE/STREAM?group=GROUP[&consumer=NAME][&format=DIALECT][&idle=SECONDS]"
FIELD = b"record"
IDLE_SECONDS = 60.0
"""For how long an entry lies with a consumer that does not acknowledge it before another takes it over."""
BLOCK_SECONDS = 0.5
MOST_ENTRIES = 1000
BATCH_BYTES = 4 << 20
"""About how much is read at once: as many entries as were so large of late."""

_OWN = ("group", "consumer", "format", "idle")
_UNKNOWN = "audit.k8s.io"  # where it is kept aside what nothing is known of


class StreamAddress(NamedTuple):
    """What an address says. `shown` is as it may be printed, and the name of the source."""

    shown: str
    server: Address
    stream: str
    group: str
    consumer: str
    format: str | None
    idle: float


def read_address(address: str) -> StreamAddress:
    """Take an address apart. Raises `StoreError` where it is not of the form."""
    parts = urlsplit(address)
    told = shown(urlunsplit(parts._replace(query="")))
    place, _, stream = parts.path.rpartition("/")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = {name: options.pop(name) for name in _OWN if name in options}
    if not stream or stream.isdecimal():
        raise StoreError(f"{told}: the name of the stream is missing; the form is {FORM}")
    if not own.get("group"):
        raise StoreError(f"{told}: the consumer group is missing; the form is {FORM}")
    format = own.get("format") or None
    if format is not None and dialects.called(format) is None:
        raise StoreError(f"{told}: there is no format {format!r}; there are {', '.join(dialects.READERS)}")
    try:
        idle = float(own.get("idle", IDLE_SECONDS))
    except ValueError:
        idle = 0.0
    if not 0 < idle <= 86_400:
        raise StoreError(f"{told}: idle is a number of seconds, at most a day")
    server = redis_server.read_address(urlunsplit(parts._replace(path=place, query=urlencode(options))))
    consumer = own.get("consumer") or socket.gethostname() or f"netledger-{os.getpid()}"
    return StreamAddress(told, server, unquote(stream), own["group"], consumer, format, idle)


class RedisStream:
    """A feed: one consumer of a group on a stream."""

    def __init__(self, intake: Intake, address: str) -> None:
        """Raises `StoreError` where the address is not of the form."""
        self.address = read_address(address)
        self._intake = intake
        self._health = Health(self.address.shown)
        self._client: Any = None
        self._count = 16
        self._format = self.address.format or _UNKNOWN  # of the last entry
        self._mine = True  # whether there may be entries that were given to this consumer and not acknowledged
        self._claimed = 0.0
        self._cursor: Any = "0-0"

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                self._once()
                self._health.well()
                backoff.reset()
                continue
            except errors.ResponseError as error:
                if str(error).startswith("NOGROUP"):  # the stream was deleted, or the server came back without it
                    self._health.error = "the consumer group was gone, and is made again"
                    self._remade()
                    if not stop.wait(BLOCK_SECONDS):
                        continue
                self._health.failed(self._explained(error))
            except ERRORS as error:
                self._health.failed(self._explained(error))
            except StoreError as error:
                self._health.failed(str(error))
            except Exception as error:
                # Not known yet; nothing of it is acknowledged, so it comes again.
                self._health.failed(f"{self.address.shown}: {type(error).__name__}: {error}")
            self._mine = True
            stop.wait(backoff.next())
        if self._client is not None:
            self._client.close()

    def state(self) -> FeedState:
        """How it is now."""
        return self._health.state()

    # ---- the group

    def _once(self) -> None:
        """Read once, and keep what came."""
        address = self.address
        if self._client is None:
            seconds = float(address.server.options.get("timeout", ANSWER_SECONDS))
            client = client_of(address.server, max(seconds, BLOCK_SECONDS * 2))
            self._made(client)
            self._client = client
        if self._mine:
            # What this consumer was given before it was killed, or before something went wrong.
            while entries := self._read("0", None):
                self._keep(entries)
            self._mine = False
        if time.monotonic() - self._claimed > address.idle / 2:
            self._claim()
        if entries := self._read(">", int(BLOCK_SECONDS * 1000)):
            self._keep(entries)

    def _made(self, client: Any) -> None:
        """The group, from the stream's beginning on: what is there already is read as well."""
        try:
            client.xgroup_create(self.address.stream, self.address.group, id="0", mkstream=True)
        except errors.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _remade(self) -> None:
        # From the beginning: nobody knows what the others had acknowledged. What comes again is a duplicate.
        try:
            self._made(self._client)
        except ERRORS as error:
            self._health.failed(self._explained(error))

    def _read(self, after: str, block: int | None) -> list[tuple[bytes, dict[bytes, bytes]]]:
        answer = self._client.xreadgroup(
            self.address.group,
            self.address.consumer,
            {self.address.stream: after},
            count=self._count,
            block=block,
        )
        return [entry for _, entries in answer or [] for entry in entries]

    def _claim(self) -> None:
        """What another was given and has not acknowledged for long: it is dead, or might as well be."""
        address = self.address
        while True:
            cursor, entries, *deleted = self._client.xautoclaim(
                address.stream, address.group, address.consumer, int(address.idle * 1000), self._cursor, self._count
            )
            found = [(entry, fields) for entry, fields in entries if entry is not None]
            self._keep([*found, *((entry, {}) for entry in (deleted[0] if deleted else []))])
            self._cursor = cursor
            if cursor in (b"0-0", "0-0"):
                break
        self._claimed = time.monotonic()

    # ---- entries

    def _keep(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Keep entries, and only then acknowledge them."""
        if not entries:
            return
        units: dict[str, list[bytes]] = {}
        aside: dict[str, list[Aside]] = {}
        size = 0
        for entry, fields in entries:
            value = fields.get(FIELD, next(iter(fields.values())) if len(fields) == 1 else None)
            size += len(value or b"")
            format = self._format_of(value) if value else None
            if format is not None:
                # A dialect's line is a line, whatever was put into an entry together.
                units.setdefault(format, []).extend((value or b"").splitlines())
                continue
            told = aside.setdefault(self._format, [])
            told.append(
                Aside.of(len(told) + 1, _why_not(entry.decode(), value, fields), value or repr(fields).encode())
            )
        position = entries[-1][0].decode()
        for format in dict.fromkeys([*units, *aside]):
            inlet = self._intake.inlet(self.address.shown, format)
            inlet.take(units.get(format, []), aside=aside.get(format, []), resume=position)
        self._client.xack(self.address.stream, self.address.group, *(entry for entry, _ in entries))
        self._health.delivered(position)
        self._count = max(1, min(MOST_ENTRIES, BATCH_BYTES * len(entries) // max(size, 1), self._count * 2))

    def _format_of(self, value: bytes) -> str | None:
        if self.address.format is not None:
            return self.address.format
        lines = value.splitlines()[: dialects.BEGINNING_LINES]
        reader = dialects.called(self._format)
        if reader is None or not reader.recognises(lines):
            reader = dialects.recognise(lines)
        if reader is None:
            return None
        self._format = reader.FORMAT
        return reader.FORMAT

    def _explained(self, error: Exception) -> str:
        """What the server's error means for an operator."""
        address = self.address
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        told = f"cannot read the stream {address.stream} at {address.shown}: {text}"
        match word_of(error):
            case "WRONGTYPE":
                return f"{told}; the key holds something else: name a stream"
            case "NOPERM":
                return f"{told}; the user needs ~{address.stream} and +xreadgroup +xack +xautoclaim +xgroup|create"
            case "NOAUTH" | "WRONGPASS" | "AUTH":
                return f"{told}; give the right user and password: redis://USER:PASSWORD@HOST"
            case "TLS":
                return f"{told}; check the certificates, and the option ca=FILE of the address"
            case "READONLY":
                return f"{told}; this server is a replica: give the address of the one it follows"
            case "UNREACHED" | "TIMEOUT":
                return f"{told}; is the server running there, and does it listen on that address? It is tried again"
        return told


def _why_not(entry: str, value: bytes | None, fields: dict[bytes, bytes]) -> str:
    if not fields:
        return f"entry {entry} was trimmed from the stream before it was kept: give the stream a longer MAXLEN"
    if value is None:
        return f"entry {entry} has several fields, and none that is called {FIELD.decode()}"
    return f"entry {entry} is in no format that is known here"
