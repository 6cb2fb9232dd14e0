"""The state at a random time of a long ledger: how long it takes by checkpoints, and by folding from the beginning.

`build` appends a made-up log of so many events straight through the recorder: VPCs, subnets, pods and their addresses come,
are written to and go; every address names its subnet, every subnet its VPC. `measure` then asks for the state of one
resource and of the whole world at random times. `python -m benchmarks.moments EVENTS` prints what came out as JSON.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

from adapters.checkpoints import Checkpoints
from adapters.ledger import Ledger, Moment
from adapters.stores import codec
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from domain.events import OBSERVED, Changes, Event
from domain.operations import DELETION, FINALIZERS, UNCHANGED, OrderKey
from domain.resources import FINALIZER, Key
from domain.world import World

FIRST = 1_795_224_000_000_000
"""The time of the first event, in microseconds since 1970."""
APART = 40_000
"""Microseconds from one event to the next, on average."""
CONTROLLER = "system:serviceaccount:kube-system:ovn"
KUBELET = "system:node:worker-1"
BATCH_EVENTS = 20_000


class Life:
    """What goes on in a cluster of so many VPCs, subnets in each of them and pods in each of these."""

    def __init__(self, random: Random, vpcs: int, subnets: int, pods: int, *, labels: bool = False) -> None:
        """With `labels`, pods and addresses bear some, as kube-ovn and a Deployment put them on; some are one pod's own."""
        self._random = random
        self._labels = labels
        self._revision = 0
        self._time = FIRST
        self._vpcs = [Key("vpc", "", f"tenant-{number:03d}") for number in range(vpcs)]
        self._subnets = [
            (Key("subnet", "", f"{vpc.name}-net-{number}"), vpc) for vpc in self._vpcs for number in range(subnets)
        ]
        self._pods: list[tuple[Key, Key, tuple[Key, Key]]] = []
        self._most = vpcs * subnets * pods
        self._serial = 0

    def events(self) -> Iterator[Event]:
        """Without end."""
        for vpc in self._vpcs:
            yield self._event("VPCCreated", vpc, {"spec.staticRoutes": (None, [])})
            yield self._event("VPCFinalizerAdded", vpc, {FINALIZERS: (None, [FINALIZER])})
        for subnet, vpc in self._subnets:
            fields = {"spec.vpc": vpc.name, "spec.cidrBlock": "10.0.0.0/16", "spec.provider": "ovn"}
            yield self._event("SubnetCreated", subnet, {path: (None, value) for path, value in fields.items()}, vpc)
            yield self._event("SubnetFinalizerAdded", subnet, {FINALIZERS: (None, [FINALIZER])}, vpc)
        while True:
            chance = self._random.random()
            if len(self._pods) < self._most and (chance < 0.12 or len(self._pods) < self._most * 0.9):
                yield from self._begin()
            elif chance < 0.12:
                yield from self._end(self._pods.pop(self._random.randrange(len(self._pods))))
            elif chance < 0.3:
                subnet, vpc = self._random.choice(self._subnets)
                using = self._random.randrange(200)
                yield self._event("SubnetStatusReported", subnet, {"status.v4usingIPs": (using - 1, using)}, vpc)
            elif chance < 0.33:
                vpc = self._random.choice(self._vpcs)
                names = [subnet.name for subnet, of in self._subnets if of == vpc]
                yield self._event("VPCStatusReported", vpc, {"status.subnets": (None, names)})
            else:
                pod, ip, (subnet, vpc) = self._random.choice(self._pods)
                yield self._event(OBSERVED, pod, {"status.phase": ("Pending", "Running")}, actor=KUBELET)
                yield self._event(OBSERVED, ip, {}, subnet, vpc)

    def _begin(self) -> Iterator[Event]:
        self._serial += 1
        subnet, vpc = self._random.choice(self._subnets)
        pod = Key("pod", subnet.name, f"web-{self._serial:x}")
        ip = Key("ip", "", f"{pod.name}.{pod.namespace}")
        address = f"10.{self._serial >> 16 & 255}.{self._serial >> 8 & 255}.{self._serial & 255}"
        named = "metadata.annotations[ovn.kubernetes.io/{}]".format
        self._pods.append((pod, ip, (subnet, vpc)))
        made: Changes = {"status.phase": (None, "Pending"), "spec.nodeName": (None, "worker-1")}
        own = {"app": f"app-{self._serial % 40}", "pod-template-hash": f"{self._serial // 500:x}", "serial": pod.name}
        yield self._event("PodCreated", pod, {**made, **self._labelled(own)})
        yield self._event("PodNetworkAllocated", pod, {named("ip_address"): (None, address)}, subnet)
        fields = {"spec.subnet": subnet.name, "spec.v4IpAddress": address, "spec.podName": pod.name}
        allocated: Changes = {path: (None, value) for path, value in fields.items()}
        labels = {"ovn.kubernetes.io/subnet": subnet.name, "ovn.kubernetes.io/node-name": "worker-1", subnet.name: ""}
        yield self._event("IPAllocated", ip, {**allocated, **self._labelled(labels)}, subnet, vpc)

    def _labelled(self, labels: dict[str, str]) -> Changes:
        return {f"metadata.labels[{label}]": (None, value) for label, value in labels.items() if self._labels}

    def _end(self, gone: tuple[Key, Key, tuple[Key, Key]]) -> Iterator[Event]:
        pod, ip, (subnet, vpc) = gone
        yield self._event("PodDeletionRequested", pod, {DELETION: (None, "2026-11-21T01:24:04Z")}, subnet)
        yield self._event("PodRemoved", pod, {}, subnet, actor=KUBELET)
        yield self._event("IPReleased", ip, {}, subnet, vpc)

    def _event(self, type: str, key: Key, changed: Changes, *named: Key, actor: str = CONTROLLER) -> Event:
        self._revision += 1
        self._time += self._random.randrange(2 * APART)
        record = f"audit:{self._random.getrandbits(64):016x}-4709-8592-7ccf76953265/ResponseComplete"
        return Event(
            type=type, key=key, record=record, time=self._time, received=self._time - 900, actor=actor, changed=changed,
            uid=f"22a1bbf6-{key.tag}", revision=self._revision, order=OrderKey(self._revision, 0, self._time, record),
            operation="patch", tags=(key.tag, *(one.tag for one in named)), outcome=UNCHANGED if type == OBSERVED else "",
        )  # fmt: skip


