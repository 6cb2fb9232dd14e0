"""Reads the logs of kube-ovn-controller, kube-ovn-cni and kube-router, as klog writes them, and the lines of Kube-OVN's ipset
library in between: what controllers say that they noticed, began, did, refused and failed at.

    I0704 06:57:37.123456       7 vpc.go:123] handle add/update vpc shop

`read` looks at the source file and the first word of a message (`klog_patterns.py`: the table), and only where these may be
of interest at the rest; nineteen lines in twenty are counted and gone. A header has neither year nor zone, so a record's time
is settled while its source is read (`_Clock`) and stands in its identity, from which `heads` and `operation` take it again:

    klog:2026-07-04T06:57:37.123456Z/7/vpc.go:123/9f86d081884c7d65[/eip:web]

with thread, file and line, a hash of the message, and the resource where only the run that was open tells it. What others put
in front of a line (`log_prefixes.py`) is no part of the record: read from two files, it is one. `domain/decide.py` makes
events of what comes out of here: testimony, which moves nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import NamedTuple

from adapters.sources import ipset, log_prefixes
from adapters.sources.dialect import About, Found, Ignored, Line, NotARecord, Recognised, Unknown, iso, moment
from adapters.sources.klog_patterns import (
    CNI,
    FILE_KINDS,
    LOGRUS,
    REQUEUED,
    ROUTER,
    Candidates,
    FileTable,
    Pattern,
    Table,
    expression,
    ip_of,
    pod_of,
    queue_kind,
)
from adapters.sources.klog_runs import Runs
from domain.events import ERROR_LOGGED, RUN_ENDED, RUN_FAILED, RUN_STARTED
from domain.operations import TESTIFIED, Operation, OrderKey
from domain.order import Head
from domain.resources import BY_NAME, Key

FORMAT = "klog"
CLOCKED = True
PREFIX = "klog"

RECORD_BYTES = 1 << 20
"""How much of a record is kept: a restore text of some ten thousand members. What goes on beyond is kept aside."""

REASON_LETTERS = 500
BATCH_RECORDS = 2_000
"""How many records of no interest are counted before they are handed on."""

PLACES_KEPT = 20_000
"""How many places in source files are remembered: both projects together have some thousand statements."""

UNDATED = "its header has no year, and nothing beside it tells one: say --year"
IMPOSSIBLE = "the date in its header is none"
HEADLESS = "it has no klog header, and belongs to no line before it"
CUT = f"the record before is longer than {RECORD_BYTES >> 20} MiB, and was cut off here"
BROKEN = "the container runtime cut this line in pieces, and its end is missing"

_STAMP = rb"\d{4} \d\d:\d\d:\d\d\.\d{6}"
_HEADER = rb"(?:\*\*)?[IWEF]?(" + _STAMP + rb")\s+(\d{1,19}) ([^:\s\]]+):(\d{1,9})\] ?(\S*)"
_STAMP_AT, _THREAD, _FILE, _LINE, _WORD = 2, 3, 4, 5, 6  # group 1 is what stands before
_somewhere = re.compile(rb"(?:\*\*)?(?:[IWEF]|(?<![\w.]))" + _STAMP + rb"\s+\d{1,19} [^:\s\]]+:\d{1,9}\]")
_bare = log_prefixes.compiled((), _HEADER)

_INSTANT = rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"
_logrus = re.compile(
    rb'time="(?P<time>' + _INSTANT + rb')" level=(?P<level>[a-z]+) msg=(?P<words>"(?:[^"\\]|\\.)*"|\S+)(?P<rest>.*)'
    rb"|(?P<time2>" + _INSTANT + rb") \[(?P<level2>[A-Z]+)\]\[\d+\] \S+ \d+: (?P<words2>.*)",
    re.DOTALL,
)
_logrus_somewhere = re.compile(
    rb'time="' + _INSTANT + rb'" level=[a-z]+ msg=|' + _INSTANT + rb" \[[A-Z]+\]\[\d+\] \S+ \d+: "
)
_set_name = re.compile(r'\b(?:setName|ipSetName|mainIPSetName|mainSetName)="?([^\s"]+)')
_set_id = re.compile(r'\bsetID="?([^\s"]+)')
_LOGRUS = "logrus"
_TROUBLE = frozenset({"warning", "warn", "error", "fatal", "panic"})
LONGEST_SET = 31  # letters of an ipset's name (kernel: IPSET_MAXNAMELEN; dossier 4.4)

_DAY = 86_400_000_000
_QUARTER = 900_000_000
_MINUTE = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Said(NamedTuple):
    """What one record says: its row, the values of the row's fields, and the whole message."""

    pattern: Pattern
    fields: dict[str, str]
    message: str


