"""The scorecard for a terminal: all columns from 150 characters on, fewer where there is less room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tasks.kinds.catalogue import NEVER, Catalogue
from tasks.reporting import targets
from tasks.reporting.conclusion import against_bf16, nearest, sentence, title
from tasks.reporting.findings import Scores
from tasks.reporting.table import Cell, Column, Line, columns, legend, lines

STYLES = {"plain": "", "quiet": "dim", "good": "green", "bad": "red", "open": "yellow"}
GAP = 2
VERDICT_WIDTH = 24  # a longer one takes the room that is left, or wraps below

Part = Text | Padding


def print_scorecard(scores: Scores, width: int | None = None, file: IO[str] | None = None) -> None:
    """Print table, legend, outcome and failures to the terminal or `file`, in `width` columns."""
    console = Console(width=width, file=file, highlight=False)
    for text in render(scores, console.width):
        console.print(text)


def print_table(scores: Scores, width: int | None = None, file: IO[str] | None = None) -> None:
    """Print the table and its legend, without an outcome."""
    console = Console(width=width, file=file, highlight=False)
    for text in _table(scores, console.width):
        console.print(text)


def render(scores: Scores, width: int) -> list[Part]:
    """Everything that is printed, in order."""
    return [*_table(scores, width), Text(), *_outcome(scores), *_targets(scores, width), *_failures(scores)]


def _table(scores: Scores, width: int) -> list[Part]:
    rows = lines(scores)
    layout = Layout(scores.known, rows, width)
    table = [*layout.head(), *(part for line in rows for part in layout.line(line))]
    notes = [Text(line, style="dim") for line in legend(scores)]
    return [Text(), *table, Text(), *notes]


def drops(known: Catalogue) -> list[tuple[str, bool]]:
    """List what goes first where there is no room: a column's small figures (True), or the whole of it (False)."""
    shown = [(spec.name, spec.column) for spec in known.having("column") if spec.column is not None]
    found = [(column.drop, name, False) for name, column in shown if column.drop < NEVER]
    found += [(column.drop_extras, name, True) for name, column in shown if column.extras]
    return [(name, only_extras) for _, name, only_extras in sorted(found)]


