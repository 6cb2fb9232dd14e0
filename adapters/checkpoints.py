"""The state at any time of a long ledger, without folding it from its beginning: `LEDGER.checkpoints`, beside it.

Every so many places a checkpoint of the `World` is kept: of what was touched since the one before it, and now and then
of everything. Its resources lie in chunks of some hundred of a kind, so that one of them asks for a chunk of each checkpoint
back to the last whole one. Between two checkpoints stand *marks*: how late and how far the log had come at a place. A
question for a moment takes the last checkpoint before it and folds what lies between. The file follows from the log: it is
added to while a log is judged and when a question finds it behind, and whatever is wrong with it, it is thrown away and
made again. `judging.py` adds to it; `report.py` and `reasons.py` ask it.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from zlib import crc32

import msgspec
import zstandard

import domain
from adapters.disposable import ERRORS, Unusable, begun, code_of, is_damage, opened, throw_away
from adapters.ledger import Ledger, Moment
from adapters.ports import Recorder, StoreError
from adapters.stores.codec import within_64_bits
from domain.events import Event
from domain.resources import Key
from domain.world import Departed, Resource, World

VERSION: Final = 2
NEVER: Final = -(1 << 62)

_TABLES = """
-- One row: from which log and by which rules all of this was made, and up to which position it was read.
CREATE TABLE bound (rules BLOB, position INTEGER, seal BLOB, reach INTEGER);
CREATE TABLE checkpoint (place INTEGER PRIMARY KEY, latest INTEGER, anchor INTEGER, content BLOB);
CREATE TABLE chunk (
    place INTEGER, part TEXT, kind TEXT, number INTEGER, content BLOB, PRIMARY KEY (place, part, kind, number)
);
-- The marks between a checkpoint and the next.
CREATE TABLE stretch (after INTEGER PRIMARY KEY, content BLOB);
"""
# Each content is a zstd frame, with a checksum, of MessagePack that begins with where it belongs.

Answer = TypeVar("Answer")

_Wanted = Callable[[Key, msgspec.Raw], bool]
"""Whether a resource is, by its name or by what is kept of it."""


class Spacing(NamedTuple):
    """How far things stand apart."""

    checkpoint: int = 5_000
    """Places from one checkpoint to the next, at least."""
    for_each: int = 1
    """As many places for each resource that was touched, at least: what a checkpoint costs is shared by the events."""
    mark: int = 250
    """Places from one mark to the next."""
    chunk: int = 256
    """Resources in one chunk, about."""


SPACING: Final = Spacing()

LONGEST_CHAIN: Final = 16
"""Checkpoints that hold what was touched only, one behind the other, at most: each is another place to look at."""
OF_A_WHOLE: Final = 2
"""They hold at most so many times as many resources as one of everything would; then that comes."""


class Mark(NamedTuple):
    """A place in the order and its position in the log; the latest time and the highest anchor of all events up to it."""

    at: int
    position: int
    latest: int
    anchor: int

    def lies_before(self, moment: Moment | None) -> bool:
        """Whether no event up to here lies behind that moment; of no moment, the end of the log is meant."""
        if moment is None:
            return True
        if moment.position is not None:
            return self.position <= moment.position
        if moment.revision is not None:
            return self.anchor <= moment.revision
        assert moment.time is not None
        return self.latest <= moment.time


BEGINNING: Final = Mark(0, 0, NEVER, NEVER)


def beginning_of(ledger: Ledger) -> Mark:
    """Where a fold of this ledger begins: at its first event, or behind what was pruned."""
    base = ledger.base
    return BEGINNING if base is None else Mark(base.at, base.position, base.latest, base.anchor)


LIVE, GONE = "live", "gone"
"""The parts of a world that are kept in chunks, each a kind at a time."""


class Bound(NamedTuple):
    """What the file was made from: how one folded, and a position of the log with what stands for all up to there."""

    rules: bytes
    position: int
    seal: bytes
    reach: int
    """The position of the last event that was taken in."""


class Directory(msgspec.Struct, array_like=True):
    """What a checkpoint says of itself: where it stands, in how many chunks each part is, and what is small."""

    mark: Mark
    before: Mark | None = None
    """Where the checkpoint stands on which this one rests; `None` of one that holds everything."""
    depth: int = 0
    """On how many it rests in all."""
    entries: int = 0
    """How many resources they and this one hold together, beside the one that holds everything."""
    chunks: dict[str, dict[str, int]] = {}
    """Part and kind to number of chunks."""
    oldest: dict[str, int] = {}
    """Of each kind the place of the oldest resource that is gone and remembered: none before it is."""
    controllers: list[str] = []
    listed: list[str] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_directory = msgspec.msgpack.Decoder(Directory).decode
_decode_chunk = msgspec.msgpack.Decoder(tuple[int, int, list[tuple[Key, msgspec.Raw]]]).decode
_decode_live = msgspec.msgpack.Decoder(Resource).decode
_decode_gone = msgspec.msgpack.Decoder(Departed | None).decode
_decode_stretch = msgspec.msgpack.Decoder(tuple[int, list[Mark]]).decode


class Checkpoints:
    """Those of one ledger. Nothing here fails because of their file: without it an answer takes longer, and is the same."""

    def __init__(
        self, path: Path, ledger: Ledger, recorder: Recorder, spacing: Spacing = SPACING, *, kept_up: bool = False
    ) -> None:
        """`recorder` is the ledger's; `path` is where they are kept (`backends.beside`).

        `kept_up` says that somebody brings the file up to the log (`upkeep.py`), so that no question has to.
        """
        self._kept_up = kept_up
        self.path = path
        self.spacing = spacing
        self._ledger = ledger
        self._recorder = recorder

    def world_at(self, moment: Moment | None = None, kinds: Collection[str] | None = None) -> tuple[World, int]:
        """What all events before a moment add up to, and the place of the last of them; without a moment, all events.

        With `kinds` there are no others in that world: an event moves no other resource than its own. Raises the
        recorder's errors.
        """

        if moment is not None:
            self._ledger.refuse_before(moment)

        def load(kept: _Nothing) -> tuple[World, Mark]:
            base = kept.before(moment)
            return kept.world(base, kinds), base.mark

        world, base = self._loaded(load)
        at = base.at
        for placed in self._ledger.events(after=base[:2]):
            if moment is not None and moment.passed_by(placed):
                break
            at = placed.at
            if kinds is None or placed.event.key.kind in kinds:
                world.evolve(placed.event, at)
        return world, at

    def world_about(self, key: Key, kinds: Collection[str], moment: Moment) -> World:
        """Of the world of these kinds at a moment that resource and those that name it, and maybe others.

        Raises the recorder's errors.
        """
        self._ledger.refuse_before(moment)
        needle = _encode(key)

        def load(kept: _Nothing) -> World | None:
            base = kept.before(moment)
            if not base.chunks:
                return None
            upto = takewhile(lambda placed: not moment.passed_by(placed), self._ledger.events(after=base.mark[:2]))
            since = [placed for placed in upto if placed.event.key.kind in kinds]
            named = {key, *(placed.event.key for placed in since if key.tag in placed.event.tags)}
            world = kept.world(base, kinds, lambda one, content: one in named or needle in bytes(content))
            for placed in since:
                if placed.event.key in named or placed.event.key in world.live:
                    world.evolve(placed.event, placed.at)
            return world

        world = self._loaded(load)
        return world if world is not None else self.world_at(moment, kinds)[0]

    def resource_at(self, key: Key, moment: Moment | None = None) -> Resource | None:
        """The live resource of that name at a moment, `None` where there was none. Raises the recorder's errors.

        An event moves no other resource than its own: only its own are folded.
        """

        if moment is not None:
            self._ledger.refuse_before(moment)

        def load(kept: _Nothing) -> tuple[World, list[Mark]]:
            base = kept.before(moment)
            return kept.world_of(base, key), [base.mark, *kept.marks(base.mark.at)]

        world, marks = self._loaded(load)
        marks = [mark for mark in marks if mark.at == marks[0].at or mark.lies_before(moment)]
        last = marks[-1]
        place_of = _Places(self._ledger, marks)
        for placed in self._ledger.own(key, marks[0].position, last.position):
            world.evolve(placed.event, place_of(placed.position))
        for placed in self._ledger.events(after=last[:2]):
            if moment is not None and moment.passed_by(placed):
                break
            if placed.event.key == key:
                world.evolve(placed.event, placed.at)
        return world.get(key)

    def position_at(self, moment: Moment | None = None) -> int:
        """The position of the last event before a moment; without a moment, the head. Raises the recorder's errors."""
        if moment is None:
            return self._ledger.head
        self._ledger.refuse_before(moment)

        def load(kept: _Nothing) -> list[Mark]:
            base = kept.before(moment)
            return [base.mark, *kept.marks(base.mark.at)]

        marks = self._loaded(load)
        last = [mark for mark in marks if mark.at == marks[0].at or mark.lies_before(moment)][-1]
        position = last.position
        for placed in self._ledger.events(after=last[:2]):
            if moment.passed_by(placed):
                break
            position = placed.position
        return position

    def catch_up(self) -> bool:
        """Add what the log has got since; false where the file cannot be written, or is in use."""
        with self.making(resume=True) as maker:
            if maker.reach.position >= self._ledger.head:
                return maker.is_kept
            world = maker.world
            for placed in self._ledger.events(after=maker.noted[:2]):
                world.evolve(placed.event, placed.at)
                maker.note(placed.event, placed.at, placed.position)
                maker.settle(world)
                if not maker.is_kept:
                    return False
            maker.finish()
            return maker.is_kept

    @contextmanager
    def making(self, *, resume: bool = False) -> Iterator[Maker]:
        """What adds to the file while the log is folded from its beginning, or on from the last checkpoint."""
        maker = Maker(self.path, self._ledger, self._recorder, self.spacing, resume=resume)
        try:
            yield maker
            maker.finish()
        finally:
            maker.close()

    def _loaded(self, load: Callable[[_Nothing], Answer]) -> Answer:
        for is_last in (False, False, True):
            try:
                with closing(opened(self.path, "ro")) as connection:
                    connection.execute("BEGIN")
                    kept = _Kept(connection, self._ledger, self._recorder)
                    if kept.check() >= self._ledger.head or is_last or self._kept_up:
                        return load(kept)
            except ERRORS as error:
                if is_damage(error):
                    throw_away(self.path)
            if self._kept_up:
                break
            if not is_last:
                self.catch_up()
        return load(_Nothing(self._ledger))


