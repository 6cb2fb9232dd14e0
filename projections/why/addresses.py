"""Why an IP object is still there: its pod and its subnet are gone, and nobody is left who would release it.

NL103 found it. The root is the end of its subnet under it, or, while that is still in deletion, that no release came.
`binding` is next.
"""

from __future__ import annotations

from domain.ip import pod_of
from domain.kinds import VOCABULARY
from domain.resources import Key
from domain.world import Resource
from projections.findings.rule import called
from projections.why.chain import FREE, Answer, Link, Question, cited


def left_behind(question: Question, ip: Resource) -> Answer | None:
    """Its pod and its subnet went, and it did not go with them."""
    finding = question.finding(ip.key, "leaked-ip")
    if finding is None:
        return None
    events = {at: question.event(at) for at in cited(finding, "cause")}
    pods = [at for at, event in events.items() if event.key.kind == "pod"]
    gone = [at for at, event in events.items() if event.happened == VOCABULARY["subnet"].ended]
    going = [at for at, event in events.items() if event.key.kind == "subnet"]
    marked = f"was deleted by {question.said(ip.deletion_at)}, and only marked so" if ip.deletion_at else "is there"
    chain = [
        Link(ip.key, f"{called(ip.key)} {marked}: its finalizer is on", ip.deletion_at or ip.born_at),
        Link(
            ip.key,
            f"nobody released it in the {question.since(finding.since)} since neither its pod nor its subnet needs it",
            finding.since,
            absent=f"the release of {ip.key}",
        ),
    ]
    if pods:
        chain.insert(1, Link(events[pods[-1]].key, f"its pod went, by {question.said(pods[-1])}", pods[-1]))
    if gone:
        subnet = events[gone[-1]]
        before = "before it was made" if gone[-1] < ip.born_at else "under it"
        chain.append(
            Link(
                subnet.key,
                f"{called(subnet.key)} went {before}, by {question.said(gone[-1])}: with it went who would release it",
                gone[-1],
                also=tuple(going[:1]),
            )
        )
    elif going:
        chain.insert(
            -1, Link(events[going[0]].key, f"its subnet is in deletion, by {question.said(going[0])}", going[0])
        )
    return question.tell(finding, f"{called(ip.key)} is left behind: its pod and its subnet are gone.", chain)


def held_by_its_pod(question: Question, ip: Resource) -> Answer | None:
    """Its pod is there, and needs it."""
    holder: Key | None = pod_of(ip.key, ip.fields)
    pod = question.world.get(holder) if holder is not None else None
    if pod is None or ip.terminating:
        return None
    says = f"{called(ip.key)} is {ip.state}, and nothing is in its way: {called(pod.key)} is there and holds it."
    return Answer(FREE, says, (Link(pod.key, f"{called(pod.key)} holds it", pod.born_at),))
