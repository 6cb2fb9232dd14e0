"""The life of an IptablesDnatRule: one port of an EIP for one inside port (kube-ovn: vpc_nat_gw_nat.go; dossier 3.6, #6412).

Many share an EIP, each with a port and protocol of its own; only those that are all of type `share` may share these
too. A FIP on the EIP takes all of its traffic. `ovn_eip` is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from domain.lifecycle import Guard
from domain.nat_rule import nat_rule, others_on_its_eip

if TYPE_CHECKING:
    from domain.world import Change, World

SHARE = "share"
_MAPS = ("externalPort", "protocol", "internalIp", "internalPort")


def inside_of(fields: Mapping[str, Any]) -> str:
    """What follows the EIP's address in its rule: `8080,tcp,10.40.0.11,80`; empty if any of it is unknown.

    Empty for type `share` too: those are programmed together, and not by dnat-add.
    """
    parts = [str(fields.get(f"spec.{name}") or "") for name in _MAPS]
    return ",".join(parts) if all(parts) and fields.get("spec.type") != SHARE else ""


def _outside_port_of(fields: Mapping[str, Any]) -> tuple[str, str]:
    return str(fields.get("spec.externalPort") or ""), str(fields.get("spec.protocol") or "").lower()


def _other_dnat_uses_the_port(world: World, change: Change) -> str | None:
    port, protocol = _outside_port_of(change.fields)
    if not port or not protocol:
        return None
    for other in others_on_its_eip(world, change, "dnat"):
        shared = change.fields.get("spec.type") == SHARE == other.get("spec.type")
        if _outside_port_of(other.fields) == (port, protocol) and not shared:
            return f"port {port}/{protocol} of EIP {change.fields['spec.eip']} is already used by DNAT {other.key.name}"
    return None


def _fip_uses_the_eip(world: World, change: Change) -> str | None:
    other = next(others_on_its_eip(world, change, "fip"), None)
    return (
        f"EIP {change.fields['spec.eip']} is already used by FIP {other.key.name}, which shadows it" if other else None
    )


other_dnat_uses_the_port = Guard(
    "other_dnat_uses_the_port",
    "another DNAT uses that port and protocol of its EIP (kube-ovn refuses to program it)",
    _other_dnat_uses_the_port,
)
fip_uses_the_eip = Guard("fip_uses_the_eip", "a FIP uses its EIP, and shadows it (#6412)", _fip_uses_the_eip)

VOCABULARY = nat_rule(
    "DNAT",
    verb="dnat",
    asked="a user maps a port of an EIP to an inside port",
    moved="it maps another port or address now",
    held_first_since="#5806",
    maps=tuple(f"spec.{name}" for name in _MAPS),
    unless=(other_dnat_uses_the_port, fip_uses_the_eip),
)
