"""The answer of a replay: the JSON document against its schema, and the text made from it."""

import gzip
import json
import subprocess
import sys
import zipfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from adapters import app, report
from adapters.ingest import UNKNOWN_FORMAT
from adapters.paper import Paper, counted
from adapters.sources import dialects
from domain.resources import KINDS
from projections.findings.judge import RULES
from projections.findings.rule import STATUSES
from tests.replaying import DATA, recording, replayed

RECORDINGS = sorted(folder.name for folder in DATA.iterdir() if folder.is_dir() and folder.name != "public")
PUBLIC = sorted((DATA / "public").glob("*.txt"))
SCHEMA = json.loads(files("adapters").joinpath("schemas", "replay-v1.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def answer(*paths: Path | str, at: str | None = None) -> dict[str, Any]:
    with app.opened(None) as store:
        outcome = app.replay(store, [str(path) for path in paths], at=app.read_moment(at) if at else None)
        document = report.document(store, outcome)
    read_back: dict[str, Any] = json.loads(json.dumps(document))
    return read_back


@cache
def of(name: str) -> dict[str, Any]:
    return answer(*recording(name))


def assert_valid(document: dict[str, Any]) -> None:
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)] == []
    for source in document["sources"]:
        counts = [source[name] for name in ("recognised", "ignored", "unknown", "unrecognised", "duplicates")]
        assert sum(counts) == source["records"], source


# ---- the document


def test_the_schema_is_a_schema_and_describes_every_field():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def walk(part: Any, path: str) -> None:
        for name, field in part.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, f"{path}.{name} is not described"
            for inside in (field, field.get("items", {}), *field.get("oneOf", ())):
                walk(inside, f"{path}.{name}")
        if "properties" in part:
            assert part["additionalProperties"] is False, f"{path} takes anything"

    walk(SCHEMA, "$")
    for name, part in SCHEMA["$defs"].items():
        walk(part, name)


def test_the_schema_knows_all_kinds():
    assert {kind.name for kind in KINDS} <= set(SCHEMA["$defs"]["kind"]["enum"])


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_answer_to_every_recording_is_what_the_schema_says(name: str):
    assert_valid(of(name))


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_the_answer_to_logs_of_other_people_is_what_the_schema_says(path: Path):
    assert_valid(answer(path))


@pytest.mark.parametrize("at", ["1", "329", "2026-11-21T01:24:04.1+00:00", "2036-01-01T00:00:00Z"])
def test_the_answer_at_any_moment_is_what_the_schema_says(at: str):
    assert_valid(answer(*recording("s0-buggy"), at=at))


def test_bad_input_is_counted_in_the_document(tmp_path: Path):
    good = gzip.decompress(recording("s0-buggy")[0].read_bytes())
    lines = good.splitlines(keepends=True)
    bad = [b"{\n", b"\x00\x00\n", b"\xff\xfe\n", b"[]\n", b'{"kind":"Pod"}\n', b'{"auditID":1}\n']
    path = tmp_path / "audit.log"
    path.write_bytes(lines[0] + b"".join(bad) + good + lines[-1][:300])
    cut = tmp_path / "cut.log.gz"
    cut.write_bytes(gzip.compress(good)[:-2000])
    document = answer(path, cut)
    assert_valid(document)
    first, second = document["sources"]
    assert first["unrecognised"] == len(bad) + 1 and second["unrecognised"] == 1
    assert first["recognised"] == 26 and second["recognised"] == 0 and second["duplicates"] > 0


@pytest.mark.parametrize("name", ["s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy", "mixed-small", "mixed-seed7"])
def test_every_witness_in_the_document_is_the_event_that_the_finding_cites(name: str):
    """By audit ID, so that a place in the order that is looked up wrongly shows."""
    expected = {
        finding.id: [audit_id.partition(":")[2].partition("@")[0] for _, audit_id in replayed(name).witnesses(finding)]
        for finding in replayed(name).findings
    }
    told = {
        finding["id"]: [witness["audit_id"] for witness in finding["witnesses"]] for finding in of(name)["findings"]
    }
    assert told == expected


@pytest.mark.parametrize("name", ["s0-buggy", "mixed-small"])
def test_a_witness_is_found_at_the_line_that_the_document_names(name: str):
    for finding in of(name)["findings"]:
        for witness in finding["witnesses"]:
            path, _, line = witness["source"].rpartition(":")
            record = json.loads(gzip.decompress(Path(path).read_bytes()).splitlines()[int(line) - 1])
            assert record["auditID"] == witness["audit_id"]
            assert record["verb"] == witness["operation"].split()[0]


