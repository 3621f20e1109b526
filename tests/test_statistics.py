"""The statistics behind verdicts: known values, error rates by simulation, properties, and too little data."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.measure import statistics
from tasks.measure.statistics import (
    Interval,
    alpha_spent,
    bootstrap,
    from_standard_error,
    mcnemar,
    percentile,
    ratio_of_sums,
    smallest_sample,
    trend,
    units_that_would_decide,
)


def test_doctests() -> None:
    assert doctest.testmod(statistics).failed == 0


def test_an_interval_from_a_standard_error_is_students() -> None:
    found = from_standard_error(1.0, 0.1, 2)
    assert found.high - 1.0 == pytest.approx(1.27062, abs=1e-4)  # t with one degree of freedom is 12.706
    with pytest.raises(ValueError, match="at least two"):
        from_standard_error(1.0, 0.1, 1)


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """300 samples of 40 from a skewed distribution; a percentile interval of a mean covers a little less than 95%."""
    noise = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        sample = noise.exponential(size=40)
        found = bootstrap(40, lambda picks, s=sample: s[picks].mean(axis=1), resamples=500)
        held += found.low <= 1.0 <= found.high
    assert 0.88 <= held / 300 <= 0.98


def test_resampling_gives_the_same_interval_each_time() -> None:
    top, bottom = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    assert ratio_of_sums(top, bottom) == ratio_of_sums(top, bottom)


def test_a_ratio_pairs_its_units() -> None:
    """What both lack in a unit cancels: a paired interval is narrow although the accuracies vary widely."""
    reference = (np.random.default_rng(0).random(400) < 0.5).astype(float)
    found = ratio_of_sums(reference, reference)
    assert found == Interval(1.0, 1.0)


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 * 0.5**10 - 0.5**10), (1, 0, 0.5)],
)
def test_mcnemar_known_values(lost: int, won: int, p: float) -> None:
    reference = [True] * lost + [False] * won + [True] * 7
    variant = [False] * lost + [True] * won + [True] * 7
    found = mcnemar(reference, variant)
    assert (found.lost, found.won) == (lost, won)
    assert found.p == pytest.approx(p)


def test_mcnemar_refuses_different_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        mcnemar([True], [True, False])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_a_probability_and_symmetric(pairs: list[tuple[bool, bool]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    found, back = mcnemar(one, other), mcnemar(other, one)
    assert 0 < found.p <= 1
    assert found.p == pytest.approx(back.p)
    assert (found.lost, found.won) == (back.won, back.lost)


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.99))
def test_the_smallest_sample_is_the_smallest(quantile: float, level: float) -> None:
    n = smallest_sample(quantile, level)
    assert 1 - quantile**n >= level - 1e-9
    assert n == 1 or 1 - quantile ** (n - 1) < level + 1e-9


def test_no_percentile_that_the_sample_cannot_carry() -> None:
    assert percentile(range(298), 0.99) is None
    assert percentile(range(299), 0.99) == pytest.approx(295.02)
    assert percentile([1.0] * 4, 0.5) is None
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5) == 3.0


def test_a_trend_is_found_and_noise_is_not() -> None:
    noise = np.random.default_rng(1)
    rising = [100 + 0.5 * i + e for i, e in enumerate(noise.normal(size=60))]
    found = trend(rising)
    assert found.present and found.low < 0.5 < found.high
    flat = sum(trend(list(noise.normal(size=30))).present for _ in range(200))
    assert flat / 200 <= 0.09
    assert not trend([3.0] * 10).present
    with pytest.raises(ValueError, match="at least four"):
        trend([1.0, 2.0, 3.0])


@given(st.integers(1, 12), st.floats(0.001, 0.2))
def test_all_looks_together_spend_the_error_rate_once(looks: int, alpha: float) -> None:
    spent = [alpha_spent(look, looks, alpha) for look in range(1, looks + 1)]
    assert sum(spent) == pytest.approx(alpha)
    assert all(share >= 0 for share in spent)
    with pytest.raises(ValueError, match=f"look {looks + 1} of {looks}"):
        alpha_spent(looks + 1, looks, alpha)


def test_looking_again_does_not_raise_the_rate_of_false_decisions() -> None:
    """No effect, four looks at growing data: by the spent rates few are called, at 5% a look too many."""
    from scipy.stats import norm

    noise = np.random.default_rng(5)
    z = noise.normal(size=(4000, 4, 25)).sum(axis=2).cumsum(axis=1) / np.sqrt(25 * np.arange(1, 5))
    careful = np.array([norm.ppf(1 - alpha_spent(look, 4) / 2) for look in range(1, 5)])
    assert (np.abs(z) > careful).any(axis=1).mean() <= 0.05
    assert (np.abs(z) > norm.ppf(0.975)).any(axis=1).mean() > 0.10


@given(st.floats(0.5, 1.5), st.floats(0.001, 0.5), st.integers(2, 1000))
def test_the_size_that_would_decide_just_decides(value: float, reach: float, units: int) -> None:
    limit = 0.95
    needed = units_that_would_decide(value, limit, Interval(value - reach, value + reach), units)
    if needed is None:
        assert value == limit
        return
    shrunk = reach * math.sqrt(units / needed)
    assert shrunk <= abs(value - limit) * (1 + 1e-6)
