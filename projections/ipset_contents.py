"""What each ipset of a node should hold, member by member and because of what: kube-router's sets and Kube-OVN's.

A member is *due* where the log tells that it must be there, and *may* be there where the log cannot tell, or where
releases differ. A set is *complete* where every resource that could put something into it is known: only then is any
other member unlawful. The log may have begun long after the cluster, so a set rarely is, unless a source listed all
objects of a kind. Whose each set is, its name says: `domain.ipset_names`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from domain import endpoints, node, service
from domain.ipset_names import (
    FAMILIES,
    HASH_IP,
    HASH_IP_PORT,
    HASH_NET,
    IPV6,
    KUBE_OVN,
    LOCAL_IPS,
    LOCAL_PODS,
    NETPOL,
    NODE_IPS,
    POD_SUBNETS,
    PROXY,
    ROUTING,
    VIP_PORTS,
    VIP_PORTS_BEFORE_2,
    VIPS,
    VIPS_BEFORE_2,
    as_printed,
    family_of_address,
    kube_ovn_name,
    named,
)
from domain.resources import Key
from domain.world import Resource, World
from projections.ipset_contribution import Contribution, Known, Member, addresses_of_pod, mappings, of_family
from projections.ipset_policies import policy_sets

DEFAULT_VPC = "ovn-cluster"
"""The Vpc that Kube-OVN's daemon looks after (its flag cluster-router, which nearly nobody changes)."""

SKIP_LOAD_BALANCER = "metadata.annotations[kube-router.io/service.skiplbips]"
LOCAL = "metadata.annotations[kube-router.io/service.local]"
DIRECT_RETURN = "metadata.annotations[kube-router.io/service.dsr]"
PROXY_NAME = "metadata.labels[service.kubernetes.io/service-proxy-name]"
HEADLESS = "metadata.labels[service.kubernetes.io/headless]"


def should_contain(world: World, node: str, whole: Collection[str] = ()) -> dict[str, Contribution]:
    """What each set of `node` (a node's name) should hold by what the log tells, by the set's name.

    `whole` names the kinds of which some source showed all objects (a list, the beginning of a watch): of others, one
    may be there that the log never names. Sets that are not among the answer's names nothing is known of. The sets of
    services are given under both names that releases use; a policy's under those since 2.0 and before.
    """
    known = Known(world, whole)
    sets = [*_services(known, node), *_nodes(known), *_local(known, node), *policy_sets(known), *_kube_ovn(known, node)]
    return {one.name: one for one in sets}


# ---- proxy: addresses of services (kube-router: pkg/controllers/proxy, syncIpvsFirewall)


def _services(known: Known, node: str) -> Iterator[Contribution]:
    for family in FAMILIES:
        for vips_name, ports_name in ((VIPS, VIP_PORTS), (VIPS_BEFORE_2, VIP_PORTS_BEFORE_2)):
            vips = Contribution(name=named(vips_name, family), owner=PROXY, type=HASH_IP, family=family)
            ports = Contribution(name=named(ports_name, family), owner=PROXY, type=HASH_IP_PORT, family=family)
            for one in known.of("service"):
                _service(known, one, node, vips, ports)
            for contribution in (vips, ports):
                contribution.lacks(known.gap("service"))
                yield contribution


def _service(known: Known, resource: Resource, node: str, vips: Contribution, ports: Contribution) -> None:
    fields = resource.fields
    if not service.cluster_addresses(fields) or fields.get("spec.type") == "ExternalName" or HEADLESS in fields:
        return
    if fields.get(PROXY_NAME, "kube-router") != "kube-router":
        return  # another proxy's
    listed = [port for port in mappings(fields.get(service.PORTS)) if isinstance(port.get("port"), int)]
    # IPVS of older releases knows TCP and UDP only.
    usual = [port for port in listed if _protocol(port) in ("tcp", "udp")]
    for address, member in _addresses(known, resource, node) if listed else ():
        if family_of_address(address) == vips.family:
            text = as_printed(address)
            vips.put(text, member._replace(due=member.due and bool(usual)))
            for port in listed:
                ports.put(f"{text},{_protocol(port)}:{port['port']}", member._replace(due=member.due and port in usual))
    for port in listed:
        if isinstance(port.get("nodePort"), int):
            _node_port(known, resource, node, port, vips, ports)


