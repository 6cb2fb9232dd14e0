"""One event of every type with something in every field, and the file that keeps how each was encoded.

`python -m tests.golden.samples` adds the types that `events.json` does not have yet, and never changes those it has:
what is in there stands in somebody's ledger. `test_event_encoding.py` reads the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types

from adapters.stores import codec
from domain.events import GENERATION, OBSERVED, REFUSED, Event
from domain.kinds import LIFECYCLES
from domain.operations import OrderKey
from domain.resources import BY_NAME, Key

PATH = Path(__file__).with_name("events.json")

TIME = 1_800_000_000_123_456
RECORD = "audit:0a1b2c3d-0000-4000-8000-000000000001@1800000000120000/ResponseComplete"


def kinds_of_types() -> dict[str, str]:
    """Every event type, with the kind that it is about."""
    types = {event: kind for kind, lifecycle in LIFECYCLES.items() for event in lifecycle.events}
    return {**types, REFUSED: "vpc", OBSERVED: "subnet", GENERATION: ""}


def sample(event_type: str) -> Event:
    """An event of that type with a value in every field of the envelope that such an event has."""
    kind = kinds_of_types()[event_type]
    if event_type == GENERATION:
        return Event(
            type=GENERATION, key=Key("", "", ""), record="generation:2", time=0, changed={"after": (None, 4711)}
        )
    key = Key(kind, "shop" if BY_NAME[kind].namespaced else "", "net-1")
    more: dict[str, Any] = {"cause": "VPCRemoved vpc:shop"}
    if event_type == REFUSED:
        more = {"attempted": "VPCRemoved", "reason": "subnet a still names it", "leads_to": "GHOST"}
    elif event_type == OBSERVED:
        more = {"outcome": "refused", "reason": "Conflict"}
    return Event(
        type=event_type,
        key=key,
        record=RECORD,
        time=TIME,
        received=TIME - 3_000,
        uid="0a1b2c3d-1111-4000-8000-000000000002",
        actor="system:serviceaccount:kube-system:ovn",
        agent="kube-ovn-controller/v0.0.0",
        operation=f"patch {BY_NAME[kind].plural}/status",
        revision=325,
        read_revision=321,
        order=OrderKey(325, 0, TIME, RECORD, 1),
        changed={
            "metadata.annotations[名前]": (None, "ü"),
            "spec.namespaces": (["a", "b"], ["a"]),
            "spec.nested": ({"deep": [1, {"deeper": None}]}, None),
            "status.number": (-1, 2.5),
            "status.ready": (False, True),
            "status.v6availableIPs": (2**63, 2**64 - 1),
        },
        code=200,
        tags=(key.tag, "vpc:shop"),
        **more,
    )


def described(event: Event) -> dict[str, Any]:
    """How an event is encoded, and how any reader of MessagePack sees it."""
    data = codec.encode(event).data
    return {"type": event.type, "hex": data.hex(), "reads_as": msgpack.unpackb(data)}


def kept() -> dict[str, dict[str, Any]]:
    """What the golden file holds, by type."""
    return {entry["type"]: entry for entry in json.loads(PATH.read_text(encoding="utf-8"))}


def add_missing() -> list[str]:
    """Write the types that are not in the file yet; gives their names."""
    entries = kept() if PATH.exists() else {}
    missing = [event_type for event_type in kinds_of_types() if event_type not in entries]
    entries |= {event_type: described(sample(event_type)) for event_type in missing}
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries.values())
    PATH.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return missing


if __name__ == "__main__":
    print("added:", ", ".join(add_missing()) or "nothing")
