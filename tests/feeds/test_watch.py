"""The watch of a cluster, against a stand-in that replays what a real API server told: what was missed is told."""

import gzip
import json
import random
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.feeds import watch
from adapters.feeds.feed import FeedState
from adapters.feeds.watch import Watch
from adapters.ingest import ingest
from adapters.intake import Intake
from adapters.ports import Journal, StoreError
from adapters.sources.objects import FORMAT
from adapters.stores import backends
from domain.resources import KINDS, Key
from tests.adapters.conftest import LONG_SEARCH
from tests.feeds.conftest import DATA, records_of, running, until
from tests.servers.api_server import ApiServer, Change, changes_in
from tests.servers.proxy import Proxy

KILLS = 40 if LONG_SEARCH else 3
HERE = ("namespaces", "vpcs.kubeovn.io", "subnets.kubeovn.io", "ips.kubeovn.io", "iptables-eips.kubeovn.io")


@pytest.fixture(scope="session")
def recorded() -> list[Change]:
    return changes_in(gzip.decompress((DATA / "mixed-small" / "watch.jsonl.gz").read_bytes()).splitlines())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a minute in the field, takes moments here."""
    monkeypatch.setattr(watch, "MOST_SECONDS", 0.1)
    monkeypatch.setattr(watch, "LATER_SECONDS", 0.2)
    monkeypatch.setattr(watch, "PAGE_OBJECTS", 7)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer(HERE) as server:
        yield server


@contextmanager
def watching(api: ApiServer, ledger: str, **more: Any) -> Iterator[tuple[Watch, Journal, Intake]]:
    with backends.opened(ledger) as backend:
        intake = Intake(backend.journal, lambda records: None)
        more.setdefault("kinds", [kind for kind in KINDS if kind.api in (*HERE, "pods")])
        feed = Watch(intake, api.kubeconfig(Path(ledger).parent), cluster="shop", **more)
        with running(feed):
            yield feed, backend.journal, intake


def connected(feed: Watch) -> bool:
    parts = [part for part in feed.state().parts if not part.waits]
    return len(parts) == len(HERE) and all(part.connected for part in parts)


def part_of(feed: Watch, api: str) -> FeedState:
    return next(part for part in feed.state().parts if part.name == api)


def offline(api: ApiServer, ledger: str, first: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The records of each kind's list and what came behind it, each a file of its own, replayed."""
    folder = Path(ledger).parent / "offline"
    folder.mkdir(exist_ok=True)
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d","annotations":{"%s":"true"}}}}'
    with backends.opened(str(folder / "ledger")) as backend:
        for name in HERE:
            path = folder / f"{name}.json"
            begin = (first or {}).get(name, bookmark % (1, b"k8s.io/initial-events-end"))
            path.write_bytes(b"\n".join([begin, *api.told.get(name, [])]))
            ingest(str(path), backend.journal, format=FORMAT)
        return records_of(backend.journal)


def test_what_was_there_is_a_snapshot_and_what_happens_then_is_kept_as_it_was_received(
    api: ApiServer, ledger: str, recorded: list[Change]
):
    api.happen(recorded[:60])
    lists = {name: list_of(api, name) for name in HERE}
    api.told.clear()
    with watching(api, ledger, kinds=watch.SERVED) as (feed, journal, _):
        until(lambda: connected(feed))
        assert len(feed.state().waits.split("; ")) == 14, "the kinds that are not installed are waited for"
        api.happen(recorded[60:400])
        api.bookmark()
        api.happen(recorded[400:])
        wanted = offline(api, ledger, lists)
        until(lambda: journal.head() == len(wanted))
        assert records_of(journal) == wanted
        endings = {identity.rpartition("/")[2] for identity in wanted}
        assert endings == {"shown", "created", "seen", "gone"}
        assert sum(identity.endswith("created") for identity in wanted) > 50
        assert feed.state().failures == 0 and list(journal.kept_aside()) == []
    pages = [asked for name, asked in api.asked if name == "namespaces" and "watch" not in asked]
    assert pages[0] == {"limit": "7"} and all(asked.get("continue") for asked in pages[1:])


