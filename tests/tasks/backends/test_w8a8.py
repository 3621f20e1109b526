"""Weights and activations in 8 bits: what is folded changes nothing, what is rounded loses little."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tasks.backends.base import Work
from tasks.backends.onnx import w8a8
from tasks.backends.onnx.head import chunk_of
from tasks.backends.onnx.names import FILE, SCORING
from tasks.backends.onnx.w8a8 import choice as choices
from tasks.backends.onnx.w8a8.graph import Graph
from tasks.backends.onnx.w8a8.integer import in_blocks, per_output, quantize
from tasks.backends.onnx.w8a8.seen import decoder_feeds, observe
from tasks.backends.onnx.w8a8.smooth import Fold, divide, folds
from tasks.backends.table import backend, tokens
from tests.factories import recipe
from tests.tasks.backends.test_windows import MODELS

pytestmark = pytest.mark.model
ROWS = [[1, *((37 * number + row) % 48000 + 300 for number in range(40))] for row in range(4)]


@pytest.fixture(scope="module")
def built(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as Olive builds it, unquantized."""
    return unquantized(tiny_model, tmp_path_factory.mktemp("built"))


def unquantized(model: Path, out: Path) -> Path:
    wanted = recipe(backend="onnx", precision="fp32", method="default", group_size=0)
    backend("onnx").convert(Work(model=model, calibration=(), threads=2), wanted, out)
    return out


