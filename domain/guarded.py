"""What every kind with a finalizer has in common: the three writes that its deletion is made of.

Deletion has three shapes (kube-ovn, all kinds): with a finalizer (request, guard, removal), without one (request and
removal are one), and heard of only after it was asked for (a controller's restart, or a log that starts late).
`subnet`, `vpc` and the others build their vocabulary on this.
"""

from __future__ import annotations

from typing import Any

from domain.events import Write, appears, one_of
from domain.operations import DELETION, FINALIZERS


def guarded_writes(prefix: str) -> tuple[Write, ...]:
    """How the deletion request and the finalizer's coming and going are named for one kind."""
    return (
        Write(f"{prefix}DeletionRequested", one_of(DELETION), appears),
        Write(f"{prefix}Guarded", one_of(FINALIZERS), _grows),
        Write(f"{prefix}Unguarded", one_of(FINALIZERS)),
    )


def _grows(before: Any, after: Any) -> bool:
    return bool(set(after or ()) - set(before or ()))
