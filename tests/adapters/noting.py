"""An engine of which a test says what it finds: over the real file of changes, for those who are told of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from adapters.changes import Changes
from adapters.live import Live
from projections.findings.rule import HEALED, OPEN


class Noting(Live):
    """Knows what is found, and nothing else. Made again over the same path, it is the same after a restart."""

    def __init__(self, path: Path) -> None:
        self._changes = Changes(path)
        self._document: dict[str, Any] = {"findings": []}

    def finds(self, *findings: dict[str, Any]) -> None:
        """These are the findings from now on."""
        self._changes.note(findings, time.time_ns() // 1_000)
        self._document = {"findings": list(findings)}


def finding(name: str = "shop", status: str = OPEN, **more: Any) -> dict[str, Any]:
    """One, as `netledger findings -o json` has it as far as others are told of it."""
    resource = {"kind": "vpc", "namespace": None, "name": name, "uid": f"uid-{name}", **more.pop("resource", {})}
    healed = {"at": "2026-07-23T01:30:00.250000Z", "actor": "alice"} if status == HEALED else None
    return {
        "id": f"lost-update/{resource['kind']}/{name}/uid",
        "rule": "NL101",
        "name": "lost-update",
        "severity": "error",
        "status": status,
        "resource": resource,
        "since": {"at": "2026-07-23T01:24:03.329000Z", "actor": "bob"},
        "until": healed,
        "explanation": f"A write on {name} was lost.",
        "consequence": "Its status is wrong.",
        "repair": [{"run": "kubectl patch", "why": "puts it right"}],
        **more,
    }
