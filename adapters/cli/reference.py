"""The commands that need no ledger: what rules and lifecycles say, the version, and the script for completion.

`adapters/documentation.py` writes the same into docs/.
"""

from __future__ import annotations

import json
import sys

import click

from adapters.cli.common import (
    explained,
    fail,
    kind_of,
    meant,
    output_option,
    print_data,
    show,
)
from adapters.cli.completion import complete_kind, complete_rule
from adapters.paper import Paper


@click.command(short_help="Say what a rule means, and where it comes from.")
@click.argument("rule", required=False, shell_complete=complete_rule)
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


@click.command(short_help="Show what may happen to a kind, in which state.")
@click.argument("kind_name", metavar="KIND", shell_complete=complete_kind)
@output_option("table", "mermaid", "json")
@explained
def lifecycle(kind_name: str, output: str) -> None:
    """Show the table of a kind's life: what may happen in which state, where it leads, and unless what."""
    from adapters import documentation
    from domain.kinds import LIFECYCLES

    table = LIFECYCLES[kind_of(kind_name).name]
    if output == "mermaid":
        show([table.mermaid()])
    elif output == "json":
        print_data(documentation.lifecycle_rows(table), output)
    else:
        show(documentation.lifecycle_table(table, Paper.of(sys.stdout)))


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell; for bash: source <(netledger completion bash)"""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    show([found(context.find_root().command, {}, "netledger", "_NETLEDGER_COMPLETE").source()])


@click.command(short_help="Print the version.")
@output_option("text", "json")
def version(output: str) -> None:
    """Print the version."""
    say_version(output)


def say_version(output: str) -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    number = installed("netledger")
    show([json.dumps({"netledger": number}) if output == "json" else f"netledger {number}"])
