"""A controller's clock is compared with the API server's by the commands that both logs show."""

import pytest

from domain.events import ACT_LOGGED
from domain.operations import TESTIFIED
from projections.clocks import Ahead
from tests.domain.stories import GATEWAY_POD, SECOND, Story, gateway


def run(story: Story, line: str, ahead: float) -> None:
    """A command that the controller logs by its own clock, and the audit log by the API server's."""
    story.when.run(GATEWAY_POD, line)
    words = ("bash", "/kube-ovn/nat-gateway.sh", *line.split())
    story.tell(
        "eip/out",
        "bash",
        TESTIFIED,
        by="kube-ovn-controller",
        testimony=ACT_LOGGED,
        command=words,
        reason=" ".join(words),
        request=f"klog:{line}",
        time=story.events[-1].received + int(ahead * SECOND),
    )


@pytest.mark.parametrize("ahead", [-42.0, -0.6, 3.2])
def test_the_difference_is_the_median_over_the_commands(ahead):
    story = Story()
    gateway(story, configured=False)
    for number, jitter in enumerate((0.0, 0.004, 30.0)):
        run(story, f"eip-add 192.168.100.{number}/24", ahead + jitter)
    (found,) = story.reading.clocks.ahead()
    assert found == Ahead("klog:eip-add 192.168.100.0/24/ResponseComplete", int((ahead + 0.004) * SECOND), 3)


def test_what_a_request_takes_to_arrive_is_no_skew():
    story = Story()
    gateway(story, configured=False)
    run(story, "eip-add 192.168.100.1/24", -0.02)
    assert list(story.reading.clocks.ahead()) == []


def test_the_same_command_given_again_an_hour_later_is_another():
    story = Story()
    gateway(story, configured=False)
    run(story, "eip-add 192.168.100.1/24", 3600.0)
    assert list(story.reading.clocks.ahead()) == []


def test_what_only_one_log_shows_tells_nothing():
    story = Story()
    gateway(story)
    assert list(story.reading.clocks.ahead()) == []
