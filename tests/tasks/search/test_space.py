"""The space: what backends say they can make, under names that say the recipe."""

from __future__ import annotations

import doctest

import pytest

from tasks.params.pipeline import Params, Variant
from tasks.search import space as module
from tasks.search.space import bits, features, least_bits, space
from tests import factories as make

SEEDS = {name: Variant.model_validate(line) for name, line in make.VARIANTS.items()}


def test_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("family", ["tokens", "arrays"])
def test_all_of_it_can_stand_in_params(family):
    found = space(family, SEEDS)
    assert list(found)[: len(SEEDS)] == list(SEEDS)
    assert len(
        {(v.backend, v.precision, v.method, v.group_size, v.symmetric, v.ratio, v.bits) for v in found.values()}
    ) == len(found)
    params = Params.model_validate({"variants": {n: v.model_dump() for n, v in found.items()}})
    assert params.reference == "torch-fp32"
    assert {v.backend for v in found.values()} >= {"gguf", "openvino", "onnx"}


def test_what_is_made_from_another_names_it():
    found = space("tokens", SEEDS)
    for variant in found.values():
        if variant.source != "model":
            assert variant.source.removeprefix("variants/") in found
    assert found["openvino-int4-g32"].source == "variants/openvino-fp32"
    assert "openvino-fp32" in found


def test_bits_order_recipes_as_files_do():
    found = space("tokens", SEEDS)
    wide = [bits(found[name]) for name in ("openvino-int4-g128", "openvino-int4-g32-r60", "gguf-q8_0")]
    assert wide == sorted(wide)
    assert least_bits(list(found.values())) == 4.0


def test_features_tell_recipes_apart():
    found = space("tokens", SEEDS)
    rows = features(found)
    assert len({tuple(row) for row in rows.values()}) == len(rows)
    assert all(0 <= value <= 1.2 for row in rows.values() for value in row)
