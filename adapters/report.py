"""The answer of a replay: as the public JSON document, and as text for a person with little time.

The document is `netledger/replay/v1`; its JSON Schema ships as `adapters/schemas/replay-v1.json`, and a test holds the
two together. Text is made from the document, so it can say nothing that the document does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters.app import HasSources, Outcome, Store, silences, span_of
from adapters.ingest import UNKNOWN_FORMAT
from adapters.judging import fold
from adapters.ledger import Moment, Placed
from adapters.paper import Paper, counted
from adapters.pruned import LATE
from adapters.sources.audit_log import BELOW, TRUNCATED
from adapters.sources.dialect import iso, moment
from domain.events import OBSERVED, REFUSED, Event
from domain.ipset import MEMBERS, OPTIONS, TYPE, own_temporary_name
from domain.ipset_names import is_temporary, owner_of
from domain.ipset_writes import NFT
from domain.operations import request_of
from domain.resources import Key, Kind
from domain.world import Resource
from projections.findings.rule import ERROR, HEALED, OPEN, PENDING, UNKNOWN, Finding, short
from projections.ipset_contents import should_contain
from projections.reading import Reading, looked_at, looks_at_those_that_name_it, resources_of, standing_in
from projections.standing import Standing

SCHEMA = "netledger/replay/v1"

NOTHING = "nothing that can be noticed"

_EVENTS_NAMED = 40  # how many witnesses of one finding the text shows


def document(store: Store, outcome: Outcome) -> dict[str, Any]:
    """The whole answer, as plain JSON values."""
    reading = outcome.judged.reading
    return {
        "schema": SCHEMA,
        "sources": [
            {
                "path": tally.path,
                "format": tally.format,
                "records": tally.records,
                "recognised": tally.recognised,
                "ignored": tally.ignored,
                "unknown": tally.unknown,
                "unrecognised": tally.unrecognised,
                "duplicates": tally.duplicates,
            }
            for tally in outcome.tallies
        ],
        **verdict(store, outcome),
        "resources": [resource_document(resource, reading.standing(resource)) for resource in reading.resources()],
    }


def verdict(
    store: Store,
    outcome: Outcome,
    findings: Sequence[dict[str, Any]] | None = None,
    sources: HasSources | None = None,
) -> dict[str, Any]:
    """Where the ledger stands, what it can speak for, and the findings.

    `findings` are their documents, where they are made already; `sources` knows the journal's.
    """
    reading = outcome.judged.reading
    sources = sources if sources is not None else store.journal
    span = span_of(sources)
    ahead = list(reading.clocks.ahead())
    clocks = store.journal.locate({clock.record for clock in ahead})
    revisions = reading.coverage.revisions or None
    return {
        "ledger": {
            "generation": store.ledger.generation,
            "head": store.ledger.head,
            "events": reading.at,
            "refusals": reading.refusals,
            "digest": outcome.judged.digest,
        },
        "coverage": {
            "from": iso(moment(span.first, "the first record's time")) if span.first else None,
            "to": iso(outcome.end) if outcome.end else None,
            "revisions": revisions,
            "gaps": [
                {"resource": str(gap.key), "why": gap.why, "before": gap.revision, "at": gap.at} for gap in reading.gaps
            ],
            "silences": [
                {"source": silence.path, "from": silence.first, "to": silence.last} for silence in silences(sources)
            ],
            "clocks": [
                {"source": clocks[clock.record][0], "ahead": clock.by / 1_000_000, "commands": clock.commands}
                for clock in ahead
                if clock.record in clocks
            ],
            "pruned": pruned_coverage(store),
            "unknown_beginnings": reading.coverage.sighted,
            "truncated": reading.coverage.unknown.get(TRUNCATED, 0),
            "below_request_response": reading.coverage.unknown.get(BELOW, 0),
        },
        "findings": findings if findings is not None else documents_of(store, outcome.findings),
    }


def documents_of(store: Store, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as documents, with the events that they cite and where their records are. Raises `StoreError`."""
    cited = {witness.at for finding in findings for witness in finding.witnesses}
    cited |= {at for finding in findings for at in (finding.since, finding.until) if at}
    events = {at: store.ledger.event_at(at) for at in sorted(cited)}
    places = store.journal.locate(
        {record for placed in events.values() for record in (placed.event.record, *placed.event.evidence)}
    )
    told = _Events({at: (placed.position, placed.event) for at, placed in events.items()}, places)
    return [_finding(finding, told) for finding in findings]


