"""The true order while records still come: each waits until what belongs before it has had the time to come.

A record is *ripe* when the times that records name have gone on past it by the reorder window, or when nothing has come for
that long. What is ripe goes through the same `Sequencer` as in `ordering.py`, and comes out by its key. What comes later
than that, and belongs before what has come out, is *late*: `live.py`, which is next, goes back to a snapshot for it.

Nothing here knows a clock: who asks says what time it is.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from adapters.ingest import moved
from adapters.intake import New
from adapters.ordering import Heads, Ordered, Payloads, Sorter, heads_of, joined
from adapters.ports import Journal, LedgerDamaged
from domain import evidence
from domain.decide import COMMAND
from domain.evidence import Shown
from domain.operations import REMOVED, SEEN_ABSENT, SEEN_GONE, OrderKey
from domain.order import HOLD, Head, Sequencer

SETTLED: Final = HOLD + 500_000
"""For how many microseconds of record time what has its key waits for smaller ones: the sequencer holds some so long."""

AHEAD: Final = 300_000_000
"""By how many microseconds a record's time may be ahead of the clock before it is not believed, and waits."""

PAUSES: Final = 4
"""After how many windows in which the times of records did not go on they are taken to have stopped."""

DOUBTED: Final = 600.0
"""For how many seconds what is not believed waits before its turn comes all the same."""

SHOWN_KEPT: Final = 50_000
"""Of how many revisions and removals it is remembered that only a source without a clock has shown them."""

PAYLOAD_BYTES: Final = 64 << 20
"""How many bytes of waiting records are held in memory; the others are read from the journal again."""

_NEVER: Final = -(1 << 62)
_ALWAYS: Final = 1 << 62

Carried = tuple[int, int, tuple[str, ...]]
"""What goes through the sequencer with a head: the record's number, when it was asked for, and its evidence."""

_Placed = tuple[tuple[Any, ...], str, int, int, tuple[str, ...], int]
"""Key, outcome, number, received, evidence, and the time of its head: what `Ordered` needs but the payload."""


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(tuple[str, int, int, tuple[str, ...], int, bool]).decode


