"""Recipes: groups that fit, what instructions mean, what is recommended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.hardware.profiles import named
from tasks.params.pipeline import Variant
from tasks.planning.policy import fit_group, recipe, recommended
from tasks.records.base import Reading
from tests import factories
from tests.tasks.planning.test_selection import FRAMEWORKS


def variant(**fields: Any) -> Variant:
    return Variant.model_validate({"backend": "openvino", "precision": "int4"} | fields)


@pytest.mark.parametrize(
    ("backend", "asked", "widths", "group", "reason"),
    [
        ("openvino", 64, (576, 1536), 64, None),
        ("openvino", 128, (576, 1536), 64, "group size 64 in place of 128: 128 does not divide the layer width 576"),
        ("openvino", 128, (48,), 16, "group size 16 in place of 128: 128 does not divide the layer width 48"),
        ("openvino", 96, (576, 1536), 96, None),
        ("openvino", 64, (100,), 0, "one scale per output channel in place of groups of 64: no group size divides 100"),
        ("onnx", 32, (100,), 32, "no group size divides the layer widths 100: the last block of each row is padded"),
        ("mlx", 96, (576, 1536), 64, "group size 64 in place of 96: mlx has no kernels for groups of 96"),
        ("mlx", 64, (48, 576), 32, "group size 32: layers of width 48 cannot be grouped and stay unquantized"),
        ("openvino", 0, (100,), 0, None),
        ("gguf", 32, (100,), 32, None),
        ("openvino", 64, (), 64, None),
    ],
)
def test_fit_group(backend: str, asked: int, widths: tuple[int, ...], group: int, reason: str | None) -> None:
    found, reasons = fit_group(variant(backend=backend, group_size=asked), widths)
    assert found == group
    assert reasons == ([reason] if reason else [])


@given(
    asked=st.sampled_from([16, 32, 64, 100, 128, 256]),
    widths=st.lists(st.integers(1, 64).map(lambda n: n * 16), min_size=1, max_size=4).map(tuple),
)
def test_the_group_is_the_largest_that_divides_every_width(asked: int, widths: tuple[int, ...]) -> None:
    group, reasons = fit_group(variant(group_size=asked), widths)
    assert 0 < group <= asked
    assert all(width % group == 0 for width in widths)
    larger = [size for size in (asked, 128, 64, 32, 16) if group < size <= asked]
    assert not any(all(width % size == 0 for width in widths) for size in larger)
    assert bool(reasons) == (group != asked)


def test_k_quants_say_where_they_fall_back() -> None:
    q4 = variant(backend="gguf", method="q4_k_m")
    reasons = recipe("q4", q4, factories.profile(linear_input_sizes=(576, 1536)), factories.hardware()).reasons
    assert any("rows of 576 are not divisible by 256" in r and "fall back to Q5_0 or Q8_0" in r for r in reasons)
    whole = recipe("q4", q4, factories.profile(linear_input_sizes=(1024, 1536)), factories.hardware()).reasons
    assert not any("fall back" in reason for reason in whole)
    q8 = recipe(
        "q8", variant(backend="gguf", precision="int8", method="q8_0"), factories.profile(), factories.hardware()
    )
    assert not any("fall back" in reason for reason in q8.reasons)


def test_a_recipe_keeps_what_the_user_asked_for_and_explains_it() -> None:
    awq = variant(method="awq", group_size=128, ratio=0.8)
    found = recipe("openvino-int4", awq, factories.profile(), factories.hardware())
    assert (found.method, found.group_size, found.ratio, found.symmetric) == ("awq", 64, 0.8, False)
    assert "AWQ" in found.reasons[0]
    own = recipe("mine", variant(method="mystery"), factories.profile(), factories.hardware())
    assert own.reasons[0] == "mine is made as params.yaml asks: mystery"


@pytest.mark.parametrize(
    ("precision", "isa", "words"),
    [
        ("int8", ("avx2", "avx512_vnni"), "the CPU multiplies int8 in hardware (avx512_vnni)"),
        ("int4", ("asimddp", "i8mm"), "the CPU multiplies int8 in hardware (i8mm, asimddp)"),
        ("int8", ("avx2",), "gains come from smaller memory traffic"),
        ("bf16", ("avx2",), "bf16 is emulated, so slow"),
        ("bf16", ("avx512_bf16",), "the CPU multiplies bf16 in hardware (avx512_bf16)"),
    ],
)
def test_a_recipe_tells_what_the_instructions_mean(precision: str, isa: tuple[str, ...], words: str) -> None:
    hardware = factories.hardware(isa=Reading[tuple[str, ...]](value=isa))
    reasons = recipe("v", variant(precision=precision), factories.profile(), hardware).reasons
    assert any(words in reason for reason in reasons)


def test_unknown_instructions_are_not_guessed() -> None:
    hardware = factories.hardware(isa=Reading[tuple[str, ...]](reason="not read"))
    assert not any("the CPU" in r for r in recipe("v", variant(), factories.profile(), hardware).reasons)


def test_asymmetric_int4_is_noted_for_an_npu() -> None:
    box, model = named("intel-box"), factories.profile()
    assert any("NPU plugin wants symmetric" in r for r in recipe("v", variant(), model, box).reasons)
    assert not any("NPU plugin" in r for r in recipe("v", variant(symmetric=True), model, box).reasons)
    assert not any("NPU plugin" in r for r in recipe("v", variant(), model, factories.hardware()).reasons)


@pytest.mark.parametrize(
    ("framework", "device", "precision", "method", "group"),
    [
        ("mlx", "apple-silicon-mac", "int4", "affine", 64),
        ("openvino", "intel-box", "int8", "nncf-post-training", 0),
        ("llama.cpp", "raspberry-pi", "int4", "q4_k_m", 0),
        ("olive", "intel-box", "int8", "weight-only", 32),
        ("olive", "nvidia-server", "int4", "gptq", 32),
    ],
)
def test_recommended(framework: Any, device: str, precision: str, method: str, group: int) -> None:
    advice = recommended(FRAMEWORKS[framework].TRAITS, named(device))
    assert advice
    assert (advice.precision, advice.method, advice.group_size) == (precision, method, group)
    assert advice.why


@pytest.mark.parametrize(
    ("isa", "method"),
    [
        (("avx2", "avx512_vnni"), "w8a8"),
        (("amx_int8",), "w8a8"),
        (("asimddp",), "w8a8"),
        (("avx2", "fma"), "w8a8-unsigned"),
        (None, "w8a8-unsigned"),
    ],
)
def test_integer_products_are_made_for_the_instructions_there_are(isa: tuple[str, ...] | None, method: str) -> None:
    known = Reading(value=isa, reason="" if isa else "not told")
    target = factories.hardware(isa=known)
    asked = variant(backend="onnx", precision="int8", method="w8a8", source="variants/onnx-fp32")
    made = recipe("onnx-w8a8", asked, factories.profile(), target)
    assert made.method == method
    assert ("would overflow" in " ".join(made.reasons)) == (method == "w8a8-unsigned")
