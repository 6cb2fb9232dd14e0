"""`netledger serve` in a process of its own, on the stand-in for the live engine: for signals, limits and kills."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

from adapters import daemon
from adapters.cli import main
from tests.adapters.http.double import Double

FLOOD = 100


class Child(Double):
    """Does on a signal what a test needs: SIGUSR1 makes a change, SIGUSR2 a flood of them."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, lambda *_: self.change("opened", {"id": "one", "status": "open"}))
            signal.signal(signal.SIGUSR2, lambda *_: self._flood())

    def start(self) -> None:
        super().start()
        if os.environ.get("CHILD_SLOW_START"):
            time.sleep(30)
        if seconds := os.environ.get("CHILD_SLOW_COMMIT"):
            commit = self.store.journal.commit

            def slowly(*given: Any) -> Any:
                time.sleep(float(seconds))
                return commit(*given)

            setattr(self.store.journal, "commit", slowly)  # noqa: B010 - a test's own, for all who hold the journal

    def _flood(self) -> None:
        # More than the buffers of two sockets hold, and no more than a queue does.
        large = {"id": "x" * 200_000, "status": "open"}
        for _ in range(FLOOD):
            self.change("opened", large)

    def stop(self, timeout: float = 8.0) -> bool:
        if os.environ.get("CHILD_STUCK"):
            time.sleep(60)
        return super().stop(timeout)


if __name__ == "__main__":
    # Whoever started it may be killed: it ends then, too.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    daemon.HTTP_SECONDS = float(os.environ.get("CHILD_HTTP", daemon.HTTP_SECONDS))
    if not os.environ.get("CHILD_REAL"):
        daemon.__dict__["Live"] = Child
    daemon.END_SECONDS = float(os.environ.get("CHILD_END", daemon.END_SECONDS))
    sys.argv[0] = "netledger"
    main()
