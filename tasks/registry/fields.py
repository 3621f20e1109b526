"""What MLflow is told, as it takes it: numbers under names, words under names, none too long."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from tasks.records.scores import Recommendation, ScoreRow
from tasks.records.terms import Outcome
from tasks.registry.results import Results

LONGEST = 5000  # characters of a tag or parameter; MLflow's own limit is near


def figures(results: Results) -> dict[str, float]:
    """Numbers of a whole run: variants by verdict, each framework's steps, the winner's metrics."""
    judged = list(results.outcomes.values())
    found = {f"variants/{outcome}": float(judged.count(outcome)) for outcome in get_args(Outcome)}
    winner = metrics(results.winner) if results.winner else {}
    return found | strides(results.recommendation) | {f"winner/{name}": value for name, value in winner.items()}


def metrics(row: ScoreRow) -> dict[str, float]:
    """Measured figures of a row, with standard error (`_se`) and count (`_n`) where there are any."""
    found: dict[str, float] = {}
    for name, metric in row.metrics.items():
        if metric.state != "measured" or metric.value is None or not math.isfinite(metric.value):
            continue
        found[name] = metric.value
        found |= {f"{name}_{end}": float(v) for end, v in (("se", metric.se), ("n", metric.n)) if v is not None}
    return found


def strides(recommendation: Recommendation) -> dict[str, float]:
    """List each framework's figures after each step (S7): `progress/BACKEND/STEP/METRIC`, steps in order."""
    return {
        f"progress/{one.backend}/{number}-{stride.step}/{name}": value
        for one in recommendation.progress
        for number, stride in enumerate(one.strides)
        for name, value in stride.figures.items()
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names, as text.

    >>> flat({"gate": {"retention": {"min": 0.95}}, "profile": "full"})
    {'gate.retention.min': '0.95', 'profile': 'full'}
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def cut(values: Mapping[str, str]) -> dict[str, str]:
    """Shorten values that are longer than MLflow takes."""
    return {name: value if len(value) <= LONGEST else value[: LONGEST - 3] + "..." for name, value in values.items()}


def reproduction(commit: str) -> str:
    """Say how to get these results again, in words and commands."""
    steps: Sequence[str] = (f"git checkout {commit}",) if commit else ()
    commands = "\n".join((*steps, "make repro"))
    return f"""# Reproduce

`params.yaml` and `dvc.lock` of this run lie beside this file; put them in place, then:

```sh
{commands}
```
"""
