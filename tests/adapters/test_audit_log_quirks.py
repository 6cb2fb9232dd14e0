"""The oddities of real audit logs, each by its number in docs/audit-logs.md, and what the engine makes of it.

Where a recording shows one on purpose, its `truth.json` names the request and the test takes that; else a record of
another recording, or one made by hand from a real one. A quirk is asked of the whole way of a line: operation, place
in the order, events, world.
"""

import gzip
import json
from collections import defaultdict
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest

from adapters.ingest import NothingToRead, Span, files_in, ingest
from adapters.ordering import in_order
from adapters.sources.audit_log import classify, heads
from adapters.sources.dialect import Ignored, Recognised
from adapters.stores.memory import InMemoryJournal
from domain.events import OBSERVED, REFUSED, Event
from domain.operations import (
    DELETION,
    DRY_RUN,
    FINALIZERS,
    MADE,
    RAN,
    REMOVED,
    UNCHANGED,
    UNKNOWN,
    Operation,
)
from domain.operations import REFUSED as REFUSED_BY_THE_API
from domain.resources import FINALIZER, Key
from tests.replaying import DATA, Replayed, audit_id_of, lines_of, recording, replay, replay_lines

PLAIN = "quirks-managedfields-webhook"
"""The recording of quirks that most tests take; the same requests were recorded twice more, under other options."""

V1, V2, V3 = Key("vpc", "", "v1"), Key("vpc", "", "v2"), Key("vpc", "", "v3")


class Studied(NamedTuple):
    """A recording with everything that the engine made of it, by audit ID."""

    replayed: Replayed
    records: dict[str, list[bytes]]
    operations: dict[str, list[Operation]]
    events: dict[str, list[Event]]
    shows: dict[str, list[str]]
    """What `truth.json` says a request shows: audit IDs."""

    def showing(self, words: str) -> str:
        """The audit ID of the one request whose description in `truth.json` starts with `words`."""
        found = [ids for what, ids in self.shows.items() if what.startswith(words)]
        assert len(found) == 1 and len(found[0]) == 1, f"{words!r} names {found}"
        return found[0][0]

    def operation(self, words: str) -> Operation:
        """The one operation of that request."""
        (operation,) = self.operations[self.showing(words)]
        return operation

    def event(self, words: str) -> Event:
        """The one event of that request."""
        (event,) = self.events[self.showing(words)]
        return event

    def record(self, words: str) -> dict[str, Any]:
        """The last record of that request, as JSON."""
        record: dict[str, Any] = json.loads(self.records[self.showing(words)][-1])
        return record


@cache
def studied(name: str) -> Studied:
    journal = InMemoryJournal()
    replayed = replay(*recording(name), journal=journal)
    records, operations, events = defaultdict(list), defaultdict(list), defaultdict(list)
    for line in lines_of(name):
        records[json.loads(line)["auditID"]].append(line)
    for operation in (ordered.operation() for ordered in in_order(journal)):
        operations[operation.order.identity.partition(":")[2].partition("@")[0]].append(operation)
    for event in replayed.events:
        events[audit_id_of(event)].append(event)
    shows = defaultdict(list)
    for entry in json.loads(gzip.decompress((DATA / name / "truth.json.gz").read_bytes())).get("shows", ()):
        shows[entry["what"]].append(entry["auditID"])
    return Studied(replayed, records, operations, events, shows)


def changed_to(event: Event) -> dict[str, Any]:
    """The fields that an event moved, with what they became."""
    return {path: after for path, (_, after) in event.changed.items()}


def line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()


def parsed(name: str) -> list[dict[str, Any]]:
    return [json.loads(each) for each in lines_of(name)]


def reached(replayed: Replayed, key: Key) -> list[str]:
    """The types of the events of one resource, in order."""
    return [event.type for event in replayed.events if event.key == key]


# ---- order and identity


def test_quirk_01_a_request_counts_once_however_many_stages_it_has():
    plain = studied(PLAIN)
    stages = {json.loads(each)["stage"]: each for each in plain.records[plain.showing("create with generateName")]}
    assert set(stages) == {"RequestReceived", "ResponseComplete"}
    assert isinstance(classify(stages["RequestReceived"]), Ignored)
    assert isinstance(classify(stages["ResponseComplete"]), Recognised)
    assert len(plain.operations[plain.showing("create with generateName")]) == 1
    assert replay_lines([stages["RequestReceived"]]).events == []


