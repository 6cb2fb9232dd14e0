"""Every question about a ledger in one place: what a person or a program asks, as text, and the document that answers it.

A command asks a ledger that it has open, the daemon its own, and `remote.py` asks a daemon with the same methods: so all
three say the same. `trail.py`, `reasons.py` and `report.py` make the documents; what holds at the end of the log is not
read anew for each, and whoever asks has it at hand (`Now`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from typing import Any, Protocol

import msgspec

from adapters import app, finding_documents, reasons, report, trail
from adapters.app import Store
from adapters.judging import Judged
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

    def judged(self, store: Store, moment: Moment | None = None) -> AbstractContextManager[Judged]:
        """All that is folded, there or up to a moment, as long as the block lasts. Raises `StoreError`."""
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
            return {"resources": self._now.resources(kind.name, namespace, name), "coverage": self.coverage}
        moment = app.read_moment(at)
        if kind.served:
            key = None if name is None else Key(kind.name, namespace or "", name)
            rows = report.resources_at(self._store, kind, moment, key)
        else:  # what belongs in an ipset follows from all that its owners ever wrote
            with self._now.judged(self._store, moment) as judged:
                rows = report.resources_in(judged.reading, kind)
        rows = [row for row in rows if name in (None, row["name"]) and namespace in (None, row["namespace"] or "")]
        return {"resources": rows, "coverage": self.coverage}

    def ipset(self, name: str, node: str | None = None, at: str | None = None) -> Document:
        """One `ipset` with all its members, and what `ipset restore` takes to make it so: its lines in `restore`.

        Where that is `None`, `not_restored` says why. `node` is the one that it lies on; where it is not given, it is found.
        Raises `NotKnown` where no such set is there, or where sets of that name are on several nodes.
        """
        moment = _moment(at)
        with self._now.judged(self._store, moment) as judged:
            reading = judged.reading
            sets = {
                resource.key: resource
                for resource in reading.resources()
                if resource.key.kind == "ipset" and node in (None, resource.key.namespace)
            }
            found = [key for key in sets if key.name == name]
            if len(found) != 1:
                raise NotKnown(_which_ipset(name, node, at, found, sets))
            resource = sets[found[0]]
            restore, why = None, None
            try:
                restore = report.ipset_save(reading, resource)
            except NotKnown as error:
                why = str(error)
            return {
                "ipset": report.ipset_document(reading, resource, self._store),
                "restore": restore,
                "not_restored": why,
                "coverage": self.coverage,
            }

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
        """Why a resource is as it is, see `reasons.why`: the log is folded for it. Raises `NotKnown`."""
        moment = _moment(at)
        with self._now.judged(self._store, moment) as judged:
            if moment is None:
                outcome = app.conclude(self._store, judged, [])
            else:
                outcome = app.conclude_at(self._store, judged, moment)
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


def _which_ipset(name: str, node: str | None, at: str | None, found: Sequence[Key], known: Iterable[Key]) -> str:
    """That there is none of that name, or more than one."""
    if found:
        nodes = ", ".join(key.namespace or "one that no source names" for key in found)
        return f"several nodes have an ipset {name}: {nodes}; add --node NAME"
    where = (f" on node {node}" if node is not None else "") + (f" at {at}" if at else " at the end of the log")
    close = get_close_matches(name, dict.fromkeys(key.name for key in known), 3, 0.6)
    key = Key("ipset", node or "", name)
    said = (
        f"did you mean {' or '.join(close)}?" if close else f"`netledger history {key}` shows what the log knows of it"
    )
    return f"there is no ipset {name}{where}; {said}"
