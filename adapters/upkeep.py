"""Keeps what questions are answered from up to a log that grows: its trail and its checkpoints, so that no question does.

Both are files beside the ledger that follow from it. They are brought up before the daemon is ready, now and then by a
thread while it runs, and once more when it ends, so that the next start finds little to do. What it has not come to, a
question reads from the log itself. `live.py` holds one; `trail_index.py` and `checkpoints.py` are what it keeps.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from adapters.checkpoints import Checkpoints
from adapters.ledger import START, Ledger
from adapters.ports import Recorder
from adapters.stores.backends import beside
from adapters.trail_index import SEGMENT_EVENTS, Stretch, Trail

SECONDS: Final = 1.0
"""How often it looks."""
SHARE: Final = 20
"""It takes at most one part in so many of the time."""
CHECKPOINT_EVENTS: Final = 1_000
"""From how many on the checkpoints are brought up: until then a question folds them quickly."""

log = logging.getLogger(__name__)


class _Growing:
    """How far a log goes at any time: what a trail that outlives one question follows."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # Nobody prunes a ledger that is being served.
        self.start = Ledger(recorder).start if recorder.base() is not None else START

    @property
    def head(self) -> int:
        return self._recorder.head()

    def stretches(self) -> list[Stretch]:
        return Ledger(self._recorder).stretches()


class Upkeep:
    """That of one ledger, which is open for writing."""

    def __init__(self, recorder: Recorder, address: str) -> None:
        """`address` is the ledger's."""
        self._recorder = recorder
        self._checkpoints_path = beside(address, "checkpoints")
        self.trail = Trail(beside(address, "trail"), _Growing(recorder), recorder)
        """The one that all questions share."""
        self._trail_upto = self._checkpoints_upto = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def checkpoints(self, ledger: Ledger) -> Checkpoints:
        """Those of one question, which no question brings up."""
        return Checkpoints(self._checkpoints_path, ledger, self._recorder, kept_up=True)

    def start(self) -> None:
        """Bring up what is behind, and go on doing so. Raises `StoreError`."""
        self._bring_up(everything=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Bring it up once more, for so many seconds at most: what is left, the next start does."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = SECONDS
        while not self._stopping.wait(pause):
            pause = self._try(everything=False)
        self._try(everything=True)

    def _try(self, *, everything: bool) -> float:
        """Gives for how many seconds to rest after it."""
        began = time.monotonic()
        try:
            self._bring_up(everything=everything)
        except Exception:
            # A full disk, or a store that was closed under it: questions read the log itself meanwhile.
            if not self._stopping.is_set():
                log.exception(
                    "the trail and the checkpoints beside the ledger cannot be brought up; answers take longer"
                )
        return max(SHARE * (time.monotonic() - began), SECONDS)

    def _bring_up(self, *, everything: bool) -> None:
        head = self._recorder.head()
        if everything or head - self._trail_upto >= SEGMENT_EVENTS:
            self.trail.catch_up()
        elif head > self._trail_upto:
            self.trail.known()  # what is new is held in memory, and written down when it is much
        self._trail_upto = head
        behind = head - self._checkpoints_upto >= (1 if everything else CHECKPOINT_EVENTS)
        if behind and Checkpoints(self._checkpoints_path, Ledger(self._recorder), self._recorder).catch_up():
            self._checkpoints_upto = head