def pruned_coverage(store: Store) -> dict[str, Any] | None:
    """What was dropped from the ledger, and how many records came too late since."""
    base = store.ledger.base
    if base is None:
        return None
    return {
        "before": iso(base.latest),
        "revision": base.anchor,
        "position": base.position,
        "events": base.dropped,
        "on": iso(base.when),
        "by": base.by,
        "late": sum(one.reason.startswith(LATE) for one in store.journal.kept_aside()),
    }


def resource_document(resource: Resource, standing: Standing) -> dict[str, Any]:
    """One live resource: where it stands in its life, and its claims beside what they should be."""
    return {
        **_key(resource.key, resource.uid),
        "state": resource.state,
        "lawful": standing.lawful,
        "reported": standing.reported,
        "drift": standing.drift,
    }


def resources_in(reading: Reading, kind: Kind, key: Key | None = None) -> list[dict[str, Any]]:
    """The live resources of a kind, by all that is folded; with a `key` just that one."""
    return [
        resource_document(resource, reading.standing(resource))
        for resource in reading.resources()
        if resource.key.kind == kind.name and key in (None, resource.key)
    ]


def resources_at(store: Store, kind: Kind, moment: Moment, key: Key | None = None) -> list[dict[str, Any]]:
    """The live resources of a kind of the API as they were at a moment; with a `key` just that one."""
    if store.checkpoints is None:
        return resources_in(fold(store.ledger, moment).reading, kind, key)
    kinds = looked_at(kind.name)
    if key is not None and kinds == {kind.name}:
        one = store.checkpoints.resource_at(key, moment)
        return [resource_document(one, Standing())] if one is not None else []
    if key is not None and looks_at_those_that_name_it(kind.name):
        world = store.checkpoints.world_about(key, kinds, moment)
    else:
        world, _ = store.checkpoints.world_at(moment, kinds)
    return [
        resource_document(resource, standing_in(world, resource))
        for resource in resources_of(world)
        if resource.key.kind == kind.name and key in (None, resource.key)
    ]


class NotKnown(Exception):
    """The log does not show what was asked for. The message says what, why, and what to do."""


def ipset_document(reading: Reading, resource: Resource, store: Store) -> dict[str, Any]:
    """One ipset: every member that is in it, belongs there or is asked for, with who put it in and by which event."""
    contribution = should_contain(reading.world, resource.key.namespace).get(resource.key.name)
    asked = contribution.members if contribution is not None else {}
    due = contribution.due if contribution is not None else frozenset()
    known, standing = reading.memberships.of.get(resource.key), reading.standing(resource)
    reported = set(standing.reported.get(MEMBERS) or ())
    lawful = known.lawful if known is not None else {}
    placed = {put.at: store.ledger.event_at(put.at) for put in lawful.values()}
    places = store.journal.locate({one.event.record for one in placed.values()})
    told = _Events({at: (one.position, one.event) for at, one in placed.items()}, places)
    members = []
    for member in sorted(reported | lawful.keys() | due):
        put = lawful.get(member)
        belongs = known.says(member) if known is not None else None
        there = member in reported
        word = {True: "there" if there else "missing", False: "not lawful", None: "unknown"}[belongs]
        if not there and put is None:
            word = "asked for"  # its owner may never put it in: what is not known to have been there, was not lost
        members.append(
            {
                "member": member,
                "is": word,
                "there": there,
                "lawful": belongs,
                "owner": (put.owner if put is not None else "") or None,
                "since": told.document(put.at) if put is not None else None,
                "why": (placed[put.at].event.reason if put is not None else "") or None,
                "asked_by": str(asked[member].key) if member in asked else None,
                "because": asked[member].because if member in asked else None,
            }
        )
    return {
        **_key(resource.key, resource.uid),
        "state": resource.state,
        "type": resource.get(TYPE),
        "options": resource.get(OPTIONS),
        "owner": owner_of(resource.key.name) or None,
        "members": members,
        "drift": standing.drift,
    }


