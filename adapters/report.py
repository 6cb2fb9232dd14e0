"""The answer of a replay: as the public JSON document, and as text for a person with little time.

The document is `netledger/replay/v1`; its JSON Schema ships as `adapters/schemas/replay-v1.json`, and a test holds the
two together. Text is made from the document, so it can say nothing that the document does not.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from adapters.app import Outcome, Store, iso, span_of
from adapters.sources.audit_log import BELOW, TRUNCATED
from domain.events import OBSERVED, REFUSED, Event
from domain.operations import request_of
from domain.resources import Key
from domain.world import Resource
from projections.findings.rule import ERROR, OPEN, PENDING, Finding, short
from projections.reading import Reading

SCHEMA = "netledger/replay/v1"

_EVENTS_NAMED = 40  # how many witnesses of one finding the text shows


def document(store: Store, outcome: Outcome) -> dict[str, Any]:
    """The whole answer, as plain JSON values."""
    reading = outcome.judged.reading
    span = span_of(store.journal)
    cited = {witness.at for finding in outcome.findings for witness in finding.witnesses}
    cited |= {at for finding in outcome.findings for at in (finding.since, finding.until) if at}
    events = {at: store.ledger.event_at(at) for at in sorted(cited)}
    places = store.journal.locate({placed.event.record for placed in events.values()})
    told = _Events({at: (placed.position, placed.event) for at, placed in events.items()}, places)
    revisions = reading.revisions or None
    return {
        "schema": SCHEMA,
        "sources": [
            {
                "path": tally.path,
                "format": tally.format,
                "records": tally.records,
                "recognised": tally.recognised,
                "ignored": tally.ignored,
                "unrecognised": tally.unrecognised,
                "duplicates": tally.duplicates,
            }
            for tally in outcome.tallies
        ],
        "ledger": {
            "generation": store.ledger.generation,
            "head": store.ledger.head,
            "events": reading.at,
            "refusals": reading.refusals,
            "digest": outcome.judged.digest,
        },
        "coverage": {
            "from": span.first or None,
            "to": iso(outcome.end) if outcome.end else None,
            "revisions": revisions,
            "gaps": reading.gaps,
            "unknown_beginnings": reading.sighted,
            "truncated": reading.unknown.get(TRUNCATED, 0),
            "below_request_response": reading.unknown.get(BELOW, 0),
        },
        "findings": [_finding(finding, told) for finding in outcome.findings],
        "resources": [resource_document(reading, resource) for resource in reading.resources()],
    }


def resource_document(reading: Reading, resource: Resource) -> dict[str, Any]:
    """One live resource: where it stands in its life, and its claims beside what they should be."""
    standing = reading.standing(resource)
    return {
        **_key(resource.key, resource.uid),
        "state": resource.state,
        "lawful": standing.lawful,
        "reported": standing.reported,
        "drift": standing.drift,
    }


def open_errors(findings: Iterable[dict[str, Any]]) -> int:
    """How many findings are errors that are still so."""
    return sum(finding["severity"] == ERROR and finding["status"] == OPEN for finding in findings)


class _Events:
    """The cited events, each as a document that says where it is and on what it rests."""

    def __init__(self, events: dict[int, tuple[int, Event]], places: dict[str, tuple[str, int]]) -> None:
        self._events = events
        self._places = places

    def document(self, at: int) -> dict[str, Any]:
        position, event = self._events[at]
        path, line = self._places.get(event.record, ("", 0))
        return {
            "position": position,
            "audit_id": audit_id(event.record),
            "source": f"{path}:{line}" if path else None,
            "at": iso(event.time),
            "actor": event.actor,
            "revision": event.revision,
            "operation": event.operation,
            "resource": str(event.key),
            "event": event.type,
            "says": says(event),
        }


def audit_id(record: str) -> str | None:
    """The audit ID in a record's identity; `None` for records of other sources."""
    return request_of(record).removeprefix("audit:").rpartition("@")[0] if record.startswith("audit:") else None


def says(event: Event) -> str:
    """What an event changed, in a few words."""
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
        parts.append(f"{name} {_brief(before)} → {_brief(after)}" if before is not None else f"{name} {_brief(after)}")
    return "; ".join(parts[:3]) + ("; …" if len(parts) > 3 else "")


def _brief(value: Any) -> str:
    if value is None:
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


_STYLES = {OPEN: "bold red", PENDING: "yellow", "healed": "green"}


def print_report(console: Console, report: dict[str, Any], details: bool = True) -> None:
    """The whole report for a person: a summary, the findings, the timeline round each."""
    _print_summary(console, report)
    findings = report["findings"]
    for finding in findings:
        console.print()
        print_finding(console, finding, details)
    if not findings:
        console.print()
        console.print(Text("Nothing is wrong that this log can show.", style="green"))


