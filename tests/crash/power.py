"""The search for a moment at which a power failure breaks a promise: one recorded run, and thousands of ends of it."""

import shutil
from pathlib import Path
from random import Random
from typing import Final

from adapters.ports import StoreError
from tests.crash.disk import Disk, Mark, Platter
from tests.crash.history import History, Said, Violation, check_reopened, lay_down
from tests.crash.workload import Workload

LEDGER: Final = "shop.ledger"
# With the engine's own values a run this short would neither come to a checkpoint nor shorten its log.
SMALL: Final = {"wal_autocheckpoint": 12, "journal_size_limit": 30_000}
AFRESH: Final = 1_000_000


def recorded(folder: Path, workload: Workload, seed: object, **pragmas: object) -> Disk:
    """A disk on which the workload has run once, from an empty folder on."""
    folder.mkdir()
    with Disk(folder, pragmas=SMALL | pragmas) as disk:
        workload.run(folder / LEDGER, disk.mark, Random(f"{seed}"))
    words = [operation.said for operation in disk.operations if isinstance(operation, Mark)]
    failed = [word for word in words if isinstance(word, Said) and word.what == "failed"]
    assert not failed, f"nothing was wrong with the disk, and yet: {failed[:3]}"
    return disk


def search(
    disk: Disk, points: int, seed: object, folder: Path, evidence: Path, *, history: History | None = None
) -> int:
    """End the disk's run at so many seeded points, each in one seeded way, and check what is left.

    Returns:
        How many points were looked at.

    Raises:
        Violation: says at which point, and in which folder under `evidence` the files lie as the crash left them.
    """
    chance = Random(f"{seed} points")
    platter = Platter(disk.found)
    place = folder / ("after" if history is None else "after again")
    history = history or History()
    followed = 0
    for number, point in enumerate(sorted(chance.choices(range(len(disk.operations) + 1), k=points))):
        for operation in disk.operations[followed:point]:
            if isinstance(operation, Mark):
                history.follow(operation.said)
            else:
                platter.follow(operation)
        followed = point
        end = Random(f"{seed} {number}")
        image = platter.image(end)
        place.mkdir()
        lay_down(place / LEDGER, image, end)
        try:
            if number % 25 == 7:
                _search_in_recovery(place, history, f"{seed} {number}", folder, evidence)
            check_reopened(place / LEDGER, history, AFRESH)
        except Violation as violation:
            kept = evidence / f"{seed}-{number}".replace(" ", "-")
            kept.mkdir(parents=True, exist_ok=True)
            for name, content in image.items():
                (kept / name).write_bytes(content)
            told = f"seed {seed!r}, crash {number}, before operation {point} of {len(disk.operations)}: {violation}"
            raise Violation(f"{told}\nThe files as the crash left them: {kept}") from violation
        finally:
            shutil.rmtree(place)
    return points


def _search_in_recovery(crashed: Path, history: History, seed: str, folder: Path, evidence: Path) -> None:
    """The power fails again, while what the first failure left is being opened and written on."""
    again = folder / "again"
    shutil.copytree(crashed, again)
    try:
        try:
            with Disk(again, pragmas=SMALL) as disk:
                workload = Workload(sessions=1, appends=4, commits=2, largest=10, first_number=AFRESH // 2)
                workload.run(again / LEDGER, disk.mark, Random(seed))
        except StoreError as error:
            raise Violation(f"{type(error).__name__}: {error}") from error
        search(disk, 3, f"{seed} again", folder, evidence, history=history.copy())
    finally:
        shutil.rmtree(again)
