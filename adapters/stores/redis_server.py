"""A ledger and its journal on a Redis server: its address, the connection, how durable the server is, one writer at a time.

What goes into the keys is `redis_recorder.py` (events, the ledger) and `redis_journal.py` (records, the journal). All keys
of a ledger begin with `netledger:{NAME}:`; the braces keep them together on one node of a cluster, so that a script may
write several. Scripts are the only writers: each is one change, whole or not at all, also in the server's own log.

One ingesting writer a ledger: it holds a lease, a key that ends by itself unless it is renewed; inside stands who holds
it. The lease has a number, one higher with each holder, and every write of the holder carries it: one that was thought
dead and comes back is refused, whatever it believes. Scripts that append check it, so no clock is relied on.
"""

from __future__ import annotations

import json
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha1
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from adapters.ports import (
    Backend,
    LedgerDamaged,
    LedgerLocked,
    LedgerMissing,
    LedgerReadOnly,
    Mode,
    NewerLedger,
    NotALedger,
    Problem,
    StoreError,
    StoreFull,
)
from adapters.stores import holder
from adapters.stores.backends import shown

FORMAT: Final = 1
"""Version of what the keys hold; it stands in the key `meta`, and every script that writes looks at it."""
DEFAULT_LEDGER: Final = "default"
LEASE_SECONDS: Final = 6.0
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 15.0
"""How long a server that was there is waited for: it restarts, or another one takes over."""
PAGE_BYTES: Final = 1024 * 1024
"""About how much one answer holds."""
LAST_POSITION: Final = 2**53
"""A script counts in doubles: beyond this, not every number is one."""

ERRORS: Final = (errors.RedisError, errors.RedisClusterException, OSError)
"""What the client library raises."""

_Answer = TypeVar("_Answer")

_FORM: Final = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?ledger=NAME]"
_FORMS: Final = {
    "": _FORM,
    "sentinel": "redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT].../SERVICE[/DATABASE][?ledger=NAME]",
    "cluster": "redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]...[?ledger=NAME]",
}
_OPTIONS: Final = ("ledger", "timeout", "ca", "cert", "key", "sentinel_user", "sentinel_password")


class Address(NamedTuple):
    """What an address says. `shown` is as it may be printed."""

    shown: str
    topology: str
    """Empty for one server, else `sentinel` or `cluster`."""
    secure: bool
    hosts: list[tuple[str, int]]
    user: str | None
    password: str | None
    service: str
    database: int
    ledger: str
    options: dict[str, str]


def read_address(address: str) -> Address:
    """Take an address apart. Raises `StoreError` where it is not of the form."""
    scheme, _, _ = address.partition("://")
    base, _, topology = scheme.partition("+")
    told = shown(address)

    def refuse(what: str) -> NoReturn:
        raise StoreError(f"{told}: {what}; the form is {_FORMS.get(topology, _FORM)}")

    parts = urlsplit(address)
    credentials, _, places = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    hosts = []
    for place in places.split(","):
        found = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d{1,5}))?", place)
        if found is None or not (found[1] or topology == ""):
            refuse(f"{place!r} is no host and port")
        hosts.append(
            (found[1].strip("[]") or "localhost", int(found[2] or (26379 if topology == "sentinel" else 6379)))
        )
    path = [unquote(word) for word in parts.path.split("/") if word]
    service = ""
    if topology == "sentinel":
        if not path:
            refuse("the name of the service that the sentinels watch is missing")
        service = path.pop(0)
    if topology == "" and len(hosts) > 1:
        refuse("several hosts are a sentinel's or a cluster's")
    if len(path) > (0 if topology == "cluster" else 1) or not all(word.isdecimal() for word in path):
        refuse("what stands behind the host is no database's number" + (" (a cluster has none)" if topology else ""))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := [name for name in options if name not in _OPTIONS]:
        refuse(f"there is no option {unknown[0]!r}, there are {', '.join(_OPTIONS)}")
    ledger = options.get("ledger", DEFAULT_LEDGER)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", ledger):
        refuse(f"{ledger!r} is no name of a ledger: letters, digits, dots, hyphens and underscores, at most 100")
    try:
        in_bounds = 0 < float(options.get("timeout", "1")) <= 3600
    except ValueError:
        in_bounds = False
    if not in_bounds:
        refuse("timeout is a number of seconds, at most an hour")
    return Address(
        told,
        topology,
        base == "rediss",
        hosts,
        unquote(user) or None,
        unquote(password) or None,
        service,
        int(path[0]) if path else 0,
        ledger,
        options,
    )


