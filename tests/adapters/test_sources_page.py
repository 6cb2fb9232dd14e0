"""docs/sources.md keeps its word: every reader has its section, the commands collect what is read, `alone` is measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from adapters import sources_page
from adapters.documentation import UNSEEN
from adapters.ingest import Tally, ingest
from adapters.sources import dialects, ipset, klog, klog_patterns, objects
from adapters.sources.dialect import About
from adapters.sources_page import SOURCES, Source
from adapters.stores.memory import InMemoryJournal
from domain.resources import KINDS
from tests.adapters.test_klog import restores_logged
from tests.replaying import DATA, replay

BY_TITLE = {source.title: source for source in SOURCES}
PAGE = "\n".join(sources_page.page())


def commands(title: str, word: str) -> str:
    """The one block of commands of a source in which a word stands."""
    found = [block for _, block in BY_TITLE[title].collect if word in block]
    assert len(found) == 1
    return found[0]


def collected(folder: Path, script: str, **tools: str) -> list[Path]:
    """The files that commands leave in a folder, with these scripts in place of the tools that they call."""
    bin = folder / "bin"
    bin.mkdir()
    for name, body in tools.items():
        (bin / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin / name).chmod(0o755)
    work = folder / "work"
    work.mkdir()
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-euc", script], cwd=work, env=environment, check=True, timeout=60)
    return sorted(work.iterdir())


def read(path: Path) -> tuple[Tally, list[str]]:
    """How the reading of a file went, and the identities of its records."""
    journal = InMemoryJournal()
    tally = ingest(str(path), journal, about=About(path=str(path)))
    return tally, [entry.identity for entry in journal.read()]


def test_every_reader_and_every_kind_of_record_has_its_section():
    assert {source.format for source in SOURCES} == set(dialects.READERS)
    assert {source.prefix for source in SOURCES} - {""} == set(dialects.RECORDS)
    for source in SOURCES:
        assert f"\n## {source.title}\n" in PAGE


def test_what_kube_router_quotes_shows_what_a_timeline_shows(tmp_path: Path):
    journal = InMemoryJournal()
    path = tmp_path / "kube-router.log"
    path.write_bytes(restores_logged(locks=True))
    ingest(str(path), journal, about=About(year=2026))
    assert {finding.rule for finding in replay(journal=journal).findings} == {"NL107"}
    assert BY_TITLE["Controller logs (klog)"].alone == BY_TITLE["ipsets of a node"].alone


def test_every_wording_that_is_understood_has_its_row():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (\d+|requeue) \|", line)]
    assert len(rows) == len(klog_patterns.rows())
    for line in rows:
        assert len(re.split(r"(?<!\\)\|", line)) == 7, line


@pytest.mark.parametrize(
    ("title", "files"),
    [
        ("Audit log", "audit*.log.gz"),
        ("Watch stream", "watch.jsonl.gz"),
        ("List or object", "final.yaml.gz"),
        ("ipsets of a node", "ipset.jsonl"),
    ],
)
def test_by_itself_a_source_shows_what_it_is_said_to_show_and_no_more(title: str, files: str):
    found = set()
    for folder in ("s0-buggy", "s1-buggy", "s2-buggy-A", "s3-buggy", "s4-buggy", "mixed-small"):
        if paths := sorted((DATA / folder).glob(files)):
            found |= {finding.rule for finding in replay(*paths).findings}
    said = BY_TITLE[title].alone
    assert found <= said
    assert said - found <= set(UNSEEN), "no recording shows the others"


@pytest.mark.parametrize("title", ["Kubernetes Events", "Controller logs (klog)"])
def test_testimony_by_itself_shows_nothing(title: str, tmp_path: Path):
    source = BY_TITLE[title]
    said = {
        klog.FORMAT: "I0704 06:57:37.123456       7 vpc.go:123] handle delete vpc shop\n"
        "E0704 06:57:38.123456       7 vpc.go:99] error syncing 'shop': it is in use, requeuing\n",
        objects.FORMAT: json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": "shop.1", "namespace": "default", "uid": "u1", "resourceVersion": "7"},
                "involvedObject": {"apiVersion": "kubeovn.io/v1", "kind": "Vpc", "name": "shop"},
                "reason": "Failed",
                "message": "it is in use",
                "lastTimestamp": "2026-07-04T06:57:38Z",
            }
        ),
    }
    path = tmp_path / "said"
    path.write_text(said[source.format])
    run = replay(path)
    assert run.tallies[0].format == source.format and run.tallies[0].recognised
    assert all(event.record.startswith(f"{source.prefix}:") for event in run.events)
    assert not run.findings and not run.judged.reading.world.live


# ---- the commands


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.title)
def test_the_commands_are_commands(source: Source):
    for _, block in source.collect:
        if not block.startswith(("--", "{")) or block.startswith("{ "):
            subprocess.run(["bash", "-n"], input=block.encode(), check=True)


def test_watching_every_kind_leaves_a_file_for_each_that_is_read(tmp_path: Path):
    kubectl = r"""
