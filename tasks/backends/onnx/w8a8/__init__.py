"""Decoders with weights and activations in 8-bit integers, for ONNX Runtime's integer matrix products.

Each product's input gets the cheapest way that keeps its output: one scale for all of it, after its outliers were moved
into weights (`smooth`); a scale for each row; or one for each block of a row. Head and embedding are in blocks. Every
step but rounding is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tasks.backends.onnx.w8a8.choice import Choice, choose, divisors
from tasks.backends.onnx.w8a8.graph import DATA, Graph
from tasks.backends.onnx.w8a8.integer import ends_in_blocks, quantize, quantize_in_blocks
from tasks.backends.onnx.w8a8.seen import Floats, observe
from tasks.backends.onnx.w8a8.smooth import divide, folds

TEXTS, TOKENS = 24, 128  # what is read to see the values


def make(source: Path, texts: Sequence[Sequence[int]], out: Path, unsigned: bool = False) -> dict[str, Choice]:
    """Write `out` from an fp32 decoder of onnxruntime-genai's builder; how the input of its products was quantized.

    `texts` are rows of token ids; `unsigned` stands in `quantize`.
    """
    graph = Graph(source)
    found, without = folds(graph)
    by_value = {fold.value: fold for fold in found}
    values = [*by_value, *without]
    seen = observe(graph, values, [ids[:TOKENS] for ids in texts[:TEXTS]], out.parent)
    chosen = {value: choose(by_value.get(value), seen[value], _weights(graph, value)) for value in values}
    for fold in found:
        scale = divisors(fold, seen[fold.value], _weights(graph, fold.value), chosen[fold.value].alpha)
        divide(graph, fold, scale.reshape(*fold.heads, -1)[:, 0].ravel())
    for value, choice in chosen.items():
        if choice.way == "blocks":
            quantize_in_blocks(graph, value)
        else:
            quantize(graph, value, choice.way == "rows", unsigned)
    ends_in_blocks(graph)
    graph.save(out)
    (out.parent / (out.name + DATA)).chmod(0o644)  # onnx keeps data files to their owner
    return chosen


def _weights(graph: Graph, value: str) -> list[Floats]:
    return [graph.weights[node.input[1]] for node in graph.products() if node.input[0] == value]


def in_words(chosen: dict[str, Choice]) -> str:
    """How many products' inputs were quantized in which way."""
    counted: Counter[str] = Counter(choice.way for choice in chosen.values())
    words = {"tensor": "by one scale", "rows": "by rows", "blocks": "in blocks"}
    return ", ".join(f"{counted[way]} {said}" for way, said in words.items() if counted[way])
