"""The life of a set of addresses in a node's kernel, and who it belongs to (kube-router: utils/ipset.go; dossier 4).

A set has no API object, no uid and no revision: what is known of it comes from dumps, from the texts that controllers
gave to `ipset restore`, and from what they say they had loaded. Its namespace is the node that it lies on, empty where
no source says which. `ipset_writes` is next: it tells which event each of these is.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from domain.events import Vocabulary, Write, one_of
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, Lifecycle, Row
from domain.resources import Key

PRESENT = "PRESENT"
STRANDED = "STRANDED"  # a restore's temporary set that was left behind

TYPE, OPTIONS, MEMBERS = "type", "options", "members"
"""The fields of a set: `hash:ip`; its options in one spelling (`canonical_options`); its members, sorted."""

ASKED = "asked"
"""The field that says what single commands last asked for, as `+10.0.0.1` and `-10.0.0.2`: an owner may take out what is
not there any more, and that is how it is known that it wants it out."""

PROXY, POLICY, ROUTING, KUBE_OVN = "proxy", "netpol", "routing", "kube-ovn"
"""The parties that own sets by their names: kube-router's three controllers, and Kube-OVN's daemon."""

RESTORE, DUMP, LOAD = "ipset restore", "ipset save", "load"
"""What is done with sets, as an operation's verb: written, shown to whoever looks, and loaded into a writer's memory."""

# What the summary of each is, as the outcome of an `AttemptObserved` on the node's nameless set.
RESTORED, LISTED, SHOWN, LOADED = "restored", "listed", "shown", "loaded"

SEQUENCE = "seq"
"""Of a summary: the number that the timeline gave its record. A jump in it says that records are missing."""


class Effect(NamedTuple):
    """What a restore comes to for one set, or what a dump shows of it.

    `members` is its whole content, `None` where only what was `added` and `removed` is known. `type` and `options` are
    empty where the text does not say. `made` says that the text creates it where it was not there; `gone` that it
    destroys it.
    """

    type: str = ""
    options: str = ""
    members: tuple[str, ...] | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    made: bool = False
    gone: bool = False


# ---- whose it is


_OWNERS = {
    "kube-router-pod-subnets": ROUTING,
    "kube-router-node-ips": ROUTING,
    "kube-router-local-ips": PROXY,
    "kube-router-svip": PROXY,
    "kube-router-svip-prt": PROXY,
    "kube-router-service-ips": PROXY,  # before 2.0
    "kube-router-ipvs-services": PROXY,  # before 2.0
    "kube-router-local-pods": POLICY,
}
_POLICY_SET = re.compile(r"KUBE-(?:DST|SRC)-[A-Z2-7]{16}")
_OVN_SET = re.compile(
    r"ovn[46]0(?:services|subnets|subnets-nat|subnets-distributed-gw|local-pod-ip-nat|other-node|subnets-nat-policy"
    r"|natpr-.+)"
)
_TEMPORARY = re.compile(r"(?:inet6:)?TMP-[A-Z2-7]{16}|ovn[46]0t[0-9]+")

# The words in a writer's name that say which party it is. The project's own name comes off first: `kube-router` routes
# nothing by being called so, and every service account is one of a service.
_NOT_A_ROLE = re.compile(r"kube-router|serviceaccount")
_ROLES = (
    (PROXY, re.compile(r"ipvs|proxy|service|svip")),
    (POLICY, re.compile(r"netpol|policy|policies|npc")),
    (ROUTING, re.compile(r"rout|nrc")),
    (KUBE_OVN, re.compile(r"ovn")),
)


def owner(name: str) -> str:
    """The party that a set belongs to by its name; empty for other programs' sets.

    From kube-router's pkg/utils/ipset.go and controllers, and kube-ovn's pkg/daemon/gateway_linux.go. An IPv6 set of
    kube-router's carries `inet6:` before the whole name.
    """
    plain = name.removeprefix("inet6:")
    if plain in _OWNERS:
        return _OWNERS[plain]
    if _POLICY_SET.fullmatch(plain):
        return POLICY
    return KUBE_OVN if _OVN_SET.fullmatch(name) else ""


def role(actor: str) -> str:
    """The party that a writer is by its name; empty where the name does not say, or says two."""
    name = _NOT_A_ROLE.sub("", actor.lower())
    said = [party for party, word in _ROLES if word.search(name)]
    return said[0] if len(said) == 1 else ""


def is_temporary(name: str) -> bool:
    """Whether a set is one that a restore fills and swaps: kube-router's `TMP-…`, Kube-OVN's `ovn40t0`."""
    return _TEMPORARY.fullmatch(name) is not None


# ---- type and options


_UNCOMPARED = frozenset({"hashsize", "bucketsize", "initval"})
"""Options that the kernel sets by itself: they differ between sets that are made alike (kube-router#1337)."""
_FLAGS = frozenset({"counters", "comment", "skbinfo", "forceadd", "nomatch"})
_FIRST = ("family", "range", "netmask", "size", "maxelem", "timeout")


def canonical_options(type: str, words: Iterable[str]) -> str:
    """The options of a set in one spelling: what the kernel fills in is filled in, what it chooses is left out."""
    options: dict[str, str] = {}
    if type.startswith("hash:"):
        options = {"maxelem": "65536"} if type == "hash:mac" else {"family": "inet", "maxelem": "65536"}
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            options[word] = ""
        else:
            options[word] = next(rest, "")
    names = [name for name in _FIRST if name in options]
    names += sorted(name for name in options if name not in _FIRST and name not in _UNCOMPARED)
    return " ".join(f"{name} {options[name]}".rstrip() for name in names)


def temporary_name(type_and_options: str) -> str:
    """The name of kube-router's temporary set for an option string such as `hash:ip timeout 0`.

    kube-router: pkg/utils/ipset.go, buildIPSetRestore: base32 of the first 10 bytes of sha1("tmp:" + options).
    """
    return _temporary_name(f"tmp:{type_and_options}")


def own_temporary_name(name: str) -> str:
    """A temporary set for a restore of ours: one that no controller uses, else two at once would swap each other's."""
    return _temporary_name(f"netledger:{name}")


def _temporary_name(text: str) -> str:
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return f"TMP-{base64.b32encode(digest[:10]).decode()}"


def _known_temporaries() -> dict[str, tuple[str, str]]:
    found = {}
    sizes = [1 << power for power in range(10, 17)]
    for type in ("hash:ip", "hash:net", "hash:ip,port", "hash:net,port"):
        for family, tail in (("inet", ""), ("inet6", " family inet6")):
            written = [f"timeout 0{tail}"]
            written += [
                f"family {family} hashsize {size} maxelem 65536 timeout 0{more}"
                for size in sizes
                for more in ("", " bucketsize 12")
            ]
            for options in written:
                found[temporary_name(f"{type} {options}")] = (type, canonical_options(type, options.split()))
    return found


_TEMPORARIES: dict[str, tuple[str, str]] = {}


def meaning_of_temporary(name: str) -> tuple[str, str]:
    """Type and options that a `TMP-` name stands for, without the line that made it; empty where it is none we know."""
    if not _TEMPORARIES:
        _TEMPORARIES.update(_known_temporaries())
    return _TEMPORARIES.get(name.removeprefix("inet6:"), ("", ""))


# ---- the life


_LIVE = (PRESENT, SIGHTED)

LIFECYCLE = Lifecycle(
    "ipset",
    (
        Row("IPSetCreated", (ABSENT, GONE), PRESENT, "a writer makes a set that the node is known not to have had"),
        Row(
            "IPSetSighted",
            (ABSENT, GONE, *_LIVE, STRANDED),
            SIGHTED,
            "first heard of in mid-life, or seen whole again after a write whose effect is unknown",
        ),
        Row("IPSetRestored", _LIVE, PRESENT, "a writer wrote its whole content: filled a temporary set and swapped"),
        Row("IPSetMembersChanged", _LIVE, SAME, "a writer put single members in or took them out"),
        Row("IPSetRead", _LIVE, SAME, "a writer loaded it into its memory, or no longer has it there"),
        Row(
            "IPSetStranded",
            (ABSENT, GONE),
            STRANDED,
            "a restore's temporary set is there: the restore runs, or stopped half way",
        ),
        Row("IPSetDestroyed", (*_LIVE, STRANDED), GONE, "a writer destroyed it"),
        Row("IPSetVanished", (*_LIVE, STRANDED), GONE, "a list of all sets is without it: it went unseen"),
    ),
    note="A set on one node, named NODE/NAME. Its members are facts of the kernel; what they should be follows from "
    "what each owner wrote (`ipset_membership`), not from the table.",
)


def node_of(key: Key) -> Key:
    """The node that a set lies on, as something that sets name: so all sets of a node are found."""
    return Key("node", "", key.namespace)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    yield node_of(key)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="IPSetCreated",
    sighted="IPSetSighted",
    sighted_terminating="IPSetSighted",
    deletion_requested="IPSetDestroyed",  # nothing holds a set: to ask is to do
    ended="IPSetDestroyed",
    vanished="IPSetVanished",
    writes=(Write("IPSetRestored", one_of(TYPE, OPTIONS)), Write("IPSetMembersChanged", one_of(MEMBERS))),
    refers=_refers,
    reference_paths=frozenset({MEMBERS}),
)