# ---- the interface of a dialect


def recognises(beginning: list[bytes]) -> bool:
    """Whether any of these lines is of klog, or of the library that writes beside it."""
    return any(_begins(line) for line in beginning)


def read(lines: Iterator[Line], about: About) -> Iterator[Found]:
    """All records of a source. A line without a header belongs to the record before it."""
    return _Reading(about).read(lines)


def heads(identity: str, payload: bytes) -> list[Head]:
    """The head of the resource that a record is about."""
    place = _place(identity)
    keys = _keys(_said(place.file, place.line, payload), place.context, place.file)
    return _heads(identity, moment(place.time, "the time in its identity"), keys)


def operation(payload: bytes, order: OrderKey, outcome: str) -> Operation:
    """What the record says of one resource: its statement's words, and the message (or a failed run's cause) as reason."""
    place = _place(order.identity)
    said = _said(place.file, place.line, payload)
    keys = _keys(said, place.context, place.file)
    assert said is not None and order.part < len(keys), "only recognised records come here"
    pattern = said.pattern
    verb, reason = pattern.statement, said.message
    if pattern.event == RUN_FAILED:
        verb, reason = said.fields.get("action") or said.fields.get("queue") or verb, said.fields["cause"]
    return Operation(
        order=order,
        key=keys[order.part],
        verb=verb,
        outcome=outcome,
        reason=reason[:REASON_LETTERS],
        actor=pattern.component,
        agent=PREFIX,
        time=order.time,
        received=order.time,
        command=tuple(said.message.split()) if "command" in said.fields else (),
        testimony=pattern.event,
    )


# ---- a source


def _begins(line: bytes) -> bool:
    found = _somewhere.search(line) or _logrus_somewhere.search(line)
    if found is None:
        return False
    before = line[: found.start()]
    docker = before.rfind(log_prefixes.DOCKER)
    return log_prefixes.shape_of(before if docker < 0 else before[:docker]) is not None


_POLICIES, _SERVICES, _ROUTES = (f"{ROUTER} network {what} controller" for what in ("policy", "services", "routes"))
_CONTROLLERS = {
    "policy.go": _POLICIES,
    "network_policy_controller.go": _POLICIES,
    "npc_iptables.go": _POLICIES,
    "npc_nftables.go": _POLICIES,
    "network_services_controller.go": _SERVICES,
    "network_routes_controller.go": _ROUTES,
}
"""Who writes a restore is who holds the lock (kube-router since 1.2.3, #1088): the line of the text is in a shared file."""


class _Record(NamedTuple):
    """A record in the making: where it began, what stood before it, its header, what it may be, and its lines."""

    number: int
    outer: bytes
    layers: tuple[str, ...]
    header: re.Match[bytes]
    candidates: Candidates
    lines: list[bytes]