def _addresses(known: Known, resource: Resource, node: str) -> Iterator[tuple[str, Member]]:
    """A Service's addresses, whether or not it has endpoints; a local Service's only where one on this node is ready.

    Releases differ on a cluster address of a local Service. Those from outside are skipped (setupExternalIPServices).
    """
    fields = resource.fields
    ready = _endpoints(known.world, resource.key)
    here = [where for where in ready or () if where[1] == node]
    local = fields.get(LOCAL) == "true"
    certain = not resource.blurred

    inside = local or fields.get("spec.internalTrafficPolicy") == "Local"
    for address in service.cluster_addresses(fields):
        due = certain and (bool(here) or not inside)
        yield address, Member(due, resource.key, f"{resource.key} has it as cluster address")

    only_here = local or fields.get("spec.externalTrafficPolicy") == "Local"
    if only_here and ready and not here and all(where for _, where in ready) and not known.gap("endpointslice"):
        return  # "Skipping setting up IPVS service for external IP and LoadBalancer IP"
    # With direct return IPVS knows a service by a mark, which older releases do not resolve to its address.
    due = certain and DIRECT_RETURN not in fields and (bool(here) or not only_here)
    but = "" if due or not certain or not only_here else ", and that an endpoint on this node is ready is not known"
    external = fields.get(service.EXTERNAL_IPS)
    for address in external if isinstance(external, list) else ():
        yield str(address), Member(due, resource.key, f"{resource.key} has it as external address{but}")
    balancer = fields.get(service.LOAD_BALANCER) if SKIP_LOAD_BALANCER not in fields else None
    for ingress in mappings(balancer.get("ingress") if isinstance(balancer, dict) else None):
        if given := ingress.get("ip"):
            yield str(given), Member(due, resource.key, f"{resource.key} has it from a load balancer{but}")


def _node_port(
    known: Known, resource: Resource, node_name: str, port: Mapping[str, Any], vips: Contribution, ports: Contribution
) -> None:
    """A port of the node is in IPVS too, on the node's address or, by a flag, on all that the host has."""
    this = known.world.get(Key("node", "", node_name))
    for address in node.addresses(this.fields) if this is not None else ():
        if family_of_address(address) == vips.family:
            member = Member(False, resource.key, f"{resource.key} has a port on every node")
            vips.put(as_printed(address), member)
            ports.put(f"{as_printed(address)},{_protocol(port)}:{port['nodePort']}", member)
    for contribution in (vips, ports):
        contribution.lacks(f"{resource.key} has a port on every node, by a flag on all addresses of the host")


def _endpoints(world: World, key: Key) -> list[tuple[str, str]] | None:
    """The ready addresses of a Service and their nodes, from its slices, else from its Endpoints; `None` if unknown."""
    sources = list(world.naming(key, "endpointslice"))
    if not sources and (one := world.get(Key("endpoints", key.namespace, key.name))) is not None:
        sources = [one]
    if not sources or any(source.blurred for source in sources):
        return None
    return [ready for source in sources for ready in endpoints.serving(source.key, source.fields)]


# ---- routing: nodes and their pod ranges (kube-router: pkg/controllers/routing, syncNodeIPSets)


