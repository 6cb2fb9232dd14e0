"""A daemon asked from the command line: the same answers as from its ledger, and sentences where it cannot be asked."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest
import trustme
from click.testing import Result

from adapters.changes import Change, Changes
from adapters.remote import Credentials, Remote, ServerError
from tests.adapters.http.conftest import OPERATOR, READER, SENDER, as_
from tests.adapters.http.daemons import Daemon
from tests.adapters.http.test_ingest import DATA
from tests.adapters.http.test_live import batches, settled
from tests.adapters.test_cli import ENVIRONMENT, NETLEDGER, run
from tests.replaying import recording, timeline

RECORDINGS = ("s0-buggy", "mixed-small", "s3-buggy")


class Served(NamedTuple):
    """A daemon on a ledger, and a copy of it for asking without the daemon."""

    url: str
    copy: Path


def write_tokens(folder: Path) -> Path:
    path = folder / "tokens"
    path.write_text(f"{READER} reader read\n{SENDER} sender ingest\n{OPERATOR} alice command,read\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(f"# mine\n{READER} reader read\n")
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[dict[str, Served]]:
    found, daemons = {}, []
    tokens = write_tokens(folder)
    for name in RECORDINGS:
        ledger, copy = folder / f"{name}.ledger", folder / f"{name}-copy.ledger"
        told = [*recording(name), *([timeline(name)] if timeline(name).exists() else [])]
        assert run("replay", *told, "--ledger", ledger).exit_code in (0, 1)
        shutil.copyfile(ledger, copy)
        daemon = Daemon("--ledger", ledger, "--tokens", tokens, CHILD_REAL="1")
        daemons.append(daemon)
        found[name] = Served(f"http://127.0.0.1:{daemon.ready()[1]}", copy)
    yield found
    for daemon in daemons:
        daemon.__exit__(None, None, None)


def both(one: Served, token: Path, *arguments: str) -> tuple[Result, Result]:
    """A command asked of the ledger, and of the daemon."""
    return (
        run(*arguments, "--ledger", one.copy),
        run(*arguments, "--server", one.url, "--token-file", token),
    )


SHOP = (
    "get vpc",
    "get vpcs -o json",
    "get vpc/vpc-shop -o json",
    "get vpc/vpc-shop -o yaml --at 330",
    "get vpc -o json --at position:20",
    "get vpc -o name --at 2026-11-21T01:24:03Z",
    "get vpc/vpc-shpo",
    "get subnet -o json",
    "get pod -n nowhere -o json",
    "history vpc/vpc-shop -o json",
    "history vpc/vpc-shop -o wide",
    "history vpc/vpc-shop --since 330 -o csv",
    "history vpc/vpc-shop --limit 2 --reverse -o json",
    "history vpc/vpc-shop --until 1s -o name",
    "history vpc/vpc-shpo",
    "history subnet/net-db",
    "events -o json",
    "events -o wide",
    "events -o csv",
    "events --actor alice --kind vpc,subnet --limit 3 -o json",
    "events --actor system:* --verb patch --since 2s --reverse -o json",
    "events --refused -o json",
    "events --event SubnetRemoved --name net-db -o json",
    "events -l app",
    "events -l app=",
    "events -l app=web=api",
    "events --actor alcie",
    "events --since yesterday",
    "events --continue none",
    "who vpc/vpc-shop -o json",
    "who --resource vpc/vpc-shop",
    "who vpc/vpc-shpo",
    "findings",
    "findings -o json",
    "findings --open -o yaml",
    "findings lost-update -o json",
    "findings none",
    "diff vpc/vpc-shop -o json",
    "diff vpc/vpc-shop --from 328 --all",
    "diff vpc/vpc-shop --from 328 --to position:22 -o json",
    "diff vpc/vpc-shop --from 331 --to 320",
    "diff vpc/none",
    "blame vpc/vpc-shop -o json",
    "blame vpc/vpc-shop --at 320 -o json",
    "blame vpc/vpc-shop -o wide",
    "blame subnet/net-db",
    "why vpc/vpc-shop -o json",
    "why vpc/vpc-shop",
    "why vpc/none",
    "why vpc/vpc-shop --at 330 -o json",
    "why vpc/vpc-shop --at position:20",
    "why vpc/vpc-shop --at 2026-11-21T01:24:04.1Z -o name",
    "why vpc/vpc-shop --at 300",
    "why vpc/vpc-shop --at soon",
)
MIXED = (
    "get pod -o json",
    "get ipset -o json",
    "get ipset -o json --at position:700",
    "get node -o json",
    "events -o json",
    "events --kind ipset -o csv --limit 50",
    "events -l app=seed -o json",
    "events --selector !app,ovn.kubernetes.io/ip_reserved!=true --limit 20 -o json",
    "events --selector=owner=wendy -o csv",
    "events -l app=none",
    "findings -o json",
)


@pytest.mark.parametrize("command", SHOP)
def test_a_daemon_answers_a_command_to_the_byte_as_its_ledger_does(
    command: str, served: dict[str, Served], token: Path
):
    ours, theirs = both(served["s0-buggy"], token, *command.split())
    assert ours.stdout == theirs.stdout
    assert (ours.exit_code, ours.stderr) == (theirs.exit_code, theirs.stderr)
    assert ours.stdout or ours.stderr


@pytest.mark.parametrize("command", MIXED)
def test_a_daemon_answers_about_ipsets_and_namespaces_as_its_ledger_does(
    command: str, served: dict[str, Served], token: Path
):
    ours, theirs = both(served["mixed-small"], token, *command.split())
    assert (ours.stdout, ours.exit_code, ours.stderr) == (theirs.stdout, theirs.exit_code, theirs.stderr)


def test_every_resource_there_is_is_explained_by_a_daemon_as_by_its_ledger(served: dict[str, Served], token: Path):
    one = served["mixed-small"]
    rows = json.loads(run("events", "--ledger", one.copy, "-o", "json").stdout)["events"]
    resources = sorted({row["resource"] for row in rows})
    by_kind = {path.partition("/")[0]: path for path in resources}
    assert len(by_kind) > 5
    for path in by_kind.values():
        for question in ("history", "who", "diff", "blame", "why"):
            ours, theirs = both(one, token, question, path, "-o", "json")
            assert (ours.stdout, ours.exit_code, ours.stderr) == (theirs.stdout, theirs.exit_code, theirs.stderr)


def test_a_member_of_an_ipset_is_explained_by_a_daemon_as_by_its_ledger(served: dict[str, Served], token: Path):
    one = served["s3-buggy"]
    sets = json.loads(run("get", "ipset", "--ledger", one.copy, "-o", "json").stdout)
    assert sets
    for ipset in sets[:5]:
        path = "/".join(filter(None, ("ipset", ipset["namespace"], ipset["name"])))
        for question in (("why", path, "--member", "10.0.0.1"), ("blame", path), ("history", path), ("get", path)):
            ours, theirs = both(one, token, *question, "-o", "json")
            assert (ours.stdout, ours.exit_code, ours.stderr) == (theirs.stdout, theirs.exit_code, theirs.stderr)
            assert ours.stdout


def test_an_ipset_is_shown_by_a_daemon_as_by_its_ledger_now_and_then(served: dict[str, Served], token: Path):
    one = served["s3-buggy"]
    names = ("kube-router-svip", "kube-router-svip-prt", "kube-router-node-ips", "kube-router-svp")
    at = ("--at", "2026-11-21T01:34:21.1Z")
    asked = [
        ("ipset", name, *how) for name in names for how in ((), ("-o", "json"), ("-o", "save"), ("-o", "wide", *at))
    ]
    for command in (
        *asked,
        ("ipset", names[0], "--node", "nowhere"),
        ("get", "ipset", "-o", "json", *at),
        ("get", f"ipset/{names[0]}", "-o", "json", *at),
        ("blame", f"ipset/{names[0]}", *at),
        ("why", f"ipset/{names[0]}", "--member", "203.0.113.10", *at),
    ):
        ours, theirs = both(one, token, *command)
        assert (ours.stdout, ours.exit_code, ours.stderr) == (theirs.stdout, theirs.exit_code, theirs.stderr)
        assert ours.stdout or ours.stderr
    assert "create" in run("ipset", names[0], "-o", "save", "--server", one.url, "--token-file", token).stdout


def test_a_token_of_a_page_goes_on_whoever_is_asked(served: dict[str, Served], token: Path):
    one = served["s0-buggy"]
    whole = json.loads(run("events", "--ledger", one.copy, "-o", "json").stdout)["events"]
    rows: list[Any] = []
    following: list[str] = []
    for turn in range(100):
        place = ("--ledger", one.copy) if turn % 2 else ("--server", one.url, "--token-file", token)
        page = json.loads(run("events", "--limit", 7, "-o", "json", *following, *place).stdout)
        rows += page["events"]
        if page["continue"] is None:
            break
        following = ["--continue", page["continue"]]
    assert rows == whole


def test_many_events_are_fetched_page_by_page(served: dict[str, Served], token: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adapters.remote.PAGE", 5)
    for command in (("events", "-o", "json"), ("events", "--limit", "12", "-o", "json"), ("events", "-o", "csv")):
        ours, theirs = both(served["s0-buggy"], token, *command)
        assert ours.stdout == theirs.stdout


# ---- what goes wrong


def test_a_daemon_that_is_not_there_is_said(token: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = run("get", "vpc", "--server", f"http://127.0.0.1:{port}")
    assert result.exit_code == 2 and "cannot be reached" in result.stderr and not result.stdout


def test_what_is_no_daemon_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = subprocess.Popen(
            [*NETLEDGER, "get", "vpc", "--server", f"http://127.0.0.1:{other.getsockname()[1]}"],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
        )
        connection, _ = other.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        _, error = process.communicate(timeout=10)
        connection.close()
    assert process.returncode == 2 and b"not as a netledger daemon" in error


def test_who_is_not_known_is_told_which_file_the_token_came_from(served: dict[str, Served], tmp_path: Path):
    url = served["s0-buggy"].url
    wrong = tmp_path / "wrong"
    wrong.write_text("not-a-token-of-this-daemon\n")
    result = run("findings", "--server", url, "--token-file", wrong)
    assert result.exit_code == 2 and f"the token of {wrong}" in result.stderr
    assert "not-a-token-of-this-daemon" not in result.output
    result = run("findings", "--server", url)
    assert result.exit_code == 2 and "give --token-file FILE" in result.stderr
    sender = tmp_path / "sender"
    sender.write_text(SENDER)
    result = run("findings", "--server", url, NETLEDGER_TOKEN_FILE=str(sender))
    assert result.exit_code == 2 and "does not have the right `read`" in result.stderr and SENDER not in result.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no token"),
        ("# only this\n", "holds no token"),
        ("sha256:00 a read", "the hash"),
        ("tökén", "no token"),
    ],
)
def test_a_file_that_holds_no_token_is_said(content: str, said: str, tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(content)
    result = run("findings", "--server", "http://127.0.0.1:1", "--token-file", path)
    assert result.exit_code == 2 and said in result.stderr
    result = run("findings", "--server", "http://127.0.0.1:1", "--token-file", tmp_path / "none")
    assert result.exit_code == 2 and "No such file" in result.stderr


def test_a_token_is_not_sent_where_others_can_read_it(token: Path):
    result = run("findings", "--server", "http://netledger.example:8440", "--token-file", token)
    assert result.exit_code == 2 and "would be readable on the way" in result.stderr
    for address in ("netledger.example", "ftp://netledger.example", "https://", "https://host/?x"):
        assert "is no address of a daemon" in run("findings", "--server", address).stderr
    result = run("findings", "--server", "https://alice:secret@netledger.example")
    assert result.exit_code == 2 and "--token-file" in result.stderr and "secret" not in result.output
    with pytest.raises(ServerError) as refused:
        Remote("alice:secret@netledger.example", Credentials())
    assert "secret" not in str(refused.value)


def test_a_ledger_and_a_server_are_not_both_asked(served: dict[str, Served], token: Path):
    one = served["s0-buggy"]
    told = ("--token-file", token)
    result = run("get", "vpc", "--ledger", one.copy, "--server", one.url, *told)
    assert result.exit_code == 2 and "--ledger and --server were both given" in result.stderr
    result = run("get", "vpc", NETLEDGER_LEDGER=str(one.copy), NETLEDGER_SERVER=one.url)
    assert result.exit_code == 2 and "NETLEDGER_LEDGER and NETLEDGER_SERVER" in result.stderr
    assert run("get", "vpc", "--server", one.url, *told, NETLEDGER_LEDGER="nowhere").exit_code == 0
    assert run("get", "vpc", "--ledger", one.copy, NETLEDGER_SERVER="http://127.0.0.1:1").exit_code == 0
    assert "which ledger?" in run("get", "vpc").stderr
    assert "which daemon?" in run("watch").stderr


def test_a_certificate_has_to_be_trusted_and_one_may_be_shown(tmp_path: Path):
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    others.cert_pem.write_to_path(str(tmp_path / "others.pem"))
    ours.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    client = ours.issue_cert("client.example", common_name="alice")
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    options = ("--tls-cert", tmp_path / "server.pem", "--client-ca", tmp_path / "ca.pem", "--client", "alice=read")
    with Daemon("--ledger", tmp_path / "l", *options) as daemon:
        port = daemon.ready()[1]
        ask = ("get", "vpc", "--server", f"https://127.0.0.1:{port}")
        shown = ("--cert", tmp_path / "client.pem", "--key", tmp_path / "client.key")
        result = run(*ask, "--ca", tmp_path / "ca.pem", *shown)
        assert result.exit_code == 0, result.output
        result = run(*ask, "--ca", tmp_path / "ca.pem")
        assert result.exit_code == 2 and "--cert FILE" in result.stderr
        for trust in ((), ("--ca", tmp_path / "others.pem")):
            result = run(*ask, *trust, *shown)
            assert result.exit_code == 2 and "is not trusted" in result.stderr and "--ca FILE" in result.stderr
        result = run(*ask, "--ca", tmp_path / "client.key")
        assert result.exit_code == 2 and "client.key" in result.stderr
        result = run(*ask, "--ca", tmp_path / "ca.pem", "--cert", tmp_path / "client.pem")
        assert result.exit_code == 2 and "no certificate to show" in result.stderr
        result = run("get", "vpc", "--server", f"http://127.0.0.1:{port}")
        assert result.exit_code == 2


# ---- watch


class Watching:
    """`netledger watch` in a process of its own, and the lines that it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*NETLEDGER, "watch", *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    def end(self) -> tuple[int, bytes]:
        """Its exit status and what it said, once it was interrupted."""
        self.process.send_signal(signal.SIGINT)
        self._thread.join(10)
        assert self.process.stderr is not None
        return self.process.wait(10), self.process.stderr.read()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_changes_are_followed_over_a_kill_of_the_daemon_and_none_is_missed(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text(READER)
    options = ("--ledger", tmp_path / "l", "--tokens", write_tokens(tmp_path), "--window", "0.2")

    def post(port: int, name: str) -> None:
        log = gzip.decompress((DATA / name / "audit.log.gz").read_bytes()).splitlines()
        for batch in batches(log):
            answer = httpx.post(f"http://127.0.0.1:{port}/ingest/audit", content=batch, headers=as_(SENDER))
            assert answer.status_code == 200

    def noted() -> list[Change]:
        return Changes(tmp_path / "l.changes").after(0)

    with Daemon(*options, CHILD_REAL="1") as first:
        port = first.ready()[1]
        place = ("--server", f"http://127.0.0.1:{port}", "--token-file", str(token))
        every, opened = Watching(*place), Watching("--open", "-o", "json", *place)
        try:
            metrics = f"http://127.0.0.1:{port}/metrics"
            until(lambda: "netledger_followers 2.0" in httpx.get(metrics, headers=as_(READER)).text)
            post(port, "s0-buggy")
            until(lambda: len(every.lines) > 0 and len(opened.lines) > 0)
            first.end(signal.SIGKILL)
            with Daemon(*options, "--listen", f"127.0.0.1:{port}", CHILD_REAL="1") as second:
                second.ready()
                post(port, "s1-buggy")
                with httpx.Client() as client:
                    now = settled(client, f"http://127.0.0.1:{port}")["findings"]
                until(lambda: len(every.lines) == len(noted()))
                until(lambda: json.loads(opened.lines[-1])["number"] >= max(one.number for one in of_open(noted())))
                assert [watching.end() for watching in (every, opened)] == [(130, b""), (130, b"")]
        finally:
            every.process.kill()
            opened.process.kill()
    changes = noted()
    assert {one["id"] for one in now if one["status"] == "open"} <= {one.finding["id"] for one in changes}
    assert [json.loads(line)["number"] for line in opened.lines] == [one.number for one in of_open(changes)]
    for line, change in zip(every.lines, changes, strict=True):
        assert f"  {change.what} " in line and f"  {change.finding['rule']} {change.finding['name']}  " in line
        assert change.finding["explanation"].startswith(line.rpartition("  ")[2].rstrip("."))


def of_open(changes: list[Change]) -> list[Change]:
    return [one for one in changes if one.what != "withdrawn" and one.finding["status"] == "open"]
