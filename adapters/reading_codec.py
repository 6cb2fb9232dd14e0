"""Everything that is folded from a log, as bytes and back: what a ledger keeps in the place of events that were pruned.

A `Reading` holds the world, the projections and what the rules remember. It is walked as it lies in memory, so that a rule
that comes to remember more is kept whole without a word here: every class that is met is named once, with its fields, and
a netledger whose classes have other fields refuses to guess. Numbers in it that could be places in the order are taken for
such: the events there are cited by today's findings and states, or may be by later ones. `adapters/retention.py` is next.
"""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec
import zstandard

from adapters.ports import LedgerDamaged, StoreError
from adapters.stores import codec
from domain.events import Event
from domain.world import Resource
from projections.reading import Reading

_LIST, _TUPLE, _DICT, _SET, _FROZEN_SET, _ORDERED, _AGAIN, _EVENT, _DIGITS, _RESOURCE = range(10)
"""What an array stands for, by its first number; from `_CLASSES` on it is an instance of the class with that number."""
_CLASSES: Final = 16

_PACKAGES: Final = ("domain", "projections")

_REMADE: Final = frozenset({("judge.Judge", "_feeds")})
"""What follows from the code and is made again: it is kept empty."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[tuple[str, list[str]]], Any]).decode
_decode_resource = msgspec.msgpack.Decoder(Resource).decode


def encode(reading: Reading) -> tuple[bytes, set[int]]:
    """A reading, and the places up to its own that it may refer to."""
    return packed(reading, reading.at)


def packed(value: Any, upto: int = 0) -> tuple[bytes, set[int]]:
    """Anything that is made of readings, what they are made of, and plain values; and the numbers in it up to `upto`."""
    writer = _Writer(upto)
    inside = writer.pack(value)
    content = _encode((writer.classes, inside))
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(content), writer.places


def decode(content: bytes) -> Reading:
    """The reading back.

    Raises:
        StoreError: another netledger made it, whose rules remember other things.
        LedgerDamaged: it is not what was written.
    """
    reading = unpacked(content)
    if not isinstance(reading, Reading):
        raise LedgerDamaged("what the pruned events added up to is something else; verify the ledger")
    return reading


def unpacked(content: bytes) -> Any:
    """What was `packed`. Raises as `decode` does."""
    # All that is made here stays: to look through it for garbage meanwhile is a fifth of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        classes, inside = _decode(zstandard.ZstdDecompressor().decompress(content))
        return _Reader(classes).unpack(inside)
    except (zstandard.ZstdError, msgspec.MsgspecError, TypeError, ValueError, IndexError, KeyError) as error:
        raise LedgerDamaged(
            f"what the pruned events added up to cannot be read ({error}); verify the ledger"
        ) from error
    finally:
        if collects:
            gc.enable()


class _Writer:
    def __init__(self, upto: int) -> None:
        self.classes: list[tuple[str, list[str]]] = []
        self.places: set[int] = set()
        self._upto = upto
        self._numbers: dict[type, int] = {}
        # What may be changed may be shared, and has to be shared again. It is held, so that no other gets its id.
        self._seen: dict[int, tuple[int, object]] = {}
        self._is_quoting = False  # what objects say of themselves has ports and counts, and no places

    def pack(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str, float, bytes):
            return value
        if kind is int:
            if 0 < value <= self._upto and not self._is_quoting:
                self.places.add(value)
            return value if -(1 << 63) <= value < 1 << 64 else [_DIGITS, str(value)]
        if kind is tuple:
            return [_TUPLE, *map(self.pack, value)]
        if kind is frozenset:
            return [_FROZEN_SET, *map(self.pack, _in_order(value))]
        if isinstance(value, tuple):
            return [self._number(kind, _fields_of(value)), *map(self.pack, value)]
        if kind is Event:
            return [_EVENT, codec.encode(value).data]
        if (known := self._seen.get(id(value))) is not None:
            return [_AGAIN, known[0]]
        self._seen[id(value)] = len(self._seen), value
        if kind is list:
            return [_LIST, *map(self.pack, value)]
        if kind is set:
            return [_SET, *map(self.pack, _in_order(value))]
        if kind in (dict, OrderedDict):
            packed: list[Any] = [_DICT if kind is dict else _ORDERED]
            for key, one in value.items():
                packed += self.pack(key), self.pack(one)
            return packed
        return self._instance(kind, value)

    def _instance(self, kind: type, value: Any) -> list[Any]:
        if kind is Resource and not self._upto:
            # Most of what there is: in one step each, where no places are asked for.
            with suppress(OverflowError):
                return [_RESOURCE, _encode(value)]
        fields = _fields_of(value)
        name = _name_of(kind)
        packed = [self._number(kind, fields)]
        for field in fields:
            inside = getattr(value, field)
            if (name, field) in _REMADE:
                inside = type(inside)()
            self._is_quoting = kind is Resource and field == "fields"
            packed.append(self.pack(inside))
        self._is_quoting = False
        return packed

    def _number(self, kind: type, fields: tuple[str, ...]) -> int:
        number = self._numbers.get(kind)
        if number is None:
            if _classes().get(_name_of(kind)) is not kind:
                raise TypeError(f"a {kind.__module__}.{kind.__qualname__} is folded from the log, and cannot be kept")
            number = self._numbers[kind] = len(self.classes) + _CLASSES
            self.classes.append((_name_of(kind), list(fields)))
        return number


class _Reader:
    def __init__(self, classes: list[tuple[str, list[str]]]) -> None:
        self._kinds: list[tuple[type, list[str]]] = []
        self._seen: list[Any] = []
        for name, fields in classes:
            kind = _classes().get(name)
            if kind is None or sorted(_declared(kind)) != sorted(fields):
                raise StoreError(
                    "this ledger was pruned by another netledger, whose rules remember other things than this one's "
                    f"({name}), and the events that they follow from are gone; go on with that netledger, or replay the "
                    "sources into a new ledger"
                )
            self._kinds.append((kind, fields))

    def unpack(self, packed: Any) -> Any:
        if type(packed) is not list:
            return packed
        code = packed[0]
        if code >= _CLASSES:
            return self._instance(code - _CLASSES, packed)
        if code == _TUPLE:
            return tuple(self._inside(packed))
        if code == _AGAIN:
            return self._seen[packed[1]]
        if code in (_DICT, _ORDERED):
            made: Any = {} if code == _DICT else OrderedDict()
            self._seen.append(made)
            inside = self._inside(packed)
            made.update(zip(inside[::2], inside[1::2], strict=True))
            return made
        if code == _LIST:
            made = []
            self._seen.append(made)
            made += self._inside(packed)
            return made
        if code == _SET:
            made = set()
            self._seen.append(made)
            made.update(self._inside(packed))
            return made
        if code == _FROZEN_SET:
            return frozenset(self._inside(packed))
        if code == _RESOURCE:
            resource = _decode_resource(packed[1])
            self._seen.append(resource)
            return resource
        return codec.decode(packed[1]) if code == _EVENT else int(packed[1])

    def _inside(self, packed: list[Any]) -> list[Any]:
        # Most of what is inside is a plain value: a call for each would be most of the time that it takes.
        unpack = self.unpack
        inside = [unpack(one) if type(one) is list else one for one in packed]
        del inside[0]
        return inside

    def _instance(self, number: int, packed: list[Any]) -> Any:
        kind, fields = self._kinds[number]
        if issubclass(kind, tuple):
            return kind(*self._inside(packed))
        place = len(self._seen)
        if issubclass(kind, msgspec.Struct):
            self._seen.append(None)
            self._seen[place] = kind(**dict(zip(fields, self._inside(packed), strict=True)))
            return self._seen[place]
        made: Any = kind.__new__(kind)
        self._seen.append(made)
        for field, one in zip(fields, self._inside(packed), strict=True):
            setattr(made, field, one)
        return made


def _in_order(values: Any) -> list[Any]:
    return sorted(values, key=repr)


def _name_of(kind: type) -> str:
    """The last part of its module and its own name."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"


