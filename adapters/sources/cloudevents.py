"""CloudEvents, one JSON document a line: how netledger gives its records away, and takes them and others' back.

`exported` makes one CloudEvent (specversion 1.0) of a record of the journal: its id is the record's identity, its data the
payload, byte for byte. Reading it back gives the same record, so an export replays to the same ledger. A foreign event
whose data is an API server's (an audit event, a list of them, a watch event, an object as Knative's ApiServerSource
sends it) is handed to the reader that knows it. `dialects.py` lists the readers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from urllib.parse import quote

import msgspec

from adapters.ports import Entry, Source
from adapters.sources import audit_log, kubernetes_events, objects
from adapters.sources.api_object import UNREADABLE, why_unreadable
from adapters.sources.dialect import About, Found, Ignored, Line, NotARecord, Recognised, Records, iso
from adapters.sources.documents import compact

FORMAT = "cloudevents"
CLOCKED = True

RECORD_TYPE = "io.netledger.record."
"""What the type of a record's event starts with; its prefix comes behind."""
SOURCE_TYPE = "io.netledger.source"
"""The type of the event that says how long a source lasts: its records alone do not."""

_KNATIVE = {
    "dev.knative.apiserver.resource.add": "ADDED",
    "dev.knative.apiserver.resource.update": "MODIFIED",
    "dev.knative.apiserver.resource.delete": "DELETED",
}
"""What Knative's ApiServerSource calls the events of its watch (knative eventing: pkg/apis/sources/v1)."""
_KNATIVE_REFERENCE = "dev.knative.apiserver.ref."


class _CloudEvent(msgspec.Struct, omit_defaults=True):
    """The attributes that are used here; names of extensions are lower-case letters and digits only."""

    specversion: str = ""
    id: str = ""
    source: str = ""
    type: str = ""
    subject: str = ""
    time: str = ""
    datacontenttype: str = ""
    netledgerline: int = 0
    netledgerfingerprint: str = ""
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str = ""


class _Lasting(msgspec.Struct):
    """The data of a source's event: its format, and from when to when it lasts, empty where it has no clock."""

    format: str = ""
    first: str = ""
    last: str = ""


_event = msgspec.json.Decoder(_CloudEvent)
_lasting = msgspec.json.Decoder(_Lasting)
_encode = msgspec.json.Encoder().encode


# ---- giving away


def exported(entry: Entry, source: Source, records: Records) -> bytes:
    """One record of the journal as one line, without its end. `records` knows its prefix."""
    heads = records.heads(entry.identity, entry.payload)
    clocked = [head.time for head in heads if head.clocked and head.time > 0]
    about = {head.key for head in heads}
    is_json = entry.payload.startswith(b"{") and _is_whole_json(entry.payload)
    event = _CloudEvent(
        specversion="1.0",
        id=entry.identity,
        source=_reference(source.path),
        type=RECORD_TYPE + entry.identity.partition(":")[0],
        subject=about.pop().tag if len(about) == 1 else "",
        time=iso(min(clocked)) if clocked else "",
        datacontenttype="application/json" if is_json else "application/octet-stream",
        netledgerline=entry.line,
        netledgerfingerprint=entry.fingerprint.hex(),
    )
    if is_json:
        event.data = msgspec.Raw(entry.payload)
    else:
        event.data_base64 = base64.b64encode(entry.payload).decode()
    return _encode(event)


def exported_source(source: Source, first: str, last: str) -> bytes:
    """How long a source lasts, as one line: from its first record to its last, those counted that are not in the journal."""
    return _encode(
        _CloudEvent(
            specversion="1.0",
            id=f"source:{source.id}",
            source=_reference(source.path),
            type=SOURCE_TYPE,
            time=last,
            datacontenttype="application/json",
            data=msgspec.Raw(_encode(_Lasting(source.format, first, last))),
        )
    )


def _reference(path: str) -> str:
    """A path as the URI reference that a CloudEvent's source has to be."""
    return quote(path, safe="/-._~!$&'()*+,;=@", errors="surrogateescape")


def _is_whole_json(payload: bytes) -> bool:
    if b"\n" in payload or b"\r" in payload:
        return False  # it would end the line
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True


# ---- taking back


