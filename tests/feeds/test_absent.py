"""What a list lacks that was there before: it went, nobody saw how, and no finding is made of that."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.lifecycle import GONE
from domain.resources import Key
from projections import coverage
from projections.findings.rule import OPEN
from tests.replaying import Replayed, replay

UID = "7a6b1f0e-0000-4000-8000-00000000000{}"


def shown(type: str, name: str, number: int, revision: int, kind: str = "Vpc", **more: Any) -> bytes:
    metadata = {
        "name": name,
        "uid": UID.format(number),
        "resourceVersion": str(revision),
        "creationTimestamp": f"2026-11-21T03:00:0{number}Z",
    }
    body = {"apiVersion": "kubeovn.io/v1", "kind": kind, "metadata": metadata, **more}
    return json.dumps({"type": type, "object": body}, separators=(",", ":")).encode()


def absent(name: str, number: int, revision: int, kind: str = "Vpc") -> bytes:
    metadata = {"name": name, "namespace": "", "uid": UID.format(number), "resourceVersion": str(revision)}
    body = {"apiVersion": "kubeovn.io/v1", "kind": kind, "metadata": metadata}
    return json.dumps({"type": "ABSENT", "object": body}, separators=(",", ":")).encode()


def replayed(tmp_path: Path, *lines: bytes) -> Replayed:
    path = tmp_path / "watch.json"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return replay(path)


def types(found: Replayed) -> list[str]:
    return [f"{event.type} {event.key.name}" for event in found.events]


def test_an_object_that_a_list_lacks_is_gone_and_its_end_is_a_gap(tmp_path: Path):
    found = replayed(tmp_path, shown("ADDED", "shop", 1, 10), shown("ADDED", "other", 2, 11), absent("shop", 1, 20))
    assert types(found) == ["VPCSighted shop", "VPCSighted other", "VPCVanished shop"]
    gaps = found.judged.reading.gaps
    assert [(str(gap.key), gap.why) for gap in gaps] == [("vpc/shop", coverage.ABSENT)]


@pytest.mark.parametrize("first", [True, False])
def test_where_its_end_was_seen_or_another_bears_its_name_a_list_that_lacks_it_says_nothing_new(
    tmp_path: Path, first: bool
):
    ending = [shown("DELETED", "shop", 1, 12), absent("shop", 1, 20)]
    found = replayed(tmp_path, shown("ADDED", "shop", 1, 10), *(ending if first else ending[::-1]))
    assert types(found) == ["VPCSighted shop", "VPCRemoved shop"]
    again = replayed(tmp_path, shown("ADDED", "shop", 1, 10), shown("ADDED", "shop", 3, 15), absent("shop", 1, 20))
    assert types(again)[:3] == ["VPCSighted shop", "VPCVanished shop", "VPCSighted shop"]
    assert again.judged.reading.world.state(Key("vpc", "", "shop")) != GONE


def test_no_finding_is_made_of_an_end_that_nobody_saw(tmp_path: Path):
    """A VPC that was seen to go under its subnet leaves an orphan; one that a list lacks may have gone in any way."""
    subnet: dict[str, Any] = {"spec": {"vpc": "shop", "cidrBlock": "10.0.0.0/16", "protocol": "IPv4"}}
    beginning = [shown("ADDED", "shop", 1, 10), shown("ADDED", "net", 2, 11, "Subnet", **subnet)]
    later = shown("MODIFIED", "net", 2, 30, "Subnet", **subnet, status={"v4availableIPs": 3})
    seen = replayed(tmp_path, *beginning, shown("DELETED", "shop", 1, 20), later)
    assert [finding.name for finding in seen.with_status(OPEN)] == ["orphaned-subnet"]
    missed = replayed(tmp_path, *beginning, absent("shop", 1, 20), later)
    assert missed.with_status(OPEN) == []