def _print_summary(console: Console, report: dict[str, Any]) -> None:
    sources, ledger, coverage = report["sources"], report["ledger"], report["coverage"]
    counts = {
        name: sum(source[name] for source in sources)
        for name in ("records", "recognised", "ignored", "unrecognised", "duplicates")
    }
    files = f"{len(sources)} files" if len(sources) != 1 else sources[0]["path"]
    console.print(Text.assemble(("Replayed ", ""), (files, "bold")), soft_wrap=True)
    rows = [
        (
            "records",
            f"{counts['records']:,}: {counts['recognised']:,} on our kinds, {counts['ignored']:,} ignored, "
            f"{counts['unrecognised']:,} not understood, {counts['duplicates']:,} twice",
        ),
        ("time", f"{coverage['from'] or '-'} to {coverage['to'] or '-'}"),
        ("events", f"{ledger['events']:,}, of which {ledger['refusals']:,} refused transitions"),
        ("ledger", f"generation {ledger['generation']}, digest {ledger['digest']}"),
    ]
    if coverage["revisions"]:
        first, last = coverage["revisions"]
        rows.insert(2, ("revisions", f"{first} to {last}"))
    missing = [
        (coverage["unknown_beginnings"], "resources first heard of in mid-life"),
        (coverage["truncated"], "records cut short by the API server"),
        (coverage["below_request_response"], "writes recorded without their answer (level below RequestResponse)"),
        (len(coverage["gaps"]), "changes whose own record is missing"),
    ]
    gaps = "; ".join(f"{count:,} {what}" for count, what in missing if count)
    rows.append(("missing", gaps or "nothing that can be noticed"))
    for name, value in rows:
        _print_row(console, name, value, 10)
    _print_tally(console, report["findings"])


def _print_tally(console: Console, findings: list[dict[str, Any]]) -> None:
    counts: dict[tuple[str, str], int] = {}
    for finding in findings:
        slot = (finding["status"], finding["severity"])
        counts[slot] = counts.get(slot, 0) + 1
    parts = [
        Text(f"{count} {status} {severity}{'s' if count > 1 else ''}", style=_STYLES[status])
        for (status, severity), count in counts.items()
    ]
    if parts:
        console.print()
        console.print(Text(", ").join(parts))


def print_finding(console: Console, finding: dict[str, Any], details: bool = True) -> None:
    """One finding as a person would tell it."""
    resource = finding["resource"]
    path = f"{resource['namespace']}/{resource['name']}" if resource["namespace"] else resource["name"]
    style = _STYLES[finding["status"]]
    console.print(
        Text.assemble(
            (f"{finding['status'].upper()} ", style),
            (f"{resource['kind']}/{path}", "bold"),
            f"  {finding['name']} ({finding['rule']}, {finding['severity']})",
        ),
        soft_wrap=True,
    )
    if finding["field"] and finding["reported"] is not None and finding["lawful"] is not None:
        _print_row(console, finding["field"].removeprefix("metadata.annotations"), "", 10)
        _print_row(console, "  reported", _value(finding["reported"]), 12)
        _print_row(console, "  lawful", _value(finding["lawful"]), 12)
    _print_paragraph(console, finding["explanation"])
    if finding["consequence"] and finding["status"] != "healed":
        _print_paragraph(console, finding["consequence"])
    if finding["root"]:
        _print_paragraph(console, f"It follows from {finding['root']}.")
    if not details:
        return
    console.print()
    for witness in finding["witnesses"][:_EVENTS_NAMED]:
        _print_witness(console, witness)
    if finding["repair"]:
        console.print()
        console.print(Text("  Repair, in this order:", style="bold"))
        for number, step in enumerate(finding["repair"], 1):
            _print_paragraph(console, f"{number}. {step['why']}:", indent="  ")
            console.print(Text(f"     {step['run']}", style="cyan"), soft_wrap=True)


def _print_witness(console: Console, witness: dict[str, Any]) -> None:
    time = witness["at"][11:23]
    head = Text.assemble(
        ("  ", ""),
        (f"{time} ", "dim"),
        (f"{witness['revision'] or '':>8} ", "dim"),
        (f"{witness['role']:<12}", "bold" if witness["role"] in ("lost", "overwriting") else ""),
        f"{witness['resource']} ",
        (f"{witness['event']}", "italic"),
    )
    console.print(head, soft_wrap=True)
    where = f", {witness['source']}" if witness["source"] else ""
    says_what = f": {witness['says']}" if witness["says"] else ""
    line = f"{short(witness['actor'])}, {witness['operation']}{where}{says_what}"
    _print_paragraph(console, line, indent=" " * 24, style="dim")


def _print_row(console: Console, name: str, value: str, width: int) -> None:
    lines = textwrap.wrap(value, max(console.width - width - 2, 30), break_on_hyphens=False) or [""]
    console.print(Text.assemble((f"  {name:<{width}}", "dim"), lines[0]), soft_wrap=True)
    for line in lines[1:]:
        console.print(Text(" " * (width + 2) + line), soft_wrap=True)


def _print_paragraph(console: Console, text: str, indent: str = "  ", style: str = "") -> None:
    for line in textwrap.wrap(
        text, max(console.width - 1, 40), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ):
        console.print(Text(line, style=style), soft_wrap=True)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) or "(nothing)" if isinstance(value, list) else json.dumps(value)


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
        "cause": event.cause or None,
        "audit_id": audit_id(event.record),
        "source": f"{place[0]}:{place[1]}" if place else None,
    }
