"""Measures `netledger replay` beside its floor and writes down what came out: `python -m benchmarks.run`.

For both mixes of `generate`, and for 100,000 and 1,000,000 lines, rounds of the two programs alternate, each
in a process of its own: `floor`, and `netledger replay FILE -o json`. What is compared is CPU time (user and
system), which a neighbour on the machine disturbs least, as the ratio within a round, and the peak of
resident memory. `results.json` keeps the figures, and `report` puts them into docs/benchmarks.md.

With `--quick` only 100,000 lines are measured and the figures are only printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks import report

HERE: Final = Path(__file__).parent
DATA: Final = HERE / "data"
RESULTS: Final = HERE / "results.json"
MIXES: Final = ("recorded", "relevant")
ROUNDS: Final = {100_000: 3, 1_000_000: 2}
SEED: Final = 1
PATIENCE: Final = 0.002
"""Seconds a program may take for each line, on top of a minute, before it is given up."""


class Usage(NamedTuple):
    """What one process took: CPU and wall-clock seconds, peak memory and output in bytes, exit code."""

    cpu: float
    wall: float
    rss: int
    exit: int
    output: int


class MeasurementError(Exception):
    """A program under measurement failed, so there is nothing to compare. The text is for the operator."""


def measure(command: Sequence[str], *, patience: int, accepted: Sequence[int] = (0,)) -> Usage:
    """Runs `command` in an empty directory, its output into a file there, and returns what it took.

    Raises MeasurementError if it cannot be started, ends with an exit code that is not accepted, or is not
    done after `patience` seconds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out, said, taken = (Path(scratch, name) for name in ("out", "said", "taken"))
        launcher = (sys.executable, "-I", "-S", str(HERE / "launcher.py"), str(taken), str(patience))
        with out.open("wb") as stdout, said.open("wb") as stderr:
            subprocess.run([*launcher, *command], stdout=stdout, stderr=stderr, cwd=scratch, check=False)
        tail = said.read_text(errors="replace").strip()[-2000:]
        if not taken.exists():
            raise MeasurementError(tail)
        cpu, wall, rss, code = taken.read_text().split()
        if float(wall) >= patience:
            raise MeasurementError(f"{' '.join(command)}: given up after {patience} s")
        if int(code) not in accepted:
            raise MeasurementError(f"{' '.join(command)}: exit {code}, so nothing was measured. It said:\n{tail}")
        return Usage(float(cpu), float(wall), int(rss), int(code), out.stat().st_size)


def data_file(mix: str, lines: int) -> Path:
    """The log to measure on, generated unless one by the same generator is there."""
    sources = ("audit_log.py", "api_server.py", "cluster.py", "noise.py", "generate.py")
    generator = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in sources)).hexdigest()[:8]
    path = DATA / f"{mix}-{lines}-seed{SEED}-{generator}.jsonl"
    if path.exists():
        return path
    DATA.mkdir(exist_ok=True)
    for old in DATA.glob(f"{mix}-{lines}-*"):
        old.unlink()
    say(f"generating {path.name}")
    unfinished = path.with_suffix(".part")
    options = ("--mix", mix, "--lines", str(lines), "--seed", str(SEED))
    subprocess.run(
        [sys.executable, "-m", "benchmarks.generate", *options, str(unfinished)], cwd=HERE.parent, check=True
    )
    unfinished.rename(path)
    return path


def compare(mix: str, lines: int, rounds: int, netledger: Sequence[str]) -> dict[str, Any]:
    """Rounds of floor and netledger on one log; the figures as `results.json` keeps them."""
    path = data_file(mix, lines)
    patience = 60 + round(lines * PATIENCE)
    commands = {
        "floor": (sys.executable, str(HERE / "floor.py"), str(path)),
        "netledger": (*netledger, "replay", str(path), "-o", "json"),
    }
    with path.open("rb") as file:  # into the page cache, so that the first round pays no more than the others
        while file.read(1 << 24):
            pass
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


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and extremes, to three places."""
    return {
        "median": round(median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100,000 lines only; print, write nothing")
    parser.add_argument(
        "--netledger",
        default=str(Path(sys.executable).with_name("netledger")),
        help="the program to measure (default: the one beside this Python)",
    )
    arguments = parser.parse_args()
    sizes = [lines for lines in ROUNDS if lines <= 100_000 or not arguments.quick]
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "seed": SEED,
        "measurements": [],
    }
    try:
        for mix in MIXES:
            for lines in sizes:
                measured = compare(mix, lines, ROUNDS[lines], [arguments.netledger])
                results["measurements"].append(measured)
    except (MeasurementError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"benchmarks.run: {error}")
    if arguments.quick:
        print(report.figures(results))
        return
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    report.write(results)
    say(f"wrote {RESULTS.relative_to(HERE.parent)} and {report.PAGE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
