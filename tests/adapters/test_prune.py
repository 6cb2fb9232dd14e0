"""Old events dropped from a ledger: what is left reads, verifies and is proved as before, and what is gone is not missed."""

import gzip
import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from adapters import app, proof, reading_codec, report, retention
from adapters.app import Outcome, Store
from adapters.authority import Authority
from adapters.cli import cli
from adapters.judging import fold
from adapters.ledger import Moment, verify
from adapters.ports import Base, LedgerDamaged, Problem, StoreError
from adapters.proof import NotAProof
from adapters.pruned import LATE
from adapters.retention import Cut, NothingToPrune, Plan
from adapters.stores.event_block import beside, content_hash, inner_hash, levels_over, path_in, root_over
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from domain.decide import Command
from domain.resources import Key
from tests.adapters.conftest import LONG_SEARCH

# ---- one block


@given(st.lists(st.lists(st.booleans(), min_size=70, max_size=70), max_size=3), st.integers(1, 70))
def test_what_is_kept_of_a_block_leads_to_its_root_however_often_it_is_pruned(prunings, events):
    leaves = [content_hash(b"%d" % n) for n in range(events)]
    levels, kept, given_then = levels_over(leaves), set(range(events)), []
    for keep in prunings:
        kept &= {place for place, is_kept in enumerate(keep) if is_kept}
        given_then = beside(levels, kept)
        levels = levels_over([leaf if n in kept else None for n, leaf in enumerate(leaves)], iter(given_then))
    assert len(given_then) <= len(kept) * events.bit_length()
    assert levels[-1] == [root_over(leaves) if kept else None]
    for place in kept:
        led = leaves[place]
        for is_left, hash in path_in(levels, place):
            led = inner_hash(hash, led) if is_left else inner_hash(led, hash)
        assert led == root_over(leaves)


# ---- the recorder

COUNTS = (1, 13, 1, 2, 3, 5, 1, 1, 1, 30, 40)
EVENTS = sum(COUNTS)


def event_at(position: int) -> DCBEvent:
    return DCBEvent(f"T{position % 3}", b"<%d>" % position, [f"n:{position}", f"odd:{position % 2}"])


@pytest.fixture
def recorder(ledger_file: SQLiteFile) -> SQLiteRecorder:
    """Events 1 to 98 in blocks of 1 to 40."""
    recorder = SQLiteRecorder(ledger_file)
    position = 0
    for count in COUNTS:
        recorder.append([event_at(n) for n in range(position + 1, position + count + 1)])
        position += count
    return recorder


def heads(recorder: SQLiteRecorder) -> list[int]:
    return [position for position in range(1, recorder.head() + 1) if recorder.seal(position) is not None]


def there(recorder: SQLiteRecorder, query: DCBQuery | None = None, after: int = 0) -> list[int]:
    found = list(recorder.read(query, after=after))
    assert all(one.event == event_at(one.position) for one in found)
    return [one.position for one in found]


# Position 61 lies in the middle of the last block, of 59 to 98.
UPTO, KEEP = 61, [1, 2, 9, 14, 21, 40, 58]
LEFT = [*KEEP, *range(UPTO + 1, EVENTS + 1)]


def test_reading_skips_what_was_dropped_and_nothing_behind_the_base(recorder):
    odd = DCBQuery(items=[DCBQueryItem(tags=["odd:1"])])
    assert there(recorder, odd) == list(range(1, EVENTS + 1, 2))  # the blocks are held in memory now
    recorder.prune(Base(UPTO, b"what they add up to"), KEEP)
    assert there(recorder) == LEFT
    assert there(recorder, after=20) == [n for n in LEFT if n > 20]
    assert [one.position for one in recorder.read(after=2, limit=3)] == [9, 14, 21]
    assert there(recorder, odd) == [n for n in LEFT if n % 2]
    assert there(recorder, DCBQuery(items=[DCBQueryItem(types=["T0"])])) == [n for n in LEFT if n % 3 == 0]
    assert there(recorder, DCBQuery(items=[DCBQueryItem(tags=["n:3"])])) == []
    assert recorder.head() == EVENTS
    assert recorder.base() == Base(UPTO, b"what they add up to")


