"""The daemon as a process: how it begins and ends, and that nobody keeps others out by holding its sockets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from adapters import app
from adapters.daemon import END_SECONDS
from adapters.http import server
from adapters.http.server import Certificate, Limits, Server, bound
from tests.adapters.http.conftest import OPERATOR, READER, SENDER, as_
from tests.adapters.http.daemons import ROOT, Daemon, connected, everything, posted
from tests.adapters.http.serving_child import FLOOD
from tests.adapters.http.test_ingest import event, listed

LIMITS = (
    *("--head-timeout", "0.5"),
    *("--request-timeout", "1"),
    *("--max-connections", "40"),
    *("--max-head", "8KiB"),
    *("--max-body", "1MiB"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Path:
    path = folder / "tokens"
    path.write_text(f"{READER} reader read\n{SENDER} sender ingest\n{OPERATOR} alice command\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def limited(folder: Path, tokens: Path) -> Iterator[tuple[str, int]]:
    """A daemon with narrow limits, one for all tests that only try them."""
    with Daemon("--ledger", folder / "limited.ledger", "--tokens", tokens, *LIMITS) as daemon:
        yield daemon.ready()
        assert daemon.process.poll() is None, "it is there still, whatever was done to it"


def records(ledger: Path) -> int:
    with app.opened(str(ledger), "read") as store:
        return store.journal.head()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# ---- how it begins and ends


def test_a_signal_ends_it_with_0_and_what_was_acknowledged_is_there(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens) as daemon:
        address = daemon.ready()
        idle = connected(address)
        answer = httpx.post(
            f"http://127.0.0.1:{address[1]}/ingest/audit", content=listed(event(1)), headers=as_(SENDER)
        )
        assert answer.status_code == 200
        began = time.monotonic()
        assert daemon.end() == 0
        assert time.monotonic() - began < 5
        idle.close()
    assert records(tmp_path / "l") == 1
    assert [line["message"] for line in daemon.lines][-2:] == ["stopping", "stopped"]


def test_what_is_in_flight_is_answered_before_it_ends(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, CHILD_SLOW_COMMIT="0.6") as daemon:
        address = daemon.ready()
        connection = connected(address, posted(listed(event(1))))
        time.sleep(0.3)
        daemon.process.send_signal(signal.SIGINT)
        assert status(everything(connection)) == 200
        assert daemon.process.wait(10) == 0
    assert records(tmp_path / "l") == 1


def test_a_body_that_does_not_come_keeps_it_from_ending_for_a_while_only(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, CHILD_HTTP="1") as daemon:
        connection = connected(daemon.ready(), posted(listed(event(1)))[:-10])
        time.sleep(0.2)
        began = time.monotonic()
        assert daemon.end() == 0
        assert time.monotonic() - began < 3
        answer = everything(connection)
        assert status(answer) == 503 and b"send it again" in answer
    assert not [line for line in daemon.lines if "exception" in line]


def test_a_killed_daemon_loses_nothing_that_it_acknowledged(tmp_path: Path, tokens: Path):
    acknowledged = 0
    for run in range(2):
        with Daemon("--ledger", tmp_path / "l", "--tokens", tokens) as daemon:
            url = f"http://127.0.0.1:{daemon.ready()[1]}/ingest/audit"
            killer = threading.Timer(random.uniform(0, 0.1), daemon.process.kill)
            try:
                with httpx.Client(headers=as_(SENDER)) as client:
                    for number in range(10_000):
                        if client.post(url, content=listed(event(run * 10_000 + number))).status_code == 200:
                            acknowledged += 1
                        if number == 5:  # by time alone it might die before anything came
                            killer.start()
            except httpx.HTTPError:
                pass
            killer.join()
    assert acknowledged > 3
    assert acknowledged <= records(tmp_path / "l") <= acknowledged + 2


def test_a_second_signal_ends_it_at_once(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, CHILD_STUCK="1") as daemon:
        daemon.ready()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("stopping")
        time.sleep(0.5)
        began = time.monotonic()
        assert daemon.end() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 1


def test_an_engine_that_does_not_end_is_left_behind_in_time(tmp_path: Path, tokens: Path):
    assert END_SECONDS < 10
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, CHILD_STUCK="1", CHILD_END="1.5") as daemon:
        daemon.ready()
        began = time.monotonic()
        assert daemon.end() == 0
        assert 1 < time.monotonic() - began < 3


def test_a_signal_before_it_is_ready_ends_it_too(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, CHILD_SLOW_START="1") as daemon:
        while not (tmp_path / "l").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        assert daemon.end(timeout=5) == 0


def test_while_it_starts_it_takes_records_and_is_not_ready(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, CHILD_SLOW_START="1") as daemon:
        url = "http" + daemon.wait_for("listening")["address"].removeprefix("http")
        answer = httpx.post(f"{url}/ingest/audit", content=listed(event(1)), headers=as_(SENDER))
        assert answer.status_code == 200
        assert httpx.get(f"{url}/livez").status_code == 200
        assert all(line["message"] != "ready" for line in daemon.lines)
        daemon.process.kill()
    assert records(tmp_path / "l") == 1


def test_a_second_daemon_on_one_ledger_says_who_holds_it(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens) as daemon:
        daemon.ready()
        with Daemon("--ledger", tmp_path / "l", "--tokens", tokens) as second:
            assert second.process.wait(15) == 2
            time.sleep(0.1)
        assert any(str(daemon.process.pid) in line["message"] for line in second.lines), second.lines


def test_the_service_manager_is_told(tmp_path: Path, tokens: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, **environment) as daemon:
            assert manager.recv(1000).startswith(b"STATUS=takes records")
            while not (said := manager.recv(1000)).startswith(b"READY=1"):
                assert said == b"WATCHDOG=1"
            assert manager.recv(1000) == manager.recv(1000) == b"WATCHDOG=1"
            daemon.process.send_signal(signal.SIGTERM)
            while (said := manager.recv(1000)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1"


def test_without_credentials_a_token_is_made_and_only_its_place_is_said(tmp_path: Path):
    with Daemon("--ledger", tmp_path / "l") as daemon:
        url = f"http://127.0.0.1:{daemon.ready()[1]}/v1/findings"
        token = (tmp_path / "l.token").read_text().splitlines()[1].split()[0]
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers=as_(token)).status_code == 200
    said = json.dumps(daemon.lines)
    assert str(tmp_path / "l.token") in said and token not in said


# ---- TLS


def test_client_certificates_and_tokens_work_side_by_side_over_tls(tmp_path: Path, tokens: Path):
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ours.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))

    def context(issuer: trustme.CA | None, name: str = "") -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=ours.cert_pem.bytes().decode())
        if issuer is not None:
            issuer.issue_cert("client.example", common_name=name).configure_cert(made)
        return made

    options = (
        *("--tls-cert", tmp_path / "server.pem"),
        *("--client-ca", tmp_path / "ca.pem"),
        *("--client", "api-server=ingest"),
        *("--head-timeout", "0.5"),
    )
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, *options) as daemon:
        url = f"https://127.0.0.1:{daemon.ready()[1]}"

        def posting(context: ssl.SSLContext, **headers: str) -> int:
            with httpx.Client(verify=context) as client:
                return client.post(f"{url}/ingest/audit", content=listed(event(1)), headers=headers).status_code

        assert posting(context(ours, "api-server")) == 200
        assert posting(context(ours, "mallory")) == 403
        assert posting(context(None)) == 401
        assert posting(context(None), **as_(SENDER)) == 200
        with pytest.raises(httpx.HTTPError):
            posting(context(others, "api-server"))
        with httpx.Client(verify=context(ours, "api-server")) as client:
            assert client.get(f"{url}/v1/findings").status_code == 403, "it may post, and no more"
        began = time.monotonic()
        everything(connected(("127.0.0.1", int(url.rpartition(":")[2]))))
        assert time.monotonic() - began < 3, "a handshake that does not begin is ended"


def test_a_renewed_certificate_is_used_and_half_of_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = trustme.CA()

    def renew(*, key: bool = True) -> str:
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / "chain.pem"))
        if key:
            issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        return issued.cert_chain_pems[0].bytes().decode()

    async def story() -> None:
        first = renew()
        listener = bound("127.0.0.1", 0)
        certificate = Certificate(tmp_path / "chain.pem", tmp_path / "key.pem")
        served = Server(PlainTextResponse("ok"), listener, Limits(), certificate, grace=1)
        serving = asyncio.create_task(served.serve())

        async def shown() -> str:
            await asyncio.sleep(0.3)
            return await asyncio.to_thread(ssl.get_server_certificate, listener.getsockname())

        assert await shown() == first
        second = renew()
        assert await shown() == second
        renew(key=False)
        assert await shown() == second
        assert await shown() == second
        third = renew()
        assert await shown() == third
        served.should_exit = True
        await serving

    monkeypatch.setattr(server, "REREAD_SECONDS", 0.0)
    asyncio.run(story())


class Client:
    """A client certificate and who signed it."""

    def __init__(self, folder: Path, authority: trustme.CA, name: str) -> None:
        issued = authority.issue_cert("client.example", common_name=name)
        self.path = folder / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.path))

    def context(self, server: trustme.CA, *, session_reuse: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context()
        server.configure_trust(context)
        context.load_cert_chain(self.path)
        if session_reuse:
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # in which a session is there as soon as the handshake is
        return context


def who_answers(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.scope["state"]["connection"].common_name))


async def endless(request: Request) -> StreamingResponse:
    async def beats() -> AsyncIterator[bytes]:
        while True:
            yield b"beat\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(beats())


def test_clients_of_a_new_authority_get_in_and_those_of_the_one_before_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ours, old, new = trustme.CA(), trustme.CA(), trustme.CA()
    ours.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    clients = tmp_path / "clients.pem"
    old.cert_pem.write_to_path(str(clients))
    alice, bob = Client(tmp_path, old, "alice"), Client(tmp_path, new, "bob")
    certificate = Certificate(tmp_path / "server.pem", tmp_path / "server.pem", clients)

    def asked(url: str, client: Client) -> str:
        try:
            with httpx.Client(verify=client.context(ours)) as connection:
                return connection.get(url).text
        except httpx.TransportError:
            return "refused"

    def secured(address: tuple[str, int], context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        plain = socket.create_connection(address, timeout=10)
        return context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)

    async def story() -> None:
        listener = bound("127.0.0.1", 0)
        address = listener.getsockname()
        app = Starlette(routes=[Route("/", who_answers), Route("/endless", endless)])
        served = Server(app, listener, Limits(stuck_seconds=0.5), certificate, grace=1)
        serving = asyncio.create_task(served.serve())
        url = f"https://127.0.0.1:{address[1]}/"

        async def both() -> tuple[str, str]:
            await asyncio.sleep(0.3)
            return await asyncio.to_thread(asked, url, alice), await asyncio.to_thread(asked, url, bob)

        assert await both() == ("alice", "refused")
        proved = alice.context(ours, session_reuse=True)
        first = await asyncio.to_thread(secured, address, proved, None)
        again = await asyncio.to_thread(secured, address, proved, first.session)
        assert again.session_reused, "without this the test would not show that sessions end"
        kept = httpx.AsyncClient(verify=alice.context(ours))
        stranger = httpx.AsyncClient(verify=bob_without(ours))
        assert (await kept.get(url)).text == "alice" and (await stranger.get(url)).text == "None"

        async def follow() -> None:
            async with kept.stream("GET", f"{url}endless") as stream:
                async for _ in stream.aiter_lines():
                    pass

        following = asyncio.create_task(follow())
        clients.write_text("half of a certif")
        assert await both() == ("alice", "refused") and not following.done()
        clients.write_text("")
        new.cert_pem.write_to_path(str(clients))
        assert await both() == ("refused", "bob")
        with pytest.raises(httpx.TransportError):
            await kept.get(url)
        with pytest.raises(httpx.TransportError):
            await asyncio.wait_for(following, 5)
        assert (await stranger.get(url)).text == "None", "who showed no certificate is not disturbed"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            late = await asyncio.to_thread(secured, address, proved, first.session)
            late.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not late.session_reused and late.recv(100)[:12] != b"HTTP/1.1 200"
            raise ConnectionError
        clients.write_bytes(old.cert_pem.bytes() + new.cert_pem.bytes())
        assert await both() == ("alice", "bob")
        for one in (kept, stranger):
            await one.aclose()
        for sock in (first, again):
            sock.close()
        served.should_exit = True
        await serving
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=2)

    monkeypatch.setattr(server, "REREAD_SECONDS", 0.0)
    asyncio.run(story())


def bob_without(server: trustme.CA) -> ssl.SSLContext:
    """Of somebody who shows no certificate."""
    context = ssl.create_default_context()
    server.configure_trust(context)
    return context


# ---- limits


def test_a_thousand_idle_connections_keep_no_batch_out(folder: Path, tokens: Path):
    with (
        Daemon("--ledger", folder / "idle.ledger", "--tokens", tokens, "--max-connections", "500") as daemon,
        ExitStack() as stack,
    ):
        address = daemon.ready()
        for number in range(1000):
            begun = b"" if number % 2 else b"POST /ingest/audit HTTP/1.1\r\nHost: a\r\n"
            stack.enter_context(connected(address, begun))
        began = time.monotonic()
        with httpx.Client(headers=as_(SENDER)) as client:
            for number in range(20):
                answer = client.post(f"http://127.0.0.1:{address[1]}/ingest/audit", content=listed(event(number)))
                assert answer.status_code == 200
        assert time.monotonic() - began < 3


def test_a_head_that_does_not_end_is_ended(limited: tuple[str, int]):
    slow = connected(limited, b"GET /livez HTTP/1.1\r\nHost: a\r\n")
    silent = connected(limited)
    kept = connected(limited, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"200 OK" in kept.recv(1000)
    kept.sendall(b"GET /livez HT")
    began = time.monotonic()
    assert status(everything(slow)) == 408
    assert status(everything(silent)) == 408
    assert status(everything(kept)) == 408
    assert time.monotonic() - began < 2


def test_a_head_that_comes_drop_by_drop_is_ended_all_the_same(limited: tuple[str, int]):
    connection = connected(limited, b"GET /livez HTTP/1.1\r\n")
    began = time.monotonic()
    with pytest.raises(OSError):
        for _ in range(100):
            connection.sendall(b"a: b\r\n")
            time.sleep(0.05)
    assert time.monotonic() - began < 2
    connection.close()


@pytest.mark.parametrize("pieces", [1, 40], ids=["at once", "in pieces"])
@pytest.mark.parametrize("made", ["many", "long", "endless", "url"])
def test_a_head_that_is_too_large_is_refused(limited: tuple[str, int], made: str, pieces: int):
    head = {
        "many": b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 4_000 + b"\r\n",
        "long": b"GET /livez HTTP/1.1\r\na: " + b"b" * 20_000 + b"\r\n\r\n",
        "endless": b"GET /livez HTTP/1.1\r\na: " + b"b" * 20_000,
        "url": b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    }[made]
    connection = connected(limited)
    size = -(-len(head) // pieces)
    try:
        for start in range(0, len(head), size):
            connection.sendall(head[start : start + size])
            time.sleep(0.002)
    except OSError:
        pass
    # The answer may be lost with the rest of what was sent: that it ends is what counts.
    assert status(everything(connection)) in (431, 0)


def test_a_large_body_is_no_large_head(limited: tuple[str, int]):
    with httpx.Client(headers=as_(SENDER)) as client:
        for number in range(12):
            body = listed(*(event(number * 1000 + one) for one in range(60 * (number + 1))))
            assert client.post(f"http://127.0.0.1:{limited[1]}/ingest/audit", content=body).status_code == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /ingest/audit HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /ingest/audit HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
    ids=["TLS", "half a line", "a negative length", "two framings", "two lengths"],
)
def test_what_is_no_request_is_refused(limited: tuple[str, int], request_: bytes):
    assert status(everything(connected(limited, request_))) == 400


def test_a_body_that_does_not_come_is_not_waited_for(limited: tuple[str, int]):
    whole = posted(listed(event(1)))
    began = time.monotonic()
    assert status(everything(connected(limited, whole[:-10]))) == 408  # Content-Length promises more
    assert 0.9 < time.monotonic() - began < 3.5


def test_a_chunked_body_is_taken(limited: tuple[str, int]):
    body = listed(event(7))
    pieces = [body[start : start + 100] for start in range(0, len(body), 100)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = posted(b"", "Transfer-Encoding: chunked", "Connection: close").replace(b"Content-Length: 0\r\n", b"")
    assert status(everything(connected(limited, head + chunks))) == 200


def test_a_body_that_is_too_large_is_refused_without_being_read(limited: tuple[str, int]):
    began = time.monotonic()
    connection = connected(
        limited, posted(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 99999999999")
    )
    assert status(until(connection, b"--max-body")) == 413 and time.monotonic() - began < 1
    connection.close()


def test_a_sender_that_is_refused_reads_why_also_while_it_sends(limited: tuple[str, int]):
    with httpx.Client(headers=as_(SENDER)) as client:
        answer = client.post(f"http://127.0.0.1:{limited[1]}/ingest/audit", content=bytes(3 << 20))
        assert answer.status_code == 413


def test_connections_that_wait_for_an_answer_are_not_closed_for_new_ones(folder: Path, tokens: Path):
    options = ("--tokens", tokens, "--max-connections", "3", "--request-timeout", "5")
    with Daemon("--ledger", folder / "few.ledger", *options) as daemon:
        address = daemon.ready()
        begun = [connected(address, posted(listed(event(number)))[:-1]) for number in range(3)]
        time.sleep(0.2)
        assert status(everything(connected(address, b"GET /livez HTTP/1.1\r\n\r\n"))) == 503
        for connection in begun:
            connection.sendall(b"}")
            assert status(connection.recv(1000)) == 200
            connection.close()


# ---- those who follow


def follow(port: int, **headers: str) -> socket.socket:
    head = [
        "GET /v1/findings?watch=true HTTP/1.1",
        "Host: a",
        *(f"{k}: {v}" for k, v in {**as_(READER), **headers}.items()),
    ]
    return connected(("127.0.0.1", port), "\r\n".join([*head, "", ""]).encode())


def until(connection: socket.socket, word: bytes) -> bytes:
    found = b""
    while word not in found:
        piece = connection.recv(65536)
        assert piece, found[-300:]
        found += piece
    return found


def test_changes_are_told_as_they_come_and_may_be_resumed(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens) as daemon:
        _, port = daemon.ready()
        first = follow(port)
        until(first, b"from here on")
        daemon.process.send_signal(signal.SIGUSR1)
        assert b"id: 7\nevent: opened\ndata: {" in until(first, b'"one"')
        first.close()
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        again = follow(port, **{"last-event-id": "7"})
        found = until(again, b"id: 10")
        assert b"id: 7\nevent" not in found
        assert daemon.end() == 0, "a stream that is open keeps nobody waiting"
        again.close()


def test_a_reader_that_does_not_read_is_let_go_and_the_others_are_told(tmp_path: Path, tokens: Path):
    with Daemon("--ledger", tmp_path / "l", "--tokens", tokens, "--request-timeout", "1") as daemon:
        _, port = daemon.ready()
        stuck, reading = follow(port), follow(port)
        for one in (stuck, reading):
            until(one, b"from here on")
        told: list[bytes] = []

        def read() -> None:
            found = bytearray()
            while found.count(b"\nevent: opened\n") < FLOOD:
                found += reading.recv(1 << 20)
            told.append(bytes(found))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.wait_for("a reader took nothing of its answer for 1 s, and was let go")
        with httpx.Client(headers=as_(READER)) as client:
            assert client.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        stuck.close()
        thread.join(5)
        assert told


# ---- what is told before it begins


def run(*options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.adapters.http.serving_child", "serve", *map(str, options)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30
    )


def test_an_address_that_others_reach_needs_a_certificate_and_credentials(tmp_path: Path, tokens: Path):
    for options in ((), ("--tokens", tokens), ("--no-auth",)):
        found = run("--ledger", tmp_path / "l", "--listen", "0.0.0.0:0", *options)
        assert found.returncode == 2 and "--tls-cert FILE --tls-key FILE" in found.stderr
        assert ("--tokens FILE" in found.stderr) == (options != ("--tokens", tokens))
    assert not (tmp_path / "l").exists()
