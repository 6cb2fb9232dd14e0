"""What the crash tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: nothing here has to outlive this machine's own power."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path, prefix="netledger-") as folder:
        yield Path(folder)


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "shop.ledger"
