"""The last step of the generator: requests go in, lines of an `audit.k8s.io/v1` log come out.

Here are the clock, the audit IDs, the stages, who the actors are, and the small disorder of a real file (a
line in a hundred changes places with the next one). Who asks for what is decided in `cluster`, which keeps a
simulated cluster alive, and in `noise`, which supplies everything else that an API server logs.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

Json = dict[str, Any]

EPOCH: Final = 1_795_222_800_000_000
"""When every generated log begins, in microseconds: the hour of the recordings the shapes were taken from."""
SWAPPED: Final = 0.01
"""Share of lines that change places with the next: file order is not commit order in real logs either."""

_encode = msgspec.json.Encoder().encode


class Actor(NamedTuple):
    """Somebody who calls the API server: what `user`, `userAgent` and `annotations` of an audit event say."""

    user: msgspec.Raw
    user_agent: str
    annotations: msgspec.Raw


def _actor(
    name: str,
    uid: str,
    groups: list[str],
    user_agent: str,
    reason: str,
    *,
    allowed: bool = True,
    token: bool = False,
) -> Actor:
    user: Json = {"username": name, "uid": uid, "groups": groups}
    if token:  # a service account's token carries its own id
        user["extra"] = {"authentication.kubernetes.io/credential-id": [f"JTI={uid}"]}
    decision = "allow" if allowed else "forbid"
    annotations = {"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason}
    return Actor(msgspec.Raw(_encode(user)), user_agent, msgspec.Raw(_encode(annotations)))


def _binding(binding: str, role: str, subject: str) -> str:
    return f'RBAC: allowed by ClusterRoleBinding "{binding}" of ClusterRole "{role}" to {subject}'


def _manager(controller: str, uid: str) -> Actor:
    account = f"system:serviceaccount:kube-system:{controller}"
    return _actor(
        account,
        uid,
        ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        f"kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/8e16b12/{account}",
        _binding(
            f"system:controller:{controller}",
            f"system:controller:{controller}",
            f'ServiceAccount "{controller}/kube-system"',
        ),
        token=True,
    )


_KUBECTL = "kubectl/v1.32.4 (linux/amd64) kubernetes/4cb5f07"
_KUBELET = "kubelet/v1.36.2 (linux/amd64) kubernetes/98b3519"
_MANAGER = "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/8e16b12"

ALICE: Final = _actor(
    "alice",
    "uid-alice",
    ["network-admins", "system:authenticated"],
    _KUBECTL,
    _binding("network-admins", "network-admin", 'Group "network-admins"'),
)
BOB: Final = _actor(
    "bob",
    "uid-bob",
    ["tenant-bob", "system:authenticated"],
    _KUBECTL,
    _binding("tenant-network", "tenant-network", 'Group "tenant-bob"'),
)
BOB_FORBIDDEN: Final = _actor("bob", "uid-bob", ["tenant-bob", "system:authenticated"], _KUBECTL, "", allowed=False)
KUBE_OVN: Final = _actor(
    "system:serviceaccount:kube-system:ovn",
    "uid-sa-ovn",
    ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
    "kube-ovn-controller/v0.0.0 (linux/amd64) kubernetes/$Format",
    _binding("lab-controllers", "cluster-admin", 'ServiceAccount "ovn/kube-system"'),
)
SCHEDULER: Final = _actor(
    "system:kube-scheduler",
    "uid-sched",
    ["", "system:authenticated"],
    "kube-scheduler/v1.36.2 (linux/amd64) kubernetes/98b3519/scheduler",
    _binding("system:kube-scheduler", "system:kube-scheduler", 'User "system:kube-scheduler"'),
)
KUBELETS: Final = {
    node: _actor(
        f"system:node:{node}",
        f"uid-{node}",
        ["system:nodes", "system:authenticated"],
        _KUBELET,
        _binding("lab-controllers", "cluster-admin", 'Group "system:nodes"'),
    )
    for node in ("node1", "node2", "node3")
}
API_SERVER: Final = _actor(
    "system:apiserver",
    "b40800b1-9c5b-4ac5-b65b-53701f1d4400",
    ["system:authenticated", "system:masters"],
    "kube-apiserver/v1.36.2 (linux/amd64) kubernetes/8e16b12",
    "",
)
ADMIN: Final = _actor("admin", "uid-admin", ["system:masters", "system:authenticated"], _KUBECTL, "")
LEADER_ELECTION: Final = _actor(
    "admin", "uid-admin", ["system:masters", "system:authenticated"], f"{_MANAGER}/leader-election", ""
)
NAMESPACE_CONTROLLER: Final = _manager("namespace-controller", "c365b848-40ee-4f48-984e-e0e099677d1a")
STATEFULSET_CONTROLLER: Final = _manager("statefulset-controller", "uid-sa-sts")
REPLICASET_CONTROLLER: Final = _manager("replicaset-controller", "uid-sa-rs")
GARBAGE_COLLECTOR: Final = _manager("generic-garbage-collector", "4e577559-f287-4901-b799-3392436fae1b")
ENDPOINT_CONTROLLER: Final = _manager("endpoint-controller", "de03952d-ac72-41e1-8337-9600c5730595")
SLICE_CONTROLLER: Final = _manager("endpointslice-controller", "88cd8653-410b-4c57-bcb1-e1280f5e823e")


class AuditLog:
    """Writes at most `limit` lines to `out`, one request after the other.

    `pace` is the mean time between two requests in microseconds. With `received`, the audit policy keeps the
    RequestReceived stage, which doubles the lines of most requests.
    """

    def __init__(self, out: BinaryIO, random: Random, *, limit: int, pace: int, received: bool) -> None:
        self.lines = 0
        self.bytes = 0
        self._out = out
        self._random = random
        self._limit = limit
        self._pace = pace
        self._received = received
        self._held: bytes | None = None
        self._now = EPOCH
        self._request_time = ""
        self._second = -1
        self._second_text = ""

    @property
    def full(self) -> bool:
        """Whether `limit` lines are written."""
        return self.lines >= self._limit

    def begin(self) -> None:
        """A request comes in and is carried out: what it changes bears the clock's time from here on."""
        self._now += self._random.randrange(self._pace)
        self._request_time = self.microtime()
        self._now += 1 + self._random.randrange(self._pace)

    def time(self, later: int = 0) -> str:
        """Now, or `later` seconds later, as object timestamps say it: whole seconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now // 1_000_000 + later))

    def microtime(self) -> str:
        """Now, as audit timestamps say it: microseconds."""
        second, micro = divmod(self._now, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{micro:06d}Z"

    def uid(self) -> str:
        """A random (version 4) UUID."""
        digits = f"{self._random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def request(
        self,
        actor: Actor,
        verb: str,
        uri: str,
        reference: Json | None,
        *,
        level: str = "RequestResponse",
        status: Json | None = None,
        request: object = None,
        response: Json | None = None,
        long_running: bool = False,
        deprecated: bool = False,
    ) -> Json:
        """Writes the stages of the request that `begin` opened, and returns the last one's event.

        A `long_running` one (watch, exec) gets a ResponseStarted stage; its ResponseComplete is left to the
        caller, who passes what is returned here to `complete` when the time has come.
        """
        event: Json = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": level,
            "auditID": self.uid(),
            "stage": "RequestReceived",
            "requestURI": uri,
            "verb": verb,
            "user": actor.user,
            "sourceIPs": ["127.0.0.1"],
            "userAgent": actor.user_agent,
        }
        if reference is not None:
            event["objectRef"] = reference
        if self._received:
            stage = {
                **event,
                "requestReceivedTimestamp": self._request_time,
                "stageTimestamp": self._request_time,
            }
            if reference is not None:  # what only the body tells is not known yet
                unknown = ("uid", "resourceVersion", "name") if verb == "create" else ("uid", "resourceVersion")
                if "subresource" in reference:
                    unknown = unknown[:2]
                stage["objectRef"] = {key: value for key, value in reference.items() if key not in unknown}
            self._write(_encode(stage))
        event["stage"] = "ResponseComplete"
        event["responseStatus"] = status or {"metadata": {}, "code": 200}
        if request is not None:
            event["requestObject"] = request
        if response is not None:
            event["responseObject"] = response
        event["requestReceivedTimestamp"] = self._request_time
        event["stageTimestamp"] = self.microtime()
        event["annotations"] = actor.annotations
        if deprecated:
            event["annotations"] = msgspec.Raw(bytes(actor.annotations)[:-1] + b',"k8s.io/deprecated":"true"}')
        if long_running:
            event["stage"] = "ResponseStarted"
        self._write(_encode(event))
        return event

    def complete(self, event: Json) -> None:
        """The end of a long-running request, as of now."""
        self._now += 1 + self._random.randrange(self._pace)
        self._write(_encode({**event, "stage": "ResponseComplete", "stageTimestamp": self.microtime()}))

    def close(self) -> None:
        """Writes the line that was still waiting for its successor."""
        if self._held is not None:
            self._out.write(self._held)
            self._held = None

    def _write(self, line: bytes) -> None:
        if self.lines >= self._limit:
            return
        line = line.replace(b"&", b"\\u0026") + b"\n"  # as Go does; & occurs in strings only
        self.lines += 1
        self.bytes += len(line)
        if self._held is not None:
            self._out.write(line)
            self._out.write(self._held)
            self._held = None
        elif self._random.random() < SWAPPED:
            self._held = line
        else:
            self._out.write(line)
