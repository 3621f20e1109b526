"""Matrix products in 8-bit integers: weights with a scale per output, activations quantized while running."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.onnx.w8a8.graph import OWN, Graph, attribute

LARGEST = 127
BLOCK = 32
TABLE = 1024  # rows from which a table is large enough to matter
MIDDLE = 128  # zero of an unsigned byte
LAST, SMALL, ZERO = "w8a8_last_axis", "w8a8_smallest", "w8a8_zero"  # constants that nodes share
ACCURACY_LEVEL = 4  # activations in int8 inside MatMulNBits: the fast kernels


def quantize(graph: Graph, value: str, by_rows: bool = False, unsigned: bool = False) -> None:
    """Put integer operators in the place of the matrix products that read a value.

    `by_rows`: each row is divided by its largest magnitude before, and the product multiplied by it, so that a row with
    outliers takes no precision from the others. `unsigned`: weights are bytes around 128. Processors that add pairs of
    products in 16 bits overflow with signed weights, and have exact kernels for bytes.
    """
    from onnx import helper

    source, names, before = value, [f"{value}_{part}" for part in ("quantized", "scale", "zero")], list[Any]()
    if by_rows:
        graph.weights[LAST] = np.array([-1], np.int64)
        size, source = f"{value}_size", f"{value}_level"
        before = [
            helper.make_node("Abs", [value], [f"{value}_magnitude"], name=f"{value}_magnitude"),
            helper.make_node("ReduceMax", [f"{value}_magnitude", LAST], [f"{size}_0"], name=size, keepdims=1),
            helper.make_node("Max", [f"{size}_0", SMALL], [size], name=f"{size}_positive"),
            helper.make_node("Div", [value, size], [source], name=source),
        ]
        graph.weights[SMALL] = np.array([1e-12], np.float32)
    shared = [*before, helper.make_node("DynamicQuantizeLinear", [source], names, name=names[0])]
    for number, node in enumerate(_readers(graph, value)):
        made = _product(graph, node, names, f"{value}_size" if by_rows else "", unsigned)
        graph.replace(node, [*(shared if number == 0 else ()), *made])
    graph.drop_unread()


def quantize_in_blocks(graph: Graph, value: str) -> None:
    """The same with a scale for each block of 32 inputs, of weights and activations."""
    for node in _readers(graph, value):
        graph.replace(node, [_in_blocks(graph, node)])
    graph.drop_unread()


def _readers(graph: Graph, value: str) -> list[Any]:
    return [node for node in graph.products() if node.input[0] == value]


def _product(graph: Graph, node: Any, names: list[str], size: str, unsigned: bool) -> list[Any]:
    from onnx import helper

    weight, out = node.input[1], node.output[0]
    integers, graph.weights[f"{weight}_scale"] = per_output(graph.weights[weight])
    graph.weights[f"{weight}_int8"] = _as_bytes(integers) if unsigned else integers
    given = [names[0], f"{weight}_int8", names[1], f"{weight}_scale", names[2]]
    if unsigned:
        graph.weights[ZERO] = np.array(MIDDLE, np.uint8)
        given.append(ZERO)
    level = f"{out}_level" if size else out
    made = helper.make_node(
        "MatMulIntegerToFloat", given, [level], name=f"{node.name}_integer", domain=OWN
    )  # fmt: skip
    return [made, helper.make_node("Mul", [level, size], [out], name=f"{node.name}_whole")] if size else [made]


def _as_bytes(integers: NDArray[np.int8]) -> NDArray[np.uint8]:
    return (integers.astype(np.int16) + MIDDLE).astype(np.uint8)


def per_output(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers and one scale per column of a weight (inputs, outputs)."""
    scale = np.maximum(np.abs(weight).max(0), 1e-12) / LARGEST
    return np.clip(np.rint(weight / scale), -LARGEST, LARGEST).astype(np.int8), scale.astype(np.float32)


