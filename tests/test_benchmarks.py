"""The generated logs are what the benchmarks say they are: repeatable, bounded, of the stated mix, and clean. What is
measured on them is tried here with tiny sizes, and no time is asked for.

Cleanliness is judged here by a reader of its own, a few dozen lines that know nothing of the generator or of
netledger's rules: what it counts from creations and removals must be what the controller's claims say.
"""

import gzip
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters import app
from adapters import trail as audit_trail
from adapters.checkpoints import Checkpoints
from adapters.ledger import Ledger, Moment
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from benchmarks import longlife, merge, moments, postgres, redis_append, report, resident, store, trail
from benchmarks.generate import generate
from benchmarks.measuring import Comparison, MeasurementError, in_turns, measure, spread
from domain.events import Event as LedgerEvent
from domain.resources import Key
from domain.world import World
from tests.replaying import DATA

OURS = {
    "vpcs", "subnets", "pods", "ips", "namespaces", "iptables-eips", "iptables-fip-rules", "vpc-nat-gateways",
}  # fmt: skip
Event = dict[str, Any]
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


@pytest.fixture(scope="module")
def relevant(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "relevant.jsonl"
    generate(path, lines=12_000, mix="relevant", seed=7)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def is_operation(event: Event) -> bool:
    return (event.get("objectRef") or {}).get("resource") in OURS and event["verb"] in WRITES


def in_time_order(events: Iterable[Event]) -> list[Event]:
    """Requests in a generated log never overlap, so the end of each is its place in the true order."""
    completed = [event for event in events if event["stage"] == "ResponseComplete" and is_operation(event)]
    return sorted(completed, key=lambda event: event["stageTimestamp"])


def removes(event: Event) -> bool:
    """The object is gone: a Status answered the delete, or the last finalizer or the grace period went."""
    answer = event["responseObject"]
    if answer["kind"] == "Status":
        return bool(event["verb"] == "delete")
    metadata = answer["metadata"]
    held = metadata.get("finalizers") or (answer.get("spec") or {}).get("finalizers")
    return bool("deletionTimestamp" in metadata and not held and metadata.get("deletionGracePeriodSeconds", 0) == 0)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    logs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(tmp_path / name, lines=3_000, mix="recorded", seed=seed)
        logs.append((tmp_path / name).read_bytes())
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize("lines", [1, 2, 999])
@pytest.mark.parametrize("mix", ["recorded", "relevant"])
def test_a_log_has_as_many_whole_lines_as_were_asked_for(tmp_path, mix, lines):
    written = generate(tmp_path / "log", lines=lines, mix=mix, seed=1)
    content = (tmp_path / "log").read_bytes()
    assert content.endswith(b"}\n")
    assert (content.count(b"\n"), len(content)) == (lines, written.bytes) and written.lines == lines


def test_six_lines_in_a_hundred_of_the_recorded_mix_are_completed_operations(tmp_path):
    generate(tmp_path / "log", lines=10_000, mix="recorded", seed=1)
    events = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    completed = sum(is_operation(event) and event["stage"] == "ResponseComplete" for event in events)
    assert 0.055 < completed / len(events) < 0.065
    assert {event["stage"] for event in events} == {"RequestReceived", "ResponseStarted", "ResponseComplete"}


def test_every_line_of_the_relevant_mix_is_an_operation(relevant):
    assert all(map(is_operation, relevant))
    assert {event["objectRef"]["resource"] for event in relevant} == OURS


def test_every_new_revision_is_higher_than_all_before_it_and_an_old_one_is_the_objects_own(relevant):
    highest = 0
    last: dict[str, int] = {}
    for event in in_time_order(relevant):
        metadata = event["responseObject"]["metadata"] if "responseObject" in event else {}
        if "uid" not in metadata:
            continue
        revision = int(metadata["resourceVersion"])
        if last.get(metadata["uid"]) != revision:
            assert revision > highest, event
            highest = last[metadata["uid"]] = revision


def test_claims_say_what_creations_and_removals_add_up_to(relevant):
    alive: dict[tuple[str, str | None, str], Event] = {}
    checked: Counter[str] = Counter()
    most = 0
    for event in in_time_order(relevant):
        reference, answer = event["objectRef"], event.get("responseObject")
        if answer is None or event["responseStatus"]["code"] >= 400 or "name" not in reference:
            continue
        key = (reference["resource"], reference.get("namespace"), reference["name"])
        if key[0] == "namespaces":
            key = ("namespaces", None, key[2])
        if reference.get("subresource") == "binding":
            continue
        if event["verb"] == "create":
            assert key not in alive, "made while an object of that name was alive"
        else:
            assert key in alive, "written though there is no such object"
        if removes(event):
            del alive[key]
            if key[0] in ("subnets", "vpcs", "iptables-eips"):
                field = {"subnets": "subnet", "vpcs": "vpc", "iptables-eips": "eip"}[key[0]]
                names = [other for other in alive.values() if (other.get("spec") or {}).get(field) == key[2]]
                assert not names, f"{key} went while it was named"
            checked["removed " + key[0]] += 1
            continue
        alive[key] = answer
        most = max(most, len(alive))
        if reference.get("subresource") != "status":
            continue
        status = answer["status"]
        if key[0] == "vpcs":
            subnets = [
                name
                for (kind, _, name), other in alive.items()
                if kind == "subnets" and other["spec"].get("vpc") == key[2]
            ]
            assert sorted(status.get("subnets") or []) == sorted(subnets)
            checked["vpc status"] += 1
        if key[0] == "subnets":
            used = [
                other["spec"]["v4IpAddress"]
                for (kind, _, _), other in alive.items()
                if kind == "ips" and other["spec"]["subnet"] == key[2]
            ]
            assert status["v4usingIPs"] == len(used) == len(set(used))
            assert set(status["v4usingIPrange"].split(",")) == set(used or [""])
            checked["subnet status"] += 1
    assert most < 1_000
    removed = {f"removed {plural}" for plural in OURS}
    for claim in {"vpc status", "subnet status"} | removed:
        assert checked[claim], f"the log never came to {claim}"


def test_an_address_is_ready_only_when_the_gateway_pod_of_today_was_told_of_it(relevant):
    told: dict[str, set[str]] = {}
    judged = 0
    for event in in_time_order(relevant):
        reference = event["objectRef"]
        if reference.get("namespace") == "kube-system" and event["verb"] == "create":
            if "subresource" not in reference:
                told[reference["name"]] = set()  # a new pod knows no address
            elif reference["subresource"] == "exec":
                told[reference["name"]].add(event["requestURI"])
        if reference["resource"] in ("iptables-eips", "iptables-fip-rules"):
            answer = event["responseObject"]
            status = answer.get("status") or {}
            if event["verb"] == "patch" and status.get("ready"):
                eip = reference["resource"] == "iptables-eips"
                gateway = answer["spec"]["natGwDp"] if eip else status["natGwDp"]
                command = (
                    f"eip-add+{status['ip']}%2F24"
                    if eip
                    else f"floating-ip-add+{status['v4ip']}%2C{status['internalIp']}&"
                )
                assert any(command in uri for uri in told[f"vpc-nat-gw-{gateway}-0"]), event
                judged += 1
    assert judged > 50


def test_a_namespace_is_annotated_within_a_tenth_of_a_second_of_its_creation(relevant):
    created: Event | None = None
    for event in in_time_order(relevant):
        if event["objectRef"]["resource"] != "namespaces" or event["verb"] not in ("create", "patch"):
            continue
        if event["verb"] == "create":
            assert created is None
            created = event
        else:
            assert created is not None
            assert created["objectRef"]["name"] == event["objectRef"]["name"]
            assert float(event["stageTimestamp"][17:-1]) - float(created["stageTimestamp"][17:-1]) < 0.1
            created = None


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_measurement_is_of_the_child_alone_and_of_its_memory():
    small = measure(python("print('x' * 9)"), patience=60)
    large = measure(python("x = bytearray(100_000_000)\nfor i in range(0, len(x), 4096): x[i] = 1"), patience=60)
    assert small.output == 10 and small.exit == 0
    assert large.rss - small.rss > 80_000_000
    assert large.cpu > small.cpu > 0


def test_a_program_that_fails_is_no_measurement_but_an_error_that_says_why():
    with pytest.raises(MeasurementError, match=r"(?s)exit 2, so nothing was measured.*no such log"):
        measure(
            python("import sys; print('no such log', file=sys.stderr); sys.exit(2)"),
            patience=60,
            accepted=(0, 1),
        )
    assert measure(python("raise SystemExit(1)"), patience=60, accepted=(0, 1)).exit == 1
    with pytest.raises(MeasurementError, match="given up after 1 s"):
        measure(python("import time; time.sleep(60)"), patience=1)
    with pytest.raises(MeasurementError, match="/nowhere/netledger: cannot be started"):
        measure(["/nowhere/netledger"], patience=60)


def measurement(mix: str, lines: int, ratio: float, rss: int, exit_code: int = 0) -> Event:
    used = {"cpu_seconds": spread([1.0]), "wall_seconds": spread([1.0]), "peak_rss_bytes": spread([rss])}
    return {
        "mix": mix, "lines": lines, "bytes": lines * 900, "exit": exit_code, "cpu_ratio": spread([ratio]),
        "floor": used, "netledger": used,
    }  # fmt: skip


def test_the_page_says_which_targets_are_met_and_keeps_what_was_written_by_hand():
    results = {"python": "3.11", "cpus": 2, "seed": 1, "measurements": [
        measurement("recorded", 100_000, 1.5, 50_000_000),
        measurement("recorded", 1_000_000, 2.5, 100_000_000, exit_code=1),
    ]}  # fmt: skip
    old = f"by hand\n{report.MARKS[0]}\nold figures\n{report.MARKS[1]}\nby hand too\n"
    old = f"{report.STORE_MARKS[0]}\nold figures\n{report.STORE_MARKS[1]}\n{old}"
    page = report.page(old, results)
    assert page.count("by hand\n") == 1 and page.endswith("by hand too\n") and "old figures" not in page
    verdicts = [line.rsplit("|", 2)[1].strip() for line in page.splitlines() if "at most" in line]
    assert verdicts == ["yes", "**no**", "**no**"]
    assert "ended with exit code 1" in page
    assert report.page(page, results) == page
    with pytest.raises(ValueError, match="no place for figures"):
        report.page("no marks", results)


def test_of_the_long_made_up_log_a_state_is_told_as_the_whole_fold_tells_it(tmp_path):
    path, beside = tmp_path / "long.ledger", tmp_path / "long.ledger.checkpoints"
    names = moments.build(path, 60_000, vpcs=3, subnets=3, pods=6)
    figures = moments.measure(path, names, beside, questions=4, worlds=2)
    assert figures["events"] == 60_000 and 80 < figures["live"] < 130
    with SQLiteFile(path, "read") as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)
        checkpoints = Checkpoints(beside, ledger, recorder)
        *_, last = ledger.events()
        moment = Moment(last.event.time - 60_000_000, None)
        whole = moments.whole_fold(ledger, moment)
        assert {resource.key.kind for resource in whole.live.values()} == {"vpc", "subnet", "pod", "ip"}
        for key in [*list(whole.live)[:40], *names[-40:]]:
            one, right = checkpoints.resource_at(key, moment), whole.get(key)
            assert (one and (one.state, one.fields, one.last_at)) == (
                right and (right.state, right.fields, right.last_at)
            )


