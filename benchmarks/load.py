"""What three API servers on default flags send, sent to a running daemon: `python -m benchmarks.load`.

Their ceiling is 10 batches of 400 events a second each, bursts of 15: 12,000 events a second together, 18,000 in a burst.
The lines are those of a generated log (`generate`, as recorded), with the times of now. Some batches come twice, some minutes
late, they overtake each other; some records are no JSON of an event, and some are missing, so that there is something to
find. `netledger serve` is a process of its own, on loopback; the senders are threads with a connection each, and send a
batch again that was refused, as an API server does. What is told: the rate that was kept up, how long answers took, memory
at the beginning and the end, and whether the findings are those of a replay of the same records.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import queue
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.measuring import MeasurementError, data_file, say

BATCH: Final = 400
SERVERS: Final = 3
CONNECTIONS: Final = 8
"""Of each API server: it posts every batch from a goroutine of its own."""
TWICE, LATE, BROKEN, MISSING = 0.05, 0.01, 0.001, 0.002
ATTEMPTS: Final = 6
WAIT_SECONDS: Final = 10.0
"""Before a batch that was refused is sent again, times 1.5 each time."""

_TIMES = re.compile(rb'"(requestReceivedTimestamp|stageTimestamp)":"[^"]*"')


class Post(NamedTuple):
    """One batch, and when it is sent: seconds after the beginning."""

    due: float
    server: int
    number: int


class Answered(NamedTuple):
    """How long an answer took, in seconds, and what it was."""

    took: float
    status: int
    behind: float


def bodies(seconds: int, rate: int, begin: float) -> Iterator[tuple[bytes, list[bytes]]]:
    """The batches in order: each as it is posted, and its sound lines."""
    chance = random.Random(1)
    count = seconds * rate
    path = data_file("recorded", max(1_000_000, count))
    with path.open("rb") as log:
        number = 0
        while lines := [line.rstrip(b"\n") for line in islice(log, min(BATCH, count - number))]:
            units, sound = [], []
            for line in lines:
                time_of = stamp(begin + number / rate)
                number += 1
                if chance.random() < MISSING:
                    continue
                line = _TIMES.sub(lambda found, time_of=time_of: b'"%s":"%s"' % (found[1], time_of), line)  # type: ignore[misc]
                if chance.random() < BROKEN:
                    units.append(b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":7}')
                else:
                    units.append(line)
                    sound.append(line)
            head = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
            yield head + b",".join(units) + b"]}\n", sound


def stamp(moment: float) -> bytes:
    """RFC 3339, to the microsecond."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


def posts(batches: int, rate: int, late: float) -> list[Post]:
    """When which batch is sent by whom."""
    chance = random.Random(2)
    found = []
    for number in range(batches):
        server = number % SERVERS
        # A batch goes when it is full; every ten seconds a second's worth is held up, and sent half as fast again.
        due = (number + 1) * BATCH / rate + chance.uniform(0, 1)
        if int(due) % 10 == 0:
            due = int(due) + 1 + (due - int(due)) / 1.5
        if chance.random() < LATE:
            due += late
        found.append(Post(due, server, number))
        if chance.random() < TWICE:
            found.append(Post(due + chance.uniform(0, 5), server, number))
    return sorted(found)


