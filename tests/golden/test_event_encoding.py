"""Events that stand in ledgers stay readable: their names, their fields and their bytes are held by a golden file."""

import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
import pytest

from adapters.ports import NewerLedger
from adapters.stores import codec
from domain.events import SCHEMA_VERSION, Event
from domain.operations import OrderKey
from domain.resources import Key
from tests.golden.samples import described, kept, kinds_of_types, sample

GOLDEN = kept()

RENAMED = (
    "{type} is in ledgers already, and this version encodes it otherwise than tests/golden/events.json says. Old ledgers "
    "must stay readable and their digests the same: take the change back, or raise SCHEMA_VERSION in domain/events.py, "
    "upcast the old form in adapters/stores/codec.py, and keep the old lines of the golden file beside the new ones."
)
GONE = (
    "{type} is in ledgers already and no table has it any more. Renaming an event is never a rename: keep the old name "
    "in its table, or upcast it to the new one in adapters/stores/codec.py."
)
NEW = "{type} is new: `python -m tests.golden.samples` adds it to tests/golden/events.json."


@pytest.mark.parametrize("event_type", GOLDEN)
def test_a_type_that_stands_in_ledgers_is_still_there(event_type):
    assert event_type in kinds_of_types(), GONE.format(type=event_type)


@pytest.mark.parametrize("event_type", kinds_of_types())
def test_every_type_is_in_the_golden_file(event_type):
    assert event_type in GOLDEN, NEW.format(type=event_type)


@pytest.mark.parametrize("event_type", sorted(GOLDEN.keys() & kinds_of_types().keys()))
def test_every_type_is_encoded_as_it_always_was(event_type):
    assert described(sample(event_type))["hex"] == GOLDEN[event_type]["hex"], RENAMED.format(type=event_type)


@pytest.mark.parametrize("event_type", sorted(GOLDEN.keys() & kinds_of_types().keys()))
def test_every_event_of_old_is_read_as_it_was_meant(event_type):
    assert codec.decode(bytes.fromhex(GOLDEN[event_type]["hex"])) == sample(event_type), RENAMED.format(type=event_type)


@pytest.mark.parametrize("event_type", GOLDEN)
def test_any_other_reader_of_message_pack_reads_the_same(event_type):
    assert msgpack.unpackb(bytes.fromhex(GOLDEN[event_type]["hex"])) == GOLDEN[event_type]["reads_as"]


def test_a_rename_or_a_reorder_of_fields_is_noticed():
    read = GOLDEN["VPCCreated"]["reads_as"]
    assert list(read)[:4] == ["type", "key", "record", "time"]
    assert read["type"] == "VPCCreated", "the type's own name, never an import path"
    assert not any("." in event_type or ":" in event_type for event_type in GOLDEN)


def event(**changes: object) -> Event:
    return Event(type="VPCCreated", key=Key("vpc", "", "shop"), record="r", time=1, **changes)  # type: ignore[arg-type]


def test_what_is_left_at_its_default_takes_no_room_and_comes_back():
    data = codec.encode(event()).data
    assert set(msgpack.unpackb(data)) - {"schema"} == {"type", "key", "record", "time"}
    assert codec.decode(data) == event()


def test_every_event_says_of_which_schema_it_is():
    assert msgpack.unpackb(codec.encode(event()).data)["schema"] == SCHEMA_VERSION


def test_an_event_of_a_newer_schema_is_refused_with_what_to_do():
    data = codec.encode(event(schema=SCHEMA_VERSION + 1)).data
    with pytest.raises(NewerLedger) as refused:
        codec.decode(data)
    message = str(refused.value)
    assert f"schema {SCHEMA_VERSION + 1}" in message and f"up to {SCHEMA_VERSION}" in message
    assert "use the version that wrote it, or a later one" in message


def test_a_field_that_a_later_version_added_is_passed_over():
    data = msgpack.packb({**msgpack.unpackb(codec.encode(event()).data), "added_later": 1})
    assert codec.decode(data) == event()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", codec.encode(event()).data[:-1]])
def test_what_is_no_event_is_not_read_as_one(data):
    with pytest.raises(msgspec.MsgspecError):
        codec.decode(data)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63)])
def test_integers_of_64_bits_come_back_as_they_are(number):
    assert codec.decode(codec.encode(event(changed={"a": (None, number)})).data).changed == {"a": (None, number)}


@pytest.mark.parametrize("number", [2**64, 2**80 - 3, -(2**63) - 1])
def test_larger_integers_are_kept_as_their_digits_wherever_they_stand(number):
    changed = {"a": (None, number), "b": ([1, {"deep": number}], {"c": [number]}), "d": (True, 5)}
    read = codec.decode(codec.encode(event(changed=changed)).data).changed
    digits = str(number)
    assert read == {"a": (None, digits), "b": ([1, {"deep": digits}], {"c": [digits]}), "d": (True, 5)}


def test_equal_events_have_equal_bytes_whatever_made_them():
    one = event(changed={"a": (1, 2), "b": (3, 4)}, order=OrderKey(1, 0, 2, "r"))
    other = codec.decode(codec.encode(one).data)
    assert codec.encode(other).data == codec.encode(one).data


def test_the_recorder_gets_type_and_tags_as_the_event_has_them():
    encoded = codec.encode(event(tags=("vpc:shop", "subnet:a")))
    assert (encoded.type, encoded.tags) == ("VPCCreated", ["vpc:shop", "subnet:a"])
