"""Measures the store beside what it might be instead: one function a row of the speed table, rounds in turns.

The events are real ones: those that a log of `generate` is judged to be. Appends are durable, and measured by the clock on
the wall, for much of the time is the disk's; what reads and folds is measured by CPU time. Both sides of a row encode and
decode the same events by the same codec. `run` calls `measured` and keeps the figures; `resident` is the program whose
memory is measured; `moments`, `trail`, `redis_append` and `postgres` have rows of their own.
"""

from __future__ import annotations

import gc
import gzip
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import msgspec
from eventsourcing.application import Application, ProcessingEvent
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder, POPOTrackingRecorder
from eventsourcing.projection import EventSourcedProjection, EventSourcedProjectionRunner, Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from transitions import Machine

from adapters import app, judging
from adapters.ledger import Ledger
from adapters.stores import backends, codec
from benchmarks import moments, postgres, redis_append, trail
from benchmarks.measuring import DATA, HERE, Comparison, MeasurementError, data_file, in_turns, measure, say, warm
from domain import vpc
from domain.events import Event
from domain.lifecycle import GONE, SAME, Lifecycle
from domain.resources import Key
from domain.world import Change, Resource, World

BATCH: Final = 1000
THREADS: Final = 64
COLLECTING: Final = (50_000, 20, 50)
"""The thresholds of the garbage collector that `adapters/cli` sets."""
LEDGER_TABLES: Final = ("event_block", "head", "posting_run", "posting_page")
_NAMES: Final = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
SHOP: Final = Key("vpc", "", "vpc-shop")
CIDR: Final = "10.0.0.0/16"


class Sizes(NamedTuple):
    """How much is measured."""

    lines: int
    """Of the logs that are replayed into a ledger; an operation makes a little more than one event."""
    short_lines: int
    """Of the log whose events are appended."""
    rounds: int
    long_rounds: int
    """Of what takes many seconds."""
    batches: int
    """Appended in a round."""
    singles: int
    """Events that each thread appends in a round, one at a time."""
    beside_singles: int
    """Events that the package's recorder is given in a round, one at a time."""
    projected: int
    """Events that the package's projection is given in a round."""
    steps: int
    """Steps of a lifecycle in a round."""
    resources: int
    machines: int
    long_events: int
    """Of the ledger that is asked for states at random times."""
    servers: bool = True


FULL: Final = Sizes(1_000_000, 100_000, 7, 3, 20, 100, 1_280, 20_000, 20_000, 500_000, 3_000, 5_000_000)
QUICK: Final = Sizes(100_000, 20_000, 3, 2, 10, 30, 320, 5_000, 5_000, 50_000, 1_000, 200_000)
TINY: Final = Sizes(1_000, 1_000, 2, 1, 1, 2, 64, 50, 50, 3_000, 60, 12_000, servers=False)


class Ground:
    """What the rows are measured on, made when it is first asked for and kept for all of them."""

    def __init__(self, sizes: Sizes, folder: Path, log: Callable[[str, int], Path] = data_file) -> None:
        self.sizes = sizes
        self.folder = folder
        self.log = log
        self._kept: dict[str, Path] = {}

    def kept(self, mix: str) -> Path:
        """A ledger file that a log of this mix was replayed into."""
        if mix not in self._kept:
            log, path = self.log(mix, self.sizes.lines), self.folder / f"{mix}.ledger"
            say(f"store: replaying {log.name} into a ledger")
            with app.opened(str(path)) as store:
                app.replay(store, [str(log)])
            self._kept[mix] = path
        return self._kept[mix]

    @cached_property
    def short(self) -> tuple[list[Event], World]:
        """The events of a short log, and the world that they add up to."""
        with app.opened(None) as store:
            outcome = app.replay(store, [str(self.log("relevant", self.sizes.short_lines))])
            return [placed.event for placed in store.ledger.events()], outcome.judged.reading.world

    @cached_property
    def events(self) -> list[Event]:
        """Events of a short log, in order; of each just three tags, its own among them."""
        found, _ = self.short
        tags = tuple(dict.fromkeys(tag for one in found for tag in one.tags))[:100]
        return [
            msgspec.structs.replace(
                one, tags=tuple(dict.fromkeys((*one.tags[:3], *islice(cycle(tags), at % 97, at % 97 + 6))))[:3]
            )
            for at, one in enumerate(found)
        ]

    @cached_property
    def batches(self) -> Iterator[list[Event]]:
        """Batch after batch of them, without end."""
        endless = cycle(self.events)
        return (list(islice(endless, BATCH)) for _ in count())


