"""Statistics behind a verdict: intervals, paired comparisons, percentiles a sample can carry, and repeated looks.

Everything here is pure and knows nothing of models; samples come in, numbers with their uncertainty go out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
SEED = 20240229  # resampling is part of the result, so it is the same each time


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class McNemar(NamedTuple):
    """How two models differ on the same items."""

    lost: int  # right in the reference, wrong in the variant
    won: int  # wrong in the reference, right in the variant
    p: float  # two-sided mid-p value


class Trend(NamedTuple):
    """A monotone trend over time."""

    slope: float  # per step, Theil-Sen
    low: float
    high: float
    p: float  # Mann-Kendall, two-sided

    @property
    def present(self) -> bool:
        """Whether there is one at the 5% level."""
        return self.p < 1 - LEVEL


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


def bootstrap(
    units: int, statistic: Callable[[NDArray[np.intp]], Floats], level: float = LEVEL, resamples: int = RESAMPLES
) -> Interval:
    """Percentile bootstrap (Efron 1979) over `units` exchangeable units.

    `statistic` gets an array of unit indices, shape (resamples, units), and returns one value for each resample.
    """
    if units < 2:
        raise ValueError("an interval needs at least two units")
    picks = np.random.default_rng(SEED).integers(0, units, size=(resamples, units))
    values = statistic(picks)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def ratio_of_sums(top: Floats, bottom: Floats, level: float = LEVEL) -> Interval:
    """Paired bootstrap of sum(top) / sum(bottom) over units, e.g. the retention of an accuracy over items.

    >>> ratio_of_sums(np.ones(50), np.ones(50))
    Interval(low=1.0, high=1.0)
    """

    def statistic(picks: NDArray[np.intp]) -> Floats:
        below = bottom[picks].sum(axis=1)
        return np.asarray(np.divide(top[picks].sum(axis=1), below, out=np.zeros(len(picks)), where=below > 0))

    return bootstrap(len(top), statistic, level)


def mcnemar(reference: Sequence[bool], variant: Sequence[bool]) -> McNemar:
    """McNemar's test on paired right/wrong answers, exact, as mid-p (Fagerland, Lydersen and Laake 2013).

    >>> mcnemar([True] * 9 + [False], [False] * 9 + [True]) # doctest: +ELLIPSIS
    McNemar(lost=9, won=1, p=0.0117...)
    """
    from scipy.stats import binom

    if len(reference) != len(variant):
        raise ValueError("both models must have answered the same items")
    lost = sum(r and not v for r, v in zip(reference, variant, strict=True))
    won = sum(v and not r for r, v in zip(reference, variant, strict=True))
    n, fewer = lost + won, min(lost, won)
    if n == 0:
        return McNemar(0, 0, 1.0)
    p = 2 * float(binom.cdf(fewer, n, 0.5)) - float(binom.pmf(fewer, n, 0.5))
    return McNemar(lost, won, min(1.0, p))


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


def trend(values: Sequence[float]) -> Trend:
    """Mann-Kendall test for a monotone trend (Kendall 1975), slope and its interval by Theil and Sen (Sen 1968).

    >>> found = trend([1.0, 2.1, 2.9, 4.2, 5.0, 6.1, 7.2, 7.9])
    >>> found.present, round(found.slope, 1)
    (True, 1.0)
    """
    from scipy.stats import kendalltau, theilslopes

    if len(values) < 4:
        raise ValueError("a trend needs at least four values")
    steps = np.arange(len(values))
    if min(values) == max(values):
        return Trend(0.0, 0.0, 0.0, 1.0)
    slope, _, low, high = theilslopes(values, steps, LEVEL)
    return Trend(float(slope), float(low), float(high), float(kendalltau(steps, values).pvalue))


def alpha_spent(look: int, looks: int, alpha: float = 1 - LEVEL) -> float:
    """Error rate allowed at one of several looks at growing data, so that all together stay within `alpha`.

    O'Brien and Fleming's boundary as a spending function (Lan and DeMets 1983): 2 - 2 Phi(z / sqrt(t)) at the share t
    of the planned data. Each look may use what was not spent before; the sum over looks is `alpha`, and by the union
    bound so is the chance of any false decision. Early looks decide only what is far from the limit.

    >>> [round(alpha_spent(look, 4), 4) for look in (1, 2, 3, 4)]
    [0.0001, 0.0055, 0.0181, 0.0264]
    """
    from scipy.stats import norm

    if not 1 <= look <= looks:
        raise ValueError(f"look {look} of {looks}")
    z = float(norm.ppf(1 - alpha / 2))

    def spent(share: float) -> float:
        return 0.0 if share == 0 else 2 - 2 * float(norm.cdf(z / math.sqrt(share)))

    return spent(look / looks) - spent((look - 1) / looks)


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
