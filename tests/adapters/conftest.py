"""What the tests of the stores share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores.sqlite_file import SQLiteFile

LONG_SEARCH = os.environ.get("NETLEDGER_SEARCH") == "long"


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "shop.ledger"


@pytest.fixture
def ledger_file(ledger_path: Path) -> Iterator[SQLiteFile]:
    with SQLiteFile(ledger_path) as file:
        yield file