[[ "$1 $3 $4 $5 $6 $7 $8" == "get -A -w -o json --output-watch-events --show-managed-fields" && "$2" != *,* ]] || exit 1
printf '{"type":"ADDED","object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b","uid":"%s",'\
'"resourceVersion":"5"}}}\n' "$2"
"""
    files = collected(tmp_path, commands("Watch stream", "-w -o json"), kubectl=kubectl)
    assert {path.name for path in files} == {f"watch-{kind.api}.json" for kind in KINDS if kind.served}
    for path in files:
        tally, _ = read(path)
        assert (tally.format, tally.recognised) == (objects.FORMAT, 1)


def test_a_list_asks_for_every_kind_that_is_served():
    asked = commands("List or object", "kubectl get").split()[2].split(",")
    assert asked == [kind.api for kind in KINDS if kind.served]


def test_dumps_taken_as_told_say_when_and_on_which_node(tmp_path: Path):
    nft = '{"nftables": [{"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "elem": ["10.0.0.1"]}}]}'
    script = commands("ipsets of a node", "ipset save")
    files = collected(
        tmp_path,
        f"{script}\n{script}",
        hostname="echo node1",
        date="echo 2026-11-21T01:34:21Z",
        ipset=r"printf 'create web hash:ip family inet hashsize 1024 maxelem 65536\nadd web 10.0.0.1\n'",
        nft=f"echo '{nft}'",
    )
    assert [path.name for path in files] == ["ipsets-node1.save", "nft-node1.json"]
    dumps, sets = (read(path) for path in files)
    assert (dumps[0].format, dumps[0].recognised + dumps[0].duplicates, dumps[0].unrecognised) == (ipset.FORMAT, 2, 0)
    assert (sets[0].format, sets[0].recognised, sets[0].unrecognised) == (ipset.FORMAT, 1, 0)
    assert all(identity.startswith("ipset:2026-11-21T01:34:21") for _, each in (dumps, sets) for identity in each)
    run = replay(*files)
    assert {event.key.namespace for event in run.events} == {"node1"}


def test_the_timeline_that_is_shown_is_one():
    lines = commands("ipsets of a node", '"seq"').splitlines()
    assert ipset.recognises([line.encode() for line in lines])
    first, second = (json.loads(line) for line in lines)
    assert second["seq"] == first["seq"] + 1


def test_a_log_collected_as_told_needs_no_year(tmp_path: Path):
    kubectl = (
        "echo '[pod/kube-ovn-controller-7/kube-ovn-controller] 2026-07-04T06:57:37.223456789Z "
        "I0704 06:57:37.123456       7 vpc.go:123] handle delete vpc shop'"
    )
    files = collected(tmp_path, commands("Controller logs (klog)", "kubectl logs"), kubectl=kubectl)
    assert len(files) == 4
    for path in files:
        os.utime(path, (0, 0))  # the file's own date tells nothing
        tally, (identity,) = read(path)
        assert (tally.format, tally.recognised) == (klog.FORMAT, 1)
        assert identity.startswith("klog:2026-07-04T06:57:37.123456Z/")
