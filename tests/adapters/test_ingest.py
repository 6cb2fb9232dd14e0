"""Files into the journal: whatever a path holds, every line is counted, and what cannot be used is kept with its reason."""

import gzip
import io
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import ingest as ingesting
from adapters.ingest import NothingToRead, Span, Tally, files_in, ingest, size_of
from adapters.ports import EXCERPT_BYTES, Journal, KeptAside
from adapters.sources.audit_log import FORMAT, classify
from adapters.sources.dialect import Ignored, Recognised
from adapters.stores.memory import InMemoryJournal
from tests.replaying import DATA, lines_of, recording, replay

NAME = "s0-buggy"
ROOT = Path(__file__).parents[2]

LINES = lines_of(NAME)
OURS = [line for line in LINES if isinstance(classify(line), Recognised)]
NOISE = [line for line in LINES if isinstance(classify(line), Ignored)]
FIRST, SECOND, THIRD = OURS[:3]


class Read(NamedTuple):
    tally: Tally
    aside: list[KeptAside]
    journal: Journal

    @property
    def counts(self) -> tuple[int, int, int, int]:
        tally = self.tally
        return tally.recognised, tally.ignored, tally.unrecognised, tally.duplicates

    @property
    def lines(self) -> list[int]:
        """The line numbers of what was recognised."""
        return [entry.line for entry in self.journal.read()]


def read(path: Path | str, journal: Journal | None = None) -> Read:
    """Ingest a file, and check what must hold of any."""
    journal = journal if journal is not None else InMemoryJournal()
    tally = ingest(str(path), journal)
    assert tally.recognised + tally.ignored + tally.unrecognised + tally.duplicates == tally.records
    return Read(tally, list(journal.kept_aside()), journal)


@pytest.fixture
def log(tmp_path):
    """A function that writes bytes to a log and reads it."""

    def of(data: bytes, name: str = "audit.log") -> Read:
        path = tmp_path / name
        path.write_bytes(data)
        return read(path)

    return of


