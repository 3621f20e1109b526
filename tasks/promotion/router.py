"""The router: passes each request on to the version whose turn it is, and to the other when that one cannot answer.

A request that failed before anything of its answer went out is asked again of the other slot, so that a version that
breaks costs callers time and no errors. What each version did is noted all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tasks.params.serving import Promotion, Serve
from tasks.promotion import traffic
from tasks.promotion.asking import likeness
from tasks.promotion.evidence import MARK, Evidence
from tasks.promotion.pairs import Pairs, View
from tasks.promotion.rollout import OTHER, Color
from tasks.serve.http.middleware import BODY_S
from tasks.serve.http.openai_form import error

LOG = logging.getLogger("edgewright.router")
ASKING = re.compile(r"/v1/((chat/)?completions|embeddings|classify)|/v2/models/[^/]+(/versions/[^/]+)?/infer")
VERSION = re.compile(r"/v2/models/[^/]+/versions/([^/]+)(/|$)")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
KEY = "x-session-id"  # callers that bring the same one are answered by the same version
HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "date", "server", "x-request-id",
}  # fmt: skip
GONE = (502, 503)  # answers of a slot after which the other one is asked
HELD_S = 0.05  # between two looks whether a slot is ready
SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.05, 0.1, 0.5)


class LeftError(Exception):
    """The caller closed the connection."""


class UnreachedError(Exception):
    """A slot did not answer, and nothing has gone out to the caller."""


@dataclass
class Call:
    """One request on its way."""

    request: web.Request
    body: bytes
    number: str
    arrived: float  # seconds of the performance counter
    asking: bool  # for an answer of the model
    version: str | None  # that the path names
    failed: set[str] = field(default_factory=set)  # versions

    @property
    def counts(self) -> bool:
        """Tell whether the request says something about the version that answers it."""
        return self.asking and self.version is None


class Metrics:
    """The router's own series; the slots' are at /metrics/blue and /metrics/green."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = own = CollectorRegistry()
        name = "edgewright_router_"
        self.requests = Counter(f"{name}requests", "Passed on", ("version", "slot", "outcome"), registry=own)
        self.again = Counter(f"{name}asked_again", "Asked of the other slot, as the first failed", registry=own)
        self.refused = Counter(f"{name}refused", "Not passed on", ("kind",), registry=own)
        self.share = Gauge(f"{name}new_version_share", "Percent of the traffic", registry=own)
        self.phase = Gauge(f"{name}phase", "1 for the phase of the rollout", ("phase",), registry=own)
        self.unwritten = Gauge(f"{name}log_lines_lost", "Lines that found no room on the disk", registry=own)
        self.own = Histogram(
            f"{name}own_seconds", "From a request's arrival until it was passed on", registry=own, buckets=SECONDS
        )


