"""Which frameworks suit, and how each variant is to be made."""

from __future__ import annotations

from typing import Literal

from tasks.records.base import Record, Support
from tasks.records.terms import TRAINED_ROUNDING, Backend, ExpertsBy, Framework, Precision, Role


class FrameworkChoice(Record):
    rank: int
    framework: Framework
    score: float
    reasons: tuple[str, ...]
    support: Support


class Selection(Record):
    """Frameworks in the order in which they suit target, model and requirements (S2, S4)."""

    device: str
    path: tuple[str, ...]  # the decision tree, question by question
    ranking: tuple[FrameworkChoice, ...]


class Recipe(Record):
    """Settings that a variant is made by, after the policy adapted it to model and target (S9)."""

    backend: Backend
    precision: Precision
    role: Role
    method: str
    group_size: int
    symmetric: bool
    ratio: float  # share of layers at the low precision; the rest is int8
    bits: float = 0.0  # per weight on average, for method mixed
    pace: float = 0.0  # times as fast in writing as q8_0, for method mixed
    experts: float = 1.0  # share of each layer's experts that stays
    experts_by: ExpertsBy = "reap"
    channels: float = 1.0  # share of each layer's channels that stays
    epochs: int = 0  # passes over the training data, after that
    reasons: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether the model itself is trained for this, so that it must have come with training data."""
        return self.channels < 1 or self.epochs > 0 or self.method == TRAINED_ROUNDING

    @property
    def transforms(self) -> bool:
        """Whether the checkpoint is changed before it is converted."""
        return self.experts < 1 or self.trains


class PlanEntry(Record):
    """Decision on one variant, with its reason."""

    variant: str
    action: Literal["run", "intermediate", "skip"]  # intermediate: made because another is made from it, not measured
    reason: str
    source: str  # "model", or "variants/NAME"
    recipe: Recipe
    speed_on_device: Support  # ok: timings made here are timings of the target
    slow_here: bool = False  # the runtime lacks the accelerator that it is made for: MLX without Metal
