"""The composition root: what a command or a daemon works with is put together here, and nothing is built at import.

`opened` gives a store, kept or thrown away; `replay` reads files into it, judges them and leaves the read models beside
it. `report` turns that into what people see; `cli` is the way in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, pairwise
from typing import NamedTuple, Protocol

import msgspec

from adapters.checkpoints import Checkpoints
from adapters.ingest import Progress, Span, Tally, files_in, following, ingest, joined, skew_of
from adapters.judging import Judged, Maker, fold, judge
from adapters.ledger import Ledger, Moment
from adapters.ordering import Heads
from adapters.ports import Container, Journal, Mode, Recorder, Source
from adapters.pruned import require_whole
from adapters.sources import audit_log, dialects
from adapters.sources.dialect import About, NotARecord, iso, moment
from adapters.stores import backends, sqlite
from adapters.trail_index import Trail
from domain.decide import COMMAND
from domain.events import Event
from domain.world import World
from projections.findings.rule import Finding


class Store(NamedTuple):
    """A ledger and its journal, and what holds both. `durability` is what a server says of it; empty of a file.

    One that is thrown away has no checkpoints, and its trail is held in memory.
    """

    container: Container
    recorder: Recorder
    journal: Journal
    ledger: Ledger
    durability: str = ""
    checkpoints: Checkpoints | None = None
    trail: Trail | None = None


class Outcome(NamedTuple):
    """What a replay leaves: how the reading went, what was judged, and what is wrong. `end` is microseconds."""

    tallies: list[Tally]
    judged: Judged
    findings: Sequence[Finding]
    end: int


class NotAMoment(ValueError):
    """What was given as `--at`, `--since` or the like names no point of a log. The message says what is taken."""


POSITION = "position:"
"""How a position is told from a revision, where a person names one."""

_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|[smhdw])")


@contextmanager
def opened(address: str | None, mode: Mode = "write", *, allow_volatile: bool = False) -> Iterator[Store]:
    """The store at an address; without one a throw-away store, gone when the block ends. Raises `StoreError`."""
    if address is None:
        with sqlite.thrown_away() as kept:
            ledger = Ledger(kept.recorder)
            trail = Trail(None, ledger, kept.recorder)
            yield Store(kept.container, kept.recorder, kept.journal, ledger, trail=trail)
        return
    with backends.opened(address, mode, allow_volatile=allow_volatile) as kept:
        ledger = Ledger(kept.recorder)
        checkpoints = Checkpoints(backends.beside(address, "checkpoints"), ledger, kept.recorder)
        trail = Trail(backends.beside(address, "trail"), ledger, kept.recorder)
        yield Store(kept.container, kept.recorder, kept.journal, ledger, kept.durability, checkpoints, trail)


def read_moment(text: str, end: Callable[[], int] | None = None) -> Moment:
    """A revision (digits), a position (`position:26`), or a time such as `2026-11-21T01:24:04Z`. Raises `NotAMoment`.

    Where `end` gives the end of the log (microseconds since 1970), it may also be said how long before: `2h`, `1h30m`.
    """
    if text.startswith(POSITION):
        number = text.removeprefix(POSITION)
        if not (number.isascii() and number.isdecimal()) or len(number) > 18:
            raise NotAMoment(
                f"{text[:80]!r} names no position; such as {POSITION}26, as `netledger events -o wide` shows them"
            )
        return Moment(None, None, int(number))
    if text.isascii() and text.isdecimal():
        if len(text) > 18:
            raise NotAMoment(f"{text[:40]!r} is no revision: no API server counts so far")
        return Moment(None, int(text))
    if end is not None and _DURATION.sub("", text) == "" != text:
        back = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
        return Moment(max(end() - int(back), 0), None)
    try:
        return Moment(moment(text, "it"), None)
    except (NotARecord, OverflowError):
        raise NotAMoment(
            f"{text[:80]!r} is neither a revision (digits, such as 330) nor a time (such as 2026-11-21T01:24:04.5Z), nor a "
            f"position (such as {POSITION}26)"
            + (", nor how long before the end of the log (such as 2h or 1h30m)" if end is not None else "")
        ) from None


def replay(
    store: Store,
    paths: Sequence[str],
    *,
    at: Moment | None = None,
    patience: int | None = None,
    format: str | None = None,
    about: Callable[[str], About] = lambda path: About(),
    reading: Callable[[str], Progress] = lambda path: lambda bytes_read: None,
    judging: Callable[[str, int], None] = lambda stage, count: None,
) -> Outcome:
    """Read `paths` into the store and judge it all. Raises `NothingToRead` and `StoreError`.

    `patience` is in microseconds; `at` asks for the state and the findings at a point of the log; `format` is the dialect
    of all the files, where they do not show it; `about` says what a person knows of each.
    """
    heads = Heads()
    heads.read(store.journal, lambda count: judging("order", count))
    skews = {source.id: skew_of(source) for source in store.journal.sources()}
    tallies = [
        ingest(path, store.journal, reading(path), heads.add, format=format, about=about(path))
        for path in files_in(paths)
    ]
    if any(skew_of(source) != skews.get(source.id, skew_of(source)) for source in store.journal.sources()):
        heads = Heads()  # another clock is said to be right now: what was read before has to be ordered by it, too
    judged = brought_up(store, judging, heads)
    return conclude(store, judged, tallies, at=at, patience=patience)


def brought_up(
    store: Store, progress: Callable[[str, int], None] = lambda stage, count: None, heads: Heads | None = None
) -> Judged:
    """Bring the ledger up to what the journal holds, and its checkpoints and trail up to the ledger: see `judge`."""
    with ExitStack() as stack:
        makers: list[Maker] = []
        if store.checkpoints is not None:
            makers.append(stack.enter_context(store.checkpoints.making()))
        if store.trail is not None:
            makers.append(stack.enter_context(store.trail.making()))
        return judge(store.journal, store.ledger, progress, heads, _Makers(makers))


class _Makers(NamedTuple):
    """Several read models that are made on the way."""

    makers: Sequence[Maker]

    def note(self, event: Event, at: int, position: int) -> None:
        for maker in self.makers:
            maker.note(event, at, position)

    def settle(self, world: World) -> None:
        for maker in self.makers:
            maker.settle(world)

    def restart_after(self, at: int) -> None:
        for maker in self.makers:
            maker.restart_after(at)


def conclude(
    store: Store,
    judged: Judged,
    tallies: list[Tally],
    *,
    at: Moment | None = None,
    patience: int | None = None,
) -> Outcome:
    """What is wrong in what was judged, at the log's end or at a point of it."""
    if at is not None:
        return conclude_at(store, fold(store.ledger, at), at, tallies, patience=patience)
    return _concluded(store, judged, tallies, end_of(store.journal), patience)


