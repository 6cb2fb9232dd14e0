"""Who may do what: three rights that do not include each other, and no way to learn a token from what is said."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapters.http import access
from adapters.http.access import ANYBODY, Access, AccessError, Denied, Tokens, make_token
from adapters.http.routes import ROUTES
from adapters.http.service import Service
from tests.adapters.http.conftest import OPERATOR, READER, SENDER, as_

NEED = [(described.method, described.path, described.right) for described, _ in ROUTES if described.right]


def filled(path: str) -> str:
    return path.format(kind="vpc", name="shop", namespace="web", id="x", position="1", node="n")


@pytest.mark.parametrize(("method", "path", "right"), NEED)
def test_every_route_asks_for_its_right_before_anything_else(client: TestClient, method: str, path: str, right: str):
    nobody = client.request(method, filled(path))
    assert nobody.status_code == 401 and nobody.headers["www-authenticate"].startswith("Bearer")
    wrong = client.request(method, filled(path), headers=as_("x" * 32))
    assert wrong.status_code == 401 and "x" * 32 not in wrong.text
    other = READER if right != "read" else SENDER
    forbidden = client.request(method, filled(path), headers=as_(other))
    assert forbidden.status_code == 403 and f"`{right}`" in forbidden.json()["detail"]


def test_health_is_answered_to_anybody(client: TestClient):
    assert client.get("/livez").text == "ok"
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("given", ["Basic abc", "Bearer", "Bearer ", "bearer \xff\xfe", READER, f"Token {READER}"])
def test_what_is_no_known_token_is_refused(client: TestClient, given: str):
    answer = client.get("/v1/findings", headers={b"authorization": given.encode("latin-1")})
    assert answer.status_code == 401


def test_the_scheme_is_read_as_http_says(client: TestClient):
    assert client.get("/v1/findings", headers={"authorization": f"bearer {READER}"}).status_code == 200


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_may_stand_there_as_its_hash_alone(tmp_path: Path):
    digest = hashlib.sha256(READER.encode()).hexdigest()
    tokens = Tokens(write(tmp_path / "t", f"\n# comment\n  sha256:{digest.upper()} reader read\n"))
    assert tokens.actor(READER) == ("reader", frozenset({"read"}))
    assert tokens.actor(digest) is None and tokens.actor("") is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"{READER} reader", "three words"),
        (f"{READER} reader read, ingest", "three words"),
        (f"{READER} reader write", "no right 'write'"),
        ("short reader read", "shorter than 16"),
        ("sha256:abc reader read", "64 hexadecimal"),
        ("# nobody", "holds no token"),
    ],
)
def test_a_wrong_line_is_told_by_its_place_and_not_by_its_token(tmp_path: Path, line: str, says: str):
    with pytest.raises(AccessError, match=says) as raised:
        Tokens(write(tmp_path / "t", line))
    assert READER not in str(raised.value) and "short " not in str(raised.value).replace("shorter", "")


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666])
def test_a_file_that_everybody_may_read_is_refused_with_what_to_do(tmp_path: Path, mode: int):
    with pytest.raises(AccessError, match="chmod o-rwx"):
        Tokens(write(tmp_path / "t", f"{READER} reader read", mode))
    Tokens(write(tmp_path / "t", f"{READER} reader read", 0o640))


def test_a_changed_file_holds_at_once_and_a_broken_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(access, "REREAD_SECONDS", 0.0)
    path = write(tmp_path / "t", f"{READER} reader read")
    tokens = Tokens(path)
    write(path, f"{SENDER} sender ingest")
    assert tokens.actor(READER) is None and tokens.actor(SENDER) is not None
    write(path, f"{OPERATOR} alice comm")
    assert tokens.actor(SENDER) is not None and tokens.actor(OPERATOR) is None
    path.unlink()
    assert tokens.actor(SENDER) is not None
    assert "those from before stay" in caplog.text and OPERATOR not in caplog.text


def test_every_token_is_compared_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("adapters.http.access.hmac.compare_digest", compare)
    lines = "\n".join(f"{'t' * 20}{number} n{number} read" for number in range(5))
    tokens = Tokens(write(tmp_path / "t", lines))
    tokens.actor("t" * 20 + "0")
    assert len(compared) == 5


def test_a_made_token_is_for_this_user_alone_and_never_made_twice(tmp_path: Path):
    old = os.umask(0)
    try:
        make_token(tmp_path / "t")
    finally:
        os.umask(old)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600
    token = (tmp_path / "t").read_text().splitlines()[1].split()[0]
    assert len(token) == 64 and Tokens(tmp_path / "t").actor(token) == ANYBODY._replace(name="admin")
    with pytest.raises(AccessError, match="exists"):
        make_token(tmp_path / "t")


def test_a_client_certificate_has_the_rights_that_its_name_was_given():
    known = Access(None, {"api-server": frozenset({"ingest"})})
    assert known.require("ingest", {}, "api-server").name == "api-server"
    for right, name, status in [("read", "api-server", 403), ("ingest", "mallory", 403), ("ingest", None, 401)]:
        with pytest.raises(Denied) as raised:
            known.require(right, {}, name)
        assert raised.value.status == status


def test_a_wrong_token_is_not_made_good_by_a_certificate():
    with pytest.raises(Denied, match="not known"):
        Access(None, {"a": frozenset({"read"})}).require("read", as_("y" * 32), "a")


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"host": "127.0.0.1:8440"}, True),
        ({"host": "localhost"}, True),
        ({"host": "[::1]:8440"}, True),
        ({"host": "rebound.example:8440"}, False),
        ({"host": "127.0.0.1:8440", "origin": "https://page.example"}, False),
        ({}, False),
    ],
)
def test_without_authentication_a_page_in_a_browser_is_still_kept_out(headers: dict[str, str], let_in: bool):
    everybody = Access(None, open=True)
    if let_in:
        assert everybody.require("command", headers, None) == ANYBODY
    else:
        with pytest.raises(Denied):
            everybody.require("command", headers, None)


def test_nothing_that_is_logged_holds_a_token_or_a_query(
    client: TestClient, service: Service, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    client.get(f"/v1/findings?status=open&token={OPERATOR}", headers=as_(READER))
    client.get("/v1/findings", headers=as_("z" * 40))
    lines = [str({**record.__dict__}) for record in caplog.records if record.name.startswith(("netledger", "adapters"))]
    assert any("/v1/findings" in line for line in lines)
    assert not any(secret in line for line in lines for secret in (OPERATOR, READER, "z" * 40, "status=open"))
