"""The life of a set of addresses in a node's kernel, and who it belongs to (kube-router: utils/ipset.go; dossier 4).

A set has no API object, no uid and no revision: what is known of it comes from dumps, from the texts that controllers
gave to `ipset restore`, and from what they say they had loaded. Its namespace is the node that it lies on, empty where
no source says which. `ipset_writes` is next: it tells which event each of these is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from domain.events import Vocabulary, Write, one_of
from domain.ipset_names import KUBE_OVN, NETPOL, PROXY, ROUTING, options_of, temporary_name
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, Lifecycle, Row
from domain.resources import Key

PRESENT = "PRESENT"
STRANDED = "STRANDED"  # a restore's temporary set that was left behind

TYPE, OPTIONS, MEMBERS = "type", "options", "members"
"""The fields of a set: `hash:ip`; its options in one spelling (`canonical_options`); its members, sorted."""

ASKED = "asked"
"""The field that says what single commands last asked for, as `+10.0.0.1` and `-10.0.0.2`: an owner may take out what is
not there any more, and that is how it is known that it wants it out."""

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


# ---- who writes it


# The words in a writer's name that say which party it is. The project's own name comes off first: `kube-router` routes
# nothing by being called so, and every service account is one of a service.
_NOT_A_ROLE = re.compile(r"kube-router|serviceaccount")
_ROLES = (
    (PROXY, re.compile(r"ipvs|proxy|service|svip")),
    (NETPOL, re.compile(r"netpol|policy|policies|npc")),
    (ROUTING, re.compile(r"rout|nrc")),
    (KUBE_OVN, re.compile(r"ovn")),
)


def role(actor: str) -> str:
    """The party that a writer is by its name; empty where the name does not say, or says two."""
    name = _NOT_A_ROLE.sub("", actor.lower())
    said = [party for party, word in _ROLES if word.search(name)]
    return said[0] if len(said) == 1 else ""


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


def own_temporary_name(name: str) -> str:
    """A temporary set for a restore of ours: one that no controller uses, else two at once would swap each other's."""
    return temporary_name(f"netledger:{name}")


def meaning_of_temporary(name: str) -> tuple[str, str]:
    """Type and options that a `TMP-` name stands for, without the line that made it; empty where it is none we know."""
    type, _, options = options_of(name.removeprefix("inet6:")).partition(" ")
    return type, canonical_options(type, options.split()) if type else ""


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