class Waiters:
    """What records said, while they wait: in memory, or read from the journal once more."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: dict[int, bytes] = {}
        self._parts: dict[int, int] = {}
        self._bytes = 0
        self._entries: Iterator[Any] = iter(())
        self._next = 0

    def __contains__(self, number: int) -> bool:
        return number in self._parts

    def expect(self, number: int, parts: int = 1) -> None:
        """A record will be asked for so many times more."""
        self._parts[number] = self._parts.get(number, 0) + parts

    def hold(self, number: int, payload: bytes) -> None:
        """What a record says that will be asked for."""
        if number not in self._held and self._bytes + len(payload) <= PAYLOAD_BYTES:
            self._held[number] = payload
            self._bytes += len(payload)

    def take(self, number: int) -> bytes:
        """What it said. Raises `StoreError`."""
        payload = self._held.get(number)
        if payload is None:
            payload = self._from_journal(number)
        self.forget(number)
        return payload

    def forget(self, number: int) -> None:
        """It will be asked for once less."""
        parts = self._parts.get(number, 1) - 1
        if parts:
            self._parts[number] = parts
        else:
            self._parts.pop(number, None)
            self._bytes -= len(self._held.pop(number, b""))

    def _from_journal(self, number: int) -> bytes:
        # They are mostly asked for in about the order in which they came.
        if not self._next <= number < self._next + 1_000:
            self._entries, self._next = self._journal.read(number - 1), number
        for entry in self._entries:
            self._next = entry.number + 1
            if entry.number == number:
                return bytes(entry.payload)
            if entry.number in self._parts:
                self.hold(entry.number, entry.payload)
        # It had come to the head of then.
        for entry in self._journal.read(number - 1):
            return bytes(entry.payload)
        raise LedgerDamaged(f"the journal has no record {number}; verify the ledger")


class _Waiting(NamedTuple):
    time: int
    identity: str
    part: int
    number: int
    arrived: float
    head: Head


class Window:
    """Records that wait for their turn, and what the order remembers of those that had it."""

    def __init__(self, journal: Journal, window: float) -> None:
        """`window` is in seconds."""
        self._journal = journal
        self.payloads = Waiters(journal)
        self.late: dict[int, int] = {}
        """Of the records that came too late: the number of each, and the time before which to go back for it."""
        self._window = window
        self._sequencer: Sequencer[Carried] = Sequencer()
        self._waiting: list[_Waiting] = []
        # What has no clock: it is ripe when it has waited, or when its twin is.
        self._unclocked: OrderedDict[tuple[str, int], list[_Waiting]] = OrderedDict()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._placed: list[_Placed] = []
        self._latest = _NEVER  # of all that came and are believed
        self._fed = _NEVER  # up to which time what has a clock went through the sequencer
        self._last: tuple[Any, ...] = ()  # the key of what came out last
        self._shown: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()  # objects whose end has a clock
        self._arrived_last = self._advanced_last = 0.0
        self.upto = 0
        """The highest number of a record that was added."""
        self.watermark = _NEVER
        """Up to which record time all was ripe when it was asked last."""
        self._flushed = False

    # ---- what is kept of it

    def state(self) -> tuple[Any, ...]:
        """What a later process needs to go on, in plain values; what waits is named by its numbers."""
        waiting = {one.number for one in self._waiting}
        waiting.update(one.number for ones in self._unclocked.values() for one in ones)
        return (
            self._sequencer,
            list(self._placed),
            self._latest,
            self._fed,
            self._last,
            list(self._shown),
            list(self._ended),
            sorted(waiting | set(self.late)),
        )

    def go_on(self, sequencer: Sequencer[Carried], last: OrderKey | None, latest: int, upto: int) -> None:
        """Go on behind everything that the journal held up to that number, which went through that sequencer.

        `last` is the key of what came out last, `latest` the latest time.
        """
        self._sequencer, self.upto = sequencer, upto
        if last is not None:
            self._last = msgspec.structs.astuple(last)
            self._latest = self._fed = latest

    def restore(self, state: tuple[Any, ...]) -> list[int]:
        """Go on from there. Gives the numbers of the records that waited: they have to be added again."""
        sequencer, placed, self._latest, self._fed, self._last, shown, ended, waiting = state
        self._sequencer = sequencer
        self._placed = placed
        self._shown = OrderedDict.fromkeys(shown)
        self._ended = OrderedDict.fromkeys(ended)
        for one in self._placed:
            self.payloads.expect(one[2])
        return list(waiting)

    # ---- what comes

    def add(self, new: New, now: float, clock: int) -> None:
        """A record that is in the journal now.

        `now` is in seconds, of a clock that only goes on; `clock` is the time of day in microseconds since 1970.
        """
        self._arrived_last = now
        self.upto = max(self.upto, new.number)
        waiting = [head for head in new.heads if self._is_to_wait(new.number, head, now, clock)]
        self._wait(new, waiting, now)

    def _is_to_wait(self, number: int, head: Head, now: float, clock: int) -> bool:
        """Whether it is neither late nor known, and better, already. Its time counts for how far time has gone on."""
        if not head.clocked:
            self._advanced_last = now
            return not self._is_decided(head)
        if self._latest < head.time <= clock + AHEAD:
            self._latest, self._advanced_last = head.time, now
        if head.time <= self._fed:
            self._is_late(number, head.time)
        elif _twin(head) in self._shown:
            self._is_late(number, min(head.time, self._fed))
        else:
            return True
        return False

    def _wait(self, new: New, heads: Sequence[Head], now: float) -> None:
        if not heads:
            return
        self.payloads.expect(new.number, len(heads))
        self.payloads.hold(new.number, new.payload)
        self._arrivals.append((now, new.number))
        for head in heads:
            one = _Waiting(head.time, head.identity, head.part, new.number, now, head)
            if not head.clocked and (twin := _twin(head)) is not None:
                self._unclocked.setdefault(twin, []).append(one)
            else:
                heapq.heappush(self._waiting, one)

    def _is_late(self, number: int, time: int) -> None:
        self.late[number] = min(time, self.late.get(number, time))

    def _is_decided(self, head: Head) -> bool:
        if head.outcome in (SEEN_GONE, SEEN_ABSENT):
            return head.uid in self._ended
        return self._sequencer.knows(head.uid, head.revision) and _twin(head) not in self._shown

    @property
    def undecided(self) -> int:
        """How many records, or parts of records, wait here."""
        return len(self._waiting) + sum(map(len, self._unclocked.values())) + len(self._placed) + len(self.late)

    @property
    def fed(self) -> int:
        """Before which record time what comes is too late."""
        return self._fed

    @property
    def oldest(self) -> int | None:
        """The time of the oldest that waits for its turn, in microseconds since 1970; `None` where nothing does."""
        times = [one.time for one in self._waiting[:1]]
        times += [key[2] for key, *_ in self._placed]
        times += [one.time for ones in self._unclocked.values() for one in ones]
        return min(times, default=None)

    def waiting_since(self) -> float | None:
        """When the oldest of them came; `None` where nothing waits."""
        if not self.undecided:
            self._arrivals.clear()
            return None
        while len(self._arrivals) > 1 and self._arrivals[0][1] not in self.payloads:
            self._arrivals.popleft()
        return self._arrivals[0][0] if self._arrivals else None

    # ---- what is ripe

    def ripe(self, now: float, *, everything: bool = False) -> Iterator[Ordered]:
        """What has its turn now, in order. What turns out to be late is not among it. `now` is as for `add`."""
        # Where only old records come, those that wait have waited long enough after a while.
        idle = now - self._arrived_last >= self._window or now - self._advanced_last >= PAUSES * self._window
        watermark = self._latest if idle else self._latest - round(self._window * 1_000_000)
        if everything:
            watermark = _ALWAYS
        self.watermark = watermark
        self._flushed = idle or everything
        block = list(self._block(watermark, now, everything=everything))
        placed: set[tuple[int, int]] = set()
        for shown in _in_order(block):
            placed.add((shown.carried, shown.head.part))
            for settled in self._feed(shown):
                heapq.heappush(self._placed, settled)
        for one in block:
            if one.head.clocked:
                self._fed = max(self._fed, one.time)
            elif (one.number, one.part) not in placed:
                self.payloads.forget(one.number)  # it is evidence only
        if everything or idle:
            for settled in self._flush():
                heapq.heappush(self._placed, settled)
        yield from self._out(None if everything or idle else watermark - SETTLED)

    def catch_up(
        self, records: Iterable[New], now: float, clock: int, like: Window, *, everything: bool = False
    ) -> Iterator[Ordered]:
        """What was ripe in another window, in order, of records of the journal by their numbers; the others wait here.

        There may be any number of them: they are put in order on disk where they are many. `now` and `clock` are as for
        `add`. What is late is known before the first comes out. Raises `StoreError`.
        """
        self.watermark = _ALWAYS if everything else like.watermark
        self._flushed = everything or like._flushed
        shown_upto = _ALWAYS if everything else like._shown_upto()
        heads: Heads | None = None
        for new in records:
            if heads is None:
                heads = Heads(new.number)
            ripe: list[Head] = []
            waiting: list[Head] = []
            for head in new.heads:
                if self._is_to_wait(new.number, head, now, clock):
                    is_shown = not head.clocked and _twin(head) is not None
                    is_ripe = new.number <= shown_upto if is_shown else head.time <= self.watermark
                    (ripe if is_ripe else waiting).append(head)
            heads.add(new.number, ripe)
            self._wait(new, waiting, now)
            self.upto = max(self.upto, new.number)
        self._arrived_last = now
        yield from self._put_in_order(heads or Heads(self.upto + 1))

    def _put_in_order(self, heads: Heads) -> Iterator[Ordered]:
        by_key: Sorter[bytes] = Sorter(bytes, bytes, len)
        for one in self._placed:
            by_key.add(one[0], _pack((*one[1:], True)))
        for shown in heads.shown(self._with_twins if self._unclocked else None):
            heads.need(shown.carried)
            for one in self._feed(shown):
                by_key.add(one[0], _pack((*one[1:], False)))
            if shown.head.clocked:
                self._fed = max(self._fed, shown.head.time)
        for one in self._flush() if self._flushed else ():
            by_key.add(one[0], _pack((*one[1:], False)))
        self._placed = []
        upto = None if self._flushed else self.watermark - SETTLED
        with Payloads(self._journal, heads, PAYLOAD_BYTES) as payloads:
            for key, packed in by_key:
                outcome, number, received, others, time, waited = _unpack(packed)
                if self._placed or (upto is not None and time > upto):  # it waits, and all behind it
                    self._placed.append((key, outcome, number, received, others, time))
                    if not waited:
                        self.payloads.expect(number)
                    continue
                self._last = key
                # What the sequencer had held back already is older than all that comes.
                payload = (self.payloads if waited or number < heads.first else payloads).take(number)
                yield Ordered(OrderKey(*key), outcome, payload, received, others, number)

    def _with_twins(self, block: Iterable[Shown]) -> Iterator[Shown]:
        """What has its turn, with all that shows the same and waits here."""
        for shown in block:
            yield shown
            twin = _twin(shown.head) if shown.head.clocked else None
            for one in self._unclocked.pop(twin, ()) if twin is not None else ():
                self.payloads.forget(one.number)  # it is evidence only
                yield Shown(one.head, one.number)

    def _shown_upto(self) -> int:
        """Up to which record all that has no clock had its turn."""
        return min((one.number for ones in self._unclocked.values() for one in ones), default=self.upto + 1) - 1

    def _block(self, watermark: int, now: float, *, everything: bool) -> Iterator[_Waiting]:
        waiting = self._waiting
        while waiting and (waiting[0].time <= watermark or now - waiting[0].arrived >= DOUBTED):
            one = heapq.heappop(waiting)
            yield one
            twin = _twin(one.head)
            if twin is not None:
                yield from self._unclocked.pop(twin, ())
        if not self._unclocked:
            return
        awaited = {_twin(one.head) for one in waiting}
        for twin, ones in list(self._unclocked.items()):
            if everything or (now - ones[0].arrived >= self._window and twin not in awaited):
                yield from self._unclocked.pop(twin)

    def _feed(self, shown: Shown) -> Iterator[_Placed]:
        """Through the sequencer: what has its key by that, and is not late."""
        head, number, others = shown
        twin = _twin(head)
        if not head.clocked and twin is not None:
            _remember(self._shown, twin)
        elif head.outcome == REMOVED and head.uid:
            _remember(self._ended, head.uid)
        for order, outcome, carried in self._sequencer.feed(head, (number, head.received, others)):
            if (placed := self._place(order, outcome, carried, head.time)) is not None:
                yield placed

    def _flush(self) -> Iterator[_Placed]:
        """What the sequencer still holds back."""
        for order, outcome, carried in self._sequencer.flush():
            # What comes now and overlaps what was let go has to be put in order with it.
            self._fed = max(self._fed, order.time + HOLD)
            if (placed := self._place(order, outcome, carried, order.time)) is not None:
                yield placed

    def _place(self, order: OrderKey, outcome: str, carried: Carried, time: int) -> _Placed | None:
        key = msgspec.structs.astuple(order)
        number, received, others = carried
        if key <= self._last:
            self._is_late(number, order.time)
            self.payloads.forget(number)
            return None
        return key, outcome, number, received, others, time

    def _out(self, upto: int | None) -> Iterator[Ordered]:
        placed = self._placed
        while placed and (upto is None or placed[0][-1] <= upto):
            key, outcome, number, received, others, _ = heapq.heappop(placed)
            self._last = key
            yield Ordered(OrderKey(*key), outcome, self.payloads.take(number), received, others, number)


def again(journal: Journal, numbers: Iterable[int], after: int, skews: dict[int, int]) -> Iterator[New]:
    """Records of the journal: those with these numbers up to `after`, and all that came behind. Raises `StoreError`."""
    wanted = {number for number in numbers if number <= after}
    first = min(wanted, default=after + 1)
    for entry in journal.read(first - 1):
        if entry.number <= after and entry.number not in wanted:
            continue
        if entry.identity.startswith(f"{COMMAND}:"):
            continue
        yield New(entry.number, moved(heads_of(entry), skews[entry.source]), entry.payload)


def _remember(known: OrderedDict[Any, None], one: Any) -> None:
    known[one] = None
    if len(known) > SHOWN_KEPT:
        known.popitem(last=False)


def _twin(head: Head) -> tuple[str, int] | None:
    """What another source may show of the same: a revision of an object, or its end."""
    if not evidence.is_of_an_object(head):
        return None
    return head.uid, 0 if head.outcome in (REMOVED, SEEN_GONE, SEEN_ABSENT) else head.revision


def _in_order(block: list[_Waiting]) -> Iterable[Shown]:
    """By time, joined and dated, as `ordering` has it."""
    if all(one.head.clocked for one in block):
        return (Shown(one.head, one.number) for one in sorted(block, key=_by_time))
    return joined(Shown(one.head, one.number) for one in block)


def _by_time(one: _Waiting) -> tuple[int, str, int]:
    return one.time, one.identity, one.part
