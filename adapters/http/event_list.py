"""Takes the body of an audit webhook's POST apart: an `EventList` into its events, none of them decoded twice.

The list alone names kind and version, so each event is given them. Of a body that is cut off or broken in one place, the
events that can still be told apart are taken: whoever sent it would send it five times as it is, and lose it all then.
`ingest` hands them on.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from adapters.ports import Aside
from adapters.sources.api_object import UNREADABLE, why_unreadable
from adapters.sources.documents import compact
from adapters.sources.objects import with_kind

EVENT, API_VERSION = "Event", "audit.k8s.io/v1"
PIECES_JOINED = 4
"""An event of a broken list may hold what looks like the beginning of another: in as many pieces as this at most."""


class Units(NamedTuple):
    """What a body holds: events, a unit each, and what is none with its reason; its number in the list is its line."""

    units: list[bytes]
    aside: list[Aside]


class _List(msgspec.Struct):
    kind: Any = ""
    apiVersion: Any = ""
    items: msgspec.Raw = msgspec.Raw()


_list = msgspec.json.Decoder(_List)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder(msgspec.Raw)
_BEGINNING = re.compile(rb'"items"\s*:\s*\[')
_VERSION = re.compile(rb'"apiVersion"\s*:\s*"(audit\.k8s\.io/[a-z0-9]{1,20})"')
# Between two events. Within a string the quotes would be escaped.
_BETWEEN = re.compile(rb'(?<=\})\s*,\s*(?=\{\s*"(?:level|kind|apiVersion|metadata|auditID)"\s*:)')


def units_of(body: bytes) -> Units:
    """What can be told apart in a body, whatever it is. Never raises."""
    try:
        found = _list.decode(body)
    except UNREADABLE as error:
        return _salvaged(body, why_unreadable(error))
    kind, version = found.kind, found.apiVersion
    if not isinstance(kind, str) or not isinstance(version, str) or not version.startswith("audit.k8s.io/"):
        return _no_list(body, f"kind {_word(kind)} of {_word(version)} is no list of audit events")
    if kind == EVENT:  # one by itself: somebody tries it out
        return Units([compact(body)], [])
    items = bytes(found.items)
    if kind != "EventList":
        return _no_list(body, f"kind {_word(kind)} of {version} is no EventList")
    if items in (b"", b"null"):
        return Units([], [])
    try:
        return _told_apart([bytes(item) for item in _items.decode(items)], version)
    except UNREADABLE as error:
        return _no_list(body, f"the items of this EventList cannot be read: {why_unreadable(error)}")


def _told_apart(items: list[bytes], version: str) -> Units:
    found = Units([], [])
    for number, item in enumerate(items, 1):
        if not item.startswith(b"{"):
            found.aside.append(Aside.of(number, "an item of an EventList that is no object", item))
            continue
        try:
            found.units.append(with_kind(compact(item), EVENT, version))
        except UNREADABLE as error:
            found.aside.append(Aside.of(number, why_unreadable(error), item))
    return found


def _salvaged(body: bytes, why: str) -> Units:
    """The events of a list that is no JSON: those that are whole."""
    version, beginning = _VERSION.search(body), _BEGINNING.search(body)
    if beginning is None:
        return _no_list(body, why)
    pieces = _BETWEEN.split(body[beginning.end() :])
    items: list[bytes] = []
    wrong: list[Aside] = []
    place = 0
    while place < len(pieces):
        last = place == len(pieces) - 1
        for end in range(place + 1, min(place + PIECES_JOINED, len(pieces)) + 1):
            item = b",".join(pieces[place:end])
            if end == len(pieces):
                item = _without_closing(item)
            if _is_json(item):
                items.append(item)
                place = end
                break
        else:
            ending = "the body ends in it" if last else "it is broken"
            wrong.append(
                Aside.of(len(items) + len(wrong) + 1, f"an event of an EventList, {ending}: {why}", pieces[place])
            )
            place += 1
    if not items:
        return _no_list(body, why)
    found = _told_apart(items, version[1].decode() if version else API_VERSION)
    return Units(found.units, found.aside + wrong)


def _without_closing(item: bytes) -> bytes:
    """The last event without what closes the list behind it, as much of that as is there."""
    item = item.rstrip()
    shorter = item[:-1].rstrip() if item.endswith(b"}") else item
    return shorter[:-1] if shorter.endswith(b"]") else item


def _is_json(text: bytes) -> bool:
    try:
        _any.decode(text)
    except UNREADABLE:
        return False
    return True


def _no_list(body: bytes, why: str) -> Units:
    return Units([], [Aside.of(1, why, body)])


def _word(value: object) -> str:
    return (value if isinstance(value, str) else str(type(value).__name__))[:60] or "(none)"
