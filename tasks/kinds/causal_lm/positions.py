"""How far a text must reach for a wrong rule of positions to show. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.kinds.causal_lm.describing import CONTEXT, size

FAR = 2048  # tokens; what begins later is not reached: logits of a whole vocabulary are kept for each
BEYOND = 128  # tokens past the place from where on a rule counts
SCALED = 640  # tokens of a model whose positions are scaled from the first on
LATE = ("dynamic", "longrope")  # rules that change beyond the context that a model was trained with


def reach(config: Mapping[str, Any], tokens: int) -> int:
    """How many tokens a probe needs, at least `tokens`: past a sliding window, or far enough for scaled positions.

    Never more than the model's context.

    >>> reach({"sliding_window": 512, "max_position_embeddings": 32768}, 192)
    640
    >>> reach({"max_position_embeddings": 2048}, 192)
    192
    """
    wanted, window = tokens, config.get("sliding_window")
    if isinstance(window, int) and 0 < window <= FAR and config.get("use_sliding_window", True):
        wanted = max(wanted, window + BEYOND)
    for rule in _rules(config):
        if rule.get("rope_type", rule.get("type", "default")) in LATE:
            trained = rule.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
            begins = trained if isinstance(trained, int) else size(config, CONTEXT)
            wanted = max(wanted, begins + BEYOND if begins <= FAR else SCALED)
        else:
            wanted = max(wanted, SCALED)
    context = size(config, CONTEXT)
    return min(wanted, context) if context else wanted


def _rules(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rules by which positions are scaled, one for each kind of layer; none that changes nothing."""
    stated = config.get("rope_parameters") or config.get("rope_scaling")
    found = stated if isinstance(stated, dict) else {}
    for rule in [found, *found.values()]:
        if isinstance(rule, dict) and rule.get("rope_type", rule.get("type", "default")) != "default":
            yield rule
