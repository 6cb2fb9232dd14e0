"""Who wrote which field: told by a resource's own events, through its end and its namesakes."""

import pytest

from domain.events import CHANGE_NOTICED
from projections.field_history import FieldHistory, changes, fields_written, may_write
from tests.domain.stories import CONTROLLER, Story, key_of
from tests.replaying import replayed


def history(story: Story, path: str) -> FieldHistory:
    """The history of one resource, by its own events alone; their positions are far apart."""
    found = FieldHistory(key_of(path))
    for at, event in enumerate(story.events, 1):
        if event.key == key_of(path):
            found.apply(event, 10 * at)
    return found


def writers(found: FieldHistory) -> dict[str, str]:
    return {path: written.event.actor for path, written in found.written.items()}


def test_the_last_writer_of_each_field_is_known():
    story = Story()
    story.given.create("vpc/shop", {"spec.namespaces": ["a"]}, by="alice")
    story.when.status("vpc/shop", {"standby": True}, by=CONTROLLER)
    story.when.write("vpc/shop", {"spec.namespaces": ["a", "b"]}, by="bob")
    found = history(story, "vpc/shop")
    assert writers(found) == {"spec.namespaces": "bob", "status.standby": CONTROLLER}
    assert found.written["spec.namespaces"].before == ["a"] and found.written["spec.namespaces"].writes == 2
    assert found.state().fields == dict(story.live("vpc/shop").fields)


def test_neither_testimony_nor_reads_nor_what_was_only_tried_write_anything():
    story = Story()
    story.given.create("vpc/shop", {"spec.bfd": True}, by="alice")
    story.when.look("vpc/shop")
    story.when.dry_run("vpc/shop")
    story.when.refuse("vpc/shop", by="bob")
    assert writers(history(story, "vpc/shop")) == {"spec.bfd": "alice"}


def test_who_took_a_field_away_wrote_it_last():
    story = Story()
    story.given.create("vpc/shop", {"spec.bfd": True})
    story.when.write("vpc/shop", {"spec.bfd": None}, by="bob")
    found = history(story, "vpc/shop")
    assert writers(found) == {"spec.bfd": "bob"} and found.written["spec.bfd"].after is None
    assert found.state().fields == {}


def test_the_end_of_an_object_takes_its_fields_and_a_namesake_begins_anew():
    story = Story()
    story.given.create("vpc/shop", {"spec.bfd": True, "spec.namespaces": ["a"]})
    story.when.remove("vpc/shop", by="bob")
    found = history(story, "vpc/shop")
    assert writers(found) == {"spec.bfd": "bob", "spec.namespaces": "bob"} and not found.state().there
    story.when.create("vpc/shop", {"spec.bfd": False}, by="carol")
    found = history(story, "vpc/shop")
    assert writers(found) == {"spec.bfd": "carol", "spec.namespaces": "bob"}
    assert found.state().uid == story.uid("vpc/shop")


def test_a_namesake_that_takes_its_place_unseen_is_another_object():
    story = Story()
    story.given.create("vpc/shop", {"spec.bfd": True}, by="alice")
    story.given.ends_unseen("vpc/shop")
    story.when.create("vpc/shop", {"spec.namespaces": ["b"]}, by="bob")
    found = history(story, "vpc/shop")
    assert found.state().fields == {"spec.namespaces": ["b"]} == dict(story.live("vpc/shop").fields)
    assert found.written["spec.bfd"].after is None


def test_a_writer_that_had_read_an_older_revision_overlooked_what_came_between():
    story = Story()
    story.given.create("vpc/shop")
    read = story.revision
    story.when.status("vpc/shop", {"subnets": ["a"]})
    between = 10 * len(story.events)
    story.when.status("vpc/shop", {"subnets": []}, by="bob", read_revision=read)
    assert history(story, "vpc/shop").written["status.subnets"].overlooked == (between,)
    story.when.status("vpc/shop", {"subnets": ["b"]}, by="bob", read_revision=story.revision)
    assert history(story, "vpc/shop").written["status.subnets"].overlooked == ()


def test_commands_in_a_gateways_pod_are_no_fields_of_it():
    story = Story()
    story.given.create("pod/n/gw", {"spec.nodeName": "one"})
    story.when.run("pod/n/gw", "eip-add 10.0.0.1/24")
    assert set(history(story, "pod/n/gw").written) == {"spec.nodeName"}


def test_what_is_looked_at_can_begin_anywhere():
    story = Story()
    story.given.create("vpc/shop", {"spec.bfd": True})
    found = history(story, "vpc/shop")
    before = found.state()
    found.look_from_here()
    assert found.written == {} and found.state() == before


def test_lists_in_which_order_means_nothing_are_compared_by_their_members():
    before = {"status.subnets": ["a", "b"], "spec.policyRoutes": [1, 2], "spec.namespaces": ["x"]}
    after = {"status.subnets": ["b", "c"], "spec.policyRoutes": [2, 1]}
    found = {change.field: change for change in changes(before, after, {})}
    assert (found["status.subnets"].added, found["status.subnets"].removed) == (["c"], ["a"])
    assert (found["spec.namespaces"].added, found["spec.namespaces"].removed) == ([], ["x"])
    assert found["spec.policyRoutes"].added is None and not found["spec.policyRoutes"].is_back
    (turned,) = changes({"status.subnets": ["a", "b"]}, {"status.subnets": ["b", "a"]}, {})
    assert turned.is_back


def test_a_list_that_is_none_is_shown_as_it_is():
    (change,) = changes({"status.subnets": "broken"}, {"status.subnets": ["a"]}, {})
    assert change.added is None and (change.before, change.after) == ("broken", ["a"])


@pytest.mark.parametrize("name", ["mixed-seed7", "mixed-small", "s4-buggy", "quirks-batchlog"])
def test_what_a_type_may_write_is_never_less_than_what_events_of_it_wrote(name):
    events = replayed(name).events
    for event in events:
        for path in fields_written(event):
            assert may_write(event.key.kind, event.type, path), (event.type, path)
    assert any(event.changed for event in events)


def test_a_types_own_fields_are_all_that_it_may_write():
    assert not may_write("vpc", "VPCStatusReported", "spec.namespaces")
    assert may_write("vpc", "VPCStatusReported", "status.subnets")
    assert not may_write("vpc", CHANGE_NOTICED, "status.subnets")
    assert may_write("vpc", "VPCCreated", "spec.namespaces") and may_write("vpc", "AttemptObserved", "spec.namespaces")