class _Reading:
    """One pass through one source."""

    def __init__(self, about: About) -> None:
        self.clock = _Clock(about)
        self.runs = Runs()
        self.locked_by = ""  # the source file of the controller that last took the lock on the node's sets
        self.ignored = self.unknown = 0
        self.record: _Record | None = None
        self.size = 0  # of the record, in bytes
        self.shape = _bare  # what matches the lines now: their prefix and a header behind it
        self.layers: tuple[str, ...] = ()
        self.piece = b""  # of a line that the container runtime cut
        self.piece_at = 0
        self.piece_outer = b""

    def read(self, lines: Iterator[Line]) -> Iterator[Found]:
        places: dict[bytes, FileTable] = {}  # by `vpc.go:123]`, which with a word is all that most lines are asked for
        place_of = places.get
        plain = True  # whether nothing stands in front of the headers now
        ignored = unknown = 0
        due = 1  # the first record is handed on at once, and then every so many: the source lasts from it to the last
        latest = outer = b""
        begun = False
        number = 0
        for number, line, wrong in lines:
            if plain and not wrong:
                words = line.split(None, 5)
                if len(words) > 4 and len(words[0]) == 5 and (table := place_of(words[3])) is not None:
                    of_word, otherwise = table
                    wanted, known, _ = of_word.get(words[4], otherwise)
                    at = line.find(b"] ") + 2 if wanted or known else 0
                    if not at or not line.startswith(wanted, at):
                        if self.record is not None:
                            yield from self._close()
                        if at and line.startswith(known, at):
                            ignored += 1
                        else:
                            unknown += 1
                        latest, outer = line, b""
                        if ignored + unknown >= due:
                            yield from self._flushed(number, latest, outer, ignored, unknown)
                            ignored = unknown = 0
                            due = BATCH_RECORDS
                        continue
            if wrong:
                yield from self._close()
                yield Found(number, line, wrong)
                continue
            if self.piece and not log_prefixes.piece_of(line, True):
                yield Found(self.piece_at, self.piece, BROKEN)
                self.piece = b""
            header = self.shape.match(line) if not self.piece else None
            carried = b""
            if header is None:
                text, carried = self._text(number, line)
                plain = False
                if text is None:
                    continue
                line = text
                header = self._header(line, carried)
                plain = self.shape is _bare
                if header is None:
                    library = self._library(line)
                    if library is not None:
                        yield from self._close()
                        yield from self._library_record(number, line, library)
                        begun = True
                    elif self.record is not None:
                        yield from self._continue(number, line, carried)
                    elif line.strip() and not begun:
                        yield Found(number, line, HEADLESS)
                    continue
            begun = True
            if self.record is not None:
                yield from self._close()
            before = header.end(1)
            place = line[header.start(_FILE) : header.end(_LINE) + 1]
            found = place_of(place)
            if found is None:
                found = _table().of(_file(header))
                if len(places) < PLACES_KEPT:
                    places[place] = found
            some = found.words.get(header[_WORD], found.otherwise)
            at = header.start(_WORD)
            outer = carried or line[:before]
            latest = line[before:]
            if line.startswith(some.wanted, at):
                layers = () if carried else self.layers
                self.record = _Record(number, outer, layers, header, some, [latest[:RECORD_BYTES]])
                self.size = len(latest)
                if self.size > RECORD_BYTES:
                    self.size = -1
                    yield Found(number, latest[RECORD_BYTES:], CUT)
                latest = latest[: header.end(_WORD) - before]
                continue
            if line.startswith(some.known, at):
                ignored += 1
            else:
                unknown += 1
            if ignored + unknown >= due:
                yield from self._flushed(number, latest, outer, ignored, unknown)
                ignored = unknown = 0
                due = BATCH_RECORDS
        yield from self._close()
        if self.piece:
            yield Found(self.piece_at, self.piece, BROKEN)
        yield from self._flushed(number, latest, outer, ignored, unknown)

    def _flushed(self, number: int, latest: bytes, outer: bytes, ignored: int, unknown: int) -> Iterator[Found]:
        """What was counted, with the time of the last header."""
        ignored, self.ignored = ignored + self.ignored, 0
        unknown, self.unknown = unknown + self.unknown, 0
        if not ignored and not unknown:
            return
        header = _bare.match(latest)
        try:
            time = iso(self.clock.at(header[_STAMP_AT], outer)) if header else ""
        except NotARecord:
            time = ""
        if ignored:
            yield Found(number, b"", Ignored(time, ignored))
        if unknown:
            yield Found(number, b"", Unknown(time, unknown))

    def _text(self, number: int, line: bytes) -> tuple[bytes | None, bytes]:
        """A line without what the container runtime packed it in, and its time; `None` while a part of it is to come."""
        piece = log_prefixes.piece_of(line, bool(self.piece))
        if piece is None:
            return line, b""
        text, outer, goes_on = piece
        if goes_on or self.piece:
            if not self.piece:
                self.piece_at, self.piece_outer = number, outer
            self.piece += text[: max(0, RECORD_BYTES - len(self.piece))]
            if goes_on:
                return None, b""
            text, outer, self.piece = self.piece, self.piece_outer, b""
        return text, outer

    def _header(self, line: bytes, carried: bytes) -> re.Match[bytes] | None:
        """The header in a line that is not of the shape of those before."""
        found = _somewhere.search(line, 0, log_prefixes.PREFIX_BYTES + 200)
        layers = log_prefixes.shape_of(line[: found.start()]) if found else None
        if layers is None:
            return None
        shape = log_prefixes.compiled(layers, _HEADER)
        header = shape.match(line)
        if header is not None and not carried:
            self.shape, self.layers = shape, layers
        return header

    def _continue(self, number: int, line: bytes, carried: bytes) -> Iterator[Found]:
        """A line that belongs to the record in the making."""
        record = self.record
        assert record is not None
        if self.size < 0:
            return
        if record.layers and not carried:
            prefix = log_prefixes.compiled(record.layers, b"").match(line)
            line = line[prefix.end() :] if prefix else line
        self.size += len(line) + 1
        if self.size > RECORD_BYTES:
            self.size = -1
            yield Found(number, line[:RECORD_BYTES], CUT)
        else:
            record.lines.append(line)

    def _close(self) -> Iterator[Found]:
        """The record in the making is whole: what it is."""
        record, self.record = self.record, None
        if record is None:
            return
        payload = b"\n".join(record.lines).rstrip()
        header = record.header
        file, line = _file(header).decode("utf-8", "replace"), int(header[_LINE])
        message = _message(payload, header)
        said = _fitting(record.candidates, line, message)
        if said is None:
            if message.startswith(record.candidates.known):
                self.ignored += 1
            else:
                self.unknown += 1
            return
        try:
            time = self.clock.at(header[_STAMP_AT], record.outer)
        except NotARecord as error:
            yield Found(record.number, payload, str(error))
            return
        if said.pattern.takes_the_lock:
            self.locked_by = file
        if (text := said.fields.get("sets", "")) and said.pattern.component == ROUTER:
            actor = _CONTROLLERS.get(self.locked_by, ROUTER)
            yield from ipset.restored(record.number, payload, time, actor, self.clock.about.node, text.strip())
            return
        context = self._context(said, file, time)
        keys = _keys(said, context, file)
        if not keys:
            self.ignored += 1
            return
        if said.pattern.event == RUN_STARTED and context is None:
            self.runs.start(keys[0], said.pattern.statement, time)
        elif said.pattern.event in (RUN_FAILED, RUN_ENDED):
            self.runs.end(keys[0])
        yield Found(
            record.number, payload, _recognised(time, header[_THREAD], f"{file}:{line}", message, context, keys)
        )

    def _context(self, said: Said, file: str, time: int) -> Key | None:
        """The resource of a record that does not name it: that of the run which is open."""
        if said.pattern.run:
            key = self.runs.at(said.pattern.run, time)
            named = said.fields.get("short")
            return key if key is None or named in (None, key.name) else None
        if said.pattern.event == RUN_FAILED and len(kinds := _kinds_of_run(said, file)) > 1:
            return self.runs.named(kinds, said.fields["key"])
        return None

    def _library(self, line: bytes) -> bytes | None:
        """A line of the ipset library, without its prefix."""
        found = _logrus_somewhere.search(line, 0, log_prefixes.PREFIX_BYTES)
        if found is None or log_prefixes.shape_of(line[: found.start()]) is None:
            return None
        return line[found.start() :]

    def _library_record(self, number: int, line: bytes, payload: bytes) -> Iterator[Found]:
        said = _said(_LOGRUS, 0, payload)
        if said is None:
            self.unknown += 1
            return
        keys = _keys(said, None, _LOGRUS)
        if not keys:
            self.ignored += 1
            return
        try:
            time = self.clock.of_instant(said.fields["time"])
        except NotARecord as error:
            yield Found(number, line, str(error))
            return
        yield Found(number, payload, _recognised(time, b"0", f"{_LOGRUS}:0", payload, None, keys))


