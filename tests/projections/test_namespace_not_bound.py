"""NL105: a namespace that a subnet serves, and that nobody annotated."""

import pytest

from tests.domain.stories import CONTROLLER, HOUR, Story

SWITCH = "metadata.annotations[ovn.kubernetes.io/logical_switch]"
TEAM = "metadata.labels[team]"


def default_subnet(story: Story) -> None:
    story.given.create("subnet/ovn-default", {"spec.vpc": "ovn-cluster", "spec.default": True})


def bound(story: Story, name: str, after: float = 0.0) -> None:
    """Given: a namespace that the controller annotates."""
    story.given.create(f"namespace/{name}")
    story.given.wait(after)
    story.given.write(f"namespace/{name}", {SWITCH: "ovn-default"})


def orphan(story: Story) -> None:
    story.given.create("vpc/gone")
    story.given.create("subnet/orphan", {"spec.vpc": "gone"})
    story.given.delete("vpc/gone")


def unbound(story: Story, after: float = HOUR) -> list[str]:
    return [f"{f.status} {f.key}" for f in story.findings(after) if f.name == "namespace-not-bound"]


# ---- it fires


def test_a_namespace_that_nobody_annotates_is_pending_and_then_open():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    story.when.create("namespace/shop")
    assert unbound(story, 1.9) == ["pending namespace/shop"]
    assert unbound(story, 2.1) == ["open namespace/shop"]
    finding = story.finding("namespace-not-bound", 3)
    assert (finding.severity, finding.lawful, finding.field) == ("error", ["ovn-default"], SWITCH)
    assert story.witnessed(finding)[0] == "trigger NamespaceCreated namespace/shop"


def test_ten_times_what_the_controller_usually_takes():
    story = Story()
    default_subnet(story)
    for name in ("one", "two", "three", "four"):
        bound(story, name, after=1.9)
    story.when.create("namespace/shop")
    assert unbound(story, 15) == ["pending namespace/shop"]
    assert unbound(story, 25) == ["open namespace/shop"]


def test_the_orphan_behind_it_is_the_root():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    orphan(story)
    story.when.create("namespace/shop")
    finding = story.finding("namespace-not-bound", HOUR)
    assert finding.root is not None and finding.root.startswith("orphaned-subnet/subnet/orphan")
    assert "orphan" in finding.explanation


def test_without_an_orphan_it_is_only_consistent_with_one():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    story.when.create("namespace/shop")
    finding = story.finding("namespace-not-bound", HOUR)
    assert finding.root is None and "consistent with an orphan" in finding.explanation


def test_a_controller_that_was_seen_failing_on_it_makes_it_open_sooner():
    story = Story()
    default_subnet(story)
    for name in ("one", "two"):
        bound(story, name, after=10)
    story.when.create("namespace/shop")
    story.when.refuse("namespace/shop", by=CONTROLLER)
    assert unbound(story, 5) == ["open namespace/shop"]
    assert any(role.startswith("failure") for role in story.witnessed(story.finding("namespace-not-bound", 5)))


def test_somebody_elses_refused_request_is_no_failure_of_the_controller():
    story = Story()
    default_subnet(story)
    for name in ("one", "two"):
        bound(story, name, after=10)
    story.when.create("namespace/shop")
    story.when.refuse("namespace/shop", by="alice")
    assert unbound(story, 5) == ["pending namespace/shop"]


@pytest.mark.parametrize(
    "subnet",
    [
        pytest.param({"spec.namespaces": ["shop"]}, id="names it"),
        pytest.param({"spec.namespaceSelectors": [{"matchLabels": {"team": "x"}}]}, id="selects it"),
    ],
)
def test_a_namespace_that_a_subnet_names_or_selects(subnet):
    story = Story()
    story.given.create("subnet/own", {"spec.vpc": "v", **subnet})
    story.given.create("subnet/ovn-default", {"spec.default": True})
    bound(story, "one")
    story.when.create("namespace/shop", {TEAM: "x"})
    assert story.finding("namespace-not-bound", HOUR).lawful == ["own"]


