"""The read models beside a ledger: disposable, the same whenever they are made, and never in the way."""

import gzip
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from adapters import app
from adapters.ingest import ingest
from adapters.ports import StoreError
from adapters.views import Views
from tests.adapters.test_cli import ENVIRONMENT, NETLEDGER, run
from tests.replaying import DATA, recording

SHOP = DATA / "s0-buggy" / "audit.log.gz"


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return Views(path).dump()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=["in order", "late parts"])
def test_rebuilt_views_equal_those_that_replays_and_merges_left(order: tuple[int, ...], tmp_path: Path):
    path = tmp_path / "kept.ledger"
    parts = recording("mixed-seed7")
    for number in order:
        run("replay", parts[number], "--ledger", path)
        kept = dump(path)
        assert kept["finding"] or kept["resource"]
        Views(path).path.unlink()
        assert run("rebuild", "--ledger", path).exit_code == 0
        assert dump(path) == kept


def test_deleted_views_come_back_by_themselves(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    run("replay", SHOP, "--ledger", path)
    kept, answer = dump(path), run("findings", "-o", "json", "--ledger", path).stdout
    Views(path).path.unlink()
    assert run("findings", "-o", "json", "--ledger", path).stdout == answer
    assert dump(path) == kept


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_damaged_views_are_made_anew(content: bytes, tmp_path: Path):
    path = tmp_path / "kept.ledger"
    run("replay", SHOP, "--ledger", path)
    kept = dump(path)
    Views(path).path.write_bytes(content)
    assert run("get", "vpc", "-o", "name", "--ledger", path).stdout == "vpc/vpc-shop\n"
    assert dump(path) == kept


def test_views_of_an_older_ledger_are_not_answered_from(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    run("replay", DATA / "s1-buggy" / "audit.log.gz", "--ledger", path)
    old = tmp_path / "old.views"
    shutil.copy(Views(path).path, old)
    run("replay", SHOP, "--ledger", path)
    kept = dump(path)
    shutil.copy(old, Views(path).path)
    assert "vpc-shop" in run("get", "vpc", "--ledger", path).stdout
    assert dump(path) == kept


def test_where_views_cannot_be_kept_questions_are_answered_without(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    run("replay", SHOP, "--ledger", path)
    answer = run("findings", "--ledger", path).stdout
    Views(path).path.unlink()
    Views(path).path.mkdir()  # in the way, also of a superuser, whom no permission stops
    (Views(path).path / "full").touch()
    assert run("findings", "--ledger", path).stdout == answer
    assert run("get", "vpc", "-o", "name", "--ledger", path).stdout == "vpc/vpc-shop\n"
    result = run("rebuild", "--ledger", path)
    assert result.exit_code == 2 and "cannot be written" in result.stderr
    assert not list(tmp_path.glob("*.views.*"))


def test_a_replay_whose_views_cannot_be_kept_still_answers(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    Views(path).path.mkdir()
    (Views(path).path / "full").touch()
    result = run("replay", SHOP, "--ledger", path)
    assert result.exit_code == 1 and "2 open errors" in result.stdout
    assert "the ledger itself is complete" in result.stderr


def test_views_that_cannot_be_read_say_so(tmp_path: Path):
    with pytest.raises(StoreError, match="made anew"):
        Views(tmp_path / "nothing.ledger").resources("vpc")


def test_a_question_beside_a_running_replay_is_answered_from_what_is_judged(tmp_path: Path):
    """Records that are read and not judged yet must not make anything overdue: they are no absence."""
    path = tmp_path / "busy.ledger"
    first = recording("mixed-seed7")[0]
    run("replay", DATA / "s1-control-clean" / "audit.log.gz", "--ledger", path)
    assert run("findings", "--ledger", path).exit_code == 0
    with subprocess.Popen(
        [*NETLEDGER, "replay", "-", "--ledger", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as writer:
        assert writer.stdin is not None
        writer.stdin.write(gzip.decompress(first.read_bytes()))
        writer.stdin.flush()
        deadline = time.monotonic() + 30
        while "not judged yet" not in (result := run("findings", "-o", "json", "--ledger", path)).stderr:
            assert time.monotonic() < deadline, "the writer read nothing within 30 s"
            time.sleep(0.05)
        assert result.exit_code == 0 and json.loads(result.stdout) == []
        assert run("rebuild", "--ledger", path).exit_code == 2
        writer.stdin.close()
        assert writer.stdout is not None
        writer.stdout.read()
        assert writer.wait(60) == 1
    finished = run("findings", "-o", "json", "--ledger", path)
    assert "not judged yet" not in finished.stderr and json.loads(finished.stdout) != []


def test_a_ledger_of_which_nothing_is_judged_is_not_called_clean(tmp_path: Path):
    path = tmp_path / "interrupted.ledger"
    with app.opened(str(path)) as store:
        ingest(str(SHOP), store.journal)
    result = run("findings", "--ledger", path)
    assert result.exit_code == 2 and result.stdout == ""
    assert "nothing of them is judged yet" in result.stderr
    assert run("verify", "--ledger", path).exit_code == 0
    assert run("replay", SHOP, "--ledger", path).exit_code == 1
    assert run("findings", "--ledger", path).exit_code == 1


def test_nothing_is_left_beside_the_ledger_but_its_own_files(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    run("replay", SHOP, "--ledger", path)
    for _ in range(2):
        run("rebuild", "--ledger", path)
    names = {file.name.removeprefix("kept.ledger") for file in tmp_path.iterdir()}
    assert names <= {"", ".lock", ".views", ".checkpoints", ".trail", "-wal", "-shm"}


def test_two_that_ask_at_once_both_get_the_answer(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    run("replay", DATA / "mixed-small" / "audit.log.gz", "--ledger", path)
    kept = dump(path)
    Views(path).path.unlink()
    asked = [
        subprocess.Popen(
            [*NETLEDGER, "findings", "-o", "name", "--ledger", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        for _ in range(3)
    ]
    answers = {process.communicate(timeout=60) for process in asked}
    assert len(answers) == 1 and answers.pop()[1] == b""
    assert {process.returncode for process in asked} == {1} and dump(path) == kept
