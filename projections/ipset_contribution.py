"""What an owner has to contribute to one ipset, and what of the world is known for that: shared by those who work it out.

`ipset_policies` works out the sets of NetworkPolicies, `ipset_contents` all others, and is next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from domain import pod
from domain.ipset_names import as_printed, family_of_address
from domain.resources import Key
from domain.world import Resource, World


class Member(NamedTuple):
    """One member's reason: `key` is the resource it follows from, `because` the sentence.

    What is `due` must be there; what is not may be. `nomatch` is hash:net's word for a range that is excepted.
    """

    due: bool
    key: Key
    because: str
    nomatch: bool = False


class Contribution(msgspec.Struct, kw_only=True):
    """What `owner` should have put into the set `name`; `members` are as `ipset` prints them.

    Of a `complete` one nothing but its members is lawful; of any other, `why_not` says what may be missing here.
    """

    name: str
    owner: str
    type: str
    family: str
    members: dict[str, Member] = {}
    complete: bool = True
    why_not: str = ""

    @property
    def due(self) -> frozenset[str]:
        """The members that must be there."""
        return frozenset(text for text, member in self.members.items() if member.due)

    def put(self, text: str, member: Member) -> None:
        """Add a member; what is due for one reason stays due whatever others say."""
        known = self.members.get(text)
        if known is None or (member.due and not known.due):
            self.members[text] = member

    def lacks(self, why: str) -> None:
        """Something that could be in it is not known, unless `why` is empty; the first reason is kept."""
        if why:
            self.complete, self.why_not = False, self.why_not or why


class Known:
    """The live resources by kind, sorted out once, and which kinds some source showed whole."""

    def __init__(self, world: World, whole: Collection[str] = ()) -> None:
        self.world = world
        self.whole = frozenset(whole)
        self._of: dict[str, list[Resource]] = {}
        for resource in world.live.values():
            self._of.setdefault(resource.key.kind, []).append(resource)
        self._in: dict[tuple[str, str], list[Resource]] = {}

    def of(self, kind: str) -> list[Resource]:
        """The live resources of a kind."""
        return self._of.get(kind, [])

    def inside(self, namespace: str, kind: str) -> list[Resource]:
        """The live resources of a kind in a namespace."""
        if (kind, "") not in self._in:
            self._in[kind, ""] = []
            for resource in self.of(kind):
                self._in.setdefault((kind, resource.key.namespace), []).append(resource)
        return self._in.get((kind, namespace), [])

    def gap(self, *kinds: str) -> str:
        """Why not every resource of these kinds is known as it is; empty where all are."""
        for kind in kinds:
            if kind not in self.whole:
                return f"a {kind} may be there that is older than the log and that it never names"
            if blurred := _blurred(self.of(kind)):
                return blurred
        return ""

    def gap_inside(self, namespace: str, kind: str) -> str:
        """The same of one namespace: what is in one that was made while the log ran, is not older than the log."""
        home = self.world.get(Key("namespace", "", namespace))
        if kind not in self.whole and (home is None or not home.seen_from_birth):
            return f"a {kind} may be in {namespace} that is older than the log and that it never names"
        if kind not in self.whole and not self.inside(namespace, kind):
            return f"the log names no {kind} in {namespace}: it may not be of a kind that is logged"
        return _blurred(self.inside(namespace, kind))


def addresses_of_pod(resource: Resource, family: str) -> list[str]:
    """The addresses by which policies and sets know a pod; none of one that ended, has none, or has its host's.

    A pod in deletion has them until it ends (kube-router: isNetPolActionable in pkg/controllers/netpol/utils.go).
    """
    fields = resource.fields
    if fields.get("status.phase") in ("Succeeded", "Failed", "Completed") or fields.get(pod.HOST_NETWORK) is True:
        return []
    reported = [one.get("ip") for one in mappings(fields.get("status.podIPs"))] or [fields.get("status.podIP")]
    return of_family([str(one) for one in reported if one], family)


def of_family(texts: Iterable[str], family: str) -> list[str]:
    """Those addresses and ranges that are of a family, as `ipset` prints them."""
    return [as_printed(text.strip()) for text in texts if family_of_address(text.strip()) == family]


def mappings(values: Any) -> list[dict[str, Any]]:
    """The objects of a list in an API object; none where it is of another shape."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _blurred(resources: Iterable[Resource]) -> str:
    blurred = next((one for one in resources if one.blurred), None)
    return "" if blurred is None else f"what a write on {blurred.key} did cannot be read from the log"
