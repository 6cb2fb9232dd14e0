"""Which run of a handler a line belongs to that does not say so: a script run in a gateway's pod, a guard's refusal.

kube-ovn has a worker or more for each queue, and a run that goes well logs no end. So a start is taken to be open until
its own queue starts another, its requeue line comes, or `LASTS` has passed; and a line belongs to the latest start of the
kind it speaks of. Where another start of that kind is about as late, nobody can tell, and it belongs to none.
`klog.py` is next: it feeds the starts and ends, and asks.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.resources import Key

LASTS = 60_000_000
"""Microseconds after which a start is no longer taken for what runs now: a script in a pod is given up before."""

APART = 2_000_000
"""Microseconds by which the latest start has to be later than any other, for a line to be its own."""

STARTS_KEPT = 1_000
"""Of how many resources of one kind the starts are remembered."""

_SEVERAL_WORKERS = frozenset({"pod", "subnet", "ip", "namespace", "node"})
"""Kinds whose queues have several workers, so that one start does not end the one before (dossier 1; `--worker-num`)."""


class Runs:
    """The runs that may be open, by kind and key: fed in the order of the log."""

    def __init__(self) -> None:
        self._open: dict[str, dict[Key, tuple[int, str]]] = {}

    def start(self, key: Key, queue: str, time: int) -> None:
        """A handler began; `time` is in microseconds since 1970."""
        runs = self._open.setdefault(key.kind, {})
        if key.kind not in _SEVERAL_WORKERS:
            for other in [other for other, (_, its) in runs.items() if its == queue]:
                del runs[other]
        runs.pop(key, None)
        runs[key] = (time, queue)
        if len(runs) > STARTS_KEPT:
            del runs[next(iter(runs))]

    def end(self, key: Key) -> None:
        """Its run is over, well or not."""
        self._open.get(key.kind, {}).pop(key, None)

    def at(self, kinds: Iterable[str], time: int) -> Key | None:
        """The resource whose run a line of that time belongs to; `None` if there is none, or nobody can tell."""
        found = [
            (start, key)
            for kind in kinds
            for key, (start, _) in self._open.get(kind, {}).items()
            if -APART <= time - start <= LASTS
        ]
        if not found:
            return None
        latest, key = max(found)
        return key if all(other == key or start <= latest - APART for start, other in found) else None

    def named(self, kinds: Iterable[str], name: str) -> Key | None:
        """The one resource of that name with an open run, where it may be of several kinds."""
        found = [key for kind in kinds for key in self._open.get(kind, {}) if key.path == name]
        return found[0] if len(found) == 1 else None
