"""Reads API objects as kubectl prints them: watch streams, lists and single objects, in JSON and in YAML.

`kubectl get … -w -o json --output-watch-events`, a raw watch, `-o json` and `-o yaml` with or without `-w`: each object
in them is a record of what it was at one revision. Who made it so is not in it, and neither is when: a record's time is
the latest that the object itself names. `documents.py` cuts the source into documents. What else is met in them goes to
whom it concerns: a Kubernetes Event to `kubernetes_events.py`, an audit EventList (the body of a webhook's POST) to
`audit_log.py`.

An ADDED is a creation only where the stream shows that: a watch begins with ADDED for all that is there. `Reading` tells
the two apart, and keeps what it found in the record's identity: `object:<uid>@<revision>/created`, `/seen` or `/gone`;
`/shown` is of a list or a single object. With `managed/` before it the object has its `managedFields`, which say more: so
the same revision shown in two ways is two records, and it does not matter which is read first.

`ABSENT` is of no API server: `feeds/watch.py` says so that a list which it had to ask for anew lacks an object that was
there before (`absent`). The object in it has a name, a uid, and the revision of that list.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from adapters.sources import audit_log, kubernetes_events
from adapters.sources.api_object import (
    UNREADABLE,
    Metadata,
    fields_of,
    revision_of,
    shown_as,
    why_unreadable,
)
from adapters.sources.dialect import About, Found, Ignored, Line, NotARecord, Recognised, iso, moment
from adapters.sources.documents import documents
from domain.operations import FIELD_MANAGER, SEEN, SEEN_ABSENT, SEEN_GONE, Operation, OrderKey
from domain.order import OBJECTS_KEPT, Head
from domain.resources import BY_TITLE, Key, Kind

FORMAT = "objects"
CLOCKED = False
PREFIX = "object"

CREATED, THERE, GONE, SHOWN, ABSENT = "created", "seen", "gone", "shown", "absent"
_VERBS = {CREATED: "create", THERE: "watch", GONE: "watch", SHOWN: "snapshot", ABSENT: "snapshot"}
_OUTCOMES = {GONE: SEEN_GONE, ABSENT: SEEN_ABSENT}
IS_ABSENT = "ABSENT"
_SHOWS = frozenset({"ADDED", "MODIFIED", "DELETED", IS_ABSENT})
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_LONGEST_GRACE = 10 * 365 * 86_400


class _Document(msgspec.Struct):
    """As much of a document as tells which form it has."""

    kind: Any = ""
    apiVersion: Any = ""
    type: Any = ""
    object: msgspec.Raw = msgspec.Raw()
    items: msgspec.Raw = msgspec.Raw()


class _Status(msgspec.Struct):
    """What an API server says in place of an object."""

    message: str = ""
    reason: str = ""
    code: int = 0


class _Written(msgspec.Struct):
    """One of `managedFields`: who wrote last, and when."""

    manager: str = ""
    time: str | None = None


class _SeenMetadata(Metadata):
    creationTimestamp: str | None = None
    generation: int | None = None
    annotations: dict[str, Any] | None = None
    managedFields: list[_Written] | None = None


class _Condition(msgspec.Struct):
    lastTransitionTime: str | None = None
    lastUpdateTime: str | None = None


class _Conditions(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Seen(msgspec.Struct):
    """As much of an object as says which it is, at which revision, and which times it names."""

    kind: str = ""
    apiVersion: str = ""
    metadata: _SeenMetadata = msgspec.field(default_factory=_SeenMetadata)


class _SeenWhole(_Seen):
    status: _Conditions | None = None


_document = msgspec.json.Decoder(_Document)
_status = msgspec.json.Decoder(_Status)
_seen = msgspec.json.Decoder(_Seen)
_seen_whole = msgspec.json.Decoder(_SeenWhole)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def recognises(beginning: list[bytes]) -> bool:
    """Whether the lines begin with documents of an API server: the last may be longer than they are."""
    lines = ((number, line, "") for number, line in enumerate(beginning, 1))
    return any(_begins_one(found.content) if found.wrong else _is_one(found.content) for found in documents(lines))


def read(lines: Iterator[Line], about: About) -> Iterator[Found]:
    """Every object of a source; what is none of an API server's is given for what it is."""
    reading = Reading()
    for document in documents(lines):
        if document.wrong:
            yield Found(document.line, document.content, document.wrong)
        else:
            yield from reading.take(document.line, document.content)


