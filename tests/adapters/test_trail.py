"""The audit trail: whatever is in its file, or is not, an answer is what looking at every single event gives."""

import csv
import gzip
import io
import json
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import app, retention, trail, trail_index
from adapters.app import Store
from adapters.cli import cli
from adapters.label_selector import read_selector
from adapters.ledger import Ledger, Moment, Placed
from adapters.retention import Cut
from adapters.stores.memory import InMemoryJournal
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from adapters.trail import NotAToken, Question, TokenOutlived
from adapters.trail_index import Trail
from domain.events import OBSERVED, REFUSED, Event
from domain.kinds import VOCABULARY
from domain.operations import OrderKey
from domain.resources import Key
from domain.world import World
from projections.findings.rule import short
from tests.adapters.places import NAMES, fill, opened_place
from tests.adapters.test_label_selector import chooses
from tests.replaying import LONG_SEARCH, lines_of, recording, replayed

SMALL = 64
EXAMPLES = 400 if LONG_SEARCH else 40


# ---- what looking at every event gives


def every(ledger: Ledger) -> list[Placed]:
    return [*ledger.kept(), *ledger.events()]


def place_behind(found: Sequence[Placed], revision: int) -> int:
    """The number of the first event that is anchored behind a revision."""
    return next((n for n, one in enumerate(found) if one.event.order and one.event.order.anchor > revision), len(found))


def within(found: list[Placed], since: Moment | None, until: Moment | None) -> list[Placed]:
    low, high = 0, len(found)
    if since is not None and since.revision is not None:
        low = place_behind(found, since.revision - 1)
    if until is not None and until.revision is not None:
        high = place_behind(found, until.revision)
    found = found[low:high]
    if since is not None and since.position is not None:
        found = [one for one in found if one.position >= since.position]
    if until is not None and until.position is not None:
        found = [one for one in found if one.position <= until.position]
    if since is not None and since.time is not None:
        found = [one for one in found if one.event.time >= since.time]
    if until is not None and until.time is not None:
        found = [one for one in found if one.event.time <= until.time]
    return found


def labels_by_position(ledger: Ledger) -> dict[int, dict[str, str]]:
    """Of each event of today's generation whose object the log knew whole by then, the labels that it had shown."""
    world, known, found = World(), set[Key](), dict[int, dict[str, str]]()
    for at, position, event, _ in ledger.events():
        key, vocabulary, before = event.key, VOCABULARY[event.key.kind], world.get(event.key)
        old = dict(before.fields) if before is not None else {}
        world.evolve(event, at)
        after = world.get(key)
        if after is None and before is not None and key in known:  # it ended: by then it had these
            found[position] = labels_in(old)
        if after is None:
            known.discard(key)
        elif after is not before:
            known.discard(key)
            if event.happened in vocabulary.beginnings and event.outcome != "unknown" and key.kind != "ipset":
                known.add(key)
        if after is not None and key in known:
            found[position] = labels_in(after.fields)
    return found


def labels_in(fields: dict[str, Any]) -> dict[str, str]:
    return {path.partition("[")[2][:-1]: value for path, value in fields.items() if path.startswith("metadata.labels[")}


def is_wanted(event: Event, question: Question) -> bool:
    verb = event.operation.split(" ")[0] or event.type
    return (
        (not question.actors or event.actor in question.actors or short(event.actor) in question.actors)
        and (not question.kinds or event.key.kind in question.kinds)
        and (not question.namespaces or event.key.namespace in question.namespaces)
        and (question.name is None or event.key.name == question.name)
        and (not question.verbs or verb in question.verbs)
        and (not question.types or event.type in question.types)
        and (not question.refused or event.type == REFUSED or event.outcome == "refused")
    )


def looked_at(ledger: Ledger, question: Question, found: list[Placed] | None = None) -> list[int]:
    found = within(every(ledger) if found is None else found, question.since, question.until)
    positions = [one.position for one in found if is_wanted(one.event, question)]
    if question.selector is not None:
        labels, selector = labels_by_position(ledger), read_selector(question.selector)
        positions = [one for one in positions if one in labels and chooses(selector, labels[one])]
    return positions[::-1] if question.reverse else positions


def in_pages(store: Store, question: Question, limits: Sequence[int]) -> list[int]:
    """The answer, a page at a time."""
    positions: list[int] = []
    token: str | None = None
    for number in range(10_000):
        page = Question(**{**asdict(question), "limit": limits[number % len(limits)], "token": token})
        document = trail.events(store, page, {})
        assert len(document["events"]) <= limits[number % len(limits)]
        positions += positions_in(document)
        token = document["continue"]
        if token is None:
            return positions
        assert document["events"], "a page that goes on is not empty"
    raise AssertionError("the pages do not end")


def asdict(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in question.__struct_fields__}


def positions_in(document: dict[str, Any]) -> list[int]:
    return [row["position"] for row in document["events"]]