class Senders:
    """The API servers."""

    def __init__(self, port: int, token: str, batches: list[bytes]) -> None:
        self.answers: list[Answered] = []
        self.refused: dict[int, int] = {}
        self.given_up = 0
        self._port, self._token, self._batches = port, token, batches
        self._queues: list[queue.Queue[tuple[Post, float] | None]] = [queue.Queue() for _ in range(SERVERS)]
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(SERVERS) for _ in range(CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, schedule: list[Post], begin: float) -> None:
        """Send all, each at its time, and wait for the answers."""
        for post in schedule:
            pause = begin + post.due - time.time()
            if pause > 0:
                time.sleep(pause)
            self._queues[post.server].put((post, begin + post.due))
        for one in self._queues:
            for _ in range(CONNECTIONS):
                one.put(None)
        for thread in self._threads:
            thread.join()

    def _send(self, server: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        while (job := self._queues[server].get()) is not None:
            post, due = job
            wait = WAIT_SECONDS
            for attempt in range(ATTEMPTS):
                begun = time.time()
                try:
                    path = f"/ingest/audit?source=apiserver-{server}"
                    connection.request("POST", path, self._batches[post.number], headers)
                    answer = connection.getresponse()
                    answer.read()
                    status = answer.status
                except (OSError, http.client.HTTPException):
                    connection.close()
                    status = 0
                self.answers.append(Answered(time.time() - begun, status, begun - due if not attempt else 0.0))
                if status == 200:
                    break
                self.refused[status] = self.refused.get(status, 0) + 1
                time.sleep(wait)
                wait *= 1.5
            else:
                self.given_up += 1


def rss(process: int) -> float:
    """Resident memory in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu(process: int) -> float:
    """Seconds of CPU time, user and system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def told(document: dict[str, Any]) -> list[str]:
    """Findings, comparable: without positions and places."""
    return sorted(
        json.dumps({k: v for k, v in one.items() if k not in ("since", "until", "witnesses")}, sort_keys=True)
        for one in document["findings"]
    )


def measured(seconds: int, rate: int, late: float, window: float, netledger: str) -> dict[str, Any]:
    """Run it once. Raises `MeasurementError`."""
    with tempfile.TemporaryDirectory(prefix="netledger-load-") as folder:
        ledger, tokens, log = Path(folder) / "live.ledger", Path(folder) / "tokens", Path(folder) / "sent.log.gz"
        tokens.write_text("sender-sender-sender-sender sender ingest,read\n")
        tokens.chmod(0o600)
        say(f"load: making {seconds * rate:,} events")
        begin = time.time() + 2 + seconds * rate / 60_000
        batches, sound = [], []
        for body, lines in bodies(seconds, rate, begin):
            batches.append(body)
            sound += lines
        schedule = posts(len(batches), rate, late)
        listen = ("--listen", "127.0.0.1:0", "--tokens", str(tokens), "--log-format", "json")
        command = [netledger, "serve", "--ledger", str(ledger), "--window", str(window), *listen]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
            try:
                port = _port(daemon)
                before = rss(daemon.pid), cpu(daemon.pid)
                senders = Senders(port, "sender-sender-sender-sender", batches)
                begin = max(begin, time.time() + 0.5)
                peak = [0.0]
                stop = threading.Event()
                watcher = threading.Thread(target=_watch, args=(daemon.pid, peak, stop))
                watcher.start()
                say(f"load: sending for {seconds} s, and late ones for {late:.0f} s more")
                senders.run(schedule, begin)
                after = rss(daemon.pid), cpu(daemon.pid)
                stop.set()
                watcher.join()
                document = _settled(port)
            finally:
                daemon.terminate()
            if (code := daemon.wait(30)) != 0:
                raise MeasurementError(f"the daemon ended with {code}")
        say("load: replaying the same")
        with gzip.open(log, "wb", 1) as file:
            file.write(b"\n".join(sound))
        replay = subprocess.run([netledger, "replay", str(log), "-o", "json"], stdout=subprocess.PIPE, check=False)
        same = told(document) == told(json.loads(replay.stdout))
        good = sorted(one.took for one in senders.answers if one.status == 200)
        return {
            "events": seconds * rate,
            "seconds": seconds,
            "rate": rate,
            "posts": len(schedule),
            "acknowledged": len(good),
            "refused": senders.refused,
            "lost": senders.given_up,
            "answer_p50": median(good),
            "answer_p99": good[int(len(good) * 0.99)],
            "answer_max": good[-1],
            "sent_behind_p99": sorted(one.behind for one in senders.answers)[int(len(senders.answers) * 0.99)],
            "cpu_seconds": after[1] - before[1],
            "rss_begin": before[0],
            "rss_end": after[0],
            "rss_peak": peak[0],
            "findings": len(document["findings"]),
            "findings_as_replayed": same,
            "ledger_bytes": sum(file.stat().st_size for file in Path(folder).glob("live.ledger*")),
        }


def _watch(process: int, peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        peak[0] = max(peak[0], rss(process))


def _port(daemon: subprocess.Popen[str]) -> int:
    assert daemon.stderr is not None
    for line in daemon.stderr:
        if '"ready"' in line:
            threading.Thread(target=lambda: [None for _ in daemon.stderr or ()], daemon=True).start()
            return int(re.findall(r":(\d+)\"", line)[0])
    raise MeasurementError("the daemon did not begin")


def _settled(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(600):
        connection.request("GET", "/v1/findings", headers={"authorization": "Bearer sender-sender-sender-sender"})
        document: dict[str, Any] = json.loads(connection.getresponse().read())
        if document["provisional"]["settled"]:
            return document
        time.sleep(0.5)
    raise MeasurementError("five minutes after the last record some were undecided still")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--rate", type=int, default=12_000)
    parser.add_argument("--late", type=float, default=240.0)
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--netledger", default=str(Path(sys.executable).with_name("netledger")))
    arguments = parser.parse_args()
    print(json.dumps(measured(**vars(arguments)), indent=2))


if __name__ == "__main__":
    main()
