"""Tells a webhook, or the cluster of a kubeconfig, in a process of its own.

`killed` dies once it was heard, before that is noted; `well` ends when all is told.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from adapters import outlets
from adapters.alerting import AlertWebhook, Target
from adapters.announcing import KubernetesEvents
from tests.adapters.noting import Noting


def main(what: str, path: str, target: str) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # whoever started it may be killed: it ends then, too
    outlets.WAIT_SECONDS = 0.02  # type: ignore[misc]
    engine = Noting(Path(path))
    if what == "killed":
        setattr(engine, "tell", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
    webhook = AlertWebhook(engine, Target(target)) if "//" in target else KubernetesEvents(engine, target)
    stop = threading.Event()
    thread = threading.Thread(target=webhook.run, args=(stop,), daemon=True)
    thread.start()
    while webhook.state().position == "" and not (webhook.state().connected and webhook.behind() == 0):
        time.sleep(0.01)
    stop.set()
    thread.join(5)


if __name__ == "__main__":
    main(*sys.argv[1:])
