"""Reads what shows a node's sets: a timeline of what was done to them, or single dumps and restore inputs.

A timeline (`ipset.jsonl`) is JSON lines: when, who, what (`restore-input`, `after-restore`, `memory-loaded`, …), and the
text or the file it is in, or the memory that a controller had loaded. A lone file is one record; it was taken when its
first line says (`# taken 2026-11-21T01:34:21Z on node1 by ipvs-controller`), else when it was last written. Files that
are numbered (`004-ipvs-controller-restore-input.restore`) stand in the order of their numbers.

A record holds all that is needed to decide it, the text of its file too. `domain/ipset_writes.py` is next.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from adapters.sources.dialect import About, Found, Ignored, Line, NotARecord, Recognised, iso, moment
from adapters.sources.ipset_text import Bad, parse_list, parse_nft, parse_restore, parse_save, words_of
from adapters.sources.ipset_timeline import TIMELINE
from domain.ipset import DUMP, LOAD, RESTORE, Effect
from domain.operations import MADE, SEEN, Operation, OrderKey
from domain.order import Head
from domain.resources import Key

FORMAT = "ipset"
CLOCKED = True
PREFIX = "ipset"

TEXT_BYTES = 32 << 20
"""The longest text of one dump or restore that is looked at: a hundred sets of the largest default size."""

SAVE_TEXT, LIST_TEXT, RESTORE_TEXT, NFT_TEXT = "save", "list", "restore", "nft"


class _Record(msgspec.Struct, omit_defaults=True):
    """What the journal keeps. `number` orders records of one moment; `seq` is a timeline's own, without gaps."""

    time: int
    verb: str
    actor: str = ""
    op: str = ""
    node: str = ""
    why: str = ""
    format: str = ""
    text: str = ""
    memory: dict[str, list[str]] | None = None
    seq: int | None = None
    number: int = 0


class _Entry(msgspec.Struct):
    """A line of a timeline, as far as it is read."""

    t: str
    op: str
    actor: str = ""
    node: str = ""
    why: str = ""
    seq: int | None = None
    memory: dict[str, list[str]] | None = None
    text: str | None = None
    file: str | None = None
    format: str = ""


_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_record = msgspec.json.Decoder(_Record).decode
_encode = msgspec.json.Encoder().encode

_NFT = re.compile(rb'\s*\{\s*"nftables"\s*:\s*\[')
_TEXT = re.compile(
    rb"(?:create|-N) \S+ (?:hash|bitmap|list):|(?:add|-A|del|-D) \S+ \S+$|(?:flush|-F|destroy|-X) \S+$|(?:swap|-W) \S+ \S+$"
)
_TAKEN = re.compile(r"#\s*taken\s+(\S+)(?:\s+on\s+(\S+))?(?:\s+by\s+(\S+))?\s*")
_NUMBERED = re.compile(
    r"(\d{1,9})-(.+?)-(restore-input|before-restore|after-restore|start|end|dump)\.(?:save|restore|list|json|txt)"
)


def recognises(beginning: list[bytes]) -> bool:
    """Whether these lines begin a timeline of ipsets, a dump, a restore input or nft's JSON."""
    lines = [line for line in beginning if line.strip() and not line.startswith(b"#")]
    if not lines:
        return False
    first = lines[0].strip()
    if first.startswith(b"{"):
        return bool(TIMELINE.match(first[:4096]) or _NFT.match(b"".join(lines[:4])))
    if re.fullmatch(rb"Name: \S+", first):
        return len(lines) > 1 and re.match(rb"Type: (?:hash|bitmap|list):", lines[1].strip()) is not None
    if _TEXT.match(first) is None:
        return False
    # `add web 10` could begin anything: all of the first lines must be such.
    return first.startswith((b"create ", b"-N ")) or all(_TEXT.match(line.strip()) for line in lines[:20])


def read(lines: Iterator[Line], about: About) -> Iterator[Found]:
    """All records of a timeline, or what a lone file shows."""
    before: list[Line] = []
    for line in lines:
        said = line[1].strip()
        before.append(line)
        if said and not said.startswith(b"#"):
            if TIMELINE.match(said[:4096]):
                yield from _timeline(chain(before, lines), about)
            else:
                yield from _texts(chain(before, lines), about)
            return
    yield from _texts(iter(before), about)


