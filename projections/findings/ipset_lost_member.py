"""NL107 ipset-lost-member: a set lacks a member that its owner put in and that nobody entitled took out.

Two controllers of kube-router keep all of a node's sets in memory and restore all of them: who restores from an older
memory takes out what another put in meanwhile (kube-router#1081, the fourth incident of the report that this engine
began with). The same happens to the sets of other programs. `ipset_foreign_write` is next.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.ipset_names import KUBE_OVN, NETPOL, PROXY, ROUTING, owner_of
from domain.world import Resource
from projections.findings.ipset_rule import Fault, IPSetRule, by_whom, command, cure, listed, memory, named, told
from projections.findings.rule import ERROR, Conclusion, Step
from projections.ipset_membership import Membership, Put, Weighed

_CONSEQUENCE = {
    PROXY: "On this node packets to these service addresses are no longer taken as such: the firewall rejects them.",
    NETPOL: "Network policies on this node no longer match these pods: what they allow is dropped, what they forbid "
    "may pass.",
    ROUTING: "On this node traffic of these nodes and pod networks is treated as foreign: masqueraded, or rejected.",
    KUBE_OVN: "On this node these networks are no longer treated as the set says: NAT and routing for them is wrong.",
    "": "The program that put them in relies on them and is not told.",
}


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

    def part(self, weighed: Weighed) -> Mapping[str, Put | None]:
        return weighed.lost

    def is_wrong(self, member: str, reported: frozenset[str], known: Membership) -> bool:
        return member not in reported and known.says(member) is not False

    def tell(self, conclusion: Conclusion, fault: Fault, until: int | None) -> tuple[str, str]:
        key = fault.weighed.key
        put = "; ".join(f"{some} was put into {named(key)} by {by}" for some, by in by_whom(conclusion, fault.members))
        explanation = (
            f"{put}. {told(conclusion, fault.weighed.at)} wrote the set without {listed(fault.members)}, though nobody who "
            f"may had taken that out. {memory(conclusion, fault.weighed)}"
        )
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
