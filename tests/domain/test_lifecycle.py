"""The tables: `transitions` agrees with what is compiled from them, and a table that cannot be right is not built."""

import re

import pytest
from transitions import Machine

from domain.events import GENERATION, OBSERVED
from domain.events import REFUSED as REFUSED_TYPE
from domain.kinds import LIFECYCLES, VOCABULARY
from domain.lifecycle import ABSENT, GONE, SAME, Guard, Lifecycle, LifecycleError, Row

CELLS = [
    pytest.param(kind, state, id=f"{kind}-{state}")
    for kind, lifecycle in LIFECYCLES.items()
    for state in lifecycle.states
]


class Model:
    """What a `transitions` machine drives in these tests, and nowhere else."""

    state: str


def driven(lifecycle: Lifecycle, state: str, event: str) -> str | None:
    """Where a machine built anew from the rows goes when it is really driven; `None` where it refuses."""
    model = Model()
    machine = Machine(
        model=model,
        states=list(lifecycle.states),
        initial=state,
        auto_transitions=False,
        ignore_invalid_triggers=True,
    )
    for row in lifecycle.rows:
        machine.add_transition(row.event, list(row.sources), row.target)
    moved = machine.events[event].trigger(model)
    return model.state if moved else None


@pytest.mark.parametrize(("kind", "state"), CELLS)
def test_the_compiled_table_goes_where_a_driven_machine_goes_on_every_event(kind, state):
    lifecycle = LIFECYCLES[kind]
    for event in lifecycle.events:
        expected = driven(lifecycle, state, event)
        row = lifecycle.row(state, event)
        assert (row is None) == (expected is None), f"{event} in {state}: the table says {row}, the machine {expected}"
        assert lifecycle.leads_to(state, event) == (expected or state)


@pytest.mark.parametrize(("kind", "state"), CELLS)
def test_what_could_come_next_is_what_a_driven_machine_accepts(kind, state):
    lifecycle = LIFECYCLES[kind]
    accepted = tuple(event for event in lifecycle.events if driven(lifecycle, state, event) is not None)
    assert lifecycle.next_events(state) == accepted


@pytest.mark.parametrize("kind", LIFECYCLES)
def test_asking_never_moves_the_machine_or_the_table(kind):
    lifecycle = LIFECYCLES[kind]
    before = dict(lifecycle.table)
    for state in lifecycle.states:
        for event in lifecycle.events:
            lifecycle.row(state, event)
            lifecycle.leads_to(state, event)
        lifecycle.next_events(state)
    lifecycle.mermaid()
    assert lifecycle.table == before
    assert lifecycle.machine.models == []


def test_folding_an_event_that_the_table_does_not_have_keeps_the_state():
    assert LIFECYCLES["vpc"].leads_to(GONE, "VPCStatusReported") == GONE
    assert LIFECYCLES["vpc"].leads_to("A_STATE_OF_AN_OLDER_TABLE", "VPCStatusReported") == "A_STATE_OF_AN_OLDER_TABLE"


# ---- what a table is checked for

A, B, C = "A", "B", "C"
ENDS = Row("Ended", (A,), GONE, "it ends")
BEGINS = Row("Begun", (ABSENT, GONE), A, "it begins")


@pytest.mark.parametrize(
    ("rows", "row_named", "says"),
    [
        pytest.param((BEGINS, ENDS, Row("Lost", (B,), GONE, "")), "Lost", "no row leads to B", id="unknown state"),
        pytest.param(
            (BEGINS, ENDS, Row("Turned", (A,), B, ""), Row("Turned", (A,), GONE, "")),
            "Turned",
            "ambiguous: another row has it in A",
            id="ambiguous",
        ),
        pytest.param((BEGINS, ENDS, Row("Never", (), GONE, "")), "Never", "no state", id="row without states"),
        pytest.param(
            (BEGINS, ENDS, Row("Turned", (B,), C, ""), Row("Back", (C,), B, "")),
            "",
            "C, B cannot be reached from ABSENT",
            id="unreachable island",
        ),
        pytest.param((BEGINS, ENDS, Row("Turned", (A,), B, "")), "", "B has no way out", id="trap"),
        pytest.param(
            (BEGINS, ENDS, Row("Turned", (A,), B, ""), Row("Again", (B,), SAME, "")),
            "",
            "B has no way out",
            id="trap that only stays",
        ),
        pytest.param((BEGINS, Row("Ended", (A,), GONE, "", (), B)), "", "B has no way out", id="trap off the path"),
    ],
)
def test_a_table_that_cannot_be_right_is_not_built(rows, row_named, says):
    with pytest.raises(LifecycleError) as refused:
        Lifecycle("widget", rows)
    message = str(refused.value)
    assert "lifecycle of widget" in message
    assert says in message
    assert row_named in message


