"""Stories of the kinds with their neighbours: orphans, leaks, gateway pods that are replaced, rules that clash."""

import pytest

from domain.operations import MADE
from domain.resources import Key
from tests.domain.stories import CONTROLLER, GATEWAY_LABELS, GATEWAY_POD, KUBELET, Story, gateway, replace_gateway_pod

IP = {"spec.subnet": "a", "spec.namespace": "shop", "spec.podName": "web", "spec.v4IpAddress": "10.0.0.2"}


# ---- Vpc and Subnet


def test_a_vpc_that_waits_for_its_subnets_goes_after_the_last_one():
    story = Story()
    story.given.create("vpc/shop", held=True)
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.when.delete("vpc/shop")
    story.when.delete("subnet/a")
    story.when.release("subnet/a")
    story.when.release("vpc/shop")
    story.then.recorded("VPCRemoved vpc/shop")
    story.is_in("vpc/shop", "GONE")
    assert story.refusals() == []


@pytest.mark.parametrize("held", [True, False])
def test_a_vpc_that_goes_under_its_subnets_is_a_ghost_and_they_are_orphans(held):
    story = Story()
    story.given.create("vpc/shop", held=held)
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.given.create("subnet/b", {"spec.vpc": "shop"}, held=True)
    story.given.delete("subnet/b")
    if held:
        story.given.delete("vpc/shop")
    story.when.remove("vpc/shop", by="alice")
    story.then.recorded("refused VPCRemoved vpc/shop", "SubnetOrphaned subnet/a", "SubnetOrphaned subnet/b")
    story.is_in("vpc/shop", "GHOST")
    story.is_in("subnet/a", "ORPHANED")
    story.is_in("subnet/b", "TERMINATING")
    assert "subnets a, b still name it" in story.events[-3].reason
    assert story.events[-1].cause == "VPCRemoved vpc:shop"


def test_an_orphan_is_adopted_by_a_new_vpc_of_that_name():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.given.delete("vpc/shop")
    story.when.create("vpc/shop")
    story.then.recorded("VPCCreated vpc/shop", "SubnetAdopted subnet/a")
    story.is_in("subnet/a", "GUARDED")


def test_an_orphan_is_adopted_when_it_names_another_vpc_that_is_there():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("vpc/other")
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.given.delete("vpc/shop")
    story.when.write("subnet/a", {"spec.vpc": "other"}, by="alice")
    story.then.recorded("SubnetSpecChanged subnet/a", "SubnetAdopted subnet/a")
    story.is_in("subnet/a", "GUARDED")


def test_an_orphan_that_names_another_departed_vpc_stays_one():
    story = Story()
    for vpc in ("shop", "other"):
        story.given.create(f"vpc/{vpc}")
    story.given.create("subnet/a", {"spec.vpc": "shop"})
    story.given.delete("vpc/other")
    story.given.delete("vpc/shop")
    story.when.write("subnet/a", {"spec.vpc": "other"}, by="alice")
    story.then.recorded("SubnetSpecChanged subnet/a")
    story.is_in("subnet/a", "ORPHANED")


def test_an_orphan_can_be_deleted_and_goes():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.given.delete("vpc/shop")
    story.when.delete("subnet/a")
    story.when.release("subnet/a")
    story.then.is_in("subnet/a", "GONE")
    assert story.refusals() == ["VPCRemoved vpc/shop"]


def test_a_subnet_made_for_a_departed_vpc_is_an_orphan_from_birth():
    story = Story()
    story.given.create("vpc/shop")
    story.given.delete("vpc/shop")
    story.when.create("subnet/a", {"spec.vpc": "shop"})
    story.then.recorded("refused SubnetCreated subnet/a")
    story.is_in("subnet/a", "ORPHANED")
    assert "the Vpc shop that it names is gone" in story.last[0].reason


def test_a_subnet_of_a_vpc_that_was_never_heard_of_is_no_orphan():
    story = Story()
    story.when.create("subnet/a", {"spec.vpc": "ovn-cluster"})
    story.then.recorded("SubnetCreated subnet/a")


