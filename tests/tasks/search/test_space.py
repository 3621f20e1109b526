"""The space: what backends say they can make, under names that say the recipe."""

from __future__ import annotations

import doctest

import pytest

from tasks.params.pipeline import Params, Variant
from tasks.search import space as module
from tasks.search.space import Prunable, bits, features, least_bits, space
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


def test_what_can_be_left_out_is_left_out():
    whole = space("tokens", SEEDS)
    fewer = space("tokens", SEEDS, Prunable(experts=True))
    assert {name for name in fewer if name not in whole} >= {"openvino-int8-e75", "openvino-int8-e50"}
    assert all(fewer[name].experts < 1 for name in fewer if name not in whole)
    lines = {
        "onnx-fp32": {"backend": "onnx", "precision": "fp32", "source": "model", "role": "reference"},
        "onnx-trained": {"backend": "onnx", "precision": "fp32", "source": "model", "role": "rival", "epochs": 20},
        "onnx-int8": {"backend": "onnx", "precision": "int8", "source": "model", "method": "static"},
    }
    seeds = {name: Variant.model_validate(line) for name, line in lines.items()}
    slim = space("arrays", seeds, Prunable(channels=True))
    assert slim["onnx-fp32-c50"].role == "candidate"
    assert slim["onnx-fp32-c50"].epochs == 20
    assert "onnx-trained-c50" not in slim, "the same as onnx-fp32-c50"
    assert least_bits([slim["onnx-int8-c25"]]) == 8 * 0.25**2
    rows = features(slim)
    assert rows["onnx-int8-c25"] != rows["onnx-int8-c50"]
