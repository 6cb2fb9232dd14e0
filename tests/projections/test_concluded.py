"""What is over is concluded once: asked after every event, the findings are those of asking once, at the end.

`troubled` makes a history with faults of every rule, which heal and come again, on few names, with clocks that turn out to
differ later, and with reactions that come sooner or later than usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import Event
from projections.findings.concluded import Concluded, Findings
from projections.findings.rule import HEALED, Finding
from projections.reading import Reading
from tests.domain.stories import CONTROLLER, GATEWAY_LABELS, GATEWAY_POD, SECOND, Story
from tests.projections.kube_router import Design, Node
from tests.replaying import LONG_SEARCH, replay_lines, replayed

NAMES = ("a", "b")
BINDING = {"metadata.annotations[ovn.kubernetes.io/logical_switch]": "ovn-default"}
RECORDED = ("s0-buggy", "s2-buggy-A", "s4-buggy", "mixed-small")


def troubled(random: Random, steps: int) -> list[Event]:
    """The events of a history in which nearly everything goes wrong."""
    story = Story()
    story.given.create("subnet/ovn-default", {"spec.default": True, "spec.vpc": "ovn-cluster"}, held=True)
    story.given.create("nat-gateway/gw", {"spec.vpc": "a", "spec.subnet": "a"})
    there: set[str] = set()

    def some(kind: str) -> str:
        return f"{kind}/{random.choice(NAMES)}"

    def made(path: str, fields: Mapping[str, object] | None = None, held: bool = True) -> bool:
        if path in there:
            return False
        there.add(path)
        story.when.create(path, fields or {}, held=held, by=CONTROLLER if path.startswith("ip/") else "alice")
        return True

    def vpc() -> None:
        path = some("vpc")
        if not made(path):
            story.when.status(path, {"subnets": random.sample(NAMES, random.randint(0, 2))}, by=random.choice("xy"))

    def subnet() -> None:
        path = some("subnet")
        if not made(path, {"spec.vpc": random.choice(NAMES)}):
            story.when.status(path, {"v4usingIPs": random.randint(0, 2)}, by=random.choice("xy"))

    def address() -> None:
        name = random.choice(NAMES)
        if f"subnet/{name}" in there and made(f"pod/{name}/web", {"spec.nodeName": "one"}, held=False):
            fields = {
                "spec.subnet": name,
                "spec.podName": "web",
                "spec.namespace": name,
                "spec.v4IpAddress": "10.0.0.2",
            }
            made(f"ip/web.{name}", fields)

    def pod_goes() -> None:
        path = f"pod/{random.choice(NAMES)}/web"
        if path in there:
            story.when.delete(path)
            story.when.delete(path)
            there.discard(path)

    def goes() -> None:
        path = random.choice([some("vpc"), some("subnet"), f"ip/web.{random.choice(NAMES)}"])
        if path not in there:
            return
        how = random.choice(["asked", "released", "by hand", "at once"])
        if how == "asked":
            story.when.delete(path)
        elif how == "at once":
            story.when.remove(path, by="mallory")
            there.discard(path)
        else:
            story.when.delete(path)
            if random.random() < 0.5:
                story.when.wait(random.choice([1, 3, 40]))
            story.when.release(path, by="mallory" if how == "by hand" else CONTROLLER)
            there.discard(path)

    def namespace() -> None:
        path = some("namespace")
        if made(path, held=False):
            return
        if random.random() < 0.6:
            story.when.write(path, BINDING)
        else:
            story.when.delete(path)
            story.when.delete(path)
            there.discard(path)

    def external() -> None:
        path = some("eip")
        number = NAMES.index(path[-1])
        if made(path, {"spec.natGwDp": "gw", "spec.v4ip": f"10.1.0.{number}"}):
            return
        match random.randint(0, 3):
            case 0:
                story.when.status(path, {"ready": random.random() < 0.7})
            case 1 if GATEWAY_POD in there:
                story.when.run(GATEWAY_POD, f"eip-add 10.1.0.{number}/24")
            case 2:
                story.when.status(path, {"ready": True})
            case _:
                story.when.delete(path)
                story.when.release(path)
                there.discard(path)

    def gateway() -> None:
        if GATEWAY_POD in there:
            story.when.delete(GATEWAY_POD)
            story.when.delete(GATEWAY_POD)
        there.add(GATEWAY_POD)
        story.when.create(GATEWAY_POD, GATEWAY_LABELS)

    def rule() -> None:
        path = f"fip/{random.choice(NAMES)}"
        if not made(path, {"spec.eip": random.choice(NAMES)}, held=False):
            story.when.delete(path)
            there.discard(path)

    def clocks_differ() -> None:
        if "vpc/a" in there:
            behind = story.now - random.choice([50_000, 400_000, 5 * SECOND])
            story.when.status("vpc/a", {"standby": random.random()}, time=behind, received=behind - 5_000)

    def waits() -> None:
        story.when.wait(random.choice([0.5, 3, 40]))

    steps_taken: Sequence[Callable[[], None]] = (
        *(vpc, vpc, subnet, subnet, address, pod_goes, goes, goes, goes),
        *(namespace, namespace, external, external, external, gateway, rule, waits),
    )
    for _ in range(steps):
        random.choice(steps_taken if random.random() < 0.98 else (clocks_differ,))()
    return story.events


def asked(events: Sequence[Event], reading: Reading, end: int, concluded: Concluded | None = None) -> Findings:
    return reading.conclude(end, lambda at: events[at - 1], None, concluded)


def shown(findings: Findings, documents: dict[str, Finding]) -> None:
    """Keep documents as the engine does: made when a finding is fresh, taken away when it is gone."""
    for entry in findings.fresh:
        entry.document = entry.finding()
        documents[entry.id] = entry.finding()
    for id in findings.gone:
        del documents[id]


def is_as_asked_once(findings: Findings, once: Findings, documents: dict[str, Finding]) -> None:
    whole = list(once)
    assert list(findings) == whole
    assert (
        len(findings) == len(whole) and [findings[place] for place in (0, -1)] == [whole[0], whole[-1]]
        if whole
        else True
    )
    assert all(finding.status == HEALED for finding in whole[len(once.now) :])
    assert [entry.document for entry in findings.over] == [entry.finding() for entry in findings.over]
    assert documents == {finding.id: finding for finding in whole[len(once.now) :]}


def follow(events: Sequence[Event], every: int, patience: int, random: Random) -> tuple[Reading, Concluded, set[str]]:
    """Conclude after so many events each, and see that it is what concluding once gives."""
    reading, concluded = Reading(), Concluded()
    documents: dict[str, Finding] = {}
    found: set[str] = set()
    for number, event in enumerate(events, 1):
        reading.apply(event)
        if number % every and number < len(events):
            continue
        end = max(one.time for one in events[:number]) + random.choice([0, patience])
        findings = asked(events, reading, end, concluded)
        shown(findings, documents)
        if number == len(events) or random.random() < 0.1:
            is_as_asked_once(findings, asked(events, reading, end), documents)
        found |= {f"{finding.rule} {finding.status}" for finding in findings.now}
        found |= {f"{entry.rule} {HEALED}" for entry in findings.over}
    return reading, concluded, found


@settings(max_examples=600 if LONG_SEARCH else 40, deadline=None)
@given(seed=st.integers(0, 2**32), every=st.sampled_from([1, 1, 3, 20]), patience=st.sampled_from([0, 5, 3600]))
def test_concluding_after_every_event_gives_what_concluding_once_gives(seed, every, patience):
    random = Random(seed)
    follow(troubled(random, 120), every, patience * SECOND, random)


def test_the_histories_that_are_searched_have_faults_of_every_rule_that_opened_and_healed():
    found: set[str] = set()
    for seed in range(60):
        random = Random(seed)
        found |= follow(troubled(random, 150), 10, 3600 * SECOND, random)[2]
    both = {f"NL{number} {status}" for number in range(100, 107) for status in ("open", "healed")}
    assert both <= found, both - found


@settings(max_examples=400 if LONG_SEARCH else 30, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_where_a_log_was_decided_otherwise_only_what_ended_before_is_taken_over(seed, share):
    """The log goes on otherwise behind a place, as it does when late records begin a new generation."""
    random = Random(seed)
    events = troubled(random, 100)
    cut = int(len(events) * share)
    _, before, _ = follow(events, 5, 0, random)
    documents: dict[str, Finding] = {entry.id: entry.finding() for entry in before._over}
    other = [*events[:cut], *(event for event in events[cut:] if random.random() < 0.8)]
    reading = Reading()
    for event in other:
        reading.apply(event)
    end = max((event.time for event in other), default=0)
    concluded = Concluded(before, cut)
    findings = asked(other, reading, end, concluded)
    shown(findings, documents)
    is_as_asked_once(findings, asked(other, reading, end), documents)
    again = asked(other, reading, end, concluded)
    assert not again.fresh and not again.gone and list(again) == list(findings)


@cache
def of_a_node(seed: int) -> list[Event]:
    """A node whose controllers restore all sets from memory."""
    random = Random(seed)
    node = Node(
        random.choice(list(Design)), ("ipvs-controller", "netpol-controller", "routing-controller", "istio-cni")
    )
    for _ in range(40):
        random.choice(
            [
                lambda: node.service(f"172.16.0.{random.randint(1, 3)}"),
                lambda: node.pod(f"10.244.0.{random.randint(1, 3)}"),
                lambda: node.probe(f"10.244.1.{random.randint(1, 3)}"),
                node.begin_policy,
                node.end_policy,
                node.restart_policy,
            ]
        )()
    return replay_lines(node.lines).events


@pytest.mark.parametrize("seed", range(12))
def test_of_ipsets_too_concluding_after_every_event_gives_what_concluding_once_gives(seed):
    random = Random(seed)
    follow(of_a_node(seed), random.choice([1, 4]), 0, random)


def test_the_nodes_have_faults_that_opened_and_healed():
    random = Random(1)
    found = set().union(*(follow(of_a_node(seed), 10, 0, random)[2] for seed in range(12)))
    assert {"NL107 healed", "NL109 healed"} <= found


@pytest.mark.parametrize("name", RECORDED)
def test_of_a_recording_too(name):
    follow(replayed(name).events, 7, 60 * SECOND, Random(name))


def test_what_did_not_change_is_not_concluded_again():
    """Nothing is asked of the log for findings that are over and known, however often it is concluded."""
    events = troubled(Random(4), 400)
    reading, concluded = Reading(), Concluded()
    for event in events:
        reading.apply(event)
    end = max(event.time for event in events)
    fetched: list[int] = []

    def event_at(at: int) -> Event:
        fetched.append(at)
        return events[at - 1]

    findings = reading.conclude(end, event_at, None, concluded)
    assert len(findings.over) > 20 and len(findings.fresh) == len(findings.over)
    shown(findings, {})
    at_first = len(fetched)
    fetched.clear()
    again = reading.conclude(end, event_at, None, concluded)
    assert list(again) == list(findings)
    assert not again.fresh and not again.gone
    assert len(fetched) < at_first / 4


@pytest.mark.parametrize("seed", range(8))
def test_where_an_event_cannot_be_read_nothing_is_left_out_the_next_time(seed):
    random = Random(seed)
    events = troubled(random, 150)
    reading, concluded = Reading(), Concluded()
    failed = 0
    for number, event in enumerate(events, 1):
        reading.apply(event)
        if number % 10:
            continue
        left = random.randint(0, 60)

        def event_at(at: int) -> Event:
            nonlocal left
            left -= 1
            if not left:
                raise OSError("the disk is away")
            return events[at - 1]

        try:
            reading.conclude(events[number - 1].time, event_at, None, concluded)
        except OSError:
            failed += 1
            if random.random() < 0.5:
                concluded = Concluded(concluded, number)
    assert failed
    end = events[-1].time
    assert list(asked(events, reading, end, concluded)) == list(asked(events, reading, end))


def test_what_is_kept_of_a_finding_is_small():
    findings: list[int] = []
    for seed in range(20):
        events = troubled(Random(seed), 200)
        reading, concluded = Reading(), Concluded()
        for event in events:
            reading.apply(event)
        findings += [len(entry.packed) for entry in asked(events, reading, events[-1].time, concluded).over]
    assert max(findings) < 1_500 and sum(findings) / len(findings) < 700
