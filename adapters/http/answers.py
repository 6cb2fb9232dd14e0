"""How answers look: JSON, with an ETag where it is worth asking again, and problems as RFC 9457 says.

A refusal that leaves a body unread is sent at once, and what still comes is let go for a moment, because a socket that is
closed on unread bytes takes the answer with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PROBLEM = "application/problem+json"
LINGER_SECONDS = 1.0
LINGER_BYTES = 8 << 20


class Problem(Exception):
    """An answer that is none. `more` goes into the document beside the sentence."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.more = more
        self.unread = False
        """Whether the request's body, or some of it, was left unread."""

    def response(self) -> Response:
        """As it is sent."""
        document = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": str(self), **self.more}
        content = msgspec.json.encode(document)
        if self.unread:
            return _Farewell(content, self.status, {**self.headers, "connection": "close"}, PROBLEM)
        return Response(content, self.status, self.headers, PROBLEM)


class _Farewell(Response):
    """An answer that is complete for its reader before the connection is closed behind it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as JSON."""
    return Response(msgspec.json.encode(document), status, dict(headers or {}), "application/json")


def tagged(request: Request, document: dict[str, Any], position: int) -> Response:
    """A document that stands at a position, with its ETag; 304 where the asker has it."""
    content = msgspec.json.encode(document)
    # The same position may say more later: what is overdue becomes so by time alone. How long records have waited is
    # another figure at every moment, and no news.
    news = msgspec.json.encode({key: value for key, value in document.items() if key not in ("ledger", "provisional")})
    tag = f'"{position}-{hashlib.blake2b(news, digest_size=8).hexdigest()}"'
    if tag in (one.strip() for one in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers={"etag": tag})
    return Response(content, 200, {"etag": tag}, "application/json")


def flag(request: Request, name: str) -> bool:
    """Whether a query says so; its name alone does, too. Raises `Problem`."""
    value = request.query_params.get(name, "false").lower()
    if value not in ("true", "1", "", "false", "0"):
        raise Problem(400, f"{name}= is true or false")
    return value in ("true", "1", "")


def prefers_csv(request: Request) -> bool:
    """Whether an asker would rather have CSV than JSON. Who takes either gets JSON."""
    weights = {"text/csv": 0.0, "application/json": 0.0}
    for part in request.headers.get("accept", "*/*").lower().split(","):
        name, *parameters = (one.strip() for one in part.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        value = float(weight) if weight.replace(".", "", 1).isascii() and weight.replace(".", "", 1).isdigit() else 1.0
        for known in weights:
            if name == known or (name == "*/*" and not weights[known]):
                weights[known] = value
    return weights["text/csv"] > weights["application/json"]
