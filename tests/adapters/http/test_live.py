"""The real engine behind the real server: what a cluster posts is found as a replay of its log finds it."""

from __future__ import annotations

import gzip
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from adapters import app, report
from tests.adapters.http.conftest import OPERATOR, READER, SENDER, as_
from tests.adapters.http.daemons import Daemon
from tests.adapters.http.test_ingest import DATA, recorded_posts


def batches(log: list[bytes]) -> list[bytes]:
    """A log as an API server would post it: 50 lines each, out of turn, some of them twice."""
    mixed = random.Random(7)
    made = [
        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
        + b",".join(log[n : n + 50])
        + b"]}"
        for n in range(0, len(log), 50)
    ]
    made += mixed.sample(made, len(made) // 5)
    mixed.shuffle(made)
    return made


def settled(client: httpx.Client, url: str) -> dict[str, Any]:
    """The findings when nothing waits any more."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        found: dict[str, Any] = client.get(f"{url}/v1/findings", headers=as_(READER)).json()
        if found["provisional"]["undecided"] == 0:
            time.sleep(0.3)  # for what is concluded of it
            return client.get(f"{url}/v1/findings", headers=as_(READER)).json()  # type: ignore[no-any-return]
        time.sleep(0.05)
    raise AssertionError(found["provisional"])


def replayed(path: Path) -> dict[str, Any]:
    with app.opened(None) as store:
        return report.document(store, app.replay(store, [str(path)]))


@pytest.mark.parametrize("recording", ["s0-buggy", "s1-buggy"])
def test_what_is_posted_out_of_turn_is_found_as_a_replay_finds_it(tmp_path: Path, tokens_path: Path, recording: str):
    path = DATA / recording / "audit.log.gz"
    log = gzip.decompress(path.read_bytes()).splitlines()
    options = ("--ledger", tmp_path / "l", "--tokens", tokens_path, "--window", "0.5")
    with Daemon(*options, CHILD_REAL="1") as daemon, httpx.Client() as client:
        url = f"http://127.0.0.1:{daemon.ready()[1]}"

        def post(body: bytes) -> int:
            return client.post(f"{url}/ingest/audit", content=body, headers=as_(SENDER)).status_code

        with ThreadPoolExecutor(4) as senders:
            assert set(senders.map(post, batches(log))) == {200}
        found = settled(client, url)
        expected = replayed(path)
        told = [(one["id"], one["status"], one["severity"]) for one in found["findings"]]
        assert told == [(one["id"], one["status"], one["severity"]) for one in expected["findings"]] != []
        assert found["coverage"]["revisions"] == expected["coverage"]["revisions"]
        page = client.get(f"{url}/metrics", headers=as_(READER)).text
        assert 'netledger_findings_open{name="' in page and "netledger_lag_seconds 0.0" in page
        assert client.get(f"{url}/readyz").status_code == 200
        assert daemon.end() == 0
    with app.opened(str(tmp_path / "l"), "read") as store:
        assert sum(1 for _ in store.ledger.events()) == expected["ledger"]["events"]


def test_recorded_posts_a_kill_and_the_same_posts_again_are_found_once(tmp_path: Path, tokens_path: Path):
    posts = recorded_posts()
    options = ("--ledger", tmp_path / "l", "--tokens", tokens_path, "--window", "0.2")
    with httpx.Client() as client:
        with Daemon(*options, CHILD_REAL="1") as daemon:
            url = f"http://127.0.0.1:{daemon.ready()[1]}"
            for body in posts[:20]:
                assert client.post(f"{url}/ingest/audit", content=body, headers=as_(SENDER)).status_code == 200
            daemon.process.kill()
        with Daemon(*options, CHILD_REAL="1") as daemon:
            url = f"http://127.0.0.1:{daemon.ready()[1]}"
            for body in posts:
                assert client.post(f"{url}/ingest/audit", content=body, headers=as_(SENDER)).status_code == 200
            found = settled(client, url)
            path = tmp_path / "posted.log"
            items = [
                {"kind": "Event", "apiVersion": "audit.k8s.io/v1", **item}
                for body in posts
                for item in json.loads(body)["items"]
            ]
            path.write_text("\n".join(map(json.dumps, items)))
            expected = replayed(path)
            assert [one["id"] for one in found["findings"]] == [one["id"] for one in expected["findings"]]
            assert daemon.end() == 0
    with app.opened(str(tmp_path / "l"), "read") as store:
        assert sum(1 for _ in store.ledger.events()) == expected["ledger"]["events"]


def test_commands_go_to_the_engine_and_its_changes_come_back(tmp_path: Path, tokens_path: Path):
    with (
        Daemon("--ledger", tmp_path / "l", "--tokens", tokens_path, CHILD_REAL="1") as daemon,
        httpx.Client() as client,
    ):
        url = f"http://127.0.0.1:{daemon.ready()[1]}"

        def give(event: str, key: str, **headers: str) -> httpx.Response:
            body = {"event": event, "resource": {"kind": "vpc", "name": "shop"}}
            return client.post(
                f"{url}/v1/commands", json=body, headers={**as_(OPERATOR), "idempotency-key": key, **headers}
            )

        assert give("VPCCreated", "a").status_code == 201
        again = give("VPCCreated", "a")
        assert again.status_code == 201 and again.json()["position"] == 1
        assert give("VPCCreated", "b").status_code == 409
        tag = client.get(f"{url}/v1/resources/vpc/shop", headers=as_(READER)).headers["etag"]
        assert give("VPCSpecChanged", "c", **{"if-match": tag}).status_code == 201
        assert give("VPCSpecChanged", "d", **{"if-match": tag}).status_code == 412
        assert [
            row["event"] for row in client.get(f"{url}/v1/history/vpc/shop", headers=as_(READER)).json()["history"]
        ][-1]
        assert daemon.end() == 0