class Reading:
    """One pass through one source, which knows from when on it shows things as they happen.

    That is so from the first change, removal or end of the initial events on, until a watch begins anew: an error, or
    an ADDED of what was shown already. From then on an ADDED is a creation if its revision is above that first one's, it
    was not made before the latest time that any object had named by then, and nobody has changed it since.
    """

    def __init__(self) -> None:
        self._live: tuple[int, int] | None = None  # the revision and the time at which it became so
        self._latest = 0
        self._shown: OrderedDict[str, None] = OrderedDict()

    def take(self, line: int, content: bytes) -> Iterator[Found]:
        """What one document holds: one of `Found` at least."""
        try:
            document = _document.decode(content)
        except UNREADABLE as error:
            yield Found(line, content, why_unreadable(error))
            return
        kind, api_version, type = _text(document.kind), _text(document.apiVersion), _text(document.type)
        if bytes(document.object) and not kind:
            yield self._event(line, content, type, bytes(document.object))
        elif kind.endswith("List") and bytes(document.items):
            yield from self._list(line, content, kind, api_version, bytes(document.items))
        else:
            yield self._shows(line, content, "", content)

    def _list(self, line: int, content: bytes, kind: str, api_version: str, items: bytes) -> Iterator[Found]:
        try:
            bodies = [bytes(item) for item in _items.decode(items)]
        except UNREADABLE as error:
            yield Found(line, content, f"the items of this {kind} cannot be read: {why_unreadable(error)}")
            return
        if not bodies:
            yield Found(line, content, Ignored(""))
        for body in bodies:
            told = body
            if kind != "List" and body.startswith(b"{"):
                told = with_kind(body, kind.removesuffix("List"), api_version)
            yield self._shows(line, told, "", told)

    def _event(self, line: int, content: bytes, type: str, body: bytes) -> Found:
        if type in _SHOWS:
            return self._shows(line, content, type, body)
        if type == "ERROR":
            self._live = None
            return Found(line, content, _ended(body))
        if type == "BOOKMARK":
            try:
                metadata = _seen.decode(body).metadata
            except UNREADABLE as error:
                return Found(line, content, f"the bookmark cannot be read: {why_unreadable(error)}")
            if (metadata.annotations or {}).get(_INITIAL_EVENTS_END) == "true":
                self._become_live(revision_of(metadata.resourceVersion) or 0)
            return Found(line, content, Ignored(""))
        return Found(line, content, f"a watch has no event of type {type[:40] or '(none)'}")

    def _shows(self, line: int, payload: bytes, type: str, body: bytes) -> Found:
        """What an object says: `type` is that of its watch event, empty for what is not of a watch."""
        try:
            seen = _read(body)
            if seen.apiVersion.startswith("audit.k8s.io/") and not type:
                if seen.kind == "Policy":  # the audit policy, in the folder of its log
                    return Found(line, body, Ignored(""))
                return Found(line, body, audit_log.classify(body))
            if why := _is_no_object(seen, body):
                return Found(line, payload, why)
            times = _times(seen)
            ending = self._ending(type, seen, times)
            if kubernetes_events.is_one(seen.apiVersion, seen.kind):
                if type == "DELETED":  # it was kept for its hour: what it said is said
                    return Found(line, body, Ignored(""))
                return Found(line, body, kubernetes_events.classify(body))
            kind = _kind_of(seen)
            if kind is None:
                return Found(line, payload, Ignored(iso(max(times)) if times else ""))
            return Found(line, payload, _record(kind, seen, body, ending))
        except NotARecord as error:
            return Found(line, payload, str(error))

    def _ending(self, type: str, seen: _Seen, times: list[int]) -> str:
        """What a record of it is called, now that everything before it in the source is known."""
        metadata = seen.metadata
        revision = revision_of(metadata.resourceVersion) or 0
        self._latest = max([self._latest, *times])
        if type == "DELETED":
            self._shown.pop(metadata.uid, None)
            self._become_live(revision)
            return GONE
        if type == IS_ABSENT:
            self._shown.pop(metadata.uid, None)
            return ABSENT
        if not type:
            return SHOWN
        again = metadata.uid in self._shown
        self._shown[metadata.uid] = None
        if len(self._shown) > OBJECTS_KEPT:
            self._shown.popitem(last=False)
        if type == "MODIFIED":
            self._become_live(revision)
        elif again:
            self._live = None
        elif self._live is not None:
            live_revision, live_time = self._live
            made = _moment(metadata.creationTimestamp or "")
            if revision > live_revision and _is_untouched(metadata) and made is not None and made >= live_time:
                return CREATED
        return THERE

    def _become_live(self, revision: int) -> None:
        if self._live is None:
            self._live = (revision, self._latest - self._latest % 1_000_000)


