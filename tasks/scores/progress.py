"""Progressive optimization as steps (S7): reference, converted, quantized, accelerated (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.kinds.catalogue import Catalogue
from tasks.records.scores import Progress, ScoreRow, StepResult
from tasks.records.speed import Tuned
from tasks.records.terms import Backend


def progress(
    known: Catalogue, rows: Sequence[ScoreRow], reference: str, ranking: Sequence[str], tuned: Mapping[str, Tuned]
) -> tuple[Progress, ...]:
    """The steps of every framework that led to a candidate, its best ranked one, else its first that was made.

    Converted is the engine's own unquantized model. A candidate is timed with its tuned settings; what it was without
    them is that divided by the gain of tuning, which was measured in turns on the candidate that stood for all.
    """
    by_name = {row.variant: row for row in rows}
    start = by_name.get(reference)
    if start is None:
        return ()
    found = []
    for name in dict.fromkeys(row.backend for row in rows):
        own = [row for row in rows if row.backend == name and row.role == "candidate" and row.status == "ok"]
        best = next((by_name[v] for v in ranking if v in by_name and by_name[v] in own), own[0] if own else None)
        if best is not None:
            found.append(
                Progress(backend=name, variant=best.variant, strides=_strides(known, start, rows, best, tuned))
            )
    return tuple(found)


def _strides(
    known: Catalogue, start: ScoreRow, rows: Sequence[ScoreRow], best: ScoreRow, tuned: Mapping[str, Tuned]
) -> tuple[StepResult, ...]:
    strides = [_stride(known, "reference", start)]
    base = _unquantized(rows, best.backend)
    if base is not None:
        strides.append(_stride(known, "converted", base))
    settings = tuned.get(best.backend)
    last = _stride(known, "accelerated", best)
    if settings is None or not settings.settings:
        note = settings.reason if settings is not None else "defaults: not tuned"
        return (*strides, _stride(known, "quantized", best), last.model_copy(update={"note": note}))
    gains = {
        ratio.name: settings.gain[ratio.of].value for ratio in known.ratios("speedup") if ratio.of in settings.gain
    }
    without = {name: value / gains.get(name, 1.0) for name, value in last.figures.items()}
    note = f"speed from the gain of tuning {settings.variant}"
    quantized = last.model_copy(update={"step": "quantized", "figures": without, "note": note})
    return (*strides, quantized, last.model_copy(update={"note": settings.reason}))


def _unquantized(rows: Sequence[ScoreRow], backend: Backend) -> ScoreRow | None:
    floats = ("fp32", "fp16", "bf16")
    same = (row for row in rows if row.backend == backend and row.role == "rival" and row.status == "ok")
    return next((row for row in same if row.precision in floats), None)


def _stride(known: Catalogue, step: str, row: ScoreRow) -> StepResult:
    cells = {spec.name: row.metrics[spec.name] for spec in known.having("step") if spec.name in row.metrics}
    values = {name: cell.value for name, cell in cells.items() if cell.state == "measured" and cell.value is not None}
    return StepResult.model_validate({"step": step, "variant": row.variant, "figures": values})
