"""Which labels the log had shown of an object by each of its events: for `events -l`, a column of the trail.

An event says only what moved. What an object is labelled with follows from all of its events before, from the one on by which
the log came to know it whole; before that, and once it has ended, its labels are not known, and no selector chooses it.
`trail_index.py` keeps the column, and asks here what an event does to what is known.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from enum import Enum
from itertools import chain
from typing import Final, NamedTuple, Protocol

from adapters.label_selector import Requirement
from domain.events import REFUSED, Changes
from domain.kinds import VOCABULARY
from domain.operations import UNKNOWN
from domain.resources import BY_NAME
from domain.world import Resource

PREFIX: Final = "metadata.labels["
MARK: Final = PREFIX.encode()
"""What an event that moves a label has among its bytes."""

Labels = dict[str, str]

_SERVED = [vocabulary for kind, vocabulary in VOCABULARY.items() if BY_NAME[kind].served]
_BEGINS: Final = frozenset(chain.from_iterable(vocabulary.beginnings for vocabulary in _SERVED))
_ENDS: Final = frozenset(chain.from_iterable((vocabulary.ended, vocabulary.vanished) for vocabulary in _SERVED))


class Does(Enum):
    """What an event does to what is known of its object's labels."""

    SHOWS_ALL = 1
    FORGETS = 2
    MOVES = 3
    ENDS = 4


class Turn(NamedTuple):
    """That, and the labels it says; `None` is one that was taken off."""

    does: Does
    labels: dict[str, str | None]


class _Event(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def attempted(self) -> str: ...
    @property
    def leads_to(self) -> str: ...
    @property
    def outcome(self) -> str: ...


def turn_of(event: _Event, changed: Changes) -> Turn | None:
    """What it does, as `World.evolve` folds it; `None` for what leaves the labels as they are."""
    type = event.type
    if type == REFUSED:
        if not event.leads_to:
            return None  # a command that was refused
        type = event.attempted
    if type in _ENDS:
        return Turn(Does.ENDS, {})
    if type in _BEGINS:
        if event.outcome == UNKNOWN:  # a write without bodies went by
            return Turn(Does.FORGETS, {})
        return Turn(Does.SHOWS_ALL, _labels_in(changed))
    labels = _labels_in(changed) if changed else None
    return Turn(Does.MOVES, labels) if labels else None


def _labels_in(changed: Changes) -> dict[str, str | None]:
    start = len(PREFIX)
    return {
        path[start:-1]: None if after is None else _value(after)
        for path, (_, after) in changed.items()
        if path.startswith(PREFIX) and _is_name(path)
    }


def _is_name(path: str) -> bool:
    """A command may say anything; no selector can name a label that is called so."""
    return "=" not in path and "\0" not in path


def _value(value: object) -> str:
    return str(value).replace("\0", "\ufffd")


def labels_of(resource: Resource) -> Labels | None:
    """Those of a resource as a fold has it; `None` where they are not known."""
    start = len(PREFIX)
    labels = {
        path[start:-1]: _value(value)
        for path, value in resource.fields.items()
        if path.startswith(PREFIX) and _is_name(path)
    }
    is_known = BY_NAME[resource.key.kind].served and (bool(labels) or not resource.blurred)
    return labels if is_known else None


LAST: Final = b"="
"""The word of the sets of events with which their object ended."""


class Shown(NamedTuple):
    """One set of labels that events of a segment have; `last` where their object ended with the event."""

    last: bool
    labels: Labels


class Column:
    """The labels of a segment's events, made event by event, in order."""

    def __init__(self, known: dict[bytes, Labels | None]) -> None:
        self.known = known
        """What is known of labels by now, by name; who adds an event on a name that is not in it sees to that first."""
        self.numbers = array("H")
        """Of each event 0 where they are not known, else the number of a set, from 1 on."""
        self.words: dict[bytes, list[int]] = {}
        """Each word that a selector may ask for, with the numbers of the sets that have it, in order."""
        self._sets: dict[tuple[bool, tuple[tuple[str, str], ...]], int] = {}
        self._has: dict[bytes, int] = {}

    @property
    def count(self) -> int:
        """How many sets there are."""
        return len(self._sets)

    def add(self, name: bytes, turn: Turn | None, *, counts: bool) -> None:
        """The next event: of one that does not count it is only told what it says itself."""
        number = 0
        if not counts:
            if turn is not None and turn.does is Does.SHOWS_ALL:
                number = self._number(after(None, turn) or {})
        elif turn is None:
            number = self._has.get(name, 0)
            if not number and (labels := self.known.get(name)) is not None:
                number = self._has[name] = self._number(labels)
        elif turn.does is Does.ENDS:
            if (labels := self.known.get(name)) is not None:
                number = self._number(labels, last=True)
            self.known[name] = None
            self._has.pop(name, None)
        else:
            labels = self.known[name] = after(self.known.get(name), turn)
            number = self._has[name] = self._number(labels) if labels is not None else 0
        self.numbers.append(number)

    def _number(self, labels: Labels, *, last: bool = False) -> int:
        pairs = tuple(sorted(labels.items()))
        number = self._sets.get((last, pairs))
        if number is None:
            number = self._sets[last, pairs] = len(self._sets) + 1
            words = [word for label, value in pairs for word in (word_of(label), word_of(label, value))]
            for word in [LAST, *words] if last else words:
                self.words.setdefault(word, []).append(number)
        return number


def sets_of(words: Iterable[tuple[bytes, Iterable[int]]], count: int) -> list[Shown]:
    """All sets in the order of their numbers, out of the words of a `Column`."""
    labels: list[Labels] = [{} for _ in range(count)]
    last: set[int] = set()
    for one, numbers in words:
        label, _, value = one.decode().partition("=")
        if one == LAST:
            last.update(numbers)
        elif label:
            for number in numbers:
                labels[number - 1][label] = value
    return [Shown(number in last, shown) for number, shown in enumerate(labels, 1)]


def after(known: Labels | None, turn: Turn) -> Labels | None:
    """What is known behind an event, but one by which its object ends: that one itself has the labels from before."""
    match turn.does:
        case Does.FORGETS:
            return None
        case Does.SHOWS_ALL:
            known = {}
    if known is None:
        return None
    moved = {**known, **turn.labels}
    return {label: value for label, value in moved.items() if value is not None}


def word_of(label: str, value: str | None = None) -> bytes:
    """What stands for a label with a value, or for one that is there at all: no name is like either."""
    return (f"={label}" if value is None else f"{label}={value}").encode()


def words_of(requirement: Requirement) -> list[bytes]:
    """Those of which a set has one that is as a requirement says, or that is just not so."""
    label, values, _ = requirement
    return [word_of(label)] if values is None else [word_of(label, value) for value in sorted(values)]
