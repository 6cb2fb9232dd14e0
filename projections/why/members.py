"""Why a member is not in its ipset, or is in it and should not be: who wrote the set from which memory.

NL107 to NL109 found it. Of one member that is asked about, also who put it in, or what asks for it and never got it.
`answer` asks all of these rules.
"""

from __future__ import annotations

from domain.ipset import MEMBERS
from domain.world import Resource
from projections.findings.rule import Finding, called, clock, short
from projections.ipset_contents import should_contain
from projections.ipset_membership import Membership
from projections.why.chain import FREE, UNCLEAR, WAITING, Answer, Link, Question, cited, some

NAMES = ("ipset-lost-member", "ipset-foreign-write", "ipset-stale-member")


def of_the_set(question: Question, resource: Resource) -> Answer | None:
    """A write by somebody else than the owner left it with other members than it should have."""
    key, member = resource.key, question.member
    if member:
        return of_one(question, resource, member)
    finding = question.finding(key, *NAMES)
    if finding is not None:
        return _told(question, finding)
    known = question.reading.memberships.of.get(key)
    if known is not None and question.reading.standing(resource).lawful.get(MEMBERS) is not None:
        return None
    says = f"What belongs in {called(key)} is unknown: the log begins in mid-life or lacks a record, and no full sync of its "
    says += "owner came since."
    return Answer(UNCLEAR, says)


def of_one(question: Question, resource: Resource, member: str) -> Answer:
    """One member: there or not, lawful or not, and who made it so."""
    key = resource.key
    there = member in (resource.get(MEMBERS) or ())
    known = question.reading.memberships.of.get(key) or Membership()
    lawful = known.says(member)
    where = f"{member} is {'in' if there else 'not in'} {called(key)}"
    for finding in question.findings(key):
        if finding.name in NAMES and finding.until is None and member in _moved(question, finding):
            return _told(question, finding)._replace(says=f"{where}, and should {'not ' if there else ''}be.")
    if put := known.lawful.get(member):
        says = f"{where}, and should be: {short(put.actor)} put it in at {clock(put.time)}."
        link = Link(key, f"{short(put.actor)} put {member} in at {clock(put.time)}", put.at)
        return Answer(FREE if there else WAITING, says, (link,))
    if removed := known.removed.get(member):
        link = Link(key, f"{short(removed.actor)} took {member} out at {clock(removed.time)}", removed.at)
        return Answer(FREE if not there else WAITING, f"{where}: its owner took it out.", (link,))
    asked = should_contain(question.world, key.namespace).get(key.name)
    wanted = asked.members.get(member) if asked is not None else None
    if wanted is not None and not there and (asking := question.world.get(wanted.key)) is not None:
        first = Link(asking.key, f"{called(asking.key)} asks for {member}: {wanted.because}", asking.last_at)
        absence = Link(
            key,
            f"its owner did not put it in in the {question.since(asking.last_at)} since",
            asking.last_at,
            absent=f"{member} in {key}",
        )
        return Answer(WAITING, f"{where}, though {called(asking.key)} asks for it.", (first, absence))
    if lawful is None:
        return Answer(UNCLEAR, f"{where}; whether it should be, the log cannot tell.")
    return Answer(FREE, f"{where}, and nothing in this log asks for it.")


def _told(question: Question, finding: Finding) -> Answer:
    """From what the owner had done to the write that undid it: the root."""
    key, wrote = finding.key, question.event(finding.since)
    links = []
    for at in cited(finding, "lost"):
        event = question.event(at)
        links.append(
            Link(key, f"{question.said(at)} wrote it as its owner wants it ({event.reason or event.operation})", at)
        )
    basis = cited(finding, "basis")
    memory = ""
    if basis and finding.name != "ipset-foreign-write":
        what = "from the memory that it had loaded" if finding.known else "what the set had contained"
        memory = f", {what} at {question.when(basis[0])}"
    moved = some(_moved(question, finding))
    links.append(
        Link(
            key,
            f"{short(wrote.actor)} wrote it at {clock(wrote.time)}{memory}: {moved}",
            finding.since,
            also=tuple(sorted({*basis, *cited(finding, "trigger", "cause")})),
        )
    )
    should = finding.lawful or []
    missing = sorted(set(should) - set(finding.reported or ()))
    extra = sorted(set(finding.reported or ()) - set(should)) if finding.lawful is not None else []
    parts = [f"lacks {some(missing)}"] if missing else []
    parts += [f"holds {some(extra)}, which do not belong in it"] if extra else []
    return question.tell(
        finding, f"{called(key)} {' and '.join(parts) or 'was written by somebody else than its owner'}.", links
    )


def _moved(question: Question, finding: Finding) -> list[str]:
    """The members that the write put in or took out."""
    before, after = question.event(finding.since).changed.get(MEMBERS, (None, None))
    return sorted(set(before or ()) ^ set(after or ()))
