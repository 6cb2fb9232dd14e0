"""The life of an IptablesSnatRule: an inside range leaves by an EIP (kube-ovn: vpc_nat_gw_nat.go; dossier 3.6, #5167, #5799).

Any number of them share an EIP, beside whatever else is on it. `dnat` is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.nat_rule import nat_rule


def inside_of(fields: Mapping[str, Any]) -> str:
    """The inside range, as the gateway is asked for it; empty if unknown. Of two families only IPv4 is programmed."""
    ranges = [text.strip() for text in str(fields.get("spec.internalCIDR") or "").split(",")]
    return next((text.removesuffix("/32") for text in ranges if text and ":" not in text), "")


VOCABULARY = nat_rule(
    "SNAT",
    verb="snat",
    asked="a user lets an inside range out by an EIP",
    moved="it lets another range out, or by another EIP",
    held_first_since="#5806",
    maps=("spec.internalCIDR",),
)
