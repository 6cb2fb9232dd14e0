"""Readiness of EIPs and their rules as a fold: configured in the pod of today, or not, or unknown, and a sentence why."""

import pytest

from projections.eip_readiness import NAT, READY
from tests.domain.stories import GATEWAY_LABELS, GATEWAY_POD, KUBELET, Story, gateway, replace_gateway_pod


def ready(story: Story, path: str = "eip/out") -> tuple[object, str]:
    standing = story.standing(path)
    return standing.lawful[READY], standing.because[READY]


def test_configured_in_the_pod_of_today_is_ready_whatever_the_status_says():
    story = Story()
    gateway(story)
    story.when.status("eip/out", {"ready": False})
    value, why = ready(story)
    assert value is True and "eip-add 192.168.100.11 was started in kube-system/vpc-nat-gw-gw-0" in why
    assert story.standing("eip/out").drift == {READY: {"lawful": True, "reported": False}}


def test_not_configured_in_the_pod_of_today_is_not_ready_whatever_the_status_says():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.99")
    value, why = ready(story)
    assert value is False and "no evidence that eip-add 192.168.100.11" in why
    assert story.standing("eip/out").drift == {READY: {"lawful": False, "reported": True}}


def test_the_pod_of_today_is_named_with_its_uid():
    story = Story()
    gateway(story)
    before = story.standing("eip/out").detail["gateway_pod_uid"]
    replace_gateway_pod(story.when)
    detail = story.standing("eip/out").detail
    assert detail["gateway_pod"] == "kube-system/vpc-nat-gw-gw-0"
    assert detail["gateway_pod_uid"] == story.uid(GATEWAY_POD) != before


def test_a_pod_that_is_going_is_not_the_pod_of_today():
    story = Story()
    gateway(story)
    other = "pod/kube-system/vpc-nat-gw-gw-1"
    story.given.create(other, GATEWAY_LABELS)
    assert story.standing("eip/out").detail["gateway_pod"] == "kube-system/vpc-nat-gw-gw-1", "the one made last counts"
    story.when.delete(other)
    assert story.standing("eip/out").detail["gateway_pod"] == "kube-system/vpc-nat-gw-gw-0"


def test_without_a_pod_it_is_unknown():
    story = Story()
    gateway(story)
    story.when.delete(GATEWAY_POD)
    story.when.delete(GATEWAY_POD, by=KUBELET)
    value, why = ready(story)
    assert value is None and "no pod of gateway gw is known" in why
    assert story.standing("eip/out").drift == {}


def test_without_a_gateway_it_is_unknown():
    story = Story()
    story.given.create("eip/out", {"spec.v4ip": "192.168.100.11"})
    assert ready(story)[0] is None


def test_without_any_exec_in_that_pod_it_is_unknown():
    story = Story()
    gateway(story, configured=False)
    value, why = ready(story)
    assert value is None and "no exec at all is recorded" in why


def test_in_a_pod_older_than_the_log_it_is_unknown_unless_it_was_seen():
    story = Story()
    story.given.exists(GATEWAY_POD, GATEWAY_LABELS)
    story.given.write(GATEWAY_POD, {"metadata.annotations[a]": "b"})
    story.given.create("eip/out", {"spec.natGwDp": "gw", "spec.v4ip": "192.168.100.11"})
    story.given.run(GATEWAY_POD, "eip-add 192.168.100.99")
    value, why = ready(story)
    assert value is None and "older than the log" in why
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    assert ready(story)[0] is True


def test_an_eip_without_an_address_is_not_ready():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    story.given.create("eip/out", {"spec.natGwDp": "gw"})
    assert ready(story) == (False, "it has no address yet")


def test_added_deleted_and_added_again_is_ready():
    story = Story()
    gateway(story)
    story.when.run(GATEWAY_POD, "eip-del 192.168.100.11/24")
    assert ready(story)[0] is False
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    assert ready(story)[0] is True


def test_a_rule_is_ready_by_its_own_verb_for_both_its_addresses():
    story = Story()
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    assert ready(story, "fip/f")[0] is False
    story.when.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.8")
    assert ready(story, "fip/f")[0] is False
    story.when.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.9")
    assert ready(story, "fip/f")[0] is True


def test_a_rule_whose_eip_is_not_known_goes_by_what_its_status_says():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    story.given.create("fip/f", {"spec.eip": "never-heard-of", "spec.internalIp": "10.0.0.9"})
    assert ready(story, "fip/f")[0] is None
    story.when.status("fip/f", {"v4ip": "192.168.100.11", "natGwDp": "gw"})
    story.when.run(GATEWAY_POD, "floating-ip-add 192.168.100.11,10.0.0.9")
    assert ready(story, "fip/f")[0] is True


def test_nat_lists_the_rules_that_hang_on_it():
    story = Story()
    gateway(story)
    assert story.standing("eip/out").lawful[NAT] == ""
    story.given.create("fip/f", {"spec.eip": "out"}, held=True)
    assert story.standing("eip/out").lawful[NAT] == "fip"
    story.when.delete("fip/f")
    assert story.standing("eip/out").lawful[NAT] == ""


def test_nat_lists_each_kind_once_in_upstreams_order():
    story = Story()
    story.given.create("eip/out")
    for path in ("snat/one", "snat/two", "fip/f", "dnat/d"):
        story.given.create(path, {"spec.eip": "out"}, held=True)
    assert story.standing("eip/out").lawful[NAT] == "dnat,fip,snat"
    story.when.delete("snat/one")
    story.when.delete("fip/f")
    assert story.standing("eip/out").lawful[NAT] == "dnat,snat"


