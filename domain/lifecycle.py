"""A lifecycle is a table: what happened, in which states it may happen, where it leads, because of what, unless what.

One table a kind (`vpc`, `subnet`, …), all built from `Row` and checked the moment they are built: unknown, unreachable,
ambiguous and trap states are errors. The `transitions` package holds the table as a machine that is asked and never
driven: it answers what may happen and what could come next, and draws the diagram. What runs on every event is the same
table as a dictionary, a hundred times faster; a test proves the two equal on every state and event.
`decide` asks the table what may happen; `world` asks it where that leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from domain.world import Change, World

ABSENT = "ABSENT"  # never heard of
SIGHTED = "SIGHTED"  # first heard of in mid-life: what came before is not in the log
TERMINATING = "TERMINATING"  # deletion asked for; the finalizer holds it
GONE = "GONE"

SAME = "="
"""As a row's target: the state stays what it is."""


class LifecycleError(Exception):
    """A table that cannot be right. The message names the table, the row and what is wrong with it."""


class Guard(NamedTuple):
    """A reason why something legal by its state may still not happen.

    `check(world, change)` gives the sentence that says why not, with the neighbours' names in it, or `None`.
    """

    name: str
    because: str
    check: Callable[[World, Change], str | None]


class Row(NamedTuple):
    """`event` may happen in `sources` and leads to `target`, because of `because`, unless a guard speaks.

    `otherwise` is the state off the path that an *observed* fact leads to when a guard speaks: it has happened,
    allowed or not. A command that a guard forbids changes nothing.
    """

    event: str
    sources: tuple[str, ...]
    target: str
    because: str
    unless: tuple[Guard, ...] = ()
    otherwise: str = SAME

    def refusal(self, world: World, change: Change) -> str:
        """Why it may not happen though the state allows it: what the first guard says that speaks; empty where none does."""
        for guard in self.unless:  # a plain loop: this is on the way of every command and of many events
            if reason := guard.check(world, change):
                return reason
        return ""


class Lifecycle:
    """The table of one kind. Raises `LifecycleError` at construction if the table cannot be right."""

    def __init__(self, kind: str, rows: Iterable[Row], *, resting: Iterable[str] = (GONE,), note: str = "") -> None:
        self.kind = kind
        self.rows = tuple(rows)
        self.resting = frozenset(resting)
        self.note = note
        self.states = self._states()
        self._check()
        self.table = {(state, row.event): row for row in self.rows for state in row.sources}

    @cached_property
    def machine(self) -> Any:
        """The table as a `transitions` machine: the authority on what may happen and what could come next."""
        from transitions import Machine

        return self._machine(Machine)

    @cached_property
    def events(self) -> tuple[str, ...]:
        """Every event of the table, in the order of its rows."""
        return tuple(dict.fromkeys(row.event for row in self.rows))

    @property
    def off_path(self) -> frozenset[str]:
        """The states that a refused fact leads to."""
        return frozenset(row.otherwise for row in self.rows if row.otherwise != SAME)

    def row(self, state: str, event: str) -> Row | None:
        """The row that allows `event` in `state`; `None` where the table has none."""
        return self.table.get((state, event))

    def leads_to(self, state: str, event: str) -> str:
        """Where `event` leads from `state`. A fold never refuses: where the table has no row, the state stays."""
        row = self.table.get((state, event))
        return state if row is None or row.target == SAME else row.target

    def next_events(self, state: str) -> tuple[str, ...]:
        """What may happen in `state`, in the order of the table."""
        legal = set(self.machine.get_triggers(state))
        return tuple(event for event in self.events if event in legal)

    def mermaid(self) -> str:
        """The table as a mermaid state diagram."""
        from transitions.extensions import GraphMachine

        # The drawing extension draws a model's machine, so it is given one that nothing else ever sees.
        picture = type("Picture", (), {})()
        self._machine(GraphMachine, model=picture, graph_engine="mermaid", title=self.kind)
        # Its front matter holds the bare title, which is no YAML key: mermaid wants one.
        _, _, diagram = str(picture.get_graph().source).split("---\n", 2)
        return f"---\ntitle: {self.kind}\n---\n{diagram}"

    def _states(self) -> tuple[str, ...]:
        """The states in the order in which the table names them. Sources count as use, targets as definition."""
        named = [ABSENT]
        for row in self.rows:
            named += [state for state in (row.target, row.otherwise) if state != SAME]
        return tuple(dict.fromkeys(named))

    def _check(self) -> None:
        seen: dict[tuple[str, str], Row] = {}
        for row in self.rows:
            if not row.sources:
                raise self._error(row, "it may happen in no state")
            for state in row.sources:
                if state not in self.states:
                    raise self._error(row, f"no row leads to {state}, so nothing can happen in it")
                if (state, row.event) in seen:
                    raise self._error(row, f"it is ambiguous: another row has it in {state} too")
                seen[state, row.event] = row
        exits: dict[str, set[str]] = {state: set() for state in self.states}
        for row in self.rows:
            for state in row.sources:
                exits[state] |= {target for target in (row.target, row.otherwise) if target not in (SAME, state)}
        reached, frontier = {ABSENT}, [ABSENT]
        while frontier:
            for state in exits[frontier.pop()] - reached:
                reached.add(state)
                frontier.append(state)
        if unreachable := [state for state in self.states if state not in reached]:
            raise LifecycleError(f"lifecycle of {self.kind}: {', '.join(unreachable)} cannot be reached from {ABSENT}")
        if traps := [state for state in self.states if not exits[state] and state not in self.resting]:
            raise LifecycleError(
                f"lifecycle of {self.kind}: {', '.join(traps)} has no way out; say so with resting=… if that is meant"
            )

    def _error(self, row: Row, why: str) -> LifecycleError:
        return LifecycleError(f"lifecycle of {self.kind}, row {row.event} in {', '.join(row.sources)}: {why}")

    def _machine(self, machine: Callable[..., Any], *, model: object = None, **options: Any) -> Any:
        # auto_transitions would add to_X triggers that go round the table; without a model it cannot be driven.
        return machine(
            model=model,
            states=list(self.states),
            initial=ABSENT,
            auto_transitions=False,
            transitions=[{"trigger": row.event, "source": list(row.sources), "dest": row.target} for row in self.rows],
            **options,
        )
