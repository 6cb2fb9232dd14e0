"""Findings as documents: what is not over as it is, what is over packed until somebody looks.

What was wrong once is told for ever, and few ask for it: of each such finding the engine holds some hundred bytes of JSON,
compressed, beside what the rules keep of it (`projections/findings/kept`). It is made when the finding heals, and again only
where that changes. `live.py` keeps one of these, and `http/questions.py` asks it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast, overload

import msgspec
import zstandard

from adapters import report
from adapters.app import Store
from projections.findings.concluded import Findings
from projections.findings.kept import Entry
from projections.findings.rule import HEALED, OPEN

MADE_TOGETHER: Final = 500
"""How many documents are made at a time: the events that they cite are held meanwhile."""

_COMMON: Final = (
    b'{"id":"","root":null,"rule":"NL10","name":"","severity":"error","status":"healed","resource":{"kind":"","namespace":'
    b'null,"name":"","uid":""},"field":"status.subnets","reported":null,"lawful":null,"since":{"position":1,"audit_id":"",'
    b'"source":"","evidence":[],"at":"2026-11-21T01:24:04.085833Z","actor":"system:serviceaccount:kube-system:ovn",'
    b'"revision":1,"operation":"patch vpcs/status","resource":"","event":"","says":""},"until":{"position":1},"basis":{'
    b'"known":false,"revisions":[1,2]},"witnesses":[{"role":"cause","position":1,"audit_id":""},{"role":"overwriting",'
    b'"position":1},{"role":"healing","position":1}],"explanation":"","consequence":"","repair":[]}'
)
"""What every document says: it is not stored again with each."""

_words = zstandard.ZstdCompressionDict(_COMMON, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Packed:
    """One document, and what is asked of it without looking inside. It never changes."""

    __slots__ = ("content", "id", "key", "rule", "severity")

    def __init__(self, entry: Entry, document: dict[str, Any]) -> None:
        self.id = entry.id
        self.key = entry.key
        self.rule = entry.rule
        self.severity = sys.intern(document["severity"])
        packed = zstandard.ZstdCompressor(level=3, dict_data=_words).compress(_encode(document))
        self.content = bytes(memoryview(packed))  # what it was packed into is as large as the document

    @property
    def json(self) -> bytes:
        """As it is sent."""
        return zstandard.ZstdDecompressor(dict_data=_words).decompress(self.content)

    @property
    def document(self) -> dict[str, Any]:
        """As it was."""
        return _decode(self.json)


class Found(Sequence[dict[str, Any]]):
    """The documents of all findings at one moment, the open ones first. It never changes."""

    def __init__(self, now: Sequence[dict[str, Any]] = (), over: Sequence[Packed] = (), of: Any = None) -> None:
        """`of` is what those that are over were made from."""
        self.now = now
        self.over = over
        self.of = of

    def __len__(self) -> int:
        return len(self.now) + len(self.over)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return self.now[place] if place < len(self.now) else self.over[place - len(self.now)].document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Found | list) and list(self) == list(other)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self.now
        for packed in self.over:
            yield packed.document


def documents(store: Store, findings: Findings, before: Found | None = None) -> Found:
    """The documents of findings. Those that are over and known are not made again. Raises `StoreError`.

    `before` are those that were asked for last.
    """
    fresh = [entry for entry in findings.fresh if entry.document is None]
    for first in range(0, len(fresh), MADE_TOGETHER):
        some = fresh[first : first + MADE_TOGETHER]
        told = report.documents_of(store, [entry.finding() for entry in some])
        for entry, document in zip(some, told, strict=True):
            entry.document = Packed(entry, document)
    now = report.documents_of(store, findings.now)
    if before is not None and before.of is findings.over and not findings.fresh:
        return Found(now, before.over, findings.over)
    # Whoever reads the one from before goes on reading it.
    return Found(now, cast(list[Packed], [entry.document for entry in findings.over]), findings.over)


def open_ones(findings: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that are open."""
    return (one for one in _apart(findings)[0] if one["status"] == OPEN)


def chosen(findings: Sequence[dict[str, Any]], status: str | None, rule: str) -> Iterator[dict[str, Any] | msgspec.Raw]:
    """Those of a status, of a rule by its code or name in lower case, or all: to be sent, and not to be looked into."""
    now, over = _apart(findings)
    for one in now:
        if status in (None, one["status"]) and (not rule or rule in (one["rule"].lower(), one["name"])):
            yield one
    for packed in over if status in (None, HEALED) else ():
        if not rule or rule == packed.rule.lower() or packed.id.startswith(f"{rule}/"):
            yield msgspec.Raw(packed.json)


def called(findings: Sequence[dict[str, Any]], id: str) -> list[dict[str, Any]]:
    """The one with that id, or else those whose ids begin so."""
    now, over = _apart(findings)
    for matches in (id.__eq__, lambda one: one.startswith(id)):
        found = [one for one in now if matches(one["id"])]
        found += [packed.document for packed in over if matches(packed.id)]
        if found:
            return found
    return []


def on(findings: Sequence[dict[str, Any]], kind: str, namespace: str, name: str) -> list[dict[str, Any]]:
    """Those on one resource."""
    now, over = _apart(findings)
    found = [one for one in now if _is_on(one, kind, namespace, name)]
    return found + [packed.document for packed in over if packed.key == (kind, namespace, name)]


def _apart(findings: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], Sequence[Packed]]:
    """Those that can be looked into as they are, and those that are packed."""
    return (findings.now, findings.over) if isinstance(findings, Found) else (findings, ())


def _is_on(document: dict[str, Any], kind: str, namespace: str, name: str) -> bool:
    resource = document["resource"]
    return (resource["kind"], resource["namespace"] or "", resource["name"]) == (kind, namespace, name)