def _unheard(numbers: Iterator[int]) -> DCBAppendCondition:
    """That nothing is known of a resource which nobody ever heard of: all of the log has to be asked."""
    return DCBAppendCondition(DCBQuery([DCBQueryItem(tags=[f"subnet:net-new-{next(numbers)}"])]), after=0)


class _Package:
    """The package's own recorder in a file of its own: each event under its resource's name, untagged, unconditioned."""

    def __init__(self, path: Path) -> None:
        # Sixty-four threads wait for one writer, and longer than the five seconds after which they would give up.
        self.datastore = SQLiteDatastore(str(path), pool_timeout=120, lock_timeout=120)
        self.recorder = SQLiteApplicationRecorder(self.datastore)
        self.recorder.create_table()
        self._ids: dict[Key, UUID] = {}
        self._versions: dict[UUID, int] = {}

    def stored(self, events: Sequence[Event]) -> list[StoredEvent]:
        """The events as it takes them: the next versions of what they are about."""
        found = []
        for one in events:
            id = self._ids.setdefault(one.key, uuid5(_NAMES, one.key.tag))
            self._versions[id] = version = self._versions.get(id, 0) + 1
            found.append(StoredEvent(id, version, one.type, codec.encode(one).data))
        return found

    def close(self) -> None:
        self.datastore.close()


# ---- appending


def appending(ground: Ground) -> list[Comparison]:
    """Durable appends of a thousand events: ours beside the package's, and, with encoding, beside one sequential write.

    Between two recorders, each is given its own kind of event around the same bytes, made beforehand.
    """
    sizes, folder, numbers = ground.sizes, ground.folder, count()
    floor = os.open(folder / "append.floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with (
            backends.opened(str(folder / "append.ledger")) as store,
            backends.opened(str(folder / "encoded.ledger")) as second,
            closing(_Package(folder / "append.db")) as package,
        ):

            def encoding(batch: list[Event]) -> None:
                second.recorder.append([codec.encode(one) for one in batch], _unheard(numbers))

            def sequential(batch: list[Event]) -> None:
                os.write(floor, b"".join([codec.encode(one).data for one in batch]))
                os.fdatasync(floor)

            def ours(number: int) -> float:
                batches = [[codec.encode(one) for one in batch] for batch in rounds[number]]
                return _speed(lambda batch: store.recorder.append(batch, _unheard(numbers)), batches)

            def beside(number: int) -> float:
                return _speed(package.recorder.insert_events, [package.stored(batch) for batch in rounds[number]])

            rounds = [list(islice(ground.batches, sizes.batches)) for _ in range(sizes.rounds)]
            # Once before it counts: files are made, and grow from nothing.
            ours(0), beside(0), _speed(encoding, rounds[0]), _speed(sequential, rounds[0])
            found = in_turns(
                sizes.rounds,
                {
                    "ours": ours,
                    "package": beside,
                    "encoding": lambda number: _speed(encoding, rounds[number]),
                    "floor": lambda number: _speed(sequential, rounds[number]),
                },
            )
    finally:
        os.close(floor)
    what = "durable append, batches of 1000, 3 tags each, conditioned"
    package_name = "the package's SQLiteApplicationRecorder, 1000 a call, untagged"
    floor_name = "encoding, one sequential write and fdatasync a batch"
    return [
        Comparison(what, package_name, "events/s", found["ours"], found["package"], 2),
        Comparison(f"{what}, encoding included", floor_name, "events/s", found["encoding"], found["floor"], 0.25),
    ]


def _speed(append: Callable[[Any], object], batches: Sequence[Sequence[Any]]) -> float:
    began = time.perf_counter()
    for batch in batches:
        append(batch)
    return BATCH * len(batches) / (time.perf_counter() - began)


