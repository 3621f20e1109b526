"""What every call passes first: who may come in, how much they may bring, what is noted about each call."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

from tasks.serve.http.openai_form import error
from tasks.serve.log.prometheus import Metrics
from tasks.serve.log.sketch import client

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/v2/health/", "/metrics", "/page/", "/docs")  # a prober, Prometheus and a browser bring no key
OPEN_ALONE = ("/", "/health", "/openapi.json")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
ACCESS = logging.getLogger("edgewright.access")
TOO_LARGE, TOO_SLOW = 413, 408
BODY_S = 15.0  # for a body to arrive


class Middleware:
    """ASGI middleware: a request id, the API key, the limit on bodies, an access line as JSON."""

    def __init__(self, app: App, most_bytes: int, api_key: str | None, metrics: Metrics) -> None:
        """Stand before `app`."""
        self._app, self._most, self._key, self._metrics = app, most_bytes, api_key, metrics
        self._salt = os.urandom(16)  # so long as this server lives, a caller keeps the same digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        number = headers.get("x-request-id", "")
        if not REQUEST_ID.fullmatch(number):
            number = f"req-{uuid.uuid4().hex}"
        key = headers.get("x-session-id") or headers.get("authorization", "")
        address = headers.get("x-forwarded-for") or (scope.get("client") or ("",))[0]
        scope.setdefault("state", {}).update(request_id=number, client=client(self._salt, key, address))
        began, status = time.monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", number.encode())]
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            body = b"" if refusal else await _read(receive, self._most)
            if body is None:
                return
            if isinstance(body, int):
                refusal = self._too_large() if body == TOO_LARGE else self._too_slow()
            if refusal:
                await _answer(noting, *refusal)
            elif isinstance(body, bytes) and scope["method"] == "HEAD":
                await self._app({**scope, "method": "GET"}, _replay(body, receive), _headers_of(noting))
            elif isinstance(body, bytes):
                await self._app(scope, _replay(body, receive), noting)
        finally:
            ACCESS.info(
                json.dumps(
                    {
                        "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
                        "request_id": number,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status or 499,  # gone before there was an answer
                        "seconds": round(time.monotonic() - began, 4),
                        "client": (scope.get("client") or ("",))[0],
                    }
                )
            )

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        path = str(scope["path"])
        if self._key and not path.startswith(OPEN) and path not in OPEN_ALONE:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
                self._metrics.errors.labels(kind="unauthorized").inc()
                said = "give the API key as `Authorization: Bearer KEY`"
                return 401, error(said, "authentication_error", code="invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most:
            return self._too_large()
        return None

    def _too_large(self) -> tuple[int, dict[str, Any]]:
        self._metrics.errors.labels(kind="too-large").inc()
        return TOO_LARGE, error(f"the body is larger than {self._most} bytes (serve.body_kb)", "invalid_request_error")

    def _too_slow(self) -> tuple[int, dict[str, Any]]:
        self._metrics.errors.labels(kind="too-slow").inc()
        return TOO_SLOW, error(f"the body did not arrive within {BODY_S:g} s", "invalid_request_error")


async def _read(receive: Receive, most: int) -> bytes | int | None:
    """The whole body; a status when it is too large or too slow; None when the client left."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    return TOO_LARGE
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        return TOO_SLOW


def _replay(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body at once, then what else comes."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def _headers_of(send: Send) -> Send:
    """What answers HEAD: the headers of GET without its body."""

    async def without_body(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return without_body


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    if status in (TOO_LARGE, TOO_SLOW):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})
