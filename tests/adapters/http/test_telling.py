"""The daemon as a process tells others: webhooks, Events and projections, as its options say, and is ready without them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import redis
from click.testing import CliRunner

from adapters.cli import cli
from tests.adapters.http.conftest import READER, SENDER, as_
from tests.adapters.http.daemons import Daemon
from tests.adapters.http.test_ingest import DATA
from tests.servers.api_server import ApiServer
from tests.servers.redis_server import Server
from tests.servers.webhook import Webhook

LOG = gzip.decompress((DATA / "s0-buggy" / "audit.log.gz").read_bytes()).splitlines()
BODY = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + b",".join(LOG) + b"]}"


def until(question: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def figures(url: str) -> dict[str, float]:
    page = httpx.get(f"{url}/metrics", headers=as_(READER)).text
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line[0] != "#"}


def test_what_the_options_name_is_told_and_what_does_not_answer_is_said_and_not_unready(
    tmp_path: Path, tokens_path: Path, redis_server: Server
):
    with Webhook(login="Basic b3BzOmh1bnRlcjI=") as webhook, Webhook() as down, ApiServer() as api:
        down.stop()
        address = webhook.url.replace("//", "//ops:hunter2@")
        told = (
            *("--alert-webhook", address, "--alert-webhook", down.url, "--cluster", "shop"),
            *("--kubernetes-events", "--kubeconfig", api.kubeconfig(tmp_path)),
            *("--publish", f"{redis_server.url}?prefix=telling"),
        )
        options = ("--ledger", tmp_path / "l", "--tokens", tokens_path, "--window", "0.1", *told)
        with Daemon(*options, CHILD_REAL="1") as daemon:
            url = f"http://127.0.0.1:{daemon.ready()[1]}"
            assert httpx.post(f"{url}/ingest/audit", content=BODY, headers=as_(SENDER)).status_code == 200
            until(lambda: len(webhook.firing()) == 2 and len(api.written) == 2)
            labels = webhook.told()[0]["labels"]
            assert labels["cluster"] == "shop" and labels["alertname"] in ("lost-update", "stuck-deletion")
            found = httpx.get(webhook.told()[0]["generatorURL"], headers=as_(READER))
            assert found.status_code == 200 and found.json()["finding"]["name"] == labels["alertname"]
            with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
                key = "{telling}:vpc:vpc-shop"
                until(lambda: client.hget(key, "drift") == '["status.subnets"]')
            until(lambda: figures(url)[f'netledger_told_failures_total{{kind="alerts",target="{down.url}"}}'] > 0)
            ready = httpx.get(f"{url}/readyz?verbose", headers=as_(READER))
            assert ready.status_code == 200
            lines = ready.text.splitlines()
            assert f"[+]alerts {webhook.url.replace('//', '//***@')} ok" in lines
            assert f"[+]Kubernetes Events {api.url} ok" in lines
            assert any(line.startswith("[+]projections redis://127.0.0.1") and line.endswith(" ok") for line in lines)
            (lost,) = (line for line in lines if line.startswith("[!]"))
            assert lost.startswith(f"[!]alerts {down.url}: ")
            assert "127.0.0.1" not in httpx.get(f"{url}/readyz?verbose").text, "anybody may ask, and not for addresses"
            now = figures(url)
            masked = webhook.url.replace("//", "//***@")
            assert now[f'netledger_told_up{{kind="alerts",target="{masked}"}}'] == 1
            assert now[f'netledger_told_up{{kind="alerts",target="{down.url}"}}'] == 0
            assert now[f'netledger_told_behind{{kind="alerts",target="{down.url}"}}'] >= 2
            assert now[f'netledger_told_messages_total{{kind="kubernetes-events",target="{api.url}"}}'] == 2
            assert now['netledger_findings_open{name="stuck-deletion",rule="NL102",severity="error"}'] == 1
            began = time.monotonic()
            assert daemon.end() == 0
            assert time.monotonic() - began < 6
        assert "hunter2" not in repr(daemon.lines)
        webhook.posts.clear()
        with Daemon(*options, CHILD_REAL="1") as daemon:
            daemon.ready()
            until(lambda: webhook.posts)
            assert len(webhook.firing()) == 2 and api.posts == 2


def test_one_that_hangs_does_not_keep_the_daemon_from_ending(tmp_path: Path, tokens_path: Path):
    with Webhook() as hung:
        hung.always = ("hang", 60)
        options = ("--ledger", tmp_path / "l", "--tokens", tokens_path, "--window", "0.1", "--alert-webhook", hung.url)
        with Daemon(*options, CHILD_REAL="1") as daemon:
            url = f"http://127.0.0.1:{daemon.ready()[1]}"
            assert httpx.post(f"{url}/ingest/audit", content=BODY, headers=as_(SENDER)).status_code == 200
            until(lambda: hung.asked)
            began = time.monotonic()
            assert daemon.end() == 0
            assert time.monotonic() - began < 6


# ---- what is told wrongly


def serve(*options: str | Path) -> Any:
    return CliRunner().invoke(cli, ["serve", "--ledger", "l", "--listen", "127.0.0.1:0", *map(str, options)])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--alert-webhook", "am:9093"), "--alert-webhook am:9093 is no address"),
        (("--alert-webhook", "https://a", "--alert-severity", "fatal"), "there is no 'fatal'"),
        (("--alert-webhook", "https://a", "--alert-label", "x"), "it is NAME=VALUE"),
        (("--alert-webhook", "https://a", "--alert-ca", "none.pem"), "none.pem: No such file"),
        (("--alert-webhook", "https://a", "--alert-token-file", "none"), "none: No such file"),
        (("--kubernetes-events", "--kubeconfig", "none"), "the kubeconfig none cannot be used"),
        (("--publish", "http://here"), "cannot be pushed to here"),
    ],
)
def test_a_check_says_what_cannot_be_meant_so(
    options: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = serve("--check", *options)
    assert result.exit_code == 2
    (line,) = (line for line in result.output.splitlines() if line.startswith("[-]told: "))
    assert says in line


def test_credentials_are_not_sent_where_others_can_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("x" * 20)
    for options in (
        ("--alert-webhook", "http://ops:hunter2@am.example:9093"),
        ("--alert-webhook", "http://am.example", "--alert-token-file", "token"),
    ):
        result = serve("--check", *options)
        assert result.exit_code == 2 and "use https://" in result.output and "hunter2" not in result.output
    assert serve("--check", "--alert-webhook", "http://am.example").exit_code == 0
    assert serve("--check", "--alert-webhook", "https://ops:x@am.example").exit_code == 0


def test_printed_settings_show_no_secret_of_whoever_is_told(monkeypatch: pytest.MonkeyPatch):
    result = serve(
        *("--print-config", "--alert-webhook", "https://ops:hunter2@am.example/x?key=hunter2"),
        *("--publish", "redis://:hunter2@host/0?prefix=p"),
    )
    assert result.exit_code == 0 and "hunter2" not in result.output
    assert 'alert-webhook = ["https://***@am.example/x?***"]  # flag' in result.output
    assert 'publish = ["redis://:***@host/0?prefix=p"]  # flag' in result.output
