"""The command line: `netledger`. A command translates what a person typed, hands over, and prints what came back.

Habits are kubectl's: kinds by plural, singular or short name, `kind/name`, `-n`, `-o`, data on stdout and talk on
stderr. Exit status: 0 no open error, 1 open errors, 2 the work could not be done.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version as installed_version
from typing import Any, NoReturn

import click
import msgspec
import yaml
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from adapters import app, documentation, report
from adapters.ingest import NothingToRead, files_in, size_of
from adapters.judging import fold
from adapters.ports import StoreError
from adapters.views import Views
from domain.kinds import LIFECYCLES
from domain.resources import Key, Kind, kind_called
from projections.findings.judge import RULES
from projections.findings.rule import short

OPEN_ERRORS, FAILED = 1, 2


def main() -> None:
    """What `start` runs."""
    # A replay makes few cycles and many objects that live long: looking for garbage as often as by default costs more.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # A reader that has seen enough (`| head`) ends us quietly, as it ends any other filter.
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    cli()


def out() -> Console:
    """Data goes here."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _width())


def err() -> Console:
    """Talk goes here."""
    return Console(stderr=True, highlight=False)


def _width() -> int:
    """Lines of a file or a pipe are as long as COLUMNS says, else 100."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) >= 40 else 100


def fail(message: str) -> NoReturn:
    """The work could not be done."""
    click.echo(f"netledger: {message}", err=True)
    raise SystemExit(FAILED)


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """What can go wrong outside is one line on stderr and exit status 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (NothingToRead, StoreError, app.NotAMoment) as error:
            fail(str(error))
        except KeyboardInterrupt:
            click.echo("netledger: interrupted; what was read into a kept ledger is kept", err=True)
            raise SystemExit(130) from None

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Which write lost which, what the state should be, and how to repair it.

    netledger replays recorded incidents of Kubernetes virtual networks (Kube-OVN) into an ordered ledger of events,
    judges every event against explicit lifecycles, and tells what is wrong. Start with: netledger replay audit.log
    """


ledger_option = click.option(
    "--ledger", "ledger_path", metavar="FILE", envvar="NETLEDGER_LEDGER", help="The kept ledger (or NETLEDGER_LEDGER)."
)
at_option = click.option("--at", metavar="TIME|REVISION", help="As it was then, instead of at the end.")
namespace_option = click.option("-n", "--namespace", metavar="NAME", help="Only this namespace.")
headers_option = click.option("--no-headers", is_flag=True, help="Leave the header line out.")
patience_option = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="When a missing reaction is overdue, instead of what this log says.",
)


def output_option(*choices: str) -> Callable[..., Any]:
    """`-o`, the first choice being the default."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True, help="How to print it."
    )


# ---- replay


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@ledger_option
@at_option
@patience_option
@output_option("text", "json")
@explained
def replay(paths: Sequence[str], ledger_path: str | None, at: str | None, patience: float | None, output: str) -> None:
    """Replay recorded audit logs and tell what went wrong.

    PATH is a file (plain or gzip), a folder, or - for standard input. Without --ledger nothing is kept; with it, more
    files can be replayed into the same ledger later and land in their true place.
    """
    moment = app.read_moment(at) if at else None
    with app.opened(ledger_path) as store, progress(paths) as (reading, judging):
        outcome = app.replay(
            store,
            paths,
            at=moment,
            patience=None if patience is None else int(patience * 1_000_000),
            reading=reading,
            judging=judging,
        )
        document = report.document(store, outcome)
        if ledger_path is not None and moment is None and patience is None:
            _keep_views(ledger_path, store, outcome, document)
    _tell_of_bad_input(outcome)
    if output == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        report.print_report(out(), document)
    raise SystemExit(OPEN_ERRORS if report.open_errors(document["findings"]) else 0)


def _tell_of_bad_input(outcome: app.Outcome) -> None:
    known = [tally for tally in outcome.tallies if tally.format != "unknown"]
    for tally in outcome.tallies:
        if tally.format == "unknown":
            click.echo(f"netledger: {tally.path}: skipped, no audit events in its first lines", err=True)
        elif tally.unrecognised:
            click.echo(
                f"netledger: {tally.path}: {tally.unrecognised:,} of {tally.records:,} records could not be read and "
                "were set aside; with --ledger, `netledger verify --aside` lists them",
                err=True,
            )
    if not known:
        fail("nothing that was given is an audit log (audit.k8s.io, one JSON object a line); nothing was judged")


