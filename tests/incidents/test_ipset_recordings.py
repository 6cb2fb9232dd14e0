"""Real ipset timelines, replayed: the restores that lost a member are found, with what was lost, and nothing else is."""

import json
import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ingest import files_in
from projections.findings.rule import ERROR, HEALED, OPEN, Finding
from tests.replaying import DATA, LONG_SEARCH, Replayed, audit_id_of, explained, recording, replay, timeline, truth_of

NAMES = ("s3-buggy", "s3-control-order", "mixed-seed7")
EXAMPLES = 2_000 if LONG_SEARCH else 60


def faults(name: str) -> list[dict[str, Any]]:
    """The truth's faults on ipsets, as sets and members that are lost."""
    found = []
    for entry in truth_of(name)["faults"]:
        if "ipset" not in entry["object"]:
            continue
        missing = [entry["missing"]] if "missing" in entry else entry["lostWrite"]["added"]
        for member in dict.fromkeys((*missing, *(one.partition(",")[0] for one in missing))):
            found.append(
                {
                    "set": "kube-router-svip-prt" if "," in member else "kube-router-svip",
                    "member": member,
                    "lost": entry["lostWrite"]["ipsetSeq"],
                    "overwriting": entry["overwrittenBy"]["ipsetSeq"],
                    "status": HEALED if "healedBy" in entry else OPEN,
                    "healing": entry.get("healedBy", {}).get("ipsetSeq"),
                }
            )
    return found


@cache
def run(name: str) -> Replayed:
    return replay(timeline(name))


@cache
def records(name: str) -> tuple[bytes, ...]:
    """The lines of a timeline with their files' texts in them, so that any of them can be replayed alone."""
    lines = []
    for line in timeline(name).read_bytes().splitlines():
        entry = json.loads(line)
        if file := entry.pop("file", None):
            entry["text"] = (DATA / name / file).read_text()
            entry["format"] = file.rpartition(".")[2]
        lines.append(json.dumps(entry).encode())
    return tuple(lines)


def replay_records(lines: Sequence[bytes], folder: Path) -> Replayed:
    path = folder / "ipset.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return replay(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timeline")


def seqs(replayed: Replayed, finding: Finding, role: str) -> set[int]:
    """The numbers in the timeline of a finding's witnesses of a role: identities end in TIME/NUMBER/ACTOR/OP/HASH."""
    return {
        int(replayed.events[witness.at - 1].record.split("/")[1])
        for witness in finding.witnesses
        if witness.role == role
    }


def names(findings: Sequence[Finding]) -> set[tuple[Any, ...]]:
    """Findings without what depends on how much of the log there is."""
    return {(finding.name, finding.key, finding.field) for finding in findings}


KNOWN = [pytest.param(name, fault, id=f"{name}-{fault['member']}") for name in NAMES for fault in faults(name)]


def test_the_truth_knows_the_faults_that_it_is_known_to_hold():
    assert [len(faults(name)) for name in NAMES] == [2, 0, 6]


@pytest.mark.parametrize(("name", "fault"), KNOWN)
def test_a_lost_member_is_found_with_its_status_the_lost_the_overwriting_and_the_healing_write(name, fault):
    replayed = run(name)
    found = [
        finding
        for finding in replayed.findings
        if finding.key.name == fault["set"] and seqs(replayed, finding, "overwriting") == {fault["overwriting"]}
    ]
    assert [finding.name for finding in found] == ["ipset-lost-member"], explained(replayed.findings)
    (finding,) = found
    assert (finding.status, finding.severity) == (fault["status"], ERROR)
    assert fault["member"] in finding.explanation
    assert fault["member"] not in finding.reported and fault["member"] in finding.lawful
    assert seqs(replayed, finding, "lost") == {fault["lost"]}
    assert seqs(replayed, finding, "healing") == ({fault["healing"]} if fault["healing"] else set())
    (basis,) = seqs(replayed, finding, "basis")
    assert finding.known and basis < fault["lost"], "what it wrote from was loaded before the write that it lost"
    assert seqs(replayed, finding, "shown") == {fault["overwriting"] + 1}, "the dump after the restore shows it"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_beside_what_the_truth_names(name):
    assert len(run(name).findings) == len(faults(name)), explained(run(name).findings)


