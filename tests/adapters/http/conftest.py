"""What the tests of the HTTP side share: a service over a ledger in a file, and a client in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapters import app
from adapters.http.access import Access, Tokens
from adapters.http.routes import application
from adapters.http.service import Bounds, Service
from tests.adapters.http.double import Double

READER, SENDER, OPERATOR = "reader-" + "r" * 16, "sender-" + "s" * 16, "operator-" + "o" * 16

BOUNDS = Bounds(body=12 << 20, in_flight=16 << 20, request_seconds=2.0, heartbeat_seconds=0.1, free=1)


def as_(token: str) -> dict[str, str]:
    """The header that says who one is."""
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def tokens_path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who\n{READER} reader read\n{SENDER} sender ingest\n{OPERATOR} alice command,read\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Double]:
    with app.opened(str(tmp_path / "shop.ledger")) as store:
        yield Double(store, str(tmp_path / "shop.ledger"))


@pytest.fixture
def service(live: Double, tokens_path: Path, tmp_path: Path) -> Iterator[Service]:
    made = Service(live, Access(Tokens(tokens_path)), BOUNDS, tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(application(service), raise_server_exceptions=False) as client:
        yield client