@contextmanager
def progress(
    paths: Sequence[str],
) -> Iterator[tuple[Callable[[str], Callable[[int], None]], Callable[[str, int], None]]]:
    """Progress bars on stderr where that is a terminal."""
    console = err()
    if not console.is_terminal:
        yield (lambda path: lambda count: None), (lambda stage, count: None)
        return
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        reading = bars.add_task("reading", total=size_of(files_in(paths)) or None)
        stages: dict[str, Any] = {}

        def advance(stage: str, count: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task({"order": "ordering", "decide": "judging"}[stage], total=None)
            bars.advance(stages[stage], count)

        yield (lambda path: lambda count: bars.advance(reading, count)), advance


def _keep_views(path: str, store: app.Store, outcome: app.Outcome, document: dict[str, Any]) -> None:
    stands = (store.ledger.generation, store.ledger.head, store.journal.head())
    trail = {
        actor: {kind: msgspec.to_builtins(activity) for kind, activity in kinds.items()}
        for actor, kinds in outcome.judged.reading.trail.by_actor.items()
    }
    Views(path).keep(stands, document, trail)


# ---- questions to a kept ledger


@cli.command()
@click.argument("kind_name", metavar="KIND[/NAME]")
@click.argument("name", required=False)
@ledger_option
@namespace_option
@at_option
@headers_option
@output_option("table", "wide", "json", "yaml", "name")
@explained
def get(
    kind_name: str,
    name: str | None,
    ledger_path: str | None,
    namespace: str | None,
    at: str | None,
    no_headers: bool,
    output: str,
) -> None:
    """Show resources: their state, their claims as reported, and what these should be."""
    kind, namespace, name = _resource(kind_name, name, namespace)
    with questioned(ledger_path) as (store, views):
        if at:
            judged = fold(store.ledger, app.read_moment(at).passed_by)
            rows = [
                report.resource_document(judged.reading, resource)
                for resource in judged.reading.resources()
                if resource.key.kind == kind.name
                and (namespace is None or resource.key.namespace == namespace)
                and (name is None or resource.key.name == name)
            ]
        else:
            rows = views.resources(kind.name, namespace if kind.namespaced else None, name)
        if name is not None and not rows:
            key = Key(kind.name, namespace or "", name)
            fail(
                f"{key} is not there{' at ' + at if at else ''}; `netledger history {key}` shows what the log knows of it"
            )
    if output in ("json", "yaml"):
        _print_data(rows if name is None else rows[0], output)
    elif output == "name":
        for row in rows:
            click.echo(f"{row['kind']}/{row['name']}")
    else:
        _print_resources(rows, kind, wide=output == "wide", headers=not no_headers)


def _print_resources(rows: list[dict[str, Any]], kind: Kind, *, wide: bool, headers: bool) -> None:
    fields = list(dict.fromkeys(field for row in rows for field in row["reported"]))
    table = _table(headers)
    for column in [*(["NAMESPACE"] if kind.namespaced else []), "NAME", "STATE"]:
        table.add_column(column)
    for field in fields:
        table.add_column(field.rpartition(".")[2].removesuffix("]").rpartition("/")[2].upper())
    table.add_column("SHOULD BE")
    if wide:
        table.add_column("UID")
    for row in rows:
        cells = [row["namespace"]] if kind.namespaced else []
        cells += [row["name"], row["state"]]
        cells += [_cell(row["reported"].get(field)) for field in fields]
        drift = ", ".join(f"{field.rpartition('.')[2]} {_cell(both['lawful'])}" for field, both in row["drift"].items())
        cells.append(Text(drift, style="red") if drift else "-")
        table.add_row(*cells, *([row["uid"] or ""] if wide else []))
    if rows:
        out().print(table)
    else:
        click.echo(f"No {kind.plural} are known at this point of the log.", err=True)


def _cell(value: Any) -> str:
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


@cli.command()
@click.argument("kind_name", metavar="KIND/NAME")
@click.argument("name", required=False)
@ledger_option
@namespace_option
@headers_option
@output_option("table", "wide", "json", "yaml", "name")
@explained
def history(
    kind_name: str, name: str | None, ledger_path: str | None, namespace: str | None, no_headers: bool, output: str
) -> None:
    """Show all that happened to one resource, in the true order."""
    kind, namespace, name = _resource(kind_name, name, namespace)
    if name is None:
        fail(f"history is of one resource: netledger history {kind.name}/NAME")
    key = Key(kind.name, namespace or "", name)
    with questioned(ledger_path) as (store, _):
        placed = [one for one in store.ledger.concerning(key) if one.event.key == key]
        places = store.journal.locate({one.event.record for one in placed})
        rows = [report.timeline_row(one.position, one.event, places.get(one.event.record)) for one in placed]
    if not rows:
        fail(f"nothing in this ledger is about {key}; `netledger get {kind.plural}` lists what is there")
    if output in ("json", "yaml"):
        _print_data(rows, output)
        return
    if output == "name":
        for row in rows:
            click.echo(row["event"])
        return
    table = _table(not no_headers)
    for column in ("TIME", "REVISION", "ACTOR", "EVENT", "WHAT"):
        table.add_column(column, overflow="fold")
    if output == "wide":
        for column in ("OPERATION", "POSITION", "SOURCE", "AUDIT ID"):
            table.add_column(column, overflow="fold")
    for row in rows:
        actor = short(row["actor"])
        cells = [row["at"][11:23], str(row["revision"] or "-"), actor, row["event"], row["says"] or "-"]
        if output == "wide":
            cells += [row["operation"], str(row["position"]), row["source"] or "-", row["audit_id"] or "-"]
        style = "red" if row["event"] == "TransitionRefused" else "dim" if row["event"] == "AttemptObserved" else ""
        table.add_row(*cells, style=style)
    out().print(table)


@cli.command()
@click.argument("finding_id", required=False, metavar="[ID]")
@ledger_option
@headers_option
@click.option("--open", "only_open", is_flag=True, help="Leave out what healed.")
@output_option("table", "wide", "json", "yaml", "name")
@explained
def findings(finding_id: str | None, ledger_path: str | None, no_headers: bool, only_open: bool, output: str) -> None:
    """List what is wrong, or tell one finding whole. Exit status 1 if errors are open."""
    with questioned(ledger_path) as (_, views):
        rows = views.findings()
    if finding_id is not None:
        rows = [row for row in rows if row["id"] == finding_id]
        if not rows:
            fail(f"there is no finding {finding_id!r}; `netledger findings -o name` lists their ids")
    if only_open:
        rows = [row for row in rows if row["status"] == "open"]
    if output in ("json", "yaml"):
        _print_data(rows if finding_id is None else rows[0], output)
    elif output == "name":
        for row in rows:
            click.echo(row["id"])
    elif finding_id is not None:
        report.print_finding(out(), rows[0])
    else:
        _print_findings(rows, wide=output == "wide", headers=not no_headers)
    raise SystemExit(OPEN_ERRORS if report.open_errors(rows) else 0)


def _print_findings(rows: list[dict[str, Any]], *, wide: bool, headers: bool) -> None:
    table = _table(headers)
    for column in ("STATUS", "SEVERITY", "FINDING", "RESOURCE", "SINCE", "UNTIL"):
        table.add_column(column, overflow="fold")
    if wide:
        for column in ("ID", "ROOT"):
            table.add_column(column, overflow="fold")
    for row in rows:
        resource = row["resource"]
        path = f"{resource['namespace']}/{resource['name']}" if resource["namespace"] else resource["name"]
        cells = [row["status"], row["severity"], row["name"], f"{resource['kind']}/{path}", row["since"]["at"][11:23]]
        cells.append(row["until"]["at"][11:23] if row["until"] else "-")
        table.add_row(
            *cells, *([row["id"], row["root"] or "-"] if wide else []), style="red" if row["status"] == "open" else ""
        )
    if rows:
        out().print(table)
    else:
        click.echo("No findings.", err=True)


@contextmanager
def questioned(path: str | None) -> Iterator[tuple[app.Store, Views]]:
    """A kept ledger, open for reading, with views that stand where it stands."""
    if not path:
        fail("which ledger? Give --ledger FILE, or set NETLEDGER_LEDGER; `netledger replay --ledger FILE` makes one")
    with app.opened(path, "read") as store:
        views = Views(path)
        if not views.stand_at((store.ledger.generation, store.ledger.head, store.journal.head())):
            _rebuild(path, store)
        yield store, views


def _rebuild(path: str, store: app.Store) -> app.Outcome:
    outcome = app.conclude(store, fold(store.ledger), [])
    _keep_views(path, store, outcome, report.document(store, outcome))
    return outcome


# ---- upkeep


@cli.command()
@ledger_option
@explained
def rebuild(ledger_path: str | None) -> None:
    """Make the read models again from the log; they come out the same."""
    if not ledger_path:
        fail("which ledger? Give --ledger FILE, or set NETLEDGER_LEDGER")
    with app.opened(ledger_path, "read") as store:
        outcome = _rebuild(ledger_path, store)
    reading = outcome.judged.reading
    click.echo(
        f"rebuilt {Views(ledger_path).path} from {reading.at:,} events: {len(reading.world.live):,} resources, "
        f"{len(outcome.findings):,} findings, digest {outcome.judged.digest}"
    )


@cli.command()
@ledger_option
@click.option("--aside", is_flag=True, help="List the input that could not be used, with its reason.")
@explained
def verify(ledger_path: str | None, aside: bool) -> None:
    """Read everything in a kept ledger again, and say what does not fit."""
    if not ledger_path:
        fail("which ledger? Give --ledger FILE, or set NETLEDGER_LEDGER")
    with app.opened(ledger_path, "read") as store:
        if aside:
            for kept in store.journal.kept_aside():
                click.echo(f"{kept.path}:{kept.line}: {kept.reason} ({kept.size:,} bytes)")
            return
        problems = [*store.file.verify(), *store.recorder.verify(), *store.journal.verify()]
        for problem in problems:
            click.echo(str(problem))
        if problems:
            fail(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}: do not trust answers from {ledger_path}")
        click.echo(
            f"{ledger_path}: {store.ledger.head:,} positions and {store.journal.head():,} records, all as they were written"
        )


# ---- reference


@cli.command()
@click.argument("rule", required=False)
@explained
def explain(rule: str | None) -> None:
    """Say what a rule means: when it fires, and which incidents it comes from."""
    if rule is None:
        for known in RULES:
            click.echo(f"{known.code}  {known.severity:<8} {known.name}")
        return
    found = next((known for known in RULES if rule.lower() in (known.code.lower(), known.name)), None)
    if found is None:
        fail(f"there is no rule {rule!r}; the rules are {', '.join(known.name for known in RULES)}")
    click.echo(documentation.explain(found))


@cli.command()
@click.argument("kind_name", metavar="KIND")
@output_option("table", "mermaid", "json")
@explained
def lifecycle(kind_name: str, output: str) -> None:
    """Show the table of a kind's life: what may happen in which state, where it leads, and unless what."""
    kind = _kind(kind_name)
    table = LIFECYCLES[kind.name]
    if output == "mermaid":
        click.echo(table.mermaid())
    elif output == "json":
        click.echo(json.dumps(documentation.lifecycle_rows(table), indent=2))
    else:
        out().print(documentation.lifecycle_table(table, _table(True)))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: source <(netledger completion bash)"""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "netledger", "_NETLEDGER_COMPLETE").source())


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"netledger {installed_version('netledger')}")


# ---- what commands share


def _kind(word: str) -> Kind:
    try:
        return kind_called(word)
    except KeyError as error:
        fail(error.args[0])


def _resource(kind_name: str, name: str | None, namespace: str | None) -> tuple[Kind, str | None, str | None]:
    """`vpc/shop`, `vpc shop`, `pod/web/web-0` or `pod web-0 -n web`: kind, namespace and name."""
    word, slash, rest = kind_name.partition("/")
    kind = _kind(word)
    if slash:
        if name is not None:
            fail(f"{kind_name} {name}: give the name once")
        name = rest
    if name is not None and kind.namespaced and "/" in name:
        namespace, _, name = name.partition("/")
    if name is not None and kind.namespaced and namespace is None:
        fail(f"{kind.name}s live in namespaces: add -n NAMESPACE, or say {kind.name}/NAMESPACE/{name}")
    return kind, namespace if kind.namespaced else None, name


def _table(headers: bool) -> Table:
    return Table(box=None, show_header=headers, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _print_data(value: Any, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
