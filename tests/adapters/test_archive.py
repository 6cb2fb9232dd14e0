"""Archives: the same store comes out, or what is wrong is said; never another store, and never out of memory."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import archive, cli, transfer
from adapters.archive import Archive, ArchiveDamaged, NotAnArchive, packed
from adapters.ledger import Ledger
from adapters.ports import Backend, NewerLedger, Record, StoreError
from adapters.stores import backends
from adapters.transfer import blocks, digest_of
from tests.adapters.conftest import LONG_SEARCH
from tests.adapters.places import PAIRS, PLACES, fill, opened_place
from tests.adapters.test_cli import NETLEDGER, run

EXAMPLES = 3_000 if LONG_SEARCH else 150


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ledger that holds what one can hold."""
    folder = tmp_path_factory.mktemp("kept")
    path = folder / "kept.ledger"
    with backends.opened(str(path)) as store:
        fill(store, folder)
    yield path


@pytest.fixture(scope="module")
def small(kept: Path) -> bytes:
    """Its archive, in blocks so small that there are many."""
    before, transfer.BLOCK_ROWS = transfer.BLOCK_ROWS, 5
    try:
        with backends.opened(str(kept), "read") as store:
            return b"".join(packed(blocks(store.recorder, store.journal)))
    finally:
        transfer.BLOCK_ROWS = before


def read(data: bytes) -> list[Any]:
    """All rows of an archive."""
    return list(rows_until_damaged(data, []))


def rows_until_damaged(data: bytes, raised: list[StoreError] | None = None) -> Iterator[Any]:
    try:
        for block in Archive(io.BytesIO(data), "x.archive").blocks():
            yield from ((type(block), row) for row in block.rows)
    except StoreError as error:
        if raised is None:
            raise
        raised.append(error)


def whole(data: bytes) -> list[Any]:
    return list(rows_until_damaged(data))


# ---- there and back


@pytest.mark.parametrize(("there", "back"), PAIRS)
def test_what_an_archive_brings_back_is_the_store_that_it_was_made_of(tmp_path, there, back, request):
    with (
        opened_place(there, tmp_path / "there", request) as source,
        opened_place(back, tmp_path / "back", request) as target,
    ):
        fill(source, tmp_path)
        data = b"".join(packed(blocks(source.recorder, source.journal)))
        imported(data, target)
        assert digest_of(target.recorder) == digest_of(source.recorder)
        assert b"".join(packed(blocks(target.recorder, target.journal))) == data, "the same store, the same bytes"


def imported(data: bytes, target: Backend) -> None:
    transfer.received(
        lambda: Archive(io.BytesIO(data), "x.archive").blocks(), target.recorder, target.journal, "x.archive"
    )


def test_an_import_goes_on_behind_what_a_cut_off_archive_brought(small, tmp_path):
    with backends.opened(str(tmp_path / "target.ledger")) as target:
        reached = []
        for cut in range(0, len(small) - 10, len(small) // 25):
            with pytest.raises((ArchiveDamaged, NotAnArchive)):
                transfer.received(
                    lambda cut=cut: Archive(io.BytesIO(small[:cut]), "cut").blocks(),  # type: ignore[misc]
                    target.recorder,
                    target.journal,
                    "cut",
                    repeatable=False,
                )
            reached.append(target.journal.head() + target.recorder.head())
        assert reached == sorted(reached) and len(set(reached)) > 10
        imported(small, target)
        assert b"".join(packed(blocks(target.recorder, target.journal)))
        assert read(b"".join(packed(blocks(target.recorder, target.journal)))) == read(small)


def test_what_is_large_in_any_way_is_read_back(tmp_path):
    """A reader bounds what it takes in bytes: the writer must not count characters, nor refuse a single large row."""
    with PLACES["memory"](tmp_path / "large") as source, PLACES["memory"](tmp_path / "back") as target:
        for number in range(900):
            source.journal.source(f"{number}{'名' * 1_200}", "klog")
        large = [Record(f"r{number}", b"12345678", number, bytes(5 << 20)) for number in range(2)]
        source.journal.commit(1, large, [], b"")
        imported(b"".join(packed(blocks(source.recorder, source.journal))), target)
        assert [entry.payload for entry in target.journal.read()] == [record.payload for record in large]
        assert target.journal.sources() == source.journal.sources()


def test_another_program_can_read_an_archive(small):
    """With zstd and MessagePack alone: the objects are those that the page on it names."""
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(small)).read()
    magic, version, schema, *pairs = msgpack.Unpacker(io.BytesIO(plain))
    assert (magic, version, schema) == ("netledger archive", 1, 1)
    seal, kinds = b"", []
    for content, found in zip(pairs[::2], pairs[1::2], strict=True):
        seal = hashlib.blake2b(seal + content, digest_size=16).digest()
        assert found == seal
        kinds.append(msgpack.unpackb(content)[0])
    assert list(dict.fromkeys(kinds)) == ["sources", "records", "aside", "summaries", "events", "end"]


