"""The commands that explain one resource: `diff`, `blame`, `why`. Nothing is changed by them.

`adapters/answering.py` answers, or a daemon; `adapters/telling.py` puts it into words. `kept.py` opens the ledger.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from adapters.cli.common import (
    OPEN_ERRORS,
    Place,
    at_option,
    explained,
    fail,
    headers_option,
    key_of,
    namespace_option,
    output_option,
    place_option,
    print_data,
    resource_of,
    show,
    tell,
)
from adapters.cli.completion import complete_resource
from adapters.cli.kept import asked, known_by
from adapters.paper import Paper

if TYPE_CHECKING:
    from domain.resources import Key, Kind


@click.command(short_help="Show what changed of one resource between two moments.")
@click.argument("kind_name", metavar="KIND/NAME", shell_complete=complete_resource)
@click.argument("name", required=False)
@place_option
@namespace_option
@click.option(
    "--from", "begin", metavar="TIME|REVISION|position:N", help="From then, instead of from its first record."
)
@click.option(
    "--to", "end", metavar="TIME|REVISION|position:N", help="Up to then, instead of to the log's end, or its own."
)
@click.option("--all", "every", is_flag=True, help="Also what was changed and changed back.")
@output_option("text", "json", "yaml", "name")
@explained
def diff(
    kind_name: str,
    name: str | None,
    place: Place,
    namespace: str | None,
    begin: str | None,
    end: str | None,
    every: bool,
    output: str,
) -> None:
    """Show what changed of one resource between two moments, field by field, and who made each change last.

    Lists in which order means nothing are compared by their members. -o name prints the fields alone.

    Exit status: 0, or 2 if nothing is known of it or the work could not be done.
    """
    from adapters import report, telling

    kind, key = _one(kind_name, name, namespace, "diff")
    _look_at(begin, end)
    with asked(place) as answers, known_by(answers, kind, key):
        document = answers.diff(key, begin, end, every=every)
    if output in ("json", "yaml"):
        print_data(document, output)
    elif output == "name":
        show(row["field"] for row in document["fields"])
    else:
        show(telling.diff(document, Paper.of(sys.stdout)))
        tell(report.as_of(document["coverage"]))


@click.command(short_help="Show who made each field of a resource what it is.")
@click.argument("kind_name", metavar="KIND/NAME", shell_complete=complete_resource)
@click.argument("name", required=False)
@place_option
@namespace_option
@at_option
@headers_option
@output_option("table", "wide", "json", "yaml", "name")
@explained
def blame(
    kind_name: str,
    name: str | None,
    place: Place,
    namespace: str | None,
    at: str | None,
    no_headers: bool,
    output: str,
) -> None:
    """Show each field of one resource: what it says, who made it say so, when, by which request, on what basis.

    A claim that should say something else is marked with what, and a write with what its writer had read, where that is
    known or can be inferred: it is stale if somebody else had written since. -o name prints the fields alone.

    Exit status: 0, or 2 if the resource is not there or the work could not be done.
    """
    from adapters import report, telling

    kind, key = _one(kind_name, name, namespace, "blame")
    _look_at(at)
    with asked(place) as answers, known_by(answers, kind, key):
        document = answers.blame(key, kind, at)
    if output in ("json", "yaml"):
        print_data(document, output)
    elif output == "name":
        show(row["field"] for row in document["fields"])
    else:
        show(telling.blame(document, wide=output == "wide", headers=not no_headers))
        tell(telling.blame_summary(document))
        if at is None:
            tell(report.as_of(document["coverage"]))


@click.command(short_help="Say why a resource is as it is: what is in its way.")
@click.argument("kind_name", metavar="KIND/NAME", shell_complete=complete_resource)
@click.argument("name", required=False)
@place_option
@namespace_option
@at_option
@click.option("--member", metavar="ENTRY", help="Of an ipset: why this member is in it, or is not.")
@output_option("text", "json", "yaml", "name")
@explained
def why(
    kind_name: str,
    name: str | None,
    place: Place,
    namespace: str | None,
    at: str | None,
    member: str | None,
    output: str,
) -> None:
    """Say why a resource is not ready, not bound, not gone: the shortest chain from it to the root.

    Each step is an event with its record, or an absence: what should have come since an event and is not in the log. What
    is in nobody's way is said to be so, and what the log cannot tell is unknown. -o name prints one word: blocked,
    waiting, unknown, nothing or gone.

    Exit status: 0, 1 if something wrong is in its way, 2 if nothing is known of it or the work could not be done.
    """
    from adapters import report, telling

    kind, key = _one(kind_name, name, namespace, "why")
    if member is not None and key.kind != "ipset":
        fail(f"--member is for ipsets, and {key} is none")
    _look_at(at)
    with asked(place) as answers, known_by(answers, kind, key):
        document = answers.why(key, member or "", at)
    if output in ("json", "yaml"):
        print_data(document, output)
    elif output == "name":
        show([document["verdict"]])
    else:
        show(telling.why(document, Paper.of(sys.stdout)))
        if at is None:
            tell(report.as_of(document["coverage"]))
    raise SystemExit(OPEN_ERRORS if document["verdict"] == "blocked" else 0)


def _one(kind_name: str, name: str | None, namespace: str | None, command: str) -> tuple[Kind, Key]:
    """The one resource that was named."""
    kind, namespace, name = resource_of(kind_name, name, namespace)
    if name is None:
        fail(f"{command} is of one resource: netledger {command} {kind.name}/NAME")
    return kind, key_of(kind, namespace, name)


def _look_at(*moments: str | None) -> None:
    """What is no moment is said before anything is opened. Raises `NotAMoment`."""
    from adapters import app

    for text in moments:
        if text:
            app.read_moment(text)
