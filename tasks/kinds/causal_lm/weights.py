"""Count a checkpoint's weights from the headers of its safetensors files; the weights themselves stay on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.sources.safetensors import Tensor, tensors

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8"}
# Tables that tokens or positions are looked up in, by a part of their name.
EMBEDDINGS = ("embed", "wte", "wpe", "word_embeddings", "position_embeddings", "token_type")
# Stored beside the weights but no parameters: masks, frequencies, running statistics.
BUFFERS = ("masked_bias", "rotary_emb.inv_freq", "position_ids", "num_batches_tracked", "running_mean", "running_var")


@dataclass(frozen=True)
class Weights:
    """Numbers of parameters by what they are; tied ones count once."""

    linear: int
    embedding: int
    other: int
    dtype: str  # of most parameters
    size_bytes: int  # of the files
    input_sizes: tuple[int, ...]  # distinct input widths of the linear layers
    tied: bool  # the embedding is the output layer too

    @property
    def parameters(self) -> int:
        return self.linear + self.embedding + self.other


def count(folder: Path, config: Mapping[str, Any]) -> Weights:
    """Count all `*.safetensors` in `folder`; `config` is the model's own. Raises ModelError when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} has no *.safetensors; run the fetch stage (`dvc repro fetch`)")
    found = [tensor for file in files for tensor in tensors(file)]
    sums: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    widths: set[int] = set()
    untied = any(tensor.name.endswith("lm_head.weight") for tensor in found)
    tied = bool(config.get("tie_word_embeddings", not untied))  # families differ in what an absent key means
    for tensor, kind in _parameters(found, tied):
        sums[kind] += tensor.count
        dtypes[tensor.dtype] += tensor.count
        if kind == "linear":
            widths |= set(_input_sizes(tensor, config))
        elif kind == "embedding" and tied:
            widths.add(tensor.shape[1])
    if not sums:
        raise ModelError(f"{folder}: the weight files hold no parameters; fetch the model again")
    dtype = dtypes.most_common(1)[0][0]
    return Weights(
        linear=sums["linear"],
        embedding=sums["embedding"],
        other=sums["other"],
        dtype=DTYPES.get(dtype, dtype.lower()),
        size_bytes=sum(file.stat().st_size for file in files),
        input_sizes=tuple(sorted(widths)),
        tied=tied,
    )


def _parameters(found: list[Tensor], tied: bool) -> Iterator[tuple[Tensor, str]]:
    """Each parameter with its kind; without buffers, and without the copy of a tied embedding."""
    for tensor in found:
        mask = tensor.name.endswith(".attn.bias") and len(tensor.shape) == 4
        if mask or tensor.name.endswith(BUFFERS):
            continue
        if tied and tensor.name.endswith("lm_head.weight"):
            continue
        yield tensor, _kind(tensor)


def _kind(tensor: Tensor) -> str:
    embedding = any(part in tensor.name for part in EMBEDDINGS)
    if embedding and len(tensor.shape) == 2 and "proj" not in tensor.name:
        return "embedding"
    stacked = len(tensor.shape) == 3 and "expert" in tensor.name  # other 3-D tensors are learned tokens and positions
    return "linear" if stacked or (len(tensor.shape) == 2 and "norm" not in tensor.name.lower()) else "other"


def _input_sizes(tensor: Tensor, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Input widths of a linear layer: its columns; its rows for GPT-2's transposed layers.

    Experts stacked into one tensor come in both orders, so both sides count.
    """
    if len(tensor.shape) == 3:
        return tensor.shape[1:]
    transposed = config.get("model_type") == "gpt2" and not tensor.name.endswith("lm_head.weight")
    return (tensor.shape[0] if transposed else tensor.shape[1],)
