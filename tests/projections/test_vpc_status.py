"""VPC status as a fold: which subnets it should list, which hold it, and when that is unknown."""

from projections.vpc_status import PEERS, SUBNETS, SWITCH
from tests.domain.stories import Story


def shop(story: Story) -> None:
    story.given.create("vpc/shop", held=True)
    for name in ("b", "a"):
        story.given.create(f"subnet/{name}", {"spec.vpc": "shop"}, held=True)


def test_it_lists_the_live_subnets_that_name_it():
    story = Story()
    shop(story)
    story.given.create("subnet/c", {"spec.vpc": "other"})
    assert story.standing("vpc/shop").lawful[SUBNETS] == ["a", "b"]


def test_a_terminating_subnet_is_no_longer_listed_and_still_holds_it():
    story = Story()
    shop(story)
    story.when.delete("subnet/b")
    standing = story.standing("vpc/shop")
    assert standing.lawful[SUBNETS] == ["a"]
    assert standing.detail["held_by"] == ["a", "b"]
    story.when.release("subnet/b")
    assert story.standing("vpc/shop").detail["held_by"] == ["a"]


def test_a_subnet_of_another_provider_is_neither_listed_nor_counted():
    story = Story()
    shop(story)
    story.given.create("subnet/vlan", {"spec.vpc": "shop", "spec.provider": "macvlan.kube-system"})
    story.given.create("subnet/second", {"spec.vpc": "shop", "spec.provider": "net1.default.ovn"})
    standing = story.standing("vpc/shop")
    assert standing.lawful[SUBNETS] == ["a", "b", "second"] == standing.detail["held_by"]


def test_a_subnet_that_moves_is_listed_where_it_is():
    story = Story()
    shop(story)
    story.given.create("vpc/other")
    story.when.write("subnet/a", {"spec.vpc": "other"}, by="alice")
    assert story.standing("vpc/shop").lawful[SUBNETS] == ["b"]
    assert story.standing("vpc/other").lawful[SUBNETS] == ["a"]


def test_the_default_switch_is_the_default_subnet_of_this_vpc():
    story = Story()
    shop(story)
    assert story.standing("vpc/shop").lawful[SWITCH] == ""
    story.when.write("subnet/b", {"spec.default": True}, by="alice")
    assert story.standing("vpc/shop").lawful[SWITCH] == "b"
    story.when.delete("subnet/b")
    assert story.standing("vpc/shop").lawful[SWITCH] == ""
    story.when.write("vpc/shop", {"spec.defaultSubnet": "a"}, by="alice")
    assert story.standing("vpc/shop").lawful[SWITCH] == "a"


def test_its_peers_are_those_of_its_spec():
    story = Story()
    story.given.create("vpc/shop", {"spec.vpcPeerings": [{"remoteVpc": "bank", "localConnectIP": "1.2.3.4/30"}]})
    assert story.standing("vpc/shop").lawful[PEERS] == ["bank"]
    story.when.write("vpc/shop", {"spec.vpcPeerings": None}, by="alice")
    assert story.standing("vpc/shop").lawful[PEERS] == []


def test_drift_is_where_the_reported_list_differs_and_order_is_no_difference():
    story = Story()
    shop(story)
    story.when.status("vpc/shop", {"subnets": ["b", "a"]})
    assert story.standing("vpc/shop").drift == {}
    story.when.status("vpc/shop", {"subnets": ["a", "ghost"]})
    assert story.standing("vpc/shop").drift == {SUBNETS: {"lawful": ["a", "b"], "reported": ["a", "ghost"]}}


def test_a_vpc_that_never_reported_reports_an_empty_list():
    story = Story()
    shop(story)
    assert story.standing("vpc/shop").drift == {SUBNETS: {"lawful": ["a", "b"], "reported": []}}


def test_a_vpc_older_than_the_log_that_lists_subnets_never_heard_of_is_unknown():
    story = Story()
    story.given.exists("vpc/old", {"status.subnets": ["older"]})
    story.given.write("vpc/old", {"metadata.labels[a]": "b"})
    story.given.create("subnet/new", {"spec.vpc": "old"})
    standing = story.standing("vpc/old")
    assert standing.lawful[SUBNETS] is None and standing.lawful[SWITCH] is None
    assert standing.drift == {}


def test_a_vpc_older_than_the_log_whose_listed_subnets_are_all_known_is_known():
    story = Story()
    story.given.exists("vpc/old", {"status.subnets": ["new"]})
    story.given.write("vpc/old", {"metadata.labels[a]": "b"})
    story.given.create("subnet/new", {"spec.vpc": "old"})
    assert story.standing("vpc/old").lawful[SUBNETS] == ["new"]


def test_a_write_without_bodies_makes_it_unknown_where_more_is_listed_than_is_known():
    story = Story()
    shop(story)
    story.given.status("vpc/shop", {"subnets": ["a", "b", "x"]})
    story.when.blur("vpc/shop")
    assert story.standing("vpc/shop").lawful[SUBNETS] is None
