"""Sets on a node: whose they are by name, what their options and temporary names mean, and what each record makes of them."""

from collections.abc import Iterable

import pytest

from domain import ipset
from domain.decide import decide
from domain.events import OBSERVED, Event
from domain.ipset import DUMP, LOAD, RESTORE, Effect
from domain.ipset_names import is_temporary, owner_of, temporary_name
from domain.operations import MADE, SEEN, Operation, OrderKey
from domain.resources import BY_RESOURCE, Key, kind_called
from domain.world import World

OPTIONS = "family inet maxelem 65536 timeout 0"


class Told:
    """A node's records as they are decided, and the world that they make."""

    def __init__(self) -> None:
        self.world = World()
        self.at = 0

    def __call__(self, verb: str, sets: dict[str, Effect], actor: str = "ipvs", node: str = "n1") -> list[str]:
        """What one record became, without its summary: `IPSetCreated web`, `missed web`."""
        order = OrderKey(0, 1, self.at, f"ipset:{self.at}")
        outcome = MADE if verb == RESTORE else SEEN
        events = decide(
            self.world,
            Operation(
                order=order, key=Key("ipset", node, ""), verb=verb, outcome=outcome, actor=actor, after=dict(sets)
            ),
        )
        for event in events:
            self.at += 1
            self.world.evolve(event, self.at)
        assert events[0].type == OBSERVED and events[0].key == Key("ipset", node, "")
        assert all(event.order == order for event in events)
        return [said(event) for event in events[1:]]

    def members(self, name: str, node: str = "n1") -> list[str]:
        return list(self.world.live[Key("ipset", node, name)].fields["members"])

    def state(self, name: str, node: str = "n1") -> str:
        return self.world.state(Key("ipset", node, name))


def said(event: Event) -> str:
    return f"{event.outcome if event.type == OBSERVED else event.type} {event.key.name}"


def of(*members: str) -> Effect:
    return Effect("hash:ip", OPTIONS, tuple(sorted(members)))


def delta(added: Iterable[str] = (), removed: Iterable[str] = ()) -> Effect:
    return Effect(added=tuple(added), removed=tuple(removed))


# ---- names


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("kube-router-pod-subnets", "routing"),
        ("inet6:kube-router-node-ips", "routing"),
        ("kube-router-local-ips", "proxy"),
        ("kube-router-svip-prt", "proxy"),
        ("inet6:kube-router-svip", "proxy"),
        ("kube-router-ipvs-services", "proxy"),
        ("kube-router-local-pods", "netpol"),
        ("KUBE-DST-Y7M4WSXLMRIHKHO2", "netpol"),
        ("inet6:KUBE-SRC-Y7M4WSXLMRIHKHO2", "netpol"),
        ("KUBE-DST-short", ""),
        ("ovn40subnets-distributed-gw", "kube-ovn"),
        ("ovn60natpr-0a1b2c3d4e5f-src", "kube-ovn"),
        ("istio-inpod-probes-v4", ""),
        ("blocklist", ""),
    ],
)
def test_a_set_belongs_to_whom_its_name_says(name, owner):
    assert owner_of(name) == owner


@pytest.mark.parametrize(
    ("actor", "role"),
    [
        ("ipvs-controller", "proxy"),
        ("netpol-controller", "netpol"),
        ("NetworkPolicyController", "netpol"),
        ("kube-proxy", "proxy"),
        ("routes-controller", "routing"),
        ("kube-router", ""),
        ("kube-router/proxy", "proxy"),
        ("system:serviceaccount:kube-system:kube-router", ""),
        ("system:serviceaccount:kube-system:ovn", "kube-ovn"),
        ("lab", ""),
        ("service-policy", ""),
        ("", ""),
    ],
)
def test_a_writer_is_who_its_name_says_and_a_project_or_two_roles_say_nothing(actor, role):
    assert ipset.role(actor) == role


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("hash:ip family inet hashsize 1024 maxelem 65536 timeout 0", "TMP-MOR3H7HU5JDLK6FI"),
        ("hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 0", "TMP-DEZFJSJBULNQ6H3V"),
        ("hash:ip timeout 0", "TMP-PRBJ7ASFQM5DJR3Q"),
        ("hash:net timeout 0", "TMP-LP6R7TXZCLIUYMBN"),
        ("hash:ip timeout 0 family inet6", "TMP-3TF2IQ5MKRP6NAJL"),
    ],
)
def test_a_temporary_name_is_made_of_type_and_options_and_tells_them(options, name):
    assert temporary_name(options) == name
    type, *words = options.split()
    assert ipset.meaning_of_temporary(name) == (type, ipset.canonical_options(type, words))
    assert is_temporary(name) and len(name) <= 31


def test_other_temporary_names_are_known_as_such_and_an_own_one_is_no_controllers():
    assert is_temporary("ovn4t0") and is_temporary("inet6:TMP-MOR3H7HU5JDLK6FI")
    assert not is_temporary("TMP-mine") and not is_temporary("ovn40services")
    own = ipset.own_temporary_name("kube-router-svip")
    assert is_temporary(own) and ipset.meaning_of_temporary(own) == ("", "")


