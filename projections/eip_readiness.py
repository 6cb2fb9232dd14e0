"""Readiness of EIPs and of the rules on them: configured in the gateway's pod of today, or not, and why (#5114).

`status.ready` is never asked: only what was started in the pod counts, and that it is this pod. Exec answers 101, which
means started, not succeeded. What OVN itself does for the OVN kinds no audit log shows: theirs is unknown, unless the
controller's log tells how its runs on them ended.
`namespace_binding` is next.
"""

from __future__ import annotations

from typing import Any

from domain import dnat, nat_gateway, ovn_rule
from domain.events import RUN_FAILED
from domain.kinds import HOLDERS
from domain.nat_rule import RULES
from domain.world import Resource, World
from projections.standing import Standing

KINDS = ("eip", *RULES)
OVN = ("oeip", *ovn_rule.RULES)
READY = "status.ready"
NAT = "status.nat"


def readiness(world: World, resource: Resource) -> tuple[bool | None, str]:
    """Whether an EIP or a rule is configured in the pod of today, and the sentence that says why. `None` is unknown."""
    if resource.key.kind in OVN:
        return _in_ovn(resource)
    gateway = nat_gateway.gateway_of(world, resource)
    rule = nat_gateway.rule_of(world, resource)
    if not gateway:
        return None, "its gateway is not known from this log"
    pod = nat_gateway.pod_of_today(world, gateway)
    if pod is None:
        return None, f"no pod of gateway {gateway} is known"
    if resource.get("spec.type") == dnat.SHARE:
        return None, "it is programmed together with those that share its port, not by dnat-add"
    if not rule:
        return (False if resource.seen_from_birth else None), "it has no address yet"
    verb = nat_gateway.verb_of(resource.key.kind)
    if nat_gateway.configured_in(pod, resource.key.kind, rule):
        return True, f"{verb} {rule} was started in {pod.key.path}, the gateway's pod of today"
    if not pod.seen_from_birth:
        return None, f"the gateway's pod {pod.key.path} is older than the log"
    if pod.programmed is None:
        return None, f"no exec at all is recorded for {pod.key.path}"
    return (
        False,
        f"there is no evidence that {verb} {rule} was started in {pod.key.path}, the gateway's pod of today",
    )


def _in_ovn(resource: Resource) -> tuple[bool | None, str]:
    """Whether OVN has it, by the controller's own log: a run that ended in an error, or one that ended by saying ready."""
    if resource.run is None:
        return None, "it is programmed in OVN itself, which no audit log shows; the controller's log does"
    word, at = resource.run
    if word == RUN_FAILED:
        return False, "the controller's last run on it ended in an error"
    if resource.get(READY) is True and resource.last_at > at:
        return True, "the controller worked on it, logged no error, and reported it ready after that"
    return None, "the controller worked on it, and its log does not say how that ended"


def rules_on(world: World, eip: Resource) -> list[str]:
    """The kinds of rule that hang on an EIP or OvnEip, as `status.nat` lists them: those in deletion do not count."""
    return [
        kind.removeprefix("o")
        for kind in HOLDERS[eip.key.kind]
        if any(not rule.terminating for rule in world.naming(eip.key, kind))
    ]


def _nat(world: World, eip: Resource) -> str | None:
    """What `status.nat` should be; `None` if it lists a kind of rule that is not there and of which nothing was heard."""
    there = rules_on(world, eip)
    absent = [kind for kind in str(eip.get(NAT) or "").split(",") if kind and kind not in there]
    return ",".join(there) if all(_went(world, eip, kind) for kind in absent) else None


def _went(world: World, eip: Resource, listed: str) -> bool:
    """Whether the log can tell that no rule `listed` so is on an EIP: it saw one go, and is as old as the EIP."""
    kind = next((kind for kind in HOLDERS[eip.key.kind] if kind.removeprefix("o") == listed), None)
    if kind is None:
        return False
    going = any(rule.terminating for rule in world.naming(eip.key, kind))
    return going or (eip.seen_from_birth and bool(world.departed[kind]))


def standing(world: World, resource: Resource) -> Standing:
    """What `ready` (and an EIP's `nat`) should be."""
    ready, why = readiness(world, resource)
    lawful: dict[str, Any] = {READY: ready}
    reported = {READY: resource.get(READY)} if READY in resource.fields else {}
    if resource.key.kind in ("eip", "oeip"):
        lawful[NAT] = _nat(world, resource)
        if NAT in resource.fields:
            reported[NAT] = resource.get(NAT)
    if resource.key.kind in OVN:
        return Standing(lawful=lawful, reported=reported, because={READY: why})
    pod = nat_gateway.pod_of_today(world, nat_gateway.gateway_of(world, resource))
    return Standing(
        lawful=lawful,
        reported=reported,
        because={READY: why},
        detail={"gateway_pod": pod.key.path if pod else None, "gateway_pod_uid": pod.uid if pod else None},
    )