def test_a_subnet_of_a_vpc_that_went_unseen_is_no_orphan():
    story = Story()
    story.given.create("vpc/shop")
    story.given.ends_unseen("vpc/shop")
    story.given.create("vpc/shop")
    story.given.ends_unseen("vpc/shop")
    story.when.create("subnet/a", {"spec.vpc": "shop"})
    story.then.recorded("SubnetCreated subnet/a")


def test_a_subnet_of_another_provider_needs_no_vpc_and_holds_none():
    story = Story()
    story.given.create("vpc/shop")
    story.given.delete("vpc/shop")
    story.when.create("subnet/external", {"spec.vpc": "shop", "spec.provider": "macvlan.kube-system"})
    story.then.recorded("SubnetCreated subnet/external")
    story.when.create("subnet/none", {"spec.provider": "external"})
    story.then.recorded("SubnetCreated subnet/none")


def test_a_subnet_that_goes_under_an_address_is_a_ghost_and_strands_it():
    story = Story()
    story.given.create("subnet/a", {"spec.vpc": "shop"})
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, held=True)
    story.when.delete("subnet/a")
    story.then.recorded("refused SubnetRemoved subnet/a", "IPStranded ip/web.shop")
    story.is_in("subnet/a", "GHOST")
    story.is_in("ip/web.shop", "STRANDED")


def test_a_subnet_that_goes_under_an_eip_is_a_ghost():
    story = Story()
    story.given.create("subnet/out")
    story.given.create("eip/e", {"spec.externalSubnet": "out"})
    story.when.delete("subnet/out")
    story.then.recorded("refused SubnetRemoved subnet/out")
    assert "eip/e is still in it" in story.last[0].reason


# ---- IP and Pod


def test_an_address_is_released_after_its_pod_went():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    story.when.delete("pod/shop/web")
    story.then.is_in("pod/shop/web", "DELETING")
    story.when.delete("pod/shop/web", by=KUBELET)
    story.then.recorded("PodRemoved pod/shop/web")
    story.when.delete("ip/web.shop", by=CONTROLLER)
    story.then.is_in("ip/web.shop", "RELEASING")
    story.when.release("ip/web.shop")
    story.then.is_in("ip/web.shop", "GONE")
    assert story.refusals() == []


def test_a_stranded_address_leaks_when_its_pod_goes_too():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, held=True)
    story.given.delete("subnet/a")
    story.given.delete("pod/shop/web")
    story.when.delete("pod/shop/web", by=KUBELET)
    story.then.recorded("PodRemoved pod/shop/web", "IPLeaked ip/web.shop")
    story.is_in("ip/web.shop", "LEAKED")


def test_an_address_whose_pod_went_first_leaks_when_its_subnet_goes():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, held=True)
    story.given.delete("pod/shop/web")
    story.given.delete("pod/shop/web", by=KUBELET)
    story.when.delete("subnet/a")
    story.then.recorded("refused SubnetRemoved subnet/a", "IPLeaked ip/web.shop")


def test_an_address_made_after_pod_and_subnet_went_is_leaked_from_birth():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.delete("pod/shop/web")
    story.given.delete("pod/shop/web", by=KUBELET)
    story.given.delete("subnet/a")
    story.when.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    story.then.recorded("refused IPAllocated ip/web.shop", "IPLeaked ip/web.shop")
    story.is_in("ip/web.shop", "LEAKED")


def test_an_address_made_for_a_departed_subnet_while_its_pod_lives_is_stranded():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.delete("subnet/a")
    story.when.create("ip/web.shop", IP, by=CONTROLLER)
    story.then.recorded("refused IPAllocated ip/web.shop")
    story.is_in("ip/web.shop", "STRANDED")


@pytest.mark.parametrize(
    "survivor",
    [{"metadata.labels[ovn.kubernetes.io/ip_reserved]": "true"}, {"spec.podType": "StatefulSet"}],
    ids=["reserved", "StatefulSet"],
)
def test_an_address_that_is_meant_to_outlive_its_pod_is_stranded_but_not_leaked(survivor):
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", {**IP, **survivor}, held=True)
    story.given.delete("pod/shop/web")
    story.given.delete("pod/shop/web", by=KUBELET)
    story.when.delete("subnet/a")
    story.then.is_in("ip/web.shop", "STRANDED")


