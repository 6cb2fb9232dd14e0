"""NL103: an address that outlived its pod and its subnet, and all those that may."""

from collections.abc import Callable

import pytest

from tests.domain.stories import CONTROLLER, HOUR, KUBELET, Story, key_of

IP = {"spec.subnet": "a", "spec.namespace": "shop", "spec.podName": "web", "spec.v4IpAddress": "10.0.0.2"}


def pod_goes(story: Story, pod: str = "pod/shop/web") -> None:
    story.delete(pod)
    story.delete(pod, by=KUBELET)


def allocated(story: Story, **changes: object) -> None:
    story.given.create("subnet/a", held=True)
    story.given.create("pod/shop/web")
    named = {name.replace("_", ".", 1): value for name, value in changes.items()}
    story.given.create("ip/web.shop", {**IP, **named}, by=CONTROLLER, held=True)


def leaks(story: Story, after: float = HOUR) -> list[str]:
    return [f"{finding.status} {finding.key}" for finding in story.findings(after) if finding.name == "leaked-ip"]


# ---- it fires


def test_an_address_whose_pod_and_subnet_are_gone():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.remove("subnet/a", by="alice")
    assert leaks(story, 1) == ["pending ip/web.shop"]
    assert leaks(story, 31) == ["open ip/web.shop"]
    finding = story.finding("leaked-ip", 31)
    assert (finding.field, finding.severity) == ("metadata.finalizers", "error")
    told = story.witnessed(finding)
    assert "created IPAllocated ip/web.shop" in told and "cause PodRemoved pod/shop/web" in told
    assert "cause refused SubnetRemoved subnet/a" in told


def test_an_address_whose_pod_is_gone_and_whose_subnet_is_in_deletion():
    story = Story()
    allocated(story)
    story.when.delete("subnet/a")
    pod_goes(story.when)
    assert leaks(story, 1) == ["pending ip/web.shop"]
    assert leaks(story, 31) == ["open ip/web.shop"]
    assert "is in deletion" in story.finding("leaked-ip", 31).explanation


def test_the_clock_starts_when_the_later_of_the_two_went():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.wait(600)
    story.when.delete("subnet/a")
    assert leaks(story, 29) == ["pending ip/web.shop"]
    assert leaks(story, 31) == ["open ip/web.shop"]


def test_an_address_made_after_both_had_gone():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    pod_goes(story.given)
    story.given.delete("subnet/a")
    story.when.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    assert story.found(HOUR) == ["open leaked-ip ip/web.shop"], "the refused allocation is told of as the leak"
    assert "after its subnet had gone" in story.finding("leaked-ip", HOUR).explanation


def test_releases_that_were_seen_are_the_measure():
    story = Story()
    for name in ("one", "two", "three"):
        story.given.create(f"pod/shop/{name}")
        story.given.create(f"ip/{name}.shop", {**IP, "spec.podName": name}, by=CONTROLLER, held=True)
        pod_goes(story.given, f"pod/shop/{name}")
        story.given.delete(f"ip/{name}.shop", by=CONTROLLER)
        story.given.release(f"ip/{name}.shop")
    allocated(story)
    story.when.delete("subnet/a")
    pod_goes(story.when)
    assert leaks(story, 1.5) == ["pending ip/web.shop"]
    assert leaks(story, 4) == ["open ip/web.shop"]


def test_one_that_is_in_deletion_itself_is_one_finding_not_two():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.remove("subnet/a", by="alice")
    story.when.delete("ip/web.shop", by="alice")
    assert story.found(HOUR) == ["open leaked-ip ip/web.shop"]
    finding = story.finding("leaked-ip", HOUR)
    assert "the finalizer stays on" in finding.explanation
    assert "consequence IPReleaseRequested ip/web.shop" in story.witnessed(finding)
    assert not any("kubectl delete" in step.run for step in finding.repair)


def test_leaks_of_one_subnet_share_a_root():
    story = Story()
    allocated(story)
    story.given.create("pod/shop/db")
    story.given.create("ip/db.shop", {**IP, "spec.podName": "db"}, by=CONTROLLER, held=True)
    for pod in ("pod/shop/web", "pod/shop/db"):
        pod_goes(story.when, pod)
    story.when.remove("subnet/a", by="alice")
    found = [finding for finding in story.findings(HOUR) if finding.name == "leaked-ip"]
    assert [finding.root for finding in found] in ([None, found[0].id], [found[1].id, None])