def many_threads(ground: Ground) -> list[Comparison]:
    """Durable appends of one event each from sixty-four threads: ours, and the package's called from one and from as many."""
    sizes, numbers = ground.sizes, count()
    folder = ground.folder
    each = max(1, sizes.beside_singles // THREADS)
    supply = cycle(ground.events)
    with backends.opened(str(folder / "threads.ledger")) as store, closing(_Package(folder / "threads.db")) as package:
        recorder = store.recorder

        def ours(number: int) -> float:
            shares = [[codec.encode(one) for one in islice(supply, sizes.singles)] for _ in range(THREADS)]

            def work(share: list[DCBEvent]) -> None:
                for one in share:
                    recorder.append([one], _unheard(numbers))

            return _together(work, shares)

        def beside(threads: int, singles: int) -> float:
            def work(share: list[StoredEvent]) -> None:
                for one in share:
                    package.recorder.insert_events([one])

            return _together(work, [package.stored(list(islice(supply, singles))) for _ in range(threads)])

        ours(0)
        found = in_turns(
            sizes.rounds,
            {
                "ours": ours,
                "one": lambda number: beside(1, each * THREADS),
                "many": lambda number: beside(THREADS, each),
            },
        )
    what = "64 threads, one event an append, 3 tags, conditioned"
    name = "SQLiteApplicationRecorder, one a call, from"
    return [
        Comparison(what, f"{name} one thread", "events/s", found["ours"], found["one"], 10),
        Comparison(what, f"{name} 64 threads", "events/s", found["ours"], found["many"], 10),
    ]


def _together(work: Callable[[list[Any]], None], shares: Sequence[list[Any]]) -> float:
    """What a thread a share does a second, once they have all started. Raises what the first of them raised."""
    gate = threading.Barrier(len(shares) + 1)
    errors: list[BaseException] = []

    def run(share: list[Any]) -> None:
        gate.wait()
        try:
            work(share)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if errors:
        raise errors[0]
    return sum(map(len, shares)) / seconds


# ---- reading and folding


def reading_back(ground: Ground) -> list[Comparison]:
    """Reading all events of a ledger in order, decoded, beside decoding the same bytes out of one file."""
    path, flat = ground.kept("relevant"), ground.folder / "events.flat"
    with backends.opened(str(path), "read") as store:
        with flat.open("wb") as file:
            for kept in store.recorder.read():
                file.write(len(kept.event.data).to_bytes(4, "little") + kept.event.data)
        events = store.recorder.head()
        warm(path)

        def ours(number: int) -> float:
            began = time.process_time()
            last = 0
            for placed in Ledger(store.recorder).events():
                last = placed.position
            return _all(events, last) / (time.process_time() - began)

        def floor(number: int) -> float:
            decode = msgspec.msgpack.Decoder(Event).decode
            began = time.process_time()
            last = 0
            with flat.open("rb", buffering=1 << 20) as file:
                read = file.read
                while length := read(4):
                    decode(read(int.from_bytes(length, "little")))
                    last += 1
            return _all(events, last) / (time.process_time() - began)

        found = in_turns(ground.sizes.long_rounds, {"ours": ours, "floor": floor})
    flat.unlink()
    what = f"reading back and decoding {events:,} events"
    beside = "msgspec decoding the same bytes out of one file"
    return [Comparison(what, beside, "events per CPU s", found["ours"], found["floor"], 0.4)]


class Subnet(Aggregate):
    """A small aggregate as the package's own examples make them, for its projection to have events to be given."""

    def __init__(self, *, cidr: str) -> None:
        self.cidr = cidr
        self.used = 0

    @staticmethod
    def create_id(cidr: str) -> UUID:
        """Always the same for the same subnet, so that it can be found."""
        return uuid5(_NAMES, cidr)

    class Reported(Aggregate.Event):
        """How many addresses are in use."""

        used: int

    @event(Reported)
    def report(self, used: int) -> None:
        self.used = used


class UsageView(POPOTrackingRecorder):
    """The plainest read model: the last number that was reported."""

    used = 0


class UsageProjection(Projection[UsageView]):
    """Takes that number in."""

    name = "usage"

    def process_event(self, domain_event: Any, tracking: Any) -> None:
        if isinstance(domain_event, Subnet.Reported):
            self.view.used = domain_event.used
        self.view.insert_tracking(tracking)


class UsageProjected(EventSourcedProjection[UUID]):
    """The same number in an aggregate of its own, as the package keeps a read model that is event-sourced."""

    name = "projected"

    def policy(self, domain_event: Any, processing_event: ProcessingEvent[UUID]) -> None:
        if isinstance(domain_event, Subnet.Reported):
            subnet: Subnet = self.repository.get(Subnet.create_id(CIDR))
            subnet.report(used=domain_event.used)
        else:
            subnet = Subnet(cidr=CIDR)
        processing_event.collect_events(subnet)


def projecting(ground: Ground) -> list[Comparison]:
    """Folding a whole ledger through all projections, reading included, beside the package's two runners."""
    recorder = POPOApplicationRecorder()

    class Filled(Application[UUID]):
        """An application whose events are there already."""

        name = "filled"

        def construct_recorder(self) -> ApplicationRecorder:
            return recorder

    with closing(Filled()) as filling:
        subnet = Subnet(cidr=CIDR)
        for used in range(ground.sizes.projected - 1):
            subnet.report(used=used)
            if used % 100 == 99:
                filling.save(subnet)
        filling.save(subnet)
    last = recorder.max_notification_id()
    assert last is not None

    with backends.opened(str(ground.kept("relevant")), "read") as store:
        events = store.recorder.head()

        def ours(number: int) -> float:
            began = time.process_time()
            judged = judging.fold(Ledger(store.recorder))
            return _all(events, judged.reading.at) / (time.process_time() - began)

        def plain(number: int) -> float:
            began = time.process_time()
            with ProjectionRunner(
                application_class=Filled, projection_class=UsageProjection, view_class=UsageView
            ) as runner:
                runner.wait(last, timeout=600)
                used = runner.projection.view.used
            return _all(last, used + 2) / (time.process_time() - began)

        def event_sourced(number: int) -> float:
            began = time.process_time()
            with EventSourcedProjectionRunner(
                application_class=Filled,
                projection_class=UsageProjected,
                env={"AGGREGATE_CACHE_MAXSIZE": "10"},  # or every event would fold the aggregate from its first
            ) as runner:
                runner.wait(last, timeout=600)
                kept: Subnet = runner.projection.repository.get(Subnet.create_id(CIDR))
            return _all(last, kept.used + 2) / (time.process_time() - began)

        found = in_turns(ground.sizes.long_rounds, {"ours": ours, "sourced": event_sourced, "plain": plain})
    what = f"replay of {events:,} events through all projections and rules, reading and decoding included"
    beside = f"the package's EventSourcedProjectionRunner on its in-memory store, one aggregate, {last:,} events"
    plainer = f"its ProjectionRunner, one projection that keeps a number, {last:,} events"
    return [
        Comparison(what, beside, "events per CPU s", found["ours"], found["sourced"], 20),
        Comparison(what, plainer, "events per CPU s", found["ours"], found["plain"], 20),
    ]


def _all(expected: int, found: int) -> int:
    if found != expected:
        raise MeasurementError(f"of {expected:,} events {found:,} came back, so nothing was measured")
    return found


# ---- steps and memory


class Model:
    """What a machine of `transitions` drives: a Vpc of a world."""

    state: str

    def __init__(self, world: World) -> None:
        self.world = world

    def is_unnamed(self) -> bool:
        """The condition: what the guard asks."""
        change = Change("VPCRemoved", SHOP, self.world.get(SHOP), {})
        return vpc.subnet_names_it.check(self.world, change) is None


def stepping(ground: Ground) -> list[Comparison]:
    """A guarded step of a lifecycle, asked of the table as `decide` asks it, beside one trigger of the core machine.

    The step is VPCRemoved, whose guard looks for subnets that still name the Vpc. The machine has the same states and rows,
    with that guard as the condition; each step is taken from the same state again.
    """
    world, key = World(), SHOP
    resource = Resource.begun(key, "22a1bbf6", 1, 1, seen_from_birth=True)
    resource.state = state = vpc.GUARDED
    world.live[key] = resource
    lifecycle, steps = vpc.LIFECYCLE, ground.sizes.steps
    fields = resource.fields

    def ours(number: int) -> float:
        began = time.process_time()
        for _ in range(steps * 20):
            row = lifecycle.row(state, "VPCRemoved")
            assert row is not None
            change = Change("VPCRemoved", key, resource, fields)
            reason = row.refusal(world, change)
            leads_to = row.otherwise if reason else row.target
            if leads_to == SAME:
                leads_to = state
        if leads_to != GONE:
            raise MeasurementError(f"VPCRemoved led to {leads_to}")
        return steps * 20 / (time.process_time() - began)

    model = Model(world)
    machine = machine_of(model)

    def beside(number: int) -> float:
        trigger = model.VPCRemoved  # type: ignore[attr-defined]  # the machine gave it to the model
        began = time.process_time()
        for _ in range(steps):
            model.state = state
            trigger()
        seconds = time.process_time() - began
        if model.state != GONE:
            raise MeasurementError(f"VPCRemoved led to {model.state}")
        return steps / seconds

    found = in_turns(ground.sizes.rounds, {"ours": ours, "machine": beside})
    assert machine is not None
    what = "a step of a lifecycle with a guard: table, guard, where it leads"
    beside_what = "one trigger with one condition of the core Machine of transitions, same table"
    return [Comparison(what, beside_what, "steps per CPU s", found["ours"], found["machine"], 15)]


def machine_of(model: Model, lifecycle: Lifecycle = vpc.LIFECYCLE) -> Any:
    """A lifecycle as a machine that drives `model`; the guarded rows have a condition."""
    rows = [
        {
            "trigger": row.event,
            "source": list(row.sources),
            "dest": row.target,
            "conditions": ["is_unnamed"] if row.unless else [],
        }
        for row in lifecycle.rows
    ]
    initial = vpc.GUARDED if lifecycle is vpc.LIFECYCLE else lifecycle.states[0]
    return Machine(model, states=list(lifecycle.states), initial=initial, transitions=rows, auto_transitions=False)


def remembering(ground: Ground) -> list[Comparison]:
    """Memory that a live resource takes in the world, with all its fields, beside a machine each with no field at all."""
    sizes = ground.sizes
    sample = ground.folder / "resources.sample"
    _, world = ground.short
    sample.write_bytes(msgspec.msgpack.encode([(one.key, one.fields) for one in world.live.values()]))
    program = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); from benchmarks.resident import main; main()"

    def bytes_each(what: str, number: int) -> float:
        command = [sys.executable, "-c", program, what]
        empty = measure([*command, "0", str(sample)], patience=600).rss
        return (measure([*command, str(number), str(sample)], patience=600).rss - empty) / number

    found = in_turns(
        sizes.long_rounds,
        {
            "ours": lambda number: bytes_each("world", sizes.resources),
            "machines": lambda number: bytes_each("machines", sizes.machines),
        },
    )
    return [
        Comparison(
            f"memory of a live resource with its fields, {sizes.resources:,} of them",
            f"one Machine of transitions each for the same kinds, its model without fields, {sizes.machines:,} of them",
            "bytes each",
            found["ours"],
            found["machines"],
            1 / 30,
            "at most",
        )
    ]


