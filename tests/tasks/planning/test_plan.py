"""Plans: which variant runs, which is skipped, and why."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import ConfigError
from tasks.hardware.profiles import named
from tasks.params.pipeline import Params
from tasks.planning.plan import plan, speed_on_device
from tasks.planning.selection import select
from tasks.records.base import Reading
from tasks.records.hardware import Accelerator, Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry
from tests import factories
from tests.tasks.planning.test_policy import variant

METAL = Accelerator(kind="gpu", name="Apple M2 GPU", runtime="metal", available=True)
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


@pytest.mark.parametrize(
    ("stored", "precision"),
    [
        ("", None),
        ("Q2_K", None),
        ("IQ3_S", None),
        ("Q4_1", "int4"),
        ("Q4_K", "int4"),
        ("IQ4_XS", "int4"),
        ("Q8_0", "int8"),
        ("Q6_K", "int8"),
    ],
)
def test_a_file_that_came_quantized_is_a_variant_as_it_came(stored: str, precision: str | None) -> None:
    kept = {"backend": "gguf", "precision": "int4", "method": "as-stored"}
    params: Params = factories.params(variants=factories.VARIANTS | {"kept": kept, "other": kept | {"backend": "onnx"}})
    hardware, model = factories.hardware(), factories.profile(stored=stored)
    entries = {one.variant: one for one in plan(params, hardware, model, select(hardware, model, params.assess))}
    assert entries["other"].action == "skip" and "has no file of this model" in entries["other"].reason
    if precision is None:
        assert (
            entries["kept"].action == "skip"
            and ("its weights came as" if stored else "did not come quantized") in entries["kept"].reason
        )
    else:
        assert (entries["kept"].action, entries["kept"].recipe.precision) == ("run", precision)
        assert "not a second time" in entries["kept"].recipe.reasons[0]


def test_the_plan_is_the_same_every_time() -> None:
    assert planned() == planned()
