"""Holds so many things in memory and ends, to be measured from outside: `python -m benchmarks.resident WHAT NUMBER SAMPLE`.

WHAT is `world`, live resources as `World` folds them, or `machines`, one machine of `transitions` each. SAMPLE holds real
resources with their fields, which are folded again and again under other names; every one has strings of its own, as if
decoded from a ledger. `store` starts this, once with NUMBER 0, and takes the difference.
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from domain.events import Event
from domain.kinds import VOCABULARY
from domain.resources import Key
from domain.world import World

_decode = msgspec.msgpack.Decoder(list[tuple[Key, dict[str, Any]]]).decode


def world_of(number: int, sample: bytes) -> World:
    """A world of so many live resources."""
    world = World()
    created = [
        msgspec.msgpack.encode(
            Event(
                type=VOCABULARY[key.kind].begun,
                key=key,
                record="audit:sample",
                time=0,
                changed={path: (None, value) for path, value in fields.items()},
            )
        )
        for key, fields in _decode(sample)
    ]
    decode = msgspec.msgpack.Decoder(Event).decode
    for at, data in enumerate(islice(cycle(created), number), 1):
        event = decode(data)
        key = Key(event.key.kind, event.key.namespace, f"{event.key.name}-{at}")
        world.evolve(msgspec.structs.replace(event, key=key, uid=str(UUID(int=at)), revision=at, time=at), at)
    return world


def machines_of(number: int, sample: bytes) -> list[Any]:
    """So many machines with a model each, of the same kinds."""
    from benchmarks.store import Model, machine_of

    nothing = World()
    kinds = cycle([key.kind for key, _ in _decode(sample)])
    return [machine_of(Model(nothing), VOCABULARY[kind].lifecycle) for kind in islice(kinds, number)]


def main() -> None:
    what, number, sample = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
    held = len(world_of(number, sample).live if what == "world" else machines_of(number, sample))
    if held != number:
        sys.exit(f"benchmarks.resident: {held} are held, and not {number}")


if __name__ == "__main__":
    main()