def test_a_state_without_way_out_may_be_meant():
    lifecycle = Lifecycle("widget", (BEGINS, ENDS, Row("Turned", (A,), B, "")), resting=(GONE, B))
    assert lifecycle.next_events(B) == ()


# ---- what holds of every table


@pytest.mark.parametrize("kind", LIFECYCLES)
def test_the_diagram_names_every_state_and_every_event(kind):
    lifecycle = LIFECYCLES[kind]
    drawn = lifecycle.mermaid()
    assert drawn.lstrip().startswith(("---", "stateDiagram"))
    words = set(re.findall(r"\w+", drawn))
    # A state off the path is led to by a refusal, which `transitions` does not draw, but its own exits are drawn.
    assert [state for state in lifecycle.states if state not in words] == []
    assert [event for event in lifecycle.events if event not in words] == []


@pytest.mark.parametrize("kind", LIFECYCLES)
def test_every_state_is_reached_and_has_a_way_out(kind):
    lifecycle = LIFECYCLES[kind]
    edges: dict[str, set[str]] = {state: set() for state in lifecycle.states}
    for row in lifecycle.rows:
        for state in row.sources:
            edges[state] |= {state if target == SAME else target for target in (row.target, row.otherwise)}
    reached, frontier = {ABSENT}, [ABSENT]
    while frontier:
        new = edges[frontier.pop()] - reached
        reached |= new
        frontier += new
    assert reached == set(lifecycle.states)
    assert [state for state in lifecycle.states if edges[state] <= {state}] == [], "a name can be used again"


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        pytest.param(kind, state, id=f"{kind}-{state}")
        for kind in LIFECYCLES
        for state in sorted(LIFECYCLES[kind].off_path)
    ],
)
def test_a_state_off_the_path_has_its_own_exits(kind, state):
    lifecycle = LIFECYCLES[kind]
    exits = {lifecycle.leads_to(state, event) for event in lifecycle.next_events(state)} - {state}
    assert exits, f"who is {state} stays so for ever"


def test_the_states_off_the_path_are_these():
    assert {kind: set(lifecycle.off_path) for kind, lifecycle in LIFECYCLES.items() if lifecycle.off_path} == {
        "vpc": {"GHOST"},
        "subnet": {"ORPHANED", "GHOST"},
        "ip": {"STRANDED"},
        "nat-gateway": {"GHOST"},
        "eip": {"GHOST"},
        "fip": {"CLASHING"},
        "dnat": {"CLASHING"},
        "oeip": {"GHOST"},
        "ofip": {"UNUSABLE"},
        "osnat": {"UNUSABLE"},
        "odnat": {"UNUSABLE"},
    }


@pytest.mark.parametrize("kind", LIFECYCLES)
def test_every_live_resource_can_be_asked_to_go_can_go_and_can_go_unseen(kind):
    vocabulary, lifecycle = VOCABULARY[kind], LIFECYCLES[kind]
    live = [state for state in lifecycle.states if lifecycle.row(state, vocabulary.ended) is not None]
    begun = lifecycle.leads_to(ABSENT, vocabulary.begun)
    assert begun in live and lifecycle.leads_to(ABSENT, vocabulary.sighted) in live
    for state in live:
        assert lifecycle.leads_to(state, vocabulary.ended) == GONE
        assert lifecycle.leads_to(state, vocabulary.vanished) == GONE
        assert lifecycle.row(state, vocabulary.sighted) is not None
        assert lifecycle.row(state, vocabulary.sighted_terminating) is not None
    not_live = set(lifecycle.states) - set(live)
    assert not_live == {ABSENT, GONE} | (lifecycle.off_path & {"GHOST"})
    assert all(lifecycle.row(state, vocabulary.begun) is not None for state in not_live)
    assert not any(lifecycle.row(state, vocabulary.begun) for state in live), "what is there is not made again"


@pytest.mark.parametrize("kind", LIFECYCLES)
def test_every_write_of_a_vocabulary_is_an_event_of_its_table(kind):
    vocabulary = VOCABULARY[kind]
    named = {write.event for write in vocabulary.writes} | {
        vocabulary.begun,
        vocabulary.sighted,
        vocabulary.sighted_terminating,
        vocabulary.deletion_requested,
        vocabulary.ended,
        vocabulary.vanished,
    }
    assert named <= set(LIFECYCLES[kind].events)


def test_no_two_kinds_share_an_event_type():
    named = [event for lifecycle in LIFECYCLES.values() for event in lifecycle.events]
    named += [REFUSED_TYPE, OBSERVED, GENERATION]
    assert sorted(named) == sorted(set(named))


@pytest.mark.parametrize("kind", LIFECYCLES)
def test_every_row_says_because_of_what_and_every_guard_has_its_sentence(kind):
    for row in LIFECYCLES[kind].rows:
        assert len(row.because.split()) >= 3, f"{row.event}: {row.because!r}"
        for guard in row.unless:
            assert isinstance(guard, Guard)
            assert len(guard.because.split()) >= 3 and guard.name
