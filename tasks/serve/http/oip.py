"""The Open Inference Protocol, version 2, with the binary tensor extension of its clients. Pure.

A model takes BYTES tensors `prompt` (or `text_input`) and gives one `text` (`text_output` where that was asked for):
a text for each prompt. Parameters: max_tokens, temperature, top_p, seed, stop.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import DataError

INPUTS, OUTPUTS = ("prompt", "text_input"), ("text", "text_output")
HEADER = "inference-header-content-length"


class Tensor(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    shape: list[Annotated[int, Field(ge=0)]] = []
    datatype: str = "BYTES"
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Output(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    parameters: dict[str, Any] = {}


class Parameters(BaseModel):
    """Of one inference."""

    model_config = ConfigDict(extra="ignore")

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    binary_data_output: bool = False


class InferRequest(BaseModel):
    """The JSON part of a request."""

    model_config = ConfigDict(extra="ignore")

    id: str = ""
    parameters: Parameters = Parameters()
    inputs: Annotated[list[Tensor], Field(min_length=1)]
    outputs: list[Output] = []


def parsed(body: bytes, header_length: str | None) -> tuple[InferRequest, list[str]]:
    """The request and its prompts; raises DataError for what is malformed."""
    length = head_length(body, header_length)
    try:
        request = InferRequest.model_validate_json(body[:length])
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
    rest, prompts = body[length:], None
    for tensor in request.inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            given: Sequence[Any] = tensor.data or []
        elif not isinstance(size, int) or not 0 <= size <= len(rest):
            raise DataError(f"{tensor.name}: binary_data_size is {size}, {len(rest)} bytes are left")
        else:
            given, rest = unpacked(tensor.name, rest[:size]), rest[size:]
        if tensor.name in INPUTS:
            prompts = texts(tensor, given)
    if prompts is None:
        raise DataError(f"no input is called {' or '.join(INPUTS)}")
    return request, prompts


def head_length(body: bytes, header_length: str | None) -> int:
    """How many bytes of a body are JSON; raises DataError for a header that says nonsense."""
    try:
        length = len(body) if header_length is None else int(header_length)
    except ValueError:
        raise DataError(f"{HEADER} is {header_length!r}; it must be a number of bytes") from None
    if not 0 <= length <= len(body):
        raise DataError(f"{HEADER} is {length}; the body has {len(body)} bytes")
    return length


def texts(tensor: Tensor, values: Sequence[Any]) -> list[str]:
    """Values of a BYTES tensor as texts; raises DataError for other types, other numbers, and empty ones."""
    if tensor.datatype != "BYTES":
        raise DataError(f"{tensor.name} is of type {tensor.datatype}; it must be BYTES")
    flat: list[Any] = []
    for value in values:
        flat += value if isinstance(value, list) else [value]
    count = 1
    for size in tensor.shape:
        count *= size
    if tensor.shape and count != len(flat):
        raise DataError(f"{tensor.name} has shape {tensor.shape}, which is {count} texts; {len(flat)} came")
    if not flat or not all(isinstance(one, str) and one for one in flat):
        raise DataError(f"{tensor.name} must hold texts that are not empty")
    return flat


def unpacked(name: str, raw: bytes) -> list[str]:
    """Texts of a binary BYTES tensor: each its length, four bytes little-endian, then UTF-8."""
    found, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise DataError(f"{name}: a length is cut short")
        (length,) = struct.unpack_from("<I", raw, at)
        if at + 4 + length > len(raw):
            raise DataError(f"{name}: a text of {length} bytes is cut short")
        try:
            found.append(raw[at + 4 : at + 4 + length].decode())
        except UnicodeDecodeError:
            raise DataError(f"{name}: a text is not UTF-8") from None
        at += 4 + length
    return found


def packed(texts: Sequence[str]) -> bytes:
    """A binary BYTES tensor.

    >>> unpacked("x", packed(["a", "bc"]))
    ['a', 'bc']
    """
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode() for text in texts))


def answer(request: InferRequest, texts: Sequence[str], model: str, version: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the answer, its tensors as they were asked for."""
    wanted = request.outputs or [Output(name=OUTPUTS[0], parameters={})]
    unknown = [one.name for one in wanted if one.name not in OUTPUTS]
    if unknown:
        raise DataError(f"no output is called {unknown[0]!r}; there is {' and, the same, '.join(OUTPUTS)}")
    raw, tensors = b"", []
    for one in wanted:
        tensor: dict[str, Any] = {"name": one.name, "datatype": "BYTES", "shape": [len(texts)]}
        if one.parameters.get("binary_data", request.parameters.binary_data_output):
            own = packed(texts)
            tensor["parameters"] = {"binary_data_size": len(own)}
            raw += own
        else:
            tensor["data"] = list(texts)
        tensors.append(tensor)
    head = json.dumps(
        {"model_name": model, "model_version": version, "id": request.id, "outputs": tensors}, ensure_ascii=False
    ).encode()
    if not raw:
        return head, {"content-type": "application/json"}
    return head + raw, {"content-type": "application/octet-stream", HEADER: str(len(head))}


def metadata(model: str, version: str, platform: str) -> dict[str, Any]:
    """Describe a model as /v2/models/{model} does."""
    return {
        "name": model,
        "versions": [version],
        "platform": platform,
        "inputs": [{"name": INPUTS[0], "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": OUTPUTS[0], "datatype": "BYTES", "shape": [-1]}],
    }