# ---- the file


def filing(ground: Ground) -> list[Comparison]:
    """Bytes of a file's pages that are the ledger's, and those that are the journal's, beside the log, gzipped."""
    rows = []
    for mix, name in (("recorded", "as recorded"), ("relevant", "all relevant")):
        path, log = ground.kept(mix), ground.log(mix, ground.sizes.lines)
        gzipped = _gzipped(log)
        parts = parts_of(path)
        for part, target in (("ledger", 0.5), ("journal", 1.0)):
            what = f"size of the {part}, {ground.sizes.lines:,} lines {name}"
            row = Comparison(
                what, "the log it came from, gzipped (-6)", "bytes", [parts[part]], [gzipped], target, "at most"
            )
            rows.append(row)
    return rows


def parts_of(path: Path) -> dict[str, float]:
    """Bytes of the pages that hold the ledger, and of those that hold the journal. The file's own few are the journal's."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        ((size,),) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        marks = ", ".join("?" * len(LEDGER_TABLES))
        try:
            ((ledger,),) = connection.execute(
                f"SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name IN ({marks})", LEDGER_TABLES
            )
        except sqlite3.OperationalError as error:
            raise MeasurementError(
                f"this Python's SQLite {sqlite3.sqlite_version} cannot tell the pages of one table from another's "
                f"({error}): measure with one that was built with the dbstat table"
            ) from error
    return {"ledger": float(ledger), "journal": float(size - ledger)}


def _gzipped(path: Path) -> float:
    sink = _Count()
    with path.open("rb") as file, gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=6) as out:
        shutil.copyfileobj(file, out, 1 << 20)
    return float(sink.size)


class _Count:
    """Takes bytes, and keeps how many they were."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def verifying(ground: Ground) -> list[Comparison]:
    """`verify` of a ledger file, all of its parts, beside sha256sum of that file."""
    path = ground.kept("relevant")
    program = shutil.which("sha256sum") or "sha256sum"
    warm(path)

    def ours(number: int) -> float:
        with backends.opened(str(path), "read") as store:
            began = time.process_time()
            problems = [*store.container.verify(), *store.recorder.verify(), *store.journal.verify()]
            seconds = time.process_time() - began
        if problems:
            raise MeasurementError(f"the ledger is not as it was written: {problems[0]}")
        return seconds

    found = in_turns(
        ground.sizes.rounds, {"ours": ours, "sum": lambda number: measure([program, str(path)], patience=600).cpu}
    )
    what = f"verifying a ledger file of {path.stat().st_size / 1e6:,.0f} MB, everything in it"
    return [Comparison(what, "sha256sum of the file", "CPU s", found["ours"], found["sum"], 2, "at most")]


