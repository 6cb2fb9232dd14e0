"""The generated pages: lifecycles with their diagrams, findings, sources, the JSON and the daemon's. `make docs` writes them.

A test fails when a page is stale, so a table and its picture can never say different things.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from adapters import sources_page
from adapters.paper import Paper
from domain.kinds import LIFECYCLES
from domain.lifecycle import SAME, Lifecycle, Row
from domain.resources import BY_NAME
from projections.findings.judge import RULES
from projections.findings.rule import Rule

OVERDUE = (
    "Overdue: more than 2 s, more than ten times what the controller usually takes for such a trigger in this log (three "
    "in four of its reactions were quicker), and more than the slowest reaction that came by itself, all before the log's "
    "own end; upstream's own delays are added (EIP reset 3 s, VPC recheck 5 s). Where the log shows what stops the "
    "controller, ten times the usual or twice the slowest is enough. Where no reaction was ever seen it is 30 s. "
    "--patience overrides it. Before that a finding is pending."
)

CHECKS = {
    "NL100": "look up the refused record (its file and line are among the witnesses), and compare the state that the "
    "finding names with the row of the lifecycle's table: `netledger lifecycle KIND` prints it.",
    "NL101": "read the three records side by side: what the field said on the basis, in the write that was lost, and in the "
    "write that came after it. The last two say the opposite of each other, and between them nothing happened that "
    "would make the old value right again: `netledger history KIND/NAME` shows all that did.",
    "NL102": "the record that asked for the deletion answers with a deletionTimestamp, and no later record takes the "
    "finalizer off. Then look at what the finding says it waits for: `netledger history` of it ends with its removal.",
    "NL103": "two records answer that the pod and the subnet are gone (or that the subnet is in deletion), and after both "
    "of them no record takes the finalizer off the IP object: `netledger history ip/NAME` ends before that.",
    "NL104": "the subnet's last answer still names the VPC in spec.vpc, and the record that the finding names removed it; "
    "no later record creates one of that name.",
    "NL105": "the namespace's record of creation has no ovn.kubernetes.io/ annotations, and no later record gives it any, "
    "while other namespaces of the same log got theirs from the controller soon after they were made.",
    "NL106": "find the record that created the gateway's pod (its uid tells it from the one before). Between that record and "
    "the one that says ready there is no exec into that pod whose command names the address.",
    "NL107": "put three texts side by side: the restore that put the member in, the restore that the finding names as "
    "overwriting, and the first dump after it. The first adds the member, the second does not, the third lacks it; between "
    "the first and the second no text of the owner's is without it. `netledger ipset NAME --at TIME` shows each moment.",
    "NL108": "the text that the finding names adds the member, and no text of the set's owner before it does: "
    "`netledger history ipset/NAME` shows who wrote what.",
    "NL109": "find the owner's restore that the finding names, which no longer has the member, and the later one of somebody "
    "else that has it: no text of the owner's between them puts it in again.",
}
"""How a person convinces himself of a finding without believing this program."""

RECORDINGS = "tests/incidents/data"
EXAMPLES = {
    "NL101": "s0-buggy",
    "NL102": "s0-buggy",
    "NL103": "s2-buggy-A",
    "NL104": "s1-buggy",
    "NL105": "s1-buggy",
    "NL106": "s4-buggy",
    "NL107": "s3-buggy",
}
"""Which bundled recording a rule's example comes from."""

UNSEEN = {
    "NL100": "A NAT gateway that goes while an EIP still uses it would be one: its removal is recorded as refused, with the "
    "reason that the table gives.",
    "NL108": "`ipset add kube-router-svip 192.0.2.1` by an operator's script would be one, until kube-router's next sync.",
    "NL109": "In kube-router 2.0 to 2.1.1 a Service that is deleted just before a policy sync is one: the policy controller "
    "restores the sets with its address still in them.",
}

_ISSUE = {
    "kube-ovn": "https://github.com/kubeovn/kube-ovn/issues/",
    "kube-router": "https://github.com/cloudnativelabs/kube-router/issues/",
}


def explain(rule: type[Rule], paper: Paper) -> Iterator[str]:
    """What `netledger explain RULE` prints."""
    yield paper.styled(f"{rule.code} {rule.name} ({rule.severity})", "bold")
    paragraphs = [f"Fires when {rule.fires}"]
    if "overdue" in rule.fires:
        paragraphs.append(OVERDUE)
    paragraphs += [f"To check by eye: {CHECKS[rule.code]}", f"Comes from {', '.join(rule.upstream)}."]
    for paragraph in paragraphs:
        yield ""
        yield from paper.paragraph(paragraph, 0)


