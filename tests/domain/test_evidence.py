"""One operation that several sources show is one: what is joined, what outranks what, how that without a clock is dated."""

from __future__ import annotations

from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from domain.evidence import Shown, by_object, by_revision, dated, join
from domain.operations import MADE, REMOVED, SEEN, SEEN_GONE, UNCHANGED
from domain.order import Head, Sequencer
from domain.resources import Key

VPC = Key("vpc", "", "shop")


def audit(revision: int, time: int, outcome: str = MADE, uid: str = "u", name: str = "") -> Head:
    identity = f"audit:{name or f'{revision}-{time}'}"
    return Head(
        time=time, identity=identity, part=0, received=time - 1, key=VPC, uid=uid, revision=revision, outcome=outcome
    )


def watch(revision: int, time: int = 0, outcome: str = SEEN, uid: str = "u", *, creates: bool = False) -> Head:
    how = "gone" if outcome == SEEN_GONE else "created" if creates else "seen"
    return Head(
        time=time,
        identity=f"object:{uid}@{revision}/{how}",
        part=0,
        received=0,
        key=VPC,
        uid=uid,
        revision=revision,
        outcome=outcome,
        creates=creates,
        clocked=False,
    )


def joined(*heads: Head) -> list[Shown]:
    return list(join(Shown(head, 0) for head in sorted(heads, key=by_object)))


def test_the_audit_log_outranks_a_watch_which_is_its_evidence_in_any_order_of_arrival():
    heads = (audit(7, 100), watch(7, 99))
    for order in permutations(heads):
        assert joined(*order) == [Shown(heads[0], 0, ("object:u@7/seen",))]


def test_of_a_watch_and_a_snapshot_one_is_the_operation_and_a_birth_outranks_a_sight():
    assert joined(watch(7), watch(7, creates=True)) == [Shown(watch(7, creates=True), 0, ("object:u@7/seen",))]


def test_the_answers_of_one_revision_all_come_out_and_the_evidence_goes_to_the_earliest():
    maker, echo = audit(7, 100), audit(7, 200)
    assert joined(echo, watch(7), maker) == [Shown(maker, 0, ("object:u@7/seen",)), Shown(echo, 0, ())]


def test_a_removal_takes_its_true_place_from_the_watch_that_shows_it():
    [removal] = joined(audit(3, 500, REMOVED), watch(9, outcome=SEEN_GONE))
    assert (removal.head.revision, removal.head.owns, removal.evidence) == (9, True, ("object:u@9/gone",))
    [(order, outcome, _)] = [*Sequencer[None]().feed(removal.head, None)]
    assert (order.anchor, order.own, outcome) == (9, 0, REMOVED)


def test_a_removal_that_no_watch_shows_stays_where_time_puts_it():
    head = audit(3, 500, REMOVED)
    assert joined(head) == [Shown(head, 0, ())]


def test_other_objects_and_other_revisions_are_not_joined():
    heads = [audit(7, 100), watch(8), watch(7, uid="other")]
    assert {(one.head.identity, one.evidence) for one in joined(*heads)} == {(head.identity, ()) for head in heads}


def times(*heads: Head) -> dict[str, int]:
    shown = dated(Shown(head, 0) for head in sorted(heads, key=by_revision))
    return {one.head.identity: one.head.time for one in shown}


def test_what_has_no_clock_is_dated_just_before_the_next_write_that_has_one():
    assert times(audit(5, 1_000), watch(6), audit(7, 2_000)) == {"object:u@6/seen": 1_999}


def test_a_birth_is_dated_as_early_as_it_can_be():
    assert times(audit(5, 1_000), watch(6, creates=True), audit(7, 2_000)) == {"object:u@6/created": 1_000}


def test_an_object_is_not_dated_before_what_it_names_itself():
    assert times(watch(6, 1_500), watch(7, 1_200)) == {"object:u@6/seen": 1_500, "object:u@7/seen": 1_500}


def test_a_late_answer_with_an_old_revision_dates_nothing():
    assert (
        times(audit(5, 1_000, uid="a"), audit(5, 9_000, uid="a"), watch(6), audit(7, 2_000))["object:u@6/seen"] == 1_999
    )


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 50)), max_size=30))
def test_dates_never_go_back_while_revisions_go_on_and_none_is_lost(writes):
    heads, clock = [], 0
    for revision, clocked, step in sorted({write[0]: write for write in writes}.values()):
        clock += step
        heads.append(
            audit(revision, clock * 10, uid=f"u{revision}") if clocked else watch(revision, uid=f"u{revision}")
        )
    found = {
        one.head.revision: one.head.time for one in dated(Shown(head, 0) for head in sorted(heads, key=by_revision))
    }
    assert set(found) == {head.revision for head in heads if not head.clocked}
    whole = sorted([*found.items(), *((head.revision, head.time) for head in heads if head.clocked)])
    assert all(later >= earlier - 1 for (_, earlier), (_, later) in pairwise(whole))


def test_what_only_a_watch_shows_gets_the_place_of_its_revision():
    sequencer: Sequencer[str] = Sequencer()
    keys = [key for head in (audit(5, 10), watch(6, 11), audit(7, 12)) for key in sequencer.feed(head, "")]
    assert [(order.anchor, order.own, outcome) for order, outcome, _ in keys] == [
        (5, 0, MADE),
        (6, 0, SEEN),
        (7, 0, MADE),
    ]
    again = [*sequencer.feed(watch(6, 13), ""), *sequencer.flush()]
    assert [outcome for _, outcome, _ in again] == [UNCHANGED]
