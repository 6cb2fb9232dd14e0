"""Blame and diff against plain oracles over whole recordings, and all three commands as a person meets them."""

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import app, reasons, report
from adapters import cli as command_line
from adapters.app import Outcome, Store
from adapters.judging import Judged, fold
from adapters.ledger import Moment, Placed
from adapters.report import NotKnown
from adapters.views import Views
from domain.events import REFUSED, TESTIMONIES, Event
from domain.operations import OrderKey
from domain.resources import Key
from domain.world import World
from projections.field_history import UNORDERED
from tests.replaying import LONG_SEARCH, recording, timeline

NAMES = ("mixed-small", "s0-buggy", "s4-buggy", "quirks-truncate", "s2-buggy-A")
SHOP = Key("vpc", "", "vpc-shop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reasons")


def kept(folder: Path, name: str) -> Path:
    """A ledger that a recording was replayed into, once."""
    path = folder / f"{name}.ledger"
    if not path.exists():
        with app.opened(str(path)) as store:
            app.replay(store, [str(one) for one in recording(name)])
    return path


@pytest.fixture(scope="module")
def stores(folder: Path) -> Iterator[dict[str, Store]]:
    opened, managers = {}, []
    for name in NAMES:
        manager = app.opened(str(kept(folder, name)), "read")
        opened[name] = manager.__enter__()
        managers.append(manager)
    yield opened
    for manager in managers:
        manager.__exit__(None, None, None)


@cache
def _placed(path: Path) -> list[Placed]:
    with app.opened(str(path), "read") as store:
        return list(store.ledger.events())


def placed_in(store: Store) -> list[Placed]:
    assert store.checkpoints is not None
    return _placed(store.checkpoints.path.with_suffix(""))


def moments(events: list[Placed], chance: random.Random, count: int) -> list[Moment | None]:
    found: list[Moment | None] = [None]
    for one in chance.choices(events, k=count):
        found.append(Moment(one.event.time + chance.choice((-1, 0, 1)), None))
        if one.event.order is not None:
            found.append(Moment(None, one.event.order.anchor))
    return found


def upto(events: list[Placed], moment: Moment | None) -> list[Placed]:
    """The events before a moment, by looking at each."""
    found = []
    for one in events:
        if moment is not None and moment.passed_by(one):
            break
        found.append(one)
    return found


def world_of(events: list[Placed]) -> World:
    world = World()
    for one in events:
        world.evolve(one.event, one.at)
    return world


def wrote(event: Event) -> bool:
    return event.type not in TESTIMONIES and (event.type != REFUSED or bool(event.leads_to))


def oracle(events: list[Placed], key: Key) -> dict[str, tuple[Any, int]]:
    """Each field of a live object and the position that wrote it last: the object after each event, compared by eye."""
    world = World()
    fields: dict[str, Any] = {}
    found: dict[str, tuple[Any, int]] = {}
    for one in events:
        world.evolve(one.event, one.at)
        if one.event.key != key:
            continue
        resource = world.get(key)
        now = dict(resource.fields) if resource is not None else {}
        for path in {*fields, *now}:
            if path not in now:
                found.pop(path, None)
            elif now[path] != fields.get(path) or (path in one.event.changed and wrote(one.event)):
                found[path] = (now[path], one.position)
        fields = now
    return found


# ---- blame


@pytest.mark.parametrize("name", NAMES)
def test_blame_names_the_event_that_wrote_each_field_last_at_any_moment(name, stores):
    store, chance = stores[name], random.Random(name)
    events = placed_in(store)
    for moment in moments(events, chance, 4 if not LONG_SEARCH else 60):
        before = upto(events, moment)
        live = sorted(world_of(before).live)
        for key in chance.sample(live, min(len(live), 8)):
            document = reasons.blame(store, key, moment)
            told = {row["field"]: (row["value"], row["by"]["position"]) for row in document["fields"]}
            assert told == oracle(before, key), (moment, key)
            assert document["state"] == world_of(before).state(key)
            for row in document["fields"]:
                assert row["by"]["resource"] == str(key) and row["by"]["source"] and row["by"]["actor"]