def findings_page() -> str:
    """docs/findings.md. Needs the bundled recordings: the examples are what a replay of them prints."""
    parts = [
        "# Findings",
        "",
        "Generated by `make docs` from the rules themselves and from bundled recordings; do not edit.",
        "",
        "A finding is `open` (wrong at the log's end), `unknown` (it would be open, but rests on a record that must be "
        "missing; it says which, and [why](why/sources.md)), `pending` (may turn out wrong: the controller still has time) "
        "or `healed` (was wrong: since when, until when, healed by whom). It cites its witnesses: each is an event that "
        "rests on a record, and a record has a file and a line. Findings of one cause name the same `root`.",
        "",
        OVERDUE,
        "",
        "| code | name | severity | fires when |",
        "|---|---|---|---|",
    ]
    parts += [
        f"| [{rule.code}](#{rule.code.lower()}-{rule.name}) | `{rule.name}` | {rule.severity} | {rule.fires} |"
        for rule in RULES
    ]
    for rule in RULES:
        module = sys.modules[rule.__module__].__doc__ or ""
        links = []
        for incident in rule.upstream:
            project, _, number = incident.partition("#")
            links.append(f"[{incident}]({_ISSUE[project]}{number})")
        parts += [
            "",
            f"## {rule.code} {rule.name}",
            "",
            f"Severity: {rule.severity}.",
            "",
            f"Fires when {rule.fires}",
            "",
            " ".join(module.split("\n\n")[0].split()),
            "",
            f"To check it by eye: {CHECKS[rule.code]}",
            "",
            *_example(rule),
            "",
            f"Upstream: {', '.join(links)}.",
            "",
            f"Code: `{rule.__module__.replace('.', '/')}.py`.",
        ]
    return "\n".join(parts) + "\n"


def _example(rule: type[Rule]) -> list[str]:
    """What a replay of a bundled recording prints of its first finding of a rule."""
    from adapters import report

    name = EXAMPLES.get(rule.code)
    if name is None:
        why = ": whatever is refused in them is told of by another finding" if rule.code == "NL100" else ""
        return [f"No bundled recording has one{why}. {UNSEEN[rule.code]}"]
    path = f"{RECORDINGS}/{name}/{'ipset.jsonl' if rule.code == 'NL107' else 'audit.log.gz'}"
    found = _answer(path)["findings"]
    first = next(finding for finding in found if finding["rule"] == rule.code)
    lines = report.finding_text(first, Paper(100), found)
    told = [f"An example, from `netledger replay {path}`:", "", "```", *lines, "```"]
    if first["basis"] is not None or rule.code == "NL106":
        wrong = [witness for witness in first["witnesses"] if witness["role"] in ("lost", "overwriting")]
        numbers = "p;".join(witness["source"].rpartition(":")[2] for witness in wrong)
        told += ["", "The records that contradict each other, with zcat, sed and jq:", ""]
        told += ["```", f"zcat {path} | sed -n '{numbers}p' | jq '[.user.username, .responseObject.status]'", "```"]
    return told


@cache
def _answer(path: str) -> dict[str, Any]:
    from adapters import app, report

    if not Path(path).exists():
        raise SystemExit(
            f"netledger: {path} is not here: the pages are made in a checkout, with its folder as current one"
        )
    with app.opened(None) as store:
        return report.document(store, app.replay(store, [path]))


def json_page() -> str:
    """docs/json.md, from the JSON Schema that ships with the package."""
    schema = replay_schema()
    parts = [
        "# The JSON of replay",
        "",
        "Generated by `make docs` from `adapters/schemas/replay-v1.json`, the JSON Schema (draft 2020-12) that ships with "
        "netledger; do not edit.",
        "",
        f"{schema['description']} A program that meets a field, a witness's role or a rule that it does not know "
        "should leave it alone. Exit status: 0 no open error, 1 open errors, 2 the work could not be done, and then "
        "there may be no document.",
        "",
        "Read it with jq:",
        "",
        "```",
        "netledger replay -o json audit.log | jq -r '.findings[] | select(.status == \"open\") | .id'",
        "```",
        "",
        "`netledger findings -o json` prints findings of the same shape, and `netledger get KIND -o json` resources.",
    ]
    for heading, part in [("The document", schema), *((f"{name}", part) for name, part in schema["$defs"].items())]:
        if "properties" in part:
            parts += ["", f"## {heading}", ""]
            if part is not schema:
                parts += [part["description"], ""]
            parts += ["| field | type | meaning |", "|---|---|---|"]
            parts += [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in _fields(part, "")]
    return "\n".join(parts) + "\n"