def at_random_times(ground: Ground) -> list[Comparison]:
    """The state of a resource and of the world at random times of a long made-up log: see `moments`."""
    path = ground.folder / "long.ledger"
    events = ground.sizes.long_events
    names = moments.build(path, events)
    found = moments.measure(
        path,
        names,
        path.with_name(f"{path.name}.checkpoints"),
        questions=min(300, events // 1000),
        worlds=min(20, events // 4000),
    )
    world = f"state of the world at a random time, {events:,} events"
    near, whole = found["world_seconds"]["p50"], found["fold_of_everything_seconds"]
    # What is written to all the time has most to fold since the checkpoint before.
    ones = {"any": "any resource", "subnet": "one of the busiest: a subnet", "vpc": "one of the busiest: a VPC"}
    return [
        *(
            Comparison(
                f"state of one resource at a random time, {events:,} events, 95 of 100 below",
                f"– ({one})",
                "ms",
                [1000 * found["resource_seconds"][kind]["p95"]],
                [],
                20,
                "at most",
            )
            for kind, one in ones.items()
        ),
        Comparison(world, "the full fold from zero", "answers/s", [1 / near], [1 / whole], 50),
    ]


def asking_the_trail(ground: Ground) -> list[Comparison]:
    """Questions about who did what, of a long made-up log, and of a real one beside reading it through: see `trail`."""
    path = ground.folder / "asked.ledger"
    events = ground.sizes.long_events
    names = moments.build(path, events, labels=True)
    found = trail.measure(
        path, names, Path(f"{path}.trail"), Path(f"{path}.checkpoints"), questions=min(200, events // 1000)
    )
    log = ground.log("relevant", ground.sizes.lines)
    beside = trail.beside_the_log(log, ground.kept("relevant"))
    taken = {which: 1000 * one["p95"] for which, one in found["seconds"].items()}
    which = max(taken, key=taken.__getitem__)
    slowest = f"the slowest of {len(taken)} kinds of question about {events:,} events, 95 of 100 below"
    room = "the trail beside the ledger that it is of"
    reading = f"what an actor did since a time, a page, {ground.sizes.lines:,} lines"
    return [
        Comparison(slowest, f"– ({which})", "CPU ms", [taken[which]], [], 100, "at most"),
        Comparison(room, "the ledger", "bytes", [found["trail_bytes"]], [found["ledger_bytes"]], 0.2, "at most"),
        Comparison(
            reading,
            "json.loads of the log",
            "answers per CPU s",
            [1 / beside["seconds"]["p95"]],
            [1 / beside["reading_seconds"]],
            200,
        ),
    ]


def on_servers(ground: Ground) -> list[Comparison]:
    """The same appends to a Redis and a PostgreSQL server, beside the plainest thing that each can do."""
    if not ground.sizes.servers:
        return []
    (batches, _), _ = redis_append.measured(ground.sizes.rounds)
    return [batches, postgres.appending(ground.sizes.rounds)]


ROWS: Final = (
    appending,
    many_threads,
    reading_back,
    projecting,
    stepping,
    remembering,
    filing,
    verifying,
    at_random_times,
    asking_the_trail,
    on_servers,
)
"""What is measured, in the order of the table."""


def measured(sizes: Sizes, rows: Sequence[Callable[[Ground], list[Comparison]]] = ROWS) -> list[Comparison]:
    """All rows. Raises MeasurementError where what was measured did not do what it should, and `StoreError`."""
    found: list[Comparison] = []
    before = gc.get_threshold()
    # Not in the system's own temporary folder: that may be in memory, where waiting for the disk costs nothing.
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="store-", dir=DATA) as folder:
        ground = Ground(sizes, Path(folder))
        try:
            for row in rows:
                say(f"store: {row.__name__.replace('_', ' ')}")
                # Rubbish is collected as the command line has it, on both sides, and what other rows left is not looked at.
                gc.collect()
                gc.freeze()
                gc.set_threshold(*COLLECTING)
                found += row(ground)
        finally:
            gc.set_threshold(*before)
            gc.unfreeze()
    return found
