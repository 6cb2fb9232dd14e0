"""Namespace binding as a fold: which subnets serve a namespace, and whether those its annotations name are there."""

import pytest

from domain.namespace import SWITCH
from domain.resources import Key
from projections.namespace_binding import labels_of, matches, serving
from tests.domain.stories import Story

LABELS = {"team": "x", "tier": "web"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"matchLabels": {"team": "x"}}, True),
        ({"matchLabels": {"team": "y"}}, False),
        ({"matchLabels": {"team": "x", "tier": "db"}}, False),
        ({"matchLabels": {"missing": "x"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["x", "y"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["y"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["y"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "missing", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "missing", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "missing", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "Near", "values": ["x"]}]}, False),
        ({"matchLabels": {"team": "x"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
        ({}, False),
        ({"matchLabels": {}, "matchExpressions": []}, False),
        ({"matchLabels": None, "matchExpressions": None}, False),
    ],
)
def test_a_label_selector_chooses_as_kubernetes_does(selector, expected):
    assert matches(selector, LABELS) is expected


def test_labels_are_read_from_the_field_paths():
    fields = {"metadata.labels[team]": "x", "metadata.labels[a.b/c]": "d", "metadata.annotations[team]": "y"}
    assert labels_of(fields) == {"team": "x", "a.b/c": "d"}


def subnets(story: Story, **specs: dict[str, object]) -> dict[Key, None]:
    for name, spec in specs.items():
        story.given.create(f"subnet/{name}", {f"spec.{field}": value for field, value in spec.items()}, held=True)
    return {Key("subnet", "", name): None for name in specs}


def test_the_default_subnet_serves_a_namespace_that_no_other_chooses():
    story = Story()
    known = subnets(story, default={"default": True}, own={"namespaces": ["shop"]})
    assert serving(story.world, known, "shop", {}) == ["own"]
    assert serving(story.world, known, "bank", {}) == ["default"]


def test_a_namespace_may_be_served_by_several():
    story = Story()
    known = subnets(
        story,
        b={"namespaceSelectors": [{"matchLabels": {"a": "1"}}, {"matchLabels": {"team": "x"}}]},
        a={"namespaces": ["shop"]},
        c={"namespaceSelectors": [{"matchLabels": {"team": "z"}}]},
    )
    assert serving(story.world, known, "shop", LABELS) == ["a", "b"]


def test_a_subnet_that_is_going_or_blurred_serves_nobody():
    story = Story()
    known = subnets(story, going={"namespaces": ["shop"]}, blurred={"namespaces": ["shop"]})
    story.when.delete("subnet/going")
    story.when.blur("subnet/blurred")
    assert serving(story.world, known, "shop", {}) == []


def test_selectors_of_an_unknown_shape_choose_nothing():
    story = Story()
    known = subnets(story, odd={"namespaceSelectors": "team=x"}, odder={"namespaceSelectors": ["team=x"]})
    assert serving(story.world, known, "shop", LABELS) == []


def test_annotations_that_name_subnets_that_are_there_do_not_drift():
    story = Story()
    subnets(story, a={}, b={})
    story.given.create("namespace/shop")
    story.when.write("namespace/shop", {SWITCH: "a,b"})
    standing = story.standing("namespace/shop")
    assert standing.reported[SWITCH] == ["a", "b"] and standing.drift == {}


def test_annotations_that_name_a_subnet_that_is_gone_drift():
    story = Story()
    subnets(story, a={}, b={})
    story.given.create("namespace/shop")
    story.given.write("namespace/shop", {SWITCH: "a,b"})
    story.when.remove("subnet/b")
    standing = story.standing("namespace/shop")
    assert standing.drift == {SWITCH: {"lawful": ["a"], "reported": ["a", "b"]}}
    assert "subnet b is gone" in standing.because[SWITCH]


def test_annotations_that_name_a_subnet_never_heard_of_are_not_known_to_be_wrong():
    story = Story()
    story.given.create("namespace/shop")
    story.when.write("namespace/shop", {SWITCH: "older-than-the-log"})
    assert story.standing("namespace/shop").drift == {}


def test_a_namespace_without_annotations_has_no_known_binding():
    story = Story()
    story.given.create("namespace/shop")
    standing = story.standing("namespace/shop")
    assert standing.lawful[SWITCH] is None and standing.drift == {}
