"""Why something is still in deletion: what its finalizer waits for, up to what will never come.

NL102 found what is stuck; what only waits for a living holder is not stuck, and the chain then leads through the holders
(a VPC's subnets, a subnet's addresses, an EIP's rules) to the one that nobody is removing. `claims` is next.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.kinds import HOLDERS, VOCABULARY
from domain.resources import FINALIZER, Key
from domain.world import Resource
from projections import vpc_status
from projections.findings.rule import Finding, called, short
from projections.why.chain import BLOCKED, FREE, UNCLEAR, WAITING, Answer, Link, Question, cited, some
from projections.why.claims import lost_write

HOLDERS_ASKED = 32
"""Of how many holders the answers are compared: a subnet may hold 65,000 addresses."""


def held(question: Question, resource: Resource) -> Answer | None:
    """It was deleted, and is there."""
    if not resource.terminating:
        return None
    key = resource.key
    by = f"by {question.said(resource.deletion_at)}" if resource.deletion_at else "before this log"
    first = Link(key, f"{called(key)} was deleted {by}, and is there", resource.deletion_at or resource.born_at)
    if key.kind == "namespace":
        content = [
            one for one in question.world.live.values() if one.key.namespace == key.name and one.key.kind != "ipset"
        ]
        if content:
            return _by_holders(question, resource, first, content)
    foreign = [name for name in resource.finalizers if "kube-ovn" not in name and "kubeovn" not in name]
    finding = question.finding(key, "stuck-deletion")
    if key.kind not in HOLDERS or (foreign and FINALIZER not in resource.finalizers):
        others = _by_others(question, resource, first, foreign)
        return question.tell(finding, others.says, others.chain) if finding is not None else others
    if finding is not None:
        return question.tell(finding, *_stuck(question, resource, first, finding))
    holders = [holder for kind in HOLDERS[key.kind] for holder in question.world.naming(key, kind)]
    if holders:
        return _by_holders(question, resource, first, holders)
    return _cannot_tell(question, resource, first)


def _stuck(question: Question, resource: Resource, first: Link, finding: Finding) -> tuple[str, list[Link]]:
    key = resource.key
    says = f"{called(key)} cannot go"
    lost = question.finding(key, "lost-update", field=vpc_status.SUBNETS)
    if finding.follows == key and lost is not None:
        ghosts = sorted(set(map(str, lost.reported or ())) - set(map(str, lost.lawful or ())))
        gone = next((left for name in ghosts if (left := question.world.gone(Key("subnet", "", name)))), None)
        at = gone.at if gone is not None else (cited(lost, "cause") or [lost.since])[-1]
        held_by = Link(
            question.event(at).key,
            f"its finalizer is held: status.subnets lists {', '.join(ghosts)}, which was removed by {question.said(at)}",
            at,
            also=tuple(place for place in cited(lost, "cause") if place != at),
        )
        says += f": status.subnets lists {', '.join(ghosts)}, gone, put back by a lost update."
        return says, [first, held_by, lost_write(question, lost)]
    if finding.follows is not None:
        answer = _last_of(question, key, [finding.follows])
        return f"{says}: all that is left in it has leaked.", [first, *answer.chain]
    since = finding.since
    absence = Link(
        key,
        f"nothing that its guard counts is left, and nobody took the finalizer off in the {question.since(since)} since",
        since,
        absent=f"the removal of {key}'s finalizer",
        also=tuple(at for at in cited(finding, "last-chance") if at != since),
    )
    released = [at for at in cited(finding, "released") if at != resource.deletion_at]
    if released:
        event = question.event(released[-1])
        last = Link(
            event.key,
            f"the last that it waited for, {called(event.key)}, went by {question.said(released[-1])}",
            released[-1],
        )
        return f"{says}: its controller never took the finalizer off.", [first, last, absence]
    return f"{says}: its controller never took the finalizer off.", [first, absence]


def _by_others(question: Question, resource: Resource, first: Link, foreign: list[str]) -> Answer:
    """It waits for somebody else than Kube-OVN: the kubelet, the namespace controller, whoever put a finalizer on."""
    key = resource.key
    if foreign:
        waits = f"finalizer {some(foreign)} is not Kube-OVN's, and whoever put it on has not taken it off"
    elif key.kind == "pod":
        waits = "the kubelet has not ended it"
    else:
        waits = "its removal is not in the log"
    absence = Link(key, f"{waits} in the {question.since(first.at)} since", first.at, absent=f"the removal of {key}")
    return Answer(WAITING, f"{called(key)} is in deletion: {waits}.", (first, absence))


def _by_holders(question: Question, resource: Resource, first: Link, holders: list[Resource]) -> Answer:
    key = resource.key
    names = some(str(holder.key) for holder in holders)
    answer = _last_of(question, key, [holder.key for holder in holders])
    says = f"{called(key)} waits for {names}."
    return answer._replace(says=says, chain=(first, *answer.chain))


def _last_of(question: Question, key: Key, holders: Iterable[Key]) -> Answer:
    """Of what holds a resource, the one with the shortest way to a root: what is wrong before what only waits."""
    asked = sorted(holders, key=lambda holder: (not question.findings(holder), holder))[:HOLDERS_ASKED]
    answers = [_holder(question, key, holder) for holder in asked if not question.is_asked(holder)]
    order = (BLOCKED, UNCLEAR, WAITING)
    return min(
        answers, key=lambda answer: (order.index(answer.verdict), len(answer.chain)), default=Answer(UNCLEAR, "")
    )


def _holder(question: Question, key: Key, name: Key) -> Answer:
    holder = question.world.live[name]
    since = holder.linked_at or holder.born_at
    tie = "is in it" if key.kind in ("subnet", "namespace") else "names it"
    if not holder.terminating:
        answer = question.ask(name) if name.kind == "ip" else Answer(WAITING, "")
        if answer.verdict == BLOCKED:
            return answer
        says = f"{called(name)} {tie}, and nobody deleted it"
        link = Link(name, says, since, absent=f"the deletion of {name}")
        return Answer(WAITING, "", (link, *(answer.chain if answer.verdict == FREE else ())))
    answer = question.ask(name)
    named = Link(name, f"{called(name)} {tie} still", since)
    return answer._replace(chain=(answer.chain or (named,)))


def _cannot_tell(question: Question, resource: Resource, first: Link) -> Answer:
    """Nothing is known to hold it, and nothing was found: the log does not know all that may."""
    key = resource.key
    if resource.blurred:
        why = "a write on it is recorded without its content"
    elif not resource.seen_from_birth:
        why = "it is older than this log, and what it waits for may be too"
    elif not resource.finalizers:
        why = "nothing holds it that the log shows, and its removal is not in the log"
    else:
        why = "something that this log does not name may hold it"
    return Answer(UNCLEAR, f"{called(key)} is in deletion; what it waits for is unknown: {why}.", (first,))


def went(question: Question, key: Key) -> str:
    """How a resource that is not there went, in a sentence."""
    gone = question.world.gone(key)
    if gone is None:
        return f"{called(key)} is not there."
    if not gone.seen:
        return f"{called(key)} must have gone before {question.when(gone.at)}: how, is not in this log."
    event = question.event(gone.at)
    how = f" ({event.operation})" if event.operation else ""
    refused = (
        f" That was not allowed: {event.reason}." if event.type != VOCABULARY[key.kind].ended and event.reason else ""
    )
    return f"{called(key)} is gone since {question.when(gone.at)}, by {short(event.actor)}{how}.{refused}"
