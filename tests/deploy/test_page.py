"""docs/deploy.md keeps its word: its credentials are made as it says, and what it names is there."""

import os
import re
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.daemon import END_SECONDS
from adapters.http.access import Tokens
from adapters.settings import Settings
from tests.deploy.settings import ROOT, SENDER_NAME, serve
from tests.replaying import DATA

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def test_the_credentials_that_the_page_makes_are_ones_that_the_daemon_takes(tmp_path: Path):
    (script,) = [block for block in blocks() if "openssl req -x509" in block]
    made = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, f"the page needs bash and openssl 3: install them\n{made.stderr}"
    assert not [path.name for path in tmp_path.iterdir() if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    tokens = Tokens(tmp_path / "tokens")
    rights = {}
    for name in ("prometheus", "operator"):
        actor = tokens.actor((tmp_path / f"{name}.token").read_text().strip())
        assert actor is not None and actor.name == name
        rights[name] = set(actor.rights)
    assert rights == {"prometheus": {"read"}, "operator": {"read", "command"}}
    checked = serve(
        *("--ledger", tmp_path / "live.ledger", "--listen", "127.0.0.1:0", "--check"),
        *("--tls-cert", tmp_path / "netledger.crt", "--tls-key", tmp_path / "netledger.key"),
        *("--client-ca", tmp_path / "ca.crt", "--client", f"{SENDER_NAME}=ingest", "--tokens", tmp_path / "tokens"),
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    shake_hands(tmp_path)


def shake_hands(folder: Path) -> None:
    """TLS between the two certificates, in memory: each side believes the other, and knows its name."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    server.load_cert_chain(folder / "netledger.crt", folder / "netledger.key")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    for context in (server, client):
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as later Pythons do by themselves
    client.load_cert_chain(folder / f"{SENDER_NAME}.crt", folder / f"{SENDER_NAME}.key")
    for name in ("netledger.example", "10.96.0.44"):
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = server.wrap_bio(up, down, server_side=True)
        theirs = client.wrap_bio(down, up, server_hostname=name)
        done: set[ssl.SSLObject] = set()
        for _ in range(10):
            for side in (theirs, ours):
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    pass
        assert done == {ours, theirs}
        shown = ours.getpeercert()
        assert shown is not None and shown["subject"] == ((("commonName", SENDER_NAME),),)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with the daemon's ledger as the page calls it, and one for what is kept elsewhere."""
    for name in ("state", "backup", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "netledger").write_text(f"#!{sys.executable}\nfrom adapters.start import main\nmain()\n")
    (tmp_path / "bin" / "netledger").chmod(0o755)
    run(tmp_path, f"netledger replay {DATA / 's0-buggy' / 'audit.log.gz'} --ledger /var/lib/netledger/live.ledger", 1)
    return tmp_path


def run(folder: Path, script: str, status: int = 0) -> str:
    """What commands of the page print, in that folder."""
    for there, here in (("/var/lib/netledger", "state"), ("/backup", "backup")):
        script = script.replace(there, str(folder / here))
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_backup_of_the_page_is_whole_and_is_brought_up_to_date(kept: Path):
    (script,) = [block for block in blocks() if block.startswith("netledger copy")]
    run(kept, script)
    run(kept, f"netledger replay {DATA / 's1-buggy' / 'audit.log.gz'} --ledger /var/lib/netledger/live.ledger", 1)
    (told,) = re.findall(r"`(netledger verify [^`]*)`", PAGE)
    run(kept, f"{script.splitlines()[0]}\n{told}")
    assert run(kept, "netledger findings --ledger /backup/live.ledger", 1) == run(
        kept, "netledger findings --ledger /var/lib/netledger/live.ledger", 1
    )


def test_the_backup_out_of_a_container_is_whole(kept: Path):
    (block,) = [block for block in blocks() if "docker exec" in block]
    docker, kubectl, taken_back = block.splitlines()
    inside = {docker.removeprefix("docker exec netledger "), kubectl.partition(" -- ")[2]}
    assert len(inside) == 1, "both do the same"
    run(kept, f"{inside.pop()}\n{taken_back}")
    assert run(kept, "netledger findings --ledger /backup/live.ledger", 1) == run(
        kept, "netledger findings --ledger /var/lib/netledger/live.ledger", 1
    )


def test_every_file_that_the_commands_name_is_there():
    named = {name for block in blocks() for name in re.findall(r"\bdeploy/[\w./+-]+", block)}
    assert len(named) > 6
    for name in named:
        assert (ROOT / name).exists(), name


def test_what_the_page_says_of_times_and_bounds_is_so():
    assert END_SECONDS < 10 and "The daemon ends within ten seconds" in PAGE
    bounds = Settings("")
    assert f"`--max-in-flight` lets in at once ({bounds.max_in_flight >> 20} MiB of bodies" in PAGE
    assert f"`--max-body` ({bounds.max_body >> 20} MiB)" in PAGE
    assert f"`--window` ({bounds.window:g} s)" in PAGE