def joined(*lines: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(line + end for line in lines)


# ---- lines


BAD_LINES = {
    "cut": (FIRST[: len(FIRST) // 2], "truncated"),
    "cut within its last brace": (FIRST[:-1], "truncated"),
    "not JSON": (b"I1121 02:47:36.888873 1 main.go:53] started", "not JSON"),
    "two records in one line": (FIRST + SECOND, "not JSON"),
    "an array": (b"[" + FIRST + b"]", "got `array`"),
    "a string": (b'"text"', "got `str`"),
    "a number": (b"42", "got `int`"),
    "null": (b"null", "got `null`"),
    "an empty object": (b"{}", "missing required field `auditID`"),
    "another kind": (
        b'{"kind":"Vpc","apiVersion":"kubeovn.io/v1","auditID":"a","stage":"b"}',
        "kind Vpc of kubeovn.io/v1",
    ),
    "a list of events": (
        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[' + FIRST + b"]}",
        "",
    ),
    "no kind": (b'{"auditID":"a","stage":"ResponseComplete"}', "kind (none) of (no apiVersion)"),
    "NUL bytes": (b"\x00" * 4096, "not JSON"),
    "a NUL byte within": (FIRST.replace(b'"verb":', b'"verb"\x00:'), "not JSON"),
    "not UTF-8": (FIRST.replace(b'"auditID":"', b'"auditID":"\xff\xfe'), "utf-8"),
    "a byte order mark in the middle of a file": (b"\xef\xbb\xbf" + FIRST, "not JSON"),
    "no time": (FIRST.replace(b'"stageTimestamp":"2026', b'"stageTimestamp":"the year 2026'), "is not a time"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_kept_aside_with_its_number_and_reason_and_the_rest_is_read(log, name):
    bad, reason = BAD_LINES[name]
    assert bad not in (FIRST, SECOND)
    found = log(joined(NOISE[0], FIRST, bad, SECOND, bad, THIRD))
    assert found.counts == (3, 1, 2, 0)
    assert found.lines == [2, 4, 6]
    assert [aside.line for aside in found.aside] == [3, 5]
    for aside in found.aside:
        assert reason in aside.reason
        assert len(aside.reason.split()) >= 3, "a person has to understand it"
        assert (aside.excerpt, aside.size) == (bad.strip(b" \t\r\n")[:EXCERPT_BYTES], len(bad))


@settings(max_examples=60)
@given(st.binary(max_size=60).filter(lambda data: data.strip(b" \t\r\n\xef\xbb\xbf") and b"\n" not in data))
def test_any_bytes_between_two_records_are_one_counted_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "audit.log"
    path.write_bytes(joined(FIRST, data, SECOND))
    found = read(path)
    stripped = data.strip(b" \t\r\n")
    assert found.counts == (2, 0, 1 if stripped else 0, 0)
    assert [aside.line for aside in found.aside] == ([2] if stripped else [])


def test_every_record_is_one_of_four_things(log):
    bad = b"not JSON"
    other = json.dumps({**json.loads(FIRST), "verb": "patch"}).encode()
    found = log(joined(*OURS, *NOISE, bad, FIRST, SECOND, other))
    assert found.counts == (len(OURS), len(NOISE), 2, 2)
    assert ["collision" in aside.reason for aside in found.aside] == [False, True]


def test_the_same_file_again_is_all_duplicates():
    journal = InMemoryJournal()
    first = read(recording(NAME)[0], journal)
    again = read(recording(NAME)[0], journal)
    assert first.counts == (len(OURS), len(NOISE), 0, 0)
    assert again.counts == (0, len(NOISE), 0, len(OURS))
    assert journal.head() == len(OURS)


def test_line_ends_of_every_system_and_a_byte_order_mark_are_no_matter(log):
    for data in (
        b"\xef\xbb\xbf" + joined(*LINES),
        joined(*LINES, end=b"\r\n"),
        b"\xef\xbb\xbf" + joined(*LINES, end=b"\r\n"),
        joined(*LINES, end=b"  \t\n"),
        b"\n".join(LINES),
    ):
        found = log(data)
        assert found.counts == (len(OURS), len(NOISE), 0, 0)
        assert [entry.payload for entry in found.journal.read()] == OURS


def test_empty_lines_are_no_records_and_lines_keep_their_numbers(log):
    found = log(b"\n\n" + FIRST + b"\n\r\n   \n" + b"bad\n" + SECOND)
    assert found.counts == (2, 0, 1, 0)
    assert found.lines == [3, 7]
    assert [aside.line for aside in found.aside] == [6]


def test_a_line_is_read_up_to_the_bound_and_not_beyond(log, monkeypatch):
    monkeypatch.setattr(ingesting, "LINE_BYTES", len(SECOND))
    padded = FIRST.ljust(len(SECOND))
    assert len(padded) == len(SECOND)
    too_long = SECOND.replace(b'"verb":', b'"verb":  ')
    found = log(joined(padded, SECOND, too_long, FIRST.replace(b'"auditID":"', b'"auditID":"x')) + too_long)
    assert found.lines == [1, 2, 4]
    assert found.counts == (3, 0, 2, 0)
    assert [aside.line for aside in found.aside] == [3, 5]
    assert all("longer than" in aside.reason for aside in found.aside)


LONG_LINE = """
import gzip, json, resource, sys
from adapters.ingest import ingest
from adapters.stores.memory import InMemoryJournal

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
journal = InMemoryJournal()
tally = ingest(sys.argv[1], journal)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({
    "grown": (after - before) << 10,
    "counts": [tally.records, tally.recognised, tally.unrecognised],
    "lines": [entry.line for entry in journal.read()],
    "aside": [[aside.line, aside.reason, len(aside.excerpt)] for aside in journal.kept_aside()],
}))
"""


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_line_of_100_megabytes_is_kept_aside_and_memory_stays_bounded(tmp_path, packed):
    path = tmp_path / "audit.log"
    head, tail = SECOND.split(b'"verb":', 1)
    piece = b"x" * (1 << 20)
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        file.write(FIRST + b"\n" + head + b'"long":"')
        for _ in range(100):
            file.write(piece)
        file.write(b'","verb":' + tail + b"\n" + THIRD + b"\n")
    # The peak of a process counts from its birth, with its parent's pages: so a small one stands between.
    command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", LONG_LINE, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts"] == [3, 2, 1]
    assert result["lines"] == [1, 3]
    ((line, reason, excerpt),) = result["aside"]
    assert (line, excerpt) == (2, EXCERPT_BYTES)
    assert "longer than 32 MiB" in reason
    assert result["grown"] < 3 * ingesting.LINE_BYTES, f"grew by {result['grown'] >> 20} MiB for a line of 100 MiB"


# ---- gzip


def test_a_gzip_log_is_its_text_whatever_it_is_called(log):
    for name in ("audit.log.gz", "audit.log", "audit"):
        found = log(gzip.compress(joined(*LINES)), name)
        assert found.counts == (len(OURS), len(NOISE), 0, 0)


def test_gzip_files_written_one_behind_the_other_are_one_log(log):
    found = log(gzip.compress(joined(*LINES[:200])) + gzip.compress(joined(*LINES[200:])))
    assert found.counts == (len(OURS), len(NOISE), 0, 0)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 0.99, 0.9999])
def test_of_a_gzip_file_cut_short_every_whole_line_is_read(log, part):
    packed = gzip.compress(joined(*LINES))
    cut = packed[: int(len(packed) * part)]
    there = zlib.decompressobj(wbits=31).decompress(cut)
    whole = there.split(b"\n")[:-1]
    found = log(cut)
    assert found.tally.records == len(whole) + 1
    assert found.tally.recognised == sum(line in set(OURS) for line in whole)
    (aside,) = found.aside
    assert aside.line == len(whole) + 1
    assert "breaks off or is damaged" in aside.reason


def test_garbage_behind_a_gzip_file_is_said_and_nothing_is_lost(log):
    found = log(gzip.compress(joined(*LINES)) + b"garbage")
    assert found.counts == (len(OURS), len(NOISE), 1, 0)
    (aside,) = found.aside
    assert aside.line == len(LINES) + 1
    assert "damaged" in aside.reason


def test_zeros_behind_a_gzip_file_are_padding(log):
    assert log(gzip.compress(joined(*LINES)) + b"\x00" * 512).counts == (len(OURS), len(NOISE), 0, 0)


def test_damage_within_a_gzip_file_is_said(log):
    whole = gzip.compress(joined(*OURS))
    packed = bytearray(whole)
    packed[len(packed) // 2] ^= 0xFF
    found = log(bytes(packed))
    assert found.tally.recognised > 0, "what stands before the damage is read"
    assert "breaks off or is damaged" in found.aside[-1].reason


def test_a_checksum_that_does_not_fit_is_said(log):
    packed = bytearray(gzip.compress(joined(*LINES)))
    packed[-8] ^= 0xFF
    found = log(bytes(packed))
    assert found.counts == (len(OURS), len(NOISE), 1, 0)
    assert "CRC" in found.aside[0].reason


# ---- files that are no logs, or hardly


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", gzip.compress(b""), b"\xef\xbb\xbf"], ids=["nothing", "lines", "gzip", "mark"]
)
def test_an_empty_file_holds_no_records(log, data):
    found = log(data)
    assert found.tally.records == 0
    assert found.aside == []
    assert found.journal.head() == 0


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 100,
        b"\x7fELF" + b"\x00" * 10_000,
        "\n".join("Ein Text" for _ in range(10)).encode("utf-16"),
        b'{"kind":"Vpc"}\n' * 80,
        b"kind: Vpc\nmetadata:\n  name: shop\n",
        gzip.compress(b"INSERT INTO vpcs VALUES (1);\n" * 100),
    ],
    ids=["binary", "program", "utf-16", "json", "yaml", "gzip"],
)
def test_a_file_of_another_kind_is_counted_and_nothing_of_it_kept(log, data):
    found = log(data)
    assert found.tally.format == ingesting.UNKNOWN_FORMAT
    assert found.tally.unrecognised == found.tally.records > 0
    assert (found.aside, found.journal.sources()) == ([], [])


def test_a_log_that_begins_badly_is_still_a_log(log):
    found = log(joined(*[b"bad"] * (49), FIRST, SECOND))
    assert found.tally.format == FORMAT
    assert found.counts == (2, 0, 49, 0)
    assert [aside.line for aside in found.aside] == list(range(1, 50))


def test_a_log_that_begins_with_many_bad_lines_is_still_read(log):
    found = log(joined(*[b"bad"] * (60), *LINES))
    assert found.tally.recognised == len(OURS)


def test_logs_among_other_files_of_a_folder_are_read(tmp_path):
    (tmp_path / "audit.log").write_bytes(joined(*LINES[300:]))
    (tmp_path / "audit-2026-11-21T02-49-05.879.log.gz").write_bytes(gzip.compress(joined(*LINES[:300])))
    (tmp_path / "notes.txt").write_text("what we saw\n")
    (tmp_path / "core").write_bytes(b"\x7fELF" + bytes(5_000))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / ".hidden.log").write_bytes(joined(FIRST))
    (tmp_path / "folder").mkdir()
    found = files_in([str(tmp_path)])
    names = [Path(path).name for path in found]
    assert names == ["audit-2026-11-21T02-49-05.879.log.gz", "audit.log", "core", "empty", "notes.txt"]
    replayed = replay(*found)
    assert [tally.format == FORMAT for tally in replayed.tallies] == [True, True, False, False, False]
    assert replayed.digest == replay(*recording(NAME)).digest


