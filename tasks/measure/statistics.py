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
MOST_PAIRED = 1000  # values of a series that are all compared with each other: memory goes with the square
GRID_REACH, GRID_POINTS = 6.0, 1201  # of the path behind repeated looks, in standard deviations at its end


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


class Trend(NamedTuple):
    """A series' change from its first to its last value, as a share of its median."""

    value: float
    low: float
    high: float
    p: float  # that there is no trend


def wilson(some: float, whole: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share (1927).

    >>> [round(x, 3) for x in wilson(0, 100)]
    [0.0, 0.037]
    """
    from scipy.stats import norm

    z, share = float(norm.ppf((1 + level) / 2)), some / whole
    middle, reach = share + z * z / (2 * whole), z * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole**2))
    return Interval(max(0.0, (middle - reach) / (1 + z * z / whole)), min(1.0, (middle + reach) / (1 + z * z / whole)))


def _in_runs(values: Sequence[float]) -> NDArray[np.float64]:
    """At most MOST_PAIRED medians of runs of equal length, a last shorter run left out; a short series as it is."""
    length = -(-len(values) // MOST_PAIRED)
    runs = np.asarray(values[: len(values) // length * length], np.float64).reshape(-1, length)
    found: NDArray[np.float64] = np.median(runs, axis=1)
    return found


def trend(values: Sequence[float], level: float = LEVEL) -> Trend | None:
    """Change over a series by the median of pairwise slopes, with its interval; None with fewer than ten values.

    Theil-Sen's slope and Sen's interval (Sen 1968), and the p value of Mann and Kendall's test: neither is moved by a
    few outliers, as timings have them. A long series is taken in runs of equal length, each by its median: slopes are
    counted between all pairs.

    >>> found = trend([10, 10.1, 10, 9.9, 10, 10.1, 10, 9.9, 10, 10.1])
    >>> found.low <= 0 <= found.high
    True
    """
    if len(values) < 10:
        return None
    from scipy.stats import kendalltau, theilslopes

    series = _in_runs(values)
    middle = float(np.median(series))
    if np.ptp(series) == 0 or middle == 0:
        return Trend(0.0, 0.0, 0.0, 1.0)
    slope, _, low, high = theilslopes(series, np.arange(len(series)), alpha=level)
    p = float(kendalltau(np.arange(len(series)), series).pvalue)
    share = (len(series) - 1) / middle
    return Trend(float(slope) * share, float(low) * share, float(high) * share, p)


def mcnemar_mid_p(lost: int, gained: int) -> float:
    """Two-sided mid-p value of McNemar's test: how likely so one-sided a split of flips is if both ways are alike.

    The exact binomial test with half the probability of what was observed; it keeps its level where the exact one
    wastes it (Fagerland, Lydersen and Laake 2013).

    >>> [round(mcnemar_mid_p(*flips), 4) for flips in ((0, 0), (5, 5), (9, 1), (20, 4))]
    [1.0, 1.0, 0.0117, 0.0009]
    """
    from scipy.stats import binom

    flips, fewer = lost + gained, min(lost, gained)
    if lost == gained:
        return 1.0
    return float(2 * binom.cdf(fewer, flips, 0.5) - binom.pmf(fewer, flips, 0.5))


def paired_retention(
    variant: NDArray[np.bool_], reference: NDArray[np.bool_], level: float = LEVEL, seed: int = 0
) -> Interval | None:
    """Interval of sum(variant) / sum(reference) over items, resampled in pairs; None where it cannot be told.

    Items fall into four kinds, by who was right, so that resampling items is drawing counts of kinds: the percentile
    bootstrap (Efron and Tibshirani 1993, chapter 13). Where no item differs it has no width, although items not drawn
    might differ: both ends are then moved by the share of flips that a sample of this size may hide, 1 - (1 - level) **
    (1 / items) (the rule of three, exact).
    """
    items = len(variant)
    if items < 2 or not reference.any():
        return None
    both, lost = int((variant & reference).sum()), int((~variant & reference).sum())
    gained = int((variant & ~reference).sum())
    shares = np.array([both, lost, gained, items - both - lost - gained]) / items
    drawn = np.random.default_rng(seed).multinomial(items, shares, size=10 * RESAMPLES)
    right = np.maximum(drawn[:, 0] + drawn[:, 1], 1)
    ratios = (drawn[:, 0] + drawn[:, 2]) / right
    low, high = (float(x) for x in np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2]))
    hidden = 1 - (1 - level) ** (1 / items)
    return Interval(low - hidden if not lost else low, high + hidden if not gained else high)


def levels_of_looks(shares: Sequence[float], level: float = LEVEL) -> list[float]:
    """Confidence level at each look at growing data, so that all looks together err with at most 1 - level.

    `shares` are the shares of the largest sample that each look has, rising to 1. The error is spent by the function of
    Lan and DeMets (1983) of Pocock's kind, alpha * ln(1 + (e - 1) * share). What each look may use is found by carrying
    the density of the undecided from look to look (Armitage, McPherson and Rowe 1969), a Brownian path on a grid.

    >>> [round(float(norm_bound(x)), 2) for x in levels_of_looks([0.5, 1.0])]
    [2.16, 2.21]
    >>> levels_of_looks([1.0])
    [0.95]
    """
    from scipy.stats import norm

    alpha = 1 - level
    spent = [alpha * math.log(1 + (math.e - 1) * share) for share in shares]
    bounds = [float(norm.isf(spent[0] / 2))]
    grid = np.linspace(-GRID_REACH, GRID_REACH, GRID_POINTS)
    width = float(grid[1] - grid[0])
    density = norm.pdf(grid, scale=math.sqrt(shares[0]))
    for k in range(1, len(shares)):
        density = np.where(np.abs(grid) < bounds[-1] * math.sqrt(shares[k - 1]), density, 0.0)
        step = norm.pdf(grid[:, None] - grid[None, :], scale=math.sqrt(shares[k] - shares[k - 1]))
        density = step @ density * width
        beyond = 2 * np.cumsum(density[::-1])[::-1] * width  # mass outside +-x, by symmetry
        bounds.append(float(np.interp(-(spent[k] - spent[k - 1]), -beyond, grid)) / math.sqrt(shares[k]))
    return [level] if len(shares) == 1 else [1 - 2 * float(norm.sf(bound)) for bound in bounds]


def norm_bound(level: float) -> float:
    """Compute how many standard errors a two-sided interval of this level reaches."""
    from scipy.stats import norm

    return float(norm.isf((1 - level) / 2))
