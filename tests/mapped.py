"""Packages of models of named arrays in a few operators, for tests: a text encoder and a picture classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tasks.backends.base import Work
from tasks.backends.table import backend
from tasks.kinds.image_classifier import digits
from tasks.kinds.text_encoder import checkpoint
from tasks.kinds.text_encoder.checkpoint import Encoder
from tasks.kinds.text_encoder.words import VECTOR
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tests import factories as make

VOCABULARY, SIZE = 30522, 16


def contents(kind: str, digest: str = "d" * 64) -> Contents:
    return Contents(
        model="Tiny", origin="made for tests", source_sha256="1" * 64, variant="onnx-tiny", backend="onnx", kind=kind,
        family="arrays", recipe=make.recipe(backend="onnx", precision="fp32", method="default", group_size=0),
        tensor_share={}, versions={}, runtime={}, settings={}, requirements=(), chat=False, verdict="pass",
        results_digest=digest,
    )  # fmt: skip


def encoder(folder: Path, digest: str = "d" * 64, noise: float = 0.0) -> Path:
    """A mean of token vectors, of length one: an encoder in four operators; `noise` moves each, by its spread."""
    (folder / "model").mkdir(parents=True)
    (folder / "tokenizer").mkdir()
    table = np.random.default_rng(0).normal(size=(VOCABULARY, SIZE))
    table = (table + noise * np.random.default_rng(1).normal(size=table.shape)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "last"], ["column"]),
        helper.make_node("Mul", ["tokens", "column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "one"], ["summed"], keepdims=0),
        helper.make_node("LpNormalization", ["summed"], [VECTOR], axis=1, p=2),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    held = {"table": table, "last": np.array([2]), "one": np.array([1])}
    graph = helper.make_graph(
        nodes, "e", ports, [helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, ["texts", SIZE])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model" / "model.onnx")
    (folder / "tokenizer" / "tokenizer.json").write_bytes((checkpoint.sample() / "tokenizer.json").read_bytes())
    Encoder(pooling="mean", normalize=True, max_tokens=64, stated=True).write(folder / "tokenizer" / checkpoint.FILE)
    contents("text-encoder", digest).write(folder / CONTENTS)
    write_manifest(folder)
    return folder


def classifier(folder: Path) -> Path:
    """The class of a picture is the brightest of its columns."""
    (folder / "model").mkdir(parents=True)
    (folder / "pictures").mkdir()
    nodes = [helper.make_node("ReduceSum", ["image", "axes"], ["classes"], keepdims=0)]
    graph = helper.make_graph(
        nodes, "c", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["pictures", 1, 8, 8])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["pictures", 8])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model" / "model.onnx")
    digits.PREPROCESSING.write(folder / "pictures" / "preprocessing.json")
    (folder / "pictures" / "classes.json").write_text(json.dumps([f"column {number}" for number in range(8)]))
    contents("image-classifier").write(folder / CONTENTS)
    write_manifest(folder)
    return folder


def product(folder: Path, runtime: str) -> Path:
    """One product with ones as a runtime's artifact: four ones in, four fours out."""
    source = folder / "source"
    source.mkdir(parents=True)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="p")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, source / "model.onnx")
    recipe = make.recipe(backend=runtime, precision="fp32", method="default", group_size=0)
    made = folder / "model"
    made.mkdir()
    backend(runtime).convert(Work(model=source, calibration=(), threads=1, family="arrays"), recipe, made)
    return made
