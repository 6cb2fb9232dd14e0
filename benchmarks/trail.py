"""The audit trail of a long ledger: how long each question takes, and how much less than reading the log through.

`measure` asks the made-up ledger of `moments`, by the functions that commands and the daemon call: the first hundred events
by an actor since a random time, in a namespace, on a kind, by labels, refused ones, a resource's history, who wrote to it,
what changed of it, who made each of its fields what it is now or was then, and all resources of a kind at a time.
`beside_the_log` asks a ledger that a log was replayed into for what an actor did since a time, and reads the same log with
`json.loads` for the same. `python -m benchmarks.trail EVENTS [LOG LEDGER]` prints what came out as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from adapters import app, reasons, report, trail
from adapters.app import Store
from adapters.checkpoints import Checkpoints
from adapters.ledger import Ledger, Moment
from adapters.report import NotKnown
from adapters.sources.dialect import iso
from adapters.stores import codec
from adapters.stores.memory import InMemoryJournal
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder
from adapters.trail import Question
from adapters.trail_index import Trail
from benchmarks import moments
from benchmarks.moments import KUBELET, spread, timed
from domain.resources import BY_NAME, Key

PAGE = 100


def measure(
    path: Path, names: list[Key], trail_path: Path, checkpoints_path: Path, *, questions: int = 200
) -> dict[str, Any]:
    """CPU seconds for each question about a ledger of `moments`, and what the read models take beside it."""
    random = Random(13)
    gc.freeze()  # as the command line does
    gc.set_threshold(50_000, 20, 50)
    with SQLiteFile(path, "read") as file:
        recorder = SQLiteRecorder(file)
        ledger = Ledger(recorder)
        making = timed(Trail(trail_path, ledger, recorder).catch_up)
        making_checkpoints = timed(Checkpoints(checkpoints_path, ledger, recorder).catch_up)
        span = _time_of(recorder, 1), _time_of(recorder, ledger.head)
        kinds = {kind: [key for key in names if key.kind == kind] for kind in ("pod", "ip", "subnet", "vpc")}

        def store() -> Store:
            return Store(
                file,
                recorder,
                InMemoryJournal(),
                ledger,
                checkpoints=Checkpoints(checkpoints_path, ledger, recorder, kept_up=True),
                trail=Trail(trail_path, ledger, recorder),
            )

        def some_time() -> Moment:
            return Moment(random.randrange(*span), None)

        def page(**asked: Any) -> Callable[[Store], Any]:
            return lambda of: trail.events(of, Question(limit=PAGE, **asked), {})

        def history(kind: str) -> Callable[[Store], Any]:
            key, since = random.choice(kinds[kind]), some_time()
            return lambda of: trail.history(of, key, Question(limit=PAGE, since=since), {})

        def who(kind: str) -> Callable[[Store], Any]:
            key = random.choice(kinds[kind])
            return lambda of: trail.who(of, key, {})

        def diff(kind: str) -> Callable[[Store], Any]:
            key, since = random.choice(kinds[kind]), some_time()
            return lambda of: told(lambda: reasons.diff(of, key, since))

        def blame(kind: str, *, now: bool) -> Callable[[Store], Any]:
            key, moment = random.choice(kinds[kind]), some_time()
            if now:  # what a claim should be, a daemon has at hand
                return lambda of: told(lambda: reasons.blame(of, key))

            def ask(of: Store) -> Any:
                rows = report.resources_at(of, BY_NAME[kind], moment, key)
                return told(lambda: reasons.blame(of, key, moment, standing=rows[0] if rows else None))

            return ask

        def all_of(kind: str) -> Callable[[Store], Any]:
            moment = some_time()
            return lambda of: report.resources_at(of, BY_NAME[kind], moment)

        asked: dict[str, Callable[[], Callable[[Store], Any]]] = {
            "events --actor --since TIME": lambda: page(actors=(KUBELET,), since=some_time()),
            "events --actor --since REVISION": lambda: page(
                actors=(KUBELET,), since=Moment(None, random.randrange(ledger.head))
            ),
            "events --kind --verb --until, newest first": lambda: page(
                kinds=("subnet",), verbs=("patch",), until=some_time(), reverse=True
            ),
            "events -n --since": lambda: page(namespaces=(random.choice(kinds["pod"]).namespace,), since=some_time()),
            "events --refused (there are none)": lambda: page(refused=True),
            "events --actor --event (never together)": lambda: page(actors=(KUBELET,), types=("IPAllocated",)),
            "events --name of an address": lambda: page(name=random.choice(kinds["ip"]).name),
            "events -l LABEL=VALUE --since": lambda: page(
                selector=f"app=app-{random.randrange(40)}", since=some_time()
            ),
            "events -l of one pod alone": lambda: page(selector=f"serial={random.choice(kinds['pod']).name}"),
            "events -l !LABEL,LABEL2!=VALUE --since": lambda: page(
                selector="!app,ovn.kubernetes.io/node-name!=worker-1", since=some_time()
            ),
            "events -l LABEL=VALUE that nothing has": lambda: page(selector="app=none"),
            "events -l of two that never go together": lambda: page(
                selector="app in (app-1,app-2),ovn.kubernetes.io/node-name"
            ),
        }
        for kind in ("pod", "subnet", "vpc"):
            asked[f"history of a {kind}, a page since TIME"] = partial(history, kind)
            asked[f"who wrote to a {kind}"] = partial(who, kind)
            asked[f"diff of a {kind} since TIME"] = partial(diff, kind)
            asked[f"blame of a {kind}"] = partial(blame, kind, now=True)
            asked[f"blame of a {kind} at TIME"] = partial(blame, kind, now=False)
            asked[f"all of kind {kind} at TIME"] = partial(all_of, kind)

        def ask(question: Callable[[Store], Any], of: Store) -> float:
            return computed(lambda: question(of))

        one = store()
        taken = {what: spread([ask(made(), one) for _ in range(questions)]) for what, made in asked.items()}
        # As a command asks, which has just opened the ledger.
        first = spread([ask(asked["events --actor --since TIME"](), store()) for _ in range(min(questions, 50))])
        return {
            "events": ledger.head,
            "ledger_bytes": path.stat().st_size,
            "trail_bytes": trail_path.stat().st_size,
            "checkpoints_bytes": checkpoints_path.stat().st_size,
            "making_seconds": making,
            "making_checkpoints_seconds": making_checkpoints,
            "first_question_seconds": first,
            "seconds": taken,
        }


def told(question: Callable[[], Any]) -> Any:
    """Its answer; `None` where the resource was not there then."""
    try:
        return question()
    except NotKnown:
        return None


def computed(work: Callable[[], Any]) -> float:
    """Seconds of CPU time: a question waits for nothing, and a neighbour on the machine does not count."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _time_of(recorder: SQLiteRecorder, position: int) -> int:
    return next(codec.decode(found.event.data).time for found in recorder.at([position]))


