"""What a watch or a snapshot shows becomes the events that an audit log would have told, without anybody who did them."""

from __future__ import annotations

from domain.operations import DELETION, FINALIZERS
from domain.resources import FINALIZER
from tests.domain.stories import Story

HELD = {FINALIZERS: [FINALIZER]}


def test_a_birth_that_a_watch_shows_is_a_birth():
    story = Story()
    story.when.watch("vpc/shop", {}, created=True)
    story.then.recorded("VPCCreated vpc/shop")
    assert story.live("vpc/shop").seen_from_birth


def test_what_a_watch_begins_with_is_first_heard_of_in_mid_life():
    story = Story()
    story.given.exists("vpc/shop", held=True)
    story.when.watch("vpc/shop", {})
    story.then.recorded("VPCSighted vpc/shop")


def test_all_that_moved_at_once_is_told_whatever_subresource_it_was_written_by():
    story = Story()
    story.given.create("subnet/net", {"spec.vpc": "shop"})
    story.when.watch("subnet/net", {**HELD, "spec.gateway": "10.0.0.1", "status.v4usingIPs": 2})
    story.then.recorded("SubnetGuarded subnet/net", "SubnetSpecChanged subnet/net", "SubnetStatusReported subnet/net")
    assert [event.actor for event in story.last] == ["", "", ""]


def test_a_revision_that_moves_nothing_here_is_an_observation():
    story = Story()
    story.given.create("vpc/shop")
    story.when.watch("vpc/shop", {})
    story.then.recorded("observed vpc/shop")


def test_a_deletion_and_an_end_that_a_watch_shows_lead_where_a_users_would():
    story = Story()
    story.given.create("vpc/shop", held=True)
    story.when.watch("vpc/shop", {DELETION: "2026-11-21T01:24:04Z"})
    story.then.recorded("VPCDeletionRequested vpc/shop")
    story.when.watch_end("vpc/shop")
    story.then.recorded("VPCRemoved vpc/shop")


def test_an_illegal_end_is_refused_whoever_shows_it():
    story = Story()
    story.given.create("vpc/shop", held=True)
    story.given.create("subnet/net", {"spec.vpc": "shop"}, held=True)
    story.when.watch_end("vpc/shop")
    story.then.recorded("refused VPCRemoved vpc/shop", "SubnetOrphaned subnet/net")


def test_another_bearer_of_a_name_ends_the_one_before():
    story = Story()
    story.given.create("vpc/shop")
    story.given.ends_unseen("vpc/shop")
    story.when.watch("vpc/shop", {}, created=True)
    story.then.recorded("VPCVanished vpc/shop", "VPCCreated vpc/shop")


def test_a_blurred_resource_is_known_again_once_a_watch_shows_it_whole():
    story = Story()
    story.given.create("vpc/shop")
    story.given.blur("vpc/shop", {"spec.a": 1})
    story.when.watch("vpc/shop", {"spec.a": 2})
    story.then.recorded("VPCSighted vpc/shop")
    assert not story.live("vpc/shop").blurred


def test_who_took_a_finalizer_off_is_not_held_against_somebody_unknown():
    story = Story()
    for path in ("vpc/shop", "vpc/other"):
        story.given.create(path)
        story.when.hold(path)
        story.when.delete(path)
    story.when.release("vpc/other", by="alice")
    story.when.watch_end("vpc/shop")
    assert {str(key): departed.by_hand for key, departed in story.world.departed["vpc"].items()} == {
        "vpc/other": True,
        "vpc/shop": False,
    }
