"""A whole store in one file that can be sent anywhere: MessagePack, compressed, whole or told to be damaged.

An archive is one zstd frame around a flat sequence of MessagePack objects: the magic, the version of the format, the
schema of the events; then pairs of a block and its seal. A block is binary: the MessagePack of what `transfer.py` moves.
Its seal is a digest over the seal before it and the block, so what was changed, dropped or swapped is known before any
of it is used. The last block says how much there was: an archive without it was cut off.

Whoever made an archive may have meant harm: nothing is asked for by its lengths, no more than `LARGEST_BYTES` of it
is held at once, and its events are read before they are believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO, TypeVar

import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
import zstandard

from adapters.ingest import Span
from adapters.ports import NewerLedger, StoreError
from adapters.stores import codec
from adapters.transfer import BLOCK_BYTES, Block, Counts, Events, Records, Summaries, Tally
from domain.events import GENERATION, SCHEMA_VERSION

MAGIC = "netledger archive"
VERSION = 1
COMPRESSION_LEVEL = 6
SEAL_BYTES = 16
LARGEST_BYTES = 80 << 20
"""The largest block, which then is a single row. A record has 32 MiB at most, an event what a record says, twice."""
WINDOW_BYTES = 8 << 20
READ_BYTES = 256 << 10

_ZSTD = b"\x28\xb5\x2f\xfd"


class NotAnArchive(StoreError):
    """This is no archive of netledger."""


class ArchiveDamaged(StoreError):
    """An archive is not what was written. The message says where, and what is good before it."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class End(msgspec.Struct, frozen=True, array_like=True, tag="end", forbid_unknown_fields=True):
    """The last block: how many rows there are of each kind, and the digest over all."""

    counts: Counts
    digest: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Block | End).decode
_T = TypeVar("_T", str, int, bytes)


# ---- writing


def packed(blocks: Iterable[Block]) -> Iterator[bytes]:
    """The bytes of an archive, piece by piece. The same store gives the same bytes. Raises `StoreError`."""
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True).compressobj()
    # What is written so far can be read so far: where a file was cut off, all before it is good.
    rest = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    yield compressor.compress(_encode(MAGIC) + _encode(VERSION) + _encode(SCHEMA_VERSION)) + compressor.flush(rest)
    tally, seal = Tally(), b""
    for block in blocks:
        tally.add(block)
        content = _encode(block)
        if len(content) > LARGEST_BYTES:
            raise StoreError(
                f"a single row of {len(content):,} bytes is in this store: an archive takes {LARGEST_BYTES:,}"
            )
        seal = _sealed(seal, content)
        yield compressor.compress(_encode(content) + _encode(seal)) + compressor.flush(rest)
    whole = tally.content()
    content = _encode(End(whole.counts, whole.digest))
    yield compressor.compress(_encode(content) + _encode(_sealed(seal, content)))
    yield compressor.flush()


