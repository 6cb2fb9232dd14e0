"""What belongs in a set and what does not, owner by owner, and the three rules that tell of it: story by story."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.resources import Key
from projections.findings.rule import ERROR, HEALED, OPEN, WARNING, Finding
from tests.replaying import Replayed, replay

SVIP, NODES, PODS = "kube-router-svip", "kube-router-node-ips", "KUBE-DST-AAAABBBBCCCCDDDD"
BLOCKED = "blocklist"


class Timeline:
    """A recorder beside a node's controllers, told what they do; `replay` is what netledger makes of it."""

    def __init__(self, folder: Path, *, listed: bool = True) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        if listed:
            self.dump({})

    def record(self, actor: str, op: str, **more: Any) -> None:
        number = len(self.entries) + 1
        time = f"2027-01-15T08:{number // 60:02}:{number % 60:02}Z"
        self.entries.append({"seq": number, "t": time, "actor": actor, "op": op, **more})

    def restore(self, actor: str, sets: dict[str, list[str]], why: str = "") -> None:
        """A writer gives whole sets to `ipset restore`."""
        lines = []
        for name, members in sets.items():
            lines += ["create TMP-PRBJ7ASFQM5DJR3Q hash:ip timeout 0", "flush TMP-PRBJ7ASFQM5DJR3Q"]
            lines += [f"add TMP-PRBJ7ASFQM5DJR3Q {member}" for member in members]
            lines += [f"create {name} hash:ip timeout 0", f"swap TMP-PRBJ7ASFQM5DJR3Q {name}"]
        lines.append("destroy TMP-PRBJ7ASFQM5DJR3Q")
        self.record(actor, "restore-input", text="\n".join(lines), why=why)

    def run(self, actor: str, *lines: str) -> None:
        """Somebody runs single commands."""
        self.record(actor, "restore-input", text="\n".join(lines))

    def load(self, actor: str, sets: dict[str, list[str]]) -> None:
        """A writer loads the node's sets into its memory."""
        self.record(actor, "memory-loaded", memory=sets)

    def dump(self, sets: dict[str, list[str]]) -> None:
        """What `ipset save` shows."""
        lines = []
        for name, members in sets.items():
            lines += [f"create {name} hash:ip timeout 0", *(f"add {name} {member}" for member in members)]
        self.record("lab", "dump", text="\n".join(lines), format="save")

    def replay(self) -> Replayed:
        path = self.folder / "ipset.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))
        return replay(path)

    @property
    def findings(self) -> list[Finding]:
        return self.replay().findings

    @property
    def found(self) -> list[str]:
        return [f"{finding.status} {finding.name} {finding.key.name}" for finding in self.findings]

    def lawful(self, name: str = SVIP) -> list[str] | None:
        run = self.replay()
        resource = run.judged.reading.world.live[Key("ipset", "", name)]
        members: list[str] | None = run.judged.reading.standing(resource).lawful["members"]
        return members


@pytest.fixture
def node(tmp_path: Path) -> Timeline:
    """A node whose proxy has made its set of services, and its policy controller one of pods."""
    told = Timeline(tmp_path)
    told.restore("ipvs", {SVIP: ["10.96.0.1"]})
    told.restore("netpol", {PODS: ["10.244.1.1"]})
    return told


# ---- lost


def test_a_member_that_another_controllers_restore_drops_is_lost_and_stays_lawful(node):
    node.restore("ipvs", {SVIP: ["10.96.0.1", "10.96.0.2"]}, why="service b created")
    node.restore("netpol", {PODS: ["10.244.1.1"], SVIP: ["10.96.0.1"]}, why="pod x running")
    (finding,) = node.findings
    assert (finding.name, finding.status, finding.severity) == ("ipset-lost-member", OPEN, ERROR)
    assert node.lawful() == finding.lawful == ["10.96.0.1", "10.96.0.2"] and finding.reported == ["10.96.0.1"]
    assert "service b created" in finding.explanation and "pod x running" in finding.explanation
    assert "(inferred)" in finding.explanation and not finding.known


def test_one_finding_tells_of_all_members_that_one_restore_dropped(node):
    node.restore("ipvs", {SVIP: ["10.96.0.1", "10.96.0.2", "10.96.0.3"]})
    node.restore("netpol", {SVIP: []})
    (finding,) = node.findings
    assert len(finding.repair) == 3 and all("ipset -q test" in step.run for step in finding.repair)
    assert [witness.role for witness in finding.witnesses] == ["lost", "lost", "overwriting"]


def test_each_restore_that_drops_something_is_a_finding_of_its_own(node):
    node.restore("netpol", {SVIP: []})
    node.restore("ipvs", {SVIP: ["10.96.0.1"]})
    node.restore("netpol", {SVIP: []})
    assert node.found == [f"open ipset-lost-member {SVIP}", f"healed ipset-lost-member {SVIP}"]
    assert len({finding.id for finding in node.findings}) == 2


