"""What a question is answered with on a terminal: the rows of a document as a table, with what is wrong in colour.

`cli` hands the rows over that `report` or the views made, and prints the lines that come back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from adapters.paper import Paper
from adapters.report import path_of
from domain.resources import Kind
from projections.findings.rule import short


def resources(rows: list[dict[str, Any]], kind: Kind, *, wide: bool, headers: bool) -> Iterator[str]:
    """Resources of one kind, their claims as reported, and what these should be where they differ."""
    fields = list(dict.fromkeys(field for row in rows for field in row["reported"]))
    where = "NAMESPACE" if kind.served else "NODE"
    header = [*([where] if kind.namespaced else []), "NAME", "STATE", *map(column, fields), "SHOULD BE"]
    cells = []
    for row in rows:
        drift = "; ".join(f"{_last(field)} {cell(both['lawful'], wide)}" for field, both in row["drift"].items())
        cells.append(
            (
                "red" if drift else "",
                [
                    *([row["namespace"] or "-"] if kind.namespaced else []),
                    row["name"],
                    row["state"],
                    *(cell(row["reported"].get(field), wide) for field in fields),
                    drift or "-",
                    *([row["uid"] or "-"] if wide else []),
                ],
            )
        )
    return Paper.of(sys.stdout).columns([*header, *(["UID"] if wide else [])], cells, headers=headers)


def _last(field: str) -> str:
    """The last word of a field's path: `subnets` of `status.subnets`, `logical_switch` of an annotation."""
    return field.removesuffix("]").rpartition("/")[2].rpartition(".")[2]


_SHORT = {
    "defaultLogicalSwitch": "SWITCH",
    "v4availableIPs": "V4FREE",
    "v4usingIPs": "V4USED",
    "v6availableIPs": "V6FREE",
    "v6usingIPs": "V6USED",
    "logical_switch": "SUBNET",
}


def column(field: str) -> str:
    """What a claim's column is headed with."""
    return _SHORT.get(_last(field), _last(field).upper())


def cell(value: Any, wide: bool) -> str:
    """A value in a few words; a list's first items, all of them if it is wide."""
    if value is None or value == "":
        return "-"
    if isinstance(value, list):
        some = value if wide else value[:3]
        return ",".join(map(str, some)) + (f",+{len(value) - len(some)}" if len(value) > len(some) else "") or "none"
    return value if isinstance(value, str) else json.dumps(value)


def history(rows: list[dict[str, Any]], *, wide: bool, headers: bool) -> Iterator[str]:
    """All that happened to one resource, an event a row."""
    header = ["TIME", "REVISION", "ACTOR", "EVENT"]
    header += ["OPERATION", "POSITION", "AUDIT ID", "SOURCE", "WHAT"] if wide else ["WHAT"]
    times = times_of([row["at"] for row in rows], wide)
    cells = []
    for time, row in zip(times, rows, strict=True):
        more = [row["operation"] or "-", str(row["position"]), row["audit_id"] or "-", row["source"] or "-"]
        revision = str(row["revision"]) if row["revision"] is not None else "-"
        style = "red" if row["event"] == "TransitionRefused" else "dim" if row["event"] == "AttemptObserved" else ""
        cells.append(
            (style, [time, revision, short(row["actor"]), row["event"], *(more if wide else []), row["says"] or "-"])
        )
    return Paper.of(sys.stdout).columns(header, cells, headers=headers, cut=not wide)


def events(rows: list[dict[str, Any]], *, wide: bool, headers: bool) -> Iterator[str]:
    """Events on any resources, one a row."""
    header = ["TIME", "REVISION", "ACTOR", "VERB", "EVENT", "RESOURCE"]
    header += ["OPERATION", "POSITION", "AUDIT ID", "SOURCE", "WHAT"] if wide else ["WHAT"]
    times = times_of([row["at"] for row in rows], wide)
    cells = []
    for time, row in zip(times, rows, strict=True):
        more = [row["operation"] or "-", str(row["position"]), row["audit_id"] or "-", row["source"] or "-"]
        revision = str(row["revision"]) if row["revision"] is not None else "-"
        style = "red" if row["refused_by"] else "dim" if row["event"] == "AttemptObserved" else ""
        first = [time, revision, short(row["actor"]), row["verb"], row["event"], row["resource"]]
        cells.append((style, [*first, *(more if wide else []), row["says"] or "-"]))
    return Paper.of(sys.stdout).columns(header, cells, headers=headers, cut=not wide)


