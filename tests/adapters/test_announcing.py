"""Kubernetes Events stand on the resource that they are about, once each, also after faults, restarts and kills.

Against the stand-in for an API server, which holds an Event to what the real one's validation does.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters import announcing, app, outlets
from adapters.announcing import KubernetesEvents, event
from adapters.changes import OPENED, Change
from adapters.live import Live
from adapters.ports import StoreError
from projections.findings.rule import HEALED, OPEN, UNKNOWN
from tests.adapters.noting import Noting, finding
from tests.replaying import lines_of
from tests.servers.api_server import ApiServer

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("hurried_outlets")


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as api:
        yield api


@contextmanager
def telling(engine: Live, kubeconfig: str, **more: Any) -> Iterator[KubernetesEvents]:
    told = KubernetesEvents(engine, kubeconfig, **more)
    with outlets.running([told]):
        yield told


def until(question: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def caught_up(told: KubernetesEvents) -> bool:
    return told.state().connected and told.behind() == 0


def test_what_opens_and_heals_is_told_on_the_resource_itself(engine: Noting, api: ApiServer, tmp_path: Path):
    pod: dict[str, Any] = {"resource": {"kind": "pod", "namespace": "web"}}
    with telling(engine, api.kubeconfig(tmp_path)) as told:
        engine.finds(finding("shop"), finding("web-0", **pod), finding("unsure", UNKNOWN))
        until(lambda: len(api.written) == 2)
        engine.finds(finding("shop", HEALED), finding("web-0", UNKNOWN, **pod), finding("unsure", HEALED))
        until(lambda: len(api.written) == 4 and caught_up(told))
    told_of = {(one["regarding"]["name"], one["action"]): one for one in api.written.values()}
    opened = told_of["shop", "Opened"]
    assert (opened["type"], opened["reason"], opened["metadata"]["namespace"]) == ("Warning", "LostUpdate", "default")
    assert opened["regarding"] == {"apiVersion": "kubeovn.io/v1", "kind": "Vpc", "name": "shop", "uid": "uid-shop"}
    assert opened["note"] == (
        "lost-update of vpc/shop: A write on shop was lost. Its status is wrong. (netledger explain NL101)"
    )
    assert opened["reportingController"] == "netledger"
    healed = told_of["shop", "Healed"]
    assert (healed["type"], healed["note"]) == (
        "Normal",
        "healed: lost-update of vpc/shop, at 2026-07-23T01:30:00.250000Z by alice",
    )
    withdrawn = told_of["web-0", "Withdrawn"]
    assert withdrawn["type"] == "Normal" and withdrawn["note"].startswith("not certain any more")
    assert withdrawn["regarding"]["apiVersion"] == "v1" and withdrawn["metadata"]["namespace"] == "web"


def test_what_is_wrong_with_an_ipset_is_told_on_its_node():
    ipset = finding("KUBE-DST-ABC", resource={"kind": "ipset", "namespace": "worker-1", "uid": None})
    said = event(Change(1, 1_000_000, OPENED, ipset), "here")
    assert said["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": "worker-1", "uid": "worker-1"}
    assert said["metadata"]["namespace"] == "default" and said["metadata"]["name"].startswith("kube-dst-abc.")


def test_where_no_source_says_on_which_node_a_set_lies_there_is_nothing_to_tell_it_on(
    engine: Noting, api: ApiServer, tmp_path: Path
):
    with telling(engine, api.kubeconfig(tmp_path)) as told:
        engine.finds(finding("KUBE-DST-ABC", resource={"kind": "ipset", "uid": None}), finding())
        until(lambda: caught_up(told) and api.written)
    assert told.dropped == 1 and [one["regarding"]["name"] for one in api.written.values()] == ["shop"]


def test_a_note_is_no_longer_than_the_api_server_takes(api: ApiServer):
    said = event(Change(1, 1_000_000, OPENED, finding(explanation="ü" * 5_000)), "here")
    assert api.write("default", said) == (201, "Created")
    assert said["note"].endswith("… (netledger explain NL101)")


def test_after_a_restart_no_second_one_is_written(tmp_path: Path, api: ApiServer):
    path, kubeconfig = tmp_path / "changes", api.kubeconfig(tmp_path)
    engine = Noting(path)
    engine.finds(finding("a"), finding("b"))
    with telling(engine, kubeconfig) as told:
        until(lambda: len(api.written) == 2 and caught_up(told))
    with telling(Noting(path), kubeconfig) as told:
        until(lambda: caught_up(told))
    assert api.posts == 2
    # And where what was told got lost with its file, the names are the same.
    for one in tmp_path.glob("changes*"):
        one.unlink()
    engine = Noting(path)
    engine.finds(finding("a"), finding("b"))
    with telling(engine, kubeconfig) as told:
        until(lambda: api.posts == 4 and caught_up(told))
    assert len(api.written) == 2


@pytest.mark.parametrize("fault", [("status", 500), ("status", 429), ("cut", 0)])
def test_what_fails_is_told_again_and_is_there_once(
    engine: Noting, api: ApiServer, tmp_path: Path, fault: tuple[str, float]
):
    api.faults.extend([fault] * 3)
    with telling(engine, api.kubeconfig(tmp_path)) as told:
        engine.finds(finding())
        until(lambda: api.written and caught_up(told) and not api.faults)
        assert told.state().failures == 3
    assert len(api.written) == 1 and api.posts == 4


def test_killed_before_it_is_noted_it_is_written_once(tmp_path: Path, api: ApiServer):
    path, kubeconfig = tmp_path / "changes", api.kubeconfig(tmp_path)
    Noting(path).finds(finding())
    command = [sys.executable, "-m", "tests.adapters.alerting_child"]
    for what in ("killed", "killed", "well"):
        subprocess.run([*command, what, str(path), kubeconfig], cwd=ROOT, timeout=30)
    assert api.posts == 3 and len(api.written) == 1


def test_a_right_that_is_missing_is_named_and_waited_for(engine: Noting, api: ApiServer, tmp_path: Path):
    api.forbidden.add("events")
    with telling(engine, api.kubeconfig(tmp_path)) as told:
        engine.finds(finding())
        until(lambda: "grant create on events.events.k8s.io" in told.state().error)
        api.forbidden.clear()
        until(lambda: api.written)


def test_a_token_that_expired_is_read_again_where_the_kubeconfig_says(engine: Noting, api: ApiServer, tmp_path: Path):
    kubeconfig = api.kubeconfig(tmp_path)
    api.token = "renewed"
    with telling(engine, kubeconfig) as told:
        engine.finds(finding())
        until(lambda: "401" in told.state().error)
        api.kubeconfig(tmp_path)
        until(lambda: api.written)


def test_of_a_namespace_that_is_gone_nobody_is_told_and_the_others_are(engine: Noting, api: ApiServer, tmp_path: Path):
    api.gone.add("web")
    with telling(engine, api.kubeconfig(tmp_path)) as told:
        engine.finds(finding("a", resource={"kind": "pod", "namespace": "web"}), finding("b"))
        until(lambda: caught_up(told) and api.written)
        assert told.dropped == 1
    assert [one["regarding"]["name"] for one in api.written.values()] == ["b"]


def test_they_come_at_a_bounded_rate_and_none_is_lost(
    engine: Noting, api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcing, "BURST", 5)
    began = time.monotonic()
    with telling(engine, api.kubeconfig(tmp_path), rate=50.0) as told:
        engine.finds(*(finding(f"v{number}") for number in range(30)))
        until(lambda: caught_up(told) and len(api.written) == 30)
    assert time.monotonic() - began >= 0.5


def test_told_by_a_real_engine_every_open_finding_has_its_event(api: ApiServer, tmp_path: Path):
    path = tmp_path / "live.ledger"
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=0.05)
        engine.start()
        with telling(engine, api.kubeconfig(tmp_path)) as told:
            engine.intake.inlet("webhook", "audit.k8s.io").take(list(lines_of("s0-buggy")))
            assert engine.stop(60)
            found = [one for one in engine.findings()["findings"] if one["status"] == OPEN]
            assert found
            until(lambda: caught_up(told) and told.sent >= len(found))
    regarding = {(one["regarding"]["kind"], one["regarding"]["name"]) for one in api.written.values()}
    assert regarding == {("Vpc", "vpc-shop")}


def test_without_a_usable_configuration_it_says_so_at_once(engine: Noting, tmp_path: Path):
    with pytest.raises(StoreError, match="cannot be used"):
        KubernetesEvents(engine, str(tmp_path / "none"))
