"""The life of a VPC NAT gateway (kube-ovn: pkg/controller/vpc_nat_gateway.go; dossier 3.5, #1847, #1888, #6784).

Its pod does the work; when the pod is replaced, the new one starts with no addresses. `eip` is next: an address that
has to be configured in that pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, Resource, World

REQUESTED = "REQUESTED"  # no pod of it was seen yet
RUNNING = "RUNNING"  # a pod of it is there
DOWN = "DOWN"  # its pod went, and no other came yet
GHOST = "GHOST"  # gone, while EIPs still name it

LIVE = (REQUESTED, RUNNING, DOWN, SIGHTED)


def pod_of_today(world: World, gateway: str) -> Resource | None:
    """The gateway's pod that counts: of those that are there, the one made last."""
    pods = [pod for pod in world.naming(Key("nat-gateway", "", gateway), "pod") if not pod.terminating]
    return max(pods, key=lambda pod: pod.born_at, default=None)


def _eip_uses_it(world: World, change: Change) -> str | None:
    names = sorted(eip.key.name for eip in world.naming(change.key, "eip") if not eip.blurred)
    return f"EIP {', '.join(names[:3])} still use{'s' if len(names) == 1 else ''} it" if names else None


eip_uses_it = Guard("eip_uses_it", "an EIP still names it", _eip_uses_it)

