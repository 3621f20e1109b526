"""Tensor parallelism planned: among how many accelerators a language model can be cut, and why not among others."""

from __future__ import annotations

from tasks.records.base import Record
from tasks.records.model import ModelProfile


class Split(Record):
    """Whether a model can be cut into so many parts."""

    parts: int
    ok: bool
    reason: str
    heads: int = 0  # of each part
    kv_heads: int = 0
    copies: int = 1  # of each head of keys and values, over all parts
    possible: tuple[int, ...] = ()  # all numbers of parts that it can be cut into


def split(model: ModelProfile, parts: int) -> Split:
    """Cut by whole heads, as vLLM and TensorRT-LLM do.

    Heads of queries are shared out evenly. Those of keys and values too, or each is copied to as many parts evenly.
    """
    if not model.heads or not model.kv_heads:
        return Split(parts=parts, ok=False, reason=f"{model.name} does not say how many heads of attention it has")
    possible = tuple(one for one in range(1, model.heads + 1) if not _obstacle(model, one))
    wrong = _obstacle(model, parts)
    if wrong:
        allowed = ", ".join(map(str, possible))
        return Split(parts=parts, ok=False, reason=f"{wrong}; allowed: {allowed}", possible=possible)
    copies = max(1, parts // model.kv_heads)
    copied = f", each head of keys and values copied to {copies}" if copies > 1 else ""
    heads, kept = model.heads // parts, max(1, model.kv_heads // parts)
    reason = f"{heads} of {model.heads} heads and {kept} of {model.kv_heads} heads of keys and values in each{copied}"
    return Split(parts=parts, ok=True, reason=reason, heads=heads, kv_heads=kept, copies=copies, possible=possible)


def _obstacle(model: ModelProfile, parts: int) -> str:
    if parts < 1:
        return f"{parts} is no number of accelerators"
    if model.heads % parts:
        return f"{model.heads} heads cannot be shared out evenly among {parts} accelerators"
    if model.kv_heads % parts and parts % model.kv_heads:
        return (
            f"{model.kv_heads} heads of keys and values can be neither shared out nor copied evenly among {parts} "
            "accelerators"
        )
    return ""
