"""The scorecard as GitHub-flavoured Markdown, for a job summary or a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.records.terms import Outcome
from tasks.reporting import targets
from tasks.reporting.conclusion import against_bf16, nearest, sentence, title
from tasks.reporting.findings import Scores
from tasks.reporting.table import Cell, Column, Line, columns, legend, lines

SIGNS: dict[Outcome, str] = {"pass": "✅", "fail": "❌", "unreachable": "⛔", "inconclusive": "⚠️"}


def markdown(scores: Scores) -> str:
    """Outcome, table, nearest candidates, failures and legend."""
    said = f"{sentence(scores)} {against_bf16(scores)}".strip()
    outcome = f"## {SIGNS[scores.gates.outcome]} {escape(title(scores))}\n\n{escape(said)}"
    missed = [f"- **{escape(name)}**: {escape('; '.join(said))}" for name, said in nearest(scores)]
    near = ["Nearest candidates:\n\n" + "\n".join(missed)] if missed else []
    failures = [f"- **{f.variant}** ({f.stage}): {escape(f.reason)}<br>`{f.command}`" for f in scores.failures()]
    failed = ["Failed, with the command that repeats each:\n\n" + "\n".join(failures)] if failures else []
    notes = "<sub>" + "<br>".join(escape(line) for line in legend(scores)) + "</sub>"
    digest = f"<sub>Results digest `{scores.gates.results_digest[:16]}`</sub>"
    parts = [outcome, *of_targets(scores), table(scores), *near, *failed, notes, digest]
    return "\n\n".join(parts) + "\n"


def of_targets(scores: Scores) -> list[str]:
    """A table with a line per target, where there are several."""
    found = targets.lines(scores)
    rows = [targets.HEADS, ["---"] * len(targets.HEADS), *([escape(cell) for cell in line] for line in found)]
    return ["\n".join(f"| {' | '.join(row)} |" for row in rows)] if found else []


def table(scores: Scores) -> str:
    """The table alone."""
    shown = columns(scores.known)
    heads = [
        "",
        "variant",
        *(f"{c.head} {c.unit}".strip() + (f"<br>{', '.join(c.extras)}" if c.extras else "") for c in shown),
    ]
    ruler = ["---", "---", *("---:" for _ in shown), "---"]
    rows = [_row(line, shown) for line in lines(scores)]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*heads, "verdict"], ruler, *rows))


def _row(line: Line, shown: Sequence[Column]) -> list[str]:
    name = f"**{escape(line.variant)}**" if line.role == "winner" else escape(line.variant)
    cells = [_cell(line.cells[c.key]) if line.cells else "–" for c in shown]
    verdict = escape(line.verdict.text) + (f": {escape(line.reason)}" if line.reason else "")
    return [line.mark, name, *cells, f"**{verdict}**" if line.verdict.tone == "good" else verdict]


def _cell(cell: Cell) -> str:
    beside = " ".join(extra for extra in cell.extras if extra)
    return escape(cell.text) + (f" <sub>{escape(beside)}</sub>" if beside else "")


def escape(text: str) -> str:
    r"""Text that stays itself inside a Markdown table.

    >>> escape("a | b <c>\nd_e"), escape("a*b `c`")
    ('a \\| b &lt;c&gt; d\\_e', 'a\\*b \\`c\\`')
    """
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in ("\\", "|", "*", "_", "`", "[", "]"):
        flat = flat.replace(sign, f"\\{sign}")
    return flat
