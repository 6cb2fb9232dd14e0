"""NL106: ready, and nothing configured it in the gateway's pod of today."""

import pytest

from tests.domain.stories import (
    CONTROLLER,
    GATEWAY_LABELS,
    GATEWAY_POD,
    HOUR,
    KUBELET,
    STEP,
    Story,
    gateway,
    replace_gateway_pod,
)

ADDRESS = "192.168.100.11"


def unready(story: Story, after: float = HOUR) -> list[str]:
    return [f"{f.status} {f.key}" for f in story.findings(after) if f.name == "ready-without-configuration"]


def another_exec(story: Story) -> None:
    """Some other exec in the pod, so that execs are known to be recorded for it."""
    story.run(GATEWAY_POD, "eip-add 192.168.100.99/24")


def falsely_ready(story: Story) -> None:
    """The incident: a new pod, `ready` goes false, and comes back without `eip-add` in that pod."""
    gateway(story)
    replace_gateway_pod(story.when)
    another_exec(story.when)
    story.when.status("eip/out", {"ready": False})
    story.when.status("eip/out", {"ready": True})


# ---- it fires


def test_a_write_that_makes_ready_true_without_configuration_is_open_at_once():
    story = Story()
    falsely_ready(story)
    assert unready(story, 0) == ["open eip/out"]
    finding = story.finding("ready-without-configuration")
    assert (finding.field, finding.severity) == ("status.ready", "error")
    assert (finding.reported, finding.lawful) == (True, False)
    assert "no evidence that eip-add 192.168.100.11" in finding.explanation
    told = story.witnessed(finding)
    assert "overwriting EIPStatusReported eip/out" in told and "lost EIPStatusReported eip/out" in told
    assert f"cause PodCreated {GATEWAY_POD}" in told and f"cause PodRemoved {GATEWAY_POD}" in told


def test_the_first_ready_of_an_eip_counts_as_well():
    story = Story()
    gateway(story, configured=False)
    another_exec(story.given)
    story.when.status("eip/out", {"ready": True})
    assert unready(story, 0) == ["open eip/out"]


def test_a_rule_needs_its_own_verb():
    story = Story()
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.when.status("fip/f", {"ready": True})
    assert unready(story, 0) == ["open fip/f"]
    assert "floating-ip-add 192.168.100.11,10.0.0.9" in story.finding("ready-without-configuration").explanation


@pytest.mark.parametrize(
    ("path", "fields", "add", "unserved"),
    [
        (
            "snat/s",
            {"spec.internalCIDR": "10.0.0.0/24"},
            "snat-add 192.168.100.11,10.0.0.0/24",
            "Traffic from 10.0.0.0/24 does not leave by 192.168.100.11",
        ),
        (
            "dnat/d",
            {
                "spec.externalPort": "8080",
                "spec.protocol": "tcp",
                "spec.internalIp": "10.0.0.9",
                "spec.internalPort": "80",
            },
            "dnat-add 192.168.100.11,8080,tcp,10.0.0.9,80",
            "Traffic to 192.168.100.11 is not answered",
        ),
    ],
)
def test_snat_and_dnat_need_their_own_verbs_too(path, fields, add, unserved):
    story = Story()
    gateway(story)
    story.given.create(path, {"spec.eip": "out", **fields})
    story.when.status(path, {"ready": True})
    assert unready(story, 0) == [f"open {path}"]
    finding = story.finding("ready-without-configuration")
    assert f"no evidence that {add}" in finding.explanation and unserved in finding.consequence
    assert "iptables-save -t nat" in finding.repair[0].run
    story.when.run(GATEWAY_POD, add)
    assert unready(story) == [f"healed {path}"]


def test_a_snat_left_ready_over_a_new_pod_is_pending_and_heals_when_it_is_let_out_again():
    story = Story()
    gateway(story)
    story.given.create("snat/s", {"spec.eip": "out", "spec.internalCIDR": "10.0.0.0/24"})
    story.given.run(GATEWAY_POD, "snat-add 192.168.100.11,10.0.0.0/24,--random-fully")
    story.given.status("snat/s", {"ready": True})
    replace_gateway_pod(story.when)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    assert unready(story, 1) == ["pending snat/s"]
    assert unready(story, HOUR) == ["open snat/s"]
    story.when.run(GATEWAY_POD, "snat-add 192.168.100.11,10.0.0.0/24,--random-fully")
    story.then.silent()


@pytest.mark.parametrize("path", ["oeip/out", "ofip/r", "osnat/r", "odnat/r"])
def test_what_ovn_programs_is_never_found(path):
    story = Story()
    gateway(story)
    story.given.create(path, {"spec.ovnEip": "out", "spec.v4Ip": "192.168.100.12", "spec.natGwDp": "gw"})
    story.when.status(path, {"ready": False})
    story.when.status(path, {"ready": True})
    story.then.silent()


def test_a_dnat_that_shares_its_port_is_never_found():
    story = Story()
    gateway(story)
    shared = {
        "spec.externalPort": "80",
        "spec.protocol": "tcp",
        "spec.internalIp": "10.0.0.9",
        "spec.internalPort": "80",
    }
    story.given.create("dnat/d", {"spec.eip": "out", "spec.type": "share", **shared})
    story.when.status("dnat/d", {"ready": True})
    replace_gateway_pod(story.when)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.then.silent()


