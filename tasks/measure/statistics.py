"""Statistics behind a verdict: intervals, percentiles a sample can carry, and the sample that would decide.

Everything here is pure and knows nothing of models; samples come in, numbers with their uncertainty go out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 1000


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def from_standard_error(value: float, se: float, units: int, level: float = LEVEL) -> Interval:
    """Student's interval value +- t * se with units - 1 degrees of freedom; raises ValueError with one unit.

    >>> [round(x, 3) for x in from_standard_error(0.99, 0.005, 40)]
    [0.98, 1.0]
    """
    from scipy.stats import t

    if units < 2:
        raise ValueError("an interval needs at least two units")
    reach = float(t.ppf((1 + level) / 2, units - 1)) * se
    return Interval(value - reach, value + reach)


def clustered_median(
    clusters: Sequence[Sequence[float]] | Sequence[NDArray[np.float64]], seed: int = 0, level: float = LEVEL
) -> tuple[float, Interval]:
    """Median of all values, and a confidence interval for it over clusters; raises ValueError with fewer than two.

    Values of one cluster (the timings of one process) share its luck, so clusters are what is resampled: the
    percentile bootstrap (Efron and Tibshirani 1993, chapter 13). With a handful of clusters it is too narrow, as a
    resample never leaves their range; the interval returned is the wider of it and Student's over the clusters' means.
    """
    if len(clusters) < 2:
        raise ValueError("an interval over clusters needs at least two")
    values = [np.asarray(cluster, dtype=float) for cluster in clusters]
    middle = float(np.median(np.concatenate(values)))
    table = np.full((len(values), max(map(len, values))), np.nan)
    for row, cluster in zip(table, values, strict=True):
        row[: len(cluster)] = cluster
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(RESAMPLES, len(values)))
    medians = np.nanmedian(table[drawn].reshape(RESAMPLES, -1), axis=1)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    means = np.array([value.mean() for value in values])
    reach = from_standard_error(0.0, float(means.std(ddof=1)) / math.sqrt(len(means)), len(means), level).high
    return middle, Interval(min(float(low), middle - reach), max(float(high), middle + reach))


def smallest_sample(quantile: float, level: float = LEVEL) -> int:
    """Fewest observations of which the largest lies above the quantile with probability `level`.

    1 - quantile ** n >= level: the one-sided distribution-free bound of Wilks (1941). With fewer, a sample's own
    percentile may as well be its maximum, and says nothing of the tail.

    >>> [smallest_sample(q) for q in (0.5, 0.95, 0.99)]
    [5, 59, 299]
    """
    return math.ceil(math.log(1 - level) / math.log(quantile))


def percentile(samples: Sequence[float], quantile: float) -> float | None:
    """The sample's percentile, or None when it is too small to carry one (`smallest_sample`)."""
    if len(samples) < smallest_sample(quantile):
        return None
    return float(np.quantile(np.asarray(samples, dtype=float), quantile))


def units_that_would_decide(value: float, limit: float, interval: Interval, units: int) -> int | None:
    """About how many units it takes until the interval around `value` leaves the limit; None when it lies on it.

    The half-width shrinks with the square root of the number of units.

    >>> units_that_would_decide(0.96, 0.95, Interval(0.94, 0.98), 100)
    400
    """
    gap = abs(value - limit)
    reach = max(value - interval.low, interval.high - value)
    if gap == 0 or not math.isfinite(reach):
        return None
    return math.ceil(units * (reach / gap) ** 2 - 1e-9)