def client_of(address: Address, answer_seconds: float) -> redis.Redis | RedisCluster:
    """A client for an address, which sends nothing twice by itself: its caller knows what may be. Raises `ERRORS`."""
    common: dict[str, Any] = {
        "username": address.user,
        "password": address.password,
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": min(CONNECT_SECONDS, answer_seconds),
        "socket_keepalive": True,
        "protocol": 2,
    }
    if address.secure:
        common |= {
            "ssl": True,
            "ssl_ca_certs": address.options.get("ca"),
            "ssl_certfile": address.options.get("cert"),
            "ssl_keyfile": address.options.get("key"),
        }
    never = Retry(NoBackoff(), 0)
    if address.topology == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, retry=never, **common)
    if address.topology == "sentinel":
        own = {
            "username": address.options.get("sentinel_user"),
            "password": address.options.get("sentinel_password"),
        }
        sentinel = Sentinel(
            address.hosts, sentinel_kwargs={**common, **own, "retry": never}, db=address.database, **common
        )
        client: redis.Redis = sentinel.master_for(address.service, retry=never)
        return client
    ((host, port),) = address.hosts
    return redis.Redis(host, port, address.database, retry=never, **common)


@contextmanager
def opened(address: str, mode: Mode, *, allow_volatile: bool = False) -> Iterator[Backend]:
    """The store at an address. Raises what `RedisServer` does."""
    from adapters.stores.redis_journal import RedisJournal
    from adapters.stores.redis_recorder import RedisRecorder

    with RedisServer(address, mode, allow_volatile=allow_volatile) as server:
        yield Backend(server.address.shown, RedisRecorder(server), RedisJournal(server), server, server.durability)


