"""What the log cannot speak for is noticed by what other records say, and what rests on it is unknown, not wrong."""

from __future__ import annotations

import pytest

from projections import coverage
from projections.coverage import Gap
from projections.findings.rule import OPEN, UNKNOWN
from tests.domain.stories import Story


def noticed(story: Story) -> list[tuple[str, str]]:
    return [(str(gap.key), gap.why) for gap in story.reading.gaps]


def test_a_change_that_no_write_in_the_log_made_is_a_gap_of_that_resource():
    story = Story()
    story.given.create("vpc/shop")
    story.given.unseen("vpc/shop", {"spec.a": 1})
    story.when.status("vpc/shop", {"standby": True})
    assert noticed(story) == [("vpc/shop", coverage.CHANGED)]


def test_a_writer_that_had_read_what_nobody_here_wrote_shows_a_gap():
    story = Story()
    story.given.create("vpc/shop")
    story.when.write("vpc/shop", {"spec.a": 1}, read_revision=story.revision)
    assert noticed(story) == []
    story.when.write("vpc/shop", {"spec.a": 2}, read_revision=story.revision + 1)
    assert noticed(story) == [("vpc/shop", coverage.READ)]


def test_a_write_that_moves_nothing_that_is_looked_at_is_one_that_a_writer_may_have_read():
    story = Story()
    story.given.create("pod/shop/web")
    story.when.write("pod/shop/web", {})
    story.then.recorded("observed pod/shop/web")
    story.when.write("pod/shop/web", {"metadata.labels[a]": "1"}, read_revision=story.revision)
    assert noticed(story) == []


def test_a_name_with_another_bearer_shows_that_an_end_is_missing():
    story = Story()
    story.given.create("vpc/shop")
    story.given.ends_unseen("vpc/shop")
    story.when.create("vpc/shop")
    assert noticed(story) == [("vpc/shop", coverage.REPLACED)]


def test_what_the_api_server_did_not_find_went_unseen():
    story = Story()
    story.given.create("vpc/shop")
    story.when.refuse("vpc/shop", code=404)
    assert noticed(story) == [("vpc/shop", coverage.NOT_FOUND)]


@pytest.mark.parametrize("operation", [{"subresource": "exec"}, {"subresource": "binding"}, {}])
def test_what_a_create_did_not_find_was_not_the_object(operation):
    story = Story()
    story.given.create("pod/shop/web")
    story.when.tell("pod/shop/web", "create", "refused", by="alice", code=404, **operation)
    assert noticed(story) == []


@pytest.mark.parametrize("code", [403, 409, 422])
def test_another_refusal_shows_no_gap(code):
    story = Story()
    story.given.create("vpc/shop")
    story.when.refuse("vpc/shop", code=code)
    assert noticed(story) == []


def test_what_was_not_found_and_goes_just_then_was_not_lost():
    story = Story()
    story.given.create("vpc/shop")
    story.when.refuse("vpc/shop", code=404)
    story.when.remove("vpc/shop")
    assert noticed(story) == []


def test_a_write_that_only_a_watch_shows_is_a_gap_once_the_audit_log_goes_on():
    story = Story()
    story.given.create("vpc/shop")
    story.when.watch("vpc/shop", {"spec.a": 1})
    assert noticed(story) == [], "the audit log may have ended here"
    story.when.create("vpc/other")
    assert noticed(story) == [("vpc/shop", coverage.ONLY_WATCHED)]


def test_a_watch_alone_shows_no_gap():
    story = Story()
    story.given.create("vpc/shop", received=0)
    story.when.watch("vpc/shop", {"spec.a": 1})
    story.when.watch("vpc/shop", {"spec.a": 2})
    assert noticed(story) == []


def stuck(story: Story) -> None:
    """A subnet in deletion that nobody holds and nobody releases."""
    story.given.create("vpc/shop", held=True)
    story.given.create("subnet/net", {"spec.vpc": "shop"}, held=True)
    story.given.create("subnet/other", {"spec.vpc": "elsewhere"}, held=True)
    story.when.delete("subnet/net")
    story.wait(3600)
    story.when.create("vpc/later")


def test_what_nothing_is_missing_of_is_wrong_for_certain():
    story = Story()
    stuck(story)
    assert story.finding("stuck-deletion", after=3600).status == OPEN


@pytest.mark.parametrize("where", ["subnet/net", "vpc/shop"])
def test_a_finding_is_unknown_where_a_record_of_its_resource_or_a_neighbour_was_lost(where):
    story = Story()
    stuck(story)
    story.given.unseen(where, {"spec.a": 1})
    story.when.status(where, {"b": 1})
    finding = story.finding("stuck-deletion", after=3600)
    assert finding.status == UNKNOWN
    said = f"a record about {where.replace('/', ' ').replace('vpc', 'VPC')}, up to revision {story.revision}, must be missing"
    assert said in finding.explanation and finding.explanation.endswith(f"{coverage.CHANGED}.")
    [gap] = story.reading.gaps
    assert gap.at in {witness.at for witness in finding.witnesses if witness.role == "gap"}
    assert [witness.at for witness in finding.witnesses] == sorted({witness.at for witness in finding.witnesses})


def test_what_shows_that_a_record_is_missing_is_cited_once():
    story = Story()
    stuck(story)
    story.given.unseen("subnet/net", {"spec.a": 1})
    story.when.status("subnet/net", {"b": 1})
    first, second = (story.finding("stuck-deletion", after=3600) for _ in range(2))
    assert first.witnesses == second.witnesses and first.explanation == second.explanation


def test_a_record_lost_elsewhere_leaves_a_finding_as_it_is():
    story = Story()
    stuck(story)
    story.given.unseen("subnet/other", {"spec.a": 1})
    story.when.status("subnet/other", {"b": 1})
    assert story.finding("stuck-deletion", after=3600).status == OPEN


def test_no_more_gaps_are_kept_than_a_person_can_use():
    story = Story()
    story.given.create("vpc/shop")
    for number in range(coverage.GAPS_KEPT + 5):
        story.given.unseen("vpc/shop", {"spec.a": number})
        story.when.status("vpc/shop", {"b": number})
    assert len(story.reading.gaps) == coverage.GAPS_KEPT


def test_only_what_leaves_something_unknown_is_open():
    of = {why: Gap(None, why, 1, 1).is_open for why in (coverage.CHANGED, coverage.ONLY_WATCHED)}  # type: ignore[arg-type]
    assert of == {coverage.CHANGED: True, coverage.ONLY_WATCHED: False}
