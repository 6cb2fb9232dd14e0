"""The life of an IptablesFIPRule: one EIP for one inside address (kube-ovn: vpc_nat_gw_nat.go; dossier 3.6, #5115, #6412).

It takes its EIP whole: another FIP on it is not programmed, and a DNAT on it gets no traffic. `snat` is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from domain.lifecycle import Guard
from domain.nat_rule import nat_rule, others_on_its_eip

if TYPE_CHECKING:
    from domain.world import Change, World


def inside_of(fields: Mapping[str, Any]) -> str:
    """The inside address that the rule maps to; empty if unknown."""
    return str(fields.get("spec.internalIp") or "")


def _other_fip_uses_the_eip(world: World, change: Change) -> str | None:
    other = next(others_on_its_eip(world, change, "fip"), None)
    return f"EIP {change.fields['spec.eip']} is already used by FIP {other.key.name}" if other else None


def _dnat_uses_the_eip(world: World, change: Change) -> str | None:
    other = next(others_on_its_eip(world, change, "dnat"), None)
    if other is None:
        return None
    return f"EIP {change.fields['spec.eip']} is already used by DNAT {other.key.name}, which the FIP would shadow"


other_fip_uses_the_eip = Guard(
    "other_fip_uses_the_eip",
    "another FIP uses its EIP (kube-ovn refuses to program it)",
    _other_fip_uses_the_eip,
)
dnat_uses_the_eip = Guard(
    "dnat_uses_the_eip",
    "a DNAT uses its EIP, and the FIP would shadow it (#6412)",
    _dnat_uses_the_eip,
)

VOCABULARY = nat_rule(
    "FIP",
    verb="floating-ip",
    asked="a user maps an EIP to an inside address",
    moved="it maps another address now",
    held_first_since="#5142",
    maps=("spec.internalIp",),
    unless=(other_fip_uses_the_eip, dnat_uses_the_eip),
)
