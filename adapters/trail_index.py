"""Who did what to what, and when, for every event of a long ledger in a few bytes each: `LEDGER.trail`, beside it.

Events lie in *segments* of some thousand, in the order of their positions. A segment keeps columns: which of its few
*combinations* (actor, kind and namespace, what was done) each event has, which name, which time, which labels
(`trail_labels.py`). What it says of itself (from when to when, whose, a filter of its names and labels) tells nearly always
whether it need be looked at, and only the events that are shown are then read from the ledger. Superseded events are in it
too; who asks says which stretches count.

The file follows from the log: it is added to while a log is judged and when a question finds it behind, and whatever is
wrong with it, it is thrown away and made again. What it lacks a question holds in memory. `trail.py` asks it.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from zlib import crc32

import msgspec
import zstandard

from adapters import pruned, trail_labels
from adapters.disposable import ERRORS, Unusable, begun, is_damage, opened, throw_away
from adapters.label_selector import Selector
from adapters.ledger import Ledger
from adapters.ports import Recorder, StoreError
from adapters.stores import codec
from adapters.stores.event_block import inflate
from adapters.trail_labels import MARK, Column, Does, Labels, Shown, Turn, turn_of
from domain.events import GENERATION, REFUSED, SCHEMA_VERSION, Changes, Event
from domain.operations import REFUSED as REFUSED_BY_API_SERVER
from domain.operations import OrderKey
from domain.resources import Key
from domain.world import World

VERSION: Final = 2
SEGMENT_EVENTS: Final = 32_768
"""At most 65,535: what is counted within a segment has two bytes."""
ANCHOR_EVENTS: Final = 256
"""For so many events the highest revision is kept."""
WRITE_EVENTS: Final = 4_096
"""From how many on a question writes down what it found the file to lack."""
WRITE_SEGMENTS: Final = 8
"""How many segments are made before they are written, in one transaction."""
LEVEL: Final = 3
FEW_NAMES: Final = 500
"""Up to so many are looked for in a segment's filter first; more are quicker compared with all of its names."""
FILTER_BITS: Final = 10
"""Bits in a segment's filter for each of its names: of a hundred names that it does not have, one seems to be there."""

_TABLES = """
-- One row: from which log all of this was made, and up to which position it was read.
CREATE TABLE bound (content BLOB);
-- Actors, places and acts by number, as many as came since the row before.
CREATE TABLE words (number INTEGER PRIMARY KEY, content BLOB);
CREATE TABLE segment (number INTEGER PRIMARY KEY, about BLOB);
CREATE TABLE part (id INTEGER PRIMARY KEY, content BLOB);
"""
# A content is a zstd frame with a checksum; of a part the segment keeps one, too, which binds it to its place.

Answer = TypeVar("Answer")

Place = tuple[str, str]
"""Kind and namespace."""

BY_LIFECYCLE, BY_API_SERVER = 1, 2
"""Who refused."""


class Act(NamedTuple):
    """What was done: the API's verb, or the event's type where there is none; the type; who refused it, or 0.

    `follows` says that it followed from another event, whose doing it is.
    """

    verb: str
    type: str
    refused: int
    follows: bool


Stretch = tuple[int, int]
"""Positions: above the first, up to the second."""


class Wanted(NamedTuple):
    """Which events are asked for. Times are microseconds since 1970, both inclusive; `None` is any."""

    stretches: Sequence[Stretch]
    """In order; a position in none of them is passed over."""
    actor: Callable[[str], bool] | None = None
    place: Callable[[Place], bool] | None = None
    act: Callable[[Act], bool] | None = None
    name: str | None = None
    labels: Selector | None = None
    """What is chosen by the labels that the log had shown by then."""
    since: int | None = None
    until: int | None = None


class Done(msgspec.Struct):
    """What one actor did: how often each act, and where and when (microseconds since 1970) the first and the last stands."""

    acts: dict[Act, int]
    first: tuple[int, int]
    last: tuple[int, int]


class Words:
    """Actors, places and acts by number, and the number of each."""

    def __init__(self) -> None:
        self.actors: list[str] = []
        self.places: list[Place] = []
        self.acts: list[Act] = []
        self._numbers: tuple[dict[str, int], dict[Place, int], dict[Act, int]] = ({}, {}, {})

    def actor(self, actor: str) -> int:
        """Its number, given now where it has none."""
        return _number(actor, self.actors, self._numbers[0])

    def place(self, place: Place) -> int:
        """Its number, given now where it has none."""
        return _number(place, self.places, self._numbers[1])

    def act(self, act: Act) -> int:
        """Its number, given now where it has none."""
        return _number(act, self.acts, self._numbers[2])

    def count(self) -> tuple[int, int, int]:
        """How many there are of each."""
        return len(self.actors), len(self.places), len(self.acts)

    def since(self, count: tuple[int, int, int]) -> Lexicon:
        """Those that came behind so many."""
        actors, places, acts = count
        return Lexicon(count, self.actors[actors:], self.places[places:], self.acts[acts:])

    def add(self, some: Lexicon) -> None:
        """Take in what `since` gave."""
        if some.behind != self.count():
            raise Unusable
        for actor in some.actors:
            self.actor(actor)
        for place in some.places:
            self.place(place)
        for act in some.acts:
            self.act(act)


Word = TypeVar("Word")


def _number(word: Word, words: list[Word], numbers: dict[Word, int]) -> int:
    number = numbers.get(word)
    if number is None:
        words.append(word)
        number = numbers[word] = len(words) - 1
    return number


