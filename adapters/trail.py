"""The audit trail: which events there were, by whom, on what and when, a page at a time; and who wrote to one resource.

Each function takes an opened `app.Store` and gives a plain document, ready for JSON, with coverage; several threads may ask
one store. What matches is told by `trail_index.py`, so that only the events that are shown are read. A page ends with a
*token* that goes on behind it, whatever was appended meanwhile. `cli/trailing.py` prints what comes back.
"""

from __future__ import annotations

import csv
import io
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any

import msgspec

from adapters import report
from adapters.app import Store, span_of
from adapters.label_selector import read_selector
from adapters.ledger import Moment
from adapters.sources.dialect import iso
from adapters.stores import codec
from adapters.trail_index import BY_API_SERVER, BY_LIFECYCLE, Act, Done, Place, Stretch, Trail, Wanted, verb_of
from domain.events import OBSERVED, REFUSED, Event
from domain.operations import REFUSED as REFUSED_BY_API_SERVER
from domain.resources import Key
from projections.findings.rule import short

LIFECYCLE, API_SERVER = "lifecycle", "api-server"
"""Who refused, as documents say it: the table of the kind, or the API server."""

COLUMNS = (
    "position",
    "at",
    "revision",
    "actor",
    "verb",
    "operation",
    "event",
    "resource",
    "uid",
    "refused_by",
    "reason",
    "cause",
    "says",
    "changed",
    "audit_id",
    "source",
    "purpose",
)
"""Of `-o csv`, and of every event in a document."""


class NotAToken(ValueError):
    """What was given to go on from is no token of this question. The message says why, and what to do."""


class TokenOutlived(NotAToken):
    """A new generation began since, and what was shown is among what it decided again. The message says from where to ask."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which events, in which order, how many. What has several entries holds for any of them; what is empty, for all.

    `actors` are names, whole or as tables show them, or patterns with `*`; `kinds` are those of `domain/resources.py`;
    `selector` is of labels (`label_selector.py`); `since` and `until` are both inclusive. A page that `token` goes on with
    keeps the times that the first page had.
    """

    actors: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    name: str | None = None
    selector: str | None = None
    verbs: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    refused: bool = False
    since: Moment | None = None
    until: Moment | None = None
    reverse: bool = False
    limit: int | None = None
    token: str | None = None


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Where a page ended, and which question it answered."""

    question: bytes
    generation: int
    position: int
    since: Moment | None
    until: Moment | None


def events(store: Store, question: Question, coverage: dict[str, Any] | None = None) -> dict[str, Any]:
    """The events that a question is about: `events`, the token to `continue` with (`None` at the end), and `coverage`.

    `restarted` says that a new generation began since the page before, which changes nothing of what was shown, but, in
    reverse, what would have come first. Without a `coverage` the document has what can be told at once. Where labels were
    asked for, `labels` says of which kinds the log shows any, and of which not: no event on these was looked at by them.

    Raises:
        NotASelector: `question.selector` is none.
        NotAToken: `question.token` is of another question, or none.
        TokenOutlived: what comes behind it cannot be told.
        StoreError: the store cannot be read.
    """
    document = _document(store, question, _wanted(question), "", coverage)
    if question.selector is not None:
        known, unknown = _trail_of(store).labelled()
        document["labels"] = {"known": known, "unknown": unknown}
    return document


def history(
    store: Store, key: Key, question: Question | None = None, coverage: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The events on just one resource, as `events` gives them."""
    return _document(store, question or Question(), _on(key), str(key), coverage)


