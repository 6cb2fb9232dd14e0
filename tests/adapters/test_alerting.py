"""Alerts reach a webhook at least once, over faults, restarts and kills, and whoever does not answer holds up nobody."""

from __future__ import annotations

import base64
import json
import logging
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from adapters import alerting, app, live, logs, outlets
from adapters.alerting import AlertWebhook, Target, alert, labels_of
from adapters.changes import OPENED, Change
from adapters.live import Live
from adapters.outlets import Outlet, severities_of
from adapters.ports import StoreError
from adapters.stores.backends import masked
from projections.findings.rule import HEALED, OPEN, PENDING, UNKNOWN
from tests.adapters.noting import Noting, finding
from tests.replaying import lines_of
from tests.servers.webhook import Webhook

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _hurried(hurried_outlets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(live, "SNAPSHOT_SECONDS", 0.05)
    monkeypatch.setattr(live, "MERGE_SECONDS", 0.05)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


@contextmanager
def telling(engine: Live, *targets: Target) -> Iterator[list[AlertWebhook]]:
    told = [AlertWebhook(engine, target) for target in targets]
    with outlets.running(told):
        yield told


def until(question: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def caught_up(outlet: Outlet) -> bool:
    return outlet.state().connected and outlet.behind() == 0


# ---- what an alert is


def test_an_alert_says_what_where_since_when_and_what_to_do(engine: Noting, webhook: Webhook):
    target = Target(webhook.url, labels={"cluster": "shop-eu"}, external_url="https://netledger.example/")
    pod = finding("web-0", resource={"kind": "pod", "namespace": "web"})
    with telling(engine, target):
        engine.finds(pod)
        until(lambda: webhook.posts)
        engine.finds({**finding("web-0", HEALED, resource={"kind": "pod", "namespace": "web"}), "id": pod["id"]})
        until(lambda: not webhook.firing())
    first, last = webhook.told()[0], webhook.told()[-1]
    assert first == {
        "labels": {
            "cluster": "shop-eu",
            "alertname": "lost-update",
            "severity": "error",
            "rule": "NL101",
            "kind": "pod",
            "namespace": "web",
            "name": "web-0",
            "finding": "lost-update/pod/web-0/uid",
        },
        "annotations": {
            "summary": "lost-update of pod/web/web-0",
            "description": "A write on web-0 was lost.",
            "consequence": "Its status is wrong.",
            "repair": "kubectl patch  # puts it right",
        },
        "startsAt": "2026-07-23T01:24:03.329000Z",
        "generatorURL": "https://netledger.example/v1/findings/lost-update/pod/web-0/uid",
    }
    assert last["labels"] == first["labels"] and last["endsAt"] == "2026-07-23T01:30:00.250000Z"


def test_times_of_a_clock_that_is_ahead_make_no_alert_that_a_receiver_would_refuse():
    now = 1_000_000_000_000_000  # 2001: everything in the log is still to come
    fires = alert(Change(1, now, OPENED, finding()), now=now)
    ends = alert(Change(2, now, HEALED, finding(status=HEALED), OPEN), now=now)
    assert fires["startsAt"] == ends["startsAt"] == ends["endsAt"] == "2001-09-09T01:46:40.000000Z"


def test_a_text_without_end_is_cut():
    said = alert(Change(1, 1, OPENED, finding(explanation="x" * 100_000)))["annotations"]["description"]
    assert len(said) == alerting.ANNOTATION_CHARACTERS and said.endswith("…")


# ---- which of them are told


def test_only_what_is_certain_and_severe_enough_fires(engine: Noting, webhook: Webhook):
    quiet = [finding("p", PENDING), finding("u", UNKNOWN), finding("h", HEALED), finding("w", severity="warning")]
    with telling(engine, Target(webhook.url, severities=["error"])) as (told,):
        engine.finds(finding("e"), *quiet)
        until(lambda: webhook.posts)
        engine.finds()
        until(lambda: caught_up(told) and not webhook.firing())
    assert {one["labels"]["name"] for one in webhook.told()} == {"e"}, "nor that they went"


@pytest.mark.parametrize("then", [[finding(status=UNKNOWN)], [finding(status=PENDING)], []])
def test_an_alert_ends_where_its_finding_is_not_certain_any_more(engine: Noting, webhook: Webhook, then: list[Any]):
    with telling(engine, Target(webhook.url)):
        engine.finds(finding())
        until(webhook.firing)
        before = time.time()
        engine.finds(*then)
        until(lambda: not webhook.firing())
    ended = alerting._microseconds(webhook.told()[-1]["endsAt"]) / 1_000_000
    assert before - 1 <= ended <= time.time(), "when it was noticed"


def test_what_opened_and_healed_while_nobody_was_told_is_told_as_ended(engine: Noting, webhook: Webhook):
    with telling(engine, Target(webhook.url)) as (told,):
        until(lambda: caught_up(told))
    engine.finds(finding())
    engine.finds(finding(status=HEALED))
    with telling(engine, Target(webhook.url)):
        until(lambda: webhook.posts)
    (only,) = webhook.told()
    assert only["endsAt"] == "2026-07-23T01:30:00.250000Z"


def test_who_is_new_is_told_of_what_is_open_and_not_of_what_healed_long_ago(engine: Noting, webhook: Webhook):
    engine.finds(finding("a"), finding("b"))
    engine.finds(finding("a"), finding("b", HEALED))
    with telling(engine, Target(webhook.url)) as (told,):
        until(lambda: caught_up(told) and webhook.firing())
    assert {one["labels"]["name"] for one in webhook.told()} == {"a"}


def test_what_is_open_is_told_again_and_again_because_alertmanager_forgets(
    engine: Noting, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(alerting, "AGAIN_SECONDS", 0.1)
    with telling(engine, Target(webhook.url)):
        engine.finds(finding())
        until(webhook.firing)
        webhook.forget()
        until(webhook.firing)
        engine.finds(finding(status=HEALED))
        until(lambda: not webhook.firing())
        posts = len(webhook.posts)
        time.sleep(0.3)
        assert len(webhook.posts) == posts, "what healed is told once"


# ---- targets that fail


@pytest.mark.parametrize(
    "fault",
    [("status", 500), ("status", 429), ("status", 404), ("status", 302), ("cut", 0), ("endless", 500), ("lost", 0)],
)
def test_what_fails_is_told_again_until_it_is_heard(engine: Noting, webhook: Webhook, fault: tuple[str, float]):
    webhook.faults.extend([fault] * 3)
    with telling(engine, Target(webhook.url)) as (told,):
        engine.finds(finding())
        until(lambda: webhook.firing() and caught_up(told) and not webhook.faults)
        assert told.state().failures == 3 and told.state().error == ""


def test_one_that_is_down_holds_up_nobody_and_is_told_all_when_it_is_back(engine: Noting, webhook: Webhook):
    with Webhook() as down:
        down.stop()
        with telling(engine, Target(down.url), Target(webhook.url)) as (lost, well):
            for number in range(5):
                engine.finds(*(finding(f"v{one}") for one in range(number + 1)))
            engine.finds(*(finding(f"v{one}", HEALED if one < 2 else OPEN) for one in range(5)))
            until(lambda: caught_up(well) and len(webhook.firing()) == 3)
            until(lambda: lost.state().failures > 1)
            assert "refused" in lost.state().error and not lost.state().connected and lost.behind() > 0
            down.start()
            until(lambda: down.firing() == webhook.firing())
            until(lambda: lost.state().error == "")


def test_one_that_hangs_holds_up_neither_another_nor_the_end(engine: Noting, webhook: Webhook):
    with Webhook() as hung:
        hung.always = ("hang", 30)
        with telling(engine, Target(hung.url), Target(webhook.url)):
            engine.finds(finding())
            until(webhook.firing)
            until(lambda: hung.asked)
            began = time.monotonic()
        assert time.monotonic() - began < outlets.END_SECONDS + 1


def test_one_alert_that_is_refused_keeps_no_other_from_being_told(
    engine: Noting, webhook: Webhook, caplog: pytest.LogCaptureFixture
):
    webhook.refused = {"v7"}
    with telling(engine, Target(webhook.url)) as (told,):
        until(lambda: caught_up(told))
        engine.finds(*(finding(f"v{number}") for number in range(20)))
        until(lambda: len(webhook.firing()) == 19 and caught_up(told))
        assert told.dropped >= 1 and told.sent >= 19
    assert "lost-update/vpc/v7/uid: 400 refused" in caplog.text


def test_many_are_told_in_parts(engine: Noting, webhook: Webhook):
    with telling(engine, Target(webhook.url)) as (told,):
        engine.finds(*(finding(f"v{number}") for number in range(2_500)))  # more than one page of changes
        until(lambda: len(webhook.firing()) == 2_500 and caught_up(told))
    assert max(map(len, webhook.posts)) == alerting.ALERTS_A_POST


# ---- restarts and kills


def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path, webhook: Webhook):
    path = tmp_path / "changes"
    engine = Noting(path)
    with telling(engine, Target(webhook.url)) as (told,):
        engine.finds(finding("a"), finding("b"), finding("c"))
        until(lambda: len(webhook.firing()) == 3 and caught_up(told))
        engine.finds(finding("a", HEALED), finding("b"), finding("c"))
        until(lambda: len(webhook.firing()) == 2 and caught_up(told))
    engine.finds(finding("a", HEALED), finding("b", HEALED), finding("c"))
    webhook.posts.clear()
    with telling(Noting(path), Target(webhook.url)) as (told,):
        until(lambda: webhook.firing() == {"lost-update/vpc/c/uid"} and caught_up(told))
    assert {one["labels"]["name"] for one in webhook.told() if "endsAt" in one} == {"b"}, "a was told already"


def test_killed_between_what_it_sent_and_noting_it_the_same_is_told_again(tmp_path: Path, webhook: Webhook):
    path = tmp_path / "changes"
    with telling(Noting(path), Target(webhook.url)) as (told,):
        until(lambda: caught_up(told))
    Noting(path).finds(finding())
    Noting(path).finds(finding(status=HEALED))

    def run(what: str) -> int:
        command = [sys.executable, "-m", "tests.adapters.alerting_child", what, str(path), webhook.url]
        return subprocess.run(command, cwd=ROOT, timeout=30).returncode

    assert run("killed") == -signal.SIGKILL
    assert run("killed") == -signal.SIGKILL
    assert len(webhook.told()) == 2 and run("well") == 0
    assert len(webhook.told()) == 3 and run("well") == 0
    assert len(webhook.told()) == 3, "it was noted: nothing is told again"
    assert webhook.told()[0] == webhook.told()[1] == webhook.told()[2]


@pytest.mark.parametrize("name", ["s0-buggy", "mixed-small"])
def test_told_by_a_real_engine_it_fires_what_the_findings_say_at_the_end(tmp_path: Path, webhook: Webhook, name: str):
    path = tmp_path / "live.ledger"
    lines = list(lines_of(name))
    # Late and shuffled: what opens in between may be withdrawn.
    parts = [lines[start::7] for start in range(7)]
    with app.opened(str(path)) as store:
        engine = Live(store, str(path), window=0.05)
        engine.start()
        with telling(engine, Target(webhook.url)) as (told,):
            for number, part in enumerate(parts):
                engine.intake.inlet("webhook", "audit.k8s.io").take(part)
                webhook.faults.extend([("status", 503), ("lost", 0)] if number % 2 else [])
                time.sleep(0.15)
            assert engine.stop(60)
            wanted = {one["id"] for one in engine.findings()["findings"] if one["status"] == OPEN}
            assert wanted
            until(lambda: caught_up(told) and webhook.firing() == wanted)


# ---- who it is, and what is kept secret


def test_over_tls_with_an_authority_of_its_own_and_a_token_that_is_read_anew(engine: Noting, tmp_path: Path):
    authority, token = trustme.CA(), tmp_path / "token"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    engine.finds(finding())
    with Webhook(context, token="new-token") as webhook:
        with telling(engine, Target(webhook.url)) as (stranger,):
            until(lambda: "certificate" in stranger.state().error.lower())
        token.write_text("old-token\n")
        with telling(engine, Target(webhook.url, token, tmp_path / "ca.pem")) as (told,):
            until(lambda: "--alert-token-file" in told.state().error)
            assert "401" in told.state().error and "old-token" not in told.state().error
            token.write_text("new-token\n")
            until(webhook.firing)


def test_a_file_that_cannot_be_used_is_named_and_waited_for(engine: Noting, webhook: Webhook, tmp_path: Path):
    token, ca = tmp_path / "token", tmp_path / "ca"
    engine.finds(finding())
    with telling(engine, Target("https://127.0.0.1:9", None, ca)) as (told,):
        until(lambda: f"--alert-ca {ca} cannot be used: No such file" in told.state().error)
        ca.write_text("no certificate")
        until(lambda: "No such file" not in told.state().error and "--alert-ca" in told.state().error)
    with telling(engine, Target(webhook.url, token)) as (told,):
        until(lambda: f"--alert-token-file {token}: No such file" in told.state().error)
        token.write_bytes(b"two words \xff")
        until(lambda: "holds no token" in told.state().error)
        assert "two words" not in told.state().error
        token.write_text("good")
        until(webhook.firing)
    assert webhook.heads[0]["authorization"] == "Bearer good"


def test_no_secret_is_in_a_log_a_state_or_the_file_of_changes(
    engine: Noting, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    token = tmp_path / "token"
    token.write_text("secret-token")
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    logs.begin("json", "debug")
    try:
        login = "Basic " + base64.b64encode(b"alice:secret-word").decode()
        with Webhook(login=login) as webhook:
            address = webhook.url.replace("//", "//alice:secret-word@") + "/api/v2/alerts?key=secret-key"
            webhook.faults.append(("status", 500))
            with telling(engine, Target(address)) as (told,):
                engine.finds(finding())
                until(lambda: webhook.asked > 1)
                state = told.state()
            webhook.stop()
            with telling(engine, Target(webhook.url, token)) as (other,):
                until(lambda: other.state().failures > 2)
    finally:
        root.handlers[:], level, logging.raiseExceptions = before
        root.setLevel(level)
    said = capfd.readouterr().err + repr(state) + repr(other.state())
    assert "not heard" in said and "secret" not in said and "alice" not in said
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.glob("shop.ledger.changes*"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a:b@am.example:9093/x?token=c#d", "https://***@am.example:9093/x?***"),
        ("https://am.example", "https://am.example"),
        ("http://[", "(an address that cannot be read)"),
    ],
)
def test_an_address_is_shown_without_what_lets_one_in(url: str, shown: str):
    assert masked(url) == shown


@pytest.mark.parametrize("url", ["am.example:9093", "ftp://am.example", "http://", "http://[", "https://u:secret@"])
def test_an_address_that_is_none_is_a_sentence_without_secrets(engine: Noting, url: str):
    with pytest.raises(StoreError, match="is no address") as error:
        AlertWebhook(engine, Target(url))
    assert "secret" not in str(error.value)


def test_options_that_cannot_be_meant_so_say_what_to_write():
    assert labels_of(["cluster=shop", "team=a=b"]) == {"cluster": "shop", "team": "a=b"}
    for wrong in ("cluster", "1=a", "a=", "severity=x"):
        with pytest.raises(StoreError, match="--alert-label"):
            labels_of([wrong])
    assert severities_of("error, warning") == {"error", "warning"}
    with pytest.raises(StoreError, match="there is no 'fatal'; what there is: error, warning"):
        severities_of("fatal")


def test_a_bug_in_telling_is_said_and_does_not_end_it(
    engine: Noting, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    broken = threading.Event()

    def wrong(*given: Any) -> None:
        broken.set()
        raise RuntimeError("no")

    engine.finds(finding())
    right = alerting.alert
    monkeypatch.setattr(alerting, "alert", wrong)
    with telling(engine, Target(webhook.url)) as (told,):
        until(lambda: "please report it" in told.state().error)
        monkeypatch.setattr(alerting, "alert", right)
        until(webhook.firing)
    assert json.dumps(caplog.text)