def list_of(api: ApiServer, name: str) -> bytes:
    """All that is there, and the mark that says that what follows happens."""
    mark = {"metadata": {"resourceVersion": str(api.revision), "annotations": {"k8s.io/initial-events-end": "true"}}}
    return api.list_of(name) + b"\n" + json.dumps({"type": "BOOKMARK", "object": mark}).encode()


def test_it_goes_on_where_it_was_over_restarts_of_both_and_every_fault_of_the_network(
    api: ApiServer, ledger: str, recorded: list[Change]
):
    chance = random.Random(4)
    steps = [recorded[first : first + 63] for first in range(0, len(recorded), 63)]
    assert len(steps) == 12
    for step in steps[:2]:  # it is stopped, and begun again
        with watching(api, ledger) as (feed, _, _):
            until(lambda: connected(feed))
            api.happen(step[:40])
        api.happen(step[40:])
    with watching(api, ledger) as (feed, journal, _):
        until(lambda: connected(feed))
        for number, step in enumerate(steps[2:8]):
            api.faults += [("cut", chance.randint(1, 30_000)) for _ in range(4)]
            api.faults += [("status", 500), ("status", 429), ("late", 0.05)]
            api.end_watches()
            api.happen(step)
            if number == 3:
                api.stop()
                until(lambda: not feed.state().connected)
                api.start()
        wanted = offline(api, ledger)
        until(lambda: journal.head() == len(wanted), 15)
        assert records_of(journal) == wanted
        until(lambda: connected(feed))
        assert feed.state().failures > 5 and feed.state().error == ""
        assert list(journal.kept_aside()) == []
    lists = [name for name, asked in api.asked if "watch" not in asked and asked["limit"] != "1"]
    assert sorted(lists) == sorted(HERE), "each kind is listed once, at the very first"


def test_a_watch_that_is_killed_at_any_moment_misses_nothing(api: ApiServer, ledger: str, recorded: list[Change]):
    kubeconfig = api.kubeconfig(Path(ledger).parent)
    chance = random.Random(9)
    stop = threading.Event()

    def happening() -> None:
        for change in recorded:
            api.happen([change])
            if stop.wait(0.002):
                return

    happens = threading.Thread(target=happening)
    try:
        for number in range(KILLS):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.feeds.watch_child", kubeconfig, ledger], stdin=subprocess.PIPE
            )
            try:
                before = len(api.asked)
                until(lambda before=before: len({name for name, _ in api.asked[before:]}) == len(HERE))  # type: ignore[misc]
                if not number:
                    until(lambda: len([1 for _, asked in api.asked if "watch" in asked]) == len(HERE))
                    happens.start()
                time.sleep(chance.random() * 0.2)
            finally:
                child.kill()
                child.wait()
        happens.join()
    finally:
        stop.set()
    wanted = offline(api, ledger)
    with watching(api, ledger) as (_, journal, _):
        until(lambda: journal.head() == len(wanted))
        assert records_of(journal) == wanted


def test_bookmarks_are_asked_for_and_gone_on_from(api: ApiServer, ledger: str, recorded: list[Change]):
    api.happen(recorded[:50])
    with watching(api, ledger) as (feed, _, _):
        until(lambda: connected(feed))
        api.happen(change for change in recorded[50:200] if change.api == "vpcs.kubeovn.io")
        api.bookmark()
        now = str(api.revision)
        until(lambda: all(part.position == now for part in feed.state().parts if part.connected))
    api.asked.clear()
    with watching(api, ledger) as (feed, _, _):
        until(lambda: connected(feed))
    assert {asked["resourceVersion"] for _, asked in api.asked} == {now}
    assert {asked["allowWatchBookmarks"] for _, asked in api.asked} == {"true"}


