"""Label selectors, as `kubectl -l` takes them: `app=web,tier!=cache`, `app in (web,api)`, `!canary`.

What is chosen is told by labels alone, as the API server chooses (k8s.io/apimachinery: labels.Parse): what lacks a label is
chosen by `!=` and `notin`. `trail_index.py` asks it of the labels that the log had shown of an object.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN = re.compile(r"\s*(?:(?P<sign>==|!=|[=!(),<>])|(?P<word>[^\s=!(),<>]+))")
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
MOST: Final = 4_000
"""How many characters a selector may have: 63 for each of so many values as anybody names."""


class NotASelector(ValueError):
    """What was given as `-l` is no label selector. The message says where, why not, and what one looks like."""


class Requirement(NamedTuple):
    """What one label must be: one of `values`, or there at all where they are `None`; with `wanted` false, just not that."""

    label: str
    values: frozenset[str] | None
    wanted: bool


class Selector(NamedTuple):
    """All requirements have to be met."""

    requirements: tuple[Requirement, ...]


def read_selector(text: str) -> Selector:
    """`app=web,tier in (front,back),!canary`. Raises `NotASelector`."""
    if len(text) > MOST:
        raise NotASelector(
            f"a label selector of {len(text):,} characters: {MOST:,} are taken; ask for a part at a time"
        )
    tokens = _Tokens(text)
    found = [_requirement(tokens)]
    while (token := tokens.take()) is not None:
        if token != ",":
            raise tokens.wrong(f"{token!r} stands where a comma should, or the end")
        found.append(_requirement(tokens))
    return Selector(tuple(found))


class _Tokens:
    """The words and signs of a selector, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            assert found is not None  # what is no sign is a word
            self._tokens.append(found[0].strip())
            place = found.end()
        self._next = 0

    def look(self) -> str | None:
        """The next; `None` at the end."""
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def take(self) -> str | None:
        """The same, and go on."""
        token = self.look()
        self._next += token is not None
        return token

    def wrong(self, why: str) -> NotASelector:
        """What to raise."""
        return NotASelector(
            f"{self._text[:80]!r} is no label selector: {why}; such as app=web, app!=web, app, '!app', "
            "'app in (web,api)', 'app notin (web,api)', with commas between"
        )


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.look() == "!":
        tokens.take()
        return Requirement(_label(tokens), None, False)
    label = _label(tokens)
    if tokens.look() in (None, ","):
        return Requirement(label, None, True)
    match tokens.take():
        case "=" | "==" as sign:
            return Requirement(label, frozenset({_value(tokens, sign)}), True)
        case "!=":
            return Requirement(label, frozenset({_value(tokens, "!=")}), False)
        case "in" | "notin" as operator:
            return Requirement(label, _values(tokens, operator), operator == "in")
        case "<" | ">":
            raise tokens.wrong("values are compared only for being the same here")
        case token:
            raise tokens.wrong(f"{token!r} behind {label} says nothing of it")


def _label(tokens: _Tokens) -> str:
    word = tokens.take()
    if word is None or not _is_word(word):
        raise tokens.wrong(f"a label's name is missing{f' before {word!r}' if word else ''}")
    domain, slash, name = word.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _DOMAIN.fullmatch(domain)):
        raise tokens.wrong(f"{word[:80]!r} is no name of a label")
    return word


def _value(tokens: _Tokens, behind: str) -> str:
    word = tokens.look()
    if word is None or word == ",":
        return ""  # a label may be there and say nothing
    tokens.take()
    if not _NAME.fullmatch(word):
        raise tokens.wrong(f"{word[:80]!r} behind {behind} is no value of a label")
    return word


def _values(tokens: _Tokens, operator: str) -> frozenset[str]:
    if tokens.take() != "(":
        raise tokens.wrong(f"behind {operator} values stand in brackets")
    values = []
    while True:
        values.append("" if tokens.look() == ")" else _value(tokens, operator))
        match tokens.take():
            case ")":
                return frozenset(values)
            case ",":
                continue
            case _:
                raise tokens.wrong(f"the brackets behind {operator} are not closed")


def _is_word(token: str) -> bool:
    return token[0] not in "=!(),<>"
