"""What is asked: findings, resources, histories, events. Each is a function of the request, run in a thread of its own.

Routes for more questions are added here and in the table of `routes`; what they answer is made where the command line's
is, so that both say the same.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from adapters import app, report
from adapters.http.answers import Problem, answer, tagged
from adapters.http.service import Service
from adapters.live import Stand
from domain.resources import KINDS, Key, Kind, kind_called
from projections.findings.rule import HEALED, OPEN, PENDING, UNKNOWN

STATUSES = (OPEN, UNKNOWN, PENDING, HEALED)


def findings(request: Request, service: Service) -> Response:
    """What is wrong, as `netledger findings -o json` has it, with what the answer rests on."""
    status, rule = request.query_params.get("status"), request.query_params.get("rule", "").lower()
    if status not in (None, *STATUSES):
        raise Problem(400, f"there is no status {status[:40]!r}; what there is: {', '.join(STATUSES)}")
    stand, document = service.findings()
    rows = [
        row
        for row in document["findings"]
        if (status is None or row["status"] == status) and (not rule or rule in (row["rule"].lower(), row["name"]))
    ]
    return tagged(request, {"findings": rows, **_rests_on(stand, document)}, stand.position)


def finding(request: Request, service: Service) -> Response:
    """One finding, by its id or the beginning of it."""
    asked = request.path_params["id"]
    stand, document = service.findings()
    rows = document["findings"]
    found = [row for row in rows if row["id"] == asked] or [row for row in rows if row["id"].startswith(asked)]
    if len(found) != 1:
        why = f"{len(found)} findings begin so; give more of its id" if found else "`/v1/findings` lists them"
        raise Problem(404, f"there is no finding {asked[:100]!r}: {why}")
    return tagged(request, {"finding": found[0], **_rests_on(stand, document)}, stand.position)


def resources(request: Request, service: Service) -> Response:
    """The live resources of a kind, now or at a moment."""
    kind = _kind(request)
    namespace = request.query_params.get("namespace")
    rows = [row for row in _resources(request, service, kind, None) if namespace in (None, row["namespace"] or "")]
    stand, document = service.findings()
    return tagged(request, {"resources": rows, **_rests_on(stand, document)}, stand.position)


def resource(request: Request, service: Service) -> Response:
    """One live resource. Its ETag names the last event on it: `If-Match` of a command takes it."""
    kind = _kind(request)
    key = _key(request, kind)
    last = service.live.position_of(key)
    rows = [
        row
        for row in _resources(request, service, kind, key)
        if row["name"] == key.name and (row["namespace"] or "") == key.namespace
    ]
    if not rows:
        raise Problem(404, f"there is no {key}; /v1/history/{kind.name}/{key.path} shows what the log knows of it")
    stand, document = service.findings()
    return tagged(request, {"resource": rows[0], **_rests_on(stand, document)}, last)


def history(request: Request, service: Service) -> Response:
    """All that happened to one resource, in the true order; of one that is gone, too."""
    kind = _kind(request)
    key = _key(request, kind)
    with service.live.asked() as store:
        placed = [one for one in store.ledger.concerning(key) if one.event.key == key]
        places = store.journal.locate({one.event.record for one in placed})
        rows = [report.timeline_row(one.position, one.event, places.get(one.event.record)) for one in placed]
    if not rows:
        raise Problem(404, f"nothing in this ledger is about {key}; /v1/resources/{kind.name} lists what is there")
    stand, document = service.findings()
    return tagged(request, {"history": rows, **_rests_on(stand, document)}, rows[-1]["position"])


def event(request: Request, service: Service) -> Response:
    """One event, by its position."""
    asked = request.path_params["position"]
    position = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) <= 18 else 0
    with service.live.asked() as store:
        for found in store.ledger.events(after=(0, position - 1)) if 0 < position <= store.ledger.head else ():
            if found.position != position:
                break
            return answer({"position": position, "event": msgspec.to_builtins(found.event)})
    raise Problem(404, f"no event of today's generation stands at position {asked[:20]}")


def _rests_on(stand: Stand, document: dict[str, Any]) -> dict[str, Any]:
    """What goes with every answer: how far it goes, and what it cannot speak for."""
    return {
        "ledger": {"generation": stand.generation, "position": stand.position},
        "provisional": document["provisional"],
        "coverage": document["coverage"],
    }


def _resources(request: Request, service: Service, kind: Kind, key: Key | None) -> list[dict[str, Any]]:
    at = request.query_params.get("at")
    if at is not None:
        try:
            moment = app.read_moment(at)
        except app.NotAMoment as error:
            raise Problem(400, str(error)) from None
        with service.live.asked() as store:
            return report.resources_at(store, kind, moment, key)
    with service.live.reading() as reading:
        live = reading.world.live
        found = (
            [live[key]] if key in live else [one for one in live.values() if one.key.kind == kind.name and key is None]
        )
        found.sort(key=lambda one: one.key)
        return [report.resource_document(one, reading.standing(one)) for one in found]


def _kind(request: Request) -> Kind:
    word = request.path_params["kind"]
    try:
        return kind_called(word)
    except KeyError:
        raise Problem(
            404, f"there is no kind {word[:60]!r}; the kinds are {', '.join(kind.name for kind in KINDS)}"
        ) from None


def _key(request: Request, kind: Kind) -> Key:
    namespace, name = request.path_params.get("namespace", ""), request.path_params["name"]
    if namespace and not kind.namespaced:
        raise Problem(404, f"{kind.plural} live in no namespace: ask for {kind.name}/NAME")
    if kind.namespaced and kind.served and not namespace:
        raise Problem(404, f"{kind.plural} live in namespaces: ask for {kind.name}/NAMESPACE/NAME")
    return Key(kind.name, namespace, name)
