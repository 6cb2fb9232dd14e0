"""Real incidents, replayed: what truth.json says is wrong is found, and nothing else is.

`truth` reads the truth files; where the recordings come from is in `data/README.md`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from projections.findings.rule import HEALED, OPEN, Finding
from projections.standing import same
from tests.incidents.truth import Fault, explained, faults, key_of, values
from tests.replaying import Replayed, replayed, truth_of
from tests.replaying import explained as told

FAULTY = ("s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy", "mixed-small", "mixed-seed7")
CLEAN = (
    "s0-control-order",
    "s1-control-clean",
    "s2-control-order",
    "s4-control-ordered",
    # Their faults are in ipsets, which an audit log does not show.
    "s3-buggy",
    "s3-control-order",
    "quirks-batchlog",
    "quirks-managedfields-webhook",
    "quirks-truncate",
)
KNOWN = [(name, fault) for name in FAULTY for fault in faults(truth_of(name))]


def every(wanted: Callable[[Fault], bool] = lambda fault: True) -> pytest.MarkDecorator:
    """Runs a test on each known fault that is `wanted`."""
    cases = [pytest.param(name, fault, id=f"{name}-{fault.label}") for name, fault in KNOWN if wanted(fault)]
    return pytest.mark.parametrize("name, fault", cases)


def finding_of(run: Replayed, fault: Fault) -> Finding:
    """The one finding of that rule on that resource and field."""
    found = [f for f in run.findings if (f.name, f.key, f.field) == (fault.name, fault.key, fault.field)]
    assert len(found) == 1, f"{fault.label} is found {len(found)} times among:\n{told(run.findings)}"
    return found[0]


def of_one_cause(run: Replayed, finding: Finding) -> list[Finding]:
    """The finding, and those that share its root."""
    root = finding.root or finding.id
    return [other for other in run.findings if root in (other.id, other.root)]


@every()
def test_a_known_fault_is_found_on_its_resource_and_field_with_its_status(name, fault):
    finding = finding_of(replayed(name), fault)
    assert finding.status == fault.status, told([finding])
    if "uid" in fault.entry:
        assert finding.uid == fault.entry["uid"]


@every()
def test_every_request_that_the_truth_names_is_a_witness(name, fault):
    run = replayed(name)
    together = of_one_cause(run, finding_of(run, fault))
    cited = set().union(*(run.audit_ids(finding) for finding in together))
    assert fault.audit_ids <= cited, f"{sorted(fault.audit_ids - cited)} are not cited by:\n{told(together)}"


@every()
def test_a_healed_finding_names_its_healing_and_an_open_one_has_no_end(name, fault):
    run = replayed(name)
    finding = finding_of(run, fault)
    if finding.status == OPEN:
        assert finding.until is None
        return
    assert finding.until is not None and finding.until > finding.since
    assert run.audit_ids(finding, "healing")


@every(lambda fault: fault.name == "lost-update")
def test_a_lost_update_names_the_lost_and_the_overwriting_write_and_what_its_writer_had_read(name, fault):
    run = replayed(name)
    finding = finding_of(run, fault)
    assert run.audit_ids(finding, "lost") == {fault.entry["lostWrite"]["auditID"]}
    assert run.audit_ids(finding, "overwriting") == {fault.entry["overwrittenBy"]["auditID"]}
    assert finding.revisions is not None
    first, last = finding.revisions
    assert first <= int(fault.entry["staleReadResourceVersion"]) <= last


@every(lambda fault: values(fault) is not None and fault.status == OPEN)
def test_the_reported_and_the_lawful_value_are_the_wrong_and_the_right_one(name, fault):
    finding = finding_of(replayed(name), fault)
    reported, lawful = values(fault) or (None, None)
    assert same(finding.reported, reported), told([finding])
    assert same(finding.lawful, lawful), told([finding])


@every(lambda fault: values(fault) is not None and fault.status == HEALED)
def test_what_a_healed_finding_had_reported_is_the_wrong_value(name, fault):
    finding = finding_of(replayed(name), fault)
    reported, _ = values(fault) or (None, None)
    assert same(finding.reported, reported), told([finding])


@every(lambda fault: values(fault) is not None and fault.status == HEALED and fault.name == "lost-update")
def test_a_healed_lost_update_says_what_would_have_been_lawful(name, fault):
    finding = finding_of(replayed(name), fault)
    _, lawful = values(fault) or (None, None)
    assert same(finding.lawful, lawful), told([finding])


@pytest.mark.parametrize("name", FAULTY)
def test_nothing_is_found_beside_what_the_truth_explains(name):
    any_status, healed = explained(truth_of(name))
    unexplained = [
        finding
        for finding in replayed(name).findings
        if finding.key not in any_status and not (finding.status == HEALED and finding.key in healed)
    ]
    assert not unexplained, told(unexplained)


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_not_found_open_where_it_healed_by_another_rule_either(name):
    """On a resource whose faults are all healed nothing is open."""
    known = faults(truth_of(name))
    still_wrong = {fault.key for fault in known if fault.status == OPEN}
    right_again = {fault.key for fault in known} - still_wrong
    found = [finding for finding in replayed(name).findings if finding.key in right_again and finding.status != HEALED]
    assert not found, told(found)


@pytest.mark.parametrize("name", ["s1-buggy", "mixed-small"])
def test_the_orphans_of_the_truth_are_the_open_orphaned_subnets(name):
    orphans = {key_of(entry["object"]) for entry in truth_of(name)["orphans"]}
    assert {finding.key for finding in replayed(name).with_status(OPEN, "orphaned-subnet")} == orphans


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_of_any_severity_is_found_in_a_clean_recording(name):
    assert not replayed(name).findings, told(replayed(name).findings)


def test_what_is_wrong_at_the_end_of_a_long_run_is_what_the_open_findings_say():
    """`wrongAtEnd` was read off the cluster's own objects, so this knows nothing of the faults that were played."""
    run = replayed("mixed-seed7")
    truth = truth_of("mixed-seed7")
    live = run.judged.reading.world.live

    def names(rule: str) -> list[str]:
        return sorted(finding.key.name for finding in run.with_status(OPEN, rule))

    def listed(one: Any, other: Any) -> dict[str, list[str]]:
        found = run.with_status(OPEN, "lost-update")
        assert {(finding.key.kind, finding.field) for finding in found} == {("vpc", "status.subnets")}
        told = {finding.key.name: sorted(set(one(finding)) - set(other(finding))) for finding in found}
        return {name: members for name, members in told.items() if members}

    not_judged = {key_of(entry["object"]).name for entry in truth["notJudged"]}
    in_deletion = {
        f"{finding.key.kind}s/{finding.key.name}"
        for finding in run.findings
        if finding.status == OPEN and finding.name in ("stuck-deletion", "leaked-ip") and live[finding.key].terminating
    }
    assert {
        "vpcStatusListsMissingSubnet": listed(lambda f: f.reported, lambda f: f.lawful),
        "vpcStatusMissesSubnet": listed(lambda f: f.lawful, lambda f: f.reported),
        "orphanSubnets": names("orphaned-subnet"),
        "ipsOfMissingSubnets": names("leaked-ip"),
        "deletingWithFinalizer": sorted(in_deletion),
        "namespacesWithoutAnnotations": [name for name in names("namespace-not-bound") if name not in not_judged],
        "eipsReadyButNotConfigured": names("ready-without-configuration"),
    } == truth["wrongAtEnd"]


def test_a_record_whose_bodies_were_cut_off_is_counted_as_unknown():
    unknown = replayed("quirks-truncate").judged.reading.coverage.unknown
    assert sum(unknown.values()) == 1, unknown
