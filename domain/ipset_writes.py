"""Which events a dump, a restore or a load of a node's sets is: one record is about all of them at once.

Every record gives one `AttemptObserved` on the node's nameless set, with the number that its timeline gave it, and then
an event for each set of which it says something new. A dump that differs from what the restores say is a fact too:
somebody unseen wrote. `decide` asks `events_of` for every operation on this kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from domain.events import OBSERVED, Changes, Event, differences
from domain.ipset import (
    ASKED,
    DUMP,
    LISTED,
    LOAD,
    LOADED,
    MEMBERS,
    OPTIONS,
    RESTORED,
    SEQUENCE,
    SHOWN,
    TYPE,
    Effect,
    node_of,
)
from domain.ipset_names import is_temporary
from domain.operations import MISSED, UNKNOWN, Fields, Operation
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Resource, World

NFT = "nft:"
"""What the names of nftables' sets begin with: they live in a world of their own beside ipset's."""


def memory_of(actor: str) -> str:
    """The field that holds what a writer's memory has of a set."""
    return f"memory[{actor}]"


def events_of(world: World, operation: Operation) -> list[Event]:
    """The events of an operation whose `after` maps each set's name to its `Effect`."""
    made = _Deciding(world, operation)
    effects: dict[str, Effect] = dict(sorted((operation.after or {}).items()))
    if operation.verb == DUMP:
        made.dumped(effects)
    elif operation.verb == LOAD:
        made.loaded(effects)
    else:
        made.restored(effects)
    return made.events


class _Deciding:
    """The events of one record in the making."""

    def __init__(self, world: World, operation: Operation) -> None:
        self.world = world
        self.operation = operation
        self.events: list[Event] = []

    def dumped(self, effects: dict[str, Effect]) -> None:
        """What a look at the node shows. `ipset save` shows all sets, or the one that was asked for."""
        whole = len(effects) != 1
        self._summary(LISTED if whole else SHOWN)
        for name, effect in effects.items():
            key, live = self._set(name)
            fields = _fields(effect)
            if is_temporary(name):
                if live is None:
                    self._add("IPSetStranded", key, differences({}, fields))
            elif live is None or live.blurred:
                self._add("IPSetSighted", key, differences({}, fields))
            elif missed := _moved(live, fields):
                self._add(OBSERVED, key, missed, outcome=MISSED)
        if whole:
            nft = any(name.startswith(NFT) for name in effects)
            for live in self._on_this_node():
                if live.key.name not in effects and live.key.name.startswith(NFT) == nft:
                    self._add("IPSetVanished", live.key, {})

    def loaded(self, effects: dict[str, Effect]) -> None:
        """What a writer loaded into its memory: the basis of what it will write."""
        self._summary(LOADED)
        path = memory_of(self.operation.actor)
        for name, effect in effects.items():
            if is_temporary(name):
                continue
            key, live = self._set(name)
            members = sorted(effect.members or ())
            if live is None:
                self._add("IPSetSighted", key, {MEMBERS: (None, members), path: (None, members)})
            elif live.get(path) != members:
                self._add("IPSetRead", key, {path: (live.get(path), members)})
        for live in self._on_this_node():
            if path in live.fields and live.key.name not in effects:
                self._add("IPSetRead", live.key, {path: (live.get(path), None)})

    def restored(self, effects: dict[str, Effect]) -> None:
        """What a writer gave to `ipset restore`, or did with single commands."""
        self._summary(RESTORED)
        for name, effect in effects.items():
            key, live = self._set(name)
            if effect.gone:
                if live is not None:
                    self._add("IPSetDestroyed", key, {})
            elif is_temporary(name):
                if live is None:
                    self._add("IPSetStranded", key, differences({}, _fields(effect)))
            elif live is None:
                self._begun(key, effect)
            elif effect.members is not None:
                fields = _fields(effect)
                if live.blurred:
                    self._add("IPSetSighted", key, differences({}, fields))
                else:
                    self._add("IPSetRestored", key, _moved(live, fields))
            elif effect.added or effect.removed:
                members = sorted((set(live.get(MEMBERS) or ()) | set(effect.added)) - set(effect.removed))
                asked = [f"+{member}" for member in effect.added] + [f"-{member}" for member in effect.removed]
                self._add("IPSetMembersChanged", key, {ASKED: (None, asked), **_moved(live, {MEMBERS: members})})
            elif not effect.made:  # its content was swapped away for one that nobody saw
                self._add(OBSERVED, key, {}, outcome=UNKNOWN)

    def _begun(self, key: Key, effect: Effect) -> None:
        """A set that is not known: made now where the node was once seen without it, else older than the log."""
        absent = key.namespace in self.world.listed
        if effect.members is not None:
            self._add("IPSetCreated" if absent else "IPSetSighted", key, differences({}, _fields(effect)))
        elif effect.made and absent:
            self._add("IPSetCreated", key, differences({}, _fields(effect._replace(members=effect.added))))
        else:
            fields = _fields(effect._replace(members=effect.added))
            self._add("IPSetSighted", key, differences({}, fields), outcome=UNKNOWN)

    def _set(self, name: str) -> tuple[Key, Resource | None]:
        key = Key("ipset", self.operation.key.namespace, name)
        return key, self.world.get(key)

    def _on_this_node(self) -> Iterable[Resource]:
        return sorted(self.world.naming(node_of(self.operation.key), "ipset"), key=lambda live: live.key)

    def _summary(self, outcome: str) -> None:
        sequence = self.operation.sequence
        numbered: Changes = {SEQUENCE: (None, sequence)} if sequence is not None else {}
        self._add(OBSERVED, self.operation.key, numbered, outcome=outcome)

    def _add(self, kind: str, key: Key, changed: Changes, **more: Any) -> None:
        operation = self.operation
        self.events.append(
            Event(
                type=kind,
                key=key,
                record=operation.order.identity,
                time=operation.time,
                received=operation.received,
                actor=operation.actor,
                agent=operation.agent,
                operation=operation.verb,
                order=operation.order,
                changed=changed,
                reason=operation.reason,
                tags=(key.tag, node_of(key).tag),
                evidence=operation.evidence,
                **more,
            )
        )


def _fields(effect: Effect) -> Fields:
    fields: Fields = {MEMBERS: sorted(effect.members or ())}
    if effect.type:
        fields[TYPE], fields[OPTIONS] = effect.type, effect.options
    return fields


def _moved(live: Resource, fields: Fields) -> Changes:
    """What differs, of what is said."""
    return {
        path: (live.get(path), value)
        for path, value in sorted(fields.items())
        if live.get(path) != value and (value or path in live.fields or path == MEMBERS)
    }
