"""NL104: a subnet that names a Vpc which is not there."""

from collections.abc import Callable

import pytest

from tests.domain.stories import Story


def orphan(story: Story) -> None:
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.when.delete("vpc/shop", by="mallory")


def test_a_subnet_whose_vpc_went_under_it():
    story = Story()
    orphan(story)
    assert story.found() == ["open orphaned-subnet subnet/a"]
    finding = story.finding("orphaned-subnet")
    assert (finding.severity, finding.field, finding.reported) == ("warning", "spec.vpc", "shop")
    assert "mallory" in finding.explanation and "under it" in finding.explanation
    assert "cause refused VPCRemoved vpc/shop" in story.witnessed(finding)


def test_a_subnet_made_after_its_vpc_had_gone():
    story = Story()
    story.given.create("vpc/shop")
    story.given.delete("vpc/shop")
    story.when.create("subnet/a", {"spec.vpc": "shop"})
    assert story.found() == ["open orphaned-subnet subnet/a"]
    finding = story.finding("orphaned-subnet")
    assert "before it was made" in finding.explanation
    assert "created refused SubnetCreated subnet/a" in story.witnessed(finding)


def test_every_subnet_of_that_vpc_is_told_of_and_the_refusal_is_not_told_twice():
    story = Story()
    story.given.create("vpc/shop")
    for name in ("a", "b"):
        story.given.create(f"subnet/{name}", {"spec.vpc": "shop"})
    story.when.delete("vpc/shop")
    assert story.found() == ["open orphaned-subnet subnet/a", "open orphaned-subnet subnet/b"]


@pytest.mark.parametrize(
    "heal",
    [
        pytest.param(lambda s: s.create("vpc/shop"), id="the Vpc is made again"),
        pytest.param(lambda s: s.write("subnet/a", {"spec.vpc": "other"}, by="alice"), id="it names another"),
        pytest.param(lambda s: (s.delete("subnet/a"), s.release("subnet/a")), id="it is deleted"),
    ],
)
def test_it_heals_when_it_is_adopted_or_gone(heal: Callable[[Story], object]):
    story = Story()
    story.given.create("vpc/other")
    orphan(story)
    heal(story.when)
    assert story.found(3600) == ["healed orphaned-subnet subnet/a"]
    finding = story.finding("orphaned-subnet")
    assert finding.until is not None and finding.repair == []


def test_an_orphan_in_deletion_is_one_until_it_is_gone():
    story = Story()
    orphan(story)
    story.when.delete("subnet/a")
    assert "open orphaned-subnet subnet/a" in story.found()
    story.when.release("subnet/a")
    told = story.witnessed(story.finding("orphaned-subnet"))
    assert told[-2:] == ["healing SubnetDeletionRequested subnet/a", "healing SubnetRemoved subnet/a"]


def test_a_second_time_is_a_second_finding_with_an_id_of_its_own():
    story = Story()
    orphan(story)
    story.when.create("vpc/shop")
    story.when.delete("vpc/shop")
    assert story.found() == ["healed orphaned-subnet subnet/a", "open orphaned-subnet subnet/a"]
    assert len({finding.id for finding in story.findings()}) == 2


def test_a_subnet_of_a_vpc_from_before_the_log_is_no_orphan():
    story = Story()
    story.given.create("subnet/a", {"spec.vpc": "ovn-cluster"})
    story.then.silent()


def test_a_subnet_of_a_vpc_that_went_unseen_is_no_orphan():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop"})
    story.given.ends_unseen("vpc/shop")
    story.when.create("vpc/shop")
    story.then.silent()


def test_a_subnet_of_another_provider_is_no_orphan():
    story = Story()
    story.given.create("vpc/shop")
    story.given.delete("vpc/shop")
    story.when.create("subnet/a", {"spec.vpc": "shop", "spec.provider": "macvlan.kube-system"})
    story.then.silent()


def test_vpc_and_subnets_that_go_in_order_leave_no_orphan():
    story = Story()
    story.given.create("vpc/shop", held=True)
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    for path in ("vpc/shop", "subnet/a"):
        story.when.delete(path)
    for path in ("subnet/a", "vpc/shop"):
        story.when.release(path)
    story.then.silent()
