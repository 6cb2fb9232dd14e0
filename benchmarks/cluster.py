"""A small Kube-OVN cluster that does nothing wrong, one API request at a time.

Sixteen tenants, each a VPC with two subnets, two namespaces, pods with their IP objects and perhaps a NAT
gateway with external addresses, are built, used, torn down and built again, by requests to `api_server`. The
order of calls and the shape of their bodies are those of the clean recordings in tests/incidents/data
(`s0-control-order`, `s1-control-clean`, `s2-control-order`, `s4-control-ordered`); deleting an EIP or a
gateway, which no recording shows, follows Kube-OVN's source. A controller here always knows the present, so
no write is ever lost.

Some 450 objects are alive from the two thousandth operation on, whatever the length. Half of the pods come
back under their old names, as those of a StatefulSet do; the others, like a Deployment's, never do, so a
reader that cannot forget the dead will grow.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from random import Random
from typing import Final
from urllib.parse import quote_plus

import msgspec

from benchmarks.api_server import ApiServer
from benchmarks.audit_log import (
    ALICE,
    BOB,
    BOB_FORBIDDEN,
    KUBE_OVN,
    KUBELETS,
    NAMESPACE_CONTROLLER,
    REPLICASET_CONTROLLER,
    SCHEDULER,
    STATEFULSET_CONTROLLER,
    Actor,
    AuditLog,
    Json,
)

TENANTS: Final = 16
NETWORKS: Final = 2
PODS: Final = 8
"""At most, in one subnet."""
EXTERNAL_ADDRESSES: Final = 4
"""At most, of one NAT gateway."""
BUSY: Final = 3
"""So many tenants have something under way at the same time."""
FINALIZER: Final = "kubeovn.io/kube-ovn-controller"
EXTERNAL: Final = "ovn-vpc-external-network"
DELETE_OPTIONS: Final = {
    "kind": "DeleteOptions",
    "apiVersion": "meta.k8s.io/__internal",
    "propagationPolicy": "Background",
}
CREATE: Final = "?fieldManager=kubectl-create&fieldValidation=Strict"
APPLY: Final = "?fieldManager=kubectl-client-side-apply&fieldValidation=Strict"

Steps = Generator[None, None, None]
"""A piece of cluster life; every `next` is one request or a few that belong close together."""


@dataclass
class Network:
    """A subnet and the namespace bound to it. `used` maps the last octet of each address to its IP object."""

    subnet: Json
    prefix: str
    namespace: Json = field(default_factory=dict)
    used: dict[int, Json] = field(default_factory=dict)
    pods: list[Workload] = field(default_factory=list)
    next_octet: int = 2


@dataclass
class Workload:
    """A pod and its address."""

    pod: Json
    ip: Json
    octet: int
    mac: str
    node: str


@dataclass
class ExternalAddress:
    eip: Json
    octet: int
    fip: Json | None = None
    internal: str = ""

    @property
    def address(self) -> str:
        return f"192.168.100.{self.octet}"


@dataclass
class Gateway:
    """A NAT gateway, its pod of today and the addresses configured in it."""

    object_: Json
    name: str
    network: Network
    workload: Workload
    eips: list[ExternalAddress] = field(default_factory=list)


@dataclass
class Tenant:
    number: int
    vpc: Json | None = None
    networks: list[Network] = field(default_factory=list)
    gateway: Gateway | None = None
    remaining: int = 0
    """Activities until it is torn down."""

    @property
    def name(self) -> str:
        return f"tenant-{self.number:02d}"


class Cluster:
    """All that goes on; `run` is the whole life, a request or a few at each step, without end."""

    def __init__(self, log: AuditLog, random: Random) -> None:
        self.api = ApiServer(log)
        self._log = log
        self._random = random
        self._tenants = [Tenant(number) for number in range(TENANTS)]
        self._external_octets: set[int] = set()
        self._next_external = 11
        self._serial = 0
        self._default_subnet: Json = {}

    def run(self) -> Steps:
        """Never ends. A few tenants at a time are at work, and mostly the same one goes on."""
        yield from self._bootstrap()
        idle = list(self._tenants)
        self._random.shuffle(idle)
        at_work: list[tuple[Tenant, Steps]] = []
        current = 0
        while True:
            while len(at_work) < BUSY:
                tenant = idle.pop(self._random.randrange(len(idle)))
                at_work.append((tenant, self._activity(tenant)))
            if self._random.random() < 0.3:
                current = self._random.randrange(len(at_work))
            current %= len(at_work)
            tenant, steps = at_work[current]
            try:
                next(steps)
            except StopIteration:
                del at_work[current]
                idle.append(tenant)
            else:
                yield

    # The cluster as a whole

    def _bootstrap(self) -> Steps:
        vpc = self.api.create(KUBE_OVN, "Vpc", "ovn-cluster", {})
        self._patch_vpc_status(vpc, None)
        yield
        spec = {
            "cidrBlock": "10.16.0.0/16",
            "default": True,
            "excludeIps": ["10.16.0.1"],
            "gateway": "10.16.0.1",
            "natOutgoing": True,
            "protocol": "IPv4",
            "provider": "ovn",
            "vpc": "ovn-cluster",
        }
        self._default_subnet = self.api.create(KUBE_OVN, "Subnet", "ovn-default", spec)
        self._adopt(self._default_subnet)
        yield
        self.api.update(KUBE_OVN, self._default_subnet, spec={"enableLb": True, "gatewayType": "distributed"})
        self.api.patch_status(KUBE_OVN, self._default_subnet, self._ready() | self._usage("10.16", 65533, {}))
        self._patch_vpc_status(vpc, ["ovn-default"])
        yield
        spec = {
            "cidrBlock": "192.168.100.0/24",
            "gateway": "192.168.100.1",
            "protocol": "IPv4",
            "provider": f"{EXTERNAL}.kube-system",
        }
        external = self.api.create(ALICE, "Subnet", EXTERNAL, spec, self._applied("Subnet", EXTERNAL, spec), APPLY)
        self._adopt(external)
        yield

    def _activity(self, tenant: Tenant) -> Steps:
        """What a tenant does next."""
        if tenant.vpc is None:
            return self._build(tenant)
        if tenant.remaining == 0:
            return self._tear_down(tenant)
        tenant.remaining -= 1
        network = self._random.choice(tenant.networks)
        dice = self._random.random()
        gateway = tenant.gateway
        if dice < 0.12:
            return self._change_routes(tenant)
        if dice < 0.14:
            return self._passing_namespace(tenant)
        if dice < 0.15:
            return self._forbidden(network)
        if dice < 0.18:
            return self._resync(tenant)
        if gateway is not None and dice < 0.28:
            if dice < 0.19:
                return self._replace_gateway_pod(gateway)
            if dice < 0.22:
                if len(gateway.eips) < EXTERNAL_ADDRESSES:
                    return self._add_eip(tenant, gateway)
                return self._remove_eip(gateway, self._random.choice(gateway.eips))
            if gateway.eips:
                eip = self._random.choice(gateway.eips)
                return self._remove_fip(gateway, eip) if eip.fip else self._add_fip(tenant, gateway, eip)
        if len(network.pods) < self._random.randrange(PODS // 2, PODS + 1):
            return self._start_pod(tenant, network)
        return self._stop_pod(network, self._random.choice(network.pods))

    # A tenant

    def _build(self, tenant: Tenant) -> Steps:
        tenant.remaining = self._random.randrange(40, 160)
        vpc = tenant.vpc = self.api.create(
            ALICE,
            "Vpc",
            f"vpc-{tenant.name}",
            {"namespaces": [f"{tenant.name}-{index}" for index in range(NETWORKS)]},
            query=CREATE,
        )
        yield
        self.api.update(KUBE_OVN, vpc, metadata={"finalizers": [FINALIZER]})
        yield
        self._patch_vpc_status(vpc, None)
        yield
        for index in range(NETWORKS):
            yield from self._build_network(tenant, vpc, index)
        if tenant.number % 2 == 0:
            yield from self._build_gateway(tenant, tenant.networks[0])

    def _build_network(self, tenant: Tenant, vpc: Json, index: int) -> Steps:
        name = f"{tenant.name}-{index}"
        prefix = f"10.{20 + tenant.number}.{index}"
        spec = {
            "cidrBlock": f"{prefix}.0/24",
            "namespaces": [name],
            "protocol": "IPv4",
            "vpc": vpc["metadata"]["name"],
        }
        subnet_name = f"net-{name}"
        if tenant.number % 3:
            subnet = self.api.create(ALICE, "Subnet", subnet_name, spec, query=CREATE)
        else:
            applied = self._applied("Subnet", subnet_name, spec)
            subnet = self.api.create(ALICE, "Subnet", subnet_name, spec, applied, APPLY)
        network = Network(subnet, prefix)
        tenant.networks.append(network)
        yield
        self._adopt(network.subnet)
        yield
        defaults = {
            "enableLb": True,
            "excludeIps": [f"{prefix}.1"],
            "gateway": f"{prefix}.1",
            "gatewayType": "distributed",
            "provider": "ovn",
        }
        self.api.update(KUBE_OVN, network.subnet, spec=defaults)
        yield
        self.api.patch_status(KUBE_OVN, network.subnet, self._ready() | self._usage(prefix, 253, {}))
        yield
        self._patch_vpc_status(vpc, [each.subnet["metadata"]["name"] for each in tenant.networks])
        yield
        network.namespace = yield from self._create_namespace(name, network.subnet)

    def _tear_down(self, tenant: Tenant) -> Steps:
        vpc = tenant.vpc
        assert vpc is not None
        for network in tenant.networks:
            while network.pods:
                yield from self._stop_pod(network, network.pods[-1])
        if tenant.gateway is not None:
            yield from self._remove_gateway(tenant, tenant.gateway)
        while tenant.networks:
            network = tenant.networks[-1]
            yield from self._delete_namespace(network.namespace)
            self.api.delete(ALICE, network.subnet, DELETE_OPTIONS)
            yield
            self._release(network.subnet)
            tenant.networks.pop()
            self._patch_vpc_status(vpc, [each.subnet["metadata"]["name"] for each in tenant.networks])
            yield
        self.api.delete(ALICE, vpc, DELETE_OPTIONS)
        yield
        self.api.update(KUBE_OVN, vpc, metadata={"finalizers": None})
        tenant.vpc = None
        yield

    def _change_routes(self, tenant: Tenant) -> Steps:
        """A user changes the VPC's spec; the controller wakes and writes a status that says nothing new."""
        assert tenant.vpc is not None
        source = f"ip4.src==10.{20 + tenant.number}.{self._random.randrange(NETWORKS)}.0/24"
        route = {"priority": self._random.randrange(100, 30000), "match": source, "action": "allow"}
        stored = {"policyRoutes": [dict(sorted(route.items()))]}
        self.api.patch(
            ALICE,
            tenant.vpc,
            {"spec": {"policyRoutes": [route]}},
            spec=stored,
            query="?fieldManager=kubectl-patch",
        )
        yield
        self._patch_vpc_status(tenant.vpc, tenant.vpc["status"].get("subnets"))
        yield

    def _passing_namespace(self, tenant: Tenant) -> Steps:
        """A namespace of no VPC: it falls to the default subnet, and goes again."""
        namespace = yield from self._create_namespace(f"ci-{tenant.name}", self._default_subnet)
        yield from self._delete_namespace(namespace)

    def _resync(self, tenant: Tenant) -> Steps:
        """The controller goes through its subnets again and finds everything as it was."""
        for network in tenant.networks:
            self._patch_usage(network)
            yield

    def _forbidden(self, network: Network) -> Steps:
        name = network.subnet["metadata"]["name"]
        refusal = {
            "metadata": {},
            "status": "Failure",
            "message": f'subnets.kubeovn.io "{name}" is forbidden: User "bob" cannot patch resource '
            '"subnets" in API group "kubeovn.io" at the cluster scope',
            "reason": "Forbidden",
            "details": {"name": name, "group": "kubeovn.io", "kind": "subnets"},
            "code": 403,
        }
        self._log.begin()
        status = {"kind": "Status", "apiVersion": "v1", **refusal}
        self.api.answer(BOB_FORBIDDEN, "patch", network.subnet, status=refusal, response=status)
        yield

    # Namespaces

    def _create_namespace(self, name: str, subnet: Json) -> Generator[None, None, Json]:
        """Makes a namespace and has it annotated with the subnet; returns it."""
        self._log.begin()
        labels = {"kubernetes.io/metadata.name": name}
        body = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}}
        namespace: Json = {
            **body,
            "metadata": {
                "name": name,
                "uid": self._log.uid(),
                "resourceVersion": self.api.next_revision(),
                "creationTimestamp": self._log.time(),
                "labels": labels,
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        request = {**body, "spec": {}, "status": {"phase": "Active"}}
        self.api.answer(ALICE, "create", namespace, request=request, query=CREATE)
        self._log.begin()
        annotations = {
            "ovn.kubernetes.io/logical_switch": subnet["metadata"]["name"],
            "ovn.kubernetes.io/cidr": subnet["spec"]["cidrBlock"],
            "ovn.kubernetes.io/exclude_ips": ",".join(subnet["spec"]["excludeIps"]),
        }
        namespace["metadata"]["annotations"] = dict(sorted(annotations.items()))
        namespace["metadata"]["resourceVersion"] = self.api.next_revision()
        sent = {"metadata": {"annotations": {**annotations, "ovn.kubernetes.io/ip_pool": None}}}
        self.api.answer(KUBE_OVN, "patch", namespace, request=sent)
        yield
        return namespace

    def _delete_namespace(self, namespace: Json) -> Steps:
        metadata = namespace["metadata"]
        name = metadata["name"]
        self._log.begin()
        metadata["resourceVersion"] = self.api.next_revision()
        labels, annotations = metadata.pop("labels"), metadata.pop("annotations")
        metadata |= {"deletionTimestamp": self._log.time(), "labels": labels, "annotations": annotations}
        namespace["status"] = {"phase": "Terminating"}
        self.api.answer(ALICE, "delete", namespace)
        yield
        self._log.begin()
        self._log.request(
            NAMESPACE_CONTROLLER,
            "deletecollection",
            f"/api/v1/namespaces/{name}/pods",
            {"resource": "pods", "namespace": name, "apiVersion": "v1"},
            request=DELETE_OPTIONS,
            response={
                "kind": "PodList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": str(self.api.revision)},
                "items": [],
            },
        )
        yield
        self._log.begin()
        read = metadata["resourceVersion"]
        conditions = [
            {
                "type": type_,
                "status": "False",
                "lastTransitionTime": self._log.time(),
                "reason": reason,
                "message": message,
            }
            for type_, reason, message in _NAMESPACE_CONDITIONS
        ]
        namespace["status"] = {"phase": "Terminating", "conditions": conditions}
        body = {**namespace, "metadata": dict(metadata)}
        metadata["resourceVersion"] = self.api.next_revision()
        self.api.answer(NAMESPACE_CONTROLLER, "update", namespace, subresource="status", request=body, read=read)
        yield
        self._log.begin()
        namespace["spec"] = {}
        self.api.revision += 1
        self.api.answer(
            NAMESPACE_CONTROLLER,
            "update",
            namespace,
            subresource="finalize",
            request={**namespace, "status": {"phase": "Active"}},
            read=metadata["resourceVersion"],
        )
        yield

    # Pods and their addresses

    def _start_pod(self, tenant: Tenant, network: Network) -> Steps:
        namespace = network.namespace["metadata"]["name"]
        if self._random.random() < 0.5:
            taken = {each.pod["metadata"]["name"] for each in network.pods}
            name = next(f"db-{ordinal}" for ordinal in range(PODS + 1) if f"db-{ordinal}" not in taken)
            actor, labels = STATEFULSET_CONTROLLER, {"app": "db", "statefulset.kubernetes.io/pod-name": name}
        else:
            self._serial += 1
            name = f"web-7d9c5b8f64-{_suffix(self._serial)}"
            actor, labels = REPLICASET_CONTROLLER, {"app": "web", "pod-template-hash": "7d9c5b8f64"}
        if self._random.random() < 0.2:
            actor = BOB
        container = ("app", "registry.local/app:1.0")
        workload = self._create_pod(actor, namespace, name, labels, {}, container)
        network.pods.append(workload)
        yield
        self._bind(workload)
        yield
        workload.octet = self._free_octet(network)
        yield from self._allocate(tenant, network, workload)
        self._patch_usage(network)
        yield
        self._annotate(tenant, network, workload)
        yield
        self._run_pod(network, workload)
        yield

    def _stop_pod(self, network: Network, workload: Workload) -> Steps:
        network.pods.remove(workload)
        yield from self._delete_pod(BOB, workload)
        yield from self._free(network, workload)

    def _create_pod(
        self,
        actor: Actor,
        namespace: str,
        name: str,
        labels: Json,
        annotations: Json,
        container: tuple[str, str],
    ) -> Workload:
        self._log.begin()
        described = {"labels": labels, "annotations": annotations} if annotations else {"labels": labels}
        template = {
            "name": container[0],
            "image": container[1],
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
        spec = {
            "containers": [template],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        }
        request = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace, **described},
            "spec": {**spec, "enableServiceLinks": True},
            "status": {},
        }
        pod = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": self._log.uid(),
                "resourceVersion": self.api.next_revision(),
                "generation": 1,
                "creationTimestamp": self._log.time(),
                **described,
            },
            "spec": {
                **spec,
                "tolerations": _TOLERATIONS,
                "priority": 0,
                "enableServiceLinks": True,
                "preemptionPolicy": "PreemptLowerPriority",
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        }
        self.api.answer(actor, "create", pod, request=request, query=CREATE if actor is BOB else "")
        mac = ":".join(f"{self._random.randrange(256):02X}" for _ in range(3))
        return Workload(pod, {}, 0, f"00:00:00:{mac}", self._random.choice(tuple(KUBELETS)))

    def _bind(self, workload: Workload) -> None:
        """The scheduler gives the pod a node; the answer does not say that this was a revision too."""
        self._log.begin()
        pod = workload.pod
        pod["metadata"]["resourceVersion"] = self.api.next_revision()
        pod["spec"] = {**pod["spec"], "nodeName": workload.node}
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": self._log.time(),
        }
        pod["status"] = {"phase": "Pending", "conditions": [scheduled], "qosClass": "BestEffort"}
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        success = {"metadata": {}, "status": "Success", "code": 201}
        self.api.answer(
            SCHEDULER,
            "create",
            pod,
            subresource="binding",
            request={
                "kind": "Binding",
                "apiVersion": "v1",
                "metadata": {"name": name, "namespace": namespace},
                "target": {"kind": "Node", "name": workload.node},
            },
            response={"kind": "Status", "apiVersion": "v1", **success},
            status=success,
        )

    def _allocate(self, tenant: Tenant, network: Network, workload: Workload) -> Steps:
        """The pod's IP object, made in one call and given its finalizer in the next."""
        metadata = workload.pod["metadata"]
        address = f"{network.prefix}.{workload.octet}"
        subnet = network.subnet["metadata"]["name"]
        labels = {
            subnet: "",
            "ovn.kubernetes.io/ip_reserved": "false",
            "ovn.kubernetes.io/node-name": workload.node,
            "ovn.kubernetes.io/subnet": subnet,
        }
        spec = {
            "attachIps": [],
            "attachMacs": [],
            "attachSubnets": [],
            "containerID": "",
            "ipAddress": address,
            "macAddress": workload.mac,
            "namespace": metadata["namespace"],
            "nodeName": workload.node,
            "podName": metadata["name"],
            "podType": "",
            "subnet": subnet,
            "v4IpAddress": address,
            "v6IpAddress": "",
        }
        name = f"{metadata['name']}.{metadata['namespace']}"
        workload.ip = self.api.create(KUBE_OVN, "IP", name, spec, {"labels": labels})
        network.used[workload.octet] = workload.ip
        yield
        self._adopt(workload.ip)
        yield

    def _annotate(self, tenant: Tenant, network: Network, workload: Workload) -> None:
        assert tenant.vpc is not None
        annotations = {
            "ovn.kubernetes.io/ip_address": f"{network.prefix}.{workload.octet}",
            "ovn.kubernetes.io/mac_address": workload.mac,
            "ovn.kubernetes.io/cidr": f"{network.prefix}.0/24",
            "ovn.kubernetes.io/gateway": f"{network.prefix}.1",
            "ovn.kubernetes.io/logical_switch": network.subnet["metadata"]["name"],
            "ovn.kubernetes.io/pod_nic_type": "veth-pair",
            "ovn.kubernetes.io/allocated": "true",
            "ovn.kubernetes.io/logical_router": tenant.vpc["metadata"]["name"],
        }
        self._patch_annotations(workload.pod, annotations)

    def _patch_annotations(self, pod: Json, annotations: Json) -> None:
        self._log.begin()
        merged = {**pod["metadata"].get("annotations", {}), **annotations}
        pod["metadata"]["annotations"] = dict(sorted(merged.items()))
        pod["metadata"]["resourceVersion"] = self.api.next_revision()
        self.api.answer(KUBE_OVN, "patch", pod, request={"metadata": {"annotations": annotations}})

    def _run_pod(self, network: Network, workload: Workload) -> None:
        self._log.begin()
        pod = workload.pod
        now = self._log.time()
        address = f"{network.prefix}.{workload.octet}"
        ready = {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
        container = {
            "name": pod["spec"]["containers"][0]["name"],
            "ready": True,
            "started": True,
            "restartCount": 0,
            "image": "registry.local/app:1.0",
            "imageID": "sha256:0",
            "state": {"running": {"startedAt": now}},
        }
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "127.0.0.1",
            "startTime": now,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            "containerStatuses": [container],
        }
        pod["status"] = {
            **status,
            "conditions": [ready, *pod["status"]["conditions"]],
            "containerStatuses": [{**container, "lastState": {}}],
            "qosClass": "BestEffort",
        }
        pod["metadata"]["resourceVersion"] = self.api.next_revision()
        self.api.answer(KUBELETS[workload.node], "patch", pod, subresource="status", request={"status": status})

    def _delete_pod(self, actor: Actor, workload: Workload) -> Steps:
        """Marked with thirty seconds of grace; stopped; then removed by its kubelet with none."""
        pod = workload.pod
        metadata = pod["metadata"]
        kubelet = KUBELETS[workload.node]
        self._log.begin()
        metadata["resourceVersion"] = self.api.next_revision()
        metadata["generation"] = 2
        labels, annotations = metadata.pop("labels"), metadata.pop("annotations")
        metadata["deletionTimestamp"] = self._log.time(later=30)
        metadata["deletionGracePeriodSeconds"] = 30
        metadata |= {"labels": labels, "annotations": annotations}
        self.api.answer(actor, "delete", pod, request=DELETE_OPTIONS)
        yield
        self._log.begin()
        metadata["resourceVersion"] = self.api.next_revision()
        pod["status"] = {**pod["status"], "phase": "Succeeded"}
        self.api.answer(kubelet, "patch", pod, subresource="status", request={"status": {"phase": "Succeeded"}})
        yield
        self._log.begin()
        self.api.revision += 1
        metadata["resourceVersion"] = self.api.next_revision()
        metadata["deletionTimestamp"] = self._log.time()
        metadata["deletionGracePeriodSeconds"] = 0
        options = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal", "gracePeriodSeconds": 0}
        self.api.answer(kubelet, "delete", pod, request=options)
        yield

    def _free(self, network: Network, workload: Workload) -> Steps:
        """The address of a pod that is gone."""
        self.api.delete(KUBE_OVN, workload.ip, None)
        yield
        self._release(workload.ip)
        del network.used[workload.octet]
        yield
        self._patch_usage(network)
        yield

    def _free_octet(self, network: Network) -> int:
        octet = network.next_octet
        while octet in network.used:
            octet = octet + 1 if octet < 250 else 2
        network.next_octet = octet + 1 if octet < 250 else 2
        return octet

    # NAT gateways

    def _build_gateway(self, tenant: Tenant, network: Network) -> Steps:
        assert tenant.vpc is not None
        name = f"gw-{tenant.name}"
        spec = {
            "externalSubnets": [EXTERNAL],
            "lanIp": f"{network.prefix}.254",
            "selector": ["kubernetes.io/os: linux"],
            "subnet": network.subnet["metadata"]["name"],
            "vpc": tenant.vpc["metadata"]["name"],
        }
        applied = self._applied("VpcNatGateway", name, spec)
        stored = dict(sorted({**spec, "replicas": 1}.items()))
        gateway_object = self.api.create(ALICE, "VpcNatGateway", name, stored, applied, APPLY)
        yield
        workload = self._create_gateway_pod(name, network)
        workload.octet = 254
        tenant.gateway = gateway = Gateway(gateway_object, name, network, workload)
        self._bind(workload)
        yield
        yield from self._allocate(tenant, network, workload)
        self._patch_usage(network)
        self._annotate(tenant, network, workload)
        self._run_pod(network, workload)
        yield
        self._script(gateway, "init")
        self._patch_annotations(workload.pod, {"ovn.kubernetes.io/vpc_nat_gw_init": "true"})
        yield

    def _create_gateway_pod(self, name: str, network: Network) -> Workload:
        pod_name = f"vpc-nat-gw-{name}-0"
        labels = {
            "app": f"vpc-nat-gw-{name}",
            "ovn.kubernetes.io/vpc-nat-gw": "true",
            "statefulset.kubernetes.io/pod-name": pod_name,
        }
        annotations = {
            "k8s.v1.cni.cncf.io/networks": f"kube-system/{EXTERNAL}",
            "ovn.kubernetes.io/ip_address": f"{network.prefix}.254",
            "ovn.kubernetes.io/logical_switch": network.subnet["metadata"]["name"],
            "ovn.kubernetes.io/vpc_nat_gw": name,
        }
        container = ("vpc-nat-gw", "docker.io/kubeovn/vpc-nat-gateway:v1.13.4")
        return self._create_pod(STATEFULSET_CONTROLLER, "kube-system", pod_name, labels, annotations, container)

    def _replace_gateway_pod(self, gateway: Gateway) -> Steps:
        """The pod dies and comes back empty; every address is configured again, and each FIP after its EIP.

        One step: as in the recordings, the controller is back within a fraction of a second.
        """
        old = gateway.workload
        for _ in self._delete_pod(ALICE, old):
            pass
        workload = self._create_gateway_pod(gateway.name, gateway.network)
        workload.octet, workload.mac, workload.ip = old.octet, old.mac, old.ip
        workload.node = self._random.choice([node for node in KUBELETS if node != old.node])
        gateway.workload = workload
        self._bind(workload)
        labels = {**workload.ip["metadata"]["labels"], "ovn.kubernetes.io/node-name": workload.node}
        self.api.update(KUBE_OVN, workload.ip, metadata={"labels": labels}, spec={"nodeName": workload.node})
        taken_over = {
            key: value
            for key, value in old.pod["metadata"]["annotations"].items()
            if key != "ovn.kubernetes.io/vpc_nat_gw_init"
        }
        self._patch_annotations(workload.pod, taken_over)
        self._run_pod(gateway.network, workload)
        self._script(gateway, "init")
        self._patch_annotations(workload.pod, {"ovn.kubernetes.io/vpc_nat_gw_init": "true"})
        redo = self._log.time()[:-1]
        for each in gateway.eips:
            self.api.patch_status(KUBE_OVN, each.eip, {**self._eip_status(each), "ready": False, "redo": redo})
            if each.fip:
                self.api.patch_status(KUBE_OVN, each.fip, {**each.fip["status"], "ready": False, "redo": redo})
        for each in gateway.eips:
            self._script(gateway, "eip-add", f"{each.address}/24")
            self.api.patch_status(KUBE_OVN, each.eip, {**each.eip["status"], "ready": True})
            if each.fip:
                self._script(gateway, "floating-ip-add", f"{each.address},{each.internal}")
                self.api.patch_status(KUBE_OVN, each.fip, {**each.fip["status"], "ready": True})
        yield

    def _remove_gateway(self, tenant: Tenant, gateway: Gateway) -> Steps:
        while gateway.eips:
            yield from self._remove_eip(gateway, gateway.eips[-1])
        self.api.delete(ALICE, gateway.object_, DELETE_OPTIONS)
        yield
        yield from self._delete_pod(STATEFULSET_CONTROLLER, gateway.workload)
        yield from self._free(gateway.network, gateway.workload)
        tenant.gateway = None

    def _script(self, gateway: Gateway, command: str, argument: str = "") -> None:
        """Kube-OVN runs nat-gateway.sh in the gateway's pod; the audit log has it in the URL of an exec."""
        script = f"bash /kube-ovn/nat-gateway.sh {command} {argument}".rstrip()
        words = "&".join(f"command={quote_plus(word)}" for word in ("/bin/bash", "-c", script))
        self._log.begin()
        started = self.api.answer(
            KUBE_OVN,
            "create",
            gateway.workload.pod,
            subresource="exec",
            query=f"?{words}&container=vpc-nat-gw&stderr=true&stdout=true",
            status={"metadata": {}, "code": 101},
            long_running=True,
        )
        self._log.complete(started)

    def _add_eip(self, tenant: Tenant, gateway: Gateway) -> Steps:
        octet = self._next_external
        while octet in self._external_octets:
            octet = octet + 1 if octet < 250 else 11
        self._next_external = octet + 1 if octet < 250 else 11
        self._external_octets.add(octet)
        spec = {"externalSubnet": EXTERNAL, "natGwDp": gateway.name}
        eip = self.api.create(ALICE, "IptablesEIP", f"eip-{octet}", spec, query=CREATE)
        each = ExternalAddress(eip, octet)
        yield
        self._script(gateway, "eip-add", f"{each.address}/24")
        gateway.eips.append(each)
        mac = f"00:00:00:AA:BB:{octet:02X}"
        self.api.update(KUBE_OVN, eip, spec={"macAddress": mac, "v4ip": each.address})
        self.api.patch_status(KUBE_OVN, eip, self._eip_status(each))
        yield
        labels = {
            "ovn.kubernetes.io/subnet": EXTERNAL,
            "ovn.kubernetes.io/vpc-nat-gw-name": gateway.name,
            "ovn.kubernetes.io/eip_v4_ip": each.address,
        }
        self._json_patch(eip, "labels", labels)
        yield
        self._adopt(eip)
        yield
        if self._random.random() < 0.5:
            yield from self._add_fip(tenant, gateway, each)

    def _remove_eip(self, gateway: Gateway, each: ExternalAddress) -> Steps:
        if each.fip:
            yield from self._remove_fip(gateway, each)
        self.api.delete(ALICE, each.eip, DELETE_OPTIONS)
        yield
        self._script(gateway, "eip-del", f"{each.address}/24")
        self._release(each.eip)
        gateway.eips.remove(each)
        self._external_octets.remove(each.octet)
        yield

    def _add_fip(self, tenant: Tenant, gateway: Gateway, each: ExternalAddress) -> Steps:
        each.internal = f"{gateway.network.prefix}.{self._random.randrange(2, 250)}"
        spec = {"eip": each.eip["metadata"]["name"], "internalIp": each.internal}
        fip = self.api.create(BOB, "IptablesFIPRule", f"fip-{each.octet}", spec, query=CREATE)
        yield
        self._script(gateway, "floating-ip-add", f"{each.address},{each.internal}")
        each.fip = fip
        status = {
            "ready": True,
            "v4ip": each.address,
            "v6ip": "",
            "natGwDp": gateway.name,
            "redo": "",
            "internalIp": each.internal,
        }
        self.api.patch_status(KUBE_OVN, fip, status)
        yield
        labels = {
            "ovn.kubernetes.io/vpc-nat-gw-name": gateway.name,
            "ovn.kubernetes.io/eip_v4_ip": each.address,
        }
        self._json_patch(fip, "labels", labels)
        self._json_patch(fip, "annotations", {"ovn.kubernetes.io/vpc_eip": each.eip["metadata"]["name"]})
        yield
        self._adopt(fip)
        self.api.patch_status(KUBE_OVN, each.eip, self._eip_status(each))
        yield

    def _remove_fip(self, gateway: Gateway, each: ExternalAddress) -> Steps:
        fip = each.fip
        assert fip is not None
        self.api.delete(BOB, fip, DELETE_OPTIONS)
        yield
        self._script(gateway, "floating-ip-del", f"{each.address},{each.internal}")
        self._release(fip)
        each.fip = None
        self.api.patch_status(KUBE_OVN, each.eip, self._eip_status(each))
        yield

    @staticmethod
    def _eip_status(each: ExternalAddress) -> Json:
        redo = each.eip.get("status", {}).get("redo", "")
        return {
            "ready": True,
            "ip": each.address,
            "redo": redo,
            "nat": "fip" if each.fip else "",
            "qosPolicy": "",
        }

    # What the controller writes everywhere

    def _adopt(self, object_: Json) -> None:
        self.api.patch(
            KUBE_OVN, object_, {"metadata": {"finalizers": [FINALIZER]}}, metadata={"finalizers": [FINALIZER]}
        )

    def _release(self, object_: Json) -> None:
        self.api.patch(KUBE_OVN, object_, {"metadata": {"finalizers": None}}, metadata={"finalizers": None})

    def _json_patch(self, object_: Json, field_: str, value: Json) -> None:
        body = [{"op": "add", "path": f"/metadata/{field_}", "value": value}]
        self.api.patch(KUBE_OVN, object_, body, metadata={field_: dict(sorted(value.items()))})

    def _patch_vpc_status(self, vpc: Json, subnets: list[str] | None) -> None:
        default = vpc["metadata"]["name"] == "ovn-cluster"
        status: Json = {
            "standby": True,
            "default": default,
            "defaultLogicalSwitch": "ovn-default" if default else "",
            "router": vpc["metadata"]["name"],
            "tcpLoadBalancer": "",
            "udpLoadBalancer": "",
            "sctpLoadBalancer": "",
            "tcpSessionLoadBalancer": "",
            "udpSessionLoadBalancer": "",
            "sctpSessionLoadBalancer": "",
            "subnets": subnets,
            "vpcPeerings": None,
            "enableExternal": False,
            "extraExternalSubnets": None,
            "enableBfd": False,
        }
        self.api.patch_status(KUBE_OVN, vpc, status)

    def _patch_usage(self, network: Network) -> None:
        available = 253 - len(network.used)
        self.api.patch_status(KUBE_OVN, network.subnet, self._usage(network.prefix, available, network.used))

    def _ready(self) -> Json:
        now = self._log.time()
        return {
            "conditions": [
                {
                    "lastTransitionTime": now,
                    "lastUpdateTime": now,
                    "reason": "ReconcileDone",
                    "status": "True",
                    "type": type_,
                }
                for type_ in ("Validated", "Ready")
            ]
        }

    @staticmethod
    def _usage(prefix: str, available: int, used: dict[int, Json]) -> Json:
        whole = f"{prefix}.2-{prefix}.254" if prefix.count(".") == 2 else f"{prefix}.0.2-{prefix}.255.254"
        return {
            "v4availableIPs": available,
            "v4availableIPrange": whole,
            "v4usingIPs": len(used),
            "v4usingIPrange": ",".join(f"{prefix}.{octet}" for octet in sorted(used)),
            "v6availableIPs": 0,
            "v6availableIPrange": "",
            "v6usingIPs": 0,
            "v6usingIPrange": "",
            "activateGateway": "",
            "dhcpV4OptionsUUID": "",
            "dhcpV6OptionsUUID": "",
            "u2oInterconnectionIP": "",
            "u2oInterconnectionMAC": "",
            "u2oInterconnectionVPC": "",
            "natOutgoingPolicyRules": None,
            "mcastQuerierIP": "",
            "mcastQuerierMAC": "",
        }

    @staticmethod
    def _applied(kind: str, name: str, spec: Json) -> Json:
        """The annotation that `kubectl apply` leaves."""
        body = {
            "apiVersion": "kubeovn.io/v1",
            "kind": kind,
            "metadata": {"annotations": {}, "name": name},
            "spec": spec,
        }
        text = msgspec.json.encode(body).decode() + "\n"
        return {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}}


def _suffix(serial: int) -> str:
    """Five letters as a ReplicaSet would append; different for every serial below fourteen million."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    letters = []
    for _ in range(5):
        serial, digit = divmod(serial, len(alphabet))
        letters.append(alphabet[digit])
    return "".join(letters)


_TOLERATIONS: Final = [
    {
        "key": f"node.kubernetes.io/{key}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for key in ("not-ready", "unreachable")
]
_NAMESPACE_CONDITIONS: Final = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
)