def replay_schema() -> dict[str, Any]:
    """The JSON Schema of what `netledger replay -o json` prints."""
    path = files("adapters").joinpath("schemas", "replay-v1.json")
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def _fields(part: dict[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    """Every field of an object, and of the objects in it."""
    for name, field in part["properties"].items():
        yield above + name, _type(field), field.get("description", "").replace("|", "\\|") or _described(field)
        inside, path = field, f"{above}{name}."
        for choice in field.get("oneOf", ()):
            inside = choice if "properties" in choice else inside
        if inside.get("type") == "array" and "items" in inside:
            inside, path = inside["items"], f"{above}{name}[]."
        if "properties" in inside:
            yield from _fields(inside, path)


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})" if name not in ("time", "kind") else name
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if choices := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(_type(choice) for choice in choices)
    kind = field.get("type", "any")
    if kind == "array":
        items = field.get("items", {})
        return f"array of {_type(items)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _described(field: dict[str, Any]) -> str:
    name = field.get("$ref", "").rpartition("/")[2]
    return str(replay_schema()["$defs"][name]["description"]) if name else ""


def lifecycles_page() -> str:
    """docs/lifecycles.md."""
    parts = [
        "# Lifecycles",
        "",
        "Generated by `make docs` from the tables in `domain/`; do not edit.",
        "",
        "A row says what happened, in which states it may happen, where it leads and because of what, and unless what. What "
        "was *observed* has happened: where the table does not allow it, the refusal is recorded, and the resource goes to "
        "the state under *otherwise*. A *command* that the table does not allow changes nothing. `=` means that the state "
        "stays. A status field never moves a state: it is a claim.",
    ]
    for kind, lifecycle in LIFECYCLES.items():
        parts += ["", f"## {BY_NAME[kind].title} (`{kind}`)", ""]
        if lifecycle.note:
            parts += [lifecycle.note, ""]
        parts += ["| event | may happen in | leads to | because | unless | otherwise |", "|---|---|---|---|---|---|"]
        parts += [
            f"| `{row.event}` | {', '.join(row.sources)} | {row.target} | {row.because} | {_unless(row) or '-'} | "
            f"{row.otherwise if row.unless else '-'} |"
            for row in lifecycle.rows
        ]
        parts += ["", "```mermaid", lifecycle.mermaid(), "```"]
    return "\n".join(parts) + "\n"


def lifecycle_rows(lifecycle: Lifecycle) -> list[dict[str, Any]]:
    """The table as plain values."""
    return [
        {
            "event": row.event,
            "may_happen_in": list(row.sources),
            "leads_to": row.target,
            "because": row.because,
            "unless": [{"guard": guard.name, "because": guard.because} for guard in row.unless],
            "otherwise": row.otherwise if row.unless else None,
        }
        for row in lifecycle.rows
    ]


def lifecycle_table(lifecycle: Lifecycle, paper: Paper) -> Iterator[str]:
    """The table for a terminal."""
    rows = []
    for row in lifecycle.rows:
        because = row.because
        if row.unless:
            because += f"; unless {_unless(row)}" + (f" (then {row.otherwise})" if row.otherwise != SAME else "")
        rows.append(("", [row.event, row.target, ", ".join(row.sources), because]))
    taken = max(len(row.event) for row in lifecycle.rows) + max(len(row.target) for row in lifecycle.rows) + 6
    room = max(paper.width - taken, 40)
    return paper.columns(
        ["EVENT", "LEADS TO", "MAY HAPPEN IN", "BECAUSE"], rows, wrapped={2: room // 3, 3: room - room // 3}
    )


def _unless(row: Row) -> str:
    return "; ".join(guard.because for guard in row.unless)


def sources_text() -> str:
    """docs/sources.md."""
    return "\n".join(sources_page.page()) + "\n"


def serve_page() -> str:
    """docs/serve-options.md, from the options themselves."""
    from adapters.cli.serving import settings

    parts = [
        "# The daemon's options",
        "",
        "Generated by `make docs` from the options themselves; do not edit. What they are for is in [serve.md](serve.md).",
        "",
        "In a file (`--config FILE`, or `NETLEDGER_CONFIG`) the names stand without the dashes before them. Sizes are in "
        "bytes, or such as `64MiB`; times are in seconds.",
        "",
        "| option | default | what it says | in the environment |",
        "|---|---|---|---|",
    ]
    for option in settings():
        default = "off" if option.is_flag else f"`{option.default}`" if option.show_default else ""
        kind = "" if option.is_flag else f" {option.metavar}".replace("|", "\\|")
        parts.append(f"| `{option.opts[0]}{kind}` | {default} | {option.help} | `{option.envvar}` |")
    return "\n".join(parts) + "\n"


def openapi_page() -> str:
    """docs/openapi.json, as the daemon serves it."""
    from adapters.http.openapi import document
    from adapters.http.routes import ROUTES

    return json.dumps(document(described for described, _ in ROUTES), indent=1, ensure_ascii=False) + "\n"


PAGES = {
    "docs/lifecycles.md": lifecycles_page,
    "docs/findings.md": findings_page,
    "docs/sources.md": sources_text,
    "docs/json.md": json_page,
    "docs/serve-options.md": serve_page,
    "docs/openapi.json": openapi_page,
}


def main() -> None:
    """Write the pages below the current folder."""
    for path, page in PAGES.items():
        Path(path).write_text(page(), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
