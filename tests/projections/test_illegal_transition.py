"""NL100: a refused transition that no other finding tells of, and how findings of one cause are joined."""

import pytest

from projections.findings.judge import RULES
from tests.domain.stories import HOUR, STEP, Story, gateway


def test_a_gateway_that_went_under_its_eip():
    story = Story()
    gateway(story)
    story.when.delete("nat-gateway/gw")
    assert story.found() == ["open illegal-transition nat-gateway/gw"]
    finding = story.finding("illegal-transition")
    assert finding.severity == "warning"
    assert "EIP out still uses it" in finding.explanation
    assert story.witnessed(finding) == ["refused refused NatGatewayRemoved nat-gateway/gw"]


@pytest.mark.parametrize("rule", ["ofip/f", "osnat/s", "odnat/d"])
def test_an_ovn_eip_that_went_under_a_rule_heals_when_the_rule_goes(rule):
    story = Story()
    story.given.create("oeip/out")
    story.given.create(rule, {"spec.ovnEip": "out"})
    story.when.delete("oeip/out")
    assert story.found() == ["open illegal-transition oeip/out"]
    story.when.delete(rule)
    assert story.found() == ["healed illegal-transition oeip/out"]


@pytest.mark.parametrize("rule", ["fip/f", "snat/s", "dnat/d"])
def test_an_eip_that_went_under_a_rule_heals_when_the_rule_goes(rule):
    story = Story()
    story.given.create("eip/out")
    story.given.create(rule, {"spec.eip": "out"})
    story.when.delete("eip/out")
    assert story.found() == ["open illegal-transition eip/out"]
    story.when.delete(rule)
    assert story.found() == ["healed illegal-transition eip/out"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("fip/one", "fip/two"), ("dnat/one", "dnat/two"), ("fip/one", "dnat/two"), ("dnat/one", "fip/two")],
)
def test_a_rule_that_took_the_place_of_another_clashes_only_if_that_is_more_than_clocks_differ(first, second):
    fields = {"spec.eip": "out", "spec.externalPort": "80", "spec.protocol": "tcp"}
    story = Story()
    story.given.create(first, fields)
    story.when.create(second, fields)
    story.when.delete(first)  # it has no finalizer, so its removal has no revision

    def found(uncertainty: int) -> list[str]:
        reading = story.reading
        findings = reading.judge.conclude(
            reading.world, story.now, lambda at: story.events[at - 1], uncertainty=uncertainty
        )
        return [str(finding.key) for finding in findings]

    assert found(0) == [second]
    assert found(STEP - 1) == [second]
    assert found(STEP) == []


def test_a_clashing_rule_heals_when_it_goes():
    story = Story()
    story.given.create("eip/out")
    story.given.create("fip/one", {"spec.eip": "out"})
    story.when.create("fip/two", {"spec.eip": "out"})
    assert story.found() == ["open illegal-transition fip/two"]
    story.when.delete("fip/two")
    assert story.found() == ["healed illegal-transition fip/two"]


def test_what_another_finding_tells_of_is_not_told_twice():
    story = Story()
    story.given.create("vpc/shop")
    story.given.create("subnet/a", {"spec.vpc": "shop"})
    story.when.delete("vpc/shop")
    assert story.refusals() == ["VPCRemoved vpc/shop"]
    assert story.found() == ["open orphaned-subnet subnet/a"]


def test_a_clean_life_of_everything_has_no_finding():
    story = Story()
    story.given.create("vpc/shop")
    story.given.hold("vpc/shop")
    story.given.create("subnet/net", {"spec.vpc": "shop"})
    story.given.hold("subnet/net")
    story.given.status("vpc/shop", {"subnets": ["net"]})
    gateway(story)
    story.given.create("fip/f", {"spec.eip": "out", "spec.internalIp": "10.0.0.9"})
    story.given.run("pod/kube-system/vpc-nat-gw-gw-0", "floating-ip-add 192.168.100.11,10.0.0.9")
    story.given.status("fip/f", {"ready": True})
    story.given.status("eip/out", {"nat": "fip"})
    story.when.delete("fip/f")
    story.when.status("eip/out", {"nat": ""})
    for path in ("eip/out", "nat-gateway/gw"):
        story.when.delete(path)
        if path == "eip/out":
            story.when.release(path)
    story.when.delete("subnet/net")
    story.when.release("subnet/net")
    story.when.status("vpc/shop", {"subnets": []})
    story.when.delete("vpc/shop")
    story.when.release("vpc/shop")
    story.then.silent()


def test_every_prefix_of_a_clean_life_has_no_open_finding_at_its_own_end():
    story = Story()

    def nothing_open() -> None:
        assert [line for line in story.found() if line.startswith("open")] == []

    story.given.create("vpc/shop", held=True)
    nothing_open()
    for name in ("a", "b", "c"):
        story.when.create(f"subnet/{name}", {"spec.vpc": "shop"}, held=True)
        nothing_open()
        story.when.delete(f"subnet/{name}")
        nothing_open()
        story.when.release(f"subnet/{name}")
        nothing_open()


def test_the_same_history_gives_the_same_findings_however_often_it_is_asked():
    story = Story()
    gateway(story)
    story.given.delete("nat-gateway/gw")
    story.given.create("subnet/x", held=True)
    story.when.delete("subnet/x")
    assert story.findings(HOUR) == story.findings(HOUR)
    assert story.found(1) != story.found(HOUR), "concluding early spoils nothing"


def test_open_findings_come_first_and_ids_are_unique():
    story = Story()
    gateway(story)
    story.given.delete("nat-gateway/gw")
    story.given.create("subnet/x", held=True)
    story.when.delete("subnet/x")
    findings = story.findings(1)
    order = [finding.status for finding in findings]
    assert order == sorted(order, key=["open", "pending", "healed"].index)
    assert len({finding.id for finding in findings}) == len(findings) == 2


def test_every_rule_has_a_code_a_name_a_severity_what_it_fires_on_and_its_upstream_incident():
    assert [rule.code for rule in RULES] == [f"NL{number}" for number in range(100, 110)]
    for rule in RULES:
        assert rule.name and rule.severity in ("error", "warning")
        assert len(rule.fires.split()) > 8 and rule.fires.endswith((".", "unknown."))
        assert rule.upstream and all("#" in incident for incident in rule.upstream)