def wrote(ledger: Ledger, key: Key, found: list[Placed] | None = None) -> list[dict[str, Any]]:
    """What `who` has to say."""
    actors: dict[str, list[Placed]] = {}
    for one in every(ledger) if found is None else found:
        if one.event.key == key and not one.event.cause:
            actors.setdefault(one.event.actor, []).append(one)
    rows = []
    for actor, did in sorted(actors.items(), key=lambda one: one[1][-1].position):
        verbs: dict[str, int] = {}
        for one in did:
            verb = one.event.operation.split(" ")[0] or one.event.type
            verbs[verb] = verbs.get(verb, 0) + 1
        rows.append(
            {
                "actor": actor,
                "events": len(did),
                "attempts": sum(one.event.type == OBSERVED for one in did),
                "refused": sum(one.event.type == REFUSED or one.event.outcome == "refused" for one in did),
                "verbs": verbs,
                "first": did[0].position,
                "last": did[-1].position,
            }
        )
    return rows


def said(document: dict[str, Any]) -> list[dict[str, Any]]:
    plain = ("actor", "events", "attempts", "refused", "verbs")
    return [
        {**{name: row[name] for name in plain}, "first": row["first"]["position"], "last": row["last"]["position"]}
        for row in document["actors"]
    ]


# ---- ledgers


@contextmanager
def opened(path: Path, mode: Any = "read", size: int = SMALL) -> Iterator[Store]:
    """A ledger with segments so small that there are many."""
    with app.opened(str(path), mode) as store:
        assert store.trail is not None
        yield store._replace(trail=Trail(store.trail.path, store.ledger, store.recorder, size))


def trail_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.trail")


def made(path: Path, *files: Path) -> Path:
    with opened(path, "write") as store:
        for file in files:
            app.replay(store, [str(file)])
    return path