def ipset_summary(document: dict[str, Any]) -> str:
    """What an ipset's document comes to, in one line."""
    counts: dict[str, int] = {}
    for member in document["members"]:
        counts[member["is"]] = counts.get(member["is"], 0) + 1
    said = ", ".join(f"{count:,} {word}" for word, count in counts.items()) or "it is empty"
    return f"{path_of(document)} ({document['type'] or 'of a type that no source shows'}): {said}"


def ipset_save(reading: Reading, resource: Resource) -> list[str]:
    """An `ipset restore` input that sets exactly the lawful members. Raises `NotKnown`."""
    from adapters.sources.ipset_text import restore_text

    key, type = resource.key, resource.get(TYPE)
    lawful = reading.standing(resource).lawful.get(MEMBERS)
    if key.name.startswith(NFT):
        raise NotKnown(f"{key} is a set of nftables: `nft -f` takes it, and no `ipset restore`")
    if is_temporary(key.name):
        raise NotKnown(f"{key} is a temporary set that a restore left behind: nothing belongs in it; destroy it")
    if not type:
        raise NotKnown(f"no source shows which type {key} is: replay a dump (`ipset save`) of that node too")
    if lawful is None:
        raise NotKnown(
            f"what belongs in {key} is not known: the log begins in mid-life or lacks a record, and no full sync of the "
            "set's owner came since; replay more of the log"
        )
    return restore_text(key.name, own_temporary_name(key.name), type, resource.get(OPTIONS) or "", lawful)


def open_errors(findings: Iterable[dict[str, Any]]) -> int:
    """How many findings are errors that are still so."""
    return sum(finding["severity"] == ERROR and finding["status"] == OPEN for finding in findings)


class _Events:
    """The cited events, each as a document that says where it is and on what it rests."""

    def __init__(self, events: dict[int, tuple[int, Event]], places: dict[str, tuple[str, int]]) -> None:
        self._events = events
        self._places = places
        self._documents: dict[int, dict[str, Any]] = {}

    def document(self, at: int) -> dict[str, Any]:
        known = self._documents.get(at)
        if known is None:  # what began a finding is among its witnesses, and others may cite it too
            known = self._documents[at] = self._made(at)
        return dict(known)

    def _made(self, at: int) -> dict[str, Any]:
        position, event = self._events[at]
        return {
            "position": position,
            "audit_id": audit_id(event.record),
            "source": self._source(event.record),
            "evidence": [source for record in event.evidence if (source := self._source(record))],
            "at": iso(event.time),
            "actor": event.actor,
            "revision": event.revision,
            "operation": event.operation,
            "resource": str(event.key),
            "event": event.type,
            "says": says(event),
        }

    def _source(self, record: str) -> str | None:
        path, line = self._places.get(record, ("", 0))
        return f"{path}:{line}" if path else None


def cited(store: Store, events: Iterable[Placed]) -> dict[int, dict[str, Any]]:
    """Events by their positions, each as the document that says where it is and on what it rests."""
    placed = {one.position: one for one in events}
    records = {record for one in placed.values() for record in (one.event.record, *one.event.evidence)}
    told = _Events({at: (at, one.event) for at, one in placed.items()}, store.journal.locate(records))
    return {at: told.document(at) for at in placed}


