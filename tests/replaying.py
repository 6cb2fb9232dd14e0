"""Replays audit logs through the whole engine, as tests ask for it: files or lines in, events and findings out.

`replay` is the one way in; what it gives back answers what the tests of `tests/incidents/` ask: the findings, the audit
IDs of their witnesses, the live resources. The recordings that they replay are in `tests/incidents/data/`.
"""

import gzip
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from eventsourcing.dcb.api import DCBRecorder
from eventsourcing.dcb.popo import InMemoryDCBRecorder

from adapters.ingest import Span, Tally, ingest
from adapters.judging import Judged, judge
from adapters.ledger import Ledger
from adapters.ports import Journal
from adapters.sources.dialect import moment
from adapters.stores.memory import InMemoryJournal
from domain.events import Event
from projections.findings.rule import ERROR, OPEN, Finding

DATA = Path(__file__).parent / "incidents" / "data"
LONG_SEARCH = os.environ.get("NETLEDGER_SEARCH") == "long"


class Replayed(NamedTuple):
    """What came out of one replay."""

    judged: Judged
    events: list[Event]
    """In order: `events[at - 1]` is the one at place `at`."""
    findings: list[Finding]
    tallies: list[Tally]

    @property
    def digest(self) -> str:
        return self.judged.digest

    @property
    def open_errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == OPEN and finding.severity == ERROR]

    def with_status(self, status: str, name: str = "") -> list[Finding]:
        """The findings of a status, and of one rule where `name` says which."""
        return [finding for finding in self.findings if finding.status == status and name in ("", finding.name)]

    def audit_ids(self, finding: Finding, *roles: str) -> set[str]:
        """The audit IDs of a finding's witnesses, of these roles or of all."""
        return {
            audit_id_of(self.events[witness.at - 1])
            for witness in finding.witnesses
            if not roles or witness.role in roles
        }

    def witnesses(self, finding: Finding) -> list[tuple[str, str]]:
        """Role and record of each witness: the same wherever in the log they stand."""
        return [(witness.role, self.events[witness.at - 1].record) for witness in finding.witnesses]

    def standings(self) -> dict[str, tuple[Any, ...]]:
        """Every live resource: its state, fields, revision, and what its claims should be beside what they are."""
        reading = self.judged.reading
        return {
            str(resource.key): (
                resource.uid,
                resource.state,
                resource.revision,
                resource.fields,
                msgspec.structs.asdict(reading.standing(resource)),
            )
            for resource in reading.resources()
        }


def replay(
    *paths: Path | str, journal: Journal | None = None, recorder: DCBRecorder | None = None, patience: int | None = None
) -> Replayed:
    """Read the files into the journal, bring the ledger up to it, and conclude. In memory unless stores are given.

    `patience` in microseconds is as on the command line.
    """
    journal = journal if journal is not None else InMemoryJournal()
    tallies = [ingest(str(path), journal) for path in paths]
    ledger = Ledger(recorder if recorder is not None else InMemoryDCBRecorder())
    judged = judge(journal, ledger)
    events = [placed.event for placed in ledger.events()]
    return Replayed(judged, events, conclude(judged, events, journal, patience), tallies)


def replay_lines(lines: Iterable[bytes]) -> Replayed:
    """Replay lines, each without its line end, as one file."""
    with tempfile.TemporaryDirectory(prefix="netledger-test-") as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return replay(path)


def conclude(judged: Judged, events: Sequence[Event], journal: Journal, patience: int | None = None) -> list[Finding]:
    """The findings at the end of all that the journal ever read."""
    spans = [msgspec.msgpack.decode(source.summary, type=Span) for source in journal.sources() if source.summary]
    end = max((moment(span.last, "the last record's time") for span in spans if span.last), default=0)
    return list(judged.reading.conclude(end, lambda at: events[at - 1], patience))


def audit_id_of(event: Event) -> str:
    """The audit ID in an event's record identity, `audit:<auditID>@<received>/<stage>`."""
    scheme, _, rest = event.record.partition(":")
    assert scheme == "audit", f"the record {event.record!r} is not from an audit log"
    return rest.partition("@")[0]


def explained(findings: Iterable[Finding]) -> str:
    """Findings as a failed test shows them."""
    return "\n".join(f"{f.status} {f.id} ({f.explanation})" for f in findings) or "nothing was found"


# ---- the recordings


def recording(name: str) -> list[Path]:
    """The audit log files of a recording, the oldest part first."""
    found = sorted((DATA / name).glob("audit*.log.gz"))
    assert found, f"there is no recording called {name}"
    return found


def timeline(name: str) -> Path:
    """The timeline of a recording's ipsets, which names its dumps."""
    return DATA / name / "ipset.jsonl"


@cache
def lines_of(name: str) -> tuple[bytes, ...]:
    """The lines of a recording, in the order of its files."""
    return tuple(line for path in recording(name) for line in gzip.decompress(path.read_bytes()).splitlines())


@cache
def truth_of(name: str) -> dict[str, Any]:
    """What is known to be wrong in a recording, and what is known not to be."""
    truth: dict[str, Any] = json.loads(gzip.decompress((DATA / name / "truth.json.gz").read_bytes()))
    return truth


@cache
def replayed(name: str) -> Replayed:
    """A recording, replayed once for all tests. Do not change what it holds."""
    return replay(*recording(name))