def restored(line: int, raw: bytes, time: int, actor: str, node: str, text: str) -> Iterator[Found]:
    """A restore input that a controller's log quotes whole: the same record that a timeline would have of it."""
    record = _Record(time, RESTORE, actor, "restore-input", node, format=RESTORE_TEXT, text=text)
    yield from _found(line, record, raw)


def heads(identity: str, payload: bytes) -> list[Head]:
    """One head: a record is about all sets of a node at once, and they are decided together."""
    return _heads(identity, _decode_record(payload))


def _heads(identity: str, record: _Record) -> list[Head]:
    outcome = MADE if record.verb == RESTORE else SEEN
    return [Head(record.time, identity, 0, record.time, Key("ipset", record.node, ""), "", 0, outcome)]


def operation(payload: bytes, order: OrderKey, outcome: str) -> Operation:
    """What a record says of every set: `after` maps their names to what a dump shows or a restore comes to."""
    record = _decode_record(payload)
    effects, _ = _effects(record)
    return Operation(
        order=order,
        key=Key("ipset", record.node, ""),
        verb=record.verb,
        outcome=outcome,
        reason=record.why,
        actor=record.actor,
        time=record.time,
        received=record.time,
        after=dict(effects),
        sequence=record.seq,
    )


def _effects(record: _Record) -> tuple[dict[str, Effect], list[Bad]]:
    if record.memory is not None:
        return {name: Effect(members=tuple(sorted(members))) for name, members in record.memory.items()}, []
    if record.verb == RESTORE:
        return parse_restore(record.text)
    parse = {LIST_TEXT: parse_list, NFT_TEXT: parse_nft}.get(record.format, parse_save)
    sets, bad = parse(record.text)
    return {listed.name: listed.effect for listed in sets}, bad


def _found(line: int, record: _Record, raw: bytes) -> Iterator[Found]:
    """The record, and what in its text cannot be used."""
    effects, bad = _effects(record)
    for wrong in bad:
        yield Found(line, wrong.text.encode()[:8192] or raw[:8192], f"line {wrong.line} of the text: {wrong.reason}")
    if bad and not effects:
        return
    payload = _encode(record)
    fingerprint = hashlib.blake2b(payload, digest_size=8)
    order = record.seq if record.seq is not None else record.number
    time = iso(record.time)
    identity = f"{PREFIX}:{time}/{order:09}/{record.actor}/{record.op}/{fingerprint.hexdigest()}"
    yield Found(line, payload, Recognised(identity, fingerprint.digest(), time, _heads(identity, record)))


# ---- a timeline


def _timeline(lines: Iterator[Line], about: About) -> Iterator[Found]:
    for number, line, wrong in lines:
        if wrong:
            yield Found(number, line, wrong)
            continue
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            entry = _decode_entry(line)
            time = moment(entry.t, "t")
            record = _of_entry(entry, time, about)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            yield Found(number, line, f"it is no line of a timeline of ipsets: {error}")
        except NotARecord as error:
            yield Found(number, line, str(error))
        else:
            if record is None:
                yield Found(number, line, Ignored(iso(time)))
            else:
                yield from _found(number, record, line)


def _of_entry(entry: _Entry, time: int, about: About) -> _Record | None:
    """The record, its file read; `None` for an entry that shows nothing."""
    record = _Record(
        time, LOAD, entry.actor, entry.op, entry.node or about.node, entry.why, memory=entry.memory, seq=entry.seq
    )
    if entry.memory is not None:
        return record
    if entry.text is None and entry.file is None:
        return None
    record.text = entry.text if entry.text is not None else _beside(about.path, entry.file or "")
    record.format = entry.format or _format(record.text, entry.file or "", entry.op)
    record.verb = RESTORE if record.format == RESTORE_TEXT else DUMP
    return record