def audit_id(record: str) -> str | None:
    """The audit ID in a record's identity; `None` for records of other sources."""
    return request_of(record).removeprefix("audit:").rpartition("@")[0] if record.startswith("audit:") else None


def says(event: Event) -> str:
    """What an event changed, in a few words, and what it was commanded for."""
    said = _says(event)
    return f"{said} (for: {event.purpose})".lstrip() if event.purpose else said


def _says(event: Event) -> str:
    if event.type == REFUSED:
        return f"{event.attempted} refused: {event.reason}"
    if event.type == OBSERVED:
        answer = f" ({event.code})" if event.code >= 400 else ""
        return f"{event.outcome}{answer}" + (f": {event.reason}" if event.reason else "")
    if event.cause:
        return f"because of {event.cause}"
    parts = []
    for path, (before, after) in event.changed.items():
        if path.startswith("command"):
            return str(after)
        if before is None and len(event.changed) > 6:
            continue
        if path.startswith(("metadata.labels", "metadata.annotations[kubectl")) or before == after:
            continue
        name = path.removeprefix("metadata.").removeprefix("spec.").removeprefix("status.")
        parts.append(f"{name} {brief(before)} → {brief(after)}" if before is not None else f"{name} {brief(after)}")
    return "; ".join(parts[:3]) + ("; …" if len(parts) > 3 else "")


def brief(value: Any) -> str:
    """A value in a few characters."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, list):
        text = "[" + ", ".join(str(item) if not isinstance(item, dict) else "{…}" for item in value[:4])
        return text + (", …]" if len(value) > 4 else "]")
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _finding(finding: Finding, told: _Events) -> dict[str, Any]:
    return {
        "id": finding.id,
        "root": finding.root,
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity,
        "status": finding.status,
        "resource": _key(finding.key, finding.uid),
        "field": finding.field,
        "reported": finding.reported,
        "lawful": finding.lawful,
        "since": told.document(finding.since),
        "until": told.document(finding.until) if finding.until else None,
        "basis": {"known": finding.known, "revisions": list(finding.revisions)} if finding.revisions else None,
        "witnesses": [{"role": witness.role, **told.document(witness.at)} for witness in finding.witnesses],
        "explanation": finding.explanation,
        "consequence": finding.consequence,
        "repair": [{"run": step.run, "why": step.why} for step in finding.repair],
    }


def _key(key: Key, uid: str) -> dict[str, Any]:
    return {"kind": key.kind, "namespace": key.namespace or None, "name": key.name, "uid": uid or None}


# ---- as text


_STYLES = {OPEN: "bold red", UNKNOWN: "magenta", PENDING: "yellow", HEALED: "green"}
_REPAIR = {PENDING: "If it stays so", UNKNOWN: "If it is so"}
_WITNESS_STYLES = {"lost": "bold", "overwriting": "bold"}
_ITEMS_SHOWN = 20


def text(report: dict[str, Any], paper: Paper) -> Iterator[str]:
    """The whole report for a person, line by line: a summary, the findings, the timeline round each."""
    yield from _summary(report, paper)
    findings = report["findings"]
    for finding in together(findings):
        yield ""
        yield from finding_text(finding, paper, findings)
    if not findings:
        yield ""
        if report["ledger"]["events"]:
            yield paper.styled(_clean(report["coverage"]), "green")
        else:
            yield paper.styled("Nothing that could be read is about a network, so there is nothing to judge.", "yellow")


def together(findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings with those of one root side by side, the root first; else in the order given."""
    groups: dict[str, list[dict[str, Any]]] = {}
    known = {finding["id"] for finding in findings}
    for finding in findings:
        root = finding["root"] if finding["root"] in known else finding["id"]
        group = groups.setdefault(root, [])
        group.insert(0 if finding["id"] == root else len(group), finding)
    return [finding for group in groups.values() for finding in group]


