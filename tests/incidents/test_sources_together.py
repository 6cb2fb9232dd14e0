"""Several sources of one incident: the same findings, fewer witnesses where evidence is poorer, never a false one."""

from __future__ import annotations

import gzip
import itertools
import os
import random
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from adapters import app
from adapters.sources.audit_log import classify
from adapters.sources.dialect import About, Recognised
from projections.findings.rule import OPEN, PENDING, UNKNOWN
from tests.replaying import DATA, LONG_SEARCH, Replayed, explained, recording, replay, replayed

RECORDED = sorted(path.parent.name for path in DATA.glob("*/watch.jsonl.gz"))
SMALL = [name for name in RECORDED if name.startswith("s")]
BY_EXEC = {"ready-without-configuration"}  # what was started in a pod, no watch shows
SEEDS = 40 if LONG_SEARCH else 4


def watch(name: str) -> Path:
    return DATA / name / "watch.jsonl.gz"


def everything(name: str) -> list[Path]:
    sets = [path for path in [DATA / name / "ipset.jsonl"] if path.exists()]
    return [*recording(name), watch(name), *sets, DATA / name / "final.yaml.gz"]


@cache
def watched(name: str) -> Replayed:
    return replay(watch(name))


@cache
def together(name: str) -> Replayed:
    return replay(*recording(name), watch(name))


def told(run: Replayed) -> set[tuple[str, str]]:
    return {(finding.id, finding.status) for finding in run.findings}


@pytest.mark.parametrize("name", RECORDED)
def test_audit_log_and_watch_together_find_what_the_audit_log_finds(name):
    assert told(together(name)) == told(replayed(name)), explained(together(name).findings)


@pytest.mark.parametrize("name", RECORDED)
def test_with_everything_that_was_recorded_only_what_the_node_shows_is_found_as_well(name):
    findings = replay(*everything(name)).findings
    assert {(f.id, f.status) for f in findings if f.key.kind != "ipset"} == told(replayed(name))


@pytest.mark.parametrize("name", RECORDED)
def test_a_watch_alone_finds_nothing_on_a_resource_that_is_right(name):
    findings = replayed(name).findings
    wrong = {finding.key for finding in findings} | {finding.follows for finding in findings}
    assert {finding.key for finding in watched(name).findings} <= wrong, explained(watched(name).findings)


@pytest.mark.parametrize("name", SMALL)
def test_a_watch_alone_finds_what_does_not_rest_on_commands_in_a_pod(name):
    expected = {finding.id for finding in replayed(name).findings if finding.name not in BY_EXEC}
    found = {finding.id: finding.status for finding in watched(name).findings}
    assert set(found) == expected
    # A watch does not say how long it went on in silence, so what never came may yet come.
    assert set(found.values()) <= {OPEN, PENDING}


@pytest.mark.parametrize("name", RECORDED)
def test_a_lost_update_that_the_log_shows_a_watch_alone_shows_with_the_same_revisions(name):
    def lost(run: Replayed) -> set[tuple[object, ...]]:
        return {
            (f.id, f.status, *(run.events[w.at - 1].revision for w in f.witnesses if w.role in ("lost", "overwriting")))
            for f in run.findings
            if f.name == "lost-update"
        }

    assert lost(watched(name)) == lost(replayed(name))


@pytest.mark.parametrize("name", SMALL)
def test_one_operation_that_both_show_is_one_event_with_both_as_evidence(name):
    both = together(name)
    shown = {event.record for event in watched(name).events}
    evidence = {record for event in both.events for record in event.evidence}
    assert len(evidence) > len(shown) / 2
    assert shown <= evidence | {event.record for event in both.events}
    assert all(event.record.startswith("audit:") for event in both.events if event.evidence)
    assert not evidence & {event.record for event in both.events}


@pytest.mark.parametrize("name", SMALL)
def test_a_removal_that_a_watch_shows_stands_at_its_own_revision(name):
    for event in together(name).events:
        if event.type.endswith("Removed") and event.evidence:
            [record] = [record for record in event.evidence if record.endswith("/gone")]
            assert event.order is not None
            assert (event.order.anchor, event.order.own) == (int(record.partition("@")[2].partition("/")[0]), 0)


@pytest.mark.parametrize("name", ["s0-buggy", "s2-buggy-A", "s4-buggy"])
def test_the_order_of_the_files_changes_nothing(name):
    digests = {replay(*paths).judged.digest for paths in itertools.permutations(everything(name))}
    assert len(digests) == 1


@pytest.mark.parametrize("name", [*SMALL, "mixed-small"])
def test_of_a_watch_and_a_list_it_does_not_matter_which_is_read_first(name):
    paths = [watch(name), DATA / name / "final.yaml.gz"]
    assert replay(*paths).judged.digest == replay(*reversed(paths)).judged.digest


@pytest.mark.parametrize("name", ["s1-buggy", "s4-buggy"])
def test_a_watch_that_comes_later_makes_the_ledger_that_both_make_at_once(name, tmp_path):
    with app.opened(str(tmp_path / "kept.ledger")) as store:
        app.replay(store, [str(path) for path in recording(name)])
        later = app.replay(store, [str(watch(name))])
        assert store.ledger.generation > 1
    assert later.judged.digest == together(name).judged.digest


# ---- records taken away


