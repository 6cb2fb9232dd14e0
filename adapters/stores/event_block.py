"""Events packed a block at a time, and the hash tree that binds every event to the head of the log.

A block is a zstd frame of the MessagePack array `[heads, data]`: for each event its head, which is the MessagePack array
`[type, tag, ...]`, and its data as given. Over the events of a block stands a hash tree, over the blocks of the log another
one (both as RFC 6962 builds them), so that a proof that one event is in the log takes a few dozen hashes however long the
log is. A block that was pruned holds some of its events, and of the others the hashes that lead from these to its root, so
that the tree stays what it was. `sqlite_recorder.py` keeps blocks; `sqlite_index.py` finds those that hold a tag.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
import zstandard
from eventsourcing.dcb.api import DCBEvent, DCBQueryItem, DCBSequencedEvent

from adapters.ports import Path

BLOCK_EVENTS: Final = 1000
"""Events in one block at most: what has to be read and unpacked to get at one of them."""
BLOCK_BYTES: Final = 1 << 20
"""Bytes of data in one block at most, unless a single event has more."""
COMPRESSION_LEVEL: Final = 1
HASH_BYTES: Final = 32
GENESIS: Final = bytes(HASH_BYTES)
"""The root of a tree over nothing."""

_NOTHING: Final[Iterator[bytes]] = iter(())

# What is hashed begins with what it is, so that no node of one tree can pass for one of another.
_EVENT, _INNER, _BLOCK = b"\0", b"\1", b"\2"

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(list[str]).decode
_decode_content = msgspec.msgpack.Decoder(tuple[list[bytes], list[bytes]]).decode
_decode_kept = msgspec.msgpack.Decoder(tuple[list[int], list[bytes], list[bytes], list[bytes]]).decode

Tree = list[bytes]
"""The roots of the perfect trees that stand side by side over a number of leaves, the largest first."""

Levels = list[list[bytes | None]]
"""A tree over the events of a block, the leaves first and the root last. `None` is what is not known since it was pruned."""


class Unreadable(ValueError):
    """The content of a block is not what an append writes."""


class Block(NamedTuple):
    """A block unpacked. Of an event that was pruned the head and the data are empty; no head ever is."""

    first: int
    heads: list[bytes]
    data: list[bytes]
    beside: list[bytes] | None = None
    """Of a pruned block: the hashes that lead from its events to its root, in the order in which `levels` takes them."""

    @property
    def last(self) -> int:
        """The position of its last event."""
        return self.first + len(self.heads) - 1

    def events(self, offsets: Iterable[int]) -> list[DCBSequencedEvent]:
        """The events at these offsets from `first`. Raises `Unreadable`."""
        first, heads, data, _ = self
        try:
            return [
                DCBSequencedEvent(DCBEvent(said[0], data[offset], said[1:]), first + offset)
                for offset in offsets
                if heads[offset]
                for said in (_decode_head(heads[offset]),)
            ]
        except (msgspec.MsgspecError, IndexError) as error:
            raise Unreadable(f"its types and tags cannot be read: {error}") from error

    def within(self, after: int, upto: int) -> range:
        """The offsets of the positions `after` < position <= `upto`."""
        return range(max(0, after + 1 - self.first), min(len(self.heads), upto + 1 - self.first))

    def matching(self, items: Sequence[DCBQueryItem], after: int, upto: int) -> Iterator[int]:
        """Of `within`, the offsets of the events that match any of these items. Raises `Unreadable`."""
        # A tag's bytes are looked for before a head is decoded: nearly all heads are passed over that way.
        wanted = [([_encode(tag) for tag in item.tags], set(item.types), set(item.tags)) for item in items]
        for offset in self.within(after, upto):
            head = self.heads[offset]
            if not head:
                continue
            for needles, types, tags in wanted:
                for needle in needles:  # a plain loop: most heads are passed over here
                    if needle not in head:
                        break
                else:
                    type_name, *own = _said(head)
                    if (not types or type_name in types) and tags.issubset(own):
                        yield offset
                        break

    def kept(self) -> list[int]:
        """The offsets of the events that are there."""
        return [offset for offset, head in enumerate(self.heads) if head]

    def levels(self) -> Levels:
        """The tree over its events, as far as it is known. Raises `Unreadable`."""
        leaves: list[bytes | None] = [
            _leaf(head, one) if head else None for head, one in zip(self.heads, self.data, strict=True)
        ]
        beside = iter(self.beside or ())
        try:
            levels = levels_over(leaves, beside)
        except StopIteration:
            raise Unreadable("hashes are missing that lead from its events to its root") from None
        if next(beside, None) is not None:
            raise Unreadable("it holds more hashes than lead from its events to its root")
        return levels

    def pruned(self, keep: Iterable[int]) -> Block:
        """The block with just these of its events, by their offsets. Raises `Unreadable`."""
        keep = set(keep).intersection(self.kept())
        return Block(
            self.first,
            [head if offset in keep else b"" for offset, head in enumerate(self.heads)],
            [one if offset in keep else b"" for offset, one in enumerate(self.data)],
            beside(self.levels(), keep),
        )


def _said(head: bytes) -> list[str]:
    try:
        return _decode_head(head)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"its types and tags cannot be read: {error}") from error


def head_of(event: DCBEvent) -> bytes:
    """An event's type and tags in bytes."""
    return _encode([event.type, *event.tags])


