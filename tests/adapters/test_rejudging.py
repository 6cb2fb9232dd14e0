"""A kept ledger judged again: what today's tables change is told, written only when asked, and nothing else moves."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from adapters import app, judging, rejudging
from adapters.judging import fold, judge
from adapters.ledger import Ledger, verify
from adapters.paper import Paper
from adapters.ports import Backend, StoreError
from adapters.stores import backends, codec
from adapters.views import Views
from domain import vpc
from domain.decide import Command, decide, decide_command
from domain.resources import Key
from domain.world import World
from projections.findings.judge import RULES
from projections.findings.rule import Rule
from tests.adapters.places import NAMES, PLACES, RECORDING, opened_place
from tests.adapters.test_cli import run
from tests.replaying import recording, replayed

SCHEMA = json.loads(files("adapters").joinpath("schemas", "rejudge-v1.json").read_text(encoding="utf-8"))
GUARDED = ("CREATED", "VPCGuarded")
DELETION = ("GUARDED", "VPCDeletionRequested")
LOG = recording(RECORDING)[0]


@pytest.fixture
def older_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A table of before VPCs had finalizers, for as long as the test does not undo it."""
    with monkeypatch.context() as patch:
        patch.delitem(vpc.LIFECYCLE.table, GUARDED)
        yield patch


@pytest.fixture(params=NAMES)
def place(request, tmp_path: Path) -> Iterator[Backend]:
    with opened_place(request.param, tmp_path / "kept.ledger", request) as store:
        yield store


def store_of(backend: Backend) -> app.Store:
    return app.Store(backend.container, backend.recorder, backend.journal, Ledger(backend.recorder))


def rejudge(store: app.Store, folder: Path, *, write: bool = False) -> dict[str, Any]:
    stands = (store.ledger.generation, store.ledger.head, store.journal.head(), 0)
    with rejudging.rejudged(store) as verdict:
        document = rejudging.document(verdict, Views(folder / "none"), stands)
        if write:
            rejudging.written(verdict)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    return document


def log_of(backend: Backend) -> list[tuple[int, bytes]]:
    return [(found.position, found.event.data) for found in backend.recorder.read()]


def test_an_unchanged_ledger_is_told_to_be_unchanged_and_nothing_is_written(place, tmp_path):
    store = store_of(place)
    outcome = app.replay(store, [str(LOG)])
    before = log_of(place)
    document = rejudge(store_of(place), tmp_path, write=True)
    assert not document["changed"]
    assert document["first"] is None
    assert document["before"] == document["today"]
    assert document["today"]["digest"] == outcome.judged.digest
    assert log_of(place) == before


def test_what_an_older_table_refused_is_told_and_only_told(place, tmp_path, older_table):
    app.replay(store_of(place), [str(LOG)])
    older_table.undo()
    before = log_of(place)
    document = rejudge(store_of(place), tmp_path)
    assert document["changed"] and not document["written"]
    assert document["first"]["was"]["event"] == "TransitionRefused"
    assert document["first"]["is"]["event"] == "VPCGuarded"
    assert document["first"]["resource"] == "vpc/vpc-shop"
    assert [row["attempted"] for row in document["refusals"]["vanished"]] == ["VPCGuarded"]
    assert "illegal-transition" in {row["name"] for row in document["findings"]["vanished"]}
    assert document["today"]["digest"] == replayed(RECORDING).digest != document["before"]["digest"]
    assert document["today"]["generation"] == 2
    assert log_of(place) == before, "nothing is written"


def test_what_is_written_is_todays_verdict_behind_what_is_kept(place, tmp_path, older_table):
    app.replay(store_of(place), [str(LOG)])
    older_table.undo()
    before = log_of(place)
    told = rejudge(store_of(place), tmp_path, write=True)
    assert log_of(place)[: len(before)] == before, "what was kept stays where it is"
    ledger = Ledger(place.recorder)
    assert ledger.generation == 2
    assert fold(ledger).digest == told["today"]["digest"] == replayed(RECORDING).digest
    assert [placed.event for placed in Ledger(place.recorder).events()] == replayed(RECORDING).events
    behind = len(log_of(place)) - len(before)
    assert behind == 1 + 25, "the beginning of a generation, and what follows the first event"
    assert not rejudge(store_of(place), tmp_path, write=True)["changed"]
    assert judge(place.journal, Ledger(place.recorder)).digest == told["today"]["digest"]
    for part in (place.recorder, place.journal):
        assert list(part.verify()) == []
    assert list(verify(place.recorder)) == []