# ---- what is compared


def test_a_comparison_is_judged_by_the_median_of_the_ratios_within_each_round():
    slow_hour = Comparison("a", "b", "events/s", [100, 10, 60], [40, 4, 100], 2)
    assert slow_hour.ratios == [2.5, 2.5, 0.6] and slow_hour.is_met
    assert not slow_hour._replace(target=2.6).is_met
    assert slow_hour._replace(bound="at most", target=2.5).is_met
    assert not slow_hour._replace(bound="at most").is_met


def test_what_has_nothing_beside_it_is_judged_by_its_own_figure():
    alone = Comparison("a", "–", "ms", [12, 19, 21], [], 20, "at most")
    assert alone.is_met and not alone._replace(target=18).is_met
    assert (alone.as_kept()["ratio"], alone.as_kept()["ours"]["median"]) == (None, 19)


def test_every_side_is_measured_once_a_round_and_each_is_the_first_in_its_turn():
    order: list[str] = []

    def side(name: str) -> Any:
        def measured(number: int) -> float:
            order.append(f"{name}{number}")
            return float(number)

        return measured

    assert in_turns(3, {name: side(name) for name in "abc"}) == {name: [0.0, 1.0, 2.0] for name in "abc"}
    assert order == ["a0", "b0", "c0", "b1", "c1", "a1", "c2", "a2", "b2"]


