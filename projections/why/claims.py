"""Why a claim is not what it should be: a write that rested on an older state put back what another had removed.

NL101 found it; here it is told from the field back to that write, which is the root. `addresses` is next.
"""

from __future__ import annotations

from domain.world import Resource
from projections.findings.rule import Finding, called, clock, short
from projections.why.chain import Answer, Link, Question, cited, some


def overwritten(question: Question, resource: Resource) -> Answer | None:
    """A field of it was written back by somebody who had read an older one."""
    finding = question.finding(resource.key, "lost-update")
    if finding is None:
        return None
    links = [lost_write(question, finding)]
    for at in cited(finding, "lost")[:1]:
        right = question.event(at)
        says = f"the write of {question.said(at)} (revision {right.revision}) had made it right, and is lost"
        links.insert(0, Link(resource.key, says, at, also=tuple(cited(finding, "cause"))))
    return question.tell(finding, f"{called(resource.key)}: {differs(finding)}.", links)


def lost_write(question: Question, finding: Finding) -> Link:
    """The write that lost another one, and what its writer had read: the root."""
    overwriting = question.event(finding.since)
    read = "what it had read, the log does not show"
    if finding.revisions is not None:
        first, last = finding.revisions
        which = f"revision {first}" if first == last else f"revisions {first} to {last}"
        read = f"it had read {which}{'' if finding.known else ' (inferred)'}"
    lost = cited(finding, "lost")[:1]
    for at in lost:
        read += f", older than the write of {question.said(at)} (revision {question.event(at).revision}), which it lost"
    return Link(
        finding.key,
        f"{short(overwriting.actor)} wrote {finding.field} at {clock(overwriting.time)} (revision {overwriting.revision}): "
        f"{read}",
        finding.since,
        also=(*lost, *cited(finding, "basis")),
    )


def differs(finding: Finding) -> str:
    """What a field says and should not, or does not say and should."""
    reported, lawful = finding.reported, finding.lawful
    if not isinstance(reported, list) or not isinstance(lawful, list):
        return f"its {finding.field} says {told(reported)}, and should say {told(lawful)}"
    extra, missing = sorted(set(reported) - set(lawful)), sorted(set(lawful) - set(reported))
    parts = [f"lists {some(extra)}, which should not be in it"] if extra else []
    parts += [f"lacks {some(missing)}"] if missing else []
    return f"its {finding.field} {' and '.join(parts) or 'says what it should by now'}"


def told(value: object) -> str:
    """A claim's value in a sentence."""
    if value is None or value == "" or value == []:
        return "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
