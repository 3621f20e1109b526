"""Two graphs over the same weights: one that tells the logits of the last position only, and one of all positions.

Writing needs the last position alone: the head is a fifth of a small model's work in reading a prompt, and the
logits of a position take 4 bytes for each token of the vocabulary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.backends.onnx.names import CONFIG, FILE, SCORING

# Tokens of a prompt that are read at once. The kernel of attention multiplies their whole square, then masks half, so
# long prompts go faster in parts (2 cores with AMX: 512 tokens by a fifth, 960 by more than a half, 256 not).
CHUNK = 128
AFTER_HEAD = ("Add", "Mul", "Div", "Tanh", "Cast")  # what may stand between the head and the logits


def prune(folder: Path) -> bool:
    """Let model.onnx tell the last position alone, with the graph of all beside it; False where no head is found."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(folder / FILE, load_external_data=False)
    head = _head(model.graph)
    if head is None:
        return False
    onnx.save(model, folder / SCORING)
    hidden, names = head.input[0], [f"last_position_{part}" for part in ("index", "row", "axis", "hidden")]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for value, name in ((_whole(-1), names[0]), (_whole(1, 1), names[2]))
    )
    picked = [
        helper.make_node("Gather", [hidden, names[0]], [names[1]], name=names[1], axis=1),
        helper.make_node("Unsqueeze", [names[1], names[2]], [names[3]], name=names[3]),
    ]
    head.input[0] = names[3]
    at = next(number for number, node in enumerate(model.graph.node) if node == head)
    nodes = [*model.graph.node[:at], *picked, *model.graph.node[at:]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for port in model.graph.output:
        if port.name == "logits":
            port.type.tensor_type.shape.dim[1].Clear()
            port.type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, folder / FILE)
    return True


def _whole(value: int, *shape: int) -> Any:
    import numpy as np

    return np.full(shape, value, np.int64)


def _head(graph: Any) -> Any | None:
    """The product that makes the logits, back through what is computed of each logit alone."""
    producers = {name: node for node in graph.node for name in node.output}
    held = {one.name for one in graph.initializer}
    node = producers.get("logits")
    while node is not None and node.op_type in AFTER_HEAD:
        node = next((producers[name] for name in node.input if name in producers and name not in held), None)
    return node if node is not None and node.op_type in ("MatMul", "MatMulNBits", "Gemm") else None


def read_in_chunks(folder: Path) -> None:
    """Let onnxruntime-genai read prompts in parts."""
    file = folder / CONFIG
    settings = json.loads(file.read_text())
    settings["search"]["chunk_size"] = CHUNK
    file.write_text(json.dumps(settings, indent=4) + "\n")


def chunk_of(folder: Path) -> int:
    """Tokens that the artifact reads at once; 0: all of them."""
    file = folder / CONFIG
    return int(json.loads(file.read_text())["search"].get("chunk_size", 0)) if file.is_file() else 0
