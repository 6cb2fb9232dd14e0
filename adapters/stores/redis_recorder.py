"""The ledger: events appended to one ordered log, in the keys of the server that `redis_server.py` reaches.

`RedisRecorder` is the `eventsourcing` package's `DCBRecorder`. One script an append: it looks for an event that the
condition names, gives the positions, and writes, while nothing else runs on the server. So positions have no gaps and
eight writers need no lock. A condition is a look at the last position of each of its tags; only where several tags or
types must meet in one event are their lists walked, from the position after which on.

    meta        hash     position of the last event, the chain at it, how many postings there are
    events      stream   blocks of events: entry LAST-COUNT ends at position LAST and holds COUNT events
    tag:NAME    list     the positions of the events with this tag; type:NAME the same
    appends     stream   the last appends, each with its token: an append whose answer was lost is known when it comes again

A block is a MessagePack array of [type, tags, data]. The chain at a block is over the chain before it and the block's
digest: `verify` walks it and names the first block that is not what was appended. It is SHA-1, because that is the one
hash that a script has; the digest under it is BLAKE2b. What came in is kept by `redis_journal.py`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b, sha1
from typing import Any, Final, NamedTuple

import msgspec
import zstandard
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.persistence import IntegrityError, ProgrammingError

from adapters.ports import LedgerDamaged, Problem, Recorder, Seal, StoreError, StoreFull
from adapters.stores.read_response import ReadResponse
from adapters.stores.redis_server import ERRORS, FENCE, GUARD, LAST_POSITION, PAGE_BYTES, RedisServer

BLOCK_EVENTS: Final = 250
"""Events in one block at most: what is decoded to read one of them."""
BLOCK_BYTES: Final = 64 * 1024
PAGE_EVENTS: Final = 1000
COMPRESSED_FROM: Final = 256
"""Bytes of a block below which compressing it gains nothing."""
COMPRESSION_LEVEL: Final = 1
APPENDS_KEPT: Final = 10_000
KEYS_AT_ONCE: Final = 400_000
"""Tags and types that one append may name: a server takes a million words a command."""
CHAIN_BYTES: Final = 20
GENESIS: Final = bytes(CHAIN_BYTES)
WAIT_SECONDS: Final = 5.0

_encode = msgspec.msgpack.Encoder().encode
_decode_block = msgspec.msgpack.Decoder(list[tuple[str, list[str], bytes]]).decode
# Contexts of zstd are not for several threads at once.
_threads = threading.local()

UNREADABLE: Final = (StoreError, TypeError, ValueError, OverflowError)


class _Block(NamedTuple):
    """A block as it was read back, from its first position to its last."""

    first: int
    last: int
    chain: bytes
    digest: bytes
    events: list[tuple[str, list[str], bytes]]

    def sequenced(self) -> Iterator[DCBSequencedEvent]:
        """Its events with their positions."""
        for position, (type, tags, data) in enumerate(self.events, self.first):
            yield DCBSequencedEvent(DCBEvent(type, data, tags), position)


class RedisRecorder(Recorder):
    """Events on a Redis server; safe to use from several threads, and beside others on the same ledger.

    Errors of the store are `adapters.ports.StoreError`; a refused condition is the package's `IntegrityError`, an append
    of nothing its `ProgrammingError`. Appends carry the number of the lease that `server` holds, if it holds one.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._meta, self._events, self._appends = (server.key(part) for part in ("meta", "events", "appends"))
        # A position that was reached before any append that is still under way: where to look for lost answers.
        self._reached = 0

    def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        position = self._server.command("HGET", self._meta, "position")
        try:
            head = int(position)
        except (TypeError, ValueError) as error:
            raise LedgerDamaged(
                f"the ledger {self._server.address.shown} does not say where it ends: {position!r}; verify it"
            ) from error
        self._reached = max(self._reached, head)
        return head

    def seal(self, position: int) -> Seal | None:
        """What stands for everything up to a position: made of the chain there; `None` where no block ends there."""
        if position == 0:
            return Seal(0, bytes(32))
        for entry in self._server.entries(self._events, position, position, count=1):
            chain = self._opened(entry).chain
            return Seal(position, blake2b(b"%d:%b" % (position, chain), digest_size=32).digest())
        return None

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        """Append all events, acknowledged by the server when this returns, or none of them.

        Returns:
            The position of the last one.

        Raises:
            IntegrityError: an event matches the condition.
            ProgrammingError: there is nothing to append.
            StoreError: the store could not keep them.
        """
        if not events:
            raise ProgrammingError("cannot append nothing: an append needs at least one event")
        names = _Names(self._server, [self._meta, self._events, self._appends])
        postings: dict[int, list[int]] = {}
        for place, event in enumerate(events, 1):
            for number in {names.of_type(event.type), *map(names.of_tag, event.tags)}:
                if number in postings:
                    postings[number].append(place)
                else:
                    postings[number] = [place]
        query, after = (condition.fail_if_events_match, condition.after or 0) if condition is not None else (None, 0)
        asked = b"" if query is None else _encode(_items(query, names))
        if len(names.keys) > KEYS_AT_ONCE:
            raise StoreError(
                f"cannot append {len(events)} events at once: they and their condition name {len(names.keys)} tags and "
                f"types, and {KEYS_AT_ONCE} is what a server takes; append them in smaller batches"
            )
        blocks = [word for block in _blocks(events) for word in block]
        packed = _encode([[number, *places] for number, places in postings.items()])
        token = os.urandom(12)
        since = self._reached
        answer = self._server.write(
            _APPEND,
            names.keys,
            [token, since, max(after, 0), asked, packed, len(events), *blocks],
        )
        match answer:
            case [b"appended", position]:
                self._reached = max(self._reached, position)
                return int(position)
            case [b"refused", position]:
                raise IntegrityError(
                    f"append refused: the event at position {position} came after position {after}"
                    f" and matches the condition {query}"
                )
            case [b"full"]:
                raise StoreFull(f"the ledger {self._server.address.shown} has {LAST_POSITION} positions, and no more")
        raise StoreError(f"the server's answer to an append is none that is known: {answer!r}")

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> ReadResponse:
        """Events that match, in order, up to the head at the time of the call; fetched page by page.

        Raises:
            StoreError: the store cannot be read; also later, while reading on.
        """
        upto = self.head()
        events = self._read(query, max(after or 0, 0), upto, limit)
        return ReadResponse(events, upto or None if limit is None else None, is_limited=limit is not None)

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> RedisSubscription:
        """Events that match, in order, then those to come, from this and from other processes."""
        return RedisSubscription(self, self._server, query, after)

    def between(self, query: DCBQuery | None, after: int, upto: int) -> Iterator[DCBSequencedEvent]:
        """Events that match, in order, of the positions `after` < position <= `upto`."""
        return self._read(query, max(after, 0), upto, None)

    def page(self, query: DCBQuery | None, after: int, upto: int, limit: int) -> tuple[list[DCBSequencedEvent], int]:
        """At least one event that matches, if any is left, and `limit` at most, of the positions `after` < p <= `upto`.

        With the position up to which nothing else matches.
        """
        if _is_everything(query):
            blocks = [self._opened(entry) for entry in self._server.entries(self._events, after + 1, count=limit)]
            self._refuse_gaps(after, blocks)
            events = [event for block in blocks for event in block.sequenced() if after < event.position <= upto]
            events = events[:limit]
            if not events and after < upto:
                raise self._lost(after + 1)
            return events, events[-1].position if events else upto
        assert query is not None
        names = _Names(self._server, [self._events])
        asked = _encode(_items(query, names))
        answer = self._server.ask(_FIND, names.keys, [after, upto, limit, PAGE_BYTES, asked])
        if answer[0] != b"found":
            raise self._lost(answer[1])
        _, positions, entries, scanned = answer
        wanted = set(positions)
        events = [event for entry in entries for event in self._opened(entry).sequenced() if event.position in wanted]
        if len(events) < len(wanted):
            raise LedgerDamaged(
                f"the ledger {self._server.address.shown}: its index names events that are gone; verify it"
            )
        return events, scanned

    def opened(self, entries: Iterable[list[Any]], after: int) -> Iterator[DCBSequencedEvent]:
        """The events of entries as the server gave them, which follow position `after`. Raises `LedgerDamaged`."""
        blocks = [self._opened(entry) for entry in entries]
        self._refuse_gaps(after, blocks)
        for block in blocks:
            yield from block.sequenced()

    def verify(self) -> Iterator[Problem]:
        """Read everything again; name the first position of every block that does not fit.

        Finds flipped bits, and events that were dropped, swapped, inserted or are not found by their tags and types.
        """
        try:
            yield from self._verify_blocks()
        except UNREADABLE as error:
            yield Problem("ledger", None, f"could not be read to its end: {error}")

    def _read(self, query: DCBQuery | None, after: int, upto: int, limit: int | None) -> Iterator[DCBSequencedEvent]:
        wanted = upto if limit is None else limit
        while wanted > 0 and after < upto:
            page, after = self.page(query, after, upto, min(PAGE_EVENTS, wanted))
            yield from page
            wanted -= len(page)

    def _opened(self, entry: list[Any]) -> _Block:
        opened = _opened(entry)
        if isinstance(opened, str):
            raise LedgerDamaged(
                f"the ledger {self._server.address.shown}: block {_text(entry[0])}: {opened}; verify it"
            )
        return opened

    def _refuse_gaps(self, after: int, blocks: list[_Block]) -> None:
        for block in blocks:
            if block.first > after + 1:
                raise self._lost(after + 1)
            after = block.last

    def _lost(self, position: int) -> LedgerDamaged:
        return LedgerDamaged(f"the ledger {self._server.address.shown} has lost position {position}; verify it")

    def _verify_blocks(self) -> Iterator[Problem]:
        sealed_upto, sealed, postings = self._server.command("HMGET", self._meta, "position", "chain", "postings")
        upto = int(sealed_upto)
        last = 0
        chain: bytes | None = GENESIS  # None behind a problem, until the next block says it again
        sound = True
        held: dict[str, int] = {}
        misfits: set[str] = set()
        while entries := self._server.entries(self._events, last + 1, upto, PAGE_EVENTS):
            fitting: list[_Block] = []
            for entry in entries:
                opened = _opened(entry)
                end, count = _place(entry[0])
                if end - count > last:
                    missing = f"{last + 1}" if end - count == last + 1 else f"{last + 1} to {end - count}"
                    yield Problem("ledger", last + 1, f"missing: {missing} dropped before {end - count + 1}")
                    sound, chain = False, None
                elif end - count < last or count < 1:
                    yield Problem(
                        "ledger", end, f"inserted: a block of {count} events ends here, and {last} was reached"
                    )
                    sound, chain = False, None
                first, last = last + 1, end
                if isinstance(opened, str):
                    yield Problem("ledger", first, f"the events up to {end}: {opened}")
                    sound, chain = False, None
                    continue
                if chain is not None and chained(chain, opened.digest) != opened.chain:
                    yield Problem(
                        "ledger", first, f"the events up to {end} do not fit the chain: not what was appended"
                    )
                    sound = False
                elif sound:
                    fitting.append(opened)
                chain = opened.chain
            # Behind a block that is damaged nobody knows how many positions the index must have had before.
            yield from self._not_indexed(fitting, held, misfits)
        if last != upto:
            yield Problem("ledger", last + 1, f"missing: dropped, the log was sealed up to {upto}")
        elif sound and chain is not None and chain.hex().encode() != sealed:
            yield Problem("ledger", last, "the seal of the last append does not fit it and all before it")
        elif sound and not misfits and sum(held.values()) == int(postings):
            yield from self._overlong(held)
        elif sound and not misfits:
            yield Problem(
                "ledger", None, f"the index has {int(postings)} postings where the events have {sum(held.values())}"
            )

    def _not_indexed(self, blocks: list[_Block], held: dict[str, int], misfits: set[str]) -> Iterator[Problem]:
        """For each tag and type the first event that is not found by it; `held` counts how many each must have."""
        places: dict[str, list[int]] = {}
        for block in blocks:
            for event in block.sequenced():
                for name in {f"type:{event.event.type}", *(f"tag:{tag}" for tag in event.event.tags)}:
                    places.setdefault(name, []).append(event.position)
        names = list(places)
        if not names:
            return
        asked = [[held.get(name, 0), *places[name]] for name in names]
        found = self._server.ask(_POSTED, [self._server.key(name) for name in names], [_encode(asked)])
        for name, wrong in zip(names, found, strict=True):
            held[name] = held.get(name, 0) + len(places[name])
            if wrong and name not in misfits:
                misfits.add(name)
                yield Problem(
                    "ledger", wrong, f"not found by its {name.replace(':', ' ', 1)!r}: the index does not fit"
                )

    def _overlong(self, held: dict[str, int]) -> Iterator[Problem]:
        names = list(held)
        for start in range(0, len(names), PAGE_EVENTS):
            some = names[start : start + PAGE_EVENTS]
            lengths = self._server.ask(_LENGTHS, [self._server.key(name) for name in some], [])
            for name, length in zip(some, lengths, strict=True):
                if length != held[name]:
                    yield Problem("ledger", None, f"the index of {name} has {length} positions for {held[name]} events")


