"""Everything else that an API server logs: leases, watches, lists, gets, discovery, events, endpoint slices.

Nothing here touches what `cluster` looks after; it only takes revisions from the same counter. The rows of
`NOISE` are requests as the recordings show them. `audit_log` writes them.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final, NamedTuple

from benchmarks.api_server import ApiServer
from benchmarks.audit_log import (
    ADMIN,
    ALICE,
    API_SERVER,
    ENDPOINT_CONTROLLER,
    GARBAGE_COLLECTOR,
    KUBE_OVN,
    LEADER_ELECTION,
    SLICE_CONTROLLER,
    Actor,
    AuditLog,
    Json,
)
from benchmarks.cluster import TENANTS

OPEN_WATCHES: Final = 40
SERVICES: Final = 60


class Request(NamedTuple):
    """One kind of request.

    `weight` says how often it comes, relative to others; `{n}` is the number of a tenant or service, `{r}` a
    revision. With `revision` it writes; a `body` is made for those that write endpoints.
    """

    weight: int
    actor: Actor
    verb: str
    group: str
    resource: str
    name: str = ""
    namespace: str = ""
    query: str = ""
    code: int = 200
    revision: bool = False
    body: str = ""


_WATCH = "?allowWatchBookmarks=true&resourceVersion={r}&timeout=8m52s&timeoutSeconds=532&watch=true"
_CLUSTER_ROLES = ("system:controller:endpoint-controller", "system:kube-scheduler", "network-admin")

NOISE: Final = (
    Request(
        90,
        LEADER_ELECTION,
        "update",
        "coordination.k8s.io",
        "leases",
        "kube-controller-manager",
        "kube-system",
        "?timeout=5s",
        revision=True,
    ),
    Request(
        60,
        KUBE_OVN,
        "update",
        "coordination.k8s.io",
        "leases",
        "kube-ovn-controller",
        "kube-system",
        revision=True,
    ),
    Request(90, KUBE_OVN, "get", "coordination.k8s.io", "leases", "kube-ovn-controller", "kube-system"),
    Request(
        60,
        API_SERVER,
        "update",
        "coordination.k8s.io",
        "leases",
        "apiserver-ab12",
        "kube-system",
        revision=True,
    ),
    *(Request(50, API_SERVER, "get", "rbac.authorization.k8s.io", "clusterroles", role) for role in _CLUSTER_ROLES),
    *(
        Request(40, API_SERVER, "get", "rbac.authorization.k8s.io", "clusterrolebindings", role)
        for role in _CLUSTER_ROLES
    ),
    Request(40, API_SERVER, "list", "", "limitranges", namespace="tenant-{n}-0"),
    Request(60, GARBAGE_COLLECTOR, "get", "", ""),
    Request(40, ALICE, "get", "", ""),
    Request(40, ADMIN, "get", "kubeovn.io", "vpcs", "vpc-tenant-{n}"),
    Request(30, ALICE, "get", "kubeovn.io", "subnets", "net-tenant-{n}-1"),
    Request(8, ALICE, "get", "kubeovn.io", "subnets", "net-absent", code=404),
    Request(20, ALICE, "list", "kubeovn.io", "subnets", query="?limit=500"),
    Request(20, ALICE, "list", "kubeovn.io", "ips", query="?limit=500"),
    Request(12, ADMIN, "list", "", "pods", query="?limit=500"),
    Request(12, LEADER_ELECTION, "create", "", "events", namespace="tenant-{n}-0", code=201, revision=True),
    *(
        Request(22, KUBE_OVN, "watch", "kubeovn.io", resource, query=_WATCH)
        for resource in ("vpcs", "subnets", "ips", "iptables-eips", "iptables-fip-rules", "vpc-nat-gateways")
    ),
    *(
        Request(22, API_SERVER, "watch", "", resource, query=_WATCH)
        for resource in ("pods", "namespaces", "services", "configmaps", "nodes")
    ),
    Request(
        7,
        SLICE_CONTROLLER,
        "update",
        "discovery.k8s.io",
        "endpointslices",
        "svc-{n}-x7k2p",
        "shared",
        revision=True,
        body="EndpointSlice",
    ),
    Request(
        6,
        ENDPOINT_CONTROLLER,
        "update",
        "",
        "endpoints",
        "svc-{n}",
        "shared",
        revision=True,
        body="Endpoints",
    ),
)
_WEIGHTS: Final = tuple(request.weight for request in NOISE)


class Noise:
    """Sends requests of `NOISE` at random."""

    def __init__(self, api: ApiServer, random: Random) -> None:
        self._api = api
        self._log = api.log
        self._random = random
        self._watches: deque[Json] = deque()
        self._pods = [
            (f"web-{number:04d}", AuditLog.uid(self._log), f"10.80.{number // 200}.{number % 200 + 2}")
            for number in range(200)
        ]
        self._services = [AuditLog.uid(self._log) for _ in range(SERVICES)]

    def send(self) -> None:
        """One request of its own or, when too many watches are open, the end of the oldest."""
        if len(self._watches) > OPEN_WATCHES:
            self._log.complete(self._watches.popleft())
            return
        random = self._random
        row = random.choices(NOISE, _WEIGHTS)[0]
        number = random.randrange(SERVICES if row.body else TENANTS)
        name = row.name.replace("{n}", f"{number:02d}")
        namespace = row.namespace.replace("{n}", f"{number:02d}")
        self._log.begin()
        read = str(self._api.revision - random.randrange(50))
        revision = self._api.next_revision() if row.revision else read
        if not row.resource:  # discovery, which concerns no object
            uri = "/api" if random.random() < 0.5 else "/apis"
            self._log.request(row.actor, "get", uri, None, level="Metadata")
            return
        uri = f"/apis/{row.group}/v1" if row.group else "/api/v1"
        reference: Json = {"resource": row.resource}
        if namespace:
            uri += f"/namespaces/{namespace}"
            reference["namespace"] = namespace
        uri += f"/{row.resource}"
        if name:
            uri += f"/{name}"
            reference["name"] = name
        update = row.verb == "update"
        if update:
            reference["uid"] = self._services[number]
        if row.group:
            reference["apiGroup"] = row.group
        reference["apiVersion"] = "v1"
        if update:
            reference["resourceVersion"] = read
        status: Json = {"metadata": {}, "code": row.code}
        if row.code == 404:
            status = {
                "metadata": {},
                "status": "Failure",
                "message": f'{row.resource}.{row.group} "{name}" not found',
                "reason": "NotFound",
                "details": {"name": name, "group": row.group, "kind": row.resource},
                "code": 404,
            }
        stored = self._endpoints(row, name, namespace, number, revision) if row.body else None
        event = self._log.request(
            row.actor,
            row.verb,
            uri + row.query.replace("{r}", read),
            reference,
            level="RequestResponse" if stored else "Metadata",
            status=status,
            request=stored and {**stored, "metadata": {**stored["metadata"], "resourceVersion": read}},
            response=stored,
            long_running=row.verb == "watch",
            deprecated=row.body == "Endpoints",
        )
        if row.verb == "watch":
            self._watches.append(event)

    def _endpoints(self, row: Request, name: str, namespace: str, number: int, revision: str) -> Json:
        pods = self._random.sample(self._pods, self._random.randrange(1, 7))
        targets = [{"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid} for pod, uid, _address in pods]
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": self._services[number],
            "resourceVersion": revision,
            "creationTimestamp": "2026-11-21T00:48:41Z",
            "labels": {"kubernetes.io/service-name": f"svc-{number:02d}"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": self._log.time()},
        }
        if row.body == "Endpoints":
            addresses = [
                {"ip": address, "nodeName": "node1", "targetRef": target}
                for (_, _, address), target in zip(pods, targets, strict=True)
            ]
            subsets = [{"addresses": addresses, "ports": [{"port": 80, "protocol": "TCP"}]}]
            return {"kind": "Endpoints", "apiVersion": "v1", "metadata": metadata, "subsets": subsets}
        conditions = {"ready": True, "serving": True, "terminating": False}
        return {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": [address], "conditions": conditions, "targetRef": target, "nodeName": "node1"}
                for (_, _, address), target in zip(pods, targets, strict=True)
            ],
            "ports": [{"name": "", "protocol": "TCP", "port": 80}],
        }
