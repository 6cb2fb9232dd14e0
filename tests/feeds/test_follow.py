"""Files that grow: every line is in the journal once, however they are rotated, and whenever the reader is killed."""

import gzip
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.feeds.follow import Follow, rotated
from adapters.intake import Intake, New
from adapters.stores import backends
from tests.adapters.conftest import LONG_SEARCH
from tests.feeds.conftest import DATA, records_of, replayed, running, until

KILLS, PARTS, SECONDS = (60, 40, "20") if LONG_SEARCH else (3, 10, "1.0")


@pytest.fixture(scope="session")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "whole.log"
    path.write_bytes(gzip.decompress((DATA / "mixed-small" / "audit.log.gz").read_bytes()))
    return path


@pytest.fixture
def lines(audit_log: Path) -> list[bytes]:
    return audit_log.read_bytes().splitlines(keepends=True)[1500:1900]  # mostly on our kinds


@contextmanager
def following(pattern: Path, ledger: str) -> Iterator[tuple[Follow, list[New]]]:
    told: list[New] = []
    with backends.opened(ledger) as backend:
        feed = Follow(Intake(backend.journal, lambda records: told.extend(records)), str(pattern))
        with running(feed):
            yield feed, told


def kept(ledger: str) -> dict[str, bytes]:
    with backends.opened(ledger) as backend:
        return records_of(backend.journal)


def aside(ledger: str) -> list[str]:
    with backends.opened(ledger) as backend:
        return [one.reason for one in backend.journal.kept_aside()]


def test_lines_that_are_written_while_it_runs_are_kept_as_they_come(
    tmp_path: Path, ledger: str, lines: list[bytes], audit_log: Path
):
    path = tmp_path / "audit.log"
    with following(path, ledger) as (feed, told):
        until(lambda: "not there" in feed.state().waits)
        with path.open("ab", buffering=0) as file:
            for line in lines[:200]:
                file.write(line)
            until(lambda: feed.state().connected)
            file.write(lines[200][:100])
            time.sleep(0.4)
            before = len(told)
            file.write(lines[200][100:] + b"".join(lines[201:]))
            until(lambda: len(told) > before)
            expected = offline(tmp_path, lines)
            until(lambda: len(told) == len(expected))
    assert kept(ledger) == expected
    assert aside(ledger) == []


def offline(folder: Path, lines: list[bytes]) -> dict[str, bytes]:
    whole = folder / "offline.log"
    whole.write_bytes(b"".join(lines))
    return replayed(whole, folder)


@pytest.mark.parametrize("how", ["rename", "late", "numbered", "copytruncate"])
def test_a_reader_that_is_killed_at_any_moment_misses_nothing_of_a_log_that_is_rotated_under_load(
    how: str, tmp_path: Path, ledger: str, audit_log: Path
):
    log = tmp_path / "logs" / "audit.log"
    log.parent.mkdir()
    size = audit_log.stat().st_size
    first, rest = audit_log.read_bytes().split(b"\n", 1)
    log.write_bytes(first + b"\n")
    with following(log, ledger) as (feed, _):  # what was rotated away before it was first followed is no part of it
        until(lambda: feed.state().connected)
    (tmp_path / "rest.log").write_bytes(rest)
    writer = child("write", str(tmp_path / "rest.log"), str(log), how, str(size // PARTS), SECONDS)
    readers = 0
    clock = random.Random(how)
    try:
        while writer.poll() is None and readers < KILLS:
            reader = child("follow", str(log), ledger)
            time.sleep(0.25 + clock.random() * 0.2)
            reader.kill()
            reader.wait()
            readers += 1
        assert writer.wait(20) == 0
    finally:
        writer.kill()
    expected = replayed(audit_log, tmp_path)
    with following(log, ledger):
        until(lambda: held(ledger) == len(expected), 8)
    assert kept(ledger) == expected
    assert aside(ledger) == []


def held(ledger: str) -> int:
    with backends.opened(ledger, "read") as backend:
        return backend.journal.head()


def child(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.feeds.follow_child", *arguments], stdin=subprocess.PIPE)


def test_parts_that_were_rotated_and_packed_while_it_was_down_are_read_first(
    tmp_path: Path, ledger: str, lines: list[bytes]
):
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(lines[:150]))
    begin = offline(tmp_path / new("a", tmp_path), lines[:150])
    with following(path, ledger) as (_, told):
        until(lambda: len(told) == len(begin))
    for number, (first, last) in enumerate([(0, 200), (200, 250), (250, 300)], 1):
        part = tmp_path / f"audit-2026-11-21T03-00-0{number}.123.log.gz"
        part.write_bytes(gzip.compress(b"".join(lines[first:last])))
    path.unlink()
    path.write_bytes(b"".join(lines[300:]))
    expected = offline(tmp_path, lines)
    with following(path, ledger) as (_, told):
        until(lambda: held(ledger) == len(expected))
        assert [one.payload for one in told] == [
            line.strip() for line in lines[150:] if line.strip() in set(expected.values())
        ], "the order is not that in which they were written"
    assert kept(ledger) == expected
    assert aside(ledger) == []


def new(name: str, folder: Path) -> str:
    (folder / name).mkdir()
    return name


def test_another_file_of_the_same_name_and_inode_is_read_from_its_beginning_and_the_loss_is_told(
    tmp_path: Path, ledger: str, lines: list[bytes]
):
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(lines[:200]))
    with following(path, ledger) as (_, told):
        until(lambda: bool(told))
    inode = path.stat().st_ino
    with path.open("r+b") as file:  # the same inode, longer than before
        file.truncate()
        file.write(b"".join(lines[100:]))
    assert path.stat().st_ino == inode
    with following(path, ledger):
        expected = offline(tmp_path, lines)
        until(lambda: held(ledger) == len(expected))
    assert kept(ledger) == expected
    assert len(aside(ledger)) == 1 and "no rotated part begins as it did" in aside(ledger)[0]


def test_a_file_that_is_emptied_under_the_reader_is_read_on_and_a_copy_is_asked_for_what_was_not_read(
    tmp_path: Path, ledger: str, lines: list[bytes]
):
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(lines[:200]))
    with following(path, ledger) as (_, told):
        until(lambda: bool(told))
        with path.open("ab") as file:
            file.write(b"".join(lines[200:300]))
        shutil.copyfile(path, tmp_path / "audit.log.1")
        os.truncate(path, 0)
        with path.open("ab") as file:
            file.write(b"".join(lines[300:350]))
        before = offline(tmp_path, lines[:350])
        until(lambda: held(ledger) == len(before))
        (tmp_path / "audit.log.1").unlink()
        os.truncate(path, 0)
        with path.open("ab") as file:
            file.write(b"".join(lines[350:]))
        expected = offline(tmp_path / new("again", tmp_path), lines)
        until(lambda: held(ledger) == len(expected))
    assert kept(ledger) == expected
    assert len(aside(ledger)) == 1 and "was emptied behind byte" in aside(ledger)[0]