def heads(identity: str, payload: bytes) -> list[Head]:
    """What the order needs of an object that was seen: it has a revision, and no clock."""
    _, body = _opened(payload)
    seen = _read(body)
    kind = _kind_of(seen)
    assert kind is not None, "only recognised records come here"
    return [_head(kind, seen, identity)]


def operation(payload: bytes, order: OrderKey, outcome: str) -> Operation:
    """What an object was at its revision. Its actor is a guess at best: who wrote last, where `managedFields` say so."""
    _, body = _opened(payload)
    seen = _read(body)
    kind = _kind_of(seen)
    assert kind is not None, "only recognised records come here"
    return Operation(
        order=order,
        key=_key(kind, seen.metadata),
        verb=_VERBS[order.identity.rpartition("/")[2]],
        outcome=outcome,
        actor=_writer(seen.metadata.managedFields or []),
        time=order.time,
        uid=seen.metadata.uid,
        revision=revision_of(seen.metadata.resourceVersion),
        after=None if outcome == SEEN_ABSENT else fields_of(shown_as(kind, body)),
    )


def read_again(identity: str, payload: bytes) -> Recognised:
    """A record as this module made it, from what the journal keeps of it. Raises `NotARecord`."""
    type, body = _opened(payload)
    seen = _read(body)
    kind = _kind_of(seen)
    ending = identity.rpartition("/")[2]
    fits = {IS_ABSENT: {ABSENT}, "DELETED": {GONE}, "ADDED": {CREATED, THERE}, "MODIFIED": {THERE}}.get(type, {SHOWN})
    if kind is None or ending not in fits:
        raise NotARecord(f"the object in it does not make the record {identity[:200]}")
    record = _record(kind, seen, body, ending)
    if record.identity != identity:
        raise NotARecord(f"the object in it makes the record {record.identity}, not {identity[:200]}")
    return record


# ---- what one object is


def _record(kind: Kind, seen: _Seen, body: bytes, ending: str) -> Recognised:
    metadata = seen.metadata
    if not metadata.uid or not revision_of(metadata.resourceVersion):
        raise NotARecord(
            f"this {seen.kind} has no metadata.uid or no metadata.resourceVersion: it is what somebody wants an object to "
            "be, and no API server has answered it"
        )
    try:
        fields = fields_of(shown_as(kind, body))
    except UNREADABLE as error:
        raise NotARecord(f"this {seen.kind} cannot be read: {why_unreadable(error)}") from None
    managed = "managed/" if metadata.managedFields else ""
    identity = f"{PREFIX}:{metadata.uid}@{metadata.resourceVersion}/{managed}{ending}"
    head = _head(kind, seen, identity)
    # Over what it says: with `managedFields` or without, as JSON or as YAML, it is the same.
    said = msgspec.json.encode((head.key, fields), order="deterministic")
    return Recognised(
        identity=identity,
        fingerprint=hashlib.blake2b(said, digest_size=8).digest(),
        time=iso(head.time) if head.time else "",
        heads=[head],
    )


def _head(kind: Kind, seen: _Seen, identity: str) -> Head:
    ending = identity.rpartition("/")[2]
    return Head(
        time=max(_times(seen), default=0),
        identity=identity,
        part=0,
        received=0,
        key=_key(kind, seen.metadata),
        uid=seen.metadata.uid,
        revision=revision_of(seen.metadata.resourceVersion) or 0,
        outcome=_OUTCOMES.get(ending, SEEN),
        creates=ending == CREATED,
        clocked=False,
    )


def _is_untouched(metadata: _SeenMetadata) -> bool:
    """Whether it may be as it was made: a create leaves one entry in `managedFields`, of the second it was made in."""
    written = metadata.managedFields or []
    once = len(written) <= 1 and all(one.time in (None, metadata.creationTimestamp) for one in written)
    return once and (metadata.generation or 0) <= 1 and not metadata.deletionTimestamp


def _key(kind: Kind, metadata: Metadata) -> Key:
    return Key(kind.name, metadata.namespace if kind.namespaced else "", metadata.name)


def _kind_of(seen: _Seen) -> Kind | None:
    return BY_TITLE.get((seen.apiVersion.rpartition("/")[0], seen.kind))


