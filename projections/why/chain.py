"""What an answer to `why` is made of, and what its rules may ask.

A link names a resource, says what is so, and rests on an event or on an absence: what should have come since an event, and
did not until the log's end. The chain begins at what was asked about and ends at the root. `deletion` is the first rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from domain.events import Event
from domain.resources import Key
from domain.world import Resource, World
from projections.findings.concluded import Findings
from projections.findings.overdue import Overdue
from projections.findings.rule import HEALED, OPEN, PENDING, Finding, Step, clock, seconds, short
from projections.reading import Reading

BLOCKED, WAITING, UNCLEAR, FREE, AWAY = "blocked", "waiting", "unknown", "nothing", "gone"
VERDICTS = (BLOCKED, WAITING, UNCLEAR, FREE, AWAY)
"""`BLOCKED`: something is wrong, and the chain ends at its root. `WAITING`: it waits for what is in order, or may still
come. `UNCLEAR`: the log cannot tell, and the answer says why. `FREE`: nothing is in its way. `AWAY`: it is gone."""

_OF_STATUS = {OPEN: BLOCKED, PENDING: WAITING}


class Link(NamedTuple):
    """One step of a chain. `at` is the place of the event that it rests on; `also` are those of others that show it.

    Of an absence, `absent` says what did not come, and `at` is the event since which it did not.
    """

    key: Key
    says: str
    at: int
    absent: str = ""
    also: tuple[int, ...] = ()


class Answer(NamedTuple):
    """Why. `says` is the whole answer in a sentence; `finding` is the id of the finding at the root, if one was made."""

    verdict: str
    says: str
    chain: tuple[Link, ...] = ()
    finding: str | None = None
    repair: tuple[Step, ...] = ()

    @property
    def root(self) -> Link | None:
        """The last link, where the answer is why something is not as it should be."""
        return self.chain[-1] if self.chain and self.verdict in (BLOCKED, WAITING) else None


Rule = Callable[["Question", Resource], Answer | None]
"""Explains one thing that may be in a resource's way; `None` where that is not in its way."""


class Question:
    """All that a rule may ask: the fold of the log, what was found in it, any event, and the answers on neighbours."""

    def __init__(
        self,
        reading: Reading,
        findings: Sequence[Finding],
        end: int,
        event: Callable[[int], Event],
        rules: Mapping[str, Sequence[Rule]],
        otherwise: Callable[[Question, Key], Answer],
        member: str = "",
    ) -> None:
        self.reading = reading
        self.world: World = reading.world
        self.overdue = Overdue(reading.judge.reactions, end)
        self.end = end
        self.event = event
        self.member = member
        """Of an ipset, the one member that is asked about."""
        self._rules = rules
        self._otherwise = otherwise
        self._asking: list[Key] = []
        self._found = findings
        self._findings: dict[Key, list[Finding]] = {}

    def ask(self, key: Key) -> Answer:
        """The answer on one resource: that of the first of its kind's rules which has one.

        That nothing is in its way, or nothing known, is no answer while something is found on it.
        """
        resource = self.world.get(key)
        self._asking.append(key)
        try:
            for rule in self._rules.get(key.kind, ()):
                answer = rule(self, resource) if resource is not None else None
                told = answer is not None and (answer.finding or answer.root or self.member or not self.unhealed(key))
                if answer is not None and told:
                    return answer
            return self._otherwise(self, key)
        finally:
            self._asking.pop()

    def is_asked(self, key: Key) -> bool:
        """Whether the answer on it is being looked for: a chain does not go in a circle."""
        return key in self._asking

    def finding(self, key: Key, *names: str, field: str = "") -> Finding | None:
        """What is found on a resource by one of these rules and not healed, the gravest first."""
        for finding in self.unhealed(key):
            if finding.name in names and field in ("", finding.field):
                return finding
        return None

    def findings(self, key: Key) -> list[Finding]:
        """All that was found on a resource, healed or not."""
        if key not in self._findings:
            found = self._found
            on = found.on(key) if isinstance(found, Findings) else [one for one in found if one.key == key]
            self._findings[key] = on
        return self._findings[key]

    def unhealed(self, key: Key) -> list[Finding]:
        """What is found on a resource and not healed, the gravest first."""
        return [finding for finding in self.findings(key) if finding.status != HEALED]

    def root_of(self, finding: Finding) -> Finding:
        """The finding that this one follows from, itself where it follows from none."""
        if finding.root is None:
            return finding
        found = self._found
        if isinstance(found, Findings):
            return found.called(finding.root) or finding
        return next((one for one in found if one.id == finding.root), finding)

    def tell(self, finding: Finding, says: str, chain: Iterable[Link]) -> Answer:
        """The answer that a finding is: as sure as the finding, with the repair of its root."""
        root = self.root_of(finding)
        verdict = _OF_STATUS.get(finding.status, UNCLEAR)
        if verdict == UNCLEAR:
            says += " Whether it is so is unknown: " + finding.explanation.rpartition(" is unknown: ")[2]
        cure = finding if root.name == finding.name else root  # of several that leaked together, each has its own
        return Answer(verdict, says, tuple(chain), cure.id, tuple(cure.repair or finding.repair))

    def said(self, at: int) -> str:
        """`alice at 01:24:03.329` for the event at a place."""
        event = self.event(at)
        return f"{short(event.actor)} at {clock(event.time)}"

    def when(self, at: int) -> str:
        """`01:24:03.329` for the event at a place."""
        return clock(self.event(at).time)

    def since(self, at: int) -> str:
        """`3.6 s` from the event at a place to the log's end."""
        return seconds(max(self.end - self.event(at).time, 0))


def cited(finding: Finding, *roles: str) -> list[int]:
    """The places of a finding's witnesses of these roles, in order."""
    return [witness.at for witness in finding.witnesses if witness.role in roles]


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names, and how many more."""
    every = sorted(names)
    return ", ".join(every[:limit]) + (f" and {len(every) - limit} more" if len(every) > limit else "")