# ---- damage


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_a_clear_error_or_changes_nothing(small, data):
    true = whole(small)
    damaged = bytearray(small)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "drop", "insert", "double"])):
            case "flip":
                damaged[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del damaged[max(place, 1) :]
            case "drop":
                del damaged[place : place + data.draw(st.integers(1, 40))]
            case "insert":
                damaged[place:place] = data.draw(st.binary(min_size=1, max_size=20))
            case "double":
                damaged[place:place] = damaged[place : place + data.draw(st.integers(1, 400))]
        if not damaged:
            break
    raised: list[StoreError] = []
    found = list(rows_until_damaged(bytes(damaged), raised))
    assert found == true[: len(found)], "what came out before the damage is what was written"
    assert raised or found == true
    assert all("x.archive" in str(error) for error in raised)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_damage_under_the_compression_is_found_by_the_seals(small, data):
    """As a program that unpacks and packs again would leave it: no checksum of zstd is in the way."""
    true = whole(small)
    plain = bytearray(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(small)).read())
    place = data.draw(st.integers(0, len(plain) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "drop"])):
        case "flip":
            plain[place] ^= data.draw(st.integers(1, 255))
        case "cut":
            del plain[place:]
        case "drop":
            del plain[place : place + data.draw(st.integers(1, 2_000))]
    raised: list[StoreError] = []
    found = list(rows_until_damaged(zstandard.compress(bytes(plain)), raised))
    assert found == true[: len(found)]
    assert raised or found == true


def test_blocks_that_are_swapped_dropped_or_doubled_are_noticed(small):
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(small)).read()
    header, pairs = split(plain)
    for changed in (
        [pairs[1], pairs[0], *pairs[2:]],
        [*pairs[:3], *pairs[4:]],
        [*pairs[:3], pairs[3], *pairs[3:]],
        pairs[:-1],
    ):
        raised: list[StoreError] = []
        list(rows_until_damaged(zstandard.compress(header + b"".join(changed)), raised))
        assert [type(error) for error in raised] == [ArchiveDamaged]


def split(plain: bytes) -> tuple[bytes, list[bytes]]:
    """The header, and the bytes of each block with its seal."""
    unpacker = msgpack.Unpacker(io.BytesIO(plain))
    ends = []
    for _ in unpacker:
        ends.append(unpacker.tell())
    places = ends[2::2]
    return plain[: ends[2]], [plain[a:b] for a, b in pairwise(places)]


