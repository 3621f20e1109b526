"""Runs with rows replaced or without figures, and the scorecard as it is printed."""

from __future__ import annotations

import dataclasses
import io

from tasks.records.scores import ScoreRow
from tasks.reporting.findings import Scores
from tasks.reporting.terminal import print_scorecard

WINNER = "openvino-int8"


def printed(scores: Scores, width: int) -> str:
    out = io.StringIO()
    print_scorecard(scores, width, out)
    return out.getvalue()


def with_rows(scores: Scores, **changed: ScoreRow) -> Scores:
    """The same run with some rows replaced; '_' in a keyword stands for '-'."""
    named = {name.replace("_", "-"): row for name, row in changed.items()}
    rows = tuple(named.get(row.variant, row) for row in scores.rows)
    return dataclasses.replace(scores, recommendation=scores.recommendation.model_copy(update={"rows": rows}))


def bare(scores: Scores) -> Scores:
    """The same run with no metric at all and no record behind it."""
    rows = tuple(row.model_copy(update={"metrics": {}}) for row in scores.rows)
    recommendation = scores.recommendation.model_copy(update={"rows": rows})
    return dataclasses.replace(scores, recommendation=recommendation, artifacts={}, evaluations={}, benchmarks={})
