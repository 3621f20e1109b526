"""How positions are scaled in a GGUF file, in the terms of a Hugging Face configuration. Pure.

transformers reads the base of the rotation from GGUF and leaves its scaling out: a model that was trained for long
texts would turn into another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import ModelError

ORIGINALS = (
    8192,
    4096,
    2048,
    16384,
    32768,
    131072,
)  # contexts that models were trained with before they were stretched
NEAR = 1e-3


@dataclass(frozen=True)
class Scaling:
    """What a file says of positions."""

    kind: str  # none, linear, yarn, longrope; of llama.cpp
    factor: float | None
    original: int | None  # context that the model was trained with before
    attention: float | None
    factors: Sequence[float] = ()  # rope_freqs: by what each frequency is divided
    short: Sequence[float] = ()  # longrope's, of texts up to the original context
    long: Sequence[float] = ()


def scaling_of(fields: Mapping[str, Any], tensors: Mapping[str, Sequence[float]]) -> Scaling:
    """Read it from a file's metadata (values by key) and small tensors."""
    prefix = f"{fields['general.architecture']}.rope.scaling."
    return Scaling(
        kind=str(fields.get(f"{prefix}type", "none")),
        factor=fields.get(f"{prefix}factor"),
        original=fields.get(f"{prefix}original_context_length"),
        attention=fields.get(f"{prefix}attn_factor"),
        factors=tuple(tensors.get("rope_freqs.weight", ())),
        short=tuple(tensors.get("rope_factors_short.weight", ())),
        long=tuple(tensors.get("rope_factors_long.weight", ())),
    )


def parameters(scaling: Scaling, theta: float, context: int, name: str) -> dict[str, Any]:
    """The entries of `rope_parameters` that the file's scaling adds; none where positions are not scaled.

    `theta` is the base of the rotation, `context` the file's longest text. Raises ModelError for a scaling that no
    configuration can say.
    """
    if scaling.long or scaling.short:
        original = scaling.original or context
        return {
            "rope_type": "longrope",
            "short_factor": list(scaling.short),
            "long_factor": list(scaling.long),
            "original_max_position_embeddings": original,
            "factor": context / original,
            **({"attention_factor": scaling.attention} if scaling.attention else {}),
        }
    if any(abs(one - 1) > NEAR for one in scaling.factors):
        return _llama3(scaling.factors, theta, name)
    if scaling.kind in ("none", "") or scaling.factor in (None, 0, 1):
        return {}
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": float(scaling.factor)}
    if scaling.kind == "yarn":
        found: dict[str, Any] = {"rope_type": "yarn", "factor": float(scaling.factor)}
        found["original_max_position_embeddings"] = scaling.original or round(context / scaling.factor)
        return found | ({"attention_factor": scaling.attention} if scaling.attention else {})
    raise ModelError(
        f"{name} scales positions by {scaling.kind!r}; allowed: linear, yarn, longrope, and llama3's factors"
    )


def _llama3(factors: Sequence[float], theta: float, name: str) -> dict[str, Any]:
    """Llama 3's rule that gives these factors: slow rotations are stretched, fast ones left, those between blended."""
    factor = max(factors)
    for original in ORIGINALS:
        for low, high in ((1.0, 4.0), (1.0, 2.0), (1.0, 32.0)):
            made = llama3_factors(len(factors), theta, factor, low, high, original)
            if all(math.isclose(a, b, rel_tol=5 * NEAR) for a, b in zip(made, factors, strict=True)):
                return {
                    "rope_type": "llama3", "factor": float(factor), "low_freq_factor": low, "high_freq_factor": high,
                    "original_max_position_embeddings": original,
                }  # fmt: skip
    raise ModelError(
        f"{name} divides the frequencies of positions by factors of its own (rope_freqs, up to {factor:g}), which no "
        "known rule gives; give the original Hugging Face directory instead"
    )


def llama3_factors(
    count: int, theta: float, factor: float, low: float, high: float, original: int
) -> tuple[float, ...]:
    """By what Llama 3's rule divides each of `count` frequencies.

    >>> [round(one, 2) for one in llama3_factors(4, 10000.0, 8.0, 1.0, 4.0, 64)]
    [1.0, 2.81, 8.0, 8.0]
    """
    made = []
    for number in range(count):
        wave = 2 * math.pi * theta ** (number / count)
        if wave < original / high:
            made.append(1.0)
        elif wave > original / low:
            made.append(factor)
        else:
            smooth = (original / wave - low) / (high - low)
            made.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(made)