class RedisServer:
    """The keys of one ledger on a server, open for one writer or for reading; a context manager that closes it.

    Any number of threads may use it. `alone=False` opens it for writing without the lease, beside others that do the
    same: their appends are held apart by their conditions alone.

    Raises:
        LedgerMissing: nothing to read there.
        NotALedger: the name's keys are something else's.
        NewerLedger: made by a later version.
        LedgerLocked: another writer holds it; the message says who.
        LedgerReadOnly: the server takes no writes.
        StoreFull: it has no memory or disk left.
        StoreError: not reached, refused the user, may forget what it acknowledged, or whatever else it says.
    """

    def __init__(self, address: str, mode: Mode = "write", *, allow_volatile: bool = False, alone: bool = True) -> None:
        self.address = read_address(address)
        self.mode = mode
        self.durability = ""
        """What the server does with what it acknowledged, in words."""
        self.fence = b""
        """The number of the lease that every write carries; empty without one."""
        self.answer_seconds = float(self.address.options.get("timeout", ANSWER_SECONDS))
        """How long an answer may take."""
        self._closed = threading.Event()
        self._reached = False
        self._listeners: set[Callable[[], None]] = set()
        self._renewing: threading.Thread | None = None
        self._client: Any = self._made()
        try:
            self.durability = self._durability(mode == "write" and not allow_volatile)
            self._reached = True
            if mode == "read":
                self._refuse_what_is_not_there()
            else:
                self._begin()
                if alone:
                    self._take_lease()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Give the lease back and let go of the server. Subscriptions end. Closing twice is fine."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._renewing is not None:
            self._renewing.join(timeout=1)
            # Best effort: it ends by itself.
            with suppress(*ERRORS):
                self._evaluate(_RELEASE, [self.key("meta"), self.key("lease")], [self.fence])
        for wake in list(self._listeners):
            wake()
        with suppress(*ERRORS):
            self._client.close()

    def key(self, part: str) -> str:
        """The name of one of the ledger's keys."""
        return f"netledger:{{{self.address.ledger}}}:{part}"

    def command(self, *words: Any) -> Any:
        """What the server answers to a command that changes nothing. Raises `StoreError`."""
        return self._kept_trying("read it", lambda attempt: self._client.execute_command(*words))

    def ask(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script answers that changes nothing. Raises `StoreError`."""
        return self._kept_trying("read it", lambda attempt: self._evaluate(script, keys, arguments))

    def entries(self, key: str, first: int, last: int | None = None, count: int = 1000) -> list[list[Any]]:
        """Entries of a stream, `[id, [field, value...]]`, whose ids begin with numbers from `first` to `last`.

        So many that they hold `count` things together or come to `PAGE_BYTES`; one at least. Raises `StoreError`.
        """
        end = "+" if last is None else f"{last}-{2**64 - 1}"
        found: list[list[Any]] = self.ask(_ENTRIES, [key], [first, end, count, PAGE_BYTES])
        return found

    def write(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script answers that makes one change; it is asked again where no answer came.

        So the script may run twice, and has to know its own traces. Before its `arguments` come the lease's number, and a
        word that is empty the first time. Its answer is a list, whose first word says what came of it.

        Raises:
            LedgerReadOnly, LedgerLocked, NewerLedger, StoreFull, StoreError: nothing was changed; or, where the message
                says so, that is not known.
        """
        if self.mode == "read":
            raise LedgerReadOnly(f"cannot write to the ledger {self.address.shown}: it was opened for reading")
        answer = self._kept_trying(
            "write to it",
            lambda attempt: self._evaluate(script, keys, [self.fence, b"1" if attempt > 1 else b"", *arguments]),
            writes=True,
        )
        match answer[0]:
            case b"fenced":
                raise LedgerLocked(
                    f"cannot write to the ledger {self.address.shown}: {self._holder()} took it over while this process "
                    "did not answer; nothing of this write was kept; stop one of the two, then open it again"
                )
            case b"format":
                self._refuse_format(answer[1] or None)
            case b"forgotten":
                raise StoreError(
                    f"the connection to the ledger {self.address.shown} was lost while it was written, and others wrote so "
                    "much meanwhile that it can no longer be told whether this was kept; look before it is given again"
                )
        return answer

    def waiting_connection(self) -> Any:
        """A connection to the node that has the keys, to wait on and to hang up from another thread.

        It is the caller's own and no longer the pool's: nobody else may be given it while a thread still wakes up on it.
        """
        return self._node().connection_pool.make_connection()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when this is closed."""
        self._listeners.add(wake)

    def unlisten(self, wake: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners.discard(wake)

    def verify(self) -> Iterator[Problem]:
        """The key that everything else is counted by."""
        try:
            self._refuse_what_is_not_there()
        except StoreError as error:
            yield Problem("file", None, str(error))

    # ---- the connection

    def _made(self) -> redis.Redis | RedisCluster:
        try:
            return client_of(self.address, self.answer_seconds)
        except ERRORS as error:
            raise self._explained(error, "open it") from error

    def _node(self) -> redis.Redis:
        """The client of the node that has the ledger's keys."""
        if isinstance(self._client, RedisCluster):
            node = self._client.get_node_from_key(self.key("meta"))
            if node is None:
                raise errors.ClusterDownError("no node has the ledger's slot")
            client: redis.Redis = self._client.get_redis_connection(node)
            return client
        single: redis.Redis = self._client
        return single

    def _evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return self._client.execute_command("EVALSHA", _digest_of(script), len(keys), *keys, *arguments)
        except errors.NoScriptError:
            return self._client.execute_command("EVAL", script, len(keys), *keys, *arguments)

    def _kept_trying(self, what: str, attempt: Callable[[int], _Answer], *, writes: bool = False) -> _Answer:
        """What `attempt` gives, which is told how often it was tried: a server that was there may come back."""
        began = time.monotonic()
        tried = 0
        while True:
            if self._closed.is_set():
                raise StoreError(f"the ledger {self.address.shown} was closed before this call; open it again")
            tried += 1
            try:
                return attempt(tried)
            except ERRORS as error:
                waited = time.monotonic() - began
                if not self._reached or not _passing(error) or waited > PATIENCE_SECONDS:
                    explained = self._explained(error, what)
                    if writes and _passing(error):
                        unknown = "; whether this write was kept is not known: read the ledger before it is given again"
                        explained = type(explained)(f"{explained}{unknown}")
                    raise explained from error
                self._closed.wait(min(0.02 * 2 ** min(tried, 6), 1.0) * random.uniform(0.5, 1.0))

    def _explained(self, error: Exception, attempt: str) -> StoreError:
        """What the server's error means for an operator."""
        if isinstance(error, StoreError):
            return error
        cause = error.__cause__ or error.__context__
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, MasterNotFoundError):  # its own text shows the library's objects
            text = f"no sentinel that answers names a server for {self.address.service!r}"
        told = f"cannot {attempt} (ledger {self.address.shown}): {text}"
        word = word_of(error)
        match word:
            case "OOM":
                return StoreFull(
                    f"{told}; nothing of this write was kept; raise the server's maxmemory or delete what it can spare"
                )
            case "MISCONF":
                return StoreFull(
                    f"{told}; nothing of this write was kept; the server cannot write its disk: look into its log, make room"
                )
            case "READONLY":
                return LedgerReadOnly(f"{told}; this server is a replica: give the address of the one it follows")
            case "NOREPLICAS":
                return StoreError(f"{told}; the server asks for replicas that are not there; nothing of this was kept")
            case "NOAUTH" | "WRONGPASS" | "AUTH":
                return StoreError(f"{told}; give the right user and password: redis://USER:PASSWORD@HOST")
            case "NOPERM":
                return StoreError(
                    f"{told}; the user needs ~{self.key('*')} and the commands that docs/ledgers.md names under Redis"
                )
            case "WRONGTYPE":
                return LedgerDamaged(f"{told}; something else wrote to the ledger's keys; verify it to learn where")
            case "TLS":
                certificate = cause if isinstance(cause, ssl.SSLError) else error
                return StoreError(
                    f"{told} ({certificate}); check the certificates, and the option ca=FILE of the address"
                )
            case "NOCLUSTER":
                return StoreError(f"{told}; an address of one server begins with redis:// or rediss://")
            case "TIMEOUT":
                return StoreError(f"{told}; the server did not answer in time: is it overloaded, or the network cut?")
            case "UNREACHED":
                return StoreError(f"{told}; is the server running there, and does it listen on that address?")
        return StoreError(told)

    # ---- what is there

    def _begin(self) -> None:
        """Make the ledger where there is none, and try everything that an append or a commit does.

        A script that stops in its middle is not taken back: what the user may not do has to come out before.
        """
        tried = [self.key(f"tried:{part}") for part in ("stream", "list", "hash", "set", "string")]
        answer = self._kept_trying("open it", lambda n: self._evaluate(_BEGIN, [self.key("meta"), *tried], [FORMAT]))
        if answer[0] != b"begun":
            self._refuse_format(answer[1] or None)

    def _refuse_what_is_not_there(self) -> None:
        key = self.key("meta")
        kind = self._kept_trying("open it", lambda n: self._client.execute_command("TYPE", key))
        if kind in (b"none", "none"):
            raise LedgerMissing(
                f"there is no ledger {self.address.ledger!r} at {self.address.shown}; nothing to read"
                + ("" if "ledger" in self.address.options else "; add ?ledger=NAME if it has another name")
            )
        if kind not in (b"hash", "hash"):
            self._refuse_format(None)
        version = self.command("HGET", key, "format")
        if version != b"%d" % FORMAT:
            self._refuse_format(version)

    def _refuse_format(self, version: bytes | None) -> NoReturn:
        if version is None:
            raise NotALedger(
                f"{self.address.shown}: the key {self.key('meta')} is not a netledger ledger's; it was left as it is;"
                " give another name with ?ledger=NAME"
            )
        raise NewerLedger(
            f"{self.address.shown} has ledger version {version.decode(errors='replace')}; this netledger knows version"
            f" {FORMAT}; use the netledger that made it, or a later one"
        )

    def _durability(self, refuses: bool) -> str:
        """What the server does with what it acknowledged. Raises `StoreError` where that may be forgotten."""
        node = self._kept_trying("open it", lambda n: self._node())
        info: dict[str, Any] = self._kept_trying("open it", lambda n: node.info())
        configured: dict[str, str] = {}
        for name in ("appendfsync", "no-appendfsync-on-rewrite"):
            with suppress(errors.ResponseError):  # a user need not be allowed to ask
                config: dict[Any, Any] = node.config_get(name)
                for known, value in config.items():
                    configured[_text(known)] = _text(value)
        name = (
            f"Valkey {info['valkey_version']}"
            if "valkey_version" in info
            else f"Redis {info.get('redis_version', '?')}"
        )
        said = [self.address.shown, name]
        eviction = str(info.get("maxmemory_policy", "noeviction"))
        if eviction.startswith("allkeys"):
            lost = f"maxmemory-policy {eviction} drops keys of the ledger when memory is full"
            if refuses:
                raise StoreError(
                    f"{self.address.shown}: {lost}; set noeviction there, or accept the loss with --allow-volatile"
                )
            said.append(lost)
        fsync = configured.get("appendfsync")
        if not info.get("aof_enabled"):
            lost = "appendonly no: what it acknowledges is lost when it stops"
            if refuses:
                raise StoreError(
                    f"{self.address.shown}: the server is set to {lost}; set appendonly yes and appendfsync always on "
                    "the server, or accept the loss with --allow-volatile"
                )
            said.append(lost)
        elif fsync == "always" and configured.get("no-appendfsync-on-rewrite") == "yes":
            said.append(
                "appendonly yes, appendfsync always, but no-appendfsync-on-rewrite yes: while it rewrites its log, what "
                "it acknowledges can be lost"
            )
        elif fsync == "always":
            said.append("appendonly yes, appendfsync always: what it acknowledges is on its disk")
        elif fsync == "everysec":
            said.append(
                "appendonly yes, appendfsync everysec: the last two seconds that it acknowledged can be lost when it stops"
            )
        elif fsync is not None:
            said.append(f"appendonly yes, appendfsync {fsync}: what it acknowledged last can be lost when it stops")
        else:
            said.append("appendonly yes; how often it is synchronised, this user is not allowed to ask")
        replicas = int(info.get("connected_slaves", 0))
        if info.get("role") == "slave":
            said.append("a replica, which takes no writes")
        elif replicas:
            said.append(
                f"{replicas} replica{'' if replicas == 1 else 's'}, acknowledged before they have it: a takeover can lose it"
            )
        elif self.address.topology:
            said.append("no replica")
        return f"{said[0]}: {'; '.join(said[1:])}"

    # ---- the lease

    def _take_lease(self) -> None:
        # The token tells this holder from the same process opening it once more.
        note = json.dumps({**json.loads(holder.note()), "token": os.urandom(8).hex()})
        keys = [self.key("meta"), self.key("lease")]
        before: tuple[bytes, int] | None = None
        while True:
            answer = self._kept_trying(
                "open it", lambda n: self._evaluate(_LEASE, keys, [note, int(LEASE_SECONDS * 1000)])
            )
            if answer[0] == b"taken":
                self.fence = answer[1]
                break
            # One that is alive renews; what is only left over runs out. Both show soon.
            _, held, left = answer
            if left < 0 or (before is not None and (held != before[0] or left > before[1])):
                raise LedgerLocked(
                    f"cannot open the ledger {self.address.shown} for writing: {holder.told(held)} is writing it;"
                    " stop that one, or open the ledger for reading"
                )
            before = held, left
            self._closed.wait(0.1)
        self._renewing = threading.Thread(target=self._renew, args=(note,), name="netledger-lease", daemon=True)
        self._renewing.start()

    def _renew(self, note: str) -> None:
        keys = [self.key("meta"), self.key("lease")]
        arguments = [self.fence, note, int(LEASE_SECONDS * 1000)]
        pause = LEASE_SECONDS / 4
        while not self._closed.wait(pause):
            pause = LEASE_SECONDS / 4
            try:
                if self._evaluate(_RENEW, keys, arguments)[0] != b"renewed":
                    return  # the next write learns it, and says so
            except ERRORS:
                pause = 0.2  # as long as nobody else takes it, it can still be renewed

    def _holder(self) -> str:
        with suppress(StoreError):
            note = self.command("GET", self.key("lease"))
            if note is not None:
                return holder.told(note)
        return "another process"


