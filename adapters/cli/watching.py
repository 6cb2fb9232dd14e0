"""`netledger watch`: follows a daemon's findings as they open, change and heal, a line for each, until it is interrupted.

`adapters/remote.py` asks, and asks again where the connection is lost; `http/following.py` is the other end.
"""

from __future__ import annotations

import json
from typing import Any

import click

from adapters.cli.common import INTERRUPTED, Place, explained, output_option, server_option, show
from adapters.cli.kept import daemon


@click.command(short_help="Follow a daemon's findings as they open and heal.")
@server_option
@click.option("--open", "only_open", is_flag=True, help="Only what opens: not what heals, is unknown or may yet come.")
@output_option("table", "json")
@explained
def watch(place: Place, only_open: bool, output: str) -> None:
    """Follow the findings of a daemon: a line for each that opens, changes, heals or is withdrawn, from now on.

    A connection that is lost is taken up where it was, and nothing is missed. -o json prints each change whole, one a
    line. Exit status: 130 when it is interrupted, 2 if the daemon cannot be asked.
    """
    try:
        with daemon(place) as remote:
            for change in remote.changes():
                if only_open and (change["what"] == "withdrawn" or change["finding"]["status"] != "open"):
                    continue
                show([_line(change) if output == "table" else json.dumps(change, ensure_ascii=False)])
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _line(change: dict[str, Any]) -> str:
    """When it was noticed, what became of which finding, and what it is, in a sentence."""
    from adapters.report import path_of
    from adapters.sources.dialect import iso

    finding = change["finding"]
    sentence, more, _ = finding["explanation"].partition(". ")
    return "  ".join(
        (
            iso(change["time"]),
            f"{change['what']:<9}",
            f"{finding['severity']:<7}",
            f"{finding['rule']} {finding['name']}",
            path_of(finding["resource"]),
            sentence + ("." if more else ""),
        )
    )
