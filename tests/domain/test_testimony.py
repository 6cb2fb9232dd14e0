"""What a controller says of itself moves nothing, but for what only it can tell: a command in the gateway's pod."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from domain.events import ACT_LOGGED, ERROR_LOGGED, RUN_FAILED, RUN_STARTED, RUNS, TESTIMONIES, Event
from domain.kinds import VOCABULARY
from domain.operations import TESTIFIED
from projections import eip_readiness
from tests.domain.stories import GATEWAY_POD, Story, gateway


def say(story: Story, path: str, testimony: str, verb: str = "handle", **more: Any) -> list[Event]:
    return story.tell(
        path, verb, TESTIFIED, by="kube-ovn-controller", testimony=testimony, agent="klog", code=0, **more
    )


def act(story: Story, path: str, line: str) -> list[Event]:
    return say(story, path, ACT_LOGGED, command=("bash", "/kube-ovn/nat-gateway.sh", *line.split()))


@pytest.mark.parametrize(("kind", "testimony"), [*product(VOCABULARY, sorted(TESTIMONIES))])
def test_testimony_moves_no_resource_of_any_kind(kind, testimony):
    story = Story()
    path = f"{kind}/{'web/' if kind == 'pod' else ''}one"
    say(story, path, testimony)
    story.then.recorded(f"{testimony} {path}")
    assert not story.world.live
    if kind == "ipset":  # a set is no object of an API server, and nobody creates it there
        return
    story.given.create(path)
    before = (story.live(path).state, dict(story.live(path).fields), story.live(path).last_at)
    say(story, path, testimony, reason="it is so")
    assert (story.live(path).state, story.live(path).fields, story.live(path).last_at) == before
    assert story.events[-1].reason == "it is so"
    story.then.silent()


def a_gateway(story: Story) -> None:
    gateway(story, configured=False)


def test_a_command_that_only_the_log_shows_makes_the_eip_ready():
    story = Story()
    a_gateway(story)
    act(story, "eip/out", "eip-add 192.168.100.11/24")
    story.then.recorded("ActLogged eip/out", f"GatewayCommandStarted {GATEWAY_POD}", "EIPConfigured eip/out")
    assert eip_readiness.readiness(story.world, story.live("eip/out"))[0] is True


def test_where_an_audit_log_shows_what_is_started_the_controllers_log_adds_nothing():
    story = Story()
    a_gateway(story)
    story.when.run(GATEWAY_POD, "init")
    act(story, "eip/out", "eip-add 192.168.100.11")
    story.then.recorded("ActLogged eip/out")


def test_an_audit_log_that_begins_later_takes_over():
    story = Story()
    a_gateway(story)
    act(story, "eip/out", "eip-add 192.168.100.11")
    story.when.run(GATEWAY_POD, "eip-del 192.168.100.11")
    act(story, "eip/out", "eip-add 192.168.100.11")
    story.then.recorded("ActLogged eip/out")


def test_a_command_on_what_nobody_knows_is_only_said():
    story = Story()
    act(story, "eip/unknown", "eip-add 192.168.100.99")
    story.then.recorded("ActLogged eip/unknown")


@pytest.mark.parametrize("kind", eip_readiness.OVN)
def test_of_what_ovn_has_only_the_controllers_log_can_tell(kind):
    story = Story()
    path = f"{kind}/one"
    story.given.create(path, held=True)

    def ready() -> bool | None:
        return eip_readiness.readiness(story.world, story.live(path))[0]

    story.given.status(path, {"ready": True})
    assert ready() is None
    say(story, path, RUN_STARTED)
    assert ready() is None, "it may still be at work"
    say(story, path, ERROR_LOGGED)
    say(story, path, RUN_FAILED)
    assert ready() is False
    say(story, path, RUN_STARTED)
    story.when.status(path, {"ready": True, "v4Ip": "10.0.0.1"})
    assert ready() is True


def test_only_runs_say_how_work_ended():
    assert RUNS < TESTIMONIES and ERROR_LOGGED not in RUNS