@pytest.fixture(scope="module")
def two_generations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of which a part was decided again, twice."""
    folder = tmp_path_factory.mktemp("generations")
    lines = lines_of("mixed-small")
    files = []
    first, second, third, fourth = (len(lines) * part // 100 for part in (30, 40, 60, 65))
    rest = [*lines[:first], *lines[second:third], *lines[fourth:]]
    for number, some in enumerate((rest, lines[third:fourth], lines[first:second])):
        files.append(folder / f"{number}.log")
        files[-1].write_bytes(b"\n".join(some))
    path = made(folder / "mixed.ledger", *files)
    with opened(path) as store:
        assert store.ledger.generation == 3
    return path


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory, two_generations: Path) -> Iterator[list[Store]]:
    """Recordings as ledgers, open."""
    folder = tmp_path_factory.mktemp("ledgers")
    paths = [made(folder / f"{name}.ledger", *recording(name)) for name in ("s0-buggy", "s4-buggy", "quirks-truncate")]
    with (
        opened(two_generations) as generations,
        opened(paths[0]) as shop,
        opened(paths[1]) as other,
        opened(paths[2], size=7) as cut,
    ):
        yield [generations, shop, other, cut]


@st.composite
def questions(draw: st.DrawFn, store: Store, found: list[Placed]) -> Question:
    """About what there is, mostly."""
    some = st.sampled_from(found)
    one = draw(some).event

    def moment() -> Moment | None:
        near, by = draw(some), draw(st.integers(-1, 1))
        revision = near.event.order.anchor if near.event.order is not None else 0
        return draw(
            st.sampled_from(
                [
                    None,
                    None,
                    Moment(near.event.time + by, None),
                    Moment(None, max(revision + by, 0)),
                    Moment(None, None, max(near.position + by, 0)),
                ]
            )
        )

    def maybe(*values: Any) -> Any:
        return draw(st.sampled_from([(), (), *values]))

    labels = sorted({pair for one in found for pair in labels_in(dict.fromkeys(one.event.changed)) if pair})
    values = sorted(
        {
            str(moved[1])
            for one in found
            for path, moved in one.event.changed.items()
            if path.startswith("metadata.labels[")
        }
    )
    label, value = (draw(st.sampled_from(some)) if some else "none" for some in (labels, values))

    return Question(
        selector=draw(
            st.sampled_from(
                [
                    None,
                    None,
                    f"{label}={value}",
                    label,
                    f"!{label}",
                    f"{label}!={value}",
                    f"{label} in ({value},{draw(st.sampled_from(values or ['none']))})",
                    f"{label} notin ({value}),!none",
                ]
            )
        ),
        actors=maybe((one.actor,), (short(one.actor),), (one.actor, draw(some).event.actor), ("nobody",)),
        kinds=maybe((one.key.kind,), ("vpc", "subnet")),
        namespaces=maybe((one.key.namespace,), ("",), ("nowhere",)),
        name=draw(st.sampled_from([None, None, one.key.name, "nothing"])),
        verbs=maybe((one.operation.split(" ")[0] or one.type,), ("patch",)),
        types=maybe((one.type,), (REFUSED, OBSERVED)),
        refused=draw(st.integers(0, 4)) == 0,
        since=moment(),
        until=moment(),
        reverse=draw(st.booleans()),
    )


# ---- answers


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), limits=st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_pages_of_any_size_make_up_what_looking_at_every_event_gives(ledgers, data, limits):
    store = data.draw(st.sampled_from(ledgers))
    found = every(store.ledger)
    question = data.draw(questions(store, found))
    right = looked_at(store.ledger, question)
    assert positions_in(trail.events(store, question, {})) == right
    assert in_pages(store, question, limits) == right


def test_every_resource_was_written_by_just_those_whose_events_are_on_it(ledgers):
    for store in ledgers:
        found = every(store.ledger)
        for key in sorted({one.event.key for one in found})[:: 1 if LONG_SEARCH else 5]:
            assert said(trail.who(store, key, {})) == wrote(store.ledger, key, found), key
        assert trail.who(store, Key("vpc", "", "never-heard-of"), {})["actors"] == []


def test_the_history_of_a_resource_is_what_its_tag_leads_to(ledgers):
    for store in ledgers:
        for key in sorted({one.event.key for one in every(store.ledger)})[:: 1 if LONG_SEARCH else 5]:
            right = [one.position for one in store.ledger.concerning(key) if one.event.key == key]
            assert positions_in(trail.history(store, key, coverage={})) == right
            assert positions_in(trail.history(store, key, Question(limit=3, reverse=True), {})) == right[::-1][:3]


def test_an_event_says_its_verb_its_record_and_who_refused_it(ledgers):
    rows = trail.events(ledgers[0], Question(refused=True), {})["events"]
    assert {row["refused_by"] for row in rows} == {"lifecycle", "api-server"}
    for row in rows:
        assert (row["event"] == REFUSED) == (row["refused_by"] == "lifecycle")
        assert row["verb"] == row["operation"].split()[0]
        assert row["source"].rpartition(":")[2].isdigit() and row["audit_id"]


def test_a_pattern_stands_for_any_part_of_an_actors_name(ledgers):
    store = ledgers[0]
    found = trail.events(store, Question(actors=("system:node:*",)), {})["events"]
    assert found and {row["actor"] for row in found} == {
        one.event.actor for one in every(store.ledger) if one.event.actor.startswith("system:node:")
    }


@pytest.mark.parametrize("place", NAMES)
def test_every_store_gives_the_same_answers(place, tmp_path, request):
    with opened_place(place, tmp_path / "some.ledger", request) as backend:
        fill(backend, tmp_path)
        ledger = Ledger(backend.recorder)
        model = Trail(tmp_path / "some.trail", ledger, backend.recorder, 10)
        model.catch_up()
        store = Store(backend.container, backend.recorder, backend.journal, ledger, trail=model)
        for question in (
            Question(),
            Question(kinds=("vpc",), reverse=True),
            Question(actors=("kube-system:ovn",), since=Moment(None, 320), until=Moment(None, 331)),
            Question(verbs=("command",)),
        ):
            right = looked_at(ledger, question)
            assert right
            assert positions_in(trail.events(store, question, {})) == right
            assert in_pages(store, question, [3]) == right


def test_several_threads_ask_one_store(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)
    trail_of(path).unlink()
    asked = [Question(kinds=(kind,), limit=50) for kind in ("vpc", "subnet", "ip", "pod")] * 6
    with opened(path) as store, ThreadPoolExecutor(8) as pool:
        right = [looked_at(store.ledger, question)[:50] for question in asked]
        found = list(pool.map(lambda question: positions_in(trail.events(store, question, {})), asked))
    assert found == right


# ---- labels


def test_what_an_object_was_labelled_with_by_then_chooses_its_events(ledgers):
    cut = ledgers[3]
    with_it = positions_in(trail.events(cut, Question(selector="a=b"), {}))
    without = positions_in(trail.events(cut, Question(selector="!a", kinds=("vpc",)), {}))
    labels = labels_by_position(cut.ledger)
    assert with_it == [one for one in labels if labels[one].get("a") == "b"] and with_it
    keys = {one.position: one.event.key for one in every(cut.ledger)}
    relabelled = {keys[one] for one in with_it} & {keys[one] for one in without}
    assert relabelled, "one that had the label, and then had it no more, is on both sides"


def test_what_the_log_never_showed_whole_is_chosen_by_no_selector_and_it_is_said_of_which_kinds(ledgers):
    mixed = ledgers[0]
    document = trail.events(mixed, Question(selector="!never-a-label"), {})
    kinds = {one.event.key.kind for one in every(mixed.ledger)}
    assert set(document["labels"]["known"]) | set(document["labels"]["unknown"]) == kinds
    assert not {row["resource"].partition("/")[0] for row in document["events"]} & set(document["labels"]["unknown"])
    assert (
        set(positions_in(document))
        == set(labels_by_position(mixed.ledger))
        != {one.position for one in every(mixed.ledger)}
    )
    assert "labels" not in trail.events(mixed, Question(), {})


def test_every_kind_of_the_api_has_its_own_words_for_how_it_begins_and_ends():
    """The column goes by the type alone."""
    words: dict[str, str] = {}
    for kind, vocabulary in VOCABULARY.items():
        for word in (*vocabulary.beginnings, vocabulary.ended, vocabulary.vanished):
            assert words.setdefault(word, kind) == kind


def labelled(number: int, name: str, type: str, **labels: str | None) -> Event:
    record = f"audit:{number}"
    return Event(
        type=type,
        key=Key("vpc", "", name),
        uid=f"uid-{name}",
        record=record,
        time=1_000_000 * number,
        actor="alice",
        operation="patch vpcs",
        changed={f"metadata.labels[{label}]": (None, value) for label, value in labels.items()},
        tags=(f"vpc:{name}",),
    )


NAMED = st.sampled_from(["a", "b", "c", "d", "e"])
SAYING = st.sampled_from(["web", "api", None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["VPCCreated", "VPCLabelled", "VPCLabelled"]), NAMED, SAYING),
        st.tuples(
            st.sampled_from(["VPCStatusReported", "VPCStatusReported", "VPCRemoved", OBSERVED]), NAMED, st.just("")
        ),
        st.tuples(st.sampled_from(["catch up", "ask", "open again"]), NAMED, st.just("")),
        st.tuples(st.just("decide again"), st.integers(0, 100), st.just("")),
    ),
    max_size=60,
)


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(steps=STEPS)
def test_however_a_log_grows_and_is_decided_again_labels_are_what_its_fold_says(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("labels") / "some.ledger"
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)

        def opened_again() -> Store:
            return Store(file, recorder, InMemoryJournal(), ledger, trail=Trail(trail_of(path), ledger, recorder, 4))

        store = opened_again()
        for number, (what, one, says) in enumerate([*steps, ("ask", "a", "")]):
            if what == "catch up":
                store.trail.catch_up()  # type: ignore[union-attr]
            elif what == "open again":
                store = opened_again()
            elif what == "decide again":
                placed = list(ledger.events())
                keep = placed[: len(placed) * one // 100]
                ledger.restart_after(keep[-1].position if keep else 0, len(keep))
            elif what == "ask":
                for selector in ("app=web", "app!=web", "!app"):
                    question = Question(selector=selector)
                    assert positions_in(trail.events(store, question, {})) == looked_at(ledger, question)
            else:
                labels = {} if says == "" or (what == "VPCCreated" and says is None) else {"app": says}
                ledger.append([labelled(number, one, what, **labels)])


def test_labels_that_were_superseded_are_forgotten_in_the_middle_of_a_segment(ledger_path):
    with growing(ledger_path) as store:
        store.ledger.append(
            [
                labelled(1, "a", "VPCCreated", app="web"),
                *(labelled(number, "b", "VPCStatusReported") for number in (2, 3)),
                labelled(4, "a", "VPCLabelled", app="api"),
                labelled(5, "a", "VPCStatusReported"),
            ]
        )
        assert positions_in(trail.events(store, Question(selector="app=api"), {})) == [4, 5]
        store.ledger.restart_after(3, 3)
        store.ledger.append([labelled(7, "a", "VPCStatusReported")])
        assert positions_in(trail.events(store, Question(selector="app=web"), {})) == [1, 7]


def test_of_a_pruned_ledger_what_comes_behind_the_cut_is_chosen_as_before(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)
    asked = ("app", "!app", "ovn.kubernetes.io/ip_reserved=false", "owner=wendy")
    with opened(path, "write") as store:
        right = [positions_in(trail.events(store, Question(selector=one), {})) for one in asked]
        cut = Cut(None, every(store.ledger)[800].position)
        retention.prune(store.recorder, retention.planned(store.recorder, store.journal, store.ledger, cut))
    with opened(path) as store:
        behind = store.ledger.base.position  # type: ignore[union-attr]
        for one, before in zip(asked, right, strict=True):
            found = positions_in(trail.events(store, Question(selector=one), {}))
            assert [position for position in found if position > behind] == [one for one in before if one > behind]
            assert set(found) <= set(before)
        assert any(one > behind for one in right[2])


def test_a_token_from_before_there_were_selectors_goes_on():
    question = Question(kinds=("vpc",), reverse=True)
    before = {
        name: value for name, value in asdict(Question(kinds=("vpc",), reverse=True)).items() if name != "selector"
    }
    assert trail._digest(question, "") == blake2b(msgspec.msgpack.encode(("", before)), digest_size=8).digest()


# ---- paging while the log grows


@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_event_is_missed_or_repeated_while_more_is_appended_between_pages(tmp_path_factory, data):
    events = replayed("s0-buggy").events
    path = tmp_path_factory.mktemp("growing") / "some.ledger"
    kind = data.draw(st.sampled_from([(), ("vpc",), ("subnet",)]))
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)
        store = Store(file, recorder, InMemoryJournal(), ledger, trail=Trail(trail_of(path), ledger, recorder, 8))
        appended = data.draw(st.integers(1, len(events)))
        ledger.append(events[:appended])
        seen: list[int] = []
        token = None
        while True:
            document = trail.events(store, Question(kinds=kind, limit=data.draw(st.integers(1, 9)), token=token), {})
            seen += positions_in(document)
            token = document["continue"]
            if token is None:
                break
            more = data.draw(st.integers(0, 8))
            if events[appended : appended + more]:
                ledger.append(events[appended : appended + more])
                appended += more
            if data.draw(st.booleans()):
                assert store.trail is not None
                store.trail.catch_up()
        assert seen == looked_at(ledger, Question(kinds=kind))


def event(number: int, revision: int, type: str = "VPCStatusReported") -> Event:
    record = f"audit:{number}"
    return Event(
        type=type,
        key=Key("vpc", "", "shop"),
        record=record,
        time=1_000_000 * revision,
        actor="alice",
        operation="patch vpcs/status",
        revision=revision,
        order=OrderKey(revision, 0, 1_000_000 * revision, record),
        tags=("vpc:shop",),
    )


@contextmanager
def growing(path: Path, size: int = 4) -> Iterator[Store]:
    with SQLiteFile(path) as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)
        model = Trail(trail_of(path), ledger, recorder, size)
        yield Store(file, recorder, InMemoryJournal(), ledger, trail=model)


def test_a_token_goes_on_over_a_new_generation_where_what_was_shown_stands(ledger_path):
    with growing(ledger_path) as store:
        store.ledger.append([event(number, number) for number in range(1, 11)])
        first = trail.events(store, Question(limit=4), {})
        newest = trail.events(store, Question(limit=9, reverse=True), {})
        store.ledger.restart_after(6, 6)
        store.ledger.append([event(number + 20, number) for number in (7, 8, 9)])
        rest = trail.events(store, Question(token=first["continue"]), {})
        assert (first["restarted"], rest["restarted"]) == (False, True)
        assert (
            positions_in(first) + positions_in(rest)
            == looked_at(store.ledger, Question())
            == [*range(1, 7), 12, 13, 14]
        )
        assert positions_in(trail.events(store, Question(token=newest["continue"], reverse=True), {})) == [1]


def test_a_token_whose_place_was_decided_again_is_refused_and_says_from_where_to_ask(ledger_path):
    with growing(ledger_path) as store:
        store.ledger.append([event(number, number) for number in range(1, 11)])
        page = trail.events(store, Question(limit=8), {})
        store.ledger.restart_after(6, 6)
        store.ledger.append([event(number + 20, number) for number in (7, 8, 9)])
        with pytest.raises(TokenOutlived, match=r"--since position:7 ") as refused:
            trail.events(store, Question(token=page["continue"]), {})
        assert "generation 2" in str(refused.value)
        assert positions_in(trail.events(store, Question(since=app.read_moment("position:7")), {})) == [12, 13, 14]


def test_a_token_keeps_the_time_that_its_first_page_had(ledger_path):
    with growing(ledger_path) as store:
        store.ledger.append([event(number, number) for number in range(1, 11)])
        page = trail.events(store, Question(limit=2, since=Moment(3_000_000, None)), {})
        later = Question(limit=2, since=Moment(9_000_000, None), token=page["continue"])
        assert positions_in(page) + positions_in(trail.events(store, later, {})) == [3, 4, 5, 6]


@given(text=st.one_of(st.text("aZ09-_=é\0", max_size=40), st.binary(max_size=30).map(lambda some: some.hex())))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_no_token_is_refused_with_a_sentence(ledgers, text):
    with pytest.raises(NotAToken, match="no token to go on with"):
        trail.events(ledgers[1], Question(token=text), {})


def test_a_token_of_another_question_or_a_changed_one_is_refused(ledgers):
    token = trail.events(ledgers[1], Question(kinds=("vpc",), limit=2), {})["continue"]
    for other in (Question(token=token), Question(kinds=("vpc",), reverse=True, token=token)):
        with pytest.raises(NotAToken, match="another question"):
            trail.events(ledgers[1], other, {})
    for place in range(len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(NotAToken):
            trail.events(ledgers[1], Question(kinds=("vpc",), token=changed), {})


# ---- the file


def copied(path: Path, folder: Path) -> Path:
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, folder / file.name)
    return folder / path.name


ASKED = (
    Question(kinds=("vpc",), since=Moment(None, 500)),
    Question(actors=("walter",), refused=True, reverse=True),
)
KEY = Key("vpc", "", "vpc-plover")


def holds(path: Path) -> None:
    """What is answered is what looking at every event gives, and so it is the next time."""
    right: list[Any] = []
    for _ in range(2):
        with opened(path) as store:
            assert store.trail is not None
            found = every(store.ledger)
            right = right or [
                *(looked_at(store.ledger, question, found) for question in ASKED),
                wrote(store.ledger, KEY, found),
            ]
            for question, positions in zip(ASKED, right, strict=False):
                assert positions_in(trail.events(store, question, {})) == positions
            assert said(trail.who(store, KEY, {})) == right[-1]


def stands(path: Path) -> bool:
    """Whether the file is there and was read up to the ledger's head."""
    with opened(path) as store:
        assert store.trail is not None
        with store.trail._connected() as connection:
            return store.trail._read(connection).reach == store.ledger.head