def logits(graph: Graph, folder: Path, ids: list[int]) -> np.ndarray:
    graph.save(folder / "one.onnx")
    session = onnxruntime.InferenceSession(folder / "one.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], decoder_feeds(graph.model.graph.input, ids))[0][0])


def rows_of(graph: Graph) -> list[dict[str, np.ndarray]]:
    return [decoder_feeds(graph.model.graph.input, ids) for ids in ROWS]


def test_every_input_of_a_product_in_a_llama_can_be_scaled(built: Path) -> None:
    found, without = folds(Graph(built / SCORING))
    assert len(found) == 2 * 4  # per layer: of attention, of its output, of gate and up, of down
    assert without == {}
    assert {fold.heads for fold in found} == {(1, 1), (2, 2)}


def test_folding_changes_nothing_but_roundings(built: Path, tmp_path: Path) -> None:
    graph = Graph(built / SCORING)
    before = logits(graph, tmp_path, ROWS[0])
    dice = np.random.default_rng(1)
    for fold in folds(graph)[0]:
        name, part = fold.givers[0]
        divide(graph, fold, np.exp(dice.normal(size=graph.weights[name][..., part].shape[-1])).astype(np.float32))
    after = logits(graph, tmp_path, ROWS[0])
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()


def test_what_cannot_be_scaled_is_named_with_the_reason(tiny_model: Path, tmp_path: Path) -> None:
    model = MODELS["gemma3"]()
    model.save_pretrained(tmp_path / "gemma")
    for file in tiny_model.glob("tokenizer*"):
        shutil.copy2(file, tmp_path / "gemma" / file.name)
    graph = Graph(unquantized(tmp_path / "gemma", folder(tmp_path / "built")) / SCORING)
    found, without = folds(graph)
    values = {node.input[0] for node in graph.products() if node.output[0] != "logits"}
    assert {fold.value for fold in found} | set(without) == values
    assert all(without.values())
    chosen = w8a8.make(tmp_path / "built" / SCORING, ROWS, folder(tmp_path / "out") / FILE, unsigned=True)
    assert set(chosen) == values


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_outlier_in_one_row_is_kept_from_the_others(built: Path, tmp_path: Path) -> None:
    """With one scale for all rows a row a thousand times as large takes what the others have."""
    graph = Graph(built / SCORING)
    fold = next(fold for fold in folds(graph)[0] if fold.heads == (1, 1))
    seen = observe(graph, [fold.value], rows_of(graph), tmp_path)[fold.value]
    weights = [graph.weights[name] for name in fold.readers]
    assert choices.choose(None, seen, weights).way == "tensor"
    rows, high, low = seen.rows.copy(), seen.high.copy(), seen.low.copy()
    for text in range(len(ROWS)):
        first = int(np.flatnonzero(seen.text == text)[0])
        rows[first] *= 1000
        high[text], low[text] = np.maximum(high[text], rows[first]), np.minimum(low[text], rows[first])
    spiked = choices.Seen(rows, seen.text, high, low)
    assert choices._error(spiked, weights[0], np.ones(rows.shape[1], np.float32), "tensor") > 0.3
    assert choices.choose(None, spiked, weights).way == "rows"


@pytest.mark.parametrize("by_rows", [False, True])
def test_products_in_integers_are_near_those_in_floating_point(built: Path, tmp_path: Path, by_rows: bool) -> None:
    graph = Graph(built / SCORING)
    before = logits(graph, tmp_path, ROWS[1])
    for value in dict.fromkeys(node.input[0] for node in graph.products() if node.output[0] != "logits"):
        quantize(graph, value, by_rows, unsigned=True)
    assert not [node for node in graph.products() if node.output[0] != "logits"]
    after = logits(graph, tmp_path, ROWS[1])
    error = np.abs(after - before).mean() / before.std()
    assert 0 < error < 0.1


def test_a_made_artifact_reads_in_parts_and_scores_as_it_writes(tiny_model: Path, tmp_path: Path) -> None:
    """The scorer reads the same parts as onnxruntime-genai, whose activations share scales by part."""
    wanted = recipe(backend="onnx", precision="int8", method="w8a8-unsigned", group_size=0)
    texts = tuple(f"What is {number} plus {number}? It is {2 * number}." for number in range(8))
    out = folder(tmp_path / "out")
    backend("onnx").convert(Work(model=tiny_model, calibration=texts, threads=2), wanted, out)
    assert chunk_of(out) == 128
    ids = [1, *((37 * number) % 48000 + 300 for number in range(299))]
    one = tokens("onnx")
    scorer, speaker = one.scorer(out, 2), one.speaker(out, 2)
    scores = scorer.score(ids)
    assert scores.shape == (300, 49152)
    assert speaker.generate(ids, 1) == [int(scores[-1].argmax())]
    assert [len(one) for one in speaker.generate_batch([ids, ids], 2)] == [2, 2]  # longer than a part
    assert len(speaker.generate_batch([ids[:40], ids[:40]], 2)) == 2


def test_a_model_without_calibration_texts_is_refused(tiny_model: Path, built: Path, tmp_path: Path) -> None:
    wanted = recipe(backend="onnx", precision="int8", method="w8a8", group_size=0)
    with pytest.raises(Exception, match="needs calibration texts"):
        backend("onnx").convert(
            Work(model=tiny_model, calibration=(), threads=2, intermediate=built), wanted, folder(tmp_path / "out")
        )


def test_blocks_and_columns_hold_their_largest_weight() -> None:
    weight = np.random.default_rng(2).normal(size=(40, 6)).astype(np.float32)
    integers, scale = per_output(weight)
    assert np.abs(integers * scale - weight).max() <= scale.max() / 2 + 1e-6
    held, scales = in_blocks(weight.T)
    assert held.shape == (6, 64)
    assert scales.shape == (6, 2)
    found = (held.reshape(6, 2, 32).astype(np.float32) - 128) * scales[..., None]
    assert np.abs(found.reshape(6, 64)[:, :40] - weight.T).max() <= scales.max() / 2 + 1e-6


def test_a_fold_with_shared_heads_has_one_divisor_for_each_channel_of_the_values() -> None:
    fold = Fold("x", ("w",), (("v", slice(0, 4)),), heads=(2, 3))
    seen = np.arange(12, dtype=np.float32) + 1
    from tasks.backends.onnx.w8a8.smooth import scale_of, spread

    scale = scale_of(fold, seen, [np.ones((12, 5), np.float32)], 1.0)
    assert scale.tolist() == [5, 6, 11, 12]
    assert spread(scale, fold).tolist() == [5, 6, 5, 6, 5, 6, 11, 12, 11, 12, 11, 12]
