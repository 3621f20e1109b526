"""Inputs and outputs of a model of named arrays, as its own file tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.errors import UnsupportedError

ONNX, OPENVINO = "model.onnx", "model.xml"


class Ports(NamedTuple):
    """Names in their order, each with NumPy's name of its type and its sizes; -1: any size, `str`: texts."""

    inputs: dict[str, tuple[str, tuple[int, ...]]]
    outputs: dict[str, tuple[str, tuple[int, ...]]]

    @property
    def batched(self) -> bool:
        """Whether the first size of all of them is free, so that requests can share a batch."""
        return all(sizes[:1] == (-1,) for one in self for _, sizes in one.values())


def ports(backend: str, model: Path) -> Ports:
    """What the model's file tells; raises UnsupportedError for a backend whose files are not read here."""
    if backend == "onnx":
        return _onnx(model / ONNX)
    if backend == "openvino":
        return _openvino(model / OPENVINO)
    raise UnsupportedError(f"inputs of a model of {backend} are not read; allowed: onnx, openvino")


def _onnx(file: Path) -> Ports:
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    weights = {one.name for one in graph.initializer}

    def told(one: Any) -> tuple[str, tuple[int, ...]]:
        kind = onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
        sizes = tuple(size.dim_value or -1 for size in one.type.tensor_type.shape.dim)
        return ("str" if kind == np.object_ else np.dtype(kind).name, sizes)

    return Ports(
        {one.name: told(one) for one in graph.input if one.name not in weights},
        {one.name: told(one) for one in graph.output},
    )


def _openvino(file: Path) -> Ports:
    import openvino as ov

    model = ov.Core().read_model(str(file))

    def told(port: Any) -> tuple[str, tuple[int, ...]]:
        sizes = tuple(one.get_length() if one.is_static else -1 for one in port.partial_shape)
        return (np.dtype(port.element_type.to_dtype()).name, sizes)

    return Ports({one.any_name: told(one) for one in model.inputs}, {one.any_name: told(one) for one in model.outputs})