@pytest.mark.parametrize("name", NAMES)
def test_every_record_of_a_timeline_is_read(name):
    (tally,) = run(name).tallies
    assert tally.recognised == tally.records == len(records(name)) and not tally.unrecognised


@pytest.mark.parametrize("name", NAMES)
def test_no_dump_of_a_whole_timeline_shows_what_its_restores_do_not_explain(name):
    assert run(name).judged.reading.gaps == []


@pytest.mark.parametrize("name", NAMES)
def test_with_the_audit_logs_beside_it_a_timeline_says_the_same(name):
    together = replay(*recording(name), timeline(name))
    of_sets = [finding for finding in together.findings if finding.key.kind == "ipset"]
    assert [(f.id, f.status) for f in of_sets] == [(f.id, f.status) for f in run(name).findings]


def test_a_timeline_and_audit_logs_in_any_order_of_files_give_the_same_digest():
    files = [*recording("s3-buggy"), timeline("s3-buggy")]
    first, other = replay(*files), replay(*reversed(files))
    assert first.digest == other.digest and len(first.findings) == 2
    assert [event.order for event in first.events] == sorted(event.order for event in first.events if event.order)


@pytest.mark.parametrize("name", NAMES)
def test_lines_in_any_order_and_twice_give_the_same_digest_and_findings(name, folder):
    lines = [*records(name), *records(name)[:5]]
    digests = set()
    for seed in range(3):
        Random(seed).shuffle(lines)
        again = replay_records(lines, folder)
        digests.add(again.digest)
        assert [(f.id, f.status, f.explanation) for f in again.findings] == [
            (f.id, f.status, f.explanation) for f in run(name).findings
        ]
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["s3-control-order"])
def test_every_part_of_a_clean_timeline_is_clean(name, folder):
    lines = records(name)
    for first in range(len(lines)):
        for last in range(first + 1, len(lines) + 1):
            part = replay_records(lines[first:last], folder)
            assert not part.findings, f"{first} to {last}: {explained(part.findings)}"


def test_every_part_of_a_timeline_finds_only_what_the_whole_finds(folder):
    lines = records("s3-buggy")
    for first in range(len(lines)):
        for last in range(first + 1, len(lines) + 1):
            part = replay_records(lines[first:last], folder)
            assert names(part.findings) <= names(run("s3-buggy").findings), f"{first}:{last} {explained(part.findings)}"
            assert not part.findings or first < 9 <= 11 <= last, "without the write that was lost nothing is known"