# The ledger's key, made if there is none; and every command once that any script uses.
_BEGIN: Final = """
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'hash' then return {'format', ''} end
local version = redis.call('HGET', KEYS[1], 'format')
if kind == 'hash' and version ~= ARGV[1] then return {'format', version or ''} end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10, '1-1', 'a', 'b')
redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
redis.call('XLEN', KEYS[2])
redis.call('RPUSH', KEYS[3], 1)
redis.call('LINDEX', KEYS[3], -1)
redis.call('LRANGE', KEYS[3], 0, 1)
redis.call('LLEN', KEYS[3])
redis.call('HSET', KEYS[4], 'a', 1)
redis.call('HINCRBY', KEYS[4], 'a', 1)
redis.call('HMGET', KEYS[4], 'a')
redis.call('HGET', KEYS[4], 'a')
redis.call('HLEN', KEYS[4])
redis.call('SADD', KEYS[5], 'a')
redis.call('SET', KEYS[6], 'a', 'PX', 1000)
redis.call('GET', KEYS[6])
redis.call('PTTL', KEYS[6])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
if kind == 'none' then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'position', 0, 'chain', string.rep('0', 40), 'postings', 0,
    'number', 0, 'commits', 0, 'sources', 0, 'aside', 0, 'fence', 0)
end
return {'begun'}
"""