def build(
    path: Path, events: int, *, vpcs: int = 20, subnets: int = 10, pods: int = 20, labels: bool = False
) -> list[Key]:
    """A ledger of so many events, at most 2 x `vpcs` x `subnets` x `pods` live resources beside these; their names."""
    life = Life(Random(7), vpcs, subnets, pods, labels=labels).events()
    names: dict[Key, None] = {}
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        while events:
            batch = [next(life) for _ in range(min(events, BATCH_EVENTS))]
            names.update(dict.fromkeys(event.key for event in batch))
            recorder.append([codec.encode(event) for event in batch])
            events -= len(batch)
    return list(names)


def measure(
    path: Path, names: list[Key], checkpoints_path: Path, *, questions: int = 300, worlds: int = 20
) -> dict[str, Any]:
    """Seconds, and the ratio of the whole fold to an answer, both at random times."""
    random = Random(11)
    gc.freeze()  # as the command line does
    gc.set_threshold(50_000, 20, 50)
    with SQLiteFile(path, "read") as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)
        checkpoints = Checkpoints(checkpoints_path, ledger, recorder)
        making = timed(checkpoints.catch_up)
        whole = timed(lambda: whole_fold(ledger, None))
        span = ledger.event_at(1).event.time, ledger.event_at(ledger.count).event.time

        def some_time() -> Moment:
            return Moment(random.randrange(*span), None)

        def ask(known: list[Key]) -> float:
            key, moment = random.choice(known), some_time()
            return timed(lambda: checkpoints.resource_at(key, moment))

        kinds = {kind: [key for key in names if kind in ("any", key.kind)] for kind in ("any", "subnet", "vpc")}
        asked = {kind: [ask(known) for _ in range(questions)] for kind, known in kinds.items()}
        moments = [some_time() for _ in range(worlds)]
        near = [timed(partial(checkpoints.world_at, moment)) for moment in moments]
        far = [timed(partial(whole_fold, ledger, moment)) for moment in moments[:3]]
        return {
            "events": ledger.head,
            "live": len(checkpoints.world_at()[0].live),
            "ledger_bytes": path.stat().st_size,
            "checkpoints_bytes": checkpoints_path.stat().st_size,
            "making_seconds": making,
            "resource_seconds": {kind: spread(taken) for kind, taken in asked.items()},
            "world_seconds": spread(near),
            "fold_to_the_same_times_seconds": far,
            "fold_of_everything_seconds": whole,
            "ratio_to_the_same_times": sum(far) / sum(near[:3]),
            "ratio_to_everything": whole / median(near),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }  # fmt: skip


def whole_fold(ledger: Ledger, moment: Moment | None) -> World:
    """The world at a moment, from the first event on: what an answer is measured beside."""
    world = World()
    for placed in ledger.events():
        if moment is not None and moment.passed_by(placed):
            break
        world.evolve(placed.event, placed.at)
    return world


def spread(taken: list[float]) -> dict[str, float]:
    """The median and what 95 of 100 stay below."""
    return {"p50": median(taken), "p95": quantiles(taken, n=20)[-1]}


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(events: int) -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory(prefix="netledger-moments-") as folder:
        path = Path(folder) / "long.ledger"
        begun = time.perf_counter()
        names = build(path, events)
        built = time.perf_counter() - begun
        print(json.dumps({"build_seconds": built, **measure(path, names, Path(f"{path}.checkpoints"))}, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