def conclude_at(
    store: Store, judged: Judged, at: Moment, tallies: list[Tally] | None = None, *, patience: int | None = None
) -> Outcome:
    """What is wrong at a point of the log, in what was folded up to there."""
    end = at.time if at.time is not None else (judged.last_time or end_of(store.journal))
    return _concluded(store, judged, tallies or [], end, patience)


def _concluded(store: Store, judged: Judged, tallies: list[Tally], end: int, patience: int | None) -> Outcome:
    findings = list(judged.reading.conclude(end, lambda place: store.ledger.event_at(place).event, patience))
    return Outcome(tallies, judged, findings, end)


def export(store: Store, left_out: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The journal as CloudEvents, a line each: how long each source lasts, then every record in the order of arrival.

    Commands are left out, and `left_out` is told of each: they are decided where they are given, and what is read from
    a file was observed. What was kept aside is no record.
    """
    require_whole(store.recorder.base(), "be exported as records")
    from adapters.sources import cloudevents  # what reads them reads objects too: only an export needs it here

    sources = {source.id: source for source in store.journal.sources()}
    for source in sources.values():
        if source.summary:
            span = msgspec.msgpack.decode(source.summary, type=Span)
            yield cloudevents.exported_source(source, span.first, span.last)
    for entry in store.journal.read():
        if entry.identity.startswith(f"{COMMAND}:"):
            left_out()
        else:
            yield cloudevents.exported(entry, sources[entry.source], dialects.of(entry.identity))


def exported_events(store: Store) -> Iterator[bytes]:
    """The events of the current generation as JSON, a line each, in order; what was superseded or pruned is left out."""
    for placed in chain(store.ledger.kept(), store.ledger.events()):
        yield msgspec.json.encode({"position": placed.position, "at": placed.at, **msgspec.to_builtins(placed.event)})


class HasSources(Protocol):
    """What knows the sources of a journal: it itself, or who remembers them."""

    def sources(self) -> list[Source]:
        """Each with its summary."""
        ...


def span_of(journal: HasSources) -> Span:
    """From when to when the sources last, every record counted."""
    whole = Span()
    for source in journal.sources():
        if source.summary:
            one = msgspec.msgpack.decode(source.summary, type=Span)
            for time in (one.first, one.last):
                if time:
                    right = iso(moment(time, "a record's time") - one.skew) if one.skew else time
                    whole.reach(right, clocked=bool(one.first))
    return whole


class Silence(NamedTuple):
    """A minute or more without any line in an API server's log, which never rests; without a path, in all of them."""

    path: str | None
    first: str
    last: str


SILENCES_KEPT = 100


def silences(journal: HasSources) -> list[Silence]:
    """When no audit log has any line: a file of a rotated log is missing, or the server was down. The first of them all."""
    spans = [
        (source.path, msgspec.msgpack.decode(source.summary, type=Span))
        for source in journal.sources()
        if source.summary and source.format == audit_log.FORMAT
    ]
    found = [Silence(None, *gap) for gap in _between(joined(chain(*(span.stretches for _, span in spans))))]
    known = {silence[1:] for silence in found}
    for path, span in spans:
        found += [Silence(path, *gap) for gap in _between(span.stretches) if gap not in known]
    return sorted(found, key=lambda silence: (silence.first, silence.path or ""))[:SILENCES_KEPT]


def _between(stretches: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for (_, last), (first, _) in pairwise(stretches):
        yield f"{following(last)}:00Z", f"{first}:00Z"


def end_of(journal: HasSources) -> int:
    """The time of the last record of all, in microseconds since 1970; 0 for an empty journal."""
    last = span_of(journal).last
    return moment(last, "the last record's time") if last else 0
