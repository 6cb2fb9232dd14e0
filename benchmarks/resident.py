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


def world_of(number: int, sample: bytes) -> World:
    """A world of so many live resources."""
    world = World()
    resources: list[tuple[Key, dict[str, Any]]] = msgspec.msgpack.decode(sample, type=list[tuple[Key, dict[str, Any]]])
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
        for key, fields in resources
    ]
    decode = msgspec.msgpack.Decoder(Event).decode
    for at, data in enumerate(islice(cycle(created), number), 1):
        event = decode(data)
        key = Key(event.key.kind, event.key.namespace, f"{event.key.name}-{at}")
        world.evolve(msgspec.structs.replace(event, key=key, uid=str(UUID(int=at)), revision=at, time=at), at)
    return world


def main() -> None:
    what, number, sample = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
    if what == "world":
        held = len(world_of(number, sample).live)
    else:
        from benchmarks.store import Model, machine_of

        nothing = World()
        held = len([machine_of(Model(nothing)) for _ in range(number)])
    if held != number:
        sys.exit(f"benchmarks.resident: {held} are held, and not {number}")


if __name__ == "__main__":
    main()
