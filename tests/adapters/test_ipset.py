"""The reader of ipset's sources: what it recognises, what becomes a record, and what it will not read."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources import dialects, ipset
from adapters.sources.dialect import About, Found, Ignored, Recognised
from domain.operations import MADE, SEEN, Operation, OrderKey
from domain.resources import Key
from tests.replaying import DATA, lines_of, replay

SAVE = "create web hash:ip timeout 0\nadd web 10.0.0.1 timeout 0\n"
RESTORE = "create web hash:ip timeout 0\nflush web\nadd web 10.0.0.2 timeout 0\n"
LIST = "Name: web\nType: hash:ip\nRevision: 5\nHeader: family inet hashsize 1024 maxelem 65536\nMembers:\n10.0.0.1\n"
NFT = json.dumps(
    {"nftables": [{"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "elem": ["1.1.1.1"]}}]}
)
AT = 1_800_000_000_000_000


def read(text: str | bytes, **about: Any) -> list[Found]:
    data = text.encode() if isinstance(text, str) else text
    lines = ((number, line, "") for number, line in enumerate(data.splitlines(), 1))
    return list(ipset.read(lines, About(**{"path": "web.save", "modified": AT, **about})))


def operation(found: Found) -> Operation:
    assert isinstance(found.what, Recognised), found.what
    (head,) = found.what.heads
    assert ipset.heads(found.what.identity, found.payload) == [head]
    return ipset.operation(found.payload, OrderKey(0, 1, head.time, found.what.identity), head.outcome)


def entry(**said: Any) -> str:
    return json.dumps({"seq": 1, "t": "2026-11-21T01:34:20.9Z", "actor": "ipvs", "op": "dump", **said})


# ---- recognising


@pytest.mark.parametrize(
    "text",
    [
        SAVE,
        RESTORE,
        LIST,
        NFT,
        json.dumps(json.loads(NFT), indent=2),
        "# taken 2026-11-21T01:34:20Z on node1 by ipvs\n" + SAVE,
        "add web 10.0.0.1\ndel web 10.0.0.2\n",
        entry(text=SAVE),
        entry(memory={}),
        '{"t": "2026-11-21T01:34:20Z", "op": "start", "file": "x.save"}',
    ],
)
def test_each_form_is_recognised_by_its_content(text):
    assert dialects.recognise(text.encode().splitlines()) is ipset


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "add milk to the list\nand bread\n",
        "add web 10.0.0.1\nI1121 01:34:20.940666 1 x.go:1] hello\n",
        "create a new project\n",
        "I1121 01:34:20.940666       1 ipset.go:42] create web hash:ip\n",
        "Name: web\nNamespace: shop\n",
        '{"items": []}',
        '{"type": "ADDED", "object": {"kind": "Vpc"}}',
        '{"stage": "ResponseComplete", "auditID": "x"}',
    ],
)
def test_other_texts_are_not(text):
    assert not ipset.recognises(text.encode().splitlines())


def test_no_audit_log_is_taken_for_a_timeline_and_no_timeline_for_an_audit_log():
    assert not any(ipset.recognises([line]) for line in lines_of("s3-buggy"))
    timeline = (DATA / "s3-buggy" / "ipset.jsonl").read_bytes().splitlines()
    assert all(dialects.recognise([line]) is ipset for line in timeline)


# ---- lone files


@pytest.mark.parametrize(
    ("text", "verb"), [(SAVE, "ipset save"), (LIST, "ipset save"), (NFT, "ipset save"), (RESTORE, "ipset restore")]
)
def test_a_lone_file_is_one_record_of_the_time_when_it_was_written(text, verb):
    (found,) = read(text)
    told = operation(found)
    assert (told.verb, told.time, told.key, told.outcome) == (
        verb,
        AT,
        Key("ipset", "", ""),
        MADE if verb == "ipset restore" else SEEN,
    )
    assert told.after and [effect.members for effect in told.after.values()] in (
        [("10.0.0.1",)],
        [("10.0.0.2",)],
        [("1.1.1.1",)],
    )


def test_a_header_says_when_where_and_by_whom_and_begins_another_record():
    text = "# taken 2026-11-21T01:34:20Z on node1 by ipvs\n" + SAVE + "# taken 2026-11-21T01:34:21Z on node2\n" + LIST
    first, second = (operation(found) for found in read(text, node="other"))
    assert (first.key.namespace, first.actor) == ("node1", "ipvs") and second.key.namespace == "node2"
    assert second.time - first.time == 1_000_000


def test_what_is_known_of_the_node_from_outside_holds_where_the_file_says_nothing():
    (found,) = read(SAVE, node="node7")
    assert operation(found).key.namespace == "node7"


def test_a_file_of_no_time_is_kept_aside_with_what_to_do():
    (found,) = read(SAVE, path="-", modified=0)
    assert isinstance(found.what, str) and "# taken TIME" in found.what
    (found,) = read("# taken yesterday\n" + SAVE)
    assert isinstance(found.what, str) and "yesterday" in found.what


def test_numbered_files_of_one_moment_stand_in_their_order_with_their_writer():
    identities = []
    for name in ("010-ipvs-controller-after-restore.save", "009-net-pol-restore-input.restore"):
        (found,) = read(SAVE, path=f"/x/{name}")
        identities.append(found.what.identity)  # type: ignore[union-attr]
        assert operation(found).verb == ("ipset restore" if name.endswith("restore") else "ipset save")
    assert operation(read(SAVE, path="009-net-pol-restore-input.restore")[0]).actor == "net-pol"
    assert sorted(identities) == identities[::-1]


def test_bad_lines_of_a_file_are_counted_where_they_stand_and_the_rest_is_read():
    found = read("# taken 2026-11-21T01:34:20Z\n" + SAVE + "\nboo\n")
    assert [(one.line, isinstance(one.what, str)) for one in found] == [(5, True), (1, False)]
    assert found[0].payload == b"boo"


def test_a_file_with_nothing_in_it_that_can_be_used_makes_no_record():
    assert all(isinstance(one.what, str) for one in read("create web hash:\nadd web\n"))


# ---- a timeline


def test_each_line_of_a_timeline_is_a_record_with_its_number_and_why():
    lines = [
        entry(text=SAVE, why="start"),
        entry(seq=2, op="restore-input", text=SAVE),
        entry(seq=3, memory={"web": ["10.0.0.1"]}),
        entry(seq=4),
    ]
    dump, restore, load, nothing = read("\n".join(lines), path="ipset.jsonl")
    assert [operation(one).verb for one in (dump, restore, load)] == ["ipset save", "ipset restore", "load"]
    assert [operation(one).sequence for one in (dump, restore, load)] == [1, 2, 3]
    assert operation(dump).reason == "start" and isinstance(nothing.what, Ignored)
    assert operation(load).after == {"web": operation(dump).after["web"]._replace(type="", options="")}  # type: ignore[index]


def test_lines_that_cannot_be_used_are_told_why_and_the_rest_goes_on():
    lines = [entry(memory={}), "{", entry(t="soon", memory={}), entry(memory={"web": 3}), entry(seq=2, memory={})]
    found = read("\n".join(lines), path="ipset.jsonl")
    assert [isinstance(one.what, str) for one in found] == [False, True, True, True, False]
    assert "soon" in str(found[2].what)


def test_an_empty_dump_is_a_record_that_shows_that_there_are_no_sets():
    (found,) = read(entry(text=""), path="ipset.jsonl")
    assert operation(found).after == {}


@pytest.fixture
def timeline(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "ipset").mkdir(parents=True)
    (folder / "ipset" / "001.save").write_text(SAVE)
    (folder / "ipset" / "002.save.gz").write_bytes(gzip.compress(SAVE.encode()))
    (tmp_path / "secret.save").write_text(SAVE)
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    return folder / "ipset.jsonl"


@pytest.mark.parametrize("file", ["ipset/001.save", "ipset/002.save.gz", "./ipset/001.save"])
def test_a_file_beside_the_timeline_is_read_into_the_record(timeline, file):
    (found,) = read(entry(file=file), path=str(timeline))
    assert operation(found).after == operation(read(SAVE)[0]).after
    assert b"10.0.0.1" in found.payload, "the journal needs no file any more"


@pytest.mark.parametrize(
    "file",
    [
        "../secret.save",
        "ipset/../../secret.save",
        "out/secret.save",
        "/etc/hostname",
        "pipe",
        "ipset",
        "nothing.save",
        "",
        "a\0b",
    ],
)
def test_no_other_file_is_ever_opened(timeline, file):
    (found,) = read(entry(file=file), path=str(timeline))
    assert isinstance(found.what, str) and "it names the file" in found.what


def test_a_timeline_from_standard_input_has_no_folder():
    (found,) = read(entry(file="ipset/001.save"), path="-")
    assert isinstance(found.what, str) and "by its path" in found.what


def test_identities_are_of_the_content_so_a_record_read_twice_is_one(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ipset.jsonl").write_text(entry(text=SAVE) + "\n")
    run = replay(tmp_path / "a" / "ipset.jsonl", tmp_path / "b" / "ipset.jsonl")
    assert [tally.duplicates for tally in run.tallies] == [0, 1]


@given(
    st.lists(
        st.one_of(st.text(max_size=40), st.sampled_from([entry(text=SAVE), SAVE, LIST, NFT, "# taken x"])), max_size=6
    )
)
def test_no_source_makes_the_reader_fail(parts):
    found = read("\n".join(parts).encode("utf-8", "surrogatepass"))
    for one in found:
        if isinstance(one.what, Recognised):
            operation(one)
