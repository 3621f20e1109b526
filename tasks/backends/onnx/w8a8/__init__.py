"""Decoders with weights and activations in 8-bit integers, for ONNX Runtime's integer matrix products.

Each product's input gets the cheapest way that keeps its output: one scale for all of it, after its outliers were moved
into weights (`smooth`); a scale for each row; or one for each block of a row. Head and embedding are in blocks. Every
step but rounding is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tasks.backends.base import Feeds
from tasks.backends.onnx.w8a8.choice import Choice, choose, divisors
from tasks.backends.onnx.w8a8.graph import DATA, Graph
from tasks.backends.onnx.w8a8.integer import embeddings_in_blocks, ends_in_blocks, quantize, quantize_in_blocks
from tasks.backends.onnx.w8a8.seen import Floats, decoder_feeds, observe
from tasks.backends.onnx.w8a8.smooth import divide, folds
from tasks.errors import UnsupportedError

TEXTS, TOKENS = 24, 128  # what is read to see the values


def make(source: Path, texts: Sequence[Sequence[int]], out: Path, unsigned: bool = False) -> dict[str, Choice]:
    """Write `out` from an fp32 decoder of onnxruntime-genai's builder; how the input of its products was quantized.

    `texts` are rows of token ids; `unsigned` stands in `quantize`.
    """
    graph = Graph(source)
    ports = graph.model.graph.input
    chosen = _in_integers(graph, [decoder_feeds(ports, ids[:TOKENS]) for ids in texts[:TEXTS]], out, unsigned)
    ends_in_blocks(graph)
    _save(graph, out)
    return chosen


def make_plain(source: Path, rows: Sequence[Feeds], out: Path, unsigned: bool = False) -> dict[str, Choice]:
    """The same of any graph with matrix products, which has no head and no embedding; `rows` are its inputs.

    Raises UnsupportedError without rows, and for a graph without such products.
    """
    if not rows:
        raise UnsupportedError("int8 of weights and activations needs calibration rows, which were not given")
    graph = Graph(source)
    if not graph.products():
        raise UnsupportedError("this model has no matrix product with a weight, so that nothing is to be quantized")
    chosen = _in_integers(graph, rows[:TEXTS], out, unsigned)
    embeddings_in_blocks(graph)
    _save(graph, out)
    return chosen


def shrink_embeddings(file: Path) -> None:
    """Put the tables of a graph that are looked up into 8-bit blocks, where it has large ones."""
    graph = Graph(file)
    if embeddings_in_blocks(graph):
        _save(graph, file)


def _in_integers(graph: Graph, rows: Sequence[Feeds], out: Path, unsigned: bool) -> dict[str, Choice]:
    found, without = folds(graph)
    by_value = {fold.value: fold for fold in found}
    values = [*by_value, *without]
    seen = observe(graph, values, rows, out.parent)
    chosen = {value: choose(by_value.get(value), seen[value], _weights(graph, value)) for value in values}
    for fold in found:
        scale = divisors(fold, seen[fold.value], _weights(graph, fold.value), chosen[fold.value].alpha)
        divide(graph, fold, scale.reshape(*fold.heads, -1)[:, 0].ravel())
    for value, choice in chosen.items():
        if choice.way == "blocks":
            quantize_in_blocks(graph, value)
        else:
            quantize(graph, value, choice.way == "rows", unsigned)
    return chosen


def _save(graph: Graph, out: Path) -> None:
    graph.save(out)
    data = out.parent / (out.name + DATA)
    if data.is_file():
        data.chmod(0o644)  # onnx keeps data files to their owner


def _weights(graph: Graph, value: str) -> list[Floats]:
    return [graph.weights[node.input[1]] for node in graph.products() if node.input[0] == value]


def in_words(chosen: dict[str, Choice]) -> str:
    """How many products' inputs were quantized in which way."""
    counted: Counter[str] = Counter(choice.way for choice in chosen.values())
    words = {"tensor": "by one scale", "rows": "by rows", "blocks": "in blocks"}
    return ", ".join(f"{counted[way]} {said}" for way, said in words.items() if counted[way])