def _beside(timeline: str, file: str) -> str:
    """The text of a file that a timeline names, which must lie below the timeline's own folder."""
    if timeline in ("", "-"):
        raise NotARecord(f"its text is in the file {file!r}: give the timeline by its path, not as standard input")
    folder = Path(timeline).parent.resolve()
    named = Path(file)
    if named.is_absolute() or ".." in named.parts or "\0" in file:
        raise NotARecord(f"it names the file {file!r}, which does not lie beside the timeline")
    try:
        path = (folder / named).resolve()
        if not path.is_relative_to(folder):
            raise NotARecord(f"it names the file {file!r}, which leads out of the timeline's folder")
        if not path.is_file():
            raise NotARecord(f"it names the file {file!r}, which is not there")
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as stream:
            data = stream.read(TEXT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NotARecord(f"it names the file {file!r}, which cannot be read: {error}") from None
    if len(data) > TEXT_BYTES:
        raise NotARecord(f"it names the file {file!r}, which is longer than {TEXT_BYTES >> 20} MiB")
    return data.decode("utf-8", "replace")


def _format(text: str, name: str, op: str = "") -> str:
    """What kind of text it is: by its name where that says so, else by its lines."""
    if text.lstrip().startswith("{"):
        return NFT_TEXT
    if name.removesuffix(".gz").endswith(".restore") or op in ("restore-input", "restore"):
        return RESTORE_TEXT
    for line in text.splitlines():
        said = line.strip()
        if said.startswith("Name: "):
            return LIST_TEXT
        if said and not said.startswith("#"):
            command = _command(said)
            if command not in ("create", "add"):
                return RESTORE_TEXT
    return SAVE_TEXT


def _command(line: str) -> str:
    try:
        words = words_of(line)
    except ValueError:
        return "create"
    return words[0] if words and words[0] in ("flush", "swap", "del", "destroy", "rename") else "create"


# ---- lone files


class _Gathered(NamedTuple):
    """The lines of one text, and what its header says of it."""

    line: int
    taken: re.Match[str] | None
    lines: list[tuple[int, str]]


def _texts(lines: Iterator[Line], about: About) -> Iterator[Found]:
    """The texts of a file: one, or as many as have a `# taken` line before them."""
    gathered = _Gathered(1, None, [])
    size = 0
    for number, line, wrong in lines:
        if wrong:
            yield Found(number, line, wrong)
            continue
        text = line.decode("utf-8", "replace")
        taken = _TAKEN.fullmatch(text.strip())
        if taken is not None:
            yield from _text(gathered, about)
            gathered, size = _Gathered(number, taken, []), 0
            continue
        size += len(line)
        if size > TEXT_BYTES:
            yield Found(number, line[:8192], f"the text is longer than {TEXT_BYTES >> 20} MiB")
        else:
            gathered.lines.append((number, text))
    yield from _text(gathered, about)


def _text(gathered: _Gathered, about: About) -> Iterator[Found]:
    if gathered.taken is None and not any(text.strip() for _, text in gathered.lines):
        return
    text = "\n".join(line for _, line in gathered.lines)
    name = Path(about.path).name
    record = _Record(about.modified, DUMP, node=about.node, text=text)
    if (numbered := _NUMBERED.fullmatch(name.removesuffix(".gz"))) is not None:
        record.number, record.actor, record.op = int(numbered[1]), numbered[2], numbered[3]
    if gathered.taken is not None:
        try:
            record.time = moment(gathered.taken[1], "the time it was taken")
        except NotARecord as error:
            yield Found(gathered.line, gathered.taken[0].encode(), str(error))
            return
        record.node = gathered.taken[2] or record.node
        record.actor = gathered.taken[3] or record.actor
    if not record.time:
        why = "nothing says when it was taken: put `# taken TIME on NODE by ACTOR` before it"
        yield Found(gathered.line, text.encode()[:8192], why)
        return
    record.format = _format(text, name, record.op)
    record.verb = RESTORE if record.format == RESTORE_TEXT else DUMP
    for found in _found(gathered.line, record, text.encode()):
        yield _at_its_line(found, gathered.lines)


def _at_its_line(found: Found, lines: list[tuple[int, str]]) -> Found:
    """A bad line where it stands in the file."""
    if not isinstance(found.what, str):
        return found
    where = re.match(r"line (\d+) of the text: (.*)", found.what, re.S)
    if where is None or not 0 < int(where[1]) <= len(lines):
        return found
    return Found(lines[int(where[1]) - 1][0], found.payload, where[2])