def test_a_controllers_log_that_is_followed_over_restarts_gives_the_records_of_the_whole(tmp_path: Path, ledger: str):
    text = klog_lines()
    path = tmp_path / "controller.log"
    whole = tmp_path / "whole.log"
    whole.write_bytes(b"".join(text))
    expected = replayed(whole, tmp_path)
    assert len(expected) > 20
    for first, last in itertools.pairwise([0, 7, 8, len(text) // 2, len(text)]):
        with path.open("ab") as file:
            file.write(b"".join(text[first:last]))
        with following(path, ledger) as (feed, _):
            until(lambda: feed.state().connected)
            time.sleep(0.3)
    path.rename(tmp_path / "controller.log.1")
    # Only now the last record is known to be whole.
    path.write_bytes(b"I1121 03:59:59.123456       7 vpc.go:123] enqueue add vpc late\n")
    with following(path, ledger):
        until(lambda: held(ledger) == len(expected))
    assert kept(ledger) == expected


def klog_lines() -> list[bytes]:
    """A controller's work on some addresses: what names the resource comes first, what does not comes behind."""
    made = []
    for number in range(30):
        at = f"I1121 03:{number:02}:07.123456       7"
        made += [
            f"{at} vpc_nat_gw_eip.go:123] handle add iptables eip eip-{number}\n",
            f"{at} vpc.go:123] enqueue add vpc shop-{number}\n",
            f"{at} vpc.go:200] handle add/update vpc shop-{number}\n",
            f"E1121 03:{number:02}:07.223456       7 vpc.go:210] vpc shop-{number} add static route: no such\n  router\n",
        ]
    return [line.encode() for line in "".join(made).splitlines(keepends=True)]


def test_a_pattern_follows_each_file_once_and_takes_rotated_parts_for_parts(
    tmp_path: Path, ledger: str, lines: list[bytes]
):
    (tmp_path / "a-audit.log").write_bytes(b"".join(lines[:100]))
    (tmp_path / "o").mkdir()
    before = offline(tmp_path / "o", lines[:100])
    with following(tmp_path / "*-audit*", ledger) as (feed, _):
        until(lambda: held(ledger) == len(before))
        (tmp_path / "a-audit.log").rename(tmp_path / "a-audit.log.1")
        (tmp_path / "a-audit.log").write_bytes(b"".join(lines[100:200]))
        (tmp_path / "b-audit.log").write_bytes(b"".join(lines[200:]))
        expected = offline(tmp_path, lines)
        until(lambda: held(ledger) == len(expected))
        assert [Path(part.name).name for part in feed.state().parts] == ["a-audit.log", "b-audit.log"]
    assert kept(ledger) == expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("audit-2026-11-21T02-47-36.123.log", "audit.log"),
        ("audit-2026-11-21T02-47-36.123.log.gz", "audit.log"),
        ("audit.log.1", "audit.log"),
        ("audit.log.12.gz", "audit.log"),
        ("audit.log-20261121", "audit.log"),
        ("audit.log-20261121-1795224244.gz", "audit.log"),
        ("0.log.20261121-024736", "0.log"),
        ("audit.log", None),
        ("kube-router.log", None),
        ("audit.log.gz", None),
        ("audit.log.bak", None),
    ],
)
def test_names_tell_which_file_a_part_was_rotated_from(name: str, base: str | None):
    made = rotated(name)
    assert (made.base if made else None) == base


def test_parts_stand_in_the_order_in_which_they_were_written():
    def ordered(names: list[str]) -> list[str]:
        return sorted(names, key=lambda name: rotated(name).order)  # type: ignore[union-attr]

    assert ordered(["a.log.1", "a.log.10.gz", "a.log.2"]) == ["a.log.10.gz", "a.log.2", "a.log.1"]
    stamped = ["a-2026-11-21T02-47-36.123.log", "a-2026-11-20T23-47-36.123.log.gz"]
    assert ordered(stamped) == stamped[::-1]