# ---- it heals


def test_one_released_by_another_hand_is_healed():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.remove("subnet/a", by="alice")
    story.when.wait(600)
    story.when.delete("ip/web.shop", by="alice")
    story.when.release("ip/web.shop", by="alice")
    assert story.found(HOUR) == ["healed leaked-ip ip/web.shop"]
    finding = story.finding("leaked-ip")
    assert "alice took its finalizer off by hand" in finding.explanation
    assert story.witnessed(finding)[-1] == "healing IPReleased ip/web.shop"


def test_one_released_late_by_its_own_controller_was_not_leaked():
    story = Story()
    allocated(story)
    story.given.delete("subnet/a")
    pod_goes(story.when)
    story.when.wait(20)
    story.when.delete("ip/web.shop", by=CONTROLLER)
    story.when.release("ip/web.shop", by=CONTROLLER)
    assert leaks(story) == []


@pytest.mark.parametrize(
    "rescue",
    [
        pytest.param(lambda s: s.create("pod/shop/web"), id="a pod of that name again"),
        pytest.param(lambda s: s.create("subnet/a"), id="a subnet of that name again"),
    ],
)
def test_one_that_has_a_holder_again_is_no_leak(rescue: Callable[[Story], object]):
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.remove("subnet/a", by="alice")
    rescue(story.when)
    assert leaks(story) == []


# ---- it stays silent


def test_a_living_pod_holds_its_address():
    story = Story()
    allocated(story)
    story.when.delete("subnet/a")
    story.then.silent()


def test_a_pod_that_is_still_going_holds_its_address():
    story = Story()
    allocated(story)
    story.when.delete("subnet/a")
    story.when.delete("pod/shop/web")
    assert leaks(story) == []


def test_a_living_subnet_is_somebody_left_to_release_it():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    assert leaks(story) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("ip/web.shop", {"metadata.labels[ovn.kubernetes.io/ip_reserved]": "true"}, id="reserved"),
        pytest.param("ip/web.shop", {"spec.podType": "StatefulSet"}, id="StatefulSet"),
        pytest.param("ip/web.shop", {"spec.podType": "VirtualMachine"}, id="VM"),
        pytest.param("ip/node-worker-1", {"spec.namespace": None, "spec.podName": "node-worker-1"}, id="node"),
        pytest.param("ip/node-worker-1", {}, id="node, by its name"),
        pytest.param("ip/u2o-interconnection.shop.a", {}, id="u2o"),
        pytest.param("ip/mcast-querier.a", {}, id="querier"),
    ],
)
def test_addresses_that_may_outlive_a_pod_never_leak(name, changes):
    story = Story()
    story.given.create("subnet/a", held=True)
    story.given.create("pod/shop/web")
    story.given.create(name, {**IP, **changes}, by=CONTROLLER, held=True)
    pod_goes(story.when)
    story.when.delete("subnet/a")
    story.then.silent()


def test_one_that_a_user_reserves_after_its_pod_went_is_kept_on_purpose():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.delete("subnet/a")
    story.when.write("ip/web.shop", {"metadata.labels[ovn.kubernetes.io/ip_reserved]": "true"}, by="alice")
    assert leaks(story) == []


def test_a_pod_that_was_never_seen_to_go_is_unknown():
    story = Story()
    story.given.create("subnet/a", held=True)
    story.given.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    story.when.delete("subnet/a")
    assert leaks(story) == []


def test_a_pod_of_that_name_in_another_namespace_is_another_pod():
    story = Story()
    allocated(story)
    story.given.create("pod/bank/web")
    pod_goes(story.when, "pod/bank/web")
    story.when.delete("subnet/a")
    assert leaks(story) == []


def test_what_a_write_without_bodies_blurred_is_unknown():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.blur("ip/web.shop")
    story.when.remove("subnet/a", by="alice")
    assert leaks(story) == []


def test_one_without_finalizer_goes_with_its_delete_and_needs_nobody():
    story = Story()
    story.given.create("subnet/a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, by=CONTROLLER)
    pod_goes(story.when)
    story.when.delete("subnet/a")
    assert f"open {key_of('ip/web.shop')}" not in leaks(story)
