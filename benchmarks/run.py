"""Measures netledger beside its floors and writes down what came out: `python -m benchmarks.run`.

Two parts. *replay*: for both mixes of `generate`, and for 100,000 and 1,000,000 lines, rounds of two programs alternate, each
in a process of its own: `floor`, and `netledger replay FILE -o json`. What is compared is CPU time (user and
system), which a neighbour on the machine disturbs least, as the ratio within a round, and the peak of
resident memory. *store*: the rows of `store`. `results.json` keeps the figures, and `report` puts them into
docs/benchmarks.md.

`--only PART` measures one part and leaves the other's figures as they are. With `--quick` less is measured, and the figures
are only printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from adapters.ports import StoreError
from benchmarks import report, store
from benchmarks.measuring import HERE, SEED, MeasurementError, Usage, data_file, measure, say, spread, warm

RESULTS: Final = HERE / "results.json"
PARTS: Final = ("replay", "store")
MIXES: Final = ("recorded", "relevant")
ROUNDS: Final = {100_000: 3, 1_000_000: 2}
PATIENCE: Final = 0.002
"""Seconds a program may take for each line, on top of a minute, before it is given up."""


def compare(mix: str, lines: int, rounds: int, netledger: Sequence[str]) -> dict[str, Any]:
    """Rounds of floor and netledger on one log; the figures as `results.json` keeps them."""
    path = data_file(mix, lines)
    patience = 60 + round(lines * PATIENCE)
    commands = {
        "floor": (sys.executable, str(HERE / "floor.py"), str(path)),
        "netledger": (*netledger, "replay", str(path), "-o", "json"),
    }
    warm(path)
    taken: dict[str, list[Usage]] = {name: [] for name in commands}
    for number in range(rounds):
        order = list(commands) if number % 2 == 0 else list(reversed(commands))
        for name in order:
            accepted = (0, 1) if name == "netledger" else (0,)
            usage = measure(commands[name], patience=patience, accepted=accepted)
            taken[name].append(usage)
            what = f"{mix} {lines:,} round {number + 1}/{rounds} {name}"
            say(f"{what}: {usage.cpu:.2f} s CPU, {usage.rss / 1e6:.0f} MB")
    pairs = zip(taken["netledger"], taken["floor"], strict=True)
    return {
        "mix": mix,
        "lines": lines,
        "bytes": path.stat().st_size,
        "rounds": rounds,
        "cpu_ratio": spread([ours.cpu / floor.cpu for ours, floor in pairs]),
        "exit": max(usage.exit for usage in taken["netledger"]),
        "output_bytes": max(usage.output for usage in taken["netledger"]),
        **{
            name: {
                "cpu_seconds": spread([usage.cpu for usage in usages]),
                "wall_seconds": spread([usage.wall for usage in usages]),
                "peak_rss_bytes": spread([usage.rss for usage in usages]),
            }
            for name, usages in taken.items()
        },
    }


def replays(netledger: Sequence[str], *, quick: bool) -> list[dict[str, Any]]:
    """The figures of all logs. Raises MeasurementError."""
    sizes = [lines for lines in ROUNDS if lines <= 100_000 or not quick]
    return [compare(mix, lines, ROUNDS[lines], netledger) for mix in MIXES for lines in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes; print, write nothing")
    parser.add_argument("--only", choices=PARTS, help="measure this part; keep the other's figures")
    parser.add_argument(
        "--netledger",
        default=str(Path(sys.executable).with_name("netledger")),
        help="the program to measure (default: the one beside this Python)",
    )
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.only and not arguments.quick and RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    results |= {"python": platform.python_version(), "cpus": os.cpu_count(), "seed": SEED}
    try:
        if arguments.only != "store":
            results["measurements"] = replays([arguments.netledger], quick=arguments.quick)
        if arguments.only != "replay":
            rows = store.measured(store.QUICK if arguments.quick else store.FULL)
            results["store"] = [row.as_kept() for row in rows]
    except (MeasurementError, subprocess.CalledProcessError, StoreError, OSError) as error:
        sys.exit(f"benchmarks.run: {error}")
    if arguments.quick:
        print("\n\n".join(make(results) for make in report.FIGURES.values()))
        return
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    report.write(results)
    say(f"wrote {RESULTS.relative_to(HERE.parent)} and {report.PAGE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
