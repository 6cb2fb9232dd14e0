"""The one true order, rule by rule, and its properties under any interleaving.

Heads are given as an API server would log them, then fed by stage time as `adapters/ordering.py` does; `placed` sorts
what comes out. A test reads: given these records, then they stand in this order.
"""

from collections import defaultdict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from domain.operations import MADE, RAN, REFUSED, REMOVED, UNCHANGED, OrderKey
from domain.order import HOLD, REVISIONS_KEPT, Head, Sequencer
from domain.resources import Key

SHOP = Key("vpc", "", "shop")
DB = Key("subnet", "", "db")
SECOND = 1_000_000


def head(identity: str, time: int, revision: int = 0, key: Key = SHOP, uid: str = "u1", outcome: str = MADE, **more):
    """A record answered at `time`, in microseconds; `revision` is the one that its answer shows."""
    return Head(
        time=time,
        identity=identity,
        part=0,
        received=time - 5,
        key=key,
        uid=uid,
        revision=revision,
        outcome=outcome,
        **more,
    )


def creation(identity: str, time: int, revision: int, key: Key = SHOP, uid: str = "u1"):
    return head(identity, time, revision, key, uid, creates=True)


class Place(NamedTuple):
    order: OrderKey
    outcome: str
    head: Head


def placed(*heads: Head) -> list[Place]:
    """Where each head stands, in the true order."""
    sequencer: Sequencer[Head] = Sequencer()
    out = []
    for each in sorted(heads, key=lambda h: (h.time, h.identity, h.part)):
        out += [Place(*item) for item in sequencer.feed(each, each)]
    out += [Place(*item) for item in sequencer.flush()]
    return sorted(out, key=lambda place: place.order)


def identities(*heads: Head) -> list[str]:
    return [place.order.identity for place in placed(*heads)]


def at(identity: str, *heads: Head) -> Place:
    (place,) = [place for place in placed(*heads) if place.order.identity == identity]
    return place


# ---- the rules


def test_writes_stand_in_the_order_of_their_revisions_whatever_the_clocks_say():
    assert identities(head("a", 50, 12), head("b", 10, 13), head("c", 90, 11)) == ["c", "a", "b"]


def test_revision_then_time_would_go_in_a_circle_and_this_does_not():
    # 10 at time 5, 11 at time 3, and one without revision at time 4: after 11 by time, before 10 by time.
    ten, eleven, none = head("ten", 5, 10), head("eleven", 3, 11, uid="u2"), head("none", 4, uid="", outcome=REFUSED)
    assert identities(ten, eleven, none) == ["ten", "eleven", "none"]


def test_a_write_is_anchored_at_the_revision_that_it_made():
    assert at("a", head("a", 10, 12)).order == OrderKey(12, 0, 10, "a", 0)


def test_of_several_answers_with_one_revision_only_the_earliest_made_it():
    first, second = head("z-first", 10, 12), head("a-second", 20, 12)
    assert [(p.order.identity, p.order.own, p.outcome) for p in placed(second, first)] == [
        ("z-first", 0, MADE),
        ("a-second", 1, UNCHANGED),
    ]


def test_the_same_revision_shown_of_another_object_is_another_revision():
    # Two objects may show one number only where the log is of two clusters: nothing may be lost all the same.
    assert [p.outcome for p in placed(head("a", 10, 12), head("b", 20, 12, key=DB, uid="u2"))] == [MADE, MADE]


def test_a_no_op_with_an_old_revision_stands_behind_what_had_completed():
    no_op = head("no-op", 40, 10)
    heads = [head("maker", 10, 10), head("other", 30, 25, key=DB, uid="u2"), no_op]
    assert identities(*heads) == ["maker", "other", "no-op"]
    assert at("no-op", *heads).order.anchor == 25


def test_a_removal_answers_an_old_revision_and_stands_behind_the_deletion_request():
    heads = [
        head("made", 10, 10),
        head("delete", 20, 12),
        head("other", 25, 13, key=DB, uid="u2"),
        head("finalizer-off", 30, 12, outcome=REMOVED),
    ]
    assert identities(*heads) == ["made", "delete", "other", "finalizer-off"]
    assert at("finalizer-off", *heads).order.own == 1


def test_a_removal_whose_clock_is_behind_still_follows_the_deletion_request():
    # The second API server's clock is behind: by time alone the removal would come before the request for it.
    heads = [head("delete", 20, 12), head("finalizer-off", 19, 12, outcome=REMOVED)]
    assert identities(*heads) == ["delete", "finalizer-off"]


def test_what_has_no_revision_stands_behind_what_had_completed_by_its_time():
    heads = [
        head("early", 10, 10),
        head("exec", 20, uid="p", key=Key("pod", "shop", "web"), outcome=RAN),
        head("late", 30, 11),
    ]
    assert identities(*heads) == ["early", "exec", "late"]
    assert at("exec", *heads).order == OrderKey(10, 1, 20, "exec", 0)


