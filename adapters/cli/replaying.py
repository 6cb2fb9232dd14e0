"""The command that replays what was recorded, and what a person may say of the files: `netledger replay`.

`adapters/app.py` does the work, and `adapters/report.py` puts it into words. `asking.py` is about what was kept.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from adapters.cli.common import (
    OPEN_ERRORS,
    at_option,
    explained,
    fail,
    ledger_option,
    meant,
    output_option,
    patience_option,
    progress,
    show,
    tell,
)
from adapters.cli.completion import complete_format
from adapters.cli.kept import keep_views
from adapters.paper import Paper

if TYPE_CHECKING:
    from datetime import tzinfo

    from adapters import app
    from adapters.sources.dialect import About


@click.command(short_help="Replay what was recorded; tell what went wrong.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@ledger_option
@at_option
@patience_option
@click.option(
    "--format",
    "dialect",
    metavar="FORMAT",
    shell_complete=complete_format,
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
            keep_views(ledger_path, store, outcome, document)
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
    own = ("", "-wal", "-shm", ".lock", ".views", ".checkpoints", ".checkpoints-journal", ".trail", ".trail-journal")
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
