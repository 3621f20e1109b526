"""MLX: Apple's framework. On Linux its CPU build checks correctness; speed is a matter for a Mac.

MLX's quantized kernels are made for Metal: on an x86 CPU one token of a 135 M model took six seconds. Without Metal a
session therefore multiplies with the same weights, dequantized to float32 by MLX itself, and says so in `runtime`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tasks.backends.base import (
    BEGINNING,
    CHAT,
    NEW_TOKENS,
    Family,
    Names,
    Settings,
    Tunable,
    Work,
    check_family,
)  # fmt: skip
from tasks.backends.mlx import making
from tasks.backends.mlx.engine import MlxEngine
from tasks.backends.mlx.session import MlxSession
from tasks.backends.packages import installed, versions_of
from tasks.backends.traits import AS_STORED, Advice, Corner, Groups, Traits
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.records.terms import Precision
from tasks.sources import safetensors

NAME = "mlx"
FRAMEWORK: str | None = "mlx"
FAMILIES: tuple[Family, ...] = ("tokens",)
PACKAGES: tuple[str, ...] = ("mlx", "mlx-lm")
INSTALL: Names = {"tokens": ("mlx", "mlx-lm")}
NEEDS: Names = {"tokens": ("config.json", "tokenizer.json", "tokenizer_config.json")}
SETTINGS: Tunable = {}  # MLX has none; Metal decides for itself
SLOW_WITHOUT = "metal"
# Types of GGUF whose blocks MLX's affine groups of 32 hold as they are.
AFFINE: Mapping[str, Precision] = {"Q4_0": "int4", "Q4_1": "int4", "Q8_0": "int8"}
MADE_FOR = "MLX is made for Apple"
TRAITS = Traits(
    marks={
        "cross_platform": "poor", "enterprise_integration": "limited", "mobile": "excellent",
        "real_time": "excellent", "model_diversity": "llm", "ease_of_use": "excellent",
    },
    advice={"any": Advice("int4", "affine", 64, "4 bit in groups of 64: fits Metal's kernels and unified memory")},
    cannot_run={
        "intel": f"{MADE_FOR} Silicon, not for Intel machines",
        "amd": f"{MADE_FOR} Silicon, not for AMD machines",
        "nvidia": f"{MADE_FOR} Silicon, not for NVIDIA servers",
        "arm-mobile": f"{MADE_FOR} devices, not for Android",
        "arm-embedded": f"{MADE_FOR} devices, not for embedded Arm boards",
        "edge-tpu": f"{MADE_FOR} devices, not for embedded Arm boards",
        "cloud-edge": f"{MADE_FOR} Silicon, which servers at the edge rarely have",
        "generic": f"{MADE_FOR} Silicon",
    },
    methods={
        "fp16/default": "MLX without quantization: shows what the runtime alone gives",
        "int8/default": "8 bit affine groups: small rounding error",
        "int4/default": "4 bit affine groups: the usual choice on Apple devices",
        f"int4/{AS_STORED}": "the grid that the model's weights came on: quantized once, and not a second time",
        f"int8/{AS_STORED}": "the grid that the model's weights came on: quantized once, and not a second time",
    },
    space=tuple(Corner(precision, groups=(64, 32)) for precision in ("int8", "int4")),
    groups=Groups((128, 64, 32), "skip", only_these=True),
    wheels=("mlx-cpu", "mlx-metal"),
    as_stored=lambda model: AFFINE.get(model.stored),
    slow_because="MLX runs on the CPU only here; its speed is measured on a Mac with Metal",
)  # fmt: skip


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether MLX can be used here."""
    return installed("mlx", "mlx") if installed("mlx_lm", "mlx-lm").ok else installed("mlx_lm", "mlx-lm")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write an mlx-lm folder: fp16, or group-quantized to 8 or 4 bits (affine, one scale and bias a group)."""
    check_family(NAME, FAMILIES, work.family)
    making.convert(work, recipe, out)


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of weights per type; packed weights lie in U32, their width stands in the configuration."""
    stated = json.loads((artifact / "config.json").read_text()).get("quantization", {})
    counted: Counter[str] = Counter()
    for file in sorted(artifact.glob("*.safetensors")):
        for tensor in safetensors.tensors(file):
            own = stated.get(tensor.name.removesuffix(".weight"))  # a layer that differs from the rest
            bits = own["bits"] if isinstance(own, dict) else stated.get("bits")
            counted[f"U32/{bits}bit" if tensor.dtype == "U32" else tensor.dtype] += tensor.size_bytes
    return dict(counted)


def import_runtime(family: Family = "tokens") -> None:
    """Import MLX and mlx-lm's loader."""
    import mlx.core  # noqa: F401
    import mlx_lm.utils  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def scorer(artifact: Path, threads: int, settings: Settings | None = None) -> MlxSession:
    """Load the folder on MLX's default device."""
    return MlxSession(artifact)


def speaker(artifact: Path, threads: int, settings: Settings | None = None) -> MlxSession:
    """Load the folder on MLX's default device."""
    return MlxSession(artifact)


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> MlxEngine:
    """Load the folder into mlx-lm's batch generator."""
    return MlxEngine(MlxSession(artifact), slots)


def how_to_run(settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
    """Statements that answer one question by mlx-lm."""
    applied = f"tokenizer.apply_chat_template({CHAT}, add_generation_prompt=True, tokenize=False)"
    return (
        "from mlx_lm import generate, load",
        'model, tokenizer = load("model")',
        f"print(generate(model, tokenizer, {applied if chat else repr(BEGINNING)}, max_tokens={NEW_TOKENS}))",
    )
