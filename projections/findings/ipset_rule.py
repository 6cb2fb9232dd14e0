"""What the three rules on ipsets share: when one of their findings begins, when it ends, and who is told of.

`ipset_membership` weighs every write by somebody who does not own the set. A rule takes the part of that which is its
own, one finding a set and write, and holds it until every member is right again. `ipset_lost_member` is the first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from shlex import quote
from typing import Any, ClassVar, NamedTuple

from domain import ipset
from domain.events import Event
from domain.ipset import MEMBERS, OPTIONS
from domain.ipset_names import KUBE_OVN, owner_of
from domain.ipset_writes import NFT
from domain.resources import Key
from domain.world import Resource, World
from projections.findings.rule import (
    ALL,
    HEALED,
    OPEN,
    Conclusion,
    Finding,
    Notes,
    Rule,
    Step,
    Told,
    clock,
    seconds,
    short,
    witnesses,
)
from projections.ipset_membership import Membership, Memberships, Put, Weighed


class Fault(NamedTuple):
    """What one write did to one set: the members that are wrong, each with who had put it in or taken it out."""

    weighed: Weighed
    members: Mapping[str, Put | None]
    reported: list[str]
    lawful: list[str] | None
    causes: Mapping[Key, int] = {}  # the resources that ask for the members, and what last happened to each
    triggers: tuple[int, ...] = ()  # what moved the writer to write just then
    shown: int = 0  # the first dump after it


class IPSetRule(Rule, ABC):
    """A rule on the members of sets."""

    watches: ClassVar = {"ipset": ALL}

    def __init__(self, memberships: Memberships) -> None:
        self.memberships = memberships
        self._open: dict[Key, list[Fault]] = {}
        self._healed: list[tuple[Fault, int]] = []

    @abstractmethod
    def part(self, weighed: Weighed) -> Mapping[str, Put | None]:
        """The members that this rule tells of."""

    def causes(self, world: World, key: Key, members: Iterable[str]) -> Mapping[Key, int]:
        """The resources that ask for these members, each with the place of the last event on it."""
        return {}

    def triggers(self, world: World) -> tuple[int, ...]:
        """The places of the events that moved the writer to write just then, where the log shows them."""
        return ()

    @abstractmethod
    def is_wrong(self, member: str, reported: frozenset[str], known: Membership) -> bool:
        """Whether it is still so."""

    @abstractmethod
    def tell(self, conclusion: Conclusion, fault: Fault, until: int | None) -> tuple[str, str]:
        """The explanation up to how it ended, and the consequence."""

    @abstractmethod
    def repair(self, resource: Resource, members: list[str]) -> list[Step]:
        """What puts it right on the node."""

    def apply(self, event: Event, at: int, world: World) -> None:
        key = event.key
        if not key.name:
            if event.outcome in (ipset.LISTED, ipset.SHOWN):
                self._shown(key.namespace, at)
            return
        resource, known = world.get(key), self.memberships.of.get(key)
        if resource is None or known is None:
            self._healed += [(fault, at) for fault in self._open.pop(key, ())]
            return
        if key in self._open:
            self._heal(key, at, resource, known)
        weighed = self.memberships.weighed
        members = self.part(weighed) if weighed is not None else {}
        if weighed is not None and members:
            lawful = self.memberships.standing(resource).lawful[MEMBERS]
            fault = Fault(
                weighed=weighed,
                members=dict(members),
                reported=list(resource.get(MEMBERS) or ()),
                lawful=lawful,
                causes=self.causes(world, key, members),
                triggers=self.triggers(world),
            )
            self._open.setdefault(key, []).append(fault)

    def _shown(self, node: str, at: int) -> None:
        for key, faults in self._open.items():
            if key.namespace == node:
                self._open[key] = [fault if fault.shown else fault._replace(shown=at) for fault in faults]

    def _heal(self, key: Key, at: int, resource: Resource, known: Membership) -> None:
        reported = frozenset(resource.get(MEMBERS) or ())
        still = []
        for fault in self._open.pop(key):
            if any(self.is_wrong(member, reported, known) for member in fault.members):
                still.append(fault)
            else:
                self._healed.append((fault, at))
        if still:
            self._open[key] = still

    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        faults = [fault for open_ones in self._open.values() for fault in open_ones]
        for fault in sorted(faults, key=lambda one: one.weighed.at):
            finding = self._finding(conclusion, fault, None)
            finding.occurrence = self._before(fault, over.notes)
            yield finding

    def over(self) -> Sequence[Sequence[Any]]:
        return (self._healed,)

    def ended(self, fault: tuple[Fault, int]) -> int:
        return fault[1]

    def note(self, fault: tuple[Fault, int], notes: Notes) -> None:
        insort(notes.setdefault(fault[0].weighed.key, []), fault[0].weighed.at)

    def tell_over(self, conclusion: Conclusion, fault: tuple[Fault, int], notes: Notes) -> Finding:
        finding = self._finding(conclusion, *fault)
        finding.occurrence = self._before(fault[0], notes)
        return finding

    def _before(self, fault: Fault, notes: Notes) -> int:
        """How many faults of that set began before one: they are numbered as they began, and that is known for good."""
        key, at = fault.weighed.key, fault.weighed.at
        over: list[int] = notes.get(key, [])
        return bisect_left(over, at) + sum(one.weighed.at < at for one in self._open.get(key, ()))

    def _finding(self, conclusion: Conclusion, fault: Fault, until: int | None) -> Finding:
        key, at = fault.weighed.key, fault.weighed.at
        resource = conclusion.world.get(key) if until is None else None
        explanation, consequence = self.tell(conclusion, fault, until)
        reported, lawful, repair = fault.reported, fault.lawful, []
        if resource is not None:
            reported = list(resource.get(MEMBERS) or ())
            lawful = self.memberships.standing(resource).lawful[MEMBERS]
            known = self.memberships.of[key]
            wrong = [m for m in fault.members if self.is_wrong(m, frozenset(reported), known)]
            repair = self.repair(resource, sorted(wrong))
        if until is not None:
            heal = conclusion.event(until)
            explanation += f" It was right again with {short(heal.actor)} at {clock(heal.time)} ({_why(heal)})."
        basis = fault.weighed.basis
        return self.finding(
            status=OPEN if until is None else HEALED,
            key=key,
            uid="",
            field=MEMBERS,
            reported=reported,
            lawful=lawful,
            since=at,
            until=until,
            known=fault.weighed.loaded is not None,
            witnesses=witnesses(
                ("lost", sorted({put.at for put in fault.members.values() if put is not None})),
                ("overwriting", [at]),
                ("cause", fault.causes.values()),
                ("trigger", fault.triggers),
                ("basis", [basis.first] if basis is not None else []),
                ("shown", [fault.shown]),
                ("healing", [until] if until else []),
            ),
            explanation=explanation,
            consequence=consequence,
            repair=repair,
        )


# ---- words


def named(key: Key) -> str:
    """`ipset kube-router-svip of node1`."""
    return f"ipset {key.name}{f' of node {key.namespace}' if key.namespace else ''}"


def told(conclusion: Conclusion, at: int) -> str:
    """`ipvs-controller at 01:34:21.121 (service shop updated)`."""
    event = conclusion.event(at)
    return f"{conclusion.said(at)} ({_why(event)})" if event.reason else conclusion.said(at)


def _why(event: Event) -> str:
    return event.reason or event.operation


def by_whom(conclusion: Conclusion, members: Mapping[str, Put | None]) -> Iterator[tuple[str, str]]:
    """The members together that one write had put in or taken out, and that write."""
    groups: dict[int, list[str]] = {}
    for member, put in members.items():
        if put is not None:
            groups.setdefault(put.at, []).append(member)
    for at, some in sorted(groups.items()):
        yield listed(some), told(conclusion, at)


def listed(members: Iterable[str]) -> str:
    """Members for people: the first few, and how many more."""
    every = sorted(members)
    return ", ".join(every[:8]) + (f" and {len(every) - 8} more" if len(every) > 8 else "")


def memory(conclusion: Conclusion, weighed: Weighed) -> str:
    """How old what the writer went by was, known or inferred; empty where the log does not show it."""
    wrote = conclusion.event(weighed.at)
    if weighed.loaded is not None:
        age = seconds(wrote.time - weighed.loaded.time)
        return f"It wrote from the memory that it had loaded at {clock(weighed.loaded.time)}, {age} before."
    if weighed.basis is not None:
        age = seconds(wrote.time - conclusion.event(weighed.basis.last).time)
        return f"What it wrote is what the set last contained {age} before (inferred)."
    return "How old its memory was, the log does not show."


def command(resource: Resource, verb: str, member: str) -> str:
    """The command that puts one member in or takes it out, if that is still to be done."""
    name = resource.key.name
    if name.startswith(NFT):
        family, table, bare = (quote(part) for part in name.removeprefix(NFT).split(":", 2))
        act = "add" if verb == "add" else "delete"
        return f"nft {act} element {family} {table} {bare} {quote('{ ' + member.replace(',', ' . ') + ' }')}"
    bare, excludes, _ = member.partition(" nomatch")
    words = f"{quote(name)} {quote(bare)}"
    if verb == "del":
        return f"! ipset -q test {words} || ipset del {words}"
    timeout = " timeout 0" if "timeout " in f"{resource.get(OPTIONS) or ''} " else ""
    return f"ipset -q test {words} || ipset add {words}{timeout}{excludes}"


CURE = {
    True: "For good: kube-router 2.6.2 or later, where each controller restores only the sets that are its own "
    "(kube-router#1919, #1925, #1927).",
    False: "For good: the writer must read the sets again before it restores them, or restore only its own.",
}


def cure(key: Key) -> str:
    """What keeps it from coming again."""
    return CURE[owner_of(key.name) != KUBE_OVN]