def test_a_stricter_table_shows_what_it_refuses(place, tmp_path, older_table):
    older_table.undo()
    app.replay(store_of(place), [str(LOG)])
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(vpc.LIFECYCLE.table, GUARDED)
        document = rejudge(store_of(place), tmp_path)
    assert [row["attempted"] for row in document["refusals"]["appeared"]] == ["VPCGuarded"]
    assert "illegal-transition" in {row["name"] for row in document["findings"]["appeared"]}
    assert document["today"]["refusals"] == document["before"]["refusals"] + 1


def test_a_refusal_with_another_reason_and_a_resource_in_another_state_are_told(place, tmp_path):
    table = vpc.LIFECYCLE.table
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(table, DELETION)
        app.replay(store_of(place), [str(LOG)])
        patch.delitem(table, GUARDED)  # what cannot be guarded stays where it is
        document = rejudge(store_of(place), tmp_path)
    assert document["changed"]
    changed = {row["name"]: (row["was"]["state"], row["is"]["state"]) for row in document["resources"]["changed"]}
    assert changed and all(was != now for was, now in changed.values())
    text = "\n".join(rejudging.text(document, Paper(80)))
    assert "Resources that changed: " in text and " → " in text


def test_an_event_that_was_tampered_with_is_decided_again_from_there_on(place, tmp_path):
    """Through the recorder's own interface, as a bad import would: nothing is damaged, it only says something else."""
    app.replay(store_of(place), [str(LOG)])
    events = [placed.event for placed in Ledger(place.recorder).events()]
    with PLACES["memory"](tmp_path / "tampered") as other:
        app.replay(store_of(other), [str(LOG)])
        good = other.journal
        tampered = [
            msgspec.structs.replace(event, actor="mallory") if number == 10 else event
            for number, event in enumerate(events)
        ]
        with PLACES["skipping"](tmp_path / "x") as forged:
            forged.recorder.append([codec.encode(event) for event in tampered])
            store = app.Store(forged.container, forged.recorder, good, Ledger(forged.recorder))
            document = rejudge(store, tmp_path, write=True)
            assert document["first"]["position"] == list(forged.recorder.read())[10].position
            assert fold(Ledger(forged.recorder)).digest == replayed(RECORDING).digest