class RedisSubscription(DCBSubscription[RedisRecorder]):
    """Events as they come: what is there already by pages, then by a read that the server holds back until there is one.

    It ends when it is stopped or its server is closed. One thread may wait in it while another stops it. A server that
    goes is waited for as in every other call; after that it raises `StoreError`, and a new one may go on from there.
    """

    def __init__(self, recorder: RedisRecorder, server: RedisServer, query: DCBQuery | None, after: int | None) -> None:
        super().__init__(recorder, query, after)
        self._last_position = max(self._last_position, 0)
        self._server = server
        self._page: deque[DCBSequencedEvent] = deque()
        self._upto = 0
        self._connection_lock = threading.Lock()
        self._connection: Any = None
        server.listen(self._hang_up)

    def stop(self) -> None:
        """End the subscription; a `next` that waits in another thread raises StopIteration."""
        super().stop()
        self._server.unlisten(self._hang_up)
        self._hang_up()

    def __next__(self) -> DCBSequencedEvent:
        while not self._ended:
            if self._page:
                return self._page.popleft()
            try:
                if self._last_position >= self._upto:
                    self._upto = self._recorder.head()
                if self._last_position < self._upto:
                    page, self._last_position = self._recorder.page(
                        self._query, self._last_position, self._upto, PAGE_EVENTS
                    )
                    self._page.extend(page)
                else:
                    self._wait()
            except StoreError:
                if not self._ended:
                    raise
        self._hang_up()
        raise StopIteration

    @property
    def _ended(self) -> bool:
        return self._has_been_stopped or self._server.closed

    def _wait(self) -> None:
        """Until something was appended; take it, too."""
        try:
            with self._connection_lock:
                if self._ended:
                    return
                if self._connection is None:
                    self._connection = self._server.waiting_connection()
                connection = self._connection
            last = f"{self._last_position}-{2**64 - 1}"
            seconds = min(WAIT_SECONDS, self._server.answer_seconds / 2)
            words = ("XREAD", "COUNT", 8, "BLOCK", int(seconds * 1000) or 1, "STREAMS", self._recorder._events, last)
            connection.send_command(*words)
            answer = connection.read_response()
        except (*ERRORS, ValueError):
            # Hung up, or the server went or moved: the next look at the head waits for it, and says what is wrong.
            self._hang_up()
            return
        if answer:
            for found in self._recorder.opened(answer[0][1], self._last_position):
                if found.position > self._last_position:
                    self._last_position = found.position
                    if _matches(self._query, found.event):
                        self._page.append(found)
            self._upto = max(self._upto, self._last_position)

    def _hang_up(self) -> None:
        with self._connection_lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*ERRORS):
                connection.disconnect()


