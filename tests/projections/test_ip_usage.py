"""Subnet IP usage as a fold: how many addresses are used and free, in both families, and by whom."""

import pytest

from projections.ip_usage import AVAILABLE, USING, Usage
from tests.domain.stories import CONTROLLER, Story, key_of


def subnet(story: Story, cidr: str = "10.0.0.0/24", **changes: object) -> None:
    story.given.create("subnet/a", {"spec.cidrBlock": cidr, **{f"spec.{k}": v for k, v in changes.items()}})


def address(story: Story, name: str, v4: str = "10.0.0.2", v6: str = "", **changes: object) -> None:
    fields = {"spec.subnet": "a", "spec.v4IpAddress": v4, "spec.v6IpAddress": v6, **changes}
    story.create(f"ip/{name}", fields, by=CONTROLLER, held=True)


def lawful(story: Story) -> tuple[object, object]:
    standing = story.standing("subnet/a")
    return standing.lawful[USING[4]], standing.lawful[AVAILABLE[4]]


def test_every_address_counts_until_it_is_gone():
    story = Story()
    subnet(story)
    assert lawful(story) == (0, 254)
    address(story.when, "one")
    address(story.when, "two")
    assert lawful(story) == (2, 252)
    story.when.delete("ip/one")
    assert lawful(story) == (2, 252), "one in deletion holds its address"
    story.when.release("ip/one")
    assert lawful(story) == (1, 253)
    assert story.standing("subnet/a").detail["held_by"] == ["ip/two"]


def test_both_families_are_counted_apart():
    story = Story()
    subnet(story, "10.0.0.0/24,fd00::/120")
    address(story.when, "both", "10.0.0.2", "fd00::2")
    address(story.when, "six", "", "fd00::3")
    standing = story.standing("subnet/a")
    assert [standing.lawful[USING[version]] for version in (4, 6)] == [1, 2]
    assert [standing.lawful[AVAILABLE[version]] for version in (4, 6)] == [253, 252]
    assert standing.detail["held_by"] == ["ip/both", "ip/six"]


def test_an_address_that_only_ip_address_tells_of_is_counted():
    story = Story()
    subnet(story, "10.0.0.0/24,fd00::/120")
    address(story.when, "joined", "", "", **{"spec.ipAddress": "10.0.0.5,fd00::5"})
    standing = story.standing("subnet/a")
    assert [standing.lawful[USING[version]] for version in (4, 6)] == [1, 1]


@pytest.mark.parametrize(
    ("excluded", "available"),
    [
        ([], 254),
        (["10.0.0.1"], 253),
        (["10.0.0.1..10.0.0.10"], 244),
        (["10.0.0.1", "10.0.0.100..10.0.0.199"], 153),
        (["fd00::1..fd00::9"], 254),
    ],
)
def test_excluded_addresses_and_ranges_are_not_available(excluded, available):
    story = Story()
    subnet(story, excludeIps=excluded)
    assert lawful(story) == (0, available)


@pytest.mark.parametrize(("cidr", "available"), [("10.0.0.0/30", 2), ("10.0.0.0/32", 1), ("10.0.0.7/24", 254)])
def test_small_and_crooked_ranges(cidr, available):
    story = Story()
    subnet(story, cidr)
    assert lawful(story) == (0, available)


@pytest.mark.parametrize("changes", [{"cidr": "nonsense"}, {"cidr": "10.0.0.0/24", "excludeIps": ["x"]}])
def test_a_range_that_cannot_be_read_is_unknown_and_its_use_is_not(changes):
    story = Story()
    subnet(story, **changes)
    address(story.when, "one")
    assert lawful(story) == (1, None)


def test_a_huge_range_is_counted_exactly():
    story = Story()
    subnet(story, "fd00::/48")
    address(story.when, "one", "", "fd00::2")
    assert story.standing("subnet/a").lawful[AVAILABLE[6]] == 2**80 - 2 - 1


