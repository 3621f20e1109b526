"""Whether prompts or answers have become others: Evidently compares a window with the reference, signal by signal.

A signal has drifted when its distribution has moved by more than the limit (Wasserstein's distance in standard
deviations of the reference, or Jensen and Shannon's for categories: effect sizes, which many rows do not make larger)
and when a test says that it moved at all (Kolmogorov and Smirnov's, or chi squared, which few rows do not pass by
chance), its level shared by all signals (Bonferroni). The one verdict over them is `verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.collect.rows import SKETCH
from monitoring.collect.signals import Family, Signal, Verdict
from tasks.params.watching import Drift

if TYPE_CHECKING:
    import pandas as pd

NUMERIC: dict[str, tuple[Family, str]] = {
    "prompt_tokens": ("input", "length of prompts"),
    "rarity": ("input", "vocabulary of prompts"),
    "new_tokens": ("prediction", "length of answers"),
    "confidence": ("prediction", "confidence"),
}
CATEGORIES: dict[str, tuple[Family, str]] = {
    "endpoint": ("input", "endpoint"),
    "finish": ("prediction", "how answers end"),
}
# A reference that hardly varies is no measure of distance: one token more than always would be any number of standard
# deviations. These are the least that a signal's standard deviation counts as, in its own unit.
LEAST_SPREAD = {"prompt_tokens": 5.0, "new_tokens": 5.0, "rarity": 0.1, "confidence": 0.02}
EVIDENTLYS = 0.001  # what Evidently takes for a smaller one
EMBEDDING = "content of prompts"
ACCURACY = "right answers"


def verdict(signals: Sequence[Signal], rows: int, min_requests: int) -> tuple[Verdict, str]:
    """One verdict over all signals, and why.

    Drift: right answers have become fewer, or two signals have moved, or confidence alone by twice its limit.
    Watch: one has moved. Nothing is said of fewer rows than `min_requests`.

    >>> one = Signal(name="confidence", family="prediction", effect=0.3, limit=0.25, p_value=0.0, drifted=True,
    ...              rows=500)
    >>> [verdict(signals, rows, 100)[0] for signals, rows in (([one], 500), ([one, one], 500), ([one], 50), ([], 500))]
    ['watch', 'drift', 'inconclusive', 'inconclusive']
    """
    if rows < min_requests:
        return "inconclusive", f"{rows} requests of {min_requests}"
    told = [signal for signal in signals if signal.effect is not None]
    if not told:
        return "inconclusive", "there is nothing to compare with"
    moved = [signal for signal in told if signal.drifted]
    said = "; ".join(f"{one.name} moved by {one.effect:.2f}, limit {one.limit:g}" for one in moved)
    far = any(one.name == "confidence" and one.effect is not None and one.effect >= 2 * one.limit for one in moved)
    if any(one.family == "performance" for one in moved) or len(moved) > 1 or far:
        return "drift", said
    return ("watch", said) if moved else ("none", f"{len(told)} signals within their limits")


def prepare() -> None:
    """Import Evidently, which takes seconds of a processor, before callers are served beside it."""
    from evidently.legacy.calculations import stattests  # noqa: F401 - for its time


def compare(reference: pd.DataFrame, current: pd.DataFrame, settings: Drift) -> tuple[Signal, ...]:
    """Every signal of `current` against `reference`, by Evidently's distances and tests; what one lacks is named.

    Its report draws each comparison, which takes far longer than comparing: see `drawn`.
    """
    columns, left_out = _usable(reference, current)
    if not columns:
        return tuple(left_out)
    import numpy as np
    from evidently.legacy.calculations import stattests
    from evidently.legacy.core import ColumnType

    before, now = (_plain(table, columns) for table in (reference, current))

    def measured(name: str) -> tuple[float, float]:
        if name in CATEGORIES:
            kind, asked = ColumnType.Categorical, (stattests.jensenshannon_stat_test, stattests.chi_stat_test)
        else:
            kind, asked = ColumnType.Numerical, (stattests.wasserstein_stat_test, stattests.ks_stat_test)
        sides = before[name].dropna(), now[name].dropna()
        with np.errstate(
            divide="ignore", invalid="ignore"
        ):  # a category that the reference lacks has an infinite distance
            distance, p_value = (float(one(*sides, kind, None).drift_score) for one in asked)
        if name in LEAST_SPREAD:
            spread = float(np.std(sides[0]))
            distance *= max(spread, EVIDENTLYS) / max(spread, LEAST_SPREAD[name])
        return distance, p_value

    return (*_signals({name: measured(name) for name in columns}, current, settings), *left_out)


def drawn(reference: pd.DataFrame, current: pd.DataFrame) -> Any:
    """Evidently's snapshot of the distances, drawn, for its workspace; None where nothing can be compared."""
    columns, _ = _usable(reference, current)
    if not columns:
        return None
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(
        numerical_columns=[name for name in columns if name not in CATEGORIES],
        categorical_columns=[name for name in columns if name in CATEGORIES],
    )
    asked = [
        ValueDrift(column=name, method="jensenshannon" if name in CATEGORIES else "wasserstein") for name in columns
    ]
    sides = (_plain(table, columns) for table in (current, reference))
    return Report(asked).run(*(Dataset.from_pandas(side, data_definition=definition) for side in sides))


