"""Every question about a ledger in one place: what a person or a program asks, as text, and the document that answers it.

A command asks a ledger that it has open, the daemon its own, and `remote.py` asks a daemon with the same methods: so all
three say the same. `trail.py`, `reasons.py` and `report.py` make the documents; what holds at the end of the log is not
read anew for each, and whoever asks has it at hand (`Now`).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from adapters import app, finding_documents, reasons, report, trail
from adapters.app import Store
from adapters.judging import Judged, fold
from adapters.ledger import Moment
from adapters.report import NotKnown
from adapters.trail import Question
from domain.resources import Key, Kind

Document = dict[str, Any]


class Now(Protocol):
    """What holds at the end of the log: `views.Views` has it on disk, a daemon in memory."""

    def coverage(self) -> Document:
        """What the log can and cannot speak for."""
        ...

    def findings(self) -> list[Document]:
        """What is wrong, as `netledger findings -o json` has it."""
        ...

    def resources(self, kind: str, namespace: str | None = None, name: str | None = None) -> list[Document]:
        """The live resources of a kind, as `netledger get -o json` has them."""
        ...

    def names(self, kind: str) -> list[str]:
        """Their names, `namespace/name` where there are namespaces."""
        ...


class Answers:
    """The answers of one ledger. Moments are text, and raise `NotAMoment` where they are none; all raise `StoreError`.

    Every document has its `coverage`.
    """

    def __init__(self, store: Store, now: Now) -> None:
        self._store = store
        self._now = now
        self.coverage = now.coverage()

    def findings(self) -> Document:
        """All `findings`, the open ones first."""
        return {"findings": self._now.findings(), "coverage": self.coverage}

    def resources(
        self, kind: Kind, namespace: str | None = None, name: str | None = None, at: str | None = None
    ) -> Document:
        """The live `resources` of a kind, now or at a moment; none of them where there is none of that name."""
        if at is None:
            rows = self._now.resources(kind.name, namespace, name)
        else:
            key = None if name is None else Key(kind.name, namespace or "", name)
            rows = [
                row
                for row in report.resources_at(self._store, kind, app.read_moment(at), key)
                if name in (None, row["name"]) and namespace in (None, row["namespace"] or "")
            ]
        return {"resources": rows, "coverage": self.coverage}

    def names(self, kind: Kind) -> list[str]:
        """The names of the live resources of a kind, for telling what somebody may have meant."""
        return self._now.names(kind.name)

    def known(self) -> dict[str, list[str]]:
        """All actors, verbs and types of events there are, for the same."""
        return trail.known(self._store)

    def events(self, question: Question, since: str | None = None, until: str | None = None) -> Document:
        """The events that a question is about, see `trail.events`. Raises `NotAToken`."""
        return trail.events(self._store, self._within(question, since, until), self.coverage)

    def history(self, key: Key, question: Question, since: str | None = None, until: str | None = None) -> Document:
        """The events on one resource. Raises `NotAToken`, and `NotKnown` where there was never any."""
        document = trail.history(self._store, key, self._within(question, since, until), self.coverage)
        if not document["events"] and not trail.history(self._store, key, Question(limit=1), self.coverage)["events"]:
            raise NotKnown(f"nothing in this ledger is about {key}")
        return document

    def who(self, key: Key) -> Document:
        """Everyone who wrote to a resource, see `trail.who`. Raises `NotKnown` where nobody did."""
        document = trail.who(self._store, key, self.coverage)
        if not document["actors"]:
            raise NotKnown(f"nobody wrote to {key} in this ledger")
        return document

    def diff(self, key: Key, begin: str | None = None, end: str | None = None, *, every: bool = False) -> Document:
        """What changed of a resource between two moments, see `reasons.diff`. Raises `NotKnown`."""
        return reasons.diff(self._store, key, _moment(begin), _moment(end), every=every, coverage=self.coverage)

    def blame(self, key: Key, kind: Kind, at: str | None = None) -> Document:
        """Who made each field what it is, see `reasons.blame`. Raises `NotKnown`."""
        rows = self.resources(kind, key.namespace if kind.namespaced else None, key.name, at)["resources"]
        return reasons.blame(
            self._store,
            key,
            _moment(at),
            standing=rows[0] if rows else None,
            findings=finding_documents.on(self._now.findings(), *key),
            coverage=self.coverage,
        )

    def why(self, key: Key, member: str = "", at: str | None = None) -> Document:
        """Why a resource is as it is, see `reasons.why`: the whole log is folded for it. Raises `NotKnown`."""
        moment = _moment(at)
        judged = fold(self._store.ledger) if moment is None else Judged()  # of a moment, `conclude` folds it itself
        outcome = app.conclude(self._store, judged, [], at=moment)
        return reasons.why(self._store, outcome, key, member, coverage=self.coverage)

    def _within(self, question: Question, since: str | None, until: str | None) -> Question:
        """With its times read; durations count back from the end of the log."""

        def end() -> int:
            return app.end_of(self._store.journal)

        return msgspec.structs.replace(
            question,
            since=app.read_moment(since, end) if since else None,
            until=app.read_moment(until, end) if until else None,
        )


def _moment(text: str | None) -> Moment | None:
    return app.read_moment(text) if text else None