def test_the_page_shows_the_rows_of_the_store_and_what_they_were_to_reach():
    rows = [
        Comparison("appending", "a floor", "events/s", [123456.0, 100000.0], [246912.0, 200000.0], 0.25),
        Comparison("memory", "machines", "bytes each", [2000.0], [20000.0], 1 / 30, "at most"),
        Comparison("state", "–", "ms", [12.0], [], 20, "at most"),
    ]
    results = {"python": "3.11", "cpus": 2, "seed": 1, "store": [row.as_kept() for row in rows]}
    first, second, third = report.store_figures(results).splitlines()[-3:]
    assert first.endswith("| at least 0.25 | yes |") and "111,700 [100,000..123,500]" in first and "**0.50**" in first
    assert second.endswith("| **0.10** | at most 0.033 | **no** |") or "**no**" in second
    assert "| – | ms | 12.0 | – | – | at most 20.0 | yes |" in third


# ---- what is measured


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")

    def log(mix: Any, lines: int) -> Any:
        path = folder / f"{mix}-{lines}.jsonl"
        if not path.exists():
            generate(path, lines=lines, mix=mix, seed=1)
        return path

    return store.Ground(store.TINY, folder, log)


@pytest.mark.parametrize("row", store.ROWS, ids=lambda row: row.__name__)
def test_every_row_of_the_store_can_be_measured(row, ground):
    for comparison in row(ground):
        assert comparison.ours and all(figure > 0 for figure in (*comparison.ours, *comparison.floor))
        assert len(comparison.floor) in (0, len(comparison.ours))