def test_quirk_02_a_401_is_no_operation():
    plain = studied(PLAIN)
    (only,) = plain.records[plain.showing("401 Unauthorized")]
    record = json.loads(only)
    assert (record["stage"], record["user"]) == ("ResponseStarted", {})
    write = {**record, "verb": "delete", "requestURI": record["requestURI"]}
    for each in (record, write):
        replayed = replay_lines([line(each)])
        assert [tally.ignored for tally in replayed.tallies] == [1]
        assert replayed.events == []


def test_quirk_03_writes_come_out_in_the_order_of_their_revisions_not_of_the_file():
    plain = studied(PLAIN)
    journal = InMemoryJournal()
    for path in recording(PLAIN):
        ingest(str(path), journal)
    arrival = {entry.identity: entry.number for entry in journal.read()}
    own = [ordered.order for ordered in in_order(journal) if ordered.order.own == 0]
    inverted = sum(arrival[before.identity] > arrival[after.identity] for before, after in pairwise(own))
    assert inverted > 5, "the recording has eight writers on one object; its lines should not be in order"
    anchors = [order.anchor for order in own]
    assert anchors == sorted(anchors)
    # In any other order a write would seem to move what its neighbour had moved.
    assert [event for event in plain.replayed.events if event.outcome == "missed"] == []


def test_quirk_04_one_audit_id_chosen_by_the_client_for_two_requests_is_two_operations():
    plain = studied(PLAIN)
    first, second = plain.events["my-own-id"]
    assert changed_to(first) == {"metadata.annotations[n]": "1"}
    assert second.changed == {"metadata.annotations[n]": ("1", "2")}
    assert first.record != second.record


def test_quirk_04_the_same_identity_with_other_content_is_kept_aside(tmp_path):
    record = studied(PLAIN).record("create with generateName")
    other = {**record, "verb": "update"}
    path = tmp_path / "audit.log"
    path.write_bytes(line(record) + b"\n" + line(other) + b"\n" + line(record) + b"\n")
    journal = InMemoryJournal()
    tally = ingest(str(path), journal)
    assert (tally.records, tally.recognised, tally.unrecognised, tally.duplicates) == (3, 1, 1, 1)
    (aside,) = journal.kept_aside()
    assert aside.line == 2
    assert "collision" in aside.reason


def test_quirk_05_gaps_between_revisions_are_nobodys_loss():
    small = studied("mixed-small")
    revisions = sorted({event.revision for event in small.replayed.events if event.revision})
    gaps = sum(after - before > 1 for before, after in pairwise(revisions))
    assert gaps > 100, "the counter is the whole etcd's; the recording should show gaps"
    assert small.replayed.judged.reading.gaps == []


def test_quirk_06_the_same_name_again_is_another_object():
    plain = studied(PLAIN)
    made = [event for event in plain.replayed.events if event.key == V3 and event.type == "VPCCreated"]
    assert len(made) == 2
    assert made[0].uid != made[1].uid == plain.event("the same name again").uid
    resource = plain.replayed.judged.reading.world.get(V3)
    assert resource is not None and resource.uid == made[1].uid
    assert resource.get("spec.namespaces") is None, "what its namesake had is not its own"


def test_quirk_06_a_put_says_which_revision_its_writer_had_read():
    stale = studied(PLAIN).operation("409 Conflict: update with an old resourceVersion")
    record = studied(PLAIN).record("409 Conflict: update with an old resourceVersion")
    assert stale.read_revision == int(record["objectRef"]["resourceVersion"])
    assert stale.outcome == REFUSED_BY_THE_API


def test_quirk_06_a_patch_says_which_revision_its_writer_had_read_only_in_its_body():
    patches = [
        operation
        for operations in studied("mixed-seed7").operations.values()
        for operation in operations
        if operation.verb == "patch"
    ]
    known = [operation for operation in patches if operation.read_revision is not None]
    (named,) = [
        record["requestObject"]["metadata"]["resourceVersion"]
        for record in parsed("mixed-seed7")
        if record["verb"] == "patch"
        and record["stage"] == "ResponseComplete"
        and isinstance(record.get("requestObject"), dict)
        and record["requestObject"].get("metadata", {}).get("resourceVersion")
    ]
    assert [operation.read_revision for operation in known] == [int(named)]
    assert len(patches) > 1_000


# ---- writes that are not writes


def test_quirk_07_a_patch_that_changes_nothing_is_an_observation():
    operation = studied(PLAIN).operation("no-op patch")
    assert (operation.outcome, operation.revision, operation.order.own) == (UNCHANGED, None, 1)
    event = studied(PLAIN).event("no-op patch")
    assert (event.type, event.outcome, event.changed) == (OBSERVED, UNCHANGED, {})