# ARGV: first and last id, how many things, how many bytes about. An id is NUMBER-COUNT, where an entry holds COUNT things.
_ENTRIES: Final = """
local found, start, wanted, bytes, step = {}, ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), 1
repeat
  local page = redis.call('XRANGE', KEYS[1], start, ARGV[2], 'COUNT', step)
  for _, entry in ipairs(page) do
    if wanted <= 0 or bytes <= 0 then return found end
    local number, count = string.match(entry[1], '^(%d+)-(%d+)$')
    found[#found + 1] = entry
    wanted = wanted - math.max(tonumber(count), 1)
    for _, value in ipairs(entry[2]) do bytes = bytes - #value end
    start = string.format('%.0f', number + 1)
  end
  if #page < step then return found end
  step = math.min(step * 2, 64)
until wanted <= 0 or bytes <= 0
return found
"""

_LEASE: Final = """
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {'held', holder, redis.call('PTTL', KEYS[2])} end
local fence = holder and redis.call('HGET', KEYS[1], 'fence') or tostring(redis.call('HINCRBY', KEYS[1], 'fence', 1))
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'taken', fence}
"""

_RENEW: Final = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return {'fenced'} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {'renewed'}
"""

_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'fence') == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""

GUARD: Final = f"""
local call = redis.call
local version, fence = unpack(call('HMGET', KEYS[1], 'format', 'fence'))
if version ~= '{FORMAT}' then return {{'format', version or ''}} end
"""
"""How every script begins that writes: KEYS[1] is `meta`."""

FENCE: Final = "if ARGV[1] ~= '' and ARGV[1] ~= fence then return {'fenced'} end"
"""What stands before the first write: ARGV[1] is the number of the lease, or empty.