def in_blocks(rows: NDArray[np.float32], size: int = BLOCK) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Bytes and scales of rows (outputs, inputs) in blocks along the inputs; the last block is filled up with zeros.

    Shapes (outputs, blocks * size) and (outputs, blocks).
    """
    count = -(-rows.shape[1] // size)
    blocks = np.pad(rows, ((0, 0), (0, count * size - rows.shape[1]))).reshape(len(rows), count, size)
    scale = np.maximum(np.abs(blocks).max(-1), 1e-12) / LARGEST
    held = np.clip(np.rint(blocks / scale[..., None]), -LARGEST, LARGEST) + MIDDLE
    return held.astype(np.uint8).reshape(len(rows), -1), scale.astype(np.float32)


def _in_blocks(graph: Graph, node: Any) -> Any:
    weight = graph.weights[node.input[1]]
    names = [f"{node.input[1]}_blocks", f"{node.input[1]}_scales"]
    held, graph.weights[names[1]] = in_blocks(weight.T)
    graph.weights[names[0]] = held.reshape(weight.shape[1], -1, BLOCK)
    return _block_product(node, names, weight.shape)


def _block_product(node: Any, names: list[str], shape: tuple[int, ...]) -> Any:
    from onnx import helper

    return helper.make_node(
        "MatMulNBits", [node.input[0], *names], list(node.output), name=f"{node.name}_blocks", domain=OWN,
        K=shape[0], N=shape[1], bits=8, block_size=BLOCK, accuracy_level=ACCURACY_LEVEL,
    )  # fmt: skip


def ends_in_blocks(graph: Graph) -> None:
    """Head and embedding of a decoder in 8-bit blocks, held once where their weights are equal."""
    from onnx import helper

    head = next(node for node in graph.products() if node.output[0] in graph.outputs)
    gather = next(node for node in graph.nodes if node.op_type == "Gather" and node.input[0] in graph.weights)
    embedding, weight = graph.weights[gather.input[0]], graph.weights[head.input[1]]
    tied = embedding.shape[::-1] == weight.shape and np.array_equal(embedding, weight.T)
    names = _gather_in_blocks(graph, gather)
    if tied:
        shape, view = f"{names[0]}_shape", f"{names[0]}_view"
        graph.weights[shape] = np.array([len(embedding), -1, BLOCK], np.int64)
        reshape = helper.make_node("Reshape", [names[0], shape], [view], name=view)
        graph.replace(head, [reshape, _block_product(head, [view, names[1]], weight.shape)])
    else:
        graph.replace(head, [_in_blocks(graph, head)])
    graph.drop_unread()


def embeddings_in_blocks(graph: Graph) -> int:
    """Tables of many rows that are looked up in 8-bit blocks; how many."""
    tables = [
        node
        for node in graph.nodes
        if node.op_type == "Gather" and _is_table(graph.weights.get(node.input[0])) and not attribute(node, "axis", 0)
    ]
    for node in tables:
        _gather_in_blocks(graph, node)
    graph.drop_unread()
    return len(tables)


def _is_table(weight: NDArray[Any] | None) -> bool:
    return (
        weight is not None and weight.dtype == np.float32 and weight.ndim == 2
        and len(weight) >= TABLE and not weight.shape[1] % BLOCK
    )  # fmt: skip


def _gather_in_blocks(graph: Graph, gather: Any) -> list[str]:
    from onnx import helper

    names = [f"{gather.input[0]}_blocks", f"{gather.input[0]}_scales"]
    graph.weights[names[0]], graph.weights[names[1]] = in_blocks(graph.weights[gather.input[0]])
    made = helper.make_node(
        "GatherBlockQuantized", [names[0], gather.input[1], names[1]], list(gather.output),
        name=f"{gather.name}_blocks", domain=OWN, bits=8, block_size=BLOCK,
    )  # fmt: skip
    graph.replace(gather, [made])
    return names