def _times(seen: _Seen) -> list[int]:
    """The times that an object names and that were past when it was shown, in microseconds since 1970."""
    metadata = seen.metadata
    named = [metadata.creationTimestamp, *(written.time for written in metadata.managedFields or ())]
    if isinstance(seen, _SeenWhole) and seen.status is not None:
        for condition in seen.status.conditions or ():
            named += [condition.lastTransitionTime, condition.lastUpdateTime]
    times = [time for text in set(named) if text and (time := _moment(text))]
    # A pod's deletionTimestamp lies ahead by its grace period.
    deleted = _moment(metadata.deletionTimestamp or "")
    grace = metadata.deletionGracePeriodSeconds or 0
    if deleted and 0 <= grace < _LONGEST_GRACE:
        times.append(max(deleted - grace * 1_000_000, 1))
    return times


@lru_cache(maxsize=4096)
def _moment(text: str) -> int | None:
    """Microseconds since 1970; `None` for what is no time after it."""
    try:
        time = moment(text, "a time")
    except NotARecord:
        return None
    return time if time > 0 else None


def _writer(written: list[_Written]) -> str:
    """Who wrote last, where one alone did: times are in whole seconds."""
    latest = max((one.time for one in written if one.time), default="")
    writers = {one.manager for one in written if one.time == latest and latest}
    return f"{writers.pop()}{FIELD_MANAGER}" if len(writers) == 1 and all(writers) else ""


# ---- forms


def _read(body: bytes) -> _Seen:
    try:
        return _seen_whole.decode(body)
    except UNREADABLE:
        pass  # a status of another shape: it names no times that could be read
    try:
        return _seen.decode(body)
    except UNREADABLE as error:
        raise NotARecord(f"this is no object of an API server: {why_unreadable(error)}") from None


def _opened(payload: bytes) -> tuple[str, bytes]:
    """A record's watch event type, empty for what is not of a watch, and its object."""
    document = _document.decode(payload)
    body = bytes(document.object)
    return (_text(document.type), body) if body and not _text(document.kind) else ("", payload)


def _is_no_object(seen: _Seen, body: bytes) -> str:
    """Why what stands in an object's place holds none; empty if it is one."""
    kind = seen.kind
    if not kind or not seen.apiVersion:
        return "it has no kind or no apiVersion: no API server's object is so"
    if kind == "Status" and seen.apiVersion == "v1":
        return f"a Status in place of an object: {_said(body)}"
    if seen.apiVersion.startswith("meta.k8s.io/"):
        if kind == "Table":
            return "a Table has columns for people, and no objects: get them with -o json or -o yaml"
        if kind.startswith("PartialObjectMetadata"):
            return "it holds metadata only, not what the object was: get it with -o json or -o yaml"
    return ""


def _ended(body: bytes) -> str:
    return f"the watch ended here: {_said(body)}; what happened until another began is not in this source"


def _said(body: bytes) -> str:
    try:
        status = _status.decode(body)
    except UNREADABLE as error:
        return why_unreadable(error)
    return f"{status.message[:300] or 'no message'} ({status.code} {status.reason or 'without a reason'})"


def with_kind(body: bytes, kind: str, api_version: str) -> bytes:
    """An item of a typed list, which leaves kind and apiVersion to the list, with them."""
    try:
        item = _document.decode(body)
    except UNREADABLE:
        return body
    if item.kind or item.apiVersion:
        return body
    rest = body[:-1].rstrip()
    told = msgspec.json.encode({"kind": kind, "apiVersion": api_version})
    return rest + (b"" if rest == b"{" else b",") + told[1:]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# ---- what a source is


def _is_one(content: bytes) -> bool:
    try:
        document = _document.decode(content)
        if bytes(document.object) and not _text(document.kind):
            seen = _read(bytes(document.object))
            return bool(seen.kind and seen.apiVersion)  # in YAML the type comes last, and may not be there yet
    except (*UNREADABLE, NotARecord):
        return False
    return bool(_text(document.apiVersion)) and bool(_text(document.kind) or bytes(document.items))


def _begins_one(text: bytes) -> bool:
    """The same of a document whose end is not there: by the keys that are furthest out."""
    if text.startswith(b"{"):
        lines = [line for line in text.split(b"\n")[1:] if line.strip()]
        indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
        keys = {
            line[indent:].split(b'"')[1]
            for line in lines
            if indent and line[:indent].isspace() and line[indent : indent + 1] == b'"'
        }
    else:
        keys = {line.partition(b":")[0] for line in text.split(b"\n") if line[:1].isalpha()}
    inner = b'"apiVersion":' if text.startswith(b"{") else b"apiVersion:"
    whole = b"apiVersion" in keys and not keys.isdisjoint({b"kind", b"items", b"metadata"})
    return whole or (b"object" in keys and inner in text)
