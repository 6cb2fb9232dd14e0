"""API objects as kubectl prints them: the same fields in every form, and a creation only where a stream shows it."""

from __future__ import annotations

import copy
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ingest import ingest
from adapters.sources import audit_log, dialects, objects
from adapters.sources.dialect import About, Found, Ignored, Recognised
from adapters.sources.dialect import moment as moment_of
from adapters.stores.memory import InMemoryJournal
from domain.operations import MADE, REMOVED, SEEN, SEEN_GONE, Operation, OrderKey
from domain.resources import KINDS, Key
from tests.replaying import DATA, lines_of, recording, replay

RECORDINGS = sorted(path.parent.name for path in DATA.glob("*/watch.jsonl.gz"))
LONG = "mixed-seed7"


def watched(name: str) -> list[bytes]:
    return gzip.decompress((DATA / name / "watch.jsonl.gz").read_bytes()).splitlines()


def found_in(text: bytes | list[bytes] | list[dict[str, Any]]) -> list[Found]:
    """What the reader makes of a text, of lines, or of events, one a line."""
    if isinstance(text, list):
        lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in text]
    else:
        lines = text.split(b"\n")
    assert dialects.recognise(lines[:200]) is objects
    return list(objects.read(((number, line, "") for number, line in enumerate(lines, 1)), About()))


def records_of(found: list[Found]) -> list[Recognised]:
    assert not [one.what for one in found if isinstance(one.what, str)]
    return [one.what for one in found if isinstance(one.what, Recognised)]


def operation_of(found: Found) -> Operation:
    assert isinstance(found.what, Recognised)
    (head,) = objects.heads(found.what.identity, found.payload)
    assert [head] == found.what.heads, "the journal gives back what was read"
    return objects.operation(found.payload, OrderKey(head.revision, 0, head.time, head.identity), head.outcome)


def vpc(revision: int, made: str = "2026-11-21T01:00:00Z", uid: str = "u", **more: Any) -> dict[str, Any]:
    metadata = {"name": f"vpc-{uid}", "uid": uid, "resourceVersion": str(revision), "creationTimestamp": made, **more}
    return {"apiVersion": "kubeovn.io/v1", "kind": "Vpc", "metadata": metadata, "spec": {"namespaces": ["shop"]}}


def event(type: str, shown: dict[str, Any]) -> dict[str, Any]:
    return {"type": type, "object": shown}


def list_of(*shown: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "items": list(shown), "kind": "List", "metadata": {"resourceVersion": ""}}


# ---- the recordings


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_line_of_a_recorded_watch_is_a_record_or_of_a_kind_that_is_not_ours(name: str):
    lines = watched(name)
    found = found_in(lines)
    assert [one.line for one in found] == list(range(1, len(lines) + 1))
    records = records_of(found)
    assert len(records) + sum(isinstance(one.what, Ignored) for one in found) == len(lines)
    assert len({record.identity for record in records}) == len(records)
    kinds: Counter[str] = Counter(json.loads(line)["object"]["kind"] for line in lines)
    ours = sum(kinds[kind.title] for kind in KINDS)
    assert len(records) == ours


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_watch_shows_the_fields_that_the_audit_log_shows_at_the_same_revision(name: str):
    made: dict[tuple[str, int], Operation] = {}
    for line in lines_of(name):
        what = audit_log.classify(line)
        if isinstance(what, Recognised):
            for head in what.heads:
                if head.revision and head.outcome == MADE and head.uid:
                    order = OrderKey(head.revision, 0, head.time, head.identity, head.part)
                    made.setdefault((head.uid, head.revision), audit_log.operation(line, order, MADE))
    compared = 0
    for one in found_in(watched(name)):
        if isinstance(one.what, Recognised):
            shown = operation_of(one)
            assert shown.revision is not None
            by_audit = made.get((shown.uid, shown.revision))
            if by_audit is not None and shown.outcome == SEEN and by_audit.after is not None:
                assert shown.key == by_audit.key
                if by_audit.verb != "deletecollection" and by_audit.subresource not in ("binding", "eviction"):
                    assert shown.after == by_audit.after
                    compared += 1
    assert compared > 3


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_a_watch_calls_created_is_a_create_in_the_audit_log_and_none_is_called_so_twice(name: str):
    heads = [
        head
        for line in lines_of(name)
        if isinstance(what := audit_log.classify(line), Recognised)
        for head in what.heads
    ]
    first: dict[str, int] = {}
    for head in heads:
        if head.creates:
            first.setdefault(head.uid, head.revision)
    shown = [record.heads[0] for record in records_of(found_in(watched(name)))]
    created = [head for head in shown if head.creates]
    for head in created:
        # Of a create whose body was cut off the log does not say what it made.
        assert head.revision == first[head.uid] if head.uid in first else name == "quirks-truncate"
    removed = {head.uid for head in heads if head.outcome == REMOVED}
    gone = {head.uid for head in shown if head.outcome == SEEN_GONE}
    assert gone <= removed | {head.uid for head in heads if not head.revision}


