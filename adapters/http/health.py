"""`/livez` and `/readyz`: whether the process answers, and whether it should be sent anything, check by check.

As with a kube-apiserver, anybody may ask, and only who may read is told why a check fails; the log has it in any case.
Whom the daemon tells stands there too, and one who does not answer is no reason to send it nothing.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from anyio import CapacityLimiter

from adapters.paper import counted

if TYPE_CHECKING:
    from adapters.http.service import Service

KEPT_SECONDS = 1.0
"""For how long an answer stands: whoever asks more often is told the same."""
_log = logging.getLogger(__name__)


class Readiness:
    """The checks, run at most once a second however many ask."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}
        self._at = -KEPT_SECONDS
        self.threads = CapacityLimiter(2)
        self.stopping = False

    def checks(self) -> dict[str, str]:
        """Each check with what is wrong, empty where nothing is."""
        with self._lock:
            if time.monotonic() - self._at >= KEPT_SECONDS:
                found = {name: _tried(check) for name, check in self._all().items()}
                for name, why in found.items():
                    if why and why != self._found.get(name):
                        _log.warning("not ready: %s: %s", name, why)
                self._found, self._at = found, time.monotonic()
            return {**self._found, "stopping": "it is about to end" if self.stopping else ""}

    def notes(self) -> list[str]:
        """How the sources are that are fetched, and those who are told. One that cannot be reached makes nothing unready."""
        lines = []
        for feed in self._service.feeds:
            state = feed.state()
            for one in (state, *state.parts):
                name = one.name if one is state else f"{state.name} {one.name}"
                if one.error:
                    lines.append(f"[!]source {name}: {one.error}")
                elif one.waits:
                    lines.append(f"[!]source {name} waits: {one.waits}")
                else:
                    lines.append(f"[+]source {name} {'ok' if one.connected else 'is not connected yet'}")
        for outlet in self._service.outlets:
            state = outlet.state()
            if state.error:
                lines.append(f"[!]{state.name}: {state.error}")
            else:
                lines.append(f"[+]{state.name} {'ok' if state.connected else 'was told nothing yet'}")
        return lines

    def _all(self) -> dict[str, Callable[[], str]]:
        return {"ledger": self._ledger, "engine": self._engine, "disk": self._disk, "lag": self._lag}

    def _ledger(self) -> str:
        self._service.live.stand()
        return ""

    def _engine(self) -> str:
        return self._service.live.failure() or ""

    def _disk(self) -> str:
        folder, least = self._service.folder, self._service.bounds.free
        if folder is None:
            return ""
        free = shutil.disk_usage(folder).free
        return "" if free >= least else f"{folder} has {counted(free, 'byte')} left, below the {least:,} of --min-free"

    def _lag(self) -> str:
        lag, most = self._service.live.stand().lag, self._service.bounds.lag_seconds
        return "" if lag <= most else f"the oldest record that is not decided came {lag:.0f} s ago, above {most:g} s"


def _tried(check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:
        return str(error) or type(error).__name__


def told(name: str, checks: dict[str, str], notes: Sequence[str] = (), *, verbose: bool, why: bool) -> tuple[int, str]:
    """Status and text, as a kube-apiserver prints them; `notes` fail nothing."""
    failed = [check for check, wrong in checks.items() if wrong]
    if not failed and not verbose:
        return 200, "ok"
    lines = [
        f"[-]{check} failed: {wrong if why else 'reason withheld'}" if wrong else f"[+]{check} ok"
        for check, wrong in checks.items()
    ]
    lines += notes if why else ()
    return (503 if failed else 200), "\n".join([*lines, f"{name} check {'failed' if failed else 'passed'}", ""])
