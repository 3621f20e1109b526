"""The HTTP application: OpenAI's API and the Open Inference Protocol over one service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from tasks.backends.sampling import Sampling
from tasks.errors import DataError
from tasks.packaging.manifest import Contents
from tasks.serve.http import oip, openai_api
from tasks.serve.http.frame import card_of, errors, guarded, health_routes, known, model_routes
from tasks.serve.http.openai_api import ChatRequest, CompletionRequest
from tasks.serve.http.openai_form import Form, error
from tasks.serve.http.responses import respond, unless_gone, whole_answers
from tasks.serve.log.trace import GenerationRequest
from tasks.serve.model.health import Health
from tasks.serve.model.service import Service

PAGE = Path(__file__).parent / "page"


def create(service: Service, health: Health, contents: Contents, name: str, api_key: str | None = None) -> Any:
    """The ASGI application that serves one model under `name`; the caller runs process and probe."""
    app = FastAPIOffline(title="Edgewright", version=service.version, redoc_url=None, static_url="/docs/files")
    errors(app, service)
    health_routes(app, service, health, name)
    model_routes(app, service, name, card_of(contents))
    _openai(app, service, name)
    _pages(app)
    _oip(app, service, health, contents, name)
    return guarded(app, service, api_key)


# -- OpenAI ------------------------------------------------------------------------------------------------------------


def _openai(app: FastAPI, service: Service, name: str) -> None:
    @app.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        if body.model:
            known(name, service.version, body.model, None)
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
            known(name, service.version, body.model, None)
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


# -- Open Inference Protocol -------------------------------------------------------------------------------------------


def _oip(app: FastAPI, service: Service, health: Health, contents: Contents, name: str) -> None:
    platform = f"edgewright_{contents.backend}"

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "edgewright", "version": service.version, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/models/{model}")
    @app.get("/v2/models/{model}/versions/{version}")
    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        known(name, service.version, model, version)
        return oip.metadata(name, service.version, platform)

    @app.post("/v2/models/{model}/infer", response_model=None)
    @app.post("/v2/models/{model}/versions/{version}/infer", response_model=None)
    async def infer(model: str, request: Request, version: str | None = None) -> Response:
        known(name, service.version, model, version)
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