def test_most_creations_of_a_long_watch_are_seen_as_such():
    lines = [json.loads(line) for line in watched(LONG)]
    records = records_of(found_in(watched(LONG)))
    created = [record for record in records if record.identity.endswith("/created")]
    added = [one for one in lines if one["type"] == "ADDED" and one["object"]["kind"] in ("Subnet", "IP", "Vpc")]
    assert len(created) > 0.9 * len(added)


@pytest.mark.parametrize("name", RECORDINGS)
def test_no_time_that_a_watch_gives_is_behind_what_the_audit_log_says_of_the_same_revision(name: str):
    """An object's time is the latest that it names itself, in whole seconds: a lower bound of when it was written."""
    at: dict[tuple[str, int], int] = {}
    for line in lines_of(name):
        what = audit_log.classify(line)
        if isinstance(what, Recognised):
            for head in what.heads:
                if head.revision and head.outcome == MADE:
                    key = (head.uid, head.revision)
                    at[key] = min(head.time, at.get(key, head.time))
    compared = [
        (head.time, at[head.uid, head.revision])
        for record in records_of(found_in(watched(name)))
        for head in record.heads
        if (head.uid, head.revision) in at
    ]
    assert compared and all(0 < named <= answered for named, answered in compared)


def test_a_replay_of_a_watch_alone_finds_the_fault_of_its_recording(tmp_path: Path):
    replayed = replay(DATA / "s0-buggy" / "watch.jsonl.gz")
    assert ("lost-update", Key("vpc", "", "vpc-shop")) in {(one.name, one.key) for one in replayed.open_errors}
    assert replayed.tallies[0].recognised == replayed.tallies[0].records == 23


# ---- every form says the same

SHOWN = [json.loads(line)["object"] for line in watched("s4-buggy") if b'"DELETED"' not in line[:20]]


