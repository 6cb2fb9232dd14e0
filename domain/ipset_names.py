"""The names of ipsets: whose a set is, of which family and type, and how a policy's sets are called (dossier 4.1 to 4.4).

A dump says no more of a set than its name, so the name is where its owner is read from. A policy's name is hashed: a
set's name can be derived from the policy, and not the policy from the set. `projections/ipset_contents` says what the
sets should hold.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from base64 import b32encode
from functools import cache
from itertools import product

PROXY, NETPOL, ROUTING, KUBE_OVN = "proxy", "netpol", "routing", "kube-ovn"
IPV4, IPV6 = "IPv4", "IPv6"
FAMILIES = (IPV4, IPV6)

HASH_IP, HASH_NET, HASH_IP_PORT = "hash:ip", "hash:net", "hash:ip,port"

VIPS, VIP_PORTS = "kube-router-svip", "kube-router-svip-prt"
VIPS_BEFORE_2, VIP_PORTS_BEFORE_2 = "kube-router-service-ips", "kube-router-ipvs-services"
LOCAL_IPS = "kube-router-local-ips"
NODE_IPS, POD_SUBNETS = "kube-router-node-ips", "kube-router-pod-subnets"
LOCAL_PODS = "kube-router-local-pods"

_KUBE_ROUTER = {
    VIPS: (PROXY, HASH_IP),
    VIP_PORTS: (PROXY, HASH_IP_PORT),
    VIPS_BEFORE_2: (PROXY, HASH_IP),
    VIP_PORTS_BEFORE_2: (PROXY, HASH_IP_PORT),
    LOCAL_IPS: (PROXY, HASH_IP),
    NODE_IPS: (ROUTING, HASH_IP),
    POD_SUBNETS: (ROUTING, HASH_NET),
    LOCAL_PODS: (NETPOL, HASH_IP),
}
_PREFIX_6 = "inet6:"
_OF_A_POLICY = re.compile(r"KUBE-(DST|SRC)-[A-Z2-7]{16}")
_OF_KUBE_OVN = re.compile(r"ovn[46](0[a-z].*|t[0-9]+)")
_TEMPORARY = re.compile(r"TMP-[A-Z2-7]{16}")
_MAXIMUM = 31  # the kernel's, and so where Kube-OVN's library cuts

DESTINATION, SOURCE = "KUBE-DST-", "KUBE-SRC-"


def owner_of(name: str) -> str:
    """Who alone may write a set: `proxy`, `netpol`, `routing` (kube-router's controllers), `kube-ovn`; empty if unknown.

    A temporary set of kube-router's (`TMP-…`) is of whoever restores just then, and named for options, not for owners.
    """
    bare = name.removeprefix(_PREFIX_6)
    if (known := _KUBE_ROUTER.get(bare)) is not None:
        return known[0]
    if _OF_A_POLICY.fullmatch(bare):
        return NETPOL
    return KUBE_OVN if _OF_KUBE_OVN.fullmatch(name) else ""


def family_of(name: str) -> str:
    """`IPv4` or `IPv6`; empty where the name does not say: of foreign sets, and of temporary ones without a known option.

    kube-router puts `inet6:` in front of the whole name (pkg/utils/ipset.go, IPSetName), Kube-OVN a 4 or a 6 inside.
    """
    if is_temporary(name) and not name.startswith("ovn"):
        return IPV6 if "inet6" in (words := options_of(name).split()) else IPV4 if words else ""
    owner = owner_of(name)
    if owner == KUBE_OVN:
        return IPV6 if name[3] == "6" else IPV4
    if not owner:
        return ""
    return IPV6 if name.startswith(_PREFIX_6) else IPV4


def set_type_of(name: str) -> str:
    """`hash:ip`, `hash:net` or `hash:ip,port`; empty where the name does not say, as of a policy's peers."""
    bare = name.removeprefix(_PREFIX_6)
    if (known := _KUBE_ROUTER.get(bare)) is not None:
        return known[1]
    if is_temporary(name):
        return options_of(name).partition(" ")[0]
    if owner_of(name) == KUBE_OVN:
        return HASH_IP if name[5:] == "local-pod-ip-nat" else HASH_NET
    return ""


def named(name: str, family: str) -> str:
    """kube-router's name of a set for one family."""
    return _PREFIX_6 + name if family == IPV6 else name


def kube_ovn_name(identity: str, family: str) -> str:
    """Kube-OVN's name of a set: `ovn40subnets-nat` (kubeovn/felix: ipsets, NameForMainIPSet)."""
    return f"ovn{'6' if family == IPV6 else '4'}0{identity}"[:_MAXIMUM]


# ---- policies


def _hashed(prefix: str, text: str, family: str) -> str:
    digest = b32encode(hashlib.sha256(text.encode()).digest()).decode()
    return named(prefix + digest[:16], family)


def target_set(prefix: str, namespace: str, policy: str, family: str, *, before_2: bool = False) -> str:
    """The set of the pods that a policy is about: `DESTINATION` of its ingress, `SOURCE` of its egress.

    Before 2.0 the family was not in the text (kube-router: policyDestinationPodIPSetName, policySourcePodIPSetName).
    """
    return _hashed(prefix, namespace + policy + ("" if before_2 else family), family)


def peer_set(
    direction: str, namespace: str, policy: str, rule: int, what: str, family: str, *, before_2: bool = False
) -> str:
    """The set of a rule's peers: `direction` is `ingress` or `egress`, `what` is `pod` or `ipblock`, rules count from 0.

    (kube-router: policyIndexedSourcePodIPSetName and its like.)
    """
    text = _rule(direction, namespace, policy, rule, "" if before_2 else family, what)
    return _hashed(SOURCE if direction == "ingress" else DESTINATION, text, family)


def named_port_set(
    direction: str, namespace: str, policy: str, rule: int, port: int, family: str, *, before_2: bool = False
) -> str:
    """The set of the pods behind a rule's named port; `port` counts, from 0, the ports that some pod resolves."""
    said = "" if before_2 else family
    return _hashed(DESTINATION, _rule(direction, namespace, policy, rule, f"{port}{said}", "namedport"), family)


def _rule(direction: str, namespace: str, policy: str, rule: int, said: str, what: str) -> str:
    return f"{namespace}{policy}{direction}rule{rule}{said}{what}"


# ---- temporary sets


def is_temporary(name: str) -> bool:
    """Whether a set is there only while a restore runs: one that stays shows a restore that stopped half way."""
    return bool(_TEMPORARY.fullmatch(name.removeprefix(_PREFIX_6)) or re.fullmatch(r"ovn[46]t[0-9]+", name))


def temporary_name(options: str) -> str:
    """kube-router's temporary set for one string of type and options, such as `hash:ip timeout 0` (since 1.2, #1068)."""
    return "TMP-" + b32encode(hashlib.sha1(f"tmp:{options}".encode()).digest()[:10]).decode()


def options_of(temporary: str) -> str:
    """The type and options that a temporary name of kube-router's stands for; empty if they are none it ever uses."""
    return _options_by_name().get(temporary, "")


@cache
def _options_by_name() -> dict[str, str]:
    """What kube-router makes afresh, and what it reads back from the kernel, whose hash may have grown meanwhile."""
    fresh = [f"{kind} timeout 0{family}" for kind in _TYPES for family in ("", " family inet6")]
    read = [
        f"{kind} family {family} hashsize {2**size} maxelem {maximum} timeout 0{bucket}"
        for kind, family, size, maximum, bucket in product(
            _TYPES, ("inet", "inet6"), range(6, 21), (65_536, 1_048_576), ("", " bucketsize 12")
        )
    ]
    return {temporary_name(options): options for options in (*fresh, *read)}


_TYPES = (HASH_IP, HASH_NET, HASH_IP_PORT)


# ---- members


def family_of_address(text: str) -> str:
    """`IPv4` or `IPv6` of an address or a range; empty for what is neither."""
    try:
        return IPV6 if ipaddress.ip_network(text, strict=False).version == 6 else IPV4
    except ValueError:
        return ""


def as_printed(text: str) -> str:
    """An address or a range as `ipset` prints it: in short form, host bits off, without the prefix of a single address.

    Raises `ValueError` for what is neither.
    """
    network = ipaddress.ip_network(text, strict=False)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
