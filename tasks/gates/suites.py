"""The quality gates of params.yaml as a Great Expectations suite, and its answers as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config import Gate
from tasks.gates.context import batch_definition, documented, great_expectations
from tasks.records import ScoreRow

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
    """What the suite said of one gate on one variant: the expectations that failed, none when it passed."""

    gate: str
    failed: tuple[str, ...] = ()


def thresholds(gate: Gate) -> tuple[Threshold, ...]:
    """The gates that are switched on, in the order of params.yaml."""
    possible = (
        Threshold("min_retention", "retention", minimum=gate.min_retention, strict=True),
        Threshold("max_perplexity_ratio", "perplexity_ratio", maximum=gate.max_perplexity_ratio),
        Threshold("max_mean_kl", "mean_kl", maximum=gate.max_mean_kl),
        Threshold("min_task_retention", "task_retention", minimum=gate.min_task_retention),
        Threshold("min_decode_speedup", "decode_speedup", minimum=gate.min_decode_speedup),
        Threshold("min_prefill_speedup", "prefill_speedup", minimum=gate.min_prefill_speedup),
        Threshold("min_decode_long_speedup", "decode_long_speedup", minimum=gate.min_decode_long_speedup),
        Threshold("min_prefill_longest_speedup", "prefill_longest_speedup", minimum=gate.min_prefill_longest_speedup),
        Threshold("min_ttft_speedup", "ttft_speedup", minimum=gate.min_ttft_speedup),
        Threshold("min_batch_speedup", "batch_speedup", minimum=gate.min_batch_speedup),
        Threshold("max_tail_ratio", "tail_ratio", maximum=gate.max_tail_ratio),
        Threshold("max_inter_token_cv", "inter_token_cv", maximum=gate.max_inter_token_cv),
        Threshold("max_latency_drift", "latency_drift", maximum=gate.max_latency_drift),
        Threshold("max_memory_growth", "memory_growth", maximum=gate.max_memory_growth),
        Threshold("max_stress_failures", "stress_failures", maximum=gate.max_stress_failures),
        Threshold("max_security_findings", "security_findings", maximum=gate.max_security_findings),
        Threshold("max_energy_share", "energy_share", maximum=gate.max_energy_share),
        Threshold("max_artifact_share", "artifact_share", maximum=gate.max_artifact_share),
        Threshold("max_memory_share", "memory_share", maximum=gate.max_memory_share),
    )
    return tuple(t for t in possible if t.minimum is not None or t.maximum is not None)


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


def suite_json(gate: Gate) -> str:
    """The suite as Great Expectations writes it, keys sorted."""
    return json.dumps(suite(thresholds(gate)).to_json_dict(), indent=2, sort_keys=True) + "\n"


def validate(gate: Gate, rows: Sequence[ScoreRow], pages: Path | None = None) -> dict[str, dict[str, Answer]]:
    """Run the suite on each variant as a table of one row; variant -> gate -> answer.

    Only measured metrics become columns with a value, so a gap fails the suite; why there is a gap decides later
    (verdict.py) whether that is a failure or inconclusive. `pages` is an empty folder for Great Expectations' own view
    of the same validations; with no gate or no row it stays empty.
    """
    limits = thresholds(gate)
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
    """One variant as a table of one row: each metric and the two ends of its interval."""
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
