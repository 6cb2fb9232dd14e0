"""What a recorder's `read` gives: events page by page, and where the next read may go on."""

from __future__ import annotations

from collections.abc import Iterator

from eventsourcing.dcb.api import DCBReadResponse, DCBSequencedEvent


class ReadResponse(DCBReadResponse):
    """Events read page by page. `head` is where the next read may go on.

    Without a limit that is the last position there was; with one, that of the last event given, or None: to say so before
    the end, the rest of the events is read ahead.
    """

    def __init__(self, events: Iterator[DCBSequencedEvent], head: int | None, *, is_limited: bool) -> None:
        self._events = events
        self._head = head
        self._is_limited = is_limited

    @property
    def head(self) -> int | None:
        if self._is_limited:
            ahead = list(self._events)
            self._events = iter(ahead)
            if ahead:
                self._head = ahead[-1].position
        return self._head

    def __iter__(self) -> Iterator[DCBSequencedEvent]:
        # Without a limit nothing is to be remembered on the way, and the events need not pass through here.
        return self if self._is_limited else self._events

    def __next__(self) -> DCBSequencedEvent:
        event = next(self._events)
        if self._is_limited:
            self._head = event.position
        return event
