"""Cuts a source into JSON and YAML documents, however they lie over its lines: what kubectl prints, one after another.

A JSON document may be one line, or pretty-printed over many, or follow another on its line; a YAML document ends at
`---`, or where a top-level key comes again. Lines are accumulated until a document is whole, up to `DOCUMENT_BYTES` of
JSON. A broken one ends where the next begins, which is at a line that starts with `{` where none may: it is given as a
text, and the rest goes on. Every document comes out as compact JSON. `objects.py` is next: it says what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import yaml

from adapters.sources.api_object import UNREADABLE, why_unreadable
from adapters.sources.dialect import Line

DOCUMENT_BYTES = 256 << 20
"""The longest JSON document that is put together from lines."""

YAML_BYTES = 64 << 20
"""The longest YAML document: read, it takes some ten times as much memory."""

LINE_COST = 50
"""What a line takes in memory beside its bytes, about."""

DEPTH = 500
"""Deeper nesting than any object of an API server, and less than what JSON readers refuse."""


class Document(NamedTuple):
    """One document from line `line` on, as compact JSON; or what is there instead of one, and `wrong` says why."""

    line: int
    content: bytes
    wrong: str = ""


def documents(lines: Iterator[Line]) -> Iterator[Document]:
    """The documents of a source, in its order. It never raises: what is none comes with what is wrong with it."""
    framing = _Framing()
    for number, line, wrong in lines:
        yield from framing.take(number, line, wrong)
    yield from framing.end()


class _Framing:
    """One pass: `take` every line, then `end`."""

    def __init__(self, *, again: bool = False) -> None:
        self.again = again
        self.open: _Json | _Yaml | None = None
        self.broken: _Broken | None = None

    def take(self, number: int, line: bytes, wrong: str) -> Iterator[Document]:
        """The documents that this line ends."""
        if wrong:
            yield from self.stop(f"in line {number} {wrong}")
            yield Document(number, line, wrong)
            return
        if self.broken is not None and _RESUMES.match(line):
            yield from self._resume(number)
        if self.broken is not None:
            return
        if isinstance(self.open, _Json) and line.startswith(b"{") and not self.open.may_hold_an_object():
            yield from self.stop("it is not whole")
            yield from self._resume(number)
        elif isinstance(self.open, _Yaml) and self.open.ends_before(line):
            yield from self._ended_yaml()
        if isinstance(self.open, _Yaml):
            self.open.add(line)
            if self.open.size > YAML_BYTES:
                yield from self.stop(f"it is longer than {YAML_BYTES >> 20} MiB of YAML")
        elif self.open is None and _YAML_START.match(line):
            self.open = _Yaml(number)
            self.open.add(line)
        else:
            yield from self._json(number, line)

    def end(self) -> Iterator[Document]:
        """The document that the source ends with."""
        if isinstance(self.open, _Yaml):
            yield from self._ended_yaml()
        yield from self.stop("the source ends before it does")
        yield from self._resume(0)

    def stop(self, why: str) -> Iterator[Document]:
        """What is open will not be whole any more. What it swallowed of the documents behind it is looked at again."""
        opened, self.open = self.open, None
        if opened is None:
            return
        if isinstance(opened, _Yaml):
            yield Document(opened.line, opened.text(), f"the YAML document that begins here is broken: {why}")
            return
        begins = next((behind for behind, line in enumerate(opened.lines) if behind and line.startswith(b"{")), 0)
        if not begins or self.again:
            self.broken = _Broken(opened.line, opened.text(), why)
            return
        swallowed = opened.lines[begins:]
        del opened.lines[begins:]
        yield Document(opened.line, opened.text(), f"the document that begins here is broken: {why}")
        framing = _Framing(again=True)  # once: else a file of beginnings would be read as often as it has lines
        for number, line in enumerate(swallowed, opened.line + begins):
            yield from framing.take(number, line, "")
        yield from framing.stop(why)
        self.broken = framing.broken

    def _resume(self, number: int) -> Iterator[Document]:
        """A broken document ends where the next begins, in line `number`, 0 for the end of the source."""
        broken, self.broken = self.broken, None
        if broken is not None:
            until = "nothing begins after it" if not number else f"line {number} begins the next"
            yield Document(broken.line, broken.text, f"the document that begins here is broken: {broken.why}; {until}")

    def _ended_yaml(self) -> Iterator[Document]:
        opened, self.open = self.open, None
        assert isinstance(opened, _Yaml)
        try:
            content = from_yaml(opened.text())
        except _UNREADABLE_YAML as error:
            why = " ".join(str(error).split()) or type(error).__name__
            yield Document(opened.line, opened.text(), f"the YAML document that begins here is broken: {why[:300]}")
        else:
            if content != b"null":
                yield Document(opened.line, content)

    def _json(self, number: int, line: bytes) -> Iterator[Document]:
        while line := line.rstrip(_SPACE):
            if self.open is None:
                line = line.lstrip(_SPACE)
                if not line.startswith(b"{"):
                    yield Document(number, line, "no JSON or YAML document begins here")
                    return
                if _is_json(line):
                    yield Document(number, compact(line))
                    return
                self.open = _Json(number)
            opened = self.open
            assert isinstance(opened, _Json)
            rest, why = opened.add(number, line)
            if why:
                yield from self.stop(why)
            if rest is None:
                return
            self.open = None
            text = opened.text()
            if why := _why_not_json(text):
                yield Document(opened.line, text, f"the document that begins here is broken: {why}")
            else:
                yield Document(opened.line, compact(text))
            line = rest


class _Broken(NamedTuple):
    line: int
    text: bytes
    why: str


# ---- JSON

_SPACE = b" \t\r\n"
_RESUMES = re.compile(rb"\{|---(\s|$)|apiVersion:\s")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]')
_OPENS = {b"}": b"{", b"]": b"["}
_any = msgspec.json.Decoder(msgspec.Raw)


def compact(text: bytes) -> bytes:
    """JSON without the space between its tokens, and otherwise as it was written."""
    return msgspec.json.format(text, indent=-1) if _is_spaced(text) else text


def _is_spaced(text: bytes) -> bool:
    # An API server's own lines have none, and they are the many: only what has some is written anew.
    return b"\n" in text or b'": ' in text or b'" :' in text or b", " in text or b"{ " in text or b"[ " in text


def _is_json(text: bytes) -> bool:
    return not _why_not_json(text)


def _why_not_json(text: bytes) -> str:
    try:
        _any.decode(text)
    except UNREADABLE as error:
        return why_unreadable(error)
    return ""


class _Json:
    """A JSON document of which not all lines are there yet."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[bytes] = []
        self.size = 0
        self.inside: list[bytes] = []  # what is open, the innermost last

    def add(self, number: int, line: bytes) -> tuple[bytes | None, str]:
        """What comes behind the document's end in this line, `None` if it goes on; and what is wrong, if anything."""
        # A line may lie empty between, or hold the end of one document and the beginning of the next.
        self.lines.extend(b"" for _ in range(number - self.line - len(self.lines)))
        for token in _TOKEN.finditer(line):
            mark = token[0]
            if mark in (b"{", b"["):
                self.inside.append(mark)
                if len(self.inside) > DEPTH:
                    self.lines.append(line)
                    return None, f"it is nested deeper than {DEPTH}"
            elif mark == b'"':
                self.lines.append(line)
                return None, f"line {number} ends within a text"
            elif len(mark) == 1:
                if self.inside.pop() != _OPENS[mark]:
                    self.lines.append(line)
                    return None, f"in line {number} a {mark.decode()} closes what it did not open"
                if not self.inside:
                    self.lines.append(line[: token.end()])
                    return line[token.end() :], ""
        self.lines.append(line)
        self.size += len(line) + LINE_COST
        if self.size > DOCUMENT_BYTES:
            return None, f"it is longer than {DOCUMENT_BYTES >> 20} MiB"
        return None, ""

    def may_hold_an_object(self) -> bool:
        """Whether an object may come next: behind a colon, or in an array."""
        last = next((line for line in reversed(self.lines) if line), b"")
        return last.endswith(b":") or (self.inside[-1:] == [b"["] and last.endswith((b",", b"[")))

    def text(self) -> bytes:
        return b"\n".join(self.lines)


