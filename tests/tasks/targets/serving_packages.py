"""Small packages for servers: a language model's files by name, and a linear model that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.packaging.manifest import write_manifest
from tasks.targets.base import Shipped
from tests import factories as make

WIDTH, CLASSES = 6, 3
PROBES = (
    "The capital of France is Paris, and the capital of Italy is",
    "Water boils at a temperature of one hundred degrees, because the",
)


def files(folder: Path, backend: str = "openvino", **options: Any) -> Shipped:
    """A package whose files have the right names and nothing in them."""
    model = folder / "model"
    model.mkdir(parents=True)
    if backend == "openvino":
        for name in ("openvino_model", "openvino_tokenizer", "openvino_detokenizer"):
            (model / f"{name}.xml").write_text('<?xml version="1.0"?><net name="a"></net>')
            (model / f"{name}.bin").write_bytes(bytes(64))
    else:
        (model / "model.onnx").write_bytes(b"graph")
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    write_manifest(folder)
    contents = make.contents(backend, variant=f"{backend}-int8", requirements=("openvino==2026.4.1",))
    return Shipped(folder, contents, make.profile(), "sample", options)


def linear(folder: Path, backend: str = "onnx", rows: int | str = "batch", **options: Any) -> Shipped:
    """A package with a linear model in ONNX's or OpenVINO's files."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).standard_normal((WIDTH, CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "w"], ["classes"])], "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [rows, WIDTH])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, [rows, CLASSES])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model").mkdir(parents=True)
    onnx.save(made, folder / "model" / "model.onnx")
    if backend == "openvino":
        import openvino as ov

        ov.save_model(ov.convert_model(folder / "model" / "model.onnx"), folder / "model" / "model.xml")
        (folder / "model" / "model.onnx").unlink()
    write_manifest(folder)
    contents = make.contents(backend, kind="onnx-file", family="arrays", variant=f"{backend}-fp32")
    return Shipped(folder, contents, make.profile(family="arrays"), "linear", options)


def written(folder: Path, model: Path, tokenizer: Path) -> Shipped:
    """A language model that runs, in OpenVINO's files, with its tokenizer."""
    import shutil

    from tasks.backends.base import Work
    from tasks.backends.table import tokens

    (folder / "model").mkdir(parents=True)
    recipe = make.recipe(backend="openvino", precision="fp32", method="default", group_size=0)
    tokens("openvino").convert(Work(model, PROBES, 2), recipe, folder / "model")
    shutil.copytree(tokenizer, folder / "tokenizer")
    write_manifest(folder)
    profile = make.profile(heads=4, kv_heads=2, layers=2, hidden_size=128, head_dim=32, context_length=512)
    return Shipped(folder, make.contents("openvino", variant="openvino-fp32"), profile, "tiny", {}, PROBES)