def test_completed_is_the_highest_revision_not_the_last_one():
    heads = [head("a", 10, 30), head("b", 15, 12, key=DB, uid="u2"), head("exec", 20, uid="", outcome=RAN)]
    assert at("exec", *heads).order.anchor == 30


def test_a_refused_request_never_counts_as_a_revision_that_completed():
    heads = [head("a", 10, 10), head("refused", 15, 99, outcome=REFUSED), head("exec", 20, uid="", outcome=RAN)]
    assert at("exec", *heads).order.anchor == 10


def test_what_has_no_revision_never_stands_below_its_own_objects_last_revision():
    # Nothing else of the log has completed: the object's own history is enough.
    heads = [creation("made", 10, 40), head("removed", 20, outcome=REMOVED)]
    assert at("removed", *heads).order.anchor >= 40


def test_what_was_about_the_namesake_before_stays_below_a_later_create():
    # Somebody else's write (60) had completed before the old shop's removal was answered; the new shop is revision 50.
    heads = [
        creation("old", 10, 40),
        head("other", 20, 60, key=DB, uid="u2"),
        head("removed", 30, outcome=REMOVED),
        creation("new", 40, 50, uid="u9"),
    ]
    assert identities(*heads) == ["old", "removed", "new", "other"]
    assert at("removed", *heads).order.anchor == 49


def test_a_removal_answered_after_the_next_create_of_its_name_stays_below_it_all_the_same():
    # Its uid says which of the two it is about: the name was free before it could be made again. Two API servers whose
    # clocks differ log it so, and one server does when the answers overlap.
    heads = [creation("old", 10, 40), creation("new", 40, 50, uid="u9"), head("removed", 45, outcome=REMOVED)]
    assert identities(*heads) == ["old", "removed", "new"]


def test_what_is_about_the_new_namesake_itself_is_not_pushed_below_it():
    heads = [
        head("other", 20, 60, key=DB, uid="u2"),
        head("exec", 30, uid="u9", outcome=RAN),
        creation("new", 40, 50, uid="u9"),
    ]
    assert identities(*heads) == ["new", "other", "exec"]


def test_a_create_of_another_name_moves_nothing():
    heads = [
        head("other", 20, 60, key=DB, uid="u2"),
        head("removed", 30, outcome=REMOVED),
        creation("new", 40, 50, key=Key("vpc", "", "shop-2"), uid="u9"),
    ]
    assert at("removed", *heads).order.anchor == 60


def test_a_create_that_overlaps_is_waited_for_as_long_as_hold_says():
    removed, other = head("removed", 30, outcome=REMOVED), head("other", 20, 60, key=DB, uid="u2")
    in_time = creation("new", 30 + HOLD - 1, 50, uid="u9")
    too_late = creation("new", 30 + HOLD, 50, uid="u9")
    assert at("removed", other, removed, in_time).order.anchor == 49
    assert at("removed", other, removed, too_late).order.anchor == 60


def test_only_a_creation_moves_what_waits():
    heads = [
        head("other", 20, 60, key=DB, uid="u2"),
        head("removed", 30, outcome=REMOVED),
        head("sighted", 40, 50, uid="u9"),
    ]
    assert at("removed", *heads).order.anchor == 60


def test_a_removal_that_owns_its_revision_is_anchored_at_it():
    # A pod's DELETE with grace period 0 answers a revision of its own.
    pod = Key("pod", "shop", "web")
    place = at("gone", head("made", 10, 10, key=pod), head("gone", 20, 12, key=pod, outcome=REMOVED, owns=True))
    assert place.order == OrderKey(12, 0, 20, "gone", 0)
    assert place.outcome == REMOVED


def test_a_removal_that_owns_its_revision_lets_it_count_as_completed():
    pod = Key("pod", "shop", "web")
    heads = [head("gone", 20, 12, key=pod, outcome=REMOVED, owns=True), head("exec", 30, uid="", outcome=RAN)]
    assert at("exec", *heads).order.anchor == 12


def test_ties_are_told_apart_by_identity_and_part():
    listed = [
        Head(time=10, identity="list", part=part, received=5, key=SHOP, uid=f"u{part}", revision=0, outcome=MADE)
        for part in range(3)
    ]
    assert [p.order.part for p in placed(*reversed(listed))] == [0, 1, 2]
    assert identities(head("b", 10, uid="", outcome=RAN), head("a", 10, uid="", outcome=RAN)) == ["a", "b"]


def test_writes_of_one_object_out_of_order_by_a_few_are_all_told_from_no_ops():
    made = [head(f"w{n}", 100 - n, 50 + n) for n in range(REVISIONS_KEPT)]
    again = [head(f"no-op{n}", 200 + n, 50 + n) for n in range(REVISIONS_KEPT)]
    outcomes = {place.order.identity: place.outcome for place in placed(*made, *again)}
    assert {outcomes[each.identity] for each in made} == {MADE}
    assert {outcomes[each.identity] for each in again} == {UNCHANGED}


