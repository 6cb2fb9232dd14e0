"""What an API server posts: kept before it is acknowledged, whatever it is, and refused at once where it is too much."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapters import app, report
from adapters.http.event_list import units_of
from adapters.http.service import Service
from adapters.ports import LedgerReadOnly, StoreFull
from tests.adapters.http.conftest import BOUNDS, READER, SENDER, as_
from tests.adapters.http.double import Double

DATA = Path(__file__).parents[2] / "incidents" / "data"
POSTED = gzip.decompress((DATA / "s0-buggy" / "webhook-body.json.gz").read_bytes())


def post(client: TestClient, body: bytes | Iterator[bytes], path: str = "/ingest/audit", **headers: str):
    return client.post(path, content=body, headers={**as_(SENDER), "content-type": "application/json", **headers})


def asides(live: Double) -> list[str]:
    return [one.reason for one in live.store.journal.kept_aside()]


def event(number: int, **more: object) -> dict[str, object]:
    """A write on a VPC, as an item of a list: without kind and version."""
    return {
        "level": "Metadata",
        "auditID": f"00000000-0000-0000-0000-{number:012}",
        "stage": "ResponseComplete",
        "requestURI": "/apis/kubeovn.io/v1/vpcs/shop",
        "verb": "patch",
        "user": {"username": "alice"},
        "objectRef": {"resource": "vpcs", "name": "shop", "apiGroup": "kubeovn.io"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-21T01:24:04.000000Z",
        "stageTimestamp": f"2026-11-21T01:24:{number % 60:02}.000000Z",
        **more,
    }


def listed(*items: object, **more: object) -> bytes:
    return json.dumps(
        {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items, **more}
    ).encode()


# ---- what an API server sends


def test_a_batch_is_on_disk_when_it_is_acknowledged(client: TestClient, live: Double):
    taken = post(client, POSTED).json()["taken"]
    assert taken["records"] == len(json.loads(POSTED)["items"])
    assert taken["recognised"] == live.store.journal.head() > 10
    assert taken["aside"] == taken["duplicates"] == 0


def test_a_batch_that_comes_twice_is_one(client: TestClient, live: Double):
    first = post(client, POSTED).json()["taken"]
    again = post(client, POSTED).json()["taken"]
    assert (again["recognised"], again["duplicates"]) == (0, first["recognised"])
    assert live.store.journal.head() == first["recognised"]


def recorded_posts() -> list[bytes]:
    """The bodies of a real API server's POSTs, as they came; those that were answered 500 came again by themselves."""
    with tarfile.open(
        fileobj=io.BytesIO((DATA / "quirks-managedfields-webhook" / "posts.tar.gz").read_bytes())
    ) as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".json"))
        return [archive.extractfile(name).read() for name in names]  # type: ignore[union-attr]


def test_recorded_posts_give_what_a_replay_of_the_same_log_gives(client: TestClient, live: Double, tmp_path: Path):
    posts = recorded_posts()
    posted = {item["auditID"] + item["stage"] for body in posts for item in json.loads(body)["items"]}
    for body in posts:
        assert post(client, body).status_code == 200
    # The log less what never came: the API server was stopped before it sent the end.
    log = gzip.decompress((DATA / "quirks-managedfields-webhook" / "audit.log.gz").read_bytes()).splitlines()
    came = [line for line in log if (found := json.loads(line))["auditID"] + found["stage"] in posted]
    assert 0 < len(log) - len(came) < 60
    (tmp_path / "came.log").write_bytes(b"\n".join(came) + b"\n")
    with app.opened(None) as store:
        replayed = report.document(store, app.replay(store, [str(tmp_path / "came.log")]))
    document = live.findings()
    assert document["ledger"]["digest"] == replayed["ledger"]["digest"]
    ids = [(one["id"], one["status"]) for one in document["findings"]]
    assert ids == [(one["id"], one["status"]) for one in replayed["findings"]]
    assert asides(live) == []


def test_senders_are_told_apart_by_name(client: TestClient, live: Double):
    assert post(client, listed(event(1)), "/ingest/audit?source=api-1&timeout=30s").status_code == 200
    assert post(client, listed(event(2)), "/ingest/audit?source=api-2").status_code == 200
    assert [source.path for source in live.store.journal.sources()] == ["api-1", "api-2"]
    assert post(client, listed(event(3)), "/ingest/audit?source=%0Aevil").status_code == 400
    assert post(client, listed(event(3)), "/ingest/audit?source=" + "x" * 101).status_code == 400


