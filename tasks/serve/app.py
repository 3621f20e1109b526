"""The HTTP application: OpenAI's API and the Open Inference Protocol over one service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from tasks.backends.sampling import Sampling
from tasks.errors import DataError
from tasks.packaging.manifest import Contents
from tasks.serve import oip, openai_api
from tasks.serve.border import Border
from tasks.serve.health import Health
from tasks.serve.openai_api import ChatRequest, CompletionRequest, Form
from tasks.serve.prediction_log import Judgement
from tasks.serve.process import GoneError
from tasks.serve.service import Asked, BusyError, LateError, Piece, Service

Result = TypeVar("Result")
GONE_AWAY = 499  # the client closed the connection; nobody reads this answer


class GoneAwayError(Exception):
    """The client closed the connection."""


def create(service: Service, health: Health, contents: Contents, name: str, api_key: str | None = None) -> Any:
    """The ASGI application that serves one model under `name`; the caller runs process and probe."""
    app = FastAPI(title="Edgewright", version=service.version, docs_url=None, redoc_url=None)
    _errors(app, service)
    _health(app, service, health, name)
    _openai(app, service, name)
    _oip(app, service, health, contents, name)
    return Border(app, service.settings.body_kb * 1024, api_key, service.metrics)


# -- errors ------------------------------------------------------------------------------------------------------------


def _errors(app: FastAPI, service: Service) -> None:
    def refuse(status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse(body, status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, problem: RequestValidationError) -> JSONResponse:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        service.metrics.errors.labels(kind="malformed").inc()
        said = f"{where}: {first['msg']}" if where else str(first["msg"])
        return refuse(400, openai_api.error(said, "invalid_request_error", where or None))

    @app.exception_handler(DataError)
    async def unfit(_: Request, problem: DataError) -> JSONResponse:
        service.metrics.errors.labels(kind="malformed").inc()
        return refuse(400, openai_api.error(str(problem), "invalid_request_error"))

    @app.exception_handler(BusyError)
    async def busy(_: Request, problem: BusyError) -> JSONResponse:
        body = openai_api.error(str(problem), "rate_limit_error", code="server_busy")
        return refuse(429, body, {"Retry-After": str(problem.retry_after_s)})

    @app.exception_handler(GoneError)
    async def gone(_: Request, problem: GoneError) -> JSONResponse:
        return refuse(503, openai_api.error(str(problem), "server_error", code="model_gone"), {"Retry-After": "2"})

    @app.exception_handler(LateError)
    async def late(_: Request, problem: LateError) -> JSONResponse:
        return refuse(504, openai_api.error(str(problem), "server_error", code="deadline"))

    @app.exception_handler(GoneAwayError)
    async def gone_away(_: Request, __: GoneAwayError) -> Response:
        return Response(status_code=GONE_AWAY)

    @app.exception_handler(HTTPException)
    async def other(request: Request, problem: HTTPException) -> JSONResponse:
        said = f"{request.method} {request.url.path}: {problem.detail}"
        return refuse(problem.status_code, openai_api.error(said, "invalid_request_error"), problem.headers)


# -- health and figures ------------------------------------------------------------------------------------------------


def _health(app: FastAPI, service: Service, health: Health, name: str) -> None:
    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        return _readiness(health)

    @app.get("/v2/models/{model}/ready")
    @app.get("/v2/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> JSONResponse:
        _known(name, service.version, model, version)
        return _readiness(health)

    @app.get("/metrics")
    async def metrics() -> Response:
        service.metrics.ready.set(health.ready)
        service.metrics.waiting.set(service.places.waiting)
        service.metrics.log_lost.set(service.log.lost)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _readiness(health: Health) -> JSONResponse:
    why = health.why_not
    return JSONResponse({"ready": not why, **({"reason": why} if why else {})}, 503 if why else 200)


def _known(name: str, version: str, asked: str, asked_version: str | None) -> None:
    if asked != name:
        raise HTTPException(404, f"there is no model {asked!r}; this server has {name!r}")
    if asked_version is not None and asked_version != version:
        raise HTTPException(404, f"there is no version {asked_version!r}; this server has {version!r}")


# -- OpenAI ------------------------------------------------------------------------------------------------------------


def _openai(app: FastAPI, service: Service, name: str) -> None:
    started = int(time.time())

    def model() -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": "edgewright", "version": service.version}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model()]}

    @app.get("/v1/models/{model_id:path}")
    async def one(model_id: str) -> dict[str, Any]:
        _known(name, service.version, model_id, None)
        return model()

    @app.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        if body.model:
            _known(name, service.version, body.model, None)
        _together(service, body.prompts)
        asked = [
            _openai_asked(service, request, body, service.text.encode(one), body.max_tokens, one)
            if isinstance(one, str)
            else _openai_asked(service, request, body, one, body.max_tokens, "")
            for one in body.prompts
        ]
        form = Form(
            f"cmpl-{uuid.uuid4().hex}", int(time.time()), name, False, body.logprobs is not None, service.text.token
        )
        return await _respond(service, request, body, asked, form)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        if body.model:
            _known(name, service.version, body.model, None)
        ids = service.text.converse([message.plain for message in body.messages])
        shown = body.messages[-1].plain["content"]
        asked = [_openai_asked(service, request, body, ids, body.most_tokens, shown)]
        form = Form(
            f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), name, True, bool(body.logprobs), service.text.token
        )
        return await _respond(service, request, body, asked, form)

    @app.post("/v1/feedback")
    async def feedback(body: Judgement) -> JSONResponse:
        kept = service.log.judge(body)
        return JSONResponse({"kept": kept}, 200 if kept else 507)

    @app.post("/v1/embeddings")
    async def embeddings() -> JSONResponse:
        said = f"{name} writes text; a model that gives embeddings is an encoder"
        return JSONResponse(openai_api.error(said, "invalid_request_error", "model"), 400)


def _openai_asked(
    service: Service, request: Request, body: openai_api.Request, ids: Sequence[int], most: int | None, prompt: str
) -> Asked:
    return Asked(
        ids=ids,
        new_tokens=service.check(ids, most),
        sampling=body.sampling,
        stop=body.stops,
        ends=not body.ignore_eos,
        endpoint=request.url.path,
        request_id=request.state.request_id,
        prompt=prompt,
        client=request.state.client,
    )


def _together(service: Service, prompts: Sequence[object]) -> None:
    """Raise DataError unless one request may bring so many prompts."""
    if not prompts:
        raise DataError("prompt is an empty list")
    if len(prompts) > service.settings.slots:
        raise DataError(f"{len(prompts)} prompts in one request; at most {service.settings.slots} (serve.slots)")


async def _respond(
    service: Service, request: Request, body: openai_api.Request, asked: Sequence[Asked], form: Form
) -> Response:
    prompt_tokens = sum(len(one.ids) for one in asked)
    if not body.stream:
        answers = await _unless_gone(request, _all(service, asked))
        return JSONResponse(form.whole(answers, prompt_tokens))
    if len(asked) > 1:
        raise DataError("several prompts cannot be streamed in one request; send one request for each")
    arrived = await _unless_gone(request, service.admit())
    return EventStream(service, _events(service, asked[0], arrived, form, body.usage_at_end))


class EventStream(StreamingResponse):
    """A stream of events that holds a place and gives it back however it ends, before its first event as well."""

    def __init__(self, service: Service, events: AsyncGenerator[bytes, None]) -> None:
        """Hold the place that was admitted."""
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self._service, self._events = service, events

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._service.leave()
            await self._events.aclose()


async def _all(service: Service, asked: Sequence[Asked]) -> list[list[Piece]]:
    """Whole answers, those of one request at the same time."""
    tasks = [asyncio.create_task(_whole(service, one)) for one in asked]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


async def _whole(service: Service, asked: Asked) -> list[Piece]:
    arrived = await service.admit()
    try:
        async with contextlib.aclosing(service.pieces(asked, arrived)) as pieces:
            return [piece async for piece in pieces]
    finally:
        service.leave()


async def _events(
    service: Service, asked: Asked, arrived: float, form: Form, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Server-sent events; an error after the beginning is an event too, as the status is out already."""
    made = 0
    try:
        for chunk in form.beginning():
            yield _event(chunk)
        async with contextlib.aclosing(service.pieces(asked, arrived)) as pieces:
            async for piece in pieces:
                made += len(piece.tokens)
                for chunk in form.piece(piece):
                    yield _event(chunk)
        if with_usage:
            yield _event(form.closing(len(asked.ids), made))
        yield b"data: [DONE]\n\n"
    except (GoneError, LateError) as problem:
        yield _event(openai_api.error(str(problem), "server_error"))


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """The work's result; when the client closes the connection first, the work is cancelled."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_disconnected(request.receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneAwayError
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# -- Open Inference Protocol -------------------------------------------------------------------------------------------


def _oip(app: FastAPI, service: Service, health: Health, contents: Contents, name: str) -> None:
    platform = f"edgewright_{contents.backend}"

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "edgewright", "version": service.version, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/models/{model}")
    @app.get("/v2/models/{model}/versions/{version}")
    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        _known(name, service.version, model, version)
        return oip.metadata(name, service.version, platform)

    @app.post("/v2/models/{model}/infer", response_model=None)
    @app.post("/v2/models/{model}/versions/{version}/infer", response_model=None)
    async def infer(model: str, request: Request, version: str | None = None) -> Response:
        _known(name, service.version, model, version)
        body, prompts = oip.parsed(await request.body(), request.headers.get(oip.HEADER))
        _together(service, prompts)
        told = body.parameters
        asked = []
        for prompt in prompts:
            ids = service.text.converse([{"role": "user", "content": prompt}])
            asked.append(
                Asked(
                    ids=ids,
                    new_tokens=service.check(ids, told.max_tokens),
                    sampling=Sampling(told.temperature, told.top_p, told.seed),
                    stop=(told.stop,) if told.stop else (),
                    endpoint="/v2/infer",
                    request_id=request.state.request_id,
                    prompt=prompt,
                    client=request.state.client,
                )
            )
        answers = await _unless_gone(request, _all(service, asked))
        texts = ["".join(piece.text for piece in pieces) for pieces in answers]
        raw, headers = oip.answer(body, texts, name, service.version)
        return Response(raw, headers=headers)