# ---- YAML

_YAML_START = re.compile(rb"---(\s|$)|#|%YAML|(apiVersion|items|kind|metadata|object|type):(\s|$)|- apiVersion:\s")
_YAML_KEY = re.compile(rb"([A-Za-z][\w.-]*):(\s|$)")
_ALIAS = re.compile(rb"(?m)(?:^|[\s\[{,])\*[\w-]")


class _Yaml:
    """A YAML document of which not all lines are there yet."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[bytes] = []
        self.size = 0
        self.keys: set[bytes] = set()

    def ends_before(self, line: bytes) -> bool:
        """Whether this line is not of it any more: files put together have no `---` between them."""
        if line.startswith((b"---", b"{")):
            return True
        key = _YAML_KEY.match(line)
        return key is not None and key[1] in self.keys

    def add(self, line: bytes) -> None:
        if key := _YAML_KEY.match(line):
            self.keys.add(key[1])
        self.lines.append(line)
        self.size += len(line) + LINE_COST

    def text(self) -> bytes:
        return b"\n".join(self.lines)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as kubectl writes it: a plain word is what JSON could have been, anything else a text. A time is a text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the class it is of


_WORDS: dict[str, tuple[str, str]] = {
    "null": (r"null|~|", "n~"),
    "bool": (r"true|false", "tf"),
    "int": (r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    "float": (r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
}
for _word, (_pattern, _first) in _WORDS.items():
    _beginnings = [*_first, ""] if _word == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_word}", re.compile(rf"(?:{_pattern})$"), _beginnings)
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(loader.construct_scalar(node)))

_UNREADABLE_YAML = (yaml.YAMLError, *UNREADABLE, ValueError, TypeError, AttributeError, OverflowError)


def from_yaml(text: bytes) -> bytes:
    """A YAML document as compact JSON. Raises what is in `_UNREADABLE_YAML`.

    No API server's object has an alias, and a page of them can mean more than memory holds.
    """
    if _ALIAS.search(text) and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
        raise ValueError("it uses an alias (*), which kubectl never prints")
    return msgspec.json.encode(yaml.load(text, Loader=_Loader))
