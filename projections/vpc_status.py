"""VPC status: the subnets that are in a Vpc, its default switch and its peers (kube-ovn: getVpcSubnets in vpc.go).

`status.subnets` lists the live subnets whose provider is OVN; a terminating one is no longer listed, and yet the guard
on the Vpc's removal counts it: both are shown. `ip_usage` is next.
"""

from __future__ import annotations

from domain.resources import Key
from domain.subnet import serves_its_vpc
from domain.world import Resource, World
from projections.standing import Standing

SUBNETS = "status.subnets"
PEERS = "status.vpcPeerings"
SWITCH = "status.defaultLogicalSwitch"


def lists(subnet: Resource) -> bool:
    """Whether the status of its Vpc has to list this subnet."""
    return not subnet.terminating and not subnet.blurred and serves_its_vpc(subnet.fields)


def peers_of(vpc: Resource) -> list[str]:
    """The Vpcs that a Vpc's spec peers it with."""
    peerings = vpc.get("spec.vpcPeerings")
    if not isinstance(peerings, list):
        return []
    return [str(peering.get("remoteVpc")) for peering in peerings if isinstance(peering, dict)]


def is_default_switch(world: World, vpc: Resource, name: str) -> bool:
    """Whether `name` is the Vpc's default subnet: its spec names it, or the subnet itself says that it is default."""
    if vpc.get("spec.defaultSubnet") == name:
        return True
    subnet = world.get(Key("subnet", "", name))
    return subnet is not None and subnet.get("spec.vpc") == vpc.key.name and subnet.get("spec.default") is True


def standing(world: World, vpc: Resource) -> Standing:
    """What the status of `vpc` should say. Unknown where the Vpc's life before the log may hold more subnets."""
    named = list(world.naming(vpc.key, "subnet"))
    live = sorted(subnet.key.name for subnet in named if lists(subnet))
    counted = sorted(subnet.key.name for subnet in named if serves_its_vpc(subnet.fields))
    default = next((name for name in live if is_default_switch(world, vpc, name)), "")
    reported = {field: vpc.get(field) for field in (SUBNETS, PEERS, SWITCH) if field in vpc.fields}
    reported.setdefault(SUBNETS, [])
    complete = vpc.seen_from_birth and not vpc.blurred
    if not complete:
        # Subnets from before the log may be listed: what is listed beyond the known ones is not known to be wrong.
        unknown = [
            name
            for name in reported[SUBNETS] or ()
            if name not in live
            and world.get(Key("subnet", "", name)) is None
            and not world.gone(Key("subnet", "", name))
        ]
        complete = not unknown
    return Standing(
        lawful={
            SUBNETS: live if complete else None,
            PEERS: peers_of(vpc),
            SWITCH: default if complete else None,
        },
        reported=reported,
        because={SUBNETS: "the live subnets whose spec.vpc names it, without those in deletion"},
        detail={"held_by": counted, "default_switch": default},
    )
