"""What is remembered of a cluster is in proportion to what lives in it and to what was wrong, not to what ever lived."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import reading_codec
from domain import world
from domain.events import Event
from domain.kinds import VOCABULARY
from domain.operations import DELETION, FINALIZERS, OrderKey
from domain.resources import FINALIZER, Key
from projections.findings import ready_without_configuration
from projections.reading import Reading
from tests.domain.stories import CONTROLLER, KUBELET

PODS = 10_000
NAMESPACE_PODS = 50
KEPT = 100
"""Of how many that are gone the world remembers the names, and of how many pods the rules: less than in the field."""


class Cluster:
    """Pods come and go, and so does everything else, now and then; two of each ten are only seen to be there no more."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._number = 0
        self._vpc, self._subnet = Key("vpc", "", "shop"), Key("subnet", "", "net")
        self._begins(self._vpc, {FINALIZERS: [FINALIZER]})
        self._begins(self._subnet, {"spec.vpc": "shop", "spec.provider": "ovn"}, self._vpc)

    def pods(self, first: int, count: int) -> None:
        """So many come and go."""
        for number in range(first, first + count):
            space = f"ns-{number // NAMESPACE_PODS}"
            if number % NAMESPACE_PODS == 0:
                self._neighbours(number, space)
            pod, ip = Key("pod", space, f"web-{number}"), Key("ip", "", f"web-{number}.{space}")
            self._begins(pod, {"status.phase": "Pending"})
            self._event("PodBound", pod, {"spec.nodeName": "worker-1"})
            self._event("PodStatusReported", pod, {"status.podIP": "10.0.0.2"}, actor=KUBELET)
            address = {"spec.subnet": "net", "spec.v4IpAddress": "10.0.0.2", "spec.podName": pod.name}
            self._begins(ip, {**address, "spec.namespace": space, FINALIZERS: [FINALIZER]}, self._subnet, pod)
            self._event("SubnetStatusReported", self._subnet, {"status.v4usingIPs": number % 7}, self._vpc)
            self._event("PodDeletionRequested", pod, {DELETION: "2026"}, self._subnet)
            self._ends(pod, self._subnet, unseen=number % 10 == 0)
            self._ends(ip, self._subnet, pod, unseen=number % 10 == 1)
            if number % NAMESPACE_PODS == NAMESPACE_PODS - 1:
                for kind in ("service", "endpoints", "networkpolicy"):
                    self._ends(Key(kind, space, "shop"), unseen=number % 100 < 50)
                self._ends(Key("namespace", "", space))

    def _neighbours(self, number: int, space: str) -> None:
        self._begins(Key("namespace", "", space), {})
        self._event("NamespaceBound", Key("namespace", "", space), {"metadata.annotations[ovn]": "net"})
        for kind in ("service", "endpoints", "networkpolicy"):
            self._begins(Key(kind, space, "shop"), {"spec.clusterIP": "10.96.0.1"})
        gateway, pod = Key("nat-gateway", "", f"gw-{number}"), Key("pod", "kube-system", f"vpc-nat-gw-gw-{number}-0")
        eip, fip = Key("eip", "", f"eip-{number}"), Key("fip", "", f"fip-{number}")
        labels = {
            "metadata.labels[app]": f"vpc-nat-gw-gw-{number}",
            "metadata.labels[ovn.kubernetes.io/vpc-nat-gw]": "true",
        }
        self._begins(gateway, {"spec.vpc": "shop"})
        self._begins(pod, labels, gateway)
        self._begins(eip, {"spec.natGwDp": gateway.name, "spec.v4ip": "1.1.1.1"}, gateway)
        self._event("GatewayCommandStarted", pod, {"command[0]": "eip-add 1.1.1.1/24"}, gateway)
        self._begins(fip, {"spec.eip": eip.name}, eip)
        self._event("EIPStatusReported", eip, {"status.nat": "fip"})
        for key in (eip, fip) if number % 100 else (fip, eip):
            self._ends(key, eip)
        self._ends(pod, gateway)
        self._ends(gateway)
        vpc, subnet = Key("vpc", "", f"vpc-{number}"), Key("subnet", "", f"subnet-{number}")
        ip = Key("ip", "", f"left.{number}")
        self._begins(vpc, {FINALIZERS: [FINALIZER]})
        self._begins(subnet, {"spec.vpc": "elsewhere", "spec.provider": "ovn"}, vpc)
        self._event("SubnetSpecChanged", subnet, {"spec.vpc": vpc.name}, vpc)
        self._begins(ip, {"spec.subnet": subnet.name, "spec.v4IpAddress": "10.1.0.2"}, subnet)
        self._event("VPCStatusReported", vpc, {"status.subnets": [subnet.name]}, subnet)
        self._ends(subnet, vpc, unseen=number % 100 < 50)
        self._ends(ip, subnet)
        self._event("VPCStatusReported", vpc, {"status.subnets": []})
        self._ends(vpc)
        node_set = Key("ipset", "worker-1", f"KUBE-SRC-{number}")
        self._begins(node_set, {"members": ["10.0.0.1"]})
        self._ends(node_set)

    def _begins(self, key: Key, fields: dict[str, Any], *named: Key) -> None:
        self._event(VOCABULARY[key.kind].begun, key, fields, *named)

    def _ends(self, key: Key, *named: Key, unseen: bool = False) -> None:
        vocabulary = VOCABULARY[key.kind]
        self._event(vocabulary.vanished if unseen else vocabulary.ended, key, {}, *named)

    def _event(self, type: str, key: Key, changed: dict[str, Any], *named: Key, actor: str = CONTROLLER) -> None:
        self._number += 1
        time = 1_800_000_000_000_000 + self._number * 50_000
        record = f"audit:{self._number:08x}@{time}/ResponseComplete"
        self.reading.apply(
            Event(
                type=type,
                key=key,
                record=record,
                time=time,
                received=time - 900,
                actor=actor,
                changed={path: (None, value) for path, value in changed.items()},
                uid=f"uid-{key.tag}",
                revision=self._number,
                order=OrderKey(self._number, 0, time, record),
                tags=(key.tag, *(one.tag for one in named)),
            )
        )

    def size(self) -> int:
        """Bytes of all that is remembered, but for what says where the log has lost something."""
        return len(reading_codec.packed(self.reading)[0])


def test_what_is_remembered_does_not_grow_with_what_ever_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "DEPARTED_KEPT", KEPT)
    monkeypatch.setattr(ready_without_configuration, "PODS_KEPT", KEPT)
    cluster = Cluster()
    cluster.pods(0, PODS)
    assert len(cluster.reading.world.live) == 2
    first = cluster.size()
    cluster.pods(PODS, PODS)
    second = cluster.size()
    assert second < 1.03 * first, f"{first} bytes after {PODS} pods, and {second} after twice as many"