FORMS = {
    "compact objects": lambda shown: "\n".join(json.dumps(one, separators=(",", ":")) for one in shown),
    "pretty-printed objects": lambda shown: "\n".join(json.dumps(one, indent=4) for one in shown),
    "a list": lambda shown: json.dumps(list_of(*shown), indent=4),
    "a compact list": lambda shown: json.dumps(list_of(*shown)),
    "watch events": lambda shown: "\n".join(json.dumps(event("MODIFIED", one)) for one in shown),
    "pretty-printed watch events": lambda shown: "\n".join(
        json.dumps(event("MODIFIED", one), indent=4) for one in shown
    ),
    "a list in YAML": lambda shown: yaml.safe_dump(list_of(*shown)),
    "objects in YAML": lambda shown: "---\n".join(yaml.safe_dump(one) for one in shown),
    "watch events in YAML": lambda shown: "---\n".join(yaml.safe_dump(event("MODIFIED", one)) for one in shown),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_object_says_the_same_in_every_form_that_kubectl_prints(form: str):
    plain = found_in("\n".join(map(json.dumps, SHOWN)).encode())
    found = found_in(FORMS[form](SHOWN).encode())
    assert len(found) == len(plain) == len(SHOWN)
    for one, other in zip(found, plain, strict=True):
        assert isinstance(one.what, Recognised) and isinstance(other.what, Recognised)
        assert (one.what.fingerprint, one.what.time) == (other.what.fingerprint, other.what.time)
        assert one.what.identity.rpartition("/")[0] == other.what.identity.rpartition("/")[0]
        assert operation_of(one).after == operation_of(other).after
        assert operation_of(one).verb == ("watch" if "watch" in form else "snapshot")
        assert b"\n" not in one.payload


def test_the_end_of_a_recording_as_yaml_is_what_its_watch_showed_last():
    last: dict[str, Operation] = {}
    for one in found_in(watched("quirks-batchlog")):
        shown = operation_of(one)
        if shown.outcome == SEEN:
            last[shown.uid] = shown
        else:
            del last[shown.uid]
    text = gzip.decompress((DATA / "quirks-batchlog" / "final.yaml.gz").read_bytes())
    end = [operation_of(one) for one in found_in(text)]
    assert {(one.uid, one.revision): one.after for one in end} == {
        (one.uid, one.revision): one.after for one in last.values()
    }
    assert len(end) == 5


def test_an_object_without_its_managed_fields_is_a_record_that_says_less_and_one_that_says_otherwise_a_collision(
    tmp_path: Path,
):
    stripped = copy.deepcopy(SHOWN)
    for one in stripped:
        one["metadata"].pop("managedFields", None)
    other = copy.deepcopy(SHOWN[0])
    other["spec"]["lanIp"] = "10.9.9.9"
    managed = sum(bool(one["metadata"].get("managedFields")) for one in SHOWN)
    assert managed
    journal = InMemoryJournal()
    tallies = []
    for name, shown in (("whole", SHOWN), ("stripped", stripped), ("again", SHOWN), ("other", [other])):
        path = tmp_path / name
        path.write_text(json.dumps(list_of(*shown)))
        tallies.append(ingest(str(path), journal))
    assert [(tally.recognised, tally.duplicates, tally.unrecognised) for tally in tallies] == [
        (len(SHOWN), 0, 0),
        (managed, len(SHOWN) - managed, 0),
        (0, len(SHOWN), 0),
        (0, 0, 1),
    ]
    assert ["collision" in aside.reason for aside in journal.kept_aside()] == [True]


def test_a_typed_list_gives_its_items_their_kind():
    items = [{key: value for key, value in vpc(7).items() if key not in ("kind", "apiVersion")}]
    (found,) = found_in([{"kind": "VpcList", "apiVersion": "kubeovn.io/v1", "items": items}])
    assert operation_of(found).key == Key("vpc", "", "vpc-u")
    (empty,) = found_in([{"kind": "VpcList", "apiVersion": "kubeovn.io/v1", "metadata": {}, "items": []}])
    assert empty.what == Ignored("")


# ---- what a record says


def test_a_watch_event_is_seen_at_its_revision_without_a_clock_and_a_deletion_is_the_end():
    seen, gone = found_in([event("MODIFIED", vpc(8)), event("DELETED", vpc(9))])
    assert isinstance(seen.what, Recognised) and isinstance(gone.what, Recognised)
    assert (seen.what.identity, gone.what.identity) == ("object:u@8/seen", "object:u@9/gone")
    for one, revision, outcome in ((seen, 8, SEEN), (gone, 9, SEEN_GONE)):
        operation = operation_of(one)
        assert isinstance(one.what, Recognised)
        (head,) = one.what.heads
        assert (head.outcome, head.revision, head.clocked, head.received) == (outcome, revision, False, 0)
        assert (operation.outcome, operation.revision, operation.uid) == (outcome, revision, "u")
        assert (operation.verb, operation.after) == ("watch", {"spec.namespaces": ["shop"]})


@pytest.mark.parametrize(
    ("metadata", "status", "time"),
    [
        ({}, None, "01:00:00"),
        ({"managedFields": [{"manager": "a", "time": "2026-11-21T01:00:07Z"}]}, None, "01:00:07"),
        ({}, {"conditions": [{"lastTransitionTime": "2026-11-21T01:00:05Z"}]}, "01:00:05"),
        ({}, {"conditions": [{"lastUpdateTime": "2026-11-21T01:00:06Z", "lastTransitionTime": None}]}, "01:00:06"),
        ({}, {"conditions": "none"}, "01:00:00"),
        ({}, "Failure", "01:00:00"),
        ({"deletionTimestamp": "2026-11-21T01:00:40Z", "deletionGracePeriodSeconds": 30}, None, "01:00:10"),
        ({"deletionTimestamp": "2026-11-21T01:00:40Z"}, None, "01:00:40"),
        ({"deletionTimestamp": "2026-11-21T01:00:40Z", "deletionGracePeriodSeconds": 10**18}, None, "01:00:00"),
        ({"managedFields": [{"manager": "a", "time": "soon"}]}, None, "01:00:00"),
    ],
)
def test_the_time_of_an_object_is_the_latest_that_it_names_and_that_was_past(metadata, status, time):
    shown = {**vpc(8, **metadata), **({} if status is None else {"status": status})}
    (found,) = found_in([shown])
    assert isinstance(found.what, Recognised)
    assert found.what.time == f"2026-11-21T{time}.000000Z"
    assert found.what.heads[0].time == moment_of(found.what.time, "")


def test_an_object_that_names_no_time_has_none():
    shown = vpc(8)
    del shown["metadata"]["creationTimestamp"]
    (found,) = found_in([shown])
    assert isinstance(found.what, Recognised)
    assert (found.what.time, found.what.heads[0].time) == ("", 0)


@pytest.mark.parametrize(
    ("written", "actor"),
    [
        ([("a", "01:00:01"), ("b", "01:00:02")], "b (field manager)"),
        ([("b", "01:00:02"), ("b", "01:00:02")], "b (field manager)"),
        ([("a", "01:00:02"), ("b", "01:00:02")], ""),
        ([("", "01:00:02")], ""),
        ([], ""),
    ],
)
def test_the_actor_is_the_field_manager_that_alone_wrote_last(written, actor):
    managed = [{"manager": manager, "time": f"2026-11-21T{time}Z"} for manager, time in written]
    (found,) = found_in([vpc(8, managedFields=managed)])
    assert operation_of(found).actor == actor


# ---- creations

BOOKMARK = event(
    "BOOKMARK",
    {
        "kind": "Vpc",
        "apiVersion": "kubeovn.io/v1",
        "metadata": {"resourceVersion": "12", "annotations": {"k8s.io/initial-events-end": "true"}},
    },
)
EARLY, LATE = "2026-11-21T01:00:00Z", "2026-11-21T01:00:05Z"
FIRST_LIST = [event("ADDED", vpc(10, EARLY, "a")), event("ADDED", vpc(12, EARLY, "b"))]
GOES_LIVE = {
    "a change": event("MODIFIED", vpc(20, EARLY, "a")),
    "a removal": event("DELETED", vpc(20, EARLY, "a")),
    "the end of the initial events": BOOKMARK,
}


def endings(*events: dict[str, Any]) -> list[str]:
    return [record.identity.rpartition("/")[2] for record in records_of(found_in(list(events)))]


def test_what_a_watch_begins_with_was_there_and_is_no_creation():
    assert endings(*FIRST_LIST, event("ADDED", vpc(13, LATE, "c"))) == ["seen"] * 3


@pytest.mark.parametrize("live", GOES_LIVE)
def test_what_is_added_to_a_live_watch_was_created(live: str):
    assert endings(*FIRST_LIST, GOES_LIVE[live], event("ADDED", vpc(30, LATE, "c")))[-1] == "created"
    # In whole seconds, the same second is not before.
    assert endings(*FIRST_LIST, GOES_LIVE[live], event("ADDED", vpc(30, EARLY, "c")))[-1] == "created"


@pytest.mark.parametrize(
    "added",
    {
        "its revision is not above that at which the watch was live": vpc(20, LATE, "c"),
        "it was made before": vpc(30, "2026-11-21T00:59:59Z", "c"),
        "it was changed since it was made": vpc(30, LATE, "c", generation=2),
        "somebody else wrote to it since": vpc(30, LATE, "c", managedFields=[{"manager": "a"}, {"manager": "b"}]),
        "its maker wrote to it again": vpc(30, EARLY, "c", managedFields=[{"manager": "a", "time": LATE}]),
        "it is going already": vpc(30, LATE, "c", deletionTimestamp=LATE),
        "nobody knows when it was made": vpc(30, "", "c"),
        "it was shown before": vpc(30, EARLY, "b"),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_added_and_may_have_been_there_is_no_creation(added):
    assert endings(*FIRST_LIST, GOES_LIVE["a change"], event("ADDED", added[1]))[-1] == "seen"


def test_a_watch_that_begins_anew_shows_what_is_there_until_it_is_live_again():
    live = GOES_LIVE["a change"]
    new = [event("ADDED", vpc(30, LATE, "c")), event("ADDED", vpc(31, LATE, "d"))]
    again = event("ADDED", vpc(20, EARLY, "a"))
    assert endings(*FIRST_LIST, live, again.copy(), *new)[-2:] == ["seen", "seen"]
    error = event(
        "ERROR", {"kind": "Status", "apiVersion": "v1", "message": "too old", "reason": "Expired", "code": 410}
    )
    found = found_in(
        [*FIRST_LIST, live, error, *new, event("MODIFIED", vpc(32, EARLY, "b")), event("ADDED", vpc(33, LATE, "e"))]
    )
    assert "the watch ended here: too old (410 Expired)" in str(found[3].what)
    found.pop(3)
    assert [record.identity.rpartition("/")[2] for record in records_of(found)] == [*["seen"] * 6, "created"]


def test_of_one_name_deleted_and_made_again_the_second_is_a_creation():
    live = GOES_LIVE["a change"]
    gone, made = event("DELETED", vpc(21, EARLY, "a")), event("ADDED", vpc(22, LATE, "a2"))
    assert endings(*FIRST_LIST, live, gone, made)[-2:] == ["gone", "created"]


# ---- what is no object


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            event("ERROR", {"kind": "Status", "message": "too old", "reason": "Expired", "code": 410}),
            "the watch ended here",
        ),
        ({"kind": "Status", "apiVersion": "v1", "message": 'vpcs "x" not found', "code": 404}, "a Status in place"),
        ({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "rows": []}, "a Table has columns"),
        ({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"uid": "u"}}, "metadata only"),
        ({"kind": "Vpc", "apiVersion": "kubeovn.io/v1", "metadata": {"name": "x"}}, "no API server has answered it"),
        ({**vpc(8), "metadata": {"uid": "u", "resourceVersion": "abc"}}, "no API server has answered it"),
        ({**vpc(8), "spec": "text"}, "cannot be read"),
        ({**vpc(8), "metadata": {"uid": 1}}, "no object of an API server"),
        (event("RENAMED", vpc(8)), "a watch has no event of type RENAMED"),
        ({"hello": "world"}, "no kind"),
        ({"kind": "VpcList", "apiVersion": "kubeovn.io/v1", "items": 3}, "items of this VpcList cannot be read"),
    ],
)
def test_what_is_no_object_is_kept_aside_with_its_reason_and_the_rest_is_read(document, reason, tmp_path: Path):
    path = tmp_path / "objects.json"
    path.write_text("\n".join(map(json.dumps, [vpc(1, uid="a"), document, vpc(2, uid="b")])))
    journal = InMemoryJournal()
    tally = ingest(str(path), journal)
    assert (tally.format, tally.records, tally.recognised, tally.unrecognised) == ("objects", 3, 2, 1)
    (aside,) = journal.kept_aside()
    assert reason in aside.reason and aside.line == 2


