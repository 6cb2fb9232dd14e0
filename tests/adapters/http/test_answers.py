"""What the daemon answers: commands with their verdict, questions with what they rest on, and itself as it is written."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from starlette.testclient import TestClient

from adapters.http import openapi, routes
from adapters.http.following import Followers
from adapters.http.routes import ROUTES, application
from adapters.http.service import Service
from adapters.ports import StoreError
from benchmarks import routes as benchmark
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.http.conftest import BOUNDS, OPERATOR, READER, SENDER, as_
from tests.adapters.http.double import Double

DATA = Path(__file__).parents[2] / "incidents" / "data"
LOG = gzip.decompress((DATA / "s0-buggy" / "audit.log.gz").read_bytes()).splitlines()


def ask(client: TestClient, path: str, **headers: str):
    return client.get(path, headers={**as_(READER), **headers})


def command(client: TestClient, body: Any, key: str | None = "one", **headers: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {} if key is None else {"idempotency-key": key}
    return client.post("/v1/commands", content=content, headers={**as_(OPERATOR), **named, **headers})


def meant(event: str, kind: str = "vpc", name: str = "shop", **more: Any) -> dict[str, Any]:
    return {"event": event, "resource": {"kind": kind, "name": name}, **more}


@pytest.fixture
def incident(client: TestClient, live: Double) -> TestClient:
    """A daemon that was told a real incident."""
    items = b",".join(LOG)
    body = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + items + b"]}"
    assert client.post("/ingest/audit", content=body, headers=as_(SENDER)).status_code == 200
    return client


# ---- commands


def test_a_legal_command_is_an_event_with_its_position(client: TestClient):
    answer = command(client, meant("VPCCreated", reason="the shop opens"))
    assert answer.status_code == 201
    said = answer.json()
    assert (said["event"]["type"], said["event"]["actor"]) == ("VPCCreated", "alice")
    read = ask(client, answer.headers["location"])
    assert read.json() == said


def test_why_somebody_gave_a_command_is_in_the_history_of_what_it_was_about(client: TestClient):
    command(client, meant("VPCCreated", reason="the shop opens"), "a")
    command(client, meant("SubnetCreated", "subnet", "db", fields={"spec.vpc": "shop"}), "b")
    command(client, meant("VPCRemoved", reason="it closes"), "c")
    rows = ask(client, "/v1/history/vpc/shop").json()["history"]
    assert [row["purpose"] for row in rows] == ["the shop opens", "it closes"]
    assert all(row["says"].endswith(f"(for: {row['purpose']})") for row in rows)
    assert ask(client, "/v1/history/subnet/db").json()["history"][0]["purpose"] is None
    assert command(client, meant("VPCCreated", name="b", reason="x" * 2_001), "d").status_code == 422


def test_an_illegal_command_is_refused_with_what_could_come_next(client: TestClient):
    command(client, meant("VPCCreated"), "a")
    command(client, meant("SubnetCreated", "subnet", "db", fields={"spec.vpc": "shop"}), "b")
    answer = command(client, meant("VPCRemoved"), "c")
    assert answer.status_code == 409 and answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert "subnet db still names it" in said["detail"] and "VPCDeletionRequested" in said["next"]
    assert said["position"] > 0


def test_the_same_command_twice_is_one_event(client: TestClient, live: Double):
    first, again = (command(client, meant("VPCCreated"), "same") for _ in range(2))
    assert first.json() == again.json()
    assert live.store.recorder.head() == first.json()["position"]


def test_a_command_for_what_changed_since_is_refused(client: TestClient):
    command(client, meant("VPCCreated"), "a")
    tag = ask(client, "/v1/resources/vpc/shop").headers["etag"]
    assert (
        command(
            client, meant("VPCSpecChanged", fields={"spec.namespaces": ["x"]}), "b", **{"if-match": tag}
        ).status_code
        == 201
    )
    late = command(client, meant("VPCSpecChanged", fields={"spec.namespaces": ["y"]}), "c", **{"if-match": tag})
    assert late.status_code == 412 and "changed at position" in late.json()["detail"]
    assert command(client, meant("VPCSpecChanged"), "d", **{"if-match": "yesterday"}).status_code == 400


def test_a_command_without_a_key_of_its_own_is_refused(client: TestClient, live: Double):
    for key in (None, "", "x" * 201, "a b"):
        answer = command(client, meant("VPCCreated"), key)
        assert answer.status_code == 400 and "Idempotency-Key" in answer.json()["detail"]
    assert live.store.journal.head() == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no command"),
        (b"{", "no command"),
        (b"[" * 100_000, "no command"),
        (b'{"event":"\xff"}', "no command"),
        ({**meant("VPCCreated"), "evnt": 1}, "evnt"),
        ({"event": "VPCCreated", "resource": {"kind": "vpc"}}, "name"),
        (meant("VPCCreated", "cluster"), "no kind 'cluster'"),
        (meant("VPCCrated"), "VPCCreated"),
        (meant("VPCCreated", name=""), "name is empty"),
        (meant("PodCreated", "pod"), "namespace is missing"),
        ({"event": "VPCCreated", "resource": {"kind": "vpc", "name": "a", "namespace": "b"}}, "no namespace"),
        (meant("VPCCreated", fields=[]), "fields"),
    ],
)
def test_a_body_that_is_no_command_says_why(client: TestClient, live: Double, body: Any, says: str):
    answer = command(client, body)
    assert answer.status_code == 422 and says in answer.json()["detail"]
    assert live.store.journal.head() == 0


def test_a_large_command_is_refused(client: TestClient):
    assert command(client, meant("VPCCreated", reason="x" * (1 << 20))).status_code == 413


# ---- questions


def test_findings_come_with_what_they_rest_on(incident: TestClient, live: Double):
    answer = ask(incident, "/v1/findings")
    said = answer.json()
    assert said["findings"] == live.findings()["findings"] != []
    assert said["coverage"] == live.findings()["coverage"] and said["provisional"]["undecided"] == 0
    assert ask(incident, "/v1/findings", **{"if-none-match": answer.headers["etag"]}).status_code == 304
    one = said["findings"][0]
    assert ask(incident, f"/v1/findings/{one['id']}").json()["finding"] == one
    assert [row["rule"] for row in ask(incident, "/v1/findings?rule=lost-update").json()["findings"]] == ["NL101"]
    assert ask(incident, "/v1/findings?status=healed").json()["findings"] != said["findings"]
    assert ask(incident, "/v1/findings?status=opne").status_code == 400
    assert ask(incident, "/v1/findings/none").status_code == 404


def test_an_etag_changes_with_the_position(incident: TestClient):
    before = ask(incident, "/v1/findings").headers["etag"]
    command(incident, meant("VPCCreated", name="another"))
    after = ask(incident, "/v1/findings", **{"if-none-match": before})
    assert after.status_code == 200 and after.headers["etag"] != before


def test_resources_are_as_the_command_line_has_them(incident: TestClient, live: Double):
    document = live.findings()
    every = [row for row in document["resources"] if row["kind"] == "vpc"]
    assert ask(incident, "/v1/resources/vpcs").json()["resources"] == every != []
    assert ask(incident, f"/v1/resources/vpc/{every[0]['name']}").json()["resource"] == every[0]


def test_resources_in_namespaces_are_found_in_theirs(client: TestClient):
    made = meant("PodCreated", "pod", "web-0")
    made["resource"]["namespace"] = "web"
    assert command(client, made).status_code == 201
    assert ask(client, "/v1/resources/po/web/web-0").json()["resource"]["namespace"] == "web"
    assert len(ask(client, "/v1/resources/po?namespace=web").json()["resources"]) == 1
    assert ask(client, "/v1/resources/po?namespace=nowhere").json()["resources"] == []


def test_resources_at_a_moment_are_as_they_were(incident: TestClient):
    assert ask(incident, "/v1/resources/vpc?at=1").json()["resources"] == []
    then = ask(incident, "/v1/resources/vpc/vpc-shop?at=330").json()["resource"]
    assert then["reported"]["status.subnets"] == ["net-db"]
    assert ask(incident, "/v1/resources/vpc?at=yesterday").status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/resources/cluster",
        "/v1/resources/vpc/none",
        "/v1/resources/vpc/web/shop",
        "/v1/resources/pod/alone",
        "/v1/history/vpc/none",
        "/v1/history/pod/alone",
        "/v1/events/0",
        "/v1/events/99999999",
        "/v1/events/-1",
        "/v1/events/one",
        "/v1/findings/",
        "/nothing",
    ],
)
def test_what_is_not_there_is_said_with_a_sentence(incident: TestClient, path: str):
    answer = ask(incident, path)
    assert answer.status_code == 404 and len(answer.json()["detail"]) > 20


def test_a_history_is_in_order_and_tells_its_sources(incident: TestClient):
    rows = ask(incident, "/v1/history/vpc/vpc-shop").json()["history"]
    assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)
    assert rows[0]["event"] == "VPCCreated" and rows[0]["source"].startswith("webhook:")


def test_a_page_leads_to_the_next_as_json_and_as_csv(incident: TestClient):
    whole = ask(incident, "/v1/events?actor=alice&kind=vpc,subnets&limit=10000").json()
    assert whole["continue"] is None and {row["actor"] for row in whole["events"]} == {"alice"}
    assert {row["resource"].partition("/")[0] for row in whole["events"]} == {"vpc", "subnet"}
    rows, lines = [], []
    path: str | None = "/v1/events?actor=alice&kind=vpc&kind=subnet&limit=2"
    while path is not None:
        page, csv = ask(incident, path), ask(incident, path, accept="text/csv")
        assert csv.headers["content-type"].startswith("text/csv") and csv.text.endswith("\r\n")
        assert page.headers["vary"] == csv.headers["vary"] == "accept"
        rows += page.json()["events"]
        lines += csv.text.splitlines()[1:]
        found = page.links.get("next")
        assert csv.links.get("next") == found
        path = found["url"] if found else None
    assert rows == whole["events"] and len(rows) > 2
    assert [int(line.partition(",")[0]) for line in lines] == [row["position"] for row in rows]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("application/json, text/csv;q=0.9", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/csv;q=nonsense", "text/csv"),
        (",;,", "application/json"),
    ],
)
def test_csv_is_for_who_would_rather_have_it(client: TestClient, accept: str, kind: str):
    assert ask(client, "/v1/events", accept=accept).headers["content-type"].startswith(kind)


def test_every_question_has_a_tag_and_says_on_what_it_rests(incident: TestClient, live: Double):
    for path in (
        "/v1/events?refused",
        "/v1/known",
        "/v1/history/vpc/vpc-shop?since=330",
        "/v1/who/vpc/vpc-shop",
        "/v1/diff/vpc/vpc-shop?from=position:20&all=true",
        "/v1/blame/vpc/vpc-shop?at=2026-11-21T01:24:04Z",
        "/v1/why/vpc/vpc-shop",
    ):
        answer = ask(incident, path)
        assert answer.status_code == 200, path
        said = answer.json()
        assert said["coverage"] == live.findings()["coverage"] and said["provisional"]["undecided"] == 0
        assert said["ledger"]["position"] == live.stand().position
        assert ask(incident, path, **{"if-none-match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/events?limit=0", 400, "from 1 to 10,000"),
        ("/v1/events?limit=10001", 400, "from 1 to 10,000"),
        ("/v1/events?limit=ten", 400, "from 1 to 10,000"),
        ("/v1/events?kind=vpc,cluster", 400, "no kind 'cluster'"),
        ("/v1/events?since=yesterday", 400, "neither a revision"),
        ("/v1/events?until=position:x", 400, "names no position"),
        (f"/v1/events?since={'9' * 5000}", 400, "no revision"),
        ("/v1/events?since=999999999w", 200, ""),
        ("/v1/events?continue=abc", 400, "no token"),
        ("/v1/events?refused=perhaps", 400, "true or false"),
        ("/v1/history/vpc/none", 404, "nothing in this ledger"),
        ("/v1/history/vpc/vpc-shop?continue=abc", 400, "no token"),
        ("/v1/who/vpc/none", 404, "nobody wrote to"),
        ("/v1/who/cluster/none", 404, "no kind"),
        ("/v1/diff/vpc/none", 404, "nothing in this ledger"),
        ("/v1/diff/vpc/vpc-shop?from=331&to=320", 404, "lies behind its end"),
        ("/v1/diff/vpc/vpc-shop?to=soon", 400, "neither a revision"),
        ("/v1/blame/vpc/vpc-shop?at=1", 404, "is not there then"),
        ("/v1/blame/vpc/vpc-shop?at=soon", 400, "neither a revision"),
        ("/v1/why/vpc/none", 404, "nothing in this ledger"),
        ("/v1/why/vpc/vpc-shop?member=10.0.0.1", 400, "is for ipsets"),
        ("/v1/why/pod/none", 404, "live in namespaces"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_why(incident: TestClient, path: str, status: int, says: str):
    answer = ask(incident, path)
    assert answer.status_code == status
    assert says in answer.json().get("detail", "")


def test_what_the_benchmark_asks_are_questions(incident: TestClient):
    for name, path in benchmark.routes(Random(1)).items():
        assert ask(incident, path()).status_code in (200, 404), name
    found = ask(incident, "/v1/known").json()
    assert "alice" in found["actors"] and "patch" in found["verbs"] and "VPCCreated" in found["types"]


def test_what_was_decided_again_is_gone_and_the_answer_says_from_where_to_ask(client: TestClient, live: Double):
    def post(lines: list[bytes]) -> None:
        body = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + b",".join(lines) + b"]}"
        assert client.post("/ingest/audit", content=body, headers=as_(SENDER)).status_code == 200

    post([line for number, line in enumerate(LOG) if number % 4 != 3])
    page = ask(client, "/v1/events?limit=10").json()
    last = page["events"][-1]["position"]
    post(LOG[3::4])
    assert live.stand().generation == 2
    answer = ask(client, f"/v1/events?continue={page['continue']}")
    assert answer.status_code == 410 and "--since position:" in answer.json()["detail"]
    answer = ask(client, f"/v1/resources/vpc?at=position:{last}")
    assert answer.status_code == 410 and "earlier generation" in answer.json()["detail"]


def test_a_ledger_that_cannot_be_read_is_said(client: TestClient, live: Double, monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(live, "stand", broken)
    answer = ask(client, "/v1/findings")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the disk is gone")


def test_a_bug_is_said_without_its_inside(client: TestClient, live: Double, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "findings", lambda: 1 / 0)
    answer = ask(client, "/v1/findings")
    assert answer.status_code == 500 and "bug" in answer.json()["detail"] and "division" not in answer.text


# ---- health and metrics


def test_readiness_says_each_check_and_why_only_to_who_may_read(client: TestClient, service: Service, live: Double):
    assert client.get("/readyz?verbose").text.splitlines() == [
        "[+]ledger ok",
        "[+]engine ok",
        "[+]disk ok",
        "[+]lag ok",
        "[+]stopping ok",
        "readyz check passed",
    ]
    live.wrong, live.lag = "no room is left for the ledger", 301.0
    application_readiness(client)._at = -10
    anybody = client.get("/readyz")
    assert anybody.status_code == 503
    assert "[-]engine failed: reason withheld" in anybody.text and "no room" not in anybody.text
    reader = client.get("/readyz", headers=as_(READER)).text
    assert "[-]engine failed: no room is left" in reader and "[-]lag failed: the oldest record" in reader
    assert client.get("/livez").status_code == 200, "to begin anew would not help"


def application_readiness(client: TestClient) -> Any:
    return client.app.app.state.readiness  # type: ignore[attr-defined]


def test_a_full_disk_is_not_ready(client: TestClient, service: Service):
    service.bounds = BOUNDS._replace(free=1 << 60)
    assert "[-]disk failed" in client.get("/readyz").text


def test_an_engine_that_hangs_is_not_ready_and_the_process_still_answers(
    client: TestClient, live: Double, monkeypatch: pytest.MonkeyPatch
):
    hangs = threading.Event()
    monkeypatch.setattr(routes, "READY_SECONDS", 0.2)
    monkeypatch.setattr(live, "stand", lambda: hangs.wait(20))
    try:
        for _ in range(4):
            answer = client.get("/readyz")
            assert answer.status_code == 503 and "[-]engine failed" in answer.text
        assert client.get("/livez").status_code == 200
        batch = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + LOG[0] + b"]}"
        assert client.post("/ingest/audit", content=batch, headers=as_(SENDER)).status_code == 200
    finally:
        hangs.set()


def test_metrics_count_what_came_and_what_is_wrong(incident: TestClient, live: Double):
    incident.post("/ingest/audit", content=b"nothing", headers=as_(SENDER))
    page = ask(incident, "/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(figures['netledger_records_total{outcome="recognised"}']) == live.store.journal.head()
    assert float(figures["netledger_quarantined_total"]) == 1
    assert float(figures["netledger_append_seconds_count"]) == 2
    assert float(figures['netledger_findings_open{name="lost-update",rule="NL101",severity="error"}']) == 1
    assert float(figures['netledger_findings_open{name="leaked-ip",rule="NL103",severity="error"}']) == 0
    assert float(figures["netledger_lag_seconds"]) == 0 and "process_resident_memory_bytes" in figures


def test_made_up_paths_and_methods_make_no_series_of_their_own(client: TestClient):
    for number in range(20):
        client.request(f"MADE{number}", f"/made/up/{number}")
    page = ask(client, "/metrics").text
    made = [line for line in page.splitlines() if line.startswith("netledger_http_requests_total{")]
    assert len(made) == 1 and 'route="(none)"' in made[0] and made[0].endswith(" 20.0")


# ---- OpenAPI


class Ended(Followers):
    async def follow(self, after: int | None, heartbeat: float) -> AsyncIterator[bytes]:
        async def nothing() -> AsyncIterator[bytes]:
            yield b": nothing\n\n"

        return nothing()


@pytest.fixture
def knowing(service: Service) -> None:
    """A daemon that knows a VPC and a pod, and whose streams end at once."""
    service.followers = Ended(service.live, 1)
    app = application(service)
    with TestClient(app) as client:
        command(client, meant("VPCCreated"))
        pod = meant("PodCreated", "pod", "web-0")
        pod["resource"]["namespace"] = "web"
        command(client, pod, "two")
    described.app.app = app


def test_the_document_has_every_route(client: TestClient):
    document = ask(client, "/openapi.json").json()
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes == {(described.method, described.path) for described, _ in ROUTES}
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names)) and document["openapi"] == "3.1.0"


KNOWN_ONES = (
    ("/v1/events", {}, {"limit": 1}),
    ("/v1/known", {}, {}),
    *(
        (f"/v1/{question}/{{kind}}/{{name}}", {"kind": "vpc", "name": "shop"}, {})
        for question in ("resources", "history", "who", "diff", "blame", "why")
    ),
    *(
        (f"/v1/{question}/{{kind}}/{{namespace}}/{{name}}", {"kind": "po", "namespace": "web", "name": "web-0"}, {})
        for question in ("resources", "history", "who", "diff", "blame", "why")
    ),
)


@pytest.mark.parametrize(("path", "places", "query"), KNOWN_ONES, ids=lambda one: one if isinstance(one, str) else "")
def test_an_answer_about_what_there_is_is_what_the_document_says(
    path: str, places: dict[str, str], query: dict[str, Any], knowing: None
):
    # Of made-up names, which is what schemathesis asks about, there is nothing to be told.
    case: Any = described[path]["GET"].Case(path_parameters=places, query=query, headers=as_(OPERATOR))
    response = case.call_and_validate(excluded_checks=CHECKS.get_by_names(["ignored_auth"]))
    assert response.status_code == 200, response.text


class Switch:
    """The daemon of the test that runs: the document is read before there is any."""

    app: Any = None

    async def __call__(self, *given: Any) -> None:
        await self.app(*given)


FREE = {"at", "since", "until", "from", "to", "continue"}
"""Parameters whose right values no schema tells: moments, and tokens."""
LEFT_OUT = {
    "/v1/commands": ["positive_data_acceptance"],  # what may happen to which kind, no schema says
    "/v1/findings": ["negative_data_rejection"],  # it sends a header that nobody asked for, and wants it refused
}
described = schemathesis.openapi.from_dict(openapi.document(described for described, _ in ROUTES))
described.app = Switch()


@described.parametrize()
@settings(
    max_examples=200 if LONG_SEARCH else 10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_answered_is_what_the_document_says(case: Any, knowing: None):
    """schemathesis makes requests from the document, right and wrong ones, and compares every answer with it."""
    # That every route asks who comes is tested in test_access.
    left_out = ["ignored_auth", *LEFT_OUT.get(case.path, ())]
    if FREE & {parameter.name for parameter in case.operation.iter_parameters()}:
        left_out.append("positive_data_acceptance")
    case.call_and_validate(
        headers=as_(SENDER if "/ingest" in case.path else OPERATOR),
        excluded_checks=CHECKS.get_by_names(left_out),
    )
