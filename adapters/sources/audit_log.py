"""Reads Kubernetes audit logs: `audit.k8s.io` events, one JSON object a line, of any level and stage.

`classify` looks at every line and is quick, because nineteen in twenty are the API server's own noise; `heads` gives
what the order needs; `operation` reads the bodies, once it is known where the record stands. The 38 quirks of real logs
that these three handle are in docs/audit-logs.md. `adapters/ingest.py` is next: it puts the records into the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from adapters.sources.api_object import (
    UNREADABLE,
    Answered,
    Details,
    Metadata,
    WholeMetadata,
    fields_of,
    revision_of,
    shown_as,
    why_unreadable,
)
from adapters.sources.dialect import About, Found, Ignored, Line, NotARecord, Recognised, moment
from domain.operations import (
    DELETION,
    DRY_RUN,
    MADE,
    RAN,
    REFUSED,
    REMOVED,
    UNKNOWN,
    Fields,
    Operation,
    OrderKey,
)
from domain.order import Head
from domain.resources import BY_RESOURCE, Key, Kind

FORMAT = "audit.k8s.io"
CLOCKED = True
PREFIX = "audit"

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_OTHER_SUBRESOURCES = frozenset({"log", "attach", "portforward", "proxy", "token", "ephemeralcontainers"})
_REVISION_TEST = ("test", "/metadata/resourceVersion")
TRUNCATED = "the API server cut its bodies off"
BELOW = "recorded without its answer, below level RequestResponse"


class _User(msgspec.Struct):
    username: str = ""


class _Reference(msgspec.Struct):
    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    apiGroup: str = ""
    resourceVersion: str = ""
    subresource: str = ""


class _Answer(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _Line(msgspec.Struct):
    """All of an audit event but its bodies: what `classify` needs."""

    auditID: str
    stage: str
    kind: str = ""
    apiVersion: str = ""
    level: str = ""
    verb: str = ""
    requestURI: str = ""
    user: _User = msgspec.field(default_factory=_User)
    impersonatedUser: _User | None = None
    userAgent: str = ""
    objectRef: _Reference | None = None
    responseStatus: _Answer | None = None
    requestReceivedTimestamp: str = ""
    stageTimestamp: str = ""
    annotations: dict[str, str] | None = None


class _Shown(msgspec.Struct):
    """As much of an answer as tells which object, which revision, and whether it went."""

    kind: str = ""
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    details: Details | None = None
    status: Any = None
    items: list[_Shown] | None = None


class _HeadLine(_Line):
    responseObject: _Shown | None = None


class _FullLine(_Line):
    responseObject: msgspec.Raw = msgspec.Raw()
    requestObject: msgspec.Raw = msgspec.Raw()


class _Objects(msgspec.Struct):
    items: list[msgspec.Raw] = []


class _Step(msgspec.Struct):
    """One operation of a JSON patch."""

    op: str = ""
    path: str = ""
    value: Any = None


class _Target(msgspec.Struct):
    name: str = ""


class _AskedMetadata(msgspec.Struct):
    resourceVersion: str = ""


class _Asked(msgspec.Struct):
    metadata: _AskedMetadata = msgspec.field(default_factory=_AskedMetadata)
    target: _Target = msgspec.field(default_factory=_Target)


_line = msgspec.json.Decoder(_Line)
_head_line = msgspec.json.Decoder(_HeadLine)
_full_line = msgspec.json.Decoder(_FullLine)
_objects = msgspec.json.Decoder(_Objects)
_asked = msgspec.json.Decoder(_Asked)
_steps = msgspec.json.Decoder(list[_Step])


def recognises(beginning: list[bytes]) -> bool:
    """Whether any of these lines is an audit event: a log may begin with what is none."""
    return any(line and not why_not(line) for line in beginning)


def read(lines: Iterator[Line], about: About) -> Iterator[Found]:
    """Every line that holds something, each for what it is."""
    for number, line, wrong in lines:
        line = line.strip(b" \t\r\n")
        if wrong:
            yield Found(number, line, wrong)
        elif line:
            try:
                yield Found(number, line, classify(line))
            except NotARecord as error:
                yield Found(number, line, str(error))


def classify(line: bytes) -> Recognised | Ignored:
    """What one line is. Raises `NotARecord`."""
    try:
        event = _head_line.decode(line)
    except UNREADABLE as error:
        event = _noise(line, error)
    if not event.apiVersion.startswith("audit.k8s.io/") or event.kind != "Event":
        raise NotARecord(f"kind {event.kind or '(none)'} of {event.apiVersion or '(no apiVersion)'} is no audit event")
    if _kind_of(event) is None:
        return Ignored(event.stageTimestamp)
    identity = f"{PREFIX}:{event.auditID}@{_received(event)}/{event.stage}"
    said = f"{event.verb} {event.requestURI} {event.user.username} {event.stageTimestamp} {_code(event)}"
    return Recognised(
        identity=identity,
        fingerprint=hashlib.blake2b(said.encode(), digest_size=8).digest(),
        time=event.stageTimestamp,
        heads=_heads(event, identity),
    )


def _noise(line: bytes, error: Exception) -> _HeadLine:
    """An event on something else may answer in shapes that ours never have: then only its head is looked at."""
    try:
        event = _line.decode(line)
    except UNREADABLE as cause:
        raise NotARecord(why_unreadable(cause)) from None
    if _kind_of(event) is not None:
        raise NotARecord(why_unreadable(error)) from None
    return _HeadLine(**{name: getattr(event, name) for name in _Line.__struct_fields__})


def why_not(line: bytes) -> str:
    """Why a line is no audit event; empty if it is one."""
    try:
        classify(line)
    except NotARecord as error:
        return str(error)
    return ""


def heads(identity: str, payload: bytes) -> list[Head]:
    """What the order needs of a recognised record: one head, or one for each object of a deletecollection."""
    return _heads(_head_line.decode(payload), identity)


def _heads(event: _HeadLine, identity: str) -> list[Head]:
    kind = _kind_of(event)
    assert kind is not None, "only recognised records come here"
    reference = event.objectRef or _Reference()
    time = moment(event.stageTimestamp, "stageTimestamp")
    received = _received_at(event, time)
    shown = event.responseObject
    outcome = _outcome(event, shown)
    if event.verb == "deletecollection" and outcome == MADE and shown is not None:
        return [
            Head(
                time=time,
                identity=identity,
                part=part,
                received=received,
                key=_key(kind, reference, item.metadata),
                uid=item.metadata.uid,
                revision=0,
                outcome=REMOVED if _goes_at_once(kind, item.metadata) else MADE,
            )
            for part, item in enumerate(shown.items or ())
        ]
    bodied = shown is not None and shown.kind != "Status" and outcome in (MADE, REMOVED)
    metadata = shown.metadata if bodied and shown is not None else Metadata()
    uid = metadata.uid or reference.uid
    if not uid and shown is not None and shown.details is not None:
        uid = shown.details.uid
    return [
        Head(
            time=time,
            identity=identity,
            part=0,
            received=received,
            key=_key(kind, reference, metadata),
            uid=uid,
            revision=revision_of(metadata.resourceVersion) or 0,
            outcome=outcome,
            creates=outcome == MADE and bodied and (event.verb == "create" or _code(event) == 201),
            owns=outcome == REMOVED and event.verb == "delete" and bodied and bool(metadata.deletionTimestamp),
        )
    ]


def operation(payload: bytes, order: OrderKey, outcome: str) -> Operation:
    """The operation that a record is, now that its place and outcome are known.

    A body that cannot be read makes it an attempt whose effect is unknown.
    """
    event = _full_line.decode(payload)
    try:
        return _operation(event, order.part, order, outcome)
    except (*UNREADABLE, IndexError) as error:
        unreadable = _operation(event, order.part, order, UNKNOWN)
        return msgspec.structs.replace(unreadable, reason=f"its body cannot be read: {why_unreadable(error)}")


def _operation(event: _FullLine, part: int, order: OrderKey, outcome: str) -> Operation:
    kind = _kind_of(event)
    assert kind is not None, "only recognised records come here"
    reference = event.objectRef or _Reference()
    shown: Answered | None = None
    after: Fields | None = None
    metadata = WholeMetadata()
    answer = bytes(event.responseObject)
    if outcome != UNKNOWN and answer not in (b"", b"null"):
        if event.verb == "deletecollection" and outcome in (MADE, REMOVED):
            answer = bytes(_objects.decode(answer).items[part])
        shown = shown_as(kind, answer)
    if shown is not None and shown.kind != "Status" and outcome not in (REFUSED, DRY_RUN):
        metadata = shown.metadata
        after = fields_of(shown)
        if event.verb == "deletecollection":
            after.setdefault(DELETION, event.stageTimestamp[:19] + "Z")
    if outcome == MADE and reference.subresource == "binding":
        after = {"spec.nodeName": _asked.decode(event.requestObject).target.name}
    elif outcome == MADE and reference.subresource == "eviction":
        after = {DELETION: event.stageTimestamp[:19] + "Z"}
    uid = metadata.uid or reference.uid
    if not uid and shown is not None and shown.details is not None:
        uid = shown.details.uid
    return Operation(
        order=order,
        key=_key(kind, reference, metadata),
        verb=event.verb,
        subresource=reference.subresource,
        outcome=outcome,
        code=_code(event),
        reason=_reason(event, shown, outcome),
        actor=_actor(event),
        agent=event.userAgent.split(" ", 1)[0],
        time=order.time,
        received=_received_at(event, order.time),
        uid=uid,
        revision=revision_of(metadata.resourceVersion) if outcome == MADE and order.own == 0 else None,
        read_revision=_read_revision(event),
        after=after,
        command=tuple(_query(event).get("command", ())) if outcome == RAN else (),
    )


# ---- what one event is


def _kind_of(event: _Line) -> Kind | None:
    """The kind that an event is a write or an exec on; `None` if it is on something else, a read, or an early stage."""
    reference = event.objectRef
    if reference is None:
        return None
    kind = BY_RESOURCE.get((reference.apiGroup, reference.resource))
    if kind is None:
        return None
    if reference.subresource == "exec":
        wanted = event.stage in ("ResponseStarted", "ResponseComplete") and kind.name == "pod"
        return kind if wanted else None
    if event.verb not in _WRITES or reference.subresource in _OTHER_SUBRESOURCES:
        return None
    return kind if event.stage in ("ResponseComplete", "Panic") else None


def _outcome(event: _Line, shown: _Shown | None) -> str:
    code = _code(event)
    subresource = event.objectRef.subresource if event.objectRef else ""
    if "dryRun" in event.requestURI and _query(event).get("dryRun"):
        return DRY_RUN
    if code >= 400 or (code == 0 and event.stage == "Panic"):
        return REFUSED
    if subresource == "exec":
        return RAN if code == 101 else REFUSED
    if subresource == "binding" and (event.level == "Metadata" or _is_truncated(event)):
        return UNKNOWN  # the node is in the request's body
    if subresource in ("binding", "eviction"):
        return MADE
    if shown is None:
        return UNKNOWN
    if shown.kind == "Status":
        return REMOVED if event.verb == "delete" else UNKNOWN
    if event.verb == "deletecollection":
        return MADE
    metadata = shown.metadata
    if not metadata.resourceVersion:
        return UNKNOWN
    return REMOVED if _is_gone(event, metadata, shown) else MADE


def _is_gone(event: _Line, metadata: Metadata, shown: _Shown) -> bool:
    """The answer that shows an object for the last time: going, with nothing that holds it any more."""
    if event.verb == "delete" and not metadata.deletionTimestamp:
        return True  # a Service's answer: the object as it was, of the revision before
    if not metadata.deletionTimestamp or metadata.finalizers or metadata.deletionGracePeriodSeconds:
        return False
    reference = event.objectRef
    if reference is not None and reference.resource == "namespaces" and not reference.apiGroup:
        # A namespace is held by spec.finalizers, which only the finalize subresource takes off.
        return reference.subresource == "finalize"
    return True


def _goes_at_once(kind: Kind, metadata: Metadata) -> bool:
    """Whether an item of a deletecollection went with it: the answer shows the list as it was before."""
    return not metadata.finalizers and kind.name not in ("pod", "namespace")


def _key(kind: Kind, reference: _Reference, metadata: Metadata) -> Key:
    namespace = (metadata.namespace or reference.namespace) if kind.namespaced else ""
    return Key(kind.name, namespace, metadata.name or reference.name)


def _actor(event: _Line) -> str:
    user = event.user.username
    return f"{event.impersonatedUser.username} (by {user})" if event.impersonatedUser else user


def _read_revision(event: _FullLine) -> int | None:
    """The revision its writer had read: a PUT's objectRef has it, of a patch only a body that names or tests it."""
    reference = event.objectRef or _Reference()
    if event.verb == "update" and reference.resourceVersion:
        return revision_of(reference.resourceVersion)
    asked = bytes(event.requestObject)
    if event.verb != "patch" or b"resourceVersion" not in asked:
        return None
    try:
        if asked.startswith(b"["):
            # A JSON patch says so by a test, which is how our own repairs guard themselves.
            tested = (step for step in _steps.decode(asked) if (step.op, step.path) == _REVISION_TEST)
            return next((revision_of(step.value) for step in tested if isinstance(step.value, str)), None)
        return revision_of(_asked.decode(asked).metadata.resourceVersion)
    except UNREADABLE:
        return None  # the label of some field, or a body of another shape


def _reason(event: _Line, shown: Answered | None, outcome: str) -> str:
    if outcome == UNKNOWN:
        return TRUNCATED if _is_truncated(event) else BELOW
    if outcome != REFUSED:
        return ""
    message = shown.message if shown is not None else ""
    answer = event.responseStatus
    return (message or (answer.reason if answer else ""))[:500]


def _is_truncated(event: _Line) -> bool:
    return (event.annotations or {}).get("audit.k8s.io/truncated") == "true"


def _code(event: _Line) -> int:
    code = event.responseStatus.code if event.responseStatus else 0
    return code if 0 <= code < 1000 else 0


def _received(event: _Line) -> str:
    return event.requestReceivedTimestamp or event.stageTimestamp


def _received_at(event: _Line, time: int) -> int:
    try:
        return moment(_received(event), "requestReceivedTimestamp")
    except NotARecord:
        return time


def _query(event: _Line) -> dict[str, list[str]]:
    try:
        return parse_qs(urlsplit(event.requestURI).query)
    except ValueError:
        return {}