@pytest.mark.parametrize("leaked", [True, False], ids=["leaked", "stranded"])
def test_an_address_is_reclaimed_when_a_subnet_of_that_name_is_there_again(leaked):
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, held=True)
    story.given.delete("subnet/a")
    if leaked:
        story.given.delete("pod/shop/web")
        story.given.delete("pod/shop/web", by=KUBELET)
    story.when.create("subnet/a")
    story.then.recorded("SubnetCreated subnet/a", "IPReclaimed ip/web.shop")
    story.is_in("ip/web.shop", "HELD")


def test_deleting_a_leaked_address_only_marks_it_and_a_hand_ends_it():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    story.given.delete("subnet/a")
    story.given.delete("pod/shop/web")
    story.given.delete("pod/shop/web", by=KUBELET)
    story.when.delete("ip/web.shop", by="alice")
    story.then.recorded("IPReleaseRequested ip/web.shop")
    story.is_in("ip/web.shop", "LEAKED")
    story.when.release("ip/web.shop", by="alice")
    story.then.recorded("IPReleased ip/web.shop")


def test_a_moved_address_is_refused_and_keeps_its_state():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("ip/web.shop", IP, held=True)
    state = "RECORDED"
    story.then.is_in("ip/web.shop", state)
    story.when.write("ip/web.shop", {"spec.subnet": "b"}, by="alice")
    story.then.recorded("refused IPMoved ip/web.shop")
    story.is_in("ip/web.shop", state)
    assert story.live("ip/web.shop").get("spec.subnet") == "b", "what it did to facts is taken as true"


def test_filling_in_the_pod_of_an_address_is_no_move():
    story = Story()
    story.given.create("ip/web.shop", {"spec.subnet": "a"})
    story.when.write("ip/web.shop", {"spec.podName": "web", "spec.namespace": "shop"})
    story.then.recorded("IPSpecChanged ip/web.shop")


def test_a_pod_gets_its_network_step_by_step():
    story = Story()
    story.given.create("pod/shop/web")
    story.when.tell(
        "pod/shop/web", "create", MADE, by="scheduler", subresource="binding", after={"spec.nodeName": "n"}, code=201
    )
    story.then.recorded("PodBound pod/shop/web")
    story.given.unseen("pod/shop/web", {"spec.nodeName": "n"})
    story.when.write("pod/shop/web", {"metadata.annotations[ovn.kubernetes.io/allocated]": "true"})
    story.then.is_in("pod/shop/web", "ALLOCATED")
    story.when.write("pod/shop/web", {"metadata.annotations[ovn.kubernetes.io/routed]": "true"})
    story.then.is_in("pod/shop/web", "ROUTED")
    assert story.refusals() == []


def test_an_eviction_answers_with_a_status_and_still_deletes_the_pod():
    story = Story()
    story.given.create("pod/shop/web")
    story.when.tell("pod/shop/web", "create", MADE, by="drain", subresource="eviction", after=None, code=201)
    story.then.recorded("PodDeletionRequested pod/shop/web")
    story.is_in("pod/shop/web", "DELETING")


# ---- gateway, EIP and FIP


def test_an_eip_is_ready_when_it_was_configured_in_the_pod_of_today():
    story = Story()
    gateway(story, configured=False)
    story.then.is_in("eip/out", "REQUESTED")
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}", "EIPConfigured eip/out")
    story.is_in("eip/out", "READY")


def test_an_exec_shown_in_two_stages_configures_once():
    story = Story()
    gateway(story, configured=False)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24", request="audit:exec@1", stage="ResponseStarted")
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24", request="audit:exec@1", stage="ResponseComplete")
    story.then.recorded(f"observed {GATEWAY_POD}")
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24", request="audit:exec@2", stage="ResponseStarted")
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}", "EIPConfigured eip/out")


def test_an_exec_that_asks_nothing_of_the_gateway_is_an_observation():
    story = Story()
    gateway(story)
    story.when.tell(GATEWAY_POD, "create", "ran", by="alice", subresource="exec", command=("sh",), code=101)
    story.then.recorded(f"observed {GATEWAY_POD}")


def test_an_exec_in_another_pod_configures_nothing():
    story = Story()
    gateway(story, configured=False)
    story.given.create("pod/kube-system/other")
    story.when.run("pod/kube-system/other", "eip-add 192.168.100.11/24")
    story.then.recorded("GatewayCommandStarted pod/kube-system/other")
    story.is_in("eip/out", "REQUESTED")


