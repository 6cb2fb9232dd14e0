"""Kubernetes Events as testimony: what was said of which object, by whom and when, and that it moves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.sources import dialects, kubernetes_events, objects
from adapters.sources.dialect import About, Found, Ignored, Recognised
from domain.events import EVENT_REPORTED
from domain.operations import TESTIFIED, Operation, OrderKey
from domain.resources import Key
from tests.replaying import recording, replay

OLD = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {
        "name": "net-db.17a",
        "namespace": "default",
        "uid": "e1",
        "resourceVersion": "340",
        "creationTimestamp": "2026-11-21T01:24:04Z",
    },
    "involvedObject": {"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "name": "net-db", "uid": "s1"},
    "reason": "SetPrivateLogicalSwitchFailed",
    "message": "no such logical switch",
    "source": {"component": "kube-ovn-controller"},
    "firstTimestamp": "2026-11-21T01:24:04Z",
    "lastTimestamp": "2026-11-21T01:24:09Z",
    "count": 3,
    "type": "Warning",
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
NEW = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "metadata": OLD["metadata"],
    "regarding": OLD["involvedObject"],
    "reason": "SetPrivateLogicalSwitchFailed",
    "note": "no such logical switch",
    "deprecatedSource": {"component": "kube-ovn-controller"},
    "deprecatedFirstTimestamp": "2026-11-21T01:24:04Z",
    "deprecatedLastTimestamp": "2026-11-21T01:24:09Z",
    "deprecatedCount": 3,
    "eventTime": None,
    "type": "Warning",
}
LAST = 1_795_224_249_000_000  # 01:24:09


def found_in(*documents: dict[str, Any] | str) -> list[Found]:
    text = "\n".join(one if isinstance(one, str) else json.dumps(one, indent=2) for one in documents)
    lines = text.encode().split(b"\n")
    assert dialects.recognise(lines) is objects
    return list(objects.read(((number, line, "") for number, line in enumerate(lines, 1)), About()))


def operation_of(found: Found) -> Operation:
    assert isinstance(found.what, Recognised)
    assert dialects.of(found.what.identity) is kubernetes_events
    (head,) = kubernetes_events.heads(found.what.identity, found.payload)
    assert [head] == found.what.heads
    return kubernetes_events.operation(found.payload, OrderKey(7, 1, head.time, head.identity), head.outcome)


@pytest.mark.parametrize("event", [OLD, NEW], ids=["v1", "events.k8s.io/v1"])
def test_an_event_of_either_version_testifies_to_what_its_object_met(event):
    (found,) = found_in(event)
    operation = operation_of(found)
    assert isinstance(found.what, Recognised)
    assert found.what.identity == "event:e1@340"
    assert found.what.time == "2026-11-21T01:24:09.000000Z"
    (head,) = found.what.heads
    assert (head.time, head.received, head.revision, head.clocked, head.outcome) == (LAST, LAST, 0, True, TESTIFIED)
    assert operation.key == Key("subnet", "", "net-db") and operation.uid == "s1"
    assert (operation.testimony, operation.outcome) == (EVENT_REPORTED, TESTIFIED)
    assert (operation.verb, operation.reason) == ("SetPrivateLogicalSwitchFailed", "no such logical switch")
    assert operation.actor == "kube-ovn-controller"
    assert (operation.revision, operation.after) == (None, None)


def test_both_versions_of_one_event_are_one_record():
    old, new = found_in(OLD, NEW)
    assert isinstance(old.what, Recognised) and old.what == new.what


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [OLD]}),
        json.dumps({"apiVersion": "v1", "kind": "EventList", "items": [{**OLD, "kind": "", "apiVersion": ""}]}),
        json.dumps({"type": "ADDED", "object": OLD}),
        json.dumps({"type": "MODIFIED", "object": OLD}),
        yaml.safe_dump({"apiVersion": "v1", "items": [OLD], "kind": "List"}),
    ],
)
def test_an_event_is_the_same_record_in_every_form_it_is_printed_in(text):
    (plain,), (found,) = found_in(OLD), found_in(text)
    assert found.what == plain.what
    assert operation_of(found) == operation_of(plain)


def test_one_that_came_again_is_a_record_of_its_own_and_one_that_expired_is_none():
    again = {**OLD, "metadata": {**OLD["metadata"], "resourceVersion": "350"}, "lastTimestamp": "2026-11-21T01:25:00Z"}  # type: ignore[dict-item]
    first, second, expired = found_in(*({"type": type, "object": one} for type, one in _stream(again)))
    assert isinstance(first.what, Recognised) and isinstance(second.what, Recognised)
    assert (first.what.identity, second.what.identity) == ("event:e1@340", "event:e1@350")
    assert expired.what == Ignored("")


def _stream(again: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [("ADDED", OLD), ("MODIFIED", again), ("DELETED", again)]


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({"series": {"count": 2, "lastObservedTime": "2026-11-21T01:24:30.5Z"}}, "01:24:30.500000"),
        ({"lastTimestamp": None, "firstTimestamp": None, "eventTime": "2026-11-21T01:24:07.25Z"}, "01:24:07.250000"),
        ({"lastTimestamp": None}, "01:24:04.000000"),
        ({"lastTimestamp": None, "firstTimestamp": None}, "01:24:04.000000"),
        ({"lastTimestamp": "soon"}, "01:24:04.000000"),
    ],
)
def test_its_time_is_when_it_was_observed_last(times, at):
    (found,) = found_in({**OLD, **times})
    assert isinstance(found.what, Recognised)
    assert found.what.time == f"2026-11-21T{at}Z"


def test_a_pod_is_named_with_its_namespace_and_a_reporter_that_leaves_the_version_out_is_understood():
    about = {"kind": "Pod", "namespace": "web", "name": "web-0", "uid": "p"}
    (found,) = found_in({**OLD, "involvedObject": about, "source": {}, "reportingComponent": "kubelet"})
    operation = operation_of(found)
    assert (operation.key, operation.actor) == (Key("pod", "web", "web-0"), "kubelet")


@pytest.mark.parametrize(
    "about",
    [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
        {"apiVersion": "other.io/v1", "kind": "Vpc", "name": "x"},
        {"apiVersion": "kubeovn.io/v1", "kind": "Vpc"},
        {},
    ],
)
def test_an_event_about_other_things_is_counted_and_its_time_too(about):
    (found,) = found_in({**OLD, "involvedObject": about})
    assert found.what == Ignored("2026-11-21T01:24:09.000000Z")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"metadata": {"name": "x"}}, "no API server has answered it"),
        (
            {"lastTimestamp": None, "firstTimestamp": None, "metadata": {"uid": "u", "resourceVersion": "3"}},
            "not say when",
        ),
        ({"involvedObject": "net-db"}, "this Event cannot be read"),
        ({"reason": 7}, "this Event cannot be read"),
    ],
)
def test_an_event_that_cannot_be_used_says_why(broken, reason):
    (found,) = found_in({**OLD, **broken})
    assert isinstance(found.what, str) and reason in found.what


def test_testimony_beside_an_audit_log_is_an_event_of_the_ledger_and_moves_nothing(tmp_path: Path):
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [OLD]}, indent=4))
    alone = replay(*recording("s0-buggy"))
    both = replay(*recording("s0-buggy"), path)
    (reported,) = [event for event in both.events if event.type == EVENT_REPORTED]
    assert (reported.key, reported.record) == (Key("subnet", "", "net-db"), "event:e1@340")
    assert both.standings() == alone.standings()
    assert [finding.id for finding in both.findings] == [finding.id for finding in alone.findings]
