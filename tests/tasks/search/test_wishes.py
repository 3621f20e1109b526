"""What is asked of a search: gains, limits, and what cannot be met by anything."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ConfigError
from tasks.params import searching
from tasks.params.pipeline import Bound
from tasks.records.search import Figure
from tasks.search import front, surrogate
from tasks.search.front import beats, volume
from tasks.search.wishes import Floor, impossible, span, wishes
from tests.tasks.search.worlds import KNOWN, asked

POINTS = st.lists(st.tuples(*[st.floats(0.01, 9)] * 3), min_size=1, max_size=6)


def test_examples_hold() -> None:
    for module in (front, surrogate, searching):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("metric", "value", "gain"), [
    ("decode_speedup", 4.0, 2.0), ("memory_share", 0.25, 2.0), ("retention", 1.0, 0.0), ("retention", 0.95, -1.0),
    ("mean_kl", 0.2, -1.0), ("perplexity_ratio", 1.1, -1.0), ("artifact_mb", 64.0, -6.0),
])  # fmt: skip
def test_gains(metric, value, gain):
    assert span(KNOWN[metric], Figure(value=value))[0] == pytest.approx(gain)


@pytest.mark.parametrize(("figure", "where"), [
    (Figure(value=3.0, low=2.5, high=3.5), "kept"), (Figure(value=2.1, low=1.9, high=2.3), "open"),
    (Figure(value=1.5, low=1.4, high=1.6), "broken"), (Figure(value=math.nan), "broken"), (None, "unknown"),
])  # fmt: skip
def test_where_a_figure_lies(figure, where):
    wanted = asked("decode", decode_speedup={"min": 2.0})
    assert wanted.where(wanted.limits[0], figure) == where


def test_what_is_missed_is_told_by_how_much():
    wanted = asked("decode", decode_speedup={"min": 2.0}, mean_kl={"max": 0.1})
    kl, speed = sorted(wanted.misses({"decode_speedup": Figure(value=1.5, low=1.4, high=1.6)}), key=lambda m: m.metric)[
        ::-1
    ]
    assert (kl.metric, kl.by) == ("mean_kl", 1.0)
    assert speed.by == pytest.approx(0.25)


@pytest.mark.parametrize(("objective", "limits", "words"), [
    ("decoed", {}, "did you mean 'decode'"),
    ("weights", {"retenton": Bound(min=0.9)}, "did you mean 'retention'"),
    ("weights", {"retention": Bound(max=0.9)}, "its gate is {min: ...}"),
    ("weights", {"retention": Bound(min=1.5)}, "from 0 to 1"),
])  # fmt: skip
def test_bad_wishes_are_refused_in_words(objective, limits, words):
    with pytest.raises(ConfigError, match=words.replace("{", r"\{").replace("}", r"\}")):
        wishes(KNOWN, objective, {}, limits, {})


def test_what_nothing_can_meet_is_refused_with_the_nearest():
    wanted = asked("decode", artifact_mb={"max": 40.0})
    [said] = impossible(wanted, (Floor("artifact_mb", 60.5, "the narrowest recipe"),))
    assert "{artifact_mb: {max: 60.5}}" in said
    assert impossible(wanted, (Floor("artifact_mb", 30.0, "the narrowest recipe"),)) == ()


@pytest.mark.parametrize("text", ["soon", "-3m", "3 weeks", ""])
def test_no_time(text):
    with pytest.raises(ValueError, match="30m"):
        searching.seconds(text)


@given(POINTS)
def test_a_volume_is_between_its_largest_box_and_the_box_around_all(points):
    boxes = [math.prod(point) for point in points]
    around = math.prod(max(point[axis] for point in points) for axis in range(3))
    assert max(boxes) <= volume(points) * (1 + 1e-9)
    assert volume(points) <= min(sum(boxes), around) * (1 + 1e-9)
    assert volume([*points, points[0]]) == pytest.approx(volume(points))


SPANS = st.tuples(st.floats(-5, 5), st.floats(0, 2)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(SPANS, SPANS, SPANS, SPANS)
def test_nobody_beats_himself_and_two_not_each_other(a, b, c, d):
    one, other = {"x": a, "y": b}, {"x": c, "y": d}
    assert not beats(one, one)
    assert not (beats(one, other) and beats(other, one))
