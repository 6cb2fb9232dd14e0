"""The vocabularies and tables of all kinds, by kind: where `decide` and `world` look up what a name means."""

from __future__ import annotations

from domain import dnat, eip, fip, ip, namespace, nat_gateway, pod, snat, subnet, vpc
from domain.events import Vocabulary
from domain.lifecycle import Lifecycle
from domain.nat_rule import RULES

VOCABULARY: dict[str, Vocabulary] = {
    "vpc": vpc.VOCABULARY,
    "subnet": subnet.VOCABULARY,
    "pod": pod.VOCABULARY,
    "ip": ip.VOCABULARY,
    "eip": eip.VOCABULARY,
    "fip": fip.VOCABULARY,
    "snat": snat.VOCABULARY,
    "dnat": dnat.VOCABULARY,
    "nat-gateway": nat_gateway.VOCABULARY,
    "namespace": namespace.VOCABULARY,
}

LIFECYCLES: dict[str, Lifecycle] = {kind: vocabulary.lifecycle for kind, vocabulary in VOCABULARY.items()}

HOLDERS: dict[str, tuple[str, ...]] = {
    "vpc": ("subnet",),
    "subnet": ("ip", "eip"),
    "ip": (),
    "nat-gateway": ("eip",),
    "eip": RULES,
    **dict.fromkeys(RULES, ()),
}
"""Of each kind with a finalizer, the kinds that the guard on its removal counts."""
