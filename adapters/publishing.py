"""Projections for other programs: VPC status and ipset membership, pushed to Redis as they change.

What is pushed is what should be, as the log says it, and at which position: each time in one transaction, so that who
reads never sees half of it. `Publisher` only pushes what changed since; at its first push, and when the server forgot, all of
it. The same values are asked for over HTTP, which is `adapters/http`.

Keys, behind `{PREFIX}:` (in braces, so that a cluster keeps them in one slot):

=====================  ======  ==================================================================
`stand`                hash    `generation` and `position` that all the others stand at
`vpcs`, `ipsets`       set     the names of what is there: an empty ipset has no key of its own
`vpc:NAME`             hash    `subnets`, `vpcPeerings`, `defaultLogicalSwitch` as JSON, and `drift`:
                               the fields that say otherwise
`ipset:NODE/NAME`      set     the members that belong in it
=====================  ======  ==================================================================
"""

from __future__ import annotations

import logging
import threading
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.feeds.feed import FeedState, Health
from adapters.live import Live, Stand
from adapters.ports import StoreError
from adapters.stores.backends import shown
from projections.lawful import Hashes, Sets, ipset_members, vpc_statuses

INTERVAL_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 10.0
PREFIX: Final = "netledger"

log = logging.getLogger(__name__)


class Publisher:
    """Pushes the projections of an engine to one Redis server."""

    kind: ClassVar[str] = "projections"

    def __init__(self, live: Live, address: str) -> None:
        """`address` is `redis://` or `rediss://`, with `?prefix=NAME` where it is to be another than `netledger`.

        Raises `StoreError` for an address that is none.
        """
        self._live = live
        url = urlsplit(address)
        options = dict(parse_qsl(url.query))
        prefix = options.pop("prefix", PREFIX)
        self._keys = f"{{{prefix}}}:"
        try:
            self._server = redis.Redis.from_url(
                urlunsplit(url._replace(query=urlencode(options))),
                decode_responses=True,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise StoreError(f"projections cannot be pushed to {url.hostname or shown(address)}: {error}") from error
        self._health = Health(f"projections {shown(address)}")
        self.sent = 0
        self.dropped = 0
        self.failure: str | None = None
        self.position = 0
        """Up to which position all was pushed."""
        self._pushed: tuple[Hashes, Sets] | None = None
        self._stand = (0, 0)

    def run(self, stop: threading.Event) -> None:
        """Push whenever something changed, until it is told to stop; then once more."""
        while True:
            stopping = stop.is_set()
            wait = INTERVAL_SECONDS
            try:
                self.push()
                self._health.well()
            except redis.RedisError as error:
                self._failed(f"the Redis server that projections are pushed to does not answer: {error}")
                wait = RETRY_SECONDS
            except StoreError as error:
                self._failed(str(error))
                wait = RETRY_SECONDS
            except Exception as error:
                log.exception("this is a bug in netledger: %s", self._health.name)
                self._failed(f"{type(error).__name__}; this is a bug in netledger, please report it")
                wait = RETRY_SECONDS
            if stopping:
                return
            stop.wait(wait)

    def state(self) -> FeedState:
        """How it is now."""
        return self._health.state()

    def behind(self) -> int:
        """By how many positions the engine is ahead of what is pushed."""
        return max(self._live.stand().position - self.position, 0)

    def _failed(self, why: str) -> None:
        if self.failure is None:
            log.warning("projections are not pushed: %s", why)
        self.failure = why
        self._health.failed(why)

    def push(self) -> None:
        """Push what changed since the last time. Raises `redis.RedisError`."""
        with self._live.reading() as reading:
            stand = self._live.stand()
            is_same = (stand.generation, stand.position) == self._stand and self._pushed is not None
            vpcs, ipsets = self._pushed if is_same and self._pushed else (vpc_statuses(reading), ipset_members(reading))
        if self._pushed is None or not self._is_there():
            self._pushed = self._found()
        elif is_same:
            return
        before_vpcs, before_ipsets = self._pushed
        # What is pushed is either all there or not at all: unknown is, what was pushed when an answer got lost.
        self._pushed = None
        with self._server.pipeline(transaction=True) as pipe:
            for name, hash in vpcs.items():
                if before_vpcs.get(name) != hash:
                    pipe.delete(self._key("vpc", name))
                    pipe.hset(self._key("vpc", name), mapping=hash)  # type: ignore[arg-type]
            for name, members in ipsets.items():
                before = before_ipsets.get(name, frozenset())
                if gone := before - members:
                    pipe.srem(self._key("ipset", name), *sorted(gone))
                if new := members - before:
                    pipe.sadd(self._key("ipset", name), *sorted(new))
            for list_name, part, now, before_all in (
                ("vpcs", "vpc", vpcs.keys(), before_vpcs.keys()),
                ("ipsets", "ipset", ipsets.keys(), before_ipsets.keys()),
            ):
                for name in before_all - now:
                    pipe.delete(self._key(part, name))
                    pipe.srem(self._keys + list_name, name)
                if came := now - before_all:
                    pipe.sadd(self._keys + list_name, *sorted(came))
            pipe.hset(self._keys + "stand", mapping=_said(stand))
            pipe.execute()
        self._pushed = vpcs, ipsets
        self._stand = stand.generation, stand.position
        self.position, self.failure = stand.position, None
        self.sent += 1
        self._health.delivered(str(stand.position))

    def _key(self, part: str, name: str) -> str:
        return f"{self._keys}{part}:{name}"

    def _is_there(self) -> bool:
        """Whether the server still has what was pushed: it may have been started anew, or another pushes too."""
        there: Any = self._server.hget(self._keys + "stand", "position")
        return bool(there == str(self._stand[1]))

    def _found(self) -> tuple[Hashes, Sets]:
        """What the server has, from whoever pushed it."""
        server: Any = self._server
        vpcs = {name: server.hgetall(self._key("vpc", name)) for name in server.smembers(self._keys + "vpcs")}
        ipsets = {
            name: frozenset(server.smembers(self._key("ipset", name)))
            for name in server.smembers(self._keys + "ipsets")
        }
        return vpcs, ipsets


def _said(stand: Stand) -> dict[Any, Any]:
    return {"generation": stand.generation, "position": stand.position}
