"""`POST /v1/commands`: the engine as authority. What is legal becomes an event, what is not is refused with its reason.

`Live.command` decides. The same `Idempotency-Key` given twice is one event; `If-Match` holds it to what its sender knew.
"""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from adapters.authority import TooManyConflicts
from adapters.http.access import Actor
from adapters.http.answers import Problem, answer
from adapters.http.bodies import RETRY_AFTER, body_of, share_of
from adapters.http.service import Service
from adapters.live import Conflict
from adapters.ports import StoreError, StoreFull
from adapters.sources.api_object import UNREADABLE, why_unreadable
from domain.decide import Command
from domain.kinds import VOCABULARY
from domain.resources import Key, Kind, kind_called

BODY_BYTES = 1 << 20
REASON_MOST = 2_000
"""How many characters somebody may give as the reason: every event that cites it shows it."""
_IDENTITY = re.compile(r"[!-~]{1,200}")
_POSITION = re.compile(r'"?(\d{1,18})(?:-[0-9a-f]+)?"?')


class GivenResource(msgspec.Struct, forbid_unknown_fields=True):
    """Which resource a command is about."""

    kind: str
    name: str
    namespace: str = ""


class GivenCommand(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent. `fields` are by path, such as `spec.vpc`; `reason` is kept with the event, and shown in its history."""

    event: str
    resource: GivenResource
    fields: dict[str, Any] = {}
    uid: str = ""
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MOST)] = ""


_given = msgspec.json.Decoder(GivenCommand)


async def give(request: Request, service: Service, actor: Actor) -> Response:
    """Decide one command."""
    identity = request.headers.get("idempotency-key", "")
    if not _IDENTITY.fullmatch(identity):
        raise Problem(
            400,
            "a command needs the header Idempotency-Key: up to 200 visible characters of your choice, such as a UUID, the "
            "same when you send the same command again",
        )
    expected = _expected(request.headers.get("if-match"))
    with share_of(service.room) as share:
        body = await body_of(request, share, most=BODY_BYTES, seconds=service.bounds.request_seconds)
    command, kind = _command(body, identity, actor)
    try:
        verdict = await run_in_threadpool(service.live.command, command, expected)
    except Conflict as error:
        raise Problem(412, str(error)) from None
    except TooManyConflicts as error:
        raise Problem(503, str(error), {"retry-after": RETRY_AFTER}) from None
    except StoreFull as error:
        raise Problem(507, str(error), {"retry-after": RETRY_AFTER}) from None
    except StoreError as error:
        raise Problem(503, str(error), {"retry-after": RETRY_AFTER}) from None
    request.state.noted = {"command": command.event, "resource": str(command.key), "reason": command.purpose}
    if not verdict.admitted:
        possible = await run_in_threadpool(_possible, service, kind, command.key)
        raise Problem(409, verdict.reason, None, next=possible, position=verdict.position)
    event = msgspec.to_builtins(verdict.event)
    return answer({"position": verdict.position, "event": event}, 201, {"location": f"/v1/events/{verdict.position}"})


def _expected(header: str | None) -> int | None:
    if header is None:
        return None
    found = _POSITION.fullmatch(header.strip())
    if found is None:
        raise Problem(400, 'If-Match is a position in quotes, as an ETag of /v1/resources gives it: If-Match: "330"')
    return int(found[1])


def _command(body: bytes, identity: str, actor: Actor) -> tuple[Command, Kind]:
    try:
        given = _given.decode(body)
    except UNREADABLE as error:
        raise Problem(422, f"this is no command: {why_unreadable(error)}; see /openapi.json") from None
    try:
        kind = kind_called(given.resource.kind)
    except KeyError:
        raise Problem(
            422, f"there is no kind {given.resource.kind[:60]!r}; the kinds are {', '.join(VOCABULARY)}"
        ) from None
    events = VOCABULARY[kind.name].lifecycle.events
    if given.event not in events:
        raise Problem(
            422,
            f"nothing that is called {given.event[:60]!r} happens to a {kind.name}: {', '.join(events)}",
            events=events,
        )
    if not given.resource.name:
        raise Problem(422, "resource.name is empty: a command is about one resource")
    if bool(given.resource.namespace) > kind.namespaced:
        raise Problem(422, f"{kind.plural} live in no namespace: leave resource.namespace out")
    if kind.namespaced and kind.served and not given.resource.namespace:
        raise Problem(422, f"{kind.plural} live in namespaces: resource.namespace is missing")
    command = Command(
        event=given.event,
        key=Key(kind.name, given.resource.namespace, given.resource.name),
        identity=identity,
        actor=actor.name,
        time=time.time_ns() // 1_000,
        uid=given.uid,
        fields=given.fields,
        purpose=given.reason,
    )
    return command, kind


def _possible(service: Service, kind: Kind, key: Key) -> list[str]:
    with service.live.reading() as reading:
        state = reading.world.state(key)
    return list(VOCABULARY[kind.name].lifecycle.next_events(state))
