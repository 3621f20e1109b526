"""Selection, policy and plan: pure functions against tables of targets, models and wishes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import Assess, Params, Requirements, Variant
from tasks.errors import ConfigError
from tasks.hardware.profiles import named, profiles
from tasks.planning.plan import plan, speed_on_device
from tasks.planning.policy import fit_group, recipe, recommended
from tasks.planning.selection import FRAMEWORKS, decide, platform_of, requirements_fit, runs_on, select
from tasks.planning.table import table
from tasks.records import Accelerator, Hardware, ModelProfile, PlanEntry, Reading, Selection
from tests import factories

BIG = 8_000_000_000
METAL = Accelerator(kind="gpu", name="Apple M2 GPU", runtime="metal", available=True)


def ranked(selection: Selection) -> list[str]:
    return [choice.framework for choice in selection.ranking]


def wishes(**weights: float) -> Assess:
    """Requirements with only these weights above zero."""
    return Assess(requirements=Requirements(**(dict.fromkeys(Requirements.model_fields, 0.0) | weights)))


# The hardware matrix, as the user wrote it: first and second choice per platform.
MATRIX = [
    ("intel-box", "openvino", "olive"),
    ("nvidia-server", "olive", "openvino"),
    ("apple-silicon-mac", "mlx", "llama.cpp"),
    ("iphone", "mlx", "llama.cpp"),
    ("android-phone", "llama.cpp", "openvino"),
    ("raspberry-pi", "llama.cpp", "openvino"),
    ("edge-tpu", "openvino", "olive"),
    ("cloud-edge", "openvino", "olive"),
]


@pytest.mark.parametrize(("device", "first", "second"), MATRIX)
def test_ranking_follows_the_hardware_matrix(device: str, first: str, second: str) -> None:
    selection = select(named(device), factories.profile(), Assess())
    assert ranked(selection)[:2] == [first, second]
    assert [choice.rank for choice in selection.ranking] == [1, 2, 3, 4]
    assert all(choice.reasons and choice.support.reason for choice in selection.ranking)
    assert selection.device == device


def test_the_matrix_covers_every_profile_and_family() -> None:
    assert {device for device, _, _ in MATRIX} == set(profiles())
    assert set(table().families) == set(get_args(Hardware.model_fields["family"].annotation))


@pytest.mark.parametrize(("family", "architecture", "row"), [
    ("amd", "x86_64", "intel"),
    ("generic", "x86_64", "intel"),
    ("generic", "arm64", "arm-embedded"),
    ("cloud-edge", "arm64", "arm-embedded"),
])  # fmt: skip
def test_a_family_without_a_row_says_what_it_is_treated_like(family: str, architecture: str, row: str) -> None:
    hardware = factories.hardware(family=family, architecture=Reading[str](value=architecture))
    assert platform_of(hardware)[0] == row
    selection = select(hardware, factories.profile(), Assess())
    assert "is treated like the" in selection.path[0]
    assert ranked(selection)[0] == table().platforms[row].primary


def test_a_family_with_a_row_of_its_own_needs_no_excuse() -> None:
    assert platform_of(factories.hardware()) == ("intel", "")


TREE = [
    ("iphone", {}, "production", ("mlx",), "Apple ecosystem only? yes: mlx"),
    ("iphone", {"parameters": BIG}, "enterprise", ("mlx",), "Apple ecosystem only? yes: mlx"),
    ("intel-box", {}, "production", ("openvino",), "Primary platform? intel: openvino"),
    ("intel-box", {"parameters": BIG}, "production", ("olive",), "More than 7 billion parameters? yes: olive"),
    ("intel-box", {"parameters": 7_000_000_000}, "production", ("openvino",), "Primary platform? intel: openvino"),
    ("intel-box", {}, "enterprise", ("olive",), "Stage of work? enterprise: olive"),
    ("intel-box", {}, "prototyping", ("llama.cpp",), "Stage of work? prototyping: llama.cpp"),
    ("nvidia-server", {}, "production", ("olive",), "Primary platform? nvidia: olive"),
    ("raspberry-pi", {}, "production", ("llama.cpp",), "Model type? language: llama.cpp"),
    ("raspberry-pi", {"modality": "text-encoder"}, "production", ("llama.cpp",), "Model type? language: llama.cpp"),
    (
        "raspberry-pi",
        {"modality": "image-classifier"},
        "production",
        ("openvino", "olive"),
        "Model type? multimodal: openvino or olive",
    ),
]


@pytest.mark.parametrize(("device", "model", "stage", "chosen", "last"), TREE)
def test_decision_tree(device: str, model: dict[str, Any], stage: str, chosen: tuple[str, ...], last: str) -> None:
    found, path = decide(named(device), factories.profile(**model), stage)
    assert found == chosen
    assert path[-1] == last
    assert path[0].startswith("Apple ecosystem only?")


def test_the_tree_has_no_dead_end() -> None:
    tree = table().tree
    for question in tree.questions.values():
        for branch in question.answers.values():
            assert bool(branch.choose) != (branch.next is not None)
            assert branch.next is None or branch.next in tree.questions


def test_stage_of_work_changes_the_order() -> None:
    box, model = named("intel-box"), factories.profile()
    assert ranked(select(box, model, Assess(stage="prototyping")))[0] == "llama.cpp"
    assert ranked(select(box, model, Assess(stage="enterprise")))[:2] == ["olive", "openvino"]


def test_a_large_model_takes_the_enterprise_path_and_says_so() -> None:
    selection = select(named("intel-box"), factories.profile(parameters=BIG), Assess())
    assert ranked(selection)[0] == "olive"
    assert selection.path[-1] == "Preference order? enterprise, because of the model's size"
    assert any("1 of 4 for enterprise" in reason for reason in selection.ranking[0].reasons)


def test_requirements_can_overturn_the_second_choice_but_not_the_first() -> None:
    host, model = factories.hardware(), factories.profile()
    assert ranked(select(host, model, Assess()))[:2] == ["openvino", "olive"]
    assert ranked(select(host, model, wishes(cross_platform=1.0)))[:2] == ["openvino", "llama.cpp"]
    assert ranked(select(host, model, wishes(enterprise_integration=1.0)))[:2] == ["openvino", "olive"]


@given(st.fixed_dictionaries({name: st.floats(0, 1) for name in Requirements.model_fields}))
def test_no_requirements_overturn_a_platforms_first_choice(weights: dict[str, float]) -> None:
    selection = select(factories.hardware(), factories.profile(), Assess(requirements=Requirements(**weights)))
    assert ranked(selection)[0] == "openvino"
    assert all(0 <= choice.score <= 1 for choice in selection.ranking)


@pytest.mark.parametrize(
    ("framework", "weights", "fit"),
    [
        ("llama.cpp", {"cross_platform": 1.0}, 1.0),
        ("olive", {"cross_platform": 0.5}, 0.7),
        ("mlx", {"cross_platform": 1.0}, 0.1),
        ("llama.cpp", {"cross_platform": 1.0, "enterprise_integration": 1.0}, 0.7),
        ("openvino", {}, 0.5),
    ],
)
def test_requirements_fit(framework: Any, weights: dict[str, float], fit: float) -> None:
    assert requirements_fit(framework, factories.profile(), wishes(**weights))[0] == pytest.approx(fit)


def test_a_framework_for_language_models_is_no_diverse_one_for_images() -> None:
    images = factories.profile(modality="image-classifier")
    assert requirements_fit("llama.cpp", images, wishes(model_diversity=1.0))[0] == pytest.approx(0.1)
    assert requirements_fit("openvino", images, wishes(model_diversity=1.0))[0] == 1.0


def test_every_requirement_has_a_mark_for_every_framework() -> None:
    assert set(table().requirements) == set(Requirements.model_fields)
    assert all(set(marks) == set(FRAMEWORKS) for marks in table().requirements.values())
    assert all({p.framework for p in order} == set(FRAMEWORKS) for order in table().orders.values())


def test_what_cannot_run_ranks_last_with_the_reason() -> None:
    closed = factories.profile().compatibility | {"openvino": factories.no("no export for it")}
    selection = select(factories.hardware(), factories.profile(compatibility=closed), Assess())
    last = selection.ranking[-1]
    assert (last.framework, last.support.ok, last.support.reason) == ("openvino", False, "no export for it")
    server = select(named("nvidia-server"), factories.profile(), Assess()).ranking[-1]
    assert (server.framework, server.support.ok) == ("mlx", False)
    assert "not for NVIDIA servers" in server.support.reason


def test_every_framework_runs_on_the_host() -> None:
    assert all(runs_on(framework, factories.hardware()).ok for framework in FRAMEWORKS)


# Policy


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
        ("mlx", 96, (576, 1536), 64, "group size 64 in place of 96: MLX has no kernels for groups of 96"),
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
    advice = recommended(framework, named(device))
    assert tuple(advice[:3]) == (precision, method, group)
    assert advice.reason


# Plan

ALL: dict[str, Any] = factories.VARIANTS | {
    "onnx-fp32": {"backend": "onnx", "precision": "fp32", "role": "rival"},
    "onnx-int8": {"backend": "onnx", "precision": "int8", "source": "variants/onnx-fp32", "quick": True},
    "mlx-int4": {"backend": "mlx", "precision": "int4", "group_size": 64},
}


def planned(hardware: Hardware | None = None, model: ModelProfile | None = None, **blocks: Any) -> dict[str, PlanEntry]:
    params: Params = factories.params(**({"variants": ALL} | blocks))
    hardware, model = hardware or factories.hardware(), model or factories.profile()
    entries = plan(params, hardware, model, select(hardware, model, params.assess))
    assert [entry.variant for entry in entries] == list(ALL), "always one entry per variant, in order"
    return {entry.variant: entry for entry in entries}


def test_on_the_host_everything_runs() -> None:
    entries = planned()
    assert {entry.action for entry in entries.values()} == {"run"}
    assert all(entry.reason and entry.recipe.reasons for entry in entries.values())
    assert entries["gguf-q8_0"].source == "variants/gguf-f16"
    assert entries["torch-fp32"].reason == "the reference everything is compared with"


@pytest.mark.parametrize(
    ("architecture", "isa", "action"),
    [
        ("x86_64", ("avx2",), "skip"),
        ("x86_64", ("avx2", "avx512f"), "run"),
        ("arm64", ("asimddp",), "skip"),
        ("arm64", ("asimddp", "bf16"), "run"),
        ("riscv64", ("v",), "run"),
        ("x86_64", None, "run"),
    ],
)
def test_a_rival_without_kernels_is_none(architecture: str, isa: tuple[str, ...] | None, action: str) -> None:
    reading = Reading[tuple[str, ...]](value=isa) if isa else Reading[tuple[str, ...]](reason="not read")
    hardware = factories.hardware(architecture=Reading[str](value=architecture), isa=reading)
    entries = planned(hardware=hardware)
    assert entries["torch-bf16"].action == action
    assert ("no bf16 kernels" in entries["torch-bf16"].reason) == (action == "skip")
    assert planned(hardware=hardware, assess={"frameworks": "all"})["torch-bf16"].action == "run"


def test_the_quick_profile_keeps_what_a_quick_variant_is_made_from() -> None:
    entries = planned(profile="quick")
    assert {name: entry.action for name, entry in entries.items()} == {
        "torch-fp32": "run",
        "torch-bf16": "skip",
        "gguf-f16": "skip",
        "gguf-q8_0": "skip",
        "openvino-int8": "run",
        "onnx-fp32": "intermediate",
        "onnx-int8": "run",
        "mlx-int4": "skip",
    }
    assert entries["onnx-fp32"].reason == "not part of the quick profile, but onnx-int8 is made from it"
    assert entries["mlx-int4"].reason == "not part of the quick profile"


def test_chosen_frameworks_leave_the_reference_and_its_rival_in() -> None:
    entries = planned(assess={"frameworks": ["openvino"]})
    running = [name for name, entry in entries.items() if entry.action == "run"]
    assert running == ["torch-fp32", "torch-bf16", "openvino-int8"]
    assert entries["gguf-q8_0"].reason == "llama.cpp is not in assess.frameworks (openvino)"


def test_an_unknown_framework_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"assess\.frameworks: 'openvin' is not known; did you mean 'openvino'\?"):
        planned(assess={"frameworks": ["openvin"]})


def test_what_the_target_cannot_run_is_skipped_unless_all_are_asked_for() -> None:
    server = named("nvidia-server")
    entry = planned(server)["mlx-int4"]
    assert entry.action == "skip"
    assert entry.reason == "mlx does not run on nvidia-server: MLX is made for Apple Silicon, not for NVIDIA servers"
    asked = planned(server, assess={"frameworks": "all"})["mlx-int4"]
    assert asked.action == "run"
    assert "made although MLX is made for Apple Silicon" in asked.reason


@pytest.mark.parametrize("frameworks", ["auto", "all", ["olive", "openvino"]])
def test_an_architecture_that_one_framework_does_not_know_skips_only_that(frameworks: Any) -> None:
    closed = factories.profile().compatibility | {"olive": factories.no("no builder for it")}
    entries = planned(model=factories.profile(compatibility=closed), assess={"frameworks": frameworks})
    assert entries["onnx-fp32"].action == entries["onnx-int8"].action == "skip"
    assert entries["onnx-int8"].reason == "olive cannot convert this model: no builder for it"
    assert entries["openvino-int8"].action == entries["torch-fp32"].action == "run"


def test_speed_counts_only_on_the_device_it_was_measured_on() -> None:
    gguf, mlx = variant(backend="gguf"), variant(backend="mlx")
    assert speed_on_device(gguf, factories.hardware()).ok
    away = speed_on_device(gguf, named("raspberry-pi"))
    assert (away.ok, away.reason.split(":")[0]) == (False, "not measured on this device")
    assert "raspberry-pi" in away.reason
    linux = speed_on_device(mlx, factories.hardware())
    assert (linux.ok, linux.reason.split(":")[0]) == (False, "not measured on this device")
    mac = factories.hardware(family="apple-silicon", accelerators=(METAL,))
    assert speed_on_device(mlx, mac).ok
    assert not speed_on_device(mlx, named("apple-silicon-mac")).ok, "a profile is not at hand, whatever it has"


def test_the_plan_is_the_same_every_time() -> None:
    assert planned() == planned()
