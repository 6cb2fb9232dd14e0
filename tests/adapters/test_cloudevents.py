"""CloudEvents, out and in: an export replays to the same ledger, and what others send is read by whom it concerns."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import app
from adapters.authority import Authority
from adapters.ingest import ingest
from adapters.ports import Entry, Source
from adapters.sources import audit_log, cloudevents, dialects, objects
from adapters.sources.dialect import About, Found, Ignored, Recognised
from adapters.stores.memory import InMemoryJournal
from domain.decide import Command
from domain.order import Head
from domain.resources import Key
from tests.adapters.test_cli import run, start
from tests.adapters.test_kubernetes_events import OLD as EVENT
from tests.adapters.test_objects import event as watch_event
from tests.adapters.test_objects import vpc
from tests.replaying import DATA, lines_of, recording, replay

AUDIT = next(line for line in lines_of("s0-buggy") if isinstance(audit_log.classify(line), Recognised))


def found_in(*events: dict[str, Any] | bytes) -> list[Found]:
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in events]
    assert dialects.recognise(lines) is cloudevents
    return list(cloudevents.read(((number, line, "") for number, line in enumerate(lines, 1)), About()))


def cloud_event(data: object = None, **attributes: Any) -> dict[str, Any]:
    attributes = {"specversion": "1.0", "id": "1", "source": "/here", "type": "of.others", **attributes}
    return attributes if data is None else {**attributes, "data": data}


def export_of(*paths: Path, folder: Path) -> Path:
    """What `netledger export` prints of these files, replayed into a ledger."""
    ledger = folder / "kept.ledger"
    assert run("replay", *paths, "--ledger", ledger).exit_code in (0, 1)
    result = run("export", "--ledger", ledger)
    assert (result.exit_code, result.stderr) == (0, "")
    exported = folder / "export.jsonl"
    exported.write_bytes(result.stdout_bytes)
    return exported


# ---- there and back


@pytest.mark.parametrize(
    "files",
    [
        ["s0-buggy/audit.log.gz"],
        ["s0-buggy/watch.jsonl.gz"],
        ["mixed-small/audit.log.gz"],
        ["mixed-small/watch.jsonl.gz"],
        ["s4-buggy/audit.log.gz", "s4-buggy/watch.jsonl.gz", "s4-buggy/final.yaml.gz"],
        ["quirks-batchlog/audit.log.gz"],
    ],
    ids="+".join,
)
def test_an_export_replays_to_the_same_ledger_and_the_same_findings(files: list[str], tmp_path: Path):
    paths = [DATA / file for file in files]
    exported = export_of(*paths, folder=tmp_path)
    before, after = InMemoryJournal(), InMemoryJournal()
    first, second = replay(*paths, journal=before), replay(exported, journal=after)
    assert second.digest == first.digest
    assert [finding.id for finding in second.findings] == [finding.id for finding in first.findings]
    assert [(finding.status, finding.until) for finding in second.findings] == [
        (finding.status, finding.until) for finding in first.findings
    ]
    assert [(entry.identity, entry.fingerprint, entry.payload) for entry in after.read()] == [
        (entry.identity, entry.fingerprint, entry.payload) for entry in before.read()
    ]
    (tally,) = second.tallies
    assert (tally.format, tally.recognised, tally.unrecognised) == ("cloudevents", after.head(), 0)
    assert tally.ignored == len(paths), "of each source one says how long it lasts"


def test_an_export_beside_its_own_log_is_all_duplicates(tmp_path: Path):
    paths = [DATA / "s0-buggy" / "audit.log.gz", DATA / "s0-buggy" / "watch.jsonl.gz"]
    exported = export_of(*paths, folder=tmp_path)
    journal = InMemoryJournal()
    known = sum(ingest(str(path), journal).recognised for path in paths)
    tally = ingest(str(exported), journal)
    assert (tally.recognised, tally.duplicates, tally.unrecognised) == (0, known, 0)


def test_an_export_of_an_export_is_the_same_records(tmp_path: Path):
    (tmp_path / "again").mkdir()
    exported = export_of(DATA / "s0-buggy" / "audit.log.gz", folder=tmp_path)
    again = export_of(exported, folder=tmp_path / "again")
    first = [json.loads(line) for line in exported.read_bytes().splitlines()]
    second = [json.loads(line) for line in again.read_bytes().splitlines()]
    for one in (*first, *second):
        for place in ("source", "netledgerline"):
            one.pop(place, None)
    assert second[1:] == first[1:]


def test_what_is_printed_are_cloudevents_in_the_order_of_arrival(tmp_path: Path):
    exported = export_of(DATA / "s0-buggy" / "audit.log.gz", folder=tmp_path)
    lasts, *events = [json.loads(line) for line in exported.read_bytes().splitlines()]
    assert lasts["type"] == "io.netledger.source" and lasts["data"]["format"] == "audit.k8s.io"
    journal = InMemoryJournal()
    ingest(str(DATA / "s0-buggy" / "audit.log.gz"), journal)
    entries = list(journal.read())
    assert [event["id"] for event in events] == [entry.identity for entry in entries]
    assert [event["netledgerline"] for event in events] == [entry.line for entry in entries]
    for event, entry in zip(events, entries, strict=True):
        assert event["specversion"] == "1.0"
        assert event["source"].endswith("/s0-buggy/audit.log.gz")
        assert event["type"] == "io.netledger.record.audit"
        assert event["datacontenttype"] == "application/json"
        assert event["time"].startswith("2026-11-21T01:24:")
        assert event["data"] == json.loads(entry.payload)
        assert all(name.isalnum() and name.islower() for name in event if name not in ("data_base64",))
    assert {"vpc:vpc-shop", "subnet:net-db"} <= {event["subject"] for event in events}


ENTRY = Entry(1, 1, 3, "test:1", b"", b"8 bytes.")
SOURCE = Source(1, "var/log dir/纟#1?.log", "test", b"")


class Said:
    """Records of a dialect that is not known here."""

    PREFIX = "test"

    def __init__(self, *heads: Head) -> None:
        self.said = list(heads)

    def heads(self, identity: str, payload: bytes) -> list[Head]:
        return self.said

    def operation(self, *arguments: object) -> Any:
        raise NotImplementedError


def test_a_source_is_a_uri_and_a_record_about_several_objects_or_without_a_clock_says_no_more_than_it_knows():
    head = Head(1_000_000, "test:1", 0, 0, Key("vpc", "", "a"), "u", 7, "seen", clocked=False)
    other = Head(2_000_000, "test:1", 1, 0, Key("vpc", "", "b"), "v", 7, "seen")
    entry = Entry(1, 1, 3, "test:1", b"{}", b"8 bytes.")
    (one, two) = (json.loads(cloudevents.exported(entry, SOURCE, Said(*heads))) for heads in ([head], [head, other]))
    assert one["source"] == two["source"] == "var/log%20dir/%E7%BA%9F%231%3F.log"
    assert (one["subject"], "time" in one) == ("vpc:a", False)
    assert ("subject" in two, two["time"]) == (False, "1970-01-01T00:00:02.000000Z")


@settings(max_examples=200)
@given(
    st.binary(max_size=60)
    | st.text(max_size=30).map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode())
    | st.sampled_from([b'{"a": 1.0,\t"a":2}', b'{"a":"\xff"}', b'{"a":1}\n{"b":2}', b'{"a":\r1}', b"{", b"{}"])
)
def test_any_payload_comes_back_byte_for_byte(payload: bytes):
    class Journalled(Said):
        def heads(self, identity: str, payload: bytes) -> list[Head]:
            return []

    line = cloudevents.exported(Entry(1, 1, 3, "test:1", payload, b"8 bytes."), SOURCE, Journalled())
    assert b"\n" not in line and b"\r" not in line
    event = cloudevents._read(line)
    if payload:
        assert cloudevents._data(event) == payload
    assert bytes.fromhex(event.netledgerfingerprint) == b"8 bytes."
    json.loads(line)


def test_records_that_cannot_be_read_again_keep_the_fingerprint_they_came_with(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(dialects._BY_PREFIX, "test", Said())
    line = cloudevents.exported(Entry(1, 1, 3, "test:1", b"I1121 text", b"8 bytes."), SOURCE, Said())
    (found,) = found_in(line)
    assert found.payload == b"I1121 text"
    assert found.what == Recognised("test:1", b"8 bytes.", "", [])
    (bad,) = found_in({**json.loads(line), "netledgerfingerprint": "00"})
    assert "nothing tells this record from another" in str(bad.what)


def test_commands_are_left_out_of_an_export_and_it_is_said(tmp_path: Path):
    path = tmp_path / "commands.ledger"
    with app.opened(str(path)) as store:
        command = Command(
            event="VPCCreated", key=Key("vpc", "", "shop"), identity="c-1", actor="alice", time=1_795_224_249_000_000
        )
        assert Authority(store.recorder, store.journal).execute(command).admitted
    result = run("export", "--ledger", path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 command left out" in result.stderr


def test_export_says_what_it_needs_and_ends_quietly_in_a_pipe(tmp_path: Path):
    assert "which ledger?" in run("export").stderr
    assert run("export", "--ledger", tmp_path / "nowhere").exit_code == 2
    ledger = tmp_path / "kept.ledger"
    run("replay", *recording("mixed-small"), "--ledger", ledger)
    process = start("export", "--ledger", ledger)
    head = subprocess.run(["head", "-1"], stdin=process.stdout, capture_output=True, timeout=60)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert json.loads(head.stdout)["specversion"] == "1.0"
    process.wait(60)
    assert process.stderr.read() == b""
    whole = start("export", "--ledger", ledger, stderr=subprocess.DEVNULL)
    replayed = start("replay", "-", "-o", "json", stdin=whole.stdout)
    out, told = replayed.communicate(timeout=120)
    assert whole.wait(60) == 0 and told == b""
    assert json.loads(out)["ledger"]["digest"] == replay(*recording("mixed-small")).digest


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_export_that_cannot_be_written_whole_says_so(tmp_path: Path):
    run("replay", *recording("s0-buggy"), "--ledger", tmp_path / "kept.ledger")
    with Path("/dev/full").open("wb") as full:
        process = start("export", "--ledger", tmp_path / "kept.ledger", stdout=full)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2 and b"standard output cannot be written" in told


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_is_printed_does_not_depend_on_the_terminals_encoding(encoding: str, tmp_path: Path):
    run("replay", DATA / "quirks-batchlog" / "watch.jsonl.gz", "--ledger", tmp_path / "kept.ledger")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    out, _ = start("export", "--ledger", tmp_path / "kept.ledger", env=environment).communicate(timeout=60)
    assert "纟络-é".encode() in out
    assert all(json.loads(line) for line in out.splitlines())


# ---- what others send

VPC = vpc(8)
VPC_LINE = json.dumps(VPC, separators=(",", ":")).encode()
LIST = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [json.loads(AUDIT)]}


@pytest.mark.parametrize(
    ("event", "identity"),
    [
        (cloud_event(json.loads(AUDIT)), None),
        (cloud_event(LIST), None),
        (cloud_event(data_base64=base64.b64encode(AUDIT).decode()), None),
        (cloud_event(VPC), "object:u@8/shown"),
        (cloud_event({"apiVersion": "v1", "kind": "List", "items": [VPC]}), "object:u@8/shown"),
        (cloud_event(watch_event("MODIFIED", VPC)), "object:u@8/seen"),
        (cloud_event(watch_event("DELETED", VPC)), "object:u@8/gone"),
        (cloud_event(VPC, type="dev.knative.apiserver.resource.add"), "object:u@8/seen"),
        (cloud_event(VPC, type="dev.knative.apiserver.resource.update"), "object:u@8/seen"),
        (cloud_event(VPC, type="dev.knative.apiserver.resource.delete"), "object:u@8/gone"),
        (cloud_event(EVENT), "event:e1@340"),
    ],
)
def test_foreign_data_is_handed_to_the_reader_that_knows_it(event, identity):
    (found,) = found_in(event)
    assert isinstance(found.what, Recognised)
    made = audit_log.classify(AUDIT)
    assert isinstance(made, Recognised)
    assert found.what.identity == (identity or made.identity)
    if identity is None:
        assert found.what == made
    assert dialects.of(found.what.identity).heads(found.what.identity, found.payload) == found.what.heads


def test_a_stream_of_knative_events_tells_creations_as_a_watch_does():
    names = {"ADDED": "add", "MODIFIED": "update", "DELETED": "delete"}
    lines = gzip.decompress((DATA / "s0-buggy" / "watch.jsonl.gz").read_bytes()).splitlines()
    events = []
    for number, one in enumerate(map(json.loads, lines)):
        type = f"dev.knative.apiserver.resource.{names[one['type']]}"
        events.append(cloud_event(one["object"], type=type, id=str(number)))
    plain = objects.read(((number, line, "") for number, line in enumerate(lines, 1)), About())
    assert [one.what for one in found_in(*events)] == [one.what for one in plain]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (cloud_event(), "carries no data"),
        (cloud_event("text"), "no JSON object"),
        (cloud_event([1]), "no JSON object"),
        (cloud_event(data_base64="*"), "data_base64 cannot be read"),
        (cloud_event(data_base64="/w=="), "no JSON object"),
        (cloud_event({"hello": 1}), "no kind"),
        (cloud_event({"kind": "Vpc"}, type="dev.knative.apiserver.ref.add"), "mode to Resource"),
        (cloud_event({}, type="io.netledger.record.audit"), "is not that of a record"),
        (cloud_event({}, type="io.netledger.record.audit", id="audit:x"), "missing required field `auditID`"),
        (cloud_event(json.loads(AUDIT), type="io.netledger.record.audit", id="audit:x"), "is not the record audit:x"),
        (
            cloud_event(VPC, type="io.netledger.record.object", id="object:u@9/shown"),
            "makes the record object:u@8/shown",
        ),
        (cloud_event(VPC, type="io.netledger.record.object", id="object:u@8/gone"), "does not make the record"),
        (cloud_event(VPC, type="io.netledger.record.object", id="object:u@8/created"), "does not make the record"),
        (cloud_event(EVENT, type="io.netledger.record.event", id="event:e1@3"), "is not the record event:e1@3"),
        (cloud_event(VPC, type="io.netledger.record.nothing", id="nothing:1"), "no records of type 'nothing'"),
        (cloud_event(VPC, type="io.netledger.record.command", id="command:1"), "no records of type 'command'"),
        (cloud_event([], type="io.netledger.source"), "got `array`"),
        ({"id": "1", "source": "a", "type": "b"}, "no CloudEvent of version 1"),
        ({**cloud_event(VPC), "specversion": "0.3"}, "no CloudEvent of version 1"),
        ({**cloud_event(VPC), "id": ""}, "no CloudEvent of version 1"),
        (b"{", "no CloudEvent"),
        (b"[]", "no CloudEvent"),
    ],
)
def test_what_cannot_be_used_is_kept_aside_with_its_reason_and_the_rest_is_read(event, reason, tmp_path: Path):
    path = tmp_path / "events.jsonl"
    lines = [cloud_event(vpc(1, uid="a")), event, cloud_event(vpc(2, uid="b"))]
    path.write_bytes(b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines))
    journal = InMemoryJournal()
    tally = ingest(str(path), journal)
    assert (tally.format, tally.records, tally.recognised, tally.unrecognised) == ("cloudevents", 3, 2, 1)
    (aside,) = journal.kept_aside()
    assert reason in aside.reason and aside.line == 2


def test_objects_of_other_kinds_are_counted():
    (found,) = found_in(cloud_event({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}}))
    assert found.what == Ignored("")


@pytest.mark.parametrize(
    "lines",
    [
        [AUDIT],
        [VPC_LINE],
        [json.dumps(watch_event("ADDED", VPC)).encode()],
        [b'{"specversion":"1.0"}'],
        [b"specversion: 1.0"],
    ],
)
def test_what_is_no_cloudevent_is_not_taken_for_one(lines):
    assert dialects.recognise(lines) is not cloudevents