class _Names:
    """Keys of tags and types for one script, each once, by its number from 1."""

    def __init__(self, server: RedisServer, keys: list[str]) -> None:
        self.keys = keys
        self._types: dict[str, int] = {}
        self._tags: dict[str, int] = {}
        self._type_prefix = server.key("type:")
        self._tag_prefix = server.key("tag:")

    def of_type(self, name: str) -> int:
        """The number of a type's key."""
        number = self._types.get(name)
        if number is None:
            self.keys.append(self._type_prefix + name)
            number = self._types[name] = len(self.keys)
        return number

    def of_tag(self, name: str) -> int:
        """The number of a tag's key."""
        number = self._tags.get(name)
        if number is None:
            self.keys.append(self._tag_prefix + name)
            number = self._tags[name] = len(self.keys)
        return number


def chained(previous: bytes, digest: bytes) -> bytes:
    """The chain at a block: 20 bytes over the chain before it and the digest of what it says, as the script makes it."""
    return sha1(previous.hex().encode() + digest, usedforsecurity=False).digest()


def _blocks(events: Sequence[DCBEvent]) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Count, name of the field (`z` for zstd, `r` for raw), content and digest of each block of an append."""
    start = size = 0
    for end, event in enumerate(events):
        if end > start and (size + len(event.data) > BLOCK_BYTES or end - start == BLOCK_EVENTS):
            yield _block(events[start:end])
            start, size = end, 0
        size += len(event.data)
    yield _block(events[start:])


def _block(events: Sequence[DCBEvent]) -> tuple[int, bytes, bytes, bytes]:
    content = _encode([(event.type, event.tags, event.data) for event in events])
    digest = _digest_of(content)
    if len(content) < COMPRESSED_FROM:
        return len(events), b"r", content, digest
    deflate = getattr(_threads, "deflate", None)
    if deflate is None:
        deflate = _threads.deflate = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress
    return len(events), b"z", deflate(content), digest


def _opened(entry: list[Any]) -> _Block | str:
    """The events of a block, or the reason why it is not what was written."""
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    last, count = _place(entry[0])
    try:
        content = fields.get(b"r")
        if content is None:
            inflate = getattr(_threads, "inflate", None)
            if inflate is None:
                inflate = _threads.inflate = zstandard.ZstdDecompressor().decompress
            content = inflate(fields[b"z"])
        events = _decode_block(content)
        chain = fields[b"c"]
    except KeyError as error:
        return f"its field {error} is missing"
    except (zstandard.ZstdError, msgspec.MsgspecError, ValueError) as error:  # ValueError: text that is not UTF-8
        return f"its content cannot be read: {error}"
    if len(events) != count:
        return f"it holds {len(events)} events and says {count}"
    if len(chain) != CHAIN_BYTES:
        return "its chain is damaged"
    return _Block(last - count + 1, last, chain, _digest_of(content), events)


def _digest_of(content: bytes) -> bytes:
    return blake2b(content, digest_size=32).digest()


def _place(entry_id: bytes) -> tuple[int, int]:
    last, _, count = entry_id.partition(b"-")
    return int(last), int(count)


def _text(entry_id: bytes) -> str:
    return entry_id.decode(errors="replace")


def _is_everything(query: DCBQuery | None) -> bool:
    return query is None or not query.items or any(not item.types and not item.tags for item in query.items)


def _items(query: DCBQuery, names: _Names) -> list[list[list[int]]]:
    """Types and tags of each item by the numbers of their keys; one empty item where everything matches."""
    if _is_everything(query):
        return [[[], []]]
    return [
        [
            [names.of_type(name) for name in dict.fromkeys(item.types)],
            [names.of_tag(name) for name in dict.fromkeys(item.tags)],
        ]
        for item in query.items
    ]


def _matches(query: DCBQuery | None, event: DCBEvent) -> bool:
    if query is None or not query.items:
        return True
    return any(
        (not item.types or event.type in item.types) and set(item.tags) <= set(event.tags) for item in query.items
    )


# Walks lists of positions, which only ever grow at their end.
_SEARCH: Final = """
local call = redis.call
local PAGE = 128

