"""What each ipset should hold: by kind of source, by what the log knows of it, and against a real controller's sets."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources.dialect import moment
from domain.ipset_names import (
    DESTINATION,
    IPV4,
    IPV6,
    SOURCE,
    named_port_set,
    owner_of,
    peer_set,
    set_type_of,
    target_set,
)
from domain.resources import Key
from domain.world import World
from projections.ipset_contents import should_contain
from projections.ipset_contribution import Contribution
from tests.domain.stories import Story
from tests.replaying import replayed

WHOLE = ("service", "endpointslice", "node", "pod", "namespace", "networkpolicy", "subnet")
HTTP = {"port": 80, "protocol": "TCP"}
SERVICE = "service/shop/web"
SLICE = "endpointslice/shop/web-1"
LABEL = {"metadata.labels[kubernetes.io/service-name]": "web"}
EXTERNAL = {"spec.clusterIP": "10.96.0.10", "spec.externalIPs": ["203.0.113.10"], "spec.ports": [HTTP]}


def sets(story: Story, node: str = "one", whole: tuple[str, ...] = WHOLE) -> dict[str, Contribution]:
    return should_contain(story.world, node, whole)


def told(contribution: Contribution) -> dict[str, bool]:
    """Each member, and whether it is due."""
    return {text: member.due for text, member in contribution.members.items()}


def ready(node: str = "one", state: bool = True) -> dict[str, Any]:
    return {"endpoints": [{"addresses": ["10.244.1.9"], "conditions": {"ready": state}, "nodeName": node}]}


# ---- services


def test_a_services_addresses_and_ports_are_due_under_the_names_of_all_releases():
    story = Story()
    ports = [HTTP, {"port": 53, "protocol": "UDP"}]
    story.given.create(SERVICE, {**EXTERNAL, "spec.ports": ports})
    found = sets(story)
    for vips, with_ports in (
        ("kube-router-svip", "kube-router-svip-prt"),
        ("kube-router-service-ips", "kube-router-ipvs-services"),
    ):
        assert told(found[vips]) == {"10.96.0.10": True, "203.0.113.10": True}
        assert told(found[with_ports]) == {
            f"{address},{port}": True for address in ("10.96.0.10", "203.0.113.10") for port in ("tcp:80", "udp:53")
        }
        assert found[vips].complete and found[vips].owner == "proxy"
        assert told(found[f"inet6:{vips}"]) == {}
    member = found["kube-router-svip"].members["203.0.113.10"]
    assert member.key == Key("service", "shop", "web")
    assert member.because == "service/shop/web has it as external address"


def test_a_dual_stack_service_has_its_address_in_the_set_of_each_family():
    story = Story()
    story.given.create(
        SERVICE,
        {"spec.clusterIP": "10.96.0.10", "spec.clusterIPs": ["10.96.0.10", "FD00:0::10"], "spec.ports": [HTTP]},
    )
    found = sets(story)
    assert told(found["kube-router-svip-prt"]) == {"10.96.0.10,tcp:80": True}
    assert told(found["inet6:kube-router-svip-prt"]) == {"fd00::10,tcp:80": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"spec.clusterIP": "None", "spec.externalIPs": ["203.0.113.10"], "spec.ports": [HTTP]},
        {"spec.type": "ExternalName", "spec.ports": [HTTP], "spec.externalIPs": ["203.0.113.10"]},
        {**EXTERNAL, "metadata.labels[service.kubernetes.io/headless]": ""},
        {**EXTERNAL, "metadata.labels[service.kubernetes.io/service-proxy-name]": "other"},
    ],
)
def test_a_service_that_kube_router_skips_has_no_address_in_any_set(fields):
    story = Story()
    story.given.create(SERVICE, fields)
    assert told(sets(story)["kube-router-svip"]) == {}
    assert told(sets(story)["kube-router-svip-prt"]) == {}


def test_a_load_balancers_addresses_are_due_unless_they_are_skipped():
    story = Story()
    story.given.create(SERVICE, {"spec.clusterIP": "10.96.0.10", "spec.ports": [HTTP]})
    story.given.status(SERVICE, {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"hostname": "lb.example"}]}})
    assert told(sets(story)["kube-router-svip"]) == {"10.96.0.10": True, "198.51.100.7": True}
    story.when.write(SERVICE, {"metadata.annotations[kube-router.io/service.skiplbips]": "true"})
    assert told(sets(story)["kube-router-svip"]) == {"10.96.0.10": True}


POLICY, ANNOTATION = "spec.externalTrafficPolicy", "metadata.annotations[kube-router.io/service.local]"


@pytest.mark.parametrize(
    ("local", "endpoints", "expected"),
    [
        ({}, None, True),
        ({}, ready(state=False), True),
        ({POLICY: "Cluster"}, ready("two"), True),
        ({POLICY: "Local"}, ready("one"), True),
        ({POLICY: "Local"}, ready("two"), None),
        ({POLICY: "Local"}, ready(""), False),
        ({POLICY: "Local"}, ready("one", state=False), False),
        ({POLICY: "Local"}, None, False),
        ({ANNOTATION: "true"}, ready("one"), True),
        ({ANNOTATION: "true"}, ready("two"), None),
    ],
)
def test_an_external_address_of_a_local_service_is_due_where_an_endpoint_is_ready(local, endpoints, expected):
    """`None`: it has no business there. `False`: it may be there, since the log cannot tell or releases differ."""
    story = Story()
    story.given.create(SERVICE, {**EXTERNAL, **local})
    if endpoints is not None:
        story.given.create(SLICE, {**LABEL, **endpoints})
    assert told(sets(story)["kube-router-svip"]).get("203.0.113.10") is expected
    assert told(sets(story)["kube-router-svip-prt"]).get("203.0.113.10,tcp:80") is expected


def test_where_slices_may_be_older_than_the_log_an_address_without_a_known_endpoint_may_be_there():
    story = Story()
    story.given.create(SERVICE, {**EXTERNAL, POLICY: "Local"})
    story.given.create(SLICE, {**LABEL, **ready("two")})
    assert told(sets(story, whole=("service",))["kube-router-svip"])["203.0.113.10"] is False


def test_endpoints_are_asked_where_there_are_no_slices():
    story = Story()
    story.given.create(SERVICE, {**EXTERNAL, POLICY: "Local"})
    story.given.create("endpoints/shop/web", {"subsets": [{"addresses": [{"ip": "10.244.1.9", "nodeName": "one"}]}]})
    assert told(sets(story)["kube-router-svip"])["203.0.113.10"] is True
    story.when.write("endpoints/shop/web", {"subsets": [{"addresses": [{"ip": "10.244.2.9", "nodeName": "two"}]}]})
    assert "203.0.113.10" not in sets(story)["kube-router-svip"].members


@pytest.mark.parametrize("fields", [{"metadata.annotations[kube-router.io/service.dsr]": "tunnel"}])
def test_an_address_with_direct_return_may_be_there(fields):
    story = Story()
    story.given.create(SERVICE, {**EXTERNAL, **fields})
    assert told(sets(story)["kube-router-svip"]) == {"10.96.0.10": True, "203.0.113.10": False}


def test_a_protocol_that_older_releases_do_not_know_may_be_there():
    story = Story()
    story.given.create(SERVICE, {"spec.clusterIP": "10.96.0.10", "spec.ports": [{"port": 9, "protocol": "SCTP"}]})
    assert told(sets(story)["kube-router-svip"]) == {"10.96.0.10": False}
    assert told(sets(story)["kube-router-svip-prt"]) == {"10.96.0.10,sctp:9": False}


def test_a_node_port_may_be_there_on_any_address_of_the_host_so_the_sets_are_not_complete():
    story = Story()
    story.given.create("node/one", {"status.addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]})
    story.given.create(SERVICE, {"spec.clusterIP": "10.96.0.10", "spec.ports": [{**HTTP, "nodePort": 30080}]})
    found = sets(story)["kube-router-svip-prt"]
    assert told(found) == {"10.96.0.10,tcp:80": True, "10.0.0.1,tcp:30080": False}
    assert not found.complete and "a port on every node" in found.why_not


def test_what_one_service_only_may_have_is_due_if_another_must_have_it():
    for order in itertools.permutations([("a", "Local"), ("b", "Cluster")]):
        story = Story()
        for name, policy in order:
            story.given.create(f"service/shop/{name}", {**EXTERNAL, POLICY: policy})
        assert told(sets(story)["kube-router-svip"])["203.0.113.10"] is True


def test_when_a_service_goes_its_addresses_have_no_business_there():
    story = Story()
    story.given.create(SERVICE, EXTERNAL)
    story.when.delete(SERVICE)
    found = sets(story)["kube-router-svip-prt"]
    assert told(found) == {} and found.complete


# ---- what is not known


def test_a_log_that_may_be_younger_than_a_service_proves_nothing_by_absence():
    story = Story()
    story.given.create(SERVICE, EXTERNAL)
    found = sets(story, whole=())
    for name in (
        "kube-router-svip",
        "kube-router-svip-prt",
        "kube-router-node-ips",
        "kube-router-local-pods",
        "ovn40subnets",
    ):
        assert not found[name].complete and found[name].why_not
    assert told(found["kube-router-svip"])["203.0.113.10"] is True, "what is known is due all the same"


def test_a_service_of_before_the_log_is_due_as_soon_as_it_is_seen_whole():
    story = Story()
    story.exists(SERVICE, EXTERNAL)
    story.when.look(SERVICE, verb="patch")
    assert told(sets(story)["kube-router-svip"])["203.0.113.10"] is True


def test_after_a_write_without_a_body_a_services_addresses_may_be_there_and_others_too():
    story = Story()
    story.given.create(SERVICE, EXTERNAL)
    story.when.blur(SERVICE)
    found = sets(story)["kube-router-svip"]
    assert told(found) == {"10.96.0.10": False, "203.0.113.10": False}
    assert not found.complete and "service/shop/web" in found.why_not
    story.when.write(SERVICE, {"spec.sessionAffinity": "None"})
    assert sets(story)["kube-router-svip"].complete


# ---- nodes and this host


def node(story: Story, name: str, number: int, **more: Any) -> None:
    addresses = [
        {"type": "Hostname", "address": name},
        {"type": "ExternalIP", "address": f"198.51.100.{number}"},
        {"type": "InternalIP", "address": f"10.0.0.{number}"},
        {"type": "InternalIP", "address": f"2001:db8::{number}"},
    ]
    ranges = [f"10.244.{number}.0/24", f"2001:db8:42:{number}::/64"]
    fields = {"spec.podCIDR": ranges[0], "spec.podCIDRs": ranges, "status.addresses": addresses, **more}
    story.given.create(f"node/{name}", {path: value for path, value in fields.items() if value is not None})


def test_nodes_and_their_pod_ranges_are_due_in_each_family():
    story = Story()
    node(story, "one", 1)
    node(story, "two", 2)
    found = sets(story)
    assert told(found["kube-router-pod-subnets"]) == {"10.244.1.0/24": True, "10.244.2.0/24": True}
    assert told(found["inet6:kube-router-pod-subnets"]) == {"2001:db8:42:1::/64": True, "2001:db8:42:2::/64": True}
    assert told(found["kube-router-node-ips"]) == {"10.0.0.1": True, "10.0.0.2": True}
    assert told(found["inet6:kube-router-node-ips"]) == {"2001:db8::1": True, "2001:db8::2": True}
    assert found["kube-router-node-ips"].owner == "routing" and found["kube-router-node-ips"].complete


def test_a_node_without_a_range_is_skipped_by_kube_router():
    story = Story()
    node(story, "one", 1, **{"spec.podCIDR": None, "spec.podCIDRs": None})
    assert told(sets(story)["kube-router-pod-subnets"]) == {}
    assert sets(story)["kube-router-node-ips"].due == frozenset()


def test_an_annotation_overrules_a_nodes_range():
    story = Story()
    node(story, "one", 1, **{"metadata.annotations[kube-router.io/pod-cidr]": "10.50.0.0/16"})
    assert told(sets(story)["kube-router-pod-subnets"]) == {"10.50.0.0/16": True}


def test_of_this_hosts_addresses_only_the_nodes_own_are_due_and_more_may_be_there():
    story = Story()
    node(story, "one", 1)
    node(story, "two", 2)
    found = sets(story)
    assert told(found["kube-router-local-ips"]) == {"10.0.0.1": True, "127.0.0.1": False}
    assert told(found["inet6:kube-router-local-ips"]) == {"2001:db8::1": True, "::1": False}
    assert not found["kube-router-local-ips"].complete
    assert told(sets(story, "two")["kube-router-local-ips"])["10.0.0.2"] is True


def pod(story: Story, path: str, address: str, **more: Any) -> None:
    fields = {"spec.nodeName": "one", "status.phase": "Running", "status.podIP": address, **more}
    fields.setdefault("status.podIPs", [{"ip": address}])
    story.given.create(path, fields)


@pytest.mark.parametrize(
    ("more", "members"),
    [
        ({}, {"10.244.1.9": True}),
        ({"status.phase": "Pending"}, {"10.244.1.9": True}),
        ({"status.phase": "Succeeded"}, {}),
        ({"status.phase": "Failed"}, {}),
        ({"spec.hostNetwork": True}, {}),
        ({"spec.nodeName": "two"}, {}),
        ({"status.podIP": "", "status.podIPs": []}, {}),
    ],
)
def test_a_nodes_pods_are_due_while_they_run_and_have_an_address_of_their_own(more, members):
    story = Story()
    pod(story, "pod/shop/web-0", "10.244.1.9", **more)
    found = sets(story)["kube-router-local-pods"]
    assert told(found) == members and found.owner == "netpol"


# ---- policies

WEB, DB = {"metadata.labels[app]": "web"}, {"metadata.labels[app]": "db"}
LAB = {"matchLabels": {"name": "lab"}}
PATH = "networkpolicy/shop/p"


def network(story: Story, **spec: Any) -> None:
    """Given: namespaces shop and lab with two pods each, and a policy on shop's web pods."""
    for number, name in enumerate(("shop", "lab")):
        story.given.create(f"namespace/{name}", {"metadata.labels[name]": name})
        pod(story, f"pod/{name}/web", f"10.244.{number}.1", **WEB)
        pod(story, f"pod/{name}/db", f"10.244.{number}.2", **DB)
    fields = {"spec.podSelector": {"matchLabels": {"app": "web"}}, "spec.policyTypes": ["Ingress"]}
    story.given.create(PATH, {**fields, **{f"spec.{name}": value for name, value in spec.items()}})