def test_a_public_log_at_metadata_level_is_read_but_for_its_comment():
    found = read(DATA / "public" / "audit-metadata-level.txt")
    assert found.tally.unrecognised == 1
    assert (found.aside[0].line, "not JSON" in found.aside[0].reason) == (1, True)
    assert found.tally.recognised > 10
    replayed = replay(DATA / "public" / "audit-metadata-level.txt")
    assert replayed.findings == []
    assert {event.outcome for event in replayed.events} <= {"unknown", "refused"}


def test_a_public_log_of_v1beta1_is_read_but_for_items_that_do_not_say_what_they_are():
    found = read(DATA / "public" / "audit-v1beta1.txt")
    assert found.counts == (2, 0, 4, 0)
    # Taken out of a webhook's EventList, which alone names the version.
    assert [aside.line for aside in found.aside if "(no apiVersion)" in aside.reason] == [2, 3, 6]
    replayed = replay(DATA / "public" / "audit-v1beta1.txt")
    assert [(event.type, event.key.name, event.outcome) for event in replayed.events] == [
        ("PodCreated", "nginx-deployment-7998647bdf-4j7t7", ""),
        ("NamespaceSighted", "foo", "unknown"),
    ], "one was recorded at level RequestResponse, one below it"
    assert replayed.findings == []


