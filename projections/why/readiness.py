"""Why an EIP, or a rule on one, is not ready: what was never started in its gateway's pod of today, and since when.

NL106 found a `ready` that nothing backs: then that claim is the root, because the controller configures only what does
not say ready. Else the absence itself is the end of the chain. `members` is next.
"""

from __future__ import annotations

from domain import nat_gateway
from domain.nat_rule import RULES
from domain.ovn_rule import RULES as OVN_RULES
from domain.resources import Key
from domain.world import Resource
from projections.eip_readiness import OVN, READY, readiness
from projections.findings.rule import Finding, called
from projections.why.chain import BLOCKED, FREE, UNCLEAR, WAITING, Answer, Link, Question, cited


def not_configured(question: Question, resource: Resource) -> Answer | None:
    """It is not configured in its gateway's pod of today, or not said to be."""
    if resource.terminating:
        return None
    finding = question.finding(resource.key, "ready-without-configuration")
    if finding is not None:
        return question.tell(
            finding, f"{called(resource.key)} is not ready, though it says so.", _said(question, finding)
        )
    ready, why = readiness(question.world, resource)
    said = resource.get(READY)
    key = resource.key
    if ready is False:
        return _missing(question, resource, why)
    if ready and said is True:
        return Answer(
            FREE, f"{called(key)} is ready, and nothing is in its way: {why}.", _configured(question, resource)
        )
    if ready:
        absence = Link(
            key, f"{why}, and status.ready does not say so", resource.last_at, absent=f"status.ready of {key}"
        )
        return Answer(WAITING, f"{called(key)} is configured, and not reported ready.", (absence,))
    return _unknown(question, resource, why)


def _said(question: Question, finding: Finding) -> list[Link]:
    """From the pod that came, by what never ran in it, to the claim that keeps it from running."""
    key = finding.key
    resource = question.world.get(key)
    pods = [at for at in cited(finding, "cause", "leftover") if question.event(at).key.kind == "pod"]
    began = pods[-1] if pods else finding.since
    rule = nat_gateway.rule_of(question.world, resource) if resource is not None else ""
    first, absence = _never_ran(question, key, question.event(began).key, rule, began)
    links = [first._replace(also=tuple(pods[:-1])), absence]
    skips = "the controller configures only what does not say ready (kube-ovn#5114)"
    if cited(finding, "overwriting"):
        because = tuple(at for at in cited(finding, "lost", "because") if at != finding.since)
        says = f"{question.said(finding.since)} set status.ready to true, which nothing backs: {skips}"
        return [*links, Link(key, says, finding.since, also=because)]
    says = f"status.ready is true since before that pod, and nobody took it back: {skips}"
    return [*links, Link(key, says, finding.since, absent=f"status.ready false of {key}")]


def _never_ran(question: Question, key: Key, pod: Key, rule: str, since: int) -> tuple[Link, Link]:
    """What has to be configured since the pod came, and that it was not."""
    verb = f"{nat_gateway.verb_of(key.kind)} {rule}".strip()
    made = f"{called(pod)}, its gateway's pod of today, was made by {question.said(since)} and starts empty"
    first = Link(key, f"{called(key)} has to be configured: {made}", since)
    says = f"there is no evidence that {verb} was started in that pod in the {question.since(since)} since"
    return first, Link(key, says, since, absent=f"{verb} in {pod}")


def _missing(question: Question, resource: Resource, why: str) -> Answer:
    world, key = question.world, resource.key
    says = f"{called(key)} is not ready."
    if key.kind in OVN:
        _, at = resource.run or ("", resource.last_at)
        return Answer(BLOCKED, says, (Link(key, why, at),))
    carrier = Key("eip", "", str(resource.get("spec.eip") or ""))
    if key.kind in RULES and (up := _of_its_eip(question, resource, carrier, says)) is not None:
        return up
    pod = nat_gateway.pod_of_today(world, nat_gateway.gateway_of(world, resource))
    rule = nat_gateway.rule_of(world, resource)
    made = Link(key, f"{called(key)} was made by {question.said(resource.born_at)}", resource.born_at)
    if pod is None or not rule:
        return Answer(WAITING, says, (made, Link(key, why, resource.born_at, absent=f"an address of {key}")))
    first, absence = _never_ran(question, key, pod.key, rule, pod.born_at)
    since = pod.born_at
    if resource.born_at > since:
        since, first = resource.born_at, made
        absence = absence._replace(
            says=f"there is no evidence that it was configured in {pod.key.path} in the {question.since(since)} since",
            at=since,
        )
    late = question.overdue.since(key.kind, question.event(since).time)
    return Answer(BLOCKED if late else WAITING, says, (first, absence))


def _of_its_eip(question: Question, rule: Resource, carrier: Key, says: str) -> Answer | None:
    """What a rule waits for in its EIP: that it is there, and ready itself."""
    if not carrier.name or question.is_asked(carrier):
        return None
    named = Link(rule.key, f"{called(rule.key)} is on {called(carrier)}", rule.linked_at or rule.born_at)
    if question.world.get(carrier) is None:
        gone = question.world.gone(carrier)
        if gone is None:
            return Answer(WAITING, says, (named._replace(absent=str(carrier)),))
        return Answer(
            BLOCKED, says, (named, Link(carrier, f"{called(carrier)} went, by {question.said(gone.at)}", gone.at))
        )
    answer = question.ask(carrier)
    if answer.verdict not in (BLOCKED, WAITING):
        return None
    return answer._replace(says=f"{says} {answer.says}", chain=(named, *answer.chain))


def _configured(question: Question, resource: Resource) -> tuple[Link, ...]:
    """The command that configured it in the pod of today."""
    world, key = question.world, resource.key
    if key.kind in OVN:
        return ()
    pod = nat_gateway.pod_of_today(world, nat_gateway.gateway_of(world, resource))
    rule = nat_gateway.rule_of(world, resource)
    at = nat_gateway.configured_in(pod, key.kind, rule) if pod is not None else 0
    if pod is None or not at:
        return ()
    return (Link(pod.key, f"{nat_gateway.verb_of(key.kind)} {rule} was started in it by {question.said(at)}", at),)


def _unknown(question: Question, resource: Resource, why: str) -> Answer | None:
    """Where the log cannot tell. What OVN does is in no audit log: of that only a doubt that was voiced is an answer."""
    key = resource.key
    gateway = Key("nat-gateway", "", nat_gateway.gateway_of(question.world, resource))
    if key.kind not in OVN and gateway.name:
        bearer = question.world.get(gateway)
        if bearer is not None and bearer.state == nat_gateway.DOWN:
            pod = Link(gateway, f"{called(gateway)} has no pod", bearer.last_at, absent=f"a pod of {gateway}")
            return Answer(WAITING, f"{called(key)} is not ready: its gateway is down.", (pod,))
    said = {True: "it says ready", False: "it says that it is not"}.get(resource.get(READY), "it does not say")
    return Answer(UNCLEAR, f"Whether {called(key)} is ready is unknown: {why}; {said}.")


KINDS = ("eip", *RULES, "oeip", *OVN_RULES)
"""The kinds that these rules are of."""
