"""The image holds what it needs and nothing else, by hashes; and its health check tells whether the daemon answers."""

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from adapters.cli.serving import settings
from tests.adapters.http.daemons import Daemon
from tests.deploy.settings import ROOT, made_in

FOLDER = ROOT / "deploy" / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def variables() -> dict[str, str]:
    """Those of the image itself: the last stage's."""
    last = DOCKERFILE.replace("\\\n", " ").rpartition("\nFROM ")[2]
    (said,) = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
    return dict(word.split("=", 1) for word in said.split())


def locked(path: Path) -> dict[str, str]:
    """The version of each package in a lock, every one of which has hashes."""
    text = path.read_text()
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==(\S+)(?: ;.*?)? \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^[A-Za-z]", text, re.MULTILINE)), "a package has no hash"
    return {name.lower().replace("_", "-"): version for name, version in found}


# ---- what is in it


def test_all_that_is_copied_is_there_and_is_sent_to_the_builder():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore, "all else stays out: ledgers, recordings, the environment"
    sources = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    sources = [source for source in sources if not source.startswith("--")]
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, each) or source.startswith(f"{each}/") for each in sent), source


def test_every_package_of_the_program_and_every_file_that_building_reads_is_copied():
    sources = {word for line in instructions("COPY") for word in line.split()}
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= sources
    project = PROJECT["project"]
    assert {"pyproject.toml", project["readme"], *project["license-files"]} <= sources


def test_the_lock_holds_what_the_program_needs_in_versions_that_it_takes():
    versions = locked(FOLDER / "run.lock")
    for line in PROJECT["project"]["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[requirement.name.lower()]), line


def test_the_lock_to_build_with_holds_what_building_needs():
    versions = locked(FOLDER / "build.lock")
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[requirement.name]), line


def test_nothing_that_only_developing_needs_is_in_the_image():
    needed = {Requirement(line).name.lower() for line in PROJECT["project"]["dependencies"]}
    developing = {
        Requirement(line).name.lower() for line in PROJECT["project"]["optional-dependencies"]["dev"]
    } - needed
    assert not developing & set(locked(FOLDER / "run.lock"))


@pytest.mark.parametrize("name", ["run.lock", "build.lock"])
def test_the_image_has_the_versions_that_are_tested(name: str):
    tested, shipped = locked(ROOT / "requirements.lock"), locked(FOLDER / name)
    both = set(tested) & set(shipped)
    assert len(both) > 4
    assert {each: shipped[each] for each in both} == {each: tested[each] for each in both}, "run `make lock`"


def test_nothing_is_installed_without_its_hash():
    (first, second) = [line for line in instructions("RUN") if "pip" in line]
    assert first.count(" install ") == first.count("--require-hashes --only-binary :all:") == 2
    assert "--no-deps" in second and "--no-build-isolation" in second
    assert second.count(" install ") == second.count("install --no-deps dist/") == 1


def test_both_stages_are_of_one_python_that_the_program_takes():
    images = {line.split(" AS ")[0] for line in instructions("FROM")}
    (image,) = images
    assert image == "python:3.12-slim", "a tag, of no registry by name"


def test_the_label_has_this_version():
    assert f'org.opencontainers.image.version="{PROJECT["project"]["version"]}"' in DOCKERFILE


# ---- how it runs


def test_it_runs_as_nobody_in_particular_and_writes_in_one_folder():
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "by number: Kubernetes cannot see that a name is not root"
    (folder,) = instructions("WORKDIR")[1:]
    assert f'VOLUME ["{folder}"]' in DOCKERFILE
    assert variables()["TMPDIR"] == folder
    assert Path(variables()["NETLEDGER_LEDGER"]).parent == Path(folder)
    assert variables()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_its_variables_are_settings_and_none_opens_it_to_others():
    given = {name for name in variables() if name.startswith("NETLEDGER_")}
    assert given <= {option.envvar for option in settings()}
    assert not given & {"NETLEDGER_NO_AUTH", "NETLEDGER_LISTEN", "NETLEDGER_TOKENS"}


def healthy(**environment: str) -> subprocess.CompletedProcess[str]:
    """The health check, with the proxies that a container may have been given."""
    given = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", **environment}
    command = [sys.executable, str(FOLDER / "healthcheck.py")]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=20)


def test_the_health_check_tells_a_daemon_that_answers_from_one_that_is_gone(tmp_path: Path):
    with Daemon("--ledger", tmp_path / "live.ledger") as daemon:
        _, port = daemon.ready()
        assert healthy(NETLEDGER_LISTEN=f"127.0.0.1:{port}").returncode == 0
        # What listens everywhere is asked on loopback.
        assert healthy(NETLEDGER_LISTEN=f"0.0.0.0:{port}").returncode == 0
        assert daemon.end() == 0
    gone = healthy(NETLEDGER_LISTEN=f"127.0.0.1:{port}")
    assert gone.returncode == 1 and "refused" in gone.stderr


def test_the_health_check_speaks_tls_where_the_daemon_does(tmp_path: Path):
    folder = made_in(tmp_path / "secrets").folder
    more = ("--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key", "--tokens", folder / "tokens")
    with Daemon("--ledger", tmp_path / "live.ledger", *more) as daemon:
        _, port = daemon.ready()
        listen = f"127.0.0.1:{port}"
        assert healthy(NETLEDGER_LISTEN=listen, NETLEDGER_TLS_CERT=str(folder / "tls.crt")).returncode == 0
        assert healthy(NETLEDGER_LISTEN=listen).returncode == 1
