"""`blame`, `diff` and `why` for people: the documents that `reasons` gives, as lines.

`cli/explaining` prints them. Text is made from the document, so it can say nothing that the document does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from adapters.paper import Paper, counted
from adapters.report import brief, path_of
from adapters.tables import times_of
from projections.findings.rule import short

_STYLES = {"blocked": "bold red", "waiting": "yellow", "unknown": "magenta", "nothing": "green", "gone": "dim"}

VALUE_WIDTH = 28
"""How much of a value a table shows that is not wide."""


def blame(document: dict[str, Any], *, wide: bool, headers: bool) -> Iterator[str]:
    """A field a row: what it says, who made it say so, when, in which line; what is to be said of it beside."""
    rows = document["fields"]
    header = ["FIELD", "VALUE", "SET BY", "TIME", "REVISION"]
    header += ["POSITION", "OPERATION", "AUDIT ID"] if wide else []
    times = times_of([row["by"]["at"] if row["by"] else "-" for row in rows], wide)
    sources = _Sources([row["by"] for row in rows if row["by"]], wide=wide)
    cells = []
    for row, time in zip(rows, times, strict=True):
        by = row["by"] or {}
        basis = row["basis"] or {}
        more = [str(by.get("position") or "-"), by.get("operation") or "-", by.get("audit_id") or "-"]
        cells.append(
            (
                "red" if row["drifts"] else "yellow" if basis.get("stale") else "",
                [
                    row["field"],
                    _shown(row["value"], wide),
                    short(by["actor"]) if by else "before what was pruned" if row["value"] is not None else "nobody",
                    time,
                    str(by.get("revision") or "-"),
                    *(more if wide else []),
                    sources.of(by),
                    _note(row) or "-",
                ],
            )
        )
    return Paper.of(sys.stdout).columns([*header, "SOURCE", "NOTE"], cells, headers=headers, cut=not wide)


def _note(row: dict[str, Any]) -> str:
    """What is to be said of a field: that it should say something else, and what its writer had read."""
    notes = [f"should be {_empty(row['lawful'])}"] if row["drifts"] else []
    if basis := row["basis"]:
        first, last = basis["revisions"] or (None, None)
        which = f"revision {first}" if first == last else f"revisions {first} to {last}"
        read = (
            f"had read {which}{'' if basis['known'] else ' (inferred)'}"
            if first is not None
            else "had read an older one"
        )
        others = " and ".join(f"revision {one['revision']} of {short(one['actor'])}" for one in basis["overlooked"])
        notes.append(f"stale: {read}, not {others}" if basis["stale"] else read)
    return "; ".join(notes)


def blame_summary(document: dict[str, Any]) -> str:
    """What it is that was blamed, in one line."""
    revision = f" at revision {document['revision']}" if document["revision"] is not None else ""
    wrong = sum(row["drifts"] for row in document["fields"])
    stale = sum(bool(row["basis"] and row["basis"]["stale"]) for row in document["fields"])
    said = (
        f"{path_of(document['resource'])} is {document['state']}{revision}: {counted(len(document['fields']), 'field')}"
    )
    said += f", {wrong} not as {'it' if wrong == 1 else 'they'} should be" if wrong else ""
    return said + (f", {stale} written over a newer one by somebody who had read an older" if stale else "")


def diff(document: dict[str, Any], paper: Paper) -> Iterator[str]:
    """What was and what is, by the writes that made it so, in their order."""
    begin, end = document["from"], document["to"]
    yield paper.styled(path_of(document["resource"]), "bold")
    yield from paper.row("from", _moment(begin))
    yield from paper.row("to", _moment(end))
    if begin["there"] and end["there"] and begin["state"] != end["state"]:
        yield from paper.row("state", f"{begin['state']} → {end['state']}")
    elif begin["there"] != end["there"]:
        yield from paper.row("state", f"{_is(begin)} → {_is(end)}")
    if document["replaced"]:
        yield from paper.row("uid", f"{begin['uid'] or '-'} → {end['uid'] or '-'}: it is another object")
    if gone := document["gone"]:
        yield from paper.row("then", f"gone, by {short(gone['actor'])} at {gone['at'][11:23]} ({gone['operation']})")
    writes: dict[int, list[dict[str, Any]]] = {}
    for row in document["fields"]:
        writes.setdefault(row["by"]["position"] if row["by"] else 0, []).append(row)
    sources = _Sources([row["by"] for row in document["fields"] if row["by"]], wide=False)
    for _, rows in sorted(writes.items()):
        yield ""
        yield from paper.paragraph(_write(rows[0]["by"], sources), 4, "dim", first=2)
        for row in rows:
            yield from _sides(row, paper)
    if not document["fields"]:
        yield ""
        yield "  Nothing changed."


def _write(by: dict[str, Any] | None, sources: _Sources) -> str:
    if by is None:
        return "by whom and when, was pruned"
    revision = f" revision {by['revision']}" if by["revision"] is not None else ""
    return f"{by['at'][11:23]}{revision}  {short(by['actor'])}, {by['operation']}, {sources.of(by)}"


def _sides(row: dict[str, Any], paper: Paper) -> Iterator[str]:
    times = f"  ({row['writes']} writes)" if (row["writes"] or 0) > 1 else ""
    if row["back"]:
        yield from paper.paragraph(f"  {row['field']}: {_empty(row['after'])}, changed and back{times}", 8, first=4)
        return
    if row["added"] is None:
        before = f"{_empty(row['before'])} → " if row["before"] is not None else ""
        yield from paper.paragraph(f"  {row['field']}: {before}{_empty(row['after'])}{times}", 8, first=4)
        return
    yield from paper.paragraph(f"  {row['field']}:{times}", 8, first=4)
    for sign, style, members in (("-", "red", row["removed"]), ("+", "green", row["added"])):
        for member in members:
            yield paper.styled(f"        {sign} {brief(member)}", style)


def _empty(value: Any) -> str:
    """A value, said so where it is empty or absent."""
    return "nothing" if value is None or value == "" or value == [] else brief(value)


def _moment(end: dict[str, Any]) -> str:
    last = end["last"]
    if last is None:
        return "the beginning"
    revision = f" (revision {end['revision']})" if end["revision"] is not None else ""
    return f"{last['at'][:23]}Z{revision}"


def _is(end: dict[str, Any]) -> str:
    if end["there"]:
        return str(end["state"])
    last = end["last"]
    return f"gone, by {short(last['actor'])} at {last['at'][11:23]}" if last is not None else "not there yet"


def why(document: dict[str, Any], paper: Paper) -> Iterator[str]:
    """The answer, then the chain from what was asked about to the root, then the repair."""
    verdict = document["verdict"]
    yield (
        f"{paper.styled(verdict.upper(), _STYLES[verdict])} {paper.styled(path_of(document['resource']), 'bold')}  "
        f"{document['state']}"
    )
    yield ""
    yield from paper.paragraph(document["says"][:1].upper() + document["says"][1:])
    chain = document["chain"]
    if chain:
        yield ""
    sources = _Sources([event for link in chain for event in (link["event"], *link["also"]) if event], wide=False)
    for number, link in enumerate(chain):
        root = number == len(chain) - 1 and verdict == "blocked"
        arrow = "because " if number else "        "
        yield from paper.paragraph(f"{arrow}{link['says']}{'  (the root)' if root else ''}", 10, first=2)
        yield from paper.paragraph(_evidence(link, sources), 10, "dim")
    if document["finding"]:
        yield ""
        yield from paper.paragraph(f"Finding: {document['finding']}")
    if document["repair"]:
        yield ""
        yield paper.styled("  Repair, in this order:", "bold")
        for number, step in enumerate(document["repair"], 1):
            yield from paper.paragraph(f"{number}. {step['why']}:", 5, first=2)
            yield paper.styled(f"     {step['run']}", "cyan")


def _evidence(link: dict[str, Any], sources: _Sources) -> str:
    event, absence = link["event"], link["absence"]
    if absence is not None:
        until = f" to {absence['until'][11:23]}, the log's end" if absence["until"] else " to the log's end"
        since = f" from {absence['since'][11:23]}" if absence["since"] else ""
        return f"absent: {absence['what']}{since}{until}"
    if event is None:
        return "no event"
    revision = f"revision {event['revision']}, " if event["revision"] is not None else ""
    also = [sources.of(one) for one in link["also"]]
    seen = f"; also {', '.join(also[:4])}{', …' if len(also) > 4 else ''}" if also else ""
    return f"{event['at'][11:23]} {revision}{link['resource']} {event['event']}, {sources.of(event)}{seen}"


class _Sources:
    """Where records are: only the file's name where no other file that is named has the same."""

    def __init__(self, events: Iterable[dict[str, Any]], *, wide: bool) -> None:
        paths = {event["source"].rpartition(":")[0] for event in events if event["source"]}
        names = [Path(path).name for path in paths]
        self._short = {path: name for path in paths if not wide and names.count(name := Path(path).name) == 1}

    def of(self, event: dict[str, Any]) -> str:
        """The file and line of an event's record."""
        if not event or not event["source"]:
            return "-"
        path, _, line = event["source"].rpartition(":")
        return f"line {line}" if path == "-" else f"{self._short.get(path, path)}:{line}"


def _shown(value: Any, wide: bool) -> str:
    if value is None:
        return "-"
    if wide:
        import json

        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = brief(value)
    return text if len(text) <= VALUE_WIDTH else text[: VALUE_WIDTH - 1] + "…"
