"""Tells the service manager how far the daemon is (sd_notify), where it said where to tell it: `NOTIFY_SOCKET`."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def tell(*states: str) -> None:
    """Such as `READY=1`. Nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        sending.connect("\0" + address[1:] if address.startswith("@") else address)
        sending.send("\n".join(states).encode())


def watchdog_seconds() -> float | None:
    """How often to say `WATCHDOG=1`: twice in the time that the manager gives. `None` where it does not ask."""
    given, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not given.isdecimal() or int(given) == 0 or (process and process != str(os.getpid())):
        return None
    return int(given) / 2_000_000