def test_quirk_08_a_dry_run_changes_nothing():
    plain = studied(PLAIN)
    world = plain.replayed.judged.reading.world
    for words, key in (("dry-run create", Key("vpc", "", "dry")), ("dry-run delete", V2)):
        assert plain.operation(words).outcome == DRY_RUN
        event = plain.event(words)
        assert (event.type, event.outcome, event.changed, event.key) == (OBSERVED, DRY_RUN, {}, key)
    assert world.get(Key("vpc", "", "dry")) is None
    vpc = world.get(V2)
    assert vpc is not None and not vpc.terminating


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("409 Conflict: update", 409),
        ("409 AlreadyExists", 409),
        ("server-side apply conflict", 409),
        ("delete with a wrong uid", 409),
        ("JSON patch whose test fails", 422),
        ("422 Invalid", 422),
        ("patch with a uid that differs", 422),
        ("strategic merge patch on a CRD", 415),
        ("400 broken JSON", 400),
        ("403 Forbidden", 403),
    ],
)
def test_quirk_09_a_refused_write_is_recorded_with_its_reason_and_changes_nothing(words, code):
    event = studied(PLAIN).event(words)
    assert (event.type, event.outcome, event.code, event.changed) == (OBSERVED, REFUSED_BY_THE_API, code, {})
    assert event.reason == studied(PLAIN).record(words)["responseObject"]["message"][:500]
    assert event.revision is None


def test_quirk_09_an_apply_that_creates_is_a_creation():
    event = studied(PLAIN).event("server-side apply that creates")
    assert (event.type, event.operation, event.code) == ("VPCCreated", "patch vpcs", 201)
    (head,) = heads("a", line(studied(PLAIN).record("server-side apply that creates")))
    assert head.creates, "what waits for the namesake before it must stay below it"
    forced = studied(PLAIN).event("server-side apply with force")
    assert forced.changed == {"spec.namespaces": (["team-a"], ["team-b"])}


def test_quirk_10_what_counts_is_what_was_stored_not_what_was_sent():
    plain = studied(PLAIN)
    assert plain.record("status field sent in a create")["requestObject"]["status"]["subnets"]
    assert changed_to(plain.event("status field sent in a create")) == {}
    assert plain.record("status subresource merge patch")["requestObject"]["spec"]["namespaces"]
    event = plain.event("status subresource merge patch")
    assert event.type == "VPCStatusReported"
    assert {path.partition(".")[0] for path in event.changed} == {"status"}
    assert changed_to(event)["status.subnets"] == ["a"]


# ---- deletion


def test_quirk_11_a_delete_with_a_finalizer_is_a_request_and_again_nothing():
    plain = studied(PLAIN)
    first = plain.event("delete with a finalizer")
    assert first.type == "SubnetDeletionRequested"
    assert changed_to(first)[DELETION]
    again = plain.event("second delete while deleting")
    assert (again.type, again.outcome) == (OBSERVED, UNCHANGED)


def test_quirk_11_a_delete_answered_with_a_status_is_the_removal():
    plain = studied(PLAIN)
    operation = plain.operation("delete without finalizer")
    details = plain.record("delete without finalizer")["responseObject"]["details"]
    assert (operation.outcome, operation.uid, operation.revision) == (REMOVED, details["uid"], None)
    assert plain.event("delete without finalizer").type == "VPCRemoved"


@pytest.mark.parametrize(
    ("words", "verb", "removed"),
    [
        ("that one goes when its finalizer is patched away", "patch", "VPCRemoved"),
        ("finalizer removed by update", "update", "SubnetRemoved"),
    ],
)
def test_quirk_12_an_object_goes_with_the_write_that_drops_its_last_finalizer(words, verb, removed):
    plain = studied(PLAIN)
    operation = plain.operation(words)
    assert (operation.verb, operation.outcome, operation.order.own) == (verb, REMOVED, 1)
    event = plain.event(words)
    assert event.type == removed
    (asked,) = [e for e in plain.replayed.events if e.uid == event.uid and e.type.endswith("DeletionRequested")]
    assert asked.order is not None and event.order is not None and asked.order < event.order
    assert plain.replayed.judged.reading.world.get(event.key) is None


def test_quirk_13_a_pod_goes_with_the_kubelets_delete_not_with_the_first():
    plain = studied(PLAIN)
    first = plain.event("graceful delete")
    assert first.type == "PodDeletionRequested"
    assert plain.record("graceful delete")["responseObject"]["metadata"]["deletionGracePeriodSeconds"] == 30
    last = plain.event("delete with grace 0")
    assert last.type == "PodRemoved"
    assert (
        plain.record("delete with grace 0")["responseObject"]["metadata"]["deletionTimestamp"]
        != (changed_to(first)[DELETION])
    ), "the deletionTimestamp moves between the two"
    types = reached(plain.replayed, first.key)
    assert types.count("PodDeletionRequested") == types.count("PodRemoved") == 1
    assert REFUSED not in types


