"""NL108 ipset-foreign-write: a writer changed the members of a set that is not its own.

No lawful member was lost by it (that is `ipset_lost_member`), and none came back that the owner had taken out (that is
`ipset_stale_member`, which is next): somebody put in what the owner knows nothing of. To write a set of another's with the
members that it has is nothing; kube-router 1.6 and 2.5 do it all the time.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.world import Resource
from projections.findings.ipset_rule import Fault, IPSetRule, command, listed, named, told
from projections.findings.rule import WARNING, Conclusion, Step
from projections.ipset_membership import Membership, Put, Weighed


class IPSetForeignWrite(IPSetRule):
    """NL108."""

    code = "NL108"
    name = "ipset-foreign-write"
    severity = WARNING
    fires = (
        "somebody puts a member into a set of a known owner (kube-router's, Kube-OVN's) that the owner never put in: by a "
        "single `ipset add`, or by a restore of a writer that is none of the owner's parties. It heals when the member is "
        "gone, as it will be with the owner's next full sync, or when the owner puts it in too."
    )
    upstream = ("kube-router#1677", "kube-router#1685", "kube-ovn#755")

    def part(self, weighed: Weighed) -> Mapping[str, Put | None]:
        return dict.fromkeys(sorted(weighed.foreign)) if not weighed.lost and not weighed.stale else {}

    def is_wrong(self, member: str, reported: frozenset[str], known: Membership) -> bool:
        return member in reported and known.says(member) is not True

    def tell(self, conclusion: Conclusion, fault: Fault, until: int | None) -> tuple[str, str]:
        key = fault.weighed.key
        explanation = (
            f"{told(conclusion, fault.weighed.at)} put {listed(fault.members)} into {named(key)}, which is not its own: the "
            "owner never put that in."
        )
        return explanation, (
            "The owner's next full sync takes it out again. Until then the rules that use the set act on it. Whoever wants "
            "it there must ask the owner: for kube-router by a Service, a NetworkPolicy or a Node."
        )

    def repair(self, resource: Resource, members: list[str]) -> list[Step]:
        return [
            Step(command(resource, "del", member), f"takes {member} out if it is still there and nobody wants it")
            for member in members
        ]