class Lexicon(msgspec.Struct, array_like=True):
    """Words as they are kept, `behind` so many."""

    behind: tuple[int, int, int]
    actors: list[str]
    places: list[Place]
    acts: list[Act]


class About(msgspec.Struct, array_like=True):
    """What a segment says of itself. Times are microseconds since 1970; whose and what are numbers in `Words`."""

    first: int
    last: int
    events: int
    since: int
    until: int
    anchors: list[int]
    """Of each `ANCHOR_EVENTS` of its events the highest revision that one is anchored at; 0 for none."""
    actors: list[int]
    places: list[int]
    acts: list[int]
    labelled: list[int]
    """The places of events of which the labels are known."""
    sets: int
    """How many sets of labels its events have."""
    checks: list[int]
    """CRC-32 of each part as it is kept."""


class Bound(msgspec.Struct, array_like=True):
    """What the file was made from: a position of the log with what stands for all up to there."""

    pruned: int
    """Up to which position the ledger was pruned then: what was kept before may be gone since."""
    position: int
    seal: bytes
    reach: int
    """The position up to which events were taken in."""
    segments: int
    words: int


# The parts of a segment: the place of each in `About.checks`.
POSITIONS, COMBINATIONS, COMBINED, NAMES, COUNTS, NAMED, TIMES, FILTER = range(8)
LABELLED, LABELS, LABEL_COUNTS, LABEL_SETS = range(8, 12)
_AS_THEY_ARE: Final = frozenset({NAMED, FILTER})
"""Parts that no packing makes smaller."""
PARTS: Final = 12
"""The id of a part is that of its segment times this, and its own."""

_encode = msgspec.msgpack.Encoder().encode
_decode_about = msgspec.msgpack.Decoder(About).decode
_decode_bound = msgspec.msgpack.Decoder(Bound).decode
_decode_words = msgspec.msgpack.Decoder(Lexicon).decode


class Reach(Protocol):
    """How far the log goes, and behind which place and position it begins: a `Ledger`, or what follows a log that grows."""

    @property
    def head(self) -> int:
        """The position of the last event."""
        ...

    @property
    def start(self) -> tuple[int, int]:
        """0 and 0, or up to where it was pruned."""
        ...

    def stretches(self) -> list[Stretch]:
        """Which positions belong to the current generation."""
        ...


