"""How far a controller's clock is ahead of the API server's: told by the commands in gateway pods that both logs show.

The controller's log says `bash /kube-ovn/nat-gateway.sh …` just before it sends the exec, and the audit log says when that
exec was received: the difference is the skew, and the way there. A watch has no clock to compare. What comes out is told
and not acted upon: a person says `--skew`, because an order that moves by itself could be checked by nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from domain.events import ACT_LOGGED, Event
from domain.nat_gateway import commands_of

COMMANDS_KEPT = 10_000
"""Of how many commands it is remembered when each log last showed them."""

SAMPLES_KEPT = 1_000

APART = 600_000_000
"""Microseconds: what lies farther apart is not one command, but the same one given twice."""

TOLD = 500_000
"""From how many microseconds on a skew is worth a word: a request takes some milliseconds to arrive."""


class Ahead(NamedTuple):
    """By how many microseconds the source of `record` is ahead (or behind, if negative), by how many commands."""

    record: str
    by: int
    commands: int


class Clocks:
    """The differences between the two logs, command by command."""

    def __init__(self) -> None:
        self._logged: OrderedDict[str, Event] = OrderedDict()
        self._received: OrderedDict[str, Event] = OrderedDict()
        self._samples: dict[str, list[tuple[int, str]]] = {}

    def apply(self, event: Event) -> None:
        """Take the next event in."""
        if event.type == ACT_LOGGED:
            for command in commands_of(event.reason.split()):
                self._pair(command, event, self._logged, self._received)
        elif event.type == "GatewayCommandStarted" and not event.cause and event.received:
            for _, command in event.changed.values():
                self._pair(command, event, self._received, self._logged)

    def _pair(self, command: str, event: Event, own: OrderedDict[str, Event], other: OrderedDict[str, Event]) -> None:
        twin = other.pop(command, None)
        if twin is None or abs(twin.time - event.time) > APART:
            own[command] = event
            own.move_to_end(command)
            if len(own) > COMMANDS_KEPT:
                own.popitem(last=False)
            return
        logged, received = (event, twin) if event.type == ACT_LOGGED else (twin, event)
        samples = self._samples.setdefault(logged.actor, [])
        if len(samples) < SAMPLES_KEPT:
            samples.append((logged.time - received.received, logged.record))

    def ahead(self) -> Iterator[Ahead]:
        """The sources whose clocks differ from the API server's by more than a person would overlook."""
        for samples in self._samples.values():
            by = int(median(difference for difference, _ in samples))
            if abs(by) >= TOLD:
                yield Ahead(samples[0][1], by, len(samples))