def test_what_the_kernel_chooses_by_itself_is_no_difference():
    fresh = ipset.canonical_options("hash:ip", ["timeout", "0"])
    kernel = "family inet hashsize 4096 maxelem 65536 timeout 0 bucketsize 12 initval 0x5a1fbbb0"
    assert ipset.canonical_options("hash:ip", kernel.split(" ")) == fresh == OPTIONS
    assert ipset.canonical_options("hash:ip", ["maxelem", "9"]) != ipset.canonical_options("hash:ip", [])
    assert ipset.canonical_options("list:set", ["size", "8"]) == "size 8"


def test_no_record_of_the_api_server_is_about_an_ipset():
    assert ("", "ipsets") not in BY_RESOURCE and kind_called("ipsets").name == "ipset"


# ---- what records make of sets


def test_a_set_is_made_where_the_node_was_seen_without_it_and_sighted_where_it_was_not():
    told = Told()
    assert told(RESTORE, {"web": of("10.0.0.1")}) == ["IPSetSighted web"]
    assert told(DUMP, {}) == ["IPSetVanished web"]
    assert told(RESTORE, {"web": of("10.0.0.1")}) == ["IPSetCreated web"]
    assert told(RESTORE, {"web": of("10.0.0.1")}, node="n2") == ["IPSetSighted web"]
    assert (told.state("web"), told.state("web", "n2")) == (ipset.PRESENT, "SIGHTED")


def test_a_restore_is_told_of_every_set_that_it_writes_and_says_what_moved():
    told = Told()
    told(DUMP, {"web": of("10.0.0.1"), "db": of("10.0.0.2")})
    assert told(RESTORE, {"web": of("10.0.0.3"), "db": of("10.0.0.2")}) == ["IPSetRestored db", "IPSetRestored web"]
    assert told.members("web") == ["10.0.0.3"] and told.state("web") == ipset.PRESENT


def test_single_commands_change_single_members():
    told = Told()
    told(DUMP, {"web": of("10.0.0.1"), "db": of()})
    assert told(RESTORE, {"web": delta(added=["10.0.0.2"], removed=["10.0.0.1"])}) == ["IPSetMembersChanged web"]
    assert told.members("web") == ["10.0.0.2"]
    assert told(RESTORE, {"web": Effect(gone=True), "never": Effect(gone=True)}) == ["IPSetDestroyed web"]
    assert told.state("web") == "GONE"


def test_single_commands_on_a_set_that_nobody_saw_leave_its_content_unknown_until_it_is_seen_whole():
    told = Told()
    assert told(RESTORE, {"web": delta(added=["10.0.0.2"])}) == ["IPSetSighted web"]
    assert told.world.live[Key("ipset", "n1", "web")].blurred
    assert told(DUMP, {"web": of("10.0.0.1", "10.0.0.2")}) == ["IPSetSighted web"]
    assert not told.world.live[Key("ipset", "n1", "web")].blurred and len(told.members("web")) == 2


def test_a_dump_that_says_the_same_is_one_event_and_one_that_differs_says_what_was_missed():
    told = Told()
    told(RESTORE, {"web": of("10.0.0.1"), "db": of()})
    assert told(DUMP, {"web": of("10.0.0.1"), "db": of()}) == []
    assert told(DUMP, {"web": of("10.0.0.9"), "db": of()}) == ["missed web"]
    assert told.members("web") == ["10.0.0.9"]


def test_a_dump_of_one_set_is_silent_about_all_others():
    told = Told()
    told(DUMP, {"web": of("10.0.0.1"), "db": of()})
    assert told(DUMP, {"web": of("10.0.0.1")}) == []
    assert told(DUMP, {"web": of("10.0.0.1"), "new": of()}) == ["IPSetSighted new", "IPSetVanished db"]


def test_sets_of_nftables_and_of_ipset_do_not_make_each_other_vanish():
    told = Told()
    told(DUMP, {"web": of(), "db": of()})
    assert told(DUMP, {"nft:inet:f:a": of(), "nft:inet:f:b": of()}) == [
        "IPSetSighted nft:inet:f:a",
        "IPSetSighted nft:inet:f:b",
    ]
    assert told(DUMP, {"web": of(), "db": of()}) == []


def test_what_a_writer_loads_is_kept_with_the_set_and_forgotten_when_it_loads_without_it():
    told = Told()
    told(DUMP, {"web": of("10.0.0.1"), "db": of()})
    assert told(LOAD, {"web": Effect(members=("10.0.0.1",))}) == ["IPSetRead web"]
    assert told(LOAD, {"web": Effect(members=("10.0.0.1",))}) == []
    assert told(LOAD, {"web": Effect(members=("10.0.0.1",))}, actor="netpol") == ["IPSetRead web"]
    assert told(LOAD, {}) == ["IPSetRead web"]
    fields = told.world.live[Key("ipset", "n1", "web")].fields
    assert fields["memory[netpol]"] == ["10.0.0.1"] and "memory[ipvs]" not in fields
    assert told.members("web") == ["10.0.0.1"]


def test_a_temporary_set_left_behind_is_stranded_until_it_goes():
    told = Told()
    left = {"TMP-MOR3H7HU5JDLK6FI": of("10.0.0.1"), "web": of()}
    assert told(DUMP, left) == ["IPSetStranded TMP-MOR3H7HU5JDLK6FI", "IPSetSighted web"]
    assert told.state("TMP-MOR3H7HU5JDLK6FI") == ipset.STRANDED
    assert told(DUMP, left) == []
    assert told(RESTORE, {"TMP-MOR3H7HU5JDLK6FI": Effect(gone=True)}) == ["IPSetDestroyed TMP-MOR3H7HU5JDLK6FI"]
