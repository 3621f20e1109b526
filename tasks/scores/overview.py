"""The results in a few plain figures, for `dvc metrics` and `dvc plots`."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.records.scores import Recommendation, ScoreRow


def headline(known: Catalogue, found: Recommendation) -> dict[str, dict[str, float]]:
    """Per variant the figures that sum it up, those that were measured."""
    figures = {row.variant: _measured(row, known.having("headline")) for row in found.rows}
    return {variant: own for variant, own in figures.items() if own}


def planes(known: Catalogue, found: Recommendation) -> list[dict[str, str | float]]:
    """Per variant its place in the plots: the figure of quality, and those across it by their group (speed, memory).

    A variant whose quality was not measured has no place.
    """
    axes = known.having("plane")
    groups: dict[str, str] = {spec.name: spec.group for spec in axes}
    rows: list[dict[str, str | float]] = []
    for row in found.rows:
        place = {groups[name]: value for name, value in _measured(row, axes).items()}
        if "quality" in place and len(place) > 1:
            rows.append({"variant": row.variant, "role": row.role, **place})
    return rows


def _measured(row: ScoreRow, specs: Iterable[MetricSpec]) -> dict[str, float]:
    cells = {spec.name: row.metrics[spec.name] for spec in specs if spec.name in row.metrics}
    return {name: cell.value for name, cell in cells.items() if cell.state == "measured" and cell.value is not None}
