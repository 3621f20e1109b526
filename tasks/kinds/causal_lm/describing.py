"""Describe a model from its Hugging Face directory (S3): config.json and the headers of its weights, nothing is run.

Memory is estimated per precision as weights + KV cache at full context, in 10^6 bytes:
fp32 has 4 bytes per parameter, bf16 and fp16 have 2. int8 stores linear layers and embeddings at 8.5 bits: 8, and a
16-bit scale and a 16-bit offset for every group of 64. int4 stores linear layers at 4.5 bits, embeddings at 8.5, as the
runtimes do. What is neither (norms, biases, convolutions) stays at 16 bits.
The KV cache of a causal language model holds 2 (key, value) x layers x KV heads x head width x context x 2 bytes;
models with sliding windows or latent attention need less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from tasks.errors import ModelError
from tasks.kinds.causal_lm.experts import counted
from tasks.kinds.causal_lm.weights import Weights, count
from tasks.records.model import ModelProfile
from tasks.records.terms import Precision
from tasks.sources.files import Source, hash_files

GROUP_BITS = 32 / 64  # scale and offset of 16 bits each, per group of 64
BITS: dict[str, tuple[float, float, float]] = {  # linear layers, embeddings, the rest
    "fp32": (32, 32, 32),
    "bf16": (16, 16, 16),
    "fp16": (16, 16, 16),
    "int8": (8 + GROUP_BITS, 8 + GROUP_BITS, 16),
    "int4": (4 + GROUP_BITS, 8 + GROUP_BITS, 16),
}
# The names different model families give to the same number, most common first.
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "embedding_size")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length")
WRITING = ("ForConditionalGeneration", "ForCausalLM")
SPEECH = ("ForSpeechSeq2Seq", "WhisperForConditionalGeneration", "ForCTC")
SOUND = ("ForAudioClassification", "ForAudioFrameClassification")
SUFFIXES: tuple[tuple[str, str], ...] = (
    ("ForCausalLM", "causal-lm"),
    ("LMHeadModel", "causal-lm"),
    ("ForImageClassification", "image-classifier"),
    ("ForMaskedLM", "text-encoder"),
    ("ForSequenceClassification", "text-encoder"),
    ("Model", "text-encoder"),
)


def describe(folder: Path) -> ModelProfile:
    """Describe the model in `folder`; raises ModelError when it is incomplete, damaged or of an unknown kind."""
    config = read_config(folder)
    architecture = architecture_of(config, folder)
    modality = modality_of(architecture, config)
    weights = count(folder, config)
    source = source_of(folder)
    hidden, layers, heads = size(config, HIDDEN), size(config, LAYERS), size(config, HEADS)
    if modality == "causal-lm" and not (hidden and layers):
        raise ModelError(f"{folder}/config.json gives no size: expected one of {LAYERS} and one of {HIDDEN}")
    kv_heads = _kv_heads(config, heads)
    head_dim = int(config.get("head_dim") or (hidden // heads if heads else 0))
    context = 0 if modality == "image-classifier" else size(config, CONTEXT)
    cache_bytes = 4 * layers * kv_heads * head_dim * context if modality == "causal-lm" else 0
    return ModelProfile(
        **source.model_dump(include={"name", "source", "origin", "sha256", "stored"}),
        modality=modality,
        architecture=architecture,
        model_type=str(config.get("model_type", "")),
        parameters=weights.parameters,
        size_mb=round(weights.size_bytes / 1e6, 3),
        dtype=weights.dtype,
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=int(config.get("vocab_size") or 0),
        context_length=context,
        experts=counted(config),
        tied_embeddings=modality == "causal-lm" and weights.tied,
        linear_input_sizes=weights.input_sizes,
        memory_mb={name: memory_mb(weights, name, cache_bytes) for name in get_args(Precision)},
    )


def memory_mb(weights: Weights, precision: str, cache_bytes: int) -> float:
    """Estimated memory at `precision` (see the formula at the top), in 10^6 bytes."""
    linear, embedding, other = BITS[precision]
    bits = weights.linear * linear + weights.embedding * embedding + weights.other * other
    return round((bits / 8 + cache_bytes) / 1e6, 1)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json with its text part, if it has one, laid over it; raises ModelError when it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} has no config.json; run the fetch stage (`dvc repro fetch`)") from None
    except ValueError as error:
        raise ModelError(f"{folder}/config.json is not JSON ({error}); fetch the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder}/config.json holds no object; fetch the model again")
    text = config.get("text_config")
    return {**config, **text, "architectures": config.get("architectures")} if isinstance(text, dict) else config


def architecture_of(config: Mapping[str, Any], folder: Path) -> str:
    """The first architecture named; raises ModelError when there is none."""
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise ModelError(
            f'{folder}/config.json names no architecture; add "architectures": ["LlamaForCausalLM"] or its like'
        )
    return str(names[0])


def modality_of(architecture: str, config: Mapping[str, Any]) -> str:
    """Tell the kind of model from its architecture's name; raises ModelError listing the kinds that are handled."""
    writes = architecture.endswith(WRITING)
    if writes and "vision_config" in config:
        return "vision-language"
    if (writes and "audio_config" in config) or architecture.endswith(SPEECH):
        return "speech-to-text"
    if architecture.endswith(SOUND) or (architecture.endswith("ForSequenceClassification") and "conv_dim" in config):
        return "audio-classifier"
    for suffix, modality in SUFFIXES:
        reads_text_only = config.get("vocab_size") and "vision_config" not in config
        if architecture.endswith(suffix) and (modality != "text-encoder" or reads_text_only):
            return modality
    endings = ", ".join(f"*{suffix}" for suffix, _ in SUFFIXES)
    raise ModelError(
        f"architecture {architecture!r} is no causal language model, text encoder or image classifier; "
        f"allowed: {endings}"
    )


def source_of(folder: Path) -> Source:
    """Read what the fetch stage wrote about the model; for a bare directory, what can be told from it."""
    file = folder / "source.json"
    if file.is_file():
        return Source.read(file)
    digest = hash_files(sorted(folder.glob("*.safetensors")))
    return Source(
        name=folder.resolve().name, source=str(folder), origin="a directory without source.json", sha256=digest
    )


def size(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of `names` that the configuration gives as a number; 0 when none does."""
    return next((int(config[name]) for name in names if isinstance(config.get(name), int | float)), 0)


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return size(config, KV_HEADS) or heads
