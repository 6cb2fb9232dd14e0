"""What is said of each route: `/openapi.json`, OpenAPI 3.1, for programs and for people who write them.

It stands beside the table in `routes`, which names each of these once; schemathesis holds it to what is answered. What a
finding and a resource look like comes from the JSON Schema of `netledger replay -o json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from adapters.http.access import RIGHTS
from adapters.http.answers import PROBLEM
from adapters.http.commands import GivenCommand
from adapters.http.questions import STATUSES
from domain.resources import KINDS

Json = dict[str, Any]


class Described(NamedTuple):
    """One route. `answers` are by status; `right` is what it takes to use it, empty where anybody may."""

    method: str
    path: str
    name: str
    summary: str
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    answers: tuple[tuple[int, Json], ...] = ()
    problems: tuple[int, ...] = ()
    right: str = ""

    def by(self, right: str) -> Described:
        """The same, for who has that right."""
        return self._replace(right=right)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Json, headers: Json | None = None) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema}},
        **({"headers": headers} if headers else {}),
    }


def _text(description: str) -> Json:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _path(name: str, description: str) -> Json:
    schema = {"type": "string", "minLength": 1, "maxLength": 253}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str, schema: Json, *, required: bool = False) -> Json:
    return {"name": name, "in": "header", "required": required, "description": description, "schema": schema}


_ETAG = {"ETag": {"description": "Where the answer stands.", "schema": {"type": "string"}}}
_AGAIN = _header("If-None-Match", "The ETag of the answer that you have.", {"type": "string"})
_UNCHANGED = (304, {"description": "What you have is what there is.", "headers": _ETAG})
_KIND = _path("kind", f"A kind by its name, plural or short name: {', '.join(kind.name for kind in KINDS)}.")
_NAME = _path("name", "The resource's name.")
_NAMESPACE = _path("namespace", "Its namespace; of an ipset, its node.")
_AT = _query("at", "A time (RFC 3339) or a revision: as it was then.", {"type": "string"})
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}


def _answered(name: str, schema: Json) -> Json:
    return {
        "type": "object",
        "required": [name, "ledger", "provisional", "coverage"],
        "properties": {
            name: schema,
            "ledger": _ref("Ledger"),
            "provisional": {
                "type": "object",
                "description": "What may still change this answer: records that wait in the reorder window, and since when.",
                "required": ["undecided", "seconds", "settled"],
                "properties": {
                    "undecided": {"type": "integer"},
                    "seconds": {"type": "number"},
                    "settled": {"type": "boolean"},
                },
            },
            "coverage": _ref("coverage"),
        },
    }


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _projected(name: str, schema: Json) -> Json:
    answer = _answered(name, schema)
    position = {"type": "integer", "description": "Of the last event that it follows from."}
    return {
        **answer,
        "required": ["position", *answer["required"]],
        "properties": {"position": position, **answer["properties"]},
    }


AUDIT = Described(
    "POST",
    "/ingest/audit",
    "ingestAudit",
    "Keep the events of an audit webhook's POST. 200 says that they are on disk; what cannot be read is kept aside.",
    parameters=(
        _query(
            "source",
            "Which sender this is, where there are several.",
            {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._/:-]{0,99}$", "default": "webhook"},
        ),
        _query("timeout", "What an API server adds; not looked at.", {"type": "string"}),
    ),
    # Whatever it is: what is no EventList is kept aside, and acknowledged.
    body={"required": False, "content": {"application/json": {"schema": {}}}},
    answers=((200, _json("What became of the events; all of it is on disk.", _ref("Taken"))),),
    problems=(400, 408, 413, 415, 503, 507),
)
COMMANDS = Described(
    "POST",
    "/v1/commands",
    "command",
    "Let something happen, if its lifecycle allows it.",
    parameters=(
        _header(
            "Idempotency-Key",
            "Your name for this command: given twice, it is one event.",
            {"type": "string", "pattern": "^[!-~]{1,200}$"},
            required=True,
        ),
        _header(
            "If-Match",
            "The ETag of the resource as you knew it: another event since, and nothing happens.",
            {"type": "string", "pattern": '^"?[0-9]{1,18}(-[0-9a-f]+)?"?$'},
        ),
    ),
    body={"required": True, "content": {"application/json": {"schema": _ref("GivenCommand")}}},
    answers=(
        (
            201,
            _json(
                "It happened.",
                {
                    "type": "object",
                    "required": ["position", "event"],
                    "properties": {"position": {"type": "integer"}, "event": {"type": "object"}},
                },
                {"Location": {"description": "The event.", "schema": {"type": "string"}}},
            ),
        ),
    ),
    problems=(400, 408, 409, 412, 413, 422, 503, 507),
)
FINDINGS = Described(
    "GET",
    "/v1/findings",
    "findings",
    "What is wrong. With watch=true, a stream of server-sent events: what opens, changes and heals from now on.",
    parameters=(
        _query("status", "Only those.", {"type": "string", "enum": list(STATUSES)}),
        _query("rule", "Only those of a rule, by its code or name.", {"type": "string"}),
        _query("watch", "Follow them.", {"type": "boolean"}),
        _query("after", "Follow from this number on.", _NUMBER),
        _header("Last-Event-ID", "The same, as a browser says it.", _NUMBER),
        _AGAIN,
    ),
    answers=(
        (
            200,
            {
                "description": "The findings, or the stream.",
                "headers": _ETAG,
                "content": {
                    "application/json": {"schema": _answered("findings", _list(_ref("finding")))},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
        ),
        _UNCHANGED,
    ),
    problems=(400, 503),
)
FINDING = Described(
    "GET",
    "/v1/findings/{id}",
    "finding",
    "One finding whole.",
    parameters=(_path("id", "Its id, or the beginning of it."), _AGAIN),
    answers=((200, _json("The finding.", _answered("finding", _ref("finding")), _ETAG)), _UNCHANGED),
    problems=(404, 503),
)
RESOURCES = Described(
    "GET",
    "/v1/resources/{kind}",
    "resources",
    "The live resources of a kind: states, claims, and what these should be.",
    parameters=(_KIND, _query("namespace", "Only this one.", {"type": "string"}), _AT, _AGAIN),
    answers=((200, _json("They.", _answered("resources", _list(_ref("resource_standing"))), _ETAG)), _UNCHANGED),
    problems=(400, 404, 503),
)
RESOURCE = Described(
    "GET",
    "/v1/resources/{kind}/{name}",
    "resource",
    "One resource of a kind that lives in no namespace. Its ETag is what If-Match of a command takes.",
    parameters=(_KIND, _NAME, _AT, _AGAIN),
    answers=((200, _json("It.", _answered("resource", _ref("resource_standing")), _ETAG)), _UNCHANGED),
    problems=(400, 404, 503),
)
NAMESPACED_RESOURCE = RESOURCE._replace(
    path="/v1/resources/{kind}/{namespace}/{name}",
    name="namespacedResource",
    summary="One resource of a kind that lives in namespaces.",
    parameters=(_KIND, _NAMESPACE, _NAME, _AT, _AGAIN),
)
HISTORY = Described(
    "GET",
    "/v1/history/{kind}/{name}",
    "history",
    "All that happened to one resource, in the true order; of one that is gone, too.",
    parameters=(_KIND, _NAME, _AGAIN),
    answers=((200, _json("It.", _answered("history", _list({"type": "object"})), _ETAG)), _UNCHANGED),
    problems=(404, 503),
)
NAMESPACED_HISTORY = HISTORY._replace(
    path="/v1/history/{kind}/{namespace}/{name}",
    name="namespacedHistory",
    parameters=(_KIND, _NAMESPACE, _NAME, _AGAIN),
)
EVENT = Described(
    "GET",
    "/v1/events/{position}",
    "event",
    "One event, as the ledger keeps it.",
    parameters=(_path("position", "Its position."),),
    answers=(
        (
            200,
            _json(
                "It.",
                {
                    "type": "object",
                    "required": ["position", "event"],
                    "properties": {"position": {"type": "integer"}, "event": {"type": "object"}},
                },
            ),
        ),
    ),
    problems=(404, 503),
)
_VPC_STATUS = {
    "type": "object",
    "description": "Fields of its status as they should be, as far as that is known; `drift` names those that say otherwise.",
    "required": ["name", "drift"],
    "properties": {"name": {"type": "string"}, "drift": _list({"type": "string"})},
}
_MEMBERSHIP = {
    "type": "object",
    "required": ["node", "name", "members"],
    "properties": {"node": {"type": "string"}, "name": {"type": "string"}, "members": _list({"type": "string"})},
}
VPC_STATUSES = Described(
    "GET",
    "/v1/projections/vpc-status",
    "vpcStatuses",
    "What the status of each VPC should say.",
    parameters=(_AGAIN,),
    answers=((200, _json("They.", _projected("vpcs", _list(_VPC_STATUS)), _ETAG)), _UNCHANGED),
    problems=(503,),
)
VPC_STATUS = VPC_STATUSES._replace(
    path="/v1/projections/vpc-status/{name}",
    name="vpcStatus",
    summary="What the status of one VPC should say.",
    parameters=(_NAME, _AGAIN),
    answers=((200, _json("It.", _projected("vpc", _VPC_STATUS), _ETAG)), _UNCHANGED),
    problems=(404, 503),
)
MEMBERSHIPS = Described(
    "GET",
    "/v1/projections/ipset-membership",
    "ipsetMemberships",
    "The members that belong in each ipset of which that is known.",
    parameters=(_query("node", "Only of this node.", {"type": "string"}), _AGAIN),
    answers=((200, _json("They.", _projected("ipsets", _list(_MEMBERSHIP)), _ETAG)), _UNCHANGED),
    problems=(503,),
)
MEMBERSHIP = Described(
    "GET",
    "/v1/projections/ipset-membership/{node}/{name}",
    "ipsetMembership",
    "The members that belong in one ipset; as text, what `ipset restore` takes to make it so.",
    parameters=(
        _path("node", "The node that it lies on."),
        _NAME,
        _query(
            "format", "The same as Accept says: text/plain is restore.", {"type": "string", "enum": ["json", "restore"]}
        ),
        _AGAIN,
    ),
    answers=(
        (
            200,
            {
                "description": "They.",
                "headers": _ETAG,
                "content": {
                    "application/json": {"schema": _projected("ipset", _MEMBERSHIP)},
                    "text/plain": {"schema": {"type": "string"}},
                },
            },
        ),
        _UNCHANGED,
    ),
    problems=(400, 404, 503),
)
NODELESS_MEMBERSHIP = MEMBERSHIP._replace(
    path="/v1/projections/ipset-membership/{name}",
    name="nodelessIpsetMembership",
    summary="The same of a set of which no source says on which node it lies.",
    parameters=MEMBERSHIP.parameters[1:],
)
REBUILD = Described(
    "POST",
    "/v1/rebuild",
    "rebuild",
    "Fold all projections again from the log, beside what goes on, and switch over at once.",
    answers=(
        (
            200,
            _json(
                "It is done.",
                {
                    "type": "object",
                    "required": ["events", "generation", "position", "seconds"],
                    "properties": {
                        "events": {"type": "integer", "description": "How many were folded."},
                        "generation": {"type": "integer"},
                        "position": {"type": "integer", "description": "Where the ledger stands then."},
                        "seconds": {"type": "number"},
                    },
                },
            ),
        ),
    ),
    problems=(409, 503),
)
METRICS = Described(
    "GET",
    "/metrics",
    "metrics",
    "What is counted, for Prometheus.",
    answers=((200, _text("The page.")),),
    problems=(503,),
)
OPENAPI = Described(
    "GET", "/openapi.json", "openapi", "This document.", answers=((200, _json("It.", {"type": "object"})),)
)
LIVEZ = Described("GET", "/livez", "livez", "Whether the process answers.", answers=((200, _text("It does.")),))
READYZ = Described(
    "GET",
    "/readyz",
    "readyz",
    "Whether it should be sent anything.",
    parameters=(_query("verbose", "Name every check.", {"type": "boolean"}),),
    answers=((200, _text("It should.")), (503, _text("It should not, and which check says so."))),
    problems=(400,),
)

_TOLD = {
    400: "It cannot be meant so.",
    401: "Nobody proved who they are.",
    403: "The right is missing.",
    404: "There is none.",
    408: "The body did not come in time.",
    409: "Not allowed in this state: the reason, and of a command what could come next.",
    412: "The resource changed since that position.",
    413: "Too large.",
    415: "Not in that encoding.",
    422: "The body is no command.",
    503: "Too much at once, or the ledger cannot be used now: the same again later.",
    507: "The disk is full.",
}


def document(routes: Iterable[Described]) -> Json:
    """The whole document."""
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "netledger",
            "version": version("netledger"),
            "description": f"The live daemon. Rights: {', '.join(RIGHTS)}; none includes another.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
            "schemas": _schemas(),
        },
    }


def _operation(route: Described) -> Json:
    problems = [*route.problems, *((401, 403) if route.right else ())]
    answers: Json = {str(status): said for status, said in route.answers}
    for status in sorted(problems):
        content = {PROBLEM: {"schema": _ref("Problem")}}
        answers.setdefault(str(status), {"description": _TOLD[status], "content": content})
    return {
        "operationId": route.name,
        "summary": route.summary,
        **({"parameters": list(route.parameters)} if route.parameters else {}),
        **({"requestBody": route.body} if route.body is not None else {}),
        "responses": answers,
        **({"x-netledger-right": route.right} if route.right else {"security": []}),
    }


def _schemas() -> Json:
    _, given = msgspec.json.schema_components([GivenCommand], ref_template="#/components/schemas/{name}")
    schema = json.loads(files("adapters").joinpath("schemas", "replay-v1.json").read_bytes())
    ours = {name: _moved(part) for name, part in schema["$defs"].items()}
    ours.setdefault("coverage", _moved(schema["properties"]["coverage"]))
    count = {"type": "integer", "minimum": 0}
    outcomes = ("records", "recognised", "ignored", "unknown", "aside", "duplicates")
    return {
        **ours,
        **given,
        "Ledger": {
            "type": "object",
            "required": ["generation", "position"],
            "properties": {"generation": count, "position": count},
        },
        "Taken": {
            "type": "object",
            "required": ["taken"],
            "properties": {
                "taken": {
                    "type": "object",
                    "required": list(outcomes),
                    "properties": dict.fromkeys(outcomes, count),
                }
            },
        },
        "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "next": _list({"type": "string"}),
            },
        },
    }


def _moved(part: Any) -> Any:
    """A part of the replay's schema with its references led here."""
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(value)
            for key, value in part.items()
        }
    return [_moved(one) for one in part] if isinstance(part, list) else part
