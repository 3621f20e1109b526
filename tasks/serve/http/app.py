"""The HTTP application: OpenAI's API and the Open Inference Protocol over one service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from tasks.backends.sampling import Sampling
from tasks.errors import DataError
from tasks.packaging.manifest import Contents
from tasks.serve.http import oip, openai_api
from tasks.serve.http.middleware import Middleware
from tasks.serve.http.openai_api import ChatRequest, CompletionRequest
from tasks.serve.http.openai_form import Form, error
from tasks.serve.http.responses import GoneAwayError, respond, unless_gone, whole_answers
from tasks.serve.log.prediction_log import Judgement
from tasks.serve.log.trace import GenerationRequest
from tasks.serve.model.health import Health
from tasks.serve.model.process import GoneError, RefusedError
from tasks.serve.model.service import BusyError, LateError, Service

PAGE = Path(__file__).parent / "page"
GONE_AWAY = 499  # the client closed the connection; nobody reads this answer


def create(service: Service, health: Health, contents: Contents, name: str, api_key: str | None = None) -> Any:
    """The ASGI application that serves one model under `name`; the caller runs process and probe."""
    app = FastAPIOffline(title="Edgewright", version=service.version, redoc_url=None, static_url="/docs/files")
    _errors(app, service)
    _health(app, service, health, name)
    _openai(app, service, name, _card(contents))
    _pages(app)
    _oip(app, service, health, contents, name)
    guarded = Middleware(app, service.settings.body_kb * 1024, api_key, service.metrics)
    if not service.settings.cors:
        return guarded
    # Outermost, as a browser asks beforehand without a key.
    return CORSMiddleware(
        guarded, allow_origins=service.settings.cors, allow_methods=["*"], allow_headers=["*"],
        expose_headers=["x-request-id", "retry-after"],
    )  # fmt: skip


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
        return refuse(400, error(said, "invalid_request_error", where or None))

    @app.exception_handler(DataError)
    async def unfit(_: Request, problem: DataError) -> JSONResponse:
        service.metrics.errors.labels(kind="malformed").inc()
        return refuse(400, error(str(problem), "invalid_request_error"))

    @app.exception_handler(RefusedError)  # counted where it was noted
    async def refused(_: Request, problem: RefusedError) -> JSONResponse:
        return refuse(400, error(str(problem), "invalid_request_error"))

    @app.exception_handler(BusyError)
    async def busy(_: Request, problem: BusyError) -> JSONResponse:
        body = error(str(problem), "rate_limit_error", code="server_busy")
        return refuse(429, body, {"Retry-After": str(problem.retry_after_s)})

    @app.exception_handler(GoneError)
    async def gone(_: Request, problem: GoneError) -> JSONResponse:
        return refuse(503, error(str(problem), "server_error", code="model_gone"), {"Retry-After": "2"})

    @app.exception_handler(LateError)
    async def late(_: Request, problem: LateError) -> JSONResponse:
        return refuse(504, error(str(problem), "server_error", code="deadline"))

    @app.exception_handler(GoneAwayError)
    async def gone_away(_: Request, __: GoneAwayError) -> Response:
        return Response(status_code=GONE_AWAY)

    @app.exception_handler(HTTPException)
    async def other(request: Request, problem: HTTPException) -> JSONResponse:
        said = f"{request.method} {request.url.path}: {problem.detail}"
        return refuse(problem.status_code, error(said, "invalid_request_error"), problem.headers)


# -- health and figures ------------------------------------------------------------------------------------------------


def _health(app: FastAPI, service: Service, health: Health, name: str) -> None:
    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/health")
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
        service.metrics.waiting.set(service.admission.waiting)
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


def _openai(app: FastAPI, service: Service, name: str, card: dict[str, str]) -> None:
    started = int(time.time())

    def model() -> dict[str, Any]:
        told = {"id": name, "object": "model", "created": started, "owned_by": "edgewright"}
        return {**told, "version": service.version, "card": card}

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
        _together(service, body.prompts * body.n)
        sampling = body.sampling(body.grammar())
        asked = [
            _openai_asked(service, request, body, service.text.encode(one), body.max_tokens, one, sampling)
            if isinstance(one, str)
            else _openai_asked(service, request, body, one, body.max_tokens, "", sampling)
            for one in body.prompts
        ]
        if body.echo:
            scored = body.logprobs
            asked = [replace(one, echo=True, scored=scored) for one in asked]
        asked = _choices(asked, body.n)
        form = Form(
            f"cmpl-{uuid.uuid4().hex}", int(time.time()), name, False, body.logprobs is not None, service.text.token
        )
        return await respond(service, request, body, asked, form)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        if body.model:
            _known(name, service.version, body.model, None)
        tools, calls = body.offer.offered, service.text.calls
        told = [message.told for message in body.messages]
        ids = service.text.converse(told, tools)
        _together(service, [ids] * body.n)
        sampling = body.sampling(body.form(calls))
        one = _openai_asked(service, request, body, ids, body.most_tokens, told[-1]["content"], sampling)
        number, token = f"chatcmpl-{uuid.uuid4().hex}", service.text.token
        form = Form(number, int(time.time()), name, True, bool(body.logprobs), token, calls if tools else None)
        asked = _choices([one], body.n)
        return await respond(service, request, body, asked, form)

    @app.post("/v1/feedback")
    async def feedback(body: Judgement) -> JSONResponse:
        kept = service.log.judge(body)
        return JSONResponse({"kept": kept}, 200 if kept else 507)

    @app.post("/v1/embeddings")
    async def embeddings() -> JSONResponse:
        said = f"{name} writes text; a model that gives embeddings is an encoder"
        return JSONResponse(error(said, "invalid_request_error", "model"), 400)


def _openai_asked(
    service: Service, request: Request, body: openai_api.Request, ids: Sequence[int], most: int | None, prompt: str,
    sampling: Sampling,
) -> GenerationRequest:  # fmt: skip
    outside = next((token for token, _ in sampling.bias if token >= service.text.vocabulary), None)
    if outside is not None:
        raise DataError(f"logit_bias: token {outside} is not in the model's vocabulary of {service.text.vocabulary}")
    return GenerationRequest(
        ids=ids,
        new_tokens=service.check(ids, most),
        sampling=sampling,
        stop=body.stops,
        ends=not body.ignore_eos,
        endpoint=request.url.path,
        request_id=request.state.request_id,
        prompt=prompt,
        client=request.state.client,
    )


def _choices(asked: Sequence[GenerationRequest], count: int) -> list[GenerationRequest]:
    """Each request `count` times; with a seed, each time with the next one."""

    def drawn(one: GenerationRequest, number: int) -> GenerationRequest:
        seed = one.sampling.seed
        return replace(one, sampling=replace(one.sampling, seed=None if seed is None else (seed + number) % 2**63))

    return [drawn(one, number) for one in asked for number in range(count)]


def _together(service: Service, prompts: Sequence[object]) -> None:
    """Raise DataError unless one request may ask for so many answers."""
    if not prompts:
        raise DataError("prompt is an empty list")
    if len(prompts) > service.settings.slots:
        raise DataError(f"{len(prompts)} answers in one request; at most {service.settings.slots} (serve.slots)")


# -- for people -------------------------------------------------------------------------------------------------------


def _pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def chat() -> FileResponse:
        return FileResponse(
            PAGE / "index.html", headers={"content-security-policy": "default-src 'self'; img-src data:"}
        )

    app.mount("/page", StaticFiles(directory=PAGE), name="page")


def _card(contents: Contents) -> dict[str, str]:
    """What the model is, for people: name and value."""
    stored = ", ".join(f"{share:.0%} {name}" for name, share in contents.tensor_share.items())
    told = {
        "model": contents.model, "origin": contents.origin, "variant": contents.variant, "runtime": contents.backend,
        "precision": contents.recipe.precision, "weights": stored, "verdict": contents.verdict,
        "packaged of": contents.source_sha256[:12],
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}


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
                GenerationRequest(
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
        answers = await unless_gone(request, whole_answers(service, asked))
        texts = ["".join(chunk.text for chunk in chunks) for chunks in answers]
        raw, headers = oip.answer(body, texts, name, service.version)
        return Response(raw, headers=headers)
