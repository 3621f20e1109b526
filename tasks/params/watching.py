"""What is watched after promotion, and what is repaired."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.base import Block, Count, Positive, Share


class Rule(Block):
    """One alert: a figure of each window, and what must not be."""

    metric: str  # of monitoring.collect.metrics, or "drift"
    kind: Literal["threshold", "rate", "absent", "drift", "burn"] = "threshold"
    above: float | None = None  # of a rate: times the median of the windows before
    below: float | None = None
    objective: Share | None = None  # of a burn: the share of requests that must go well
    windows: Count = 1  # in a row, before it is told
    severity: Literal["page", "warn"] = "warn"
    runbook: str  # what a person does first

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        bounds = self.above is not None or self.below is not None
        if self.kind in ("threshold", "rate") and not bounds:
            raise ValueError(f"a rule of the kind {self.kind} needs above or below")
        if self.kind == "burn" and (self.objective is None or self.above is None):
            raise ValueError("a rule of the kind burn needs objective and above, how many times as fast as allowed")
        return self


class Drift(Block):
    """Limits past which prompts or answers are called others than the reference's."""

    min_requests: Count = 100  # of a window that is compared; a smaller one waits for the next
    max_requests: Count = 2000  # of a window that are compared, drawn in strata
    reference_requests: Count = 4000  # of a version's first window that are kept to compare with
    min_distance: Positive = 0.3  # of a numeric signal that has drifted, in standard deviations (Wasserstein)
    min_category_distance: Positive = 0.15  # of a signal with categories that has drifted (Jensen and Shannon)
    max_accuracy_drop: Share = 0.05  # of right answers, below the reference's share of them
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.999  # of the tests for drift, over all signals together


class Repair(Block):
    """Limits of what is repaired by itself when an alert fires."""

    enabled: bool = True  # False: nothing is repaired
    dry_run: bool = False  # True: say what would be done, and do nothing
    observe_s: Positive = 120.0  # before a step is judged
    min_improvement: Share = 0.2  # of the figure, for a step to be kept while the alert still fires
    cool_down_s: Annotated[float, Field(ge=0)] = 900.0  # between two repairs
    max_steps_per_day: Annotated[int, Field(ge=0)] = 12


class Monitor(Block):
    """Settings of watching after promotion."""

    window_s: Positive = 300.0
    max_rows: Count = 1_000_000  # of the log that one window holds; of more, the newest
    reference_rows: Annotated[int, Field(ge=0)] = 0  # answers of a window that the fp32 reference reads; 0: none
    price_per_hour: Annotated[float, Field(ge=0)] = 0.0
    notify: Annotated[tuple[str, ...], Field(strict=False)] = ()  # names of environment variables, each an address
    max_notices_per_hour: Count = 6  # messages; what is beyond waits and is told in one
    rules: dict[str, Rule] = Field(default_factory=dict)
    drift: Drift = Drift()
    repair: Repair = Repair()