def _summary(report: dict[str, Any], paper: Paper) -> Iterator[str]:
    sources, ledger, coverage = report["sources"], report["ledger"], report["coverage"]
    files = counted(len(sources), "file") if len(sources) != 1 else called(sources[0]["path"])
    yield f"Replayed {paper.styled(files, 'bold')}"
    yield from paper.row("records", _counts([source for source in sources if source["format"] != UNKNOWN_FORMAT]))
    for number, line in enumerate(_sources(sources)):
        yield from paper.row("" if number else "sources" if len(sources) > 1 else "source", line)
    yield from paper.row("time", _stretch(coverage["from"], coverage["to"]))
    if coverage["revisions"]:
        yield from paper.row("revisions", "{} to {}".format(*coverage["revisions"]))
    refusals = ledger["refusals"]
    yield from paper.row(
        "events", f"{ledger['events']:,}, {counted(refusals, 'refused transition') if refusals else 'none refused'}"
    )
    for clock in coverage["clocks"]:
        yield from paper.row("clock", _ahead(clock))
    yield from paper.row("missing", missing(coverage) or NOTHING)
    if gone := coverage["pruned"]:
        yield from paper.row("pruned", f"{gone['events']:,} events before {gone['before'][:19]}Z, on {gone['on'][:10]}")
    yield from paper.row("ledger", f"generation {ledger['generation']}, digest {ledger['digest']}")
    if report["findings"]:
        yield ""
        yield ", ".join(paper.styled(words, _STYLES[status]) for status, words in _tally(report["findings"]))


FORMATS = {
    "audit.k8s.io": "audit log",
    "objects": "API objects",
    "klog": "controller's log",
    "ipset": "ipsets",
    "cloudevents": "CloudEvents",
    UNKNOWN_FORMAT: "in no known format, skipped",
}
"""What a source was seen to be, in words."""

_SOURCES_NAMED = 20