class Layout:
    """The columns that fit in `width`: a value to the right, its small figures beside it."""

    def __init__(self, known: Catalogue, rows: Sequence[Line], width: int) -> None:
        """Measure the cells, then drop columns until the verdict fits too."""
        self._all, self._drops = columns(known), drops(known)
        self._width = width
        self._name = max(cell_len(name) for name in ("variant", *(line.variant for line in rows))) + 2
        self._widths: dict[str, list[int]] = {}  # value, then each small figure
        for column in self._all:
            cells = [line.cells[column.key] for line in rows if line.cells]
            extras = [max((_extra_len(cell, n) for cell in cells), default=0) for n in range(len(column.extras))]
            self._widths[column.key] = [max((cell_len(cell.text) for cell in cells), default=0), *extras]
        verdict = max((cell_len(line.verdict.text) for line in rows), default=0)
        self._fit(width - min(verdict, VERDICT_WIDTH))

    @property
    def columns(self) -> list[Column]:
        """The columns that are shown."""
        return [column for column in self._all if column.key in self._widths]

    def _fit(self, room: int) -> None:
        for key, only_extras in self._drops:
            if self.used <= room:
                return
            if only_extras:
                self._widths[key] = self._widths[key][:1]
            else:
                del self._widths[key]

    @property
    def used(self) -> int:
        """Characters before the verdict."""
        return self._name + sum(GAP + self._column(column) for column in self.columns) + GAP

    def _column(self, column: Column) -> int:
        return max(self._content(column.key), *(cell_len(text) for text in self._heads(column)))

    def _content(self, key: str) -> int:
        return sum(self._widths[key]) + sum(1 for width in self._widths[key][1:] if width)

    def _heads(self, column: Column) -> tuple[str, str]:
        return column.head, " ".join(filter(None, [column.unit, *column.extras[: len(self._widths[column.key]) - 1]]))

    def head(self) -> list[Text]:
        """Names, then units."""
        first, second = Text("  variant".ljust(self._name), style="bold"), Text(" " * self._name, style="dim")
        for column in self.columns:
            for text, words in zip((first, second), self._heads(column), strict=True):
                text.append(" " * GAP + words.rjust(self._column(column)))
        first.append(" " * GAP + "verdict")
        return [first, second, Text("─" * min(self._width, self.used + VERDICT_WIDTH), style="dim")]

    def line(self, line: Line) -> list[Part]:
        """Lay out one variant; where it has no figures, the reason stands in their place."""
        text = Text(f"{line.mark} {line.variant}".ljust(self._name), style="bold" if line.role == "winner" else "")
        verdict = Text(line.verdict.text, style=STYLES[line.verdict.tone])
        if not line.cells:
            return [_beside(text, verdict + Text(f": {line.reason}", style="dim"), self._name, self._width)]
        for column in self.columns:
            self._append(text, column, line.cells[column.key])
        why = Padding(Text(line.reason, style="red"), (0, 0, 0, self._name + GAP), expand=False)
        return [_beside(text, verdict, self.used - GAP, self._width), *([why] if line.reason else [])]

    def _append(self, text: Text, column: Column, cell: Cell) -> None:
        value, *extras = self._widths[column.key]
        text.append(" " * (GAP + self._column(column) - self._content(column.key)))
        text.append(cell.text.rjust(value), style=STYLES[cell.tone])
        for n, width in enumerate(extras):
            if width:
                text.append(" " + (cell.extras[n] if n < len(cell.extras) else "").rjust(width), style="dim")


def _extra_len(cell: Cell, n: int) -> int:
    return cell_len(cell.extras[n]) if n < len(cell.extras) else 0


def _beside(start: Text, words: Text, indent: int, width: int) -> Text:
    """Words to the right of a line's start, broken below themselves where they are too long."""
    room = max(12, width - indent - GAP)
    parts = words.wrap(Console(width=room), room)
    joined = start
    for number, part in enumerate(parts):
        part.rstrip()
        joined = joined + Text(" " * GAP if not number else "\n" + " " * (indent + GAP)) + part
    return joined


def _outcome(scores: Scores) -> list[Part]:
    passed = scores.winner is not None
    style = "bold green" if passed else "bold yellow" if scores.gates.outcome == "inconclusive" else "bold red"
    out: list[Part] = [Text(f"{'★ ' if passed else ''}{title(scores)}.", style=style) + Text(f" {sentence(scores)}")]
    out += [Text(text) for text in filter(None, [against_bf16(scores)])]
    misses = [f"nearest  {name}: {'; '.join(said)}" for name, said in nearest(scores)]
    return out + [_indented(text) for text in misses]


def _targets(scores: Scores, width: int) -> list[Part]:
    """A line per target, where there are several."""
    found = targets.lines(scores)
    if not found:
        return []
    rows = [targets.HEADS, *found]
    widths = [max(cell_len(row[n]) for row in rows) for n in range(len(targets.HEADS) - 1)]
    styles = ["dim", *(STYLES[line.tone] for line in found)]
    out: list[Part] = [Text()]
    for row, style in zip(rows, styles, strict=True):
        start = Text("  " + (" " * GAP).join(row[n].ljust(size) for n, size in enumerate(widths)), style=style)
        out.append(_beside(start, Text(row[-1], style="dim"), cell_len(start.plain), width))
    return out


def _failures(scores: Scores) -> list[Part]:
    found = [_indented(f"{f.variant} ({f.stage}): {f.command}") for f in scores.failures()]
    return [Text(), Text("Failed; to repeat one alone:"), *found] if found else []


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2), expand=False)