def test_what_is_appended_after_a_pruning_takes_the_next_positions_and_its_condition_still_holds(recorder):
    recorder.prune(Base(EVENTS, b""), [5])
    odd = DCBQuery(items=[DCBQueryItem(tags=["odd:1"])])
    assert recorder.append([event_at(EVENTS + 1)], DCBAppendCondition(odd, after=EVENTS)) == EVENTS + 1
    with pytest.raises(IntegrityError):
        recorder.append([event_at(EVENTS + 2)], DCBAppendCondition(odd, after=EVENTS))
    subscription = recorder.subscribe(after=0)
    assert [next(subscription).position for _ in range(2)] == [5, EVENTS + 1]
    subscription.stop()
    assert list(recorder.verify()) == []


def test_every_head_and_every_proof_of_what_is_kept_is_what_it_was(recorder, ledger_path):
    before = {position: recorder.seal(position) for position in heads(recorder)}
    told = {
        (position, upto): recorder.prove(position, upto) for upto in before for position in LEFT if position <= upto
    }
    recorder.prune(Base(UPTO, b""), KEEP)
    assert {position: recorder.seal(position) for position in heads(recorder)} == before
    for (position, upto), proof_then in told.items():
        assert recorder.prove(position, upto) == proof_then
        proof.check(proof_then)
    assert list(recorder.verify()) == []


def test_a_dropped_event_is_not_proved_and_is_said_to_have_been_pruned(recorder):
    recorder.prune(Base(UPTO, b""), KEEP)
    for position in set(range(1, EVENTS + 1)) - set(LEFT):
        with pytest.raises(StoreError, match=f"position {position}: it was dropped when the ledger was pruned up to"):
            recorder.prove(position)


def test_pruning_again_drops_more_and_leaves_the_heads_as_they_were(recorder, ledger_path):
    chance = random.Random(4)
    before = {position: recorder.seal(position) for position in heads(recorder)}
    left = list(range(1, EVENTS + 1))
    for upto in (1, 20, 28, 28, 58, EVENTS):
        keep = sorted(chance.sample([n for n in left if n <= upto], k=min(upto, 9) // 2))
        recorder.prune(Base(upto, b"%d" % upto), keep)
        left = [n for n in left if n in keep or n > upto]
        assert there(recorder) == left
        assert list(recorder.verify()) == []
        assert {position: recorder.seal(position) for position in heads(recorder)} == before
        for position in left:
            proof.check(recorder.prove(position))
    with SQLiteFile(ledger_path.with_name("other.ledger")) as file:
        assert SQLiteRecorder(file).base() is None


def test_what_was_dropped_is_in_no_byte_of_the_file_any_more(ledger_path):
    secret = random.Random(7).randbytes(2000)
    with SQLiteFile(ledger_path) as file:
        recorder = SQLiteRecorder(file)
        recorder.append([DCBEvent("T", secret, ["n:1"])])
        recorder.append([event_at(2)])
        recorder.prune(Base(1, b""), [])
        assert not any(secret[:50] in path.read_bytes() for path in ledger_path.parent.iterdir())
    assert secret[:50] not in ledger_path.read_bytes()


def test_a_reader_that_was_open_while_events_were_dropped_says_so_and_skips_nothing_in_silence(recorder, ledger_path):
    with SQLiteFile(ledger_path, "read") as file:
        reader = SQLiteRecorder(file)
        assert len(there(reader, after=EVENTS - 1)) == 1
        recorder.prune(Base(UPTO, b""), KEEP)
        with pytest.raises(StoreError, match=r"was pruned since it was opened.*open it again"):
            list(reader.read())
        with pytest.raises(StoreError, match="open it again"):
            list(reader.read(DCBQuery(items=[DCBQueryItem(tags=["odd:1"])])))
        assert there(reader, after=UPTO) == list(range(UPTO + 1, EVENTS + 1))
    with SQLiteFile(ledger_path, "read") as file:
        assert there(SQLiteRecorder(file)) == LEFT


# ---- damage


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1


def flip(column: str, table: str, where: str, byte: int) -> str:
    """A statement that changes one byte in a blob."""
    rest = f"substr({column}, {byte + 1})"
    return (
        f"UPDATE {table} SET {column} = CAST(substr({column}, 1, {byte - 1}) || "
        f"CASE substr({column}, {byte}, 1) WHEN x'00' THEN x'01' ELSE x'00' END || {rest} AS BLOB) WHERE {where}"
    )


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        *[pytest.param(flip("content", "event_block", "first = 2", n), 2, id=f"byte {n}") for n in (9, 17, 30, 60, 90)],
        pytest.param(flip("original", "event_block", "first = 2", 5), 2, id="what it held"),
        pytest.param(flip("original", "event_block", "first = 18", 5), 18, id="what one held that kept nothing"),
        pytest.param(flip("root", "event_block", "first = 18", 5), 18, id="the root over what is gone"),
        pytest.param("UPDATE event_block SET original = NULL WHERE first = 2", 2, id="passed off as whole"),
        pytest.param("UPDATE event_block SET content = x'' WHERE first = 2", None, id="what was kept dropped"),
        pytest.param("DELETE FROM event_block WHERE first = 18", 18, id="an empty block dropped"),
        pytest.param(flip("content", "base", "id = 1", 3), None, id="what they add up to"),
        pytest.param(flip("kept", "base", "id = 1", 3), None, id="the hash over what is kept"),
        pytest.param("UPDATE base SET position = 98 WHERE id = 1", None, id="pruned up to elsewhere"),
        pytest.param("DELETE FROM base", 1, id="the base dropped"),
    ],
)
def test_verify_finds_what_is_changed_in_a_pruned_ledger(recorder, ledger_file, ledger_path, statement, place):
    recorder.prune(Base(UPTO, b"what they add up to"), KEEP)
    ledger_file.close()
    changed(ledger_path, statement)
    with SQLiteFile(ledger_path, "read") as file:
        problems = list(SQLiteRecorder(file).verify())
    assert problems
    assert problems[0].number == place


