"""The floor that replay is measured against: parse every line of a file with `json.loads`, and keep nothing.

A separate program, as netledger is one, so that both pay for starting Python. `run` measures it.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    loads = json.loads
    with Path(sys.argv[1]).open("rb") as file:
        for line in file:
            loads(line)


if __name__ == "__main__":
    main()
