"""The commands that ask a kept ledger: `get`, `history`, `findings`, `ipset`. Nothing is changed by them.

`kept.py` opens the ledger, `adapters/tables.py` and `adapters/report.py` print. `keeping.py` is about the ledger itself.
"""

from __future__ import annotations

import sys

import click

from adapters.cli.common import (
    OPEN_ERRORS,
    Place,
    at_option,
    explained,
    fail,
    headers_option,
    key_of,
    meant,
    namespace_option,
    output_option,
    paged,
    place_option,
    print_data,
    resource_of,
    show,
    tell,
)
from adapters.cli.completion import complete_finding, complete_ipset, complete_resource
from adapters.cli.kept import asked, known_by
from adapters.paper import Paper


@click.command(short_help="Show resources: state, claims, what these should be.")
@click.argument("kind_name", metavar="KIND[/NAME]", shell_complete=complete_resource)
@click.argument("name", required=False)
@place_option
@namespace_option
@at_option
@headers_option
@output_option("table", "wide", "json", "yaml", "name")
@explained
def get(
    kind_name: str,
    name: str | None,
    place: Place,
    namespace: str | None,
    at: str | None,
    no_headers: bool,
    output: str,
) -> None:
    """Show resources: their state, their claims as reported, and what these should be.

    KIND is a plural, singular or short name, or the API's own, as kubectl takes it. Exit status: 0, or 2 if the
    resource is not there or the work could not be done.
    """
    from adapters import app, report, tables

    kind, namespace, name = resource_of(kind_name, name, namespace)
    if at:
        app.read_moment(at)
    with asked(place) as answers:
        document = answers.resources(kind, namespace, name, at or None)
        rows, coverage = document["resources"], document["coverage"]
        known = rows if rows or name is None else answers.resources(kind, namespace, None, at or None)["resources"]
    where = f" at {at}" if at else " at the end of the log"
    if name is not None and not rows:
        key = key_of(kind, namespace, name)
        close = meant(name, [row["name"] for row in known])
        fail(f"there is no {key}{where}{close or f'; `netledger history {key}` shows what the log knows of it'}")
    if output in ("json", "yaml"):
        print_data(rows if name is None else rows[0], output)
    elif output == "name":
        show(report.path_of(row) for row in rows)
    elif not rows:
        tell(f"no {kind.plural} are there{f' in namespace {namespace}' if namespace else ''}{where}")
    else:
        show(tables.resources(rows, kind, wide=output == "wide", headers=not no_headers))
    if at is None and output in ("table", "wide"):
        tell(report.as_of(coverage))


@click.command(short_help="Show all that happened to one resource, in order.")
@click.argument("kind_name", metavar="KIND/NAME", shell_complete=complete_resource)
@click.argument("name", required=False)
@place_option
@namespace_option
@paged
@headers_option
@output_option("table", "wide", "json", "yaml", "csv", "name")
@explained
def history(
    kind_name: str,
    name: str | None,
    place: Place,
    namespace: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    token: str | None,
    reverse: bool,
    no_headers: bool,
    output: str,
) -> None:
    """Show all that happened to one resource, in the true order; of one that is gone, too.

    Exit status: 0, or 2 if nothing is known of it or the work could not be done.
    """
    from adapters import tables, trail
    from adapters.cli.trailing import tell_of_more

    kind, namespace, name = resource_of(kind_name, name, namespace)
    if name is None:
        fail(f"history is of one resource: netledger history {kind.name}/NAME")
    key = key_of(kind, namespace, name)
    question = trail.Question(limit=limit, token=token, reverse=reverse)
    with asked(place) as answers, known_by(answers, kind, key):
        document = answers.history(key, question, since, until)
    rows, coverage = document["events"], document["coverage"]
    if coverage["pruned"] is not None and rows and rows[0]["position"] <= coverage["pruned"]["position"]:
        tell(
            f"{key}: events before {coverage['pruned']['before']} were pruned from this ledger; of each resource the first "
            "and the last are kept"
        )
    if output in ("json", "yaml"):
        print_data([{name: row[name] for name in row if name not in ("verb", "refused_by")} for row in rows], output)
    elif output == "csv":
        show(trail.csv_lines(rows, headers=not no_headers))
    elif output == "name":
        show(row["event"] for row in rows)
    else:
        show(tables.history(rows, wide=output == "wide", headers=not no_headers))
    tell_of_more(document)


@click.command(short_help="List what is wrong, or tell one finding whole.")
@click.argument("finding_id", required=False, metavar="[ID]", shell_complete=complete_finding)
@place_option
@headers_option
@click.option(
    "--open",
    "only_open",
    is_flag=True,
    help="Only what is wrong at the end: not what is unknown, healed or may yet come.",
)
@output_option("table", "wide", "json", "yaml", "name")
@explained
def findings(finding_id: str | None, place: Place, no_headers: bool, only_open: bool, output: str) -> None:
    """List what is wrong, or tell one finding whole.

    ID is a finding's id or its beginning. Exit status: 0 no open error, 1 open errors, 2 the work could not be done.
    """
    from adapters import report, tables

    with asked(place) as answers:
        document = answers.findings()
    every, coverage = document["findings"], document["coverage"]
    rows = every
    if finding_id is not None:
        rows = [row for row in every if row["id"] == finding_id] or [
            row for row in every if row["id"].startswith(finding_id)
        ]
        if not rows:
            close = meant(finding_id, [row["id"] for row in every])
            fail(f"there is no finding {finding_id!r}{close or '; `netledger findings -o name` lists their ids'}")
    if only_open:
        rows = [row for row in rows if row["status"] == "open"]
    if output in ("json", "yaml"):
        print_data(rows[0] if finding_id is not None and len(rows) == 1 else rows, output)
    elif output == "name":
        show(row["id"] for row in rows)
    elif finding_id is not None and len(rows) == 1 and output == "table":
        show(report.finding_text(rows[0], Paper.of(sys.stdout), every))
    elif not rows:
        tell("no open findings" if only_open else "no findings: nothing is wrong that this log can show")
    else:
        show(tables.findings(rows, wide=output == "wide", headers=not no_headers))
    if output in ("table", "wide"):
        tell(report.as_of(coverage))
    raise SystemExit(OPEN_ERRORS if report.open_errors(rows) else 0)


@click.command(short_help="Show one ipset: whose each member is, and the drift.")
@click.argument("name", shell_complete=complete_ipset)
@place_option
@click.option("--node", metavar="NAME", help="The set of this node, where several have one of that name.")
@at_option
@headers_option
@output_option("table", "wide", "json", "yaml", "save")
@explained
def ipset(name: str, place: Place, node: str | None, at: str | None, no_headers: bool, output: str) -> None:
    """Show one ipset: each member with who put it in, since when and by which event, and what differs.

    -o save prints an `ipset restore` input that sets exactly the lawful members at once.

    Exit status: 0, or 2 if the set is not there, if what belongs in it is not known (-o save), or if the work could not
    be done.
    """
    from adapters import app, report, tables

    if at:
        app.read_moment(at)
    with asked(place) as answers:
        found = answers.ipset(name, node, at or None)
    document = found["ipset"]
    if output == "save":
        if found["restore"] is None:
            fail(found["not_restored"])
        show(found["restore"])
    elif output in ("json", "yaml"):
        print_data(document, output)
    else:
        show(tables.ipset(document, wide=output == "wide", headers=not no_headers))
        tell(report.ipset_summary(document))
