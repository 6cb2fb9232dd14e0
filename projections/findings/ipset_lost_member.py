"""NL107 ipset-lost-member: a set lacks a member that its owner put in and that nobody entitled took out.

Two controllers of kube-router keep all of a node's sets in memory and restore all of them: who restores from an older
memory takes out what another put in meanwhile (kube-router#1081, the fourth incident of the report that this engine
began with). The same happens to the sets of other programs. `ipset_foreign_write` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from domain.events import Event
from domain.ipset import MEMBERS
from domain.ipset_names import KUBE_OVN, NETPOL, PROXY, ROUTING, owner_of
from domain.kinds import VOCABULARY
from domain.resources import BY_NAME, Key
from domain.world import Resource, World
from projections.findings.ipset_rule import Fault, IPSetRule, by_whom, command, cure, listed, memory, named, told
from projections.findings.rule import ALL, ERROR, Conclusion, Step
from projections.ipset_contents import should_contain
from projections.ipset_membership import Membership, Memberships, Put, Weighed

_CONSEQUENCE = {
    PROXY: "On this node packets to these service addresses are no longer taken as such: the firewall rejects them.",
    NETPOL: "Network policies on this node no longer match these pods: what they allow is dropped, what they forbid "
    "may pass.",
    ROUTING: "On this node traffic of these nodes and pod networks is treated as foreign: masqueraded, or rejected.",
    KUBE_OVN: "On this node these networks are no longer treated as the set says: NAT and routing for them is wrong.",
    "": "The program that put them in relies on them and is not told.",
}


_ASKS = frozenset(
    {
        "ServiceCreated",
        "ServiceSighted",
        "ServiceExposed",
        "ServiceExternalAddressesChanged",
        "ServicePortsChanged",
        "ServiceStatusReported",
    }
)
"""What changes the addresses and ports that a Service asks for."""


_ARRIVES = frozenset({"PodBound", "PodStatusReported"})
"""What makes a pod one of a node's, with an address: the policy controller writes its sets then."""


class IPSetLostMember(IPSetRule):
    """NL107."""

    code = "NL107"
    name = "ipset-lost-member"
    severity = ERROR
    fires = (
        "a writer that does not own a set writes it without a member that the owner had put in and not taken out. The owner "
        "is who the set's name says (kube-router, Kube-OVN), else who put the member in. It heals when the member is back, "
        "or when the owner no longer wants it; where a record is missing between the two writes nothing is found."
    )
    upstream = ("kube-router#1081", "kube-router#1677", "kube-router#1918", "kube-ovn#732")

    watches: ClassVar = {
        "ipset": ALL,
        "service": _ASKS | {VOCABULARY["service"].ended, VOCABULARY["service"].vanished},
        "pod": _ARRIVES | {VOCABULARY["pod"].ended, VOCABULARY["pod"].vanished},
    }

    def __init__(self, memberships: Memberships) -> None:
        super().__init__(memberships)
        self._asked: dict[Key, int] = {}  # since when a Service asks for what it does
        self._arrived: dict[Key, dict[str, int]] = {}  # how a pod came: its binding, its last status
        self._record = ""
        self._brought: set[str] = set()  # the members that this record puts into any set

    def apply(self, event: Event, at: int, world: World) -> None:
        match event.key.kind:
            case "service" if event.type in _ASKS:
                self._asked[event.key] = at
            case "service":
                self._asked.pop(event.key, None)
            case "pod" if event.type in _ARRIVES:
                self._arrived.setdefault(event.key, {})[event.type] = at
            case "pod":
                self._arrived.pop(event.key, None)
            case _:
                self._bring(event)
                super().apply(event, at, world)

    def _bring(self, event: Event) -> None:
        if event.record != self._record:
            self._record, self._brought = event.record, set()
        before, after = event.changed.get(MEMBERS, (None, None))
        self._brought.update(set(after or ()) - set(before or ()))

    def part(self, weighed: Weighed) -> Mapping[str, Put | None]:
        return weighed.lost

    def causes(self, world: World, key: Key, members: Iterable[str]) -> Mapping[Key, int]:
        asked = should_contain(world, key.namespace).get(key.name)
        names = [asked.members[member].key for member in members if member in asked.members] if asked else []
        resources = [resource for name in dict.fromkeys(names) if (resource := world.get(name)) is not None]
        return {resource.key: self._asked.get(resource.key, resource.last_at) for resource in resources}

    def triggers(self, world: World) -> tuple[int, ...]:
        arrived: list[int] = []
        for key, places in self._arrived.items() if self._brought else ():
            pod = world.get(key)
            if pod is not None and pod.get("status.podIP") in self._brought:
                arrived += places.values()
        return tuple(sorted(arrived))

    def is_wrong(self, member: str, reported: frozenset[str], known: Membership) -> bool:
        return member not in reported and known.says(member) is not False

    def tell(self, conclusion: Conclusion, fault: Fault, until: int | None) -> tuple[str, str]:
        key = fault.weighed.key
        put = "; ".join(f"{some} was put into {named(key)} by {by}" for some, by in by_whom(conclusion, fault.members))
        explanation = (
            f"{put}. {told(conclusion, fault.weighed.at)} wrote the set without {listed(fault.members)}, though nobody who "
            f"may had taken that out. {memory(conclusion, fault.weighed)}"
        )
        if fault.causes:
            askers = ", ".join(f"{BY_NAME[asker.kind].title} {asker.path}" for asker in fault.causes)
            explanation += f" {askers} {'asks' if len(fault.causes) == 1 else 'ask'} for it."
        return explanation, f"{_CONSEQUENCE[owner_of(key.name)]} {cure(key)}"

    def repair(self, resource: Resource, members: list[str]) -> list[Step]:
        where = f"on node {resource.key.namespace}, " if resource.key.namespace else "on that node, "
        return [
            Step(
                command(resource, "add", member),
                f"{where}puts {member} back if it is still missing; nothing else is touched",
            )
            for member in members
        ]