def test_names_of_senders_are_bounded(client: TestClient, live: Double):
    for number in range(100):
        live.intake.inlet(f"api-{number}", "audit.k8s.io")
    refused = post(client, listed(event(1)), "/ingest/audit?source=one-more")
    assert refused.status_code == 400 and "100 sources" in refused.json()["detail"]
    assert post(client, listed(event(1)), "/ingest/audit?source=api-5").status_code == 200


def test_older_versions_and_odd_lists_are_read(client: TestClient, live: Double):
    old = listed(event(1), apiVersion="audit.k8s.io/v1beta1")
    assert post(client, old).json()["taken"]["recognised"] == 1
    assert post(client, listed(items=None)).json()["taken"]["records"] == 0
    whole = {"kind": "Event", "apiVersion": "audit.k8s.io/v1", **event(2)}
    assert post(client, listed(whole)).json()["taken"]["recognised"] == 1
    assert post(client, json.dumps({**whole, **event(3)}, indent=2).encode()).json()["taken"]["recognised"] == 1
    assert asides(live) == []


# ---- what cannot be read is kept aside, and acknowledged


def test_one_event_that_cannot_be_read_does_not_cost_the_others(client: TestClient, live: Double):
    answer = post(client, listed(event(1), event(2, stageTimestamp="yesterday"), 17, event(3)))
    assert answer.status_code == 200
    taken = answer.json()["taken"]
    assert (taken["recognised"], taken["aside"]) == (2, 2)
    assert any("'yesterday' is not a time" in reason for reason in asides(live))
    assert "an item of an EventList that is no object" in asides(live)


@pytest.mark.parametrize("cut", [1, 30, 400])
def test_of_a_body_that_is_cut_off_the_whole_events_are_kept(client: TestClient, live: Double, cut: int):
    answer = post(client, listed(event(1), event(2), event(3))[:-cut])
    assert answer.status_code == 200
    assert answer.json()["taken"]["recognised"] == (3 if cut == 1 else 2)
    assert len(asides(live)) == (0 if cut == 1 else 1)


def test_of_a_list_with_one_broken_event_the_others_are_kept(client: TestClient, live: Double):
    nested = event(2, requestObject={"items": [{"level": "a"}, {"level": "b"}, {"kind": "c"}]})
    broken = listed(event(1), nested, event(3), event(4)).replace(b'"alice"}', b'"alice"', 1)
    taken = post(client, broken).json()["taken"]
    assert (taken["recognised"], taken["aside"]) == (3, 1)
    assert "an event of an EventList, it is broken" in asides(live)[0]


HOSTILE = {
    "nothing": b"",
    "text": b"hello",
    "a number": b"17",
    "null": b"null",
    "another kind": b'{"kind":"PodList","apiVersion":"v1","items":[]}',
    "a kind that is none": b'{"kind":["EventList"],"apiVersion":{},"items":[]}',
    "items that are none": b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{"a":1}}',
    "deep nesting": b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":['
    + b"[" * 200_000
    + b"]" * 200_000
    + b"]}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not UTF-8": b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":["\xff\xfe"]}',
    "a huge number": b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + b"9" * 100_000 + b"]}",
    "not a number": b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[NaN]}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=list(HOSTILE))
def test_a_body_that_is_no_list_is_kept_aside_and_acknowledged(client: TestClient, live: Double, body: bytes):
    answer = post(client, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["taken"]["aside"] >= 1
    assert len(asides(live)) == answer.json()["taken"]["aside"]
    assert post(client, listed(event(1))).json()["taken"]["recognised"] == 1


def hostile_items() -> dict[str, bytes]:
    whole = json.dumps(event(1)).encode()
    return {
        "not UTF-8": whole.replace(b"alice", b"al\xffce"),
        "a surrogate alone": whole.replace(b"alice", rb"\ud800"),
        "a huge number": whole.replace(b"200", b"9" * 400),
        "a huge exponent": whole.replace(b"200", b"1e999999"),
        "deep": whole[:-1] + b',"requestObject":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        "a long string": whole.replace(b"alice", b"a" * (10 << 20)),
        "zero bytes": whole.replace(b"alice", b"a\x00b"),
    }


@pytest.mark.parametrize("name", list(hostile_items()))
def test_a_hostile_event_is_taken_or_kept_aside_and_the_next_is_taken(client: TestClient, live: Double, name: str):
    body = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[%s,%s]}' % (
        hostile_items()[name],
        json.dumps(event(2)).encode(),
    )
    answer = post(client, body)
    assert answer.status_code == 200, answer.text
    taken = answer.json()["taken"]
    assert taken["recognised"] >= 1 and taken["recognised"] + taken["aside"] == 2
    assert live.findings()["findings"] is not None
    assert all(len(one.excerpt) <= 4096 for one in live.store.journal.kept_aside())


