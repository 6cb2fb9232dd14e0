"""What the daemon is told: flags before the environment before the file, nothing unknown taken, nothing secret printed."""

from __future__ import annotations

import ssl
import tomllib
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from adapters import app, daemon
from adapters.cli import cli
from adapters.cli.serving import settings
from adapters.http.access import AccessError
from adapters.http.server import bound
from adapters.settings import Settings, SettingsError, is_loopback
from tests.adapters.http.conftest import READER


def serve(*options: str | Path, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(cli, ["serve", *map(str, options)])


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a daemon would have run with."""
    found: list[Settings] = []
    monkeypatch.setattr(daemon, "run", found.append)
    return found


def told(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ---- where a value comes from


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path, ran: list[Settings]):
    config = told(
        tmp_path / "c.toml", 'ledger = "file"\nwindow = 1.5\nmax-body = "1MiB"\nclient = ["a=read", "b=ingest"]\n'
    )
    result = serve("--config", config, "--window", "3", NETLEDGER_LEDGER="environment", NETLEDGER_WINDOW="2")
    assert result.exit_code == 0, result.output
    (found,) = ran
    assert (found.window, found.ledger, found.max_body) == (3.0, "environment", 1 << 20)
    assert found.clients == ("a=read", "b=ingest") and found.listen == ("127.0.0.1", 8440)


def test_without_anything_said_the_defaults_are_those_of_the_settings(ran: list[Settings]):
    assert serve("--ledger", "x").exit_code == 0
    assert ran == [Settings("x")]


def test_every_setting_has_one_option_and_one_variable():
    several = {"client": "clients", "source": "sources"}
    names = {several.get(str(option.name), option.name) for option in settings()}
    assert names == set(Settings._fields)
    for option in settings():
        assert option.envvar == f"NETLEDGER_{str(option.name).upper()}"
    # Kubernetes sets these in pods beside a Service called netledger.
    assert not {"NETLEDGER_PORT", "NETLEDGER_SERVICE_HOST", "NETLEDGER_SERVICE_PORT"} & {o.envvar for o in settings()}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listne = 'x'", "no key 'listne'; did you mean listen"),
        ("max_bdy = 1", "did you mean max-body or"),
        ("[limits]\nbody = 1", "no key 'limits'"),
        ("check = true", "no key 'check'"),
        ("ledger = ['a']", "ledger is one value"),
        ("client = 'a=read'", "client is a list of texts"),
        ("max-body = 1\nmax_body = 2", "max-body stands there twice"),
        ("window = ", "is no TOML"),
        ("window = 'soon'", "'soon' is not a valid float range. (in "),
        ("max-body = '64MB'", "'64MB' is no size; write bytes, or such as 64MiB (in "),
        ("listen = '8440'", "'8440' is no address; write HOST:PORT"),
        ("max-body = true", "is no size"),
    ],
)
def test_what_a_file_says_wrong_is_told_with_its_place(tmp_path: Path, ran: list[Settings], text: str, says: str):
    result = serve("--ledger", "x", "--config", told(tmp_path / "c.toml", text))
    assert result.exit_code == 2 and says in " ".join(result.output.split()), result.output
    assert "c.toml" in result.output and ran == []


def test_what_the_environment_says_wrong_is_told_with_its_name(ran: list[Settings]):
    result = serve("--ledger", "x", NETLEDGER_MAX_LAG="never")
    assert result.exit_code == 2 and "NETLEDGER_MAX_LAG" in result.output and ran == []


def test_a_file_that_is_not_there_is_said(ran: list[Settings]):
    result = serve("--ledger", "x", "--config", "/none/such.toml")
    assert result.exit_code == 2 and "/none/such.toml: No such file" in result.output


def test_without_a_ledger_nothing_begins(ran: list[Settings]):
    result = serve()
    assert result.exit_code == 2 and "--ledger FILE" in result.output


# ---- --print-config


def test_printed_settings_say_where_they_come_from_and_are_settings_again(tmp_path: Path, ran: list[Settings]):
    config = told(tmp_path / "c.toml", 'max-lag = 7\nclient = ["a=read"]\nlisten = "[::1]:9"\n')
    result = serve(
        "--config", config, "--print-config", "--window", "3", "--no-auth", NETLEDGER_LEDGER="redis://me:hunter2@host/0"
    )
    assert result.exit_code == 0 and "hunter2" not in result.output
    lines = result.output.splitlines()
    assert f"max-lag = 7.0  # file: {config}" in lines and "window = 3.0  # flag" in lines
    assert 'ledger = "redis://me:***@host/0"  # environment: NETLEDGER_LEDGER' in lines
    assert "max-body = 67108864  # default" in lines and "# tokens is not set" in lines
    again = serve("--config", told(tmp_path / "again.toml", result.output))
    assert again.exit_code == 0, again.output
    assert ran == [
        Settings("redis://me:***@host/0", ("::1", 9), no_auth=True, clients=("a=read",), max_lag=7.0, window=3.0)
    ]
    assert set(tomllib.loads(result.output)) < {str(option.name).replace("_", "-") for option in settings()}


# ---- what does not fit together


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_only_this_machines_own_addresses_are_loopback(host: str, loopback: bool):
    assert is_loopback(host) is loopback


OPEN = Settings("x", ("0.0.0.0", 8440))
HERE = Settings("x")
FILE = Path("file")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (OPEN, r"a certificate .* and credentials"),
        (OPEN._replace(tls_cert=FILE), "credentials"),
        (OPEN._replace(tokens=FILE), "a certificate"),
        (OPEN._replace(no_auth=True, tls_cert=FILE), "credentials"),
        (OPEN._replace(tls_cert=FILE, client_ca=FILE), "--client NAME=RIGHT"),
        (HERE._replace(clients=("a=read",)), "--client-ca FILE"),
        (HERE._replace(tls_key=FILE), "add --tls-cert"),
        (HERE._replace(client_ca=FILE, clients=("a=read",)), "add --tls-cert"),
        (HERE._replace(no_auth=True, tokens=FILE), "--no-auth lets everybody in"),
    ],
)
def test_what_would_let_in_whoever_comes_by_is_refused(given: Settings, says: str):
    with pytest.raises(SettingsError, match=says):
        given.require_safe()


@pytest.mark.parametrize(
    "given",
    [
        HERE,
        HERE._replace(no_auth=True),
        OPEN._replace(tls_cert=FILE, tokens=FILE),
        OPEN._replace(tls_cert=FILE, client_ca=FILE, clients=("a=read",)),
    ],
)
def test_what_is_safe_is_taken(given: Settings):
    given.require_safe()


@pytest.mark.parametrize("client", ["a", "=read", "a=", "a=write"])
def test_a_client_without_a_name_or_a_right_is_refused(client: str):
    with pytest.raises(AccessError, match="--client"):
        HERE._replace(clients=(client,)).access(make=False)


# ---- --check


def looked(given: Settings) -> dict[str, tuple[str, bool]]:
    return {about: (says, right) for about, says, right in daemon.check(given)}


def test_a_check_of_what_is_right_begins_nothing(tmp_path: Path):
    result = serve("--check", "--ledger", tmp_path / "shop.ledger", "--listen", "127.0.0.1:0")
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.output.splitlines()] == [
        "[+]settings",
        "[+]ledger",
        "[+]address",
        "[+]certificate",
        "[+]access",
        "[+]sources",
        "[+]told",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_check_names_all_that_is_wrong_at_once(tmp_path: Path):
    tokens = told(tmp_path / "tokens", f"{READER} reader read")
    tokens.chmod(0o644)
    told(tmp_path / "shop.ledger", "no ledger at all")
    told(tmp_path / "cert.pem", "no certificate")
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        options = ("--ledger", tmp_path / "shop.ledger", "--tokens", tokens, "--tls-cert", tmp_path / "cert.pem")
        result = serve("--check", *options, "--listen", f"127.0.0.1:{port}", "--max-in-flight", "1KiB")
    assert result.exit_code == 2
    said = {line.partition(":")[0]: line for line in result.output.splitlines()}
    assert "--max-in-flight" in said["[-]settings"]
    assert "shop.ledger" in said["[-]ledger"]
    assert "cannot be listened on" in said["[-]address"]
    assert "no certificate" in said["[-]certificate"]
    assert "chmod o-rwx" in said["[-]access"] and READER not in result.output


def test_a_check_says_who_holds_the_ledger(tmp_path: Path):
    with app.opened(str(tmp_path / "l")):
        says, right = looked(Settings(str(tmp_path / "l"), ("127.0.0.1", 0)))["ledger"]
    assert not right and "l" in says
    assert looked(Settings(str(tmp_path / "l"), ("127.0.0.1", 0)))["ledger"][1]


def test_a_check_looks_at_certificates(tmp_path: Path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = Settings(
        str(tmp_path / "l"),
        ("0.0.0.0", 0),
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
        client_ca=tmp_path / "ca.pem",
        clients=("api=ingest",),
    )
    assert all(right for _, right in looked(given).values())
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    assert "the key is the certificate's" in looked(given)["certificate"][0]
    (tmp_path / "key.pem").unlink()
    assert looked(given)["certificate"] == (f"{tmp_path / 'key.pem'}: No such file or directory", False)
    assert ssl.OPENSSL_VERSION


def test_a_folder_that_is_not_there_is_said(tmp_path: Path):
    says, right = looked(Settings(str(tmp_path / "none" / "l"), ("127.0.0.1", 0)))["ledger"]
    assert not right and str(tmp_path / "none") in says


def test_a_check_names_the_sources_and_no_password(tmp_path: Path):
    (tmp_path / "kubeconfig").write_text("clusters: []\n")
    given = Settings(
        ledger=str(tmp_path / "shop.ledger"),
        sources=("redis://me:secret@127.0.0.1:1/0/audit?group=g",),
        follow=("/var/log/audit.log",),
    )
    says, right = looked(given)["sources"]
    assert right and "/var/log/audit.log" in says and "audit" in says and "secret" not in says
    says, right = looked(given._replace(watch=True, kubeconfig=tmp_path / "kubeconfig"))["sources"]
    assert not right and "kubeconfig" in says
    assert not looked(given._replace(sources=("redis://127.0.0.1:1/0",)))["sources"][1]
    with pytest.raises(SettingsError, match="add --watch"):
        Settings(ledger="x", kubeconfig=tmp_path / "kubeconfig").require_safe()
