"""Weights that came on a grid are kept on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backends.base import Work
from tasks.backends.mlx.affine import GROUP, grid_of
from tasks.backends.table import backend, tokens
from tasks.kinds.causal_lm import expanding
from tasks.kinds.causal_lm.quality import kl_divergence, log_softmax
from tasks.params.pipeline import Fetch
from tests.factories import recipe

IDS = [1, 19556, 905, 216, 33, 34, 100, 2000, 3, 44, 512, 9]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["Q4_0", "Q4_1", "Q8_0"]))
def test_what_a_file_holds_is_found_again(seed: int, name: str) -> None:
    import gguf

    kind = gguf.GGMLQuantizationType[name]
    drawn = np.random.default_rng(seed).normal(size=(4, 3 * GROUP)).astype(np.float32)
    expanded = gguf.quants.dequantize(gguf.quants.quantize(drawn, kind), kind)
    grid = grid_of(expanded)
    assert grid is not None and grid.bits == int(name[1])
    steps = grid.steps.reshape(4, 3, GROUP).astype(np.float32)
    again = grid.scales.astype(np.float32)[..., None] * steps + grid.biases.astype(np.float32)[..., None]
    assert np.abs(again.reshape(expanded.shape) - expanded).max() <= 2e-3 * np.abs(expanded).max()


@given(st.integers(0, 2**32 - 1))
def test_what_lies_on_no_grid_has_none(seed: int) -> None:
    drawn = np.random.default_rng(seed).normal(size=(8, 8 * GROUP)).astype(np.float32)
    assert grid_of(drawn) is None
    assert grid_of(drawn[:, :-1]) is None, "a row that is no whole number of groups"


@pytest.mark.parametrize(("method", "precision"), [("q4_1", "int4"), ("q8_0", "int8")])
def test_mlx_keeps_the_grid_of_a_file(tiny_model: Path, tmp_path: Path, method: str, precision: str) -> None:
    given_as, model = tmp_path / "given", tmp_path / "model"
    for folder in (given_as, model):
        folder.mkdir()
    wanted = recipe(backend="gguf", precision=precision, method=method, group_size=0)
    backend("gguf").convert(Work(model=tiny_model, calibration=(), threads=2), wanted, given_as)
    expanding.expand(Fetch(model=str(given_as / "model.gguf")), model)
    reference = tokens("torch").scorer(model, 2)
    expected = log_softmax(reference.score(IDS))
    reference.close()
    lost = {}
    for name in ("as-stored", "default"):
        out = tmp_path / name
        out.mkdir()
        made = recipe(backend="mlx", precision=precision, method=name, group_size=32)
        backend("mlx").convert(Work(model=model, calibration=(), threads=2), made, out)
        scorer = tokens("mlx").scorer(out, 2)
        lost[name] = float(np.mean(kl_divergence(expected, log_softmax(scorer.score(IDS)))))
        scorer.close()
    assert lost["as-stored"] < 0.01 and lost["as-stored"] < lost["default"] / 5, lost
    counted = backend("mlx").tensor_bytes(tmp_path / "as-stored")
    assert f"U32/{8 if method == 'q8_0' else 4}bit" in counted