def _recognised(
    time: int, thread: bytes, place: str, message: bytes, context: Key | None, keys: list[Key]
) -> Recognised:
    digest = hashlib.blake2b(message, digest_size=8).digest()
    when = iso(time)
    identity = f"{PREFIX}:{when}/{thread.decode()}/{place}/{digest.hex()}"
    if context is not None:
        identity += f"/{context.tag}"
    return Recognised(identity, digest, when, _heads(identity, time, keys))


def _heads(identity: str, time: int, keys: list[Key]) -> list[Head]:
    return [Head(time, identity, part, time, key, "", 0, TESTIFIED) for part, key in enumerate(keys)]


class _Place(NamedTuple):
    """An identity, taken apart."""

    time: str
    file: str
    line: int
    context: Key | None


def _place(identity: str) -> _Place:
    time, _, place, _, *context = identity.partition(":")[2].split("/", 4)
    file, _, line = place.rpartition(":")
    key = None
    if context:
        kind, _, path = context[0].partition(":")
        namespace, _, name = path.rpartition("/")
        key = Key(kind, namespace, name)
    return _Place(time, file, int(line), key)


# ---- what a record says


@cache
def _table() -> Table:
    return Table(BY_NAME)


def _candidates(header: re.Match[bytes]) -> Candidates:
    words, otherwise = _table().of(_file(header))
    return words.get(header[_WORD], otherwise)


