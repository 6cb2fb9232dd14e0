"""What should be, for other programs: VPC status and ipset membership at a position, and folding them again.

The same values are pushed to Redis by `adapters/publishing.py`. An ipset is also told as the text that makes it so.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from adapters import report
from adapters.http.access import Actor
from adapters.http.answers import Problem, answer, tagged
from adapters.http.service import Service
from adapters.live import Stand
from domain.resources import Key
from projections import lawful


def vpc_status(request: Request, service: Service) -> Response:
    """What the status of each VPC should say, or of one."""
    name = request.path_params.get("name")
    with service.live.reading() as reading:
        stand, live = service.live.stand(), reading.world.live
        named = Key("vpc", "", name) if name is not None else None
        found = [live[named]] if named in live else []
        if named is None:
            found = sorted((one for key, one in live.items() if key.kind == "vpc"), key=lambda one: one.key)
        rows = [{"name": one.key.name, **lawful.vpc_status(reading, one)} for one in found]
    if named is None:
        return tagged(request, {"vpcs": rows, **_at(stand, service)}, stand.position)
    if not rows:
        raise Problem(404, f"there is no {named}; /v1/projections/vpc-status lists them")
    return tagged(request, {"vpc": rows[0], **_at(stand, service)}, stand.position)


def memberships(request: Request, service: Service) -> Response:
    """The members that belong in each ipset of which that is known."""
    node = request.query_params.get("node")
    with service.live.reading() as reading:
        stand, found = service.live.stand(), lawful.ipset_members(reading)
    rows = [_row(path, members) for path, members in sorted(found.items())]
    rows = [row for row in rows if node in (None, row["node"])]
    return tagged(request, {"ipsets": rows, **_at(stand, service)}, stand.position)


def membership(request: Request, service: Service) -> Response:
    """The members that belong in one ipset, as JSON or as an `ipset restore` input."""
    key = Key("ipset", request.path_params.get("node", ""), request.path_params["name"])
    as_text = _wants_text(request)
    with service.live.reading() as reading:
        stand, resource = service.live.stand(), reading.world.live.get(key)
        if resource is None:
            raise Problem(404, f"there is no {key}; /v1/projections/ipset-membership lists them")
        try:
            members = lawful.members_of(reading, resource)
            lines = report.ipset_save(reading, resource) if as_text or members is None else []
        except report.NotKnown as error:
            raise Problem(404, str(error)) from None
    if as_text:
        headers = {"etag": f'"{stand.position}"', "vary": "accept", "netledger-position": str(stand.position)}
        return Response("\n".join([*lines, ""]), 200, headers, "text/plain")
    row = _row(f"{key.namespace}/{key.name}", members or frozenset())
    found = tagged(request, {"ipset": row, **_at(stand, service)}, stand.position)
    found.headers["vary"] = "accept"
    return found


async def rebuild(request: Request, service: Service, actor: Actor) -> Response:
    """Fold again from the log, beside the engine; one at a time."""
    if not service.rebuilding.acquire(blocking=False):
        raise Problem(409, "it is being rebuilt already; ask again when that is done")
    try:
        began = time.monotonic()
        events = await run_in_threadpool(service.live.rebuild)
    finally:
        service.rebuilding.release()
    stand = await run_in_threadpool(service.live.stand)
    taken = round(time.monotonic() - began, 3)
    request.state.noted = {"events": events, "taken": taken}
    return answer({"events": events, "generation": stand.generation, "position": stand.position, "seconds": taken}, 200)


def _row(path: str, members: frozenset[str]) -> dict[str, Any]:
    node, _, name = path.partition("/")
    return {"node": node, "name": name, "members": sorted(members)}


def _at(stand: Stand, service: Service) -> dict[str, Any]:
    document = service.live.findings()
    return {
        "position": stand.position,
        "ledger": {"generation": stand.generation, "position": stand.position},
        "provisional": document["provisional"],
        "coverage": document["coverage"],
    }


def _wants_text(request: Request) -> bool:
    asked = request.query_params.get("format")
    if asked is not None:
        if asked not in ("json", "restore"):
            raise Problem(400, "format= is json or restore")
        return asked == "restore"
    accepted = [one.partition(";")[0].strip().lower() for one in request.headers.get("accept", "").split(",")]
    return "text/plain" in accepted and "application/json" not in accepted
