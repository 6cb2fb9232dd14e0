"""Evidence taken away makes an answer unknown, never wrong; wrong clocks change nothing that rests on revisions."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from projections.findings.rule import PENDING, Finding
from tests.incidents.test_recordings import CLEAN, FAULTY
from tests.replaying import Replayed, audit_id_of, explained, lines_of, replay_lines, replayed

READY = "ready-without-configuration"
ON_REVISIONS = ("lost-update", "orphaned-subnet", "leaked-ip")
SKEWS = ((0.0, 1.0), (0.0, -1.0), (0.5, -0.5))
"""Seconds by which the clocks of two API servers are wrong."""


def records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    return map(json.loads, lines)


def written(changed: Iterable[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(record).encode() for record in changed]


# ---- without what ran in the pods


def without_exec(lines: Sequence[bytes]) -> list[bytes]:
    return [line for line in lines if (json.loads(line).get("objectRef") or {}).get("subresource") != "exec"]


@pytest.mark.parametrize("name", ["s4-buggy", "s4-control-ordered", "mixed-small", "mixed-seed7"])
def test_without_the_record_of_what_ran_in_the_pods_nothing_is_said_about_ready(name):
    lines = without_exec(lines_of(name))
    assert len(lines) < len(lines_of(name))
    run = replay_lines(lines)
    found = [finding for finding in run.findings if finding.name == READY]
    assert not found, explained(found)
    assert summary(run, of_other_rules(run)) == summary(replayed(name), of_other_rules(replayed(name)))


def of_other_rules(run: Replayed) -> list[Finding]:
    return [finding for finding in run.findings if finding.name != READY]


def summary(run: Replayed, findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(finding.id, finding.status) for finding in findings}


# ---- without bodies


def at_level(level: str, lines: Sequence[bytes]) -> list[bytes]:
    """What the log would hold had the audit policy asked for less."""
    dropped = {"Metadata": ("requestObject", "responseObject"), "Request": ("responseObject",)}[level]
    return written(
        {**{name: value for name, value in record.items() if name not in dropped}, "level": level}
        for record in records(lines)
    )


@pytest.mark.parametrize("level", ["Metadata", "Request"])
@pytest.mark.parametrize("name", FAULTY + CLEAN)
def test_below_request_response_nothing_is_found_and_every_write_is_counted_as_unknown(name, level):
    run = replay_lines(at_level(level, lines_of(name)))
    assert not run.findings, explained(run.findings)
    # Of what made a revision when there were bodies, nothing is known now, and each is counted.
    before = replayed(name)
    made = {event.record for event in before.events if event.revision is not None and not event.cause}
    assert made
    assert sum(run.judged.reading.coverage.unknown.values()) >= len(made)
    assert not any(event.revision for event in run.events)


# ---- with clocks that differ


def skewed(lines: Sequence[bytes], skew: tuple[float, float], salt: str) -> list[bytes]:
    """The log had its requests been answered by two API servers whose clocks are wrong by these seconds."""

    def at(record: dict[str, Any]) -> dict[str, Any]:
        server = hashlib.blake2b((salt + record["auditID"]).encode()).digest()[0] & 1
        return {
            **record,
            **{stamp: moved(record[stamp], skew[server]) for stamp in ("requestReceivedTimestamp", "stageTimestamp")},
        }

    return written(map(at, records(lines)))


def moved(stamp: str, seconds: float) -> str:
    return (datetime.fromisoformat(stamp) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def resting_on_revisions(run: Replayed, *, status: bool = True) -> set[tuple[object, ...]]:
    """Each such finding with the requests that lost and overwrote something."""
    return {
        (
            finding.id,
            finding.status if status else "",
            tuple(
                (witness.role, audit_id_of(run.events[witness.at - 1]))
                for witness in finding.witnesses
                if witness.role in ("lost", "overwriting")
            ),
        )
        for finding in run.findings
        if finding.name in ON_REVISIONS
    }


@pytest.mark.parametrize("salt", ["x", "y", "z"])
@pytest.mark.parametrize("skew", SKEWS, ids=str)
@pytest.mark.parametrize("name", ["s0-buggy", "s1-buggy"])
def test_skewed_clocks_change_nothing_that_rests_on_revisions(name, skew, salt):
    run = replay_lines(skewed(lines_of(name), skew, salt))
    assert resting_on_revisions(run) == resting_on_revisions(replayed(name))


@pytest.mark.parametrize("salt", ["x", "y", "z"])
@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_skewed_clocks_leave_the_leaked_addresses_but_may_leave_it_open_whether_they_are_overdue(skew, salt):
    """Overdue is measured in time, and a skew of a second makes a reaction of 23 ms look like one of a second."""
    run = replay_lines(skewed(lines_of("s2-buggy-A"), skew, salt))
    wanted = resting_on_revisions(replayed("s2-buggy-A"), status=False)
    assert resting_on_revisions(run, status=False) == wanted
    assert not [finding for finding in run.findings if finding.status == "healed"], explained(run.findings)


@pytest.mark.parametrize(
    "name, skew, salt",
    [
        ("s0-control-order", (0.0, -1.0), "x"),  # a VPC's removal falls before that of its subnets
        ("s1-control-clean", (0.0, 1.0), "x"),
        ("s1-control-clean", (0.0, 0.1), "x"),
        ("s2-control-order", (0.0, 1.0), "z"),  # a count is right, and the address seems to go after it was written
        ("s2-control-order", (0.0, 0.1), "y"),
        ("s4-control-ordered", (0.0, 0.1), "x"),  # ready is set after eip-add, and seems to be set before
        ("s4-control-ordered", (0.5, -0.5), "x"),
    ],
)
def test_skewed_clocks_make_no_finding_in_a_clean_recording(name, skew, salt):
    found = verdicts(replay_lines(skewed(lines_of(name), skew, salt)))
    assert not found, explained(found)


@pytest.mark.parametrize("skew", [*SKEWS, (0.0, 0.1)], ids=str)
def test_skewed_clocks_make_no_lost_update_in_a_busy_cluster(skew):
    run = replay_lines(skewed(lines_of("mixed-small"), skew, "x"))
    before = {finding.id for finding in replayed("mixed-small").findings if finding.name == "lost-update"}
    made_up = [finding for finding in run.findings if finding.name == "lost-update" and finding.id not in before]
    assert not made_up, explained(made_up)


def verdicts(run: Replayed) -> list[Finding]:
    return [finding for finding in run.findings if finding.status != PENDING]
