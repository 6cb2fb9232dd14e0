"""What the daemon says by itself: its log, its traces."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from starlette.testclient import TestClient

from adapters import logs, tracing
from tests.adapters.http.conftest import SENDER, as_
from tests.adapters.http.test_ingest import event, listed


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield capsys
    root.handlers[:], level, logging.raiseExceptions = before
    root.setLevel(level)


def test_a_line_is_one_json_object_with_what_belongs_to_it(said: pytest.CaptureFixture[str]):
    logs.begin("auto", "info")  # no terminal
    log = logging.getLogger("netledger.test")
    log.info("kept %d\nlines", 2, extra={"records": 7, "fields": {"name": "api-1", "path": "/a"}})
    log.debug("not told")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("it failed")
    first, second = map(json.loads, said.readouterr().err.splitlines())
    assert first.pop("time").endswith("Z")
    expected = {"level": "info", "logger": "netledger.test", "message": "kept 2\nlines"}
    assert first == {**expected, "records": 7, "name": "api-1", "path": "/a"}
    assert second["message"] == "it failed" and "ValueError: why" in second["exception"]


def test_what_was_sent_writes_no_line_of_its_own_for_a_person_either(said: pytest.CaptureFixture[str]):
    logs.begin("text", "warning")
    logging.getLogger("netledger.test").warning("from %s", "a\nb\x1b[31m", extra={"fields": {"path": "/x\ny"}})
    text = said.readouterr().err
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text and "a\\x0ab" in text and "path='/x\\ny'" in text


def test_traces_are_sent_where_an_endpoint_is_set_and_continue_the_senders(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    sent: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *given: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        trace = "0af7651916cd43dd8448eb211c80319c"
        tracing.begin()
        try:
            headers = {**as_(SENDER), "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            assert client.post("/ingest/audit", content=listed(event(1)), headers=headers).status_code == 200
        finally:
            tracing.end()
            collector.shutdown()
    told = b"".join(sent)
    assert b"POST /ingest/audit" in told and b"/ingest/audit" in told
    assert told.count(bytes.fromhex(trace)) == 2, "the request's, and that of what was kept in it"
    assert SENDER.encode() not in told


def test_without_an_endpoint_nothing_of_traces_is_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    tracing.begin()
    assert tracing._tracer is None
    with tracing.span("x", {}, {}):
        pass
