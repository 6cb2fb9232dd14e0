"""`POST /ingest/audit`: what a kube-apiserver's audit webhook sends. The answer is 200 only when it is on disk.

An API server tries everything again that is not answered with success, and loses the whole batch after five times: so
what cannot be read is kept aside with its reason, and acknowledged. Too much at once is refused at once, and counted.
`event_list` takes the body apart, `adapters/intake.py` keeps it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from adapters.http.answers import Problem, answer
from adapters.http.bodies import RETRY_AFTER, NotGzip, Share, body_of, inflated, overloaded, share_of
from adapters.http.event_list import Units, units_of
from adapters.http.service import Service
from adapters.intake import Taken
from adapters.ports import Aside, StoreError, StoreFull
from adapters.sources import audit_log
from adapters.tracing import span

SOURCE = "webhook"
SOURCES_AT_MOST = 100
"""Names of senders that one process learns: each is a row in the ledger for ever."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,99}")
_log = logging.getLogger(__name__)


async def audit(request: Request, service: Service) -> Response:
    """Keep the events of one POST."""
    source = request.query_params.get("source", SOURCE)
    if not _NAME.fullmatch(source):
        raise Problem(400, "source= is a name of up to 100 letters, digits and . _ / : -, such as one API server's")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Problem(
            415, f"bodies are taken as they are or in gzip, not in {encoding[:40]}", {"accept-encoding": "gzip"}
        )
    if service.taking >= service.bounds.takes:
        refused = overloaded(f"{service.taking} batches are being kept")
        refused.unread = True
        raise refused
    with share_of(service.room) as share:
        body = await body_of(request, share, most=service.bounds.body, seconds=service.bounds.request_seconds)
        if service.taking >= service.bounds.takes:
            raise overloaded(f"{service.taking} batches are being kept")
        service.taking += 1
        try:
            # A thread of our own pool does not know by itself in which trace it is.
            within = contextvars.copy_context().run
            taken = await asyncio.get_running_loop().run_in_executor(
                service.threads, within, _take, service, source, body, encoding != "identity", share
            )
        finally:
            service.taking -= 1
    return answer({"taken": {"records": taken.records, **msgspec.to_builtins(taken)}})


def _take(service: Service, source: str, body: bytes, compressed: bool, share: Share) -> Taken:
    with span("take", {"netledger.source": source, "netledger.bytes": len(body)}):
        found = _read(body, compressed, share, service.bounds.body)
        try:
            known = {inlet.path for inlet in service.live.intake.inlets()}
            if source not in known and len(known) >= SOURCES_AT_MOST:
                raise Problem(
                    400, f"{SOURCES_AT_MOST} sources are known already; leave source= out, or name one of them"
                )
            inlet = service.live.intake.inlet(source, audit_log.FORMAT)
            before = time.perf_counter()
            taken = inlet.take(found.units, aside=found.aside)
        except StoreFull as error:
            raise Problem(507, str(error), {"retry-after": RETRY_AFTER}) from error
        except StoreError as error:
            raise Problem(503, str(error), {"retry-after": RETRY_AFTER}) from error
        service.metrics.appended(time.perf_counter() - before)
    if taken.aside:
        first = found.aside[0].reason if found.aside else "see `netledger verify --aside`"
        _log.warning("kept aside", extra={"fields": {"source": source, "count": taken.aside, "first": first}})
    return taken


def _read(body: bytes, compressed: bool, share: Share, most: int) -> Units:
    if not compressed:
        return units_of(body)
    try:
        return units_of(inflated(body, share, most=most))
    except NotGzip as error:
        return Units([], [Aside.of(1, f"a body that says it is gzip cannot be inflated: {error}", body)])
