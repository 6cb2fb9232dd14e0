"""The engine as authority: takes commands, which have not happened yet, and admits or refuses them.

A command is put into the journal before it is decided. It is decided on the fold kept at a position, and appended under
the condition that nothing with its tags came after that position (a dynamic consistency boundary): of two writers that
decide on the same boundary one appends, and the other folds what came and decides again. A refusal is appended too, and
under no condition: it changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec
from eventsourcing.dcb.api import DCBAppendCondition, DCBQuery, DCBQueryItem, DCBRecorder
from eventsourcing.persistence import IntegrityError

from adapters.ledger import Ledger
from adapters.ports import Journal, Record
from adapters.stores import codec
from domain.decide import COMMAND, Command, decide_command
from domain.events import REFUSED, Event
from projections.reading import Reading

ATTEMPTS = 100
"""How often a command is decided anew because another writer was quicker, before it is given back."""

SOURCE = "commands"


class TooManyConflicts(Exception):
    """Other writers kept changing what the command was decided on. Nothing was admitted; it may be tried again."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of a command: its event and position, or the reason why not and what could come next."""

    admitted: bool
    event: Event
    position: int
    reason: str = ""


class Authority:
    """Decides commands on a ledger that only commands are written to. Not for threads: give each its own."""

    def __init__(self, recorder: DCBRecorder, journal: Journal) -> None:
        self._recorder = recorder
        self._journal = journal
        self._source = journal.source(SOURCE, COMMAND)
        self._line = 0
        ledger = Ledger(recorder)
        self.reading = ledger.base.restored() if ledger.base is not None else Reading()
        _, self.position = ledger.start

    def execute(self, command: Command) -> Verdict:
        """Decide a command and append what came out. The same `identity` given twice is one event.

        Raises `TooManyConflicts`, and `StoreError` where the store cannot keep it.
        """
        self._keep(command)
        for _ in range(ATTEMPTS):
            self._catch_up()
            if (before := self._decided(command)) is not None:
                return before
            events = decide_command(self.reading.world, command)
            refused = events[0].type == REFUSED
            condition = None if refused else _boundary(events, self.position)
            try:
                last = self._recorder.append([codec.encode(event) for event in events], condition)
            except IntegrityError:
                continue
            self._catch_up()
            return verdict_of(events[0], last - len(events) + 1)
        raise TooManyConflicts(
            f"{command.event} of {command.key} was decided {ATTEMPTS} times, and each time another writer had changed "
            "what it rests on; nothing was admitted: try again"
        )

    def _keep(self, command: Command) -> None:
        self._line += 1
        self._journal.commit(self._source, [record_of(command, self._line)], [], b"")

    def _catch_up(self) -> None:
        for found in self._recorder.read(after=self.position):
            self.reading.apply(codec.decode(found.event.data))
            self.position = found.position

    def _decided(self, command: Command) -> Verdict | None:
        """What was decided of a command of that identity before, if it was."""
        query = DCBQuery(items=[DCBQueryItem(tags=[command.key.tag])])
        known = ((found.position, codec.decode(found.event.data)) for found in self._recorder.read(query))
        return decided_in(known, command)


def verdict_of(event: Event, position: int) -> Verdict:
    """What a command's own event says became of it."""
    return Verdict(event.type != REFUSED, event, position, event.reason)


def decided_in(known: Iterable[tuple[int, Event]], command: Command) -> Verdict | None:
    """What became of a command of that identity, if it is among events with their positions."""
    record = f"{COMMAND}:{command.identity}"
    return next((verdict_of(event, at) for at, event in known if event.record == record and not event.cause), None)


def record_of(command: Command, line: int = 0) -> Record:
    """A command as the journal keeps it."""
    said = msgspec.structs.asdict(command)
    if not command.purpose:
        del said["purpose"]  # the same bytes as before commands had one
    payload = msgspec.msgpack.encode(said)
    return Record(f"{COMMAND}:{command.identity}", hashlib.blake2b(payload, digest_size=8).digest(), line, payload)


def _boundary(events: Sequence[Event], after: int) -> DCBAppendCondition:
    """Fail if anything that concerns what the events concern came after `after`."""
    tags = dict.fromkeys(tag for event in events for tag in event.tags)
    items = [DCBQueryItem(tags=[tag]) for tag in tags]
    return DCBAppendCondition(fail_if_events_match=DCBQuery(items=items), after=after)
