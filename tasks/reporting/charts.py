"""What the plots show: which variants, which figures, where the gates' limits lie."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from tasks.kinds.catalogue import MetricSpec
from tasks.records.scores import ScoreRow
from tasks.reporting import plots
from tasks.reporting.baselines import own_limit
from tasks.reporting.figures import NOT_MEASURED, figure, limit
from tasks.reporting.findings import Scores, bound_of, metric, value


def planes(scores: Scores) -> list[tuple[str, Markup]]:
    """Quality against speed, and against memory."""
    upright, across = _axes(scores)
    if upright is None or upright.plane is None:
        return []
    words = upright.plane.words
    quality = plots.Axis(
        words, plots.above_one, plots.RATIO_TICKS, lambda v: f"{v:g}", False, *_gate_line(scores, upright)
    )
    found = []
    for spec in across:
        label, higher = f"{spec.title}, {spec.unit}", spec.better == "higher"
        axis = plots.Axis(label, plots.log, plots.LOG_TICKS, lambda v: f"{v:g}", higher, *_gate_line(scores, spec))
        name = spec.plane.words if spec.plane is not None else ""
        drawing = plots.scatter(_points(scores, spec, upright), axis, quality, f"{name}, one mark per variant")
        if drawing:
            found.append((name, Markup(drawing)))  # noqa: S704 - escaped where it is made
    return found


def _axes(scores: Scores) -> tuple[MetricSpec | None, list[MetricSpec]]:
    """The figure of quality that stands upright in every plane, and those that lie across."""
    shown = scores.known.having("plane")
    return next((s for s in shown if s.group == "quality"), None), [s for s in shown if s.group != "quality"]


def _gate_line(scores: Scores, spec: MetricSpec) -> tuple[float | None, str]:
    """Where a limit of a gate lies in a metric's own unit, and its label; the gate may be on its ratio."""
    judged = scores.known.ratio_of(spec.name) or spec
    e = next((e for v in scores.gates.verdicts for e in v.expectations if e.metric == judged.name), None)
    bound = bound_of(e) if e is not None else None
    start = value(scores.row(scores.reference), spec.name) if judged is not spec else 1.0
    if e is None or bound is None or start is None:
        return None, ""
    label = f"gate {'≥' if e.minimum is not None else '≤'} {limit(judged, bound)}"
    return own_limit(scores.known, judged, bound, start), label


def _points(scores: Scores, across: MetricSpec, upright: MetricSpec) -> list[plots.Point]:
    found = []
    tips = (across, upright, *(spec for spec in scores.known if spec.tip))
    for row in scores.rows:
        x, y = value(row, across.name), value(row, upright.name)
        if x is not None and x > 0 and y is not None:
            front, won = row.variant in scores.recommendation.front, row.variant == scores.gates.winner
            found.append(plots.Point(row.variant, x, y, row.backend, row.precision, front, won, _tip(row, tips)))
    return found


def _tip(row: ScoreRow, shown: Iterable[MetricSpec]) -> str:
    known = [(spec, value(row, spec.name)) for spec in shown]
    said = [f"{spec.name.replace('_', ' ')} {figure(spec, number)}" for spec, number in known if number is not None]
    return f"{row.variant}\n" + "\n".join(said)


def speeds(scores: Scores) -> list[tuple[str, Markup]]:
    """A plot for each of the deciding phases, a bar per variant with whiskers."""
    found = []
    for spec in (scores.known[phase] for phase in scores.known.deciding):
        name = f"{spec.title.capitalize()}, {spec.unit}"
        rows = [_bar(scores, row, spec) for row in scores.rows if row.status == "ok"]
        drawing = plots.bars(rows, *_gate_line(scores, spec), f"{name}, a bar per variant")
        if drawing:
            found.append((name, Markup(drawing)))  # noqa: S704 - escaped where it is made
    return found


def _bar(scores: Scores, row: ScoreRow, spec: MetricSpec) -> plots.Bar:
    cell, won = metric(row, spec.name), row.variant == scores.gates.winner
    if cell.value is None or cell.state != "measured":
        words = (NOT_MEASURED if cell.state == "not-measured" else "missing", "")
        return plots.Bar(row.variant, row.backend, None, 0, 0, won, words, f"{row.variant}: {cell.reason}")
    record = scores.benchmarks.get(row.variant)
    quantity = record.phases.get(spec.name) if record is not None else None
    low, high = (quantity.low, quantity.high) if quantity is not None else (cell.value, cell.value)
    ratio = scores.known.ratio_of(spec.name)
    times = value(row, ratio.name) if ratio is not None else None
    words = (figure(spec, cell.value), figure(ratio, times) if ratio is not None and times is not None else "")
    count = f", {cell.n} timings" if cell.n else ""
    seen = f"{figure(spec, low)} to {figure(spec, high)}"
    tip = f"{row.variant}\n{figure(spec, cell.value)} {spec.unit} ({seen}{count})"
    return plots.Bar(row.variant, row.backend, cell.value, low, high, won, words, tip)


def unplotted(scores: Scores) -> list[str]:
    """Variants that have no place in the planes."""
    upright, across = _axes(scores)
    shown = {p.name for spec in across for p in (_points(scores, spec, upright) if upright is not None else ())}
    return [row.variant for row in scores.rows if row.variant not in shown]