def test_a_root_is_always_a_finding_of_the_same_document():
    for name in RECORDINGS:
        ids = {finding["id"] for finding in of(name)["findings"]}
        assert {finding["root"] for finding in of(name)["findings"]} - {None} <= ids


# ---- the text


def lines(name: str, width: int = 80) -> list[str]:
    return list(report.text(of(name), Paper(width)))


def test_the_text_says_what_to_look_at_first_and_where_it_is():
    text = lines("s0-buggy")
    assert "OPEN vpc/vpc-shop  lost-update (NL101, error)" in text
    assert "  look at   audit.log.gz:466 first: kube-system:ovn, patch vpcs/status" in text


def test_of_several_files_only_the_names_are_shown_where_these_tell_them_apart():
    paths = [str(path) for path in recording("mixed-seed7")]
    places = {line.split()[2].rpartition(":")[0] for line in lines("mixed-seed7") if line.startswith("  look at ")}
    assert places <= {Path(path).name for path in paths} and len(places) > 1


def test_the_tally_counts_by_status_and_severity_errors_first():
    assert "2 open errors, 2 open warnings" in lines("s1-buggy")
    assert "1 open error" in lines("s4-buggy")


def test_findings_of_one_root_stand_together_and_the_root_comes_first():
    child = {"id": "child", "root": "root"}
    other = {"id": "other", "root": None}
    root = {"id": "root", "root": None}
    late = {"id": "late", "root": "root"}
    lone = {"id": "lone", "root": "not among these"}
    ordered = report.together([child, other, root, lone, late])
    assert [finding["id"] for finding in ordered] == ["root", "child", "late", "other", "lone"]


def test_a_consequence_names_its_root_and_leaves_the_repair_to_it():
    text = "\n".join(lines("s0-buggy"))
    assert text.count("Repair, in this order:") == 1
    assert "It follows from the lost-update of vpc/vpc-shop." in text
    assert "Repair: that of the lost-update of vpc/vpc-shop." in text


def test_every_command_to_copy_stands_on_one_line():
    for name in ("s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy"):
        text = lines(name, 60)
        for finding in of(name)["findings"]:
            for step in finding["repair"]:
                assert f"     {step['run']}" in text


def test_a_clean_log_is_said_to_be_clean():
    assert lines("s1-control-clean")[-1] == "Nothing is wrong that this log can show."


def test_a_clean_answer_says_when_missing_evidence_may_hide_something():
    text = report.text(answer(DATA / "public" / "audit-metadata-level.txt"), Paper())
    assert list(text)[-1] == "Nothing is wrong that this log can show; what is missing in it may hide something."


def test_what_may_yet_turn_out_right_is_not_to_be_repaired_at_once():
    finding = next(finding for finding in of("s1-buggy")["findings"] if finding["rule"] == "NL105")
    for status, said in (("pending", "  If it stays so, in this order:"), ("open", "  Repair, in this order:")):
        assert said in list(report.finding_text({**finding, "status": status}, Paper()))


def test_what_the_log_cannot_speak_for_is_said():
    coverage = {"unknown_beginnings": 1, "truncated": 2, "below_request_response": 0, "gaps": [], "silences": []}
    assert report.missing(coverage) == "1 resource first heard of in mid-life; 2 records cut short by the API server"
    nothing = {**dict.fromkeys(coverage, 0), "gaps": [], "silences": []}
    assert report.missing(nothing) == ""
    sources = [{"format": "klog", "unrecognised": 2}, {"format": "ipset", "unrecognised": 1}]
    assert report.missing(nothing, sources) == "3 unreadable records"
    assert report.missing(nothing, [{"format": "unknown", "unrecognised": 9}]) == "1 file in no known format"
    assert report.missing({**nothing, "silences": [{}]}) == "1 silence in an audit log"


@pytest.mark.parametrize("name", RECORDINGS)
def test_prose_says_vpc_in_capitals_and_no_text_is_unfinished(name: str):
    for finding in of(name)["findings"]:
        for said in (finding["explanation"], finding["consequence"]):
            assert "Vpc" not in said and "None" not in said and "  " not in said, said
            assert said.endswith("."), said


def test_the_rules_say_vpc_in_capitals():
    assert not [rule.name for rule in RULES if "Vpc" in rule.fires]