def test_a_finding_heals_only_when_every_member_is_right_again(node):
    node.restore("ipvs", {SVIP: ["10.96.0.1", "10.96.0.2", "10.96.0.3"]})
    node.restore("netpol", {SVIP: ["10.96.0.1"]})
    node.run("ipvs", f"add {SVIP} 10.96.0.2")
    assert node.found == [f"open ipset-lost-member {SVIP}"]
    assert [step.run for step in node.findings[0].repair] == [
        f"ipset -q test {SVIP} 10.96.0.3 || ipset add {SVIP} 10.96.0.3 timeout 0"
    ]
    node.run("ipvs", f"del {SVIP} 10.96.0.3")  # nobody wants it any more
    assert node.found == [f"healed ipset-lost-member {SVIP}"] and node.lawful() == ["10.96.0.1", "10.96.0.2"]


def test_it_heals_by_whoever_puts_the_member_back(node):
    node.restore("netpol", {SVIP: []})
    node.run("admin", f"add {SVIP} 10.96.0.1")
    (finding,) = node.findings
    assert finding.status == HEALED and "admin" in finding.explanation


def test_a_dump_that_shows_the_member_again_heals_it_though_nobody_was_seen_to_put_it_in(node):
    node.restore("netpol", {SVIP: []})
    node.dump({SVIP: ["10.96.0.1"], PODS: ["10.244.1.1"]})
    assert node.found == [f"healed ipset-lost-member {SVIP}"]


def test_a_set_that_goes_takes_its_findings_with_it(node):
    node.restore("netpol", {SVIP: []})
    node.run("admin", f"destroy {SVIP}")
    assert node.found == [f"healed ipset-lost-member {SVIP}"]


def test_the_owner_takes_out_what_it_likes_and_rewrites_in_any_order(node):
    node.restore("ipvs", {SVIP: ["10.96.0.1", "10.96.0.2"]})
    node.restore("ipvs", {SVIP: ["10.96.0.2"]})
    node.run("ipvs", f"flush {SVIP}", f"add {SVIP} 10.96.0.2", f"add {SVIP} 10.96.0.3")
    assert node.found == [] and node.lawful() == ["10.96.0.2", "10.96.0.3"]


def test_to_write_anothers_set_with_the_members_that_it_has_is_nothing(node):
    node.load("netpol", {SVIP: ["10.96.0.1"], PODS: ["10.244.1.1"]})
    node.restore("netpol", {SVIP: ["10.96.0.1"], PODS: ["10.244.1.2"]})
    assert node.found == []


def test_a_memory_that_was_loaded_is_named_with_its_age(node):
    node.load("netpol", {SVIP: ["10.96.0.1"]})
    node.restore("ipvs", {SVIP: ["10.96.0.1", "10.96.0.2"]})
    node.restore("netpol", {SVIP: ["10.96.0.1"]})
    (finding,) = node.findings
    assert finding.known and "loaded at 08:00:04.000, 2.0 s before" in finding.explanation
    assert [witness.role for witness in finding.witnesses] == ["basis", "lost", "overwriting"]


def test_a_single_del_by_a_stranger_in_a_controllers_set_is_a_loss(node):
    node.run("admin", f"del {SVIP} 10.96.0.1")
    assert node.found == [f"open ipset-lost-member {SVIP}"]


# ---- stale, foreign


def test_a_member_that_its_owner_took_out_and_another_wrote_back_is_stale_until_it_goes(node):
    node.restore("ipvs", {SVIP: ["10.96.0.1", "10.96.0.2"]})
    node.restore("ipvs", {SVIP: ["10.96.0.1"]}, why="service b deleted")
    node.restore("netpol", {SVIP: ["10.96.0.1", "10.96.0.2"]})
    (finding,) = node.findings
    assert (finding.name, finding.status, finding.severity) == ("ipset-stale-member", OPEN, WARNING)
    assert "service b deleted" in finding.explanation and node.lawful() == ["10.96.0.1"]
    assert finding.repair[0].run == f"! ipset -q test {SVIP} 10.96.0.2 || ipset del {SVIP} 10.96.0.2"
    node.restore("ipvs", {SVIP: ["10.96.0.1"]})
    assert node.found == [f"healed ipset-stale-member {SVIP}"]


def test_one_restore_may_lose_one_member_and_bring_another_back(node):
    node.restore("ipvs", {SVIP: ["10.96.0.2"]})
    node.restore("netpol", {SVIP: ["10.96.0.1"]})
    assert node.found == [f"open ipset-lost-member {SVIP}", f"open ipset-stale-member {SVIP}"]


def test_what_a_stranger_puts_into_a_controllers_set_is_foreign_until_the_owner_syncs_or_wants_it(node):
    node.run("admin", f"add {SVIP} 192.0.2.1")
    (finding,) = node.findings
    assert (finding.name, finding.status, finding.severity) == ("ipset-foreign-write", OPEN, WARNING)
    assert node.lawful() == ["10.96.0.1"] and "admin" in finding.explanation
    node.restore("ipvs", {SVIP: ["10.96.0.1", "192.0.2.1"]})
    assert node.found == [f"healed ipset-foreign-write {SVIP}"] and node.lawful() == ["10.96.0.1", "192.0.2.1"]


