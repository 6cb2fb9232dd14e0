"""Judges a kept ledger once more, under the tables and rules of today, and says what comes out differently.

The journal is put into order and decided again, over the kept ledger and with a throw-away store behind it (`Draft`): what
is decided as before is taken from the ledger, and a new generation, where one begins, goes into the draft. Nothing
is written to the ledger by that. `written` puts the draft behind it, as it is.

The document is `netledger/rejudge/v1`; its JSON Schema is `adapters/schemas/rejudge-v1.json`. Text is made from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile, zip_longest
from typing import Any, NamedTuple

from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBQueryItem,
    DCBReadResponse,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.dcb.popo import SimpleDCBReadResponse
from eventsourcing.persistence import IntegrityError

from adapters import app, report
from adapters.app import Outcome, Store
from adapters.judging import BATCH_EVENTS, fold, judge
from adapters.ledger import Ledger
from adapters.paper import Paper, counted
from adapters.ports import Problem, Recorder, Seal, StoreError
from adapters.pruned import require_whole
from adapters.stores import codec, sqlite
from adapters.views import Stands, Views
from domain.events import GENERATION, REFUSED, Event
from domain.resources import KINDS

SCHEMA = "netledger/rejudge/v1"

Document = dict[str, Any]

_FINDING = ("severity", "status", "reported", "lawful")
_RESOURCE = ("state", "reported", "lawful")
_REFUSAL = ("reason", "leads_to")


class Draft(Recorder):
    """A kept ledger with more behind it that is not kept: reads go through both, appends go to the other."""

    def __init__(self, kept: Recorder, more: Recorder) -> None:
        self._kept = kept
        self.more = more
        self.end = kept.head()
        """The last position that is kept."""

    def head(self) -> int:
        return self.end + self.more.head()

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        if condition is not None:
            raise StoreError("a draft takes no condition: nobody else writes into it")
        return self.end + self.more.append(events)

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> DCBReadResponse:
        more = self.more.read(query, after=max((after or 0) - self.end, 0), limit=limit)

        def found() -> Iterator[DCBSequencedEvent]:
            if (after or 0) < self.end:
                kept = self._kept.read(query, after=after, limit=limit)
                yield from takewhile(lambda one: one.position <= self.end, kept)
            for one in more:
                yield DCBSequencedEvent(event=one.event, position=self.end + one.position)

        return SimpleDCBReadResponse(islice(found(), limit), self.head() or None)

    def subscribe(self, query: DCBQuery | None = None, *, after: int | None = None) -> DCBSubscription[Draft]:
        raise StoreError("a draft cannot be followed: it is there for one verdict only")

    def seal(self, position: int) -> Seal | None:
        """That of what is kept; a draft has none of its own."""
        return self._kept.seal(position) if position <= self.end else None

    def verify(self) -> Iterator[Problem]:
        yield from self._kept.verify()
        yield from self.more.verify()


class Rejudged(NamedTuple):
    """A ledger as it is judged today, over the one that is kept; nothing of it is written yet."""

    kept: Store
    today: Store
    draft: Draft
    outcome: Outcome


@contextmanager
def rejudged(store: Store, progress: Callable[[str, int], None] = lambda stage, count: None) -> Iterator[Rejudged]:
    """Judge a store's journal again; the draft is gone when the block ends. Raises `StoreError`."""
    require_whole(store.recorder.base(), "be judged again: what its first records said is gone")
    with sqlite.thrown_away() as aside:
        draft = Draft(store.recorder, aside.recorder)
        today = Store(store.container, draft, store.journal, Ledger(draft))
        judged = judge(store.journal, today.ledger, progress, again=True)
        yield Rejudged(store, today, draft, app.conclude(today, judged, []))


def written(verdict: Rejudged) -> Store:
    """Put what was decided differently behind the ledger, durable on return, and open that again.

    Killed in between, it leaves a generation that is judged in part, as a replay that was killed does, and the next one
    of either goes on from there. Raises `StoreError`, also where another wrote into the ledger meanwhile.
    """
    recorder, last = verdict.kept.recorder, verdict.draft.end
    events = (found.event for found in verdict.draft.more.read())
    while batch := list(islice(events, BATCH_EVENTS)):
        try:
            last = recorder.append(batch, DCBAppendCondition(DCBQuery(), after=last))
        except IntegrityError:
            raise StoreError(
                "another writer appended to the ledger while it was judged again; what that appended stands, and nothing "
                "was put behind it: rejudge again"
            ) from None
    return verdict.kept._replace(ledger=Ledger(recorder))


