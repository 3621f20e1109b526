"""A graph with rounding learnt in training, as runtimes compute it in integers.

Training leaves FakeQuantize nodes (OpenVINO's operator: round to `levels` steps between two ends, and back). Each is
exactly a QuantizeLinear and a DequantizeLinear where one of the steps is zero; weights are stored as the integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UnsupportedError

OPERATOR = "FakeQuantize"
DOMAIN = "org.openvinotoolkit"
Array = NDArray[Any]


def to_integers(file: Path, out: Path) -> int:
    """Write the graph with pairs of quantizing nodes; returns how many. Raises UnsupportedError for none."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    held |= {node.output[0]: _value(node) for node in graph.node if node.op_type == "Constant"}
    aliases = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    nodes, added, found = [], [], 0
    for node in graph.node:
        if node.op_type != OPERATOR:
            nodes.append(node)
            continue
        source, ends = node.input[0], [_of(held, aliases, name) for name in node.input[1:3]]
        levels = next(int(one.i) for one in node.attribute if one.name == "levels")
        low, high = (np.asarray(end, np.float64) for end in ends)
        scale, zero, kind = grid(low, high, levels)
        name, weight = node.output[0], _of(held, aliases, source)
        axis = int(np.argmax(scale.shape)) if scale.size > 1 else 1
        flat, point = scale.reshape(-1), np.full(scale.size, zero, kind)
        flat, point = (flat[0], point[0]) if scale.size == 1 else (flat, point)
        constants = {f"{name}.scale": np.asarray(flat, np.float32), f"{name}.zero": np.asarray(point, kind)}
        settings = {"axis": axis} if scale.size > 1 else {}
        if weight is None:
            nodes.append(helper.make_node("QuantizeLinear", [source, *constants], [f"{name}.integers"], **settings))
        else:
            whole = np.clip(np.round(np.clip(weight, low, high) / scale) + zero, *_ends(kind)).astype(kind)
            constants[f"{name}.integers"] = whole
        inputs = [f"{name}.integers", f"{name}.scale", f"{name}.zero"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **settings))
        added += [numpy_helper.from_array(value, key) for key, value in constants.items()]
        found += 1
    if not found:
        raise UnsupportedError("this graph has no rounding that was learnt in training")
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    _drop_unused(graph)
    for own in [one for one in model.opset_import if one.domain == DOMAIN]:
        model.opset_import.remove(own)
    onnx.save(model, out)
    return found


def grid(low: Array, high: Array, levels: int) -> tuple[Array, int, Any]:
    """Step, number of the step that is zero, and integer type of rounding between `low` and `high`.

    Raises UnsupportedError where zero is none of the steps, or not the same one for all channels.

    >>> step, zero, kind = grid(np.array(-1.28), np.array(1.27), 256)
    >>> round(float(step), 6), zero, kind.__name__
    (0.01, 0, 'int8')
    >>> step, zero, kind = grid(np.array(0.0), np.array(2.55), 256)
    >>> round(float(step), 6), zero, kind.__name__
    (0.01, 0, 'uint8')
    """
    scale = (high - low) / (levels - 1)
    first = low / scale
    whole = np.round(first)
    if np.abs(first - whole).max() > 1e-2 or np.ptp(whole) > 0:
        raise UnsupportedError("rounding whose steps leave zero out, or differ between channels")
    lowest = int(whole.flat[0])  # the number of the lowest step, zero's being 0
    if lowest >= -128 and lowest + levels - 1 <= 127:
        return scale, 0, np.int8
    if not 0 <= -lowest <= 255:
        raise UnsupportedError("rounding to steps that eight bits do not hold")
    return scale, -lowest, np.uint8


def _ends(kind: Any) -> tuple[int, int]:
    told = np.iinfo(kind)
    return int(told.min), int(told.max)


def _of(held: dict[str, Array], aliases: dict[str, str], name: str) -> Array | None:
    """A constant by its name or another name for it; None of a value that is worked out."""
    while name not in held and name in aliases:
        name = aliases[name]
    return held.get(name)


def _value(node: Any) -> Array:
    from onnx import helper, numpy_helper

    own = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return np.asarray(numpy_helper.to_array(own["value"]) if "value" in own else next(iter(own.values())))


def _drop_unused(graph: Any) -> None:
    """Take constants and weights out that nothing reads any more: the weights as they were before rounding."""
    used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
    for place in (graph.node, graph.initializer):
        for one in [one for one in place if _is_constant(one) and not used & set(_names(one))]:
            place.remove(one)


def _is_constant(one: Any) -> bool:
    return not hasattr(one, "op_type") or one.op_type in ("Constant", "Identity")


def _names(one: Any) -> list[str]:
    return list(one.output) if hasattr(one, "op_type") else [one.name]
