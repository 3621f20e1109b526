"""The steps of each framework and the settings that were tried, as rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.records.scores import StepResult
from tasks.reporting.figures import NOT_MEASURED, NOTHING, figure, times
from tasks.reporting.findings import Findings

TONES = {"pass": "good", "fail": "bad", "unreachable": "bad", "inconclusive": "open"}


class Step(NamedTuple):
    """One step, shown; `width` is the first of its figures in percent of the largest of all."""

    step: str
    variant: str
    figures: tuple[str, ...]  # in the order of `heads`
    width: int
    note: str


class Steps(NamedTuple):
    """One framework."""

    name: str
    variant: str
    steps: list[Step]
    verdict: str
    tone: str


class Tried(NamedTuple):
    """One setting that was timed against the defaults."""

    backend: str
    setting: str
    speeds: tuple[str, ...]  # in the order of the catalogue's deciding phases
    outcome: str


def heads(known: Catalogue) -> list[str]:
    """Name the figures of a step."""
    return [spec.step.words for spec in known.having("step") if spec.step is not None]


def progress(found: Findings) -> list[Steps]:
    """Every framework's steps, closed by the verdict on the candidate they lead to."""
    all_of_them = found.scores.recommendation.progress
    known = found.scores.known
    shown_figures = known.having("step")
    first = shown_figures[0].name if shown_figures else ""
    fastest = max((s.figures.get(first, 0.0) for one in all_of_them for s in one.strides), default=0.0)
    shown = []
    for one in all_of_them:
        verdict = found.scores.verdict(one.variant)
        outcome = verdict.outcome if verdict is not None else NOTHING
        open_ = [known[e.metric].title for e in (verdict.expectations if verdict else ()) if e.outcome == outcome]
        said = f"{outcome}: {', '.join(open_)}" if open_ and outcome != "pass" else str(outcome)
        steps = [_step(stride, shown_figures, fastest) for stride in one.strides]
        shown.append(Steps(one.backend, one.variant, steps, said, TONES.get(outcome, "quiet")))
    return shown


def _step(stride: StepResult, shown: Sequence[MetricSpec], fastest: float) -> Step:
    def text(spec: MetricSpec) -> str:
        value = stride.figures.get(spec.name)
        return NOT_MEASURED if value is None else figure(spec, value)

    first = stride.figures.get(shown[0].name, 0.0) if shown else 0.0
    return Step(
        step=stride.step,
        variant=stride.variant,
        figures=tuple(text(spec) for spec in shown),
        width=round(100 * first / fastest) if fastest else 0,
        note=stride.note,
    )


def tuned(found: Findings) -> list[Tried]:
    """Every change that was tried and what became of it, runtime by runtime; those without any say why."""
    lines, phases = [], found.scores.known.deciding
    for name, one in found.tuned.items():
        if not one.variant:
            continue
        for trial in one.trials:
            values = [trial.speedups.get(phase) for phase in phases]
            speeds = tuple(NOTHING if value is None else times(value) for value in values)
            setting = ", ".join(f"{key} {value}" for key, value in trial.settings.items())
            kept = trial.settings.items() <= one.settings.items()
            lines.append(Tried(name, setting, speeds, "kept" if kept else trial.reason))
        lines.append(Tried(name, "all together" if one.settings else "none", (NOTHING,) * len(phases), one.reason))
    return lines