def test_nothing_waits_longer_than_hold():
    sequencer: Sequencer[str] = Sequencer()
    assert list(sequencer.feed(head("exec", 10, uid="", outcome=RAN), "exec")) == []
    assert [carried for _, _, carried in sequencer.feed(head("a", 9 + HOLD, 5), "a")] == ["a"]
    assert [carried for _, _, carried in sequencer.feed(head("b", 10 + HOLD, 6), "b")] == ["exec", "b"]
    assert list(sequencer.flush()) == []


# ---- the properties


@st.composite
def histories(draw: st.DrawFn) -> list[Head]:
    """Records of one API server: objects made, written, deleted and made again, with the answers it gives.

    Revisions rise with what happens; stage times mostly do, but lag by up to 50 ms as answers overlap.
    """
    revision, clock = draw(st.integers(1, 50)), 1_000 * SECOND
    live: dict[Key, tuple[str, int, bool]] = {}
    heads: list[Head] = []
    keys = [Key("vpc", "", "a"), Key("vpc", "", "b"), Key("subnet", "", "a"), Key("pod", "n", "a")]
    for number in range(draw(st.integers(1, 25))):
        clock += draw(st.sampled_from((1, 500, 20_000, 3 * SECOND)))
        time = clock + draw(st.sampled_from((0, 7, 50_000)))
        key = draw(st.sampled_from(keys))
        identity = f"r{draw(st.integers(0, 99)):02d}-{number}"
        if key not in live:
            revision += draw(st.integers(1, 3))
            live[key] = (f"u{number}", revision, False)
            heads.append(creation(identity, time, revision, key, f"u{number}"))
            continue
        uid, last, terminating = live[key]
        did = draw(st.sampled_from(("write", "no-op", "refused", "exec", "delete", "remove")))
        if did == "write" or (did == "delete" and not terminating):
            revision += draw(st.integers(1, 3))
            live[key] = (uid, revision, terminating or did == "delete")
            heads.append(head(identity, time, revision, key, uid))
        elif did == "remove" and terminating:
            owns = key.kind == "pod"
            revision += 2
            heads.append(head(identity, time, revision if owns else last, key, uid, REMOVED, owns=owns))
            del live[key]
        elif did == "refused":
            heads.append(head(identity, time, 0, key, "", REFUSED))
        elif did == "exec":
            heads.append(head(identity, time, 0, key, "", RAN))
        else:
            # A no-op is answered after the write whose revision it shows; its clock is the same server's.
            heads.append(head(identity, max(time, clock + 50_001), last, key, uid))
    return heads


@given(histories(), st.randoms())
def test_any_permutation_of_the_input_gives_the_same_order(history, random):
    expected = placed(*history)
    shuffled = list(history)
    random.shuffle(shuffled)
    assert placed(*shuffled) == expected


@given(histories())
def test_nothing_is_lost_and_no_two_places_are_equal(history):
    places = placed(*history)
    assert sorted(place.head.identity for place in places) == sorted(each.identity for each in history)
    assert len({place.order for place in places}) == len(history)


@given(histories())
def test_revisions_made_rise_along_the_order(history):
    anchors = [place.order.anchor for place in placed(*history) if place.order.own == 0]
    assert anchors == sorted(anchors)


@given(histories())
def test_what_has_no_revision_never_stands_below_its_own_object(history):
    for place in placed(*history):
        if place.order.own:
            seen = [revision for time, revision in made(history, place.head.uid) if time < place.head.time]
            assert place.order.anchor >= max(seen, default=0)


def made(history: list[Head], uid: str) -> list[tuple[int, int]]:
    """Stage time and revision of whatever made a revision of that object."""
    return [(h.time, h.revision) for h in history if uid and h.uid == uid and (h.outcome == MADE or h.owns)]


@given(histories())
def test_what_has_no_revision_never_stands_above_a_create_of_its_name_that_overlaps(history):
    creations = [each for each in history if each.creates]
    for place in placed(*history):
        if place.order.own == 0:
            continue
        for later in creations:
            is_namesake = later.key == place.head.key and later.uid != place.head.uid
            if is_namesake and place.head.time < later.time < place.head.time + HOLD:
                assert place.order.anchor < later.revision


@given(histories())
def test_a_removal_follows_the_deletion_request_and_the_creation_of_its_object(history):
    first: dict[str, list[str]] = defaultdict(list)
    for place in placed(*history):
        if place.head.outcome == REMOVED:
            assert first[place.head.uid], "its object was made before it goes"
            shown = place.head.revision
            if not place.head.owns:
                maker = next(each for each in history if (each.uid, each.revision) == (place.head.uid, shown))
                assert maker.identity in first[place.head.uid], "what the answer shows was made before"
        first[place.head.uid].append(place.head.identity)


@given(histories())
def test_a_no_op_follows_the_write_that_made_its_revision(history):
    makers: set[tuple[str, int]] = set()
    for place in placed(*history):
        if place.outcome == UNCHANGED:
            assert (place.head.uid, place.head.revision) in makers
        elif place.order.own == 0:
            makers.add((place.head.uid, place.head.revision))