def _usable(reference: pd.DataFrame, current: pd.DataFrame) -> tuple[list[str], list[Signal]]:
    columns, left_out = [], []
    for name in (*NUMERIC, *CATEGORIES, *SKETCH):
        lacking = [
            side
            for side, table in (("the reference", reference), ("the window", current))
            if name not in table or table[name].notna().sum() < 2
        ]
        if not lacking:
            columns.append(name)
        elif name not in SKETCH[1:]:
            family, title = (NUMERIC | CATEGORIES).get(name, ("input", EMBEDDING))
            note = f"{' and '.join(lacking)} has no such values"
            left_out.append(
                Signal(name=title, family=family, effect=None, limit=0, p_value=None, drifted=False, rows=0, note=note)
            )
    return columns, left_out


def _plain(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Doubles and words: what Evidently takes; infinities are not values."""
    import numpy as np

    made = table[list(columns)].copy()
    for name in columns:
        made[name] = made[name].astype(str) if name in CATEGORIES else made[name].astype(float)
    return made.replace([np.inf, -np.inf], np.nan)


def _signals(found: dict[str, tuple[float, float]], current: pd.DataFrame, settings: Drift) -> list[Signal]:
    sketch = [found[name] for name in SKETCH if name in found]
    count = sum(name not in SKETCH for name in found) + bool(sketch)
    level = (1 - settings.confidence) / count

    def signal(name: str, family: Family, effect: float, limit: float, p_value: float, rows: int) -> Signal:
        told = math.isfinite(effect)
        p_value = p_value if math.isfinite(p_value) else 1.0  # one value everywhere: no test is made of it
        return Signal(
            name=name, family=family, effect=round(effect, 4) if told else None, limit=limit,
            p_value=p_value if told else None, drifted=told and effect >= limit and p_value < level, rows=rows,
        )  # fmt: skip

    made = []
    for name, (effect, p_value) in found.items():
        if name in SKETCH:
            continue
        family, title = (NUMERIC | CATEGORIES)[name]
        limit = settings.min_category_distance if name in CATEGORIES else settings.min_distance
        made.append(signal(title, family, effect, limit, p_value, int(current[name].notna().sum())))
    if sketch:
        # The content has moved when the bucket that moved most has; its p-value is corrected for all buckets.
        effect = max(effect for effect, _ in sketch)
        p_value = min(1.0, min(p_value for _, p_value in sketch) * len(sketch))
        made.append(
            signal(EMBEDDING, "input", effect, settings.min_distance, p_value, int(current[SKETCH[0]].notna().sum()))
        )
    return made


def accuracy(reference: tuple[int, int], current: tuple[int, int], settings: Drift) -> Signal:
    """Right answers (right, judged) against the reference's, by the score test of two shares.

    >>> accuracy((900, 1000), (60, 100), Drift()).drifted, accuracy((900, 1000), (88, 100), Drift()).drifted
    (True, False)
    """
    from scipy.stats import norm

    (right0, all0), (right1, all1) = reference, current
    if not all0 or not all1:
        return Signal(
            name=ACCURACY, family="performance", effect=None, limit=settings.max_accuracy_drop, p_value=None,
            drifted=False, rows=all1, note="no answers were judged by callers",
        )  # fmt: skip
    pooled = (right0 + right1) / (all0 + all1)
    spread = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / all0 + 1 / all1))
    fewer = right0 / all0 - right1 / all1
    p_value = float(norm.sf(fewer / spread))
    drifted = fewer >= settings.max_accuracy_drop and p_value < 1 - settings.confidence
    return Signal(
        name=ACCURACY, family="performance", effect=round(fewer, 4), limit=settings.max_accuracy_drop, p_value=p_value,
        drifted=drifted, rows=all1,
    )  # fmt: skip


class Workspace:
    """Evidently's workspace: every comparison, to be looked at with `make ui`."""

    def __init__(self, folder: Path, project: str) -> None:
        """Make it, or go on with what is there."""
        from evidently.ui.workspace import Workspace as Theirs

        folder.mkdir(parents=True, exist_ok=True)
        self._theirs = Theirs.create(str(folder))
        found = [one for one in self._theirs.list_projects() if one.name == project]
        self._project = found[0] if found else self._theirs.create_project(project)

    def add(self, snapshot: Any) -> str:
        """Keep a snapshot; returns its id."""
        return str(self._theirs.add_run(self._project.id, snapshot).id)