def _file(header: re.Match[bytes]) -> bytes:
    """The source file's own name: klog may be told to write its directory, too."""
    return header[_FILE].rpartition(b"/")[2]


def _message(payload: bytes, header: re.Match[bytes]) -> bytes:
    """A record's text without its header, and without what a person put around it for bold."""
    message = payload[header.start(_WORD) - header.end(1) :]
    return message.rstrip().removesuffix(b"**") if payload.startswith(b"**") else message


def _said(file: str, line: int, payload: bytes) -> Said | None:
    """What a record says, by the first row that it fits; `None` if no row of use does."""
    header = _bare.match(payload)
    if header is None:
        return _said_by_library(payload) if file == _LOGRUS else None
    return _fitting(_candidates(header), line, _message(payload, header))


def _fitting(some: Candidates, line: int, message: bytes) -> Said | None:
    """What a message on that line says, by the first row that it fits."""
    first = message.split(b"\n", 1)[0].rstrip()
    for pattern in [pattern for prefix, pattern in some.patterns if message.startswith(prefix)]:
        if pattern.lines and line not in pattern.lines:
            continue
        whole = not pattern.files or "{sets}" in pattern.wording
        found = expression(pattern.wording).match(message if whole else first)
        if found:
            text = message.decode("utf-8", "replace")
            fields = {name: value.decode("utf-8", "replace") for name, value in found.groupdict().items()}
            return (
                _requeued(Said(pattern, fields, text)) if pattern.event == RUN_FAILED else Said(pattern, fields, text)
            )
    return None


_quoted = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_indented = re.compile(r"<\n((?:\t.*\n)+) >")
_escape = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def unquoted(text: str) -> str:
    """A Go string's value, from what stands between its quotes."""

    def value(found: re.Match[str]) -> str:
        digits = found[1] or found[2] or found[3]
        if digits or found[4]:
            number = int(digits, 16) if digits else int(found[4], 8)
            return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\ufffd"
        return _ESCAPES.get(found[5], found[5])

    return _escape.sub(value, text)


