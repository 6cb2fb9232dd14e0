"""Kubernetes Events (v1 and events.k8s.io/v1): what a controller says it did, or could not do, to an object.

An Event is testimony: it moves nothing. One that comes again has a new revision, and is a record of its own:
`event:<uid>@<revision>`. `objects.py` meets them among the objects that kubectl prints, and hands them over.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

import msgspec

from adapters.sources.api_object import UNREADABLE, Metadata, why_unreadable
from adapters.sources.dialect import Ignored, NotARecord, Recognised, iso, moment
from domain.events import EVENT_REPORTED
from domain.operations import TESTIFIED, Operation, OrderKey
from domain.order import Head
from domain.resources import BY_TITLE, KINDS, Key, Kind

PREFIX = "event"

MESSAGE_CHARACTERS = 500
"""How much of a message is kept as the reason."""


class _About(msgspec.Struct):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    apiVersion: str = ""


class _Source(msgspec.Struct):
    component: str = ""
    host: str = ""


class _Series(msgspec.Struct):
    lastObservedTime: str | None = None


class _Metadata(Metadata):
    creationTimestamp: str | None = None


class _Event(msgspec.Struct):
    """Both versions: each has its own words for the same (kubernetes: pkg/apis/events/v1/conversion.go)."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    reason: str = ""
    reportingComponent: str = ""
    reportingController: str = ""
    eventTime: str | None = None
    series: _Series | None = None
    # v1
    involvedObject: _About | None = None
    message: str = ""
    source: _Source | None = None
    firstTimestamp: str | None = None
    lastTimestamp: str | None = None
    # events.k8s.io/v1
    regarding: _About | None = None
    note: str = ""
    deprecatedSource: _Source | None = None
    deprecatedFirstTimestamp: str | None = None
    deprecatedLastTimestamp: str | None = None


_event = msgspec.json.Decoder(_Event)


def is_one(api_version: str, kind: str) -> bool:
    """Whether an object of that version and kind is a Kubernetes Event: one of an audit log is not."""
    return kind == "Event" and (api_version == "v1" or api_version.startswith("events.k8s.io/"))


def classify(body: bytes) -> Recognised | Ignored:
    """What one Event is. Raises `NotARecord`."""
    try:
        event = _event.decode(body)
    except UNREADABLE as error:
        raise NotARecord(f"this Event cannot be read: {why_unreadable(error)}") from None
    time = _time(event)
    key = _key(event)
    if key is None:
        return Ignored(iso(time) if time else "")
    metadata = event.metadata
    if not metadata.uid or not metadata.resourceVersion:
        raise NotARecord("this Event has no metadata.uid or no metadata.resourceVersion: no API server has answered it")
    if not time:
        raise NotARecord("this Event does not say when")
    identity = f"{PREFIX}:{metadata.uid}@{metadata.resourceVersion}"
    said = (key, _about(event).uid, time, event.reason, _message(event), _actor(event))
    return Recognised(
        identity=identity,
        fingerprint=hashlib.blake2b(msgspec.json.encode(said), digest_size=8).digest(),
        time=iso(time),
        heads=[_head(event, key, time, identity)],
    )


def heads(identity: str, payload: bytes) -> list[Head]:
    """What the order needs of an Event: it has a clock and, as it made nothing, no revision."""
    event = _event.decode(payload)
    key = _key(event)
    assert key is not None, "only recognised records come here"
    return [_head(event, key, _time(event), identity)]


def operation(payload: bytes, order: OrderKey, outcome: str) -> Operation:
    """What an Event says: its reason is the verb, its message the reason why."""
    event = _event.decode(payload)
    key = _key(event)
    assert key is not None, "only recognised records come here"
    return Operation(
        order=order,
        key=key,
        verb=event.reason,
        outcome=outcome,
        reason=_message(event),
        actor=_actor(event),
        time=order.time,
        received=order.time,
        uid=_about(event).uid,
        testimony=EVENT_REPORTED,
    )


def _head(event: _Event, key: Key, time: int, identity: str) -> Head:
    return Head(
        time=time,
        identity=identity,
        part=0,
        received=time,
        key=key,
        uid=_about(event).uid,
        revision=0,
        outcome=TESTIFIED,
    )


def _about(event: _Event) -> _About:
    return event.involvedObject or event.regarding or _About()


def _key(event: _Event) -> Key | None:
    """The object of ours that it is about."""
    about = _about(event)
    kind = _kind_of(about)
    if kind is None or not about.name:
        return None
    return Key(kind.name, about.namespace if kind.namespaced else "", about.name)


def _kind_of(about: _About) -> Kind | None:
    if about.apiVersion:
        return BY_TITLE.get((about.apiVersion.rpartition("/")[0], about.kind))
    # Some reporters leave the version out.
    return next((kind for kind in KINDS if kind.title == about.kind), None)


def _time(event: _Event) -> int:
    """When it was reported last, in microseconds since 1970; 0 where it does not say."""
    series = event.series.lastObservedTime if event.series else None
    for texts in (
        (series, event.lastTimestamp, event.deprecatedLastTimestamp, event.eventTime),
        (event.firstTimestamp, event.deprecatedFirstTimestamp, event.metadata.creationTimestamp),
    ):
        times = []
        for text in texts:
            with suppress(NotARecord):
                times.append(moment(text or "", "a time"))
        if (latest := max(times, default=0)) > 0:
            return latest
    return 0


def _message(event: _Event) -> str:
    return (event.message or event.note)[:MESSAGE_CHARACTERS]


def _actor(event: _Event) -> str:
    source = event.source or event.deprecatedSource or _Source()
    return source.component or event.reportingComponent or event.reportingController