def test_where_an_archive_was_cut_off_is_said_with_what_is_good_before_it(small):
    with pytest.raises(ArchiveDamaged) as error:
        whole(small[: len(small) * 2 // 3])
    assert "x.archive is damaged: it ends here, before its end was written: it was cut off (byte" in str(error.value)
    assert f"{len(small) * 2 // 3:,} bytes of the file were read" in str(error.value)
    assert "get the whole archive and import it again" in str(error.value)


# ---- what somebody made up


def sealed(*contents: bytes, version: int = 1, schema: int = 1) -> bytes:
    """An archive that is sealed as it should be, whatever is in it."""
    plain = msgpack.packb("netledger archive") + msgpack.packb(version) + msgpack.packb(schema)
    seal = b""
    for content in contents:
        seal = hashlib.blake2b(seal + content, digest_size=16).digest()
        plain += msgpack.packb(content) + msgpack.packb(seal)
    return zstandard.compress(plain)


def block(kind: str, rows: Any) -> bytes:
    return bytes(msgpack.packb([kind, rows]))


EVENT = msgspec.msgpack.encode({"type": "Moved", "key": ["vpc", "", "a"], "record": "r", "time": 1, "schema": 1})


def marker(after: Any) -> bytes:
    return msgspec.msgpack.encode(
        {"type": "GenerationStarted", "key": ["", "", ""], "record": "g", "time": 0, "changed": after, "schema": 1}
    )


NOTHING = hashlib.blake2b(digest_size=32).digest()
"""The digest over no rows at all."""


def test_an_archive_of_an_empty_store_is_taken():
    assert whole(sealed(msgpack.packb(["end", [0, 0, 0, 0, 0], NOTHING]))) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc0",
        block("strangers", []),
        block("events", [["Moved", [], b"no event"]]),
        block("events", [["Other", [], EVENT]]),
        block("events", [["Moved", ["vpc:b"], EVENT]]),
        block("events", [["GenerationStarted", [], marker({})]]),
        block("events", [["GenerationStarted", [], marker({"after": [None, 7]})]]),
        block("events", [["GenerationStarted", [], marker({"after": [None, "x"]})]]),
        block("records", [[0, -1, "r", b"12345678", b""]]),
        block("records", [[0, 2**63, "r", b"12345678", b""]]),
        block("sources", [["\udc00".encode("utf-8", "surrogatepass"), "klog"]]),
        block("summaries", [b"no summary"]),
        block("sources", [["a", "klog"]] * 4_001),
        msgpack.packb(["end", [0, 0, 0, 0, 1], NOTHING]),
        msgpack.packb(["end", [0, 0, 0, 0, 0], b"another digest"]),
        block("sources", [["a" * (3 << 20), "klog"], ["b", "klog"]]),
    ],
)
def test_what_no_ledger_holds_is_refused_however_well_it_is_sealed(content):
    raised: list[StoreError] = []
    assert list(rows_until_damaged(sealed(content), raised)) == []
    assert [type(error) for error in raised] == [ArchiveDamaged]
    assert "cut off" not in str(raised[0]), "it is refused for itself, not for what should follow"


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        ([block("records", [[0, 1, "r", b"12345678", b""]])], "has no source 0"),
        ([block("sources", [["a", "klog"]]), block("records", [[1, 1, "r", b"12345678", b""]])], "has no source 1"),
        ([block("sources", [["a", "klog"], ["a", "klog"]])], "names the source a twice"),
        (
            [block("sources", [["a", "klog"]]), block("records", [[0, n, "r", b"12345678", b""] for n in (1, 2)])],
            "the record r comes twice",
        ),
        ([block("summaries", [b""])], "more sources than it names"),
        ([block("events", [["Moved", [], EVENT]]), block("sources", [["a", "klog"]])], "out of order"),
    ],
)
def test_what_contradicts_itself_is_refused_by_the_store_that_is_to_take_it(contents, why, tmp_path):
    with backends.opened(str(tmp_path / "target.ledger")) as target, pytest.raises(StoreError, match=why):
        imported(sealed(*contents), target)


def test_a_window_that_asks_for_much_memory_is_refused(small):
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(small)).read()
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=26)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    data = compressor.compress(plain) + compressor.flush()
    with pytest.raises(StoreError, match="too much memory"):
        whole(data)


def test_an_archive_of_a_later_netledger_is_refused_and_says_what_to_use():
    for version, schema in ((2, 1), (1, 2)):
        with pytest.raises(NewerLedger, match="use the netledger that made it, or a later one"):
            whole(sealed(version=version, schema=schema))


@pytest.mark.parametrize(
    "data", [b"", b"\x28", b"hello\n", b"\x1f\x8b\x08\x00", zstandard.compress(b"hello"), b"PK\3\4"]
)
def test_what_is_no_archive_is_told_as_such(data):
    with pytest.raises(NotAnArchive, match=r"x\.archive is no archive of netledger"):
        whole(data)


HOSTILE = """
import io, resource, sys
import zstandard
from adapters.archive import Archive
from adapters.ports import StoreError
header = b"\\xb1netledger archive\\x01\\x01"
def zeros(count):
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    yield compressor.compress(header + b"\\xc6\\x04\\x00\\x00\\x00")
    for _ in range(count >> 20):
        yield compressor.compress(bytes(1 << 20))
    yield compressor.flush()
wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
made = {
    "a length of 4 GiB": zstandard.compress(header + b"\\xc6\\xff\\xff\\xff\\xff"),
    "a list of 4 thousand million": zstandard.compress(header + b"\\xdd\\xff\\xff\\xff\\xff" + b"\\xc0" * 99),
    "a map of them": zstandard.compress(header + b"\\xdf\\xff\\xff\\xff\\xff" + b"\\xc0" * 99),
    "a string": zstandard.compress(header + b"\\xdb\\xff\\xff\\xff\\xff"),
    "an extension": zstandard.compress(header + b"\\xc9\\xff\\xff\\xff\\xff\\x01"),
    "lists in lists": zstandard.compress(header + b"\\x91" * (64 << 20)),
    "small objects for ever": zstandard.compress(header + b"\\xc4\\x00" * (64 << 20)),
    "zeros": b"".join(zeros(512 << 20)),
    "a window of 1 GiB": zstandard.ZstdCompressor(compression_params=wide).compress(header),
}
import hashlib
def sealed(content):
    seal = hashlib.blake2b(content, digest_size=16).digest()
    length = len(content).to_bytes(4, "big")
    return zstandard.compress(header + b"\\xc6" + length + content + b"\\xc4\\x10" + seal)
made["a block of a list of 4 thousand million"] = sealed(b"\\x92\\xa6events\\xdd\\xff\\xff\\xff\\xff")
made["a block of very many rows"] = sealed(b"\\x92\\xa9summaries\\xdd\\x03\\x00\\x00\\x00" + b"\\xc4\\x00" * (3 << 23))
made["a row of very many tags"] = sealed(b"\\x92\\xa6events\\x91\\x93\\xa1x\\xdd\\x03\\x00\\x00\\x00" + b"\\xa0" * (3 << 24))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in made.items():
    try:
        sum(1 for _ in Archive(io.BytesIO(data), name).blocks())
        print(name, "was taken")
    except StoreError as error:
        pass
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    if grown > 330:
        sys.exit(f"{name} took {grown} MiB")
"""