def _requeued(said: Said) -> Said | None:
    """A requeue line, in whichever form: with `key`, `cause`, and `action` or `queue` where it names them."""
    fields = said.fields
    if "structured" in fields:
        # klog v2 quotes an error of one line, and indents one of several (klog: internal/serialize writeStringValue).
        structured = fields["structured"]
        if found := _quoted.match(structured):
            error = unquoted(found[1])
        elif found := _indented.match(structured):
            error = "\n".join(line[1:] for line in found[1].splitlines())
        else:
            return None
        for pattern in REQUEUED[:-1]:
            if inner := expression(pattern.wording).match(error.encode("utf-8", "replace")):
                values = {name: value.decode("utf-8", "replace") for name, value in inner.groupdict().items()}
                return _requeued(Said(said.pattern, values, said.message))
        return None
    cause = fields["cause"].rstrip().removesuffix("requeuing").rstrip().removesuffix(",")
    return Said(said.pattern, {**fields, "cause": cause}, said.message)


def _said_by_library(payload: bytes) -> Said | None:
    """A line of Kube-OVN's ipset library, which logs with logrus, in either of the forms that it is seen in."""
    found = _logrus.match(payload)
    if found is None:
        return None
    values = {name: (value or b"").decode("utf-8", "replace") for name, value in found.groupdict().items()}
    words = values["words"] or values["words2"]
    if words.startswith('"'):
        words = unquoted(words[1:-1])
    event = next((event for beginning, event in LOGRUS if words.startswith(beginning)), "")
    if not event and (values["level"] or values["level2"].lower()) in _TROUBLE:
        event = ERROR_LOGGED
    if not event:
        return None
    message = f"{words}{values['rest']}"
    statement = re.split(r"\s+\w+=", words, maxsplit=1)[0].rstrip(".")
    fields = {"time": values["time"] or values["time2"]}
    if name := _set_name.search(message):
        fields["set"] = name[1]
    elif identifier := _set_id.search(message):
        # kubeovn/felix: IPVersionConfig.NameForMainIPSet.
        family = "6" if re.search(r'\bfamily="?inet6', message) else "4"
        fields["set"] = f"ovn{family}0{identifier[1]}"[:LONGEST_SET]
    return Said(Pattern(CNI, 0, (), statement, event, "ipset"), fields, message)


def _kinds_of_run(said: Said, file: str) -> tuple[str, ...]:
    """The kinds that a requeued key may be of."""
    named = said.fields.get("action") or said.fields.get("queue")
    return (queue_kind(named),) if named else FILE_KINDS.get(file, ())


def _keys(said: Said | None, context: Key | None, file: str) -> list[Key]:
    """The resources that a record is about; none if it names none, or one of a kind that is not known here."""
    if said is None:
        return []
    if context is not None:
        return [context] if context.kind in BY_NAME else []
    pattern, fields = said.pattern, said.fields
    kind, name = pattern.kind, fields.get("name", "")
    if pattern.run:
        return []
    if pattern.event == RUN_FAILED:
        kinds = _kinds_of_run(said, file)
        kind, name = kinds[0] if len(kinds) == 1 else "", fields["key"]
        namespace, _, name = name.rpartition("/")
    else:
        namespace = fields.get("namespace", "")
    if kind not in BY_NAME:
        return []
    if "set" in fields:
        return [Key(kind, "", fields["set"])]
    if "holder" in fields:
        return [Key(kind, "", ip_of(fields["holder"]))]
    if "port" in fields:
        pod = pod_of(fields["port"])
        return [pod] if pod is not None else []
    namespaced = BY_NAME[kind].namespaced
    if not name or (namespaced and not namespace):
        return []  # half a key is none
    return [Key(kind, namespace if namespaced else "", name)]


# ---- when


