"""Scaled positions of a GGUF file in the terms of a Hugging Face configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming import rope


def scaling(**stated: Any) -> rope.Scaling:
    fields = {"general.architecture": "llama"} | {f"llama.rope.scaling.{key}": value for key, value in stated.items()}
    return rope.scaling_of(fields, {})


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, {}),
        ({"type": "none"}, {}),
        ({"type": "linear", "factor": 1.0}, {}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"type": "yarn", "factor": 4.0, "original_context_length": 2048},
         {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}),
        ({"type": "yarn", "factor": 2.0, "attn_factor": 1.5},
         {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096, "attention_factor": 1.5}),
    ],
)  # fmt: skip
def test_what_the_metadata_says(stated: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rope.parameters(scaling(**stated), 10000.0, 8192, "mine") == expected


@pytest.mark.parametrize(("factor", "low", "high", "original"), [(8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192)])
def test_llama3s_rule_is_found_from_its_factors(factor: float, low: float, high: float, original: int) -> None:
    factors = rope.llama3_factors(32, 500000.0, factor, low, high, original)
    found = rope.parameters(rope.Scaling("none", None, None, None, factors), 500000.0, 131072, "mine")
    assert found == {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }  # fmt: skip


def test_the_rule_is_that_of_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stated = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192, "rope_theta": 500000.0}  # fmt: skip
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, max_position_embeddings=131072, rope_parameters=stated)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = [500000.0 ** (-number / 32) for number in range(32)]
    made = rope.llama3_factors(32, 500000.0, 8.0, 1.0, 4.0, 8192)
    assert [a / b for a, b in zip(plain, scaled.tolist(), strict=True)] == pytest.approx(made, rel=1e-4)


def test_factors_for_short_and_long_texts() -> None:
    told = rope.Scaling("longrope", None, 4096, 1.19, short=(1.0, 1.1), long=(1.0, 8.0))
    assert rope.parameters(told, 10000.0, 131072, "mine") == {
        "rope_type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1.0, 8.0],
        "original_max_position_embeddings": 4096, "factor": 32.0, "attention_factor": 1.19,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (rope.Scaling("dynamic", 4.0, None, None), "scales positions by 'dynamic'; allowed: linear, yarn"),
        (rope.Scaling("none", None, None, None, (1.0, 3.0, 2.0)), "factors of its own"),
    ],
)
def test_what_no_configuration_can_say_is_refused(told: rope.Scaling, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        rope.parameters(told, 10000.0, 8192, "mine")