def test_a_replay_leaves_a_trail_that_is_up_to_the_ledger(two_generations):
    assert stands(two_generations)
    holds(two_generations)


def test_a_trail_that_is_gone_is_made_again_when_it_is_asked(two_generations, tmp_path, monkeypatch):
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 100)
    path = copied(two_generations, tmp_path)
    trail_of(path).unlink()
    holds(path)
    assert stands(path)


def test_a_rebuild_makes_the_trail_again_with_all_that_was_superseded(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)

    def content() -> list[tuple[int, bytes]]:
        with sqlite3.connect(trail_of(path)) as connection:
            return connection.execute("SELECT id, content FROM part ORDER BY id").fetchall()

    trail_of(path).unlink()
    with opened(path) as store:
        assert store.trail is not None
        store.trail.catch_up()
    read_from_the_log = content()
    trail_of(path).unlink()
    with opened(path, "write") as store:
        app.brought_up(store)
    assert stands(path) and content() == read_from_the_log
    holds(path)


def test_a_trail_that_is_behind_is_caught_up_with_and_full_segments_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 100)
    events = replayed("mixed-small").events
    path = tmp_path / "some.ledger"
    parts: list[dict[int, bytes]] = []
    for start in range(0, len(events), 150):
        with growing(path, SMALL) as store:
            store.ledger.append(events[start : start + 150])
        with opened(path) as store:
            assert positions_in(trail.events(store, Question(), {})) == list(range(1, store.ledger.head + 1))
        with sqlite3.connect(trail_of(path)) as connection:
            parts.append(dict(connection.execute("SELECT id, content FROM part")))
    assert stands(path)
    for before, after in pairwise(parts):
        full = max(before) // trail_index.PARTS * trail_index.PARTS
        assert {number: one for number, one in before.items() if number < full}.items() <= after.items()


