"""The Pareto front and the scaling of objectives."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.scores import pareto, rank
from tasks.scores.pareto import Objective, dominates, front

SPEED = Objective("speed", "tps", "higher", "log")
ERROR = Objective("error", "kl", "lower")
SIZE = Objective("size", "mb", "lower", "log")
POINTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.fixed_dictionaries({key: st.integers(1, 5).map(float) for key in ("tps", "kl", "mb")}),
    min_size=1,
    max_size=12,
)


@given(POINTS)
def test_the_front_is_exactly_the_points_that_none_dominates(points: dict[str, dict[str, float]]) -> None:
    objectives = (SPEED, ERROR, SIZE)
    found = front(points, objectives)
    assert found.members  # a finite set always has one
    assert set(found.members) | set(found.dominated) == set(points)
    for name in found.members:
        assert not any(dominates(other, points[name], objectives) for other in points.values())
    for name, others in found.dominated.items():
        assert all(dominates(points[other], points[name], objectives) for other in others)
        assert set(others) & set(found.members)  # whoever is beaten is beaten by one on the front


@given(POINTS)
def test_ties_stay_together(points: dict[str, dict[str, float]]) -> None:
    members = front(points, (SPEED, ERROR)).members
    for name, point in points.items():
        twins = [n for n in members if (points[n]["tps"], points[n]["kl"]) == (point["tps"], point["kl"])]
        assert (name in members) == bool(twins)


def test_a_point_that_lacks_an_objective_is_excluded_with_the_reason() -> None:
    found = front({"a": {"tps": 1.0, "kl": 1.0}, "b": {"tps": 9.0}, "c": {}}, (SPEED, ERROR))
    assert found.members == ("a",)
    assert found.excluded == {"b": "error is not known", "c": "speed, error are not known"}


def test_without_objectives_nothing_is_compared() -> None:
    assert front({"a": {}}, ()).excluded == {"a": "nothing to compare by"}


@given(POINTS)
def test_scaled_values_span_0_to_1_and_keep_the_order(points: dict[str, dict[str, float]]) -> None:
    scaled = rank.normalise(points, SIZE)
    assert all(0 <= value <= 1 for value in scaled.values())
    assert max(scaled.values()) == 1
    smallest = min(points, key=lambda name: points[name]["mb"])
    assert scaled[smallest] == 1


@pytest.mark.parametrize("module", [pareto, rank])
def test_doctests(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


def test_normalise_without_values_is_empty() -> None:
    assert rank.normalise({"a": {}}, SIZE) == {}
