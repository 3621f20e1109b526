"""Layers that look back over a window, positions that are scaled: every runtime counts as PyTorch does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.backends.base import Work
from tasks.backends.table import backend, tokens
from tasks.kinds.causal_lm.quality import kl_divergence, log_softmax
from tests.factories import recipe

WINDOW = 32
IDS = [1, *((37 * number) % 48000 + 300 for number in range(199))]
SIZES = {
    "vocab_size": 49152, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "initializer_range": 0.2,
    "tie_word_embeddings": True,
}  # fmt: skip
MADE = {"openvino": "fp32", "onnx": "fp32", "gguf": "fp16", "mlx": "fp16"}


def gemma() -> Any:
    """Gemma 3: five layers of a window to one without, a rotary base of its own for each kind."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    rules = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
    }
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            **SIZES, num_hidden_layers=6, head_dim=32, sliding_window=WINDOW, max_position_embeddings=512,
            query_pre_attn_scalar=32, rope_parameters=rules,
        )
    )  # fmt: skip


def scaled(rule: dict[str, Any]) -> Any:
    """A Llama whose positions are scaled."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **SIZES, num_hidden_layers=2, max_position_embeddings=4096, rope_parameters={"rope_theta": 10000.0, **rule}
    )
    return LlamaForCausalLM(config)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
MODELS = {
    "gemma3": gemma,
    "linear": lambda: scaled({"rope_type": "linear", "factor": 4.0}),
    "llama3": lambda: scaled(LLAMA3),
    "yarn": lambda: scaled(YARN),
}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest, tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(0)
    out: Path = tmp_path_factory.mktemp(request.param) / "model"
    MODELS[request.param]().save_pretrained(out)
    for file in tokenizer_dir.iterdir():
        if file.name != "generation_config.json":
            shutil.copy2(file, out / file.name)
    return out


@pytest.fixture(scope="module")
def reference(model: Path) -> Any:
    scorer = tokens("torch").scorer(model, 2)
    logits = scorer.score(IDS)
    scorer.close()
    return log_softmax(logits)


@pytest.mark.parametrize("name", sorted(MADE))
def test_it_counts_positions_as_the_reference_does(model: Path, reference: Any, tmp_path: Path, name: str) -> None:
    out = tmp_path / "model"
    out.mkdir()
    wanted = recipe(backend=name, precision=MADE[name], method="default", group_size=0)
    backend(name).convert(Work(model=model, calibration=(), threads=2), wanted, out)
    scorer = tokens(name).scorer(out, 2)
    lost = kl_divergence(reference, log_softmax(scorer.score(IDS)))
    scorer.close()
    assert float(np.mean(lost[-50:])) < 0.01, "past the window, and far from the beginning"
    assert float(np.mean(lost)) < 0.01
