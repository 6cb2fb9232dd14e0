"""Subnet IP usage: how many addresses of a subnet are used and free, and by whom (kube-ovn: calcSubnetStatusIP).

Every IP object of a subnet counts, terminating or not, and every EIP of an external one, and every OvnEip
of one with a VLAN. `eip_readiness` is next.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from domain.eip import address_of
from domain.events import Event
from domain.kinds import VOCABULARY
from domain.resources import Key
from domain.world import Resource, World
from projections.standing import Standing

COUNTS_KEPT = 64
"""How many different counts of one subnet are remembered, each with when it last was right."""

USING = {4: "status.v4usingIPs", 6: "status.v6usingIPs"}
AVAILABLE = {4: "status.v4availableIPs", 6: "status.v6availableIPs"}


def holders(world: World, subnet: Resource) -> dict[int, list[str]]:
    """For IPv4 and IPv6, the resources that hold an address in it, as `kind/name`."""
    found: dict[int, list[str]] = {4: [], 6: []}
    for resource in world.naming(subnet.key, "ip"):
        for version in versions_of(resource):
            found[version].append(str(resource.key))
    for resource in world.naming(subnet.key, "eip"):
        if address_of(resource.fields):
            found[4].append(str(resource.key))
    for resource in world.naming(subnet.key, "oeip") if subnet.get("spec.vlan") else ():
        for version in found:
            if resource.get(f"spec.v{version}Ip"):
                found[version].append(str(resource.key))
    return found


def versions_of(ip: Resource) -> list[int]:
    """Which of IPv4 and IPv6 an IP object holds an address of."""
    both = [str(ip.get("spec.v4IpAddress") or ""), str(ip.get("spec.v6IpAddress") or "")]
    addresses = [address for address in both if address] or str(ip.get("spec.ipAddress") or "").split(",")
    return sorted({6 if ":" in address else 4 for address in addresses if address})


class Usage:
    """How many addresses each subnet holds, kept event by event, and until when each count was right.

    A subnet of 65,000 addresses must not be counted anew for each that comes or goes.
    """

    def __init__(self) -> None:
        self._held: dict[Key, tuple[Key, tuple[int, ...]]] = {}
        self._using: dict[tuple[Key, int], int] = {}
        self._last: dict[tuple[Key, int], dict[int, tuple[int, int]]] = {}

    def apply(self, event: Event, at: int, world: World) -> Key | None:
        """Take an IP's or a subnet's event in; the subnet whose count changed, if one did."""
        if event.key.kind == "subnet":
            if event.key not in world.live:
                for version in (4, 6):
                    self._last.pop((event.key, version), None)
            return None
        ip = world.get(event.key)
        held = self._held.get(event.key)
        if ip is None or (held is not None and event.happened == VOCABULARY["ip"].begun):
            self._held.pop(event.key, None)
            if held is not None:
                self._count(*held, -1, (at, event.time))
                if held[0] not in world.live:  # nobody asks any more what its counts were
                    for version in held[1]:
                        self._last.pop((held[0], version), None)
            if ip is None:
                return held[0] if held is not None else None
            held = None
        if held is None:
            versions = tuple(versions_of(ip))
            subnet = next((key for key in ip.refers if key.kind == "subnet"), None)
            if subnet is None or not versions:
                return None
            self._held[event.key] = (subnet, versions)
            self._count(subnet, versions, 1, (at, event.time))
            return subnet
        return None

    def using(self, subnet: Key, version: int) -> int:
        """How many IP objects of that version are in it now."""
        return self._using.get((subnet, version), 0)

    def last_was(self, subnet: Key, version: int, count: int) -> tuple[int, int]:
        """The place in the order and the time until which `count` was right; zeros if it never was, as far as is kept."""
        return self._last.get((subnet, version), {}).get(count, (0, 0))

    def _count(self, subnet: Key, versions: tuple[int, ...], by: int, at: tuple[int, int]) -> None:
        for version in versions:
            slot = (subnet, version)
            before = self._using.get(slot, 0)
            if before + by:
                self._using[slot] = before + by
            else:
                self._using.pop(slot, None)
            last = self._last.setdefault(slot, {})
            last.pop(before, None)
            last[before] = at
            if len(last) > COUNTS_KEPT:
                del last[next(iter(last))]


def standing(world: World, subnet: Resource) -> Standing:
    """What the counts of `subnet` should be. Unknown where addresses from before the log may be in it."""
    held = holders(world, subnet)
    complete = subnet.seen_from_birth and not subnet.blurred
    lawful: dict[str, Any] = {}
    for version in (4, 6):
        lawful[USING[version]] = len(held[version]) if complete else None
        room = _room(subnet, version)
        lawful[AVAILABLE[version]] = room - len(held[version]) if complete and room is not None else None
    fields = (*USING.values(), *AVAILABLE.values())
    return Standing(
        lawful=lawful,
        reported={field: subnet.get(field) for field in fields if field in subnet.fields},
        because={USING[4]: "the IP objects that name it, and the EIPs and OvnEips in it"},
        detail={"held_by": held[4] + [name for name in held[6] if name not in held[4]]},
    )


def _room(subnet: Resource, version: int) -> int | None:
    """How many addresses of the range are to be given out at all; `None` where the range cannot be read."""
    room = 0
    try:
        for block in str(subnet.get("spec.cidrBlock") or "").split(","):
            network = ipaddress.ip_network(block.strip(), strict=False)
            if network.version != version:
                continue
            room += max(network.num_addresses - 2, 1)
            room -= sum(_span(text) for text in subnet.get("spec.excludeIps") or () if _is_of(text, network))
    except ValueError:
        return None
    return room


def _is_of(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(text.split("..")[0]) in network


def _span(text: str) -> int:
    """`a..b` is a range in kube-ovn's excludeIps, anything else one address."""
    first, _, last = text.partition("..")
    if not last:
        return 1
    return int(ipaddress.ip_address(last)) - int(ipaddress.ip_address(first)) + 1
