"""OpenVINO: export by optimum-intel or from ONNX, compression by NNCF, run by OpenVINO (GenAI)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tasks.backends.base import BEGINNING, NEW_TOKENS, QUESTION, Family, Names, Settings, Tunable, Work, check_family
from tasks.backends.devices import DEVICE, device_of
from tasks.backends.openvino import device, graphs, language
from tasks.backends.openvino.arrays import OpenvinoArrays
from tasks.backends.openvino.engine import OpenvinoEngine
from tasks.backends.openvino.tokens import GenAiSpeaker, OpenvinoScorer
from tasks.backends.packages import installed, versions_of
from tasks.backends.traits import Advice, Corner, Groups, Traits
from tasks.params.pipeline import Variant
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe

NAME = "openvino"
FRAMEWORK: str | None = "openvino"
FAMILIES: tuple[Family, ...] = ("tokens", "arrays")
PACKAGES: tuple[str, ...] = ("openvino", "openvino-genai", "nncf", "optimum-intel")
INSTALL: Names = {"tokens": ("openvino", "openvino-genai", "openvino-tokenizers"), "arrays": ("openvino",)}
NEEDS: Names = {
    "tokens": (language.FILE, "openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml"),
    "arrays": (graphs.FILE, "model.bin"),
}
SETTINGS: Tunable = device.settings()
SLOW_WITHOUT = ""


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether OpenVINO can be used here."""
    found = [installed(module, package) for module, package in (("openvino_genai", "openvino-genai"), ("nncf", "nncf"))]
    return next((support for support in found if not support.ok), found[0])


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write OpenVINO IR, of language models with its tokenizer."""
    check_family(NAME, FAMILIES, work.family)
    (language if work.family == "tokens" else graphs).convert(work, recipe, out)


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of constants per element type in the IR."""
    file = next(file for file in (artifact / language.FILE, artifact / graphs.FILE) if file.is_file())
    counted: dict[str, int] = {}
    for layer in ElementTree.parse(file).getroot().iter("layer"):  # noqa: S314 - a file of our own making
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            kind = str(data.get("element_type"))
            counted[kind] = counted.get(kind, 0) + int(data.get("size", "0"))
    return counted


def import_runtime(family: Family = "tokens") -> None:
    """Import OpenVINO GenAI, or for arrays OpenVINO alone."""
    if family == "tokens":
        import openvino_genai  # noqa: F401
    else:
        import openvino  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def scorer(artifact: Path, threads: int, settings: Settings | None = None) -> OpenvinoScorer:
    """Open the IR compiled as GenAI does, with the logits of every position."""
    return OpenvinoScorer(artifact, *device.asked(threads, settings))


def speaker(artifact: Path, threads: int, settings: Settings | None = None) -> GenAiSpeaker:
    """Open the IR in GenAI's pipeline, as used alone."""
    return GenAiSpeaker(artifact, *device.asked(threads, settings))


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> OpenvinoEngine:
    """Open the IR in GenAI's continuous batching, and beside it where a request needs logits."""
    return OpenvinoEngine(artifact, device.asked(threads, settings), slots, context)


def arrays(artifact: Path, threads: int, settings: Settings | None = None) -> OpenvinoArrays:
    """Open model.xml compiled for its device."""
    return OpenvinoArrays(artifact / graphs.FILE, *device.asked(threads, settings))


def how_to_run(settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
    """Statements that answer one question by OpenVINO GenAI, or run arrays of zeros through OpenVINO."""
    told = {name: value for name, value in settings.items() if name not in ("threads", DEVICE)}
    if family == "arrays":
        return _run_arrays(device_of(settings), told)
    tuned = "".join(f', {name}="{value}"' for name, value in told.items())
    return (  # GenAI applies the chat template itself
        "import openvino_genai",
        f'model = openvino_genai.LLMPipeline("model", "{device_of(settings)}"{tuned})',
        f'print(model.generate("{QUESTION if chat else BEGINNING}", max_new_tokens={NEW_TOKENS}))',
    )


def _run_arrays(on: str, tuned: Settings) -> tuple[str, ...]:
    return (
        "import numpy, openvino",
        f'model = openvino.Core().compile_model("model/{graphs.FILE}", "{on}", {dict(tuned)})',
        "shape = lambda port: [size.get_length() if size.is_static else 1 for size in port.partial_shape]",
        "feeds = {port.any_name: numpy.zeros(shape(port), port.element_type.to_dtype()) for port in model.inputs}",
        "print(model(feeds))",
    )


def _notes(variant: Variant, model: ModelProfile, hardware: Hardware) -> list[str]:
    has_npu = any(a.available and (a.kind, a.runtime) == ("npu", "openvino") for a in hardware.accelerators)
    if not has_npu or variant.precision != "int4" or variant.symmetric:
        return []
    return ["asymmetric int4 runs on CPU and GPU; OpenVINO's NPU plugin wants symmetric int4 (symmetric: true)"]


TRAITS = Traits(
    drives={"tokens": ("openvino",), "arrays": ("openvino",)},
    marks={
        "cross_platform": "good", "enterprise_integration": "excellent", "mobile": "good",
        "real_time": "excellent", "model_diversity": "excellent", "ease_of_use": "good",
    },
    advice={
        "any": Advice(
            "int8", "nncf-post-training", 0,
            "NNCF int8 weights after training: small rounding error, int8 kernels on CPU, GPU and NPU",
        ),
    },
    cannot_run={"apple-mobile": "OpenVINO has no iOS runtime"},
    methods={
        "fp32/default": "OpenVINO without quantization: shows what the runtime alone gives",
        "int8/default": "NNCF int8 weights, one scale per output channel, no data needed",
        "int4/default": "NNCF int4 weights, round to nearest",
        "int4/awq": "AWQ with scale estimation on calibration text: plain rounding to 4 bit costs a small model too "
        "much",
    },
    space=(
        Corner("int8", symmetric=(False, True)),
        *(
            Corner("int4", method, ("tokens",), (128, 64, 32), (False, True), (1.0, 0.8, 0.6), base="fp32/default")
            for method in ("default", "awq")
        ),
        *(Corner("int8", method, ("arrays",)) for method in ("weights", "static")),
    ),
    groups=Groups((128, 64, 32, 16), "channel"),
    notes=_notes,
)  # fmt: skip