def test_a_few_events_behind_are_answered_from_memory_and_nothing_is_written(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)
    with SQLiteFile(path) as file:
        Ledger(SQLiteRecorder(file)).append([event(number, 9_000 + number) for number in range(70)])
    before = trail_of(path).read_bytes()
    holds(path)
    assert trail_of(path).read_bytes() == before


def test_the_trail_of_another_ledger_is_not_believed(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)
    other = made(tmp_path / "other.ledger", *recording("s0-buggy"))
    shutil.copy(trail_of(other), trail_of(path))
    holds(path)


def test_a_ledger_cut_back_to_a_copy_from_before_does_not_believe_the_later_trail(tmp_path):
    events = replayed("mixed-small").events
    path = tmp_path / "some.ledger"
    with growing(path, SMALL) as store:
        store.ledger.append(events[:400])
        store.trail.catch_up()  # type: ignore[union-attr]
    earlier = path.read_bytes()
    with growing(path, SMALL) as store:
        store.ledger.append(events[400:800])
        store.trail.catch_up()  # type: ignore[union-attr]
    path.write_bytes(earlier)
    with growing(path, SMALL) as store:
        store.ledger.append(events[600:1000])
    with opened(path) as store:
        found = trail.events(store, Question(), {})["events"]
        assert [row["event"] for row in found] == [one.type for one in chain(events[:400], events[600:1000])]


