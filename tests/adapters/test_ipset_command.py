"""`netledger ipset`: one set as a person asks for it, and the restore file that puts it right, loaded and read back."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from adapters.sources.ipset_text import parse_restore, parse_save
from tests.adapters.test_cli import run
from tests.projections.kube_router import PODS6, PORTS, PROBES, SVIP, Design, Node
from tests.replaying import timeline


def ask(ledger: Path, *arguments: object, columns: int = 200) -> Result:
    return run("ipset", *arguments, "--ledger", ledger, columns=columns)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of the recording in which two sets lost a service's external IP."""
    path = tmp_path_factory.mktemp("lost") / "lost.ledger"
    assert run("replay", timeline("s3-buggy"), "--ledger", path).exit_code == 1
    return path


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of two nodes that have sets of the same names, one of them with IPv6 and with losses."""
    folder = tmp_path_factory.mktemp("nodes")
    for number, design in (("1", Design.STALE_MAP), ("2", Design.NAMED_ALL)):
        node = Node(design)
        node.service(f"203.0.113.{number}")
        node.pod("10.244.1.12")
        node.probe("10.244.1.77")
        entries = [{**entry, "node": f"node{number}"} for entry in node.timeline]
        (folder / f"node{number}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    path = folder / "nodes.ledger"
    assert run("replay", *sorted(folder.glob("*.jsonl")), "--ledger", path).exit_code == 1
    return path


def test_each_member_stands_with_its_owner_its_writer_its_time_and_whether_it_is_there(lost):
    result = ask(lost, SVIP)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["MEMBER", "IS", "OWNER", "PUT", "IN", "BY", "SINCE", "FOR"]
    assert lines[1:] == [
        ["10.96.0.1", "there", "proxy", "ipvs-controller", "01:34:21.004", "-"],
        ["10.96.10.10", "there", "proxy", "ipvs-controller", "01:34:21.004", "-"],
        ["203.0.113.10", "missing", "proxy", "ipvs-controller", "01:34:21.121", "-"],
    ]
    assert "2 there, 1 missing" in result.stderr and result.exit_code == 0


def test_wide_names_the_event_why_it_was_and_the_line_that_shows_it(lost):
    text = ask(lost, SVIP, "-o", "wide").stdout
    assert "IPSetRestored" in text and "service shop updated: externalIPs" in text and "ipset.jsonl:9" in text


def test_json_and_yaml_hold_the_members_the_drift_and_where_each_rests(lost):
    document = json.loads(ask(lost, PORTS, "-o", "json").stdout)
    assert yaml.safe_load(ask(lost, PORTS, "-o", "yaml").stdout) == document
    assert (document["type"], document["owner"], document["state"]) == ("hash:ip,port", "proxy", "PRESENT")
    assert [m["member"] for m in document["members"] if m["lawful"] and not m["there"]] == ["203.0.113.10,tcp:80"]
    assert document["members"][2]["since"]["event"] == "IPSetRestored"
    assert document["drift"]["members"]["lawful"] == [member["member"] for member in document["members"]]


def test_at_a_moment_it_is_as_it_was_then(lost):
    before = ask(lost, SVIP, "--at", "2026-11-21T01:34:21.1Z", "-o", "json")
    between = ask(lost, SVIP, "--at", "2026-11-21T01:34:21.13Z", "-o", "json")
    assert len(json.loads(before.stdout)["members"]) == 2
    assert [member["is"] for member in json.loads(between.stdout)["members"]] == ["there"] * 3


def test_members_of_which_the_log_cannot_tell_are_unknown_and_are_not_saved(lost):
    table = ask(lost, "kube-router-node-ips").stdout
    assert "unknown" in table and "there" not in table
    result = ask(lost, "kube-router-node-ips", "-o", "save")
    assert result.exit_code == 2 and not result.stdout and "not known" in result.stderr


def test_a_name_that_is_not_there_or_on_several_nodes_is_explained(lost, nodes):
    result = ask(lost, "kube-router-svp")
    assert result.exit_code == 2 and "did you mean kube-router-svip" in result.stderr
    result = ask(nodes, SVIP)
    assert result.exit_code == 2 and "node1, node2; add --node NAME" in result.stderr
    assert ask(nodes, SVIP, "--node", "node2", "--no-headers").stdout.startswith("203.0.113.2  there")
    result = ask(nodes, SVIP, "--node", "node3")
    assert result.exit_code == 2 and "on node node3" in result.stderr


def test_get_and_history_take_a_set_with_its_node_and_without(lost, nodes):
    assert "203.0.113.10" in run("get", f"ipset/{SVIP}", "--ledger", lost, columns=200).stdout
    listed = run("get", "ipset", "--ledger", nodes, columns=200).stdout
    assert "NODE" in listed and listed.count(f" {SVIP} ") == 2
    history = run("history", f"ipset/node1/{SVIP}", "--ledger", nodes, columns=200)
    assert history.exit_code == 0 and "IPSetRestored" in history.stdout


def test_names_of_sets_are_completed(nodes):
    words = run(
        columns=80, _NETLEDGER_COMPLETE="bash_complete", COMP_WORDS="netledger ipset kube-router-s", COMP_CWORD="2",
        NETLEDGER_LEDGER=str(nodes),
    )  # fmt: skip
    assert {line.partition(",")[2] for line in words.stdout.splitlines()} >= {SVIP, PORTS}


# ---- the restore file


@cache
def kernel_sets() -> bool:
    """Whether sets can be made where nobody is harmed. It is asked without a set, so a wrong restore is no reason."""
    if shutil.which("ipset") is None or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-Urn", "ipset", "list"], capture_output=True, timeout=60).returncode == 0


def in_a_namespace(*texts: str) -> dict[str, list[str]]:
    """Restore these texts one after the other where nobody is harmed, and read the sets back.

    With the kernel's own sets where the machine has `ipset` and lets us have a namespace; else with the parser that plays
    restores through.
    """
    if kernel_sets():
        script = "".join(f"ipset restore -exist <<'END'\n{text}\nEND\n" for text in texts) + "ipset save\n"
        ran = subprocess.run(["unshare", "-Urn", "sh", "-ec", script], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        sets, bad = parse_save(ran.stdout)
        assert not bad
        return {listed.name: listed.members for listed in sets}
    print("this machine has no ipset, or no namespace for us: the project's own parser plays the restores instead")
    effects, bad = parse_restore("\n".join(texts))
    assert not bad
    return {name: list(effect.members or effect.added) for name, effect in effects.items() if not effect.gone}


def save_of(ledger: Path, name: str) -> str:
    result = ask(ledger, name, "-o", "save", *(["--node", "node1"] if "node" in ledger.name else []))
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", [SVIP, PORTS])
def test_the_restore_file_makes_a_set_of_exactly_the_lawful_members(lost, name):
    members = [member["member"] for member in json.loads(ask(lost, name, "-o", "json").stdout)["members"]]
    assert in_a_namespace(save_of(lost, name)) == {name: members}


@pytest.mark.parametrize("name", [SVIP, PORTS, PROBES, PODS6])
def test_the_restore_file_replaces_what_the_set_holds_and_leaves_nothing_behind(nodes, name):
    document = json.loads(ask(nodes, name, "--node", "node1", "-o", "json").stdout)
    lawful = [member["member"] for member in document["members"] if member["lawful"]]
    header = f"create {name} {document['type']} {document['options']}"
    wrong = {PORTS: "192.0.2.1,tcp:1", PODS6: "2001:db8::1"}.get(name, "192.0.2.1")
    assert in_a_namespace(f"{header}\nadd {name} {wrong}", save_of(nodes, name)) == {name: lawful}


def test_the_restore_file_is_the_same_each_time_and_its_names_fit_the_kernel(nodes):
    text = save_of(nodes, PODS6)
    assert text == save_of(nodes, PODS6)
    commands = [line.split()[0] for line in text.splitlines()]
    assert commands == ["create", "create", "flush", "add", "swap", "destroy"]
    assert all(len(line.split()[1]) <= 31 for line in text.splitlines())
