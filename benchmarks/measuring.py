"""What every benchmark here is made of: a process measured from outside, sides measured in turns, and what they compare to.

Two things are only compared when they were measured in one run, in turns, and by the ratio within each round: a machine's
absolute figures belong to it and to its neighbours of that hour. `run` measures whole replays, `store` the store's parts.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, NamedTuple

HERE: Final = Path(__file__).parent
DATA: Final = HERE / "data"
SEED: Final = 1


class Usage(NamedTuple):
    """What one process took: CPU and wall-clock seconds, peak memory and output in bytes, exit code."""

    cpu: float
    wall: float
    rss: int
    exit: int
    output: int


class MeasurementError(Exception):
    """A program under measurement failed, so there is nothing to compare. The text is for the operator."""


class Comparison(NamedTuple):
    """One row of a table: what was measured, round by round, what beside it, and what it is to reach."""

    what: str
    beside: str
    unit: str
    ours: list[float]
    floor: list[float]
    """Of the same rounds; empty where there is nothing to compare with, and the figure itself is the measure."""
    target: float
    """For the ratio, ours over the other; where there is no other, for the figure."""
    bound: Literal["at least", "at most"] = "at least"

    @property
    def ratios(self) -> list[float]:
        """Ours over the other, round by round."""
        return [ours / floor for ours, floor in zip(self.ours, self.floor, strict=True)]

    @property
    def is_met(self) -> bool:
        """Whether the median reaches the target."""
        reached = median(self.ratios if self.floor else self.ours)
        return reached >= self.target if self.bound == "at least" else reached <= self.target

    def as_kept(self) -> dict[str, Any]:
        """As `results.json` keeps it."""
        return {
            "what": self.what,
            "beside": self.beside,
            "unit": self.unit,
            "rounds": len(self.ours),
            "ours": spread(self.ours, digits=4),
            "other": spread(self.floor, digits=4) if self.floor else None,
            "ratio": spread(self.ratios, digits=4) if self.floor else None,
            "bound": self.bound,
            "target": self.target,
            "met": self.is_met,
        }


def in_turns(rounds: int, sides: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Measures all sides, round after round, each time beginning with another; each is given the number of the round.

    Who goes first meets another cache and another disk than who goes last.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name](number))
    return found


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


def warm(path: Path) -> None:
    """Reads a file into the page cache, so that the first round pays no more than the others."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def spread(values: Sequence[float], digits: int | None = None) -> dict[str, float]:
    """Median and extremes, to three places, or to so many significant digits."""
    figures = {"median": median(values), "min": min(values), "max": max(values)}
    if digits is None:
        return {name: round(value, 3) for name, value in figures.items()}
    return {name: float(f"{value:.{digits}g}") for name, value in figures.items()}


def say(text: str) -> None:
    """Tells who waits how far it is."""
    print(text, file=sys.stderr, flush=True)
