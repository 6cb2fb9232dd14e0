"""What each ipset should contain: the union of what its owners put in, each member with who put it there and when.

A set belongs to one party by its name (`domain/ipset_names.owner_of`), or, where it is another program's, to whoever put its
members in. A full restore by the owner replaces what the owner contributed, and nothing else does: what another writer's
restore drops stays lawful, what it brings back stays taken out. So no order of restores loses anything here.

Three answers: lawful, not lawful, and unknown, where the log begins in mid-life or a record is missing. Every write by
somebody else than the owner is weighed, and the rules on ipsets (`findings/ipset_lost_member` and its neighbours) ask
what came out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from domain import ipset
from domain.events import OBSERVED, Event
from domain.ipset import MEMBERS
from domain.ipset_names import owner_of
from domain.ipset_writes import memory_of
from domain.operations import MISSED, UNKNOWN
from domain.resources import Key
from domain.world import Resource, World
from projections.standing import Standing

REMOVED_KEPT = 4_096
"""How many members of one set are remembered that its owner took out: enough to know an old memory again."""

UNKNOWN_KEPT = 1 << 17
"""How many members of one set may be unknown before all that is not known to be lawful is: more than a set holds."""

CONTENTS_KEPT = 8
"""How many former contents of one set are remembered, to tell how old the memory of a writer was."""


class Put(NamedTuple):
    """Who put a member in or took it out, and the event that shows it: its place and its time in microseconds."""

    owner: str
    actor: str
    at: int
    time: int


class Content(NamedTuple):
    """What a set contained from one event to another, by their places."""

    members: frozenset[str]
    first: int
    last: int


class Loaded(NamedTuple):
    """When a writer last loaded the node's sets into its memory, by place and time in microseconds."""

    at: int
    time: int


class Weighed(NamedTuple):
    """What a write by somebody else than the owner did to a set.

    `lost` are lawful members that it dropped, `stale` those that the owner had taken out and it brought back, each with
    who had; `foreign` those that it put in or took out by itself. `basis` is what it knew: when it had loaded that, or
    the last content that says the same as what it wrote.
    """

    key: Key
    at: int
    lost: dict[str, Put]
    stale: dict[str, Put]
    foreign: frozenset[str]
    loaded: Loaded | None
    basis: Content | None


class Membership:
    """One set's members, by who put them in."""

    __slots__ = ("complete", "contents", "entered", "lawful", "removed", "unknown")

    def __init__(self) -> None:
        self.lawful: dict[str, Put] = {}
        self.unknown: set[str] = set()
        self.complete = False  # what is neither lawful nor unknown is known to belong to nobody
        self.removed: OrderedDict[str, Put] = OrderedDict()
        self.contents: list[Content] = []
        self.entered: dict[str, int] = {}  # of what is in it: the event with which it came in

    def put(self, member: str, by: Put) -> None:
        """The owner wants it in, or still does: who put it in is who did last when it was not there."""
        if member not in self.lawful or member not in self.entered:
            self.lawful[member] = by
        self.unknown.discard(member)
        self.removed.pop(member, None)

    def take(self, member: str, by: Put) -> None:
        """The owner wants it out."""
        self.lawful.pop(member, None)
        self.unknown.discard(member)
        self.removed[member] = by
        self.removed.move_to_end(member)
        if len(self.removed) > REMOVED_KEPT:
            self.removed.popitem(last=False)

    def doubt(self, members: Iterable[str]) -> None:
        """Whether these belong in it, the log cannot tell any more."""
        for member in members:
            self.lawful.pop(member, None)
            self.removed.pop(member, None)
            self.unknown.add(member)
        if len(self.unknown) > UNKNOWN_KEPT:
            self.unknown.clear()
            self.complete = False

    def doubt_all(self) -> None:
        """Records are missing: what was lawful may have been taken out since, what was taken out may be back."""
        self.doubt([*self.lawful, *self.removed])
        self.complete = False

    def shows(self, members: frozenset[str], at: int) -> None:
        """Remember what it contains now."""
        if self.contents and self.contents[-1].members == members:
            self.contents[-1] = self.contents[-1]._replace(last=at)
        else:
            self.entered = {member: self.entered.get(member, at) for member in members}
            self.contents = [*self.contents, Content(members, at, at)][-CONTENTS_KEPT:]

    def is_new(self, member: str) -> bool:
        """Whether the log never saw it in the set before."""
        return member not in self.lawful and member not in self.unknown and member not in self.removed

    def says(self, member: str) -> bool | None:
        """Whether a member belongs in it; `None` where the log cannot tell."""
        if member in self.lawful:
            return True
        if member in self.unknown:
            return None
        return False if self.complete or member in self.removed else None


