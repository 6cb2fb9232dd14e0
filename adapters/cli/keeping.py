"""The commands that look after a kept ledger: check it, prove it, judge it again, prune it, take it elsewhere.

`adapters/proof.py`, `rejudging.py`, `retention.py`, `transfer.py` and `archive.py` do the work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from adapters.cli.common import (
    OPEN_ERRORS,
    bar,
    explained,
    fail,
    ledger_option,
    named,
    output_option,
    pour,
    show,
    tell,
)
from adapters.cli.kept import activity, keep_views, rebuilt, standing
from adapters.paper import Paper

if TYPE_CHECKING:
    from adapters import app
    from adapters.transfer import Block, Counts, Tally


@click.command(short_help="Make the read models again from the log.")
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

    path = named(ledger_path)
    views = Views(path)
    with app.opened(path, "read") as store:
        stands = standing(store)
        outcome = rebuilt(store)
        if outcome is None:
            fail(
                f"{shown(path)} holds records that are not judged yet: a replay into it is running, or was interrupted; wait "
                "for it, or replay the same log into it again"
            )
        views.keep(stands, report.document(store, outcome), activity(outcome))
    reading = outcome.judged.reading
    show(
        [
            f"rebuilt {views.path} from {counted(reading.at, 'event')}: {counted(len(reading.world.live), 'resource')}, "
            f"{counted(len(outcome.findings), 'finding')}, digest {outcome.judged.digest}"
        ]
    )


@click.command(short_help="Check that all is still as it was written.")
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
    path = named(ledger_path)
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


@click.command(short_help="Print where a ledger ends, for keeping elsewhere.")
@ledger_option
@explained
def attest(ledger_path: str | None) -> None:
    """Print where a kept ledger ends now: position, digest and time, as one line of JSON.

    Keep it where nobody who may write the ledger can reach it, signed if you like; `netledger verify --against` compares.
    """
    import msgspec

    from adapters import proof
    from adapters.stores import backends

    path = named(ledger_path)
    with backends.opened(path, "read") as store:
        show([msgspec.json.encode(proof.attested(store.recorder, backends.shown(path)))])


@click.command(short_help="Print a proof that an event is in a ledger.")
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

    with backends.opened(named(ledger_path), "read") as store:
        show([msgspec.json.encode(store.recorder.prove(position, head))])


def _content(path: str) -> bytes:
    from pathlib import Path

    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


@click.command(short_help="Judge a kept ledger again, by today's rules.")
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

    path = named(ledger_path)
    with app.opened(path, "write" if write else "read") as store:
        views = Views(path)
        with (
            bar("judging", 2 * store.journal.head()) as advance,
            rejudging.rejudged(store, lambda stage, count: advance(count)) as verdict,
        ):
            document = rejudging.document(verdict, views, standing(store))
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
    keep_views(path, store, outcome, report.document(store, outcome))


@click.command(short_help="Drop old events from a kept ledger.")
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

    path = named(ledger_path)
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
        for suffix in ("views", "checkpoints", "trail"):
            beside(path, suffix).unlink(missing_ok=True)
        show([f"dropped {what}; {shown(path)} has {_bytes_of(store):,} bytes now instead of {size:,}"])


def _bytes_of(store: app.Store) -> int:
    from adapters.stores.sqlite_file import SQLiteFile

    return store.container.path.stat().st_size if isinstance(store.container, SQLiteFile) else 0


@click.command(short_help="Copy a whole ledger from one store into another.")
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


@click.command(short_help="Print or archive what a kept ledger holds.")
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

    path = named(ledger_path)
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


@click.command("import", short_help="Put an archive into a store.")
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

    path = named(ledger_path)
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