@pytest.mark.parametrize("content", [b"", b"no database" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_what_is_no_trail_at_all_is_thrown_away(two_generations, tmp_path, monkeypatch, content):
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 100)
    path = copied(two_generations, tmp_path)
    trail_of(path).write_bytes(content)
    holds(path)
    assert stands(path)


def test_a_trail_of_another_version_is_made_again(two_generations, tmp_path, monkeypatch):
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 100)
    path = copied(two_generations, tmp_path)
    with sqlite3.connect(trail_of(path)) as connection:
        connection.execute(f"PRAGMA user_version = {trail_index.VERSION + 1}")
    holds(path)
    assert stands(path)


def test_whatever_is_damaged_in_the_file_the_answers_stay_right(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)
    whole = trail_of(path).read_bytes()
    chance = random.Random(None if LONG_SEARCH else 5)
    for _ in range(300 if LONG_SEARCH else 15):
        content = bytearray(whole)
        match chance.randrange(3):
            case 0:
                for _ in range(chance.randrange(1, 4)):
                    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            case 1:
                del content[chance.randrange(len(content)) :]
            case _:
                start = chance.randrange(len(content))
                content[start : start + 4096] = bytes(len(content[start : start + 4096]))
        trail_of(path).write_bytes(content)
        holds(path)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM part WHERE id = 17",
        "UPDATE part SET content = (SELECT content FROM part WHERE id = 9) WHERE id = 17",
        "UPDATE part SET content = 'text' WHERE id = 18",
        "DELETE FROM segment WHERE number = 2",
        "UPDATE segment SET about = (SELECT about FROM segment WHERE number = 1) WHERE number = 2",
        "DELETE FROM words",
        "UPDATE words SET content = NULL",
        "DELETE FROM bound",
        "UPDATE bound SET content = 7",
        "DROP TABLE part",
    ],
)
def test_a_row_that_is_missing_or_of_another_place_is_noticed(two_generations, tmp_path, statement):
    path = copied(two_generations, tmp_path)
    with sqlite3.connect(trail_of(path)) as connection:
        connection.execute(statement)
    holds(path)


