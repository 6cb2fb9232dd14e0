"""What commands ask: a kept ledger with read models (`adapters/views.py`) that stand where it stands, or a daemon.

The read models are made again here whenever they do not. `asking.py` and `keeping.py` come next.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapters.cli.common import Place, fail, meant, named, tell

if TYPE_CHECKING:
    from adapters import app
    from adapters.answering import Answers
    from adapters.remote import Remote
    from adapters.views import Views
    from domain.resources import Key, Kind


@contextmanager
def asked(place: Place) -> Iterator[Answers | Remote]:
    """Who answers: a kept ledger that is open for reading, or a daemon. What may still change an answer is told."""
    if place.server is None:
        from adapters.answering import Answers

        with questioned(place.ledger) as (store, views):
            yield Answers(store, views)
        return
    with daemon(place) as remote:
        yield remote
        waiting = remote.provisional.get("undecided", 0)
        if waiting:
            from adapters.paper import counted

            tell(
                f"{counted(waiting, 'record')} not decided yet (for {remote.provisional['seconds']:g} s): this answer may "
                "still change"
            )


@contextmanager
def daemon(place: Place) -> Iterator[Remote]:
    """The daemon that was named."""
    from adapters.remote import Credentials, Remote

    if not place.server:
        fail("which daemon? Give --server URL, or set NETLEDGER_SERVER; `netledger serve` runs one")
    with Remote(place.server, Credentials(place.token, place.ca, place.cert, place.key)) as remote:
        yield remote


@contextmanager
def questioned(path: str | None) -> Iterator[tuple[app.Store, Views]]:
    """A kept ledger, open for reading, with views that stand where it stands."""
    from adapters import app
    from adapters.views import Views

    with app.opened(named(path), "read") as store:
        views = Views(named(path))
        if not views.stand_at(standing(store)):
            _make_views(views, store, named(path))
        yield store, views


@contextmanager
def known_by(answers: Answers | Remote, kind: Kind, key: Key) -> Iterator[None]:
    """What is not known is said with what may have been meant."""
    from adapters.report import NotKnown

    try:
        yield
    except NotKnown as error:
        said = str(error)
        if "in this ledger" in said:
            said += meant(key.path, answers.names(kind)) or f"; `netledger get {kind.plural}` lists what is there"
        fail(said)


def _make_views(views: Views, store: app.Store, path: str) -> None:
    """Make the views again from the log; where they cannot be kept, for this answer only."""
    from adapters import app, report
    from adapters.judging import Judged
    from adapters.ledger import Moment
    from adapters.ports import StoreError
    from adapters.stores.backends import shown

    path = shown(path)
    stands = standing(store)
    outcome = rebuilt(store)
    if outcome is None:
        # Nothing is overdue for lack of what is not judged yet: the answer ends where judging has come to.
        outcome = app.conclude(store, Judged(), [], at=Moment(None, sys.maxsize))
        if not outcome.judged.reading.at:
            fail(
                f"{path} holds records, and nothing of them is judged yet: a replay into it is running, or was "
                "interrupted; wait for it, or replay the same log into it again"
            )
        tell(
            f"{path} holds records that are not judged yet: a replay into it is running, or was interrupted. This answer "
            "is about what is judged so far; `netledger replay LOG --ledger` with the same log finishes it"
        )
        views.hold(stands, report.document(store, outcome), activity(outcome))
        return
    made = (stands, report.document(store, outcome), activity(outcome))
    try:
        views.keep(*made)
    except StoreError:
        views.hold(*made)


def rebuilt(store: app.Store) -> app.Outcome | None:
    """Everything that follows from the log; `None` where the journal holds what the ledger does not."""
    from adapters import app
    from adapters.ports import LedgerReadOnly

    try:
        # Opened for reading, judging appends nothing: it gets through only if there is nothing left to append.
        return app.conclude(store, app.brought_up(store), [])
    except LedgerReadOnly:
        return None


def keep_views(path: str, store: app.Store, outcome: app.Outcome, document: dict[str, Any]) -> None:
    """The ledger is complete by now: that its views cannot be kept is worth a word, and no failure."""
    from adapters.ports import StoreError
    from adapters.views import Views

    try:
        Views(path).keep(standing(store), document, activity(outcome))
    except StoreError as error:
        tell(str(error))


def standing(store: app.Store) -> tuple[int, int, int, int]:
    """Generation, head of the ledger, head of the journal, up to where it was pruned."""
    _, pruned = store.ledger.start
    return store.ledger.generation, store.ledger.head, store.journal.head(), pruned


def activity(outcome: app.Outcome) -> dict[str, dict[str, Any]]:
    """What each actor did to the resources of each kind, as the views keep it."""
    import msgspec

    return {
        actor: {kind: msgspec.to_builtins(activity) for kind, activity in kinds.items()}
        for actor, kinds in outcome.judged.reading.trail.by_actor.items()
    }