def test_objects_of_other_kinds_are_counted_and_their_times_too():
    config = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"uid": "c", "creationTimestamp": LATE}}
    vpc_of_others = {**vpc(3), "apiVersion": "example.com/v1"}
    bookmark = event("BOOKMARK", vpc(5))
    found = found_in([config, vpc_of_others, bookmark])
    assert [one.what for one in found] == [
        Ignored("2026-11-21T01:00:05.000000Z"),
        Ignored("2026-11-21T01:00:00.000000Z"),
        Ignored(""),
    ]


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["kind", "apiVersion", "type", "object", "items", "metadata", "status", "spec"]),
        st.recursive(
            st.none()
            | st.integers()
            | st.sampled_from(["Vpc", "kubeovn.io/v1", "VpcList", "ADDED", "ERROR", "v1", "Event"]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "kind",
                            "apiVersion",
                            "metadata",
                            "uid",
                            "resourceVersion",
                            "items",
                            "managedFields",
                            "conditions",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_a_document_of_any_shape_is_one_thing_at_least_and_never_an_error(document):
    content = json.dumps(document).encode()
    assert list(objects.Reading().take(1, content))
    objects.recognises([content])


# ---- what a source is


@pytest.mark.parametrize("form", FORMS)
def test_a_source_is_recognised_by_its_beginning_however_long_its_first_document_is(form: str):
    long = copy.deepcopy(SHOWN[0])
    long["metadata"]["annotations"] = {f"note-{number}": "x" * 50 for number in range(3_000)}
    lines = FORMS[form]([long, *SHOWN]).encode().split(b"\n")
    assert dialects.recognise(lines[:200]) is objects


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"log":"I1121 02:47:36.888873 1 main.go:53] started","stream":"stdout","time":"2026-11-21T02:47:36Z"}'],
        [b"I1121 02:47:36.888873       1 main.go:53] started"],
        [b'{"nftables": [{"metainfo": {"version": "1.0.9"}}]}'],
        [b'{"level":"info","kind":"Vpc","msg":"object: {}"}'],
        [b"create kube-router-svip hash:ip family inet hashsize 1024 maxelem 65536 timeout 0"],
        [b"Name: kube-router-svip", b"Type: hash:ip"],
        [b"{", b'  "recording": "x",', b'  "faults": [', b"    {", b'      "kind": "lost-update",'],
        [b"---", b"- name: play", b"  hosts: all"],
        [
            b"{",
            b'  "specversion": "1.0",',
            b'  "type": "x",',
            b'  "data": {',
            b'    "apiVersion": "v1",',
            b'    "kind": "Vpc"',
        ],
        [b"items are here", b"kind: of"],
        [b"{"],
        [b""],
        [],
    ],
)
def test_what_is_no_api_object_is_not_taken_for_one(lines):
    assert not objects.recognises(lines)
    assert dialects.recognise(lines) is not objects


