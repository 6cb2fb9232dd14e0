"""What an address such as `postgresql://host/netledger` or `shop.ledger` stands for: the store that is opened there.

A store keeps a ledger and its journal. Which module keeps them is told by the address's scheme, and only that module is
imported, so that a file asks for no server's library. `sqlite.py` is the one that needs nothing.
"""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from adapters.ports import Backend, Mode, StoreError

SCHEMES = {
    "sqlite": "sqlite",
    "redis": "redis_server",
    "rediss": "redis_server",
    "redis+sentinel": "redis_server",
    "rediss+sentinel": "redis_server",
    "redis+cluster": "redis_server",
    "rediss+cluster": "redis_server",
    "postgresql": "postgres_server",
    "postgres": "postgres_server",
}
"""Which module of this folder opens what bears this scheme. An address without one is a file's path."""


class Opener(Protocol):
    """A module that opens stores."""

    def opened(self, address: str, mode: Mode, *, allow_volatile: bool = False) -> AbstractContextManager[Backend]:
        """The store at `address`, closed when the block ends. Raises `StoreError`."""
        ...


def opened(address: str, mode: Mode = "write", *, allow_volatile: bool = False) -> AbstractContextManager[Backend]:
    """The store at an address. `allow_volatile` accepts one that may forget what it acknowledged. Raises `StoreError`."""
    scheme = scheme_of(address)
    module = cast(Opener, import_module(f"adapters.stores.{SCHEMES[scheme]}"))
    return module.opened(address, mode, allow_volatile=allow_volatile)


def scheme_of(address: str) -> str:
    """`sqlite` for a path. Raises `StoreError` for a scheme that is not known."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return "sqlite"
    if scheme not in SCHEMES:
        raise StoreError(
            f"{shown(address)}: nothing here opens a {scheme}:// address; what there is: a file's path, "
            + ", ".join(f"{known}://" for known in SCHEMES)
        )
    return scheme


def path_of(address: str) -> Path | None:
    """The file that an address stands for; `None` where it is a server's. `sqlite:////var/lib/x` is `/var/lib/x`."""
    if scheme_of(address) != "sqlite":
        return None
    _, separator, rest = address.partition("://")
    return Path(unquote(rest.removeprefix("/"))) if separator else Path(address)


def beside(address: str, suffix: str) -> Path:
    """Where what follows from a store is kept: beside its file, or, of a server's, in this user's cache folder."""
    if (path := path_of(address)) is not None:
        return path.with_name(f"{path.name}.{suffix}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netledger"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return cache / f"{blake2b(shown(address).encode(), digest_size=8).hexdigest()}.{suffix}"


def shown(address: str) -> str:
    """An address as it may be printed: without the password."""
    if "://" not in address:
        return address
    address = re.sub(r"(password=)[^&#]*", r"\1***", address)
    parts = urlsplit(address)
    if parts.password is None:
        return address
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()


def masked(url: str) -> str:
    """An address as it may be printed: whoever may send to it is not named, and what stands behind `?` neither."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    host = parts.netloc.rpartition("@")[2]
    secret = "***@" if "@" in parts.netloc else ""
    return parts._replace(netloc=secret + host, query="***" if parts.query else "", fragment="").geturl()