class _Clock:
    """Gives the times of a source's headers their year and zone.

    The year is the one that was given (of the first record), or that of the time in front of the line, or the last one in
    which the file, as it was last written, can hold the line; after the first, it is whichever puts a line nearest to the
    one before, so that the turn of the year is one. A clock in front of a line that stands whole quarters of an hour apart
    shows which zone the container is in.
    """

    def __init__(self, about: About) -> None:
        self.about = about
        self.zone = about.timezone
        self.zoned = about.timezone is not UTC
        self.last: int | None = None
        self.today = b"", 0  # of the last header: its date, and when that day began

    def at(self, stamp: bytes, outer: bytes) -> int:
        """Microseconds since 1970 of a header's `0704 06:57:37.123456`. Raises `NotARecord`."""
        day, midnight = self.today
        if not outer and stamp[:4] == day:
            since = _since_midnight(stamp)
            if 0 <= since < _DAY:
                self.last = midnight + since
                return self.last
        seen = log_prefixes.time_of(outer) if outer else None
        about = self.about
        if seen is not None and not self.zoned:
            self._find_zone(stamp, seen)
        if self.last is None and about.year is not None:
            found = self._in(about.year, stamp)
        elif (near := seen if about.year is None and seen is not None else self.last) is not None:
            found = self._nearest(stamp, near, bounded=seen is None and about.year is None)
        elif about.modified:
            found = self._before(stamp, about.modified + _DAY)
        else:
            raise NotARecord(UNDATED)
        if found is None:
            raise NotARecord(IMPOSSIBLE)
        self.last = found
        if isinstance(self.zone, timezone):  # of a fixed offset: all its days are as long
            self.today = stamp[:4], found - _since_midnight(stamp)
        return found

    def of_instant(self, text: str) -> int:
        """Microseconds since 1970 of a time that has its year, and perhaps its zone. Raises `NotARecord`."""
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise NotARecord(IMPOSSIBLE) from None
        return _microseconds(when if when.tzinfo is not None else when.replace(tzinfo=self.zone))

    def _find_zone(self, stamp: bytes, seen: int) -> None:
        self.zoned = True
        here = self._nearest(stamp, seen, bounded=False)
        if here is None:
            return
        apart = seen - here
        quarters = round(apart / _QUARTER) * _QUARTER
        if quarters and abs(quarters) <= 14 * 4 * _QUARTER and abs(apart - quarters) <= _MINUTE:
            self.zone = timezone(timedelta(microseconds=-quarters))

    def _in(self, year: int, stamp: bytes) -> int | None:
        if not 1970 <= year <= 9000:
            return None
        try:
            when = datetime(
                year,
                int(stamp[:2]),
                int(stamp[2:4]),
                int(stamp[5:7]),
                int(stamp[8:10]),
                int(stamp[11:13]),
                int(stamp[14:20]),
                tzinfo=self.zone,
            )
        except ValueError:
            return None
        return _microseconds(when)

    def _nearest(self, stamp: bytes, to: int, *, bounded: bool) -> int | None:
        year = (_EPOCH + timedelta(microseconds=to)).year
        times = [time for one in (year - 1, year, year + 1) if (time := self._in(one, stamp)) is not None]
        if bounded and self.about.modified:
            times = [time for time in times if time <= self.about.modified + _DAY] or times[:1]
        return min(times, key=lambda time: abs(time - to), default=None)

    def _before(self, stamp: bytes, bound: int) -> int | None:
        year = (_EPOCH + timedelta(microseconds=bound)).year
        times = (self._in(one, stamp) for one in range(year, year - 9, -1))  # 29 February may be eight years ago
        return next((time for time in times if time is not None and time <= bound), None)


def _since_midnight(stamp: bytes) -> int:
    """Microseconds; -1 if no clock shows that."""
    hour, minute, second = int(stamp[5:7]), int(stamp[8:10]), int(stamp[11:13])
    if hour > 23 or minute > 59 or second > 59:
        return -1
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + int(stamp[14:20])


def _microseconds(when: datetime) -> int:
    since = when - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