class Memberships:
    """The membership of every live set, folded from the events."""

    def __init__(self) -> None:
        self.of: dict[Key, Membership] = {}
        self.weighed: Weighed | None = None  # of the last event
        self._loads: dict[tuple[str, str], Loaded] = {}
        self._sequence: dict[str, int] = {}
        self._memory: dict[tuple[Key, str], frozenset[str]] = {}  # what each writer's memory has of each set
        self._named: set[str] = set()  # the parties that somebody wrote as whose name says so
        self._evidence: dict[str, set[str]] = {}  # of writers whose name does not say it: as which party they wrote

    # ---- folding

    def apply(self, event: Event, at: int, world: World) -> None:
        """Take one event in, after `world` has."""
        key = event.key
        if key.kind != "ipset":
            return
        self.weighed = None
        if not key.name:
            self._summary(event, at)
            return
        resource = world.get(key)
        if resource is None:
            self.of.pop(key, None)
            for slot in [slot for slot in self._memory if slot[0] == key]:
                del self._memory[slot]
            return
        if resource.state == ipset.STRANDED:
            return
        kind = event.happened
        known = self.of.get(key)
        if event.operation == ipset.RESTORE and (party := ipset.role(event.actor)):
            self._named.add(party)
        self._read(event)
        if known is None or kind in ("IPSetCreated", "IPSetSighted"):
            known = self.of[key] = self._begin(event, at, resource)
        elif kind in ("IPSetRestored", "IPSetMembersChanged"):
            self._written(event, at, resource, known)
        elif kind == OBSERVED and event.outcome == MISSED:
            before, after = _moved(event, resource)
            known.doubt([*(before - after), *(after - before - known.lawful.keys())])
        elif kind == OBSERVED and event.outcome == UNKNOWN:
            known.doubt_all()
        known.shows(_members(resource), at)

    def _summary(self, event: Event, at: int) -> None:
        node = event.key.namespace
        if event.outcome == ipset.LOADED:
            self._loads[node, event.actor] = Loaded(at, event.time)
        _, sequence = event.changed.get(ipset.SEQUENCE, (None, None))
        if sequence is None:
            return
        before = self._sequence.get(node)
        if before is not None and sequence != before + 1:
            for key, known in self.of.items():
                if key.namespace == node:
                    known.doubt_all()
        self._sequence[node] = sequence

    def _begin(self, event: Event, at: int, resource: Resource) -> Membership:
        """A set that is first heard of, or heard of anew."""
        known = Membership()
        members = _members(resource)
        wrote = event.operation == ipset.RESTORE
        created = event.happened == "IPSetCreated"
        # It makes what was not there, or writes what is not in the memory that it has loaded: then it is its own.
        loaded = (event.key.namespace, event.actor) in self._loads
        if wrote and (created or (loaded and (event.key, event.actor) not in self._memory)):
            self._learn(event.actor, event.key)
        entitled = wrote and self.is_entitled(event.actor, event.key) is True
        if entitled and not resource.blurred:
            by = self._put(event, at)
            for member in members:
                known.put(member, by)
            # Of another program's set, what others had put in before the log is not known.
            known.complete = created or bool(owner_of(event.key.name))
        else:
            known.unknown |= members
        return known

    def _written(self, event: Event, at: int, resource: Resource, known: Membership) -> None:
        before, after = _moved(event, resource)
        # Anybody may type a single command; who writes a whole set with what it never had makes it.
        if event.happened == "IPSetRestored" and any(known.is_new(member) for member in after - before):
            self._learn(event.actor, event.key)
        by = self._put(event, at)
        wanted, unwanted = _asked(event, after, known)
        entitled = self.is_entitled(event.actor, event.key)
        if not owner_of(event.key.name):
            self._by_another_program(event, at, before, after, known)
        elif entitled:
            for member in wanted:
                known.put(member, by)
            for member in unwanted | (before - after):
                known.take(member, by)
            if event.happened == "IPSetRestored":
                known.unknown.clear()
                known.complete = True
        elif entitled is None:
            known.doubt((wanted - known.lawful.keys()) | unwanted | (before ^ after))
        else:
            self._weigh(event, at, before, after, known)

    def _by_another_program(
        self, event: Event, at: int, before: frozenset[str], after: frozenset[str], known: Membership
    ) -> None:
        """A set that no name gives to anybody: a member is its who put it in. A single `del` is meant as such."""
        by = self._put(event, at)
        wanted, unwanted = _asked(event, after, known)
        single = event.happened == "IPSetMembersChanged"
        for member in unwanted | (before - after):
            put = known.lawful.get(member)
            if single or (put is not None and put.owner == by.owner):
                known.take(member, by)
        if not self._parties(event.actor):
            for member in wanted if single else after - before - known.lawful.keys():
                known.put(member, by)
        # One of the known controllers writes such a set only because it has it in its memory: nothing in it is its own.
        self._weigh(event, at, before, after, known)

    def _weigh(
        self,
        event: Event,
        at: int,
        before: frozenset[str],
        after: frozenset[str],
        known: Membership,
    ) -> None:
        """What somebody who does not own the set did to it."""
        load = self._loads.get((event.key.namespace, event.actor))
        memory = self._memory.get((event.key, event.actor)) if load is not None else None
        lost: dict[str, Put] = {}
        doubtful = set()
        for member in sorted(before - after):
            put = known.lawful.get(member)
            if put is None:
                continue
            # It read the set after the member came in, and the member was not there: somebody unseen had taken it out.
            if (
                load is not None
                and memory is not None
                and load.at > known.entered.get(member, 0)
                and member not in memory
            ):
                doubtful.add(member)
            else:
                lost[member] = put
        brought = after - before - known.lawful.keys()
        stale = {member: known.removed[member] for member in sorted(brought) if member in known.removed}
        fresh = brought - stale.keys()
        foreign: frozenset[str] = frozenset()
        if event.happened != "IPSetRestored" or not self._parties(event.actor):
            foreign = frozenset(member for member in fresh if known.says(member) is False)
        # A controller invents no member of another's set: it had read one that somebody unseen put in.
        doubtful |= fresh - foreign
        known.doubt(doubtful)
        if not (lost or stale or foreign):
            return
        basis = None
        if memory is not None and load is not None and not (memory & lost.keys()) and stale.keys() <= memory:
            basis = Content(memory, load.at, load.at)
        else:
            load = None
            since = min((put.at for put in (*lost.values(), *stale.values())), default=at)
            for content in reversed(known.contents):
                if content.first < since and not (content.members & lost.keys()) and stale.keys() <= content.members:
                    basis = content
                    break
        self.weighed = Weighed(event.key, at, lost, stale, foreign, load, basis)

    def _read(self, event: Event) -> None:
        """Keep what a writer loaded: it is what that writer goes by."""
        path = memory_of(event.actor)
        if path in event.changed:
            loaded = event.changed[path][1]
            if loaded is None:
                self._memory.pop((event.key, event.actor), None)
            else:
                self._memory[event.key, event.actor] = frozenset(loaded)

    def _put(self, event: Event, at: int) -> Put:
        return Put(owner_of(event.key.name) or event.actor, event.actor, at, event.time)

    # ---- who is who

    def is_entitled(self, actor: str, key: Key) -> bool | None:
        """Whether a writer may say what a set contains: it is its owner; `None` where the log does not tell."""
        party = owner_of(key.name)
        parties = self._parties(actor)
        if not party:
            return not parties
        if parties:
            return party in parties
        if not actor or not self._is_known(party):
            return None
        return False

    def _parties(self, actor: str) -> set[str]:
        """As which parties a writer is known: by its name, else by what it was seen to write first."""
        said = ipset.role(actor)
        return {said} if said else self._evidence.get(actor, set())

    def _learn(self, actor: str, key: Key) -> None:
        """It made a set, or put in what that never had: nobody does that but the one who knows what belongs there."""
        party = owner_of(key.name)
        if actor and party and not ipset.role(actor):
            self._evidence.setdefault(actor, set()).add(party)

    def _is_known(self, party: str) -> bool:
        return party in self._named or any(party in parties for parties in self._evidence.values())

    # ---- asking

    def standing(self, resource: Resource) -> Standing:
        """What a set contains beside what it should, and who put each member in."""
        known = self.of.get(resource.key)
        reported = sorted(_members(resource))
        if known is None:
            return Standing(reported={MEMBERS: reported})
        complete = known.complete and not known.unknown
        return Standing(
            lawful={MEMBERS: sorted(known.lawful) if complete else None},
            reported={MEMBERS: reported},
            because={MEMBERS: "what its owner last put in, and nobody entitled took out since"},
            detail={
                "owner": owner_of(resource.key.name) or "other programs",
                "put": {member: put._asdict() for member, put in sorted(known.lawful.items())},
                "unknown": sorted(known.unknown),
            },
        )


def _members(resource: Resource) -> frozenset[str]:
    return frozenset(resource.get(MEMBERS) or ())


def _asked(event: Event, after: frozenset[str], known: Membership) -> tuple[frozenset[str], frozenset[str]]:
    """What a write asked to have in the set and out of it, whether it was so already or not."""
    if event.happened == "IPSetRestored":
        return after, frozenset(known.lawful.keys() - after)
    asked = event.changed.get(ipset.ASKED, (None, None))[1] or ()
    return (
        frozenset(one[1:] for one in asked if one.startswith("+")),
        frozenset(one[1:] for one in asked if one.startswith("-")),
    )


def _moved(event: Event, resource: Resource) -> tuple[frozenset[str], frozenset[str]]:
    """What a set contained before an event and after it."""
    after = _members(resource)
    if MEMBERS not in event.changed:
        return after, after
    return frozenset(event.changed[MEMBERS][0] or ()), after
