"""Real records with something wrong in them: any field, any value. Nothing stops the rest, and every record is counted.

The mutations are drawn at random paths of real records; what was ever found that way, or could be expected, stands
below by name. `test_ingest.py` has what can be wrong with a file.
"""

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.dcb.popo import InMemoryDCBRecorder
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ingest import Tally, ingest
from adapters.judging import Judged, judge
from adapters.ledger import Ledger
from adapters.ports import KeptAside
from adapters.sources.audit_log import classify
from adapters.sources.dialect import NotARecord, Recognised
from adapters.stores.memory import InMemoryJournal
from domain.operations import UNKNOWN
from tests.replaying import LONG_SEARCH, lines_of, replay_lines

Json = Any
Path_ = tuple[str | int, ...]


def engine(lines: Sequence[bytes]) -> tuple[Tally, list[KeptAside], Judged]:
    """Lines through the whole engine: journal, order, decisions, projections, findings. Nothing may escape it."""
    journal = InMemoryJournal()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        tally = ingest(str(path), journal)
    ledger = Ledger(InMemoryDCBRecorder())
    judged = judge(journal, ledger)
    events = [placed.event for placed in ledger.events()]
    reading = judged.reading
    for resource in reading.resources():
        assert reading.standing(resource).drift is not None
    end = max((event.time for event in events), default=0)
    reading.judge.conclude(reading.world, end + 60_000_000, lambda at: events[at - 1])
    aside = list(journal.kept_aside())
    assert tally.recognised + tally.ignored + tally.unrecognised + tally.duplicates == tally.records == len(lines)
    assert len(aside) == tally.unrecognised
    assert journal.head() == tally.recognised
    return tally, aside, judged


@cache
def records() -> tuple[bytes, ...]:
    """One record of every shape on our kinds: kind, verb, subresource, code and stage."""
    shapes: dict[tuple[Any, ...], bytes] = {}
    for name in ("mixed-small", "quirks-managedfields-webhook", "quirks-truncate", "s4-buggy"):
        for line in lines_of(name):
            if isinstance(classify(line), Recognised):
                record = json.loads(line)
                reference = record["objectRef"]
                code = record.get("responseStatus", {}).get("code")
                shape = (reference["resource"], reference.get("subresource"), record["verb"], code, record["stage"])
                shapes.setdefault((*shape, "responseObject" in record), line)
    assert len(shapes) > 50
    return tuple(shapes.values())


def record_of(verb: str, name: str, code: int) -> bytes:
    for line in lines_of("quirks-managedfields-webhook"):
        record = json.loads(line)
        if (record["stage"], record["verb"]) == ("ResponseComplete", verb) and record["responseStatus"]["code"] == code:
            reference = record.get("objectRef", {})
            if (reference.get("resource"), reference.get("name")) == ("vpcs", name) and "dryRun" not in record[
                "requestURI"
            ]:
                return line
    raise AssertionError(f"the recording has no {verb} of {name} answered {code}")


VPC_MADE = record_of("create", "v2", 201)
VPC_WRITTEN = record_of("patch", "v2", 200)
VPC_PUT = record_of("update", "v2", 200)


def paths_in(value: Json, path: Path_ = ()) -> Iterator[Path_]:
    """Every path of a JSON value but its own."""
    inside: Iterator[tuple[str | int, Json]] = iter(())
    if isinstance(value, dict):
        inside = iter(value.items())
    elif isinstance(value, list):
        inside = iter(enumerate(value))
    for name, item in inside:
        yield (*path, name)
        yield from paths_in(item, (*path, name))


def altered(record: Json, path: Path_, value: Json) -> Json:
    """The record with another value at a path; `GONE` takes it away."""
    record = copy.deepcopy(record)
    place = record
    for name in path[:-1]:
        place = place[name]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return record


GONE = object()

WORDS = ("", "0", "1", "344", "-1", "kubeovn.io/kube-ovn-controller", "v2", "Status", "delete", "create", "a/b", "\x00")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((2**64, -(10**30))),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inside, max_size=3)
    ),
    max_leaves=6,
)