class Trail:
    """That of one ledger; safe to ask from several threads. Nothing here fails because of its file."""

    def __init__(
        self, path: Path | None, ledger: Ledger | Reach, recorder: Recorder, segment_events: int = SEGMENT_EVENTS
    ) -> None:
        """`recorder` is the ledger's; `path` is where it is kept (`backends.beside`), `None` where it is not."""
        self.path = path
        self.segment_events = segment_events
        self._ledger = ledger
        self._recorder = recorder
        self._lock = threading.Lock()
        self._stored = _Stored()
        self._tail: _Tail | None = None
        self._base: dict[tuple[Place, bytes], Labels | None] | None = None

    def page(self, wanted: Wanted, limit: int | None = None, *, reverse: bool = False) -> list[int]:
        """The positions of the first events that match, or of the last, the last first. Raises the recorder's errors."""

        def answer(asked: _Asked) -> list[int]:
            found: list[int] = []
            for segment, offsets in asked.matching(wanted, reverse=reverse):
                found += segment.positions_of(offsets)
                if limit is not None and len(found) >= limit:
                    return found[:limit]
            return found

        return self._answered(answer)

    def tally(self, wanted: Wanted) -> dict[str, Done]:
        """What each actor did of what matches, who came first first. Raises the recorder's errors."""

        def answer(asked: _Asked) -> dict[str, Done]:
            words = asked.words
            counts: dict[int, dict[int, int]] = {}
            first: dict[int, tuple[Segment, int]] = {}
            last: dict[int, tuple[Segment, int]] = {}
            for segment, offsets in asked.matching(wanted):
                numbers, combined = segment.combinations, segment.combined
                for offset in offsets:
                    place = 3 * combined[offset]
                    actor, act = numbers[place], numbers[place + 2]
                    done = counts.setdefault(actor, {})
                    done[act] = done.get(act, 0) + 1
                    first.setdefault(actor, (segment, offset))
                    last[actor] = segment, offset
            return {
                words.actors[actor]: Done(
                    {words.acts[act]: count for act, count in done.items()},
                    first[actor][0].place_of(first[actor][1]),
                    last[actor][0].place_of(last[actor][1]),
                )
                for actor, done in counts.items()
            }

        return self._answered(answer)

    def known(self) -> tuple[list[str], list[Act]]:
        """Everyone who did something, superseded or not, and everything that was done. Raises the recorder's errors."""
        return self._answered(lambda asked: (list(asked.words.actors), list(asked.words.acts)))

    def labelled(self) -> tuple[list[str], list[str]]:
        """The kinds of which the log shows labels, and the others of which it has events. Raises the recorder's errors."""

        def answer(asked: _Asked) -> tuple[list[str], list[str]]:
            places = asked.words.places
            there = {places[place][0] for segment in asked.segments for place in segment.about.places}
            known = {places[place][0] for segment in asked.segments for place in segment.about.labelled}
            return sorted(known), sorted(there - known)

        return self._answered(answer)

    def first_behind(self, revision: int, stretches: Sequence[Stretch]) -> int | None:
        """The position of the first event in these stretches that is anchored behind a revision; `None` for none."""

        def answer(asked: _Asked) -> int | None:
            for segment in asked.segments:
                about = segment.about
                if max(about.anchors) <= revision or not _touches(about, stretches):
                    continue
                for number, anchor in enumerate(about.anchors):
                    if anchor > revision:
                        start = number * ANCHOR_EVENTS
                        end = min(start + ANCHOR_EVENTS, about.events) - 1
                        first, last = segment.positions_of([start, end])
                        # Nearly always the first of them has it; where what it has is superseded, one of the next.
                        if (found := self._behind(revision, first - 1, last, stretches)) is not None:
                            return found
            return None

        return self._answered(answer)

    def _behind(self, revision: int, after: int, upto: int, stretches: Sequence[Stretch]) -> int | None:
        for stretch in stretches:
            low, high = max(after, stretch[0]), min(upto, stretch[1])
            for found in self._recorder.between(None, low, high) if low < high else ():
                if found.event.type != GENERATION and _anchor(codec.decode(found.event.data).order) > revision:
                    return found.position
        return None

    def catch_up(self) -> None:
        """Add what the log has got since; do nothing where the file cannot be written."""
        with self.making() as maker:
            if maker.is_kept:
                maker.read_on(self._ledger.head)

    @contextmanager
    def making(self) -> Iterator[Maker]:
        """What adds to the file while the log is folded from its beginning: what the file has is passed over."""
        with self._lock:
            maker = Maker(self, self._started())
        # What was pruned is not folded, and what was kept of it is no less asked for.
        maker.read_on(self._ledger.start[1])
        yield maker
        maker.finish()

    # ---- answering

    def _answered(self, answer: Callable[[_Asked], Answer]) -> Answer:
        for _ in range(2):
            try:
                with self._connected() as connection:
                    with self._lock:
                        asked = self._asked(connection)
                    return answer(asked)
            except ERRORS as error:
                if self.path is not None and is_damage(error):
                    throw_away(self.path)
        with self._lock:  # without the file
            asked = self._held(_Stored())
        return answer(asked)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection | None]:
        """The file in one transaction, so that what leads to a part and the part are of one time; `None` without one."""
        if self.path is None or not self.path.exists():
            yield None
            return
        with closing(opened(self.path, "ro")) as connection:
            connection.execute("BEGIN")
            yield connection

    def _asked(self, connection: sqlite3.Connection | None) -> _Asked:
        """Everything up to the ledger's head: what the file has, and behind it what it lacks. The lock is held."""
        asked = self._held(self._read(connection), connection)
        tail = self._tail
        if self.path is None or tail is None or tail.added < tail.due:
            return asked
        tail.due = tail.added + WRITE_EVENTS  # where it cannot be written: not at every question
        if connection is not None:
            connection.execute("COMMIT")
        with suppress(*ERRORS, StoreError):
            if tail.follows_a_part:
                tail = _Tail(self, tail.stored, over=True)
                tail.read_on(self._recorder, self._ledger.head)
            self.write(tail, whole=True)
            self._tail = None
        if connection is None:  # from now on there is a file: the next question finds it
            return asked
        connection.execute("BEGIN")
        return self._held(self._read(connection), connection)

    def _held(self, stored: _Stored, connection: sqlite3.Connection | None = None) -> _Asked:
        tail = self._tail
        if tail is None or tail.stored.content != stored.content:
            is_far_behind = self._ledger.head - stored.reach >= WRITE_EVENTS
            tail = self._tail = _Tail(self, stored, over=is_far_behind)
        try:
            tail.read_on(self._recorder, self._ledger.head)
            return _Asked(tail.words, [*self._kept(connection, tail.before), *tail.segments()])
        except ERRORS:
            self._tail = None  # it may have taken in a part of it
            raise

    @staticmethod
    def _kept(connection: sqlite3.Connection | None, abouts: Sequence[About]) -> list[Segment]:
        return [Segment(about, _part_in(connection, number, about)) for number, about in enumerate(abouts)]

    def _read(self, connection: sqlite3.Connection | None) -> _Stored:
        """What the file says of itself, if it was made from this log: a log only grows, what stood there stands there."""
        if connection is None:
            return _Stored()
        row = connection.execute("SELECT content FROM bound").fetchone()
        content = row[0] if row is not None else None
        if not isinstance(content, bytes):
            raise Unusable
        if content == self._stored.content:
            return self._stored
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise Unusable
        bound = _unpacked(content, _decode_bound)
        seal = self._recorder.seal(bound.position)
        if seal is None or seal.digest != bound.seal or bound.pruned != self._ledger.start[1]:
            raise Unusable
        words = connection.execute("SELECT content FROM words ORDER BY number").fetchall()
        segments = connection.execute("SELECT number, about FROM segment ORDER BY number").fetchall()
        if len(words) != bound.words or [number for number, _ in segments] != list(range(bound.segments)):
            raise Unusable
        abouts = [_unpacked(about, _decode_about) for _, about in segments]
        ends = [0, *(end for about in abouts for end in (about.first, about.last)), bound.reach]
        if any(one > other for one, other in pairwise(ends)):
            raise Unusable
        lexicons = [_unpacked(some, _decode_words) for (some,) in words]
        self._stored = _Stored(content, bound.reach, abouts, lexicons)
        return self._stored

    # ---- making

    def _started(self) -> _Tail:
        """What goes on where the file ends. The lock is held."""
        stored = _Stored()
        try:
            with self._connected() as connection:
                stored = self._read(connection)
        except ERRORS as error:
            if self.path is not None and is_damage(error):
                throw_away(self.path)
        return _Tail(self, stored, over=True)

    def labels_before(
        self, entries: Iterable[bytes], words: Words, behind: Sequence[About], done: Sequence[Packed]
    ) -> dict[bytes, Labels | None]:
        """What the log had shown of the labels of names, by the last event on each in the segments before.

        Raises `ERRORS`, and `StoreError`.
        """
        found: dict[bytes, Labels | None] = {}
        wanted = set(entries)
        stretches = self.told_of()
        with self._connected() if behind and wanted else nullcontext() as connection:
            segments = [*self._kept(connection, behind), *(Segment(about, _part_of(parts)) for about, parts in done)]
            for segment in reversed(segments):
                if not wanted:
                    return found
                if _touches(segment.about, stretches):
                    some = segment.labels_of(wanted, stretches)
                    found |= some
                    wanted.difference_update(some)
        base = self._labels_of_base() if wanted else {}
        for entry in wanted:
            name, _, place = entry.rpartition(b"/")
            found[entry] = base.get((words.places[int(place)], name))
        return found

    def told_of(self) -> list[Stretch]:
        """The stretches in which every event of the current generation is there still."""
        *before, (after, _) = self._ledger.stretches()
        floor = self._ledger.start[1]
        stretches = [*before, (after, sys.maxsize)]
        return [(max(after, floor), upto) for after, upto in stretches if upto > floor]

    def _labels_of_base(self) -> dict[tuple[Place, bytes], Labels | None]:
        """Those of what was there where the ledger was pruned."""
        if self._base is None:
            base = self._recorder.base()
            live = pruned.read(base).restored().world.live if base is not None else {}
            self._base = {
                ((key.kind, key.namespace), _name(key.name)): trail_labels.labels_of(resource)
                for key, resource in live.items()
            }
        return self._base

    def write(self, tail: _Tail, *, whole: bool) -> None:
        """Put the full segments of a tail behind what is in the file, or all of it. Raises `StoreError` and `ERRORS`."""
        assert self.path is not None
        segments = tail.taken(whole=whole)
        stored, kept = tail.stored, tail.before
        position = self._recorder.head()
        seal = self._recorder.seal(position)
        if seal is None:
            raise Unusable
        reach = tail.reach if whole else (segments[-1][0].last if segments else tail.began)
        with closing(opened(self.path, "rwc")) as connection, begun(connection):
            row = None
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                row = connection.execute("SELECT content FROM bound").fetchone()
            elif not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            else:
                raise Unusable
            if (row[0] if row is not None else b"") != stored.content:
                raise sqlite3.OperationalError("another one has added to the trail meanwhile")
            connection.execute("DELETE FROM segment WHERE number >= ?", (len(kept),))
            connection.execute("DELETE FROM part WHERE id >= ?", (len(kept) * PARTS,))
            for number, (about, parts) in enumerate(segments, len(kept)):
                connection.execute("INSERT INTO segment VALUES (?, ?)", (number, _packed(about)))
                connection.executemany(
                    "INSERT INTO part VALUES (?, ?)",
                    [(number * PARTS + part, content) for part, content in enumerate(parts)],
                )
            lexicons = list(stored.words)
            if tail.words.count() != tail.words_kept:
                lexicons.append(tail.words.since(tail.words_kept))
                connection.execute("INSERT INTO words VALUES (?, ?)", (len(lexicons), _packed(lexicons[-1])))
            bound = Bound(self._ledger.start[1], position, seal.digest, reach, len(kept) + len(segments), len(lexicons))
            content = _packed(bound)
            connection.execute("DELETE FROM bound")
            connection.execute("INSERT INTO bound VALUES (?)", (content,))
        tail.went_on(_Stored(content, reach, [*kept, *(about for about, _ in segments)], lexicons))