def test_the_rows_of_the_servers_can_be_measured():
    rows, _ = redis_append.measured(rounds=1, batches=1, singles=10)
    for row in (*rows, postgres.appending(rounds=1)):
        assert [len(row.ours), len(row.floor)] == [1, 1] and row.ours[0] > 0


def test_the_pages_of_a_ledger_file_are_the_ledgers_or_the_journals(ground):
    path = ground.kept("relevant")
    parts = store.parts_of(path)
    assert sum(parts.values()) == path.stat().st_size
    with sqlite3.connect(path) as connection:
        for part, table in (("ledger", "event_block"), ("journal", "journal_block")):
            ((held,),) = connection.execute(f"SELECT sum(length(content)) FROM {table}")
            assert held < parts[part] < 2 * held + 100_000


def test_what_is_appended_has_three_tags_and_its_own_among_them(ground):
    assert all(len(set(one.tags)) == 3 and one.key.tag in one.tags for one in ground.events)


def test_the_machine_beside_a_step_asks_the_same_guard():
    world = World()
    model = store.Model(world)
    machine = store.machine_of(model)
    subnet = Key("subnet", "", "net-db")
    made = LedgerEvent(
        type="SubnetCreated", key=subnet, record="audit:1", time=1, changed={"spec.vpc": (None, "vpc-shop")}
    )
    world.evolve(made, 1)
    model.VPCRemoved()  # type: ignore[attr-defined]
    assert model.state == "GUARDED", "a subnet names the Vpc"
    world.evolve(LedgerEvent(type="SubnetRemoved", key=subnet, record="audit:2", time=2), 2)
    model.VPCRemoved()  # type: ignore[attr-defined]
    assert (model.state, machine.states["GONE"].name) == ("GONE", "GONE")


def test_the_measured_world_holds_as_many_resources_as_are_asked_for_each_with_its_fields(ground):
    _, world = ground.short
    sample = msgspec.msgpack.encode([(one.key, one.fields) for one in world.live.values()])
    number = len(world.live) * 2 + 1
    held = resident.world_of(number, sample).live
    assert len(held) == number == len({one.uid for one in held.values()})
    assert sorted(map(len, (one.fields for one in held.values())))[-1] > 10
    assert len(resident.machines_of(3, sample)) == 3


def test_an_append_that_fails_in_a_thread_is_no_measurement():
    def refuse(share: Any) -> None:
        raise MeasurementError("no room")

    with pytest.raises(MeasurementError, match="no room"):
        store._together(refuse, [[1], [2]])


def test_of_the_long_made_up_log_every_question_to_the_trail_is_measured_and_answered(tmp_path):
    path = tmp_path / "long.ledger"
    names = moments.build(path, 30_000, vpcs=3, subnets=3, pods=6)
    figures = trail.measure(path, names, Path(f"{path}.trail"), Path(f"{path}.checkpoints"), questions=3)
    assert figures["events"] == 30_000 and 0 < figures["trail_bytes"] < figures["ledger_bytes"] / 2
    assert all(0 < taken["p50"] <= taken["p95"] for taken in figures["seconds"].values())
    with app.opened(str(path), "read") as store:
        assert audit_trail.events(store, audit_trail.Question(actors=(moments.KUBELET,), limit=100), {})["continue"]


def test_beside_the_trail_the_same_log_is_read_through_for_the_same_actor_and_time(tmp_path):
    log, ledger = tmp_path / "audit.log", tmp_path / "some.ledger"
    log.write_bytes(gzip.decompress((DATA / "s0-buggy" / "audit.log.gz").read_bytes()))
    with app.opened(str(ledger)) as store:
        app.replay(store, [str(log)])
    figures = trail.beside_the_log(log, ledger, questions=3)
    assert figures["matching_lines"] > 3 and figures["ratio_p50"] > 0


def test_the_faults_of_a_long_life_are_as_many_as_are_asked_for_and_told_at_once():
    figures = longlife.measure(400)
    assert (figures["healed"], figures["events"]) == (400, 6 * longlife.SUBNETS + 800 + 4 * 9)
    assert all(taken >= 0 for name, taken in figures.items() if name.endswith("_seconds"))


def test_what_came_late_is_put_in_order_either_way(tmp_path):
    merge.fill(tmp_path / "late.ledger", 3_000)
    assert [merge.measure(tmp_path / "late.ledger", way)["records"] for way in merge.WAYS] == [3_000, 3_000]
