"""Puts the figures of `run` into docs/benchmarks.md, between two marks; the rest is written by hand.

`python -m benchmarks.report` does so again from `results.json`, without measuring.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
RESULTS: Final = Path(__file__).parent / "results.json"
TARGETS: Final = {"recorded": 2, "relevant": 6}
"""CPU time of replay over that of the floor, at most, at every length."""
FLAT: Final = 1.25
"""Peak memory at the greatest length over that at the least, at most."""
NAMES: Final = {"recorded": "as recorded", "relevant": "all relevant"}
MARKS: Final = ("<!-- figures: written by `make bench` -->", "<!-- end of figures -->")


def figures(results: dict[str, Any]) -> str:
    """What was measured, and the targets, as two Markdown tables."""
    measurements = results["measurements"]
    rows = [
        f"Python {results['python']}, {results['cpus']} CPUs, seed {results['seed']}.",
        "",
        "| mix | lines | bytes a line | floor CPU s | our CPU s | ratio | our wall s | floor MB | our MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in measurements:
        floor, ours = each["floor"], each["netledger"]
        cells = (
            NAMES[each["mix"]],
            f"{each['lines']:,}",
            f"{each['bytes'] / each['lines']:,.0f}",
            _spread(floor["cpu_seconds"]),
            _spread(ours["cpu_seconds"]),
            f"**{_spread(each['cpu_ratio'])}**",
            _spread(ours["wall_seconds"]),
            f"{floor['peak_rss_bytes']['median'] / 1e6:,.0f}",
            f"{ours['peak_rss_bytes']['median'] / 1e6:,.0f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    rows += ["", "| target | measured | met |", "|---|---|---|"]
    for each in measurements:
        target, ratio = TARGETS[each["mix"]], each["cpu_ratio"]["median"]
        rows.append(
            f"| {NAMES[each['mix']]}, {each['lines']:,} lines: at most {target} × the floor's CPU time "
            f"| {ratio:.2f} × | {_met(ratio <= target)} |"
        )
    for mix, name in NAMES.items():
        peaks = {
            each["lines"]: each["netledger"]["peak_rss_bytes"]["median"] for each in measurements if each["mix"] == mix
        }
        if len(peaks) > 1:
            few, many = min(peaks), max(peaks)
            growth = peaks[many] / peaks[few]
            rows.append(
                f"| {name}, memory flat: {many:,} lines need at most {FLAT} × what {few:,} need "
                f"| {growth:.2f} × | {_met(growth <= FLAT)} |"
            )
    for each in measurements:
        if each["exit"]:
            rows += [
                "",
                f"**Replay ended with exit code {each['exit']} on a log in which nothing is wrong** "
                f"({NAMES[each['mix']]}, {each['lines']:,} lines): a rule is at fault, or the generator.",
            ]
    return "\n".join(rows)


def page(old: str, results: dict[str, Any]) -> str:
    """The page with new figures. Raises ValueError if it has no place for them."""
    before, begin, rest = old.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise ValueError(f"docs/benchmarks.md has no place for figures: put back the lines {MARKS[0]} and {MARKS[1]}")
    return f"{before}{begin}\n\n{figures(results)}\n\n{end}{after}"


def write(results: dict[str, Any]) -> None:
    """Renews docs/benchmarks.md. Errors of the file system, and those of `page`, are let through."""
    PAGE.write_text(page(PAGE.read_text(), results))


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:,.2f} [{values['min']:,.2f}..{values['max']:,.2f}]"


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


if __name__ == "__main__":
    try:
        write(json.loads(RESULTS.read_text()))
    except (OSError, ValueError) as error:
        sys.exit(f"benchmarks.report: {error}")