# ---- an audit webhook's body

BODY = gzip.decompress((DATA / "s0-buggy" / "webhook-body.json.gz").read_bytes())


@pytest.mark.parametrize("pretty", [False, True])
def test_an_audit_event_list_gives_the_records_of_the_audit_reader(pretty: bool):
    body = json.loads(BODY)
    found = found_in(json.dumps(body, indent=2).encode() if pretty else BODY)
    assert len(found) == len(body["items"]) == 400
    lines = [
        json.dumps({"kind": "Event", "apiVersion": "audit.k8s.io/v1", **item}, separators=(",", ":")).encode()
        for item in body["items"]
    ]
    assert [one.what for one in found] == [audit_log.classify(line) for line in lines]


def test_a_webhooks_body_shows_the_fault_that_it_holds(tmp_path: Path):
    replayed = replay(DATA / "s0-buggy" / "webhook-body.json.gz")
    assert "lost-update" in {finding.name for finding in replayed.open_errors}
    assert replayed.tallies[0].records == 400 and not replayed.tallies[0].unrecognised


def test_audit_events_that_were_pretty_printed_are_the_same_records(tmp_path: Path):
    path = tmp_path / "audit.json"
    path.write_text("\n".join(json.dumps(json.loads(line), indent=2) for line in lines_of("s0-buggy")))
    whole = replay(recording("s0-buggy")[0])
    assert (again := replay(path)).digest == whole.digest
    assert [finding.id for finding in again.findings] == [finding.id for finding in whole.findings]
