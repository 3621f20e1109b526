"""What the plots show: which variants, which figures, where the gates' limits lie."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from tasks.records import ScoreRow
from tasks.reporting import plots
from tasks.reporting.figures import NOT_MEASURED, figure, limit
from tasks.reporting.findings import Scores, bound_of, metric, value


def planes(scores: Scores) -> list[tuple[str, Markup]]:
    """Quality against decode speed, and against memory."""
    start = {name: value(scores.row(scores.reference), name) for name in ("decode_tokens_per_s", "peak_rss_mb")}
    quality = plots.Axis(
        "perplexity ratio, better upwards", plots.above_one, plots.RATIO_TICKS, lambda v: f"{v:g}", False,
        *_gate_line(scores, "max_perplexity_ratio", 1.0),
    )  # fmt: skip
    wanted = (
        ("Quality and decode speed", "decode_tokens_per_s", "decode, tok/s", True, "min_decode_speedup"),
        ("Quality and memory", "peak_rss_mb", "peak memory, MB", False, "max_memory_share"),
    )
    found = []
    for name, key, label, higher, gate in wanted:
        line = _gate_line(scores, gate, start[key])
        axis = plots.Axis(label, plots.log, plots.LOG_TICKS, lambda v: f"{v:g}", higher, *line)
        drawing = plots.scatter(_points(scores, key), axis, quality, f"{name}, one mark per variant")
        if drawing:
            found.append((name, Markup(drawing)))  # noqa: S704 - escaped where it is made
    return found


def _gate_line(scores: Scores, gate: str, unit: float | None) -> tuple[float | None, str]:
    """Where a gate's limit lies in a metric's own unit, and its label."""
    e = next((e for v in scores.gates.verdicts for e in v.expectations if e.gate == gate), None)
    bound = bound_of(e) if e is not None else None
    if e is None or bound is None or unit is None:
        return None, ""
    return bound * unit, f"gate {'≥' if e.minimum is not None else '≤'} {limit(e.metric, bound)}"


def _points(scores: Scores, key: str) -> list[plots.Point]:
    found = []
    for row in scores.rows:
        x, y = value(row, key), value(row, "perplexity_ratio")
        if x is not None and x > 0 and y is not None:
            front, won = row.variant in scores.recommendation.front, row.variant == scores.gates.winner
            tip = _tip(row, (key, "perplexity_ratio", "retention", "mean_kl"))
            found.append(plots.Point(row.variant, x, y, row.backend, row.precision, front, won, tip))
    return found


def _tip(row: ScoreRow, names: Iterable[str]) -> str:
    known = [(name, value(row, name)) for name in names]
    said = [f"{name.replace('_', ' ')} {figure(name, number)}" for name, number in known if number is not None]
    return f"{row.variant}\n" + "\n".join(said)


def speeds(scores: Scores) -> list[tuple[str, Markup]]:
    """Decode and prefill, a bar per variant with whiskers."""
    found = []
    for name, key, ratio, gate in (
        ("Decode, tok/s", "decode_tokens_per_s", "decode_speedup", "min_decode_speedup"),
        ("Prefill, tok/s", "prefill_tokens_per_s", "prefill_speedup", "min_prefill_speedup"),
    ):
        start = value(scores.row(scores.reference), key)
        rows = [_bar(scores, row, key, ratio) for row in scores.rows if row.status == "ok"]
        drawing = plots.bars(rows, *_gate_line(scores, gate, start), f"{name}, a bar per variant")
        if drawing:
            found.append((name, Markup(drawing)))  # noqa: S704 - escaped where it is made
    return found


def _bar(scores: Scores, row: ScoreRow, key: str, ratio: str) -> plots.Bar:
    cell, won = metric(row, key), row.variant == scores.gates.winner
    if cell.value is None or cell.state != "measured":
        words = (NOT_MEASURED if cell.state == "not-measured" else "missing", "")
        return plots.Bar(row.variant, row.backend, None, 0, 0, won, words, f"{row.variant}: {cell.reason}")
    record = scores.benchmarks.get(row.variant)
    quantity = getattr(record, key, None)
    low, high = (quantity.low, quantity.high) if quantity is not None else (cell.value, cell.value)
    times = value(row, ratio)
    words = (figure(key, cell.value), figure(ratio, times) if times is not None else "")
    count = f", {cell.n} timings" if cell.n else ""
    tip = f"{row.variant}\n{figure(key, cell.value)} tok/s ({figure(key, low)} to {figure(key, high)}{count})"
    return plots.Bar(row.variant, row.backend, cell.value, low, high, won, words, tip)


def unplotted(scores: Scores) -> list[str]:
    """Variants that have no place in the planes."""
    shown = {p.name for key in ("decode_tokens_per_s", "peak_rss_mb") for p in _points(scores, key)}
    return [row.variant for row in scores.rows if row.variant not in shown]
