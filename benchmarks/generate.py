"""Generates a clean audit log of any length.

    python -m benchmarks.generate --lines 100000 --mix recorded --seed 1 OUT

Two mixes. `recorded` is what an audit policy without exceptions keeps: about 6 lines in 100 are completed
operations on the kinds that netledger knows, 6 more are their RequestReceived stage, the rest is the API
server's own life. In `relevant` the policy leaves out that stage and everything else, and every line is such
an operation.

The same seed gives the same bytes. Memory is constant and nothing is read from disk. What lives in the log is
in `cluster`; what it costs to read is measured by `run`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

from benchmarks.audit_log import AuditLog
from benchmarks.cluster import Cluster
from benchmarks.noise import Noise

Mix = Literal["recorded", "relevant"]

OPERATIONS: Final = 0.06
"""Share of the lines of the recorded mix that are completed operations on our kinds."""
PACE: Final[dict[Mix, int]] = {"recorded": 1_500, "relevant": 20_000}
"""Microseconds from one request to the next, on average: a busy API server, the same cluster in both."""
PROGRESS: Final = 100_000


class Written(NamedTuple):
    lines: int
    bytes: int


def generate(out: Path, *, lines: int, mix: Mix, seed: int, progress: bool = False) -> Written:
    """Writes `lines` lines to `out` and says how much that was. Errors of the file system are let through."""
    random = Random(seed)
    with out.open("wb", buffering=1 << 20) as file:
        log = AuditLog(file, random, limit=lines, pace=PACE[mix], received=mix == "recorded")
        cluster = Cluster(log, random)
        noise = Noise(cluster.api, random)
        life = cluster.run()
        told = 0
        operations = 0
        while not log.full:
            before = log.lines
            next(life)
            operations += (log.lines - before) // (2 if mix == "recorded" else 1)
            while mix == "recorded" and operations > OPERATIONS * log.lines and not log.full:
                noise.send()
            if progress and log.lines - told >= PROGRESS:
                told = log.lines
                print(f"  {told:,} of {lines:,} lines", file=sys.stderr, flush=True)
        log.close()
    return Written(log.lines, log.bytes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write; an old one is replaced")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--mix", choices=("recorded", "relevant"), default="recorded")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes")
    arguments = parser.parse_args()
    if arguments.lines < 1:
        parser.error(f"--lines {arguments.lines}: a log has at least one line; give a positive number")
    started = time.perf_counter()
    try:
        written = generate(arguments.out, lines=arguments.lines, mix=arguments.mix, seed=arguments.seed, progress=True)
    except OSError as error:
        sys.exit(f"{arguments.out}: cannot write the log: {error.strerror}. Give another OUT, or make room.")
    seconds = time.perf_counter() - started
    mean = round(written.bytes / written.lines)
    print(
        f"{arguments.out}: {written.lines:,} lines, {written.bytes:,} bytes, {mean} a line, {seconds:.1f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
