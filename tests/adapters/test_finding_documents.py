"""Findings that are over lie packed: they answer as plain documents do, and few are unpacked for it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import app, finding_documents, report
from adapters.app import Outcome
from adapters.changes import Changes
from adapters.finding_documents import Found, Packed
from adapters.ports import StoreError
from domain.resources import Key
from projections.findings.concluded import Concluded
from projections.findings.kept import Entry
from projections.findings.rule import HEALED, OPEN, PENDING, Finding
from tests.replaying import LONG_SEARCH, recording


@pytest.fixture(scope="module")
def both() -> tuple[Found, list[dict[str, Any]]]:
    """The findings of a recording, packed and plain."""
    with app.opened(None) as store:
        outcome = app.replay(store, [str(path) for path in recording("mixed-seed7")])
        plain = report.verdict(store, outcome)["findings"]
        findings = outcome.judged.reading.conclude(
            outcome.end, lambda at: store.ledger.event_at(at).event, None, Concluded()
        )
        found = finding_documents.documents(store, findings)
        assert finding_documents.documents(store, findings).over == found.over, "what is made is not made again"
        whole = report.verdict(store, Outcome([], outcome.judged, findings, outcome.end), found)
        assert whole["findings"] is found
    assert {one["status"] for one in plain} >= {OPEN, HEALED} and len(found.over) > 10
    return found, plain


def test_packed_they_are_the_documents_that_a_replay_tells(both):
    found, plain = both
    assert list(found) == plain and found == plain
    assert len(found) == len(plain) and found[-1] == plain[-1] and found[:3] == plain[:3]
    assert [json.loads(packed.json) for packed in found.over] == [one for one in plain if one["status"] == HEALED]


@pytest.mark.parametrize("status", [None, OPEN, PENDING, HEALED])
@pytest.mark.parametrize("rule", ["", "nl101", "lost-update", "nl10", "no-such"])
def test_those_that_are_asked_for_are_those_among_plain_documents(both, status, rule):
    found, plain = both
    wanted = [
        one
        for one in plain
        if status in (None, one["status"]) and (not rule or rule in (one["rule"].lower(), one["name"]))
    ]
    sent = msgspec.json.decode(msgspec.json.encode(list(finding_documents.chosen(found, status, rule))))
    assert sent == wanted == list(finding_documents.chosen(plain, status, rule))


def test_one_is_found_by_its_id_or_its_beginning_and_those_on_a_resource_by_its_name(both):
    found, plain = both
    for one in plain:
        assert finding_documents.called(found, one["id"]) == [one] == finding_documents.called(plain, one["id"])
        resource = one["resource"]
        key = Key(resource["kind"], resource["namespace"] or "", resource["name"])
        wanted = [other for other in plain if other["resource"] == resource]
        got = finding_documents.on(found, *key)
        assert [other for other in got if other["resource"]["uid"] == resource["uid"]] == wanted
        assert got == finding_documents.on(plain, *key)
    beginning = plain[0]["id"][:6]
    assert finding_documents.called(found, beginning) == finding_documents.called(plain, beginning) != []
    assert finding_documents.called(found, "no-such") == []


def test_for_the_open_ones_none_is_unpacked(both, monkeypatch):
    found, plain = both

    def unpacked(packed: Packed) -> bytes:
        raise AssertionError(f"{packed.id} was unpacked")

    monkeypatch.setattr(Packed, "json", property(unpacked))
    assert list(finding_documents.chosen(found, OPEN, "")) == [one for one in plain if one["status"] == OPEN]
    assert list(finding_documents.open_ones(found)) == [one for one in plain if one["status"] == OPEN]


# ---- what is new about them


def finding(number: int, status: str, severity: str = "error") -> dict[str, Any]:
    return {
        "id": f"lost-update/vpc/shop/{number}",
        "status": status,
        "severity": severity,
        "words": f"{number} {status}",
    }


def packed(document: dict[str, Any]) -> Packed:
    said = Finding(
        rule="NL101", name=document["id"], severity="error", status=HEALED, key=Key("vpc", "", "x"), uid="u", since=1
    )
    entry = Entry(said, 0, 0)
    entry.id = document["id"]
    return Packed(entry, document)


@settings(max_examples=300 if LONG_SEARCH else 40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_told_only_what_moved_the_changes_are_those_of_being_told_everything(tmp_path_factory, seed):
    random, folder = Random(seed), tmp_path_factory.mktemp("changes")
    told, asked = Changes(folder / "told.changes"), Changes(folder / "asked.changes")
    now: dict[int, dict[str, Any]] = {}
    for time in range(1, 15):
        before = copy.deepcopy(now)
        for _ in range(random.randint(0, 4)):
            number = random.randint(1, 8)
            if random.random() < 0.2:
                now.pop(number, None)
            else:
                now[number] = finding(number, random.choice([OPEN, PENDING, HEALED, HEALED]))
        told.note(now.values(), time)
        healed = {number: one for number, one in now.items() if one["status"] == HEALED}
        gone = [one["id"] for number, one in before.items() if one["status"] == HEALED and number not in healed]
        if random.random() < 0.15:  # as after a restart, or a disk that was full
            asked = Changes(folder / "asked.changes")
            fresh, whole = [*healed.values()], True
        else:
            fresh, whole = [one for number, one in healed.items() if before.get(number) != one], False
        asked.note(
            [one for one in now.values() if one["status"] != HEALED],
            time,
            over=[packed(one) for one in fresh],
            gone=gone,
            whole=whole,
        )
        assert asked.standing()[1] == told.standing()[1]
    assert {(one.time, one.what, one.before, json.dumps(one.finding)) for one in asked.after(0)} == {
        (one.time, one.what, one.before, json.dumps(one.finding)) for one in told.after(0)
    }


def test_changes_that_could_not_be_written_are_told_the_next_time(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "l.changes")
    changes.note([finding(1, OPEN), finding(2, OPEN)], 1)
    there = changes.path.rename(tmp_path / "away")
    changes.path.mkdir()
    with pytest.raises(StoreError, match="cannot be kept"):
        changes.note([finding(2, HEALED)], 2)
    changes.path.rmdir()
    there.rename(changes.path)
    changes.note([finding(2, HEALED)], 3)
    assert [(one.time, one.what, one.finding["id"][-1]) for one in changes.after(2)] == [
        (3, "healed", "2"),
        (3, "withdrawn", "1"),
    ]
