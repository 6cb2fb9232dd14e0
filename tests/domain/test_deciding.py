"""What holds for every kind: the shapes of deletion, beginnings in mid-life, gaps, and what is no transition at all."""

import pytest

from domain.decide import decide
from domain.events import OBSERVED, REFUSED
from domain.kinds import HOLDERS, LIFECYCLES, VOCABULARY
from domain.operations import (
    DELETION,
    DRY_RUN,
    FINALIZERS,
    MADE,
    REMOVED,
    UNCHANGED,
    UNKNOWN,
    Operation,
    OrderKey,
)
from domain.operations import REFUSED as REFUSED_REQUEST
from domain.resources import BY_NAME, FINALIZER
from tests.domain.stories import CONTROLLER, KUBELET, Story, key_of

HELD = tuple(HOLDERS)
"""The kinds that kube-ovn puts its finalizer on."""
ALL = tuple(kind for kind in LIFECYCLES if BY_NAME[kind].served)
"""The kinds that the API server has: a node's ipsets are asked nothing and answer nothing (`test_ipset`)."""

PATHS = {kind: f"{kind}/shop/thing" if BY_NAME[kind].namespaced else f"{kind}/thing" for kind in ALL}


@pytest.mark.parametrize("kind", HELD)
def test_deletion_with_a_finalizer_is_request_then_removal(kind):
    requested, ended = VOCABULARY[kind].deletion_requested, VOCABULARY[kind].ended
    path, story = PATHS[kind], Story()
    story.given.create(path, held=True)
    story.when.delete(path)
    story.then.recorded(f"{requested} {path}")
    story.when.release(path)
    story.then.recorded(f"{ended} {path}")
    story.is_in(path, "GONE")
    assert story.refusals() == []
    departed = story.world.gone(key_of(path))
    assert departed is not None and departed.seen and departed.deletion_at == 2


