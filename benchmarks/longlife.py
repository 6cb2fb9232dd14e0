"""What a daemon pays for a past: how long it takes to say what is wrong, with so many faults that healed long ago.

A made-up log in which counts of addresses are overwritten and put right, and subnets lose their VPC and get it back, is
appended straight through the recorder, folded, and concluded as the live engine does it: the rules, the documents, what is
new. `python -m benchmarks.longlife [FAULTS ...]` prints what came out as JSON; a number of faults takes a process of its
own. `merge.py` measures the other thing that a long life needs memory for.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from adapters import finding_documents, report
from adapters.app import Outcome, Store
from adapters.changes import Changes
from adapters.finding_documents import Found, Packed
from adapters.judging import Judged
from adapters.ledger import Ledger
from adapters.ports import Backend
from adapters.stores import backends
from domain.events import Event
from domain.operations import OrderKey
from domain.resources import Key
from projections.findings.concluded import Concluded

FAULTS = (1_000, 10_000, 100_000)
SUBNETS = 200
FIRST = 1_795_224_000_000_000
"""The time of the first event, in microseconds since 1970."""
APART = 40_000
"""Microseconds from one event to the next."""
BATCH_EVENTS = 20_000
CONTROLLERS = ("system:serviceaccount:kube-system:ovn", "system:serviceaccount:kube-system:kube-router")
USING = "status.v4usingIPs"


class Past:
    """Faults that open and heal, on so many subnets in turn."""

    def __init__(self) -> None:
        self._revision = 0
        self._subnets = [Key("subnet", "", f"tenant-{number:03d}-net") for number in range(SUBNETS)]
        self._vpcs = [Key("vpc", "", f"tenant-{number:03d}") for number in range(SUBNETS)]

    def beginning(self) -> Iterator[Event]:
        """Subnets with a VPC and an address that came and went."""
        for subnet, vpc in zip(self._subnets, self._vpcs, strict=True):
            ip = Key("ip", "", f"web.{subnet.name}")
            yield self._event("VPCCreated", vpc, {"spec.staticRoutes": (None, [])})
            yield self._event(
                "SubnetCreated", subnet, {"spec.vpc": (None, vpc.name), "spec.provider": (None, "ovn")}, vpc
            )
            fields = {"spec.subnet": (None, subnet.name), "spec.v4IpAddress": (None, "10.0.0.2")}
            yield self._event("IPAllocated", ip, fields, subnet)
            yield self._event("SubnetStatusReported", subnet, {USING: (None, 1)}, vpc)
            yield self._event("IPReleased", ip, {}, subnet)
            yield self._event("SubnetStatusReported", subnet, {USING: (1, 0)}, vpc)

    def fault(self, number: int) -> Iterator[Event]:
        """One that opens, and heals: every tenth is an orphan, the others are lost updates."""
        subnet, vpc = self._subnets[number % SUBNETS], self._vpcs[number % SUBNETS]
        if number // SUBNETS % 10 == 0:
            yield self._event("SubnetOrphaned", subnet, {}, vpc)
            yield self._event("SubnetAdopted", subnet, {}, vpc)
        else:
            yield self._event("SubnetStatusReported", subnet, {USING: (0, 1)}, vpc, actor=CONTROLLERS[1])
            yield self._event("SubnetStatusReported", subnet, {USING: (1, 0)}, vpc)

    def _event(self, type: str, key: Key, changed: Any, *named: Key, actor: str = CONTROLLERS[0]) -> Event:
        self._revision += 1
        at = FIRST + self._revision * APART
        record = f"audit:5eafa12f-80a7-4549-9592-{self._revision * 7919:012x}@{at}/ResponseComplete"
        return Event(
            type=type, key=key, record=record, time=at, received=at - 900, actor=actor, changed=changed,
            uid=f"22a1bbf6-{key.tag}", revision=self._revision, order=OrderKey(self._revision, 0, at, record),
            operation="patch", tags=(key.tag, *(one.tag for one in named)),
        )  # fmt: skip


def measure(faults: int) -> dict[str, Any]:
    """Seconds and bytes, with so many faults that healed."""
    with tempfile.TemporaryDirectory(prefix="netledger-longlife-") as folder:
        path = Path(folder) / "long.ledger"
        with backends.opened(str(path), "write") as kept:
            return _measured(kept, path, faults)


def _measured(kept: Backend, path: Path, faults: int) -> dict[str, Any]:
    past = Past()
    ledger = Ledger(kept.recorder)
    judged = Judged()

    def happen(events: list[Event]) -> None:
        ledger.append(events)
        for event in events:
            judged.reading.apply(event)
            judged.last_time = event.time

    happen(list(past.beginning()))
    for first in range(0, faults, BATCH_EVENTS // 2):
        happen([e for number in range(first, min(first + BATCH_EVENTS // 2, faults)) for e in past.fault(number)])
    gc.collect()
    before = resident()
    concluded, changes = Concluded(), Changes(Path(f"{path}.changes"))
    store = Store(kept.container, kept.recorder, kept.journal, ledger)
    told = Found()

    def conclude() -> None:
        nonlocal told
        end = judged.last_time
        findings = judged.reading.conclude(end, lambda at: ledger.event_at(at).event, None, concluded)
        documents = finding_documents.documents(store, findings, told)
        report.verdict(store, Outcome([], judged, findings, end), documents)
        fresh = [entry.document for entry in findings.fresh if isinstance(entry.document, Packed)]
        changes.note(documents.now, end, over=fresh, gone=findings.gone, whole=not told)
        told = documents

    whole = timed(conclude)
    gc.collect()
    after = resident()
    again = [timed(conclude) for _ in range(9)]
    one_more = []
    for number in range(faults, faults + 9):
        happen(list(past.fault(number)))
        one_more.append(timed(conclude))
    opened = []
    for number in range(faults + 9, faults + 18):
        opens, heals = past.fault(number)
        happen([opens])
        opened.append(timed(conclude))
        happen([heals])
    assert len(told) > faults, len(told)
    return {
        "healed": faults,
        "events": ledger.head,
        "first_seconds": whole,
        "nothing_new_seconds": median(again),
        "one_healed_seconds": median(one_more),
        "one_opened_seconds": median(opened),
        "bytes_of_a_finding": (after - before) / faults,
    }


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def timed(work: Callable[[], None]) -> float:
    """Seconds of CPU time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main(faults: list[int]) -> None:
    """Measure each number of faults in a process of its own, print all."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        print(json.dumps([pool.apply(measure, (number,)) for number in faults], indent=2))


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or list(FAULTS))
