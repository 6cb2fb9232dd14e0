"""EIP and FIP readiness: configured in the gateway's pod of today, or not, and why (#5114).

`status.ready` is never asked: only what was started in the pod counts, and that it is this pod. Exec answers 101, which
means started, not succeeded. `namespace_binding` is next.
"""

from __future__ import annotations

from typing import Any

from domain import nat_gateway
from domain.world import Resource, World
from projections.standing import Standing

KINDS = ("eip", "fip")
READY = "status.ready"
NAT = "status.nat"


def readiness(world: World, resource: Resource) -> tuple[bool | None, str]:
    """Whether an EIP or a FIP is configured in the pod of today, and the sentence that says why. `None` is unknown."""
    gateway = nat_gateway.gateway_of(world, resource)
    rule = nat_gateway.rule_of(world, resource)
    if not gateway:
        return None, "its gateway is not known from this log"
    pod = nat_gateway.pod_of_today(world, gateway)
    if pod is None:
        return None, f"no pod of gateway {gateway} is known"
    if not rule:
        return (False if resource.seen_from_birth else None), "it has no address yet"
    verb = "eip-add" if resource.key.kind == "eip" else "floating-ip-add"
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


def rules_on(world: World, eip: Resource) -> list[str]:
    """The kinds of rule that hang on an EIP, as `status.nat` lists them. SNAT and DNAT are not read yet."""
    return ["fip"] if any(not fip.terminating for fip in world.naming(eip.key, "fip")) else []


def standing(world: World, resource: Resource) -> Standing:
    """What `ready` (and an EIP's `nat`) should be."""
    ready, why = readiness(world, resource)
    lawful: dict[str, Any] = {READY: ready}
    reported = {READY: resource.get(READY)} if READY in resource.fields else {}
    if resource.key.kind == "eip":
        known = {"", "fip"}
        if str(resource.get(NAT) or "") in known:
            lawful[NAT] = ",".join(rules_on(world, resource))
        if NAT in resource.fields:
            reported[NAT] = resource.get(NAT)
    pod = nat_gateway.pod_of_today(world, nat_gateway.gateway_of(world, resource))
    return Standing(
        lawful=lawful,
        reported=reported,
        because={READY: why},
        detail={"gateway_pod": pod.key.path if pod else None, "gateway_pod_uid": pod.uid if pod else None},
    )
