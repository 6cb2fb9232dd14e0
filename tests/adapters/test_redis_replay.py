"""An incident replayed into Redis: the same findings and digest as in a file, and the same again at the second time."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters import app, cli
from adapters.judging import judge
from adapters.stores import backends
from tests.adapters.places import fill

pytestmark = pytest.mark.usefixtures("no_endless_wait")

LOG = str(Path(__file__).parents[1] / "incidents" / "data" / "s0-buggy" / "audit.log.gz")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def netledger(*words: str) -> Result:
    return CliRunner().invoke(cli.cli, list(words), catch_exceptions=False)


def test_an_incident_replayed_into_redis_is_judged_as_in_a_file_and_resumes(redis_address, ledger_path):
    address = redis_address()
    file, server, again = (
        netledger("replay", LOG, "--ledger", to, "-o", "json") for to in (str(ledger_path), address, address)
    )
    assert file.exit_code == server.exit_code == again.exit_code == 1
    in_file, on_server, replayed = (json.loads(result.stdout) for result in (file, server, again))
    assert in_file == on_server
    assert replayed["findings"] == on_server["findings"]
    assert "appendonly yes, appendfsync always" in server.stderr
    assert "appendonly" not in file.stderr
    heads, digests = [], []
    for to in (str(ledger_path), address):
        with app.opened(to, "read") as store:
            heads.append((store.ledger.head, store.journal.head(), store.ledger.generation))
            digests.append(judge(store.journal, store.ledger).digest)
    assert heads[0] == heads[1]
    assert digests[0] == digests[1]


def test_questions_are_answered_from_redis(redis_address, ledger_path):
    address = redis_address()
    for to in (str(ledger_path), address):
        netledger("replay", LOG, "--ledger", to)
    for question in (
        ["get", "vpc"],
        ["history", "vpc/vpc-shop"],
        ["findings"],
        ["get", "vpc", "--at", "330", "-o", "json"],
    ):
        answers = [netledger(*question, "--ledger", to) for to in (str(ledger_path), address)]
        assert answers[0].stdout == answers[1].stdout != ""
        assert answers[0].exit_code == answers[1].exit_code
    verified = netledger("verify", "--ledger", address)
    assert verified.exit_code == 0, verified.output
    assert "all as they were written" in verified.stdout


def test_a_ledger_is_copied_into_redis_and_back_and_is_the_same(redis_address, ledger_path, tmp_path):
    """What `fill` puts in: two generations, commands, input kept aside in two formats."""
    address, back = redis_address(), tmp_path / "back.ledger"
    with backends.opened(str(ledger_path)) as store:
        fill(store, tmp_path)
    digests = []
    for source, target in ((str(ledger_path), address), (address, str(back)), (address, str(back))):
        copied = netledger("copy", "--from", source, "--to", target)
        assert copied.exit_code == 0, copied.output
        digests.append(re.findall("digest ([0-9a-f]+)", copied.stdout))
    assert digests[0] == digests[1] == digests[2] != []
    assert netledger("verify", "--every-event", "--ledger", address).exit_code == 0


def test_a_server_that_forgets_is_refused_with_what_to_do(redis_address, redis_server, tmp_path):
    redis_server.client().config_set("appendonly", "no")
    try:
        refused = netledger("replay", LOG, "--ledger", redis_address())
        allowed = netledger("replay", LOG, "--allow-volatile", "--ledger", redis_address())
    finally:
        redis_server.client().config_set("appendonly", "yes")
    assert refused.exit_code == 2
    assert "--allow-volatile" in refused.stderr
    assert allowed.exit_code == 1
    assert "lost when it stops" in allowed.stderr


def test_no_password_is_printed(redis_server, redis_address):
    redis_server.client().execute_command("ACL", "SETUSER", "teller", "on", ">hush-hush", "~*", "+@all")
    address = redis_address().replace("redis://", "redis://teller:hush-hush@")
    for result in (
        netledger("replay", LOG, "--ledger", address),
        netledger("verify", "--ledger", address),
        netledger("rebuild", "--ledger", address),
        netledger("verify", "--ledger", address.replace("?ledger=", "?ledger=no-")),
    ):
        assert "hush-hush" not in result.output
        assert result.exit_code in (0, 1) or "there is no ledger" in result.output