def recognises(beginning: list[bytes]) -> bool:
    """Whether any of these lines is a CloudEvent."""
    return any(line.lstrip().startswith(b"{") and _is_one(line) for line in beginning)


def read(lines: Iterator[Line], about: About) -> Iterator[Found]:
    """Every event, for what its data is."""
    reading = objects.Reading()
    for number, line, wrong in lines:
        line = line.strip(b" \t\r\n")
        if wrong:
            yield Found(number, line, wrong)
        elif line:
            try:
                event = _read(line)
            except NotARecord as error:
                yield Found(number, line, str(error))
            else:
                yield from _take(reading, number, line, event)


def _take(reading: objects.Reading, number: int, line: bytes, event: _CloudEvent) -> Iterator[Found]:
    try:
        data = _data(event)
        if event.type == SOURCE_TYPE:
            lasting = _lasting.decode(data)
            yield Found(number, line, Ignored(lasting.first))
            yield Found(number, line, Ignored(lasting.last, records=0))
        elif event.type.startswith(RECORD_TYPE):
            yield Found(number, data, _again(event, data))
        elif event.type.startswith(_KNATIVE_REFERENCE):
            yield Found(
                number, line, "it names an object and does not show it: set the ApiServerSource's mode to Resource"
            )
        elif not data.startswith(b"{"):
            yield Found(number, line, "its data is no JSON object")
        else:
            content = compact(data)
            if shows := _KNATIVE.get(event.type):
                content = b'{"type":"' + shows.encode() + b'","object":' + content + b"}"
            yield from reading.take(number, content)
    except (NotARecord, *UNREADABLE) as error:
        yield Found(number, line, str(error) if isinstance(error, NotARecord) else why_unreadable(error))


def _again(event: _CloudEvent, payload: bytes) -> Recognised:
    """The record that was exported, and no other. Raises `NotARecord`."""
    # Here, because the list of all readers has this one in it.
    from adapters.sources import dialects

    identity, prefix = event.id, event.type.removeprefix(RECORD_TYPE)
    if identity.partition(":")[0] != prefix:
        raise NotARecord(f"its id {identity[:80]!r} is not that of a record of type {prefix[:40]!r}")
    if prefix in _AGAIN:
        made = _AGAIN[prefix](identity, payload)
        if not isinstance(made, Recognised) or made.identity != identity:
            raise NotARecord(f"its data is not the record {identity[:200]}")
        return made
    try:
        fingerprint = bytes.fromhex(event.netledgerfingerprint)
        heads = dialects.of(identity).heads(identity, payload)
    except KeyError:
        raise NotARecord(f"there are no records of type {prefix[:40]!r}") from None
    except ValueError as error:
        raise NotARecord(f"its data is not the record {identity[:200]}: {error}") from None
    if len(fingerprint) != 8:
        raise NotARecord("it has no netledgerfingerprint: nothing tells this record from another of its identity")
    return Recognised(identity, fingerprint, event.time, heads)


_AGAIN: dict[str, Callable[[str, bytes], Recognised | Ignored]] = {
    audit_log.PREFIX: lambda identity, payload: audit_log.classify(payload),
    objects.PREFIX: objects.read_again,
    kubernetes_events.PREFIX: lambda identity, payload: kubernetes_events.classify(payload),
}
"""Whose records can be read again from their payload, so that their fingerprint need not be believed."""


def _is_one(line: bytes) -> bool:
    try:
        _read(line)
    except NotARecord:
        return False
    return True


def _read(line: bytes) -> _CloudEvent:
    try:
        event = _event.decode(line)
    except UNREADABLE as error:
        raise NotARecord(f"it is no CloudEvent: {why_unreadable(error)}") from None
    if not event.specversion.startswith("1.") or not (event.id and event.source and event.type):
        raise NotARecord("it is no CloudEvent of version 1: specversion, id, source and type belong to one")
    return event


def _data(event: _CloudEvent) -> bytes:
    """What it carries. Raises `NotARecord`."""
    if event.data_base64:
        try:
            return base64.b64decode(event.data_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotARecord(f"its data_base64 cannot be read: {error}") from None
    data = bytes(event.data)
    if not data or data == b"null":
        raise NotARecord("it carries no data")
    return data