def test_where_the_file_cannot_be_written_answers_come_from_memory(two_generations, tmp_path, monkeypatch):
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 100)
    path = copied(two_generations, tmp_path)
    trail_of(path).unlink()
    trail_of(path).mkdir()  # whoever runs this: no file can be written there
    holds(path)
    assert trail_of(path).is_dir()


def test_a_file_that_another_one_writes_into_is_waited_for_no_longer_than_an_answer_may_take(
    two_generations, tmp_path, monkeypatch
):
    monkeypatch.setattr(trail_index, "WRITE_EVENTS", 100)
    monkeypatch.setattr("adapters.disposable.BUSY_SECONDS", 0.05)
    path = copied(two_generations, tmp_path)
    with SQLiteFile(path) as file:
        Ledger(SQLiteRecorder(file)).append([event(number, 9_000 + number) for number in range(170)])
    connection = sqlite3.connect(trail_of(path), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    holds(path)
    connection.close()
    holds(path)
    assert stands(path)


def test_of_a_pruned_ledger_what_was_kept_is_answered_and_coverage_says_what_is_gone(two_generations, tmp_path):
    path = copied(two_generations, tmp_path)
    with opened(path, "write") as store:
        cut = Cut(None, every(store.ledger)[800].position)
        retention.prune(store.recorder, retention.planned(store.recorder, store.journal, store.ledger, cut))
    holds(path)  # with the trail from before
    with opened(path) as store:
        assert store.ledger.base is not None
        document = trail.events(store, Question())
        assert document["coverage"]["pruned"]["position"] == store.ledger.base.position
        assert positions_in(document)[0] <= store.ledger.base.position
    trail_of(path).unlink(missing_ok=True)
    assert run("rebuild", "--ledger", path).exit_code == 0
    assert stands(path)
    holds(path)


def test_a_long_ledger_is_written_down_in_several_transactions_and_comes_out_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(trail_index, "WRITE_SEGMENTS", 2)
    path = made(tmp_path / "some.ledger", *recording("mixed-small"))
    assert stands(path)
    holds(path)


# ---- the command line


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], env={"NETLEDGER_LEDGER": None, "COLUMNS": "100"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.ledger"
    assert run("replay", *recording("s0-buggy"), "--ledger", path).exit_code == 1
    return path


def test_csv_can_be_read_back_whatever_somebody_called_himself(tmp_path):
    name = 'mallory, "the\r\nOne", =1+1'
    changed = gzip.decompress(recording("s0-buggy")[0].read_bytes()).replace(
        b'"system:serviceaccount:kube-system:ovn"', json.dumps(name).encode()
    )
    (tmp_path / "a.log").write_bytes(changed)
    path = tmp_path / "some.ledger"
    run("replay", tmp_path / "a.log", "--ledger", path)
    as_json = json.loads(run("events", "--ledger", path, "-o", "json").stdout)
    printed = run("events", "--ledger", path, "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(printed.stdout_bytes.decode(), newline="")))
    assert list(rows[0]) == list(trail.COLUMNS)
    assert {row["actor"] for row in rows} >= {name}
    for row, right in zip(rows, as_json["events"], strict=True):
        assert json.loads(row.pop("changed")) == right.pop("changed")
        assert row == {column: "" if right[column] is None else str(right[column]) for column in row}


def test_all_of_a_long_csv_comes_without_a_gap_between_the_pages_it_is_read_in(shop, monkeypatch):
    monkeypatch.setattr("adapters.cli.trailing.ROWS_AT_ONCE", 3)
    rows = list(csv.DictReader(io.StringIO(run("events", "--ledger", shop, "-o", "csv").stdout, newline="")))
    with opened(shop) as store:
        assert [int(row["position"]) for row in rows] == looked_at(store.ledger, Question())


def test_a_page_at_the_command_line_goes_on_with_its_token(shop):
    document = json.loads(run("events", "--ledger", shop, "--kind", "vpc", "--limit", "4", "-o", "json").stdout)
    assert set(document) >= {"events", "continue", "coverage"} and len(document["events"]) == 4
    assert document["coverage"]["revisions"]
    printed = run("events", "--ledger", shop, "--kind", "vpc", "--limit", "4")
    assert f"--continue {document['continue']}" in printed.stderr
    rest = run("events", "--ledger", shop, "--kind", "vpc", "--continue", document["continue"], "-o", "json")
    with opened(shop) as store:
        right = looked_at(store.ledger, Question(kinds=("vpc",)))
    assert positions_in(document) + positions_in(json.loads(rest.stdout)) == right


def test_since_may_be_a_time_a_revision_a_position_or_how_long_before_the_end(shop):
    def asked(since: str) -> list[int]:
        return positions_in(json.loads(run("events", "--ledger", shop, "--since", since, "-o", "json").stdout))

    with opened(shop) as store:
        end = app.end_of(store.journal)
        back = (end - every(store.ledger)[-9].event.time) // 1_000
        for text, moment in (
            ("330", Moment(None, 330)),
            ("position:20", Moment(None, None, 20)),
            ("2026-11-21T01:24:04.085833Z", Moment(1_795_224_244_085_833, None)),
            (f"{back // 1_000}s{back % 1_000}ms", Moment(end - back * 1_000, None)),
            ("1h30m", Moment(end - 5_400_000_000, None)),
        ):
            right = looked_at(store.ledger, Question(since=moment))
            assert asked(text) == right and right, text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["events", "--since", "yesterday"], "nor how long before the end of the log (such as 2h"),
        (["events", "--until", "position:x"], "names no position"),
        (["events", "--until", "²"], "is neither a revision"),
        (["events", "--continue", "abc"], "is no token to go on with"),
        (["events", "--kind", "vps"], "did you mean vpc"),
        (["events", "-l", "app=web=api"], "is no label selector"),
        (["who"], "who is about one resource"),
        (["who", "vpc"], "who is about one resource"),
        (["who", "vpc/shop", "--resource", "vpc/shop"], "who is about one resource"),
        (["who", "vpc/vpc-shp"], "did you mean vpc-shop"),
        (["history", "vpc/vpc-shop", "--since", "soon"], "is neither a revision"),
        (["get", "vpc", "--at", "position:"], "names no position"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence_with_exit_status_2(shop, arguments, message):
    result = run(*arguments, "--ledger", shop)
    assert result.exit_code == 2, result.output
    assert message in result.stderr and not result.stdout
    assert "Traceback" not in result.stderr


def test_a_name_that_is_nowhere_in_the_ledger_is_told_apart_from_one_that_did_nothing_like_that(shop):
    assert "no actor of this ledger is called 'kube-system:own'; did you mean kube-system:ovn" in (
        run("events", "--ledger", shop, "--actor", "kube-system:own").stderr
    )
    nothing = run("events", "--ledger", shop, "--actor", "kube-system:ovn", "--kind", "eip")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "no event of this ledger is like that" in nothing.stderr


def test_events_are_chosen_by_labels_at_the_command_line_and_it_is_said_of_what_these_are_known(tmp_path):
    path = made(tmp_path / "some.ledger", *recording("s4-buggy"))
    found = run("events", "--ledger", path, "-l", "app=vpc-nat-gw-gw1", "-o", "json")
    document = json.loads(found.stdout)
    assert {row["resource"].partition("/")[0] for row in document["events"]} == {"pod"}
    assert "pod" in document["labels"]["known"] and "ipset" not in document["labels"]["known"]
    nothing = run("events", "--ledger", path, "--selector", "app=none")
    assert nothing.stdout == "" and "labels are known of: eip, fip, ip" in nothing.stderr
    assert "labels are known of: " in run("events", "--ledger", path, "-l", "app", "-o", "csv").stderr


def test_who_names_everyone_and_the_newest_last(shop):
    result = run("who", "--resource", "vpc/vpc-shop", "--ledger", shop, "-o", "json")
    with opened(shop) as store:
        assert said(json.loads(result.stdout)) == wrote(store.ledger, Key("vpc", "", "vpc-shop"))
    assert "kube-system:ovn" in run("who", "vpc/vpc-shop", "--ledger", shop).stdout


def test_a_page_of_history_is_a_part_of_the_whole(shop):
    whole = json.loads(run("history", "vpc/vpc-shop", "--ledger", shop, "-o", "json").stdout)
    page = run("history", "vpc/vpc-shop", "--ledger", shop, "-o", "json", "--limit", "3", "--since", "320")
    first = next(place for place, row in enumerate(whole) if row["revision"] and row["revision"] >= 320)
    some = whole[first : first + 3]
    assert json.loads(page.stdout) == some and len(some) == 3
    assert "--continue" in page.stderr
    as_csv = csv.DictReader(
        io.StringIO(run("history", "vpc/vpc-shop", "--ledger", shop, "-o", "csv").stdout, newline="")
    )
    assert [int(row["position"]) for row in as_csv] == [row["position"] for row in whole]


# ---- the state at a position


def test_the_state_at_a_position_is_what_all_events_up_to_it_add_up_to(two_generations):
    from adapters.judging import fold

    with opened(two_generations) as store:
        assert store.checkpoints is not None
        found = every(store.ledger)
        for one in found[:: len(found) // 12]:
            moment = app.read_moment(f"position:{one.position}")
            world, at = store.checkpoints.world_at(moment)
            right = fold(store.ledger, moment)
            assert at == right.reading.at == one.at
            live = {key: (resource.state, resource.fields) for key, resource in world.live.items()}
            assert live == {key: (one.state, one.fields) for key, one in right.reading.world.live.items()}
            for key in list(live)[:5]:
                resource = store.checkpoints.resource_at(key, moment)
                assert resource is not None and (resource.state, resource.fields) == live[key]


def test_a_position_that_was_superseded_is_refused_and_the_one_that_stays_is_named(two_generations):
    with opened(two_generations) as store:
        (_first, last), (behind, _), *_ = store.ledger.stretches()
    assert behind > last, "something is superseded in this ledger"
    result = run("get", "vpc", "--ledger", two_generations, "--at", f"position:{last + 1}")
    assert result.exit_code == 2 and f"ask for position:{last}" in result.stderr
    assert run("get", "vpc", "--ledger", two_generations, "--at", f"position:{last}").exit_code == 0
