"""Weights that are no numbers, or nothing."""

from __future__ import annotations

import pytest
import torch

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.numbers import check_numbers

GOOD = torch.ones(4, 4)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a.weight": torch.full((2, 2), float("nan"))}, r"a.weight \(4 of 4 values NaN\)"),
        ({"a.bias": torch.tensor([1.0, float("inf")])}, r"a.bias \(1 of 2 values infinite\)"),
        ({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2), "c": GOOD}, "2 of 3 matrices hold nothing but zeros: a, b"),
        ({"embed_tokens.weight": torch.zeros(2, 2), "b": GOOD, "c": GOOD}, "embed_tokens.weight"),
    ],
)
def test_broken_weights_are_refused_by_name(tensors: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        check_numbers(tensors.items(), "mine")


def test_a_layer_of_zeros_is_told_and_biases_and_counters_may_be_zero() -> None:
    tensors = {"a": GOOD, "b": GOOD, "o_proj": torch.zeros(2, 2), "bias": torch.zeros(4), "n": torch.zeros(2, 2).long()}
    assert check_numbers(tensors.items(), "mine") == "matrices of zeros, as the source has them: o_proj"
    assert check_numbers({"a": GOOD}.items(), "mine") == ""