def test_quirk_14_a_deletecollection_is_one_operation_for_each_object_of_the_list():
    plain = studied(PLAIN)
    operations = plain.operations[plain.showing("deletecollection of three VPCs")]
    assert [(o.key.name, o.outcome, o.order.part) for o in operations] == [
        ("dc0", REMOVED, 0),
        ("dc1", MADE, 1),
        ("dc2", REMOVED, 2),
    ]
    events = plain.events[plain.showing("deletecollection of three VPCs")]
    assert [(e.key.name, e.type) for e in events] == [
        ("dc0", "VPCRemoved"),
        ("dc1", "VPCDeletionRequested"),
        ("dc2", "VPCRemoved"),
    ]
    assert FINALIZER in (operations[1].after or {})[FINALIZERS], "dc1 stays because of its finalizer"
    assert changed_to(events[1])[DELETION], "the list shows no deletionTimestamp, and yet it is being deleted"


def test_quirk_14_the_pods_of_a_deletecollection_still_have_their_grace():
    seed7 = studied("mixed-seed7")
    listed = [operations for operations in seed7.operations.values() if operations[0].verb == "deletecollection"]
    pods = [operation for operations in listed for operation in operations if operation.key.kind == "pod"]
    assert len(pods) == 6
    for pod in pods:
        assert (pod.outcome, pod.revision, pod.order.own) == (MADE, None, 1)
        asked = [e for e in seed7.replayed.events if e.uid == pod.uid and e.type == "PodDeletionRequested"]
        assert len(asked) == 1, "whoever asked first"


def test_quirk_15_a_namespace_goes_when_it_is_finalized():
    small = studied("mixed-small")
    gone = [event for event in small.replayed.events if event.type == "NamespaceRemoved"]
    assert {event.operation for event in gone} == {"update namespaces/finalize"}
    assert len(gone) == 2
    for event in gone:
        asked = [e for e in small.replayed.events if e.key == event.key and e.type == "NamespaceDeletionRequested"]
        assert [e.operation for e in asked] == ["delete namespaces"]
        made_again = small.replayed.judged.reading.world.get(event.key)
        assert made_again is not None and made_again.uid != event.uid
    refused = [e for e in small.replayed.events if e.operation == "update namespaces/finalize" and e.code == 409]
    assert [e.outcome for e in refused] == [REFUSED_BY_THE_API] * 2


def test_quirk_15_internal_delete_options_are_a_body_like_any_other():
    small = studied("mixed-small")
    internal = [
        record
        for record in parsed("mixed-small")
        if record["stage"] == "ResponseComplete"
        and record["verb"] == "delete"
        and record["objectRef"]["resource"] == "pods"
        and (record.get("requestObject") or {}).get("apiVersion") == "meta.k8s.io/__internal"
        and record["responseStatus"]["code"] == 200
    ]
    assert internal
    for record in internal:
        (operation,) = small.operations[record["auditID"]]
        assert operation.outcome == REMOVED


# ---- shape


def test_quirk_16_request_bodies_of_every_shape_are_read_by_what_they_did():
    plain = studied(PLAIN)
    assert isinstance(plain.record("JSON patch: requestObject is an array")["requestObject"], list)
    assert plain.event("JSON patch: requestObject is an array").changed == {"metadata.labels[a]": (None, "b")}
    assert plain.record("merge patch with null")["requestObject"] == {"metadata": {"labels": {"a": None}}}
    assert plain.event("merge patch with null").changed == {"metadata.labels[a]": ("b", None)}
    assert changed_to(plain.event("server-side apply that creates")) == {"spec.namespaces": ["team-a"]}
    assert plain.record("pods/binding")["requestObject"]["kind"] == "Binding"
    assert plain.event("pods/binding").changed == {"spec.nodeName": (None, "node1")}
    assert plain.record("delete with a finalizer").get("requestObject") is None
    assert list(plain.event("delete with a finalizer").changed) == [DELETION]


def test_quirk_17_the_name_of_a_generated_object_is_in_the_answer():
    plain = studied(PLAIN)
    record = plain.record("create with generateName")
    assert "name" not in record["objectRef"]
    event = plain.event("create with generateName")
    assert event.key == Key("vpc", "", record["responseObject"]["metadata"]["name"])
    assert event.key.name.startswith("gen-")


