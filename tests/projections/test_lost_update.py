"""NL101: a write that puts back what an earlier write had removed, and everything that looks like it and is none."""

from collections.abc import Callable

import pytest

from tests.domain.stories import CONTROLLER, Story, key_of

ROUTER = "system:serviceaccount:kube-system:kube-router"


def vpc_with(story: Story, *subnets: str, held: bool = True) -> None:
    """Given: a Vpc whose status lists its subnets."""
    story.given.create("vpc/shop", held=held)
    for subnet in subnets:
        story.given.create(f"subnet/{subnet}", {"spec.vpc": "shop"}, held=True)
    story.given.status("vpc/shop", {"subnets": list(subnets)})


def subnet_goes(story: Story, subnet: str) -> None:
    story.delete(f"subnet/{subnet}")
    story.release(f"subnet/{subnet}")


def put_back(story: Story) -> None:
    """The incident: `b` is deleted, the status says so, and a stale writer puts it back."""
    vpc_with(story, "a", "b")
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a"]}, by=CONTROLLER)
    story.when.status("vpc/shop", {"subnets": ["a", "b"]}, by=ROUTER)


# ---- it fires


def test_a_deleted_subnet_that_is_put_back_is_a_lost_update():
    story = Story()
    put_back(story)
    finding = story.finding("lost-update")
    assert (finding.status, finding.severity, finding.field) == ("open", "error", "status.subnets")
    assert finding.key == key_of("vpc/shop") and finding.uid == story.uid("vpc/shop")
    assert (finding.reported, finding.lawful) == (["a", "b"], ["a"])
    told = story.witnessed(finding)
    assert "lost VPCStatusReported vpc/shop" in told and "overwriting VPCStatusReported vpc/shop" in told
    assert {"cause SubnetDeletionRequested subnet/b", "cause SubnetRemoved subnet/b"} <= set(told)
    assert "kube-router" in finding.explanation and "b came back" in finding.explanation


def test_a_live_subnet_that_is_dropped_is_a_lost_update_too():
    story = Story()
    vpc_with(story, "a")
    story.given.create("subnet/b", {"spec.vpc": "shop"})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]})
    story.when.status("vpc/shop", {"subnets": ["a"]}, by=ROUTER)
    finding = story.finding("lost-update")
    assert (finding.reported, finding.lawful) == (["a"], ["a", "b"])
    assert "b fell out" in finding.explanation


def test_the_basis_is_the_revisions_that_said_so_marked_as_inferred():
    story = Story()
    put_back(story)
    finding = story.finding("lost-update")
    assert not finding.known and finding.revisions is not None
    first, last = finding.revisions
    lost = story.events[next(w.at for w in finding.witnesses if w.role == "lost") - 1]
    assert lost.revision is not None and first <= last < lost.revision


def test_the_basis_is_known_where_the_record_says_what_the_writer_had_read():
    story = Story()
    vpc_with(story, "a", "b")
    basis = story.revision
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]}, by=ROUTER, read_revision=basis)
    finding = story.finding("lost-update")
    assert finding.known and finding.revisions == (basis, basis)


def test_a_repeated_stale_write_is_one_finding():
    story = Story()
    put_back(story)
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]}, by=ROUTER)
    open_ones = [f for f in story.findings() if f.name == "lost-update" and f.status == "open"]
    assert len(open_ones) == 1


def test_two_of_one_object_healed_and_open_have_ids_of_their_own():
    story = Story()
    put_back(story)
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]}, by=ROUTER)
    ids = [finding.id for finding in story.findings()]
    assert len(ids) == len(set(ids))


def test_an_overwriting_write_that_also_adds_something_true_still_loses_one():
    story = Story()
    vpc_with(story, "a", "b")
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.create("subnet/c", {"spec.vpc": "shop"})
    story.when.status("vpc/shop", {"subnets": ["a", "b", "c"]}, by=ROUTER)
    finding = story.finding("lost-update")
    assert finding.lawful == ["a", "c"]


def test_a_peer_that_the_spec_no_longer_has_and_that_is_put_back():
    story = Story()
    story.given.create("vpc/shop", {"spec.vpcPeerings": [{"remoteVpc": "bank"}]})
    story.given.status("vpc/shop", {"vpcPeerings": ["bank"]})
    story.given.write("vpc/shop", {"spec.vpcPeerings": None}, by="alice")
    story.when.status("vpc/shop", {"vpcPeerings": []})
    story.when.status("vpc/shop", {"vpcPeerings": ["bank"]}, by=ROUTER)
    finding = story.finding("lost-update")
    assert finding.field == "status.vpcPeerings" and finding.lawful == []


def test_a_peer_that_the_spec_has_and_that_is_dropped():
    story = Story()
    story.given.create("vpc/shop", {"spec.vpcPeerings": [{"remoteVpc": "bank"}]})
    story.given.status("vpc/shop", {"vpcPeerings": []})
    story.when.status("vpc/shop", {"vpcPeerings": ["bank"]})
    story.when.status("vpc/shop", {"vpcPeerings": []}, by=ROUTER)
    finding = story.finding("lost-update")
    assert finding.field == "status.vpcPeerings" and finding.lawful == ["bank"]


