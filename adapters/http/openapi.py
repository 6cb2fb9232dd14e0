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
from adapters.http.questions import CSV, PAGE, PAGE_MOST, STATUSES
from adapters.trail import API_SERVER, COLUMNS, LIFECYCLE
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
_MOMENT = "A time (RFC 3339), a revision (330) or a position (position:24)"
_AT = _query("at", f"{_MOMENT}: as it was then.", {"type": "string"})
_FROM_THEN = f"{_MOMENT}, or so long before the log's end (2h, 1h30m)"
_SINCE = _query("since", f"Only from then on. {_FROM_THEN}.", {"type": "string"})
_UNTIL = _query("until", "Only up to then; the same.", {"type": "string"})
_REVERSE = _query("reverse", "The newest first.", {"type": "boolean"})
_LIMIT = _query(
    "limit",
    "At most so many; the rest follows.",
    {"type": "integer", "minimum": 1, "maximum": PAGE_MOST, "default": PAGE},
)
_CONTINUE = _query(
    "continue",
    "Go on behind the page that ended with this token; the rest of the question as it was.",
    {"type": "string"},
)
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}


def _answered(name: str, schema: Json, **more: Json) -> Json:
    return {
        "type": "object",
        "required": [name, *more, "ledger", "provisional", "coverage"],
        "properties": {
            name: schema,
            **more,
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
    problems=(400, 404, 410, 503),
)
RESOURCE = Described(
    "GET",
    "/v1/resources/{kind}/{name}",
    "resource",
    "One resource of a kind that lives in no namespace. Its ETag is what If-Match of a command takes.",
    parameters=(_KIND, _NAME, _AT, _AGAIN),
    answers=((200, _json("It.", _answered("resource", _ref("resource_standing")), _ETAG)), _UNCHANGED),
    problems=(400, 404, 410, 503),
)
NAMESPACED_RESOURCE = RESOURCE._replace(
    path="/v1/resources/{kind}/{namespace}/{name}",
    name="namespacedResource",
    summary="One resource of a kind that lives in namespaces.",
    parameters=(_KIND, _NAMESPACE, _NAME, _AT, _AGAIN),
)
_PAGED: Json = {
    "generation": {"type": "integer", "description": "Of the ledger: a late record begins another."},
    "restarted": {"type": "boolean", "description": "Whether that happened since the page before."},
    "continue": {"type": ["string", "null"], "description": "The token for the next page; null at the end."},
}
_NEXT = {**_ETAG, "Link": {"description": "The next page, `rel=next`.", "schema": {"type": "string"}}}
_EVENT_SCHEMA = _ref("TrailEvent")


def _events_answered() -> Json:
    answer = _answered("events", _list(_EVENT_SCHEMA), **_PAGED)
    answer["properties"]["labels"] = {
        "type": "object",
        "description": "Where a selector was given: the kinds of which the log shows labels, and the others that it has.",
        "required": ["known", "unknown"],
        "properties": {name: _list({"type": "string"}) for name in ("known", "unknown")},
    }
    return answer


EVENTS = Described(
    "GET",
    "/v1/events",
    "events",
    "Who did what, on what, when, in the true order. Filters are joined; one that is given several times lets any pass.",
    parameters=(
        *(
            _query(name, description, _list({"type": "string"}))
            for name, description in (
                ("actor", "Whose name it is: whole, as tables show it, or a pattern with *."),
                ("kind", "Kinds, each by its name, plural or short name; vpc,eip."),
                ("namespace", "Namespaces."),
                ("verb", "Verbs of the API: patch,delete."),
                ("event", "Types of events: VPCStatusReported."),
            )
        ),
        _query("name", "What bears this name.", {"type": "string"}),
        _query(
            "selector",
            "A label selector, as kubectl takes it: what was labelled so by then. What the log had not shown whole by then "
            "is never chosen.",
            {"type": "string"},
        ),
        _query("refused", "Only what a lifecycle or the API server refused.", {"type": "boolean"}),
        _SINCE,
        _UNTIL,
        _REVERSE,
        _LIMIT,
        _CONTINUE,
        _AGAIN,
    ),
    answers=(
        (
            200,
            {
                "description": "A page of them; as CSV for who asks for that, by Accept.",
                "headers": _NEXT,
                "content": {
                    "application/json": {"schema": _events_answered()},
                    CSV: {"schema": {"type": "string"}},
                },
            },
        ),
        _UNCHANGED,
    ),
    problems=(400, 410, 503),
)
_WORDS = _list({"type": "string"})
KNOWN = Described(
    "GET",
    "/v1/known",
    "known",
    "All actors, verbs and types of events there are: what to ask /v1/events for.",
    parameters=(_AGAIN,),
    answers=((200, _json("They.", _answered("actors", _WORDS, verbs=_WORDS, types=_WORDS), _ETAG)), _UNCHANGED),
    problems=(503,),
)


def _of_one(
    path: str, summary: str, answer: Json, *parameters: Json, problems: tuple[int, ...] = (400, 404, 410, 503)
) -> tuple[Described, Described]:
    """The route for what lives in no namespace, and the one for what does."""
    answers = ((200, _json("It.", answer, _NEXT if _CONTINUE in parameters else _ETAG)), _UNCHANGED)
    return tuple(
        Described(
            "GET",
            f"/v1/{path}/{{kind}}{inside}/{{name}}",
            name,
            summary,
            (*places, *parameters, _AGAIN),
            None,
            answers,
            problems,
        )
        for inside, name, places in (
            ("", path, (_KIND, _NAME)),
            ("/{namespace}", f"namespaced{path.title()}", (_KIND, _NAMESPACE, _NAME)),
        )
    )  # type: ignore[return-value]  # two of them


HISTORY, NAMESPACED_HISTORY = _of_one(
    "history",
    "What happened to one resource, in the true order; of one that is gone, too.",
    _answered("history", _list(_EVENT_SCHEMA), **_PAGED),
    _SINCE,
    _UNTIL,
    _REVERSE,
    _LIMIT,
    _CONTINUE,
)
WHO, NAMESPACED_WHO = _of_one(
    "who",
    "Everyone who wrote to a resource, or tried to: how often, with which verbs, first and last. Who came last is last.",
    _answered("actors", _list({"type": "object"}), resource={"type": "string"}),
    problems=(404, 503),
)
_RESOURCE = {"type": "object", "required": ["kind", "namespace", "name", "uid"]}
_FIELDS = _list({"type": "object", "required": ["field", "by"]})
DIFF, NAMESPACED_DIFF = _of_one(
    "diff",
    "What changed of a resource between two moments, field by field, and who made each change last.",
    _answered("fields", _FIELDS, resource=_RESOURCE, **{"from": {"type": "object"}, "to": {"type": "object"}}),
    _query("from", f"{_MOMENT}; without it, from its first record.", {"type": "string"}),
    _query("to", "The same; without it, to the log's end, or its own.", {"type": "string"}),
    _query("all", "Also what was changed and changed back.", {"type": "boolean"}),
)
BLAME, NAMESPACED_BLAME = _of_one(
    "blame",
    "Each field of a resource: what it says, who made it say so, when, by which request, on what basis.",
    _answered("fields", _FIELDS, resource=_RESOURCE, position={"type": "integer"}),
    _AT,
)
WHY, NAMESPACED_WHY = _of_one(
    "why",
    "Why a resource is not ready, not bound, not gone: the shortest chain of events and named absences to the root.",
    _answered(
        "chain",
        _list({"type": "object", "required": ["says", "resource", "event", "absence"]}),
        resource=_RESOURCE,
        verdict={"type": "string", "enum": ["blocked", "waiting", "unknown", "nothing", "gone"]},
        says={"type": "string"},
        repair=_list({"type": "object"}),
    ),
    _query("member", "Of an ipset: why this member is in it, or is not.", {"type": "string"}),
    _AT,
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
IPSET = Described(
    "GET",
    "/v1/ipsets/{name}",
    "ipset",
    "One ipset: each member with who put it in, since when and by which event, what differs, and what puts it right.",
    parameters=(
        _NAME,
        _query("node", "The node that it lies on, where several have one of that name.", {"type": "string"}),
        _AT,
        _AGAIN,
    ),
    answers=(
        (
            200,
            _json(
                "It.",
                _answered(
                    "ipset",
                    {"type": "object", "required": ["kind", "namespace", "name", "uid", "state", "members", "drift"]},
                    restore={
                        **_list({"type": "string"}),
                        "type": ["array", "null"],
                        "description": "What `ipset restore` takes to set just the lawful members, line by line.",
                    },
                    not_restored={"type": ["string", "null"], "description": "Why there is no such text."},
                ),
                _ETAG,
            ),
        ),
        _UNCHANGED,
    ),
    problems=(400, 404, 410, 503),
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
    410: "What was asked for cannot be told any more: it was pruned, or decided again; what can be asked is said.",
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
        "TrailEvent": {
            "type": "object",
            "required": list(COLUMNS),
            "properties": {
                "position": count,
                "at": {"type": "string"},
                "revision": {"type": ["integer", "null"]},
                "refused_by": {"enum": [LIFECYCLE, API_SERVER, None]},
                "changed": {"type": "object"},
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
