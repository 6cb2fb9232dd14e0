"""The regression ladder of kube-router's ipsets: five designs, each right for the one before and wrong for a new party.

Each step's own interleaving gives its own verdict, and in no interleaving of any of them does the projection that holds
each owner's members apart forget a member or keep one that its owner took out.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.findings.rule import HEALED, OPEN
from tests.projections.kube_router import LOCAL, PODS, PODS6, PORTS, PROBES, SVIP, WINDOW, Design, Node
from tests.replaying import LONG_SEARCH, Replayed, explained, replay

EXAMPLES = 3_000 if LONG_SEARCH else 80
STEPS = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ladder")


def replayed(node: Node, folder: Path) -> Replayed:
    path = folder / "ipset.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in node.lines))
    return replay(path)


def verdict(run: Replayed) -> list[str]:
    return sorted(f"{finding.status} {finding.name} {finding.key.name}" for finding in run.findings)


def lawful(run: Replayed) -> dict[str, list[str] | None]:
    reading = run.judged.reading
    return {r.key.name: reading.standing(r).lawful["members"] for r in reading.resources() if r.key.kind == "ipset"}


def lose_a_service(node: Node) -> None:
    """The interleaving of the incident: an external IP is added, then a pod is scheduled."""
    node.service("203.0.113.10")
    node.pod("10.244.1.12")


def write_in_the_window(node: Node) -> None:
    """Istio adds a pod's address while the policy controller is between its save and its restore."""
    node.begin_policy()
    node.probe("10.244.1.77")
    node.end_policy()


@pytest.mark.parametrize("design", Design)
def test_only_a_stale_map_loses_the_services_of_the_proxy(design, folder):
    node = Node(design)
    lose_a_service(node)
    expected = [f"open ipset-lost-member {name}" for name in (SVIP, PORTS)] if design is Design.STALE_MAP else []
    assert verdict(replayed(node, folder)) == expected


@pytest.mark.parametrize("design", Design)
def test_only_who_restores_every_set_loses_what_another_program_adds_meanwhile(design, folder):
    node = Node(design)
    write_in_the_window(node)
    lost = design in (*WINDOW, Design.STALE_MAP)
    assert verdict(replayed(node, folder)) == ([f"open ipset-lost-member {PROBES}"] if lost else [])


def test_what_another_program_lost_is_named_with_the_memory_that_overwrote_it(folder):
    node = Node(Design.SAVE_ALL)
    write_in_the_window(node)
    (finding,) = replayed(node, folder).findings
    assert finding.known and "istio-cni" in finding.explanation and "10.244.1.77" in finding.explanation
    assert finding.lawful == ["10.244.1.77", "10.244.1.9"] and finding.reported == ["10.244.1.9"]
    assert [step.run for step in finding.repair] == [
        f"ipset -q test {PROBES} 10.244.1.77 || ipset add {PROBES} 10.244.1.77 timeout 0"
    ]


def test_sets_that_were_left_out_are_written_by_nobody_and_so_lost_by_nobody(folder):
    """2.6.1: what the owner wrote is what is there. That it should have written more only API objects can tell."""
    node = Node(Design.NAMED)
    lose_a_service(node)
    write_in_the_window(node)
    run = replayed(node, folder)
    assert verdict(run) == []
    assert lawful(run)[LOCAL] == lawful(run)[PODS6] == [] and lawful(run)[PODS] == ["10.244.1.12"]


def test_a_stale_map_brings_back_what_the_proxy_took_out(folder):
    node = Node(Design.STALE_MAP)
    node.service("203.0.113.10")
    node.restart_policy()
    node.service("203.0.113.10")  # it goes, and the map still has it
    node.pod("10.244.1.12")
    run = replayed(node, folder)
    assert verdict(run) == [f"open ipset-stale-member {name}" for name in (SVIP, PORTS)]
    assert all(finding.known and "203.0.113.10" in finding.explanation for finding in run.findings)
    node.sync_proxy()
    assert verdict(replayed(node, folder)) == [f"healed ipset-stale-member {name}" for name in (SVIP, PORTS)]


def test_a_lost_service_heals_with_the_proxys_next_sync(folder):
    node = Node(Design.STALE_MAP)
    lose_a_service(node)
    node.sync_proxy()
    assert verdict(replayed(node, folder)) == [f"healed ipset-lost-member {name}" for name in (SVIP, PORTS)]


STEP = st.one_of(
    st.tuples(st.just("service"), st.sampled_from(["203.0.113.1", "203.0.113.2", "203.0.113.3"])),
    st.tuples(st.just("pod"), st.sampled_from(["10.244.1.1", "10.244.1.2"])),
    st.tuples(st.just("probe"), st.sampled_from(["10.244.1.1", "10.244.1.2"])),
    st.tuples(st.just("node_address"), st.sampled_from(["10.0.0.2", "10.0.0.3"])),
    st.tuples(st.sampled_from(["begin_policy", "end_policy", "sync_proxy", "restart_policy"]), st.just("")),
)


def play(node: Node, steps: list[tuple[str, str]]) -> None:
    """Do the steps that the mutex allows: the controllers of kube-router wait for each other, nobody else waits."""
    for name, argument in steps:
        if node.syncing and name in ("service", "sync_proxy", "pod", "begin_policy", "node_address"):
            if node.design in WINDOW:
                continue
            node.end_policy()
        if name == "end_policy" and not node.syncing:
            continue
        getattr(node, name)(*([argument] if argument else []))


@pytest.mark.parametrize("actors", [("ipvs", "netpol", "routes", "istio-cni"), ("w-1", "w-2", "w-3", "w-4")])
@settings(max_examples=EXAMPLES, deadline=None)
@given(design=st.sampled_from(Design), steps=st.lists(STEP, max_size=STEPS))
def test_in_no_interleaving_does_the_projection_lose_or_keep_a_member_against_its_owner(folder, actors, design, steps):
    node = Node(design, actors)
    play(node, steps)
    run = replayed(node, folder)
    assert lawful(run) == {name: sorted(members) for name, members in node.wanted.items()}
    opened = {(f.name, f.key.name) for f in run.findings if f.status == OPEN}
    assert opened == {("ipset-lost-member", name) for name in node.missing} | {
        ("ipset-stale-member", name) for name in node.surplus
    }, explained(run.findings)
    assert all(finding.status in (OPEN, HEALED) for finding in run.findings)
    assert not run.judged.reading.gaps