# ---- what differs


def document(verdict: Rejudged, views: Views, stands: Stands) -> Document:
    """What came out differently, as plain JSON values.

    What was found before is what the read models say where they stand at `stands`: they keep the verdict of the rules of
    then. Where they do not, it is what the kept events come to under the rules of today.
    """
    kept, today = verdict.kept, verdict.today
    before = fold(kept.ledger)
    if from_views := views.stand_at(stands):
        findings = views.findings()
        resources = [row for kind in KINDS for row in views.resources(kind.name)]
    else:
        was = _plain(report.document(kept, app.conclude(kept, before, [])))
        findings, resources = was["findings"], was["resources"]
    now = _plain(report.document(today, verdict.outcome))
    told = {
        "findings": _compared(findings, now["findings"], lambda row: row["id"], _FINDING, _finding),
        "refusals": _compared(
            _refusals(kept.ledger),
            _refusals(today.ledger),
            lambda row: (row["record"], row["resource"], row["attempted"], row["occurrence"]),
            _REFUSAL,
            _refusal,
        ),
        "resources": _compared(resources, now["resources"], _name_of, _RESOURCE, _resource),
    }
    events = verdict.draft.head() > verdict.draft.end
    return {
        "schema": SCHEMA,
        "changed": events or any(part for kind in told.values() for part in kind.values()),
        "written": False,
        "compared_with": "views" if from_views else "events",
        "before": {
            "generation": kept.ledger.generation,
            "events": before.reading.at,
            "refusals": before.reading.refusals,
            "digest": before.digest,
        },
        "today": {key: now["ledger"][key] for key in ("generation", "events", "refusals", "digest")},
        "first": _first(verdict) if events else None,
        **told,
        "open_errors": report.open_errors(now["findings"]),
    }


def _plain(document: Document) -> Document:
    """As the read models keep it, so that the two can be compared."""
    plain: Document = json.loads(json.dumps(document))
    return plain


def _compared(
    before: Iterable[Document],
    now: Iterable[Document],
    key: Callable[[Document], Any],
    fields: Sequence[str],
    told: Callable[[Document], Document],
) -> dict[str, list[Document]]:
    """What appeared, vanished, or has other values in these fields."""
    old, new = {key(row): row for row in before}, {key(row): row for row in now}
    return {
        "appeared": [told(row) for name, row in new.items() if name not in old],
        "vanished": [told(row) for name, row in old.items() if name not in new],
        "changed": [
            {
                **told(row),
                "was": {field: old[name][field] for field in fields},
                "is": {field: row[field] for field in fields},
            }
            for name, row in new.items()
            if name in old and any(old[name][field] != row[field] for field in fields)
        ],
    }


def _finding(row: Document) -> Document:
    names = ("id", "rule", "name", "severity", "status", "resource", "field", "reported", "lawful", "explanation")
    return {name: row[name] for name in names}


def _resource(row: Document) -> Document:
    return {name: row[name] for name in ("kind", "namespace", "name", "uid", *_RESOURCE)}


def _refusal(row: Document) -> Document:
    return {name: row[name] for name in ("record", "resource", "attempted", *_REFUSAL)}


def _name_of(row: Document) -> tuple[Any, ...]:
    return row["kind"], row["namespace"], row["name"], row["uid"]


def _refusals(ledger: Ledger) -> Iterator[Document]:
    times: dict[tuple[str, ...], int] = {}
    for placed in ledger.events(DCBQuery(items=[DCBQueryItem(types=[REFUSED])])):
        event = placed.event
        name = (event.record, str(event.key), event.attempted)
        yield {
            "record": event.record,
            "resource": str(event.key),
            "attempted": event.attempted,
            "reason": event.reason,
            "leads_to": event.leads_to,
            "occurrence": times.setdefault(name, 0),
        }
        times[name] += 1


