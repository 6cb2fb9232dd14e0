"""What *overdue* means, for every rule of absence: the one place that decides when a reaction that never came is wrong.

A reaction is overdue when more than all of these lie between its trigger and the log's end, with upstream's own delays
added: 2 s; ten times what the controller usually takes for such a trigger in this log (three in four of its reactions
were quicker); and the slowest reaction that came by itself. Where none was ever seen it is 30 s. Before that it is
pending. docs/why/overdue.md says why it is not ten times the slowest.

Where the log shows what stops the controller (an orphan that its handler stumbles over, a holder that was released by
hand, a subnet that is gone already), ten times the usual or twice the slowest is enough, whichever is less.

Only reactions of the controller itself are a measure: a hand repair is none, nor is one whose cause of delay was seen.
"""

from __future__ import annotations

from math import log

from domain.nat_rule import RULES

FLOOR = 2_000_000
FACTOR = 10
UNSEEN = 30_000_000
"""Microseconds, all but the factor."""

USUAL = 0.75
"""The share of reactions that were at most what is called usual: a disturbed quarter does not move it."""

_BUCKET = log(1.05)  # reaction times are kept in buckets 5 % wide, so that a log of any length costs the same

# What kube-ovn waits by itself before it reacts (kube-ovn: resetIptablesEipQueue.AddAfter 3 s, addOrUpdateVpcQueue 5 s).
DELAYS = {"release-vpc": 5_000_000, "release-eip": 3_000_000, **dict.fromkeys(("eip", *RULES), 3_000_000)}


GUARD = "guard"
"""The trigger that asks the controller to put its finalizer on: an object was made."""


def release_of(kind: str) -> str:
    """The trigger that asks the controller to let go of an object of a kind."""
    return f"release-{kind}"


class Reactions:
    """The reaction times seen for each trigger."""

    def __init__(self) -> None:
        self._buckets: dict[str, dict[int, int]] = {}
        self._slowest: dict[str, int] = {}

    def seen(self, trigger: str, span: int) -> None:
        """A reaction of the controller itself came `span` microseconds after its trigger."""
        span = max(span, 1)
        buckets = self._buckets.setdefault(trigger, {})
        bucket = int(log(span) / _BUCKET)
        buckets[bucket] = buckets.get(bucket, 0) + 1
        self._slowest[trigger] = max(self._slowest.get(trigger, 0), span)

    def measure(self, trigger: str) -> tuple[int, int] | None:
        """What is usual, and the slowest, in microseconds; `None` where no reaction was seen.

        Where the controller released nothing of that kind, that it released other kinds is the measure, and without
        that how soon it put its finalizer on what was made: the same queues and handlers are at work.
        """
        seen = [trigger] if trigger in self._buckets else []
        if not seen and trigger.startswith("release-"):
            seen = [other for other in self._buckets if other.startswith("release-")]
            seen = seen or [other for other in (GUARD,) if other in self._buckets]
        if not seen:
            return None
        return max(map(self._usual, seen)), max(self._slowest[other] for other in seen)

    def _usual(self, trigger: str) -> int:
        buckets = self._buckets[trigger]
        wanted = USUAL * sum(buckets.values())
        counted = 0
        for bucket in sorted(buckets):
            counted += buckets[bucket]
            if counted >= wanted:
                return min(int(1.05 ** (bucket + 1)), self._slowest[trigger])
        return self._slowest[trigger]


class Overdue:
    """The measure at one moment: `end` is the time of the log's last record, `patience` what a person wants instead.

    `coarse` is how exactly the times are known, in microseconds.
    """

    def __init__(self, reactions: Reactions, end: int, patience: int | None = None, coarse: int = 0) -> None:
        self.reactions = reactions
        self.end = end
        self.patience = patience
        self.coarse = coarse

    def limit(self, trigger: str, *, cause_seen: bool = False) -> int:
        """After how many microseconds a reaction to `trigger` is overdue; `cause_seen` if the log shows what stops it."""
        if self.patience is not None:
            return self.patience
        measure = self.reactions.measure(trigger)
        if measure is None:
            return UNSEEN + DELAYS.get(trigger, 0) + self.coarse
        usual, slowest = measure
        long = min(FACTOR * usual, 2 * slowest) if cause_seen else max(FACTOR * usual, slowest)
        return max(FLOOR, long) + DELAYS.get(trigger, 0) + self.coarse

    def since(self, trigger: str, time: int, *, cause_seen: bool = False) -> bool:
        """Whether a reaction to what happened at `time`, and has not come, is overdue."""
        return self.end - time > self.limit(trigger, cause_seen=cause_seen)

    def took(self, trigger: str, span: int, *, cause_seen: bool = False) -> bool:
        """Whether a reaction that came after `span` came late enough to have been overdue."""
        return span > self.limit(trigger, cause_seen=cause_seen)