def test_an_exec_in_the_gateways_pod_of_yesterday_configures_nothing():
    story = Story()
    gateway(story, configured=False)
    today = "pod/kube-system/vpc-nat-gw-gw-1"
    story.given.create(today, GATEWAY_LABELS)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}")
    story.when.run(today, "eip-add 192.168.100.11/24")
    story.then.recorded(f"GatewayCommandStarted {today}", "EIPConfigured eip/out")


def test_a_write_that_names_the_address_of_an_eip_in_deletion_configures_nothing():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    story.given.create("eip/out", {"spec.natGwDp": "gw"}, held=True)
    story.given.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.given.delete("eip/out")
    story.when.write("eip/out", {"spec.v4ip": "192.168.100.11"})
    story.then.recorded("EIPSpecChanged eip/out")


def test_eip_add_before_the_address_is_in_the_spec_counts_once_it_is():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    story.given.create("eip/out", {"spec.natGwDp": "gw"})
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}")
    story.is_in("eip/out", "REQUESTED")
    story.when.write("eip/out", {"spec.v4ip": "192.168.100.11"})
    story.then.recorded("EIPSpecChanged eip/out", "EIPConfigured eip/out")
    story.is_in("eip/out", "READY")


def test_a_new_gateway_pod_means_everything_is_to_be_done_again():
    story = Story()
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.given.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.9")
    story.then.is_in("fip/f", "READY")
    story.when.delete(GATEWAY_POD)
    story.when.delete(GATEWAY_POD, by=KUBELET)
    story.then.is_in("nat-gateway/gw", "DOWN")
    story.is_in("eip/out", "READY")
    story.when.create(GATEWAY_POD, GATEWAY_LABELS)
    story.then.recorded(
        f"PodCreated {GATEWAY_POD}",
        "GatewayPodStarted nat-gateway/gw",
        "EIPGatewayPodReplaced eip/out",
        "FIPGatewayPodReplaced fip/f",
    )
    story.is_in("nat-gateway/gw", "RUNNING")
    story.is_in("eip/out", "REDO")
    story.is_in("fip/f", "REDO")
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.when.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.9")
    story.then.is_in("eip/out", "READY")
    story.is_in("fip/f", "READY")
    assert story.refusals() == []


def test_eip_del_takes_readiness_away_and_deletion_needs_it_not():
    story = Story()
    gateway(story)
    story.when.run(GATEWAY_POD, "eip-del 192.168.100.11/24")
    story.then.is_in("eip/out", "REDO")
    story.when.delete("eip/out")
    story.when.run(GATEWAY_POD, "eip-del 192.168.100.11/24")
    story.then.is_in("eip/out", "TERMINATING")
    story.when.release("eip/out")
    story.then.is_in("eip/out", "GONE")
    assert story.refusals() == []


def test_ready_may_be_written_before_the_finalizer():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    story.given.create("eip/out", {"spec.natGwDp": "gw"})
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.when.write("eip/out", {"spec.v4ip": "192.168.100.11"})
    story.when.status("eip/out", {"ready": True, "ip": "192.168.100.11"})
    story.when.hold("eip/out")
    story.then.is_in("eip/out", "READY")
    assert story.refusals() == []


def test_a_fip_that_maps_another_address_is_to_be_done_again():
    story = Story()
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.given.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.9")
    story.when.write("fip/f", {"spec.internalIp": "10.0.0.10"}, by="alice")
    story.then.recorded("FIPRetargeted fip/f")
    story.is_in("fip/f", "REDO")
    story.when.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.10")
    story.then.is_in("fip/f", "READY")