def _sealed(before: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(before + content, digest_size=SEAL_BYTES).digest()


# ---- reading


class _Counted:
    """A stream that knows how much was read of it."""

    def __init__(self, stream: IO[bytes], beginning: bytes) -> None:
        self._stream = stream
        self._beginning = beginning
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        if self._beginning:
            data, self._beginning = self._beginning, b""
        else:
            data = self._stream.read(size)
        self.count += len(data)
        return data


class Archive:
    """An archive being read, front to back, once. `name` is what it is called, for messages.

    Raises:
        NotAnArchive: it is something else.
        NewerLedger: a later version of netledger made it.
        ArchiveDamaged: it is not what was written, from here on.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._name = name
        beginning = stream.read(len(_ZSTD))
        if not _ZSTD.startswith(beginning) or not beginning:
            raise NotAnArchive(
                f"{name} is no archive of netledger: it does not begin as one; `netledger export -o archive` makes them, and "
                "`netledger replay` reads logs and CloudEvents"
            )
        self._file = _Counted(stream, beginning)
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(
            self._file,  # type: ignore[arg-type]  # it reads, and that is all that is asked of it
            read_size=READ_BYTES,
            read_across_frames=True,
        )
        # Flat: a list, a map or an extension is none of its objects, so that nothing can hide behind a short header.
        self._objects = msgpack.Unpacker(
            reader,
            read_size=READ_BYTES,
            max_buffer_size=LARGEST_BYTES + (1 << 20),
            max_str_len=len(MAGIC),
            max_bin_len=LARGEST_BYTES,
            max_array_len=0,
            max_map_len=0,
            max_ext_len=0,
        )
        self._tally = Tally()
        self._read_header()

    def blocks(self) -> Iterator[Block]:
        """The blocks, each sealed as it was written. Raises `ArchiveDamaged`."""
        seal = b""
        while True:
            offset = self._objects.tell()
            content, found = self._next(bytes), self._next(bytes)
            seal = _sealed(seal, content)
            if found != seal:
                raise self._damaged("a block does not fit its seal", offset)
            if len(content) > 2 * BLOCK_BYTES and not _has_one_row(content):
                raise self._damaged(f"a block of several rows has {len(content):,} bytes", offset)
            try:
                block = _decode(content)
            except (msgspec.MsgspecError, MemoryError) as error:
                raise self._damaged(f"a block cannot be read: {error}", offset) from error
            if isinstance(block, End):
                self._finish(block, offset)
                return
            self._check(block, offset)
            self._tally.add(block)
            yield block

    def _read_header(self) -> None:
        try:
            magic, version, schema = self._next(str), self._next(int), self._next(int)
        except ArchiveDamaged as error:
            raise NotAnArchive(
                f"{self._name} is no archive of netledger, or is damaged at its beginning: {error.reason}"
            ) from error
        if magic != MAGIC:
            raise NotAnArchive(f"{self._name} is no archive of netledger: it says that it is {magic!r}")
        if version > VERSION or schema > SCHEMA_VERSION:
            raise NewerLedger(
                f"{self._name} is an archive of version {version} with events of schema {schema}; this netledger reads up to "
                f"version {VERSION} and schema {SCHEMA_VERSION}: use the netledger that made it, or a later one"
            )

    def _next(self, wanted: type[_T]) -> _T:
        offset = self._objects.tell()
        try:
            found = self._objects.unpack()
        except msgpack.OutOfData:
            raise self._damaged("it ends here, before its end was written: it was cut off", offset) from None
        except (zstandard.ZstdError, ValueError, msgpack.UnpackException, MemoryError) as error:
            raise self._damaged(str(error) or type(error).__name__, offset) from error
        if type(found) is not wanted:
            raise self._damaged(f"there is a {type(found).__name__} where {wanted.__name__} should be", offset)
        return found

    def _damaged(self, reason: str, offset: int) -> ArchiveDamaged:
        good = self._tally.counts
        return ArchiveDamaged(
            f"{self._name} is damaged: {reason} (byte {offset:,} of what is in it; {self._file.count:,} bytes of the file "
            f"were read). Good before it: {good[Records]:,} records, {good[Events]:,} events; get the whole archive and "
            "import it again, it goes on from there",
            f"{reason}, at byte {offset:,}",
        )

    def _finish(self, end: End, offset: int) -> None:
        whole = self._tally.content()
        if end.counts != whole.counts or end.digest != whole.digest:
            raise self._damaged("it holds something else than its end says", offset)
        try:
            more = self._objects.read_bytes(1)
        except (zstandard.ZstdError, ValueError, msgpack.UnpackException) as error:
            raise self._damaged(f"behind its end: {error}", self._objects.tell()) from error
        if more:
            raise self._damaged("something follows its end", self._objects.tell())

    def _check(self, block: Block, offset: int) -> None:
        """What is sealed is what was written; whether that is what a store may hold is another question."""
        try:
            match block:
                case Events():
                    for number, (type, tags, data) in enumerate(block.rows, self._tally.counts[Events] + 1):
                        event = codec.decode(data)
                        if (event.type, list(event.tags)) != (type, tags):
                            raise self._damaged(f"an event says {event.type}, and is filed as {type}", offset)
                        if type == GENERATION and not 0 <= event.changed["after"][1] < number:
                            raise self._damaged(f"the generation at event {number} begins behind it", offset)
                case Summaries():
                    for summary in block.rows:
                        if summary:
                            msgspec.msgpack.decode(summary, type=Span)
        except (msgspec.MsgspecError, KeyError, TypeError, MemoryError) as error:
            raise self._damaged(f"what it holds is nothing that a ledger holds: {error}", offset) from error


def _has_one_row(content: bytes) -> bool:
    """Whether a block is an array of its kind's name and an array of one: what may be large."""
    return content[0] == 0x92 and content[2 + (content[1] & 0x1F)] == 0x91