def test_a_base_that_is_not_what_was_written_is_not_given_out(recorder, ledger_file, ledger_path):
    recorder.prune(Base(UPTO, b"what they add up to"), KEEP)
    ledger_file.close()
    changed(ledger_path, flip("content", "base", "id = 1", 3))
    with SQLiteFile(ledger_path, "read") as file, pytest.raises(LedgerDamaged, match="added up to"):
        SQLiteRecorder(file).base()


def test_a_damaged_block_stops_the_pruning_and_the_ledger_is_as_it_was(recorder, ledger_file, ledger_path):
    ledger_file.close()
    changed(ledger_path, flip("content", "event_block", "first = 29", 9))
    with SQLiteFile(ledger_path) as file:
        recorder = SQLiteRecorder(file)
        with pytest.raises(LedgerDamaged, match="block of event 29"):
            recorder.prune(Base(UPTO, b""), KEEP)
        assert recorder.base() is None
        assert [one.position for one in recorder.read(limit=20)] == list(range(1, 21))


def test_a_proof_of_what_was_kept_does_not_pass_for_another_event(recorder):
    recorder.prune(Base(UPTO, b""), KEEP)
    kept = recorder.prove(9)
    with pytest.raises(NotAProof):
        proof.check(type(kept)(**{**{name: getattr(kept, name) for name in kept.__struct_fields__}, "data": b"<8>"}))


# ---- the ledger and what is asked of it

DATA = Path(__file__).parents[1] / "incidents" / "data"
RECORDINGS = sorted(path.parent.name for path in DATA.glob("*/audit.log.gz"))
SCHEMA = json.loads((Path(report.__file__).parent / "schemas" / "replay-v1.json").read_text())
SHARES = (0.2, 0.5, 0.8, 1.0)


def files_of(name: str) -> list[str]:
    """The sources of a recording: its audit logs, what watches showed, its nodes' ipsets."""
    return [str(path) for path in sorted((DATA / name).iterdir()) if path.name.startswith(("audit", "watch.", "ipset"))]


def answers(store: Store, outcome: Outcome) -> dict[str, Any]:
    """All that is told, but for what has to differ: the digest, and that something was pruned."""
    told = report.document(store, outcome)
    del told["sources"], told["ledger"]["digest"], told["coverage"]["pruned"]
    return {**told, "activity": outcome.judged.reading.trail.by_actor}


def asked(path: Path) -> dict[str, Any]:
    """What is told of a kept ledger to who asks, by folding it."""
    with app.opened(str(path), "read") as store:
        return answers(store, app.conclude(store, fold(store.ledger), []))