LIFECYCLE = Lifecycle(
    "nat-gateway",
    (
        Row("NatGatewayCreated", (ABSENT, GONE, GHOST), REQUESTED, "a user asks for a gateway"),
        Row(
            "NatGatewaySighted",
            (ABSENT, GONE, GHOST, *LIVE, TERMINATING),
            SIGHTED,
            "first heard of in mid-life",
        ),
        Row(
            "NatGatewaySightedTerminating",
            (ABSENT, GONE, GHOST, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("GatewayPodStarted", LIVE, RUNNING, "a pod of it is made; it starts with no addresses"),
        Row("GatewayPodStarted", (TERMINATING,), SAME, "a pod of it is made while it goes"),
        Row(
            "GatewayPodStopped",
            (RUNNING, SIGHTED, DOWN),
            DOWN,
            "its pod is gone: what was configured in it is too",
        ),
        Row("GatewayPodStopped", (REQUESTED, TERMINATING), SAME, "its pod is gone"),
        Row("NatGatewayGuarded", (*LIVE, TERMINATING), SAME, "the controller puts its finalizer on"),
        Row("NatGatewayUnguarded", (*LIVE, TERMINATING), SAME, "a finalizer comes off"),
        Row("NatGatewaySpecChanged", (*LIVE, TERMINATING), SAME, "a user changes it"),
        Row("NatGatewayLabelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row(
            "NatGatewayStatusReported",
            (*LIVE, TERMINATING),
            SAME,
            "the controller writes what it believes: a claim",
        ),
        Row("NatGatewayDeletionRequested", LIVE, TERMINATING, "a user deletes it"),
        Row(
            "NatGatewayRemoved",
            (*LIVE, TERMINATING),
            GONE,
            "the last finalizer came off, or there was none to hold it",
            (eip_uses_it,),
            GHOST,
        ),
        Row("NatGatewayVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.vpc"):
        yield Key("vpc", "", name)
    if name := fields.get("spec.subnet"):
        yield Key("subnet", "", name)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="NatGatewayCreated",
    sighted="NatGatewaySighted",
    sighted_terminating="NatGatewaySightedTerminating",
    deletion_requested="NatGatewayDeletionRequested",
    ended="NatGatewayRemoved",
    vanished="NatGatewayVanished",
    writes=(
        *guarded_writes("NatGateway"),
        Write("NatGatewaySpecChanged", starts("spec.")),
        Write("NatGatewayStatusReported", starts("status.")),
        Write("NatGatewayLabelled", starts("metadata.")),
    ),
    refers=_refers,
    reference_paths=frozenset({"spec.vpc", "spec.subnet"}),
)


# ---- what runs in a gateway's pod

ADDED, DELETED = "add", "del"
_WORDS = {"eip": "eip", "fip": "floating-ip", "snat": "snat", "dnat": "dnat"}
_VERBS = {f"{word}-{what}": (kind, what) for kind, word in _WORDS.items() for what in (ADDED, DELETED)}


def verb_of(kind: str, what: str = ADDED) -> str:
    """What nat-gateway.sh is asked in order to configure an EIP or a rule of `kind`: `eip-add`, `floating-ip-add`."""
    return f"{_WORDS[kind]}-{what}"


def commands_of(words: Iterable[str]) -> list[str]:
    """What an exec asks `nat-gateway.sh` to do, one canonical text for each rule: `eip-add 192.168.100.11`.

    `words` are the exec's command words; `bash -c` may hold the whole line in one of them.
    """
    line = " ".join(words).split()
    script = next((place for place, word in enumerate(line) if word.endswith("nat-gateway.sh")), None)
    if script is None or script + 1 >= len(line):
        return []
    verb, rules = line[script + 1], line[script + 2 :]
    if not rules:
        return [verb]
    return [f"{verb} {_canonical(verb, rule)}" for rule in rules]


def _canonical(verb: str, rule: str) -> str:
    """One text for one rule, however it was asked for.

    An address's prefix length is left out, because kube-ovn adds an address with it and asks for it without (dossier
    3.5, #4718). What a SNAT lets out is a range, and keeps it; how ports are chosen (`--random-fully`) is said only when
    it is added.
    """
    parts = rule.split(",")
    if verb not in (verb_of("snat"), verb_of("snat", DELETED)):
        return ",".join(part.split("/")[0] for part in parts)
    return ",".join(part.removesuffix("/32") for part in parts if not part.startswith("--"))


def meaning_of(command: str) -> tuple[str, str, str] | None:
    """`("eip", "add", "192.168.100.11")` for a command that configures something; `None` for any other."""
    verb, _, rule = command.partition(" ")
    if verb not in _VERBS or not rule:
        return None
    return (*_VERBS[verb], rule)


def configured_in(pod: Resource, kind: str, rule: str) -> int:
    """When `rule` was last started in `pod`, as a place in the order; 0 if never, or if it was taken off since."""
    programmed = pod.programmed or {}
    added, _ = programmed.get(f"{verb_of(kind)} {rule}", (0, ""))
    deleted, _ = programmed.get(f"{verb_of(kind, DELETED)} {rule}", (0, ""))
    return added if added > deleted else 0


def rule_of(world: World, resource: Resource) -> str:
    """What has to be configured: of an EIP `192.168.100.11`, of a FIP `192.168.100.11,10.40.0.11`; empty if unknown."""
    from domain import dnat, eip, fip, snat

    if resource.key.kind == "eip":
        return eip.address_of(resource.fields)
    carrier = world.get(Key("eip", "", str(resource.get("spec.eip") or "")))
    outside = str(resource.get("status.v4ip") or resource.get(eip.ADDRESS_LABEL) or "")
    if carrier is not None:
        outside = eip.address_of(carrier.fields) or outside
    inside = {"fip": fip, "snat": snat, "dnat": dnat}[resource.key.kind].inside_of(resource.fields)
    return f"{outside},{inside}" if outside and inside else ""


def gateway_of(world: World, resource: Resource) -> str:
    """The gateway that an EIP, or a rule on one, is configured on; empty if unknown."""
    if resource.key.kind == "eip":
        return str(resource.get("spec.natGwDp") or "")
    carrier = world.get(Key("eip", "", str(resource.get("spec.eip") or "")))
    if carrier is not None:
        return str(carrier.get("spec.natGwDp") or "")
    return str(resource.get("status.natGwDp") or "")