def who(rows: list[dict[str, Any]], *, wide: bool, headers: bool) -> Iterator[str]:
    """Who wrote to a resource, an actor a row."""
    header = ["ACTOR", "EVENTS", "ATTEMPTS", "REFUSED", "FIRST", "LAST", *(["POSITIONS"] if wide else []), "VERBS"]
    times = times_of([row[end]["at"] for end in ("first", "last") for row in rows], wide)
    cells = []
    for row, first, last in zip(rows, times, times[len(rows) :], strict=False):
        counts = [str(row[count]) for count in ("events", "attempts", "refused")]
        where = [f"{row['first']['position']}..{row['last']['position']}"] if wide else []
        verbs = ", ".join(f"{verb} {count}" for verb, count in row["verbs"].items())
        actor = row["actor"] if wide else short(row["actor"])
        cells.append(("red" if row["refused"] else "", [actor, *counts, first, last, *where, verbs]))
    return Paper.of(sys.stdout).columns(header, cells, headers=headers)


def times_of(moments: Sequence[str], wide: bool) -> list[str]:
    """Times of day, with the day where there is more than one."""
    if wide or len({moment[:10] for moment in moments if moment != "-"}) > 1:
        return [moment[:23] + "Z" if moment != "-" else "-" for moment in moments]
    return [moment[11:23] if moment != "-" else "-" for moment in moments]


def findings(rows: list[dict[str, Any]], *, wide: bool, headers: bool) -> Iterator[str]:
    """What is wrong, a finding a row."""
    header = ["STATUS", "SEVERITY", "SINCE", "UNTIL", "FINDING", "RESOURCE", *(["ID", "ROOT"] if wide else [])]
    moments = [row[side]["at"] if row[side] else "-" for side in ("since", "until") for row in rows]
    times = times_of(moments, wide)
    styles = {"open": "red", "unknown": "magenta", "pending": "yellow"}
    cells = [
        (
            styles.get(row["status"], ""),
            [
                row["status"],
                row["severity"],
                since,
                until,
                row["name"],
                path_of(row["resource"]),
                *([row["id"], row["root"] or "-"] if wide else []),
            ],
        )
        for row, since, until in zip(rows, times, times[len(rows) :], strict=False)
    ]
    return Paper.of(sys.stdout).columns(header, cells, headers=headers)


def ipset(document: dict[str, Any], *, wide: bool, headers: bool) -> Iterator[str]:
    """One set, a member a row."""
    header = ["MEMBER", "IS", "OWNER", "PUT IN BY", "SINCE", "FOR"]
    header += ["EVENT", "POSITION", "WHY", "SOURCE"] if wide else []
    rows = document["members"]
    times = times_of([row["since"]["at"] if row["since"] else "-" for row in rows], wide)
    styles = {"missing": "red", "not lawful": "red", "unknown": "yellow"}
    cells = []
    for row, time in zip(rows, times, strict=True):
        since = row["since"] or {}
        more = [
            since.get("event") or "-",
            str(since.get("position") or "-"),
            row["why"] or "-",
            since.get("source") or "-",
        ]
        actor = short(since["actor"]) if since else "-"
        cells.append(
            (
                styles.get(row["is"], ""),
                [
                    row["member"],
                    row["is"],
                    row["owner"] or "-",
                    actor,
                    time,
                    row["asked_by"] or "-",
                    *(more if wide else []),
                ],
            )
        )
    return Paper.of(sys.stdout).columns(header, cells, headers=headers, cut=not wide)
