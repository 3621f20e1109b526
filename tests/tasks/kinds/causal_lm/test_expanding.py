"""A model that came quantized: expanded for the reference, and kept as it came for a variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.backends.base import Work
from tasks.backends.table import backend, tokens
from tasks.errors import UnsupportedError
from tasks.kinds.causal_lm import expanding
from tasks.kinds.causal_lm.quality import kl_divergence, log_softmax
from tasks.params.pipeline import Fetch
from tasks.sources.gguf import as_given
from tests.factories import recipe

IDS = [1, 19556, 905, 216, 33, 34, 100, 2000, 3, 44, 512, 9]
KEPT = recipe(backend="gguf", precision="int8", method="as-stored", group_size=0)


@pytest.fixture(scope="module")
def quantized(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("quantized") / "model"
    out.mkdir()
    wanted = recipe(backend="gguf", precision="int8", method="q8_0", group_size=0)
    backend("gguf").convert(Work(model=tiny_model, calibration=(), threads=2), wanted, out)
    return out / "model.gguf"


def test_the_file_is_kept_and_is_a_variant_of_one_quantization(quantized: Path, tmp_path: Path) -> None:
    model, made, again = tmp_path / "model", tmp_path / "made", tmp_path / "again"
    for folder in (model, made, again):
        folder.mkdir()
    origin = expanding.expand(Fetch(model=str(quantized)), model)
    assert origin.stored == "Q8_0" and as_given(model).read_bytes() == quantized.read_bytes()
    backend("gguf").convert(Work(model=model, calibration=(), threads=2), KEPT, made)
    assert (made / "model.gguf").read_bytes() == quantized.read_bytes()
    reference, kept = tokens("torch").scorer(model, 2), tokens("gguf").scorer(made, 2)
    lost = kl_divergence(log_softmax(reference.score(IDS)), log_softmax(kept.score(IDS)))
    assert float(np.mean(lost)) < 0.02
    kept.close()
    backend("torch").convert(Work(model=model, calibration=(), threads=2), recipe(
        backend="torch", precision="fp32", method="default", group_size=0), again)  # fmt: skip
    assert not list(again.rglob("*.gguf")), "the reference's artifact is its checkpoint alone"


def test_what_did_not_come_quantized_cannot_be_kept(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="did not come as a quantized GGUF"):
        backend("gguf").convert(Work(model=tiny_model, calibration=(), threads=2), KEPT, tmp_path)