def cut(data: Sequence[bytes]) -> Iterator[slice]:
    """What is to be appended, a block at a time."""
    start = size = 0
    for end, one in enumerate(data):
        if end > start and (end - start == BLOCK_EVENTS or size + len(one) > BLOCK_BYTES):
            yield slice(start, end)
            start, size = end, 0
        size += len(one)
    yield slice(start, len(data))


def packer() -> Callable[[Sequence[bytes], Sequence[bytes]], bytes]:
    """What packs blocks; not for several threads at once."""
    deflate = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress
    return lambda heads, data: deflate(_encode((heads, data)))


def packed_kept(block: Block) -> bytes:
    """The content of a pruned block; empty where none of its events is kept."""
    kept = block.kept()
    if not kept:
        return b""
    heads, data = [block.heads[offset] for offset in kept], [block.data[offset] for offset in kept]
    return zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(_encode((kept, heads, data, block.beside)))


class _OfThread(threading.local):
    """A decompressor is not for several threads; one that was just made takes several times as long over a small page."""

    def __init__(self) -> None:
        self.decompress = zstandard.ZstdDecompressor().decompress


_inflater = _OfThread()


def inflate(frame: bytes) -> bytes:
    """A zstd frame's content. Raises `zstandard.ZstdError`."""
    return _inflater.decompress(frame)


def unpacked(first: int, events: int, content: bytes, original: bytes | None = None) -> Block:
    """The block whose first event stands at `first`; `original` is of a pruned block. Raises `Unreadable`."""
    if original is not None:
        return _unpacked_kept(first, events, content)
    try:
        heads, data = _decode_content(inflate(content))
    except (zstandard.ZstdError, msgspec.MsgspecError, TypeError) as error:
        raise Unreadable(f"its content cannot be read: {error}") from error
    if not len(heads) == len(data) == events:
        raise Unreadable(f"it holds {len(data)} events and says {events}")
    return Block(first, heads, data)


def _unpacked_kept(first: int, events: int, content: bytes) -> Block:
    heads, data = [b""] * events, [b""] * events
    if not content:
        return Block(first, heads, data, [])
    try:
        offsets, kept_heads, kept_data, beside = _decode_kept(zstandard.ZstdDecompressor().decompress(content))
        for offset, head, one in zip(offsets, kept_heads, kept_data, strict=True):
            heads[offset], data[offset] = head, one
    except (zstandard.ZstdError, msgspec.MsgspecError, TypeError, ValueError, IndexError) as error:
        raise Unreadable(f"its content cannot be read: {error}") from error
    return Block(first, heads, data, beside)


# ---- the hash trees


def _leaf(head: bytes, one: bytes) -> bytes:
    return blake2b(_EVENT + head + one, digest_size=HASH_BYTES).digest()


def event_hashes(heads: Sequence[bytes], data: Sequence[bytes]) -> list[bytes]:
    """The leaves of these events."""
    return [
        blake2b(_EVENT + head + one, digest_size=HASH_BYTES).digest() for head, one in zip(heads, data, strict=True)
    ]


def block_hash(first: int, events: int, root: bytes, content_hash: bytes) -> bytes:
    """The leaf of a block: where it stands, the root over its events, and the hash of its content as it is kept."""
    place = first.to_bytes(8, "big") + events.to_bytes(4, "big")
    return blake2b(_BLOCK + place + root + content_hash, digest_size=HASH_BYTES).digest()