def _first(verdict: Rejudged) -> Document | None:
    """The first event that is another one now; what was commanded only moved."""
    # Up to where the new generation begins the two are one.
    marker = next(iter(verdict.draft.more.read(limit=1)))
    cut = end = verdict.draft.end
    if marker.event.type == GENERATION:
        cut = codec.decode(marker.event.data).changed["after"][1]
    old = (one for one in verdict.kept.ledger.events() if one.position > cut and one.event.order is not None)
    new = (one for one in verdict.today.ledger.events() if one.position > end and one.event.order is not None)
    for was, now in zip_longest(old, new):
        if was is None or now is None or was.event != now.event:
            found = now or was
            assert found is not None
            one = found.event
            return {
                "position": was.position if was is not None else None,
                "record": one.record,
                "resource": str(one.key),
                "operation": one.operation,
                "was": _said(was.event) if was is not None else None,
                "is": _said(now.event) if now is not None else None,
            }
    return None


def _said(event: Event) -> Document:
    return {"event": event.type, "says": report.says(event)}


# ---- as text


def text(document: Document, paper: Paper) -> Iterator[str]:
    """What came out differently, for a person, line by line."""
    before, today = document["before"], document["today"]
    if not document["changed"]:
        yield paper.styled(
            f"Judged again: nothing changes ({counted(today['events'], 'event')}, digest {today['digest']}).", "green"
        )
        return
    yield from paper.paragraph(
        "Judged again under today's tables and rules"
        + ("; written." if document["written"] else ". Nothing is written."),
        0,
    )
    yield from paper.row("before", _ledger(before))
    yield from paper.row("today", _ledger(today) if today != before else "the same events")
    if first := document["first"]:
        yield from paper.row("from", _from(first))
    for kind, line in (("findings", _finding_line), ("refusals", _refusal_line), ("resources", _resource_line)):
        for change, style in (("appeared", "red"), ("vanished", "green"), ("changed", "yellow")):
            rows = document[kind][change]
            if not rows:
                continue
            yield ""
            yield paper.styled(f"{kind.capitalize()} that {_CHANGES[change]}: {len(rows):,}", "bold")
            lines = Counter(map(line, rows))
            for told, times in islice(lines.items(), _SHOWN):
                yield from paper.paragraph(told + (f" ({times:,} times)" if times > 1 else ""), 4, style, first=2)
            if len(lines) > _SHOWN:
                yield from paper.paragraph(f"and {len(lines) - _SHOWN:,} more; -o json has them all", 2, "dim")
    if not document["written"]:
        yield ""
        yield from paper.paragraph("`netledger rejudge --write` puts today's verdict behind what is kept.", 0, "dim")


_SHOWN = 20
_CHANGES = {"appeared": "appeared", "vanished": "are gone", "changed": "changed"}


def _ledger(part: Document) -> str:
    refusals = counted(part["refusals"], "refused transition") if part["refusals"] else "none refused"
    return f"{counted(part['events'], 'event')}, {refusals}, generation {part['generation']}, digest {part['digest']}"


def _from(first: Document) -> str:
    was, now = (
        "nothing" if said is None else said["event"] + (f" ({said['says']})" if said["says"] else "")
        for said in (first["was"], first["is"])
    )
    where = f"position {first['position']:,}, " if first["position"] else ""
    return f"{where}{first['operation']} of {first['resource']}: was {was}, is {now}"


def _finding_line(row: Document) -> str:
    if "was" not in row:
        return f"{row['status']} {row['severity']} {row['id']}"
    return f"{row['id']}: {_moved(row)}"


def _refusal_line(row: Document) -> str:
    if "was" not in row:
        return f"{row['attempted']} of {row['resource']}: {row['reason']}"
    return f"{row['attempted']} of {row['resource']}: {_moved(row)}"


def _resource_line(row: Document) -> str:
    path = report.path_of(row)
    return f"{path}: {_moved(row)}" if "was" in row else f"{path} {row['state']}"


def _moved(row: Document) -> str:
    return "; ".join(
        f"{field} {report.brief(row['was'][field])} → {report.brief(row['is'][field])}"
        for field in row["is"]
        if row["was"][field] != row["is"][field]
    )
