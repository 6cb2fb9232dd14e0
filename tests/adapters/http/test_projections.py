"""What should be, as it is asked for: at a position, as JSON and as what a node takes; and folded again while others ask."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapters import app, report
from adapters import live as live_engine
from adapters.http.routes import application
from adapters.http.service import Service
from adapters.live import Live
from adapters.sources.dialect import About
from projections.lawful import ipset_members, vpc_statuses
from tests.adapters.http.conftest import BOUNDS, OPERATOR, READER, as_
from tests.adapters.http.double import Double
from tests.replaying import lines_of, timeline


def ask(client: TestClient, path: str, **headers: str) -> Any:
    return client.get(f"/v1/projections/{path}", headers={**as_(READER), **headers})


@pytest.fixture
def incident(live: Double) -> None:
    live.intake.inlet("webhook", "audit.k8s.io").take(list(lines_of("s0-buggy")))


@pytest.fixture
def sets(live: Double) -> None:
    files = timeline("s3-control-order").parent.glob("audit*.gz")
    paths = [str(timeline("s3-control-order")), *map(str, files)]
    app.replay(live.store, paths, about=lambda path: About(node="worker-1"))
    live._new = True


def test_the_status_of_vpcs_is_told_with_where_it_stands(client: TestClient, live: Double, incident: None):
    answer = ask(client, "vpc-status")
    said = answer.json()
    assert said["position"] == said["ledger"]["position"] == live.stand().position > 0
    with live.reading() as reading:
        wanted = vpc_statuses(reading)
    assert {row["name"]: row for row in said["vpcs"]} == {
        name: {"name": name, **{field: json.loads(value) for field, value in fields.items()}}
        for name, fields in wanted.items()
    }
    one = ask(client, "vpc-status/vpc-shop").json()
    assert (one["vpc"]["subnets"], one["vpc"]["drift"]) == ([], ["status.subnets"])
    assert one["position"] == said["position"] and "coverage" in one
    missing = ask(client, "vpc-status/nowhere")
    assert missing.status_code == 404 and "/v1/projections/vpc-status lists them" in missing.json()["detail"]


def test_what_one_has_already_is_not_sent_again(client: TestClient, live: Double, incident: None):
    tag = ask(client, "vpc-status").headers["etag"]
    assert tag.startswith(f'"{live.stand().position}-')
    assert ask(client, "vpc-status", **{"if-none-match": tag}).status_code == 304


def test_members_of_ipsets_are_told_of_all_of_a_node_and_of_one(client: TestClient, live: Double, sets: None):
    with live.reading() as reading:
        wanted = ipset_members(reading)
    rows = ask(client, "ipset-membership").json()["ipsets"]
    assert {f"{row['node']}/{row['name']}": frozenset(row["members"]) for row in rows} == wanted
    row = next(row for row in rows if row["members"])
    assert row["node"] == "worker-1"
    assert ask(client, "ipset-membership?node=worker-1").json()["ipsets"] == rows
    assert ask(client, "ipset-membership?node=elsewhere").json()["ipsets"] == []
    assert ask(client, f"ipset-membership/{row['node']}/{row['name']}").json()["ipset"] == row
    assert ask(client, f"ipset-membership/{row['node']}/none").status_code == 404


@pytest.mark.parametrize(
    ("query", "accept", "is_text"),
    [
        ("", "text/plain", True),
        ("", "text/plain;q=0.9, text/html", True),
        ("?format=restore", "*/*", True),
        ("?format=restore", "application/json", True),
        ("", "*/*", False),
        ("", "text/plain, application/json", False),
        ("?format=json", "text/plain", False),
    ],
)
def test_as_text_it_is_what_a_node_takes_to_make_it_so(
    client: TestClient, live: Double, sets: None, query: str, accept: str, is_text: bool
):
    with live.reading() as reading:
        path = next(path for path, members in ipset_members(reading).items() if members)
        resource = next(one for key, one in reading.world.live.items() if f"{key.namespace}/{key.name}" == path)
        wanted = report.ipset_save(reading, resource)
    answer = ask(client, f"ipset-membership/{path}{query}", accept=accept)
    assert answer.status_code == 200 and answer.headers["vary"] == "accept"
    if is_text:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text.splitlines() == wanted and answer.text.endswith("\n")
        assert answer.headers["netledger-position"] == str(live.stand().position)
    else:
        assert answer.json()["ipset"]["members"]


def test_what_has_no_such_form_says_why(client: TestClient, live: Double, sets: None):
    with live.reading() as reading:
        path = next(iter(ipset_members(reading)))
    assert ask(client, f"ipset-membership/{path}?format=xml").status_code == 400


def test_where_it_is_not_known_what_belongs_in_a_set_no_text_empties_it(client: TestClient, live: Double):
    app.replay(live.store, [str(timeline("s3-buggy"))])  # whose node nobody says
    live._new = True
    with live.reading() as reading:
        known = ipset_members(reading)
        there = [f"{key.namespace}/{key.name}" for key in reading.world.live if key.kind == "ipset"]
    unknown = [path for path in there if path not in known]
    assert unknown
    for query in ("", "?format=restore"):
        answer = ask(client, f"ipset-membership{unknown[0]}{query}")
        assert answer.status_code == 404 and "not known" in answer.json()["detail"]


def test_figures_of_open_findings_follow_their_changes(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live_engine, "SHARE", 1)
    monkeypatch.setattr(live_engine, "MERGE_SECONDS", 0.05)
    path, lines = tmp_path / "live.ledger", list(lines_of("mixed-small"))
    seen: list[int] = []
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=0.0)
        engine.start()
        ours = Service(engine, service.access, BOUNDS)

        def agree() -> bool:
            open_now: dict[str, str] = {}
            for change in engine.changes():
                open_now.pop(change.finding["id"], None)
                if change.is_open:
                    open_now[change.finding["id"]] = change.finding["rule"]
            told: Counter[str] = Counter()
            for rule, count in re.findall(
                r'^netledger_findings_open{.*rule="(NL\d+)".*} (\d+)', ours.metrics.page().decode(), re.M
            ):
                told[rule] += int(count)
            seen.append(len(open_now))
            settled = engine.findings()["provisional"]["settled"]
            return settled and +told == Counter(open_now.values())

        for start in range(0, len(lines), 700):
            engine.intake.inlet("webhook", "audit.k8s.io").take(lines[start : start + 700])
            until = time.monotonic() + 10
            while not agree():
                assert time.monotonic() < until
                time.sleep(0.02)
        engine.stop(60)
        ours.close()
    assert any(after < before for before, after in pairwise(seen)), "some healed on the way"


def test_folding_again_takes_the_right_to_command_and_says_how_much_it_was(tmp_path: Path, service: Service):
    path = tmp_path / "live.ledger"
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=0.05)
        engine.start()
        engine.intake.inlet("webhook", "audit.k8s.io").take(list(lines_of("s0-buggy")))
        assert engine.stop(60)
        ours = Service(engine, service.access, BOUNDS)
        before = engine.findings()["findings"]
        with TestClient(application(ours)) as client:
            assert client.post("/v1/rebuild", headers=as_(READER)).status_code == 403
            answer = client.post("/v1/rebuild", headers=as_(OPERATOR))
            said = answer.json()
            assert answer.status_code == 200 and said["events"] == engine.stand().events > 0
            assert (said["generation"], said["position"]) == (1, engine.stand().position)
            engine._conclude()
            assert engine.findings()["findings"] == before
        ours.close()


def test_only_one_folds_at_a_time_and_questions_are_answered_meanwhile(
    client: TestClient, live: Double, incident: None, monkeypatch: pytest.MonkeyPatch
):
    began, goes_on = threading.Event(), threading.Event()

    def slowly() -> int:
        began.set()
        assert goes_on.wait(20)
        return 7

    monkeypatch.setattr(live, "rebuild", slowly)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(client.post("/v1/rebuild", headers=as_(OPERATOR))))
    thread.start()
    try:
        assert began.wait(20)
        assert client.post("/v1/rebuild", headers=as_(OPERATOR)).status_code == 409
        assert ask(client, "vpc-status/vpc-shop").status_code == 200
    finally:
        goes_on.set()
        thread.join()
    assert found[0].json()["events"] == 7
    assert client.post("/v1/rebuild", headers=as_(OPERATOR)).status_code == 200, "and the next one may"