def test_a_namespace_relabelled_so_that_a_selector_chooses_it():
    story = Story()
    story.given.create("subnet/own", {"spec.namespaceSelectors": [{"matchLabels": {"team": "x"}}]})
    story.given.create("namespace/other", {TEAM: "x"})
    story.given.write("namespace/other", {SWITCH: "own"})
    story.given.create("namespace/shop")
    assert unbound(story) == [], "nothing serves it yet"
    story.when.write("namespace/shop", {TEAM: "x"}, by="alice")
    assert unbound(story) == ["open namespace/shop"]
    assert "relabelled" in story.finding("namespace-not-bound", HOUR).explanation


# ---- it heals


def test_one_that_was_annotated_much_too_late_is_healed():
    story = Story()
    default_subnet(story)
    for name in ("one", "two", "three", "four", "five"):
        bound(story, name)
    orphan(story)
    story.given.create("namespace/shop")
    story.when.wait(300)
    story.when.delete("subnet/orphan")
    story.when.write("namespace/shop", {SWITCH: "ovn-default"})
    assert unbound(story) == ["healed namespace/shop"]
    finding = story.finding("namespace-not-bound")
    assert finding.until == len(story.events)
    assert story.witnessed(finding)[-1] == "healing NamespaceBound namespace/shop"


# ---- it stays silent


def test_one_that_was_annotated_in_time():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    bound(story, "shop", after=0.5)
    story.then.silent()


def test_without_a_controller_that_annotates_nothing_is_missing():
    story = Story()
    default_subnet(story)
    story.when.create("namespace/shop")
    story.then.silent()


def test_a_namespace_that_no_subnet_serves():
    story = Story()
    story.given.create("subnet/own", {"spec.namespaces": ["bank"]})
    story.given.create("namespace/bank")
    story.given.write("namespace/bank", {SWITCH: "own"})
    story.when.create("namespace/shop")
    story.then.silent()


def test_a_namespace_that_only_a_terminating_subnet_serves():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    story.given.create("subnet/own", {"spec.namespaces": ["shop"]})
    story.given.write("subnet/ovn-default", {"spec.default": False})
    story.given.unseen("subnet/own", {"metadata.finalizers": ["x"]})
    story.given.delete("subnet/own")
    story.when.create("namespace/shop")
    assert unbound(story) == []


def test_a_namespace_from_before_the_log():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    story.given.exists("namespace/kube-system")
    story.when.write("namespace/kube-system", {"metadata.annotations[x]": "y"}, by="alice")
    story.then.silent()


def test_a_namespace_that_is_deleted_before_it_was_annotated():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    story.given.create("namespace/shop")
    story.when.delete("namespace/shop")
    story.then.silent()


def test_a_namespace_that_is_made_with_its_annotation():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    story.when.create("namespace/shop", {SWITCH: "ovn-default"})
    story.then.silent()


def test_a_relabelling_that_no_selector_looks_at():
    story = Story()
    story.given.create("subnet/own", {"spec.namespaceSelectors": [{"matchLabels": {"team": "x"}}]})
    story.given.create("namespace/other", {TEAM: "x"})
    story.given.write("namespace/other", {SWITCH: "own"})
    story.given.create("namespace/shop")
    story.when.write("namespace/shop", {"metadata.labels[colour]": "red"}, by="alice")
    story.when.write("namespace/shop", {TEAM: "y"}, by="alice")
    story.then.silent()


def test_a_relabelling_of_one_that_the_selector_chose_before_the_log_began():
    story = Story()
    story.given.create("subnet/own", {"spec.namespaceSelectors": [{"matchLabels": {"team": "x"}}]})
    story.given.create("namespace/other", {TEAM: "x"})
    story.given.write("namespace/other", {SWITCH: "own"})
    story.given.exists("namespace/shop", {TEAM: "x"})
    story.given.write("namespace/shop", {"metadata.annotations[a]": "b"}, by="alice")
    story.when.write("namespace/shop", {"metadata.labels[colour]": "red"}, by="alice")
    story.then.silent()


def test_a_relabelling_of_one_that_is_bound_already():
    story = Story()
    default_subnet(story)
    story.given.create("subnet/own", {"spec.namespaceSelectors": [{"matchLabels": {"team": "x"}}]})
    bound(story, "shop")
    story.when.write("namespace/shop", {TEAM: "x"}, by="alice")
    story.then.silent()
