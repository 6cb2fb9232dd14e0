"""Where nothing is wrong nothing is found, wherever the log begins and ends.

A log that ends in the middle of a reaction may say `pending`, which is no verdict. Open and healed are verdicts, and
about a clean log both are false.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from adapters.ingest import ingest
from adapters.stores.memory import InMemoryJournal
from benchmarks.generate import generate
from projections.findings.rule import PENDING, Finding
from tests.incidents.test_recordings import CLEAN
from tests.replaying import LONG_SEARCH, explained, lines_of, replay_lines

MOST_CUTS = 100_000 if LONG_SEARCH else 50
GENERATED_LINES = 3_000
SEEDS = (1, 2, 3, 4, 5)
GENERATED_CUTS = 150 if LONG_SEARCH else 12
IP = "web-0.shop.net1.shop.ovn"
THINNED = 300 if LONG_SEARCH else 40


def verdicts(lines: Sequence[bytes]) -> list[Finding]:
    return [finding for finding in replay_lines(lines).findings if finding.status != PENDING]


def cuts_that_matter(lines: Sequence[bytes]) -> list[int]:
    """Before each line that is read into the journal, and the end, thinned out to `MOST_CUTS`.

    Cutting between others changes only when the log ends; the later it ends the more is overdue, and the latest end
    with the same records is before the next of them.
    """
    journal = InMemoryJournal()
    with tempfile.TemporaryDirectory(prefix="netledger-test-") as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(b"\n".join(lines) + b"\n")
        ingest(str(path), journal)
    cuts = [*sorted(entry.line - 1 for entry in journal.read()), len(lines)]
    return cuts[:: len(cuts) // MOST_CUTS + 1]


@cache
def generated(seed: int) -> tuple[bytes, ...]:
    """A log of a clean cluster in which every line is an operation on one of our kinds."""
    with tempfile.TemporaryDirectory(prefix="netledger-test-") as folder:
        path = Path(folder) / "audit.log"
        generate(path, lines=GENERATED_LINES, mix="relevant", seed=seed)
        return tuple(path.read_bytes().splitlines())


@pytest.mark.parametrize("name", CLEAN)
def test_no_beginning_of_a_clean_recording_has_a_finding(name):
    lines = lines_of(name)
    for cut in cuts_that_matter(lines):
        found = verdicts(lines[:cut])
        assert not found, f"in the first {cut} lines of {name}:\n{explained(found)}"


@pytest.mark.parametrize("name", CLEAN)
def test_no_end_of_a_clean_recording_has_a_finding(name):
    lines = lines_of(name)
    for cut in cuts_that_matter(lines):
        found = verdicts(lines[cut:])
        assert not found, f"in the lines of {name} after the first {cut}:\n{explained(found)}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_generated_log_of_a_clean_cluster_has_no_finding(seed):
    found = verdicts(generated(seed))
    assert not found, explained(found)


@settings(max_examples=GENERATED_CUTS, deadline=None)
@given(data=st.data(), seed=st.sampled_from(SEEDS))
def test_no_stretch_of_a_generated_log_has_a_finding(data, seed):
    """Beginnings, ends, and what lies between: the log is cut at both sides."""
    lines = generated(seed)
    first = data.draw(st.just(0) | st.integers(0, len(lines)), label="first line")
    last = data.draw(st.just(len(lines)) | st.integers(first, len(lines)), label="last line")
    found = verdicts(lines[first:last])
    assert not found, explained(found)


def test_a_log_that_begins_between_two_lines_out_of_order_has_no_finding():
    """Lines are not in the order of revisions: a log may begin with an IP's create and lack its finalizer's patch."""
    lines = lines_of("s2-control-order")
    create, patch = (
        next(place for place, line in enumerate(lines) if is_of_an_ip(line, v)) for v in ("create", "patch")
    )
    assert create < patch
    found = verdicts([*lines[create:patch], *lines[patch + 1 :]])
    assert not found, explained(found)


def is_of_an_ip(line: bytes, verb: str) -> bool:
    record = json.loads(line)
    asked_of = record.get("objectRef") or {}
    return (asked_of.get("resource"), asked_of.get("name"), record["verb"]) == ("ips", IP, verb) and (
        record["stage"] == "ResponseComplete"
    )


@settings(max_examples=THINNED, deadline=None)
@given(data=st.data(), name=st.sampled_from(CLEAN))
def test_a_log_from_which_records_are_missing_is_read_to_its_end(data, name):
    """What is concluded from such a log is bounded by what is left; how often it is wrong is shown as a statistic."""
    lines = lines_of(name)
    random = Random(data.draw(st.integers(0, 2**32), label="seed"))
    share = data.draw(st.sampled_from([0.002, 0.01, 0.05, 0.2, 0.5, 0.9]), label="share of the lines that is missing")
    left = [line for line in lines if random.random() >= share]
    run = replay_lines(left)
    tally = run.tallies[0]
    assert tally.records == len(left)
    assert tally.unrecognised == 0
    for finding in run.findings:
        assert finding.witnesses, explained([finding])
        assert all(1 <= witness.at <= len(run.events) for witness in finding.witnesses)
    event(f"{share:.1%} missing: {'an open error' if run.open_errors else 'no open error'}")
