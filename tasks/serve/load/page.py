"""The load test as a page: curves over the rate, the highest rate that keeps the objectives, every step."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from tasks.records.load import LoadStep as Step
from tasks.reporting import plots

STYLE = Path(plots.__file__).with_name("style.css")


def page(title: str, sentence: str, steps: Sequence[Step], first_ms: float, between_ms: float) -> str:
    """A self-contained HTML page; the objectives are drawn as limits."""
    drawings = [
        _curves(steps, "Time to first token", "first", first_ms),
        _curves(steps, "Time between pieces of an answer", "between", between_ms),
        _throughput(steps),
    ]
    head = f"<title>{escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style>"
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    meta = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    meta += '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
    body = f'<header><h1>{escape(title)}</h1><p class="verdict">{escape(sentence)}</p></header>'
    body += "".join(f"<section><h2>{escape(name)}</h2>{drawing}</section>" for name, drawing in drawings if drawing)
    body += f"<section><h2>Steps</h2>{_table(steps)}</section>"
    return f'<!doctype html><html lang="en"><head>{meta}{head}</head><body><main>{body}</main></body></html>'


def _curves(steps: Sequence[Step], name: str, key: str, limit: float) -> tuple[str, str]:
    x = plots.Axis("requests per second", plots.log, plots.LOG_TICKS, lambda v: f"{v:g}", True)
    words = f"objective {limit:g} ms"
    y = plots.Axis("milliseconds", plots.log, plots.LOG_TICKS, lambda v: f"{v:g}", False, limit, words)
    lines = [
        plots.Curve(label, _points(steps, f"{key}_ms_{quantile}"), kind)
        for label, quantile, kind in (("p95", "p95", "second"), ("median", "p50", ""))
    ]
    return name, plots.curves(lines, x, y, f"{name} over the rate")


def _throughput(steps: Sequence[Step]) -> tuple[str, str]:
    x = plots.Axis("requests per second sent", plots.log, plots.LOG_TICKS, lambda v: f"{v:g}", True)
    y = plots.Axis("tokens per second", plots.log, plots.LOG_TICKS, lambda v: f"{v:g}", True)
    lines = [plots.Curve("tokens/s", _points(steps, "tokens_per_s"), "")]
    return "Throughput", plots.curves(lines, x, y, "Tokens per second over the rate")


def _points(steps: Sequence[Step], key: str) -> tuple[tuple[float, float], ...]:
    found = [(step.rate, getattr(step, key)) for step in sorted(steps, key=lambda step: step.rate)]
    return tuple((rate, value) for rate, value in found if value)


def _table(steps: Sequence[Step]) -> str:
    names = ("sent/s", "requests", "whole/s", "failed", "tokens/s", "first p50", "first p95", "between p50",
             "between p95", "whole p95")  # fmt: skip
    rows = []
    for step in steps:
        times = (step.first_ms_p50, step.first_ms_p95, step.between_ms_p50, step.between_ms_p95, step.whole_ms_p95)
        cells = [
                 f"{step.rate:.2f}", str(step.requests), f"{step.achieved:.2f}", f"{step.error_rate:.1%}",
                 f"{step.tokens_per_s:.0f}", *("n too small" if t is None else f"{t:.0f} ms" for t in times),
        ]  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
