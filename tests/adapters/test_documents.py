"""Documents out of lines: however JSON and YAML lie over them, each comes whole, and a broken one costs itself only."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.sources import documents as framing
from adapters.sources.dialect import Line
from adapters.sources.documents import Document, documents, from_yaml
from tests.replaying import DATA

WATCH = gzip.decompress((DATA / "s0-buggy" / "watch.jsonl.gz").read_bytes()).splitlines()
OBJECTS = [json.loads(line) for line in WATCH[:6]]


def of(text: bytes) -> list[Document]:
    return list(documents(numbered(text)))


def numbered(text: bytes) -> Iterator[Line]:
    return ((number, line, "") for number, line in enumerate(text.split(b"\n"), 1))


def contents(found: list[Document]) -> list[object]:
    """What the documents say; of a broken one, that it is."""
    return ["broken" if document.wrong else json.loads(document.content) for document in found]


# ---- JSON however it lies over lines

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS | st.sampled_from(['{"', '"}', "[\\", "{", "\\\\", "---", "a: b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
JSON_OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\n  ", "\t", "\r\n", "\n\n"])


def spread(value: object, space: Callable[[], str]) -> str:
    """JSON with any space between any two of its tokens."""
    if isinstance(value, dict):
        pairs = [
            space() + json.dumps(key, ensure_ascii=False) + space() + ":" + space() + spread(inner, space)
            for key, inner in value.items()
        ]
        return "{" + (space() + ",").join(pairs) + space() + "}"
    if isinstance(value, list):
        return "[" + (space() + ",").join(space() + spread(inner, space) for inner in value) + space() + "]"
    return json.dumps(value, ensure_ascii=False)


@settings(max_examples=400)
@given(st.data(), st.lists(JSON_OBJECTS, min_size=1, max_size=5))
def test_any_split_of_documents_over_lines_gives_the_same_documents(data, values):
    text = ""
    begins = []
    for value in values:
        text += data.draw(SPACES)
        begins.append(text.count("\n") + 1)
        text += spread(value, lambda: data.draw(SPACES))
    found = of(text.encode())
    assert contents(found) == values
    assert [document.line for document in found] == begins
    assert not any(b"\n" in document.content for document in found)


@pytest.mark.parametrize("indent", [None, 0, 1, 4, "\t"])
def test_watch_events_are_the_same_compact_and_pretty_printed(indent):
    text = "\n".join(json.dumps(value, indent=indent) for value in OBJECTS).encode()
    assert contents(of(text)) == OBJECTS


def test_what_a_document_says_is_not_written_anew():
    line = b'{"n":1.0,"big":123456789012345678901234567890,"text":"a\\u2028\\u003cb","same":1,"same":2}'
    assert [document.content for document in of(line)] == [line]
    pretty = line.replace(b",", b",\n  ").replace(b":", b": ")
    assert [document.content for document in of(pretty)] == [line]


# ---- what is broken


@settings(max_examples=300)
@given(st.data())
def test_a_compact_document_cut_anywhere_costs_itself_only(data):
    lines = list(WATCH[:6])
    which = data.draw(st.integers(0, len(lines) - 1))
    cut = data.draw(st.integers(1, len(lines[which]) - 1))
    lines[which] = lines[which][:cut]
    found = of(b"\n".join(lines))
    assert contents(found) == ["broken" if at == which else value for at, value in enumerate(OBJECTS)]
    assert [document.line for document in found] == [1, 2, 3, 4, 5, 6]


@settings(max_examples=300)
@given(st.data())
def test_a_pretty_printed_document_cut_anywhere_costs_itself_and_no_whole_one_before_or_behind_it(data):
    texts = [json.dumps(value, indent=4) for value in OBJECTS]
    which = data.draw(st.integers(0, len(texts) - 1))
    texts[which] = texts[which][: data.draw(st.integers(1, len(texts[which]) - 1))]
    found = contents(of("\n".join(texts).encode()))
    whole = [value for at, value in enumerate(OBJECTS) if at != which]
    assert [value for value in found if value != "broken"] == whole
    assert found.count("broken") == 1


def test_a_broken_document_ends_where_the_next_begins_and_its_rest_is_no_document():
    found = of(b'{"a": {\n  "b": ]\n  "c": 1\n}\n}\nmore\n{"d": 1}')
    assert contents(found) == ["broken", {"d": 1}]
    assert "in line 2 a ] closes what it did not open" in found[0].wrong and "line 7" in found[0].wrong


@pytest.mark.parametrize("line", [b"Error from server (NotFound)", b"[1]", b'"text"', b"}", b"42", b"\x00\xff"])
def test_a_line_between_documents_is_said_to_be_none(line: bytes):
    found = of(b'{"a":1}\n' + line + b'\n{"b":2}')
    assert contents(found) == [{"a": 1}, "broken", {"b": 2}]
    assert (found[1].line, found[1].content) == (2, line)


def test_a_line_that_cannot_be_read_breaks_the_document_it_is_in_and_is_named():
    lines = [(1, b'{"a":', ""), (2, b"", "the line is longer than 32 MiB"), (3, b"1}", ""), (4, b'{"b":2}', "")]
    found = list(documents(iter(lines)))
    assert [document.wrong != "" for document in found] == [True, True, False]
    assert contents(found)[2] == {"b": 2}
    assert any("in line 2 the line is longer" in document.wrong for document in found)


def test_a_document_without_end_is_given_up_at_the_bound_and_reading_goes_on(monkeypatch):
    monkeypatch.setattr(framing, "DOCUMENT_BYTES", 10_000)
    found = of(b'{"a": [\n' + b"  1,\n" * 1_000 + b'{"b":2}\n{"c":3}')
    assert "longer than" in found[0].wrong
    assert contents(found)[1:] == [{"b": 2}, {"c": 3}]


def test_nesting_that_no_object_has_is_given_up():
    assert contents(of(b"{" + b'"a":{' * 2_000 + b'\n{"b":1}')) == ["broken", {"b": 1}]
    assert contents(of(b'{"a":\n' * 2_000 + b"{}"))[0] == "broken"


def test_a_file_of_beginnings_is_read_in_time_that_grows_as_it_does():
    found = of(b'{"a": [\n{"b": [\n1,\n' * 40_000)
    assert all(document.wrong for document in found)


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text('{}[]":,\\ \n-#akt', max_size=80).map(str.encode))
def test_any_bytes_come_out_as_documents_or_as_what_is_wrong_with_them(data: bytes):
    for document in of(data):
        assert document.wrong or isinstance(json.loads(document.content), dict | list | str | int | float | bool)


# ---- YAML


def as_yaml(value: object) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True))


class KubectlDumper(yaml.SafeDumper):
    """Quotes, as kubectl does, also a text such as 0E0, which to YAML 1.1 is no number."""


KubectlDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+$"), list("-0123456789")
)


@settings(max_examples=200)
@given(JSON_OBJECTS.filter(lambda value: all(key.isascii() for key in value)))
@example({"hash": "0E0", "also": "-1e5", "number": 1e300})
def test_yaml_says_what_json_says(value):
    assert json.loads(from_yaml(yaml.dump(value, Dumper=KubectlDumper).encode())) == value


@pytest.mark.parametrize("between", ["---\n", ""])
def test_yaml_documents_are_told_apart_with_and_without_a_line_between(between: str):
    shown = [value["object"] for value in OBJECTS]
    found = of(between.join(map(as_yaml, shown)).encode())
    assert contents(found) == shown


def test_a_stream_of_watch_events_in_yaml_is_its_documents():
    assert contents(of("---\n".join(map(as_yaml, OBJECTS)).encode())) == OBJECTS


def test_json_may_follow_yaml_and_yaml_json():
    text = as_yaml(OBJECTS[0]) + json.dumps(OBJECTS[1]) + "\n---\n" + as_yaml(OBJECTS[2])
    assert contents(of(text.encode())) == OBJECTS[:3]


def test_a_time_in_yaml_is_a_text_as_it_is_in_json():
    text = b"apiVersion: v1\nat: 2026-11-21T01:24:02Z\nday: 2026-11-21\nmac: 00:00:00:12:34:56\nyes: no\nport: 080\n"
    assert contents(of(text)) == [
        {
            "apiVersion": "v1",
            "at": "2026-11-21T01:24:02Z",
            "day": "2026-11-21",
            "mac": "00:00:00:12:34:56",
            "yes": "no",
            "port": "080",
        }
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"apiVersion: v1\n  kind: [\n",
        b"apiVersion: 'v1\n",
        b"apiVersion: &a v1\nkind: *a\n",
        b"apiVersion: \x01\n",
        b"apiVersion: !!python/object:os.system {}\n",
        b"apiVersion: {? {a: b} : c}\n",
        b"apiVersion: v1\nkind: " + b"[" * 3_000 + b"\n",
    ],
)
def test_broken_yaml_costs_itself_only(text: bytes):
    found = of(as_yaml(OBJECTS[0]["object"]).encode() + b"---\n" + text + b"---\n" + as_yaml(OBJECTS[1]).encode())
    assert contents(found) == [OBJECTS[0]["object"], "broken", OBJECTS[1]]
    assert found[1].line > 1


def test_what_looks_like_an_alias_in_a_text_is_none():
    assert json.loads(from_yaml(b"apiVersion: v1\nnote: |\n  a\n  *b\n")) == {"apiVersion": "v1", "note": "a\n*b\n"}


def test_yaml_without_end_is_given_up_at_the_bound(monkeypatch):
    monkeypatch.setattr(framing, "YAML_BYTES", 10_000)
    found = of(b"apiVersion: v1\nitems:\n" + b"- a\n" * 200 + b"---\n" + as_yaml(OBJECTS[0]).encode())
    assert found[0].wrong and contents(found)[-1] == OBJECTS[0]
