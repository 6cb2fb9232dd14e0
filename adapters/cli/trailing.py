"""The commands that ask the audit trail: `events` over all resources, `who` about one. `asking.py` has `history`.

`adapters/trail.py` answers, `adapters/tables.py` prints. `keeping.py` is about the ledger itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from adapters.cli.common import (
    Place,
    explained,
    fail,
    headers_option,
    key_of,
    kind_of,
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
from adapters.cli.completion import complete_kind, complete_resource
from adapters.cli.kept import asked, known_by

if TYPE_CHECKING:
    from adapters.answering import Answers
    from adapters.remote import Remote
    from adapters.trail import Question

AT_A_TERMINAL = 100
"""How many events are shown where a person reads, unless they say."""
ROWS_AT_ONCE = 2_000
"""How many events are in memory while all of them are printed as CSV."""


@click.command(short_help="List events: by whom, on what, when.")
@place_option
@click.option("--actor", "actors", multiple=True, metavar="NAME", help="Only by this one; * stands for anything.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", shell_complete=complete_kind, help="Only on this kind; vpc,eip."
)
@namespace_option
@click.option("--name", metavar="NAME", help="Only on what bears this name.")
@click.option(
    "-l",
    "--selector",
    metavar="LABELS",
    help="Only on what was labelled so by then: app=web, app!=web, app, '!app', 'app in (web,api)'.",
)
@click.option("--verb", "verbs", multiple=True, metavar="VERB", help="Only this verb of the API: patch,delete.")
@click.option("--event", "types", multiple=True, metavar="TYPE", help="Only events of this type: VPCStatusReported.")
@click.option("--refused", is_flag=True, help="Only what a lifecycle or the API server refused.")
@paged
@headers_option
@output_option("table", "wide", "json", "csv")
@explained
def events(
    place: Place,
    actors: Sequence[str],
    kinds: Sequence[str],
    namespace: str | None,
    name: str | None,
    selector: str | None,
    verbs: Sequence[str],
    types: Sequence[str],
    refused: bool,
    since: str | None,
    until: str | None,
    limit: int | None,
    token: str | None,
    reverse: bool,
    no_headers: bool,
    output: str,
) -> None:
    """List the events of a kept ledger in their true order: who did what, on what, when.

    An option that is given several times holds for any of its values; several options, for all of them. NAME of an actor is
    whole, or as tables show it. LABELS is what kubectl's -l takes. At a terminal 100 are shown unless --limit says
    otherwise, and stderr says how to go on.

    Exit status: 0, or 2 if the work could not be done.
    """
    from adapters import report, tables, trail

    if limit is None and sys.stdout.isatty():
        limit = AT_A_TERMINAL
    question = trail.Question(
        actors=tuple(actors),
        kinds=tuple(kind_of(kind).name for kind in _each(kinds)),
        namespaces=() if namespace is None else (namespace,),
        name=name,
        selector=selector,
        verbs=_each(verbs),
        types=_each(types),
        refused=refused,
        reverse=reverse,
        limit=limit,
        token=token,
    )
    with asked(place) as answers:
        if output == "csv" and limit is None:
            show(trail.csv_lines(_all_rows(answers, question, since, until), headers=not no_headers))
            return
        document = answers.events(question, since, until)
        unknown = [] if document["events"] else _unknown(answers, question)
    if output == "json":
        print_data(document, output)
    elif output == "csv":
        show(trail.csv_lines(document["events"], headers=not no_headers))
    elif not document["events"]:
        tell("; ".join(unknown) or "no event of this ledger is like that")
    else:
        show(tables.events(document["events"], wide=output == "wide", headers=not no_headers))
    if output in ("table", "wide"):
        tell(report.as_of(document["coverage"]))
    _tell_of_labels(document)
    tell_of_more(document)


@click.command(short_help="Show who wrote to a resource, first and last.")
@click.argument("kind_name", required=False, metavar="KIND/NAME", shell_complete=complete_resource)
@click.argument("name", required=False)
@click.option("--resource", metavar="KIND/NAME", shell_complete=complete_resource, help="The same, as an option.")
@place_option
@namespace_option
@headers_option
@output_option("table", "wide", "json")
@explained
def who(
    kind_name: str | None,
    name: str | None,
    resource: str | None,
    place: Place,
    namespace: str | None,
    no_headers: bool,
    output: str,
) -> None:
    """Show everyone who wrote to one resource or tried to: how often, with which verbs, first and last; the newest is last.

    Exit status: 0, or 2 if nothing is known of it or the work could not be done.
    """
    from adapters import report, tables

    if (kind_name is None) == (resource is None):
        fail("who is about one resource: netledger who KIND/NAME, or --resource KIND/NAME")
    kind, namespace, name = resource_of(kind_name or resource or "", name, namespace)
    if name is None:
        fail(f"who is about one resource: netledger who {kind.name}/NAME")
    key = key_of(kind, namespace, name)
    with asked(place) as answers, known_by(answers, kind, key):
        document = answers.who(key)
    if output == "json":
        print_data(document, output)
        return
    show(tables.who(document["actors"], wide=output == "wide", headers=not no_headers))
    tell(report.as_of(document["coverage"]))


def tell_of_more(document: dict[str, Any]) -> None:
    """How to go on behind a page, and whether the log was decided again since the page before."""
    if document["restarted"]:
        tell(
            f"a late record began generation {document['generation']} since the page before; what that page showed stands as "
            "it was"
        )
    if document["continue"] is not None:
        tell(f"there is more: the same command with --continue {document['continue']}")


def _tell_of_labels(document: dict[str, Any]) -> None:
    """Of what labels are known: what is not among it was not chosen, whatever it was labelled with."""
    if (labels := document.get("labels")) is not None:
        tell(
            f"labels are known of: {', '.join(labels['known']) or 'nothing'}"
            + (f"; not of: {', '.join(labels['unknown'])}" if labels["unknown"] else "")
            + ". What the log had not shown whole by then is left out"
        )


def _all_rows(
    answers: Answers | Remote, question: Question, since: str | None, until: str | None
) -> Iterator[dict[str, Any]]:
    import msgspec

    token = question.token
    while True:
        page = msgspec.structs.replace(question, limit=ROWS_AT_ONCE, token=token)
        document = answers.events(page, since, until)
        yield from document["events"]
        token = document["continue"]
        if token is None:
            _tell_of_labels(document)
            return


def _each(words: Sequence[str]) -> tuple[str, ...]:
    """`vpc,eip` is two."""
    return tuple(dict.fromkeys(word for some in words for word in some.split(",") if word))


def _unknown(answers: Answers | Remote, question: Question) -> list[str]:
    """What was asked for that is nowhere in this ledger, with what may have been meant."""
    known = answers.known()
    return [
        f"no {what} of this ledger is called {word!r}{meant(word, known[names])}"
        for what, names, words in (
            ("actor", "actors", question.actors),
            ("verb", "verbs", question.verbs),
            ("event", "types", question.types),
        )
        for word in words
        if word not in known[names] and "*" not in word
    ]