def content_hash(content: bytes) -> bytes:
    """The hash of a block's content."""
    return blake2b(content, digest_size=HASH_BYTES).digest()


def inner_hash(left: bytes, right: bytes) -> bytes:
    """The node over two."""
    return blake2b(_INNER + left + right, digest_size=HASH_BYTES).digest()


def root_over(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaves."""
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else GENESIS


def path_in(levels: Levels, place: int) -> Path:
    """The path from the leaf at `place`, which has to be known, to the root."""
    path: Path = []
    for level in levels[:-1]:
        if (neighbour := place ^ 1) < len(level):
            known = level[neighbour]
            assert known is not None  # whoever knows a leaf knows what is beside it and those above it
            path.append((neighbour < place, known))
        place //= 2
    return path


def levels_over(leaves: Sequence[bytes | None], given: Iterator[bytes] = _NOTHING) -> Levels:
    """All levels of the tree over these leaves.

    Where only one of two neighbours is known, the other is the next of `given`; where neither is, what is above them is
    not known either. Raises `StopIteration` when not enough is given.
    """
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        above: list[bytes | None] = []
        for left in range(0, len(level) - 1, 2):
            one, other = level[left : left + 2]
            if one is None and other is None:
                above.append(None)
                continue
            if one is None:
                one = level[left] = next(given)
            elif other is None:
                other = level[left + 1] = next(given)
            assert other is not None
            above.append(inner_hash(one, other))
        if len(level) % 2:
            above.append(level[-1])
        levels.append(above)
    return levels


def beside(levels: Levels, keep: Collection[int]) -> list[bytes]:
    """What `levels_over` has to be given where only the leaves at these places are known."""
    known = [place in keep for place in range(len(levels[0]))]
    given: list[bytes] = []
    for level in levels[:-1]:
        for left in range(0, len(level) - 1, 2):
            if known[left] != known[left + 1]:
                neighbour = level[left + 1 if known[left] else left]
                assert neighbour is not None  # it was beside what is kept before, too
                given.append(neighbour)
        known = [any(known[left : left + 2]) for left in range(0, len(known), 2)]
    return given


def _above(level: Sequence[bytes]) -> list[bytes]:
    above = [
        blake2b(_INNER + left + right, digest_size=HASH_BYTES).digest()
        for left, right in zip(level[::2], level[1::2], strict=False)
    ]
    if len(level) % 2:
        above.append(level[-1])
    return above


def grown(tree: Tree, leaves: int, leaf: bytes) -> list[bytes]:
    """Add a leaf to a tree over `leaves` of them, in place; gives the leaf and the roots of all trees it completes."""
    completed = [leaf]
    while leaves % 2:
        leaf = inner_hash(tree.pop(), leaf)
        completed.append(leaf)
        leaves //= 2
    tree.append(leaf)
    return completed


def perfect_trees(leaves: int) -> Iterator[tuple[int, int]]:
    """The perfect trees that stand side by side over so many leaves: how many lie up to the end of each, and its height."""
    number = 0
    for height in range(leaves.bit_length() - 1, -1, -1):
        if leaves >> height & 1:
            number += 1 << height
            yield number, height


def path_over(leaves: int, number: int, root: Callable[[int, int], bytes]) -> Path:
    """The path from leaf `number` (from 1) to the root over so many. `root` gives that of a perfect tree: end, height."""
    trees = list(perfect_trees(leaves))
    place = next(i for i, (end, _) in enumerate(trees) if number <= end)
    end, height = trees[place]
    begin = end - (1 << height)
    path: Path = []
    offset = number - 1 - begin
    for level in range(height):
        beside = (offset >> level) ^ 1
        path.append((beside < offset >> level, root(begin + ((beside + 1) << level), level)))
    if behind := [root(*tree) for tree in trees[place + 1 :]]:
        path.append((False, root_of(behind)))
    path.extend((True, root(*tree)) for tree in reversed(trees[:place]))
    return path


def root_of(tree: Tree) -> bytes:
    """The root over all the trees that stand side by side."""
    if not tree:
        return GENESIS
    root = tree[-1]
    for left in reversed(tree[:-1]):
        root = inner_hash(left, root)
    return root
