"""What is appended to the log: one envelope for all, and a vocabulary of past-tense types for each kind.

The envelope says which resource, who, when, at which revision, in which place of the order and on what record it
rests; `changed` says what moved. The types of a kind stand in its own module as a `Vocabulary`, beside the table
that says when they may happen. `decide` makes events, `world` folds them.

Type names are words of the log, for ever: they are never import paths, and a golden file guards their encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from domain.lifecycle import Lifecycle
from domain.operations import Fields, OrderKey
from domain.resources import Key

SCHEMA_VERSION = 1
"""Of the envelope. A reader refuses a newer one, and upcasts an older one."""

REFUSED = "TransitionRefused"
OBSERVED = "AttemptObserved"  # a read, a no-op, a refused or dry-run request, or one without bodies
GENERATION = "GenerationStarted"  # a record came that sorts before what was decided: from here again

# What a controller's log or a Kubernetes Event says: testimony on a resource of any kind, in any state. It moves nothing.
CHANGE_NOTICED = "ChangeNoticed"  # a controller's watch saw the object change
RUN_STARTED = "RunStarted"  # a handler began to work on it
RUN_FAILED = "RunFailed"  # that run ended in an error and was put back into its queue
RUN_ENDED = "RunEnded"  # that run ended, by its own word
ACT_LOGGED = "ActLogged"  # a controller says that it did something to it
REFUSAL_LOGGED = "RefusalLogged"  # a controller says that it would not
ERROR_LOGGED = "ErrorLogged"  # a controller says what went wrong with it
EVENT_REPORTED = "EventReported"  # a Kubernetes Event
RUNS = frozenset({RUN_STARTED, RUN_FAILED, RUN_ENDED})
TESTIMONIES = frozenset(
    {
        CHANGE_NOTICED,
        RUN_STARTED,
        RUN_FAILED,
        RUN_ENDED,
        ACT_LOGGED,
        REFUSAL_LOGGED,
        ERROR_LOGGED,
        EVENT_REPORTED,
    }
)

Changes = dict[str, tuple[Any, Any]]
"""Field path to (before, after); `None` stands for absent."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened, as the ledger keeps it.

    `received` and `time` are when the request came and was answered, in microseconds since 1970; `revision` is the API
    server's, where this write made one; `read_revision` the one its writer had read, where the record says so; `record`
    identifies the evidence; `cause` names the event that this one follows from ("VPCRemoved vpc:shop"), where it is
    not a record's own; `evidence` names the other records that show the same operation.

    A refusal says what was `attempted`, the `reason`, and the state it `leads_to`; an observation says its `outcome`. What
    somebody gave as the reason for a command is its `purpose`, admitted or refused.
    """

    type: str
    key: Key
    record: str
    time: int
    received: int = 0
    uid: str = ""
    actor: str = ""
    agent: str = ""
    operation: str = ""
    revision: int | None = None
    read_revision: int | None = None
    order: OrderKey | None = None
    cause: str = ""
    changed: Changes = {}
    attempted: str = ""
    reason: str = ""
    leads_to: str = ""
    outcome: str = ""
    code: int = 0
    tags: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    purpose: str = ""
    schema: int = msgspec.field(default_factory=lambda: SCHEMA_VERSION)  # a factory's value is always written out

    @property
    def happened(self) -> str:
        """The type of what happened, allowed or not: of a refused fact, what was attempted."""
        return self.attempted if self.type == REFUSED and self.leads_to else self.type


class Write(NamedTuple):
    """Which event a change of a field makes: the first of a kind that `covers` its path and whose `when` holds.

    `when(before, after)` is about the values; `None` holds for any.
    """

    event: str
    covers: Callable[[str], bool]
    when: Callable[[Any, Any], bool] | None = None


class Vocabulary(NamedTuple):
    """The types of one kind by what they do, and how its fields name other resources.

    `writes` sorts a write's changed fields into events. `refers(key, fields)` gives the resources that an object
    names; `reference_paths` are the fields it looks at, so that it runs only when one of them moved. `made_with(fields)`
    is the event that an object's creation is beside itself, by what it was made with, empty for none: a Service mostly
    has its address from the first moment on.
    """

    lifecycle: Lifecycle
    begun: str
    sighted: str
    sighted_terminating: str
    deletion_requested: str
    ended: str
    vanished: str
    writes: tuple[Write, ...]
    refers: Callable[[Key, Mapping[str, Any]], Iterable[Key]]
    reference_paths: frozenset[str]
    made_with: Callable[[Mapping[str, Any]], str] | None = None

    @property
    def beginnings(self) -> tuple[str, str, str]:
        """The types by which an object comes to be known."""
        return self.begun, self.sighted, self.sighted_terminating


def starts(*prefixes: str) -> Callable[[str], bool]:
    """Covers every path that starts with one of `prefixes`."""
    return lambda path: path.startswith(prefixes)


def one_of(*paths: str) -> Callable[[str], bool]:
    """Covers just these paths."""
    wanted = frozenset(paths)
    return lambda path: path in wanted


def appears(before: Any, after: Any) -> bool:
    """The field comes to be there."""
    return not before and bool(after)


def names_nothing(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    """For kinds whose fields name no other resource."""
    return ()


def differences(before: Fields, after: Fields) -> Changes:
    """What moved between two states of one object, in the order of the paths."""
    paths = [path for path in after if before.get(path) != after[path]]
    paths += [path for path in before if path not in after]
    return {path: (before.get(path), after.get(path)) for path in sorted(paths)}