@cache
def records(name: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The audit records on our kinds, with the first and the last of all, and what the watch showed."""
    lines = [line for path in recording(name) for line in gzip.decompress(path.read_bytes()).splitlines()]
    ours = [line for line in lines if isinstance(classify(line), Recognised)]
    return (lines[0], *ours, lines[-1]), tuple(gzip.decompress(watch(name).read_bytes()).splitlines())


def replay_some(folder: Path, audit: list[bytes], seen: list[bytes]) -> Replayed:
    paths = [folder / "audit.log", folder / "watch.jsonl"]
    for path, lines in zip(paths, (audit, seen), strict=True):
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    return replay(*(path for path, lines in zip(paths, (audit, seen), strict=True) if lines))


@pytest.mark.parametrize("name", [name for name in SMALL if name[1] != "3"])
def test_whichever_record_is_taken_away_the_other_source_keeps_every_answer_from_turning_false(name, tmp_path):
    audit, seen = records(name)
    known = {finding.id for finding in together(name).findings}
    for at in range(len(audit) + len(seen)):
        run = replay_some(
            tmp_path,
            [line for place, line in enumerate(audit) if place != at],
            [line for place, line in enumerate(seen, len(audit)) if place != at],
        )
        false = [finding for finding in run.findings if finding.status == OPEN and finding.id not in known]
        assert not false, f"without record {at}: {explained(false)}"


@pytest.mark.parametrize("name", [name for name in SMALL if name[1] != "3"])
def test_where_a_loss_is_noticed_nothing_that_it_may_have_changed_is_said_for_certain(name, tmp_path):
    audit, _ = records(name)
    known = {(finding.name, finding.key) for finding in replayed(name).findings}
    for seed in range(SEEDS):
        chance = random.Random(f"{name} {seed}")
        run = replay_some(tmp_path, [line for line in audit if chance.random() > 0.05], [])
        lost = {gap.key for gap in run.judged.reading.gaps}
        for finding in run.findings:
            if finding.status == OPEN and (finding.name, finding.key) not in known:
                cited = {run.events[witness.at - 1].key for witness in finding.witnesses} | {finding.key}
                assert not cited & lost, explained([finding])


def test_the_same_loss_leaves_an_answer_unknown_rather_than_gone(tmp_path):
    statuses = set()
    audit, _ = records("s0-control-order")
    for at in range(1, len(audit) - 1):
        for other in range(at + 1, len(audit) - 1):
            run = replay_some(tmp_path, [line for place, line in enumerate(audit) if place not in (at, other)], [])
            statuses |= {finding.status for finding in run.findings}
            if UNKNOWN in statuses:
                return
    raise AssertionError(f"no loss of two records was noticed where it mattered: {statuses}")


# ---- a controller's log beside


def controllers_log(name: str, path: Path, ahead: float = 0.0) -> Path:
    """What kube-ovn-controller -v=3 would have logged of the commands that the audit log shows, by a clock of its own."""
    lines, events = [], replayed(name).events
    starts = {
        "eip": "vpc_nat_gw_eip.go:300] handle update iptables eip",
        "fip": "vpc_nat_gw_nat.go:271] handle update iptables fip",
    }
    for event, after in itertools.pairwise(events):
        if event.type != "GatewayCommandStarted" or after.record != event.record or after.key.kind not in starts:
            continue
        for _, command in event.changed.values():
            when = datetime.fromtimestamp(event.received / 1_000_000 + ahead, UTC).strftime("I%m%d %H:%M:%S.%f")
            lines.append(f"{when}       7 {starts[after.key.kind]} {after.key.name}")
            lines.append(f"{when}       7 vpc_nat_gateway.go:600] bash /kube-ovn/nat-gateway.sh {command}")
    path.write_text("".join(f"{line}\n" for line in lines))
    os.utime(path, (events[-1].time / 1_000_000,) * 2)  # a log has no year: its file's date tells it
    return path


GATEWAYS = ["s4-buggy", "s4-control-ordered"]


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_controllers_log_beside_the_audit_log_changes_no_finding(name, tmp_path):
    log = controllers_log(name, tmp_path / "controller.log")
    both = replay(*recording(name), log)
    assert {event.type for event in both.events if event.record.startswith("klog:")} >= {"RunStarted", "ActLogged"}
    assert told(both) == told(replayed(name)), explained(both.findings)
    assert list(both.judged.reading.clocks.ahead()) == []


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_controllers_log_and_a_watch_alone_say_nothing_that_an_audit_log_would_deny(name, tmp_path):
    log = controllers_log(name, tmp_path / "controller.log")
    without = replay(log, watch(name))
    assert "GatewayCommandStarted" in {event.type for event in without.events}
    assert {finding.id for finding in without.findings} <= {finding.id for finding in replayed(name).findings}
    ready = {
        str(resource.key): without.judged.reading.standing(resource).lawful["status.ready"]
        for resource in without.judged.reading.resources()
        if resource.key.kind == "eip"
    }
    known = {
        str(resource.key): replayed(name).judged.reading.standing(resource).lawful["status.ready"]
        for resource in replayed(name).judged.reading.resources()
        if resource.key.kind == "eip"
    }
    # A pod that only a watch shows was born some time within a second: what was started in it then, nobody can tell.
    assert all(ready[key] in (None, known[key]) for key in known)


@pytest.mark.parametrize("ahead", [-20.0, 3.25])
def test_a_controllers_clock_that_is_off_is_measured_and_put_right(ahead, tmp_path):
    log = controllers_log("s4-buggy", tmp_path / "controller.log", ahead)
    (found,) = replay(*recording("s4-buggy"), log).judged.reading.clocks.ahead()
    assert abs(found.by / 1_000_000 - ahead) < 0.001
    with app.opened(None) as store:
        right = app.replay(
            store,
            [str(path) for path in (*recording("s4-buggy"), log)],
            about=lambda path: About(skew=found.by if path == str(log) else None),
        )
    assert list(right.judged.reading.clocks.ahead()) == []
    assert {(finding.id, finding.status) for finding in right.findings} == told(replayed("s4-buggy"))
