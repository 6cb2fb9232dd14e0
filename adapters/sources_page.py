"""What docs/sources.md says of each kind of source: data, beside which the page puts the tables that the readers have.

One `Source` for each thing that a person collects; the readers of `adapters/sources` see by content which one a file is.
Tests hold that every reader has its section, that `alone` is what replays of each source by itself find, and that every
command collects what is looked for. `documentation` writes the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from adapters.sources import audit_log, cloudevents, ipset, klog, klog_patterns, kubernetes_events, objects
from domain.resources import KINDS
from projections.findings.judge import RULES

SERVED = ",".join(kind.api for kind in KINDS if kind.served)
"""Every kind that an API server has, as kubectl takes them."""


class Source(NamedTuple):
    """One kind of source.

    `format` is the name of its reader and `prefix` what its records' identities begin with, empty for what carries other
    sources' records. `collect` are pairs of a sentence and the commands that belong to it. `alone` are the codes of the
    findings that it can show by itself, `helps` those that it adds evidence to.
    """

    title: str
    format: str
    prefix: str
    what: str
    collect: tuple[tuple[str, str], ...]
    proves: str
    cannot: str
    clock: str
    rank: str
    alone: frozenset[str] = frozenset()
    helps: frozenset[str] = frozenset()
    limits: tuple[str, ...] = ()


_ON_API_OBJECTS = frozenset({"NL100", "NL101", "NL102", "NL103", "NL104", "NL105", "NL106"})
_ON_IPSETS = frozenset({"NL107", "NL108", "NL109"})

SOURCES: tuple[Source, ...] = (
    Source(
        title="Audit log",
        format=audit_log.FORMAT,
        prefix=audit_log.PREFIX,
        what="Every request to the API server: who asked for what, when, and what it answered. The one source that "
        "names the writer, so collect it if you collect only one.",
        collect=(
            (
                "Set the policy of [audit-logs.md](audit-logs.md#the-audit-policy) and these flags of "
                "kube-apiserver, "
                "on every API server:",
                "--audit-policy-file=/etc/kubernetes/audit-policy.yaml\n"
                "--audit-log-path=/var/log/kubernetes/audit/audit.log\n"
                "--audit-log-maxsize=200 --audit-log-maxbackup=50",
            ),
            (
                "Then replay the folder; rotated parts, and the folders of several API servers, go together:",
                "netledger replay /var/log/kubernetes/audit/",
            ),
        ),
        proves="Who wrote what, when and (for a PUT, or a patch that names it) on which basis; every field before "
        "and "
        "after; what was refused; which commands were started in a gateway's pod (`pods/exec`).",
        cannot="What is in OVN and in a node's kernel. Below level RequestResponse, what a write did. Why a "
        "controller did it.",
        clock="The API server's own, to the microsecond. Where several servers' clocks differ, the revisions show by "
        "how much.",
        rank="First: where it shows an operation, its record is the event's, and the others are evidence.",
        alone=_ON_API_OBJECTS,
        helps=frozenset({"NL107"}),
        limits=(
            "What a real log does, oddity by oddity, is in [audit-logs.md](audit-logs.md#the-oddities-of-real-logs).",
            "The bodies of an audit webhook (`EventList`) are read too, with repeated batches counted as duplicates.",
            "A minute without any line is named as a silence: an API server never rests.",
        ),
    ),
    Source(
        title="Watch stream",
        format=objects.FORMAT,
        prefix=objects.PREFIX,
        what="What each object was after each write, as it was shown to a client that watched.",
        collect=(
            (
                "kubectl watches one kind at a time, so one file for each. Start them before the incident; stop them "
                "with `kill $(jobs -p)`:",
                f"for kind in {SERVED.replace(',', ' ')}; do\n"
                '  kubectl get "$kind" -A -w -o json --output-watch-events --show-managed-fields \\\n'
                '    >> "watch-$kind.json" &\n'
                "done; wait",
            ),
        ),
        proves="That an object was so at a revision; that it was made or went, and at which revision it went: that "
        "gives a removal, which has no revision in an audit log, its true place.",
        cannot="Who wrote it (at best which field manager wrote last), when, on which basis, what was refused, and "
        "what was run in a pod. A write between two that it shows may be missing: watches may leave out steps.",
        clock="None. What it alone shows is dated between the writes on either side that have a clock, and after "
        "every time that the object itself names.",
        rank="Second: behind the audit log, before a list.",
        alone=_ON_API_OBJECTS - {"NL106"},
        helps=frozenset({"NL106", "NL107"}),
        limits=(
            "Without `--output-watch-events` a deleted object is printed like any other: its end goes unseen. Always "
            "set it.",
            "With `-l` or `--field-selector`, ADDED and DELETED mean that an object entered or left the selection, "
            "which is not what they are taken for: watch without selectors.",
            "A watch begins with ADDED for all that is there: only a later ADDED, of an object that nobody has "
            "changed since, is taken for a creation.",
            "A watch that breaks off and begins anew leaves out what happened meanwhile; an ERROR (410 Expired) in a "
            "raw watch is kept aside with what it said.",
            "The daemon's own watch ([feeds.md](feeds.md)) writes an event of its own, ABSENT, where a list that it had to "
            "ask for anew lacks what was there before: it went, and nobody saw how.",
            "The same revision with and without `managedFields`, in a watch and in a list, is one operation: what says "
            "more is its record, the rest its evidence. Only `managedFields` name a writer, so have them shown everywhere.",
            "It does not say how long it went on in silence, so by itself it leaves a reaction that never came "
            "pending.",
        ),
    ),
    Source(
        title="List or object",
        format=objects.FORMAT,
        prefix=objects.PREFIX,
        what="What was there at one moment: a snapshot.",
        collect=(
            (
                "All kinds at once (leave out those that your cluster does not have):",
                f"kubectl get {SERVED} -A -o json --show-managed-fields > objects.json",
            ),
        ),
        proves="That each object was so at its own revision.",
        cannot="What it was before, who wrote it, and what is no longer there: an object that a list lacks is not "
        "taken for removed.",
        clock="None, as for a watch.",
        rank="Third: evidence for a revision that an audit log shows, the same record as one that a watch shows, an "
        "event only where neither does.",
        alone=frozenset({"NL102"}),
        helps=_ON_API_OBJECTS - {"NL102", "NL106"} | {"NL107"},
        limits=(
            "A list's own resourceVersion is not used: each item stands at its own.",
            "`-o yaml` is read too; a table (`-o wide`) and `PartialObjectMetadata` are not, for want of the object.",
            "Manifests without uid and resourceVersion are kept aside: no API server has answered them.",
        ),
    ),
    Source(
        title="Kubernetes Events",
        format=objects.FORMAT,
        prefix=kubernetes_events.PREFIX,
        what="What controllers reported to users about an object: `v1` and `events.k8s.io/v1`.",
        collect=(
            (
                "The API server drops them after an hour (`--event-ttl`), so collect early:",
                "kubectl get events -A -o json > events.json",
            ),
        ),
        proves="That somebody said so. It stands in `netledger history` beside what happened, and moves nothing "
        "([why](why/testimony.md)).",
        cannot="That it is so.",
        clock="Its reporter's, mostly in whole seconds.",
        rank="None: it is testimony, and never the same operation as a write.",
        limits=(
            "One that comes again has a new revision, and is a record of its own; its count is not used.",
            "Events about other kinds are ignored.",
        ),
    ),
    Source(
        title="Controller logs (klog)",
        format=klog.FORMAT,
        prefix=klog.PREFIX,
        what="The logs of kube-ovn-controller, kube-ovn-cni (1.9 to 1.16) and kube-router (1.5 to 2.7), and the "
        "logrus lines of Kube-OVN's ipset library among them, behind any prefix of kubectl, stern, CRI, Docker, "
        "syslog, journald, `grep -r` or an editor.",
        collect=(
            (
                "Of all replicas, and of the containers before the last restart. `--timestamps` adds the year that "
                "klog leaves out, `--tail=-1` takes all that is kept:",
                "kubectl logs -n kube-system -l app=kube-ovn-controller --timestamps --prefix --tail=-1 > "
                "controller.log\n"
                "kubectl logs -n kube-system -l app=kube-ovn-controller --timestamps --prefix --tail=-1 --previous "
                "> controller-before.log\n"
                "kubectl logs -n kube-system -l app=kube-ovn-cni -c cni-server --timestamps --prefix --tail=-1 > "
                "cni.log\n"
                "kubectl logs -n kube-system -l k8s-app=kube-router --timestamps --prefix --tail=-1 > "
                "kube-router.log",
            ),
            (
                "The nodes keep more: Kube-OVN's own files have no year in them (`--year`), a service under systemd "
                "has the journal:",
                "cp /var/log/kube-ovn/*.log .\njournalctl -u kube-router -o short-iso --no-pager > kube-router.log",
            ),
            (
                "Acts are logged at verbosity 3 (`-v=3` among the container's arguments). Kube-OVN's manifests set "
                "it; kube-router's default is less, so add it to the DaemonSet before you wait for the next "
                "incident.",
                "",
            ),
        ),
        proves="What a controller noticed, began, did, refused and failed at, by its own word "
        "([why](why/testimony.md) that moves nothing): `netledger history` shows it beside what happened. Two things "
        "count, because nothing else tells them: the command that the controller ran in a gateway's pod, where no "
        "audit log shows exec; and for OvnEip, OvnFip, OvnSnatRule and OvnDnatRule, how the last run on it ended: "
        "after an error it is not configured; with `ready` reported since the run began it is; else nobody knows. "
        "And the "
        "inputs of `ipset restore` that kube-router quotes whole are the writes themselves, by the controller that "
        "held "
        "the lock (`--node FILE=NAME` says on which node).",
        cannot="That what it says was so. Which revision it read. Which of several open runs a line belongs to that "
        "names no resource, where two began within 2 s of each other: it then belongs to none.",
        clock="Its container's, without year and zone: `--year`, else the time in front of the line, else the last "
        "year in which the file can have been written; `--timezone`, else what a time in front of the line shows, "
        "else UTC. A line that no year can be found for is kept aside. The turn of the year is noticed.",
        rank="None: it is testimony, but for a quoted restore, which is the record that a timeline would have of it. "
        "What is read from two files (`--prefix` here, the node's own file there) is one "
        "record.",
        alone=_ON_IPSETS,
        helps=frozenset({"NL106"}),
        limits=(
            "A handler that goes well logs no end: a run is open until its queue starts another, its requeue line "
            "comes, or 60 s.",
            "Lines that the tables below know and nothing follows from are *ignored*; lines they do not know are "
            "counted as *unknown*. Neither is kept.",
            "A record is cut off behind 1 MiB.",
        ),
    ),
    Source(
        title="ipsets of a node",
        format=ipset.FORMAT,
        prefix=ipset.PREFIX,
        what="What is in a node's sets, and what was written to them: `ipset save`, `ipset list`, `ipset restore` "
        "input, `nft -j list sets`, one by one or as a timeline (`ipset.jsonl`).",
        collect=(
            (
                "On the node (or in the controller's pod there). The first line says when it was taken, on which "
                "node "
                "and, if you know it, by whom:",
                '{ echo "# taken $(date -u +%FT%TZ) on $(hostname) by operator"; ipset save; } >> "ipsets-$(hostname).save"\n'
                '{ echo "# taken $(date -u +%FT%TZ) on $(hostname)"; nft -j list sets; } > "nft-$(hostname).json"',
            ),
            (
                "Who wrote what, only the inputs of `ipset restore` show. A timeline is JSON lines with time (`t`), "
                "`actor`, `op`, and the text or the file beside it; `seq` numbers them, so that a lost one is "
                "noticed:",
                '{"seq": 9, "t": "2026-11-21T01:34:21.121Z", "actor": "ipvs-controller", "op": "restore-input", '
                '"file": "ipset/009.restore"}\n'
                '{"seq": 10, "t": "2026-11-21T01:34:21.130Z", "actor": "ipvs-controller", "op": "after-restore", '
                '"file": "ipset/010.save"}',
            ),
        ),
        proves="What each set contained at that moment; of a restore input, who wrote what, which members its owner "
        "put in and which writer lost one; of a load (`memory`), how old its knowledge was. `netledger ipset` asks "
        "it, and `-o save` prints the lawful content for `ipset restore`.",
        cannot="From dumps alone, who changed a set between them: then the members that came or went are unknown, "
        "not "
        "wrong. Before the owner's first full write, whether a member belongs there.",
        clock="The `# taken` line's or the timeline's; else when the file was last written. In files whose names are "
        "numbered (`004-ipvs-controller-restore-input.restore`) the numbers decide between equal times.",
        rank="Alone on its kind: no API object says what is in a kernel.",
        alone=_ON_IPSETS,
        limits=(
            "Which node it is of, the `# taken` line, the timeline or `--node FILE=NAME` says; what is of no named "
            "node is of one node.",
            "The order of sets and members, `initval` and packet counters are no difference; `TMP-` sets and swaps "
            "in "
            "a restore input are played through to what they come to.",
            "A dump of a single set says nothing of the others.",
        ),
    ),
    Source(
        title="CloudEvents",
        format=cloudevents.FORMAT,
        prefix="",
        what="What `netledger export` prints: every record of a kept ledger, one CloudEvents 1.0 JSON object a line. "
        "Replayed, it gives the same ledger. Foreign CloudEvents are read where their data is an API server's: audit "
        "events, watch events, objects (as Knative's ApiServerSource sends them with mode Resource).",
        collect=(
            (
                "To hand an incident on:",
                "netledger export --ledger incident.ledger > incident.jsonl\nnetledger replay incident.jsonl",
            ),
        ),
        proves="What the records in it prove.",
        cannot="What they cannot. What could not be read when the ledger was made is not in it.",
        clock="Each record's own.",
        rank="Each record's own.",
        alone=_ON_API_OBJECTS | _ON_IPSETS,
    ),
)


def page() -> Iterator[str]:
    """docs/sources.md, line by line."""
    yield "# Sources"
    yield ""
    yield "Generated by `make docs` from the tables of the readers and `adapters/sources_page.py`; do not edit."
    yield ""
    yield (
        "What can be replayed, how to collect it on a live cluster, and what it can and cannot prove. All of it goes "
        "into one `netledger replay`, in any order, plain or gzip; what a file is, its content says (`--format` "
        "overrides that for all files of one command). [Why](why/sources.md) several sources of one operation are "
        "one "
        "event."
    )
    yield ""
    yield "| source | `--format` | its clock | by itself it shows |"
    yield "|---|---|---|---|"
    for source in SOURCES:
        anchor = source.title.lower().replace(" ", "-").replace("(", "").replace(")", "")
        clock = source.clock.partition(",")[0].partition(":")[0].partition(".")[0]
        yield f"| [{source.title}](#{anchor}) | `{source.format}` | {clock} | {_spans(source.alone) or 'no finding'} |"
    yield ""
    yield "## Which findings a source can give evidence for"
    yield ""
    yield (
        "*Alone*: it can show one with no other source beside it. *Helps*: it adds witnesses, or what the others "
        "lack. Where evidence is missing an answer is `unknown` or `pending`, and never another certain one as far "
        "as "
        "the loss can be noticed."
    )
    yield ""
    shown = [source for source in SOURCES if source.prefix]
    yield f"| finding | {' | '.join(source.title for source in shown)} |"
    yield f"|---|{'---|' * len(shown)}"
    for rule in RULES:
        cells = [
            "alone" if rule.code in source.alone else "helps" if rule.code in source.helps else "-" for source in shown
        ]
        yield (f"| [{rule.code} {rule.name}](findings.md#{rule.code.lower()}-{rule.name}) | {' | '.join(cells)} |")
    yield from _ORDER.splitlines()
    for source in SOURCES:
        yield from _section(source)
    yield from _klog_tables()


_ORDER = """
## One order

