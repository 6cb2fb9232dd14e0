"""The vocabularies and tables of all kinds, by kind: where `decide` and `world` look up what a name means."""

from __future__ import annotations

from domain import (
    dnat,
    eip,
    endpoints,
    fip,
    ip,
    ipset,
    namespace,
    nat_gateway,
    nat_rule,
    network_policy,
    node,
    ovn_eip,
    ovn_rule,
    pod,
    service,
    snat,
    subnet,
    vpc,
)
from domain.events import Vocabulary
from domain.lifecycle import Lifecycle

VOCABULARY: dict[str, Vocabulary] = {
    "vpc": vpc.VOCABULARY,
    "subnet": subnet.VOCABULARY,
    "pod": pod.VOCABULARY,
    "ip": ip.VOCABULARY,
    "eip": eip.VOCABULARY,
    "fip": fip.VOCABULARY,
    "snat": snat.VOCABULARY,
    "dnat": dnat.VOCABULARY,
    "oeip": ovn_eip.VOCABULARY,
    **ovn_rule.VOCABULARIES,
    "nat-gateway": nat_gateway.VOCABULARY,
    "namespace": namespace.VOCABULARY,
    "service": service.VOCABULARY,
    **endpoints.VOCABULARIES,
    "networkpolicy": network_policy.VOCABULARY,
    "node": node.VOCABULARY,
    "ipset": ipset.VOCABULARY,
}

LIFECYCLES: dict[str, Lifecycle] = {kind: vocabulary.lifecycle for kind, vocabulary in VOCABULARY.items()}

HOLDERS: dict[str, tuple[str, ...]] = {
    "vpc": ("subnet",),
    "subnet": subnet.HOLDERS,
    "ip": (),
    "nat-gateway": ("eip",),
    "eip": nat_rule.RULES,
    **dict.fromkeys(nat_rule.RULES, ()),
    "oeip": ovn_rule.RULES,
    **dict.fromkeys(ovn_rule.RULES, ()),
}
"""Of each kind with a finalizer, the kinds that the guard on its removal counts."""