class Maker:
    """Adds the events that it is told of, one after the other in order. Where the file cannot be written it gives up."""

    def __init__(self, trail: Trail, tail: _Tail) -> None:
        self._trail = trail
        self._tail = tail
        self.is_kept = trail.path is not None
        """Whether what it is told of is still written down."""

    def note(self, event: Event, at: int, position: int) -> None:
        """Take the next event of the log in; it stands in the log by now."""
        if position <= self._tail.reach or not self.is_kept:
            return
        if position > self._tail.reach + 1:
            self.read_on(position - 1)  # positions were skipped, or hold what is superseded, or what nobody told of
        try:
            self._tail.add(event, position)
        except (*ERRORS, StoreError):
            self.is_kept = False
            return
        if len(self._tail.done) >= WRITE_SEGMENTS:
            self._write(whole=False)

    def settle(self, world: World) -> None:
        """What all of it adds up to is not kept here."""

    def restart_after(self, at: int) -> None:
        """A new generation begins: what it supersedes stays, and is passed over by who asks."""

    def read_on(self, upto: int) -> None:
        """Take in what the log itself holds up to a position."""
        while self.is_kept and self._tail.reach < upto:
            try:
                self._tail.read_on(self._trail._recorder, upto, WRITE_SEGMENTS)
            except ERRORS:
                self.is_kept = False
                return
            if len(self._tail.done) >= WRITE_SEGMENTS:
                self._write(whole=False)

    def finish(self) -> None:
        """Write down what is left."""
        if self.is_kept and self._tail.added:
            self._write(whole=True)

    def _write(self, *, whole: bool) -> None:
        try:
            with self._trail._lock:
                self._trail.write(self._tail, whole=whole)
        except (*ERRORS, StoreError):
            self.is_kept = False


