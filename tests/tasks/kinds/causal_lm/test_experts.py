"""Mixtures of experts: how they are used is counted right, and fewer of them make a checkpoint that runtimes take."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.backends.base import Work
from tasks.backends.table import tokens
from tasks.errors import UnsupportedError
from tasks.kinds.base import Calibration
from tasks.kinds.causal_lm import experts, transforming
from tasks.params.pipeline import Variant
from tests import tiny
from tests.factories import recipe

pytestmark = pytest.mark.model
EXPERTS, CHOSEN = 8, 2
COLOURS = ("red", "blue", "green", "one", "two", "three")
TEXTS = tuple(f"{COLOURS[n % 6]} house number {n} by the long road" for n in range(24))


def networks() -> dict[str, Any]:
    from transformers import (
        MixtralConfig,
        MixtralForCausalLM,
        OlmoeConfig,
        OlmoeForCausalLM,
        Qwen2MoeConfig,
        Qwen2MoeForCausalLM,
    )  # fmt: skip

    common = {
        "vocab_size": 49152, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "num_experts_per_tok": CHOSEN, "max_position_embeddings": 256, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
    }  # fmt: skip
    small = {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "num_experts": EXPERTS}
    return {
        "mixtral": (MixtralForCausalLM, MixtralConfig(**common, intermediate_size=64, num_local_experts=EXPERTS)),
        "qwen2-moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig(**common, intermediate_size=64, **small)),
        "olmoe": (OlmoeForCausalLM, OlmoeConfig(**common, intermediate_size=64, num_experts=EXPERTS)),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models that learned six beginnings for some seconds, so that their experts differ."""
    import torch
    from transformers import AutoTokenizer

    words = tiny.tokenizer(tmp_path_factory.mktemp("tokenizer"))
    tokenizer = AutoTokenizer.from_pretrained(words)
    made = {}
    for name, (kind, config) in networks().items():
        torch.manual_seed(3)
        net, folder = kind(config), tmp_path_factory.mktemp(name)
        rows = [tokenizer(text, return_tensors="pt").input_ids[:, :24] for text in TEXTS]
        steps = torch.optim.AdamW(net.parameters(), lr=3e-3)
        for step in range(60):
            row = rows[step % len(rows)]
            loss = net(row, labels=row).loss
            steps.zero_grad()
            loss.backward()
            steps.step()
        net.save_pretrained(folder)
        for file in words.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        made[name] = folder
    return made


def loss_of(folder: Path) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [tokenizer(text, return_tensors="pt").input_ids[:, :24] for text in TEXTS]
        return float(np.mean([float(net(row, labels=row).loss) for row in rows]))


def test_examples_hold() -> None:
    assert doctest.testmod(experts).failed == 0


@pytest.mark.parametrize("name", ["mixtral", "qwen2-moe", "olmoe"])
def test_every_token_is_counted_as_often_as_experts_are_chosen(trained: dict[str, Path], name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = AutoModelForCausalLM.from_pretrained(trained[name]).eval()
    row = AutoTokenizer.from_pretrained(trained[name])(TEXTS[0], return_tensors="pt").input_ids
    uses = experts.used(net, [row])
    assert len(uses) == 2
    for use in uses.values():
        assert use.tokens.sum() == row.shape[1] * CHOSEN
        assert (use.norms[use.tokens == 0] == 0).all()
        assert (use.weighted <= use.norms + 1e-6).all()


@pytest.mark.parametrize("name", ["mixtral", "qwen2-moe", "olmoe"])
def test_those_that_are_used_cost_less_to_keep_than_those_that_are_not(
    trained: dict[str, Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loss_of(trained[name])
    experts.pruned(trained[name], TEXTS, 1.0, "reap", tmp_path / "all", 2)
    assert loss_of(tmp_path / "all") == pytest.approx(whole, abs=1e-4)
    stay = experts.pruned(trained[name], TEXTS, 0.5, "ean", tmp_path / "half", 2)
    assert {len(own) for own in stay.values()} == {EXPERTS // 2}
    told = json.loads((tmp_path / "half/config.json").read_text())
    assert experts.counted(told) == EXPERTS // 2

    def others(*given: Any) -> dict[str, Any]:
        return {layer: np.array([n for n in range(EXPERTS) if n not in own]) for layer, own in stay.items()}

    monkeypatch.setattr(experts, "kept", others)
    experts.pruned(trained[name], TEXTS, 0.5, "ean", tmp_path / "others", 2)
    assert loss_of(tmp_path / "half") < loss_of(tmp_path / "others")


@pytest.mark.parametrize("name", ["mixtral", "qwen2-moe"])
def test_a_runtime_takes_the_smaller_checkpoint(trained: dict[str, Path], tmp_path: Path, name: str) -> None:
    fewer, out = tmp_path / "fewer", tmp_path / "out"
    out.mkdir()
    own = recipe(backend="gguf", precision="int8", method="q8_0", experts=0.5)
    transforming.transform(trained[name], own, Calibration(texts=TEXTS), fewer, 2)
    module = tokens("gguf")
    module.convert(Work(model=fewer, calibration=TEXTS, threads=2), own, out)
    whole = sum(file.stat().st_size for file in trained[name].glob("*.safetensors"))
    assert sum(file.stat().st_size for file in fewer.glob("*.safetensors")) < whole
    scorer = module.scorer(out, 2)
    assert np.isfinite(scorer.score([1, 5, 9, 30])).all()
    scorer.close()


def test_a_dense_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no layers of stacked experts"):
        experts.pruned(tiny_model, TEXTS, 0.5, "reap", tmp_path / "out", 2)
    with pytest.raises(UnsupportedError, match="calibration texts"):
        experts.pruned(tiny_model, (), 0.5, "reap", tmp_path / "out", 2)


def test_fewer_experts_are_of_the_model_itself() -> None:
    with pytest.raises(ValueError, match="`source` must be model"):
        Variant.model_validate({"backend": "gguf", "precision": "int8", "source": "variants/gguf-f16", "experts": 0.5})
