"""The unit fits the daemon: what it hands over, how long it waits, where it may write; and a daemon runs by its settings."""

import gzip
import re
import shlex
import tomllib
from pathlib import Path

import httpx2 as httpx
import pytest

from adapters.cli.serving import settings
from adapters.daemon import END_SECONDS
from tests.adapters.http.conftest import as_
from tests.adapters.http.daemons import Daemon
from tests.deploy.settings import READER, ROOT, SENDER_NAME, made_in, serve
from tests.replaying import DATA

FOLDER = ROOT / "deploy" / "systemd"


def unit() -> dict[str, list[str]]:
    """The unit's keys with all that is said of each."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / "netledger.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def said(key: str) -> str:
    (value,) = unit()[key]
    return value


def environment(credentials: str = "%d") -> dict[str, str]:
    return dict(each.replace("%d", credentials).split("=", 1) for each in unit()["Environment"])


def told() -> dict[str, object]:
    return tomllib.loads((FOLDER / "netledger.toml").read_text())


def test_it_says_when_it_is_ready_and_that_it_is_alive():
    assert said("Type") == "notify"
    assert int(said("WatchdogSec")) >= 10, "it says so twice in that time, and a disk may be slow"


def test_a_restored_ledger_has_the_time_to_be_folded():
    assert said("TimeoutStartSec") == "30min"


def test_it_has_the_time_that_it_takes_to_end():
    assert int(said("TimeoutStopSec")) > END_SECONDS + 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ],
)
def test_it_may_do_no_more_than_it_needs(key: str, value: str):
    assert said(key) == value


def test_memory_is_bounded():
    sizes = [int(said(key).removesuffix("M").replace("2G", "2048")) for key in ("MemoryHigh", "MemoryMax")]
    assert sizes == sorted(sizes)


def test_the_ledger_and_all_that_is_temporary_lie_in_the_one_folder_that_it_may_write():
    state = f"/var/lib/{said('StateDirectory')}"
    assert str(Path(str(told()["ledger"])).parent) == state
    assert environment()["TMPDIR"] == state


def test_every_variable_is_a_setting_and_every_credential_is_handed_over():
    known = {option.envvar for option in settings()}
    given = {name: value for name, value in environment().items() if name.startswith("NETLEDGER_")}
    assert set(given) <= known
    credentials = dict(each.split(":", 1) for each in unit()["LoadCredential"])
    assert set(given.values()) == {f"%d/{name}" for name in credentials}
    assert all(path == f"/etc/netledger/{name}" for name, path in credentials.items())


def test_no_setting_stands_in_two_places():
    variables = {option.envvar: str(option.name).replace("_", "-") for option in settings()}
    assert not {variables[name] for name in environment() if name in variables} & set(told())


def test_the_unit_starts_the_daemon_with_the_settings_beside_it():
    program, *words = shlex.split(said("ExecStart"))
    assert program == "/opt/netledger/bin/netledger"
    assert words == ["serve", "--config", "/etc/netledger/netledger.toml"]


def test_the_settings_are_ones_that_the_daemon_takes():
    printed = serve("--config", FOLDER / "netledger.toml", "--print-config")
    assert printed.returncode == 0, printed.stderr
    from_file = {line.partition(" = ")[0] for line in printed.stdout.splitlines() if "# file:" in line}
    assert from_file == set(told())


def test_an_api_server_can_post_to_a_daemon_with_these_settings_and_prometheus_can_read(tmp_path: Path):
    secrets = made_in(tmp_path / "credentials")
    own = {name: value for name, value in environment(str(secrets.folder)).items() if name.startswith("NETLEDGER_")}
    body = gzip.decompress((DATA / "s0-buggy" / "webhook-body.json.gz").read_bytes())
    # The last of several options wins: the port is one that is free, and of loopback.
    with Daemon("--config", FOLDER / "netledger.toml", "--ledger", tmp_path / "live.ledger", **own) as daemon:
        host, port = daemon.ready()
        url = f"https://{host}:{port}"
        with httpx.Client(verify=secrets.context(SENDER_NAME)) as sender:
            assert sender.post(f"{url}/ingest/audit", content=body).status_code == 200
            assert sender.get(f"{url}/metrics").status_code == 403, "it may post, and no more"
        with httpx.Client(verify=secrets.context("somebody")) as stranger:
            assert stranger.post(f"{url}/ingest/audit", content=body).status_code == 403
        with httpx.Client(verify=secrets.context()) as reader:
            assert reader.get(f"{url}/livez").text == "ok"
            metrics = reader.get(f"{url}/metrics", headers=as_(READER))
            recognised = re.search(r'^netledger_records_total{outcome="recognised"} (\S+)$', metrics.text, re.MULTILINE)
            assert recognised is not None and float(recognised[1]) > 0
        assert daemon.end() == 0
