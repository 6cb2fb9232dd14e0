"""Why a namespace or a pod has no network, and what became of a subnet's VPC.

NL105 and NL104 found it: the controller never annotated a namespace because it stumbles over a subnet whose VPC is gone, and
a pod of such a namespace gets no address. The root is the removal of that VPC. `readiness` is next.
"""

from __future__ import annotations

from domain.kinds import VOCABULARY
from domain.namespace import SWITCH
from domain.pod import ALLOCATED, HOST_NETWORK, NEW, ROUTED
from domain.resources import Key
from domain.world import Resource
from projections.findings.rule import Finding, called
from projections.namespace_binding import labels_of, serving
from projections.why.chain import BLOCKED, FREE, UNCLEAR, WAITING, Answer, Link, Question, cited


def orphaned(question: Question, subnet: Resource) -> Answer | None:
    """Its VPC is gone."""
    finding = question.finding(subnet.key, "orphaned-subnet")
    if finding is None:
        return None
    says = f"{called(subnet.key)} is an orphan: VPC {finding.reported}, which it names, is gone."
    return question.tell(finding, says, vpc_went(question, finding))


def vpc_went(question: Question, finding: Finding) -> list[Link]:
    """From an orphan to the removal of its VPC."""
    links = [Link(finding.key, f"{called(finding.key)} names VPC {finding.reported}, which is gone", finding.since)]
    places = cited(finding, "cause")
    removed = [at for at in places if question.event(at).happened == VOCABULARY["vpc"].ended]
    if removed:
        at = removed[-1]
        how = "before it was made" if cited(finding, "created") else "under it"
        links.append(
            Link(
                question.event(at).key,
                f"VPC {finding.reported} was removed {how}, by {question.said(at)}",
                at,
                also=tuple(place for place in places if place != at),
            )
        )
    return links


def not_annotated(question: Question, namespace: Resource) -> Answer | None:
    """No controller wrote a network into its annotations."""
    if namespace.get(SWITCH) or namespace.terminating:
        return None
    key, finding = namespace.key, question.finding(namespace.key, "namespace-not-bound")
    if finding is None:
        return _not_found(question, namespace)
    did = "made" if question.event(finding.since).happened == VOCABULARY["namespace"].begun else "relabelled"
    chain = [
        Link(key, f"{called(key)} was {did} by {question.said(finding.since)}", finding.since),
        Link(
            key,
            f"the controller did not annotate it in the {question.since(finding.since)} since, though subnet "
            f"{', '.join(finding.lawful)} serves it",
            finding.since,
            absent=f"network annotations of {key}",
            also=tuple(cited(finding, "failure")),
        ),
    ]
    orphan = question.finding(finding.follows, "orphaned-subnet") if finding.follows is not None else None
    if orphan is not None:
        first, *rest = vpc_went(question, orphan)
        stumbles = f"{first.says}: the handler stumbles over it (kube-ovn#5028)"
        chain += [first._replace(says=stumbles), *rest]
    return question.tell(finding, f"{called(key)} has no network annotations.", chain)


def _not_found(question: Question, namespace: Resource) -> Answer:
    key = namespace.key
    subnets = {subnet: None for subnet in question.world.live if subnet.kind == "subnet"}
    serve = serving(question.world, subnets, key.name, labels_of(namespace.fields))
    if not serve:
        says = f"{called(key)} has no network annotations, and no subnet in this log serves it: it gets none."
        return Answer(FREE if namespace.seen_from_birth else UNCLEAR, says)
    why = (
        "no controller that annotates namespaces is in this log"
        if namespace.seen_from_birth
        else "it was made before this log begins"
    )
    says = f"{called(key)} has no network annotations, though subnet {', '.join(serve)} serves it. Whether one is overdue is "
    says += f"unknown: {why}."
    return Answer(UNCLEAR, says, (Link(key, f"{called(key)} is first heard of", namespace.born_at),))


def without_address(question: Question, pod: Resource) -> Answer | None:
    """No controller gave it an address."""
    if pod.state != NEW or pod.get(HOST_NETWORK) is True:
        return None
    key = pod.key
    if address := pod.get("status.podIP"):
        return Answer(
            FREE, f"{called(key)} has the address {address}, by no annotation of Kube-OVN: nothing is in its way."
        )
    says = f"{called(key)} has no address."
    first = Link(key, f"{called(key)} was made by {question.said(pod.born_at)}", pod.born_at)
    absence = Link(
        key,
        f"the controller gave it no address in the {question.since(pod.born_at)} since",
        pod.born_at,
        absent=f"the network annotation of {key}",
    )
    namespace = Key("namespace", "", key.namespace)
    if question.world.get(namespace) is not None:
        answer = question.ask(namespace)
        if answer.verdict in (BLOCKED, WAITING):
            return answer._replace(says=f"{says} {answer.says}", chain=(first, *answer.chain))
    if not any(one.key.kind == "pod" and one.state in (ALLOCATED, ROUTED) for one in question.world.live.values()):
        return Answer(
            UNCLEAR, f"{says} Whether one is overdue is unknown: no controller that gives addresses is in this log."
        )
    return Answer(WAITING, says, (first, absence))
