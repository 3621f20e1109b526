"""A GGUF file as the unquantized reference: weights expanded to fp32, proven against llama.cpp on the file itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Logits
from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming import accounting, numbers, rope
from tasks.kinds.causal_lm.incoming.gguf_tokenizer import quiet
from tasks.kinds.causal_lm.incoming.loading import save
from tasks.kinds.causal_lm.incoming.words import first_line
from tasks.kinds.causal_lm.quality import CHUNK, kl_divergence, log_softmax
from tasks.kinds.causal_lm.tokens import encoder
from tasks.sources import gguf as gguf_file

PROOF_TOKENS = 640  # positions over which the expanded model is compared with llama.cpp on the file
PROOF_KL = 0.05  # nats: llama.cpp rounds activations to 8 bits, which cost the sample .0024; a wrong scaling costs more
POSITIONS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")  # read apart


def write_weights(gguf: Path, out: Path, name: str, text: str) -> tuple[str, ...]:
    """Write the file's weights as fp32 safetensors with a configuration into `out`; returns notes, raises ModelError.

    The tokenizer is there already. `text` is ordinary text of at least 640 tokens, on which the proof is made.
    """
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    try:
        loaded, told = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
        )
    except (ValueError, KeyError, NotImplementedError, RuntimeError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{name}: transformers cannot read this GGUF ({first_line(error)}); give the original Hugging Face "
            "directory instead"
        ) from error
    layers = int(getattr(loaded.config, "num_hidden_layers", 0))
    fields = {
        key: field.contents() for key, field in gguf_file.read(gguf).fields.items() if not key.startswith("tokenizer")
    }
    stored = {tensor.name for tensor in gguf_file.read(gguf).tensors}
    _whole(stored, fields, name)
    missing = _really_missing(told["missing_keys"], loaded)
    there = set(loaded.state_dict()).difference(told["missing_keys"])
    found = accounting.Found(stored=there, missing=missing, unexpected=(), shapes={})
    accounting.account(found, layers, name)
    notes = [numbers.check_numbers(loaded.state_dict().items(), name)]
    model = _rebuilt(loaded, _scaling(gguf, fields, loaded.config, name))
    notes.append(save(model, out))
    notes.append(_proven(gguf, model.eval(), out, text, name))
    return tuple(note for note in notes if note)


def _whole(stored: set[str], fields: Mapping[str, Any], name: str) -> None:
    """Refuse a file whose layers are not as many as it says, the first that is absent is named."""
    layers = int(fields.get(f"{fields['general.architecture']}.block_count", 0))
    there = {int(one.split(".")[1]) for one in stored if one.startswith("blk.")}
    absent = sorted(set(range(layers)) - there)
    if absent:
        raise ModelError(
            f"{name}: {len(absent)} of its {layers} layers are not in the file, blk.{absent[0]} first; fetch it again"
        )


def _really_missing(keys: Sequence[str], model: Any) -> list[str]:
    """Missing names that no other tensor of the model stands for."""
    tied = getattr(model.config, "tie_word_embeddings", False)
    return [key for key in keys if not (tied and "lm_head" in key)]


def _scaling(gguf: Path, fields: Mapping[str, Any], config: Any, name: str) -> dict[str, Any]:
    tensors = {
        one.name: np.asarray(one.data, dtype=np.float64).ravel()
        for one in gguf_file.read(gguf).tensors
        if one.name in POSITIONS
    }
    context = int(fields.get(f"{fields['general.architecture']}.context_length", 0)) or config.max_position_embeddings
    theta = float(fields.get(f"{fields['general.architecture']}.rope.freq_base", 10000.0))
    return rope.parameters(rope.scaling_of(fields, {k: v.tolist() for k, v in tensors.items()}), theta, context, name)


def _rebuilt(loaded: Any, scaling: Mapping[str, Any]) -> Any:
    """The model from its configuration alone, as it will be read from the disk, with the file's weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = loaded.config.to_dict()
    config.pop("quantization_config", None)  # else dequantized weights cannot be saved
    config.pop("_model_name_or_path", None)
    if scaling:
        stated = config.get("rope_parameters") or {}
        if "full_attention" in stated:  # some layers look back by windows: only the others are stretched
            stated = {**stated, "full_attention": {**stated["full_attention"], **scaling}}
        else:
            stated = {**stated, **scaling}
        config["rope_parameters"] = stated
    fresh = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(config), dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    return fresh


def _proven(gguf: Path, model: Any, tokenizer: Path, text: str, name: str) -> str:
    """Compare the model with llama.cpp on the source file over some hundred positions; a note with what was found.

    Raises ModelError where they disagree, by the mean KL divergence of each quarter of the positions: a wrong scaling
    shows in the last, a wrong weight in all.
    """
    limit = min(PROOF_TOKENS, int(getattr(model.config, "max_position_embeddings", PROOF_TOKENS) or PROOF_TOKENS))
    ids = encoder(tokenizer)(text)[:limit]
    theirs, ours = _llama_logits(gguf, ids, name), _own_logits(model, ids)
    kl = np.concatenate(
        [
            kl_divergence(log_softmax(theirs[at : at + CHUNK]), log_softmax(ours[at : at + CHUNK]))
            for at in range(0, len(ids), CHUNK)
        ]
    )
    distance = [float(quarter.mean()) for quarter in np.array_split(kl, 4)]
    if not max(distance) <= PROOF_KL:  # NaN is no agreement either
        quarters = ", ".join(f"{one:.3f}" for one in distance)
        raise ModelError(
            f"{name}: expanded to fp32 it is not the model that llama.cpp reads from the file: mean KL by quarter of "
            f"{len(ids)} positions {quarters} nats, limit {PROOF_KL}. transformers leaves something of this "
            "architecture out; give the original Hugging Face directory instead"
        )
    mean = sum(distance) / len(distance)
    return f"proven against llama.cpp on the file itself: mean KL {mean:.4f} nats over {len(ids)} positions"


def _llama_logits(gguf: Path, ids: Sequence[int], name: str) -> Logits:
    """Logits that llama.cpp computes from the file, shape (ids, vocabulary)."""
    import llama_cpp

    quiet()
    try:
        model = llama_cpp.Llama(
            os.fspath(gguf), n_ctx=len(ids), n_batch=len(ids), n_ubatch=len(ids), logits_all=True, verbose=False
        )
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"{name}: llama.cpp cannot load the file ({error}); it cannot be proven what it holds"
        ) from error
    try:
        model.eval(list(ids))
        return np.array(model.scores[: len(ids)], dtype=np.float32)
    finally:
        model.close()


def _own_logits(model: Any, ids: Sequence[int]) -> Logits:
    import torch

    with torch.inference_mode():
        logits: Logits = model(torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()
    return logits
