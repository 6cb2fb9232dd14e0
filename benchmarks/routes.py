"""How long a daemon takes to answer each question over HTTP: wall time and its own CPU, one asker at a time.

`python -m benchmarks.routes URL TOKENFILE` asks a running daemon about names and moments of a made-up ledger
(`benchmarks/moments.py`), and prints what came out as JSON, in milliseconds. The token is the file's first word.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx2 as http

from adapters.sources.dialect import iso
from benchmarks.moments import FIRST, spread

QUESTIONS = 200
LAST = FIRST + 200_000_000_000
"""About the end of five million events, in microseconds since 1970."""


def routes(random: Random) -> dict[str, Callable[[], str]]:
    """Each question, with other names and moments whenever it is called."""

    def vpc() -> str:
        return f"tenant-{random.randrange(20):03d}"

    def subnet() -> str:
        return f"{vpc()}-net-{random.randrange(10)}"

    def some_time() -> str:
        return iso(random.randrange(FIRST, LAST))

    return {
        "events, the newest": lambda: "/v1/events?reverse&limit=100",
        "events of an actor since": lambda: f"/v1/events?actor=system:node:worker-1&since={some_time()}&limit=100",
        "events on a name": lambda: f"/v1/events?kind=vpc&name={vpc()}&limit=100",
        "events refused": lambda: "/v1/events?refused&limit=100",
        "events, 1000 as CSV": lambda: f"/v1/events?since={some_time()}&limit=1000",
        "event": lambda: f"/v1/events/{random.randrange(1, 5_000_000)}",
        "who": lambda: f"/v1/who/subnet/{subnet()}",
        "history, the newest": lambda: f"/v1/history/subnet/{subnet()}?reverse&limit=100",
        "history since": lambda: f"/v1/history/vpc/{vpc()}?since={some_time()}&limit=100",
        "diff": lambda: f"/v1/diff/subnet/{subnet()}?from={some_time()}",
        "diff between": lambda: f"/v1/diff/vpc/{vpc()}?from={iso(FIRST + 60_000_000)}&to={some_time()}",
        "blame": lambda: f"/v1/blame/subnet/{subnet()}",
        "blame at": lambda: f"/v1/blame/subnet/{subnet()}?at={some_time()}",
        "why": lambda: f"/v1/why/subnet/{subnet()}",
        "resource": lambda: f"/v1/resources/subnet/{subnet()}",
        "resource at": lambda: f"/v1/resources/pod/{subnet()}/none?at={some_time()}",
        "resources of a kind": lambda: "/v1/resources/vpc",
        "resources of a kind at": lambda: f"/v1/resources/vpc?at={some_time()}",
        "findings, open": lambda: "/v1/findings?status=open",
        "known": lambda: "/v1/known",
    }


def measure(url: str, token: str, questions: int = QUESTIONS) -> dict[str, Any]:
    """Milliseconds for each question: wall time, and the daemon's CPU on average."""
    found = {}
    with http.Client(headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False) as client:

        def cpu() -> float:
            page = client.get(f"{url}/metrics").text
            return float(re.findall(r"^process_cpu_seconds_total (\S+)", page, re.M)[0])

        for name, path in routes(Random(5)).items():
            headers = {"accept": "text/csv"} if "CSV" in name else {}
            statuses: Counter[int] = Counter()
            before, taken = cpu(), []
            for _ in range(questions):
                asked = path()
                began = time.perf_counter()
                response = client.get(f"{url}{asked}", headers=headers)
                taken.append(time.perf_counter() - began)
                statuses[response.status_code] += 1
            found[name] = {
                **{which: round(seconds * 1000, 2) for which, seconds in spread(taken).items()},
                "cpu": round((cpu() - before) * 1000 / questions, 2),
                "answers": statuses,
            }
    return found


if __name__ == "__main__":
    words = Path(sys.argv[2]).read_text(encoding="utf-8").split()
    print(json.dumps(measure(sys.argv[1], words[0]), indent=2))