def test_quirk_18_the_subresource_says_what_a_create_is():
    plain = studied(PLAIN)
    creates = {
        operation.subresource: operation
        for operations in plain.operations.values()
        for operation in operations
        if operation.verb == "create" and operation.key.kind == "pod"
    }
    assert {subresource: operation.outcome for subresource, operation in creates.items()} == {
        "": MADE,
        "binding": MADE,
        "exec": RAN,
        "eviction": REFUSED_BY_THE_API,
    }
    assert plain.event("pods/binding").type == "PodBound"
    assert plain.event("pods/status strategic merge patch").type == "PodStatusReported"
    assert plain.event("pods/status strategic merge patch").operation == "patch pods/status"


def test_quirk_18_a_granted_eviction_asks_for_the_pods_deletion():
    plain = studied(PLAIN)
    (pod,) = [event for event in plain.replayed.events if event.type == "PodCreated" and event.key.name == "p1"]
    made = json.loads(plain.records[audit_id_of(pod)][-1])
    granted = {
        **plain.record("pods/eviction without permission"),
        "responseStatus": {"code": 201},
        "responseObject": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201},
    }
    replayed = replay_lines([line(made), line(granted)])
    assert reached(replayed, pod.key) == ["PodCreated", "PodDeletionRequested"]


def test_quirk_19_an_exec_is_one_command_although_two_stages_show_it():
    buggy = studied("s4-buggy")
    execs = {
        audit_id: operations for audit_id, operations in buggy.operations.items() if operations[0].subresource == "exec"
    }
    assert len(execs) == 10
    for audit_id, operations in execs.items():
        assert [operation.outcome for operation in operations] == [RAN, RAN]
        assert operations[0].command[:1] == ("/bin/bash",)
        started = [event for event in buggy.events[audit_id] if event.type == "GatewayCommandStarted"]
        assert len(started) == 1
    words = studied(PLAIN).operations[studied(PLAIN).showing("pods/exec")][0].command
    assert words == ("sh", "-c", 'echo "a b" && true')


def test_quirk_19_an_exec_over_a_websocket_is_a_get_and_read_all_the_same():
    over_websocket = []
    for record in parsed("s4-buggy"):
        if (record.get("objectRef") or {}).get("subresource") == "exec":
            assert record["verb"] == "create"
            record = {**record, "verb": "get"}
        over_websocket.append(line(record))
    as_recorded = studied("s4-buggy").replayed
    replayed = replay_lines(over_websocket)
    assert [event.type for event in replayed.events] == [event.type for event in as_recorded.events]
    assert [finding.id for finding in replayed.findings] == [finding.id for finding in as_recorded.findings] != []


def test_quirk_20_reads_and_watches_are_ignored_and_their_time_counts(tmp_path):
    plain = studied(PLAIN)
    for words in ("list", "watch that ends"):
        (audit_id,) = [ids[0] for what, ids in plain.shows.items() if what == words or what.startswith(words + " ")]
        assert {type(classify(each)) for each in plain.records[audit_id]} == {Ignored}
        assert plain.events[audit_id] == []
    path = tmp_path / "audit.log"
    path.write_bytes(b"\n".join(lines_of(PLAIN)))
    journal = InMemoryJournal()
    ingest(str(path), journal)
    (source,) = journal.sources()
    span = msgspec.msgpack.decode(source.summary, type=Span)
    times = [record["stageTimestamp"] for record in parsed(PLAIN)]
    assert (span.first, span.last) == (min(times), max(times))
    assert times[-1] != max(times) or times != sorted(times), "the recording has watches that end out of order"


def test_quirk_21_an_impersonated_write_names_both_users():
    plain = studied(PLAIN)
    impersonated = plain.record("impersonated write")
    write = {
        **plain.record("create with generateName"),
        "user": impersonated["user"],
        "impersonatedUser": impersonated["impersonatedUser"],
    }
    (event,) = replay_lines([line(write)]).events
    assert event.actor == f"{impersonated['impersonatedUser']['username']} (by {impersonated['user']['username']})"


def test_quirk_21_a_refused_impersonation_is_a_refusal():
    plain = studied(PLAIN)
    refused = plain.record("impersonation refused")
    assert refused["responseStatus"]["code"] == 403
    (event,) = replay_lines([line({**refused, "verb": "delete"})]).events
    assert (event.type, event.outcome, event.code) == (OBSERVED, REFUSED_BY_THE_API, 403)


def test_quirk_22_records_without_object_or_user_are_good_records(tmp_path):
    bare = [each for each in lines_of(PLAIN) if "objectRef" not in json.loads(each)]
    assert bare
    nobody = {**studied(PLAIN).record("create with generateName"), "user": {}}
    replayed = replay_lines([*bare, line(nobody)])
    (tally,) = replayed.tallies
    assert (tally.ignored, tally.recognised, tally.unrecognised) == (len(bare), 1, 0)
    (event,) = replayed.events
    assert (event.type, event.actor) == ("VPCCreated", "")


