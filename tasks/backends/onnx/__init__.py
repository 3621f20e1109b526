"""ONNX Runtime: language models built and quantized through Olive, any other as the ONNX file it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    threads_of,
)  # fmt: skip
from tasks.backends.devices import DEVICE, PROCESSOR, device_of
from tasks.backends.onnx import graphs, language
from tasks.backends.onnx.arrays import OnnxArrays
from tasks.backends.onnx.names import CONFIG, FILE
from tasks.backends.onnx.tokens import GenAiSpeaker, OnnxScorer
from tasks.backends.packages import installed, versions_of
from tasks.backends.traits import Advice, Corner, Fallback, Groups, Traits
from tasks.backends.turns import Interleaved
from tasks.errors import UnsupportedError
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe

NAME = "onnx"
FRAMEWORK: str | None = "olive"
FAMILIES: tuple[Family, ...] = ("tokens", "arrays")
PACKAGES: tuple[str, ...] = ("onnxruntime", "onnxruntime-genai", "olive-ai", "onnx")
INSTALL: Names = {"tokens": ("onnxruntime", "onnxruntime-genai"), "arrays": ("onnxruntime",)}
NEEDS: Names = {
    "tokens": (CONFIG, FILE, "tokenizer.json", "tokenizer_config.json"),
    "arrays": (FILE,),
}
# The first value of each is ONNX Runtime's own.
SETTINGS: Tunable = {
    "session.intra_op.allow_spinning": ("1", "0"),
    "session.dynamic_block_base": ("0", "4"),
    "threads": ("all", "half"),
}
SLOW_WITHOUT = ""
TRAITS = Traits(
    drives={"arrays": ("onnxruntime",)},  # onnxruntime-genai's build for the processor runs language models
    marks={
        "cross_platform": "good", "enterprise_integration": "excellent", "mobile": "good",
        "real_time": "excellent", "model_diversity": "excellent", "ease_of_use": "excellent",
    },
    advice={
        "any": Advice(
            "int8", "weight-only", 32,
            "8-bit weights for ONNX Runtime's CPU kernels: small rounding error, runs on any CPU",
        ),
        "nvidia": Advice(
            "int4", "gptq", 32, "int4 weights with CUDA kernels: decoding is bound by memory bandwidth"
        ),
    },
    methods={
        "fp32/default": "ONNX Runtime without quantization: shows what the runtime alone gives, and int8 is made from "
        "it",
        "int8/default": "8-bit weights in blocks: small rounding error, a quarter of the bytes to read per token",
        "int8/w8a8": "8-bit integers in weights and activations, outliers moved into weights before: integer matrix "
        "products, which read prompts fast",
        "int4/default": "4-bit weights in blocks, round to nearest",
        "int4/gptq": "GPTQ on calibration text: plain rounding to 4 bit costs a small model too much",
    },
    space=(
        Corner("int8", groups=(32, 64), symmetric=(True, False)),
        Corner("int8", "w8a8", base="fp32/default"),
        Corner("int4", "gptq", groups=(32,), symmetric=(False, True)),
        Corner("int8", "dynamic", ("arrays",), symmetric=(True, False)),
        *(Corner("int8", method, ("arrays",)) for method in ("static", "w8a8")),
    ),
    groups=Groups((128, 64, 32, 16), "pad"),
    fallbacks={
        "int8/w8a8": Fallback(  # dot products of 8 bits; those of ARM are planned, not measured
            ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"), language.UNSIGNED,
            "the processor does not add four 8-bit products, and would overflow with signed weights: bytes around 128",
        ),
    },
)  # fmt: skip


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether Olive and ONNX Runtime can be used here."""
    found = [
        installed(module, package)
        for module, package in (("onnxruntime_genai", "onnxruntime-genai"), ("olive", "olive-ai"))
    ]
    return next((support for support in found if not support.ok), found[0])


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write an onnxruntime-genai folder, or for arrays model.onnx."""
    check_family(NAME, FAMILIES, work.family)
    (language if work.family == "tokens" else graphs).convert(work, recipe, out)


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of initializers per type; block-quantized weights are told by `bits` of the operator that reads them."""
    import onnx

    model = onnx.load(artifact / FILE, load_external_data=False)
    packed = {
        name: f"int{attribute.i}"
        for node in model.graph.node
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized")
        for attribute in node.attribute
        if attribute.name == "bits"
        for name in node.input[:2]
    }
    packed |= {node.input[1]: "int8" for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"}
    counted: dict[str, int] = {}
    for tensor in model.graph.initializer:
        native = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        kind = packed.get(tensor.name, native) if native in ("uint8", "int8", "uint4", "int4") else native
        counted[kind] = counted.get(kind, 0) + _bytes(tensor)
    return counted


def _bytes(tensor: Any) -> int:
    length = next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), None)
    return length if length is not None else tensor.ByteSize()


