"""The autoscaler's target, its published formula, and what a load meets in a replay."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import ConfigError
from tasks.records.load import LoadStep
from tasks.targets.cluster.autoscaling import (
    MISSED,
    Autoscaler,
    Behavior,
    Cluster,
    Point,
    Policy,
    Target,
    curve,
    derived,
    knee,
    promised,
    proven,
    replay,
    served,
    wanted,
)

# A server whose throughput saturates: c requests under way give c / (1 + 0.15 c) a second.
POINTS = tuple(Point(c, c / (1 + 0.15 * c)) for c in range(1, 9))
STEADY = Cluster(POINTS, slots=8, knee=6.0, target=4.0, start_s=20.0, behavior=Behavior(1, 10))
FAST = (Policy("Percent", 100, 15),)  # the default of Kubernetes: all at once


def step(rate: float, first_p95: float | None = 200.0, **changes: float | None) -> LoadStep:
    fields = {
        "rate": rate, "planned_s": 20.0, "seconds": 21.0, "requests": 100, "errors": {}, "achieved": rate,
        "tokens_per_s": 11 * rate, "first_ms_p50": 100.0, "first_ms_p95": first_p95, "between_ms_p50": 90.0,
        "between_ms_p95": 100.0, "whole_ms_p95": 2000.0, "late_ms_p95": 1.0,
    }  # fmt: skip
    return LoadStep.model_validate(fields | changes)


@pytest.mark.parametrize(("knee", "start_s", "growth", "value"), [
    (8.0, 0.0, 0.0, 8.0),  # a load that does not grow may be at the knee
    (8.0, 30.0, 0.5, 4.0),  # 30 s + a scrape + a look: a minute, in which half of the knee comes
    (6.0, 120.0, 0.1, 4.5),
])  # fmt: skip
def test_the_target_is_the_knee_less_what_comes_while_a_pod_starts(
    knee: float, start_s: float, growth: float, value: float
) -> None:
    found = derived(knee, "measured", start_s, "measured", growth)
    assert found.value == value
    assert f"{knee:g} x (1 - {growth:g}/min x {start_s + 30:g} s)" in found.why


@pytest.mark.parametrize(
    ("given", "words"), [((8, 300, 0.5), "outruns pods that take 330 s"), ((0, 1, 0.1), "below 0")]
)
def test_no_target_is_made_up_where_none_keeps_up(given: tuple[float, float, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        derived(given[0], "measured", given[1], "measured", given[2])


def test_the_knee_is_the_concurrency_below_the_first_miss() -> None:
    # One request: 100 ms to its first token and ten more of 90 ms: a second. So rate r keeps r requests under way.
    steps = [step(1.0), step(2.0), step(4.0, 1500.0), step(6.0)]
    assert knee(steps, 1000, 150) == pytest.approx(2.0)
    assert knee([step(1.0, 1500.0)], 1000, 150) is None
    assert knee([step(2.0, None)], 1000, 150) is None  # too few requests to tell
    assert knee([step(1.0), step(2.0, achieved=1.2)], 1000, 150) == pytest.approx(1.0)  # it no longer kept up
    assert [round(one.under_way, 3) for one in curve(steps)] == [1.0, 2.0, 4.0, 6.0]


@given(st.floats(0, 50), st.floats(0.5, 20), st.integers(1, 40))
def test_without_starting_pods_it_is_the_published_formula(metric: float, target: float, pods: int) -> None:
    ratio = metric / target
    asked = wanted(metric, target, pods, 0)
    if abs(ratio - 1) <= 0.1:
        assert asked == pods
    else:
        assert asked == math.ceil(pods * ratio - 1e-9)


@given(st.floats(0, 50), st.floats(0.5, 20), st.integers(1, 20), st.integers(1, 20))
def test_pods_that_start_dampen_and_never_turn_it(metric: float, target: float, ready: int, starting: int) -> None:
    asked, pods = wanted(metric, target, ready, starting), ready + starting
    if metric > target:
        assert pods <= asked <= max(pods, math.ceil(ready * metric / target))
    else:
        assert asked <= pods


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60), st.integers(1, 4), st.integers(4, 30))
def test_limits_and_policies_hold_whatever_is_asked(asked: list[int], least: int, most: int) -> None:
    scaler, pods = Autoscaler(Behavior(least, most)), least
    history = [pods]
    for look, one in enumerate(asked):
        pods = scaler.look(15.0 * look, pods, one)
        assert least <= pods <= most
        assert pods <= max(history[-1] + 4, 2 * history[-1])  # the faster of both policies up
        recent = history[-4:]  # a minute
        assert pods >= min(*recent, max(recent) - max(1, math.ceil(0.1 * max(recent)))) or pods > history[-1]
        history.append(pods)


def test_pods_go_only_when_nothing_in_the_window_asked_for_them() -> None:
    scaler = Autoscaler(Behavior(1, 20, down=FAST))
    pods = scaler.look(0, 8, 8)
    downs = [scaler.look(15.0 * one, pods, 2) for one in range(1, 25)]
    assert set(downs[:20]) == {8} and downs[20] == 2  # 300 s after the last look that asked for 8


def test_a_load_within_its_pods_is_left_alone() -> None:
    load = [0.8 * served(POINTS, STEADY.target)] * 1800
    found = replay(load, STEADY)
    assert (found.missed, found.flaps, found.most) == (0.0, 0, 1)
    assert found.replica_seconds == len(load)


def test_a_jump_misses_until_pods_are_there_and_no_longer() -> None:
    a_pod = served(POINTS, STEADY.target)
    quick, slow = (
        replay([a_pod] * 300 + [5 * a_pod] * 1800, replace(STEADY, start_s=start)) for start in (10.0, 120.0)
    )
    assert 0 < quick.missed_share < slow.missed_share < 0.6
    assert replay([a_pod] * 300, STEADY).missed == 0


def test_a_load_beyond_all_pods_misses_for_good() -> None:
    found = replay([2 * STEADY.behavior.most * POINTS[-1].rate] * 1200, STEADY)
    assert found.missed_share > 0.9 and found.most == STEADY.behavior.most


def test_taking_pods_at_once_flaps_where_taking_them_slowly_does_not() -> None:
    a_pod = served(POINTS, 5.6)
    load = [4 * a_pod] * 900 + [2.6 * a_pod] * 3600
    at_once, slowly = (
        replay(load, replace(STEADY, target=5.6, behavior=behavior))
        for behavior in (Behavior(1, 20, down=FAST), Behavior(1, 20))
    )
    assert at_once.flaps > slowly.flaps
    assert at_once.missed > slowly.missed


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([0.1, 0.2, 0.4]), st.sampled_from([5.0, 30.0, 60.0]), st.integers(1, 3))
def test_a_proven_target_keeps_the_load_it_was_derived_for(growth: float, start_s: float, least: int) -> None:
    formula = derived(STEADY.knee, "measured", start_s, "measured", growth)
    cluster = replace(STEADY, start_s=start_s, behavior=Behavior(least, 16))
    found, outcome = proven(formula, cluster, growth)
    assert found.value <= formula.value
    again = replace(cluster, target=found.value)
    assert replay(promised(again, growth), again) == outcome
    assert (outcome.missed_share <= MISSED and outcome.flaps == 0) or f"{outcome.missed_share:.1%}" in found.why


def test_a_lower_target_costs_pods_and_saves_misses() -> None:
    load = promised(STEADY, 0.2)
    high, low = (replay(load, replace(STEADY, target=target)) for target in (5.8, 3.0))
    assert low.replica_seconds > high.replica_seconds and low.missed_share < high.missed_share


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (3.25, "3250m"), (0.9996, "999m")])
def test_quantities_are_those_of_kubernetes(value: float, text: str) -> None:
    assert Target(value, "").quantity == text
