"""The journal: records as they were received, in the keys of the server that `redis_server.py` reaches.

Records lie in compressed blocks, one or a few a commit; beside them stands one small field an identity, which is how the
same record is told when it comes again. A commit looks first at what is known, makes its blocks, and then writes all of
it in one script, which refuses if another commit came between: then it looks again.

    meta        hash     number of the last record; how many commits, sources and things kept aside there are
    journal     stream   blocks of records: entry LAST-COUNT ends at number LAST and holds COUNT records
    identities  hash     16 bytes of BLAKE2b to fingerprint, source and line
    sources     hash     id to path, format, summary and checksum; source-ids: path and format to id
    aside       stream   what could not be used, numbered from 1; aside-known: a set that tells the same again
    commits     stream   the last commits, each with its token: one whose answer was lost is known when it comes again

What is decided from records goes to `redis_recorder.py`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import zstandard

from adapters.ports import (
    EXCERPT_BYTES,
    Aside,
    Entry,
    KeptAside,
    LedgerDamaged,
    Problem,
    Receipt,
    Record,
    Source,
    StoreError,
    collided,
)
from adapters.stores import journal_block
from adapters.stores.journal_block import Stored
from adapters.stores.redis_server import FENCE, GUARD, RedisServer

LOOKUP: Final = 500
COMMITS_KEPT: Final = 10_000
ATTEMPTS: Final = 1000
"""How often a commit is made anew because another one came between, before it is given up."""

_Known = tuple[bytes, int, int]
"""Of an identity: fingerprint, source, line."""
_SourceRow = tuple[str, str, bytes, bytes]
"""Of a source: path, format, summary, checksum."""
_AsideRow = tuple[int, int, str, bytes, int, bytes]
"""Of what was kept aside: source, line, reason, excerpt, size, checksum."""

_encode = msgspec.msgpack.Encoder().encode
_decode_known = msgspec.msgpack.Decoder(_Known).decode
_decode_source = msgspec.msgpack.Decoder(_SourceRow).decode
_decode_aside = msgspec.msgpack.Decoder(_AsideRow).decode

UNREADABLE: Final = (StoreError, TypeError, ValueError, OverflowError, KeyError)


class RedisJournal:
    """A `Journal` on a Redis server; safe to use from several threads, and beside others on the same ledger."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        names = ("meta", "journal", "identities", "sources", "source-ids", "aside", "aside-known", "commits")
        self._keys = [server.key(name) for name in names]
        self._meta, self._journal, self._identities, self._sources, self._source_ids, self._aside, *_ = self._keys
        self._paths: dict[int, str] = {}

    def source(self, path: str, format: str) -> int:
        name = _encode((path, format))
        for _ in range(ATTEMPTS):
            known, count = self._server.ask(_LOOK_FOR_SOURCE, [self._meta, self._source_ids], [name])
            if known is not None:
                return int(known)
            id = int(count) + 1
            row = _encode((path, format, b"", journal_block.checksum(id, path, format, b"")))
            answer = self._server.write(
                _ADD_SOURCE,
                [self._meta, self._sources, self._source_ids],
                [id, name, row],
            )
            if answer[0] == b"known":
                return int(answer[1])
        raise self._given_up("name a source")

    def commit(self, source: int, records: Sequence[Record], aside: Sequence[Aside], summary: bytes) -> Receipt:
        keys = [journal_block.key(record.identity) for record in records]
        distinct = list(dict.fromkeys(keys))
        for attempt in range(ATTEMPTS):
            if attempt > 3:
                time.sleep(random.uniform(0, 0.002 * min(attempt, 20)))  # of several that wait, not all at once again
            commits, number, row, *found = self._server.ask(
                _LOOK, [self._meta, self._sources, self._identities], [source, *distinct]
            )
            if row is None:
                raise StoreError(f"cannot commit: the journal has no source {source}; ask source() for one first")
            path, format, _, _ = self._read_back(_decode_source, row, f"source {source}")
            known = {
                key: self._read_back(_decode_known, value, "an identity")
                for key, value in zip(distinct, found, strict=True)
                if value is not None
            }
            new: dict[bytes, _Known] = {}
            fresh: list[Stored] = []
            accepted: list[bool] = []
            collisions: list[Aside] = []
            for key, record in zip(keys, records, strict=True):
                before = known.get(key) or new.get(key)
                accepted.append(before is None)
                if before is None:
                    new[key] = (record.fingerprint, source, record.line)
                    fresh.append((record.line, record.identity, record.fingerprint, record.payload))
                elif before[0] != record.fingerprint:
                    collisions.append(collided(record, self._path(before[1]), before[2]))
            words = [
                int(commits),
                os.urandom(12),
                source,
                _encode((path, format, summary, journal_block.checksum(source, path, format, summary))),
                *_counted(_blocks(fresh, int(number), source)),
                *_counted(_aside_rows(source, [*aside, *collisions])),
                *_counted((key, _encode(value)) for key, value in new.items()),
            ]
            answer = self._server.write(_COMMIT, self._keys, words)
            if answer[0] == b"committed":
                return Receipt(accepted, accepted.count(False) - len(collisions), len(collisions))
        raise self._given_up("commit")

    def read(self, after: int = 0) -> Iterator[Entry]:
        # The head is asked for at the call, not when the first entry is taken.
        return self._read(max(after, 0), self.head())

    def sources(self) -> list[Source]:
        rows = _pairs(self._server.command("HGETALL", self._sources))
        return [
            Source(id, *self._read_back(_decode_source, row, f"source {id}")[:3])
            for id, row in sorted((int(id), row) for id, row in rows)
        ]

    def locate(self, identities: Iterable[str]) -> dict[str, tuple[str, int]]:
        wanted = list(dict.fromkeys(identities))
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(wanted), LOOKUP):
            some = wanted[start : start + LOOKUP]
            for identity, value in zip(some, self._identified(some), strict=True):
                if value is not None:
                    _, source, line = self._read_back(_decode_known, value, "an identity")
                    found[identity] = (self._path(source), line)
        return found

    def kept_aside(self) -> Iterator[KeptAside]:
        last = 0
        while entries := self._server.entries(self._aside, last + 1):
            for id, fields in entries:
                last = _place(id)[0]
                row = self._read_back(_decode_aside, fields[1], f"what was kept aside as number {last}")
                source, line, reason, excerpt, size, _ = row
                yield KeptAside(self._path(source), line, reason, excerpt, size)

    def head(self) -> int:
        number = self._server.command("HGET", self._meta, "number")
        try:
            return int(number)
        except (TypeError, ValueError) as error:
            raise self._damaged(f"does not say where it ends: {number!r}") from error

    def verify(self) -> Iterator[Problem]:
        try:
            yield from self._verify_blocks()
            yield from self._verify_sources()
            yield from self._verify_aside()
        except UNREADABLE as error:
            yield Problem("journal", None, f"could not be read to its end: {error}")

    def _read(self, after: int, head: int) -> Iterator[Entry]:
        inflate = zstandard.ZstdDecompressor().decompress
        while after < head:
            entries = self._server.entries(self._journal, after + 1, count=1)
            if not entries or _first(entries[0]) > after + 1:
                raise self._damaged(f"has lost entry {after + 1}; verify it")
            for entry in entries:
                first = _first(entry)
                opened = _opened(entry, inflate)
                if isinstance(opened, str):
                    raise self._damaged(f"block {first}: {opened}; verify it")
                source, stored = opened
                for line, identity, fingerprint, payload in stored[after + 1 - first :]:
                    if after == head:
                        return
                    after += 1
                    yield Entry(after, source, line, identity, payload, fingerprint)

    def _verify_blocks(self) -> Iterator[Problem]:
        inflate = zstandard.ZstdDecompressor().decompress
        number, sources, kept = map(int, self._server.command("HMGET", self._meta, "number", "sources", "aside"))
        last = records = 0
        sound = True
        while entries := self._server.entries(self._journal, last + 1, number, count=1):
            first = _first(entries[0])
            if first != last + 1:
                sound = False
                yield Problem("journal", last + 1, f"missing or inserted: the next block begins with entry {first}")
            last = _place(entries[0][0])[0]
            opened = _opened(entries[0], inflate)
            if isinstance(opened, str):
                sound = False
                yield Problem("journal", first, opened)
                continue
            source, stored = opened
            records += len(stored)
            for offset, reason in self._not_identified(source, stored):
                sound = False
                yield Problem("journal", first + offset, reason)
        if last != number:
            yield Problem("journal", last + 1, f"missing: dropped, {number} entries were committed")
            return
        identities = self._server.command("HLEN", self._identities)
        if sound and identities != records:
            yield Problem("journal", None, f"{identities} identities are known, and the blocks hold {records} records")
        if self._server.command("HLEN", self._sources) != sources:
            yield Problem("journal", None, f"a source is missing or was inserted: {sources} were named")
        if self._server.command("XLEN", self._aside) != kept:
            yield Problem("journal", None, f"something kept aside is missing or was inserted: there were {kept}")

    def _not_identified(self, source: int, stored: Sequence[Stored]) -> Iterator[tuple[int, str]]:
        for start in range(0, len(stored), LOOKUP):
            some = stored[start : start + LOOKUP]
            found = self._identified([identity for _, identity, _, _ in some])
            for offset, ((line, identity, fingerprint, _), value) in enumerate(zip(some, found, strict=True), start):
                if value is None:
                    yield offset, f"the index of identities does not have {identity}"
                elif value != _encode((fingerprint, source, line)):
                    yield offset, f"the index of identities has another fingerprint, source or line for {identity}"

    def _verify_sources(self) -> Iterator[Problem]:
        for id, row in _pairs(self._server.command("HGETALL", self._sources)):
            path, format, summary, checksum = _decode_source(row)
            if checksum != journal_block.checksum(int(id), path, format, summary):
                yield Problem("journal", None, f"source {int(id)} ({path}) is not what was written")
            if self._server.command("HGET", self._source_ids, _encode((path, format))) != id:
                yield Problem("journal", None, f"source {int(id)} ({path}) is not found by its path")

    def _verify_aside(self) -> Iterator[Problem]:
        last = 0
        while entries := self._server.entries(self._aside, last + 1):
            for id, fields in entries:
                number = _place(id)[0]
                if number != last + 1:
                    yield Problem("journal", None, f"missing: what was kept aside as number {last + 1}")
                last = number
                try:
                    *row, checksum = _decode_aside(fields[1])
                except (msgspec.MsgspecError, ValueError) as error:
                    yield Problem("journal", None, f"what was kept aside as number {number} cannot be read: {error}")
                    continue
                if checksum != journal_block.checksum(*row):
                    yield Problem("journal", None, f"what was kept aside as number {number} is not what was written")

    def _identified(self, identities: Sequence[str]) -> list[bytes | None]:
        if not identities:
            return []
        found: list[bytes | None] = self._server.command("HMGET", self._identities, *map(journal_block.key, identities))
        return found

    def _path(self, source: int) -> str:
        if source not in self._paths:
            row = self._server.command("HGET", self._sources, source)
            if row is None:
                raise self._damaged(f"has no source {source}; verify it")
            self._paths[source] = self._read_back(_decode_source, row, f"source {source}")[0]
        return self._paths[source]

    def _read_back(self, decode: Callable[[bytes], Any], value: bytes, what: str) -> Any:
        try:
            return decode(value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._damaged(f"{what} cannot be read: {error}; verify it") from error

    def _damaged(self, reason: str) -> LedgerDamaged:
        return LedgerDamaged(f"the journal in {self._server.address.shown}: {reason}")

    def _given_up(self, what: str) -> StoreError:
        return StoreError(
            f"cannot {what} (ledger {self._server.address.shown}): {ATTEMPTS} times other commits came between;"
            " nothing of it was kept; try again when fewer write"
        )


def _blocks(records: Sequence[Stored], number: int, source: int) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Entry id, source, checksum and content of each block, the first behind `number`."""
    deflate = journal_block.deflater()
    for block in journal_block.divided(records):
        number += len(block)
        content = deflate(block)
        yield f"{number}-{len(block)}", source, journal_block.checksum(number, len(block), source, content), content


def _aside_rows(source: int, aside: Iterable[Aside]) -> Iterator[tuple[bytes, bytes]]:
    """Checksum and row of each."""
    for item in aside:
        columns = (source, item.line, item.reason, item.excerpt[:EXCERPT_BYTES], item.size)
        checksum = journal_block.checksum(*columns)
        yield checksum, _encode((*columns, checksum))


def _counted(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """How many words all rows have together, then the words."""
    words = [word for row in rows for word in row]
    return [len(words), *words]


def _opened(entry: list[Any], inflate: Callable[[bytes], bytes]) -> tuple[int, list[Stored]] | str:
    """Source and records of a block, or the reason why it is not what was written."""
    last, count = _place(entry[0])
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    try:
        source, sum, content = int(fields[b"source"]), fields[b"checksum"], fields[b"z"]
    except KeyError as error:
        return f"its field {error} is missing"
    except ValueError as error:
        return f"its content cannot be read: {error}"
    stored = journal_block.opened(inflate, (last, count, source), sum, content, records=count)
    return stored if isinstance(stored, str) else (source, stored)


def _place(entry_id: bytes) -> tuple[int, int]:
    last, _, count = entry_id.partition(b"-")
    return int(last), int(count)


def _first(entry: list[Any]) -> int:
    last, count = _place(entry[0])
    return last - count + 1


def _pairs(flat: Any) -> Iterator[tuple[bytes, bytes]]:
    """Fields and values of a hash, as any version of the client library gives them."""
    if isinstance(flat, dict):
        return iter(flat.items())
    return iter(zip(flat[::2], flat[1::2], strict=True))


_LOOK_FOR_SOURCE: Final = """
return {redis.call('HGET', KEYS[2], ARGV[1]), redis.call('HGET', KEYS[1], 'sources')}
"""

# ARGV: the lease's number, whether it may have come before, the id that the source gets, its name, its row.
_ADD_SOURCE: Final = f"""{GUARD}
local known = call('HGET', KEYS[3], ARGV[4])
if known then return {{'known', known}} end
{FENCE}
if tonumber(call('HGET', KEYS[1], 'sources')) + 1 ~= tonumber(ARGV[3]) then return {{'moved'}} end
call('HSET', KEYS[1], 'sources', ARGV[3])
call('HSET', KEYS[2], ARGV[3], ARGV[5])
call('HSET', KEYS[3], ARGV[4], ARGV[3])
return {{'known', ARGV[3]}}
"""

# What a commit has to know, all of one moment. ARGV: the source, then identities.
_LOOK: Final = """
local meta = redis.call('HMGET', KEYS[1], 'commits', 'number')
local found = {meta[1], meta[2], redis.call('HGET', KEYS[2], ARGV[1])}
for i = 2, #ARGV, 4000 do
  for _, value in ipairs(redis.call('HMGET', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))) do
    found[#found + 1] = value
  end
end
return found
"""

# ARGV: the lease's number, whether it may have come before, how many commits there were, the token, the source's id and
# row; then the words of blocks, of what is kept aside and of identities, the number of them first.
_COMMIT: Final = f"""{GUARD}
local commits = tonumber(call('HGET', KEYS[1], 'commits'))
local mine = string.format('%.0f-0', ARGV[3] + 1)
if commits ~= tonumber(ARGV[3]) then
  local held = call('XRANGE', KEYS[8], mine, mine)[1]
  if held and held[2][2] == ARGV[4] then return {{'committed'}} end
  if not held and ARGV[2] ~= '' then return {{'forgotten'}} end
  {FENCE}
  return {{'moved'}}
end
{FENCE}
call('HSET', KEYS[1], 'commits', string.format('%.0f', commits + 1))
call('XADD', KEYS[8], 'MAXLEN', '~', {COMMITS_KEPT}, mine, 't', ARGV[4])
call('HSET', KEYS[4], ARGV[5], ARGV[6])
local at = 8
for i = at, at + ARGV[7] - 1, 4 do
  call('XADD', KEYS[2], ARGV[i], 'source', ARGV[i + 1], 'checksum', ARGV[i + 2], 'z', ARGV[i + 3])
  call('HSET', KEYS[1], 'number', string.match(ARGV[i], '^%d+'))
end
at = at + ARGV[7] + 1
local kept = tonumber(call('HGET', KEYS[1], 'aside'))
for i = at, at + ARGV[at - 1] - 1, 2 do
  if call('SADD', KEYS[7], ARGV[i]) == 1 then
    kept = kept + 1
    call('XADD', KEYS[6], string.format('%.0f-0', kept), 'row', ARGV[i + 1])
  end
end
call('HSET', KEYS[1], 'aside', string.format('%.0f', kept))
at = at + ARGV[at - 1] + 1
for i = at, #ARGV, 4000 do call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV))) end
return {{'committed'}}
"""
