"""The answer to why: asks the rules of a resource's kind in their order, and says so where nothing is in its way.

`RULES` is the page to read: what may be in the way of each kind, the nearest first. What no rule explains is told from
the findings on it, from what the log lacks about it, or from its state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from domain.events import REFUSED, Event
from domain.kinds import VOCABULARY
from domain.resources import Key
from domain.world import Resource
from projections.findings.illegal_transition import IllegalTransition
from projections.findings.rule import Finding, called
from projections.reading import Reading
from projections.why import addresses, binding, claims, deletion, members, readiness
from projections.why.chain import AWAY, FREE, UNCLEAR, Answer, Link, Question, Rule
from projections.why.claims import told


def not_allowed(question: Question, resource: Resource) -> Answer | None:
    """It came to be what it is against its lifecycle's table."""
    finding = question.finding(resource.key, IllegalTransition.name)
    return _as_found(question, finding) if finding is not None else None


def _as_found(question: Question, finding: Finding) -> Answer:
    """A finding in its own words."""
    event = question.event(finding.since)
    says = f"{event.attempted or event.happened} by {question.said(finding.since)}"
    says += f", which was not allowed: {event.reason}" if event.type == REFUSED else ""
    return question.tell(finding, finding.explanation, (Link(finding.key, says, finding.since),))


RULES: Mapping[str, tuple[Rule, ...]] = {
    **dict.fromkeys(VOCABULARY, (deletion.held,)),
    "vpc": (deletion.held, claims.overwritten),
    "subnet": (deletion.held, binding.orphaned, claims.overwritten),
    "ip": (addresses.left_behind, deletion.held, addresses.held_by_its_pod),
    "pod": (deletion.held, binding.without_address),
    "namespace": (deletion.held, binding.not_annotated),
    **dict.fromkeys(readiness.KINDS, (deletion.held, not_allowed, readiness.not_configured, claims.overwritten)),
    "ipset": (members.of_the_set,),
}
"""What may be in the way of each kind. One that is there and in deletion is asked first why it is still there."""


def why(
    reading: Reading,
    findings: Sequence[Finding],
    end: int,
    event: Callable[[int], Event],
    key: Key,
    member: str = "",
) -> Answer:
    """Why a resource is as it is.

    `findings` are those that `reading` concludes with at `end` (microseconds since 1970); `event` gives an event by its
    place; `member` is the one that is asked about, of an ipset.
    """
    return Question(reading, findings, end, event, RULES, _as_it_is, member).ask(key)


def _as_it_is(question: Question, key: Key) -> Answer:
    """No rule explains it: it is gone, or something is found on it, or unknown of it, or nothing is in its way."""
    resource = question.world.get(key)
    if resource is None:
        gone = question.world.gone(key)
        chain = (Link(key, deletion.went(question, key).rstrip("."), gone.at),) if gone is not None else ()
        return Answer(AWAY if gone is None or gone.seen else UNCLEAR, deletion.went(question, key), chain)
    for finding in question.unhealed(key)[:1]:
        return _as_found(question, finding)
    if resource.blurred:
        return Answer(UNCLEAR, f"What {called(key)} is now is unknown: a write on it is recorded without its content.")
    gap = next((gap for gap in question.reading.gaps if gap.is_open and gap.key == key), None)
    if gap is not None:
        says = f"Whether something is in the way of {called(key)} is unknown: a record about it must be missing, "
        says += f"because {gap.why}."
        return Answer(UNCLEAR, says, (Link(key, gap.why, gap.at, absent=f"a record about {key}"),))
    says = f"{called(key)} is {resource.state}, and nothing that this log shows is in its way."
    if not resource.seen_from_birth:
        says += " What was before the log is not known."
    drift = question.reading.standing(resource).drift
    for field, both in drift.items():
        says += f" Its {field} says {told(both['reported'])}, and should say {told(both['lawful'])}."
    healed = [finding for finding in question.findings(key) if finding.until is not None]
    if healed:
        last = healed[-1]
        says += f" The {last.name} of {question.when(last.since)} was put right by {question.said(last.until or 0)}."
    return Answer(FREE, says)