def test_a_policys_target_set_holds_the_pods_it_selects_in_its_namespace():
    story = Story()
    network(story)
    name = target_set(DESTINATION, "shop", "p", IPV4)
    found = sets(story, whole=())[name]
    assert told(found) == {"10.244.0.1": True}
    assert found.complete, "the namespace is younger than the log, so its pods are all known"
    assert found.members["10.244.0.1"].because == "pod/shop/web is one that networkpolicy/shop/p is about"
    assert target_set(SOURCE, "shop", "p", IPV4) not in sets(story)


@pytest.mark.parametrize(
    ("types", "prefixes"),
    [(["Ingress"], {DESTINATION}), (["Egress"], {SOURCE}), (["Ingress", "Egress"], {DESTINATION, SOURCE})],
)
def test_there_is_a_target_set_for_each_direction_of_the_policy(types, prefixes):
    story = Story()
    network(story, policyTypes=types)
    found = sets(story)
    assert {p for p in (DESTINATION, SOURCE) if target_set(p, "shop", "p", IPV4) in found} == prefixes
    before = {p for p in (DESTINATION, SOURCE) if target_set(p, "shop", "p", IPV4, before_2=True) in found}
    assert before == prefixes


@pytest.mark.parametrize(
    ("selector", "members"),
    [
        ({}, {"10.244.0.1", "10.244.0.2"}),
        ({"matchLabels": {"app": "db"}}, {"10.244.0.2"}),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}, {"10.244.0.1"}),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, set()),
    ],
)
def test_a_pod_selector_selects_as_kubernetes_does_and_an_empty_one_all(selector, members):
    story = Story()
    network(story, podSelector=selector)
    found = sets(story)[target_set(DESTINATION, "shop", "p", IPV4)]
    assert found.due == members and found.complete