def test_blame_says_what_a_claim_should_be_and_what_its_writer_had_read(stores):
    store = stores["s0-buggy"]
    outcome = app.conclude(store, fold(store.ledger), [])
    document = report.document(store, outcome)
    (standing,) = [row for row in document["resources"] if row["name"] == "vpc-shop"]
    blamed = reasons.blame(store, SHOP, standing=standing, findings=document["findings"], coverage=document["coverage"])
    rows = {row["field"]: row for row in blamed["fields"]}
    wrong = rows["status.subnets"]
    assert (wrong["value"], wrong["lawful"], wrong["drifts"]) == (["net-db"], [], True)
    assert wrong["basis"]["stale"] and wrong["basis"]["revisions"] == [325, 327] and not wrong["basis"]["known"]
    assert [one["revision"] for one in wrong["basis"]["overlooked"]] == [329]
    assert rows["metadata.finalizers"]["basis"] == {
        "known": True, "revisions": [309, 309], "stale": False, "overlooked": [],
    }  # fmt: skip
    assert [row["field"] for row in blamed["fields"] if row["drifts"]] == ["status.subnets"]
    assert blamed["coverage"] == document["coverage"]
    json.dumps(blamed)


def test_before_the_write_that_lost_another_nothing_is_stale(stores):
    store = stores["s0-buggy"]
    outcome = app.conclude(store, fold(store.ledger), [])
    findings = report.document(store, outcome)["findings"]
    rows = reasons.blame(store, SHOP, Moment(None, 329), findings=findings)["fields"]
    assert not any(row["basis"] and row["basis"]["stale"] for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_position_of_a_moment_is_that_of_the_last_event_before_it(name, stores):
    store = stores[name]
    events = placed_in(store)
    without = store._replace(checkpoints=None)
    for moment in moments(events, random.Random(name), 10):
        before = upto(events, moment)
        position = before[-1].position if before else 0
        assert reasons.position_at(store, moment) == reasons.position_at(without, moment) == position
    assert reasons.position_at(store, Moment(0, None)) == 0


# ---- diff


@settings(
    max_examples=60 if not LONG_SEARCH else 3_000, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(data=st.data())
def test_a_diff_applied_to_the_state_at_its_beginning_gives_that_at_its_end(data, stores):
    store = stores[data.draw(st.sampled_from(NAMES))]
    events = placed_in(store)
    keys = sorted({one.event.key for one in events if one.event.key.kind in ("vpc", "subnet", "ip", "eip", "pod")})
    key = data.draw(st.sampled_from(keys))
    own = [one for one in events if one.event.key == key]
    places = st.sampled_from([None, *own, events[0], events[-1]])
    ends = sorted((data.draw(places), data.draw(places)), key=lambda one: one.position if one is not None else 0)
    first, last = (
        Moment(one.event.time, None) if one is not None and data.draw(st.booleans()) else _revision(one) for one in ends
    )
    states = [world_of(upto(events, moment)).get(key) for moment in (first, last)]
    fields = [dict(resource.fields) if resource is not None else {} for resource in states]
    try:
        document = reasons.diff(store, key, first, last, every=True)
    except NotKnown as error:
        assert "lies behind its end" in str(error) or not any(one in upto(events, last) for one in own)
        return
    applied = dict(fields[0])
    for row in document["fields"]:
        assert row["before"] == fields[0].get(row["field"]) and row["after"] == fields[1].get(row["field"])
        if row["after"] is None:
            applied.pop(row["field"], None)
        else:
            applied[row["field"]] = row["after"]
        if row["added"] is not None:
            members = [one for one in row["before"] or [] if one not in row["removed"]] + row["added"]
            assert sorted(members, key=str) == sorted(row["after"] or [], key=str) and row["field"] in UNORDERED
        assert row["by"]["resource"] == str(key)
        assert document["from"]["position"] < row["by"]["position"] <= document["to"]["position"]
    assert applied == fields[1]
    brief = reasons.diff(store, key, first, last)
    assert brief["fields"] == [{**row, "writes": None} for row in document["fields"] if not row["back"]]


def _revision(one: Placed | None) -> Moment:
    return Moment(None, one.event.order.anchor if one is not None and one.event.order is not None else 0)


@pytest.mark.parametrize("name", NAMES)
def test_without_moments_a_diff_goes_from_the_first_record_of_an_object_to_its_end(name, stores):
    store = stores[name]
    events = placed_in(store)
    world = world_of(events)
    keys = [*world.live, *(key for departed in world.departed.values() for key in departed)]
    for key in random.Random(name).sample(keys, min(len(keys), 40)):
        document = reasons.diff(store, key)
        assert document["from"]["there"] and document["to"]["there"]
        assert not document["replaced"]
        own = [one for one in events if one.event.key == key]
        assert (document["gone"] is None) == (key in world.live)
        if key in world.live:
            assert document["to"]["state"] == world.state(key)
        else:
            assert document["gone"]["position"] > document["to"]["position"]
        assert own[0].position <= document["from"]["position"]


def test_what_was_changed_and_is_back_is_told_with_all(stores):
    begin, end = Moment(None, 327), Moment(None, 330)
    brief = reasons.diff(stores["s0-buggy"], SHOP, begin, end)
    assert brief["fields"] == []
    (row,) = reasons.diff(stores["s0-buggy"], SHOP, begin, end, every=True)["fields"]
    assert (row["field"], row["back"], row["writes"], row["by"]["revision"]) == ("status.subnets", True, 2, 330)


class Watched:
    """A store's recorder that says which events were read by their positions, and lets nothing else be read."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder
        self.read: set[int] = set()

    def at(self, positions: list[int]) -> Any:
        self.read.update(positions)
        return self._recorder.at(positions)


@pytest.mark.parametrize("name", ["mixed-small", "s4-buggy"])
def test_no_event_is_read_but_the_resources_own(name, stores):
    events = {one.position: one.event for one in placed_in(stores[name])}
    for key in sorted(world_of(placed_in(stores[name])).live)[:30]:
        for ask in (reasons.blame, reasons.diff):
            watched = Watched(stores[name].recorder)
            ask(stores[name]._replace(recorder=watched), key)
            assert watched.read and {events[position].key for position in watched.read} == {key}


def test_of_a_field_that_a_busy_resource_keeps_few_events_are_read(folder: Path):
    """The writer of a spec is found without reading the thousands of status writes that came since."""
    with app.opened(None) as store:
        assert store.trail is not None
        events = [_event("VPCCreated", 1, {"spec.namespaces": (None, ["a"])})]
        events += [
            _event("VPCStatusReported", n, {"status.subnets": ([str(n - 1)], [str(n)])}) for n in range(2, 3_000)
        ]
        store.ledger.append(events)
        watched = Watched(store.recorder)
        past = reasons._Past(store._replace(recorder=watched), SHOP)  # type: ignore[arg-type]
        found = past.last_writes(["spec.namespaces", "status.subnets"], store.ledger.head)
        assert {path: one.position for path, one in found.items()} == {"spec.namespaces": 1, "status.subnets": 2_999}
        assert len(watched.read) < 50


def _event(type: str, revision: int, changed: dict[str, tuple[Any, Any]]) -> Event:
    order = OrderKey(revision, 0, revision, f"r{revision}")
    return Event(
        type=type, key=SHOP, record=f"r{revision}", time=revision, uid="u", actor="alice", operation="patch vpcs",
        revision=revision, order=order, changed=changed, tags=(SHOP.tag,),
    )  # fmt: skip


# ---- a ledger that was pruned


@pytest.fixture(scope="module")
def pruned(folder: Path) -> Iterator[tuple[Store, list[Placed]]]:
    """Half of a recording's events dropped, and all events as they were."""
    path = folder / "pruned.ledger"
    with app.opened(str(path)) as store:
        app.replay(store, [str(one) for one in recording("mixed-small")])
        events = list(store.ledger.events())
        position = events[len(events) // 2].position
    prune(path, position)
    with app.opened(str(path), "read") as store:
        assert store.ledger.base is not None
        yield store, events


def prune(path: Path, position: int) -> None:
    result = run("prune", "--before", f"position:{position}", "--yes", "--ledger", path)
    assert result.exit_code == 0, result.stderr


def test_of_a_pruned_ledger_blame_says_what_is_known_and_no_more(pruned):
    store, events = pruned
    known = missing = 0
    for key in sorted(world_of(events).live):
        right = oracle(events, key)
        for row in reasons.blame(store, key)["fields"]:
            assert row["value"] == right[row["field"]][0]
            if row["by"] is None:
                missing += 1
            else:
                known += 1
                assert row["by"]["position"] == right[row["field"]][1]
    assert known and missing


def test_of_a_pruned_ledger_a_diff_begins_behind_the_cut(pruned):
    store, events = pruned
    world = world_of(events)
    changed = 0
    for key in sorted(world.live)[:60]:
        document = reasons.diff(store, key)
        changed += bool(document["fields"])
        for row in document["fields"]:
            assert row["after"] == world.live[key].fields.get(row["field"])
    assert changed


# ---- why


def why_of(store: Store, key: Key, member: str = "") -> dict[str, Any]:
    outcome: Outcome = app.conclude(store, fold(store.ledger), [])
    return reasons.why(store, outcome, key, member)


def test_every_step_of_why_says_where_it_is_on_record(stores):
    document = why_of(stores["s0-buggy"], SHOP)
    assert document["verdict"] == "blocked" and document["state"] == "TERMINATING"
    assert [step["event"]["revision"] for step in document["chain"]] == [331, None, 330]
    for step in document["chain"]:
        assert step["says"] and step["resource"] and step["state"] and step["absence"] is None
        for event in (step["event"], *step["also"]):
            assert re.search(r"audit\.log\.gz:\d+$", event["source"]) and event["position"] and event["actor"]
    json.dumps(document)


def test_an_absence_says_what_did_not_come_and_from_when_to_when(stores):
    document = why_of(stores["s4-buggy"], Key("eip", "", "eip-1"))
    (absent,) = [step["absence"] for step in document["chain"] if step["absence"]]
    assert absent["what"].startswith("eip-add 192.168.100.11 in pod/")
    assert absent["since"] < absent["until"]


def test_nothing_about_it_is_said_so(stores):
    for ask in (reasons.blame, reasons.diff, why_of):
        with pytest.raises(NotKnown, match="nothing in this ledger is about vpc/never"):
            ask(stores["s0-buggy"], Key("vpc", "", "never"))


# ---- the commands


def run(*arguments: object, columns: int = 80) -> Result:
    return CliRunner().invoke(
        command_line.cli,
        [str(argument) for argument in arguments],
        env={"COLUMNS": str(columns), "NETLEDGER_LEDGER": None},
        prog_name="netledger",
    )


@pytest.fixture(scope="module")
def shop(folder: Path) -> Path:
    return kept(folder, "s0-buggy")


def test_why_leads_to_the_root_and_exits_with_1_where_something_is_in_the_way(shop: Path):
    result = run("why", "vpc/vpc-shop", "--ledger", shop)
    assert result.exit_code == 1
    assert result.stdout.startswith("BLOCKED vpc/vpc-shop  TERMINATING")
    assert (
        "(the root)" in " ".join(result.stdout.split())
        and "audit.log.gz:466" in result.stdout
        and "Repair" in result.stdout
    )
    assert "as of revision 331" in result.stderr
    assert run("why", "vpc/vpc-shop", "-o", "name", "--ledger", shop).stdout == "blocked\n"


def test_why_of_what_is_gone_or_free_exits_with_0(shop: Path, folder: Path):
    gone = run("why", "subnet/net-db", "--ledger", shop)
    assert gone.exit_code == 0 and gone.stdout.startswith("GONE subnet/net-db")
    free = run("why", "fip/fip-1", "--ledger", kept(folder, "s4-buggy"))
    assert free.exit_code == 0 and "nothing is in its way" in " ".join(free.stdout.split())


def test_why_at_an_earlier_moment_is_about_that_moment(shop: Path):
    result = run("why", "vpc/vpc-shop", "--at", 329, "--ledger", shop)
    assert result.exit_code == 0 and result.stdout.startswith("NOTHING vpc/vpc-shop")


def test_why_of_a_member_of_an_ipset(folder: Path):
    path = folder / "sets.ledger"
    run("replay", timeline("s3-buggy"), "--ledger", path)
    found = run("get", "ipset", "-o", "json", "--ledger", path)
    (row,) = [one for one in json.loads(found.stdout) if one["name"] == "kube-router-svip"]
    name = f"ipset/{report.path_of(row).partition('/')[2]}"
    result = run("why", name, "--member", "203.0.113.10", "--ledger", path)
    assert result.exit_code == 1 and "203.0.113.10 is not in" in result.stdout
    assert run("why", name, "--member", "192.0.2.1", "--ledger", path).exit_code == 0
    wrong = run("why", "vpc/x", "--member", "192.0.2.1", "--ledger", path)
    assert wrong.exit_code == 2 and "--member is for ipsets" in wrong.stderr


def test_blame_marks_what_should_be_and_what_is_stale(shop: Path):
    result = run("blame", "vpc/vpc-shop", "--ledger", shop)
    assert result.exit_code == 0
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("status.subnets ")]
    assert "should be nothing" in row and "stale: had read revisions 325 to 327 (inferred)" in row
    assert "audit.log.gz:466" in row and "not as it should be" in result.stderr
    before = run("blame", "vpc/vpc-shop", "--at", 329, "--ledger", shop).stdout
    assert "stale" not in before and "330" not in before
    wide = run("blame", "vpc/vpc-shop", "-o", "wide", "--ledger", shop).stdout
    assert "5eafa12f-80a7-4549-9592-7ccf76953265" in wide


def test_diff_tells_the_writes_in_their_order(shop: Path):
    result = run("diff", "vpc/vpc-shop", "--from", "328", "--to", "2026-11-21T01:25:00Z", "--ledger", shop)
    assert result.exit_code == 0
    assert "state     GUARDED → TERMINATING" in result.stdout
    assert result.stdout.index("revision 331") > 0 and "metadata.deletionTimestamp" in result.stdout
    assert "status.subnets" not in result.stdout
    every = run("diff", "vpc/vpc-shop", "--from", "327", "--all", "--ledger", shop).stdout
    assert "status.subnets: [net-db], changed and back  (2 writes)" in every
    gone = run("diff", "subnet/net-db", "--ledger", shop).stdout
    assert "gone, by kube-system:ovn" in gone and "+ 10.10.1.1" in gone


@pytest.mark.parametrize("command", ["diff", "blame", "why"])
@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_same_document_comes_as_json_and_as_yaml_with_its_coverage(command, output, read, shop: Path):
    document = read(run(command, "vpc/vpc-shop", "-o", output, "--ledger", shop).stdout)
    assert document["schema"] == f"netledger/{command}/v1"
    assert document["resource"]["name"] == "vpc-shop"
    assert document["coverage"] == Views(shop).coverage()
    assert document == json.loads(run(command, "vpc/vpc-shop", "-o", "json", "--ledger", shop).stdout)


@pytest.mark.parametrize("command", ["diff", "blame", "why"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vpc/vpc-shpo"], "nothing in this ledger is about vpc/vpc-shpo; did you mean vpc-shop?"),
        (["vpc/zzz"], "`netledger get vpcs` lists what is there"),
        (["vcp/vpc-shop"], "there is no kind 'vcp'; did you mean vpc"),
        (["vpc"], "is of one resource"),
        (["pod/web"], "pods live in namespaces"),
    ],
)
def test_what_is_not_known_is_said_aloud_with_what_may_have_been_meant(command, arguments, said, shop: Path):
    result = run(command, *arguments, "--ledger", shop)
    assert result.exit_code == 2 and said in result.stderr and not result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["blame", "subnet/net-db"], "subnet/net-db is not there any more; `netledger history subnet/net-db` shows"),
        (["blame", "vpc/vpc-shop", "--at", "5"], "vpc/vpc-shop is not there then"),
        (["diff", "vpc/vpc-shop", "--from", "330", "--to", "320"], "lies behind its end"),
        (["diff", "vpc/vpc-shop", "--to", "5"], "vpc/vpc-shop is not there before that"),
        (["diff", "vpc/vpc-shop", "--from", "yesterday"], "'yesterday' is neither a revision"),
        (["why", "vpc/vpc-shop", "--at", "5"], "nothing in this ledger is about vpc/vpc-shop"),
    ],
)
def test_a_moment_at_which_it_is_not_there_is_said_to_be_one(arguments, said, shop: Path):
    result = run(*arguments, "--ledger", shop)
    assert result.exit_code == 2 and said in result.stderr


@pytest.mark.parametrize("command", ["diff", "why"])
def test_text_fits_80_columns_but_for_commands_to_copy(command, folder: Path):
    for name, what in (("s0-buggy", "vpc/vpc-shop"), ("s4-buggy", "eip/eip-1"), ("s2-buggy-A", "ip/web-0.shop")):
        lines = run(command, what, "--ledger", kept(folder, name)).stdout.splitlines()
        assert lines and not [line for line in lines if len(line) > 80 and "kubectl" not in line]


def test_an_empty_reading_explains_nothing():
    with app.opened(None) as store:
        outcome = app.conclude(store, Judged(), [])
        with pytest.raises(NotKnown):
            reasons.why(store, outcome, SHOP)
