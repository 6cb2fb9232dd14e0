"""Real incidents, asked why: the answer leads to the root that `truth.json` names; in clean ones nothing is in the way."""

from collections.abc import Iterator
from typing import Any

import pytest

from domain.resources import Key
from projections.findings.rule import HEALED, OPEN
from projections.why.answer import why
from projections.why.chain import AWAY, BLOCKED, FREE, UNCLEAR, WAITING, Answer
from tests.incidents.test_ipset_recordings import run as run_of_sets
from tests.incidents.test_recordings import CLEAN, FAULTY
from tests.incidents.truth import Fault, faults
from tests.replaying import Replayed, audit_id_of, replayed, truth_of

ROOTS = {
    "lost-update": lambda entry: entry["overwrittenBy"],
    "leaked-ip": lambda entry: entry["subnetGoneBy"],
    "namespace-not-bound": lambda entry: entry["trigger"],
    "ready-without-configuration": lambda entry: entry["wronglySetReadyBy"],
    "orphaned-subnet": lambda entry: entry["orphanedBy"],
}
"""Which request of a fault's entry is its root."""


def root_of(fault: Fault, truth: dict[str, Any]) -> str:
    """The audit ID of the request at the root of a fault, by the truth."""
    if fault.name == "stuck-deletion" and "stuck" in truth:
        return root_of(next(f for f in faults(truth) if f.name == "lost-update" and f.key == fault.key), truth)
    if fault.name == "stuck-deletion":
        entry = fault.entry
        return str((entry.get("overwrittenBy") or entry.get("lastChance") or entry["deletedBy"])["auditID"])
    if fault.name == "namespace-not-bound":
        # The orphan's fault names the namespaces that it keeps from their networks; or the orphan has an entry of its own.
        blockers = [one for one in truth["faults"] if fault.entry in one.get("namespacesWithoutAnnotations", ())]
        for orphan in (fault.entry, *blockers, *truth.get("orphans", ())):
            if "orphanedBy" in orphan:
                return str(orphan["orphanedBy"]["auditID"])
    return str(ROOTS[fault.name](fault.entry)["auditID"])


def asked(run: Replayed, key: Key, member: str = "") -> Answer:
    end = max(event.time for event in run.events)
    return why(run.judged.reading, run.findings, end, lambda at: run.events[at - 1], key, member)


def cited(run: Replayed, answer: Answer) -> Iterator[str]:
    """The audit IDs of all that an answer rests on."""
    for link in answer.chain:
        yield from (audit_id_of(run.events[at - 1]) for at in (link.at, *link.also))


KNOWN = [(name, fault) for name in FAULTY for fault in faults(truth_of(name)) if fault.status == OPEN]
OPEN_FAULTS = [pytest.param(name, fault, id=f"{name}-{fault.label}") for name, fault in KNOWN]


def test_there_are_open_faults_of_every_sort():
    assert {fault.name for _, fault in KNOWN} == {*ROOTS, "stuck-deletion"}


@pytest.mark.parametrize(("name", "fault"), OPEN_FAULTS)
def test_why_leads_from_what_is_wrong_to_the_root_that_the_truth_names(name, fault):
    run = replayed(name)
    answer = asked(run, fault.key)
    print(answer.says, *(link.says for link in answer.chain), sep="\n- ")
    assert answer.verdict == BLOCKED
    assert answer.chain[0].key == fault.key, "it begins at what was asked about"
    assert answer.finding in {finding.id for finding in run.findings}
    assert answer.repair
    assert root_of(fault, truth_of(name)) in set(cited(run, answer))
    if not answer.chain[-1].absent:
        assert root_of(fault, truth_of(name)) in {
            audit_id_of(run.events[at - 1]) for at in (answer.chain[-1].at, *answer.chain[-1].also)
        }, "and it ends at the root"


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_in_the_way_by_no_finding_only_waits(name):
    """Every `blocked` is somebody's finding: the chain ends in one that is open."""
    run = replayed(name)
    open_ones = {finding.id for finding in run.findings if finding.status == OPEN}
    for key in run.judged.reading.world.live:
        answer = asked(run, key)
        assert (answer.verdict == BLOCKED) == (answer.finding in open_ones), f"{key}: {answer}"


@pytest.mark.parametrize("name", FAULTY)
def test_what_healed_is_in_nobodys_way_any_more(name):
    run = replayed(name)
    for finding in run.findings:
        others = {other.key for other in run.findings if other.status != HEALED}
        if finding.status == HEALED and finding.key not in others:
            assert asked(run, finding.key).verdict in (FREE, AWAY, UNCLEAR)


@pytest.mark.parametrize("name", CLEAN)
def test_in_a_clean_recording_nothing_is_in_the_way_of_anything(name):
    run = replayed(name)
    world = run.judged.reading.world
    keys = [*world.live, *(key for departed in world.departed.values() for key in departed)]
    blurred = {key for key, resource in world.live.items() if resource.blurred}
    assert keys
    for key in keys:
        answer = asked(run, key)
        assert answer.verdict in ((UNCLEAR,) if key in blurred else (FREE, AWAY)), f"{key}: {answer.says}"
        assert answer.finding is None and not answer.repair and answer.root is None


@pytest.mark.parametrize("name", [*FAULTY, *CLEAN])
def test_every_link_rests_on_an_event_and_what_is_in_the_way_is_named(name):
    run = replayed(name)
    events = run.events
    for key in [*run.judged.reading.world.live][:200]:
        answer = asked(run, key)
        for link in answer.chain:
            assert 1 <= link.at <= len(events) and link.says
        assert answer.verdict not in (BLOCKED, WAITING) or answer.chain


# ---- ipsets


@pytest.mark.parametrize("name", ["s3-buggy", "mixed-seed7"])
def test_a_member_that_is_not_in_its_set_leads_to_the_restore_from_older_memory(name):
    run = run_of_sets(name)
    open_ones = [finding for finding in run.findings if finding.status == OPEN]
    assert open_ones
    for finding in open_ones:
        (member,) = set(finding.lawful) - set(finding.reported)
        for answer in (asked(run, finding.key), asked(run, finding.key, member)):
            assert (answer.verdict, answer.finding) == (BLOCKED, finding.id)
            assert answer.root is not None and answer.root.at == finding.since
            assert "from the memory that it had loaded" in answer.root.says
            assert member in answer.says


def test_in_the_control_recording_every_set_that_is_known_is_as_it_should_be():
    run = run_of_sets("s3-control-order")
    answers = {key.name: asked(run, key) for key in run.judged.reading.world.live}
    assert {answer.verdict for answer in answers.values()} == {FREE, UNCLEAR}
    assert answers["kube-router-svip"].verdict == FREE
    put = asked(
        run, next(key for key in run.judged.reading.world.live if key.name == "kube-router-svip"), "203.0.113.10"
    )
    assert put.verdict == FREE and "ipvs-controller put it in" in put.says