def test_of_a_key_that_is_there_twice_the_last_counts(client: TestClient, live: Double):
    twice = json.dumps(event(1))[:-1] + ',"auditID":"the-last"}'
    body = '{"kind":"PodList","kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[1],"items":[' + twice + "]}"
    assert post(client, body.encode()).json()["taken"]["recognised"] == 1
    assert next(iter(live.store.journal.read())).identity.startswith("audit:the-last@")


def test_taking_a_list_apart_never_raises_on_any_beginning_of_it():
    body = listed(event(1), event(2, requestObject={"items": [{"kind": "x"}, {"kind": "y"}]}))
    for end in range(0, len(body), 7):
        found = units_of(body[:end])
        assert len(found.units) + len(found.aside) >= 1
        assert all(json.loads(unit)["kind"] == "Event" for unit in found.units)


# ---- compressed


def test_a_gzip_body_is_taken_also_in_several_members(client: TestClient):
    body = listed(event(1), event(2))
    in_two = gzip.compress(body[:100]) + gzip.compress(body[100:])
    assert post(client, in_two, **{"content-encoding": "gzip"}).json()["taken"]["recognised"] == 2
    refused = post(client, body, **{"content-encoding": "br"})
    assert refused.status_code == 415 and refused.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("damage", ["cut", "none", "crc"])
def test_a_gzip_body_that_cannot_be_inflated_is_kept_aside(client: TestClient, live: Double, damage: str):
    whole = gzip.compress(listed(event(1)))
    body = {"cut": whole[:-20], "none": b"plain", "crc": whole[:-8] + b"\0\0\0\0" + whole[-4:]}[damage]
    assert post(client, body, **{"content-encoding": "gzip"}).json()["taken"]["aside"] == 1
    assert "cannot be inflated" in asides(live)[0]


def test_a_gzip_bomb_is_refused_before_it_is_inflated(client: TestClient, service: Service):
    bomb = zlib.compressobj(wbits=31)
    body = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(40)) + bomb.flush()
    assert len(body) < 1 << 20
    answer = post(client, body, **{"content-encoding": "gzip"})
    assert answer.status_code == 413 and "inflated" in answer.json()["detail"]
    assert service.room.held == 0


# ---- too much


def test_a_body_that_is_too_large_is_refused_with_the_bound(client: TestClient, service: Service):
    answer = post(client, bytes(BOUNDS.body + 1))
    assert answer.status_code == 413 and f"{BOUNDS.body:,}" in answer.json()["detail"]
    pieces = (bytes(1 << 20) for _ in range(13))
    assert post(client, pieces).status_code == 413  # without Content-Length
    assert service.room.held == 0


def test_what_all_requests_hold_is_bounded_and_more_is_refused_at_once(client: TestClient, service: Service):
    assert service.room.take(BOUNDS.in_flight - 100)
    answer = post(client, listed(event(1)))
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert "nothing of this was kept" in answer.json()["detail"]
    service.room.give(BOUNDS.in_flight - 100)
    assert post(client, listed(event(1))).status_code == 200
    assert service.room.held == 0


def test_batches_on_their_way_are_bounded(client: TestClient, service: Service):
    service.taking = BOUNDS.takes
    answer = post(client, listed(event(1)))
    assert answer.status_code == 503 and "retry-after" in answer.headers
    service.taking = 0
    assert post(client, listed(event(1))).status_code == 200
    page = client.get("/metrics", headers=as_(READER)).text
    assert 'netledger_http_requests_total{code="503",method="POST",route="/ingest/audit"} 1.0' in page


@pytest.mark.parametrize(
    ("error", "status"), [(StoreFull("no room on the disk"), 507), (LedgerReadOnly("the file system forbids it"), 503)]
)
def test_what_cannot_be_kept_is_not_acknowledged(
    client: TestClient, live: Double, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
):
    def commit(*given: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(live.store.journal, "commit", commit)
        answer = post(client, listed(event(1)))
        assert (answer.status_code, answer.json()["detail"]) == (status, str(error))
    assert post(client, listed(event(1))).json()["taken"]["recognised"] == 1