def mutated(draw: st.DrawFn, line: bytes) -> bytes:
    """The record with one to three of its values replaced or taken away."""
    record = json.loads(line)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(paths_in(record))
        if not paths:
            break
        path = paths[draw(st.integers(0, len(paths) - 1))]
        record = altered(record, path, draw(st.just(GONE) | values))
    return json.dumps(record, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A real record with something wrong in it."""
    return mutated(draw, draw(st.sampled_from(records())))


@settings(max_examples=3_000 if LONG_SEARCH else 250, deadline=None)
@given(st.lists(mutants(), min_size=1, max_size=4))
def test_no_value_in_any_field_stops_the_engine(found):
    _, aside, judged = engine([VPC_MADE, *found, VPC_WRITTEN])
    # What is wrong with them may not be blamed on their neighbours.
    assert not {1, len(found) + 2} & {item.line for item in aside}
    assert judged.reading.at >= 1


INCIDENTS = ("s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy")


@cache
def incident(name: str) -> tuple[bytes, ...]:
    return tuple(line for line in lines_of(name) if isinstance(classify(line), Recognised))


@st.composite
def spoilt_incidents(draw: st.DrawFn) -> list[bytes]:
    """An incident of which some records have something wrong in them: its rules have something to look at."""
    lines = list(incident(draw(st.sampled_from(INCIDENTS))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = mutated(draw, lines[at])
    return lines


@settings(max_examples=1_500 if LONG_SEARCH else 100, deadline=None)
@given(spoilt_incidents())
def test_no_value_in_any_field_stops_the_judging_of_an_incident(lines):
    engine(lines)


@settings(max_examples=2_000 if LONG_SEARCH else 150, deadline=None)
@given(st.sampled_from(range(200)), st.data())
def test_no_damage_to_the_bytes_of_a_line_stops_the_engine(which, data):
    line = bytearray(records()[which % len(records())])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 1))
        how = data.draw(st.sampled_from(("cut", "flip", "drop", "double")))
        if how == "cut":
            line = line[: at + 1]
        elif how == "flip":
            line[at] = data.draw(st.integers(0, 255))
        elif how == "drop":
            del line[at : at + data.draw(st.integers(1, 30))]
        else:
            line[at:at] = line[at : at + data.draw(st.integers(1, 30))]
        line = bytearray(bytes(line).replace(b"\n", b" ").strip() or b"x")
    engine([VPC_MADE, bytes(line), VPC_WRITTEN])


# ---- by name


def altered_line(path: Path_, value: Json, line: bytes = VPC_MADE, **more: Any) -> bytes:
    return json.dumps({**altered(json.loads(line), path, value), "auditID": "altered", **more}).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("auditID",), 5),
        (("stage",), None),
        (("verb",), []),
        (("kind",), "EventList"),
        (("apiVersion",), "v1"),
        (("apiVersion",), 1),
        (("user",), "alice"),
        (("user", "username"), {}),
        (("objectRef",), []),
        (("objectRef", "name"), 7),
        (("responseStatus",), "201"),
        (("responseStatus", "code"), "201"),
        (("stageTimestamp",), "yesterday"),
        (("stageTimestamp",), ""),
        (("stageTimestamp",), 1763693256),
        (("annotations",), {"a": 1}),
        (("responseObject",), "text"),
        (("responseObject", "metadata"), []),
        (("responseObject", "metadata", "uid"), 5),
        (("responseObject", "metadata", "resourceVersion"), 344),
        (("responseObject", "metadata", "finalizers"), "one"),
        (("responseObject", "items"), [1]),
    ],
)
def test_a_wrong_type_that_the_order_needs_is_kept_aside_with_its_reason(path, value):
    line = json.dumps(altered(json.loads(VPC_MADE), path, value)).encode()
    with pytest.raises(NotARecord):
        classify(line)
    tally, (aside,), _ = engine([VPC_WRITTEN, line, VPC_PUT])
    assert (tally.recognised, tally.unrecognised) == (2, 1)
    assert (aside.line, aside.size, aside.excerpt) == (2, len(line), line[:4096])
    assert len(aside.reason) > 10


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("responseObject", "spec"), [1]),
        (("responseObject", "spec"), "text"),
        (("responseObject", "metadata", "labels"), [1]),
        (("responseObject", "metadata", "labels"), 5),
        (("responseObject", "metadata", "annotations"), "text"),
        (("responseObject", "metadata", "ownerReferences"), ["text"]),
    ],
)
def test_a_body_that_cannot_be_read_is_an_attempt_whose_effect_is_unknown(path, value):
    replayed = replay_lines([altered_line(path, value)])
    (event,) = replayed.events
    assert (event.type, event.outcome, event.code) == ("VPCSighted", UNKNOWN, 201)
    assert event.reason.startswith("its body cannot be read")
    assert replayed.judged.reading.coverage.unknown == {event.reason: 1}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("responseObject", "spec"), None),
        (("responseObject", "spec"), {}),
        (("responseObject", "spec"), {"namespaces": 10**30}),
        (("responseObject", "spec"), {"namespaces": -(10**30), "deeper": [{"still": 10**40}]}),
        (("responseObject", "status"), "text"),
        (("responseObject", "status"), {"subnets": 5, "vpcPeerings": {"a": None}}),
        (("responseObject", "metadata", "labels"), {f"label-{n}": "value" for n in range(50_000)}),
        (("responseObject", "metadata", "name"), "nul\x00name"),
        (("responseObject", "metadata", "name"), ""),
        (("responseObject", "metadata", "resourceVersion"), "not a number"),
        (("responseObject", "metadata", "resourceVersion"), "²"),
        (("requestReceivedTimestamp",), "yesterday"),
        (("requestObject",), [[[]]]),
        (("requestObject",), "text"),
        (("userAgent",), ""),
        (("stageTimestamp",), "2026-11-21T02:47:36.891787123Z"),
    ],
)
def test_strange_and_good_values_are_read(path, value):
    tally, _, judged = engine([altered_line(path, value), VPC_WRITTEN])
    assert tally.recognised == 2
    assert judged.reading.at >= 2


def test_a_big_integer_comes_out_of_the_ledger_with_all_its_digits():
    (event,) = replay_lines([altered_line(("responseObject", "spec"), {"staticRoutes": 10**30})]).events
    (value,) = [after for path, (_, after) in event.changed.items() if path == "spec.staticRoutes"]
    assert float(value) == 1e30


WRONG_TYPES: tuple[Json, ...] = (5, 1.5, True, "text", [[]], [{"a": 1}], {"a": [1]}, ["x", 5])

FIELDS_READ = {
    ("vpcs", "spec"): ("namespaces", "vpcPeerings", "staticRoutes", "enableExternal"),
    ("vpcs", "status"): ("subnets", "default", "defaultLogicalSwitch", "vpcPeerings", "router"),
    ("subnets", "spec"): ("vpc", "cidrBlock", "excludeIps", "gateway", "namespaces", "protocol", "provider", "default"),
    ("subnets", "status"): ("v4usingIPs", "v4availableIPs", "conditions"),
    ("ips", "spec"): ("subnet", "namespace", "podName", "podType", "v4IpAddress", "attachSubnets"),
    ("iptables-eips", "spec"): ("externalSubnet", "natGwDp", "v4ip", "macAddress"),
    ("iptables-eips", "status"): ("ready", "nat", "ip", "redo"),
    ("iptables-fip-rules", "spec"): ("eip", "internalIp"),
    ("iptables-fip-rules", "status"): ("ready", "v4ip", "natGwDp"),
    ("vpc-nat-gateways", "spec"): ("vpc", "subnet", "lanIp", "selector"),
    ("pods", "spec"): ("nodeName",),
    ("pods", "status"): ("phase", "podIP", "podIPs"),
    ("namespaces", "status"): ("phase",),
}


def with_every_wrong_type(resource: str, part: str, field: str) -> Iterator[bytes]:
    """Records of that resource whose answer has a value of another type in that field."""
    shown = [json.loads(line) for line in records()]
    for record in shown:
        body = record.get("responseObject", {})
        if (
            record["objectRef"]["resource"] == resource
            and body.get("kind") not in (None, "Status")
            and "items" not in body
        ):
            for value in WRONG_TYPES:
                body[part] = {**(body.get(part) or {}), field: value}
                yield json.dumps(record).encode()


@pytest.mark.parametrize(
    ("resource", "part", "field"),
    [(resource, part, field) for (resource, part), named in FIELDS_READ.items() for field in named],
)
def test_a_wrong_type_in_a_body_does_not_stop_the_engine(resource, part, field):
    tried = 0
    for line in with_every_wrong_type(resource, part, field):
        tally, _, _ = engine([VPC_MADE, line, VPC_WRITTEN])
        assert tally.recognised == 3
        tried += 1
    assert tried >= len(WRONG_TYPES)


@pytest.mark.parametrize(
    "line",
    [
        altered_line(("responseObject", "metadata", "resourceVersion"), str(2**64)),
        altered_line(("responseObject", "metadata", "resourceVersion"), "9" * 5_000),
        altered_line(("responseStatus", "code"), 10**30),
        altered_line(("responseStatus", "code"), -(10**30)),
        altered_line(("objectRef", "resourceVersion"), "9" * 30, VPC_PUT),
        altered_line(("requestURI",), "//[kubeovn?dryRun=All"),
    ],
    ids=["revision", "endless revision", "code", "negative code", "revision that was read", "URI"],
)
def test_a_number_or_address_that_is_none_does_not_stop_the_rest(line):
    tally, _, judged = engine([VPC_WRITTEN, line])
    assert tally.recognised == 2
    assert max(judged.reading.coverage.revisions) < 1_000, "no revision of that log"


def nested(depth: int, path: Path_) -> bytes:
    line = altered_line(path, "DEEP")
    return line.replace(b'"DEEP"', b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("path", [("responseObject", "spec"), ("requestObject",), ("sourceIPs",)])
def test_deep_nesting_is_read_as_far_as_the_parser_goes(path):
    tally, _, _ = engine([VPC_WRITTEN, nested(500, path)])
    assert tally.recognised == 2


@pytest.mark.parametrize("path", [("responseObject", "spec"), ("requestObject",), ("sourceIPs",)])
@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_nesting_deeper_than_the_parser_goes_is_kept_aside(path, depth):
    tally, (aside,), _ = engine([VPC_WRITTEN, nested(depth, path)])
    assert (tally.recognised, aside.line) == (1, 2)
    assert "nested deeper" in aside.reason


def test_an_ignored_record_with_an_impossible_time_does_not_spoil_the_end_of_the_log():
    read = next(line for line in lines_of("quirks-managedfields-webhook") if json.loads(line)["verb"] == "get")
    broken = json.dumps({**json.loads(read), "stageTimestamp": "zzz"}).encode()
    replayed = replay_lines([VPC_MADE, broken, VPC_WRITTEN])  # its conclusion asks for the end of the log
    (tally,) = replayed.tallies
    assert (tally.recognised, tally.records) == (2, 3)


def test_of_a_key_given_twice_the_last_counts_as_in_the_api_server():
    line = VPC_MADE.replace(b'"verb":"create"', b'"verb":"get","verb":"create"')
    assert line != VPC_MADE
    (event,) = replay_lines([line]).events
    assert event.type == "VPCCreated"
    reading = VPC_MADE.replace(b'"verb":"create"', b'"verb":"create","verb":"get"')
    assert replay_lines([reading]).events == []


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udfff", rb"\ud83d\u0041"])
@pytest.mark.parametrize("field", [b'"name":"', b'"username":"', b'"auditID":"'])
def test_half_of_a_surrogate_pair_is_kept_aside(escape, field):
    line = VPC_MADE.replace(field, field + escape)
    assert line != VPC_MADE
    tally, (aside,), _ = engine([line, VPC_WRITTEN])
    assert (tally.unrecognised, aside.line) == (1, 1)


def test_a_whole_surrogate_pair_is_its_character():
    line = VPC_MADE.replace(b'"username":"alice"', rb'"username":"alice \ud83d\ude00"')
    (event,) = replay_lines([line]).events
    assert event.actor == "alice \N{GRINNING FACE}"