def _sources(sources: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What each source was seen to be and, where there are several, what was in it."""
    if len(sources) == 1:
        yield FORMATS[sources[0]["format"]]
        return
    names = [called(source["path"]) for source in sources]
    lasts = [Path(name).name for name in names]
    for source, name, last in list(zip(sources, names, lasts, strict=True))[:_SOURCES_NAMED]:
        counts = f", {_counts([source], brief=True)}" if source["format"] != UNKNOWN_FORMAT else ""
        yield f"{last if lasts.count(last) == 1 else name}: {FORMATS[source['format']]}{counts}"
    if (left := len(sources) - _SOURCES_NAMED) > 0:
        yield f"and {counted(left, 'more file')} (-o json names them all)"


def _counts(sources: Sequence[dict[str, Any]], *, brief: bool = False) -> str:
    """How many records there are of which sort; in brief, only those sorts that there are."""
    count = {
        name: sum(source[name] for source in sources)
        for name in ("records", "recognised", "ignored", "unknown", "unrecognised", "duplicates")
    }
    parts = [
        (f"{count['recognised']:,} on networks", True),
        (f"{count['ignored']:,} on others", count["ignored"] or not brief),
        (f"{count['unknown']:,} in unknown words", count["unknown"]),
        (f"{count['unrecognised']:,} unreadable", count["unrecognised"] or not brief),
        (counted(count["duplicates"], "duplicate"), count["duplicates"] or not brief),
    ]
    return f"{count['records']:,}: {', '.join(words for words, is_told in parts if is_told)}"


def _ahead(clock: dict[str, Any]) -> str:
    name = Path(clock["source"]).name
    return (
        f"{name} is {abs(clock['ahead']):.1f} s {'ahead of' if clock['ahead'] > 0 else 'behind'} the audit log, by "
        f"{counted(clock['commands'], 'command')} that both show; --skew {name}={clock['ahead']:+.1f} puts it right"
    )


def missing(coverage: dict[str, Any], sources: Sequence[dict[str, Any]] = ()) -> str:
    """What the log cannot speak for, in words; empty where nothing is missing that can be noticed."""
    known = [source for source in sources if source["format"] != UNKNOWN_FORMAT]
    told = [
        (coverage["unknown_beginnings"], "resource first heard of in mid-life", "resources first heard of in mid-life"),
        (coverage["truncated"], "record cut short by the API server", "records cut short by the API server"),
        (
            coverage["below_request_response"],
            "write recorded without its answer (below level RequestResponse)",
            "writes recorded without their answers (below level RequestResponse)",
        ),
        (len(coverage["gaps"]), "change whose own record is missing", "changes whose own records are missing"),
        (len(coverage["silences"]), "silence in an audit log", "silences in audit logs"),
        (
            (coverage.get("pruned") or {}).get("late", 0),
            "record that belongs before what was pruned",
            "records that belong before what was pruned",
        ),
        (sum(source["unrecognised"] for source in known), "unreadable record", "unreadable records"),
        (len(sources) - len(known), "file in no known format", "files in no known format"),
    ]
    return "; ".join(counted(count, one, more) for count, one, more in told if count)


def _clean(coverage: dict[str, Any]) -> str:
    if any(coverage[what] for what in ("below_request_response", "truncated", "gaps", "silences")):
        return "Nothing is wrong that this log can show; what is missing in it may hide something."
    return "Nothing is wrong that this log can show."


def as_of(coverage: dict[str, Any]) -> str:
    """What an answer rests on, in one line."""
    revisions = coverage["revisions"]
    at = f"revision {revisions[1]}, " if revisions else ""
    return (
        f"as of {at}{coverage['to'] or 'the beginning'}; missing: {missing(coverage) or NOTHING}{pruned_in(coverage)}"
    )


def pruned_in(coverage: dict[str, Any]) -> str:
    """That old events are gone, in words to add; empty where none are."""
    if (gone := coverage.get("pruned")) is None:
        return ""
    return f"; pruned before {gone['before'][:19]}Z (revision {gone['revision']})"


def _stretch(first: str | None, last: str | None) -> str:
    if not last:
        return "-"
    if not first:
        return f"{last[:10]} {last[11:23].rstrip('Z')} UTC or later, when the last object says that something happened"
    day, until = first[:10], last[:10]
    return f"{day} {first[11:23].rstrip('Z')} to {until + ' ' if until != day else ''}{last[11:23].rstrip('Z')} UTC"


def _tally(findings: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    counts: dict[tuple[str, str], int] = {}
    for finding in findings:
        slot = (finding["status"], finding["severity"])
        counts[slot] = counts.get(slot, 0) + 1
    for status in _STYLES:
        for severity in ("error", "warning"):
            if count := counts.get((status, severity), 0):
                yield status, counted(count, f"{status} {severity}")


def title(finding: dict[str, Any]) -> str:
    """`lost-update of vpc/shop`: how one finding names another."""
    return f"{finding['name']} of {path_of(finding['resource'])}"


def path_of(resource: dict[str, Any]) -> str:
    """`vpc/shop`, or `pod/web/web-0`."""
    return str(Key(resource["kind"], resource["namespace"] or "", resource["name"]))


def called(path: str) -> str:
    """A source's path for people."""
    return "standard input" if path == "-" else path


def finding_text(finding: dict[str, Any], paper: Paper, others: Sequence[dict[str, Any]] = ()) -> Iterator[str]:
    """One finding as a person would tell it: what is wrong, where to look first, the evidence, the repair."""
    status = finding["status"]
    yield (
        f"{paper.styled(status.upper(), _STYLES[status])} {paper.styled(path_of(finding['resource']), 'bold')}  "
        f"{finding['name']} ({finding['rule']}, {finding['severity']})"
    )
    if finding["field"] and finding["reported"] is not None and finding["lawful"] is not None:
        yield from paper.row("field", finding["field"])
        yield from paper.row("reported", _value(finding["reported"]))
        yield from paper.row("lawful", _value(finding["lawful"]))
    places = _Places([finding, *others])
    first = finding["since"]
    if first["source"]:
        yield from paper.row(
            "look at", f"{places.of(first['source'])} first: {short(first['actor'])}, {first['operation']}"
        )
    yield ""
    yield from paper.paragraph(finding["explanation"])
    if finding["consequence"] and status != HEALED:
        yield from paper.paragraph(finding["consequence"])
    root = next((other for other in others if other["id"] == finding["root"]), None)
    if root is not None:
        yield from paper.paragraph(f"It follows from the {title(root)}.")
    elif finding["root"]:
        yield from paper.paragraph(f"It follows from {finding['root']}.")
    yield ""
    for witness in finding["witnesses"][:_EVENTS_NAMED]:
        yield from _witness(witness, paper, places)
    if (left := len(finding["witnesses"]) - _EVENTS_NAMED) > 0:
        yield from paper.paragraph(f"and {counted(left, 'more event')} (-o json names them all)", 6, "dim")
    if finding["repair"]:
        yield ""
        yield paper.styled(f"  {_REPAIR.get(status, 'Repair')}, in this order:", "bold")
        for number, step in enumerate(finding["repair"], 1):
            yield from paper.paragraph(f"{number}. {step['why']}:", 5, first=2)
            yield paper.styled(f"     {step['run']}", "cyan")
    elif root is not None and status == OPEN:
        yield ""
        yield from paper.paragraph(f"Repair: that of the {title(root)}.", style="bold")


class _Places:
    """Where records are, for people: only the file's name where no other file that is named has the same."""

    def __init__(self, findings: Iterable[dict[str, Any]]) -> None:
        paths = {
            source.rpartition(":")[0]
            for finding in findings
            for witness in [*finding["witnesses"], finding["since"]]
            for source in (witness["source"], *witness["evidence"])
            if source
        }
        names = [Path(path).name for path in paths]
        self._names = {path: name for path in paths if names.count(name := Path(path).name) == 1}

    def of(self, source: str) -> str:
        path, _, line = source.rpartition(":")
        if path == "-":
            return f"line {line}"
        return f"{self._names.get(path, path)}:{line}"


def _witness(witness: dict[str, Any], paper: Paper, places: _Places) -> Iterator[str]:
    yield (
        f"  {paper.styled(witness['at'][11:23], 'dim')} {paper.styled(str(witness['revision'] or '-').rjust(8), 'dim')}  "
        f"{paper.styled(witness['role'].ljust(12), _WITNESS_STYLES.get(witness['role'], ''))} "
        f"{paper.styled(witness['resource'])} {paper.styled(witness['event'])}"
    )
    shown_by = [witness["source"], *witness["evidence"]] if witness["source"] else []
    where = f", {' and '.join(places.of(source) for source in shown_by)}" if shown_by else ""
    says_what = f": {witness['says']}" if witness["says"] else ""
    yield from paper.paragraph(f"{short(witness['actor'])}, {witness['operation']}{where}{says_what}", 6, "dim")


def _value(value: Any) -> str:
    if isinstance(value, list):
        some = ", ".join(map(str, value[:_ITEMS_SHOWN])) or "(nothing)"
        return some + (f" and {len(value) - _ITEMS_SHOWN} more" if len(value) > _ITEMS_SHOWN else "")
    return value if isinstance(value, str) and value else json.dumps(value)


def timeline_row(position: int, event: Event, place: tuple[str, int] | None) -> dict[str, Any]:
    """One event for `history`."""
    return {
        "position": position,
        "at": iso(event.time),
        "revision": event.revision,
        "actor": event.actor,
        "operation": event.operation,
        "event": event.type,
        "resource": str(event.key),
        "uid": event.uid or None,
        "says": says(event),
        "changed": {path: {"before": before, "after": after} for path, (before, after) in event.changed.items()},
        "reason": event.reason or None,
        "purpose": event.purpose or None,
        "cause": event.cause or None,
        "audit_id": audit_id(event.record),
        "source": f"{place[0]}:{place[1]}" if place else None,
    }
