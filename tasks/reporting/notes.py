"""What a reader must know to weigh the figures: data, reference, samples, conditions, and what was not measured."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.backends.devices import DEVICE
from tasks.backends.traits import AS_STORED
from tasks.kinds.demands import switched_off
from tasks.measure.statistics import smallest_sample
from tasks.records.quality import Evaluation
from tasks.records.speed import Benchmark
from tasks.records.terms import FEW_BITS
from tasks.reporting.findings import Findings, Scores, metric, value

WRITING, BETWEEN = "decode_tokens_per_s", "inter_token_ms"
QUANTIZED = re.compile(r"\bI?Q[2-8](_\w+)?\b|\b[2-8][- ]bit\b|\bquantized\b", re.IGNORECASE)


def notes(found: Findings) -> list[str]:
    """The notes that hold for this run, the most important first."""
    return [
        *_reference(found),
        *_quantized_twice(found),
        *([f"Settings: {found.settings}."] if found.settings else []),
        *_profile(found),
        *_data(found),
        *_timing(found.scores),
        *_accelerators(found),
        *_gaps(found),
        *_gates(found),
    ]


def from_quantized(origin: str) -> bool:
    """Tell whether the reference's origin says that its weights had been quantized before.

    >>> from_quantized("model.Q4_1.gguf, expanded once to fp32"), from_quantized("org/name, safetensors in float32")
    (True, False)
    """
    return QUANTIZED.search(origin) is not None


def _reference(found: Findings) -> list[str]:
    said = [f"The reference is {found.scores.reference}, made from {found.model.origin}"]
    if from_quantized(found.model.origin):
        said.append(
            "So every quality figure here is a loss against that reference, not against the model as it was trained."
        )
    return said


def _quantized_twice(found: Findings) -> Iterable[str]:
    """What was lost by a second quantization, beside the file as it came, where a variant is that."""
    scores, stored = found.scores, found.model.stored
    if not stored:
        return
    lost = [
        (row.variant, scores.artifacts[row.variant].recipe, kl)
        for row in scores.rows
        if (kl := value(row, "mean_kl")) is not None and row.variant in scores.artifacts
    ]
    once = [(name, kl) for name, recipe, kl in lost if recipe.method == AS_STORED]
    twice = [
        f"{name} {kl:.3g}" for name, recipe, kl in lost if recipe.precision in FEW_BITS and recipe.method != AS_STORED
    ]
    if once:
        yield (
            f"The model came quantized to {stored}. {once[0][0]} is that file as it came: its KL of "
            f"{once[0][1]:.2g} nats is what the runtime's arithmetic alone changes."
        )
    if twice:
        yield (
            f"Quantized a second time, after {stored}: {', '.join(twice)} (KL in nats, what the second quantization "
            "lost; what the first one lost, no figure here can tell)."
        )


def _profile(found: Findings) -> list[str]:
    said = []
    if found.profile == "quick":
        said.append("Made in the quick profile: fewer rows and repetitions, so wider errors. Decide on a full run.")
    if not found.hardware.is_host:
        said.append(
            f"The target is the device profile {found.hardware.device}, not this machine: artifacts and quality are "
            "real, speed and memory were not measured, and gates on them are inconclusive."
        )
    return said


def _data(found: Findings) -> Iterable[str]:
    card, scored = found.data, found.scores.evaluations.values()
    predictions = max((e.counts.get("predictions", 0) for e in scored), default=0)
    yield (
        f"Quality: {card.evaluation_rows} rows of {card.source}, {predictions} next-token predictions, the same token "
        f"ids for every runtime; {card.calibration_rows} other rows for calibration. This is text of one kind: measure "
        "on your own before you rely on it."
    )
    if card.notes:
        yield f"Of the data: {'; '.join(card.notes)}."
    looked = [e for e in scored if e.looks > 1]
    if looked:
        yield (
            f"Scored on more rows and choices, as the first did not decide the gates: "
            f"{', '.join(e.variant for e in looked)}. Intervals are wide enough for 95% over all looks together."
        )
    partial = [e for e in scored if e.subset and e.status == "ok"]
    if partial:
        rows = ", ".join(f"{e.variant} ({counted(e)})" for e in partial)
        yield f"Scored on fewer rows, and compared with the reference on those: {rows}."


def counted(found: Evaluation) -> str:
    """Say how many rows and predictions a variant was scored on."""
    return f"{found.counts.get('rows', 0)} rows, {found.counts.get('predictions', 0)} predictions"


def _timing(scores: Scores) -> Iterable[str]:
    timed = [b for b in scores.benchmarks.values() if WRITING in b.phases]
    if not timed:
        return
    one = timed[0]
    counts = {b.phases[WRITING].n for b in timed}
    yield (
        f"Speed: {one.threads} threads, prompts of {one.sizes.get('prompt_tokens_short', 0)} (time to first token) and "
        f"{one.sizes.get('prompt_tokens_long', 0)} tokens (prefill), "
        f"{one.sizes.get('new_tokens', 0)} new tokens (decode); medians of "
        f"{_range(map(str, counts))} decode timings in fresh processes."
    )
    gaps = {str(b.phases[BETWEEN].n) for b in timed if BETWEEN in b.phases}
    if gaps:
        yield (
            f"The time between tokens was taken {_range(gaps)} times; a 95th percentile needs {smallest_sample(0.95)} "
            f"of them and a 99th {smallest_sample(0.99)}, else none is given."
        )
    yield "Peak memory is that of the whole process with its imports, measured in a pass of its own."
    yield from _pairs(scores)
    yield from _neighbours(timed)


def _accelerators(found: Findings) -> Iterable[str]:
    """Devices that were tried and gained nothing, and what fell back."""
    for tuned in found.tuned.values():
        for trial in tuned.trials:
            device = trial.settings.get(DEVICE)
            if device is None or tuned.settings.get(DEVICE) == device:
                continue
            told = ", ".join(f"{found.scores.known[name].title} {value:.2f}x" for name, value in trial.speedups.items())
            why = f"{told} of the processor" if told else trial.reason
            yield f"No gain from the accelerator: {tuned.backend} on {device} was tried ({why}); the processor stays."
    for variant, one in found.scores.recommendation.placements.items():
        for each in one.fallbacks:
            yield f"{variant} was asked for on {each.asked} and fell back to {each.used} ({each.kind}): {each.reason}."


def _pairs(scores: Scores) -> Iterable[str]:
    """How speedups came about, and what a session calls a difference where there is none."""
    itself = scores.benchmarks.get(scores.reference)
    phases = scores.known.deciding
    floors = {scores.known[p].title: itself.paired[p] for p in phases if itself and p in itself.paired}
    blocks = {next(iter(one.paired.values())).blocks for one in scores.benchmarks.values() if one.paired}
    if floors and blocks:
        said = " and ".join(f"{found.value:.2f}× in {name}" for name, found in floors.items())
        yield (
            "A speedup (×) is the median of ratios between blocks that took turns with the reference, "
            f"{_range(map(str, blocks))} of each variant. The reference against itself came out at {said}; "
            "intervals are wider by that."
        )


def _neighbours(timed: list[Benchmark]) -> Iterable[str]:
    taken = [b.disturbance.others_cores for b in timed if b.disturbance is not None]
    discarded = sum(b.discarded for b in timed)
    if taken:
        again = f"; {discarded} timings were discarded for that and made again" if discarded else ""
        cores = _range(f"{part:.2f}" for part in taken)
        yield f"While something was timed, other processes took {cores} of a core{again}."
    for one in timed:
        if one.busy:
            yield f"{one.variant}: {one.busy}, so its speeds decide nothing."


def _gaps(found: Findings) -> Iterable[str]:
    gaps: dict[str, list[str]] = {}
    for row in found.scores.rows:
        cell = metric(row, WRITING)
        if row.status == "ok" and cell.state == "not-measured":
            gaps.setdefault(cell.reason, []).append(row.variant)
    for reason, variants in gaps.items():
        stated = reason if reason.startswith("not measured") else f"not measured on this device: {reason}"
        yield f"{', '.join(variants)}: {stated}."


def _gates(found: Findings) -> Iterable[str]:
    off = [spec.title for spec in switched_off(found.scores.known, found.gate)]
    if off:
        yield f"Switched off in params.yaml: the gate on {', '.join(off)}."


def _range(shown: Iterable[str]) -> str:
    ordered = sorted(shown, key=float)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