def test_a_second_fip_on_one_eip_clashes_and_can_go():
    story = Story()
    gateway(story)
    story.given.create("fip/first", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.when.create("fip/second", {"spec.eip": "out", "spec.internalIp": "10.0.0.10"})
    story.then.recorded("refused FIPCreated fip/second")
    story.is_in("fip/second", "CLASHING")
    assert "EIP out is already used by FIP first" in story.last[0].reason
    story.when.delete("fip/second")
    story.then.is_in("fip/second", "GONE")
    assert story.refusals() == ["FIPCreated fip/second"]


def test_a_fip_made_while_the_one_before_is_going_does_not_clash():
    story = Story()
    gateway(story)
    story.given.create("fip/first", {"spec.eip": "out"}, held=True)
    story.given.delete("fip/first")
    story.when.create("fip/second", {"spec.eip": "out"})
    story.then.recorded("FIPCreated fip/second")


def test_an_eip_that_goes_under_a_rule_is_a_ghost():
    story = Story()
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out"})
    story.given.delete("eip/out")
    story.when.release("eip/out")
    story.then.recorded("refused EIPRemoved eip/out")
    story.is_in("eip/out", "GHOST")
    assert "FIP f still hangs on it" in story.last[0].reason


SNAT = {"spec.eip": "out", "spec.internalCIDR": "10.0.0.0/24"}
DNAT = {
    "spec.eip": "out",
    "spec.externalPort": "8080",
    "spec.protocol": "tcp",
    "spec.internalIp": "10.0.0.9",
    "spec.internalPort": "80",
}
DNAT_ADD = "dnat-add 192.168.100.11,8080,tcp,10.0.0.9,80"


@pytest.mark.parametrize(
    ("cidr", "asked"),
    [
        ("10.0.0.0/24", "192.168.100.11,10.0.0.0/24"),
        ("10.0.0.0/24", "192.168.100.11,10.0.0.0/24,--random-fully"),
        ("10.0.0.9", "192.168.100.11,10.0.0.9/32"),
        ("10.0.0.9/32", "192.168.100.11,10.0.0.9"),
        ("fd00::/64,10.0.0.0/24", "192.168.100.11,10.0.0.0/24"),
    ],
)
def test_a_snat_is_ready_when_its_range_was_let_out_in_the_pod_of_today(cidr, asked):
    story = Story()
    gateway(story)
    story.given.create("snat/s", {**SNAT, "spec.internalCIDR": cidr})
    story.when.run(GATEWAY_POD, f"snat-add {asked}")
    story.then.is_in("snat/s", "READY")
    story.when.run(GATEWAY_POD, f"snat-del {asked.removesuffix(',--random-fully')}")
    story.then.is_in("snat/s", "REDO")


def test_ranges_that_begin_alike_are_different_rules():
    story = Story()
    gateway(story)
    story.given.create("snat/wide", {**SNAT, "spec.internalCIDR": "10.0.0.0/16"})
    story.given.create("snat/narrow", SNAT)
    story.when.run(GATEWAY_POD, "snat-add 192.168.100.11,10.0.0.0/24")
    story.then.is_in("snat/narrow", "READY")
    story.is_in("snat/wide", "REQUESTED")


@pytest.mark.parametrize(
    "line", ["snat-add", "snat-add --random-fully", "snat-add ,", "dnat-add 192.168.100.11", "snat-add ,,/32"]
)
def test_a_command_that_names_no_rule_configures_none(line):
    story = Story()
    gateway(story)
    story.given.create("snat/s", {"spec.eip": "out"})
    story.given.create("dnat/d", {"spec.eip": "out"})
    story.when.run(GATEWAY_POD, line)
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}")


def test_one_exec_may_configure_several_rules():
    story = Story()
    gateway(story)
    story.given.create("dnat/web", DNAT)
    story.given.create(
        "dnat/dns", {**DNAT, "spec.externalPort": "53", "spec.protocol": "udp", "spec.internalPort": "53"}
    )
    story.when.run(GATEWAY_POD, f"{DNAT_ADD} 192.168.100.11,53,udp,10.0.0.9,53")
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}", "DNATConfigured dnat/web", "DNATConfigured dnat/dns")


def test_a_rule_that_is_made_after_its_command_counts_as_configured():
    story = Story()
    gateway(story)
    story.given.run(GATEWAY_POD, DNAT_ADD)
    story.when.create("dnat/d", DNAT)
    story.then.recorded("DNATCreated dnat/d", "DNATConfigured dnat/d")