Behind the look for what the same script did before: that was kept, whoever holds the lease by now.
"""

_WORDS: Final = re.compile(
    r"\b(OOM|MISCONF|READONLY|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|WRONGTYPE|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY)\b"
)
_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.OutOfMemoryError, "OOM"),
    (errors.ReadOnlyError, "READONLY"),
    (errors.NoPermissionError, "NOPERM"),
    (errors.AuthenticationError, "AUTH"),
    (errors.AuthenticationWrongNumberOfArgsError, "AUTH"),
    (errors.BusyLoadingError, "LOADING"),
    (errors.ClusterError, "CLUSTERDOWN"),
    (errors.TimeoutError, "TIMEOUT"),
    (TimeoutError, "TIMEOUT"),
)
_TEXTS: Final = (
    ("no permissions", "NOPERM"),
    ("can't run this command", "NOPERM"),
    ("invalid username-password pair", "AUTH"),
    ("Authentication required", "AUTH"),
    ("Cluster mode is not enabled", "NOCLUSTER"),
)
_PASSING: Final = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "TIMEOUT", "UNREACHED")


def word_of(error: Exception) -> str:
    """The one word for what is wrong: the server's own, where it said one. A script's errors have it in their text."""
    for kind, word in _CLASSES:
        if isinstance(error, kind):
            return word
    if found := _WORDS.search(str(error)):
        return found[1]
    for told, word in _TEXTS:
        if told in str(error):
            return word
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLError) and not isinstance(link, ssl.SSLEOFError):
            return "TLS"
        link = link.__cause__ or link.__context__
    return "UNREACHED" if isinstance(error, (errors.ConnectionError, errors.RedisClusterException, OSError)) else ""


def _passing(error: Exception) -> bool:
    """Whether it may be over soon, and the same be asked again."""
    return word_of(error) in _PASSING


@cache
def _digest_of(script: str) -> str:
    """The name by which a server knows a script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
