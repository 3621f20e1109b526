"""What every server has, whatever its model does: errors, health, figures, who may come in, what the model is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from tasks.errors import DataError
from tasks.packaging.manifest import Contents
from tasks.serve.http.middleware import Middleware
from tasks.serve.http.openai_form import error
from tasks.serve.http.responses import GoneAwayError
from tasks.serve.log.prediction_log import Judgement
from tasks.serve.model.answering import Answering, BusyError, LateError
from tasks.serve.model.health import Health
from tasks.serve.model.process import GoneError, RefusedError

GONE_AWAY = 499  # the client closed the connection; nobody reads this answer


def guarded(app: FastAPI, service: Answering, api_key: str | None) -> Any:
    """The application behind its key, its limits and, where pages may call it, their permission."""
    inner = Middleware(app, service.settings.body_kb * 1024, api_key, service.metrics)
    if not service.settings.cors:
        return inner
    # Outermost, as a browser asks beforehand without a key.
    return CORSMiddleware(
        inner, allow_origins=service.settings.cors, allow_methods=["*"], allow_headers=["*"],
        expose_headers=["x-request-id", "retry-after"],
    )  # fmt: skip


def errors(app: FastAPI, service: Answering) -> None:
    """Answer what goes wrong in the form that clients of OpenAI read."""

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


def health_routes(app: FastAPI, service: Answering, health: Health, name: str) -> None:
    """Tell whether it lives, is ready, and its figures."""

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/health")
    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        return readiness(health)

    @app.get("/v2/models/{model}/ready")
    @app.get("/v2/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> JSONResponse:
        known(name, service.version, model, version)
        return readiness(health)

    @app.get("/metrics")
    async def metrics() -> Response:
        service.metrics.ready.set(health.ready)
        service.metrics.waiting.set(service.admission.waiting)
        service.metrics.log_lost.set(service.log.lost)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def readiness(health: Health) -> JSONResponse:
    """200, or 503 with the reason."""
    why = health.why_not
    return JSONResponse({"ready": not why, **({"reason": why} if why else {})}, 503 if why else 200)


def known(name: str, version: str, asked: str, asked_version: str | None) -> None:
    """Raise HTTPException for a model or version that is not served here."""
    if asked != name:
        raise HTTPException(404, f"there is no model {asked!r}; this server has {name!r}")
    if asked_version is not None and asked_version != version:
        raise HTTPException(404, f"there is no version {asked_version!r}; this server has {version!r}")


def model_routes(app: FastAPI, service: Answering, name: str, card: dict[str, str]) -> None:
    """List the one model, and take what callers say of its answers."""
    started = int(time.time())

    def model() -> dict[str, Any]:
        told = {"id": name, "object": "model", "created": started, "owned_by": "edgewright"}
        return {**told, "version": service.version, "card": card}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model()]}

    @app.get("/v1/models/{model_id:path}")
    async def one(model_id: str) -> dict[str, Any]:
        known(name, service.version, model_id, None)
        return model()

    @app.post("/v1/feedback")
    async def feedback(body: Judgement) -> JSONResponse:
        kept = service.log.judge(body)
        return JSONResponse({"kept": kept}, 200 if kept else 507)


def card_of(contents: Contents) -> dict[str, str]:
    """What the model is, for people: name and value."""
    stored = ", ".join(f"{share:.0%} {name}" for name, share in contents.tensor_share.items())
    told = {
        "model": contents.model, "origin": contents.origin, "variant": contents.variant, "runtime": contents.backend,
        "precision": contents.recipe.precision, "weights": stored, "verdict": contents.verdict,
        "packaged of": contents.source_sha256[:12],
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}
