"""The quality gates of params.yaml as a Great Expectations suite, and its answers as plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.config import Gate
from tasks.records import ScoreRow

SUITE = "edgewright-gates"
EXISTS, NOT_NULL = "expect_column_to_exist", "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"


@dataclass(frozen=True)
class Threshold:
    """One switched-on gate: a metric and the limit it must keep. `strict`: the limit itself is not enough."""

    gate: str
    metric: str
    minimum: float | None = None
    maximum: float | None = None
    strict: bool = False

    @property
    def allowed(self) -> str:
        """The limit in words."""
        if self.minimum is not None:
            return f"{'above' if self.strict else 'at least'} {self.minimum:g}"
        return f"{'below' if self.strict else 'at most'} {self.maximum:g}"


@dataclass(frozen=True)
class Answer:
    """What the suite said of one gate on one variant: the kinds of expectation that failed, none when it passed."""

    gate: str
    failed: tuple[str, ...] = ()


def thresholds(gate: Gate) -> tuple[Threshold, ...]:
    """The gates that are switched on, in the order of params.yaml."""
    possible = (
        Threshold("min_retention", "retention", minimum=gate.min_retention, strict=True),
        Threshold("max_perplexity_ratio", "perplexity_ratio", maximum=gate.max_perplexity_ratio),
        Threshold("min_decode_speedup", "decode_speedup", minimum=gate.min_decode_speedup),
        Threshold("min_prefill_speedup", "prefill_speedup", minimum=gate.min_prefill_speedup),
        Threshold("max_memory_share", "memory_share", maximum=gate.max_memory_share),
    )
    return tuple(t for t in possible if t.minimum is not None or t.maximum is not None)


def switched_off(gate: Gate) -> tuple[str, ...]:
    """The gates that params.yaml sets to null."""
    return tuple(name for name in Gate.model_fields if getattr(gate, name) is None)


def suite(limits: Sequence[Threshold]) -> Any:
    """The ExpectationSuite: for each gate the column exists, is not null and keeps the limit."""
    gx = great_expectations()
    return gx.ExpectationSuite(name=SUITE, expectations=[e for t in limits for e in _expectations(gx.expectations, t)])


def _expectations(expect: Any, t: Threshold) -> tuple[Any, Any, Any]:
    meta = {"gate": t.gate}
    return (
        expect.ExpectColumnToExist(column=t.metric, meta=meta),
        expect.ExpectColumnValuesToNotBeNull(column=t.metric, meta=meta),
        expect.ExpectColumnValuesToBeBetween(
            column=t.metric,
            min_value=t.minimum,
            max_value=t.maximum,
            strict_min=t.strict and t.minimum is not None,
            strict_max=t.strict and t.maximum is not None,
            meta=meta,
        ),
    )


def suite_json(gate: Gate) -> str:
    """The suite as Great Expectations writes it, keys sorted."""
    return json.dumps(suite(thresholds(gate)).to_json_dict(), indent=2, sort_keys=True) + "\n"


def validate(gate: Gate, rows: Sequence[ScoreRow]) -> dict[str, dict[str, Answer]]:
    """Run the suite on each variant as a table of one row; variant -> gate -> answer.

    Only measured metrics become columns with a value, so a gap fails the suite; why there is a gap decides later
    (verdict.py) whether that is a failure or inconclusive.
    """
    import pandas as pd

    limits = thresholds(gate)
    if not limits or not rows:
        return {row.variant: {} for row in rows}
    expected, batches = suite(limits), batch_definition(SUITE)
    answers = {}
    for row in rows:
        frame = pd.DataFrame([_measured(row, limits)], columns=_columns(row, limits), dtype="float64")
        result = batches.get_batch(batch_parameters={"dataframe": frame}).validate(expected)
        answers[row.variant] = _checks(limits, result.results)
    return answers


def _columns(row: ScoreRow, limits: Sequence[Threshold]) -> list[str]:
    """Metrics the row knows of; one it does not know stays no column at all."""
    return [t.metric for t in limits if t.metric in row.metrics]


def _measured(row: ScoreRow, limits: Sequence[Threshold]) -> Mapping[str, float | None]:
    cells = {name: row.metrics[name] for name in _columns(row, limits)}
    return {name: cell.value if cell.state == "measured" else None for name, cell in cells.items()}


def _checks(limits: Sequence[Threshold], results: Sequence[Any]) -> dict[str, Answer]:
    """Answers per gate; results come in no order, and a gate without all three of its answers has failed."""
    passed = {(r.expectation_config.meta["gate"], r.expectation_config.type) for r in results if r.success}
    return {
        t.gate: Answer(t.gate, tuple(kind for kind in (EXISTS, NOT_NULL, BETWEEN) if (t.gate, kind) not in passed))
        for t in limits
    }


def great_expectations() -> Any:
    """The library, imported late (it takes seconds) and without reports to its makers."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import great_expectations.expectations

    return gx


def batch_definition(name: str) -> Any:
    """A whole-table batch of data frames in a context that leaves nothing on disk; reuse it for many frames."""
    gx = great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas(name)
    return source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
