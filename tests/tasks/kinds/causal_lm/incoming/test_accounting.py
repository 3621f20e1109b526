"""Tensors that are missing, left over or of another shape: refused with the likely cause, or told."""

from __future__ import annotations

import pytest

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.accounting import Found, account

STORED = {"model.embed_tokens.weight", *(f"model.layers.{n}.mlp.up_proj.weight" for n in range(2))}


def found(**changes: object) -> Found:
    whole = {"stored": STORED, "missing": (), "unexpected": (), "shapes": {}}
    return Found(**{**whole, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "layers", "words"),
    [
        (
            {"stored": {f"_orig_mod.{name}" for name in STORED}, "missing": STORED},
            2,
            "wrapper, _orig_mod.: saved by torch.compile",
        ),
        ({"stored": {f"module.{name}" for name in STORED}, "missing": STORED}, 2, "DataParallel"),
        ({"stored": {f"base_model.model.{name}" for name in STORED}, "missing": STORED}, 2, "peft"),
        ({"missing": {"lm_head.weight"}}, 2, r"the output layer is not in the files .*tie_word_embeddings: true"),
        (
            {"missing": {"model.layers.2.mlp.up_proj.weight"}},
            3,
            r"says 3 layers \(num_hidden_layers\), the files hold 2",
        ),
        ({"unexpected": {"model.layers.1.mlp.up_proj.weight"}}, 1, r"says 1 layers .* the files hold 2"),
        ({"stored": {"a", "b"}, "missing": STORED}, 2, "other names than the architecture's"),
        (
            {"missing": {"model.layers.0.mlp.gate_proj.weight"}},
            2,
            "do not hold the whole model.*Not there: model.layers.0",
        ),
        ({"shapes": {"a.weight": ([0], [4, 4])}}, 2, "saved from a ZeRO-3 run"),
        ({"shapes": {"lm_head.weight": ([8, 4], [6, 4])}}, 2, "vocab_size was not raised: lm_head.weight has"),
        ({"shapes": {"a.weight": ([8, 4], [6, 4])}}, 2, r"other shapes than config.json says: a.weight has \[8, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_cause(changes: dict[str, object], layers: int, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        account(found(**changes), layers, "mine")


def test_what_is_left_over_is_told_and_buffers_are_not() -> None:
    assert account(found(), 2, "mine") == ""
    left = {"v_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"}
    assert account(found(unexpected=left), 2, "mine") == (
        "1 tensors of the files are of no use to it and were left out: v_head.weight"
    )
