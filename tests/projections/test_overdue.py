"""What overdue means: the arithmetic, in the one place that decides it."""

import pytest

from projections.findings.overdue import DELAYS, FACTOR, FLOOR, GUARD, UNSEEN, Overdue, Reactions, release_of

SECOND = 1_000_000
PLAIN = "namespace"
"""A trigger without a delay of upstream's own."""


def limit(trigger: str, *spans: int, patience: int | None = None) -> int:
    reactions = Reactions()
    for span in spans:
        reactions.seen(trigger, span)
    return Overdue(reactions, 0, patience).limit(trigger)


def test_where_no_reaction_was_ever_seen_it_is_thirty_seconds():
    assert limit(PLAIN) == UNSEEN == 30 * SECOND


def test_quick_reactions_never_make_it_less_than_two_seconds():
    assert limit(PLAIN, 1_000, 2_000, 3_000) == FLOOR == 2 * SECOND


def test_ten_times_what_is_usual_where_that_is_more():
    assert limit(PLAIN, SECOND, SECOND, SECOND, SECOND) == FACTOR * SECOND


def test_one_slow_reaction_among_many_is_waited_for_but_not_ten_times():
    assert limit(PLAIN, *[SECOND] * 9, 50 * SECOND) == 50 * SECOND


def test_a_disturbed_quarter_does_not_move_what_is_usual():
    assert limit(PLAIN, *[SECOND] * 3, 4 * SECOND) == pytest.approx(FACTOR * SECOND, rel=0.06)


def test_where_the_cause_is_seen_less_is_enough_but_never_less_than_two_seconds():
    reactions = Reactions()
    for span in (SECOND, SECOND, SECOND, 3 * SECOND):
        reactions.seen(PLAIN, span)
    overdue = Overdue(reactions, 0)
    assert overdue.limit(PLAIN) == pytest.approx(FACTOR * SECOND, rel=0.06)
    assert overdue.limit(PLAIN, cause_seen=True) == 6 * SECOND
    quick = Reactions()
    quick.seen(PLAIN, 1_000)
    assert Overdue(quick, 0).limit(PLAIN, cause_seen=True) == FLOOR
    assert Overdue(Reactions(), 0).limit(PLAIN, cause_seen=True) == UNSEEN


def test_a_reaction_in_no_time_is_a_reaction():
    assert limit(PLAIN, 0) == FLOOR
    assert limit(PLAIN, -5) == FLOOR


@pytest.mark.parametrize("trigger", sorted(DELAYS))
def test_upstreams_own_delay_is_added(trigger):
    assert limit(trigger) == UNSEEN + DELAYS[trigger]
    assert limit(trigger, 1) == FLOOR + DELAYS[trigger]


def test_the_delays_are_those_of_upstream():
    assert DELAYS["release-vpc"] == 5 * SECOND
    assert DELAYS["eip"] == 3 * SECOND


def test_a_persons_patience_overrides_everything():
    assert limit(PLAIN, 50 * SECOND, patience=7) == 7
    assert limit("eip", patience=0) == 0


def test_it_is_overdue_only_after_more_than_the_limit():
    overdue = Overdue(Reactions(), end=100 * SECOND)
    assert not overdue.since(PLAIN, 70 * SECOND)
    assert overdue.since(PLAIN, 70 * SECOND - 1)
    assert not overdue.took(PLAIN, 30 * SECOND)
    assert overdue.took(PLAIN, 30 * SECOND + 1)


def test_releases_of_other_kinds_are_a_measure_where_one_kind_was_never_released():
    reactions = Reactions()
    reactions.seen(release_of("ip"), 6 * SECOND)
    assert Overdue(reactions, 0).limit(release_of("subnet")) == FACTOR * 6 * SECOND
    assert Overdue(reactions, 0).limit(release_of("vpc")) == FACTOR * 6 * SECOND + DELAYS["release-vpc"]


def test_how_soon_the_finalizer_came_on_is_a_measure_where_nothing_was_released():
    reactions = Reactions()
    reactions.seen(GUARD, 20_000)
    assert Overdue(reactions, 0).limit(release_of("subnet")) == FLOOR
    assert Overdue(reactions, 0).limit(PLAIN) == UNSEEN
    reactions.seen(release_of("ip"), SECOND)
    assert Overdue(reactions, 0).limit(release_of("subnet")) == pytest.approx(FACTOR * SECOND, rel=0.06)


def test_other_reactions_are_no_measure_of_releases_nor_releases_of_them():
    reactions = Reactions()
    reactions.seen(PLAIN, SECOND)
    assert Overdue(reactions, 0).limit(release_of("subnet")) == UNSEEN
    reactions = Reactions()
    reactions.seen(release_of("ip"), SECOND)
    assert Overdue(reactions, 0).limit(PLAIN) == UNSEEN


def test_the_order_in_which_reactions_came_does_not_matter():
    spans = [SECOND * n for n in (1, 9, 3, 7, 5, 2, 8)]
    assert limit(PLAIN, *spans) == limit(PLAIN, *reversed(spans)) == limit(PLAIN, *sorted(spans))


def test_what_is_usual_never_exceeds_the_slowest():
    reactions = Reactions()
    for span in (1_234_567, 1_234_567):
        reactions.seen(PLAIN, span)
    measured = reactions.measure(PLAIN)
    assert measured is not None and measured[0] <= measured[1] == 1_234_567
