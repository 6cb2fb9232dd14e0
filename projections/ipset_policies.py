"""The sets that kube-router's network policy controller makes of each NetworkPolicy (kube-router: netpol/policy.go).

A policy has a set of the pods it is about (one for ingress, one for egress), and each of its rules one of the pods that
are its peers, one of its ranges, and one for each port it names. `ipset_contents` is next: all other sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from domain.ipset_names import (
    DESTINATION,
    FAMILIES,
    HASH_IP,
    HASH_NET,
    IPV4,
    NETPOL,
    SOURCE,
    as_printed,
    family_of_address,
    named_port_set,
    peer_set,
    target_set,
)
from domain.pod import NAMED_PORTS
from domain.world import Resource
from projections.ipset_contribution import Contribution, Known, Member, addresses_of_pod, mappings
from projections.namespace_binding import labels_of, matches

_EVERYTHING = {IPV4: ("0.0.0.0/1", "128.0.0.0/1"), "IPv6": ("2000::/3", "fd00::/8")}
"""What stands for a range of prefix length 0, which hash:net cannot hold (evalIPBlockPeer)."""

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class _Pods(NamedTuple):
    """The pods that a selector chooses, and why others may be among them; empty if none may."""

    chosen: list[Resource]
    gap: str


class _Rule(NamedTuple):
    """One rule of a policy: `peers` is `None` where it is for everybody."""

    direction: str
    number: int
    peers: list[dict[str, Any]] | None
    ports: list[dict[str, Any]]


def policy_sets(known: Known) -> Iterator[Contribution]:
    """The sets of every policy, under the names that releases since 2.0 and before give them."""
    for policy in known.of("networkpolicy"):
        for family in FAMILIES:
            for before_2 in (False, True):
                for contribution in _sets(known, policy, family, before_2):
                    contribution.lacks(f"what a write on {policy.key} did cannot be read" if policy.blurred else "")
                    yield contribution


def _sets(known: Known, policy: Resource, family: str, before_2: bool) -> Iterator[Contribution]:
    _, namespace, name = policy.key
    said = policy.get("spec.policyTypes")
    types = said if isinstance(said, list) and said else ["Ingress"]  # the API server fills it in
    target = _chosen(known, namespace, policy.get("spec.podSelector"))
    for direction, prefix in (("Ingress", DESTINATION), ("Egress", SOURCE)):
        if direction not in types:
            continue
        its = target_set(prefix, namespace, name, family, before_2=before_2)
        yield _of_pods(its, target, family, policy, f"is one that {policy.key} is about")
        for rule in _rules(policy, direction):
            yield from _sets_of_rule(known, policy, rule, target, family, before_2)


def _sets_of_rule(
    known: Known, policy: Resource, rule: _Rule, target: _Pods, family: str, before_2: bool
) -> Iterator[Contribution]:
    _, namespace, name = policy.key
    told = f"{rule.direction} rule {rule.number} of {policy.key}"

    def called(what: str) -> str:
        return peer_set(rule.direction, namespace, name, rule.number, what, family, before_2=before_2)

    ranges = Contribution(name=called("ipblock"), owner=NETPOL, type=HASH_NET, family=family)
    pods = _Pods([], "")
    if rule.peers is not None:
        for peer in rule.peers:
            some = _peer_pods(known, namespace, peer)
            pods = _Pods([*pods.chosen, *some.chosen], pods.gap or some.gap)
            if "podSelector" not in peer and "namespaceSelector" not in peer:
                _put_ranges(ranges, policy, peer.get("ipBlock"), told)
        if any("podSelector" in peer or "namespaceSelector" in peer for peer in rule.peers):
            yield _of_pods(called("pod"), pods, family, policy, f"is a peer in {told}")
        if ranges.members or ranges.why_not:
            yield ranges
    if rule.direction == "egress":
        behind = _chosen(known, namespace, {}) if rule.peers is None else pods
    else:
        behind = target
    if (
        rule.peers is None
        or ranges.members
        or any(addresses_of_pod(pod, each) for pod in pods.chosen for each in FAMILIES)
    ):
        kind = HASH_NET if ranges.members else HASH_IP
        yield from _named_ports(policy, rule, behind, kind, family, before_2)


def _named_ports(
    policy: Resource, rule: _Rule, behind: _Pods, kind: str, family: str, before_2: bool
) -> Iterator[Contribution]:
    """The sets of the ports that a rule names, numbered as far as they resolve.

    A name that means several numbers makes several sets in an order of Go's own: whose is whose cannot be told then.
    """
    _, namespace, name = policy.key
    resolved: list[tuple[str, list[Resource]]] = []
    unordered = ""
    for port in rule.ports:
        wanted = port.get("port")
        if not isinstance(wanted, str):
            continue
        by_number: dict[int, list[Resource]] = {}
        for pod in behind.chosen:
            if not any(addresses_of_pod(pod, each) for each in FAMILIES):
                continue
            for own in mappings(pod.get(NAMED_PORTS)):
                number = own.get("containerPort")
                if own.get("name") == wanted and _protocol(own) == _protocol(port) and isinstance(number, int):
                    by_number.setdefault(number, []).append(pod)
        if len(by_number) > 1:
            unordered = f"the port {wanted} means several numbers, and the order of their sets is not fixed"
        resolved += [(wanted, by_number[number]) for number in sorted(by_number)]
    # Where a pod is missing here, so may be a port, and every number behind it is another.
    gap = behind.gap or unordered
    for number, (wanted, pods) in enumerate(resolved):
        called = named_port_set(rule.direction, namespace, name, rule.number, number, family, before_2=before_2)
        its = _of_pods(called, _Pods(pods, gap), family, policy, f"has a port called {wanted}", certain=not gap)
        its.type = kind
        yield its


def _of_pods(name: str, pods: _Pods, family: str, policy: Resource, why: str, *, certain: bool = True) -> Contribution:
    made = Contribution(name=name, owner=NETPOL, type=HASH_IP, family=family)
    for pod in pods.chosen:
        for text in addresses_of_pod(pod, family):
            due = certain and not pod.blurred and not policy.blurred
            made.put(text, Member(due, pod.key, f"{pod.key} {why}"))
    made.lacks(pods.gap)
    return made


def _put_ranges(ranges: Contribution, policy: Resource, block: Any, told: str) -> None:
    if not isinstance(block, dict) or family_of_address(str(block.get("cidr"))) != ranges.family:
        return
    excepted = block.get("except")
    texts = [(str(block["cidr"]), False)]
    texts += [(str(text), True) for text in (excepted if isinstance(excepted, list) else ())]
    for text, nomatch in texts:
        if family_of_address(text) != ranges.family:
            ranges.lacks(f"{text} in {told} is no range of that family")
            continue
        printed = _EVERYTHING[ranges.family] if text.endswith("/0") else (as_printed(text),)
        for each in printed:
            because = f"{told} {'excepts' if nomatch else 'names'} {text}"
            if each in ranges.members and ranges.members[each].nomatch != nomatch:
                # Which of two entries with one range stands is a matter of their order.
                ranges.members[each] = ranges.members[each]._replace(due=False)
                ranges.lacks(f"{text} is both named and excepted in {told}")
                continue
            ranges.put(each, Member(not policy.blurred, policy.key, because, nomatch))


# ---- selectors


def _rules(policy: Resource, direction: str) -> Iterator[_Rule]:
    word, peers_word = direction.lower(), "from" if direction == "Ingress" else "to"
    listed = policy.get(f"spec.{word}")
    for number, rule in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(rule, dict):
            yield _Rule(word, number, mappings(rule.get(peers_word)) or None, mappings(rule.get("ports")))


def _peer_pods(known: Known, namespace: str, peer: dict[str, Any]) -> _Pods:
    """The pods that a peer chooses: in the policy's own namespace, or in those that its namespaceSelector chooses."""
    if "namespaceSelector" not in peer:
        return _chosen(known, namespace, peer["podSelector"]) if "podSelector" in peer else _Pods([], "")
    selector = peer["namespaceSelector"]
    chosen: list[Resource] = []
    gap = "" if _is_readable(selector) else "a selector of it cannot be read"
    # Of a namespace that the log never names not even the labels are known.
    gap = gap or known.gap("namespace")
    for home in known.of("namespace"):
        if _selects(selector, home):
            some = _chosen(known, home.key.name, peer.get("podSelector") or {})
            chosen += some.chosen
            gap = gap or some.gap
    return _Pods(chosen, gap)


def _chosen(known: Known, namespace: str, selector: Any) -> _Pods:
    """The pods of a namespace that a podSelector chooses."""
    if not _is_readable(selector):
        return _Pods([], "a selector of it cannot be read")
    return _Pods(
        [pod for pod in known.inside(namespace, "pod") if _selects(selector, pod)], known.gap_inside(namespace, "pod")
    )


def _selects(selector: Any, resource: Resource) -> bool:
    """A label selector of Kubernetes: an empty one selects all."""
    if not _is_readable(selector):
        return False
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    return matches(selector, labels_of(resource.fields))


def _is_readable(selector: Any) -> bool:
    if selector is None:
        return True
    if not isinstance(selector, dict) or not isinstance(selector.get("matchLabels") or {}, dict):
        return False
    expressions = selector.get("matchExpressions") or []
    return isinstance(expressions, list) and all(
        isinstance(each, dict) and each.get("operator") in _OPERATORS and isinstance(each.get("values") or [], list)
        for each in expressions
    )


def _protocol(port: dict[str, Any]) -> str:
    return str(port.get("protocol") or "TCP")
