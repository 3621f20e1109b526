"""Move outliers of activations into weights, exactly: what produces a value is divided by what its reader is times.

SmoothQuant (Xiao et al. 2023, arXiv:2211.10438): channel j of a matrix product's input is divided by
s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), row j of its weight times s_j. Where the producer is linear in a weight of
its own, the division is folded into that: a norm's weight, the columns of the values in attention, the columns of the
factor that a gate multiplies. Nothing is computed that was not computed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.onnx.w8a8.graph import Graph, attribute

NORMS = {  # operator -> places of weight and bias among its inputs
    "SimplifiedLayerNormalization": (1,),
    "SkipSimplifiedLayerNormalization": (2,),
    "LayerNormalization": (1, 2),
    "SkipLayerNormalization": (2, 3),
}
LEAST = 1e-5  # of a magnitude, so that no channel is divided by nothing

Scale = NDArray[np.float32]


@dataclass(frozen=True)
class Fold:
    """A value that several products read, and the weights whose channels give it, each with its axis of channels."""

    value: str
    readers: tuple[str, ...]  # names of the products' weights, (channels, outputs)
    givers: tuple[tuple[str, slice], ...]  # weights whose last axis, within the slice, are the channels
    heads: tuple[int, int] = (1, 1)  # of values, and of queries that read each


def folds(graph: Graph) -> tuple[list[Fold], dict[str, str]]:
    """All folds of a decoder, and the values for which there is none, each with the reason."""
    found, without = list[Fold](), dict[str, str]()
    values = dict.fromkeys(node.input[0] for node in graph.products() if node.output[0] not in graph.outputs)
    for value in values:
        fold = _fold(graph, value, graph.consumers(value))
        if isinstance(fold, Fold):
            found.append(fold)
        else:
            without[value] = fold
    return found, without


def _fold(graph: Graph, value: str, readers: list[Any]) -> Fold | str:
    if any(node.op_type != "MatMul" or node.input[1] not in graph.weights for node in readers):
        return "something beside matrix products reads it"
    weights = tuple(node.input[1] for node in readers)
    node = graph.producer(value)
    if node is None:
        return "it is an input"
    if node.op_type in NORMS and node.output[0] == value:
        given = [node.input[place] for place in NORMS[node.op_type] if len(node.input) > place and node.input[place]]
        return Fold(value, weights, tuple((name, slice(None)) for name in given))
    if node.op_type == "GroupQueryAttention":
        return _of_attention(graph, value, weights, node)
    if node.op_type == "Mul":
        return _of_gate(graph, value, weights, node)
    return f"{node.op_type} is not linear in a weight"


def _of_attention(graph: Graph, value: str, readers: tuple[str, ...], node: Any) -> Fold | str:
    """Attention is linear in the values: a head of theirs is read by all heads of queries that share it."""
    heads, kept = attribute(node, "num_heads"), attribute(node, "kv_num_heads")
    packed = not node.input[2]
    givers = _linear(graph, node.input[0 if packed else 2])
    if isinstance(givers, str):
        return givers
    width = graph.weights[givers[0]].shape[-1]
    size = width // (heads + 2 * kept) if packed else width // kept
    last = slice(width - kept * size, width)
    return Fold(value, readers, tuple((name, last) for name in givers), (kept, heads // kept))


def _of_gate(graph: Graph, value: str, readers: tuple[str, ...], node: Any) -> Fold | str:
    """A product of two is linear in either; the one that comes straight out of a matrix product has weights."""
    found = [_linear(graph, name) for name in node.input]
    for givers in found:
        if not isinstance(givers, str):
            return Fold(value, readers, tuple((name, slice(None)) for name in givers))
    return " and ".join(str(one) for one in found)


def _linear(graph: Graph, value: str) -> list[str] | str:
    """The weight, and the bias if there is one, that give a value which nothing else reads; else why there is none."""
    if len(graph.consumers(value)) != 1:
        return f"{value} has several readers"
    node = graph.producer(value)
    bias = []
    if node is not None and node.op_type == "Add":
        bias = [name for name in node.input if name in graph.weights]
        before = [name for name in node.input if name not in graph.weights]
        node = graph.producer(before[0]) if bias and len(graph.consumers(before[0])) == 1 else None
    if node is None or node.op_type != "MatMul" or node.input[1] not in graph.weights:
        return f"{value} does not come out of a matrix product"
    return [node.input[1], *bias]


def divide(graph: Graph, fold: Fold, scale: Scale) -> None:
    """Divide the channels of a value in its givers, multiply them in its readers; `scale` is by giver's channel."""
    for name, part in fold.givers:
        weight = graph.weights[name].copy()
        weight[..., part] /= scale
        graph.weights[name] = weight
    for name in fold.readers:
        graph.weights[name] = graph.weights[name] * spread(scale, fold)[:, None]


def scale_of(fold: Fold, magnitudes: Scale, readers: Sequence[NDArray[Any]], alpha: float) -> Scale:
    """Divisors of the giver's channels, one for all readers and for all heads of queries that share a channel."""
    of_weight = np.max([np.abs(weight).max(1) for weight in readers], axis=0)
    seen, held = (one.reshape(*fold.heads, -1).max(1).ravel() for one in (magnitudes, of_weight))
    found = np.maximum(seen, LEAST) ** alpha / np.maximum(held, LEAST) ** (1 - alpha)
    scale: Scale = np.maximum(found, LEAST).astype(np.float32)
    return scale


def spread(scale: Scale, fold: Fold) -> Scale:
    """The divisors by channel of the readers' input: each head of values is read by several of queries."""
    shared, repeats = fold.heads
    found: Scale = np.repeat(scale.reshape(shared, 1, -1), repeats, axis=1).ravel()
    return found