def test_a_new_gateway_pod_needs_every_rule_again_each_by_its_own_verb():
    story = Story()
    gateway(story)
    story.given.create("snat/s", SNAT)
    story.given.create("dnat/d", DNAT)
    story.given.run(GATEWAY_POD, "snat-add 192.168.100.11,10.0.0.0/24")
    story.given.run(GATEWAY_POD, DNAT_ADD)
    replace_gateway_pod(story.when)
    story.then.recorded(
        f"PodCreated {GATEWAY_POD}",
        "GatewayPodStarted nat-gateway/gw",
        "EIPGatewayPodReplaced eip/out",
        "DNATGatewayPodReplaced dnat/d",
        "SNATGatewayPodReplaced snat/s",
    )
    story.when.run(GATEWAY_POD, DNAT_ADD)
    story.then.is_in("dnat/d", "READY")
    story.is_in("snat/s", "REDO")
    story.is_in("eip/out", "REDO")


@pytest.mark.parametrize(
    ("rule", "fields", "add", "change"),
    [
        ("snat/s", SNAT, "snat-add 192.168.100.11,10.0.0.0/24", {"spec.internalCIDR": "10.0.1.0/24"}),
        *(
            ("dnat/d", DNAT, DNAT_ADD, {f"spec.{name}": value})
            for name, value in [
                ("externalPort", "81"),
                ("protocol", "udp"),
                ("internalIp", "10.0.0.8"),
                ("internalPort", "81"),
            ]
        ),
    ],
)
def test_a_rule_that_maps_something_else_has_to_be_configured_again(rule, fields, add, change):
    story = Story()
    gateway(story)
    story.given.create(rule, fields)
    story.given.run(GATEWAY_POD, add)
    story.then.is_in(rule, "READY")
    story.when.write(rule, change, by="alice")
    story.then.recorded(f"{rule.split('/')[0].upper()}Retargeted {rule}")
    story.is_in(rule, "REDO")


@pytest.mark.parametrize(
    "second", [{}, {"spec.protocol": "TCP"}, {"spec.internalIp": "10.0.0.8"}, {"spec.type": "share"}]
)
def test_a_second_dnat_on_a_port_clashes_and_can_go(second):
    story = Story()
    story.given.create("eip/out")
    story.given.create("dnat/first", DNAT)
    story.when.create("dnat/second", {**DNAT, **second})
    story.then.recorded("refused DNATCreated dnat/second")
    story.is_in("dnat/second", "CLASHING")
    assert "port 8080/tcp of EIP out is already used by DNAT first" in story.last[0].reason
    story.when.delete("dnat/second")
    story.then.is_in("dnat/second", "GONE")


@pytest.mark.parametrize(
    "second", [{"spec.protocol": "udp"}, {"spec.externalPort": "8081"}, {"spec.eip": "other"}, {"spec.protocol": None}]
)
def test_dnats_on_different_ports_live_side_by_side(second):
    story = Story()
    story.given.create("eip/out")
    story.given.create("dnat/first", DNAT)
    story.when.create("dnat/second", {**DNAT, **second})
    story.then.recorded("DNATCreated dnat/second")


def test_dnats_that_share_a_port_say_so_both():
    story = Story()
    story.given.create("dnat/first", {**DNAT, "spec.type": "share"})
    story.when.create("dnat/second", {**DNAT, "spec.type": "share", "spec.internalIp": "10.0.0.8"})
    story.then.recorded("DNATCreated dnat/second")
    story.when.create("dnat/third", {**DNAT, "spec.type": "exclusive"})
    story.then.recorded("refused DNATCreated dnat/third")


@pytest.mark.parametrize(
    ("first", "second", "because"),
    [
        ("fip/f", "dnat/d", "EIP out is already used by FIP f, which shadows it"),
        ("dnat/d", "fip/f", "EIP out is already used by DNAT d, which the FIP would shadow"),
    ],
)
def test_a_fip_and_a_dnat_on_one_eip_clash(first, second, because):
    fields = {"fip/f": {"spec.eip": "out", "spec.internalIp": "10.0.0.9"}, "dnat/d": DNAT}
    story = Story()
    story.given.create(first, fields[first], held=True)
    story.when.create(second, fields[second])
    story.then.is_in(second, "CLASHING")
    assert because in story.last[0].reason
    story.when.delete(second)
    story.when.delete(first)
    story.when.create(second, fields[second])
    story.then.is_in(second, "REQUESTED")


