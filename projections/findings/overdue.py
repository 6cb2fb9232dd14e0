"""What *overdue* means, for every rule of absence: the one place that decides when a reaction that never came is wrong.

A reaction is overdue when more than max(2 s, ten times the slowest reaction of that controller to such a trigger seen
in this log), and upstream's own delays, lie between the trigger and the log's end. Where no reaction was ever seen it
is 30 s. Before that it is pending.

The slowest reaction is the slowest *undisturbed* one: going up from the fastest, a reaction that by this very measure
was overdue is itself a finding (healed), and no measure for others. Otherwise one namespace that waited a minute for a
blocked controller would make every later one wait ten.
"""

from __future__ import annotations

from bisect import insort

FLOOR = 2_000_000
FACTOR = 10
UNSEEN = 30_000_000
"""Microseconds, all three."""

SLOW_KEPT = 10_000

# What kube-ovn waits by itself before it reacts (kube-ovn: resetIptablesEipQueue.AddAfter 3 s, addOrUpdateVpcQueue 5 s).
DELAYS = {"vpc": 5_000_000, "eip": 3_000_000, "fip": 3_000_000}


class Reactions:
    """The reaction times seen for each trigger, in microseconds; bounded, whatever the log's length."""

    def __init__(self) -> None:
        self._quick: dict[str, int] = {}
        self._slow: dict[str, list[int]] = {}

    def seen(self, trigger: str, span: int) -> None:
        """A reaction came after `span`."""
        span = max(span, 0)
        if span <= FLOOR:
            self._quick[trigger] = max(self._quick.get(trigger, 0), span)
            return
        slow = self._slow.setdefault(trigger, [])
        insort(slow, span)
        del slow[SLOW_KEPT:]

    def slowest(self, trigger: str) -> int | None:
        """The slowest undisturbed reaction; `None` where none was seen."""
        slowest = self._quick.get(trigger)
        for span in self._slow.get(trigger, ()):
            if slowest is not None and span > max(FLOOR, FACTOR * slowest):
                break
            slowest = span
        return slowest


class Overdue:
    """The measure at one moment: `end` is the time of the log's last record, `patience` what a person wants instead."""

    def __init__(self, reactions: Reactions, end: int, patience: int | None = None) -> None:
        self.reactions = reactions
        self.end = end
        self.patience = patience

    def limit(self, trigger: str) -> int:
        """After how many microseconds a reaction to `trigger` is overdue."""
        if self.patience is not None:
            return self.patience
        slowest = self.reactions.slowest(trigger)
        patience = UNSEEN if slowest is None else max(FLOOR, FACTOR * slowest)
        return patience + DELAYS.get(trigger, 0)

    def since(self, trigger: str, time: int) -> bool:
        """Whether a reaction to what happened at `time`, and has not come, is overdue."""
        return self.end - time > self.limit(trigger)

    def took(self, trigger: str, span: int) -> bool:
        """Whether a reaction that came after `span` came late enough to have been overdue."""
        return span > self.limit(trigger)
