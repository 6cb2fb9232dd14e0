"""NL109 ipset-stale-member: a member that its owner had taken out is in the set again, by another's restore.

The other side of `ipset_lost_member`: the memory that was restored is older than a removal. That a dump shows a member which
nobody was seen to put in is no finding: whoever did may have been the owner. `judge` is next: it joins all rules.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.world import Resource
from projections.findings.ipset_rule import Fault, IPSetRule, by_whom, command, cure, memory, named, told
from projections.findings.rule import WARNING, Conclusion, Step
from projections.ipset_membership import Membership, Put, Weighed


class IPSetStaleMember(IPSetRule):
    """NL109."""

    code = "NL109"
    name = "ipset-stale-member"
    severity = WARNING
    fires = (
        "a writer that does not own a set writes a member back into it that the owner had taken out, and the owner did not "
        "put it in again since. It heals when the member is gone, or when the owner wants it again."
    )
    upstream = ("kube-router#1081", "kube-router#1056")

    def part(self, weighed: Weighed) -> Mapping[str, Put | None]:
        return weighed.stale

    def is_wrong(self, member: str, reported: frozenset[str], known: Membership) -> bool:
        return member in reported and known.says(member) is not True

    def tell(self, conclusion: Conclusion, fault: Fault, until: int | None) -> tuple[str, str]:
        key = fault.weighed.key
        out = "; ".join(
            f"{some} was taken out of {named(key)} by {by}" for some, by in by_whom(conclusion, fault.members)
        )
        wrote = told(conclusion, fault.weighed.at)
        explanation = f"{out}. {wrote} wrote the set with it again. {memory(conclusion, fault.weighed)}"
        return explanation, (
            "The rules that use the set still act on an address that may belong to somebody else by now "
            f"(kube-router#1056). {cure(key)}"
        )

    def repair(self, resource: Resource, members: list[str]) -> list[Step]:
        return [
            Step(command(resource, "del", member), f"takes {member} out if it is still there; nothing else is touched")
            for member in members
        ]
