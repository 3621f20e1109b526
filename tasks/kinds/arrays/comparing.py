"""Figures of outputs beside the reference's, row by row, as estimates with their standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.kinds.arrays.rows import Named
from tasks.measure.statistics import mcnemar_mid_p, paired_retention
from tasks.records.base import Estimate

BESIDE = "beside:"  # how arrays are named that lie beside the outputs: labels


def mean(rows: NDArray[Any]) -> Estimate:
    """Mean over rows, with its standard error; 0 of error in a sample says that it is below about 3 in its size."""
    count = len(rows)
    spread = float(rows.astype(np.float64).std(ddof=1)) if count > 1 else 0.0
    return Estimate(value=float(rows.mean()), se=max(spread, 1 / count if _whole(rows) else 0.0) / np.sqrt(count))


def _whole(rows: NDArray[Any]) -> bool:
    return bool(np.isin(rows, (0, 1)).all())


def retention(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], level: float) -> Estimate:
    """Right answers as a share of the reference's, with its paired bootstrap interval."""
    if not theirs.any():
        return Estimate(reason="the reference answers nothing right")
    interval = paired_retention(ours, theirs, level)
    ends = {} if interval is None else {"low": interval.low, "high": interval.high}
    return Estimate(value=float(ours.sum() / theirs.sum()), **ends)


def flips(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[dict[str, int], Estimate]:
    """Answers that became wrong and that became right, and McNemar's mid-p value of so one-sided a split."""
    lost, gained = int((~ours & theirs).sum()), int((ours & ~theirs).sum())
    return {"flips_lost": lost, "flips_gained": gained}, Estimate(value=mcnemar_mid_p(lost, gained))


def outputs(found: Named) -> Named:
    """What the model gave."""
    return {name: value for name, value in found.items() if not name.startswith(BESIDE)}


def beside(found: Named, name: str) -> NDArray[Any] | None:
    """What lies beside the outputs under a name."""
    return found.get(BESIDE + name)


def cosine(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine of each row with the reference's, (rows,); 1 where both are zero."""
    a, b = (one.reshape(len(one), -1).astype(np.float64) for one in (ours, theirs))
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(1)
    found: NDArray[np.float64] = np.where(sizes > 0, (a * b).sum(1) / np.where(sizes > 0, sizes, 1), same)
    return found


def relative_error(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square of each row's difference, over the spread of the reference's output as a whole, (rows,)."""
    a, b = (one.reshape(len(one), -1).astype(np.float64) for one in (ours, theirs))
    found: NDArray[np.float64] = np.sqrt(((a - b) ** 2).mean(1)) / (float(b.std()) or 1.0)
    return found
