"""NL102: what is in deletion and will stay so, and what merely waits."""

import pytest

from domain.kinds import HOLDERS
from projections.findings.rule import Finding
from tests.domain.stories import CONTROLLER, HOUR, KUBELET, Story, key_of
from tests.projections.test_lost_update import put_back, vpc_with

IP = {"spec.subnet": "a", "spec.namespace": "shop", "spec.podName": "web", "spec.v4IpAddress": "10.0.0.2"}
HELD = tuple(HOLDERS)


def stuck(story: Story, after: float = 0.0) -> list[str]:
    return [f"{finding.status} {finding.key}" for finding in story.findings(after) if finding.name == "stuck-deletion"]


# ---- (a) it waits for a ghost


def test_a_vpc_that_waits_for_a_ghost_is_stuck_at_once_and_the_lost_update_is_its_root():
    story = Story()
    put_back(story)
    story.when.delete("subnet/a")
    story.when.release("subnet/a")
    story.when.status("vpc/shop", {"subnets": ["b"]})
    story.when.delete("vpc/shop")
    assert stuck(story) == ["open vpc/shop"]
    finding = story.finding("stuck-deletion")
    assert finding.root == story.finding("lost-update").id
    assert "lists b" in finding.explanation and finding.severity == "error"
    assert "cause VPCDeletionRequested vpc/shop" in story.witnessed(finding)


def test_a_vpc_that_a_lost_update_hits_while_it_is_in_deletion_is_stuck_too():
    story = Story()
    vpc_with(story, "b")
    story.given.delete("vpc/shop")
    story.given.delete("subnet/b")
    story.given.release("subnet/b")
    story.when.status("vpc/shop", {"subnets": []})
    story.when.status("vpc/shop", {"subnets": ["b"]}, by="system:serviceaccount:kube-system:kube-router")
    assert stuck(story) == ["open vpc/shop"]


def test_a_vpc_whose_status_was_put_right_is_healed():
    story = Story()
    put_back(story)
    story.when.delete("vpc/shop")
    story.when.status("vpc/shop", {"subnets": ["a"]}, by="alice")
    assert stuck(story) == ["healed vpc/shop"]


def test_a_subnet_that_holds_only_leaked_addresses_is_stuck():
    story = Story()
    leak_in_terminating_subnet(story)
    assert stuck(story, HOUR) == ["open subnet/a"]
    assert "has leaked" in story.finding("stuck-deletion", HOUR).explanation


def test_a_subnet_stuck_by_a_leak_and_that_leak_are_of_one_cause():
    story = Story()
    leak_in_terminating_subnet(story)
    stuck_one, leak = story.finding("stuck-deletion", HOUR), story.finding("leaked-ip", HOUR)
    assert {stuck_one.root or stuck_one.id} == {leak.root or leak.id}


def leak_in_terminating_subnet(story: Story) -> None:
    story.given.create("subnet/a", held=True)
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    story.given.delete("subnet/a")
    story.when.delete("pod/shop/web")
    story.when.delete("pod/shop/web", by=KUBELET)


# ---- (b) nothing is left, and nobody comes


@pytest.mark.parametrize("kind", HELD)
def test_what_nobody_releases_is_pending_and_then_open(kind):
    story = Story()
    story.given.create(f"{kind}/x", held=True)
    story.when.delete(f"{kind}/x")
    assert stuck(story, 1) == [f"pending {kind}/x"]
    assert stuck(story, 29) == [f"pending {kind}/x"]
    assert stuck(story, 36) == [f"open {kind}/x"]


def test_the_upstream_delay_of_a_vpc_is_added():
    story = Story()
    story.given.create("vpc/x", held=True)
    story.when.delete("vpc/x")
    assert stuck(story, 34.9) == ["pending vpc/x"]
    assert stuck(story, 35.1) == ["open vpc/x"]


def test_where_releases_were_seen_they_are_the_measure():
    story = Story()
    for name in ("one", "two", "three"):
        story.given.create(f"subnet/{name}")
        story.given.hold(f"subnet/{name}")
        story.given.delete(f"subnet/{name}")
        story.given.release(f"subnet/{name}")
    story.given.create("subnet/x", held=True)
    story.when.delete("subnet/x")
    assert stuck(story, 1.9) == ["pending subnet/x"]
    assert stuck(story, 2.1) == ["open subnet/x"]


def test_the_clock_starts_when_the_last_holder_went():
    story = Story()
    story.given.create("subnet/a", held=True)
    story.given.create("ip/x", {"spec.subnet": "a"}, by=CONTROLLER)
    story.given.delete("subnet/a")
    story.when.wait(600)
    story.when.delete("ip/x", by=CONTROLLER)
    assert stuck(story, 1) == ["pending subnet/a"]
    assert stuck(story, 31) == ["open subnet/a"]
    assert "released IPReleased ip/x" in story.witnessed(story.finding("stuck-deletion", 31))


def test_patience_overrides():
    story = Story()
    story.given.create("subnet/x", held=True)
    story.when.delete("subnet/x")
    assert story.found(5, patience=1) == ["open stuck-deletion subnet/x"]
    assert story.found(5, patience=10) == ["pending stuck-deletion subnet/x"]