def test_an_ovn_eip_takes_an_address_of_a_subnet_with_a_vlan_once_it_has_one():
    story = Story()
    story.given.create("subnet/a", {"spec.cidrBlock": "192.168.100.0/24,fd00::/64", "spec.vlan": "vlan100"})
    story.given.create("subnet/plain", {"spec.cidrBlock": "192.168.101.0/24"})
    story.given.create("oeip/out", {"spec.externalSubnet": "a"})
    story.given.create("oeip/other", {"spec.externalSubnet": "plain", "spec.v4Ip": "192.168.101.12"})
    assert story.standing("subnet/a").detail["held_by"] == []
    story.when.write("oeip/out", {"spec.v4Ip": "192.168.100.12", "spec.v6Ip": "fd00::12"})
    assert story.standing("subnet/a").detail["held_by"] == ["oeip/out"]
    lawful = story.standing("subnet/a").lawful
    assert (lawful["status.v4usingIPs"], lawful["status.v6usingIPs"]) == (1, 1)
    assert story.standing("subnet/plain").detail["held_by"] == []


def test_an_eip_takes_an_address_of_an_external_subnet_once_it_has_one():
    story = Story()
    story.given.create("subnet/a", {"spec.cidrBlock": "192.168.100.0/24", "spec.provider": "macvlan.kube-system"})
    story.given.create("eip/out", {"spec.externalSubnet": "a"})
    assert lawful(story) == (0, 254)
    story.when.write("eip/out", {"spec.v4ip": "192.168.100.11"})
    assert lawful(story) == (1, 253)
    assert story.standing("subnet/a").detail["held_by"] == ["eip/out"]


def test_a_subnet_older_than_the_log_is_unknown():
    story = Story()
    story.given.exists("subnet/a", {"spec.cidrBlock": "10.0.0.0/24", "status.v4usingIPs": 9})
    story.given.write("subnet/a", {"metadata.labels[a]": "b"})
    address(story.when, "one")
    assert lawful(story) == (None, None)
    assert story.standing("subnet/a").drift == {}


def test_a_subnet_that_a_write_without_bodies_blurred_is_unknown():
    story = Story()
    subnet(story)
    story.when.blur("subnet/a")
    assert lawful(story) == (None, None)


def test_drift_is_a_count_that_differs():
    story = Story()
    subnet(story)
    address(story.given, "one")
    story.when.status("subnet/a", {"v4usingIPs": 1, "v4availableIPs": 253})
    assert story.standing("subnet/a").drift == {}
    story.when.status("subnet/a", {"v4usingIPs": 2, "v4availableIPs": 253})
    assert story.standing("subnet/a").drift == {USING[4]: {"lawful": 1, "reported": 2}}


def test_a_whole_float_is_the_same_count():
    story = Story()
    subnet(story)
    story.when.status("subnet/a", {"v4usingIPs": 0.0})
    assert story.standing("subnet/a").drift == {}


def test_the_count_kept_event_by_event_equals_the_one_that_counts_anew():
    story, usage, fed = Story(), Usage(), 0
    subnet(story, "10.0.0.0/24,fd00::/120")

    def agree() -> None:
        nonlocal fed
        for at, event in enumerate(story.events, 1):
            if at > fed and event.key.kind in ("ip", "subnet"):
                usage.apply(event, at, story.world)
        fed = len(story.events)
        counted = story.standing("subnet/a").lawful
        kept = {version: usage.using(key_of("subnet/a"), version) for version in (4, 6)}
        assert kept == {version: counted[USING[version]] for version in (4, 6)}

    for number in range(6):
        address(story.when, f"n{number}", f"10.0.0.{number + 2}", f"fd00::{number + 2}" if number % 2 else "")
        agree()
    for number in (1, 4):
        story.when.delete(f"ip/n{number}")
        agree()
        story.when.release(f"ip/n{number}")
        agree()
    address(story.when, "n1", "10.0.0.3")
    agree()
    story.given.ends_unseen("ip/n2")
    address(story.when, "n2", "", "fd00::4")
    agree()


def test_until_when_a_count_was_right_is_remembered():
    story, usage = Story(), Usage()
    subnet(story)
    address(story.when, "one")
    address(story.when, "two")
    places = []
    for at, event in enumerate(story.events, 1):
        usage.apply(event, at, story.world)
        places.append(at)
    a = key_of("subnet/a")
    assert usage.last_was(a, 4, 1) == (places[-1], story.now), "one address was right until the second came"
    assert usage.last_was(a, 4, 7) == (0, 0), "seven never was"