def beside_the_log(log: Path, address: Path, *, questions: int = 50) -> dict[str, Any]:
    """What the most frequent actor did since half of the log: CPU seconds for the trail and `json.loads`, and the ratio."""
    with app.opened(str(address), "read") as store:
        assert store.trail is not None
        middle = store.ledger.event_at(store.ledger.count // 2 or 1).event.time
        rows = trail.events(store, Question(limit=5_000, since=Moment(middle, None)), {})["events"]
        actor = Counter(row["actor"] for row in rows).most_common(1)[0][0]
        question = Question(actors=(actor,), since=Moment(middle, None), limit=PAGE)
        found = trail.events(store, question, {})["events"]
        taken = spread([computed(lambda: trail.events(store, question, {})) for _ in range(questions)])
    known: list[int] = []
    reading = computed(lambda: known.append(read_through(log, actor, iso(middle))))
    if not found or not known[0]:
        raise ValueError(f"{actor} did nothing since {iso(middle)}: there is nothing to compare")
    return {
        "log_bytes": log.stat().st_size,
        "matching_lines": known[0],
        "reading_seconds": reading,
        "seconds": taken,
        "ratio_p50": reading / taken["p50"],
        "ratio_p95": reading / taken["p95"],
    }


def read_through(log: Path, actor: str, since: str) -> int:
    """How many records of an audit log are by an actor and since a time: what one does who has no ledger."""
    count = 0
    with log.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            if record["user"]["username"] == actor and record["stageTimestamp"] >= since:
                count += 1
    return count


def main(events: int, log: str | None = None, ledger: str | None = None) -> None:
    """Build, measure, print."""
    found: dict[str, Any] = {}
    if events:
        with tempfile.TemporaryDirectory(prefix="netledger-trail-") as folder:
            path = Path(folder) / "long.ledger"
            names = moments.build(path, events, labels=True)
            found = measure(path, names, Path(f"{path}.trail"), Path(f"{path}.checkpoints"))
    if log is not None and ledger is not None:
        found["beside_the_log"] = beside_the_log(Path(log), Path(ledger))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000, *sys.argv[2:4])
