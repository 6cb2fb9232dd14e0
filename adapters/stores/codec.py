"""Events as bytes: MessagePack, with the type's own name and a schema version in every one.

`msgspec` reads and writes the same MessagePack as the `msgpack` package, faster; a golden file and a test with
`msgpack` itself as the second reader guard the format. `adapters/ledger.py` is next: it appends what is encoded here.
"""

from __future__ import annotations

from typing import Any

import msgspec
from eventsourcing.dcb.api import DCBEvent

from adapters.ports import NewerLedger
from domain.events import SCHEMA_VERSION, Event

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> DCBEvent:
    """The event as the recorder takes it."""
    try:
        data = _encoder.encode(event)
    except OverflowError:
        # JSON has integers of any size, MessagePack has 64 bits: a larger one is kept as its digits.
        data = _encoder.encode(msgspec.structs.replace(event, changed=within_64_bits(event.changed)))
    return DCBEvent(type=event.type, data=data, tags=list(event.tags))


def decode(data: bytes) -> Event:
    """The event back. Raises `NewerLedger` where a later version of netledger wrote it."""
    event = _decoder.decode(data)
    if event.schema > SCHEMA_VERSION:
        raise NewerLedger(
            f"an event of schema {event.schema} is in this ledger; this netledger reads up to {SCHEMA_VERSION}: "
            "use the version that wrote it, or a later one"
        )
    return event


def within_64_bits(value: Any) -> Any:
    """The value with every integer that MessagePack has no room for as its digits."""
    match value:
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
        case dict():
            return {name: within_64_bits(inside) for name, inside in value.items()}
        case list() | tuple():
            return [within_64_bits(inside) for inside in value]
        case _:
            return value