def test_a_snat_goes_with_every_other_rule():
    story = Story()
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.given.create("snat/one", SNAT)
    story.when.create("snat/two", SNAT)
    story.when.create("dnat/d", {**DNAT, "spec.eip": "other"})
    story.when.create("snat/three", {**SNAT, "spec.eip": "other"})
    assert story.refusals() == []


def test_an_eip_that_goes_under_rules_names_them_all():
    story = Story()
    story.given.create("eip/out")
    story.given.create("snat/s", SNAT)
    for number in range(4):
        story.given.create(f"dnat/d{number}", {**DNAT, "spec.externalPort": str(number)})
    story.when.delete("eip/out")
    story.then.recorded("refused EIPRemoved eip/out")
    assert "DNAT d0, d1, d2 and SNAT s still hang on it" in story.last[0].reason


# ---- OvnEip and the rules on it

OVN_RULES = [
    ("ofip/r", "OvnFIP", "OvnFip"),
    ("osnat/r", "OvnSNAT", "OvnSnatRule"),
    ("odnat/r", "OvnDNAT", "OvnDnatRule"),
]


@pytest.mark.parametrize(("rule", "name", "title"), OVN_RULES)
def test_an_ovn_eip_waits_for_its_rules_terminating_or_not(rule, name, title):
    story = Story()
    story.given.create("oeip/out", {"spec.externalSubnet": "external"}, held=True)
    story.given.create(rule, {"spec.ovnEip": "out", "spec.vpc": "shop"}, held=True)
    story.given.delete(rule)
    story.when.delete("oeip/out")
    story.then.is_in("oeip/out", "TERMINATING")
    story.when.release(rule)
    story.then.recorded(f"{name}Removed {rule}")
    story.when.release("oeip/out")
    story.then.recorded("OvnEIPRemoved oeip/out")
    assert story.refusals() == []


@pytest.mark.parametrize(("rule", "name", "title"), OVN_RULES)
def test_an_ovn_eip_that_goes_under_a_rule_is_a_ghost(rule, name, title):
    story = Story()
    story.given.create("oeip/out")
    story.given.create(rule, {"spec.ovnEip": "out"})
    story.when.delete("oeip/out")
    story.then.recorded("refused OvnEIPRemoved oeip/out")
    story.is_in("oeip/out", "GHOST")
    assert f"{title} r still uses it" in story.last[0].reason
    story.when.create("oeip/out")
    story.then.is_in("oeip/out", "CREATED")


@pytest.mark.parametrize(("rule", "name", "title"), OVN_RULES)
def test_an_ovn_rule_holds_the_address_that_it_was_made_with_whatever_its_spec_says_later(rule, name, title):
    story = Story()
    story.given.create("oeip/out")
    story.given.create(rule, {"spec.ovnEip": "out"})
    story.given.write(rule, {"metadata.annotations[ovn.kubernetes.io/vpc_eip]": "out"})
    story.when.write(rule, {"spec.ovnEip": "other"}, by="alice")
    story.then.recorded(f"{name}SpecChanged {rule}")
    story.when.delete("oeip/out")
    story.then.recorded("refused OvnEIPRemoved oeip/out")


@pytest.mark.parametrize(("rule", "name", "title"), OVN_RULES)
def test_no_rule_may_use_the_address_of_a_gateway_node(rule, name, title):
    story = Story()
    story.given.create("oeip/node", {"spec.type": "lsp"})
    story.given.create("oeip/router", {"spec.type": "lrp"})
    story.when.create(rule, {"spec.ovnEip": "node"})
    story.then.recorded(f"refused {name}Created {rule}")
    story.is_in(rule, "UNUSABLE")
    assert "OvnEip node is of type lsp" in story.last[0].reason
    story.when.delete(rule)
    story.when.create(rule, {"spec.ovnEip": "router"})
    story.then.recorded(f"{name}Created {rule}")


@pytest.mark.parametrize(("rule", "name", "title"), OVN_RULES)
def test_nothing_that_runs_in_a_gateway_pod_moves_an_ovn_kind(rule, name, title):
    story = Story()
    gateway(story)
    story.given.create("oeip/out", {"spec.v4Ip": "192.168.100.12"})
    story.given.create(rule, {"spec.ovnEip": "out", "spec.v4Ip": "10.0.0.9"})
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.12")
    story.then.recorded(f"GatewayCommandStarted {GATEWAY_POD}")
    replace_gateway_pod(story.when)
    story.then.is_in("oeip/out", "CREATED")
    story.is_in(rule, "CREATED")