class _Places:
    """Which place a position has, told by the marks around it."""

    def __init__(self, ledger: Ledger, marks: Sequence[Mark]) -> None:
        self._ledger = ledger
        self._marks = marks
        self._positions = [mark.position for mark in marks]
        self._counted: dict[int, dict[int, int]] = {}

    def __call__(self, position: int) -> int:
        """The place of a position up to the last mark."""
        number = bisect_right(self._positions, position) - 1
        before = self._marks[number]
        if position == before.position:
            return before.at
        behind = self._marks[number + 1]
        if behind.position - before.position == behind.at - before.at:
            return before.at + position - before.position
        # Positions were skipped between these two: only counting tells.
        if number not in self._counted:
            counted = self._counted[number] = {}
            for placed in self._ledger.events(after=before[:2]):
                if placed.position > behind.position:
                    break
                counted[placed.position] = placed.at
        return self._counted[number][position]


# ---- reading


class _Nothing:
    """What there is to start from where nothing is kept: the beginning of the log, or what stands for its pruned events."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def before(self, moment: Moment | None) -> Directory:
        """The last checkpoint before a moment."""
        return Directory(beginning_of(self._ledger))

    def world(self, base: Directory, kinds: Collection[str] | None = None, wanted: _Wanted | None = None) -> World:
        """The world at a checkpoint: whatever there is, or at least what there is of some kinds and is wanted."""
        return self._ledger.base.restored().world if self._ledger.base is not None else World()

    def world_of(self, base: Directory, key: Key) -> World:
        """A world in which there is just one resource, or what is remembered of its name; here, whatever else there is."""
        return self.world(base)

    def marks(self, after: int) -> list[Mark]:
        """The marks between a checkpoint at that place and the next."""
        return []


class _Kept(_Nothing):
    """The file, in one transaction. Raises `Unusable` and SQLite's errors."""

    def __init__(self, connection: sqlite3.Connection, ledger: Ledger, recorder: Recorder) -> None:
        super().__init__(ledger)
        self._connection = connection
        self._recorder = recorder
        self.upto = 0

    def check(self) -> int:
        """Find out whether it was made from this log, by these rules: a log only grows, what stood there stands there.

        Gives the position up to which it was read; 0 where that is not of the current generation.
        """
        bound = _bound(self._connection)
        if bound is None or bound.rules != rules() + _pruned(self._ledger):
            raise Unusable
        seal = self._recorder.seal(bound.position)
        if seal is None or seal.digest != bound.seal:
            raise Unusable
        self.upto = bound.position
        return bound.reach if self._ledger.keeps(bound.reach) else 0

    def before(self, moment: Moment | None) -> Directory:
        if moment is None:
            where, value = "?1 IS NULL", None
        elif moment.position is not None:
            where, value = "place <= ?1", moment.position  # no place is ahead of its position
        elif moment.revision is not None:
            where, value = "anchor <= ?1", moment.revision
        else:
            where, value = "latest <= ?1", moment.time
        rows = self._connection.execute(f"SELECT place FROM checkpoint WHERE {where} ORDER BY place DESC", (value,))
        for (place,) in rows:
            directory = self.directory(place)
            # What a later generation superseded may still be there.
            if directory is not None and directory.mark.lies_before(moment):
                return directory
        return super().before(moment)

    def directory(self, place: int) -> Directory | None:
        """The checkpoint at a place; `None` if it is not of the current generation."""
        directory = self._said(place)
        if directory is None or directory.mark.at != place or directory.mark.position > self.upto:
            raise Unusable
        return directory if self._ledger.keeps(directory.mark.position) else None

    def _said(self, place: int) -> Directory | None:
        row = self._connection.execute("SELECT content FROM checkpoint WHERE place = ?", (place,)).fetchone()
        return None if row is None else _unpacked(row[0], _decode_directory)

    def world(self, base: Directory, kinds: Collection[str] | None = None, wanted: _Wanted | None = None) -> World:
        if base.mark == beginning_of(self._ledger):
            return super().world(base)
        live: list[Resource] = []
        gone: list[tuple[Key, Departed]] = []
        chain = list(self._chain(base))
        # What the newest says of a name holds, whatever an older one does.
        for kind in (
            kinds if kinds is not None else {kind for one in chain for part in one.chunks.values() for kind in part}
        ):
            said: set[Key] = set()
            for one in chain:
                for part in (LIVE, GONE):
                    for number in range(one.chunks.get(part, {}).get(kind, 0)):
                        for key, content in self._chunk(one, part, kind, number):
                            if key not in said:
                                said.add(key)
                                if wanted is None or wanted(key, content):
                                    self._add(base, part, key, content, live, gone)
        return World.restored(live, gone, base.controllers, base.listed)

    def world_of(self, base: Directory, key: Key) -> World:
        if base.mark == beginning_of(self._ledger):
            return super().world_of(base, key)
        live: list[Resource] = []
        gone: list[tuple[Key, Departed]] = []
        for one in self._chain(base):
            for part in (LIVE, GONE):
                if chunks := one.chunks.get(part, {}).get(key.kind, 0):
                    for known, content in self._chunk(one, part, key.kind, _chunk_of(key.tag, chunks)):
                        if known == key:
                            self._add(base, part, key, content, live, gone)
                            return World.restored(live, gone)
        return World()

    def _chain(self, base: Directory) -> Iterator[Directory]:
        """A checkpoint and those on which it rests, the newest first."""
        yield base
        while base.before is not None:
            before = self.directory(base.before.at)
            if before is None or before.mark != base.before:
                raise Unusable
            yield before
            base = before

    def _add(
        self,
        base: Directory,
        part: str,
        key: Key,
        content: msgspec.Raw,
        live: list[Resource],
        gone: list[tuple[Key, Departed]],
    ) -> None:
        try:
            if part == LIVE:
                live.append(_decode_live(content))
            elif (departed := _decode_gone(content)) is not None and departed.at >= base.oldest.get(key.kind, 0):
                gone.append((key, departed))
        except msgspec.MsgspecError as error:
            raise Unusable from error

    def holds(self, base: Directory) -> bool:
        """Whether that checkpoint is there, as it was made, and another one may rest on it."""
        return base.mark != beginning_of(self._ledger) and self._said(base.mark.at) == base

    def marks(self, after: int) -> list[Mark]:
        row = self._connection.execute("SELECT content FROM stretch WHERE after = ?", (after,)).fetchone()
        if row is None:
            return []
        place, marks = _unpacked(row[0], _decode_stretch)
        if place != after or any(mark.position > self.upto for mark in marks):
            raise Unusable
        return [mark for mark in marks if self._ledger.keeps(mark.position)]

    def _chunk(self, base: Directory, part: str, kind: str, number: int) -> list[tuple[Key, msgspec.Raw]]:
        (content,) = self._one(
            "SELECT content FROM chunk WHERE place = ? AND part = ? AND kind = ? AND number = ?",
            (base.mark.at, part, kind, number),
        )
        place, own_number, inside = _unpacked(content, _decode_chunk)
        if (place, own_number) != (base.mark.at, number):
            raise Unusable
        return inside

    def _one(self, sql: str, values: Sequence[Any]) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        if row is None:
            raise Unusable
        return row


