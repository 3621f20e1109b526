"""Which frameworks suit a target: the matrix, the decision tree and wishes, against tables."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.hardware.profiles import named, profiles
from tasks.params.pipeline import Assess, Requirements
from tasks.planning.matrix import table
from tasks.planning.selection import decide, platform_of, ranked_backends, requirements_fit, runs_on, select
from tasks.records.base import Reading
from tasks.records.hardware import Hardware
from tasks.records.plan import Selection
from tests import factories

FRAMEWORKS = ranked_backends()
BIG = 8_000_000_000


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
    ("raspberry-pi-4", "llama.cpp", "openvino"),
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
    assert requirements_fit(FRAMEWORKS[framework].TRAITS, factories.profile(), wishes(**weights))[0] == pytest.approx(
        fit
    )


def test_a_framework_for_language_models_is_no_diverse_one_for_images() -> None:
    images = factories.profile(modality="image-classifier")
    assert requirements_fit(FRAMEWORKS["llama.cpp"].TRAITS, images, wishes(model_diversity=1.0))[0] == pytest.approx(
        0.1
    )
    assert requirements_fit(FRAMEWORKS["openvino"].TRAITS, images, wishes(model_diversity=1.0))[0] == 1.0


def test_every_requirement_has_a_mark_for_every_framework() -> None:
    assert all(set(one.TRAITS.marks) == set(Requirements.model_fields) for one in FRAMEWORKS.values())
    assert all(set(one.TRAITS.marks.values()) <= set(table().marks) for one in FRAMEWORKS.values())
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
    assert all(runs_on(one.TRAITS, factories.hardware()).ok for one in FRAMEWORKS.values())