def test_the_repair_is_guarded_by_the_revision_that_was_seen():
    story = Story()
    story.given.create("subnet/x", held=True)
    story.when.delete("subnet/x")
    finding: Finding = story.finding("stuck-deletion", 60)
    patch = finding.repair[-1].run
    assert patch.startswith("kubectl patch subnets.kubeovn.io x --type=json")
    assert f'"path":"/metadata/resourceVersion","value":"{story.revision}"' in patch
    assert '"op":"remove","path":"/metadata/finalizers/0"' in patch


# ---- waiting for a living holder is never stuck


@pytest.mark.parametrize(
    ("held", "holder", "names"),
    [
        ("vpc/x", "subnet/h", {"spec.vpc": "x"}),
        ("subnet/x", "ip/h", {"spec.subnet": "x"}),
        ("subnet/x", "eip/h", {"spec.externalSubnet": "x"}),
        ("eip/x", "fip/h", {"spec.eip": "x"}),
        ("eip/x", "snat/h", {"spec.eip": "x"}),
        ("eip/x", "dnat/h", {"spec.eip": "x"}),
        ("subnet/x", "oeip/h", {"spec.externalSubnet": "x"}),
        ("oeip/x", "ofip/h", {"spec.ovnEip": "x"}),
        ("oeip/x", "osnat/h", {"spec.ovnEip": "x"}),
        ("oeip/x", "odnat/h", {"spec.ovnEip": "x"}),
        ("nat-gateway/x", "eip/h", {"spec.natGwDp": "x"}),
    ],
)
def test_waiting_for_a_living_holder_is_never_stuck(held, holder, names):
    story = Story()
    story.given.create(held, held=True)
    story.given.create(holder, names)
    story.when.delete(held)
    story.then.silent()


def test_a_subnet_that_holds_a_leak_and_a_living_address_waits():
    story = Story()
    leak_in_terminating_subnet(story)
    story.when.create("pod/shop/other")
    story.when.create("ip/other.shop", {**IP, "spec.podName": "other"}, by=CONTROLLER)
    assert stuck(story, HOUR) == []


def test_what_has_no_finalizer_is_not_held():
    story = Story()
    story.given.create("vpc/x")
    story.when.write("vpc/x", {"metadata.deletionTimestamp": "2027-01-15T08:00:00Z"})
    story.then.silent()


def test_a_vpc_older_than_the_log_whose_status_lists_unknown_subnets_may_have_them():
    story = Story()
    story.given.exists("vpc/x", {"status.subnets": ["old"]}, held=True)
    story.when.delete("vpc/x")
    story.then.silent()


def test_a_subnet_older_than_the_log_that_counts_addresses_may_hold_them():
    story = Story()
    story.given.exists("subnet/x", {"status.v4usingIPs": 3}, held=True)
    story.when.delete("subnet/x")
    story.then.silent()


def test_a_subnet_older_than_the_log_whose_own_count_says_none_can_be_stuck():
    story = Story()
    story.given.exists("subnet/x", {"status.v4usingIPs": 0}, held=True)
    story.when.delete("subnet/x")
    assert stuck(story, HOUR) == ["open subnet/x"]


def test_what_a_write_without_bodies_blurred_is_unknown():
    story = Story()
    story.given.create("subnet/x", held=True)
    story.given.delete("subnet/x")
    story.when.blur("subnet/x")
    story.then.silent()


# ---- how it ended


def test_a_late_release_by_the_controller_itself_was_never_stuck():
    story = Story()
    story.given.create("subnet/x")
    story.given.hold("subnet/x", by=CONTROLLER)
    story.given.delete("subnet/x")
    story.when.wait(600)
    story.when.release("subnet/x", by=CONTROLLER)
    assert stuck(story) == []


def test_a_finalizer_taken_off_by_hand_after_the_controller_was_overdue_is_healed():
    story = Story()
    story.given.create("subnet/x")
    story.given.hold("subnet/x", by=CONTROLLER)
    story.given.delete("subnet/x")
    story.when.wait(600)
    story.when.release("subnet/x", by="alice")
    assert stuck(story) == ["healed subnet/x"]
    finding = story.finding("stuck-deletion")
    assert "alice" in finding.explanation and "by hand" in finding.explanation
    assert story.witnessed(finding)[-1] == "healing SubnetRemoved subnet/x"


def test_a_finalizer_taken_off_by_hand_at_once_was_never_overdue():
    story = Story()
    story.given.create("subnet/x")
    story.given.hold("subnet/x", by=CONTROLLER)
    story.given.delete("subnet/x")
    story.when.release("subnet/x", by="alice")
    assert stuck(story) == []


def test_a_finalizer_that_a_restored_manifest_brought_along_is_the_controllers_to_take_off():
    story = Story()
    story.given.create("subnet/x", by="system:serviceaccount:velero:velero", held=True)
    story.given.delete("subnet/x")
    story.when.wait(600)
    story.when.release("subnet/x", by=CONTROLLER)
    assert stuck(story) == []


def test_a_hand_repair_is_no_measure_of_the_controller():
    story = Story()
    story.given.create("subnet/x")
    story.given.hold("subnet/x", by=CONTROLLER)
    story.given.delete("subnet/x")
    story.when.wait(600)
    story.when.release("subnet/x", by="alice")
    story.when.create("subnet/y", held=True)
    story.when.delete("subnet/y")
    assert f"open {key_of('subnet/y')}" in stuck(story, 31)
