"""What was concluded of faults that are over, kept until something changes that it depends on.

A fault that is over is told of for ever, and what is told follows from the events up to its end. So it is concluded once.
What may still change is whether it is told of at all, and as the how many-th of its name: the rule says on what that
depends (`Terms`), and only where that moved it is looked at again. Nothing here is part of a `Reading`: it follows from
one, and is made again where it is missing. `concluded` has one of these for each rule.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from domain.resources import Key
from projections.findings.rule import Conclusion, Finding, Notes, Rule, Terms, Witness

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Finding).decode


class Document(Protocol):
    """What somebody made of a finding to show it. It is dropped when the finding changes."""


class Entry:
    """One finding on a fault that is over, packed: its words are most of it."""

    __slots__ = (
        "document",
        "follows",
        "id",
        "key",
        "number",
        "occurrence",
        "order",
        "packed",
        "root",
        "rule",
        "since",
        "tells_of",
        "uid",
        "witnesses",
    )

    def __init__(self, finding: Finding, order: int, number: int) -> None:
        self.order = order
        """Of its rule among the others."""
        self.number = number
        """Among those of its rule."""
        self.id = finding.id
        self.rule = finding.rule
        self.key: Key = finding.key
        self.uid = finding.uid
        self.follows = finding.follows
        self.since = finding.since
        self.occurrence = finding.occurrence
        self.packed = zlib.compress(_encode(finding), 1)
        self.root: str | None = None
        self.witnesses: list[Witness] | None = None
        """All of them, where joining it with others brought more than its rule tells."""
        self.tells_of: tuple[int, ...] | None = None
        """The refusals among the events that it cites, by their places; `None` until they are asked for."""
        self.document: Document | None = None

    @property
    def place(self) -> tuple[int, str]:
        """Where it is told among the others."""
        return self.since, self.id

    def alone(self) -> Finding:
        """As its rule tells it."""
        return _decode(zlib.decompress(self.packed))

    def finding(self) -> Finding:
        """As it is told, joined with others."""
        found = self.alone()
        found.root = self.root
        if self.witnesses is not None:
            found.witnesses = list(self.witnesses)
        return found

    def join(self, root: str | None, witnesses: list[Witness] | None) -> bool:
        """Take over what joining it with others brought; whether that is something new."""
        if root == self.root and witnesses == self.witnesses:
            return False
        self.root, self.witnesses, self.document = root, witnesses, None
        return True


class _Fault:
    """One fault that is over, and what is told of it: `None` where it is not told of."""

    __slots__ = ("entry", "fault", "terms")

    def __init__(self, fault: Any, terms: Terms, entry: Entry | None = None) -> None:
        self.fault = fault
        self.terms = terms
        self.entry = entry


class Moved(NamedTuple):
    """What is told of now and was not, and what was told of and is not any more."""

    fresh: Sequence[Entry] = ()
    gone: Sequence[Entry] = ()


class Kept:
    """What one rule tells of its faults that are over."""

    def __init__(self, order: int, before: Kept | None = None, upto: int = 0) -> None:
        """`order` is the rule's among the others.

        With what was kept `before` of a log that is the same up to a place, what ended by then is not concluded again.
        """
        self.notes: Notes = {}
        self._order = order
        self._before = before
        self._upto = upto
        self._faults: list[_Fault] = []
        self._places: list[list[int]] = []  # of each list of the rule's: which of `_faults` are of it
        self._slots: dict[Hashable, list[int]] = {}
        self._told: dict[Hashable, int] = {}
        self._grounds: dict[Hashable, list[int]] = {}
        self._limits: dict[tuple[str, bool], int] = {}
        self._uncertainty = 0
        self._words: Hashable = None

    def told(self, slot: Hashable) -> int:
        """How many of one name are told of: what comes behind them has this number."""
        return self._told.get(slot, 0)

    def moved(self, rule: Rule, conclusion: Conclusion) -> Moved:
        """Bring it up to what the rule remembers now, and by what it goes."""
        known = len(self._faults)
        todo = self._toggled(rule, conclusion)
        words = rule.words(conclusion)
        if words != self._words:
            todo.update(range(known))
        for slot in {self._faults[number].terms.slot for number in todo}:
            if slot is not None:  # one more or less, and those behind it have another number
                todo.update(self._slots[slot])
                self._told[slot] = 0
        self._take_in(rule, conclusion)
        self._before = None
        if not todo and known == len(self._faults):
            return Moved()
        fresh, gone = [], []
        for number in [*sorted(todo), *range(known, len(self._faults))]:
            one = self._faults[number]
            was, one.entry = one.entry, None
            if self._is_told(rule, conclusion, one):
                slot = one.terms.slot
                count = self.told(slot)
                if slot is not None:
                    self._told[slot] = count + 1
                if was is not None and words == self._words and (slot is None or was.occurrence == count):
                    one.entry = was
                else:
                    finding = rule.tell_over(conclusion, one.fault, self.notes)
                    if slot is not None:
                        finding.occurrence = count
                    one.entry = Entry(finding, self._order, number)
            if number >= known:
                if one.entry is not None:
                    fresh.append(one.entry)
            elif one.entry is not was:
                gone += [was] if was is not None else []
                fresh += [one.entry] if one.entry is not None else []
        self._words = words
        return Moved(fresh, gone)

    def _toggled(self, rule: Rule, conclusion: Conclusion) -> set[int]:
        """Of those that are known: which are told of now and were not, or the other way round."""
        again: set[int] = set()
        for ground in rule.moved(conclusion, self.notes):
            again.update(self._grounds.get(ground, ()))
        low, high = sorted((self._uncertainty, conclusion.uncertainty))
        if low != high:
            again.update(
                n for n, one in enumerate(self._faults) if low < one.terms.doubtful <= high or one.terms.grounds
            )
        for slot, was in self._limits.items():
            now = self._limits[slot] = conclusion.overdue.limit(slot[0], cause_seen=slot[1])
            low, high = sorted((was, now))
            if low != high:
                again.update(
                    n
                    for n, one in enumerate(self._faults)
                    if low < one.terms.span <= high and (one.terms.trigger, one.terms.cause_seen) == slot
                )
        self._uncertainty = conclusion.uncertainty
        return {
            n for n in again if self._is_told(rule, conclusion, self._faults[n]) != (self._faults[n].entry is not None)
        }

    def _take_in(self, rule: Rule, conclusion: Conclusion) -> None:
        """Take in what is over by now, and was not when it was asked last."""
        before = self._before
        new: list[tuple[int, int, int, Any]] = []
        for part, faults in enumerate(rule.over()):
            if part == len(self._places):
                self._places.append([])
            first = len(self._places[part])
            new += [(rule.ended(fault), part, at, fault) for at, fault in enumerate(islice(faults, first, None), first)]
        # In the order in which they ended, also where a rule has several lists: however often it is asked, they are the same.
        new.sort(key=lambda one: one[:3])
        for ended, part, at, fault in new:
            number = len(self._faults)
            self._places[part].append(number)
            same = before.at(part, at) if before is not None and ended <= self._upto else None
            if same is not None and same.fault == fault:
                one = _Fault(fault, same.terms, same.entry)
                if one.entry is not None:
                    one.entry.number = number
            else:
                one = _Fault(fault, rule.terms(conclusion, fault))
            self._faults.append(one)
            rule.note(fault, self.notes)
            terms = one.terms
            if terms.slot is not None:
                self._slots.setdefault(terms.slot, []).append(number)
            for ground in terms.grounds:
                self._grounds.setdefault(ground, []).append(number)
            if terms.trigger and (limit := (terms.trigger, terms.cause_seen)) not in self._limits:
                self._limits[limit] = conclusion.overdue.limit(terms.trigger, cause_seen=terms.cause_seen)
        if before is not None and not self._words:
            self._words = before._words

    def at(self, part: int, place: int) -> _Fault | None:
        """What is kept of one of the rule's faults."""
        if part >= len(self._places) or place >= len(self._places[part]):
            return None
        return self._faults[self._places[part][place]]

    def _is_told(self, rule: Rule, conclusion: Conclusion, one: _Fault) -> bool:
        terms = one.terms
        return (
            conclusion.uncertainty < terms.doubtful
            and (not terms.trigger or terms.span > self._limits[terms.trigger, terms.cause_seen])
            and (not terms.grounds or rule.holds(conclusion, one.fault))
        )
