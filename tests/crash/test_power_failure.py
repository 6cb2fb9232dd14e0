"""The power fails at any moment: what was acknowledged is there, whole and once, and the file opens by itself.

What is simulated, and what is not, stands in docs/why/crashes.md.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.adapters.conftest import LONG_SEARCH
from tests.crash.disk import Disk, Mark, Name, Operation, Platter, Sync, SyncDirectory, Truncate, Write
from tests.crash.history import Said, Violation
from tests.crash.power import LEDGER, recorded, search
from tests.crash.workload import Workload

# Each run is recorded once, and ended at many points: 1,000 in all, and 11,000 in the long search.
RUNS = 22 if LONG_SEARCH else 2
# A broken promise must show within so many.
ENOUGH = 300

WORKLOADS = {
    "one thread": (Workload(), 240),
    "several threads": (Workload(sessions=2, appenders=4, appends=8), 220),
    "large appends": (Workload(sessions=1, appends=12, commits=3, largest=2000), 40),
}


def names(disk: Disk) -> dict[int, str]:
    """The name of each file that was made."""
    made = (operation for operation in disk.operations if isinstance(operation, Name))
    return {operation.file: operation.name for operation in made if operation.file is not None}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_power_failure_at_any_moment_loses_nothing_acknowledged_and_needs_nobodys_help(name, memory, tmp_path):
    workload, points = WORKLOADS[name]
    for run in range(RUNS):
        disk = recorded(memory / "run", workload, f"{name} {run}")
        assert search(disk, points, f"{name} {run}", memory, tmp_path) == points
        shutil.rmtree(memory / "run")


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_workload_comes_by_every_kind_of_operation_that_a_power_failure_can_meet(name, memory):
    disk = recorded(memory / "run", WORKLOADS[name][0], name)
    files = names(disk)
    said = [
        operation.said.what
        for operation in disk.operations
        if isinstance(operation, Mark) and isinstance(operation.said, Said)
    ]
    checkpoints = sum(isinstance(operation, Sync) and files[operation.file] == LEDGER for operation in disk.operations)
    begun_anew = sum(
        isinstance(operation, Write) and files[operation.file] == f"{LEDGER}-wal" and operation.offset == 0
        for operation in disk.operations
    )
    assert checkpoints > 3
    assert begun_anew > 3
    assert {LEDGER, f"{LEDGER}-wal", f"{LEDGER}-journal"} == set(files.values())
    assert any(isinstance(operation, Truncate) for operation in disk.operations)
    assert any(isinstance(operation, Name) and operation.file is None for operation in disk.operations)
    assert any(isinstance(operation, SyncDirectory) for operation in disk.operations)
    assert {"begun", "acknowledged", "refused"} == set(said)


BROKEN: dict[str, tuple[Workload, dict[str, str], Callable[[Operation, dict[int, str]], bool]]] = {
    "the engine waits for nothing": (Workload(), {"synchronous": "OFF"}, lambda operation, names: False),
    "the engine waits at checkpoints only": (Workload(), {"synchronous": "NORMAL"}, lambda operation, names: False),
    "the engine keeps old pages in memory alone": (
        Workload(),
        {"journal_mode": "MEMORY"},
        lambda operation, names: False,
    ),
    "the engine acknowledges before it commits": (
        Workload(acknowledges_early=True),
        {},
        lambda operation, names: False,
    ),
    "the disk does not wait for the log": (
        Workload(),
        {},
        lambda operation, names: isinstance(operation, Sync) and names[operation.file] == f"{LEDGER}-wal",
    ),
    "the disk does not wait for the ledger": (
        Workload(),
        {},
        lambda operation, names: isinstance(operation, Sync) and names[operation.file] == LEDGER,
    ),
    "the disk does not wait for its directory": (
        Workload(),
        {},
        lambda operation, names: isinstance(operation, SyncDirectory),
    ),
}
"""What runs, the pragmas it is broken by, and the operations that the disk only says it has done."""


@pytest.mark.parametrize("way", BROKEN)
def test_the_search_finds_what_is_broken_on_purpose(way, memory, tmp_path):
    workload, pragmas, lied_about = BROKEN[way]
    workload = replace(workload, sessions=2, appends=10, largest=30)
    disk = recorded(memory / "run", workload, way, **pragmas)
    files = names(disk)
    disk.operations = [operation for operation in disk.operations if not lied_about(operation, files)]
    with pytest.raises(Violation, match="The files as the crash left them") as found:
        search(disk, ENOUGH, way, memory, tmp_path)
    assert Path(str(found.value).rsplit(": ", 1)[1]).is_dir()


def test_an_image_has_what_was_waited_for_and_of_the_rest_any_sectors():
    platter = Platter({"a": b"o" * 1024})
    for operation in (Write(0, 0, b"w" * 1024), Sync(0), Write(0, 0, b"1" * 1024), Write(0, 1024, b"2" * 512)):
        platter.follow(operation)
    sectors: set[tuple[int, bytes]] = set()
    for seed in range(300):
        content = platter.image(Random(seed))["a"]
        sectors.update((place, content[place : place + 512][:1]) for place in range(0, len(content), 512))
    assert {(0, b"w"), (0, b"1"), (512, b"w"), (512, b"1"), (1024, b"2"), (1024, b"\0")} <= sectors
    assert not {value for place, value in sectors if place < 1024} - {b"w", b"1"}


def test_what_a_failed_wait_forgot_does_not_become_certain_by_the_next_one():
    platter = Platter({"a": bytes(512)})
    for operation in (Write(0, 0, b"1" * 256), Sync(0, failed=True), Write(0, 256, b"2" * 256), Sync(0)):
        platter.follow(operation)
    images = {platter.image(Random(seed))["a"] for seed in range(100)}
    assert {bytes(256) + b"2" * 256, b"1" * 256 + b"2" * 256} <= images
    assert all(image.endswith(b"2" * 256) for image in images)


def test_a_name_is_certain_only_when_its_directory_was_waited_for():
    platter = Platter({"old": b"o"})
    for operation in (Name("old", None), Name("new", 1), Write(1, 0, b"n"), Sync(1)):
        platter.follow(operation)
    assert {frozenset(platter.image(Random(seed)).items()) for seed in range(100)} == {
        frozenset(names) for names in ({("old", b"o")}, {("new", b"n")}, {("old", b"o"), ("new", b"n")}, set())
    }
    platter.follow(SyncDirectory())
    assert {tuple(platter.image(Random(seed)).items()) for seed in range(100)} == {(("new", b"n"),)}


def test_what_is_written_down_is_what_lies_there(memory):
    """The log with everything kept gives the very bytes of the files, or the simulation would be of something else."""
    disk: Disk = recorded(memory / "run", Workload(sessions=1), "bytes")
    platter = Platter(disk.found)
    for operation in disk.operations:
        platter.follow(operation)
    assert platter.image(Random(0), kept=1) == {LEDGER: (memory / "run" / LEDGER).read_bytes()}
