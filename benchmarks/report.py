"""Puts the figures of `run` into docs/benchmarks.md, between two marks; the rest is written by hand.

`python -m benchmarks.report` does so again from `results.json`, without measuring.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
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
STORE_MARKS: Final = ("<!-- figures of the store: written by `make bench` -->", "<!-- end of the store's figures -->")


def figures(results: dict[str, Any]) -> str:
    """What was measured, and the targets, as two Markdown tables."""
    measurements = results.get("measurements", [])
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


def store_figures(results: dict[str, Any]) -> str:
    """The rows of the store, as one Markdown table: a figure is a median, its least and most are in brackets."""
    rows = [
        f"Python {results['python']}, {results['cpus']} CPUs, seed {results['seed']}.",
        "",
        "| what | beside | figure | ours | the other | ratio | target | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results.get("store", []):
        other, ratio = each["other"], each["ratio"]
        cells = (
            each["what"],
            each["beside"],
            each["unit"],
            _figures(each["ours"]),
            _figures(other) if other else "–",
            f"**{_figures(ratio)}**" if ratio else "–",
            f"{each['bound']} {_figure(each['target'])}",
            f"{_met(each['met'])}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


FIGURES: Final[dict[tuple[str, str], Callable[[dict[str, Any]], str]]] = {MARKS: figures, STORE_MARKS: store_figures}
"""What stands between which marks."""


def page(old: str, results: dict[str, Any]) -> str:
    """The page with new figures. Raises ValueError if it has no place for them."""
    for marks, make in FIGURES.items():
        before, begin, rest = old.partition(marks[0])
        _, end, after = rest.partition(marks[1])
        if not (begin and end):
            raise ValueError(
                f"docs/benchmarks.md has no place for figures: put back the lines {marks[0]} and {marks[1]}"
            )
        old = f"{before}{begin}\n\n{make(results)}\n\n{end}{after}"
    return old


def write(results: dict[str, Any]) -> None:
    """Renews docs/benchmarks.md. Errors of the file system, and those of `page`, are let through."""
    PAGE.write_text(page(PAGE.read_text(), results))


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:,.2f} [{values['min']:,.2f}..{values['max']:,.2f}]"


def _figures(values: dict[str, float]) -> str:
    median, *ends = (_figure(values[name]) for name in ("median", "min", "max"))
    return median if ends == [median, median] else f"{median} [{'..'.join(ends)}]"


def _figure(value: float) -> str:
    """To about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


if __name__ == "__main__":
    try:
        write(json.loads(RESULTS.read_text()))
    except (OSError, ValueError) as error:
        sys.exit(f"benchmarks.report: {error}")
