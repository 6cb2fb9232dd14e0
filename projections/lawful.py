"""What should be, for other programs: the status of each VPC, and the members of each ipset, as far as that is known.

`adapters/publishing.py` pushes it to Redis, `adapters/http/projections.py` answers it.
"""

from __future__ import annotations

import json
from typing import Any

from domain.ipset import MEMBERS
from domain.world import Resource
from projections.reading import Reading

Hashes = dict[str, dict[str, str]]
Sets = dict[str, frozenset[str]]


def vpc_statuses(reading: Reading) -> Hashes:
    """Of each live VPC what its status should say, as far as it is known, and which fields say otherwise."""
    found: Hashes = {}
    for key, resource in reading.world.live.items():
        if key.kind == "vpc":
            found[key.name] = {name: json.dumps(value) for name, value in vpc_status(reading, resource).items()}
    return found


def vpc_status(reading: Reading, vpc: Resource) -> dict[str, Any]:
    """What the status of one VPC should say, as far as it is known, and which fields say otherwise (`drift`)."""
    standing = reading.standing(vpc)
    fields = {path.removeprefix("status."): value for path, value in standing.lawful.items() if value is not None}
    return {**fields, "drift": sorted(standing.drift)}


def ipset_members(reading: Reading) -> Sets:
    """Of each ipset of which it is known the members that belong in it, by `NODE/NAME`."""
    found: Sets = {}
    for key, resource in reading.world.live.items():
        if key.kind == "ipset":
            members = members_of(reading, resource)
            if members is not None:
                found[f"{key.namespace}/{key.name}"] = members
    return found


def members_of(reading: Reading, ipset: Resource) -> frozenset[str] | None:
    """The members that belong in one ipset; `None` where that is not known."""
    members = reading.standing(ipset).lawful.get(MEMBERS)
    return None if members is None else frozenset(members)