@pytest.mark.parametrize("kind", HELD)
def test_deletion_without_a_finalizer_is_one_event(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    story.when.delete(path)
    story.then.recorded(f"{VOCABULARY[kind].ended} {path}")
    story.is_in(path, "GONE")
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
def test_deletion_heard_of_only_after_it_was_asked_for(kind):
    path, story = PATHS[kind], Story()
    story.exists(path, {FINALIZERS: [FINALIZER], DELETION: "2027-01-15T08:00:00Z"})
    story.when.write(path, {"metadata.labels[a]": "b"})
    story.then.recorded(f"{VOCABULARY[kind].sighted_terminating} {path}")
    assert story.live(path).terminating and not story.live(path).seen_from_birth
    story.when.remove(path)
    story.then.recorded(f"{VOCABULARY[kind].ended} {path}")
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
def test_a_removal_that_is_the_first_thing_heard_is_sighted_and_ended(kind):
    path, story = PATHS[kind], Story()
    story.exists(path)
    story.when.remove(path, by=KUBELET)
    story.then.recorded(f"{VOCABULARY[kind].sighted} {path}", f"{VOCABULARY[kind].ended} {path}")
    story.is_in(path, "GONE")


@pytest.mark.parametrize("kind", HELD)
def test_a_delete_that_is_the_first_thing_heard_was_not_terminating_before(kind):
    path, story = PATHS[kind], Story()
    story.exists(path, held=True)
    story.when.delete(path)
    story.then.recorded(f"{VOCABULARY[kind].sighted} {path}", f"{VOCABULARY[kind].deletion_requested} {path}")
    assert story.live(path).deletion_at == 2


@pytest.mark.parametrize("kind", HELD)
def test_a_second_delete_is_an_observation(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, held=True)
    story.given.delete(path)
    story.when.delete(path, by="bob")
    story.then.recorded(f"observed {path}")
    assert story.live(path).deletion_at == 2
    assert story.refusals() == []


@pytest.mark.parametrize("kind", HELD)
def test_the_finalizer_may_come_in_the_create_or_in_a_write_of_its_own(kind):
    in_one, in_two = Story(), Story()
    path = PATHS[kind]
    in_one.given.create(path, by=CONTROLLER, held=True)
    in_two.given.create(path, by="alice")
    in_two.given.hold(path)
    for story in (in_one, in_two):
        assert story.refusals() == []
        assert story.live(path).guarded_by == CONTROLLER
        story.when.delete(path)
        story.then.release(path)
        story.is_in(path, "GONE")


@pytest.mark.parametrize("kind", HELD)
def test_a_finalizer_that_comes_off_a_living_object_ends_nothing(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    story.given.hold(path)
    story.when.release(path)
    assert story.live(path).finalizers == []
    assert not story.live(path).terminating
    assert story.refusals() == []


@pytest.mark.parametrize("kind", HELD)
def test_a_finalizer_that_came_with_the_create_may_come_off_a_living_object(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, held=True)
    story.when.release(path)
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
def test_what_is_first_heard_of_in_mid_life_is_sighted_with_all_its_fields(kind):
    path, story = PATHS[kind], Story()
    story.exists(path, {"spec.a": 1})
    story.when.write(path, {"metadata.labels[app]": "x"})
    story.then.recorded(f"{VOCABULARY[kind].sighted} {path}")
    story.is_in(path, "SIGHTED")
    assert story.live(path).fields == {"spec.a": 1, "metadata.labels[app]": "x"}
    assert not story.live(path).seen_from_birth


@pytest.mark.parametrize("kind", ALL)
def test_a_no_op_on_what_was_never_heard_of_sights_it(kind):
    path, story = PATHS[kind], Story()
    story.exists(path, {"spec.a": 1})
    story.when.look(path, verb="patch")
    story.then.recorded(f"{VOCABULARY[kind].sighted} {path}")
    assert story.live(path).fields == {"spec.a": 1}


@pytest.mark.parametrize("kind", ALL)
def test_a_namesake_with_another_uid_makes_the_one_before_vanish(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    story.given.ends_unseen(path)
    story.when.create(path, {"spec.b": 2})
    story.then.recorded(f"{VOCABULARY[kind].vanished} {path}", f"{VOCABULARY[kind].begun} {path}")
    assert story.live(path).uid == story.uid(path)
    assert story.live(path).fields == {"spec.b": 2}
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
def test_a_namesake_first_seen_in_mid_life_makes_the_one_before_vanish(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    story.given.ends_unseen(path)
    story.given.exists(path, {"spec.b": 2})
    story.when.write(path, {"spec.b": 3})
    story.then.recorded(f"{VOCABULARY[kind].vanished} {path}", f"{VOCABULARY[kind].sighted} {path}")
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
def test_a_name_can_be_used_again_after_its_bearer_went(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    story.given.remove(path)
    story.when.create(path)
    story.then.recorded(f"{VOCABULARY[kind].begun} {path}")
    assert story.live(path).seen_from_birth


@pytest.mark.parametrize("kind", ALL)
def test_a_late_word_about_an_earlier_namesake_does_not_touch_the_one_of_today(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, uid="uid-old")
    story.given.remove(path)
    story.given.create(path, {"spec.a": 1}, uid="uid-new")
    story.when.tell(path, "delete", REMOVED, by=KUBELET, uid="uid-old", after={})
    story.then.recorded(f"observed {path}")
    assert story.last[0].outcome == "earlier-namesake"
    assert story.live(path).uid == "uid-new" and story.live(path).fields == {"spec.a": 1}


@pytest.mark.parametrize("kind", ALL)
def test_a_late_word_about_the_departed_does_not_bring_it_back(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, uid="uid-old")
    story.given.remove(path)
    story.when.tell(path, "delete", REMOVED, by=KUBELET, uid="uid-old", after={})
    story.then.recorded(f"observed {path}")
    story.is_in(path, "GONE")
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("outcome", [UNCHANGED, REFUSED_REQUEST, DRY_RUN])
def test_what_did_nothing_is_observed_and_moves_nothing(kind, outcome):
    path, story = PATHS[kind], Story()
    story.given.create(path, {"spec.a": 1})
    before = (story.world.state(key_of(path)), dict(story.live(path).fields))
    for verb in ("get", "update", "patch", "delete"):
        story.when.tell(path, verb, outcome, by="bob", after={"spec.a": 1} if outcome == UNCHANGED else None)
        story.then.recorded(f"observed {path}")
        assert story.last[0].outcome == outcome
    assert (story.world.state(key_of(path)), story.live(path).fields) == before


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("outcome", [REFUSED_REQUEST, DRY_RUN])
def test_what_was_only_tried_does_not_sight_anything(kind, outcome):
    path, story = PATHS[kind], Story()
    story.when.tell(path, "create", outcome, by="bob", after=None)
    story.then.recorded(f"observed {path}")
    story.is_in(path, "ABSENT")


@pytest.mark.parametrize("kind", HELD)
def test_status_writes_on_a_terminating_object_are_allowed(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, held=True)
    story.given.delete(path)
    state = story.world.state(key_of(path))
    story.when.status(path, {"something": 1})
    assert story.refusals() == []
    story.is_in(path, state)
    assert story.live(path).get("status.something") == 1


@pytest.mark.parametrize("kind", ALL)
def test_a_status_write_never_moves_the_state(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    state = story.world.state(key_of(path))
    for value in (True, False, "Error", ["a"]):
        story.when.status(path, {"ready": value})
        story.then.is_in(path, state)


@pytest.mark.parametrize("kind", HELD)
def test_a_status_write_shows_a_spec_write_that_the_log_missed(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, {"spec.a": 1})
    story.given.unseen(path, {"spec.a": 2})
    story.when.status(path, {"ready": True})
    assert [event.outcome for event in story.last if event.type == OBSERVED] == ["missed"]
    missed = story.last[0]
    assert missed.changed == {"spec.a": (1, 2)}
    assert story.live(path).get("spec.a") == 2
    own = story.last[1]
    assert own.changed == {"status.ready": (None, True)}, "the missed write is not this writer's doing"


@pytest.mark.parametrize("kind", HELD)
def test_a_spec_write_shows_a_status_write_that_the_log_missed(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path)
    story.given.unseen(path, {"status.ready": True})
    story.when.write(path, {"spec.a": 1})
    assert story.last[0].outcome == "missed" and story.last[0].changed == {"status.ready": (None, True)}
    assert story.live(path).get("status.ready") is True


@pytest.mark.parametrize("kind", ALL)
def test_a_write_without_bodies_blurs_what_is_known_and_the_next_one_sights_it_again(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, {"spec.a": 1})
    story.when.blur(path, {"spec.a": 2})
    story.then.recorded(f"observed {path}")
    assert story.live(path).blurred
    story.when.write(path, {"spec.b": 3})
    story.then.recorded(f"{VOCABULARY[kind].sighted} {path}")
    assert not story.live(path).blurred
    assert story.live(path).fields == {"spec.a": 2, "spec.b": 3}
    assert story.refusals() == []


@pytest.mark.parametrize("kind", ALL)
def test_a_write_without_bodies_on_what_was_never_heard_of_sights_it_blurred(kind):
    path, story = PATHS[kind], Story()
    story.exists(path, {"spec.a": 1})
    story.when.blur(path)
    story.then.recorded(f"{VOCABULARY[kind].sighted} {path}")
    assert story.live(path).blurred and story.live(path).fields == {}


@pytest.mark.parametrize("kind", ALL)
def test_a_delete_without_bodies_of_what_was_never_heard_of_tells_nothing(kind):
    path, story = PATHS[kind], Story()
    story.when.tell(path, "delete", UNKNOWN, by="bob", after=None)
    story.then.recorded(f"observed {path}")
    story.is_in(path, "ABSENT")


@pytest.mark.parametrize("kind", ALL)
def test_an_event_says_who_when_on_what_record_and_which_fields_moved(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, {"spec.a": 1})
    story.when.write(path, {"spec.a": 2, "spec.b": None}, by="bob", agent="kubectl", read_revision=77)
    event = story.last[0]
    assert (event.actor, event.agent, event.read_revision) == ("bob", "kubectl", 77)
    assert event.changed == {"spec.a": (1, 2)}
    assert event.time == story.now and event.revision == story.revision
    assert event.order is not None and event.record == event.order.identity
    assert event.uid == story.uid(path)
    assert event.key.tag in event.tags


@pytest.mark.parametrize("kind", ALL)
def test_deciding_changes_nothing_in_the_world(kind):
    path, story = PATHS[kind], Story()
    story.given.create(path, {"spec.a": 1})
    resource = story.live(path)
    before = (dict(resource.fields), resource.state, resource.revision, dict(story.world.live))
    seen = story.events[-1]
    for outcome in (MADE, REMOVED, UNCHANGED, UNKNOWN):
        order = OrderKey(999, 0, seen.time + 1, "audit:x@1/ResponseComplete")
        decide(
            story.world,
            Operation(
                order=order,
                key=key_of(path),
                verb="patch",
                outcome=outcome,
                uid=resource.uid,
                revision=999,
                after={"spec.a": 9},
            ),
        )
    assert (resource.fields, resource.state, resource.revision, story.world.live) == before


def test_a_refused_fact_is_refused_once_and_never_echoes():
    story = Story()
    story.given.create("vpc/shop", held=True)
    story.given.create("subnet/a", {"spec.vpc": "shop"}, held=True)
    story.given.create("ip/web.shop", {"spec.subnet": "a", "spec.namespace": "shop", "spec.podName": "web"}, held=True)
    story.given.delete("vpc/shop")
    story.when.release("vpc/shop")
    story.then.is_in("vpc/shop", "GHOST")
    story.when.delete("subnet/a")
    story.when.release("subnet/a")
    story.then.is_in("subnet/a", "GHOST")
    for path in ("vpc/shop", "subnet/a"):  # the same names again, and everything about them
        story.when.create(path, {"spec.vpc": "shop"} if path.startswith("subnet") else None, held=True)
        story.when.status(path, {"ready": True})
        story.when.write(path, {"spec.x": 1})
        story.when.delete(path)
    story.when.status("vpc/shop", {"subnets": ["a"]})
    story.when.write("ip/web.shop", {"spec.nodeName": "n"})
    story.when.delete("ip/web.shop")
    story.when.release("ip/web.shop")
    story.when.release("subnet/a")
    story.when.release("vpc/shop")
    assert story.refusals() == ["VPCRemoved vpc/shop", "SubnetRemoved subnet/a"]


def test_a_refusal_carries_its_evidence_and_where_it_leads():
    story = Story()
    story.given.create("vpc/shop", held=True)
    story.given.create("subnet/a", {"spec.vpc": "shop"})
    story.given.delete("vpc/shop")
    story.when.release("vpc/shop", by="mallory")
    refusal = story.last[0]
    assert refusal.type == REFUSED and refusal.attempted == "VPCRemoved" and refusal.happened == "VPCRemoved"
    assert refusal.leads_to == "GHOST" and refusal.actor == "mallory"
    assert refusal.record.startswith("audit:")
    assert "subnet a still names it" in refusal.reason
