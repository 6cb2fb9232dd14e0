"""The audit trail in short: for every live resource and every actor how much they did, when first and when last.

What each single event was stands in the ledger and is found by tag; this is the summary that is kept beside it.
`reading` is next: it feeds all projections.
"""

from __future__ import annotations

import msgspec

from domain.events import OBSERVED, REFUSED, Event


class Activity(msgspec.Struct):
    """Counts of events, and the times of the first and the last in microseconds since 1970."""

    events: int = 0
    refusals: int = 0
    attempts: int = 0
    first: int = 0
    last: int = 0

    def add(self, event: Event) -> None:
        """Count one event."""
        self.events += 1
        self.refusals += event.type == REFUSED
        self.attempts += event.type == OBSERVED
        self.first = min(self.first or event.time, event.time)
        self.last = max(self.last, event.time)


class AuditTrail:
    """Activity by actor, and by actor and kind."""

    def __init__(self) -> None:
        self.by_actor: dict[str, dict[str, Activity]] = {}

    def apply(self, event: Event) -> None:
        """Fold one event in. What merely followed from another event is its cause's doing, and not counted."""
        if event.cause:
            return
        kinds = self.by_actor.setdefault(event.actor, {})
        activity = kinds.get(event.key.kind)
        if activity is None:
            activity = kinds[event.key.kind] = Activity()
        activity.add(event)