# ---- what is held in memory


class _Stored:
    """What a file says of itself; without a file, nothing."""

    def __init__(
        self, content: bytes = b"", reach: int = 0, segments: Sequence[About] = (), words: Sequence[Lexicon] = ()
    ) -> None:
        self.content = content
        self.reach = reach
        self.segments = list(segments)
        self.words = list(words)


class _Tail:
    """What comes behind what a file holds: full segments, and what is gathered for the next."""

    def __init__(self, trail: Trail, stored: _Stored, *, over: bool) -> None:
        """`over` says that it takes the place of the file's last segment, where that is not full."""
        self._trail = trail
        self.stored = stored
        self.before = list(stored.segments)
        """The segments of the file that it stands behind."""
        self.began = self.reach = stored.reach
        self.follows_a_part = bool(self.before) and self.before[-1].events < trail.segment_events
        if over and self.follows_a_part:
            self.began = self.reach = self.before.pop().first - 1
            self.follows_a_part = False
        self.added = 0
        self.due = WRITE_EVENTS
        """From how many events on a question writes it down."""
        self.done: list[Packed] = []
        self.words = Words()
        for some in stored.words:
            self.words.add(some)
        self.words_kept = self.words.count()
        self._next = _Gathered()
        self._shown: tuple[int, Packed] | None = None

    def add(self, event: Event | _Lean, position: int) -> None:
        """Take the next event in."""
        if event.type != GENERATION:
            self._next.add(event, position)
            self.added += 1
            if len(self._next.positions) == self._trail.segment_events:
                self.done.append(self._packed())
                self._next = self._next.following()
        self.reach = position

    def _packed(self) -> Packed:
        """What is gathered, as it is kept."""
        return self._next.packed(
            self.words,
            self._trail.told_of(),
            lambda entries: self._trail.labels_before(entries, self.words, self.before, self.done),
        )

    def read_on(self, recorder: Recorder, upto: int, segments: int | None = None) -> None:
        """Take in what the log has up to a position, and stop when so many segments are full."""
        if self.reach >= upto:
            return
        for found in recorder.between(None, self.reach, upto):
            data = found.event.data
            event = _decode_labelled(data) if MARK in data else _decode_lean(data)
            if event.schema > SCHEMA_VERSION:
                codec.decode(data)  # which says so
            self.add(event, found.position)
            if segments is not None and len(self.done) >= segments:
                return
        self.reach = upto

    def segments(self) -> Iterator[Segment]:
        """All of it."""
        for about, parts in self.done:
            yield Segment(about, _part_of(parts))
        if count := len(self._next.positions):
            if self._shown is None or self._shown[0] != self.reach:
                self._shown = self.reach, self._packed()
            assert count == self._shown[1][0].events
            yield Segment(self._shown[1][0], _part_of(self._shown[1][1]))

    def taken(self, *, whole: bool) -> list[Packed]:
        """The full segments, and the last one as it is where all is wanted."""
        last = [self._packed()] if whole and self._next.positions else []
        return [*self.done, *last]

    def went_on(self, stored: _Stored) -> None:
        """All that was taken is written."""
        self.stored, self.before, self.began, self.done = stored, list(stored.segments), stored.reach, []
        self.words_kept = self.words.count()
        self.added = len(self._next.positions)


Packed = tuple[About, list[bytes]]