def test_nothing_that_an_archive_says_of_its_lengths_makes_reading_it_take_more_memory():
    result = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# ---- the commands


def test_export_and_import_say_the_same_digest_and_the_ledger_answers_the_same(kept, tmp_path):
    file, target = tmp_path / "shop.archive", tmp_path / "target.ledger"
    exported = run("export", "-o", "archive", file, "--ledger", kept)
    assert (exported.exit_code, exported.stdout) == (0, "")
    result = run("import", file, "--ledger", target)
    assert (result.exit_code, result.stderr) == (0, "")
    with backends.opened(str(kept), "read") as store:
        digest = digest_of(store.recorder)
    assert digest in exported.stderr and digest in result.stdout
    assert run("get", "vpc", "--ledger", target).stdout == run("get", "vpc", "--ledger", kept).stdout
    assert run("verify", "--ledger", target).exit_code == 0
    assert run("import", file, "--ledger", target).stdout == result.stdout
    assert file.stat().st_size < sum(p.stat().st_size for p in kept.parent.glob("kept.ledger*"))


def test_an_archive_goes_through_a_pipe(kept, tmp_path):
    target = tmp_path / "target.ledger"
    exporting = subprocess.Popen(
        [*NETLEDGER, "export", "-o", "archive", "--ledger", kept], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    importing = subprocess.run(
        [*NETLEDGER, "import", "-", "--ledger", target], stdin=exporting.stdout, capture_output=True, text=True
    )
    _, errors = exporting.communicate()
    assert (exporting.returncode, importing.returncode, importing.stderr) == (0, 0, "")
    assert errors.decode().split("digest ")[1].split()[0] in importing.stdout


def test_a_file_that_is_there_is_never_written_over(kept, tmp_path):
    file = tmp_path / "mine.ledger"
    file.write_bytes(b"mine")
    for format in ("archive", "jsonl", "cloudevents"):
        result = run("export", "-o", format, file, "--ledger", kept)
        assert result.exit_code == 2 and "is there already" in result.stderr
    assert file.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.ledger"]


def test_an_export_that_fails_leaves_no_file(kept, tmp_path, monkeypatch):
    def failing(blocks):
        yield b"some"
        raise StoreError("the store broke")

    monkeypatch.setattr(archive, "packed", failing)
    result = run("export", "-o", "archive", tmp_path / "new.archive", "--ledger", kept)
    assert result.exit_code == 2 and "the store broke" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_archive_makes_no_ledger(tmp_path):
    log = tmp_path / "audit.log"
    log.write_text("{}\n")
    result = run("import", log, "--ledger", tmp_path / "new.ledger")
    assert result.exit_code == 2 and "is no archive of netledger" in result.stderr
    assert not (tmp_path / "new.ledger").exists()
    assert "No such file" in run("import", tmp_path / "nowhere", "--ledger", tmp_path / "new.ledger").stderr


def test_json_lines_are_the_events_of_the_generation_in_order(kept):
    result = run("export", "-o", "jsonl", "--ledger", kept)
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    with backends.opened(str(kept), "read") as store:
        placed = list(Ledger(store.recorder).events())
    assert [event["position"] for event in events] == [one.position for one in placed]
    assert [event["at"] for event in events] == list(range(1, len(placed) + 1))
    assert [event["type"] for event in events] == [one.event.type for one in placed]


def test_json_lines_are_refused_by_import(kept, tmp_path):
    lines = run("export", "-o", "jsonl", "--ledger", kept).stdout_bytes
    result = CliRunner().invoke(cli.cli, ["import", "-", "--ledger", str(tmp_path / "x.ledger")], input=lines)
    assert result.exit_code == 2 and "standard input is no archive of netledger" in result.stderr
