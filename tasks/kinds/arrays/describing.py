"""Describe an ONNX file (S3): sizes, operators, types; nothing is run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.records.model import ModelProfile
from tasks.sources.files import Source

FILE = "model.onnx"
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN")


def describe(folder: Path) -> ModelProfile:
    """Describe model.onnx; memory per precision is that of the weights, what is no product's weight at 32 bits."""
    source = Source.read(folder / "source.json")
    graph = read(folder / FILE).graph
    counted = Counter(node.op_type for node in walk(graph))
    weights = {one.name: size for one in initializers(graph) if (size := _count(one)) > 1}
    products = {name for node in walk(graph) if node.op_type in PRODUCTS for name in node.input[1:] if name in weights}
    count, quantizable = sum(weights.values()), sum(weights[name] for name in products)
    mb = {
        "fp32": 4 * count, "fp16": 2 * count, "bf16": 2 * count, "int8": quantizable + 4 * (count - quantizable),
        "int4": quantizable / 2 + 4 * (count - quantizable),
    }  # fmt: skip
    return ModelProfile(
        **source.model_dump(include={"name", "source", "origin", "sha256", "stored"}),
        modality=source.kind,
        family="arrays",
        architecture=", ".join(f"{number} {name}" for name, number in counted.most_common(3)),
        parameters=count,
        size_mb=round(4 * count / 1e6, 3),
        dtype="float32",
        memory_mb={name: round(size / 1e6, 1) for name, size in mb.items()},
    )


def read(file: Path) -> Any:
    """The model without external data; raises ModelError for what is no ONNX file."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(file, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelError(f"{file} is no ONNX model ({error}); export it again") from error
    if not model.graph.node:
        raise ModelError(f"{file} holds no operators; it is no ONNX model, or an empty one")
    return model


def walk(graph: Any) -> list[Any]:
    """All nodes, those of branches and loops too."""
    found = []
    for node in graph.node:
        found.append(node)
        for one in node.attribute:
            for inner in (one.g, *one.graphs) if one.HasField("g") or one.graphs else ():
                found += walk(inner)
    return found


def initializers(graph: Any) -> list[Any]:
    """All weights, those of branches and loops too, and constants."""
    found = list(graph.initializer)
    for node in graph.node:
        for one in node.attribute:
            if node.op_type == "Constant" and one.name == "value":
                named = type(one.t)()
                named.CopyFrom(one.t)
                named.name = node.output[0]
                found.append(named)
            for inner in (one.g, *one.graphs) if one.HasField("g") or one.graphs else ():
                found += initializers(inner)
    return found


def _count(tensor: Any) -> int:
    size = 1
    for length in tensor.dims:
        size *= length
    return size