# ---- making


class Maker:
    """Adds to the file of a ledger whose events it is told of, one after the other.

    It begins with the log's first event, or with the one behind `noted`, at which the world is `world`. What the file
    has already is passed over. When the file cannot be written it gives up, and `is_kept` says so.
    """

    def __init__(self, path: Path, ledger: Ledger, recorder: Recorder, spacing: Spacing, *, resume: bool) -> None:
        self._path = path
        self._ledger = ledger
        self._recorder = recorder
        self._spacing = spacing
        self._pack = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
        self._connection: sqlite3.Connection | None = None
        self._bound: Bound | None = None  # as this one left it
        self._marks: list[Mark] = []
        self._at, self._position, self._latest, self._anchor = self.reach = beginning_of(ledger)
        self._base = Directory(self.reach)
        self._touched: set[Key] = set()  # behind the base
        self._is_whole_next = False
        self.world = _Nothing(ledger).world(self._base) if resume else World()
        try:
            self._open(resume)
        except ERRORS as error:
            # What cannot be read is thrown away; what cannot be made then is done without.
            self.close()
            if is_damage(error):
                throw_away(path)
                try:
                    self._open(resume)
                except ERRORS:
                    self.close()
        self._next_mark = self.reach.at + spacing.mark
        self._due = self._base.mark.at + spacing.checkpoint

    @property
    def noted(self) -> Mark:
        """The last event that it was told of."""
        return Mark(self._at, self._position, self._latest, self._anchor)

    @property
    def is_kept(self) -> bool:
        """Whether what it is told of is still written down."""
        return self._connection is not None

    def note(self, event: Event, at: int, position: int) -> None:
        """Take the next event of the log in; it stands in the log by now."""
        if event.time > self._latest:
            self._latest = event.time
        if event.order is not None and event.order.anchor > self._anchor:
            self._anchor = event.order.anchor
        self._at, self._position = at, position
        if at > self._base.mark.at:
            self._touched.add(event.key)
        if at >= self._next_mark:
            self._next_mark = at + self._spacing.mark
            self._marks.append(self.noted)

    def settle(self, world: World) -> None:
        """Keep the world if it is time to. It is that of all events noted so far, and of no other."""
        if self._at < self._due or self._connection is None:
            return
        base = self._base.mark.at
        self._due = base + max(self._spacing.checkpoint, self._spacing.for_each * len(self._touched))
        if self._at >= self._due:
            self._write(world)
            self._marks, self._touched = [], set()
            self._due = self._base.mark.at + self._spacing.checkpoint
            self._next_mark = self._base.mark.at + self._spacing.mark

    def restart_after(self, at: int) -> None:
        """A new generation begins behind that place: forget what was kept of the one before."""
        if self._connection is None:
            return
        try:
            with self._transaction(self._connection) as connection:
                _forget_behind(connection, at)
                kept = self._kept(connection)
                self._base = kept.before(None)
                # What was touched up to here, of what stays, was not counted apart from what goes.
                self._is_whole_next = True
                self._marks = [mark for mark in kept.marks(self._base.mark.at) if mark.at <= at]
                self._due = self._base.mark.at + self._spacing.checkpoint
                self._next_mark = at + self._spacing.mark
        except ERRORS:
            self.close()

    def finish(self) -> None:
        """Write down how far the log has been read."""
        if self._at > self.reach.at:
            if not self._marks or self._marks[-1].at < self._at:
                self._marks.append(self.noted)
            self._write(None)
            self.reach = self.noted

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, resume: bool) -> None:
        self._connection = connection = opened(self._path, "rwc")
        with begun(connection):
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise Unusable
            self._bound = _bound(connection)
            if self._bound is None:
                return
            kept = self._kept(connection)
            base = self._base = kept.before(None)
            _forget_behind(connection, base.mark.at)
            self._marks = kept.marks(base.mark.at)
            self.reach = self._marks[-1] if self._marks else base.mark
            if resume and self.reach.position < self._ledger.head:
                self._at, self._position, self._latest, self._anchor = base.mark
                self.world = kept.world(base)

    def _kept(self, connection: sqlite3.Connection) -> _Kept:
        kept = _Kept(connection, self._ledger, self._recorder)
        if self._bound is not None:
            kept.check()
        return kept

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """One in which the file is this ledger's. Another ledger of this name may have taken it meanwhile."""
        with begun(connection):
            bound = _bound(connection)
            if bound != self._bound:
                if bound is None:
                    raise Unusable
                self._bound = bound
                self._kept(connection)
            yield connection

    def _write(self, world: World | None) -> None:
        if self._connection is None:
            return
        try:
            with self._transaction(self._connection) as connection:
                position = self._recorder.head()
                seal = self._recorder.seal(position)
                if seal is None or position < self._position:
                    raise Unusable
                # With the world come the marks up to it, which stand behind the checkpoint before it.
                after = self._base.mark.at
                connection.execute(
                    "INSERT OR REPLACE INTO stretch VALUES (?, ?)", (after, self._pack(_encode((after, self._marks))))
                )
                if world is not None:
                    self._base = self._keep(connection, world)
                self._bound = Bound(rules() + _pruned(self._ledger), position, seal.digest, self._position)
                connection.execute("DELETE FROM bound")
                connection.execute("INSERT INTO bound VALUES (?, ?, ?, ?)", self._bound)
        except (*ERRORS, StoreError):
            self.close()

    def _keep(self, connection: sqlite3.Connection, world: World) -> Directory:
        base, mark = self._base, self.noted
        entries = base.entries + len(self._touched)
        rests = (
            not self._is_whole_next
            and base.depth < LONGEST_CHAIN
            and entries <= OF_A_WHOLE * (len(world.live) + sum(map(len, world.departed.values())))
            and _Kept(connection, self._ledger, self._recorder).holds(base)
        )
        self._is_whole_next = False
        chunks: dict[str, dict[str, int]] = {LIVE: {}, GONE: {}}
        for table in ("chunk", "checkpoint"):
            connection.execute(f"DELETE FROM {table} WHERE place = ?", (mark.at,))
        for part, kind, known in _parts(world, self._touched if rests else None):
            count = chunks[part][kind] = -(-len(known) // self._spacing.chunk)
            sorted_out: list[list[Any]] = [[] for _ in range(count)]
            for one in known:
                sorted_out[_chunk_of(one[0].tag, count)].append(one)
            for number, ones in enumerate(sorted_out):
                inside = (mark.at, number, ones)
                try:
                    content = _encode(inside)
                except OverflowError:  # as in the ledger: these are decided just now, and have not been there yet
                    content = _encode(within_64_bits(inside))
                connection.execute(
                    "INSERT INTO chunk VALUES (?, ?, ?, ?, ?)", (mark.at, part, kind, number, self._pack(content))
                )
        directory = Directory(
            mark,
            base.mark if rests else None,
            base.depth + 1 if rests else 0,
            entries if rests else 0,
            chunks,
            {kind: next(iter(departed.values())).at for kind, departed in world.departed.items() if departed},
            sorted(world.controllers),
            sorted(world.listed),
        )
        connection.execute(
            "INSERT INTO checkpoint VALUES (?, ?, ?, ?)",
            (mark.at, mark.latest, mark.anchor, self._pack(_encode(directory))),
        )
        return directory


def _forget_behind(connection: sqlite3.Connection, at: int) -> None:
    """Drop what is kept of the places behind one."""
    for table, place in (("checkpoint", "place"), ("chunk", "place"), ("stretch", "after")):
        connection.execute(f"DELETE FROM {table} WHERE {place} > ?", (at,))


def _parts(world: World, touched: set[Key] | None) -> Iterator[tuple[str, str, list[tuple[Key, Any]]]]:
    """What is kept of a world, or of those in it that were touched: part, kind, and the names with what is known of them."""
    live: dict[str, list[tuple[Key, Any]]] = {}
    gone: dict[str, list[tuple[Key, Any]]] = {}
    if touched is None:
        for one in world.live.values():
            live.setdefault(one.key.kind, []).append((one.key, one))
        gone = {kind: list(departed.items()) for kind, departed in world.departed.items() if departed}
    else:
        for key in touched:
            if (resource := world.live.get(key)) is not None:
                live.setdefault(key.kind, []).append((key, resource))
            elif key.kind in world.departed:
                # One that is gone and forgotten is told of too: it may be live in an earlier checkpoint.
                gone.setdefault(key.kind, []).append((key, world.departed[key.kind].get(key)))
    for part, known_of in ((LIVE, live), (GONE, gone)):
        for kind, known in known_of.items():
            yield part, kind, known


# ---- the file


@cache
def rules() -> bytes:
    """16 bytes that stand for how this netledger folds: what another one folded may come out otherwise."""
    return code_of(VERSION, domain)


def _pruned(ledger: Ledger) -> bytes:
    """What was kept before a pruning may need what is gone since."""
    return b"" if ledger.base is None else b"%d" % ledger.base.position


def _chunk_of(tag: str, chunks: int) -> int:
    return crc32(tag.encode()) % chunks


def _unpacked(content: Any, decode: Callable[[bytes], Answer]) -> Answer:
    try:
        return decode(zstandard.ZstdDecompressor().decompress(content))
    except (zstandard.ZstdError, msgspec.MsgspecError, TypeError, ValueError) as error:
        raise Unusable from error


def _bound(connection: sqlite3.Connection) -> Bound | None:
    row = connection.execute("SELECT rules, position, seal, reach FROM bound").fetchone()
    if row is None:
        return None
    if [type(column) for column in row] != [bytes, int, bytes, int] or not row[1] >= row[3] > 0:
        raise Unusable
    return Bound(*row)
