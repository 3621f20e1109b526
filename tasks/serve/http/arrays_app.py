"""The HTTP application of models of named arrays: embeddings and pictures where the kind has them, tensors always."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import DataError
from tasks.packaging.manifest import Contents
from tasks.serve.http import oip, tensors
from tasks.serve.http.frame import card_of, errors, guarded, health_routes, known, model_routes
from tasks.serve.http.responses import unless_gone
from tasks.serve.model.health import Health
from tasks.serve.model.mapping import Form, Mapper, MapRequest
from tasks.serve.model.packing import packed

MOST_TEXTS, MOST_PICTURES = 256, 32  # in one request
TOP = 5
PICTURES = ("image/", "application/octet-stream")


class EmbeddingsRequest(BaseModel):
    """A request for embeddings, as clients of OpenAI send it."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None  # vectors have the length that the model gives them

    @property
    def texts(self) -> list[str]:
        """The texts; raises DataError for an empty one."""
        found = [self.input] if isinstance(self.input, str) else self.input
        empty = next((number for number, text in enumerate(found) if not text.strip()), None)
        if empty is not None:
            raise DataError(f"input {empty} is empty")
        return found


class PicturesRequest(BaseModel):
    """Pictures in base64."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[str], Field(min_length=1, max_length=MOST_PICTURES)]
    top: Annotated[int, Field(ge=1, le=100)] = TOP


def create(
    service: Mapper, health: Health, contents: Contents, name: str, forms: Sequence[Form],
    count: Callable[[str], int], api_key: str | None = None,
) -> Any:  # fmt: skip
    """The ASGI application of one model, `name`; `forms` is what its kind reads, `count` a text's tokens."""
    app = FastAPIOffline(title="Edgewright", version=service.version, redoc_url=None, static_url="/docs/files")
    errors(app, service)
    health_routes(app, service, health, name)
    model_routes(app, service, name, card_of(contents))
    if "texts" in forms:
        _embeddings(app, service, name, count)
    if "pictures" in forms:
        _pictures(app, service, name)
    _tensors(app, service, contents, name)
    return guarded(app, service, api_key)


def _asked(form: Form, rows: Any, request: Request) -> MapRequest:
    state = request.state
    return MapRequest(form, rows, request.url.path, state.request_id, state.client)


def _embeddings(app: FastAPI, service: Mapper, name: str, count: Callable[[str], int]) -> None:
    @app.post("/v1/embeddings", response_model=None)
    async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
        if body.model:
            known(name, service.version, body.model, None)
        texts = body.texts
        found = await unless_gone(request, service.map(_asked("texts", texts, request)))
        vectors = np.asarray(next(iter(found.outputs.values())), np.float32)
        whole = body.encoding_format == "float"
        data = [
            {
                "object": "embedding", "index": number,
                "embedding": vector.tolist() if whole else base64.b64encode(vector.tobytes()).decode(),
            }
            for number, vector in enumerate(vectors)
        ]  # fmt: skip
        read = sum(map(count, texts))
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})


def _pictures(app: FastAPI, service: Mapper, name: str) -> None:
    @app.post("/v1/classify", response_model=None)
    async def classify(request: Request) -> Response:
        """Pictures as JSON, {"images": [base64, ...]}, or one as the body itself, with the type image/..."""
        body = await request.body()
        if request.headers.get("content-type", "").startswith(PICTURES):
            wanted = PicturesRequest(images=[base64.b64encode(body).decode()])
        else:
            wanted = _read(body)
        found = await unless_gone(request, service.map(_asked("pictures", wanted.images, request)))
        scores = np.asarray(next(iter(found.outputs.values())), np.float64)
        classes = service.process.ready.get("signature", {}).get("classes", ())
        return JSONResponse({"model": name, "data": [_likeliest(row, wanted.top, classes) for row in scores]})


def _read(body: bytes) -> PicturesRequest:
    try:
        wanted = PicturesRequest.model_validate_json(body)
    except ValueError as error:
        raise DataError(f'give {{"images": [base64, ...]}} as JSON, or a picture with its type: {error}') from None
    for number, one in enumerate(wanted.images):
        try:
            base64.b64decode(one, validate=True)
        except (binascii.Error, ValueError):
            raise DataError(f"image {number} is no base64") from None
    return wanted


def _likeliest(scores: Any, top: int, classes: Sequence[str]) -> dict[str, Any]:
    likely = np.exp(scores - scores.max())
    likely /= likely.sum()
    order = np.argsort(-likely, kind="stable")[:top]
    named = [
        {"class": int(one), **({"name": classes[one]} if one < len(classes) else {}), "probability": float(likely[one])}
        for one in order
    ]
    return {"classes": named}


def _tensors(app: FastAPI, service: Mapper, contents: Contents, name: str) -> None:
    platform = f"edgewright_{contents.backend}"

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "edgewright", "version": service.version, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/models/{model}")
    @app.get("/v2/models/{model}/versions/{version}")
    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        known(name, service.version, model, version)
        signature = service.process.ready.get("signature", {})
        ports = {side: tensors.described(signature.get(side, {})) for side in ("inputs", "outputs")}
        return {"name": name, "versions": [service.version], "platform": platform, **ports}

    @app.post("/v2/models/{model}/infer", response_model=None)
    @app.post("/v2/models/{model}/versions/{version}/infer", response_model=None)
    async def infer(model: str, request: Request, version: str | None = None) -> Response:
        known(name, service.version, model, version)
        body, given = tensors.parsed(await request.body(), request.headers.get(oip.HEADER))
        rows = {key: value if isinstance(value, list) else packed(value) for key, value in given.items()}
        found = await unless_gone(request, service.map(_asked("tensors", rows, request)))
        raw, headers = tensors.answer(body, found.outputs, name, service.version)
        return Response(raw, headers=headers)
