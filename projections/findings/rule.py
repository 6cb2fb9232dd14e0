"""What a rule is, and what it finds.

A rule looks at each event after the world has taken it in, keeps what it needs, and concludes when it is asked: at the
end of a replay, or at any moment of a running one. Concluding changes nothing, so it may be asked again. What is wrong now it
tells each time; of a fault that is over, once: see `kept`. A finding cites events by their place in the order; `judge` turns
those into witnesses that a person can look up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import msgspec

from domain.events import Event
from domain.kinds import VOCABULARY
from domain.nat_rule import RULES
from domain.resources import BY_NAME, Key
from domain.world import World
from projections.findings.overdue import Overdue

ERROR, WARNING = "error", "warning"
OPEN, UNKNOWN, PENDING, HEALED = "open", "unknown", "pending", "healed"
STATUSES = (OPEN, UNKNOWN, PENDING, HEALED)
"""The order in which findings are told. `UNKNOWN`: it would be open, if a record were not missing that may say otherwise."""


class Witness(NamedTuple):
    """An event by its place in the order, and what it is a witness of."""

    role: str
    at: int


class Step(NamedTuple):
    """One command of a repair, and what it will do."""

    run: str
    why: str


class Finding(msgspec.Struct, kw_only=True):
    """One thing that is wrong with one resource.

    `since` and `until` are places in the order of events; `until` is set when it healed. `revisions` is the interval
    of revisions that the writer may have read, `known` whether the record itself says so. `root` is the `id` of the
    finding that this one follows from.
    """

    rule: str
    name: str
    severity: str
    status: str
    key: Key
    uid: str
    since: int
    until: int | None = None
    field: str | None = None
    reported: Any = None
    lawful: Any = None
    known: bool = False
    revisions: tuple[int, int] | None = None
    witnesses: list[Witness] = []
    explanation: str = ""
    consequence: str = ""
    repair: list[Step] = []
    root: str | None = None
    follows: Key | None = None
    occurrence: int = 0

    @property
    def id(self) -> str:
        """The same in every replay of the same records."""
        parts = [self.name, self.key.kind, self.key.path, self.uid[:8] or "-"]
        if self.field:
            parts.append(self.field)
        if self.occurrence:
            parts.append(str(self.occurrence + 1))
        return "/".join(parts)


class Conclusion(NamedTuple):
    """What a rule may ask when it concludes: the world now, what is overdue, and any event by its place.

    `uncertainty` is within how many microseconds the order of what has no revision of its own (removals, exec) is not
    known, because several clocks differ: no finding rests on an order that rests on less.
    """

    world: World
    overdue: Overdue
    event: Callable[[int], Event]
    uncertainty: int = 0

    def brief(self, since: int, until: int) -> int:
        """From which uncertainty on what began and ended at these places may never have been, but for the clocks."""
        return max(abs(self.event(until).time - self.event(since).time), 1)

    def said(self, at: int) -> str:
        """`alice at 01:24:03.329` for the event at a place."""
        event = self.event(at)
        return f"{short(event.actor)} at {clock(event.time)}"


CERTAIN: Final = 1 << 62
"""An uncertainty that no clocks have."""


class Terms(NamedTuple):
    """On what it depends whether a fault that is over is told of. Times are in microseconds."""

    slot: Hashable = None
    """Those of one name are numbered, in the order in which they ended; `None` where the rule gives no numbers."""
    doubtful: int = CERTAIN
    """From which uncertainty on it is not told of."""
    trigger: str = ""
    """What a reaction came late to: it is told of as long as `span` is more than the limit; empty where it was none."""
    span: int = 0
    cause_seen: bool = False
    grounds: tuple[Hashable, ...] = ()
    """What else it rests on: see `Rule.moved`."""


ALWAYS: Final = Terms()

Notes = dict[Any, Any]
"""What a rule wants to find again quickly about the faults that are over. It is made again where it is missing."""


class Told(Protocol):
    """What is told already of faults that are over."""

    notes: Notes

    def told(self, slot: Hashable) -> int:
        """How many of one name are told of."""
        ...


class Rule(ABC):
    """One rule: its code and name are for ever, its docs say when it fires and which incident it comes from."""

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[str]
    fires: ClassVar[str]
    upstream: ClassVar[tuple[str, ...]]
    watches: ClassVar[Mapping[str, frozenset[str] | None]]
    """Of which kinds it is fed which types of event: `None` for all. A refusal goes to all who watch the kind."""

    @abstractmethod
    def apply(self, event: Event, at: int, world: World) -> None:
        """Take one event in, of a kind that the rule watches. `world` has it already."""

    # ---- concluding: what is wrong now

    @abstractmethod
    def conclude(self, conclusion: Conclusion, over: Told) -> Iterator[Finding]:
        """What is wrong, or may yet turn out so."""

    # ---- concluding: what is over

    @abstractmethod
    def over(self) -> Sequence[Sequence[Any]]:
        """The faults that are over, each in its place for ever: the lists only grow."""

    @abstractmethod
    def ended(self, fault: Any) -> int:
        """The last place that anything said of it rests on."""

    @abstractmethod
    def tell_over(self, conclusion: Conclusion, fault: Any, notes: Notes) -> Finding:
        """What is told of it: it follows from the fault, the events up to its end, and `words`."""

    def terms(self, conclusion: Conclusion, fault: Any) -> Terms:
        """On what it depends whether it is told of."""
        return ALWAYS

    def holds(self, conclusion: Conclusion, fault: Any) -> bool:
        """Whether its `grounds` hold. Asked again where they have `moved`, and where the uncertainty has."""
        return True

    def moved(self, conclusion: Conclusion, notes: Notes) -> Iterable[Hashable]:
        """The grounds of which something else may be true than when this was asked last."""
        return ()

    def words(self, conclusion: Conclusion) -> Hashable:
        """What is said of every fault that is over, and does not follow from its own events."""
        return None

    def note(self, fault: Any, notes: Notes) -> None:
        """A fault that is over is taken in."""
        return

    def finding(self, **said: Any) -> Finding:
        """A finding of this rule."""
        return Finding(rule=self.code, name=self.name, severity=said.pop("severity", self.severity), **said)


ALL = None
"""All types of a kind."""


def begin_and_end(kind: str, *more: str) -> frozenset[str]:
    """The types by which an object of a kind comes to be known, is to go, and goes; and `more`."""
    vocabulary = VOCABULARY[kind]
    return frozenset(
        {
            vocabulary.begun,
            vocabulary.sighted,
            vocabulary.sighted_terminating,
            vocabulary.deletion_requested,
            vocabulary.ended,
            vocabulary.vanished,
            *more,
        }
    )


def witnesses(*groups: tuple[str, Iterable[int]]) -> list[Witness]:
    """Witnesses in the order of events, each place once, with the first role given to it. Places of 0 are left out."""
    roles: dict[int, str] = {}
    for role, places in groups:
        for at in places:
            if at:
                roles.setdefault(at, role)
    return [Witness(role, at) for at, role in sorted(roles.items())]


def clock(time: int) -> str:
    """The time of day of a moment, in UTC, to the millisecond."""
    return datetime.fromtimestamp(time / 1_000_000, UTC).strftime("%H:%M:%S.%f")[:-3]


def seconds(span: int) -> str:
    """A span of microseconds for people."""
    if span < 1_000_000:
        return f"{span / 1000:.0f} ms"
    return f"{span / 1_000_000:.1f} s" if span < 120_000_000 else f"{span / 60_000_000:.0f} min"


def short(actor: str) -> str:
    """An actor's name without what every service account's name starts with."""
    return actor.removeprefix("system:serviceaccount:") or "somebody"


_ABBREVIATIONS = frozenset({"vpc", "ip", "eip", *RULES})


def called(key: Key) -> str:
    """A resource for people: `VPC vpc-shop`, `IP web-0.shop`, `pod shop/web-0`."""
    kind = key.kind
    return f"{kind.upper() if kind in _ABBREVIATIONS else kind} {key.path}"


def kubectl(key: Key) -> str:
    """How kubectl names it: `vpcs.kubeovn.io vpc-shop`, with `-n` where it has a namespace."""
    where = f" -n {key.namespace}" if key.namespace else ""
    return f"{BY_NAME[key.kind].api} {key.name}{where}"


def guarded_patch(key: Key, revision: int | None, operations: str, *, status: bool = False) -> str:
    """A JSON patch that the API server refuses if the object has moved on since `revision`."""
    test = f'{{"op":"test","path":"/metadata/resourceVersion","value":"{revision}"}},' if revision else ""
    subresource = " --subresource=status" if status else ""
    return f"kubectl patch {kubectl(key)}{subresource} --type=json -p '[{test}{operations}]'"