@pytest.mark.parametrize("name", ["s3-buggy", "mixed-seed7"])
def test_every_beginning_of_a_timeline_finds_only_what_was_lost_by_then(name, folder):
    lines = records(name)
    step = 1 if name == "s3-buggy" or LONG_SEARCH else 7
    for last in range(1, len(lines) + 1, step):
        part = replay_records(lines[:last], folder)
        known = [fault for fault in faults(name) if fault["overwriting"] <= last]
        assert len(part.findings) == len(known), explained(part.findings)
        for fault in known:
            healed = fault["healing"] is not None and fault["healing"] <= last
            status = HEALED if healed else OPEN
            assert any(f.key.name == fault["set"] and f.status == status for f in part.findings)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_records_taken_away_never_make_another_finding(name, folder, data):
    """Fewer findings are right: a gap in the numbers is noticed. What is found is what the whole timeline says."""
    lines = records(name)
    most = data.draw(st.sampled_from([2, len(lines) // 3, len(lines)]), label="at most")
    gone = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=most), label="taken away")
    part = replay_records([line for number, line in enumerate(lines) if number not in gone], folder)
    assert names(part.findings) <= names(run(name).findings), explained(part.findings)
    overwriting = {finding.key: seqs(part, finding, "overwriting") for finding in part.findings}
    known = {fault["overwriting"] for fault in faults(name)}
    assert all(numbers <= known for numbers in overwriting.values()), explained(part.findings)


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(gone=st.sets(st.integers(0, 153), max_size=120))
def test_without_the_numbers_too_records_taken_away_make_no_other_finding(folder, gone):
    """This timeline's owner never takes a member out, so even what goes unnoticed hides nothing."""
    kept = [json.loads(line) for number, line in enumerate(records("mixed-seed7")) if number not in gone]
    part = replay_records([json.dumps({**entry, "seq": None}).encode() for entry in kept], folder)
    assert names(part.findings) <= names(run("mixed-seed7").findings), explained(part.findings)


NEUTRAL = {"ipvs-controller": "writer-1", "netpol-controller": "writer-2", "routes-controller": "writer-3"}


@pytest.mark.parametrize("name", NAMES)
def test_writers_whose_names_say_nothing_are_known_by_what_they_write(name, folder):
    lines = []
    for line in records(name):
        entry = json.loads(line)
        lines.append(json.dumps({**entry, "actor": NEUTRAL.get(entry["actor"], entry["actor"])}).encode())
    again = replay_records(lines, folder)
    assert [(f.id, f.status) for f in again.findings] == [(f.id, f.status) for f in run(name).findings]


def test_files_that_a_timeline_names_are_read_once_and_through_it(tmp_path):
    copy = shutil.copytree(DATA / "s3-buggy", tmp_path / "s3")
    files = files_in([str(copy / "ipset.jsonl"), str(copy / "ipset")])
    assert files == [str(copy / "ipset.jsonl")]
    assert [file for file in files_in([str(copy)]) if file.endswith("ipset.jsonl")] == [str(copy / "ipset.jsonl")]


def test_a_folder_of_numbered_dumps_without_a_timeline_is_read_in_the_order_of_its_numbers(tmp_path):
    """All files were written in one moment, as after a copy; the memories, which have no file, are inferred."""
    copy = shutil.copytree(DATA / "s3-buggy" / "ipset", tmp_path / "ipset", copy_function=shutil.copyfile)
    for path in copy.iterdir():
        os.utime(path, (1_800_000_000, 1_800_000_000))
    again = replay(*files_in([str(copy)]))
    assert names(again.findings) == names(run("s3-buggy").findings)
    assert {finding.known for finding in again.findings} == {False}
    assert all("inferred" in finding.explanation for finding in again.findings)


@pytest.mark.parametrize(("name", "fault"), KNOWN)
def test_with_the_audit_log_who_asks_for_the_member_and_what_moved_the_writer_are_witnesses(name, fault):
    replayed = replay(*recording(name), timeline(name))
    because = {
        reason["auditID"]: reason["path"]
        for entry in truth_of(name)["faults"]
        if "ipset" in entry["object"] and entry["overwrittenBy"]["ipsetSeq"] == fault["overwriting"]
        for reason in entry["because"]
    }
    (finding,) = [
        finding
        for finding in replayed.findings
        if finding.key.name == fault["set"] and seqs(replayed, finding, "overwriting") == {fault["overwriting"]}
    ]
    cited = {
        role: [replayed.events[witness.at - 1] for witness in finding.witnesses if witness.role == role]
        for role in ("cause", "trigger")
    }
    assert [event.type for event in cited["cause"]] == ["ServiceExternalAddressesChanged"]
    assert {event.type for event in cited["trigger"]} == {"PodBound", "PodStatusReported"}
    assert because.keys() <= {audit_id_of(event) for events in cited.values() for event in events}, because
    assert finding.status == fault["status"]


@pytest.mark.parametrize("name", NAMES)
def test_with_everything_that_was_recorded_the_sets_findings_are_the_same(name):
    replayed = replay(*recording(name), timeline(name), DATA / name / "watch.jsonl.gz", DATA / name / "final.yaml.gz")
    assert {(f.id, f.status) for f in replayed.findings if f.key.kind == "ipset"} == {
        (f.id, f.status) for f in run(name).findings
    }