def test_a_name_cannot_write_to_the_terminal():
    paper = Paper(80, colour=True, terminal=True)
    evil = "eve\x1b]0;owned\x07\nroot"
    told = [paper.styled(evil), *paper.paragraph(evil), *paper.row("who", evil), *paper.columns(["A"], [("", [evil])])]
    assert all("\x07" not in line and "\x1b]" not in line and "\n" not in line for line in told)
    assert "eve\\x1b]0;owned\\x07\\nroot" in told[0]


def test_one_is_counted_in_the_singular():
    assert [counted(count, "record") for count in (0, 1, 2, 1234)] == [
        "0 records",
        "1 record",
        "2 records",
        "1,234 records",
    ]


def test_of_several_sources_it_is_said_what_each_was_seen_to_be(tmp_path: Path):
    (tmp_path / "notes.md").write_text("What we saw that night.\n")
    (tmp_path / "a.log").write_text(
        "I0704 06:57:37.123456       7 vpc.go:123] handle delete vpc shop\n"
        "I0704 06:57:38.123456       7 vpc.go:124] frobnicate\n"
    )
    folder = DATA / "s3-buggy"
    paths = [folder / "audit.log.gz", folder / "watch.jsonl.gz", folder / "ipset.jsonl", *sorted(tmp_path.iterdir())]
    document = answer(*paths)
    assert_valid(document)
    shown = list(report.text(document, Paper(80)))
    assert shown[1:7] == [
        "  records   511: 39 on networks, 471 on others, 1 in unknown words, 0",
        "            unreadable, 0 duplicates",
        "  sources   audit.log.gz: audit log, 483: 12 on networks, 471 on others",
        "            watch.jsonl.gz: API objects, 12: 12 on networks",
        "            ipset.jsonl: ipsets, 14: 14 on networks",
        "            a.log: controller's log, 2: 1 on networks, 1 in unknown words",
    ]
    assert shown[7] == "            notes.md: in no known format, skipped"


def test_of_one_source_it_is_said_what_it_was_seen_to_be():
    assert "  source    audit log" in lines("s0-buggy")


def test_files_of_one_name_are_told_apart_and_not_all_of_many_are_named():
    source = dict.fromkeys(("records", "recognised", "ignored", "unknown", "unrecognised", "duplicates"), 0)
    some = [{**source, "format": "klog", "path": f"{number}/a.log"} for number in range(25)]
    told = list(report._sources(some))
    assert told[0] == "0/a.log: controller's log, 0: 0 on networks" and len(told) == 21
    assert told[-1] == "and 5 more files (-o json names them all)"


def test_every_format_has_its_words():
    assert set(report.FORMATS) == {*dialects.READERS, UNKNOWN_FORMAT}
    assert set(report.FORMATS) == set(SCHEMA["properties"]["sources"]["items"]["properties"]["format"]["enum"])


def test_what_is_about_no_network_is_not_called_clean(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text("I0704 06:57:38.123456       7 vpc.go:124] frobnicate\n")
    last = list(report.text(answer(path), Paper()))[-1]
    assert last == "Nothing that could be read is about a network, so there is nothing to judge."


@pytest.mark.parametrize("status", STATUSES)
def test_a_finding_of_any_status_can_be_told_in_colour(status: str):
    finding = {**of("s0-buggy")["findings"][0], "status": status}
    document = {**of("s0-buggy"), "findings": [finding]}
    told = "\n".join(report.text(document, Paper(80, colour=True, terminal=True)))
    assert status.upper() in told
    assert ("If it is so, in this order:" in told) is (status == "unknown")


# ---- columns


def test_columns_are_as_wide_as_what_is_in_them():
    rows = [("", ["a", "long-name", "x"]), ("", ["bb", "n", "y"])]
    assert list(Paper(20).columns(["K", "NAME", "Z"], rows)) == [
        "K   NAME       Z",
        "a   long-name  x",
        "bb  n          y",
    ]
    assert next(Paper(20).columns(["K", "NAME", "Z"], rows, headers=False)) == "a   long-name  x"


def test_the_last_column_is_cut_on_a_terminal_only():
    rows = [("", ["a", "word " * 20])]
    on_terminal = list(Paper(40, terminal=True).columns(["K", "WHAT"], rows, cut=True))
    assert len(on_terminal[1]) == 40 and on_terminal[1].endswith("…")
    assert len(list(Paper(40).columns(["K", "WHAT"], rows, cut=True))[1]) > 90


# ---- what ships


def test_the_wheel_ships_the_schema(tmp_path: Path):
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as shipped:
        assert json.loads(shipped.read("adapters/schemas/replay-v1.json")) == SCHEMA
        assert not [name for name in shipped.namelist() if name.startswith(("tests/", "benchmarks/"))]
