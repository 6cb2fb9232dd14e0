"""The names of ipsets, against names that kube-router itself gave: from its own tests' dump and from real restores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ipset_names import (
    DESTINATION,
    FAMILIES,
    IPV4,
    IPV6,
    SOURCE,
    as_printed,
    family_of,
    family_of_address,
    is_temporary,
    kube_ovn_name,
    named_port_set,
    options_of,
    owner_of,
    peer_set,
    set_type_of,
    target_set,
    temporary_name,
)


def test_a_policys_set_has_the_name_that_a_real_kernel_had():
    """The recording s3-buggy: NetworkPolicy web/shop-in, and the set that its controller made."""
    assert target_set(DESTINATION, "web", "shop-in", IPV4) == "KUBE-DST-Y7M4WSXLMRIHKHO2"


def test_before_2_the_family_was_not_in_the_text():
    before = target_set(DESTINATION, "web", "shop-in", IPV4, before_2=True)
    assert before == "KUBE-DST-B5XZXAJFJP4VLNXX"
    assert target_set(DESTINATION, "web", "shop-in", IPV6, before_2=True) == f"inet6:{before}"


def test_the_target_sets_of_both_directions_share_their_hash():
    destination, source = (target_set(prefix, "web", "shop-in", IPV4) for prefix in (DESTINATION, SOURCE))
    assert destination.removeprefix(DESTINATION) == source.removeprefix(SOURCE)


def test_the_peers_of_ingress_are_sources_and_those_of_egress_destinations_as_are_all_named_ports():
    assert peer_set("ingress", "web", "p", 0, "pod", IPV4).startswith(SOURCE)
    assert peer_set("egress", "web", "p", 0, "ipblock", IPV4).startswith(DESTINATION)
    for direction in ("ingress", "egress"):
        assert named_port_set(direction, "web", "p", 0, 0, IPV6).startswith(f"inet6:{DESTINATION}")


def test_every_set_of_a_policy_has_a_name_of_its_own_within_what_the_kernel_takes():
    names = [
        *(target_set(prefix, "web", "p", family) for prefix in (DESTINATION, SOURCE) for family in FAMILIES),
        *(
            peer_set(direction, "web", "p", rule, what, family)
            for direction in ("ingress", "egress")
            for rule in range(12)
            for what in ("pod", "ipblock")
            for family in FAMILIES
        ),
        *(
            named_port_set(direction, "web", "p", rule, port, family)
            for direction in ("ingress", "egress")
            for rule in range(3)
            for port in range(3)
            for family in FAMILIES
        ),
    ]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) == 31
    assert {owner_of(name) for name in names} == {"netpol"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("TMP-MOR3H7HU5JDLK6FI", "hash:ip family inet hashsize 1024 maxelem 65536 timeout 0"),
        ("TMP-DEZFJSJBULNQ6H3V", "hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 0"),
        ("TMP-RSBHANEMWCYCBHBT", "hash:net family inet hashsize 1024 maxelem 65536 timeout 0"),
        ("TMP-TF3INM4IEYGA443O", "hash:ip,port timeout 0"),
        ("TMP-PRBJ7ASFQM5DJR3Q", "hash:ip timeout 0"),
        ("TMP-LP6R7TXZCLIUYMBN", "hash:net timeout 0"),
        ("TMP-3TF2IQ5MKRP6NAJL", "hash:ip timeout 0 family inet6"),
    ],
)
def test_a_temporary_name_of_a_real_restore_tells_its_type_and_options(name, options):
    assert temporary_name(options) == name
    assert options_of(name) == options
    assert set_type_of(name) == options.split()[0]
    assert family_of(name) == (IPV6 if "inet6" in options else IPV4)
    assert is_temporary(name) and owner_of(name) == ""


def test_a_hash_that_grew_has_another_temporary_name_and_is_known_too():
    grown = "hash:net family inet6 hashsize 4096 maxelem 65536 timeout 0 bucketsize 12"
    assert options_of(temporary_name(grown)) == grown


def test_a_temporary_name_of_options_that_kube_router_never_uses_tells_nothing():
    name = temporary_name("list:set size 8")
    assert is_temporary(name)
    assert (options_of(name), set_type_of(name), family_of(name)) == ("", "", "")


OWNED = {
    "kube-router-svip": ("proxy", "hash:ip"),
    "kube-router-svip-prt": ("proxy", "hash:ip,port"),
    "kube-router-service-ips": ("proxy", "hash:ip"),
    "kube-router-ipvs-services": ("proxy", "hash:ip,port"),
    "kube-router-local-ips": ("proxy", "hash:ip"),
    "kube-router-node-ips": ("routing", "hash:ip"),
    "kube-router-pod-subnets": ("routing", "hash:net"),
    "kube-router-local-pods": ("netpol", "hash:ip"),
    "KUBE-DST-IZ5JGF4W6BKI7CEV": ("netpol", ""),
    "KUBE-SRC-C2EUPKL23CCP4COF": ("netpol", ""),
}


@pytest.mark.parametrize("name", OWNED)
@pytest.mark.parametrize("family", FAMILIES)
def test_kube_routers_sets_have_one_owner_and_kind_in_both_families(name, family):
    prefixed = f"inet6:{name}" if family == IPV6 else name
    assert (owner_of(prefixed), set_type_of(prefixed)) == OWNED[name]
    assert family_of(prefixed) == family


@pytest.mark.parametrize(
    ("identity", "kind"),
    [
        ("services", "hash:net"),
        ("subnets", "hash:net"),
        ("subnets-nat", "hash:net"),
        ("subnets-distributed-gw", "hash:net"),
        ("subnets-nat-policy", "hash:net"),
        ("local-pod-ip-nat", "hash:ip"),
        ("other-node", "hash:net"),
        ("natpr-0123456789ab-src", "hash:net"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_kube_ovns_sets_tell_their_family_by_a_number(identity, kind, family):
    name = kube_ovn_name(identity, family)
    assert name == f"ovn{4 if family == IPV4 else 6}0{identity}"
    assert (owner_of(name), set_type_of(name), family_of(name)) == ("kube-ovn", kind, family)


@pytest.mark.parametrize(
    "name",
    ["", "kube-router-svip2", "KUBE-DST-short", "KUBE-DST-Y7M4WSXLMRIHKHO1", "cali40all-ipam-pools", "istio-inpod-probes-v4",
     "KUBE-CLUSTER-IP", "inet6:", "ovn40", "ovnsubnets", "TMP-short"],
)  # fmt: skip
def test_a_set_of_another_program_is_nobodys(name):
    assert (owner_of(name), set_type_of(name), family_of(name)) == ("", "", "")


@given(st.text(max_size=40))
def test_any_name_is_answered_and_an_owned_one_has_a_family(name):
    assert (owner_of(name) == "") or family_of(name) in FAMILIES


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("10.0.0.5/24", "10.0.0.0/24"),
        ("10.0.0.5/32", "10.0.0.5"),
        ("10.0.0.5", "10.0.0.5"),
        ("2001:0db8:0000::0001", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("2001:db8:0:0::/64", "2001:db8::/64"),
    ],
)
def test_addresses_and_ranges_are_written_as_ipset_prints_them(text, printed):
    assert as_printed(text) == printed


@given(st.ip_addresses())
def test_what_is_printed_is_printed_the_same_again(address):
    assert as_printed(as_printed(str(address))) == as_printed(str(address))
    assert family_of_address(str(address)) == f"IPv{address.version}"


@pytest.mark.parametrize("text", ["", "None", "lb.example.com", "10.0.0.0/33", "10.0.0", "1"])
def test_what_is_no_address_has_no_family(text):
    assert family_of_address(text) == ""