@pytest.mark.parametrize("as_status", [False, True])
def test_a_revision_that_is_forgotten_leads_to_a_new_list_that_tells_what_was_missed(
    as_status: bool, api: ApiServer, ledger: str, recorded: list[Change]
):
    api.gone_as_status = as_status
    gone = next(change for change in recorded if change.type == "DELETED" and change.api == "ips.kubeovn.io")
    born = max(at for at, change in enumerate(recorded) if change.uid == gone.uid and change.type == "ADDED")
    api.happen(recorded[: born + 1])
    with watching(api, ledger) as (feed, _, _):
        until(lambda: connected(feed))
    api.happen(recorded[born + 1 : recorded.index(gone) + 20])
    api.forget()
    name = json.loads(gone.object)["metadata"]["name"]

    def known(kind: str) -> dict[str, Key]:
        return {gone.uid: Key("ip", "", name)} if kind == "ip" else {}

    with watching(api, ledger, known=known) as (feed, journal, _):
        until(lambda: connected(feed))
        until(lambda: all(part.position == str(api.revision) for part in feed.state().parts if part.connected))
        until(lambda: len([one for one in journal.kept_aside() if "(410 Expired)" in one.reason]) == len(HERE))
        until(lambda: connected(feed))
        reasons = [one.reason for one in journal.kept_aside()]
        assert len(reasons) == len(HERE)
        absent = [one for one in records_of(journal) if one.endswith("/absent")]
        assert [one.partition("@")[0] for one in absent] == [f"object:{gone.uid}"]
        shown = {f"object:{json.loads(one)['metadata']['uid']}" for name in HERE for one in api.there(name)[1]}
        assert shown <= {identity.partition("@")[0] for identity in records_of(journal)}
        before = set(records_of(journal))
        api.happen(recorded[recorded.index(gone) + 20 :])
        last = sum(len(lines) for lines in api.told.values())
        assert last
        until(lambda: any(one.endswith("/created") for one in set(records_of(journal)) - before))


def test_an_api_server_that_was_restored_from_a_backup_is_noticed(
    api: ApiServer, ledger: str, recorded: list[Change], monkeypatch: pytest.MonkeyPatch
):
    api.happen(recorded[:200])
    with watching(api, ledger) as (feed, _, _):
        until(lambda: connected(feed))
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.3)
    with ApiServer(HERE) as restored:
        restored.happen(recorded[:100])
        with watching(restored, ledger) as (feed, journal, _):
            until(
                lambda: len([1 for one in journal.kept_aside() if "restored from a backup" in one.reason]) == len(HERE)
            )
            until(lambda: all(part.position == str(restored.revision) for part in feed.state().parts if not part.waits))
            until(lambda: connected(feed))


def test_an_expired_token_is_told_and_a_new_one_in_the_file_is_found(
    api: ApiServer, ledger: str, recorded: list[Change]
):
    api.happen(recorded[:20])
    with watching(api, ledger) as (feed, _, _):
        until(lambda: connected(feed))
        api.token = "renewed"
        api.end_watches()
        until(lambda: "does not know who asks (401)" in feed.state().error)
        assert "good" not in json.dumps(feed.state().error) and "renewed" not in feed.state().error
        api.kubeconfig(Path(ledger).parent)
        until(lambda: connected(feed))