def test_quirk_23_managed_fields_change_nothing():
    with_them, without = studied(PLAIN), studied("quirks-batchlog")
    assert b"managedFields" in b"".join(lines_of(PLAIN))
    assert b"managedFields" not in b"".join(lines_of("quirks-batchlog"))
    compared = 0
    for what in with_them.shows.keys() & without.shows.keys():
        if "generateName" in what:
            continue
        seen = [
            [(e.type, e.key, e.outcome, e.code, sorted(e.changed)) for each in s.shows[what] for e in s.events[each]]
            for s in (with_them, without)
        ]
        assert seen[0] == seen[1], what
        compared += bool(seen[0])
    assert compared > 30
    assert not [path for e in with_them.replayed.events for path in e.changed if "managedFields" in path]


def test_quirk_24_a_truncated_record_is_an_attempt_whose_effect_is_unknown():
    cut = studied("quirks-truncate")
    record = cut.record("a big object: truncated")
    assert "requestObject" not in record and "responseObject" not in record
    event = cut.event("a big object: truncated")
    assert (event.type, event.outcome, event.revision) == ("VPCSighted", UNKNOWN, None)
    assert "cut its bodies off" in event.reason
    assert cut.replayed.judged.reading.coverage.unknown == {event.reason: 1}
    assert cut.replayed.findings == []


def at_metadata_level(record: dict[str, Any]) -> dict[str, Any]:
    bare = {name: value for name, value in record.items() if name not in ("requestObject", "responseObject")}
    return {**bare, "level": "Metadata"}


@pytest.mark.parametrize("name", ["s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy", "mixed-small"])
def test_quirk_25_below_request_response_operations_are_attempts_and_nothing_is_found(name):
    replayed = replay_lines([line(at_metadata_level(record)) for record in parsed(name)])
    assert replayed.findings == []
    reading = replayed.judged.reading
    assert sum(reading.coverage.unknown.values()) > 20
    assert "recorded without its answer, below level RequestResponse" in reading.coverage.unknown
    assert reading.coverage.revisions == []
    assert {event.order.own for event in replayed.events if event.order} == {1}
    assert not [event for event in replayed.events if event.type.endswith(("Created", "SpecChanged", "Reported"))]


def test_quirk_25_a_binding_without_its_body_is_not_a_damaged_one():
    replayed = replay_lines([line(at_metadata_level(record)) for record in parsed("s4-buggy")])
    assert list(replayed.judged.reading.coverage.unknown) == [
        "recorded without its answer, below level RequestResponse"
    ]


def test_quirk_25_nothing_without_a_name_is_sighted():
    replayed = replay_lines([line(at_metadata_level(record)) for record in parsed("mixed-small")])
    assert [str(key) for key in replayed.judged.reading.world.live if not key.name] == []


def test_quirk_26_escapes_and_raw_text_are_the_same_text():
    plain = studied(PLAIN)
    raw = plain.records[plain.showing("non-ASCII and HTML")][-1]
    assert rb"\u003c" in raw and "纟".encode() in raw
    event = plain.event("non-ASCII and HTML")
    assert changed_to(event) == {"metadata.annotations[note]": '纟络-é"<&>\u2028'}


def test_quirk_26_times_keep_their_microseconds():
    plain = studied(PLAIN)
    record = plain.record("no-op patch")
    event = plain.event("no-op patch")
    assert record["stageTimestamp"].endswith(f".{event.time % 1_000_000:06d}Z")
    assert record["requestReceivedTimestamp"].endswith(f".{event.received % 1_000_000:06d}Z")


def test_quirk_27_the_parts_of_a_rotated_log_are_one_log_in_any_order():
    parts = recording("mixed-seed7")
    assert [path.name for path in parts][-1] == "audit.log.gz"
    folder = [path for path in files_in([str(DATA / "mixed-seed7")]) if "audit" in path]
    assert folder == [str(path) for path in parts]
    backwards = replay(*reversed(parts))
    assert backwards.digest == studied("mixed-seed7").replayed.digest
    assert backwards.judged.reading.gaps == []


def test_quirk_27_a_file_that_may_not_be_read_is_named_with_the_reason(tmp_path):
    with pytest.raises(NothingToRead, match="cannot be opened") as error:
        ingest(str(tmp_path), InMemoryJournal())  # opening fails for root, too
    assert str(tmp_path) in str(error.value)
    assert "check its permissions" in str(error.value)