def test_a_subnet_that_goes_under_an_ovn_eip_is_a_ghost():
    story = Story()
    story.given.create("subnet/external")
    story.given.create("oeip/out", {"spec.externalSubnet": "external"})
    story.when.delete("subnet/external")
    story.then.is_in("subnet/external", "GHOST")
    assert "oeip/out is still in it" in story.last[0].reason


# ---- gateway


def test_a_gateway_that_goes_under_an_eip_is_a_ghost():
    story = Story()
    gateway(story)
    story.when.delete("nat-gateway/gw")
    story.then.recorded("refused NatGatewayRemoved nat-gateway/gw")
    story.is_in("nat-gateway/gw", "GHOST")
    assert "EIP out still uses it" in story.last[0].reason


def test_what_a_pod_of_the_gateway_is_goes_by_its_labels_and_not_by_its_name():
    story = Story()
    story.given.create("nat-gateway/edge")
    story.when.create(
        "pod/net/anything",
        {"metadata.labels[app]": "vpc-nat-gw-edge", "metadata.labels[ovn.kubernetes.io/vpc-nat-gw]": "true"},
    )
    story.then.recorded("PodCreated pod/net/anything", "GatewayPodStarted nat-gateway/edge")
    story.when.create("pod/net/vpc-nat-gw-edge-0")
    story.then.recorded("PodCreated pod/net/vpc-nat-gw-edge-0")


def test_replacing_a_pod_leaves_the_gateway_running():
    story = Story()
    gateway(story)
    replace_gateway_pod(story)
    story.then.is_in("nat-gateway/gw", "RUNNING")


# ---- Namespace

SWITCH = "metadata.annotations[ovn.kubernetes.io/logical_switch]"


def test_a_namespace_is_bound_by_its_annotation_and_unbound_without():
    story = Story()
    story.given.create("namespace/shop")
    story.then.is_in("namespace/shop", "UNBOUND")
    story.when.write("namespace/shop", {SWITCH: "a"})
    story.then.recorded("NamespaceBound namespace/shop")
    story.when.write("namespace/shop", {"metadata.labels[team]": "x"}, by="alice")
    story.then.recorded("NamespaceRelabelled namespace/shop")
    story.is_in("namespace/shop", "BOUND")
    story.when.write("namespace/shop", {SWITCH: None})
    story.then.recorded("NamespaceUnbound namespace/shop")
    story.is_in("namespace/shop", "UNBOUND")


def test_a_namespace_goes_in_two_steps():
    story = Story()
    story.given.create("namespace/shop")
    story.when.delete("namespace/shop")
    story.then.is_in("namespace/shop", "TERMINATING")
    story.when.write("namespace/shop", {SWITCH: "a"})
    story.then.is_in("namespace/shop", "TERMINATING")
    story.when.remove("namespace/shop")
    story.then.is_in("namespace/shop", "GONE")
    assert story.refusals() == []


# ---- who names whom


def test_the_world_knows_who_names_whom_through_every_change():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("vpc/other")
    story.given.create("subnet/a", {"spec.vpc": "shop"})

    def naming(vpc: str) -> list[str]:
        return [subnet.key.name for subnet in story.world.naming(Key("vpc", "", vpc), "subnet")]

    assert (naming("shop"), naming("other")) == (["a"], [])
    story.when.write("subnet/a", {"spec.vpc": "other"}, by="alice")
    assert (naming("shop"), naming("other")) == ([], ["a"])
    story.when.delete("subnet/a")
    assert (naming("shop"), naming("other")) == ([], [])


def test_a_removal_by_another_hand_than_the_finalizers_is_remembered():
    story = Story()
    for path, hand in (("vpc/own", CONTROLLER), ("vpc/hand", "alice")):
        story.given.create(path)
        story.given.hold(path)
        story.given.delete(path)
        story.when.release(path, by=hand)
    departed = story.world.departed["vpc"]
    assert not departed[Key("vpc", "", "own")].by_hand
    assert departed[Key("vpc", "", "hand")].by_hand
