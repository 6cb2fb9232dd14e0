"""The copy that `test_transfer` kills: `python -m tests.adapters.copying_child SOURCE TARGET`."""

import sys

from adapters import transfer
from adapters.stores import backends


def main(source: str, target: str) -> None:
    # Small blocks, so that a kill meets many of them.
    transfer.BLOCK_ROWS = 1
    print("started", flush=True)
    with backends.opened(source, "read") as one, backends.opened(target) as other:
        transfer.copy((one.recorder, one.journal), (other.recorder, other.journal), source)


if __name__ == "__main__":
    main(*sys.argv[1:])
