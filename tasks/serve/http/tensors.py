"""Tensors of the Open Inference Protocol, version 2, in JSON and in its binary extension. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.errors import DataError
from tasks.serve.http import oip
from tasks.serve.http.oip import HEADER, InferRequest, Output, Tensor

TYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
NAMES = {numpy: name for name, numpy in TYPES.items()}

Values = NDArray[Any] | list[str]


def parsed(body: bytes, header_length: str | None) -> tuple[InferRequest, dict[str, Values]]:
    """The request and its tensors by name, those of BYTES as texts; raises DataError for what is malformed."""
    length = oip.head_length(body, header_length)
    try:
        request = InferRequest.model_validate_json(body[:length])
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
    rest, found = body[length:], dict[str, Values]()
    for tensor in request.inputs:
        size = tensor.parameters.get("binary_data_size")
        raw: bytes | None = None
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(rest):
                raise DataError(f"{tensor.name}: binary_data_size is {size}, {len(rest)} bytes are left")
            raw, rest = rest[:size], rest[size:]
        found[tensor.name] = _values(tensor, raw)
    return request, found


def _values(tensor: Tensor, raw: bytes | None) -> Values:
    if tensor.datatype == "BYTES":
        return oip.texts(tensor, tensor.data or [] if raw is None else oip.unpacked(tensor.name, raw))
    kind = TYPES.get(tensor.datatype)
    if kind is None:
        raise DataError(f"{tensor.name} is of type {tensor.datatype!r}; allowed: BYTES, {', '.join(TYPES)}")
    try:
        held = np.frombuffer(raw, kind) if raw is not None else np.array(tensor.data, dtype=kind).ravel()
        return held.reshape(tensor.shape)
    except (TypeError, ValueError, OverflowError):
        given = f"{len(raw)} bytes" if raw is not None else "its data"
        raise DataError(f"{tensor.name}: {given} are no {tensor.datatype} of shape {tensor.shape}") from None


def answer(
    request: InferRequest, outputs: Mapping[str, NDArray[Any]], model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the answer, its tensors as they were asked for; raises DataError for an unknown output."""
    wanted: Sequence[Output] = request.outputs or [Output(name=name) for name in outputs]
    unknown = [one.name for one in wanted if one.name not in outputs]
    if unknown:
        raise DataError(f"no output is called {unknown[0]!r}; there is {', '.join(outputs)}")
    raw, tensors = b"", []
    for one in wanted:
        value = np.require(outputs[one.name], requirements="C")
        tensor: dict[str, Any] = {"name": one.name, "datatype": NAMES[value.dtype.name], "shape": list(value.shape)}
        if one.parameters.get("binary_data", request.parameters.binary_data_output):
            own = value.tobytes()
            tensor["parameters"] = {"binary_data_size": len(own)}
            raw += own
        else:
            tensor["data"] = value.ravel().tolist()
        tensors.append(tensor)
    head = json.dumps({"model_name": model, "model_version": version, "id": request.id, "outputs": tensors}).encode()
    if not raw:
        return head, {"content-type": "application/json"}
    return head + raw, {"content-type": "application/octet-stream", HEADER: str(len(head))}


def described(ports: Mapping[str, str]) -> list[dict[str, Any]]:
    """Inputs or outputs as metadata tells them, from a signature's types.

    >>> described({"x": "float32[-1,4]", "text": "string"})
    [{'name': 'x', 'datatype': 'FP32', 'shape': [-1, 4]}, {'name': 'text', 'datatype': 'BYTES', 'shape': [-1]}]
    """
    found = []
    for name, told in ports.items():
        kind, _, sizes = told.rstrip("]").partition("[")
        shape = [int(size) for size in sizes.split(",")] if sizes else [-1] if kind == "string" else []
        found.append({"name": name, "datatype": NAMES.get(kind, "BYTES"), "shape": shape})
    return found