def test_a_default_switch_that_is_gone_and_that_is_put_back():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop", "spec.default": True})
    story.given.status("vpc/shop", {"defaultLogicalSwitch": "a"})
    story.given.delete("subnet/a")
    story.when.status("vpc/shop", {"defaultLogicalSwitch": ""})
    story.when.status("vpc/shop", {"defaultLogicalSwitch": "a"}, by=ROUTER)
    finding = story.finding("lost-update")
    assert finding.field == "status.defaultLogicalSwitch"


def count(story: Story, number: int, by: str = CONTROLLER) -> None:
    story.status("subnet/a", {"v4usingIPs": number}, by=by)


def address(story: Story, name: str) -> None:
    fields = {"spec.subnet": "a", "spec.v4IpAddress": "10.0.0.2", "spec.namespace": "shop", "spec.podName": name}
    story.create(f"ip/{name}", fields, by=CONTROLLER)


def test_a_count_that_goes_back_to_what_it_was_before_an_address_went():
    story = Story()
    story.given.create("subnet/a")
    address(story, "one")
    address(story, "two")
    count(story, 2)
    story.when.delete("ip/two", by=CONTROLLER)
    count(story, 1)
    count(story, 2, by=ROUTER)
    finding = story.finding("lost-update")
    assert (finding.field, finding.reported, finding.lawful) == ("status.v4usingIPs", 2, 1)


@pytest.mark.parametrize("kind", ["dnat", "fip", "snat"])
def test_an_eip_whose_last_rule_went_and_whose_nat_is_put_back(kind):
    story = Story()
    story.given.create("eip/out")
    story.given.create(f"{kind}/x", {"spec.eip": "out"})
    story.given.status("eip/out", {"nat": kind})
    story.given.delete(f"{kind}/x")
    story.when.status("eip/out", {"nat": ""})
    story.when.status("eip/out", {"nat": kind}, by=ROUTER)
    finding = story.finding("lost-update")
    assert (finding.field, finding.reported, finding.lawful) == ("status.nat", kind, "")


# ---- it heals


@pytest.mark.parametrize(
    "heal",
    [
        pytest.param(lambda s: s.status("vpc/shop", {"subnets": ["a"]}, by="alice"), id="written right again"),
        pytest.param(lambda s: s.create("subnet/b", {"spec.vpc": "shop"}), id="a namesake makes it right"),
        pytest.param(lambda s: (s.delete("vpc/shop"), s.release("vpc/shop")), id="the Vpc is gone"),
    ],
)
def test_it_heals_when_the_value_is_right_again_or_the_object_is_gone(heal: Callable[[Story], object]):
    story = Story()
    put_back(story)
    heal(story.when)
    findings = [finding for finding in story.findings() if finding.name == "lost-update"]
    assert [finding.status for finding in findings] == ["healed"]
    assert findings[0].until is not None and findings[0].until > findings[0].since
    assert "It was put right by" in findings[0].explanation
    assert findings[0].repair == []


# ---- it stays silent


def test_a_re_created_namesake_makes_the_same_value_right():
    story = Story()
    vpc_with(story, "a", "b")
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.create("subnet/b", {"spec.vpc": "shop"})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]})
    story.then.silent()


def test_a_namesake_that_came_between_is_enough_even_if_it_is_going_again():
    story = Story()
    vpc_with(story, "a", "b")
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.create("subnet/b", {"spec.vpc": "shop"}, held=True)
    story.when.delete("subnet/b")
    story.when.status("vpc/shop", {"subnets": ["a", "b"]})
    assert story.found() == ["pending stuck-deletion subnet/b"]


@pytest.mark.parametrize("field", ["status.standby", "spec.staticRoutes", "metadata.labels[a]"])
def test_a_plain_a_b_a_of_a_field_without_lawful_value_is_nothing(field):
    story = Story()
    story.given.create("vpc/shop")
    for value in ("A", "B", "A", "B", "A"):
        story.when.write("vpc/shop", {field: value}, subresource="status" if field.startswith("status") else "")
    story.then.silent()


def test_a_subnet_that_is_listed_late_or_too_long_is_no_lost_update():
    story = Story()
    vpc_with(story, "a")
    story.when.create("subnet/b", {"spec.vpc": "shop"}, held=True)
    story.when.status("vpc/shop", {"subnets": ["a"], "standby": True})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]})
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a", "b"], "standby": False})
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.then.silent()


def test_a_subnet_that_was_never_heard_of_is_unknown():
    story = Story()
    story.exists("vpc/shop", {"status.subnets": ["old"]})
    for subnets in (["old", "x"], ["x"], ["old", "x"], ["x"]):
        story.when.status("vpc/shop", {"subnets": subnets})
    story.then.silent()


def test_a_subnet_of_another_provider_that_is_never_listed_is_nothing():
    story = Story()
    vpc_with(story, "a")
    story.given.create("subnet/vlan", {"spec.vpc": "shop", "spec.provider": "macvlan.kube-system"})
    story.when.status("vpc/shop", {"subnets": ["a"], "standby": True})
    story.then.silent()


