"""The quality gates of params.yaml as a Great Expectations suite, and its answers as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.gates.context import batch_definition, documented, great_expectations
from tasks.kinds import demands
from tasks.kinds.catalogue import Catalogue
from tasks.params.pipeline import Gates
from tasks.records.scores import ScoreRow

if TYPE_CHECKING:
    import pandas as pd

SUITE = "edgewright-gates"
EXISTS, NOT_NULL = "expect_column_to_exist", "expect_column_values_to_not_be_null"
KEPT, POSSIBLE = "kept", "possible"  # the whole interval keeps the limit; some of it does
CHECKS = (EXISTS, NOT_NULL, POSSIBLE, KEPT)


@dataclass(frozen=True)
class Threshold:
    """One switched-on gate: a metric and the limit it must keep. `strict`: the limit itself is not enough."""

    gate: str
    metric: str
    minimum: float | None = None
    maximum: float | None = None
    strict: bool = False

    @property
    def worst(self) -> str:
        """Column of the end of the interval that keeps the limit only if the whole interval does."""
        return f"{self.metric}.{'low' if self.minimum is not None else 'high'}"

    @property
    def best(self) -> str:
        """Column of the other end: if that does not keep the limit, nothing of the interval does."""
        return f"{self.metric}.{'high' if self.minimum is not None else 'low'}"

    @property
    def allowed(self) -> str:
        """The limit in words."""
        if self.minimum is not None:
            return f"{'above' if self.strict else 'at least'} {self.minimum:g}"
        return f"{'below' if self.strict else 'at most'} {self.maximum:g}"


@dataclass(frozen=True)
class Answer:
    """The suite's answer to one gate on one variant: the expectations that failed, none when it passed."""

    gate: str
    failed: tuple[str, ...] = ()


def thresholds(gate: Gates, known: Catalogue) -> tuple[Threshold, ...]:
    """The gates that are switched on, in the order of the catalogue."""
    return tuple(
        Threshold(
            limit.spec.gate_name,
            limit.spec.name,
            limit.minimum,
            limit.maximum,
            strict=limit.spec.gate is not None and limit.spec.gate.strict,
        )
        for limit in demands.limits(known, gate)
    )


def suite(limits: Sequence[Threshold]) -> Any:
    """The ExpectationSuite: for each gate the metric exists, is not null, and its interval can and does keep the limit.

    An interval that keeps the limit with both ends passes, one that keeps it with neither fails, and one that holds the
    limit is inconclusive; the last two expectations tell these apart. A metric without an interval is a point.
    """
    gx = great_expectations()
    return gx.ExpectationSuite(name=SUITE, expectations=[e for t in limits for e in _expectations(gx.expectations, t)])


def _expectations(expect: Any, t: Threshold) -> tuple[Any, ...]:
    def meta(check: str) -> dict[str, str]:
        return {"gate": t.gate, "check": check}

    def between(column: str, check: str) -> Any:
        return expect.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=t.minimum,
            max_value=t.maximum,
            strict_min=t.strict and t.minimum is not None,
            strict_max=t.strict and t.maximum is not None,
            meta=meta(check),
        )

    return (
        expect.ExpectColumnToExist(column=t.metric, meta=meta(EXISTS)),
        expect.ExpectColumnValuesToNotBeNull(column=t.metric, meta=meta(NOT_NULL)),
        between(t.best, POSSIBLE),
        between(t.worst, KEPT),
    )


def suite_json(limits: Sequence[Threshold]) -> str:
    """The suite as Great Expectations writes it, keys sorted."""
    return json.dumps(suite(limits).to_json_dict(), indent=2, sort_keys=True) + "\n"


def validate(
    limits: Sequence[Threshold], rows: Sequence[ScoreRow], pages: Path | None = None
) -> dict[str, dict[str, Answer]]:
    """Run the suite on each variant as a table of one row; variant -> gate -> answer.

    Only measured metrics become columns with a value, so a gap fails the suite; why there is a gap decides later
    (verdict.py) whether that is a failure or inconclusive. `pages` is an empty folder for Great Expectations' own view
    of the same validations; with no gate or no row it stays empty.
    """
    if not limits or not rows:
        return {row.variant: {} for row in rows}
    gx = great_expectations()
    from great_expectations.core.run_identifier import RunIdentifier

    answers = {}
    with documented(pages) as context:
        made = gx.ValidationDefinition(
            name=SUITE, data=batch_definition(context, SUITE), suite=context.suites.add(suite(limits))
        )
        definition = context.validation_definitions.add(made)
        for row in rows:
            batch, run = {"dataframe": frame(row, limits)}, RunIdentifier(run_name=row.variant)
            answers[row.variant] = _checks(limits, definition.run(batch_parameters=batch, run_id=run).results)
    return answers


def frame(row: ScoreRow, limits: Sequence[Threshold]) -> pd.DataFrame:
    """Put one variant into a table of one row: each metric and the two ends of its interval."""
    import pandas as pd

    return pd.DataFrame([_measured(row, limits)], columns=_columns(row, limits), dtype="float64")


def _columns(row: ScoreRow, limits: Sequence[Threshold]) -> list[str]:
    """Metrics the row knows of, each with its interval; one it does not know stays no column at all."""
    return [
        name for t in limits if t.metric in row.metrics for name in (t.metric, f"{t.metric}.low", f"{t.metric}.high")
    ]


def _measured(row: ScoreRow, limits: Sequence[Threshold]) -> Mapping[str, float | None]:
    found: dict[str, float | None] = {}
    for name in (t.metric for t in limits if t.metric in row.metrics):
        cell = row.metrics[name]
        value = cell.value if cell.state == "measured" else None
        given = value is not None and cell.low is not None and cell.high is not None
        found |= {
            name: value,
            f"{name}.low": cell.low if given else value,
            f"{name}.high": cell.high if given else value,
        }
    return found


def _checks(limits: Sequence[Threshold], results: Sequence[Any]) -> dict[str, Answer]:
    """Answers per gate; results come in no order, and a gate without all of its answers has failed."""
    metas = (r.expectation_config.meta for r in results if r.success)
    passed = {(meta["gate"], meta["check"]) for meta in metas}
    return {t.gate: Answer(t.gate, tuple(check for check in CHECKS if (t.gate, check) not in passed)) for t in limits}