def test_to_take_a_stale_member_out_by_hand_is_no_offence(node):
    node.restore("ipvs", {SVIP: []})
    node.restore("netpol", {SVIP: ["10.96.0.1"]})
    node.run("admin", f"del {SVIP} 10.96.0.1")
    assert node.found == [f"healed ipset-stale-member {SVIP}"]


# ---- sets of other programs


def test_a_set_of_another_program_is_whose_its_members_are(node):
    node.run("fail2ban", f"create {BLOCKED} hash:ip", f"add {BLOCKED} 192.0.2.1")
    node.run("admin", f"add {BLOCKED} 192.0.2.2")
    assert node.found == [] and node.lawful(BLOCKED) == ["192.0.2.1", "192.0.2.2"]
    node.restore("fail2ban", {BLOCKED: ["192.0.2.3"]})
    (finding,) = node.findings
    assert finding.name == "ipset-lost-member" and "192.0.2.2" in finding.explanation
    assert "192.0.2.1 " not in finding.explanation, "its own it may take out"


def test_a_single_del_in_a_set_of_another_program_is_meant_as_such(node):
    node.run("fail2ban", f"create {BLOCKED} hash:ip", f"add {BLOCKED} 192.0.2.1")
    node.run("admin", f"del {BLOCKED} 192.0.2.1")
    assert node.found == [] and node.lawful(BLOCKED) == []


def test_a_controller_that_restores_anothers_set_from_memory_owns_nothing_in_it(node):
    node.run("istio-cni", f"create {BLOCKED} hash:ip", f"add {BLOCKED} 192.0.2.1")
    node.restore("netpol", {BLOCKED: ["192.0.2.1"]})
    node.run("istio-cni", f"add {BLOCKED} 192.0.2.2")
    node.restore("netpol", {BLOCKED: ["192.0.2.1"]})
    assert node.found == [f"open ipset-lost-member {BLOCKED}"]
    assert node.lawful(BLOCKED) == ["192.0.2.1", "192.0.2.2"]


# ---- not knowing


def test_in_mid_life_nothing_is_known_of_a_set_until_its_owner_writes_it(tmp_path):
    told = Timeline(tmp_path, listed=False)
    told.dump({SVIP: ["10.96.0.1"], PODS: []})
    told.restore("netpol", {SVIP: []})
    assert told.found == [] and told.lawful() is None
    told.restore("ipvs", {SVIP: ["10.96.0.1"]})
    assert told.found == [] and told.lawful() == ["10.96.0.1"]
    told.restore("netpol", {SVIP: []})
    assert told.found == [f"open ipset-lost-member {SVIP}"]


def test_a_gap_in_the_numbers_makes_all_unknown_until_the_owner_writes_again(node):
    node.restore("ipvs", {SVIP: []}, why="the record that gets lost: the owner takes it out")
    node.restore("netpol", {SVIP: ["10.96.0.1"], PODS: []})
    del node.entries[3]
    node.restore("netpol", {SVIP: []})
    assert node.found == [] and node.lawful() is None


def test_a_dump_that_shows_what_nobody_was_seen_to_write_makes_that_unknown(node):
    node.dump({SVIP: ["10.96.0.1", "10.96.0.9"], PODS: ["10.244.1.1"]})
    node.restore("netpol", {SVIP: ["10.96.0.1"]})
    assert node.found == [] and node.lawful() is None
    node.restore("ipvs", {SVIP: ["10.96.0.1"]})
    assert node.lawful() == ["10.96.0.1"]


def test_a_controller_that_read_the_set_without_the_member_did_not_lose_it(node):
    """Its memory is newer than the owner's write: somebody unseen took the member out in between."""
    node.load("netpol", {SVIP: [], PODS: ["10.244.1.1"]})
    node.restore("netpol", {SVIP: []})
    assert node.found == [] and node.lawful() is None


def test_of_a_writer_that_may_be_the_owner_nothing_is_said(tmp_path):
    told = Timeline(tmp_path, listed=False)
    told.restore("somebody-1", {SVIP: ["10.96.0.1"]})
    told.restore("somebody-2", {SVIP: []})
    assert told.found == []


def test_one_name_for_all_controllers_cannot_lose_from_itself(node):
    node.restore("kube-router", {NODES: ["10.0.0.1"], SVIP: ["10.96.0.1", "10.96.0.2"], PODS: ["10.244.1.2"]})
    node.restore("kube-router", {NODES: ["10.0.0.1"], SVIP: ["10.96.0.1"], PODS: ["10.244.1.3"]})
    assert node.found == []


def test_nodes_do_not_meet(node):
    node.restore("netpol", {SVIP: []})
    node.entries[-1]["node"] = "node2"
    assert node.found == []