def test_a_rule_that_moves_to_another_eip_is_listed_there():
    story = Story()
    story.given.create("eip/out")
    story.given.create("eip/other")
    story.given.create("snat/s", {"spec.eip": "out"})
    story.when.write("snat/s", {"spec.eip": "other"}, by="alice")
    assert [story.standing(f"eip/{name}").lawful[NAT] for name in ("out", "other")] == ["", "snat"]


@pytest.mark.parametrize("kind", ["dnat", "fip", "snat", "of-a-later-release"])
def test_nat_that_lists_a_rule_that_was_never_heard_of_is_unknown(kind):
    story = Story()
    gateway(story)
    story.when.status("eip/out", {"nat": kind})
    standing = story.standing("eip/out")
    assert standing.lawful[NAT] is None and standing.reported[NAT] == kind and NAT not in standing.drift


@pytest.mark.parametrize("kind", ["dnat", "fip", "snat"])
def test_nat_that_lists_a_rule_that_was_seen_to_go_drifts(kind):
    story = Story()
    gateway(story)
    story.given.create(f"{kind}/x", {"spec.eip": "out"})
    story.given.status("eip/out", {"nat": kind})
    story.when.delete(f"{kind}/x")
    assert story.standing("eip/out").drift[NAT] == {"lawful": "", "reported": kind}


def test_nat_of_an_eip_older_than_the_log_may_have_rules_that_are_older_too():
    story = Story()
    story.given.exists("eip/out", {"status.nat": "snat"})
    story.given.create("snat/s", {"spec.eip": "elsewhere"})
    story.given.delete("snat/s")
    story.when.write("eip/out", {"metadata.labels[a]": "b"})
    assert story.standing("eip/out").lawful[NAT] is None


@pytest.mark.parametrize(
    ("path", "fields", "wrong", "right"),
    [
        (
            "snat/s",
            {"spec.internalCIDR": "10.0.0.0/24"},
            "snat-add 192.168.100.11,10.0.0.0/16",
            "snat-add 192.168.100.11,10.0.0.0/24",
        ),
        (
            "dnat/d",
            {
                "spec.externalPort": "8080",
                "spec.protocol": "tcp",
                "spec.internalIp": "10.0.0.9",
                "spec.internalPort": "80",
            },
            "dnat-add 192.168.100.11,8080,udp,10.0.0.9,80",
            "dnat-add 192.168.100.11,8080,tcp,10.0.0.9,80",
        ),
    ],
)
def test_snat_and_dnat_are_ready_by_their_own_verbs(path, fields, wrong, right):
    story = Story()
    gateway(story)
    story.given.create(path, {"spec.eip": "out", **fields})
    story.when.run(GATEWAY_POD, wrong)
    value, why = ready(story, path)
    assert value is False and f"no evidence that {right}" in why
    story.when.run(GATEWAY_POD, right)
    value, why = ready(story, path)
    assert value is True and f"{right} was started in kube-system/vpc-nat-gw-gw-0" in why


def test_a_dnat_that_shares_its_port_is_unknown():
    story = Story()
    gateway(story)
    story.given.create("dnat/d", {"spec.eip": "out", "spec.type": "share"})
    value, why = ready(story, "dnat/d")
    assert value is None and "not by dnat-add" in why


def test_a_dnat_without_its_ports_is_not_ready():
    story = Story()
    gateway(story)
    story.given.create("dnat/d", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    assert ready(story, "dnat/d")[0] is False


@pytest.mark.parametrize("path", ["oeip/out", "ofip/r", "osnat/r", "odnat/r"])
def test_what_ovn_does_is_unknown_whatever_the_status_says(path):
    story = Story()
    story.given.create(path, {"spec.ovnEip": "out"})
    story.when.status(path, {"ready": True})
    value, why = ready(story, path)
    assert value is None and "no audit log shows" in why
    standing = story.standing(path)
    assert standing.reported[READY] is True and standing.drift == {}


def test_nat_of_an_ovn_eip_leaves_out_rules_in_deletion():
    story = Story()
    story.given.create("oeip/out")
    for path in ("osnat/s", "ofip/f", "odnat/d"):
        story.given.create(path, {"spec.ovnEip": "out"}, held=True)
    story.given.status("oeip/out", {"nat": "dnat,fip,snat"})
    assert story.standing("oeip/out").lawful[NAT] == "dnat,fip,snat"
    story.when.delete("ofip/f")
    assert story.standing("oeip/out").drift[NAT] == {"lawful": "dnat,snat", "reported": "dnat,fip,snat"}
    story.when.release("ofip/f")
    story.when.status("oeip/out", {"nat": "dnat,snat"})
    assert story.standing("oeip/out").drift == {}


@pytest.mark.parametrize("listed", ["fip", "ofip", "vip"])
def test_nat_of_an_ovn_eip_that_lists_what_was_never_heard_of_is_unknown(listed):
    story = Story()
    story.given.create("oeip/out")
    story.given.create("fip/of-another-family", {"spec.eip": "out"})
    story.given.delete("fip/of-another-family")
    story.when.status("oeip/out", {"nat": listed})
    assert story.standing("oeip/out").lawful[NAT] is None
