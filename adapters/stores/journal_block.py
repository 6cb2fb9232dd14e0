"""How records lie in a journal: compressed blocks, each with a checksum over what it says and where it stands.

A row a record would cost more than reading it. `sqlite_journal.py` and `postgres_journal.py` keep blocks as rows of a table,
`redis_journal.py` as entries of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

import msgspec
import zstandard

BLOCK_BYTES: Final = 1024 * 1024
"""Payload bytes in one block at most, unless a single record has more: what reading holds in memory."""
BLOCK_RECORDS: Final = 4000
IDENTITY_BYTES: Final = 16
CHECKSUM_BYTES: Final = 16
COMPRESSION_LEVEL: Final = 3

Stored = tuple[int, str, bytes, bytes]
"""One record in a block: line, identity, fingerprint, payload."""

_encode = msgspec.msgpack.Encoder().encode
_decode_block = msgspec.msgpack.Decoder(list[Stored]).decode


def divided(records: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
    """Records in runs that each make one block."""
    start = size = 0
    for end, (_, _, _, payload) in enumerate(records):
        if end > start and (size + len(payload) > BLOCK_BYTES or end - start == BLOCK_RECORDS):
            yield records[start:end]
            start, size = end, 0
        size += len(payload)
    if start < len(records):
        yield records[start:]


def deflater() -> Callable[[Sequence[Stored]], bytes]:
    """What makes the content of a block of its records. Not for threads: each takes its own."""
    compress = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress
    return lambda block: compress(_encode(block))


def unfit(said: tuple[int, ...], sum: bytes, content: bytes) -> str | None:
    """Why a block is not what was written; `None` where it is. `said` is what its checksum is over, beside its content."""
    if sum != checksum(*said, content):
        return "its checksum does not fit: it, or its place, is not what was written"
    return None


def opened(
    inflate: Callable[[bytes], bytes], said: tuple[int, ...], sum: bytes, content: bytes, *, records: int
) -> list[Stored] | str:
    """The records of a block, or the reason why it is not what was written."""
    if (reason := unfit(said, sum, content)) is not None:
        return reason
    try:
        stored = _decode_block(inflate(content))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        return f"its content cannot be read: {error}"
    if len(stored) != records:
        return f"it holds {len(stored)} records and says {records}"
    return stored


def key(identity: str) -> bytes:
    """16 bytes that stand for an identity."""
    return blake2b(identity.encode(), digest_size=IDENTITY_BYTES).digest()


def checksum(*columns: int | str | bytes) -> bytes:
    """16 bytes over the columns of a row."""
    return blake2b(_encode(columns), digest_size=CHECKSUM_BYTES).digest()