def test_quirk_28_the_servers_start_is_ignored():
    codes: dict[int, int] = defaultdict(int)
    for each in lines_of("mixed-small"):
        code = json.loads(each).get("responseStatus", {}).get("code")
        if code in (304, 429):
            codes[code] += 1
            assert isinstance(classify(each), Ignored)
    assert codes[429] > 0
    assert codes[304] > 0


def test_quirk_29_a_webhooks_batch_is_read_and_twice_is_once(tmp_path):
    batch = gzip.decompress((DATA / "s0-buggy" / "webhook-body.json.gz").read_bytes())
    items = json.loads(batch)["items"]
    assert json.loads(batch)["kind"] == "EventList" and len(items) > 1
    once, twice = tmp_path / "once", tmp_path / "twice"
    once.write_bytes(batch)
    twice.write_bytes(batch + b"\n" + batch)
    run, again = replay(once), replay(twice)
    assert run.tallies[0].records == len(items) and run.tallies[0].unrecognised == 0
    assert {finding.name for finding in run.open_errors} >= {"lost-update"}
    assert again.digest == run.digest
    assert again.tallies[0].duplicates == run.tallies[0].recognised == again.tallies[0].recognised


def test_quirk_30_a_raw_watch_is_read_and_its_error_is_kept_aside():
    whole = replay(DATA / PLAIN / "watch-raw.jsonl.gz")
    lines = gzip.decompress((DATA / PLAIN / "watch-raw.jsonl.gz").read_bytes()).splitlines()
    bookmarks = sum(json.loads(line)["type"] == "BOOKMARK" for line in lines)
    [tally] = whole.tallies
    assert bookmarks and tally.ignored == bookmarks and tally.unrecognised == 0
    assert tally.recognised + tally.duplicates == len(lines) - bookmarks
    [ended] = replay(DATA / PLAIN / "watch-raw-too-old.jsonl.gz").tallies
    assert (ended.records, ended.unrecognised) == (1, 1)
    assert "the watch ended here" in ended.wrong and "410 Expired" in ended.wrong


def test_quirk_31_sets_and_members_in_any_order_are_the_same_dump(tmp_path):
    """Two dumps of one state, the second with its sets and members turned round and other numbers of the kernel's."""
    first = (DATA / "s3-buggy" / "ipset" / "012-netpol-controller-after-restore.save").read_text()
    blocks = [f"create {block}".splitlines() for block in first.split("create ")[1:]]
    turned = [line for create, *adds in reversed(blocks) for line in (f"{create[:-8]}0badcafe", *reversed(adds))]
    said = [
        json.dumps({"seq": number, "t": f"2026-11-21T01:34:2{number}Z", "actor": "lab", "op": "dump", "text": text})
        for number, text in enumerate((first, "\n".join(turned)))
    ]
    path = tmp_path / "ipset.jsonl"
    path.write_text("\n".join(said) + "\n")
    events = [event for event in replay(path).events if event.key.name]
    assert len(events) == len(blocks) and {event.type for event in events} == {"IPSetSighted"}
    assert all(event.record.split("/")[1] == "000000000" for event in events)


# ---- more, seen when rules were tried


def test_quirk_32_what_has_no_revision_of_its_own_stands_behind_what_had_completed():
    plain = studied(PLAIN)
    for words in ("pods/binding", "delete without finalizer"):
        operation = plain.operation(words)
        assert (operation.revision, operation.order.own) == (None, 1)
    exec_stages = plain.operations[plain.showing("pods/exec")]
    assert [(o.revision, o.order.own) for o in exec_stages] == [(None, 1)] * 2
    # The pod was made, bound, and only then reported running: the order of the events says so.
    assert reached(plain.replayed, Key("pod", "q", "p1"))[:3] == ["PodCreated", "PodBound", "PodStatusReported"]


def test_quirk_33_an_answer_with_an_old_revision_does_not_sort_by_it():
    small = studied("mixed-small")
    asked: dict[str, Any] = {}
    removals = 0
    for event in small.replayed.events:
        if event.type.endswith("DeletionRequested"):
            asked[event.uid] = event.order
        elif event.type.endswith("Removed") and event.uid in asked:
            removals += 1
            assert event.order is not None and event.order > asked[event.uid], event.record
    assert removals > 40
    plain = studied(PLAIN)
    change = plain.record("merge patch with null")
    stale = {
        **plain.record("no-op patch"),
        "stageTimestamp": change["stageTimestamp"].replace("Z", "9Z"),
        "requestReceivedTimestamp": change["stageTimestamp"],
    }
    made = plain.record("status field sent in a create")
    before = json.loads(plain.records[plain.showing("status subresource merge patch")][-1])
    replayed = replay_lines([line(each) for each in (stale, change, before, made)])
    assert [e.outcome for e in replayed.events][-1] == UNCHANGED, "the no-op answered an old revision, and came last"


