"""Old events dropped from a ledger: what is left reads, verifies and is proved as before, and what is gone is not missed."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.persistence import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from adapters import proof
from adapters.ports import Base, LedgerDamaged, StoreError
from adapters.proof import NotAProof
from adapters.stores.event_block import beside, content_hash, inner_hash, levels_over, path_in, root_over
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder

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


# Up to 16 lies in the middle of the block of 16 and 17, which stays whole.
UPTO, KEEP = 61, [1, 2, 9, 14, 21, 40, 58]
LEFT = [*KEEP, *range(59, EVENTS + 1)]


def test_reading_skips_what_was_dropped_and_a_block_that_reaches_behind_the_base_stays_whole(recorder):
    recorder.prune(Base(UPTO, b"what they add up to"), KEEP, {})
    assert there(recorder) == LEFT
    assert there(recorder, after=20) == [n for n in LEFT if n > 20]
    assert [one.position for one in recorder.read(after=2, limit=3)] == [9, 14, 21]
    assert there(recorder, DCBQuery(items=[DCBQueryItem(tags=["odd:1"])])) == [n for n in LEFT if n % 2]
    assert there(recorder, DCBQuery(items=[DCBQueryItem(types=["T0"])])) == [n for n in LEFT if n % 3 == 0]
    assert there(recorder, DCBQuery(items=[DCBQueryItem(tags=["n:3"])])) == []
    assert recorder.head() == EVENTS
    assert recorder.base() == Base(UPTO, b"what they add up to")


def test_what_is_appended_after_a_pruning_takes_the_next_positions_and_its_condition_still_holds(recorder):
    recorder.prune(Base(EVENTS, b""), [5], {})
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
    recorder.prune(Base(UPTO, b""), KEEP, {})
    assert {position: recorder.seal(position) for position in heads(recorder)} == before
    for (position, upto), proof_then in told.items():
        assert recorder.prove(position, upto) == proof_then
        proof.check(proof_then)
    assert list(recorder.verify()) == []


def test_a_dropped_event_is_not_proved_and_is_said_to_have_been_pruned(recorder):
    recorder.prune(Base(UPTO, b""), KEEP, {})
    for position in set(range(1, EVENTS + 1)) - set(LEFT):
        with pytest.raises(StoreError, match=f"position {position}: it was dropped when the ledger was pruned up to"):
            recorder.prove(position)


def test_pruning_again_drops_more_and_leaves_the_heads_as_they_were(recorder, ledger_path):
    chance = random.Random(4)
    before = {position: recorder.seal(position) for position in heads(recorder)}
    left = list(range(1, EVENTS + 1))
    for upto in (1, 20, 28, 28, 58, EVENTS):
        keep = sorted(chance.sample([n for n in left if n <= upto], k=min(upto, 9) // 2))
        recorder.prune(Base(upto, b"%d" % upto), keep, {})
        last_whole = max((end for end in before if end <= upto), default=0)
        left = [n for n in left if n in keep or n > last_whole]
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
        recorder.prune(Base(1, b""), [], {})
        assert not any(secret[:50] in path.read_bytes() for path in ledger_path.parent.iterdir())
    assert secret[:50] not in ledger_path.read_bytes()


def test_a_reader_that_was_open_while_events_were_dropped_says_so_and_skips_nothing_in_silence(recorder, ledger_path):
    with SQLiteFile(ledger_path, "read") as file:
        reader = SQLiteRecorder(file)
        assert len(there(reader, after=EVENTS - 1)) == 1
        recorder.prune(Base(UPTO, b""), KEEP, {})
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
    recorder.prune(Base(UPTO, b"what they add up to"), KEEP, {})
    ledger_file.close()
    changed(ledger_path, statement)
    with SQLiteFile(ledger_path, "read") as file:
        problems = list(SQLiteRecorder(file).verify())
    assert problems
    assert problems[0].number == place


def test_a_base_that_is_not_what_was_written_is_not_given_out(recorder, ledger_file, ledger_path):
    recorder.prune(Base(UPTO, b"what they add up to"), KEEP, {})
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
            recorder.prune(Base(UPTO, b""), KEEP, {})
        assert recorder.base() is None
        assert [one.position for one in recorder.read(limit=20)] == list(range(1, 21))


def test_a_proof_of_what_was_kept_does_not_pass_for_another_event(recorder):
    recorder.prune(Base(UPTO, b""), KEEP, {})
    kept = recorder.prove(9)
    with pytest.raises(NotAProof):
        proof.check(type(kept)(**{**{name: getattr(kept, name) for name in kept.__struct_fields__}, "data": b"<8>"}))
