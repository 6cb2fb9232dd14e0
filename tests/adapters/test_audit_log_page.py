"""docs/audit-logs.md keeps its word: its tests exist, every quirk has its row, and its policy keeps what is read."""

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.sources.audit_log import classify
from adapters.sources.dialect import Recognised
from tests.audit_policy import level_of
from tests.replaying import lines_of, replay_lines

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "audit-logs.md").read_text()
QUIRKS = ROOT / "tests" / "adapters" / "test_audit_log_quirks.py"
RECORDINGS = ["s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy", "s4-control-ordered", "mixed-small"]


def rows() -> dict[int, str]:
    """The rows of the table of quirks, by number."""
    found = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE, re.MULTILINE)
    assert len(found) == len({number for number, _ in found}), "a quirk has two rows"
    return {int(number): row for number, row in found}


def written_tests() -> set[str]:
    tree = ast.parse(QUIRKS.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_quirk_has_its_row():
    assert list(rows()) == list(range(1, 39))


def test_every_row_names_tests_that_exist_and_every_test_is_named_in_its_row():
    named = {number: set(re.findall(r"`(test_\w+)`", row)) for number, row in rows().items()}
    assert all(named.values()), "a row names no test"
    for number, tests in named.items():
        assert all(test.startswith(f"test_quirk_{number:02d}_") for test in tests)
    assert set().union(*named.values()) == written_tests()


# ---- the policy


@cache
def policy() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def kept_at(record: dict[str, Any]) -> str:
    return level_of(policy(), record)


@pytest.mark.parametrize("name", [*RECORDINGS, "quirks-managedfields-webhook"])
def test_the_policy_keeps_all_that_is_read_with_its_bodies_and_little_else(name):
    kept = 0
    for line in lines_of(name):
        record = json.loads(line)
        level = kept_at(record)
        if isinstance(classify(line), Recognised):
            assert level == "RequestResponse", record["requestURI"]
        kept += level != "None"
    assert kept < 0.4 * len(lines_of(name))


def without_managed_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_managed_fields(inside) for name, inside in value.items() if name != "managedFields"}
    return [without_managed_fields(inside) for inside in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_the_policy_keeps_leads_to_the_same_findings(name):
    kept = [without_managed_fields(record) for record in map(json.loads, lines_of(name)) if kept_at(record) != "None"]
    policed = replay_lines([json.dumps(record, ensure_ascii=False).encode() for record in kept])
    whole = replay_lines(lines_of(name))
    assert policed.digest == whole.digest
    assert {(f.id, f.root) for f in policed.findings} == {(f.id, f.root) for f in whole.findings}


def at_request_level(record: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in record.items() if name != "responseObject"}, "level": "Request"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_at_level_request_exec_binding_and_refusals_are_known_and_nothing_is_found(name):
    replayed = replay_lines([json.dumps(at_request_level(json.loads(line))).encode() for line in lines_of(name)])
    assert replayed.findings == []
    assert not [event for event in replayed.events if event.type.endswith(("Created", "Removed", "SpecChanged"))]
    whole = replay_lines(lines_of(name))
    commands = [{e.record for e in each.events if e.type == "GatewayCommandStarted"} for each in (replayed, whole)]
    assert commands[0] == commands[1]
    bound = [{e.record for e in each.events if e.type == "PodBound"} for each in (replayed, whole)]
    generated = {e.record for e in replayed.events if e.operation == "create pods/binding"} - bound[0]
    assert bound[0] | generated == bound[1], "of a pod with a generated name only the answer says which it is"
    refused = [{e.record for e in each.events if e.outcome == "refused"} for each in (replayed, whole)]
    assert refused[0] == refused[1]