class Router:
    """The HTTP side."""

    def __init__(
        self, view: Callable[[], View], evidence: Evidence, serve: Serve, settings: Promotion, key: str | None
    ) -> None:
        """Look at `view` for every request; `key` is the API key for probes of our own."""
        self._view, self._evidence, self._serve, self._settings = view, evidence, serve, settings
        self.metrics = Metrics()
        self.draining = False
        self.under_way = 0
        self._client: aiohttp.ClientSession | None = None
        self.pairs = Pairs(view, evidence, settings, lambda: self.client, key)

    def application(self) -> web.Application:
        """The application; its own pages first, everything else is passed on."""
        made = web.Application(client_max_size=self._serve.body_kb * 1024, middlewares=[_in_words])
        made.router.add_get("/v2/health/live", self._live)
        made.router.add_get("/metrics", self._metrics)
        made.router.add_get("/metrics/{color:blue|green}", self._slot_metrics)
        made.router.add_route("*", "/{path:.*}", self.handle)
        made.on_startup.append(self._open)
        made.on_cleanup.append(self._close)
        return made

    @property
    def client(self) -> aiohttp.ClientSession:
        """Connections to the slots, kept open."""
        assert self._client is not None
        return self._client

    async def _open(self, _: web.Application) -> None:
        wait = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=self._serve.deadline_s + 5.0)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20.0)
        self._client = aiohttp.ClientSession(connector=connector, timeout=wait, auto_decompress=False)

    async def _close(self, _: web.Application) -> None:
        await self.pairs.close()
        await self.client.close()

    # -- what is answered here -----------------------------------------------------------------------------------------

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _metrics(self, _: web.Request) -> web.Response:
        view = self._view()
        self.metrics.share.set(view.state.share)
        self.metrics.phase.clear()
        self.metrics.phase.labels(view.state.phase).set(1)
        self.metrics.unwritten.set(self._evidence.unwritten)
        return web.Response(body=generate_latest(self.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _slot_metrics(self, request: web.Request) -> web.Response:
        base = self._view().base(request.match_info["color"])  # type: ignore[arg-type]
        if base is None:
            raise web.HTTPNotFound(text=f"slot {request.match_info['color']} serves nothing")
        async with self.client.get(f"{base}/metrics") as answer:
            return web.Response(body=await answer.read(), headers={"content-type": CONTENT_TYPE_LATEST})

    # -- what is passed on ---------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on."""
        arrived = time.perf_counter()
        number = request.headers.get("x-request-id", "")
        if not REQUEST_ID.fullmatch(number) or number.startswith(tuple(filter(None, MARK.values()))):
            number = f"req-{uuid.uuid4().hex}"
        if self.draining:
            return self._refused(503, "the router is being stopped", "draining", number)
        if self.under_way >= 2 * (self._serve.slots + self._serve.queue):
            return self._refused(429, "as many requests are under way as are taken; ask again", "busy", number)
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
        except TimeoutError:
            return self._refused(408, f"the body did not arrive within {BODY_S:g} s", "too-slow", number)
        pinned = VERSION.match(request.path)
        asking = request.method == "POST" and ASKING.fullmatch(request.path) is not None
        call = Call(request, body, number, arrived, asking, pinned.group(1) if pinned else None)
        self.under_way += 1
        try:
            answer = await self._answered(call)
        finally:
            self.under_way -= 1
        if answer is None:
            return self._refused(503, "no version is ready", "not-ready", number)
        if call.counts and answer.status == 200 and likeness(request.path) is not None:
            self.pairs.mirror(request.path, body, request.headers.get("authorization"))
        return answer

    async def _answered(self, call: Call) -> web.StreamResponse | None:
        """The first answer of a slot; a request for text waits a while for one that is started again."""
        while True:
            view = self._view()
            for color in self._colors(view, call):
                try:
                    return await self._passed(call, view, color)
                except UnreachedError:
                    self.metrics.again.inc()
            late = time.perf_counter() - call.arrived > self._settings.max_hold_s
            if late or self.draining or not call.asking:
                return None
            await asyncio.sleep(HELD_S)

    def _colors(self, view: View, call: Call) -> list[Color]:
        """Which slots to ask, in order."""
        state = view.state
        # The challenger answers, also those who name it, only once it may: not while it is still checked.
        free = state.share > 0 or state.phase == "idle"
        if call.version is not None:
            named = call.version == view.version(state.challenger) and free
            return [color for color in (state.challenger if named else state.champion,) if view.base(color)]
        key = call.request.headers.get(KEY) or call.number
        new = call.asking and traffic.to_challenger(key, view.version(state.challenger), state.share)
        first = state.challenger if new else state.champion
        second = OTHER[first]
        may = second == state.champion or free
        return [color for color in (first, *((second,) if may else ())) if view.base(color)]

    async def _passed(self, call: Call, view: View, color: Color) -> web.StreamResponse:
        """Ask one slot; raises UnreachedError when nothing came and nothing went out."""
        request, number = call.request, call.number
        base, version = view.base(color), view.version(color)
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in HOP)
        headers["x-request-id"] = number
        headers.setdefault("x-forwarded-for", request.remote or "")
        sent: web.StreamResponse | None = None
        ok: bool | None = False
        try:
            if not call.failed:
                self.metrics.own.observe(time.perf_counter() - call.arrived)
            async with self.client.request(
                request.method,
                f"{base}{request.path_qs}",
                headers=headers,
                data=call.body or None,
                allow_redirects=False,
            ) as answer:
                if answer.status in GONE and call.asking:
                    raise UnreachedError
                sent = _begun(answer, version, number)
                if answer.content_length is not None:  # nothing goes out before it is whole
                    whole = web.Response(status=sent.status, headers=sent.headers, body=await answer.read())
                    ok = _fine(answer.status)
                    return whole
                await sent.prepare(request)
                tail = b""
                async for chunk in answer.content.iter_any():
                    tail = (tail + chunk)[-2048:]
                    await _written(sent, chunk)
                ok = _fine(answer.status) if b'data: {"error"' not in tail else False
                await _written(sent, b"", end=True)
                return sent
        except asyncio.CancelledError:
            ok = None  # the caller left
            raise
        except LeftError:
            ok = None
            return sent or web.Response(status=499)
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            ok = False
            LOG.warning("%s: version %s failed a request: %s", color, version, type(problem).__name__)
            if sent is None or not sent.prepared:
                raise UnreachedError from problem
            said = json.dumps(error("the version that answered broke off", "server_error", code="broken"))
            with contextlib.suppress(LeftError):
                await _written(sent, f"data: {said}\n\n".encode(), end=True)
            return sent
        finally:
            if call.counts and version not in call.failed:  # a version that is asked again fails a request once
                outcome = "left" if ok is None else "ok" if ok else "error"
                self.metrics.requests.labels(version, color, outcome).inc()
                if ok is not None:
                    self._evidence.add(number, version, "live", ok)
            if ok is False:
                call.failed.add(version)

    def _refused(self, status: int, said: str, kind: str, number: str) -> web.Response:
        self.metrics.refused.labels(kind).inc()
        headers = {"x-request-id": number, "retry-after": "2"}
        named = {408: "invalid_request_error", 429: "rate_limit_error"}.get(status, "server_error")
        return web.json_response(error(said, named, code=kind), status=status, headers=headers)


async def _written(sent: web.StreamResponse, chunk: bytes, end: bool = False) -> None:
    """Send to the caller; raises LeftError when there is none any more."""
    try:
        if chunk:
            await sent.write(chunk)
        if end:
            await sent.write_eof()
    except ConnectionResetError as problem:
        raise LeftError from problem


def _fine(status: int) -> bool | None:
    """Whether the version did its part; None where the request was at fault."""
    return True if status < 400 else False if status >= 500 or status == 429 else None


def _begun(answer: aiohttp.ClientResponse, version: str, number: str) -> web.StreamResponse:
    made = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if name.lower() not in HOP:
            made.headers.add(name, value)
    made.headers["x-edgewright-version"] = version
    made.headers["x-request-id"] = number
    made.headers["server"] = "edgewright"
    return made


@web.middleware
async def _in_words(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """Errors in OpenAI's form."""
    try:
        found: web.StreamResponse = await handler(request)
        return found
    except web.HTTPRequestEntityTooLarge:
        return web.json_response(error("the body is larger than serve.body_kb", "invalid_request_error"), status=413)
    except web.HTTPException as problem:
        return web.json_response(error(problem.text or problem.reason, "invalid_request_error"), status=problem.status)
