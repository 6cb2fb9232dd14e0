"""A daemon started with the settings of a file in `deploy/`, its secrets made for the test, on a free port of loopback."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import trustme

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
READER = "reader-" + "r" * 24
SENDER_NAME = "api-server"


class Secrets(NamedTuple):
    """What an operator makes, in one folder: `tokens`, `tls.crt`, `tls.key` and `ca.crt`."""

    folder: Path
    authority: trustme.CA

    def context(self, name: str = "") -> ssl.SSLContext:
        """A client's, with a certificate of that name where one is given."""
        made = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())
        if name:
            self.authority.issue_cert("client.example", common_name=name).configure_cert(made)
        return made


def made_in(folder: Path) -> Secrets:
    """Secrets of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(folder / "tls.key"))
    for number, pem in enumerate(server.cert_chain_pems):
        pem.write_to_path(str(folder / "tls.crt"), append=number > 0)
    (folder / "tokens").write_text(f"{READER} prometheus read\n")
    for path in folder.iterdir():
        path.chmod(0o440)
    return Secrets(folder, authority)


def serve(*options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`netledger serve` run to its end, with no other setting from outside."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("NETLEDGER_")}
    code = "from adapters.start import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "serve", *map(str, options)],
        cwd=ROOT,
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
