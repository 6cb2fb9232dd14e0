"""Label selectors choose what `kubectl -l` chooses, and what is none is refused with a sentence."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.label_selector import MOST, NotASelector, Selector, read_selector


def chooses(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is chosen: what `adapters/trail_index.py` has to find by its columns."""
    return all(
        wanted == (label in labels and (values is None or labels[label] in values))
        for label, values, wanted in selector.requirements
    )


WEB, API, BARE = {"app": "web", "tier": "front"}, {"app": "api"}, {"tier": ""}
NONE: dict[str, str] = {}
ALL = [WEB, API, BARE, NONE]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("app=web", [WEB]),
        ("app==web", [WEB]),
        (" app = web ", [WEB]),
        ("app!=web", [API, BARE, NONE]),
        ("app", [WEB, API]),
        ("!app", [BARE, NONE]),
        ("! app", [BARE, NONE]),
        ("app in (web,api)", [WEB, API]),
        ("app in(web)", [WEB]),
        ("app notin (web, other)", [API, BARE, NONE]),
        ("app=web,tier=front", [WEB]),
        ("app=web,tier=back", []),
        ("tier=", [BARE]),
        ("tier in (,front)", [WEB, BARE]),
        ("tier in ()", [BARE]),
        ("app,!tier", [API]),
        ("app in (web,api),tier notin (front)", [API]),
        ("app=web,app=api", []),
        ("other.example/app!=x", ALL),
    ],
)
def test_a_selector_chooses_what_kubectl_chooses(selector, chosen):
    assert [labels for labels in ALL if chooses(read_selector(selector), labels)] == chosen


def test_a_label_may_be_called_like_an_operator():
    assert chooses(read_selector("in in (in)"), {"in": "in"})
    assert chooses(read_selector("notin"), {"notin": ""})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name is missing"),
        (",", "name is missing before ','"),
        ("app=web,", "name is missing"),
        ("!", "name is missing"),
        ("!!app", "name is missing before '!'"),
        ("app web", "'web' behind app"),
        ("app=web tier=front", "'tier' stands where a comma should"),
        ("app=web=api", "'=' stands where"),
        ("app=(web)", "is no value"),
        ("app in web", "in brackets"),
        ("app in (web", "not closed"),
        ("app in (web api)", "not closed"),
        ("app>1", "compared only for being the same"),
        ("-app", "no name of a label"),
        ("a/b/c", "no name of a label"),
        ("app=" + "x" * 64, "no value of a label"),
        ("äpp=x", "no name of a label"),
        ("app=web\0", "no value of a label"),
    ],
)
def test_what_is_no_selector_is_refused_with_what_is_wrong(text, why):
    with pytest.raises(NotASelector) as refused:
        read_selector(text)
    assert why in str(refused.value) and "such as app=web" in str(refused.value)


def test_a_selector_is_of_bounded_length():
    with pytest.raises(NotASelector, match="4,003 characters"):
        read_selector("a=" + "b," * (MOST // 2) + "c")


@given(st.text("ab=!(),in <>/\n", max_size=20))
@settings(max_examples=300, deadline=None)
def test_whatever_is_typed_is_a_selector_or_refused(text):
    try:
        selector = read_selector(text)
    except NotASelector as error:
        assert str(error)
    else:
        assert all(chooses(selector, labels) in (True, False) for labels in ALL)