-- The place, from 0, of the first position above `after` in a list; `high` where there is none before it.
local function seek(key, after, low, high)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(call('LINDEX', key, middle)) > after then high = middle else low = middle + 1 end
  end
  return low
end

-- A list with something above `after` in it, or nil.
local function walker(key, after)
  local last = call('LINDEX', key, -1)
  if not last or tonumber(last) <= after then return nil end
  return {key = key, length = call('LLEN', key), start = 0, page = {}, at = 1}
end

-- The first position of a walker above `after`, or nil. `after` never falls: a jump is looked for from where it stands.
local function above(w, after)
  local page = w.page
  if #page == 0 or tonumber(page[#page]) <= after then
    local low, step = w.start + #page, PAGE
    while low + step < w.length and tonumber(call('LINDEX', w.key, low + step)) <= after do
      low, step = low + step, step * 2
    end
    low = seek(w.key, after, low, math.min(low + step, w.length))
    if low >= w.length then return nil end
    page = call('LRANGE', w.key, low, low + PAGE - 1)
    w.start, w.page, w.at = low, page, 1
  end
  while tonumber(page[w.at]) <= after do w.at = w.at + 1 end
  return tonumber(page[w.at])
end

-- Positions above `after`, up to `upto` and `limit` of them, at which an event has all the tags and one of the types.
local function matching(item, after, upto, limit)
  local tags, types, found = {}, {}, {}
  for i, number in ipairs(item[2]) do
    tags[i] = walker(KEYS[number], after)
    if not tags[i] then return found end
  end
  for _, number in ipairs(item[1]) do types[#types + 1] = walker(KEYS[number], after) end
  if #item[1] > 0 and #types == 0 then return found end
  local position = after + 1
  while #found < limit do
    local before
    repeat
      before = position
      for _, tag in ipairs(tags) do
        position = above(tag, position - 1)
        if not position then return found end
      end
      if #types > 0 then
        local nearest
        for _, type in ipairs(types) do
          local next = above(type, position - 1)
          if next and (not nearest or next < nearest) then nearest = next end
        end
        if not nearest then return found end
        position = nearest
      end
    until position == before
    if position > upto then return found end
    found[#found + 1] = position
    position = position + 1
  end
  return found
end
"""

# KEYS: meta, events, appends, then those of tags and types. ARGV: the lease's number, whether it may have come before, the
# append's token, since which position to look for that, the position after which the condition's items may not match,
# the items, the postings as [key, place, place...], the number of events; then for each block four words.
_APPEND: Final = f"""{GUARD}
{_SEARCH}
local since, again = ARGV[4] + 1, ARGV[2] ~= ''
repeat
  local page = call('XRANGE', KEYS[3], string.format('%.0f', since), '+', 'COUNT', 500)
  for _, entry in ipairs(page) do
    local last = tonumber(string.match(entry[1], '^%d+'))
    if entry[2][2] == ARGV[3] then return {{'appended', last}} end
    since = last + 1
  end
until #page < 500
if again and call('XLEN', KEYS[3]) >= {APPENDS_KEPT} then
  local oldest = call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1][1]
  if tonumber(string.match(oldest, '^%d+')) > ARGV[4] + 1 then return {{'forgotten'}} end
end
{FENCE}

local state = call('HMGET', KEYS[1], 'position', 'chain')
local head, chain = tonumber(state[1]), state[2]
local after = tonumber(ARGV[5])
if ARGV[6] ~= '' and after < head then
  for _, item in ipairs(cmsgpack.unpack(ARGV[6])) do
    if #item[1] == 0 and #item[2] == 0 then return {{'refused', head}} end
    local found = matching(item, after, head, 1)[1]
    if found then return {{'refused', found}} end
  end
end

local count = tonumber(ARGV[8])
if head + count > {LAST_POSITION} then return {{'full'}} end
local last = head
for i = 9, #ARGV, 4 do
  last = last + tonumber(ARGV[i])
  chain = redis.sha1hex(chain .. ARGV[i + 3])
  local bytes = string.gsub(chain, '..', function(hex) return string.char(tonumber(hex, 16)) end)
  call('XADD', KEYS[2], string.format('%.0f-%s', last, ARGV[i]), ARGV[i + 1], ARGV[i + 2], 'c', bytes)
end
local postings = 0
for _, posted in ipairs(cmsgpack.unpack(ARGV[7])) do
  local key, size = KEYS[posted[1]], #posted
  postings = postings + size - 1
  if size == 2 then
    call('RPUSH', key, head + posted[2])
  else
    for i = 2, size do posted[i] = head + posted[i] end
    for i = 2, size, 4000 do call('RPUSH', key, unpack(posted, i, math.min(i + 3999, size))) end
  end
end
call('XADD', KEYS[3], 'MAXLEN', '~', {APPENDS_KEPT}, string.format('%.0f-0', last), 't', ARGV[3])
call('HINCRBY', KEYS[1], 'postings', postings)
call('HSET', KEYS[1], 'position', string.format('%.0f', last), 'chain', chain)
return {{'appended', last}}
"""

# KEYS: events, then those of tags and types. ARGV: after, upto, how many at most, how many bytes about, the items.
# Gives positions, the blocks that hold them, and up to where nothing else matches.
_FIND: Final = f"""
{_SEARCH}
local after, upto, limit, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local known, positions = {{}}, {{}}
for _, item in ipairs(cmsgpack.unpack(ARGV[5])) do
  for _, position in ipairs(matching(item, after, upto, limit)) do
    if not known[position] then
      known[position] = true
      positions[#positions + 1] = position
    end
  end
end
table.sort(positions)
local given, blocks, covered, scanned = {{}}, {{}}, 0, upto
for i, position in ipairs(positions) do
  if i > limit or (position > covered and bytes <= 0) then
    scanned = given[#given]
    break
  end
  if position > covered then
    local entry = call('XRANGE', KEYS[1], string.format('%.0f', position), '+', 'COUNT', 1)[1]
    if not entry then return {{'lost', position}} end
    covered = tonumber(string.match(entry[1], '^%d+'))
    for _, value in ipairs(entry[2]) do bytes = bytes - #value end
    blocks[#blocks + 1] = entry
  end
  given[#given + 1] = position
end
-- An item that gave as many as were asked for may have more right behind.
if scanned == upto and #given >= limit then scanned = given[#given] end
return {{'found', given, blocks, scanned}}
"""

# KEYS: of tags and types. ARGV: for each, how many positions stand before, and those that follow. Gives for each 0, or the
# first position that is not there.
_POSTED: Final = """
local wrong = {}
for i, asked in ipairs(cmsgpack.unpack(ARGV[1])) do
  wrong[i] = 0
  local held = redis.call('LRANGE', KEYS[i], asked[1], asked[1] + #asked - 2)
  for j = 2, #asked do
    if tonumber(held[j - 1] or -1) ~= asked[j] then
      wrong[i] = asked[j]
      break
    end
  end
end
return wrong
"""

_LENGTHS: Final = """
local lengths = {}
for i, key in ipairs(KEYS) do lengths[i] = redis.call('LLEN', key) end
return lengths
"""