# ---- paths, standard input, progress


def test_a_path_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(NothingToRead, match=r"nowhere/audit\.log: there is no such file or folder; check the path"):
        files_in(["nowhere/audit.log"])


def test_a_folder_without_files_is_named_with_what_to_do(tmp_path):
    with pytest.raises(NothingToRead, match="holds no files; name the recordings"):
        files_in([str(tmp_path)])


def test_a_path_given_twice_is_read_once(tmp_path):
    path = tmp_path / "audit.log"
    path.write_bytes(joined(FIRST))
    assert files_in([str(path), str(tmp_path), "-", str(path), "-"]) == [str(path), "-"]


def test_standard_input_is_a_log_like_any_other(monkeypatch):
    for data in (joined(*LINES), gzip.compress(joined(*LINES))):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        found = read("-")
        assert found.counts == (len(OURS), len(NOISE), 0, 0)
        assert found.journal.sources()[0].path == "-"


@pytest.mark.parametrize("name", ["mixed-small", NAME])
def test_progress_adds_up_to_the_size_on_disk(name):
    (path,) = recording(name)
    told: list[int] = []
    ingest(str(path), InMemoryJournal(), told.append)
    assert sum(told) == size_of([str(path), "-"]) == path.stat().st_size


def test_a_source_lasts_from_its_first_record_to_its_last_over_all_readings(tmp_path):
    path = tmp_path / "audit.log"
    journal = InMemoryJournal()
    times = sorted(json.loads(line)["stageTimestamp"] for line in LINES)
    for part in (LINES[200:], LINES[:200]):
        path.write_bytes(joined(*part))
        read(path, journal)
    (source,) = journal.sources()
    span = msgspec.msgpack.decode(source.summary, type=Span)
    assert (span.first, span.last) == (times[0], times[-1])


def test_each_commit_is_bounded_however_long_the_file_is(tmp_path, monkeypatch):
    class Watched(InMemoryJournal):
        sizes: list[int] = []  # noqa: RUF012 - one instance

        def commit(self, source, records, aside, summary):
            self.sizes.append(len(records) + len(aside))
            return super().commit(source, records, aside, summary)

    monkeypatch.setattr(ingesting, "BATCH_RECORDS", 100)
    path = tmp_path / "audit.log"
    path.write_bytes(joined(*lines_of("mixed-small")) + b"bad\n" * 1_000)
    journal = Watched()
    found = read(path, journal)
    assert sum(journal.sizes) == found.tally.recognised + found.tally.unrecognised
    assert max(journal.sizes) < 400
    assert len(journal.sizes) > 20
