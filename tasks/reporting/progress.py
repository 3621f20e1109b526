"""The steps of each framework and the settings that were tried, as rows of text."""

from __future__ import annotations

from typing import NamedTuple

from tasks.records import Stride
from tasks.reporting.figures import NOT_MEASURED, NOTHING, figure, gate_name
from tasks.reporting.findings import Findings

TONES = {"pass": "good", "fail": "bad", "unreachable": "bad", "inconclusive": "open"}


class Step(NamedTuple):
    """One step, shown; `width` is its decode speed in percent of the fastest of all."""

    step: str
    variant: str
    decode: str
    width: int
    prefill: str
    memory: str
    perplexity: str
    retention: str
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
    decode: str
    prefill: str
    outcome: str


def progress(found: Findings) -> list[Steps]:
    """Every framework's steps, closed by the verdict on the candidate they lead to."""
    all_of_them = found.scores.recommendation.progress
    fastest = max((s.decode_speedup or 0.0 for one in all_of_them for s in one.strides), default=0.0)
    shown = []
    for one in all_of_them:
        verdict = found.scores.verdict(one.variant)
        outcome = verdict.outcome if verdict is not None else NOTHING
        open_ = [gate_name(e.gate).long for e in (verdict.expectations if verdict else ()) if e.outcome == outcome]
        said = f"{outcome}: {', '.join(open_)}" if open_ and outcome != "pass" else str(outcome)
        steps = [_step(stride, fastest) for stride in one.strides]
        shown.append(Steps(one.backend, one.variant, steps, said, TONES.get(outcome, "quiet")))
    return shown


def _step(stride: Stride, fastest: float) -> Step:
    def text(name: str) -> str:
        value = getattr(stride, name)
        return NOT_MEASURED if value is None else figure(name, value)

    return Step(
        step=stride.step,
        variant=stride.variant,
        decode=text("decode_speedup"),
        width=round(100 * (stride.decode_speedup or 0.0) / fastest) if fastest else 0,
        prefill=text("prefill_speedup"),
        memory=text("memory_share"),
        perplexity=text("perplexity_ratio"),
        retention=text("retention"),
        note=stride.note,
    )


def tuned(found: Findings) -> list[Tried]:
    """Every change that was tried and what became of it, runtime by runtime; those without any say why."""
    lines = []
    for name, one in found.tuned.items():
        if not one.variant:
            continue
        for trial in one.trials:
            speeds = [trial.speedups.get(phase) for phase in ("decode_tokens_per_s", "prefill_tokens_per_s")]
            decode, prefill = (NOTHING if value is None else figure("speedup", value) for value in speeds)
            setting = ", ".join(f"{key} {value}" for key, value in trial.settings.items())
            kept = trial.settings.items() <= one.settings.items()
            lines.append(Tried(name, setting, decode, prefill, "kept" if kept else trial.reason))
        lines.append(Tried(name, "all together" if one.settings else "none", NOTHING, NOTHING, one.reason))
    return lines
