"""The command line: `netledger`. A command translates what a person typed, hands over, and prints what came back.

Habits are kubectl's: kinds by plural, singular or short name, `kind/name`, `-n`, `-o`, data on stdout and talk on
stderr. Exit status: 0 no open error, 1 open errors, 2 the work could not be done. A command imports what it needs when
it runs, so that completing a word does not wait for the engine. `app` does the work, `report` puts it into words.
"""

from __future__ import annotations

import difflib
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import click

from adapters.paper import Paper

if TYPE_CHECKING:
    from datetime import tzinfo

    from click.shell_completion import CompletionItem

    from adapters import app
    from adapters.sources.dialect import About
    from adapters.transfer import Block, Counts, Tally
    from adapters.views import Views
    from domain.resources import Key, Kind

OPEN_ERRORS, FAILED, INTERRUPTED = 1, 2, 130


def main() -> None:
    """What `start` runs."""
    # A replay makes few cycles and many objects that live long: looking for garbage as often as by default costs more.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that knows no arrows must not end the work
            stream.reconfigure(errors="backslashreplace")
    # A reader that has seen enough (`| head`) ends us quietly, as it ends any other filter. To be terminated is to be
    # interrupted: what is thrown away is thrown away then, too.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli(prog_name="netledger")
    except Exception:
        # Not exit status 1, Python's own: that one means open errors.
        traceback.print_exc()
        fail("this is a bug in netledger, not in your log; please report it with the lines above and the command")


def fail(message: str) -> NoReturn:
    """The work could not be done."""
    tell(message)
    raise SystemExit(FAILED)


def tell(message: str) -> None:
    """Talk goes to stderr, behind the data that came before it."""
    sys.stdout.flush()
    click.echo(f"netledger: {message}", err=True)


def show(lines: Iterable[str | bytes]) -> None:
    """Data goes to stdout, all of it, or it is said that it could not. Bytes go as they are."""
    with _standard_output():
        for line in lines:
            if isinstance(line, bytes):
                sys.stdout.buffer.write(line + b"\n")
            else:
                sys.stdout.write(f"{line}\n")


