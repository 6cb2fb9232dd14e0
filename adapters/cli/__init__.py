"""The command line: `netledger`. A command translates what a person typed, hands over, and prints what came back.

Habits are kubectl's: kinds by plural, singular or short name, `kind/name`, `-n`, `-o`, data on stdout and talk on
stderr. Exit status: 0 no open error, 1 open errors, 2 the work could not be done. A command imports what it needs when
it runs, so that completing a word does not wait for the engine. `app` does the work, `report` puts it into words.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback

import click

from adapters.cli import asking, explaining, keeping, reference, replaying, serving, trailing, watching
from adapters.cli.common import fail, meant


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


def _print_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        reference.say_version("text")
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


for _command in (
    replaying.replay,
    asking.get,
    asking.history,
    trailing.events,
    trailing.who,
    asking.findings,
    asking.ipset,
    explaining.diff,
    explaining.blame,
    explaining.why,
    serving.serve,
    watching.watch,
    keeping.rebuild,
    keeping.verify,
    keeping.attest,
    keeping.prove,
    keeping.rejudge,
    keeping.prune,
    keeping.copy,
    keeping.export,
    keeping.import_,
    reference.explain,
    reference.lifecycle,
    reference.completion,
    reference.version,
):
    cli.add_command(_command)