class _Gathered:
    """The events of a segment to be."""

    def __init__(self, stretches: list[Stretch] | None = None, known: dict[bytes, Labels | None] | None = None) -> None:
        """`known` are labels from before it, by name, as long as these stretches are those that count."""
        self.positions: list[int] = []
        self._times: list[int] = []
        self._anchors: list[int] = []
        self._combined: list[int] = []
        self._combinations: dict[tuple[Any, ...], int] = {}
        self._named: list[int] = []
        self._names: dict[Key, int] = {}
        self._turns: dict[int, Turn] = {}
        self._stretches = stretches
        self._column = Column(known or {})

    def following(self) -> _Gathered:
        """The next, which knows what is known by now: it has to look up the fewer. This one is packed."""
        known: dict[bytes, Labels | None] = {
            entry: labels for entry, labels in self._column.known.items() if labels is not None
        }
        return _Gathered(self._stretches, known)

    def add(self, event: Event | _Lean, position: int) -> None:
        changed: Changes = getattr(event, "changed", {})  # `_Lean` is of one that moves no label
        if (turn := turn_of(event, changed)) is not None:
            self._turns[len(self.positions)] = turn
        self.positions.append(position)
        self._times.append(event.time)
        self._anchors.append(_anchor(event.order))
        key = event.key
        said = (event.actor, key[0], key[1], event.operation, event.type, event.outcome, not event.cause)
        combinations, names = self._combinations, self._names
        self._combined.append(combinations.setdefault(said, len(combinations)))
        self._named.append(names.setdefault(key, len(names)))

    def packed(
        self,
        words: Words,
        stretches: list[Stretch],
        labels_before: Callable[[Iterable[bytes]], dict[bytes, Labels | None]],
    ) -> Packed:
        """It as it is kept. `labels_before` tells what was known of names that begin before these events."""
        first, last, events = self.positions[0], self.positions[-1], len(self.positions)
        since, until = min(self._times), max(self._times)
        combinations: dict[tuple[int, int, int], int] = {}
        number = [
            combinations.setdefault(
                (
                    words.actor(actor),
                    words.place((kind, namespace)),
                    words.act(_act(operation, type, outcome, not own)),
                ),
                len(combinations),
            )
            for actor, kind, namespace, operation, type, outcome, own in self._combinations
        ]
        entries = [_name(key.name) + b"/%d" % words.place((key.kind, key.namespace)) for key in self._names]
        rank = {entry: place for place, entry in enumerate(sorted(entries))}
        name = [rank[entry] for entry in entries]
        named: list[list[int]] = [[] for _ in entries]
        for offset, number_of_name in enumerate(self._named):
            named[name[number_of_name]].append(offset)
        times = array("I" if until - since < 1 << 32 else "Q", [time - since for time in self._times])
        labels = self._labelled(entries, stretches, labels_before)
        sets = dict(sorted(labels.words.items()))
        places = [words.place((key.kind, key.namespace)) for key in self._names]
        is_dense = last - first + 1 == events
        inside = [
            b"" if is_dense else _bytes(array("Q", [position - first for position in self.positions])),
            _bytes(array("I", [word for combination in combinations for word in combination])),
            _bytes(array("H", map(number.__getitem__, self._combined))),
            b"\0" + b"".join(entry + b"\0" for entry in rank),
            _bytes(array("H", map(len, named))),
            _bytes(array("H", chain.from_iterable(named))),
            _planes(_bytes(times), times.itemsize),
            _filter({_name(key.name) for key in self._names} | sets.keys()),
            _bytes(labels.numbers) if labels.count else b"",
            b"\0" + b"".join(word + b"\0" for word in sets),
            _bytes(array("H", map(len, sets.values()))),
            _bytes(array("H", chain.from_iterable(sets.values()))),
        ]
        parts = [one if part in _AS_THEY_ARE else _pack(one) for part, one in enumerate(inside)]
        about = About(
            first,
            last,
            events,
            since,
            until,
            [max(self._anchors[start : start + ANCHOR_EVENTS]) for start in range(0, events, ANCHOR_EVENTS)],
            sorted({actor for actor, _, _ in combinations}),
            sorted({place for _, place, _ in combinations}),
            sorted({act for _, _, act in combinations}),
            sorted({places[name] for name, shown in zip(self._named, labels.numbers, strict=True) if shown}),
            labels.count,
            [crc32(part) for part in parts],
        )
        return about, parts

    def _labelled(
        self,
        entries: Sequence[bytes],
        stretches: list[Stretch],
        labels_before: Callable[[Iterable[bytes]], dict[bytes, Labels | None]],
    ) -> Column:
        """The labels of each event. What is superseded is never shown, and of what was pruned too little is there."""
        if self._stretches != stretches:
            self._stretches, self._column = stretches, Column({})  # what was known may rest on what counts no more
        column = self._column
        start = len(column.numbers)
        new = [(entries[name], self._turns.get(offset)) for offset, name in enumerate(self._named[start:], start)]
        counts = [True] * len(new)
        if new and not any(after < self.positions[start] and self.positions[-1] <= upto for after, upto in stretches):
            counts = [any(after < one <= upto for after, upto in stretches) for one in self.positions[start:]]
        first: dict[bytes, Turn | None] = {}
        for (entry, turn), is_one in zip(new, counts, strict=True):
            if is_one and entry not in column.known:
                first.setdefault(entry, turn)
        says = (Does.SHOWS_ALL, Does.FORGETS)
        if missing := [entry for entry, turn in first.items() if turn is None or turn.does not in says]:
            column.known |= labels_before(missing)
        for (entry, turn), is_one in zip(new, counts, strict=True):
            column.add(entry, turn, counts=is_one)
        return column


def _act(operation: str, type: str, outcome: str, follows: bool) -> Act:
    refused = BY_LIFECYCLE if type == REFUSED else BY_API_SERVER if outcome == REFUSED_BY_API_SERVER else 0
    return Act(verb_of(operation, type), type, refused, follows)


def verb_of(operation: str, type: str) -> str:
    """What was done in the API's word (`patch`), or the event's type where its record has none."""
    return operation.partition(" ")[0] or type


def _anchor(order: OrderKey | None) -> int:
    return order.anchor if order is not None else 0


class _Lean(msgspec.Struct):
    """As much of an event as is kept here: the rest need not be decoded."""

    type: str
    key: Key
    time: int
    schema: int
    actor: str = ""
    operation: str = ""
    outcome: str = ""
    cause: str = ""
    attempted: str = ""
    leads_to: str = ""
    order: OrderKey | None = None


class _Labelled(_Lean):
    """The same of one that may move labels."""

    changed: Changes = {}


_decode_lean = msgspec.msgpack.Decoder(_Lean).decode
_decode_labelled = msgspec.msgpack.Decoder(_Labelled).decode


# ---- looking