def replayed(path: Path, files: Sequence[str]) -> dict[str, Any]:
    with app.opened(str(path)) as store:
        return answers(store, app.replay(store, files))


def position_at(path: Path, share: float) -> int:
    with app.opened(str(path), "read") as store:
        positions = [placed.position for placed in store.ledger.events()]
        return positions[int(len(positions) * share)] if share < 1 else positions[-1] + 1


def pruned_at(path: Path, position: int) -> Plan:
    """Raises `NothingToPrune`."""
    with app.opened(str(path)) as store:
        plan = retention.planned(store.recorder, store.journal, store.ledger, Cut(None, position))
        retention.prune(store.recorder, plan)
        return plan


def problems_of(path: Path, attestation: proof.Attestation | None = None) -> list[Problem]:
    with app.opened(str(path), "read") as store:
        found = [*store.container.verify(), *store.recorder.verify(), *store.journal.verify()]
        found += verify(store.recorder)
        if attestation is not None:
            found += proof.against(store.recorder, attestation)
        return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A recording replayed into a ledger, once; tests work on copies."""

    @cache
    def of(name: str) -> Path:
        path = tmp_path_factory.mktemp(name) / "whole.ledger"
        replayed(path, files_of(name))
        return path

    return of


@pytest.mark.parametrize("name", RECORDINGS)
def test_all_that_is_told_of_a_recording_is_the_same_when_its_old_events_are_gone(name, whole, tmp_path):
    before = asked(whole(name))
    with app.opened(str(whole(name)), "read") as store:
        attestation = proof.attested(store.recorder, "shop")
        cited = {witness["position"] for finding in before["findings"] for witness in finding["witnesses"]}
    path = Path(shutil.copy(whole(name), tmp_path / "shop.ledger"))
    dropped = 0
    for share in SHARES if name != "mixed-seed7" or LONG_SEARCH else SHARES[-2:]:  # pruned again and again
        try:
            dropped += pruned_at(path, position_at(whole(name), share)).events
        except NothingToPrune:
            assert share < SHARES[-1]
            continue
        assert asked(path) == before, share
        assert problems_of(path, attestation) == [], share
        with app.opened(str(path), "read") as store:
            assert store.ledger.base is not None
            assert store.ledger.base.dropped == dropped
            assert sum(1 for _ in store.recorder.read()) == store.recorder.head() - dropped
            for position in cited:
                proof.check(store.recorder.prove(position, attestation.position))
    assert replayed(path, files_of(name)) == before
    with app.opened(str(path), "read") as store:
        assert store.recorder.head() == attestation.position


@pytest.mark.parametrize("name", RECORDINGS if LONG_SEARCH else [name for name in RECORDINGS if name != "mixed-seed7"])
def test_each_resource_keeps_its_first_and_its_last_event(name, whole, tmp_path):
    path = Path(shutil.copy(whole(name), tmp_path / "shop.ledger"))
    with app.opened(str(path), "read") as store:
        every = [(placed.at, placed.position, placed.data) for placed in store.ledger.events()]
        of: dict[Any, list[int]] = {}
        for placed in store.ledger.events():
            of.setdefault((placed.event.key, placed.event.uid), []).append(placed.position)
    pruned_at(path, position_at(path, 1.0))
    with app.opened(str(path), "read") as store:
        kept = [(placed.at, placed.position, placed.data) for placed in store.ledger.kept()]
        assert set(kept) < set(every)
        positions = {position for _, position, _ in kept}
        assert all({positions_of[0], positions_of[-1]} <= positions for positions_of in of.values())
        assert list(store.ledger.events()) == []
        for at, position, data in kept[:: len(kept) // 50 + 1]:
            assert store.ledger.event_at(at)[:2] == (at, position)
            assert store.ledger.event_at(at).data == data
        at, position, _ = next(one for one in every if one[1] not in positions)
        with pytest.raises(StoreError, match=f"position {position} .* was pruned"):
            store.ledger.event_at(at)


@pytest.mark.parametrize("name", ["mixed-small", "s4-buggy", "s2-buggy-A", "quirks-truncate"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_what_comes_later_is_judged_as_if_nothing_had_been_pruned(name, share, whole, tmp_path):
    lines = gzip.decompress((DATA / name / "audit.log.gz").read_bytes()).splitlines(keepends=True)
    with app.opened(str(whole(name)), "read") as store:
        recognised = sorted(entry.line for entry in store.journal.read() if b'"auditID"' in entry.payload)
    first, rest = tmp_path / "first.log", tmp_path / "rest.log"
    middle = recognised[len(recognised) // 2]
    first.write_bytes(b"".join(lines[:middle]))
    rest.write_bytes(b"".join(lines[middle:]))
    path, control = tmp_path / "shop.ledger", tmp_path / "control.ledger"
    replayed(path, [str(first)])
    shutil.copy(path, control)
    pruned_at(path, position_at(path, share))
    told, wanted = replayed(path, [str(rest)]), replayed(control, [str(rest)])
    assert told["coverage"] == wanted["coverage"]
    assert told == wanted
    assert problems_of(path) == []


def test_a_record_that_belongs_before_what_was_pruned_is_kept_aside_and_said_to_be(tmp_path):
    lines = gzip.decompress((DATA / "s4-buggy" / "audit.log.gz").read_bytes()).splitlines(keepends=True)
    path, late, rest = tmp_path / "shop.ledger", tmp_path / "late.log", tmp_path / "rest.log"
    chosen = next(n for n, line in enumerate(lines) if b'"verb":"patch"' in line and b'"code":200' in line)
    late.write_bytes(lines[chosen])
    rest.write_bytes(b"".join(lines[:chosen] + lines[chosen + 1 :]))
    before = replayed(path, [str(rest)])
    pruned_at(path, position_at(path, 0.9))
    for _ in range(2):  # again, and told once
        with app.opened(str(path)) as store:
            outcome = app.replay(store, [str(late)])
            assert outcome.judged.late == 1
            (aside,) = [one for one in store.journal.kept_aside() if one.reason.startswith(LATE)]
            assert (aside.path, aside.line) == (str(late), 1)
            told = report.document(store, outcome)
            assert told["coverage"]["pruned"]["late"] == 1
            assert app.conclude(store, fold(store.ledger), []).findings == outcome.findings
            jsonschema.validate(told, SCHEMA, cls=jsonschema.Draft202012Validator)
            assert [one["id"] for one in told["findings"]] == [one["id"] for one in before["findings"]]
    pruned_at(path, position_at(path, 1.0))
    with app.opened(str(path)) as store:
        outcome = app.replay(store, [str(rest)])
        assert outcome.judged.late == 1
        assert any(entry.payload == lines[chosen].rstrip(b"\n") for entry in store.journal.read())
    assert problems_of(path) == []


@pytest.mark.parametrize(("first", "then"), [("audit.log.gz", "watch.jsonl.gz"), ("watch.jsonl.gz", "audit.log.gz")])
def test_another_source_of_what_was_pruned_is_kept_aside_whole_and_changes_nothing(first, then, tmp_path):
    path = tmp_path / "shop.ledger"
    before = replayed(path, [str(DATA / "s4-buggy" / first)])
    pruned_at(path, position_at(path, 1.0))
    with app.opened(str(path)) as store:
        records = store.journal.head()
        outcome = app.replay(store, [str(DATA / "s4-buggy" / then)])
        told = report.document(store, outcome)
        came = store.journal.head() - records
        assert came > 20
        # What sorts behind the cut is judged: no source knows when another one ends.
        assert came - 12 <= outcome.judged.late <= came
        assert told["coverage"]["pruned"]["late"] == outcome.judged.late
        named = [(one["rule"], one["resource"], one["status"]) for one in told["findings"]]
        assert [(one["rule"], one["resource"], one["status"]) for one in before["findings"]] == named
    assert problems_of(path) == []
    rebuilt = run("rebuild", "--ledger", str(path))  # opened for reading, and nothing is left to be said
    assert rebuilt.exit_code == 0, rebuilt.stderr


def test_what_was_commanded_stays_and_is_told_when_it_is_commanded_again(tmp_path):
    path, control = tmp_path / "shop.ledger", tmp_path / "control.ledger"
    commands = [
        Command(
            event="VPCCreated", key=Key("vpc", "", f"extra-{n}"), identity=f"c{n}", actor="alice", time=n, fields={}
        )
        for n in range(1, 9)
    ]
    with app.opened(str(path)) as store:
        authority = Authority(store.recorder, store.journal)
        then = [authority.execute(command) for command in commands[:5]]
        app.replay(store, [str(DATA / "s4-buggy" / "audit.log.gz")])
    shutil.copy(path, control)
    before = asked(path)
    assert pruned_at(path, position_at(path, 1.0)).events > 20
    assert asked(path) == before
    for place in (path, control):
        with app.opened(str(place)) as store:
            authority = Authority(store.recorder, store.journal)
            assert [authority.execute(command) for command in commands[:5]] == then
            assert all(authority.execute(command).admitted for command in commands[5:])
    assert asked(path) == asked(control)
    assert problems_of(path) == []


def test_superseded_generations_go_and_the_places_of_the_current_one_stay(tmp_path):
    lines = gzip.decompress((DATA / "s4-buggy" / "audit.log.gz").read_bytes()).splitlines(keepends=True)
    files = []
    for number in (2, 0, 1):  # each comes before the one that was read last, or in its midst
        files.append(tmp_path / f"{number}.log")
        files[-1].write_bytes(b"".join(lines[number::3]))
    path = tmp_path / "shop.ledger"
    for file in files:
        before = replayed(path, [str(file)])
    assert before["ledger"]["generation"] > 1
    plan = pruned_at(path, position_at(path, 0.9))
    assert plan.events > 50
    assert asked(path) == before
    assert problems_of(path) == []
    assert replayed(path, [str(file) for file in files]) == before


def test_the_payloads_of_what_is_decided_go_with_it_and_a_repeat_is_still_told(whole, tmp_path):
    path = Path(shutil.copy(whole("mixed-small"), tmp_path / "shop.ledger"))
    with app.opened(str(path), "read") as store:
        before = list(store.journal.read())
    pruned_at(path, position_at(path, 0.5))
    with app.opened(str(path)) as store:
        after = list(store.journal.read())
        gone = [entry for entry in after if entry.heads]
        assert len(before) // 3 < len(gone) < len(before)
        assert all(not entry.payload for entry in gone)
        assert [entry for entry in after if not entry.heads] == [
            one for one in before if not after[one.number - 1].heads
        ]
        assert [(one.number, one.identity, one.line) for one in after] == [
            (b.number, b.identity, b.line) for b in before
        ]
        outcome = app.replay(store, files_of("mixed-small"))
        assert sum(tally.duplicates for tally in outcome.tallies) == len(before)
        assert store.journal.head() == len(before)


def test_a_moment_before_what_was_pruned_is_refused_and_a_later_one_is_answered(whole, tmp_path):
    path = Path(shutil.copy(whole("s4-buggy"), tmp_path / "shop.ledger"))
    pruned_at(path, position_at(path, 0.5))
    with app.opened(str(path), "read") as store, app.opened(str(whole("s4-buggy")), "read") as control:
        base = store.ledger.base
        assert base is not None
        assert store.checkpoints is not None
        for moment in (Moment(base.latest - 1, None), Moment(None, base.anchor - 1)):
            for ask in (partial(fold, store.ledger), store.checkpoints.world_at):
                with pytest.raises(StoreError, match="was pruned from this ledger on"):
                    ask(moment)
        for moment in (Moment(base.latest, None), Moment(base.latest + 3_000_000, None), Moment(None, base.anchor + 2)):
            wanted = fold(control.ledger, moment).reading
            world, at = store.checkpoints.world_at(moment)
            assert fold(store.ledger, moment).reading.at == wanted.at == at
            for key, resource in wanted.world.live.items():
                of_checkpoint = store.checkpoints.resource_at(key, moment)
                assert of_checkpoint is not None
                assert of_checkpoint.fields == world.live[key].fields == resource.fields


def test_what_is_remembered_comes_back_as_it_was_and_other_rules_than_these_refuse_it(whole, monkeypatch):
    with app.opened(str(whole("mixed-small")), "read") as store:
        reading = fold(store.ledger).reading
    content, places = reading_codec.encode(reading)
    back = reading_codec.decode(content)
    assert reading_codec.encode(back) == (content, places)
    assert back.memberships is back.judge.rules[6].memberships  # type: ignore[attr-defined]  # shared as it was
    assert {resource.born_at for resource in reading.world.live.values()} <= places
    # A snapshot asks for no places, and takes the resources in another way: what comes back is the same.
    snapshot, _ = reading_codec.packed(reading)
    assert snapshot != content
    back = reading_codec.unpacked(snapshot)
    assert (reading_codec.packed(back)[0], reading_codec.encode(back)[1]) == (snapshot, places)
    with pytest.raises(LedgerDamaged):
        reading_codec.decode(content[:-5])
    monkeypatch.setattr(reading_codec, "_declared", lambda kind: ("something", "else"))
    with pytest.raises(StoreError, match="pruned by another netledger, whose rules remember other things"):
        reading_codec.decode(content)


def test_there_is_nothing_to_prune_where_nothing_lies_before(whole, tmp_path):
    path = Path(shutil.copy(whole("s0-buggy"), tmp_path / "shop.ledger"))
    with app.opened(str(path)) as store, pytest.raises(NothingToPrune, match="no event before that"):
        retention.planned(store.recorder, store.journal, store.ledger, Cut(Moment(1, None)))


# ---- killed

KILLS = 60 if LONG_SEARCH else 6


def test_a_ledger_whose_pruning_was_killed_is_as_it_was_or_pruned_and_tells_the_same(whole, tmp_path):
    before = asked(whole("mixed-small"))
    position = position_at(whole("mixed-small"), 1.0)
    chance = random.Random()
    for kill in range(KILLS):
        path = Path(shutil.copy(whole("mixed-small"), tmp_path / f"{kill}.ledger"))
        command = [sys.executable, "-m", "tests.adapters.prune_child", str(path), str(position)]
        # On average it takes some 50 ms to rewrite and give the space back.
        delay = chance.uniform(0, 0.06)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert process.stdout.readline().startswith(b"begun")
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            done = b"done" in process.stdout.read()
        told = f"killed {delay:.4f} s after it began to write"
        with app.opened(str(path)) as store:
            is_pruned = store.ledger.base is not None
            assert is_pruned or not done, told
        assert problems_of(path) == [], told
        assert asked(path) == before, told
        if not is_pruned:
            pruned_at(path, position)
            assert asked(path) == before, told


# ---- the command line


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def kept(whole, tmp_path) -> str:
    return str(shutil.copy(whole("mixed-small"), tmp_path / "shop.ledger"))


def test_prune_says_what_would_go_and_does_nothing_without_a_yes(kept):
    before = Path(kept).read_bytes()
    asked_for = run("prune", "--before", "position:1000", "--ledger", kept)
    assert asked_for.exit_code == 2
    assert re.search(
        r"would drop [\d,]+ of 1,334 events \([\d,]+ bytes\) from 2026-\S+Z to 2026-\S+Z, up to position 999, and what "
        r"[\d,]+ records said from .*shop\.ledger; [\d,]+ of the events up to there would stay",
        asked_for.stderr,
    )
    assert "nothing was dropped; add --yes to do it" in asked_for.stderr
    assert Path(kept).read_bytes() == before


def test_prune_with_yes_drops_and_every_question_is_answered_as_before_but_for_what_is_gone(kept, tmp_path):
    questions = [
        ("findings", "-o", "json"),
        ("get", "subnets", "-o", "json"),
        ("get", "vpcs", "-o", "json"),
        ("get", "eips", "-o", "json"),
    ]
    before = [run(*question, "--ledger", kept).stdout for question in questions]
    head = tmp_path / "head.json"
    head.write_text(run("attest", "--ledger", kept).stdout)
    pruned = run("prune", "--before", "position:1200", "--yes", "--ledger", kept)
    assert pruned.exit_code == 0, pruned.stderr
    assert re.search(r"dropped \d+ of 1,334 events .* has [\d,]+ bytes now instead of [\d,]+", pruned.stdout)
    assert [run(*question, "--ledger", kept).stdout for question in questions] == before
    assert "; pruned before 2026-" in run("get", "vpcs", "--ledger", kept).stderr
    verified = run("verify", "--every-event", "--against", str(head), "--ledger", kept)
    assert verified.exit_code == 0, verified.stderr
    again = run("prune", "--before", "position:1200", "--yes", "--ledger", kept)
    assert again.exit_code == 0
    assert "nothing was dropped from" in again.stdout
    rebuilt = run("rebuild", "--ledger", kept)
    assert rebuilt.exit_code == 0, rebuilt.stderr
    assert [run(*question, "--ledger", kept).stdout for question in questions] == before


def test_history_and_get_at_say_that_events_were_pruned(kept):
    with app.opened(kept, "read") as store:
        keys = Counter(placed.event.key for placed in store.ledger.events() if placed.event.key.kind == "vpc")
    name = keys.most_common(1)[0][0].name
    whole_history = json.loads(run("history", f"vpc/{name}", "-o", "json", "--ledger", kept).stdout)
    run("prune", "--before", "position:1200", "--yes", "--ledger", kept)
    history = run("history", f"vpc/{name}", "-o", "json", "--ledger", kept)
    rows = json.loads(history.stdout)
    assert rows[0] == whole_history[0]
    assert rows[-1] == whole_history[-1]
    assert len(rows) < len(whole_history)
    assert f"vpc/{name}: events before 2026-" in history.stderr
    then = run("get", "vpcs", "--at", str(rows[0]["revision"]), "--ledger", kept)
    assert then.exit_code == 2
    assert "was pruned from this ledger on" in then.stderr


@pytest.mark.parametrize(
    "command", [("copy", "--to", "other.ledger"), ("export", "x.netledger"), ("export",), ("rejudge",)], ids=" ".join
)
def test_what_needs_all_records_is_refused_on_a_pruned_ledger(kept, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("prune", "--before", "position:1200", "--yes", "--ledger", kept)
    where = ("--from", kept) if command[0] == "copy" else ("--ledger", kept)
    refused = run(*command, *where)
    assert refused.exit_code == 2
    assert "were pruned from this ledger, so it cannot" in refused.stderr


def test_events_of_a_pruned_ledger_are_still_printed_kept_ones_first(kept):
    whole_export = [json.loads(line) for line in run("export", "-o", "jsonl", "--ledger", kept).stdout.splitlines()]
    run("prune", "--before", "position:1200", "--yes", "--ledger", kept)
    export = [json.loads(line) for line in run("export", "-o", "jsonl", "--ledger", kept).stdout.splitlines()]
    assert len(export) < len(whole_export)
    assert [one for one in whole_export if one in export] == export
    assert export[-134:] == whole_export[-134:]


@pytest.mark.parametrize(
    ("before", "told"),
    [("position:x", "names no position"), ("yesterday", "is neither a revision"), ("position:1", None), ("1", None)],
)
def test_a_cut_that_cannot_be_meant_is_refused_and_one_before_everything_drops_nothing(kept, before, told):
    result = run("prune", "--before", before, "--yes", "--ledger", kept)
    if told is None:
        assert result.exit_code == 0
        assert "nothing was dropped from" in result.stdout
    else:
        assert result.exit_code == 2
        assert told in result.stderr


def test_a_server_that_keeps_a_chain_says_how_to_prune_its_ledger(redis_address):
    with app.opened(redis_address()) as store, pytest.raises(StoreError, match="netledger copy"):
        retention.planned(store.recorder, store.journal, store.ledger, Cut(None, 5))


# ---- for ever


def test_a_ledger_that_the_first_release_pruned_still_opens_and_tells_what_it_told(tmp_path):
    path = Path(shutil.copy(Path(__file__).parent / "data" / "pruned-1.ledger", tmp_path / "shop.ledger"))
    shutil.copy(DATA / "s4-buggy" / "audit.log.gz", tmp_path / "audit.log.gz")
    before = asked(path)
    assert [(one["rule"], one["resource"]["name"], one["status"]) for one in before["findings"]] == [
        ("NL106", "eip-1", "open")
    ]
    assert problems_of(path) == []
    with app.opened(str(path)) as store:
        base = store.ledger.base
        assert base is not None
        assert (base.at, base.by, base.dropped) == (99, "somebody", 51)
        outcome = app.replay(store, [str(tmp_path / "audit.log.gz")])
        assert answers(store, outcome)["findings"] == before["findings"]


def test_what_rules_and_projections_remember_is_what_the_first_release_kept():
    """Where this fails, ledgers that were pruned cannot be read any more: say in `reading_codec` how to translate them."""
    kept = json.loads((Path(__file__).parents[1] / "golden" / "remembered.json").read_text())
    known = {
        name: sorted(reading_codec._declared(kind)) for name, kind in reading_codec._classes().items() if name in kept
    }
    assert known == kept
