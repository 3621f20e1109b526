"""Tell what the runtime gave from what quantization gave: an engine's unquantized row stands between the two."""

from __future__ import annotations

from typing import NamedTuple

from tasks.records.scores import ScoreRow
from tasks.reporting.findings import Scores, value


class Step(NamedTuple):
    """Factors against the reference; None where a side was not measured. runtime x quantization = total."""

    runtime: float | None
    quantization: float | None
    total: float | None


class Gain(NamedTuple):
    """One quantized variant, and the unquantized one of the same engine."""

    variant: str
    base: str
    steps: dict[str, Step]  # by metric


def gains(scores: Scores) -> list[Gain]:
    """A gain per candidate whose engine has an unquantized row, in the order of the plan."""
    reference = scores.row(scores.reference)
    names = [spec.name for spec in scores.known.having("headline")]
    found = []
    for row in scores.rows:
        base = _unquantized(scores, row)
        if row.role == "candidate" and base is not None:
            found.append(Gain(row.variant, base.variant, {name: _step(name, row, base, reference) for name in names}))
    return [gain for gain in found if any(step.total is not None for step in gain.steps.values())]


def _unquantized(scores: Scores, row: ScoreRow) -> ScoreRow | None:
    """The engine's own rival in floating point."""
    same = [r for r in scores.rows if r.backend == row.backend and r.role == "rival" and r.status == "ok"]
    return next((r for r in same if r.precision in ("fp32", "fp16", "bf16")), None)


def _step(name: str, row: ScoreRow, base: ScoreRow, reference: ScoreRow | None) -> Step:
    own, middle, start = value(row, name), value(base, name), value(reference, name)
    return Step(_over(middle, start), _over(own, middle), _over(own, start))


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def shares(scores: Scores, variant: str) -> str:
    """The winner's speed in the first of the headline's phases taken apart, in a sentence; empty when it cannot be."""
    phase = scores.known[scores.known.deciding[0]] if scores.known.deciding else None
    if phase is None:
        return ""
    step = next((g.steps[phase.name] for g in gains(scores) if g.variant == variant), Step(None, None, None))
    if step.total is None or step.runtime is None or step.quantization is None:
        return ""
    return (
        f"Of {variant}'s {step.total:.1f}× in {phase.title}, the runtime alone gave {step.runtime:.1f}× "
        f"and quantization {step.quantization:.1f}× on top."
    )
