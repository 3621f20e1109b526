"""Progressive optimization as steps (S7): reference, converted, quantized, accelerated (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.records import Backend, Progress, ScoreRow, Stride, Tuned

METRICS = ("decode_speedup", "prefill_speedup", "memory_share", "perplexity_ratio", "retention")
GAINS = {"decode_speedup": "decode_tokens_per_s", "prefill_speedup": "prefill_tokens_per_s"}


def progress(
    rows: Sequence[ScoreRow], reference: str, ranking: Sequence[str], tuned: Mapping[str, Tuned]
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
            found.append(Progress(backend=name, variant=best.variant, strides=_strides(start, rows, best, tuned)))
    return tuple(found)


def _strides(
    start: ScoreRow, rows: Sequence[ScoreRow], best: ScoreRow, tuned: Mapping[str, Tuned]
) -> tuple[Stride, ...]:
    strides = [_stride("reference", start)]
    base = _unquantized(rows, best.backend)
    if base is not None:
        strides.append(_stride("converted", base))
    settings = tuned.get(best.backend)
    last = _stride("accelerated", best)
    if settings is None or not settings.settings:
        note = settings.reason if settings is not None else "defaults: not tuned"
        return (*strides, _stride("quantized", best), last.model_copy(update={"note": note}))
    without = {
        name: None if (value := getattr(last, name)) is None else value / settings.gain[phase].value
        for name, phase in GAINS.items()
        if phase in settings.gain
    }
    quantized = _stride("quantized", best).model_copy(
        update={**without, "note": f"speed from the gain of tuning {settings.variant}"}
    )
    return (*strides, quantized, last.model_copy(update={"note": settings.reason}))


def _unquantized(rows: Sequence[ScoreRow], backend: Backend) -> ScoreRow | None:
    floats = ("fp32", "fp16", "bf16")
    same = (row for row in rows if row.backend == backend and row.role == "rival" and row.status == "ok")
    return next((row for row in same if row.precision in floats), None)


def _stride(step: str, row: ScoreRow) -> Stride:
    known = {name: row.metrics[name] for name in METRICS if name in row.metrics}
    values = {name: cell.value for name, cell in known.items() if cell.state == "measured"}
    return Stride.model_validate({"step": step, "variant": row.variant, **values})