* What made or showed a revision stands at it, whatever its time. One object's revision shown by several sources is one
  event; the source that ranks highest is its record, the others are its evidence, and both are printed.
* What has no revision (removals in an audit log, exec, binding, testimony, ipsets) stands by its time behind what had
  completed by then. A removal that a watch shows too stands at the revision that the watch shows.
* What has no clock (watches, lists) is dated: after all that came before it and every time that the object names; as
  early as that for a creation, just before the next write that has a clock for all else.
* A clock that is wrong is put right from outside: `--skew controller.log=+2.5` says that this file's clock is 2.5 s
  ahead of the others; the seconds may be negative, and the file is named by its path or the last part of it. Without it
  every clock is believed. How far a controller's clock is off is estimated where its log and an audit log show the same
  commands in gateway pods; that is told (`coverage.clocks`) and not acted upon. How far API servers' clocks differ
  among themselves the revisions show, and no finding rests on an order that rests on less.
* The answer names what was noticed to be missing ([why](why/sources.md)), and with `--require-complete` there is none
  (exit status 2) unless nothing is."""


def _spans(codes: frozenset[str]) -> str:
    """Codes for people: `NL100 to NL105`, where they follow each other."""
    numbers = sorted(int(code.removeprefix("NL")) for code in codes)
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda one: one[1] - one[0])]
    return ", ".join(f"NL{run[0]} to NL{run[-1]}" if len(run) > 1 else f"NL{run[0]}" for run in runs)


def _section(source: Source) -> Iterator[str]:
    yield from ("", f"## {source.title}", "", source.what)
    for sentence, commands in source.collect:
        yield from ("", sentence)
        if commands:
            yield from ("", "```", *commands.splitlines(), "```")
    yield ""
    for name, said in (
        ("Proves", source.proves),
        ("Cannot tell", source.cannot),
        ("Clock", source.clock),
        ("Rank", source.rank),
    ):
        yield f"* **{name}.** {said}"
    for limit in source.limits:
        yield f"* {limit}"


_PROJECTS = {
    klog_patterns.CONTROLLER: "kube-ovn",
    klog_patterns.CNI: "kube-ovn",
    klog_patterns.ROUTER: "kube-router",
}


def _klog_tables() -> Iterator[str]:
    """Every wording that the reader of klog understands, by component."""
    yield from ("", "## Every line that is understood", "")
    yield (
        "`{name}` and its like stand for what varies. An event in the third column is testimony about the resource "
        "that the line names or, where it names none, about the one whose run is open; *ignored* is known and "
        "nothing "
        "follows from it. Releases say from and until when a wording is known; it is accepted in any. "
        "`klog_patterns.py` is the table: a row there teaches the reader a line."
    )
    rows = klog_patterns.rows()
    for component, project in _PROJECTS.items():
        yield from ("", f"### {component}", "", f"| row | line | event | kind | {project} |", "|---|---|---|---|---|")
        for row in rows:
            if row.component == component:
                yield (
                    f"| {row.row} | {_code(row.wording)} | {row.event if row.event != 'ignored' else '*ignored*'} | "
                    f"{row.kind or '-'} | {row.releases} |"
                )
    yield from ("", "### Kube-OVN's ipset library (logrus)", "", "| line begins with | event |", "|---|---|")
    yield from (f"| {_code(begins)} | {event} |" for begins, event in klog_patterns.LOGRUS)


def _code(text: str) -> str:
    """Text as a code span in a cell of a table."""
    quotes = "``" if "`" in text else "`"
    gap = " " if "`" in text else ""
    return f"{quotes}{gap}{text}{gap}{quotes}".replace("|", "\\|").replace("\n", " ")
