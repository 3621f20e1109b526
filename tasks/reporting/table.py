"""The scorecard as cells of text: the same rows for terminal, Markdown and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.records import Quantity, ScoreRow, Verdict
from tasks.reporting.figures import NOT_MEASURED, NOTHING, error, figure, gate_name, limit
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


COLUMNS: tuple[Column, ...] = (
    Column("artifact_mb", "size", "MB", (), "files as the runtime loads them, 10^6 bytes"),
    Column("perplexity_ratio", "ppl ratio", "", ("± se",), "perplexity / the reference's on the same rows"),
    Column("retention", "retention", "%", ("± se",), "next-token accuracy / the reference's on the same rows"),
    Column("top_agreement", "same top", "%", (), "predictions whose top token is the reference's"),
    Column("mean_kl", "KL", "nats", (), "mean KL divergence from the reference per prediction"),
    Column("task_retention", "choices", "%", (), "right answers chosen among four, as a share of the reference's"),
    Column("time_to_first_token_ms", "TTFT", "ms", (), "time to first token of a short prompt, median"),
    Column("prefill_tokens_per_s", "prefill", "tok/s", ("×",), "speed of reading a long prompt, median"),
    Column("decode_tokens_per_s", "decode", "tok/s", ("×", "spread"), "speed of writing, median"),
    Column("peak_rss_mb", "peak RSS", "MB", ("% ref",), "memory of the whole process at its highest"),
)


def lines(scores: Scores) -> list[Line]:
    """One line per variant, in the order of the plan."""
    return [_line(scores, row) for row in scores.rows]


def _line(scores: Scores, row: ScoreRow) -> Line:
    winner = row.variant == scores.gates.winner
    cells = {column.key: _cell(scores, row, column.key) for column in COLUMNS} if _has_figures(row) else {}
    return Line(
        variant=row.variant,
        mark=MARKS["winner" if winner else row.role],
        role="winner" if winner else row.role,
        cells=cells,
        verdict=_verdict(row, scores.verdict(row.variant)),
        reason="" if row.status == "ok" else row.reason,
    )


def _has_figures(row: ScoreRow) -> bool:
    """Whether anything beside the size was measured."""
    return any(value(row, column.key) is not None for column in COLUMNS if column.key != "artifact_mb")


def _cell(scores: Scores, row: ScoreRow, key: str) -> Cell:
    found = metric(row, key)
    if found.state == "not-measured":
        return Cell(NOT_MEASURED, tone="quiet", note=found.reason)
    if found.state == "missing" or found.value is None:
        return Cell("missing", tone="bad", note=found.reason)
    subset = f"n = {found.n}" if found.n else ""
    note = "; ".join(part for part in (found.reason, subset) if part)
    text = figure(key, found.value).removesuffix("%")  # the column's unit says it
    return Cell(text, _extras(scores, row, key, found.se), found.value, note=note)


def _extras(scores: Scores, row: ScoreRow, key: str, se: float | None) -> tuple[str, ...]:
    """The figures beside the value: its standard error, or how it compares with the reference."""
    if key in ("perplexity_ratio", "retention"):
        return (error(key, se),) if se is not None else ()
    names = {
        "prefill_tokens_per_s": "prefill_speedup",
        "decode_tokens_per_s": "decode_speedup",
        "peak_rss_mb": "memory_share",
    }
    name = names.get(key, "")
    ratio = value(row, name)
    parts = [figure(name, ratio)] if ratio is not None else [""] * (name != "")
    if key == "decode_tokens_per_s":
        quantity = decode(scores, row.variant)
        parts += [f"{quantity.spread:.0%}"] if quantity is not None else []
    return tuple(parts)


def decode(scores: Scores, variant: str) -> Quantity | None:
    """The decode timings of one variant, when there are any."""
    record = scores.benchmarks.get(variant)
    return record.decode_tokens_per_s if record is not None else None


def _verdict(row: ScoreRow, verdict: Verdict | None) -> Cell:
    """The verdict in a few words; a rival's stands in brackets, since it is never promoted."""
    if row.role == "reference" and row.status == "ok":
        return Cell("reference", tone="quiet", note="everything is compared with this row")
    if row.status != "ok":
        return Cell(row.status, tone="bad" if row.status == "failed" else "quiet", note=row.reason)
    if verdict is None:
        return Cell(NOTHING, tone="quiet", note="no verdict")
    lost = [gate_name(e.gate).short for e in verdict.expectations if e.outcome in ("fail", "unreachable")]
    text = f"{verdict.outcome}: {', '.join(lost)}" if lost else verdict.outcome
    note = "; ".join(f"{gate_name(e.gate).long}: {e.reason}" for e in verdict.expectations if e.outcome != "pass")
    if row.role == "rival":
        return Cell(f"({text})", tone="quiet", note=note)
    return Cell(text, tone=TONES[verdict.outcome], note=note)


def legend(scores: Scores) -> list[str]:
    """What marks, columns and abbreviations mean, for this scorecard; a line each."""
    marks = [f"{MARKS[kind]} {kind}" for kind in _roles(scores)]
    said = ["   ".join(marks) + f"   {MARKS['winner']} winner" * (scores.winner is not None)]
    said.append(f"Compared with {scores.reference} on the same token ids; ± is one standard error, paired over rows.")
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
    said = [
        f"{gate_name(e.gate).short} {'min' if e.minimum is not None else 'max'} {limit(e.metric, bound)}"
        for e in bounds
        if (bound := bound_of(e)) is not None
    ]
    names = [gate_name(e.gate) for e in bounds]
    short = [f"{name.short}: {name.long}" for name in names if name.short not in name.long.split()]
    return [f"Gates: {', '.join(said)}" + (f" ({'; '.join(short)})." if short else ".")] if said else []


def _roles(scores: Scores) -> Sequence[str]:
    present = {row.role for row in scores.rows}
    return [role for role in ("reference", "rival", "candidate") if role in present]


def _subsets(scores: Scores) -> list[str]:
    """A line about variants that were scored on fewer rows than the rest."""
    partial = [e for e in scores.evaluations.values() if e.subset and e.status == "ok"]
    if not partial:
        return []
    rows = ", ".join(f"{e.variant} {e.rows} rows ({e.predictions} predictions)" for e in partial)
    return [f"Quality on a subset, compared with the reference on that subset: {rows}."]