class Segment:
    """One segment, of which a part is unpacked when it is looked at. Raises `Unusable`."""

    def __init__(self, about: About, part: Callable[[int], bytes]) -> None:
        self.about = about
        self._part = part

    @cached_property
    def combinations(self) -> array[int]:
        """Actor, place and act of each combination, one behind the other."""
        return _array("I", self._part(COMBINATIONS))

    @cached_property
    def combined(self) -> array[int]:
        """The combination of each event."""
        return _array("H", self._part(COMBINED), self.about.events)

    @cached_property
    def times(self) -> array[int]:
        """When each event was, behind the earliest of them."""
        code, size = ("I", 4) if self.about.until - self.about.since < 1 << 32 else ("Q", 8)
        return _array(code, _from_planes(self._part(TIMES), size), self.about.events)

    @cached_property
    def labelled(self) -> array[int]:
        """The labels of each event, by number in `labels`; 0 where they are not known."""
        numbers = _array("H", self._part(LABELLED), self.about.events if self.about.labelled else 0)
        return numbers or array("H", bytes(2 * self.about.events))

    def chosen(self, selector: Selector) -> set[int]:
        """The numbers of the sets of labels that are chosen."""
        words = [(trail_labels.words_of(one), one.wanted) for one in selector.requirements]
        for some, wanted in words:
            if wanted and not any(self.may_have(_probes(word)) for word in some):
                return set()
        found: set[int] | None = None
        for some, wanted in sorted(words, key=lambda one: not one[1]):
            having = chain.from_iterable(map(self._sets_with, some))
            if not wanted:
                found = (set(range(1, self.about.sets + 1)) if found is None else found).difference(having)
            else:
                found = set(having) if found is None else found.intersection(having)
            if not found:
                break
        return found or set()

    def _sets_with(self, word: bytes) -> Sequence[int]:
        """The numbers of the sets that have a word."""
        place = self._label_words.find(b"\0" + word + b"\0")
        if place < 0:
            return ()
        number = self._label_words.count(b"\0", 0, place)
        ends, sets = self._label_sets
        return sets[ends[number - 1] if number else 0 : ends[number]]

    @cached_property
    def _label_words(self) -> bytes:
        return self._part(LABELS)

    @cached_property
    def _label_sets(self) -> tuple[list[int], array[int]]:
        """Where those of each word end, and all of them."""
        return list(accumulate(_array("H", self._part(LABEL_COUNTS)))), _array("H", self._part(LABEL_SETS))

    @cached_property
    def labels(self) -> list[Shown]:
        """The sets of labels there are, from number 1 on."""
        ends, sets = self._label_sets
        words = self._label_words[1:-1].split(b"\0") if ends else []
        begins = [0, *ends]
        return trail_labels.sets_of(
            ((word, sets[begins[number] : begins[number + 1]]) for number, word in enumerate(words)), self.about.sets
        )

    def labels_of(self, entries: set[bytes], stretches: Sequence[Stretch]) -> dict[bytes, Labels | None]:
        """Of those of these names that it has an event on: the labels known behind the last within the stretches."""
        if len(entries) <= FEW_NAMES:
            entries = {entry for entry in entries if self.may_have(_probes(entry.rpartition(b"/")[0]))}
        if not entries:
            return {}
        found: dict[bytes, Labels | None] = {}
        there = [
            (number, entry) for number, entry in enumerate(self._part(NAMES)[1:-1].split(b"\0")) if entry in entries
        ]
        if not there:
            return found
        about = self.about
        counts, named = _array("H", self._part(COUNTS)), _array("H", self._part(NAMED), about.events)
        ends = list(accumulate(counts))
        is_whole = any(after < about.first and about.last <= upto for after, upto in stretches)
        positions = [] if is_whole else self.positions_of(range(about.events))
        for number, entry in there:
            for offset in reversed(named[ends[number] - counts[number] : ends[number]]):
                if is_whole or any(after < positions[offset] <= upto for after, upto in stretches):
                    number_of_set = self.labelled[offset]
                    shown = self.labels[number_of_set - 1] if number_of_set else None
                    found[entry] = None if shown is None or shown.last else shown.labels
                    break
        return found

    def place_of(self, offset: int) -> tuple[int, int]:
        """Position and time of an event."""
        return self.positions_of([offset])[0], self.about.since + self.times[offset]

    def positions_of(self, offsets: Sequence[int]) -> list[int]:
        """Where these events stand in the log."""
        first = self.about.first
        if self.about.last - first + 1 == self.about.events:
            return [first + offset for offset in offsets]
        apart = _array("Q", self._part(POSITIONS), self.about.events)
        return [first + apart[offset] for offset in offsets]

    def may_have(self, probes: Sequence[int]) -> bool:
        """Whether its filter has a name."""
        bits = self._part(FILTER)
        size = len(bits) * 8
        return all(bits[probe % size >> 3] >> (probe % size & 7) & 1 for probe in probes)

    def named(self, name: bytes, places: set[int] | None) -> list[int]:
        """The offsets of the events on what bears a name in one of these places, in order."""
        names = self._part(NAMES)
        needle = b"\0" + name + b"/"
        found = names.find(needle)
        wanted = []
        while found >= 0:
            begin = found + len(needle)
            place = names[begin : names.find(b"\0", begin)]
            if place.isdigit() and (places is None or int(place) in places):
                wanted.append(names.count(b"\0", 0, found))
            found = names.find(needle, found + 1)
        if not wanted:
            return []
        counts, named = _array("H", self._part(COUNTS)), _array("H", self._part(NAMED), self.about.events)
        offsets: list[int] = []
        for number in wanted:
            start = sum(counts[:number])
            offsets += named[start : start + counts[number]]
        return sorted(offsets)


