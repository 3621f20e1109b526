"""The scorecard as cells of text: the same rows for terminal, Markdown and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.records.scores import ScoreRow
from tasks.reporting.figures import NOT_MEASURED, NOTHING, error, figure, limit
from tasks.reporting.findings import Scores, bound_of, metric, value

Tone = Literal["plain", "quiet", "good", "bad", "open"]

MARKS: dict[str, str] = {"winner": "★", "candidate": "●", "rival": "○", "reference": "◆"}
TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "unreachable": "bad", "inconclusive": "open"}


@dataclass(frozen=True)
class Column:
    """A metric's column; `extras` name the small figures beside the value."""

    key: str
    head: str
    unit: str
    extras: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Cell:
    """A value and what stands beside it, as text; `note` says why there is none, or how it was measured."""

    text: str
    extras: tuple[str, ...] = ()
    sort: float | None = None
    tone: Tone = "plain"
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One variant. `cells` is empty when it was skipped or failed and the reason says all there is."""

    variant: str
    mark: str
    role: str
    cells: Mapping[str, Cell]
    verdict: Cell
    reason: str = ""


def columns(known: Catalogue) -> tuple[Column, ...]:
    """The scorecard's columns, from left to right."""
    return tuple(
        Column(
            key=spec.name,
            head=spec.column.head,
            unit="%" if spec.form == "percent" else spec.unit,
            extras=spec.column.extras,
            meaning=spec.column.meaning,
        )
        for spec in known.having("column")
        if spec.column is not None
    )


def lines(scores: Scores) -> list[Line]:
    """One line per variant, in the order of the plan."""
    return [_line(scores, row) for row in scores.rows]


def _line(scores: Scores, row: ScoreRow) -> Line:
    winner = row.variant == scores.gates.winner
    cells = (
        {spec.name: _cell(scores, row, spec) for spec in scores.known.having("column")}
        if _has_figures(scores, row)
        else {}
    )
    return Line(
        variant=row.variant,
        mark=MARKS["winner" if winner else row.role],
        role="winner" if winner else row.role,
        cells=cells,
        verdict=_verdict(scores, row),
        reason="" if row.status == "ok" else row.reason,
    )


def _has_figures(scores: Scores, row: ScoreRow) -> bool:
    """Whether anything beside the size of its files was measured."""
    shown = scores.known.having("column")
    return any(value(row, spec.name) is not None for spec in shown if spec.source != "artifact")


def _cell(scores: Scores, row: ScoreRow, spec: MetricSpec) -> Cell:
    found = metric(row, spec.name)
    if found.state == "not-measured":
        return Cell(NOT_MEASURED, tone="quiet", note=found.reason)
    if found.state == "missing" or found.value is None:
        return Cell("missing", tone="bad", note=found.reason)
    subset = f"n = {found.n}" if found.n else ""
    note = "; ".join(part for part in (found.reason, subset) if part)
    text = figure(spec, found.value).removesuffix("%")  # the column's unit says it
    return Cell(text, _extras(scores, row, spec, found.se), found.value, note=note)


def _extras(scores: Scores, row: ScoreRow, spec: MetricSpec, se: float | None) -> tuple[str, ...]:
    """The figures beside the value: its standard error, or how it compares with the reference."""
    parts = []
    for wanted in spec.column.extras if spec.column is not None else ():
        ratio = scores.known.ratio_of(spec.name)
        if wanted == "± se":
            parts += [error(spec, se)] if se is not None else []
        elif wanted == "spread":
            record = scores.benchmarks.get(row.variant)
            quantity = record.phases.get(spec.name) if record is not None else None
            parts += [f"{quantity.spread:.0%}"] if quantity is not None else []
        elif ratio is not None:
            number = value(row, ratio.name)
            parts.append(figure(ratio, number) if number is not None else "")
    return tuple(parts)


def _verdict(scores: Scores, row: ScoreRow) -> Cell:
    """The verdict in a few words; a rival's stands in brackets, since it is never promoted."""
    verdict, known = scores.verdict(row.variant), scores.known
    if row.role == "reference" and row.status == "ok":
        return Cell("reference", tone="quiet", note="everything is compared with this row")
    if row.status != "ok":
        return Cell(row.status, tone="bad" if row.status == "failed" else "quiet", note=row.reason)
    if verdict is None:
        return Cell(NOTHING, tone="quiet", note="no verdict")
    lost = [known[e.metric].short for e in verdict.expectations if e.outcome in ("fail", "unreachable")]
    text = f"{verdict.outcome}: {', '.join(lost)}" if lost else verdict.outcome
    note = "; ".join(f"{known[e.metric].title}: {e.reason}" for e in verdict.expectations if e.outcome != "pass")
    if row.role == "rival":
        return Cell(f"({text})", tone="quiet", note=note)
    return Cell(text, tone=TONES[verdict.outcome], note=note)


def legend(scores: Scores) -> list[str]:
    """Explain marks, columns and abbreviations of this scorecard; a line each."""
    marks = [f"{MARKS[kind]} {kind}" for kind in _roles(scores)]
    said = ["   ".join(marks) + f"   {MARKS['winner']} winner" * (scores.winner is not None)]
    said.append(f"Compared with {scores.reference} on the same inputs; ± is one standard error, paired over rows.")
    said.append("Speeds are medians; × is against the reference; spread is (highest - lowest) / median.")
    cells = [cell for line in lines(scores) for cell in line.cells.values()]
    if any(cell.text == NOT_MEASURED for cell in cells):
        said.append(f"{NOT_MEASURED}: not measured on this device, which is no verdict either way (inconclusive).")
    if any(row.role == "rival" for row in scores.rows):
        said.append("(…): verdict on an unquantized rival, shown to compare; only candidates are promoted.")
    return [*said, *_limits(scores), *_subsets(scores)]


def _limits(scores: Scores) -> list[str]:
    """The gates with their limits, as the verdicts name them."""
    bounds = next((verdict.expectations for verdict in scores.gates.verdicts), ())
    judged = [scores.known[e.metric] for e in bounds]
    said = [
        f"{spec.short} {'min' if e.minimum is not None else 'max'} {limit(spec, bound)}"
        for spec, e in zip(judged, bounds, strict=True)
        if (bound := bound_of(e)) is not None
    ]
    short = [f"{spec.short}: {spec.title}" for spec in judged if spec.short not in spec.title.split()]
    return [f"Gates: {', '.join(said)}" + (f" ({'; '.join(short)})." if short else ".")] if said else []


def _roles(scores: Scores) -> Sequence[str]:
    present = {row.role for row in scores.rows}
    return [role for role in ("reference", "rival", "candidate") if role in present]


def _subsets(scores: Scores) -> list[str]:
    """A line about variants that were scored on fewer rows than the rest."""
    partial = [e for e in scores.evaluations.values() if e.subset and e.status == "ok"]
    if not partial:
        return []
    rows = ", ".join(
        f"{e.variant} {e.counts.get('rows', 0)} rows ({e.counts.get('predictions', 0)} predictions)" for e in partial
    )
    return [f"Quality on a subset, compared with the reference on that subset: {rows}."]