def test_a_rule_that_has_become_better_changes_findings_and_no_event(tmp_path, monkeypatch):
    path = tmp_path / "kept.ledger"
    assert run("replay", LOG, "--ledger", path).exit_code == 1
    lost: type[Rule] = next(rule for rule in RULES if rule.name == "lost-update")
    monkeypatch.setattr(lost, "severity", "warning")
    result = run("rejudge", "--ledger", path, "-o", "json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert document["changed"] and document["compared_with"] == "views" and document["first"] is None
    assert document["before"] == document["today"]
    (row,) = [row for row in document["findings"]["changed"] if row["name"] == "lost-update"]
    assert (row["was"]["severity"], row["is"]["severity"]) == ("error", "warning")
    with backends.opened(str(path), "read") as store:
        head = store.recorder.head()
    assert "written" in run("rejudge", "--ledger", path, "--write").stdout
    with backends.opened(str(path), "read") as store:
        assert store.recorder.head() == head, "no event is another one, so none is written"
    assert "nothing changes" in run("rejudge", "--ledger", path).stdout


def test_commands_that_were_admitted_stay(place, tmp_path, older_table):
    app.replay(store_of(place), [str(LOG)])
    made = Command(event="VPCCreated", key=Key("vpc", "", "mine"), identity="1", actor="alice", time=1)
    place.recorder.append([codec.encode(event) for event in decide_command(World(), made)])
    older_table.undo()
    rejudge(store_of(place), tmp_path, write=True)
    events = [placed.event for placed in Ledger(place.recorder).events()]
    assert [event.record for event in events if event.order is None] == ["command:1"]
    assert [event for event in events if event.order is not None] == replayed(RECORDING).events
    assert not rejudge(store_of(place), tmp_path)["changed"]


@pytest.mark.parametrize("batches", range(4))
def test_a_verdict_written_in_part_is_finished_by_the_next(place, tmp_path, older_table, monkeypatch, batches):
    app.replay(store_of(place), [str(LOG)])
    older_table.undo()
    monkeypatch.setattr(rejudging, "BATCH_EVENTS", 2)
    append, left = place.recorder.append, [batches]

    def stopping(events, condition=None):
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("killed here")
        return append(events, condition)

    with monkeypatch.context() as patch:
        patch.setattr(place.recorder, "append", stopping)
        with pytest.raises(StoreError, match="killed here"):
            rejudge(store_of(place), tmp_path, write=True)
    rejudge(store_of(place), tmp_path, write=True)
    assert fold(Ledger(place.recorder)).digest == replayed(RECORDING).digest
    assert not rejudge(store_of(place), tmp_path)["changed"]


def test_what_another_writer_appended_meanwhile_is_not_superseded(place, tmp_path, older_table):
    app.replay(store_of(place), [str(LOG)])
    older_table.undo()
    with rejudging.rejudged(store_of(place)) as verdict:
        made = Command(event="VPCCreated", key=Key("vpc", "", "mine"), identity="1", actor="alice", time=1)
        place.recorder.append([codec.encode(event) for event in decide_command(World(), made)])
        before = log_of(place)
        with pytest.raises(StoreError, match="another writer appended"):
            rejudging.written(verdict)
    assert log_of(place) == before


def test_judging_again_is_the_same_whichever_version_of_the_envelope_holds_an_event(place, monkeypatch):
    """A netledger that writes another schema version into every event has not judged otherwise."""
    app.replay(store_of(place), [str(LOG)])
    head = place.recorder.head()
    original = decide

    def newer(world, operation):
        return [msgspec.structs.replace(event, schema=0) for event in original(world, operation)]

    monkeypatch.setattr(judging, "decide", newer)
    judge(place.journal, Ledger(place.recorder), again=True)
    assert place.recorder.head() == head


# ---- the command


def test_the_command_tells_people_in_80_columns_and_programs_in_json(tmp_path, older_table):
    path = tmp_path / "kept.ledger"
    run("replay", LOG, "--ledger", path)
    older_table.undo()
    result = run("rejudge", "--ledger", path)
    assert result.exit_code == 1 and result.stderr == ""
    assert "Nothing is written." in result.stdout
    assert "Findings that are gone: " in result.stdout and "Refusals that are gone: 1" in result.stdout
    assert "netledger rejudge --write" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if "/" not in line)
    document = json.loads(run("rejudge", "--ledger", path, "-o", "json").stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    result = run("rejudge", "--ledger", path, "--write", "-o", "json")
    assert json.loads(result.stdout) == document | {"written": True}
    assert run("findings", "--ledger", path).stdout == run("findings", "--ledger", fresh(tmp_path)).stdout
    assert run("verify", "--ledger", path).exit_code == 0
    assert "nothing changes" in run("rejudge", "--ledger", path).stdout


def fresh(folder: Path) -> Path:
    """The same log, replayed under the tables of today."""
    path = folder / "fresh.ledger"
    run("replay", LOG, "--ledger", path)
    return path


def test_rejudging_a_ledger_that_may_not_be_written_is_fine_until_it_is_to_be_written(tmp_path, older_table):
    path = tmp_path / "kept.ledger"
    run("replay", LOG, "--ledger", path)
    older_table.undo()
    with backends.opened(str(path)):
        assert run("rejudge", "--ledger", path).exit_code == 1
        result = run("rejudge", "--ledger", path, "--write")
        assert result.exit_code == 2 and "for writing" in result.stderr


def test_the_schema_allows_nothing_that_it_does_not_name():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def objects(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            if "properties" in part and part.get("type") == "object":
                yield part
            for inside in part.values():
                yield from objects(inside)
        elif isinstance(part, list):
            for inside in part:
                yield from objects(inside)

    for part in objects(SCHEMA):
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])
        assert all("description" in field or "$ref" in field for field in part["properties"].values())