def _fields_of(value: Any) -> tuple[str, ...]:
    kind = type(value)
    if issubclass(kind, tuple):
        return tuple(getattr(kind, "_fields", ()))
    if issubclass(kind, msgspec.Struct):
        return tuple(kind.__struct_fields__)
    if hasattr(value, "__dict__"):
        return tuple(vars(value))
    return tuple(kind.__slots__)


@cache
def _classes() -> dict[str, type]:
    """The classes of what is folded, by name. Nothing is imported that a name asks for."""
    found: dict[str, type] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _PACKAGES:
            for one in vars(module).values():
                if isinstance(one, type) and one.__module__ == name:
                    found[_name_of(one)] = one
    return found


@cache
def _declared(kind: type) -> tuple[str, ...]:
    """The fields that an instance of a class has."""
    if issubclass(kind, tuple):
        return tuple(getattr(kind, "_fields", ()))
    if issubclass(kind, msgspec.Struct):
        return tuple(kind.__struct_fields__)
    if slots := getattr(kind, "__slots__", None):
        return tuple(slots)
    return _fields_of(_fresh().get(kind) or kind())


@cache
def _fresh() -> dict[type, Any]:
    """What a reading consists of before it has read anything: one instance of each class."""
    found: dict[type, Any] = {}

    def walk(value: Any) -> None:
        if type(value).__module__.partition(".")[0] in _PACKAGES and type(value) not in found:
            found[type(value)] = value
            for inside in _inside(value):
                walk(inside)

    walk(Reading())
    return found


def _inside(value: Any) -> Iterator[Any]:
    for field in _fields_of(value):
        one = getattr(value, field)
        if isinstance(one, tuple | list):
            yield from one
        else:
            yield one