def test_quirk_34_a_pods_last_delete_has_a_revision_of_its_own():
    plain = studied(PLAIN)
    operation = plain.operation("delete with grace 0")
    answered = int(plain.record("delete with grace 0")["responseObject"]["metadata"]["resourceVersion"])
    assert (operation.outcome, operation.order.anchor, operation.order.own) == (REMOVED, answered, 0)
    # It uses up one unseen revision before it, which is no gap in what is known of the pod.
    assert answered - 1 not in {event.revision for event in plain.replayed.events}
    assert plain.replayed.judged.reading.gaps == []


def test_quirk_35_status_in_a_put_of_the_main_resource_is_ignored():
    plain = studied(PLAIN)
    operation = plain.operation("status sent to the main resource by update")
    assert plain.record("status sent to the main resource by update")["requestObject"]["status"]["subnets"]
    assert operation.outcome == UNCHANGED
    assert plain.event("status sent to the main resource by update").changed == {}


def test_quirk_36_ready_left_over_from_the_pod_before_is_drift_and_no_finding():
    control = studied("s4-control-ordered").replayed
    assert control.findings == []
    replaced = [n for n, event in enumerate(control.events) if event.type == "EIPGatewayPodReplaced"]
    initialised = next(e for e in control.events[replaced[0] :] if e.type == "GatewayInitialised")
    until = replay_until("s4-control-ordered", initialised.record)
    reading = until.judged.reading
    drifting = {
        resource.key.kind for resource in reading.resources() if "status.ready" in reading.standing(resource).drift
    }
    assert drifting == {"eip", "fip"}, "the new pod has nothing yet, and they still say ready"
    assert until.open_errors == []


def replay_until(name: str, record: str) -> Replayed:
    """A recording up to and with one record."""
    audit_id = record.partition(":")[2].partition("@")[0]
    lines = lines_of(name)
    last = max(n for n, each in enumerate(lines) if json.loads(each)["auditID"] == audit_id)
    return replay_lines(lines[: last + 1])


def test_quirk_37_what_older_releases_and_other_providers_do_is_lawful():
    for name in ("s1-buggy", "s4-buggy", "s4-control-ordered"):
        replayed = studied(name).replayed
        assert not [e for e in replayed.events if e.type == REFUSED and e.attempted.endswith(("Created", "Guarded"))]
    bare = next(e for e in studied("s4-buggy").replayed.events if e.key.name == "ovn-vpc-external-network")
    assert (bare.type, "spec.vpc" in bare.changed) == ("SubnetCreated", False)
    subnet = studied("s4-buggy").replayed.judged.reading.world.get(bare.key)
    assert subnet is not None and not subnet.get("spec.vpc")
    assert not [f for f in studied("s4-buggy").replayed.findings if f.key == bare.key]
    without = [e for e in studied("s1-buggy").replayed.events if e.key == Key("vpc", "", "vpc-lab")]
    assert not [e for e in without if FINALIZERS in e.changed]
    assert without[0].type == "VPCCreated"
    assert {(e.attempted or e.type) for e in without} >= {"VPCRemoved"}
    eip = [e for e in studied("s4-buggy").replayed.events if e.key == Key("eip", "", "eip-1")]
    ready = next(n for n, e in enumerate(eip) if changed_to(e).get("status.ready"))
    guarded = next(n for n, e in enumerate(eip) if FINALIZER in (changed_to(e).get(FINALIZERS) or ()))
    assert ready < guarded, "the finalizer comes last"
    assert not [e for e in eip if e.type == REFUSED]


def test_quirk_38_a_namespace_older_than_the_log_is_not_missed():
    records = parsed("s1-buggy")
    created = {
        record["auditID"]
        for record in records
        if record["verb"] == "create" and record["objectRef"]["resource"] == "namespaces"
    }
    assert {f.key.name for f in studied("s1-buggy").replayed.findings if f.name == "namespace-not-bound"} == {
        "team-red",
        "team-blue",
    }
    # The same log, in which the two are older than it: somebody patches them, and says nothing new.
    older = []
    for record in records:
        if record["auditID"] in created:
            if record["stage"] != "ResponseComplete":
                continue
            record = {**record, "verb": "patch", "responseStatus": {"code": 200}}
        older.append(record)
    replayed = replay_lines([line(record) for record in older])
    assert [f for f in replayed.findings if f.name == "namespace-not-bound"] == []
    assert "NamespaceSighted" in reached(replayed, Key("namespace", "", "team-red"))