def test_the_address_of_another_eip_is_no_configuration_of_this_one():
    story = Story()
    gateway(story)
    story.given.create("eip/two", {"spec.natGwDp": "gw", "spec.v4ip": "192.168.100.12"})
    story.when.status("eip/two", {"ready": True})
    assert unready(story, 0) == ["open eip/two"]


def test_eip_del_takes_the_configuration_away():
    story = Story()
    gateway(story)
    story.given.status("eip/out", {"ready": False})
    story.given.run(GATEWAY_POD, "eip-del 192.168.100.11/24")
    story.when.status("eip/out", {"ready": True})
    assert unready(story, 0) == ["open eip/out"]


def test_a_ready_left_over_from_the_pod_before_is_pending_and_then_open():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    another_exec(story.when)
    assert unready(story, 1) == ["pending eip/out"]
    assert unready(story, HOUR) == ["open eip/out"]
    assert "leftover EIPGatewayPodReplaced eip/out" in story.witnessed(
        story.finding("ready-without-configuration", HOUR)
    )


def test_a_left_over_ready_has_upstreams_three_seconds_more():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    another_exec(story.when)
    elapsed = STEP / 1_000_000  # the exec came one step after the pod
    assert unready(story, 33 - elapsed) == ["pending eip/out"]
    assert unready(story, 33.1 - elapsed) == ["open eip/out"]


def test_what_was_wrong_before_yet_another_pod_came_stays_the_same_finding():
    story = Story()
    falsely_ready(story)
    before = story.finding("ready-without-configuration")
    replace_gateway_pod(story.when)
    another_exec(story.when)
    assert unready(story, 0) == ["open eip/out"]
    after = story.finding("ready-without-configuration")
    assert (after.id, after.since) == (before.id, before.since)


# ---- it heals


def test_configuring_it_after_all_heals_it():
    story = Story()
    falsely_ready(story)
    story.when.wait(60)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    assert unready(story) == ["healed eip/out"]
    finding = story.finding("ready-without-configuration")
    assert story.witnessed(finding)[-1] == "healing EIPConfigured eip/out"
    assert finding.repair == []


def test_saying_that_it_is_not_ready_heals_it():
    story = Story()
    falsely_ready(story)
    story.when.status("eip/out", {"ready": False}, by="alice")
    assert unready(story) == ["healed eip/out"]


def test_its_deletion_heals_it():
    story = Story()
    falsely_ready(story)
    story.when.delete("eip/out")
    assert unready(story) == ["healed eip/out"]


def test_a_left_over_ready_that_was_done_again_in_time_is_nothing():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    story.when.wait(1)
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.then.silent()


# ---- it stays silent


def test_ready_after_eip_add_in_the_pod_of_today():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    story.when.status("eip/out", {"ready": False})
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    story.when.status("eip/out", {"ready": True})
    story.then.silent()


def test_no_exec_recorded_for_that_pod_at_all_is_unknown():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    story.when.status("eip/out", {"ready": False})
    story.when.status("eip/out", {"ready": True})
    story.then.silent()


def test_a_pod_older_than_the_log_is_unknown():
    story = Story()
    story.given.exists(GATEWAY_POD, GATEWAY_LABELS)
    story.given.write(GATEWAY_POD, {"metadata.annotations[a]": "b"})
    story.given.create("eip/out", {"spec.natGwDp": "gw", "spec.v4ip": ADDRESS})
    another_exec(story.given)
    story.when.status("eip/out", {"ready": True})
    story.then.silent()


def test_an_eip_whose_gateway_has_no_known_pod_is_unknown():
    story = Story()
    story.given.create("eip/out", {"spec.natGwDp": "gw", "spec.v4ip": ADDRESS})
    story.when.status("eip/out", {"ready": True})
    story.then.silent()


def test_an_exec_that_overlaps_the_write_is_nothing():
    story = Story()
    gateway(story, configured=False)
    another_exec(story.given)
    story.when.status("eip/out", {"ready": True})
    asked = story.now - STEP // 2  # the exec was asked for before the status was answered
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24", received=asked)
    story.then.silent()


def test_an_exec_that_was_asked_for_after_the_write_was_late():
    story = Story()
    gateway(story, configured=False)
    another_exec(story.given)
    story.when.status("eip/out", {"ready": True})
    story.when.run(GATEWAY_POD, "eip-add 192.168.100.11/24")
    assert unready(story) == ["healed eip/out"]


def test_an_object_in_deletion_does_not_count():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    another_exec(story.when)
    story.given.delete("eip/out")
    story.when.status("eip/out", {"ready": False})
    story.when.status("eip/out", {"ready": True})
    assert unready(story) == []


def test_an_eip_first_heard_of_when_it_was_ready_is_unknown():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    another_exec(story.given)
    story.given.exists("eip/out", {"spec.natGwDp": "gw", "spec.v4ip": ADDRESS, "status.ready": True})
    story.when.write("eip/out", {"metadata.labels[a]": "b"})
    story.then.silent()


def test_an_exec_in_the_pod_before_does_not_count_for_the_pod_of_today():
    story = Story()
    gateway(story)
    story.given.delete(GATEWAY_POD)
    story.given.delete(GATEWAY_POD, by=KUBELET)
    story.given.create(GATEWAY_POD, GATEWAY_LABELS)
    another_exec(story.given)
    story.when.status("eip/out", {"ready": False})
    story.when.status("eip/out", {"ready": True}, by=CONTROLLER)
    assert unready(story, 0) == ["open eip/out"]
