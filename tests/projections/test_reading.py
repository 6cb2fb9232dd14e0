"""The audit trail, and all projections together: folded anew from the first event they come out the same."""

from domain.events import Event
from projections.coverage import CHANGED
from projections.reading import Reading
from projections.standing import Standing, same
from tests.domain.stories import CONTROLLER, Story, gateway, replace_gateway_pod
from tests.projections.test_lost_update import put_back


def eventful() -> Story:
    """A history with something of everything in it."""
    story = Story()
    put_back(story)
    gateway(story)
    replace_gateway_pod(story.when)
    story.when.look("eip/out")
    story.when.refuse("vpc/shop")
    story.when.exists("subnet/old", {"spec.vpc": "elsewhere"})
    story.when.status("subnet/old", {"v4usingIPs": 3})
    story.when.blur("fip/never-heard-of")
    story.when.remove("vpc/shop", by="mallory")
    return story


def test_the_audit_trail_counts_what_each_actor_did_to_each_kind():
    story = Story()
    story.given.create("vpc/shop", by="alice")
    first = story.now
    story.when.look("vpc/shop", by="alice")
    story.when.create("subnet/a", {"spec.vpc": "shop"}, by="bob")
    story.when.delete("vpc/shop", by="alice")
    trail = story.reading.trail.by_actor
    activity = trail["alice"]["vpc"]
    assert (activity.events, activity.attempts, activity.refusals) == (3, 1, 1)
    assert (activity.first, activity.last) == (first, story.now)
    assert trail["bob"]["subnet"].events == 1
    assert "subnet" not in trail["alice"], "that the subnet was orphaned is its cause's doing, and not counted twice"


def test_the_audit_trail_does_not_depend_on_the_order_of_times():
    story = Story()
    story.given.create("vpc/shop")
    early, late = story.events[0], story.events[0]
    early = Event(**{**{f: getattr(early, f) for f in early.__struct_fields__}, "time": 5})
    reading = Reading()
    reading.apply(late)
    reading.apply(early)
    activity = reading.trail.by_actor["alice"]["vpc"]
    assert (activity.first, activity.last) == (5, late.time)


def test_folded_anew_from_the_first_event_everything_comes_out_the_same():
    story = eventful()
    anew = Reading()
    for event in story.events:
        anew.apply(event)
    kept = story.reading
    assert anew.at == kept.at == len(story.events)
    assert [(r.key, r.uid, r.state, r.fields) for r in anew.resources()] == [
        (r.key, r.uid, r.state, r.fields) for r in kept.resources()
    ]
    assert [anew.standing(r) for r in anew.resources()] == [kept.standing(r) for r in kept.resources()]
    assert anew.trail.by_actor == kept.trail.by_actor
    assert (anew.refusals, anew.coverage.revisions, anew.gaps) == (kept.refusals, kept.coverage.revisions, kept.gaps)
    for end in (story.now, story.now + 3_600_000_000):
        findings = [list(reading.conclude(end, lambda at: story.events[at - 1])) for reading in (anew, kept)]
        assert findings[0] == findings[1] and findings[0]


def test_coverage_counts_revisions_gaps_and_unknown_beginnings():
    story = Story()
    story.given.create("vpc/shop")
    first = story.revision
    story.given.unseen("vpc/shop", {"spec.a": 1})
    story.when.status("vpc/shop", {"standby": True})
    story.given.exists("subnet/old")
    story.when.write("subnet/old", {"spec.a": 1})
    reading = story.reading
    assert reading.coverage.revisions == [first, story.revision]
    assert reading.coverage.sighted == 1
    assert [(str(gap.key), gap.why) for gap in reading.gaps] == [("vpc/shop", CHANGED)]


def test_refusals_are_counted():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop"})
    story.when.delete("vpc/shop")
    assert story.reading.refusals == 1


def test_resources_come_by_kind_and_then_by_name():
    story = Story()
    for path in ("namespace/z", "subnet/b", "vpc/y", "subnet/a", "pod/b/a", "pod/a/b"):
        story.given.create(path)
    paths = [str(resource.key) for resource in story.reading.resources()]
    assert paths == ["vpc/y", "subnet/a", "subnet/b", "pod/a/b", "pod/b/a", "namespace/z"]


def test_a_kind_without_claims_has_no_standing():
    story = Story()
    story.given.create("pod/shop/web")
    assert story.standing("pod/shop/web") == Standing()


def test_an_unknown_lawful_value_never_drifts():
    assert Standing(lawful={"a": None}, reported={"a": 1}).drift == {}
    assert Standing(lawful={"a": 1}, reported={}).drift == {}
    assert Standing(lawful={"a": 1}, reported={"a": 2}).drift == {"a": {"lawful": 1, "reported": 2}}


def test_lists_are_sets_and_everything_else_is_compared_as_it_is():
    assert same(["b", "a"], ["a", "b"]) and not same(["a", "a"], ["a"])
    assert same(1, 1.0) and not same("1", 1) and not same([], None)


def test_an_observation_changes_no_projection():
    story = Story()
    put_back(story)
    before = [(r.key, r.state, dict(r.fields), story.reading.standing(r)) for r in story.reading.resources()]
    found = story.found()
    for path in ("vpc/shop", "subnet/a"):
        story.when.look(path)
        story.when.refuse(path, by=CONTROLLER)
        story.when.dry_run(path)
    assert [(r.key, r.state, r.fields, story.reading.standing(r)) for r in story.reading.resources()] == before
    assert story.found() == found
