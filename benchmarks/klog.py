"""Makes klog as it is found in the wild, and measures `netledger replay` of it: `python -m benchmarks.klog`.

`lines` writes statements of kube-ovn and kube-router in the wording of every release: one line in twenty is of a row
that makes an event, the others are known statements without use, lines of libraries, and records of several lines.
What it is measured beside is a floor that does `line.split()` on every line of the file, in the same run, in turns.

With `--lines N` (default 200,000) and `--rounds N` (default 3). Figures are printed; docs/benchmarks.md says how to read
them.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

from adapters.sources.klog_patterns import PATTERNS, Pattern, Table, statements
from benchmarks.measuring import MeasurementError, measure, say
from domain.resources import BY_NAME

BEGINNING: Final = datetime(2026, 7, 4, 6, 57, 37, 123456, UTC)
WANTED: Final = 20
"""One line in so many is of interest."""

_NAMES: Final = tuple(f"{word}-{number}" for word in ("shop", "net-db", "web", "egress") for number in range(60))
_NAMESPACES: Final = ("shop", "billing", "kube-system", "ci-7")


def _address(chance: random.Random) -> str:
    return f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"


def _word(chance: random.Random) -> str:
    return "word"


def _set(chance: random.Random) -> str:
    return chance.choice(
        ("kube-router-svip", "kube-router-svip-prt", "KUBE-DST-2FAIIK2E4RIPMTGF", "inet6:kube-router-svip")
    )


VALUES: Final[dict[str, Callable[[random.Random], str]]] = {
    "name": lambda chance: chance.choice(_NAMES),
    "short": lambda chance: chance.choice(_NAMES),
    "namespace": lambda chance: chance.choice(_NAMESPACES),
    "holder": lambda chance: f"{chance.choice(_NAMESPACES)}/{chance.choice(_NAMES)}",
    "holders": lambda chance: "[shop/web-1 shop/web-2]",
    "port": lambda chance: f"{chance.choice(_NAMES)}.{chance.choice(_NAMESPACES)}",
    "set": _set,
    "sets": lambda chance: f"\ncreate TMP-A hash:ip timeout 0\nflush TMP-A\ncreate {_set(chance)} hash:ip timeout 0",
    "number": lambda chance: str(chance.randrange(30000)),
    "count": lambda chance: str(chance.randrange(300)),
    "command": lambda chance: f"{_address(chance)}/24",
    "address": _address,
    "v4": _address,
    "v6": lambda chance: chance.choice(("", "fd00:10::7")),
    "mac": lambda chance: "00:00:00:3A:5B:7C",
    "subnet": lambda chance: chance.choice(_NAMES),
    "key": lambda chance: chance.choice(_NAMES),
    "queue": lambda chance: "updateVpcEip",
    "action": lambda chance: "add/update vpc",
    "structured": lambda chance: (
        '"error syncing add/update vpc \\"shop\\": no route, requeuing" logger="UnhandledError"'
    ),
    "program": lambda chance: "/usr/sbin/ipset",
    "type": lambda chance: "kube-ovn",
    "cause": lambda chance: 'Operation cannot be fulfilled on vpcs.kubeovn.io "shop": the object has been modified',
}
"""What may stand in a field of a wording; a word in all others."""


def message(wording: str, chance: random.Random) -> str:
    """A message of that wording."""
    return re.sub(r"\{(\w+)\}", lambda field: VALUES.get(field[1], _word)(chance), wording)


def header(file: str, line: int, when: datetime, thread: int = 7, letter: str = "I") -> str:
    """klog's text header: everything in front of the message."""
    return f"{letter}{when:%m%d %H:%M:%S.%f} {thread:7} {file}:{line}] "


def line_of(wording: str) -> int:
    """A line for a statement to stand on, always the same."""
    return zlib.crc32(wording.encode()) % 900 + 1