def pour(pieces: Iterable[bytes], place: str) -> None:
    """Bytes as they are, to stdout (`-`) or into a new file, which bears its name only when all of it is on disk."""
    if place == "-":
        with _standard_output():
            for piece in pieces:
                sys.stdout.buffer.write(piece)
        return
    from pathlib import Path

    file = Path(place)
    if file.exists():
        fail(f"{place} is there already; remove it, or name another file")
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _standard_output() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # else Python would try to write the rest once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"standard output cannot be written: {error.strerror}; what was printed so far is not the whole answer")


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """What can go wrong outside is one line on stderr and exit status 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            tell(f"interrupted; {_left_by_interrupt(kwargs)}")
            raise SystemExit(INTERRUPTED) from None
        except OSError as error:
            fail(f"{error.filename or 'the system'}: {error.strerror or error}")
        except Exception as error:
            from adapters.app import NotAMoment
            from adapters.ingest import NothingToRead
            from adapters.ports import StoreError
            from adapters.proof import NotAProof
            from adapters.report import NotKnown

            if not isinstance(error, (NothingToRead, StoreError, NotAMoment, NotAProof, NotKnown)):
                raise
            fail(str(error))

    return run


def _left_by_interrupt(options: dict[str, Any]) -> str:
    if (filled := options.get("target") or (options.get("archive") and options["ledger_path"])) is not None:
        return f"what was taken over so far is kept in {_shown(filled)}; the same command again goes on from there"
    if options.get("write"):
        return (
            f"{_shown(options['ledger_path'])} may be judged again in part; the same command again goes on from there"
        )
    if "paths" not in options:
        return "nothing was changed"
    if not options["ledger_path"]:
        return "nothing was kept"
    from adapters.stores.backends import shown

    return (
        f"what was read so far is kept in {shown(options['ledger_path'])}; the same command again reads on from there"
    )


def _shown(address: str) -> str:
    from adapters.stores.backends import shown

    return shown(address)


class Commands(click.Group):
    """The commands in the order in which they were written here, which is that of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, for the help."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed; of one that there is not, what may have been meant."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{meant(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant who typed a word that is not known; empty if nothing comes close."""
    close = difflib.get_close_matches(word, list(known), 3, 0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _print_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        _say_version("text")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Which write lost which, what the state should be, and how to repair it.

    netledger replays recorded incidents of Kubernetes virtual networks (Kube-OVN) into an ordered ledger of events,
    judges every event against explicit lifecycles, and tells what is wrong. Start with: netledger replay audit.log

    Exit status: 0 no open error, 1 open errors, 2 the work could not be done.
    """


ledger_option = click.option(
    "--ledger",
    "ledger_path",
    metavar="FILE|ADDRESS",
    envvar="NETLEDGER_LEDGER",
    help="The kept ledger: a file, or a server's address such as redis://HOST/0?ledger=NAME (or NETLEDGER_LEDGER).",
)
at_option = click.option("--at", metavar="TIME|REVISION", help="As it was then, instead of at the end.")
namespace_option = click.option("-n", "--namespace", metavar="NAME", help="Only this namespace.")
headers_option = click.option("--no-headers", is_flag=True, help="Leave the header line out.")
patience_option = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="When a missing reaction is overdue, instead of what the log itself says.",
)


def output_option(*choices: str) -> Callable[..., Any]:
    """`-o`, the first choice being the default."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True, help="How to print it."
    )


# ---- what is completed


def _complete_resource(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Kinds, and behind `kind/` the names that a kept ledger knows."""
    from domain.resources import KINDS, kind_called

    word, slash, _ = typed.partition("/")
    if not slash:
        return _starting(typed, [kind.name for kind in KINDS] + [kind.plural for kind in KINDS])
    try:
        known = _views_for_completion(context).names(kind_called(word).name)
    except Exception:  # a Tab key that finds nothing says nothing
        return []
    return _starting(typed, [f"{word}/{name}" for name in known])


def _complete_format(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    from adapters.sources.dialects import READERS

    return _starting(typed, list(READERS))


def _complete_kind(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    from domain.resources import KINDS

    return _starting(typed, [kind.name for kind in KINDS])


def _complete_rule(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    from projections.findings.judge import RULES

    return _starting(typed, [rule.name for rule in RULES] + [rule.code for rule in RULES])


def _complete_finding(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    try:
        return _starting(typed, [row["id"] for row in _views_for_completion(context).findings()])
    except Exception:
        return []


def _complete_ipset(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    try:
        return _starting(typed, [name.rpartition("/")[2] for name in _views_for_completion(context).names("ipset")])
    except Exception:
        return []


def _views_for_completion(context: click.Context) -> Views:
    from adapters.views import Views

    return Views(context.params.get("ledger_path") or os.environ["NETLEDGER_LEDGER"])


def _starting(typed: str, known: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in dict.fromkeys(known) if word.startswith(typed)]


# ---- replay


@cli.command(short_help="Replay what was recorded; tell what went wrong.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@ledger_option
@at_option
@patience_option
@click.option(
    "--format",
    "dialect",
    metavar="FORMAT",
    shell_complete=_complete_format,
    help="What all the files are, where they do not show it: audit.k8s.io, cloudevents, ipset, klog, objects.",
)
@click.option("--year", type=click.IntRange(1970, 9999), metavar="YEAR", help="Of log lines that name none.")
@click.option("--timezone", metavar="ZONE", help="Of log lines that name none: Europe/Berlin or +02:00; else UTC.")
@click.option("--node", multiple=True, metavar="[SOURCE=]NAME", help="Which node's ipsets or log a source shows.")
@click.option(
    "--skew", multiple=True, metavar="SOURCE=±SECONDS", help="How far a source's clock is ahead (+) or behind (-)."
)
@click.option("--allow-volatile", is_flag=True, help="Keep it also on a server that may forget what it acknowledged.")
@click.option("--require-complete", is_flag=True, help="Answer only where no evidence is missing; else exit 2.")
@output_option("text", "json")
@explained
def replay(
    paths: Sequence[str],
    ledger_path: str | None,
    at: str | None,
    patience: float | None,
    dialect: str | None,
    year: int | None,
    timezone: str | None,
    node: Sequence[str],
    skew: Sequence[str],
    allow_volatile: bool,
    require_complete: bool,
    output: str,
) -> None:
    """Replay what was recorded of an incident; tell what went wrong, which write did it, and how to repair it.

    PATH is a file (plain or gzip), a folder, or - for standard input: audit logs, watch streams, lists and objects of
    kubectl, Kubernetes Events, controllers' logs, ipset dumps and restores, CloudEvents, in any mix and order. What a file
    is, its content says. Without --ledger nothing is kept; with it, more files can be replayed into the same ledger
    later and land in their true place. SOURCE is one of the paths, or its last part.

    Exit status: 0 no open error, 1 open errors, 2 the work could not be done.
    """
    from adapters import app, report
    from adapters.ingest import files_in

    moment = app.read_moment(at) if at else None
    if patience is not None and not patience < 1e9:
        fail(f"--patience {patience}: give seconds, such as 30")
    files = _without_ledger(files_in(paths), paths, ledger_path)
    about = _about(files, dialect, year, timezone, node, skew)
    with app.opened(ledger_path, allow_volatile=allow_volatile) as store, progress(files) as (reading, judging):
        if store.durability:
            tell(store.durability)
        outcome = app.replay(
            store,
            files,
            at=moment,
            patience=None if patience is None else int(patience * 1_000_000),
            format=dialect,
            about=about.__getitem__,
            reading=reading,
            judging=judging,
        )
        document = report.document(store, outcome)
        if ledger_path is not None and moment is None and patience is None:
            _keep_views(ledger_path, store, outcome, document)
    _tell_of_bad_input(outcome, ledger_path)
    if require_complete and (missing := report.missing(document["coverage"], document["sources"])):
        fail(f"the evidence is not complete: {missing}; no verdict is given. Without --require-complete there is one")
    if output == "json":
        show([json.dumps(document, indent=2, ensure_ascii=False)])
    else:
        show(report.text(document, Paper.of(sys.stdout)))
    raise SystemExit(OPEN_ERRORS if report.open_errors(document["findings"]) else 0)


def _about(
    files: Sequence[str],
    dialect: str | None,
    year: int | None,
    timezone: str | None,
    nodes: Sequence[str],
    skews: Sequence[str],
) -> dict[str, About]:
    """What a person says of each file."""
    from adapters.sources import dialects
    from adapters.sources.dialect import About

    if dialect is not None and dialect not in dialects.READERS:
        known = list(dialects.READERS)
        fail(f"there is no format {dialect!r}{meant(dialect, known) or '; the formats are ' + ', '.join(known)}")
    every = About(year=year, timezone=_zone(timezone))
    about = dict.fromkeys(files, every)
    for word in nodes:
        source, equals, name = word.rpartition("=")
        for file in _named_source(source, files, word, "--node") if equals else files:
            about[file] = about[file]._replace(node=name)
    for word in skews:
        source, _, seconds = word.rpartition("=")
        try:
            skew = int(float(seconds) * 1_000_000)
        except (ValueError, OverflowError):
            fail(f"--skew {word}: give a source and seconds, such as controller.log=+2.5")
        for file in _named_source(source, files, word, "--skew"):
            about[file] = about[file]._replace(skew=skew)
    return about


def _zone(name: str | None) -> tzinfo:
    from datetime import UTC, datetime

    if not name:
        return UTC
    from zoneinfo import ZoneInfo

    try:
        if name[0] in "+-":
            zone = datetime.fromisoformat(f"2000-01-01T00:00:00{name}").tzinfo
            assert zone is not None
            return zone
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        fail(f"--timezone {name}: give a name such as Europe/Berlin, or an offset such as +02:00")


def _named_source(source: str, files: Sequence[str], word: str, option: str) -> list[str]:
    """The files that a person means by a path or the last part of one."""
    from pathlib import Path

    found = [file for file in files if source in (file, Path(file).name)]
    if not found:
        close = meant(source, [Path(file).name for file in files])
        fail(f"{option} {word}: none of the files is {source or 'named'}{close or '; give its path, or the last part'}")
    return found


def _without_ledger(files: list[str], asked: Sequence[str], ledger_path: str | None) -> list[str]:
    """The files to read: of a folder that the ledger itself lies in, all but the ledger and what lies beside it."""
    from pathlib import Path

    for path in files:
        if path.encode(errors="replace") != os.fsencode(path):
            fail(f"{path!r}: this file's name is not UTF-8; rename it, or give its content as standard input: -")
    if ledger_path is None:
        return files
    from adapters.stores.backends import path_of

    file = path_of(ledger_path)
    if file is None:
        return files
    ledger = file.resolve()
    if any(path != "-" and Path(path).resolve() == ledger for path in asked):
        fail(f"{ledger_path} is both what is to be read and the ledger to keep it in; name another file with --ledger")
    own = ("", "-wal", "-shm", ".lock", ".views", ".checkpoints", ".checkpoints-journal")
    beside = {ledger.with_name(ledger.name + suffix) for suffix in own}
    return [file for file in files if file == "-" or file in asked or Path(file).resolve() not in beside]


_NAMED = 5
"""How many files that cannot be used are named in one message."""


def _tell_of_bad_input(outcome: app.Outcome, ledger_path: str | None) -> None:
    from adapters.ingest import UNKNOWN_FORMAT
    from adapters.paper import counted
    from adapters.report import called
    from adapters.stores.backends import shown

    strangers = []
    for tally in outcome.tallies:
        path = called(tally.path)
        if tally.format != UNKNOWN_FORMAT and tally.unrecognised:
            kept = (
                f"`netledger verify --aside --ledger {shown(ledger_path)}` lists"
                if ledger_path
                else "with --ledger, `netledger verify --aside` lists"
            )
            # Why the first could not be used mostly says what to do.
            first = f" ({Paper().styled(tally.wrong[:300])})" if tally.wrong else ""
            tell(
                f"{path}: {tally.unrecognised:,} of {counted(tally.records, 'record')} could not be read and "
                f"{'was' if tally.unrecognised == 1 else 'were'} set aside{first}; {kept} what and why"
            )
        elif not tally.records:
            tell(f"{path}: skipped, it is empty")
        elif tally.format == UNKNOWN_FORMAT:
            strangers.append(path)
    if strangers:
        more = f" and {len(strangers) - _NAMED} more" if len(strangers) > _NAMED else ""
        tell(
            f"{', '.join(strangers[:_NAMED])}{more}: skipped, {'it is' if len(strangers) == 1 else 'they are'} in no format "
            "that is known here; --format says what it is, if you know better"
        )
    if all(tally.format == UNKNOWN_FORMAT for tally in outcome.tallies):
        fail(
            "nothing that was given is a recording that can be read (an audit log, a watch stream or objects of kubectl, a "
            "controller's log, an ipset dump; plain or gzip); no verdict is given"
        )


@contextmanager
def progress(
    files: Sequence[str],
) -> Iterator[tuple[Callable[[str], Callable[[int], None]], Callable[[str, int], None]]]:
    """Progress bars on stderr where that is a terminal: bytes while reading, records while ordering and judging."""
    if not sys.stderr.isatty():
        yield (lambda path: lambda count: None), (lambda stage, count: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from adapters.ingest import size_of

    columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        reading = bars.add_task("reading", total=size_of(files) or None)
        judging = bars.add_task("judging", total=None, visible=False)
        counts = {"order": 0, "decide": 0}

        def advance(stage: str, count: int) -> None:
            # Ordering counts every record before the first is judged: its count is judging's total.
            before = counts[stage]
            counts[stage] += count
            if before == 0:
                bars.update(judging, visible=True)
            if stage == "order":
                bars.update(judging, total=counts["order"])
            elif counts["decide"] >> 8 != before >> 8:
                bars.update(judging, completed=counts["decide"])

        yield (lambda path: lambda count: bars.advance(reading, count)), advance


@contextmanager
def bar(word: str, total: int) -> Iterator[Callable[[int], None]]:
    """One progress bar on stderr where that is a terminal: told of each some more."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(word, total=total or None)
        done = shown_at = 0

        def advance(count: int) -> None:
            nonlocal done, shown_at
            done += count
            if done - shown_at >= 256 or done >= total:
                bars.update(task, completed=done)
                shown_at = done

        yield advance


def _keep_views(path: str, store: app.Store, outcome: app.Outcome, document: dict[str, Any]) -> None:
    """The ledger is complete by now: that its views cannot be kept is worth a word, and no failure."""
    from adapters.ports import StoreError
    from adapters.views import Views

    try:
        Views(path).keep(_stands(store), document, _activity(outcome))
    except StoreError as error:
        tell(str(error))


def _stands(store: app.Store) -> tuple[int, int, int, int]:
    _, pruned = store.ledger.start
    return store.ledger.generation, store.ledger.head, store.journal.head(), pruned


def _activity(outcome: app.Outcome) -> dict[str, dict[str, Any]]:
    import msgspec

    return {
        actor: {kind: msgspec.to_builtins(activity) for kind, activity in kinds.items()}
        for actor, kinds in outcome.judged.reading.trail.by_actor.items()
    }


# ---- questions to a kept ledger


@cli.command(short_help="Show resources: state, claims, what these should be.")
@click.argument("kind_name", metavar="KIND[/NAME]", shell_complete=_complete_resource)
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
    """Show resources: their state, their claims as reported, and what these should be.

    KIND is a plural, singular or short name, or the API's own, as kubectl takes it. Exit status: 0, or 2 if the
    resource is not there or the work could not be done.
    """
    from adapters import app, report, tables

    kind, namespace, name = _resource(kind_name, name, namespace)
    moment = app.read_moment(at) if at else None
    with questioned(ledger_path) as (store, views):
        if moment is not None:
            key = None if name is None else _key(kind, namespace, name)
            known = [
                row
                for row in report.resources_at(store, kind, moment, key)
                if namespace is None or row["namespace"] == (namespace or None)
            ]
            rows = [row for row in known if name is None or row["name"] == name]
        else:
            rows = views.resources(kind.name, namespace, name)
            known = rows if rows or name is None else views.resources(kind.name, namespace)
        coverage = views.coverage()
    where = f" at {at}" if at else " at the end of the log"
    if name is not None and not rows:
        key = _key(kind, namespace, name)
        close = meant(name, [row["name"] for row in known])
        fail(f"there is no {key}{where}{close or f'; `netledger history {key}` shows what the log knows of it'}")
    if output in ("json", "yaml"):
        _print_data(rows if name is None else rows[0], output)
    elif output == "name":
        show(report.path_of(row) for row in rows)
    elif not rows:
        tell(f"no {kind.plural} are there{f' in namespace {namespace}' if namespace else ''}{where}")
    else:
        show(tables.resources(rows, kind, wide=output == "wide", headers=not no_headers))
    if at is None and output in ("table", "wide"):
        tell(report.as_of(coverage))


@cli.command(short_help="Show all that happened to one resource, in order.")
@click.argument("kind_name", metavar="KIND/NAME", shell_complete=_complete_resource)
@click.argument("name", required=False)
@ledger_option
@namespace_option
@headers_option
@output_option("table", "wide", "json", "yaml", "name")
@explained
def history(
    kind_name: str, name: str | None, ledger_path: str | None, namespace: str | None, no_headers: bool, output: str
) -> None:
    """Show all that happened to one resource, in the true order; of one that is gone, too.

    Exit status: 0, or 2 if nothing is known of it or the work could not be done.
    """
    from adapters import report, tables

    kind, namespace, name = _resource(kind_name, name, namespace)
    if name is None:
        fail(f"history is of one resource: netledger history {kind.name}/NAME")
    key = _key(kind, namespace, name)
    with questioned(ledger_path) as (store, views):
        placed = [one for one in store.ledger.concerning(key) if one.event.key == key]
        places = store.journal.locate({one.event.record for one in placed})
        rows = [report.timeline_row(one.position, one.event, places.get(one.event.record)) for one in placed]
        known = [] if rows else views.names(kind.name)
        coverage = views.coverage()
    if coverage["pruned"] is not None and rows and rows[0]["position"] <= coverage["pruned"]["position"]:
        tell(
            f"{key}: events before {coverage['pruned']['before']} were pruned from this ledger; of each resource the first "
            "and the last are kept"
        )
    if not rows:
        close = meant(key.path, known)
        fail(f"nothing in this ledger is about {key}{close or f'; `netledger get {kind.plural}` lists what is there'}")
    if output in ("json", "yaml"):
        _print_data(rows, output)
        return
    if output == "name":
        show(row["event"] for row in rows)
        return
    show(tables.history(rows, wide=output == "wide", headers=not no_headers))


@cli.command(short_help="List what is wrong, or tell one finding whole.")
@click.argument("finding_id", required=False, metavar="[ID]", shell_complete=_complete_finding)
@ledger_option
@headers_option
@click.option(
    "--open",
    "only_open",
    is_flag=True,
    help="Only what is wrong at the end: not what is unknown, healed or may yet come.",
)
@output_option("table", "wide", "json", "yaml", "name")
@explained
def findings(finding_id: str | None, ledger_path: str | None, no_headers: bool, only_open: bool, output: str) -> None:
    """List what is wrong, or tell one finding whole.

    ID is a finding's id or its beginning. Exit status: 0 no open error, 1 open errors, 2 the work could not be done.
    """
    from adapters import report, tables

    with questioned(ledger_path) as (_, views):
        every, coverage = views.findings(), views.coverage()
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
        _print_data(rows[0] if finding_id is not None and len(rows) == 1 else rows, output)
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


@cli.command(short_help="Show one ipset: whose each member is, and the drift.")
@click.argument("name", shell_complete=_complete_ipset)
@ledger_option
@click.option("--node", metavar="NAME", help="The set of this node, where several have one of that name.")
@at_option
@headers_option
@output_option("table", "wide", "json", "yaml", "save")
@explained
def ipset(name: str, ledger_path: str | None, node: str | None, at: str | None, no_headers: bool, output: str) -> None:
    """Show one ipset: each member with who put it in, since when and by which event, and what differs.

    -o save prints an `ipset restore` input that sets exactly the lawful members at once.

    Exit status: 0, or 2 if the set is not there, if what belongs in it is not known (-o save), or if the work could not
    be done.
    """
    from adapters import app, report, tables
    from adapters.judging import fold
    from domain.resources import Key

    moment = app.read_moment(at) if at else None
    with questioned(ledger_path) as (store, _):
        reading = fold(store.ledger, moment).reading
        sets = {
            resource.key: resource
            for resource in reading.resources()
            if resource.key.kind == "ipset" and (node is None or resource.key.namespace == node)
        }
        found = [key for key in sets if key.name == name]
        where = (f" on node {node}" if node is not None else "") + (f" at {at}" if at else " at the end of the log")
        if not found:
            close = meant(name, dict.fromkeys(key.name for key in sets))
            key = Key("ipset", node or "", name)
            fail(
                f"there is no ipset {name}{where}{close or f'; `netledger history {key}` shows what the log knows of it'}"
            )
        if len(found) > 1:
            nodes = ", ".join(key.namespace or "one that no source names" for key in found)
            fail(f"several nodes have an ipset {name}: {nodes}; add --node NAME")
        resource = sets[found[0]]
        if output == "save":
            show(report.ipset_save(reading, resource))
            return
        document = report.ipset_document(reading, resource, store)
    if output in ("json", "yaml"):
        _print_data(document, output)
        return
    show(tables.ipset(document, wide=output == "wide", headers=not no_headers))
    tell(report.ipset_summary(document))


@contextmanager
def questioned(path: str | None) -> Iterator[tuple[app.Store, Views]]:
    """A kept ledger, open for reading, with views that stand where it stands."""
    from adapters import app
    from adapters.views import Views

    with app.opened(_named(path), "read") as store:
        views = Views(_named(path))
        if not views.stand_at(_stands(store)):
            _make_views(views, store, _named(path))
        yield store, views


def _named(path: str | None) -> str:
    if not path:
        fail(
            "which ledger? Give --ledger FILE, or set NETLEDGER_LEDGER; `netledger replay --ledger FILE LOG` makes one"
        )
    return path


def _make_views(views: Views, store: app.Store, path: str) -> None:
    """Make the views again from the log; where they cannot be kept, for this answer only."""
    from adapters import app, report
    from adapters.judging import Judged
    from adapters.ledger import Moment
    from adapters.ports import StoreError
    from adapters.stores.backends import shown

    path = shown(path)
    stands = _stands(store)
    outcome = _rebuilt(store)
    if outcome is None:
        # Nothing is overdue for lack of what is not judged yet: the answer ends where judging has come to.
        outcome = app.conclude(store, Judged(), [], at=Moment(None, sys.maxsize))
        if not outcome.judged.reading.at:
            fail(
                f"{path} holds records, and nothing of them is judged yet: a replay into it is running, or was "
                "interrupted; wait for it, or replay the same log into it again"
            )
        tell(
            f"{path} holds records that are not judged yet: a replay into it is running, or was interrupted. This answer "
            "is about what is judged so far; `netledger replay LOG --ledger` with the same log finishes it"
        )
        views.hold(stands, report.document(store, outcome), _activity(outcome))
        return
    made = (stands, report.document(store, outcome), _activity(outcome))
    try:
        views.keep(*made)
    except StoreError:
        views.hold(*made)


def _rebuilt(store: app.Store) -> app.Outcome | None:
    """Everything that follows from the log; `None` where the journal holds what the ledger does not."""
    from adapters import app
    from adapters.ports import LedgerReadOnly

    try:
        # Opened for reading, judging appends nothing: it gets through only if there is nothing left to append.
        return app.conclude(store, app.brought_up(store), [])
    except LedgerReadOnly:
        return None


# ---- upkeep


@cli.command(short_help="Make the read models again from the log.")
@ledger_option
@explained
def rebuild(ledger_path: str | None) -> None:
    """Make the read models again from the log; they come out the same.

    Exit status: 0, or 2 if the work could not be done.
    """
    from adapters import app, report
    from adapters.paper import counted
    from adapters.stores.backends import shown
    from adapters.views import Views

    path = _named(ledger_path)
    views = Views(path)
    with app.opened(path, "read") as store:
        stands = _stands(store)
        outcome = _rebuilt(store)
        if outcome is None:
            fail(
                f"{shown(path)} holds records that are not judged yet: a replay into it is running, or was interrupted; wait "
                "for it, or replay the same log into it again"
            )
        views.keep(stands, report.document(store, outcome), _activity(outcome))
    reading = outcome.judged.reading
    show(
        [
            f"rebuilt {views.path} from {counted(reading.at, 'event')}: {counted(len(reading.world.live), 'resource')}, "
            f"{counted(len(outcome.findings), 'finding')}, digest {outcome.judged.digest}"
        ]
    )


@cli.command(short_help="Check that all is still as it was written.")
@ledger_option
@click.option("--aside", is_flag=True, help="List the input that could not be used, with its reason.")
@click.option("--every-event", is_flag=True, help="Decode every event as well; takes many times as long.")
@click.option("--against", metavar="FILE", help="Compare with what `attest` printed earlier (- is standard input).")
@click.option("--proof", metavar="FILE", help="Check what `prove` printed; needs no ledger.")
@explained
def verify(ledger_path: str | None, aside: bool, every_event: bool, against: str | None, proof: str | None) -> None:
    """Read everything in a kept ledger again, and say what is not as it was written.

    What was changed by somebody who may write the ledger, and who made it fit, only an attestation shows that was kept
    elsewhere: --against. With --proof it is one event that is looked at, without the ledger.

    Exit status: 0, or 2 if something does not fit or the work could not be done.
    """
    from adapters import ledger
    from adapters import proof as proofs
    from adapters.paper import counted
    from adapters.stores import backends

    paper = Paper()
    attestation = proofs.read_attestation(_content(against)) if against else None
    if proof is not None:
        show(paper.styled(line) for line in proofs.told(proofs.read_proof(_content(proof)), attestation))
        return
    path = _named(ledger_path)
    # Not as an answer is asked for: of what is damaged even the beginning may be unreadable.
    with backends.opened(path, "read") as store:
        if aside:
            show(
                paper.styled(f"{kept.path}:{kept.line}: {kept.reason} ({counted(kept.size, 'byte')})")
                for kept in store.journal.kept_aside()
            )
            return
        parts = [store.container.verify(), store.recorder.verify(), store.journal.verify()]
        problems = list(chain(*parts))
        if attestation is not None and not problems:
            problems += proofs.against(store.recorder, attestation)
        if every_event and not problems:
            problems += ledger.verify(store.recorder)
        show(paper.styled(str(problem)) for problem in problems)
        if problems:
            fail(
                f"{counted(len(problems), 'problem')}: do not trust answers from {backends.shown(path)}; "
                "restore a copy, or replay the logs"
            )
        told = f", and up to {attestation.position} as attested at {attestation.time}" if attestation else ""
        show(
            [
                f"{backends.shown(path)}: events up to position {store.recorder.head()} and "
                f"{counted(store.journal.head(), 'record')}, all as they were written{told}"
            ]
        )


@cli.command(short_help="Print where a ledger ends, for keeping elsewhere.")
@ledger_option
@explained
def attest(ledger_path: str | None) -> None:
    """Print where a kept ledger ends now: position, digest and time, as one line of JSON.

    Keep it where nobody who may write the ledger can reach it, signed if you like; `netledger verify --against` compares.
    """
    import msgspec

    from adapters import proof
    from adapters.stores import backends

    path = _named(ledger_path)
    with backends.opened(path, "read") as store:
        show([msgspec.json.encode(proof.attested(store.recorder, backends.shown(path)))])


@cli.command(short_help="Print a proof that an event is in a ledger.")
@click.argument("position", type=click.IntRange(min=1))
@ledger_option
@click.option(
    "--head", type=click.IntRange(min=1), metavar="POSITION", help="An attested head it leads to; else today's."
)
@explained
def prove(position: int, ledger_path: str | None, head: int | None) -> None:
    """Print a proof that an event is in a kept ledger, as one line of JSON: the event, and some dozen hashes.

    POSITION is the event's, as `netledger export -o jsonl` prints it. `netledger verify --proof FILE --against HEAD` checks
    it with an attestation, and needs no ledger.
    """
    import msgspec

    from adapters.stores import backends

    with backends.opened(_named(ledger_path), "read") as store:
        show([msgspec.json.encode(store.recorder.prove(position, head))])


def _content(path: str) -> bytes:
    from pathlib import Path

    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


@cli.command(short_help="Judge a kept ledger again, by today's rules.")
@ledger_option
@click.option("--write", is_flag=True, help="Begin a new generation with today's verdict, if it is another one.")
@output_option("text", "json")
@explained
def rejudge(ledger_path: str | None, write: bool, output: str) -> None:
    """Judge a kept ledger again from its journal, under the tables and rules of today; tell what changes.

    Told are the findings, the refusals and the resources that come out differently. Without --write nothing is changed.
    With it, the events from the first that is another one on are superseded by today's; what was commanded stays.

    Exit status: 0 no open error today, 1 open errors, 2 the work could not be done.
    """
    from adapters import app, rejudging
    from adapters.stores.backends import shown
    from adapters.views import Views

    path = _named(ledger_path)
    with app.opened(path, "write" if write else "read") as store:
        views = Views(path)
        with (
            bar("judging", 2 * store.journal.head()) as advance,
            rejudging.rejudged(store, lambda stage, count: advance(count)) as verdict,
        ):
            document = rejudging.document(verdict, views, _stands(store))
            if write and document["changed"]:
                _write_verdict(path, rejudging.written(verdict), document)
    if output == "json":
        show([json.dumps(document, indent=2, ensure_ascii=False)])
    else:
        show(rejudging.text(document, Paper.of(sys.stdout)))
        if document["compared_with"] == "events":
            tell(
                f"the read models of {shown(path)} do not stand where it stands: what was found before was found by "
                "today's rules in the events that are kept"
            )
    raise SystemExit(OPEN_ERRORS if document["open_errors"] else 0)


def _write_verdict(path: str, store: app.Store, document: dict[str, Any]) -> None:
    from adapters import app, report
    from adapters.judging import fold

    judged = fold(store.ledger)
    if judged.digest != document["today"]["digest"]:
        fail(
            f"what was written has the digest {judged.digest}, and {document['today']['digest']} was judged; run "
            "`netledger verify`"
        )
    document["written"] = True
    outcome = app.conclude(store, judged, [])
    _keep_views(path, store, outcome, report.document(store, outcome))


@cli.command(short_help="Drop old events from a kept ledger.")
@ledger_option
@click.option(
    "--before",
    required=True,
    metavar="TIME|REVISION|position:N",
    help="Drop what happened before; what it adds up to stays.",
)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@explained
def prune(ledger_path: str | None, before: str, yes: bool) -> None:
    """Drop old events, and the records that they rest on, from a ledger in a file; findings and states stay the same.

    Of each resource the first and the last event are kept, and all that today's findings and states rest on. What is left
    is verified and proved as before, also against an older attestation. The state at a moment before cannot be told any
    more, and records that come later and belong before are kept aside. The file is written anew, which takes as much room
    again for so long; whoever has the ledger open has to open it again.

    Exit status: 0, or 2 if nothing was dropped because nobody said yes, or the work could not be done.
    """
    from adapters import app, retention
    from adapters.sources.dialect import iso
    from adapters.stores.backends import beside, shown

    path = _named(ledger_path)
    cut = retention.read_cut(before)
    with app.opened(path) as store:
        store.recorder.require_pruning()
        with bar("judging", store.journal.head()) as advance:
            app.brought_up(store, lambda stage, count: advance(count))
        try:
            plan = retention.planned(store.recorder, store.journal, store.ledger, cut)
        except retention.NothingToPrune as nothing:
            show([f"nothing was dropped from {shown(path)}: {nothing}"])
            return
        what = (
            f"{plan.events:,} of {store.ledger.count:,} events ({plan.size:,} bytes) from {iso(plan.oldest)} to "
            f"{iso(plan.newest)}, up to position {plan.pruned.position}, and what {plan.records:,} records said"
        )
        if not yes:
            tell(f"would drop {what} from {shown(path)}; {len(plan.keep):,} of the events up to there would stay")
            if not sys.stdin.isatty():
                fail("nothing was dropped; add --yes to do it")
            if not click.confirm("Drop them for good?", err=True):
                fail("nothing was dropped")
        size = _bytes_of(store)
        retention.prune(store.recorder, plan)
        # They follow from the log, and hold what is to be gone.
        for suffix in ("views", "checkpoints"):
            beside(path, suffix).unlink(missing_ok=True)
        show([f"dropped {what}; {shown(path)} has {_bytes_of(store):,} bytes now instead of {size:,}"])


def _bytes_of(store: app.Store) -> int:
    from adapters.stores.sqlite_file import SQLiteFile

    return store.container.path.stat().st_size if isinstance(store.container, SQLiteFile) else 0


# ---- moving


@cli.command(short_help="Copy a whole ledger from one store into another.")
@click.option("--from", "source", required=True, metavar="ADDRESS", help="The ledger to copy: a file, or a server's.")
@click.option("--to", "target", required=True, metavar="ADDRESS", help="Where to: empty, or a copy that broke off.")
@click.option("--allow-volatile", is_flag=True, help="Also to a store that may forget what it acknowledged.")
@explained
def copy(source: str, target: str, allow_volatile: bool) -> None:
    """Copy a whole ledger, its journal and the events of every generation, from any store to any other.

    A copy that broke off goes on where it stopped. At the end the copy is read again and compared: the digest is that of
    the source. Exit status: 0, or 2 if the work could not be done.
    """
    from adapters import app, transfer
    from adapters.stores.backends import path_of, shown

    files = path_of(source), path_of(target)
    if source == target or (files[0] and files[1] and files[0].resolve() == files[1].resolve()):
        fail(f"{shown(source)} is both what is to be copied and where to; name another place with --to")
    with (
        app.opened(source, "read", allow_volatile=True) as one,
        app.opened(target, allow_volatile=allow_volatile) as other,
        bar("copying", 2 * _size(one)) as advance,
    ):
        if other.durability:
            tell(other.durability)
        copied = transfer.copy((one.recorder, one.journal), (other.recorder, other.journal), shown(source), advance)
    show([f"copied {_told(copied.content.counts, copied.digest)} to {shown(target)}"])


@cli.command(short_help="Print or archive what a kept ledger holds.")
@click.argument("place", default="-", metavar="[FILE|-]", type=click.Path())
@ledger_option
@output_option("cloudevents", "archive", "jsonl")
@explained
def export(place: str, ledger_path: str | None, output: str) -> None:
    """Write what a kept ledger holds into a new file, or to standard output.

    cloudevents: its records, one JSON document a line, in the order of their arrival. Replaying them gives the same
    ledger. Not in it: input that could not be used, and commands, which were decided where they were given.

    archive: all of it, compressed, for `netledger import`: records, kept-aside input, the events of every generation.

    jsonl: the events of today's generation, one JSON document a line, for jq and the like; nothing takes them back.

    Exit status: 0, or 2 if the work could not be done.
    """
    from adapters import app
    from adapters.paper import counted
    from adapters.stores.backends import shown

    path = _named(ledger_path)
    left_out = 0

    def count() -> None:
        nonlocal left_out
        left_out += 1

    with app.opened(path, "read") as store:
        if output == "archive":
            from adapters import archive, transfer

            if place == "-" and sys.stdout.isatty():
                fail("an archive is nothing for a terminal: name a file, or send it on with |")
            with bar("archiving", _size(store)) as advance:
                tally = transfer.Tally()
                pour(archive.packed(_counted(transfer.blocks(store.recorder, store.journal), tally, advance)), place)
            told = _told(tally.content().counts, transfer.digest_of(store.recorder))
            tell(f"{shown(path)} archived: {told}")
        else:
            lines = app.export(store, count) if output == "cloudevents" else app.exported_events(store)
            pour((line + b"\n" for line in lines), place)
    if left_out:
        tell(f"{counted(left_out, 'command')} left out: what is replayed was observed, and admits no command again")


@cli.command("import", short_help="Put an archive into a store.")
@click.argument("archive", metavar="FILE|-", type=click.Path())
@ledger_option
@click.option("--allow-volatile", is_flag=True, help="Also into a store that may forget what it acknowledged.")
@explained
def import_(archive: str, ledger_path: str | None, allow_volatile: bool) -> None:
    """Put an archive (`netledger export -o archive`) into a store that is empty, or that holds the beginning of it.

    An import that broke off goes on where it stopped. At the end the store is read again and compared. An archive that
    is damaged is refused from the damage on. Exit status: 0, or 2 if the work could not be done.
    """
    from pathlib import Path

    from adapters import app, transfer
    from adapters.archive import Archive
    from adapters.stores.backends import shown

    path = _named(ledger_path)
    name = "standard input" if archive == "-" else archive
    with ExitStack() as opened:

        def blocks() -> Iterator[transfer.Block]:
            stream = sys.stdin.buffer if archive == "-" else opened.enter_context(Path(archive).open("rb"))
            return Archive(stream, name).blocks()

        first = blocks()  # what is no archive makes no ledger
        again = (lambda: first) if archive == "-" else blocks
        store = opened.enter_context(app.opened(path, allow_volatile=allow_volatile))
        if store.durability:
            tell(store.durability)
        advance = opened.enter_context(bar("importing", 0))
        content = transfer.received(again, store.recorder, store.journal, name, advance, repeatable=archive != "-")
        digest = transfer.digest_of(store.recorder)
    show([f"imported {_told(content.counts, digest)} into {shown(path)}"])


def _size(store: app.Store) -> int:
    """About how many rows a store has."""
    return store.journal.head() + store.recorder.head()


def _told(counts: Counts, digest: str) -> str:
    from adapters.paper import counted

    return f"{counted(counts.records, 'record')} and {counted(counts.events, 'event')}, digest {digest}"


def _counted(blocks: Iterator[Block], tally: Tally, advance: Callable[[int], None]) -> Iterator[Block]:
    for block in blocks:
        tally.add(block)
        advance(len(block.rows))
        yield block


# ---- reference


@cli.command(short_help="Say what a rule means, and where it comes from.")
@click.argument("rule", required=False, shell_complete=_complete_rule)
@explained
def explain(rule: str | None) -> None:
    """Say what a rule means: when it fires, and which incidents it comes from. Without a rule, list them."""
    from adapters import documentation
    from projections.findings.judge import RULES

    paper = Paper.of(sys.stdout)
    if rule is None:
        rows = [("", [known.code, known.severity, known.name]) for known in RULES]
        show(paper.columns(["CODE", "SEVERITY", "NAME"], rows))
        return
    found = next((known for known in RULES if rule.lower() in (known.code.lower(), known.name)), None)
    if found is None:
        names = [known.name for known in RULES]
        fail(f"there is no rule {rule!r}{meant(rule.lower(), names) or '; the rules are ' + ', '.join(names)}")
    show(documentation.explain(found, paper))


@cli.command(short_help="Show what may happen to a kind, in which state.")
@click.argument("kind_name", metavar="KIND", shell_complete=_complete_kind)
@output_option("table", "mermaid", "json")
@explained
def lifecycle(kind_name: str, output: str) -> None:
    """Show the table of a kind's life: what may happen in which state, where it leads, and unless what."""
    from adapters import documentation
    from domain.kinds import LIFECYCLES

    table = LIFECYCLES[_kind(kind_name).name]
    if output == "mermaid":
        show([table.mermaid()])
    elif output == "json":
        _print_data(documentation.lifecycle_rows(table), output)
    else:
        show(documentation.lifecycle_table(table, Paper.of(sys.stdout)))


@cli.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell; for bash: source <(netledger completion bash)"""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    show([found(cli, {}, "netledger", "_NETLEDGER_COMPLETE").source()])


@cli.command(short_help="Print the version.")
@output_option("text", "json")
def version(output: str) -> None:
    """Print the version."""
    _say_version(output)


def _say_version(output: str) -> None:
    from importlib.metadata import version as installed

    number = installed("netledger")
    show([json.dumps({"netledger": number}) if output == "json" else f"netledger {number}"])


# ---- what commands share


def _kind(word: str) -> Kind:
    from domain.resources import KINDS, kind_called

    try:
        return kind_called(word)
    except KeyError:
        names = [kind.name for kind in KINDS]
        close = meant(word.lower(), [*names, *(kind.plural for kind in KINDS)])
        fail(f"there is no kind {word!r}{close or '; the kinds are ' + ', '.join(names)}")


def _key(kind: Kind, namespace: str | None, name: str) -> Key:
    from domain.resources import Key

    return Key(kind.name, namespace or "", name)


def _resource(kind_name: str, name: str | None, namespace: str | None) -> tuple[Kind, str | None, str | None]:
    """`vpc/shop`, `vpc shop`, `pod/web/web-0` or `pod web-0 -n web`: kind, namespace and name."""
    word, slash, rest = kind_name.partition("/")
    kind = _kind(word)
    if slash:
        if name is not None:
            fail(f"{kind_name} {name}: give the name once")
        if not rest:
            fail(f"{kind_name}: a name is missing after the slash")
        name = rest
    if name is not None and kind.namespaced and "/" in name:
        inside, _, name = name.partition("/")
        if namespace not in (None, inside):
            fail(f"{kind_name} -n {namespace}: these are two namespaces, give one")
        namespace = inside
    if name is not None and not kind.served:
        namespace = namespace or ""  # whose node no source names
    if name is not None and kind.namespaced and namespace is None:
        fail(f"{kind.plural} live in namespaces: add -n NAMESPACE, or say {kind.name}/NAMESPACE/{name}")
    return kind, namespace if kind.namespaced else None, name


def _print_data(value: Any, output: str) -> None:
    if output == "json":
        show([json.dumps(value, indent=2, ensure_ascii=False)])
        return
    import yaml

    show(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).splitlines())
