"""Every route in one table: who may use it, which function answers it, and what is said of it in `/openapi.json`.

`application` makes of it what uvicorn runs. Whatever goes wrong in a handler leaves here as a problem with a sentence.
`server` is next on the way out, `ingest`, `commands`, `questions`, `following`, `health` on the way in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.app import NotAMoment
from adapters.http import commands, ingest, metrics, openapi, projections, questions
from adapters.http.access import ANYBODY, COMMAND, INGEST, READ, Actor, Denied
from adapters.http.answers import Problem, answer, flag
from adapters.http.bodies import RETRY_AFTER
from adapters.http.health import Readiness, told
from adapters.http.openapi import Described
from adapters.http.service import Service
from adapters.label_selector import NotASelector
from adapters.ledger import NotTold
from adapters.ports import StoreError
from adapters.report import NotKnown
from adapters.tracing import span
from adapters.trail import NotAToken, TokenOutlived

Handler = Callable[[Request, Service, Actor], Awaitable[Response]]

_log = logging.getLogger("netledger.http")
READY_SECONDS = 2.0
"""How long `/readyz` waits for an engine that does not answer."""

_QUIET = ("/livez", "/readyz", "/metrics", "/ingest/audit")
"""What is asked all the time: in the log only where it failed."""


def _asked(question: Callable[[Request, Service], Response]) -> Handler:
    """A question as a handler: it runs in a thread, so that nobody else waits for it."""

    async def handle(request: Request, service: Service, actor: Actor) -> Response:
        return await run_in_threadpool(question, request, service)

    return handle


async def _findings(request: Request, service: Service, actor: Actor) -> Response:
    if not flag(request, "watch"):
        return await run_in_threadpool(questions.findings, request, service)
    after = request.headers.get("last-event-id", request.query_params.get("after"))
    if after is not None and not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise Problem(400, "Last-Event-ID and after= are the number of the last change that you had")
    events = await service.followers.follow(None if after is None else int(after), service.bounds.heartbeat_seconds)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


async def _audit(request: Request, service: Service, actor: Actor) -> Response:
    return await ingest.audit(request, service)


async def _metrics(request: Request, service: Service, actor: Actor) -> Response:
    return Response(await run_in_threadpool(service.metrics.page), media_type=metrics.CONTENT_TYPE)


async def _livez(request: Request, service: Service, actor: Actor) -> Response:
    return PlainTextResponse("ok")


async def _readyz(request: Request, service: Service, actor: Actor) -> Response:
    readiness: Readiness = request.app.state.readiness
    try:
        async with asyncio.timeout(READY_SECONDS):
            # Left behind where it hangs, in threads that nobody else waits for.
            checks = await to_thread.run_sync(readiness.checks, abandon_on_cancel=True, limiter=readiness.threads)
    except TimeoutError:
        checks = {"engine": "it does not answer"}
    try:
        service.access.require(READ, request.headers, _certificate(request))
        why = True
    except Denied:
        why = False
    notes = readiness.notes() if why else ()
    status, text = told("readyz", checks, notes, verbose=flag(request, "verbose"), why=why)
    return PlainTextResponse(text, status)


async def _openapi(request: Request, service: Service, actor: Actor) -> Response:
    return answer(request.app.state.openapi)


ROUTES: tuple[tuple[Described, Handler], ...] = (
    (openapi.AUDIT.by(INGEST), _audit),
    (openapi.COMMANDS.by(COMMAND), commands.give),
    (openapi.FINDINGS.by(READ), _findings),
    (openapi.FINDING.by(READ), _asked(questions.finding)),
    (openapi.RESOURCES.by(READ), _asked(questions.resources)),
    (openapi.RESOURCE.by(READ), _asked(questions.resource)),
    (openapi.NAMESPACED_RESOURCE.by(READ), _asked(questions.resource)),
    (openapi.IPSET.by(READ), _asked(questions.ipset)),
    (openapi.EVENTS.by(READ), _asked(questions.events)),
    (openapi.EVENT.by(READ), _asked(questions.event)),
    (openapi.KNOWN.by(READ), _asked(questions.known)),
    (openapi.HISTORY.by(READ), _asked(questions.history)),
    (openapi.NAMESPACED_HISTORY.by(READ), _asked(questions.history)),
    (openapi.WHO.by(READ), _asked(questions.who)),
    (openapi.NAMESPACED_WHO.by(READ), _asked(questions.who)),
    (openapi.DIFF.by(READ), _asked(questions.diff)),
    (openapi.NAMESPACED_DIFF.by(READ), _asked(questions.diff)),
    (openapi.BLAME.by(READ), _asked(questions.blame)),
    (openapi.NAMESPACED_BLAME.by(READ), _asked(questions.blame)),
    (openapi.WHY.by(READ), _asked(questions.why)),
    (openapi.NAMESPACED_WHY.by(READ), _asked(questions.why)),
    (openapi.VPC_STATUSES.by(READ), _asked(projections.vpc_status)),
    (openapi.VPC_STATUS.by(READ), _asked(projections.vpc_status)),
    (openapi.MEMBERSHIPS.by(READ), _asked(projections.memberships)),
    (openapi.MEMBERSHIP.by(READ), _asked(projections.membership)),
    (openapi.NODELESS_MEMBERSHIP.by(READ), _asked(projections.membership)),
    (openapi.REBUILD.by(COMMAND), projections.rebuild),
    (openapi.METRICS.by(READ), _metrics),
    (openapi.OPENAPI.by(READ), _openapi),
    (openapi.LIVEZ.by(""), _livez),
    (openapi.READYZ.by(""), _readyz),
)


def application(service: Service) -> ASGIApp:
    """What answers requests."""
    paths = [
        # A finding's id has slashes in it.
        Path(
            described.path.replace("{id}", "{id:path}"),
            _endpoint(described, handler, service),
            methods=[described.method],
        )
        for described, handler in ROUTES
    ]
    app = Starlette(routes=paths, exception_handlers={HTTPException: _unrouted})
    app.router.redirect_slashes = False
    app.state.readiness = Readiness(service)
    app.state.openapi = openapi.document(described for described, _ in ROUTES)
    return _Counted(app, service)


def _endpoint(described: Described, handler: Handler, service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.state.route = described.path
        name = f"{described.method} {described.path}"
        with span(name, {"http.request.method": request.method, "http.route": described.path}, request.headers):
            try:
                actor = ANYBODY
                if described.right:
                    actor = service.access.require(described.right, request.headers, _certificate(request))
                    request.state.actor = actor.name
                return await handler(request, service, actor)
            except Denied as error:
                headers = {"www-authenticate": 'Bearer realm="netledger"'} if error.status == 401 else {}
                problem = Problem(error.status, str(error), headers)
            except Problem as error:
                problem = error
            except ClientDisconnect:
                problem = Problem(408, "the sender went away before the body had come")
            except NotKnown as error:
                problem = Problem(404, str(error))
            except (TokenOutlived, NotTold) as error:
                problem = Problem(410, str(error))
            except (NotAMoment, NotASelector, NotAToken) as error:
                problem = Problem(400, str(error))
            except StoreError as error:
                problem = Problem(503, str(error), {"retry-after": RETRY_AFTER})
            except asyncio.CancelledError:
                # The server lets go of what has not ended a while after the signal. What is being kept is kept to its end.
                problem = Problem(
                    503, "this daemon is stopping; whether all of it was kept is not known: send it again"
                )
            except Exception:
                _log.exception("this is a bug in netledger: %s", name)
                problem = Problem(500, "this is a bug in netledger; the daemon's log has more, please report it")
            request.state.problem = str(problem)
            return problem.response()

    return endpoint


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {
        404: "there is nothing here; /openapi.json has every route",
        405: f"{request.method} is not what this route takes",
    }.get(error.status_code, str(error.detail))
    return Problem(error.status_code, detail, error.headers).response()


def _certificate(request: Request) -> str | None:
    """The common name that a client's certificate proved, where it showed one."""
    connection = request.scope.get("state", {}).get("connection")
    return None if connection is None else connection.common_name


class _Counted:
    """Counts every request and its answer, and logs it: the path alone, for a query may hold what is nobody's business."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status, streamed = 0, False

        async def sending(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
                streamed = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - began
            state = scope.get("state", {})
            route = state.get("route", "(none)")
            self._service.metrics.answered(route, _method(scope["method"]), status, None if streamed else seconds)
            _tell(scope, state, route, status, seconds)


def _method(method: str) -> str:
    # What a client makes up must not become a series of its own.
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"


def _tell(scope: Scope, state: dict[str, Any], route: str, status: int, seconds: float) -> None:
    level = logging.DEBUG if route in _QUIET and status < 400 else logging.WARNING if status >= 500 else logging.INFO
    if not _log.isEnabledFor(level):
        return
    fields = {
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 4),
        "client": (scope.get("client") or ("",))[0],
        **{name: state[name] for name in ("actor", "problem") if name in state},
        **state.get("noted", {}),
    }
    _log.log(level, "%s %s %d", scope["method"], scope["path"][:200], status, extra={"fields": fields})
