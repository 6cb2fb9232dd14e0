"""What the daemon is told: one value for each option of `netledger serve`, wherever it came from, checked together.

`cli/serving.py` reads flags, environment and file into it; `daemon.py` works by it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from adapters.http.access import Access, AccessError, Tokens, make_token, rights_of
from adapters.http.server import Certificate
from adapters.stores.backends import beside, masked, path_of, shown


class SettingsError(Exception):
    """What was told does not fit together. The message says what, why not, and what to add."""


class Settings(NamedTuple):
    """Sizes are in bytes, times in seconds. What each means, `netledger serve --help` and docs/serve.md say."""

    ledger: str
    listen: tuple[str, int] = ("127.0.0.1", 8440)
    tokens: Path | None = None
    no_auth: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    clients: tuple[str, ...] = ()
    allow_volatile: bool = False
    watch: bool = False
    kubeconfig: Path | None = None
    cluster: str | None = None
    sources: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    window: float = 5.0
    patience: float | None = None
    max_body: int = 64 << 20
    max_in_flight: int = 256 << 20
    max_batches: int = 64
    max_connections: int = 1000
    max_streams: int = 64
    max_head: int = 64 << 10
    head_timeout: float = 10.0
    request_timeout: float = 30.0
    idle_timeout: float = 90.0
    max_lag: float = 300.0
    min_free: int = 64 << 20
    alert_webhook: tuple[str, ...] = ()
    alert_severity: str = "error,warning"
    alert_label: tuple[str, ...] = ()
    alert_token_file: Path | None = None
    alert_ca: Path | None = None
    external_url: str | None = None
    kubernetes_events: bool = False
    publish: tuple[str, ...] = ()
    log_format: str = "auto"
    log_level: str = "info"

    @property
    def place(self) -> str:
        """Where it listens, as a person writes it."""
        host, port = self.listen
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def folder(self) -> Path | None:
        """Where the ledger's file is; `None` where a server keeps it."""
        path = path_of(self.ledger)
        return None if path is None else path.absolute().parent

    @property
    def own_tokens(self) -> Path:
        """The file of tokens that is made at the first start, where none is named."""
        return beside(self.ledger, "token")

    @property
    def certificate(self) -> Certificate | None:
        """What TLS needs; `None` without it. Raises `SettingsError`."""
        if self.tls_cert is None:
            if self.tls_key is not None or self.client_ca is not None:
                raise SettingsError("without a certificate there is no TLS: add --tls-cert FILE (and --tls-key FILE)")
            return None
        return Certificate(self.tls_cert, self.tls_key or self.tls_cert, self.client_ca)

    def require_safe(self) -> None:
        """Raises `SettingsError` for what would let in whoever comes by."""
        self.certificate  # noqa: B018
        if bool(self.clients) != (self.client_ca is not None):
            raise SettingsError(
                "client certificates need both: --client-ca FILE, which signs them, and --client NAME=RIGHT,RIGHT for each"
            )
        if self.no_auth and (self.tokens is not None or self.clients):
            raise SettingsError("--no-auth lets everybody in: leave it out, or leave --tokens and --client out")
        self._require_safe_alerts()
        if self.kubeconfig is not None and not (self.watch or self.kubernetes_events):
            raise SettingsError(
                "--kubeconfig says how to reach the API server: add --watch or --kubernetes-events, or leave it out"
            )
        if is_loopback(self.listen[0]):
            return
        missing = []
        if self.tls_cert is None:
            missing.append("a certificate (--tls-cert FILE --tls-key FILE)")
        if self.tokens is None and not self.clients:
            missing.append("credentials (--tokens FILE, or --client-ca FILE --client NAME=RIGHT)")
        if missing:
            raise SettingsError(
                f"{self.place} is more than this machine: there, {' and '.join(missing)} must be given; or listen on "
                "127.0.0.1, and let a proxy that checks who comes stand before it"
            )

    def _require_safe_alerts(self) -> None:
        for url in self.alert_webhook:
            try:
                parts = urlsplit(url)
                named = self.alert_token_file is not None or "@" in parts.netloc
                if named and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                    raise SettingsError(
                        f"--alert-webhook {masked(url)} would send credentials to another machine for all between to read: "
                        "use https:// (with --alert-ca FILE where its certificate is your own)"
                    )
            except ValueError:
                continue  # `alerting` says what is wrong with it

    def access(self, *, make: bool) -> Access:
        """Who may ask; `make` makes a token where there is none yet. Raises `AccessError`."""
        clients = rights_by_name(self.clients)
        if self.no_auth:
            return Access(None, open=True)
        path = self.tokens
        if path is None and is_loopback(self.listen[0]) and not clients:
            path = self.own_tokens
            if not path.exists() and make:
                make_token(path)
            elif not path.exists():
                return Access(None)
        return Access(Tokens(path) if path is not None else None, clients)


def rights_by_name(clients: tuple[str, ...]) -> Mapping[str, frozenset[str]]:
    """`NAME=read,ingest` for each client certificate. Raises `AccessError`."""
    found = {}
    for one in clients:
        name, separator, rights = one.rpartition("=")
        if not separator or not name:
            raise AccessError(f"--client {one}: it is NAME=RIGHT,RIGHT, such as audit-sender=ingest")
        found[name] = rights_of(rights, f"--client {name}")
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_value(name: str, value: object) -> object:
    """A value as it may be printed."""
    if name == "ledger" and isinstance(value, str):
        return shown(value)
    if name == "source" and isinstance(value, tuple | list):
        return [shown_source(one) for one in value]
    if name == "alert_webhook" and isinstance(value, tuple):
        return tuple(masked(one) for one in value)
    if name == "publish" and isinstance(value, tuple):
        return tuple(shown(one) for one in value)
    return value


def shown_source(address: str) -> str:
    """A stream's address without its password."""
    from adapters.feeds.redis_stream import read_address

    return read_address(address).shown