def import_runtime(family: Family = "tokens") -> None:
    """Import onnxruntime-genai, or for arrays ONNX Runtime alone."""
    if family == "tokens":
        import onnxruntime_genai  # noqa: F401
    else:
        import onnxruntime  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def scorer(artifact: Path, threads: int, settings: Settings | None = None) -> OnnxScorer:
    """Open the folder in plain ONNX Runtime, for the logits of every position."""
    return OnnxScorer(artifact, threads_of(settings, threads), _entries(settings))


def speaker(artifact: Path, threads: int, settings: Settings | None = None) -> GenAiSpeaker:
    """Open the folder in genai, as served."""
    return GenAiSpeaker(artifact, threads_of(settings, threads), _entries(settings))


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> Interleaved:
    """Open the folder in genai to serve; requests take turns, as its generators' batches are fixed."""
    session = GenAiSpeaker(artifact, threads_of(settings, threads), _entries(settings))
    return Interleaved(session.stream, session.close)


def arrays(artifact: Path, threads: int, settings: Settings | None = None) -> OnnxArrays:
    """Open model.onnx in ONNX Runtime."""
    device = device_of(settings)
    return OnnxArrays(artifact / FILE, threads_of(settings, threads), _entries(settings, device), device)


def _entries(settings: Settings | None, device: str = "") -> Settings:
    """Session configuration entries among the settings; raises UnsupportedError for another device than `device`.

    The build of onnxruntime-genai that is installed runs language models on the processor.
    """
    if (asked := device_of(settings)) not in (PROCESSOR, device):
        raise UnsupportedError(
            f"no available device {asked!r}: this build of onnxruntime-genai has the processor alone"
        )
    return {name: value for name, value in (settings or {}).items() if name.startswith("session.")}


def how_to_run(settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
    """Statements that answer one question by onnxruntime-genai, or run arrays of zeros through ONNX Runtime."""
    entries = {name: value for name, value in settings.items() if name not in ("threads", DEVICE)}
    if family == "arrays":
        return _run_arrays(entries, device_of(settings))
    overlay = json.dumps({"model": {"decoder": {"session_options": entries}}})
    tuned = ('config = og.Config("model")', f"config.overlay('{overlay}')", "model = og.Model(config)")
    text = f"tokenizer.apply_chat_template('{CHAT}', add_generation_prompt=True)" if chat else f'"{BEGINNING}"'
    return (  # onnxruntime-genai has no call that takes text and gives text; it ends the process on decode([])
        "import onnxruntime_genai as og",
        *(tuned if entries else ('model = og.Model("model")',)),
        "tokenizer, params = og.Tokenizer(model), og.GeneratorParams(model)",
        f"tokens = tokenizer.encode({text})",
        f"params.set_search_options(max_length=len(tokens) + {NEW_TOKENS}, do_sample=False)",
        "generator = og.Generator(model, params)",
        "generator.append_tokens(tokens)",
        "while not generator.is_done():",
        "    generator.generate_next_token()",
        "print(tokenizer.decode(generator.get_sequence(0)))  # question and answer",
    )


def _run_arrays(entries: Settings, device: str) -> tuple[str, ...]:
    on = f', providers=["{device}", "CPUExecutionProvider"]' * (device != PROCESSOR)
    tuned = [f'options.add_session_config_entry("{name}", "{value}")' for name, value in entries.items()]
    return (
        "import numpy, onnxruntime",
        "options = onnxruntime.SessionOptions()",
        *tuned,
        f'model = onnxruntime.InferenceSession("model/{FILE}", options{on})',
        'kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}',
        'kind = lambda port: kinds.get(port.type, port.type.removeprefix("tensor(").removesuffix(")"))',
        "shape = lambda port: [size if isinstance(size, int) else 1 for size in port.shape]",
        "feeds = {port.name: numpy.zeros(shape(port), kind(port)) for port in model.get_inputs()}",
        "print(model.run(None, feeds))",
    )