def who(store: Store, key: Key, coverage: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everyone who wrote to a resource, or tried to: how often, with which verbs, first and last; who came last is last.

    What merely followed from what somebody did to another resource is not counted. Raises `StoreError`.
    """
    wanted = _on(key)._replace(stretches=store.ledger.stretches(), act=lambda act: not act.follows)
    done = sorted(_trail_of(store).tally(wanted).items(), key=lambda one: one[1].last[0])
    return {
        "resource": str(key),
        "actors": [_actor(actor, what) for actor, what in done],
        "coverage": coverage_of(store) if coverage is None else coverage,
    }


def known(store: Store) -> dict[str, list[str]]:
    """All `actors`, `verbs` and `types` there are, for telling what somebody may have meant. Raises `StoreError`."""
    names, acts = _trail_of(store).known()
    return {
        "actors": list(dict.fromkeys(one for name in names for one in (name, short(name)))),
        "verbs": list(dict.fromkeys(act.verb for act in acts)),
        "types": list(dict.fromkeys(act.type for act in acts)),
    }


def coverage_of(store: Store) -> dict[str, Any]:
    """How far the answer reaches, as far as it can be told at once: from when to when the log lasts, and what was pruned."""
    span = span_of(store.journal)
    return {
        "from": span.first or None,
        "to": span.last or None,
        "generation": store.ledger.generation,
        "head": store.ledger.head,
        "pruned": report.pruned_coverage(store),
    }


def csv_lines(rows: Iterable[dict[str, Any]], *, headers: bool) -> Iterator[str]:
    """Rows of `events` as RFC 4180 has it, without line ends; what has none is empty, and `changed` is JSON."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="")
    for cells in [list(COLUMNS)] if headers else []:
        yield _written(writer, stream, cells)
    for row in rows:
        cells = [
            json.dumps(row[column], ensure_ascii=False) if column == "changed" else row[column] for column in COLUMNS
        ]
        yield _written(writer, stream, cells)


def _written(writer: Any, stream: io.StringIO, cells: list[Any]) -> str:
    stream.seek(0)
    stream.truncate()
    writer.writerow(cells)
    return stream.getvalue()


# ---- what is asked for


def _wanted(question: Question) -> Wanted:
    return Wanted(
        (),
        actor=_one_called(question.actors) if question.actors else None,
        place=_one_of_places(question.kinds, question.namespaces) if question.kinds or question.namespaces else None,
        act=_one_of_acts(question) if question.verbs or question.types or question.refused else None,
        name=question.name,
        labels=read_selector(question.selector) if question.selector is not None else None,
    )


def _one_called(names: tuple[str, ...]) -> Callable[[str], bool]:
    patterns = [name for name in names if "*" in name]
    wanted = frozenset(names)
    return lambda actor: (
        actor in wanted
        or short(actor) in wanted
        or any(fnmatchcase(actor, pattern) or fnmatchcase(short(actor), pattern) for pattern in patterns)
    )


def _one_of_places(kinds: tuple[str, ...], namespaces: tuple[str, ...]) -> Callable[[Place], bool]:
    return lambda place: (not kinds or place[0] in kinds) and (not namespaces or place[1] in namespaces)


def _one_of_acts(question: Question) -> Callable[[Act], bool]:
    verbs, types, refused = question.verbs, question.types, question.refused
    return lambda act: (
        (not verbs or act.verb in verbs) and (not types or act.type in types) and (not refused or act.refused > 0)
    )


def _on(key: Key) -> Wanted:
    return Wanted((), place=lambda place: place == (key.kind, key.namespace), name=key.name)


def _digest(question: Question, about: str) -> bytes:
    """What a token is bound to: all but the page, and the times, which it holds itself."""
    asked = msgspec.structs.asdict(msgspec.structs.replace(question, since=None, until=None, limit=None, token=None))
    if question.selector is None:
        del asked["selector"]  # tokens from before there was one go on
    return blake2b(msgspec.msgpack.encode((about, asked)), digest_size=8).digest()


# ---- a page


def _document(
    store: Store, question: Question, wanted: Wanted, about: str, coverage: dict[str, Any] | None
) -> dict[str, Any]:
    trail, ledger = _trail_of(store), store.ledger
    generation, stretches = ledger.generation, ledger.stretches()
    since, until, low, high = question.since, question.until, 0, ledger.head
    digest = _digest(question, about)
    restarted = False
    if question.token is not None:
        token = _read_token(question.token, digest)
        if token.generation > generation:
            raise NotAToken(
                f"this token is of generation {token.generation}, and the ledger is in generation {generation}: it is "
                "another ledger's, or of a copy from later; ask again without it"
            )
        restarted = token.generation < generation
        if not ledger.keeps(token.position):
            raise TokenOutlived(_outlived(token.position, stretches, generation, question.reverse))
        since, until = token.since, token.until
        low, high = (low, token.position - 1) if question.reverse else (token.position, high)
    low, high = _bounds(trail, stretches, since, until, low, high)
    wanted = wanted._replace(
        stretches=[
            (max(after, low), min(upto, high)) for after, upto in stretches if max(after, low) < min(upto, high)
        ],
        since=since.time if since is not None else None,
        until=until.time if until is not None else None,
    )
    limit = question.limit
    positions = trail.page(wanted, None if limit is None else limit + 1, reverse=question.reverse)
    more = limit is not None and len(positions) > limit
    positions = positions[:limit]
    going_on = _Token(digest, generation, positions[-1], since, until) if more and positions else None
    return {
        "generation": generation,
        "restarted": restarted,
        "events": _rows(store, positions),
        "continue": _written_token(going_on) if going_on is not None else None,
        "coverage": coverage_of(store) if coverage is None else coverage,
    }


def _bounds(
    trail: Trail, stretches: list[Stretch], since: Moment | None, until: Moment | None, low: int, high: int
) -> tuple[int, int]:
    """Above which and up to which position an event lies that is within two moments, where these are no times."""
    if since is not None and since.position is not None:
        low = max(low, since.position - 1)
    elif since is not None and since.revision is not None:
        first = trail.first_behind(since.revision - 1, stretches)
        low = max(low, high if first is None else first - 1)
    if until is not None and until.position is not None:
        high = min(high, until.position)
    elif until is not None and until.revision is not None:
        first = trail.first_behind(until.revision, stretches)
        high = high if first is None else min(high, first - 1)
    return low, high


def _rows(store: Store, positions: list[int]) -> list[dict[str, Any]]:
    found = {one.position: codec.decode(one.event.data) for one in store.recorder.at(sorted(positions))}
    places = store.journal.locate({event.record for event in found.values()})
    # One may be missing that was pruned since: then this ledger has to be opened again, and says so elsewhere.
    return [row(position, found[position], places) for position in positions if position in found]


def row(position: int, event: Event, places: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """One event as a plain document: as `history` has it, with its verb, and with who refused it, where somebody did."""
    refused_by = LIFECYCLE if event.type == REFUSED else API_SERVER if event.outcome == REFUSED_BY_API_SERVER else None
    return {
        **report.timeline_row(position, event, places.get(event.record)),
        "verb": verb_of(event.operation, event.type),
        "refused_by": refused_by,
    }


def _actor(actor: str, done: Done) -> dict[str, Any]:
    verbs: dict[str, int] = {}
    for act, count in done.acts.items():
        verbs[act.verb] = verbs.get(act.verb, 0) + count

    def counted(is_one: Callable[[Act], bool]) -> int:
        return sum(count for act, count in done.acts.items() if is_one(act))

    return {
        "actor": actor,
        "events": sum(done.acts.values()),
        "attempts": counted(lambda act: act.type == OBSERVED),
        "refused": counted(lambda act: act.refused > 0),
        "refused_by": {
            LIFECYCLE: counted(lambda act: act.refused == BY_LIFECYCLE),
            API_SERVER: counted(lambda act: act.refused == BY_API_SERVER),
        },
        "verbs": dict(sorted(verbs.items(), key=lambda one: (-one[1], one[0]))),
        "first": {"position": done.first[0], "at": iso(done.first[1])},
        "last": {"position": done.last[0], "at": iso(done.last[1])},
    }


def _trail_of(store: Store) -> Trail:
    return store.trail if store.trail is not None else Trail(None, store.ledger, store.recorder)


# ---- tokens


def _written_token(token: _Token) -> str:
    content = msgspec.msgpack.encode(token)
    # A letter that went missing on the way must not make another token of it.
    return urlsafe_b64encode(blake2b(content, digest_size=4).digest() + content).decode().rstrip("=")


def _read_token(text: str, digest: bytes) -> _Token:
    try:
        whole = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = msgspec.msgpack.decode(whole[4:], type=_Token)
    except (ValueError, msgspec.MsgspecError):
        token = None
    if token is None or _written_token(token) != text:
        raise NotAToken(f"{text[:80]!r} is no token to go on with: take the whole of what the page before ended with")
    if token.question != digest:
        raise NotAToken(
            "this token goes on with another question: repeat the one that it came from with the same filters and order, or "
            "ask anew without it"
        )
    return token


def _outlived(position: int, stretches: list[Stretch], generation: int, reverse: bool) -> str:
    last = max((upto for _, upto in stretches if upto < position), default=0)
    said = (
        f"a late record made what stood behind position {last} be decided again since that page, as generation {generation}: "
        f"what follows position {position} is no more. "
    )
    if reverse:
        return said + "Ask anew from the end, without the token"
    return said + f"What replaces it: the same question with --since position:{last + 1} instead of the token"