class _Asked(NamedTuple):
    """Everything there is at the time of a question."""

    words: Words
    segments: list[Segment]

    def matching(self, wanted: Wanted, *, reverse: bool = False) -> Iterator[tuple[Segment, list[int]]]:
        """The segments that hold what is wanted, and where in each of them it is."""
        words = self.words
        actors = None if wanted.actor is None else _numbers(words.actors, wanted.actor)
        places = None if wanted.place is None else _numbers(words.places, wanted.place)
        acts = None if wanted.act is None else _numbers(words.acts, wanted.act)
        name = None if wanted.name is None else _name(wanted.name)
        probes = () if name is None else _probes(name)
        for segment in reversed(self.segments) if reverse else self.segments:
            about = segment.about
            if (
                (wanted.since is not None and about.until < wanted.since)
                or (wanted.until is not None and about.since > wanted.until)
                or (actors is not None and actors.isdisjoint(about.actors))
                or (places is not None and places.isdisjoint(about.places))
                or (acts is not None and acts.isdisjoint(about.acts))
                or not _touches(about, wanted.stretches)
                or (probes and not segment.may_have(probes))
            ):
                continue
            # The combinations are few, and mostly tell what the names, which are many, need not be asked for.
            fitting: set[int] | None = None
            if actors is not None or acts is not None or (name is None and places is not None):
                numbers = segment.combinations
                fitting = {
                    number
                    for number, (actor, place, act) in enumerate(
                        zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
                    )
                    if (acts is None or act in acts)
                    and (places is None or place in places)
                    and (actors is None or actor in actors)
                }
                if not fitting:
                    continue
            offsets: Iterable[int]
            if name is None:
                offsets = range(about.events)
            elif not (offsets := segment.named(name, places)):
                continue
            if fitting is not None:
                combined = segment.combined
                if name is None:
                    offsets = [offset for offset, one in enumerate(combined) if one in fitting]
                else:
                    offsets = [offset for offset in offsets if combined[offset] in fitting]
            if wanted.labels is not None:
                if not (chosen := segment.chosen(wanted.labels)):
                    continue
                labelled = segment.labelled
                if offsets == range(about.events):
                    offsets = [offset for offset, one in enumerate(labelled) if one in chosen]
                else:
                    offsets = [offset for offset in offsets if labelled[offset] in chosen]
            found = _within(segment, wanted, offsets)
            if found:
                yield segment, found[::-1] if reverse else found


def _within(segment: Segment, wanted: Wanted, offsets: Iterable[int]) -> list[int]:
    """Of these events, those within the time and the stretches that are asked for."""
    about = segment.about
    low = 0 if wanted.since is None else wanted.since - about.since
    high = about.until - about.since if wanted.until is None else wanted.until - about.since
    if low > 0 or high < about.until - about.since:
        times = segment.times
        offsets = [offset for offset in offsets if low <= times[offset] <= high]
    offsets = list(offsets)
    if any(after < about.first and about.last <= upto for after, upto in wanted.stretches):
        return offsets
    return [
        offset
        for offset, position in zip(offsets, segment.positions_of(offsets), strict=True)
        if any(after < position <= upto for after, upto in wanted.stretches)
    ]


def _numbers(words: Sequence[Word], is_wanted: Callable[[Word], bool]) -> set[int]:
    return {number for number, word in enumerate(words) if is_wanted(word)}


def _touches(about: About, stretches: Sequence[Stretch]) -> bool:
    return any(after < about.last and about.first <= upto for after, upto in stretches)


def _name(name: str) -> bytes:
    # Entries are told apart by a zero, which a name may hold too; this byte no text has.
    return name.encode().replace(b"\0", b"\xff")


@lru_cache(maxsize=1 << 16)
def _probes(name: bytes) -> tuple[int, ...]:
    digest = blake2b(name, digest_size=16).digest()
    return tuple(int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4))


def _filter(names: set[bytes]) -> bytes:
    """A Bloom filter of these names."""
    bits = bytearray(len(names) * FILTER_BITS // 8 + 1)
    size = len(bits) * 8
    for name in names:
        for probe in _probes(name):
            place = probe % size
            bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


# ---- the file


def _part_of(parts: Sequence[bytes]) -> Callable[[int], bytes]:
    return lambda number: parts[number] if number in _AS_THEY_ARE else _inflated(parts[number])


def _part_in(connection: sqlite3.Connection | None, segment: int, about: About) -> Callable[[int], bytes]:
    def part(number: int) -> bytes:
        assert connection is not None  # what says of itself that it is there was read from it
        row = connection.execute("SELECT content FROM part WHERE id = ?", (segment * PARTS + number,)).fetchone()
        if row is None or not isinstance(row[0], bytes) or crc32(row[0]) != about.checks[number]:
            raise Unusable
        return row[0] if number in _AS_THEY_ARE else _inflated(row[0])

    return part


def _inflated(frame: bytes) -> bytes:
    try:
        return inflate(frame)
    except zstandard.ZstdError as error:
        raise Unusable from error


def _pack(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(content)


def _packed(content: Any) -> bytes:
    return _pack(_encode(content))


def _unpacked(content: Any, decode: Callable[[bytes], Answer]) -> Answer:
    if not isinstance(content, bytes):
        raise Unusable
    try:
        return decode(_inflated(content))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unusable from error


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _planes(numbers: bytes, size: int) -> bytes:
    """All first bytes, then all second ones: numbers that rise slowly are packed twice as small."""
    return b"".join(numbers[plane::size] for plane in range(size))


def _from_planes(planes: bytes, size: int) -> bytes:
    count = len(planes) // size
    numbers = bytearray(count * size)
    for plane in range(size):
        numbers[plane::size] = planes[plane * count : (plane + 1) * count]
    return bytes(numbers)


def _array(code: str, content: bytes, count: int | None = None) -> array[int]:
    numbers = array(code)
    try:
        numbers.frombytes(content)
    except ValueError as error:
        raise Unusable from error
    if count is not None and len(numbers) != count:
        raise Unusable
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
