"""Whether weights are stored in the precision that an artifact claims, by the types counted in its files."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.records.terms import Precision

# Bits per weight of the types that files hold, scales included where the type includes them.
BITS: dict[str, float] = {
    "F32": 32, "f32": 32, "float": 32, "F16": 16, "f16": 16, "float16": 16, "BF16": 16, "bf16": 16, "bfloat16": 16,
    "Q8_0": 8.5, "Q6_K": 6.56, "Q5_0": 5.5, "Q5_1": 6, "Q5_K": 5.5, "Q4_0": 4.5, "Q4_1": 5, "Q4_K": 4.5, "Q3_K": 3.44,
    "Q2_K": 2.63, "IQ4_NL": 4.5, "IQ4_XS": 4.25, "u8": 8, "i8": 8, "int8": 8, "uint8": 8, "u4": 4, "i4": 4, "int4": 4,
    "nf4": 4, "U32/8bit": 8, "U32/4bit": 4, "i64": 64, "int64": 64, "i32": 32, "I64": 64, "I32": 32,
}  # fmt: skip

# The widest type that still counts as the claimed precision. llama.cpp's 4-bit mixes hold 5-bit types by design.
WIDEST: dict[Precision, float] = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 9, "int4": 6}
FEWEST: dict[Precision, float] = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 6.5, "int4": 3.9}
ENOUGH = 0.5  # share of the weights that quantization is about


def weight_share(counted: Mapping[str, int]) -> dict[str, float]:
    """Share of the weights (not of the bytes) per stored type, largest first."""
    weights = {kind: size * 8 / BITS.get(kind, 32) for kind, size in counted.items() if size}
    total = sum(weights.values()) or 1.0
    return {kind: weights[kind] / total for kind in sorted(weights, key=lambda k: -weights[k])}


def precision_problem(
    share: Mapping[str, float], claimed: Precision, quantized: float = 1.0, *, mixed: bool = False
) -> str:
    """Say why the types found are not the claimed precision; empty when they are.

    `mixed`: types were chosen by what they cost, so that any of at most 8 bits will do.

    `quantized`: the share of the weights that are to be in it; a small model may be an embedding for the most part,
    which frameworks keep at 8 bits whatever is asked.
    """
    fewest, widest = (0.0, WIDEST["int8"]) if mixed else (FEWEST[claimed], WIDEST[claimed])
    fitting = sum(part for kind, part in share.items() if fewest <= BITS.get(kind, 32) <= widest)
    if fitting >= ENOUGH * quantized:
        return ""
    of = "" if quantized == 1.0 else f" (its linear layers are {quantized:.0%})"
    return f"claims {claimed}, but only {fitting:.0%} of its weights are stored so{of}: {describe(share)}"


def describe(share: Mapping[str, float]) -> str:
    """The types in words: 'u4 63%, u8 36%'."""
    return ", ".join(f"{kind} {part:.0%}" for kind, part in share.items() if part >= 0.005)