def test_a_list_in_another_order_says_the_same():
    story = Story()
    vpc_with(story, "a", "b")
    story.when.status("vpc/shop", {"subnets": ["b", "a"]})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]}, by=ROUTER)
    story.then.silent()


def test_a_subnet_that_moved_to_another_vpc_and_back_is_right_again():
    story = Story()
    vpc_with(story, "a", "b")
    story.given.create("vpc/other")
    story.given.write("subnet/b", {"spec.vpc": "other"}, by="alice")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.write("subnet/b", {"spec.vpc": "shop"}, by="alice")
    story.when.status("vpc/shop", {"subnets": ["a", "b"]})
    story.then.silent()


def test_the_status_of_a_vpc_that_was_made_again_owes_nothing_to_the_one_before():
    story = Story()
    vpc_with(story, "a", "b", held=False)
    subnet_goes(story, "b")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    subnet_goes(story, "a")
    story.when.status("vpc/shop", {"subnets": []})
    story.when.delete("vpc/shop")
    story.when.create("vpc/shop")
    story.when.status("vpc/shop", {"subnets": []})
    story.when.create("subnet/b", {"spec.vpc": "shop"})
    story.when.status("vpc/shop", {"subnets": ["b"]})
    story.then.silent()


def test_a_count_that_follows_the_addresses_up_and_down_is_nothing():
    story = Story()
    story.given.create("subnet/a")
    address(story, "one")
    count(story, 1)
    address(story, "two")
    count(story, 2)
    story.when.delete("ip/two", by=CONTROLLER)
    count(story, 1)
    address(story, "three")
    count(story, 2)
    story.then.silent()


def test_a_count_of_a_subnet_older_than_the_log_is_unknown():
    story = Story()
    story.exists("subnet/a", {"status.v4usingIPs": 7})
    for number in (8, 7, 8, 7):
        count(story, number)
    story.then.silent()


def test_a_count_of_an_external_subnet_also_counts_what_is_no_ip_object():
    story = Story()
    story.given.create("subnet/a", {"spec.provider": "macvlan.kube-system"})
    address(story, "one")
    address(story, "two")
    count(story, 2)
    story.when.delete("ip/two", by=CONTROLLER)
    count(story, 1)
    count(story, 2)
    story.then.silent()


def test_a_nat_of_two_kinds_that_is_put_back_after_one_went_is_wrong_in_that_one_only():
    story = Story()
    story.given.create("eip/out")
    story.given.create("snat/one", {"spec.eip": "out"})
    story.given.create("snat/two", {"spec.eip": "out"})
    story.given.create("dnat/d", {"spec.eip": "out"})
    story.given.status("eip/out", {"nat": "dnat,snat"})
    story.given.delete("snat/one")
    story.given.delete("dnat/d")
    story.when.status("eip/out", {"nat": "snat"})
    story.when.status("eip/out", {"nat": "dnat,snat"}, by=ROUTER)
    finding = story.finding("lost-update")
    assert (finding.reported, finding.lawful) == ("dnat,snat", "snat")
    assert "dnat came back" in finding.explanation and "snat came back" not in finding.explanation
    story.when.status("eip/out", {"nat": "snat"})
    assert story.found() == ["healed lost-update eip/out"]


def test_a_nat_that_forgets_a_living_rule_while_another_comes():
    story = Story()
    story.given.create("eip/out")
    story.given.create("snat/s", {"spec.eip": "out"})
    story.given.status("eip/out", {"nat": "snat"})
    story.given.create("dnat/d", {"spec.eip": "out"})
    story.when.status("eip/out", {"nat": "dnat"}, by=ROUTER)
    finding = story.finding("lost-update")
    assert (finding.reported, finding.lawful) == ("dnat", "dnat,snat")
    story.when.status("eip/out", {"nat": "dnat,snat"})
    assert story.found() == ["healed lost-update eip/out"]


@pytest.mark.parametrize("kind", ["dnat", "fip", "snat"])
def test_a_nat_that_lists_rules_that_were_never_heard_of_is_unknown(kind):
    story = Story()
    story.given.create("eip/out")
    for nat in ("", kind, "", kind, f"{kind},other", kind):
        story.when.status("eip/out", {"nat": nat})
    story.then.silent()


def test_a_nat_that_a_new_rule_makes_right_again_is_nothing():
    story = Story()
    story.given.create("eip/out")
    story.given.create("fip/f", {"spec.eip": "out"})
    story.given.status("eip/out", {"nat": "fip"})
    story.given.delete("fip/f")
    story.when.status("eip/out", {"nat": ""})
    story.when.create("fip/g", {"spec.eip": "out"})
    story.when.status("eip/out", {"nat": "fip"})
    story.then.silent()


def test_writes_without_bodies_are_no_evidence():
    story = Story()
    vpc_with(story, "a", "b")
    story.when.blur("subnet/b")
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.status("vpc/shop", {"subnets": ["a", "b"]}, by=ROUTER)
    story.then.silent()
