"""The statistics behind verdicts: known values, properties, and too little data."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.measure import statistics
from tasks.measure.statistics import (
    Interval,
    clustered_median,
    from_standard_error,
    percentile,
    smallest_sample,
    units_that_would_decide,
)


def test_doctests() -> None:
    assert doctest.testmod(statistics).failed == 0


def test_a_median_over_clusters() -> None:
    middle, found = clustered_median([[1.0, 1.1], [0.9, 1.0], [1.2, 1.1]])
    assert middle == pytest.approx(1.05)
    mean, spread = 1.05, 0.1 / math.sqrt(3)
    assert found.low <= middle - 4.3 * spread * 0.99 and found.high >= mean + 4.3 * spread * 0.99
    with pytest.raises(ValueError, match="at least two"):
        clustered_median([[1.0, 2.0]])


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=4), min_size=2, max_size=6), st.floats(-3, 3))
def test_a_median_over_clusters_holds_its_value_and_moves_with_it(clusters: list[list[float]], by: float) -> None:
    middle, found = clustered_median(clusters)
    assert found.low <= middle <= found.high
    moved, there = clustered_median([[value + by for value in cluster] for cluster in clusters])
    assert (moved, there.low, there.high) == pytest.approx((middle + by, found.low + by, found.high + by), abs=1e-6)


def test_an_interval_from_a_standard_error_is_students() -> None:
    found = from_standard_error(1.0, 0.1, 2)
    assert found.high - 1.0 == pytest.approx(1.27062, abs=1e-4)  # t with one degree of freedom is 12.706
    with pytest.raises(ValueError, match="at least two"):
        from_standard_error(1.0, 0.1, 1)


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


@given(st.floats(0.5, 1.5), st.floats(0.001, 0.5), st.integers(2, 1000))
def test_the_size_that_would_decide_just_decides(value: float, reach: float, units: int) -> None:
    limit = 0.95
    needed = units_that_would_decide(value, limit, Interval(value - reach, value + reach), units)
    if needed is None:
        assert value == limit
        return
    shrunk = reach * math.sqrt(units / needed)
    assert shrunk <= abs(value - limit) * (1 + 1e-6)
