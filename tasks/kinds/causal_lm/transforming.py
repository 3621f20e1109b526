"""Changes of a language model's checkpoint before it is converted: fewer experts."""

from __future__ import annotations

from pathlib import Path

from tasks.kinds.base import Calibration
from tasks.kinds.causal_lm import experts
from tasks.records.plan import Recipe


def transform(model: Path, recipe: Recipe, calibration: Calibration, out: Path, threads: int) -> None:
    """Write the checkpoint with the share of its experts that the recipe keeps."""
    stay = experts.pruned(model, calibration.texts, recipe.experts, recipe.experts_by, out, threads)
    first = next(iter(stay.values()))
    print(f"{len(first)} experts stay in each of {len(stay)} layers, by {recipe.experts_by}", flush=True)