def _nodes(known: Known) -> Iterator[Contribution]:
    for family in FAMILIES:
        ranges = Contribution(name=named(POD_SUBNETS, family), owner=ROUTING, type=HASH_NET, family=family)
        ips = Contribution(name=named(NODE_IPS, family), owner=ROUTING, type=HASH_IP, family=family)
        for one in known.of("node"):
            pod_ranges = node.pod_ranges(one.fields)
            for text in of_family(pod_ranges, family):
                ranges.put(text, Member(not one.blurred, one.key, f"pods on {one.key} have addresses of it"))
            for number, text in enumerate(of_family(node.addresses(one.fields), family)):
                # A node without a range is skipped; before 2.0 only the first address was taken.
                due = bool(pod_ranges) and not one.blurred and number == 0
                ips.put(text, Member(due, one.key, f"{one.key} has it"))
        for contribution in (ranges, ips):
            contribution.lacks(known.gap("node"))
            yield contribution


# ---- what is of this host alone


def _local(known: Known, name: str) -> Iterator[Contribution]:
    this = known.world.get(Key("node", "", name))
    for family in FAMILIES:
        ips = Contribution(name=named(LOCAL_IPS, family), owner=PROXY, type=HASH_IP, family=family)
        ips.lacks("what addresses the host has, no object of the API lists")
        if this is not None:
            for number, text in enumerate(of_family(node.addresses(this.fields), family)):
                ips.put(text, Member(not this.blurred and number == 0, this.key, f"{this.key} is this host"))
        key = Key("node", "", name)
        ips.put("::1" if family == IPV6 else "127.0.0.1", Member(False, key, "every host has it"))
        yield ips
        pods = Contribution(name=named(LOCAL_PODS, family), owner=NETPOL, type=HASH_IP, family=family)
        for one in known.of("pod"):
            if one.get("spec.nodeName") == name:
                for text in addresses_of_pod(one, family):
                    pods.put(text, Member(not one.blurred, one.key, f"{one.key} runs on this node"))
        pods.lacks(known.gap("pod"))
        yield pods


# ---- Kube-OVN's daemon (kube-ovn: pkg/daemon/gateway_linux.go, setIPSet)


def _kube_ovn(known: Known, name: str) -> Iterator[Contribution]:
    for family in FAMILIES:
        sets = {
            identity: Contribution(name=kube_ovn_name(identity, family), owner=KUBE_OVN, type=HASH_NET, family=family)
            for identity in ("subnets", "subnets-nat", "subnets-distributed-gw", "subnets-nat-policy", "other-node")
        }
        for subnet in known.of("subnet"):
            for identity, why in _sets_of_subnet(subnet):
                for text in of_family(str(subnet.get("spec.cidrBlock") or "").split(","), family):
                    # A subnet in deletion is left out by all but the first set, and not by all releases.
                    due = not subnet.blurred and not subnet.terminating
                    sets[identity].put(text, Member(due, subnet.key, f"{subnet.key} {why}"))
        for one in known.of("node"):
            if one.key.name != name:
                for text in of_family(node.addresses(one.fields, external=False), family):
                    sets["other-node"].put(text, Member(not one.blurred, one.key, f"{one.key} is another node"))
        for identity, contribution in sets.items():
            contribution.lacks(known.gap("node" if identity == "other-node" else "subnet"))
        sets["subnets"].lacks("a flag may add the address of the node's DNS cache")
        yield from sets.values()


def _sets_of_subnet(subnet: Resource) -> Iterator[tuple[str, str]]:
    if subnet.get("spec.vpc") != DEFAULT_VPC or (subnet.get("spec.vlan") and not subnet.get("spec.logicalGateway")):
        return
    yield "subnets", f"is an overlay subnet of {DEFAULT_VPC}"
    if subnet.get("spec.natOutgoing") is True:
        yield "subnets-nat", "has natOutgoing"
        if subnet.get("spec.natOutgoingPolicyRules"):
            yield "subnets-nat-policy", "has natOutgoing with rules of its own"
    if subnet.get("spec.gatewayType") == "distributed":
        yield "subnets-distributed-gw", "has distributed gateways"


# ---- shared


def _protocol(port: Mapping[str, Any]) -> str:
    return str(port.get("protocol") or "TCP").lower()