def test_a_selector_of_unknown_words_selects_nothing_for_certain():
    story = Story()
    network(story, podSelector={"matchExpressions": [{"key": "app", "operator": "Near", "values": ["db"]}]})
    found = sets(story)[target_set(DESTINATION, "shop", "p", IPV4)]
    assert told(found) == {} and not found.complete


@pytest.mark.parametrize(
    ("peer", "members"),
    [
        ({"podSelector": {"matchLabels": {"app": "db"}}}, {"10.244.0.2"}),
        ({"podSelector": {}}, {"10.244.0.1", "10.244.0.2"}),
        ({"namespaceSelector": LAB}, {"10.244.1.1", "10.244.1.2"}),
        ({"namespaceSelector": LAB, "podSelector": {"matchLabels": {"app": "db"}}}, {"10.244.1.2"}),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}, {"10.244.0.2", "10.244.1.2"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_rules_peers_are_pods_of_the_namespaces_that_are_chosen(direction, peer, members):
    story = Story()
    word = "from" if direction == "ingress" else "to"
    network(story, policyTypes=["Ingress", "Egress"], **{direction: [{"ports": [HTTP]}, {word: [peer]}]})
    found = sets(story)
    second = found[peer_set(direction, "shop", "p", 1, "pod", IPV4)]
    assert second.due == members and second.complete and second.owner == "netpol"
    assert peer_set(direction, "shop", "p", 0, "pod", IPV4) not in found, "a rule for everybody has no set"


def test_of_namespaces_that_may_be_older_than_the_log_the_peers_are_not_all_known():
    story = Story()
    network(story, ingress=[{"from": [{"namespaceSelector": {}}]}])
    found = sets(story, whole=("pod",))[peer_set("ingress", "shop", "p", 0, "pod", IPV4)]
    assert len(found.due) == 4 and not found.complete


def test_ranges_are_in_a_set_of_their_own_with_what_they_except():
    story = Story()
    block = {"cidr": "10.0.0.7/8", "except": ["10.1.0.0/16", "10.2.3.4/32"]}
    network(story, ingress=[{"from": [{"ipBlock": block}, {"ipBlock": {"cidr": "fd00::/8"}}]}])
    found = sets(story, whole=())
    four = found[peer_set("ingress", "shop", "p", 0, "ipblock", IPV4)]
    assert {text: member.nomatch for text, member in four.members.items()} == {
        "10.0.0.0/8": False,
        "10.1.0.0/16": True,
        "10.2.3.4": True,
    }
    assert four.type == "hash:net" and four.complete, "only the policy itself says what is in it"
    assert told(found[peer_set("ingress", "shop", "p", 0, "ipblock", IPV6)]) == {"fd00::/8": True}


def test_a_range_of_everything_is_two_since_the_set_cannot_hold_it():
    story = Story()
    blocks = [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    network(story, policyTypes=["Egress"], egress=[{"to": blocks}])
    found = sets(story)
    assert found[peer_set("egress", "shop", "p", 0, "ipblock", IPV4)].due == {"0.0.0.0/1", "128.0.0.0/1"}
    assert found[peer_set("egress", "shop", "p", 0, "ipblock", IPV6)].due == {"2000::/3", "fd00::/8"}


def port(name: str, number: int) -> dict[str, Any]:
    return {"spec.containers[].ports": [{"name": name, "containerPort": number, "protocol": "TCP"}]}


def test_a_named_port_has_a_set_of_the_pods_that_have_it():
    story = Story()
    network(story, ingress=[{"ports": [HTTP, {"port": "metrics", "protocol": "TCP"}]}])
    pod(story, "pod/shop/web-1", "10.244.0.3", **WEB, **port("metrics", 9090))
    pod(story, "pod/shop/web-2", "10.244.0.4", **WEB, **port("other", 9090))
    pod(story, "pod/shop/db-1", "10.244.0.5", **DB, **port("metrics", 9090))
    found = sets(story)[named_port_set("ingress", "shop", "p", 0, 0, IPV4)]
    assert told(found) == {"10.244.0.3": True} and found.complete and found.type == "hash:ip"


def test_the_named_ports_of_egress_are_those_of_the_peers_or_of_the_whole_namespace():
    story = Story()
    named = [{"port": "metrics", "protocol": "TCP"}]
    lab = {"namespaceSelector": LAB}
    network(story, policyTypes=["Egress"], egress=[{"ports": named}, {"ports": named, "to": [lab]}])
    pod(story, "pod/shop/db-1", "10.244.0.5", **DB, **port("metrics", 9090))
    pod(story, "pod/lab/db-1", "10.244.1.5", **DB, **port("metrics", 9090))
    found = sets(story)
    assert found[named_port_set("egress", "shop", "p", 0, 0, IPV4)].due == {"10.244.0.5"}
    assert found[named_port_set("egress", "shop", "p", 1, 0, IPV4)].due == {"10.244.1.5"}


def test_a_named_port_of_several_numbers_is_never_guessed_at():
    story = Story()
    network(story, ingress=[{"ports": [{"port": "metrics", "protocol": "TCP"}]}])
    pod(story, "pod/shop/web-1", "10.244.0.3", **WEB, **port("metrics", 9090))
    pod(story, "pod/shop/web-2", "10.244.0.4", **WEB, **port("metrics", 9091))
    for number in (0, 1):
        found = sets(story)[named_port_set("ingress", "shop", "p", 0, number, IPV4)]
        assert found.due == frozenset() and not found.complete


def test_a_named_port_is_of_its_protocol():
    story = Story()
    network(story, ingress=[{"ports": [{"port": "metrics", "protocol": "UDP"}]}])
    pod(story, "pod/shop/web-1", "10.244.0.3", **WEB, **port("metrics", 9090))
    assert named_port_set("ingress", "shop", "p", 0, 0, IPV4) not in sets(story)


def test_a_policy_or_a_pod_that_was_written_without_a_body_makes_its_sets_unsure():
    name = target_set(DESTINATION, "shop", "p", IPV4)
    for path in (PATH, "pod/shop/web"):
        story = Story()
        network(story)
        story.when.blur(path)
        assert told(sets(story)[name]) == {"10.244.0.1": False}
        assert not sets(story)[name].complete


def test_in_a_namespace_that_is_older_than_the_log_more_pods_may_be_selected():
    story = Story()
    story.exists("namespace/old", {})
    pod(story, "pod/old/web", "10.244.0.1", **WEB)
    story.given.create("networkpolicy/old/p", {"spec.podSelector": {}, "spec.policyTypes": ["Ingress"]})
    name = target_set(DESTINATION, "old", "p", IPV4)
    assert told(sets(story, whole=())[name]) == {"10.244.0.1": True}
    assert not sets(story, whole=())[name].complete
    assert sets(story)[name].complete


def test_a_namespace_without_a_single_pod_may_be_one_whose_pods_are_not_logged():
    story = Story()
    story.given.create("namespace/new")
    story.given.create("networkpolicy/new/p", {"spec.podSelector": {}, "spec.policyTypes": ["Ingress"]})
    assert not sets(story, whole=())[target_set(DESTINATION, "new", "p", IPV4)].complete


def test_when_a_policy_goes_none_of_its_sets_is_known_any_more():
    story = Story()
    network(story, ingress=[{"from": [{"podSelector": {}}]}])
    story.when.delete(PATH)
    assert not [name for name in sets(story) if "KUBE-" in name]


# ---- Kube-OVN


def test_kube_ovns_sets_follow_from_the_subnets_of_the_default_vpc_and_the_other_nodes():
    story = Story()
    node(story, "one", 1)
    node(story, "two", 2)
    own = {"spec.vpc": "ovn-cluster"}
    story.given.create("subnet/a", {**own, "spec.cidrBlock": "10.16.0.0/16,fd00:10:16::/112", "spec.natOutgoing": True})
    story.given.create("subnet/b", {**own, "spec.cidrBlock": "10.17.0.0/16", "spec.gatewayType": "distributed"})
    story.given.create("subnet/vlan", {**own, "spec.cidrBlock": "10.18.0.0/16", "spec.vlan": "v"})
    story.given.create("subnet/other", {"spec.vpc": "shop", "spec.cidrBlock": "10.19.0.0/16", "spec.natOutgoing": True})
    rules = {"spec.natOutgoing": True, "spec.natOutgoingPolicyRules": [{"action": "nat"}]}
    story.given.create("subnet/rules", {**own, "spec.cidrBlock": "10.20.0.0/16", **rules})
    found = sets(story)
    assert told(found["ovn40subnets"]) == {"10.16.0.0/16": True, "10.17.0.0/16": True, "10.20.0.0/16": True}
    assert told(found["ovn60subnets"]) == {"fd00:10:16::/112": True}
    assert told(found["ovn40subnets-nat"]) == {"10.16.0.0/16": True, "10.20.0.0/16": True}
    assert told(found["ovn40subnets-distributed-gw"]) == {"10.17.0.0/16": True}
    assert told(found["ovn40subnets-nat-policy"]) == {"10.20.0.0/16": True}
    assert told(found["ovn40other-node"]) == {"10.0.0.2": True}
    assert told(found["ovn60other-node"]) == {"2001:db8::2": True}
    assert found["ovn40subnets-nat"].complete and not found["ovn40subnets"].complete
    story.when.create("subnet/held", {**own, "spec.cidrBlock": "10.21.0.0/16"}, held=True)
    story.when.delete("subnet/held")
    assert told(sets(story)["ovn40subnets"])["10.21.0.0/16"] is False


# ---- of all of them


@pytest.mark.parametrize("whole", [(), WHOLE])
def test_every_set_is_its_owners_by_name_too_and_members_are_of_its_family(whole):
    story = Story()
    node(story, "one", 1)
    node(story, "two", 2)
    ports = [HTTP, {"port": "metrics", "protocol": "TCP"}]
    peers = [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]
    network(story, policyTypes=["Ingress", "Egress"], ingress=[{"from": peers, "ports": ports}])
    pod(story, "pod/shop/web-1", "10.244.0.3", **WEB, **port("metrics", 9090))
    story.given.create(SERVICE, EXTERNAL)
    for name, found in should_contain(story.world, "one", whole).items():
        assert name == found.name and owner_of(name) == found.owner
        assert set_type_of(name) in ("", found.type)
        assert found.complete == (not found.why_not)
        for text, member in found.members.items():
            assert (":" in text.replace(",tcp:", "")) == (found.family == IPV6), (name, text)
            assert member.because and story.world.get(member.key) is not None


def test_against_the_sets_that_a_real_controller_left():
    """Recording s3-buggy: what its kernel held at the end (ipset/014-lab-end.save), and what it then lacked."""
    world = replayed("s3-buggy").judged.reading.world
    found = should_contain(world, "node1")
    assert found["KUBE-DST-Y7M4WSXLMRIHKHO2"].due == {"10.244.1.11", "10.244.1.12"}
    svip = found["kube-router-svip-prt"]
    assert svip.due == {"10.96.10.10,tcp:80", "203.0.113.10,tcp:80"}
    assert svip.due - {"10.96.0.1,tcp:443", "10.96.10.10,tcp:80"} == {"203.0.113.10,tcp:80"}, "the member that was lost"
    assert not svip.complete, "10.96.0.1 is of a service from before the log"


LOST = [
    ("203.0.113.16", "2026-11-21T02:48:33.365554Z"),
    ("203.0.113.24", "2026-11-21T02:49:08.594781Z"),
    ("203.0.113.33", "2026-11-21T02:49:31.926834Z"),
]
"""Recording mixed-seed7: the members that a policy controller's restore lost, and when (faults F3 of its truth.json)."""


@pytest.mark.parametrize(("address", "time"), LOST)
def test_what_a_restore_of_old_memory_lost_was_due_at_that_moment(address, time):
    world = World()
    before = [event for event in replayed("mixed-seed7").events if event.time <= moment(time, "time")]
    for at, event in enumerate(before, 1):
        world.evolve(event, at)
    found = should_contain(world, "node1")
    member = found["kube-router-svip-prt"].members[f"{address},tcp:80"]
    assert member.due and address in found["kube-router-svip"].due
    assert world.live[member.key].get("spec.externalIPs") == [address]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "10.0.0.0/8", "x", "TCP", "Local"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["from", "to", "ports", "port", "ipBlock", "cidr", "except", "podSelector", "namespaceSelector",
                         "matchLabels", "matchExpressions", "operator", "ip", "addresses", "ingress", "nodePort"]),
        inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PATHS = {
    SERVICE: ("spec.clusterIP", "spec.clusterIPs", "spec.externalIPs", "spec.ports", "status.loadBalancer"),
    SLICE: ("endpoints", "metadata.labels[kubernetes.io/service-name]"),
    "endpoints/shop/web": ("subsets",),
    PATH: ("spec.podSelector", "spec.policyTypes", "spec.ingress", "spec.egress"),
    "pod/shop/web": ("status.podIPs", "status.podIP", "spec.containers[].ports"),
    "node/one": ("spec.podCIDR", "spec.podCIDRs", "status.addresses"),
    "subnet/a": ("spec.cidrBlock", "spec.natOutgoingPolicyRules"),
}


@given(st.data())
def test_fields_of_any_shape_are_answered(data):
    story = Story()
    story.given.create("namespace/shop")
    story.given.create("subnet/b", {"spec.vpc": "ovn-cluster", "spec.natOutgoing": True})
    for path, fields in PATHS.items():
        story.given.create(path, {field: data.draw(ANY) for field in fields})
    for found in sets(story).values():
        assert found.complete == (not found.why_not)
