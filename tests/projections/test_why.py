"""Why a resource is as it is: the chain leads from what was asked about to the root, and nothing in it is guessed."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.kinds import HOLDERS
from domain.operations import FINALIZERS
from projections.why.answer import why
from projections.why.chain import AWAY, BLOCKED, FREE, UNCLEAR, VERDICTS, WAITING, Answer
from tests.domain.stories import (
    CONTROLLER,
    GATEWAY_POD,
    HOUR,
    KUBELET,
    SECOND,
    Story,
    gateway,
    key_of,
    replace_gateway_pod,
)
from tests.projections.test_leaked_ip import IP, allocated, pod_goes
from tests.projections.test_lost_update import ROUTER, put_back, subnet_goes, vpc_with
from tests.projections.test_namespace_not_bound import bound, default_subnet, orphan
from tests.projections.test_ready_without_configuration import another_exec, falsely_ready


def asked(story: Story, path: str, after: float = 0.0, member: str = "") -> Answer:
    """The answer when the log ends `after` seconds from now."""
    end = story.now + int(after * SECOND)
    answer = why(story.reading, story.findings(after), end, lambda at: story.events[at - 1], key_of(path), member)
    print(f"{answer.verdict}: {answer.says}", *told(story, answer), sep="\n    ")
    return answer


def told(story: Story, answer: Answer) -> list[str]:
    """The chain as `VPCDeletionRequested vpc/shop`, or `absent …`."""
    return [
        f"absent {link.absent}" if link.absent else text
        for link in answer.chain
        for text in ([""] if link.absent else story.recorded_of([story.events[link.at - 1]]))
    ]


# ---- deletion


def test_a_vpc_that_waits_for_a_ghost_leads_to_the_write_that_put_it_back():
    story = Story()
    put_back(story)
    story.when.delete("vpc/shop")
    answer = asked(story, "vpc/shop")
    assert answer.verdict == BLOCKED and "lists b" in answer.says
    assert told(story, answer) == [
        "VPCDeletionRequested vpc/shop",
        "refused SubnetRemoved subnet/b" if story.refusals() else "SubnetRemoved subnet/b",
        "VPCStatusReported vpc/shop",
    ]
    assert answer.root is not None and "kube-router wrote status.subnets" in answer.root.says
    assert "older than the write of" in answer.root.says
    assert answer.finding is not None and answer.finding.startswith("lost-update/vpc/shop")
    assert answer.repair


def test_what_waits_for_a_living_holder_leads_to_the_one_that_nobody_deleted():
    story = Story()
    vpc_with(story, "a")
    story.given.create("pod/shop/web")
    story.given.create("ip/web.shop", IP, by=CONTROLLER, held=True)
    story.when.delete("vpc/shop")
    story.when.delete("subnet/a")
    answer = asked(story, "vpc/shop", HOUR)
    assert answer.verdict == WAITING and "waits for subnet/a" in answer.says
    assert told(story, answer) == [
        "VPCDeletionRequested vpc/shop",
        "SubnetDeletionRequested subnet/a",
        "absent the deletion of ip/web.shop",
        "PodCreated pod/shop/web",
    ]


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_its_controller_never_released_ends_in_the_absence_of_that(kind):
    story = Story()
    story.given.create(f"{kind}/x", held=True)
    story.when.delete(f"{kind}/x")
    for after, verdict in ((1, WAITING), (60, BLOCKED)):
        answer = asked(story, f"{kind}/x", after)
        assert (answer.verdict, told(story, answer)[1:]) == (verdict, [f"absent the removal of {kind}/x's finalizer"])
    assert "1 min" in answer.chain[-1].says or "60.0 s" in answer.chain[-1].says


def test_the_last_holder_that_went_is_a_step_on_the_way():
    story = Story()
    story.given.create("subnet/a", held=True)
    story.given.create("ip/x", {"spec.subnet": "a"}, by=CONTROLLER)
    story.given.delete("subnet/a")
    story.when.wait(5)
    story.when.delete("ip/x", by=CONTROLLER)
    assert told(story, asked(story, "subnet/a", HOUR)) == [
        "SubnetDeletionRequested subnet/a",
        "IPReleased ip/x",
        "absent the removal of subnet/a's finalizer",
    ]


def test_a_subnet_that_holds_a_leak_leads_through_it():
    story = Story()
    allocated(story)
    story.given.delete("subnet/a")
    pod_goes(story.when)
    answer = asked(story, "subnet/a", HOUR)
    assert answer.verdict == BLOCKED
    assert told(story, answer)[0] == "SubnetDeletionRequested subnet/a"
    assert told(story, answer)[-1] == "absent the release of ip/web.shop"


def test_of_several_holders_what_is_wrong_is_told_before_what_only_waits():
    story = Story()
    allocated(story)
    story.given.create("pod/shop/a-other")
    story.given.create("ip/a-other.shop", {**IP, "spec.podName": "a-other"}, by=CONTROLLER)
    story.given.delete("subnet/a")
    pod_goes(story.when)
    answer = asked(story, "subnet/a", HOUR)
    assert answer.verdict == BLOCKED and "ip/web.shop" in told(story, answer)[-1]


def test_a_finalizer_of_somebody_else_is_named():
    story = Story()
    story.given.create("vpc/x", {FINALIZERS: ["example.org/backup"]})
    story.when.delete("vpc/x")
    answer = asked(story, "vpc/x", HOUR)
    assert answer.verdict == BLOCKED and "example.org/backup is not Kube-OVN's" in answer.says
    assert told(story, answer)[-1] == "absent the removal of vpc/x"


def test_what_an_object_older_than_the_log_waits_for_is_unknown():
    story = Story()
    story.given.exists("subnet/x", {"status.v4usingIPs": 3}, held=True)
    story.when.delete("subnet/x")
    answer = asked(story, "subnet/x", HOUR)
    assert answer.verdict == UNCLEAR and "older than this log" in answer.says and answer.finding is None


def test_a_namespace_in_deletion_leads_to_what_is_left_in_it():
    story = Story()
    story.given.create("namespace/shop")
    story.given.create("pod/shop/web")
    story.when.delete("namespace/shop")
    story.when.delete("pod/shop/web")
    answer = asked(story, "namespace/shop", HOUR)
    assert answer.verdict == WAITING
    assert told(story, answer) == [
        "NamespaceDeletionRequested namespace/shop",
        "PodDeletionRequested pod/shop/web",
        "absent the removal of pod/shop/web",
    ]


def test_what_is_gone_says_since_when_and_by_whom():
    story = Story()
    vpc_with(story, "a")
    subnet_goes(story, "a")
    answer = asked(story, "subnet/a")
    assert answer.verdict == AWAY and "is gone since" in answer.says and "kube-system:ovn" in answer.says
    assert told(story, answer) == ["SubnetRemoved subnet/a"]


# ---- claims


def test_a_claim_that_was_overwritten_leads_to_that_write_and_its_basis():
    story = Story()
    put_back(story)
    answer = asked(story, "vpc/shop")
    assert answer.verdict == BLOCKED and "lists b, which should not be in it" in answer.says
    assert [story.events[link.at - 1].actor for link in answer.chain] == [CONTROLLER, ROUTER]
    assert answer.root is not None and "inferred" in answer.root.says and len(answer.root.also) >= 2


def test_what_was_put_right_is_in_nobodys_way():
    story = Story()
    put_back(story)
    story.when.status("vpc/shop", {"subnets": ["a"]}, by="alice")
    answer = asked(story, "vpc/shop", HOUR)
    assert answer.verdict == FREE and "put right by alice" in answer.says and answer.root is None


# ---- addresses


def test_a_leaked_address_leads_to_the_end_of_its_subnet():
    story = Story()
    allocated(story)
    pod_goes(story.when)
    story.when.remove("subnet/a", by="alice")
    answer = asked(story, "ip/web.shop", HOUR)
    assert answer.verdict == BLOCKED
    assert told(story, answer) == [
        "IPAllocated ip/web.shop",
        "PodRemoved pod/shop/web",
        "absent the release of ip/web.shop",
        "refused SubnetRemoved subnet/a",
    ]
    assert answer.finding is not None and answer.finding.startswith("leaked-ip/ip/web.shop")


def test_an_address_of_a_living_pod_is_held_by_it():
    story = Story()
    allocated(story)
    answer = asked(story, "ip/web.shop", HOUR)
    assert answer.verdict == FREE and told(story, answer) == ["PodCreated pod/shop/web"]


# ---- namespaces and pods


def test_a_namespace_that_nobody_annotates_leads_to_the_removal_of_an_orphans_vpc():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    orphan(story)
    story.when.create("namespace/shop")
    answer = asked(story, "namespace/shop", HOUR)
    assert answer.verdict == BLOCKED
    chain = told(story, answer)
    assert chain[0] == "NamespaceCreated namespace/shop"
    assert chain[1] == "absent network annotations of namespace/shop"
    assert chain[-1] == "refused VPCRemoved vpc/gone"
    assert answer.finding is not None and answer.finding.startswith("orphaned-subnet/subnet/orphan")
    assert any("kubectl delete subnets.kubeovn.io orphan" in step.run for step in answer.repair)


def test_a_pod_without_an_address_leads_through_its_namespace():
    story = Story()
    default_subnet(story)
    bound(story, "one")
    orphan(story)
    story.when.create("namespace/shop")
    story.when.create("pod/shop/web")
    answer = asked(story, "pod/shop/web", HOUR)
    assert answer.verdict == BLOCKED
    assert told(story, answer)[:2] == ["PodCreated pod/shop/web", "NamespaceCreated namespace/shop"]
    assert told(story, answer)[-1] == "refused VPCRemoved vpc/gone"


def test_whether_a_pod_should_have_an_address_is_unknown_where_no_controller_gives_any():
    story = Story()
    story.when.create("pod/shop/web")
    assert asked(story, "pod/shop/web", HOUR).verdict == UNCLEAR
    story.when.create("pod/shop/db")
    story.when.write("pod/shop/db", {"metadata.annotations[ovn.kubernetes.io/allocated]": "true"})
    answer = asked(story, "pod/shop/web", HOUR)
    assert (answer.verdict, told(story, answer)[-1]) == (WAITING, "absent the network annotation of pod/shop/web")
    assert asked(story, "pod/shop/db", HOUR).verdict == FREE


def test_an_orphan_leads_to_the_removal_of_its_vpc():
    story = Story()
    orphan(story)
    answer = asked(story, "subnet/orphan")
    assert answer.verdict == BLOCKED and told(story, answer)[-1] == "refused VPCRemoved vpc/gone"


def test_a_namespace_that_no_subnet_serves_gets_no_network():
    story = Story()
    story.when.create("namespace/shop")
    answer = asked(story, "namespace/shop", HOUR)
    assert answer.verdict == FREE and "no subnet in this log serves it" in answer.says


# ---- readiness


def test_an_eip_that_says_ready_leads_from_the_new_pod_to_the_claim_that_nothing_backs():
    story = Story()
    falsely_ready(story)
    answer = asked(story, "eip/out")
    assert answer.verdict == BLOCKED
    assert told(story, answer) == [
        f"PodCreated {GATEWAY_POD}",
        f"absent eip-add 192.168.100.11 in {GATEWAY_POD}",
        "EIPStatusReported eip/out",
    ]
    assert answer.root is not None and story.events[answer.root.at - 1].changed["status.ready"] == (False, True)


def test_a_ready_left_over_from_the_pod_before_ends_in_that_nobody_took_it_back():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    another_exec(story.when)
    answer = asked(story, "eip/out", HOUR)
    assert answer.verdict == BLOCKED and told(story, answer)[-1] == "absent status.ready false of eip/out"


def test_an_eip_that_is_not_ready_leads_to_what_never_ran_in_the_new_pod():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    another_exec(story.when)
    story.when.status("eip/out", {"ready": False})
    for after, verdict in ((0.5, WAITING), (HOUR, BLOCKED)):
        answer = asked(story, "eip/out", after)
        assert (answer.verdict, told(story, answer)) == (
            verdict,
            [f"PodCreated {GATEWAY_POD}", f"absent eip-add 192.168.100.11 in {GATEWAY_POD}"],
        )


def test_a_rule_on_an_eip_that_is_not_ready_leads_through_it():
    story = Story()
    falsely_ready(story)
    story.when.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    answer = asked(story, "fip/f", HOUR)
    assert answer.verdict == BLOCKED and told(story, answer)[0] == "FIPCreated fip/f"
    assert told(story, answer)[-1] == "EIPStatusReported eip/out"


def test_a_ready_eip_says_what_configured_it():
    story = Story()
    gateway(story)
    answer = asked(story, "eip/out", HOUR)
    assert answer.verdict == FREE and told(story, answer) == [f"GatewayCommandStarted {GATEWAY_POD}"]


def test_where_no_exec_is_recorded_readiness_is_unknown():
    story = Story()
    gateway(story)
    replace_gateway_pod(story.when)
    answer = asked(story, "eip/out", HOUR)
    assert answer.verdict == UNCLEAR and "no exec at all is recorded" in answer.says


def test_what_ovn_does_is_unknown():
    story = Story()
    story.given.create("oeip/x", {"spec.v4Ip": "10.0.0.1"})
    assert asked(story, "oeip/x", HOUR).verdict == UNCLEAR


# ---- not knowing


def test_what_a_write_without_bodies_blurred_is_unknown():
    story = Story()
    story.given.create("vpc/x")
    story.when.blur("vpc/x")
    answer = asked(story, "vpc/x", HOUR)
    assert answer.verdict == UNCLEAR and "recorded without its content" in answer.says


def test_a_lost_record_about_it_makes_the_answer_unknown():
    story = Story()
    story.given.create("vpc/x")
    story.when.unseen("vpc/x", {"spec.namespaces": ["shop"]})
    story.when.write("vpc/x", {"spec.bfd": True}, read_revision=story.revision)
    answer = asked(story, "vpc/x", HOUR)
    assert answer.verdict == UNCLEAR and "a record about it must be missing" in answer.says


def test_what_was_never_heard_of_is_not_there():
    assert asked(Story(), "vpc/never").verdict == AWAY


def test_a_finding_that_no_rule_explains_is_told_as_it_is():
    story = Story()
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.when.create("dnat/d", {"spec.eip": "out", "spec.internalIp": "10.0.0.9", "spec.externalPort": "80"})
    answer = asked(story, "dnat/d")
    assert answer.verdict == BLOCKED and answer.finding is not None and answer.finding.startswith("illegal-transition")
    assert told(story, answer) == ["refused DNATCreated dnat/d"]


def test_what_went_against_the_table_says_what_forbade_it():
    story = Story()
    story.given.create("nat-gateway/gw")
    story.given.create("eip/x", {"spec.natGwDp": "gw"})
    story.when.remove("nat-gateway/gw", by="alice")
    answer = asked(story, "nat-gateway/gw")
    assert answer.verdict == AWAY and "That was not allowed: EIP x still uses it." in answer.says


# ---- any history

PATHS = ("vpc/a", "subnet/a", "subnet/b", "ip/x", "pod/n/p", "namespace/n", "eip/e", "fip/f", "nat-gateway/g")
FIELDS: dict[str, dict[str, Any]] = {
    "subnet/a": {"spec.vpc": "a"},
    "subnet/b": {"spec.vpc": "a", "spec.default": True},
    "ip/x": {"spec.subnet": "a", "spec.namespace": "n", "spec.podName": "p"},
    "eip/e": {"spec.natGwDp": "g", "spec.externalSubnet": "b", "spec.v4ip": "10.9.9.9"},
    "fip/f": {"spec.eip": "e", "spec.internalIp": "10.0.0.9"},
}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(("make", "delete", "release", "blur")))))
def test_any_history_has_an_answer_whose_links_rest_on_its_events(steps):
    story, there = Story(), set()
    for path, step in steps:
        key = key_of(path)
        if path not in there:
            if step == "make":
                story.create(path, FIELDS.get(path), held=key.kind in HOLDERS)
                there.add(path)
        elif step == "delete":
            story.delete(path, by=KUBELET if key.kind == "pod" else "alice")
        elif step == "release" and key.kind in HOLDERS:
            story.release(path)
        elif step == "blur":
            story.blur(path)
        there = {path for path in there if key_of(path) in story.world.live}
    for path in PATHS:
        answer = asked(story, path, HOUR)
        assert answer.verdict in VERDICTS and answer.says
        for link in answer.chain:
            assert 1 <= link.at <= len(story.events) and link.says
            assert all(1 <= place <= len(story.events) for place in link.also)
        assert answer.verdict not in (BLOCKED, WAITING) or answer.chain, "what is in the way is named"
        assert len(set(answer.chain)) == len(answer.chain), "a chain does not go in a circle"