def useful() -> list[Pattern]:
    """The rows that an event may be made of by the kinds there are."""
    return [one for one in PATTERNS if one.kind in BY_NAME and one.is_about_something and "{sets}" not in one.wording]


_LIBRARIES: Final = (
    ("reflector.go", "Listing and watching *v1.Pod from pkg/mod/k8s.io/client-go@v0.31.1/tools/cache/reflector.go:243"),
    ("leaderelection.go", "successfully renewed lease kube-system/kube-ovn-controller"),
    ("warnings.go", "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    ("ovn-nb-logical_switch_port.go", "update logical switch port web-1.shop options map[requested-chassis:node-2]"),
    (
        "trace.go",
        'Trace[1298498081]: "DeltaFIFO Pop Process" ID:kube-system/coredns,Depth:12,Reason:slow event handlers',
    ),
    ("endpoint.go", "update endpoint for service default/kubernetes"),
)


def lines(count: int, seed: int = 1, wanted: int = WANTED) -> Iterator[str]:
    """`count` lines without their ends: one in `wanted` of interest, one in two hundred the second of a record."""
    chance = random.Random(seed)
    rows = useful()
    # Below the table lies what is known and of no use: of the statements, what no row of use begins like.
    table = Table(BY_NAME)
    dull: list[tuple[str, str]] = []
    for file, text in statements():
        words = re.sub(r"%[-+# 0]*[\d.*]*[a-zA-Z]", "{word}", text)
        candidates = table.of(file.encode())
        first = candidates.words.get(words.partition(" ")[0].encode(), candidates.otherwise)
        if not words.encode().startswith(first.wanted) and "\n" not in words:
            dull.append((file, words))
    when = BEGINNING
    for number in range(count):
        when += timedelta(microseconds=chance.randrange(40_000))
        if number % 200 == 199:
            yield "goroutine 12 [running]: k8s.io/klog/v2.stacks(0x1)"
        elif number % wanted == wanted // 2:
            row = chance.choice(rows)
            yield header(chance.choice(row.files), line_of(row.wording), when) + message(row.wording, chance)
        elif chance.random() < 0.6:
            file, words = chance.choice(dull)
            yield header(file, line_of(words), when) + message(words, chance)
        else:
            file, words = chance.choice(_LIBRARIES)
            yield header(file, line_of(words), when) + words


FLOOR: Final = """
import sys
with open(sys.argv[1], "rb") as file:
    for line in file:
        line.split()
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.klog", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    netledger = [sys.executable, "-c", "from adapters.start import main; main()"]
    arguments = parser.parse_args()
    root = str(Path(__file__).parent.parent)
    netledger = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {root!r}); from adapters.start import main; main()",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "controller.log")
        path.write_text("\n".join(lines(arguments.lines)) + "\n")
        floor = [sys.executable, "-c", FLOOR, str(path)]
        replay = [*netledger, "replay", str(path), "-o", "json"]
        idle = [*netledger, "--version"]
        taken: dict[str, list[float]] = {"floor": [], "replay": [], "start": []}
        try:
            for _ in range(arguments.rounds):
                for name, command in (("floor", floor), ("replay", replay), ("start", idle)):
                    usage = measure(command, patience=600, accepted=(0, 1))
                    taken[name].append(usage.cpu)
                    say(f"{name}: {usage.cpu:.2f} s CPU, {usage.rss / 1e6:.0f} MB")
        except (MeasurementError, subprocess.CalledProcessError, OSError) as error:
            sys.exit(f"benchmarks.klog: {error}")
    speed = {name: arguments.lines / median(seconds) for name, seconds in taken.items()}
    print(f"{arguments.lines:,} lines, one in {WANTED} of interest; lines a second of CPU time:")
    print(f"  read and split  {speed['floor']:>12,.0f}")
    print(f"  replay          {speed['replay']:>12,.0f}   ratio {speed['replay'] / speed['floor']:.2f}")


if __name__ == "__main__":
    main()