def test_certificates_that_are_not_accepted_are_told_and_new_ones_in_their_files_are_found(
    api: ApiServer, ledger: str, recorded: list[Change], tmp_path: Path
):
    api.happen(recorded[:20])
    server, client, stranger = (certificate(tmp_path, name) for name in ("server", "client", "stranger"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server)
    context.load_verify_locations(client[0])
    context.verify_mode = ssl.CERT_REQUIRED
    trusted, shown, key = (tmp_path / name for name in ("ca.crt", "client.crt", "client.key"))
    with Proxy(api.port, context) as proxy:
        path = Path(api.kubeconfig(tmp_path))
        made = json.loads(path.read_text())
        made["clusters"][0]["cluster"] = {
            "server": f"https://127.0.0.1:{proxy.port}",
            "certificate-authority": str(trusted),
        }
        made["users"][0]["user"] |= {"client-certificate": str(shown), "client-key": str(key)}
        api.kubeconfig = lambda folder: str(path)  # type: ignore[method-assign]
        path.write_text(json.dumps(made))
        trusted.write_bytes(stranger[0].read_bytes())
        shown.write_bytes(stranger[0].read_bytes())
        key.write_bytes(stranger[1].read_bytes())
        with watching(api, ledger) as (feed, _, _):
            until(lambda: "certificate verify failed" in feed.state().error)
            trusted.write_bytes(server[0].read_bytes())
            until(lambda: "certificate verify failed" not in feed.state().error and bool(feed.state().error))
            time.sleep(0.3)
            assert not feed.state().connected
            shown.write_bytes(client[0].read_bytes())
            key.write_bytes(client[1].read_bytes())
            until(lambda: connected(feed))


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.fail("no openssl to make a certificate with: install it (Debian: apt-get install openssl)")
    made, key = folder / f"{name}.pem", folder / f"{name}.key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    return made, key


def test_a_kind_that_may_not_be_read_is_told_and_the_rest_goes_on(api: ApiServer, ledger: str, recorded: list[Change]):
    api.forbidden.add("ips.kubeovn.io")
    with watching(api, ledger) as (feed, journal, _):
        until(lambda: "grant get, list and watch on ips.kubeovn.io" in part_of(feed, "ips.kubeovn.io").error)
        until(lambda: part_of(feed, "vpcs.kubeovn.io").connected)
        api.happen(recorded)
        until(lambda: journal.head() > 300)
        api.forbidden.clear()
        until(lambda: part_of(feed, "ips.kubeovn.io").connected)


def test_a_kind_that_is_installed_later_is_found(ledger: str, recorded: list[Change]):
    with ApiServer(["namespaces"]) as api:
        api.happen(recorded)
        with watching(api, ledger) as (feed, _, _):
            until(lambda: part_of(feed, "namespaces").connected)
            until(lambda: "not installed" in part_of(feed, "vpcs.kubeovn.io").waits)
            until(lambda: feed.state().connected)  # what waits for its installation is not broken
            api.served |= {"vpcs.kubeovn.io"}
            until(lambda: part_of(feed, "vpcs.kubeovn.io").connected)
            assert part_of(feed, "ips.kubeovn.io").waits


def test_an_event_that_cannot_be_read_is_kept_aside_and_the_rest_goes_on(
    api: ApiServer, ledger: str, recorded: list[Change]
):
    with watching(api, ledger) as (feed, journal, _):
        until(lambda: connected(feed))
        api.happen([recorded[20]._replace(object=b'{"metadata":{"uid":7}}'), *recorded[21:60]])
        wanted = offline(api, ledger)
        until(lambda: journal.head() == len(wanted))
        assert records_of(journal) == wanted
        assert len(list(journal.kept_aside())) == 1
        assert connected(feed)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "cannot be used"),
        ("clusters: [", "cannot be used"),
        ('{"clusters":[],"contexts":[],"current-context":"a"}', "Context 'a' not found"),
        (None, "not found"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named_with_the_reason(text: str | None, told: str, tmp_path: Path):
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError, match=told) as refused:
        watch.configuration(str(path))
    assert str(path) in str(refused.value)


def test_a_pods_service_account_is_used_and_a_kubeconfig_that_is_named_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with ApiServer(HERE) as api:
        monkeypatch.setenv("KUBECONFIG", api.kubeconfig(tmp_path))
        assert watch.configuration().cluster.server == api.url
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(StoreError, match="serviceaccount"):
        watch.configuration()
