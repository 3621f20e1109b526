"""The surrogate: it learns what a metric follows, and knows what it does not know."""

from __future__ import annotations

import pytest

from tasks.records.search import Figure, Step
from tasks.search.space import features
from tasks.search.study import opened
from tasks.search.surrogate import UNKNOWN, Guess, Surrogate, bent, straight
from tests.tasks.search.worlds import KNOWN, OF, asked, truth, world

WANTED = asked("decode", mean_kl={"max": 0.2})


def measured(trial, variants, *rungs):
    for rung in rungs:
        told = truth(variants[trial.name])
        trial = trial.after(Step(rung=rung, ok=True, figures={n: Figure(value=told[n]) for n in OF[rung]}))
    return trial


def learned(count: int, *rungs: str):
    variants = world()
    every = opened(variants, [])
    some = [measured(one, variants, "made", "scored", "timed") for one in every[::3][:count]]
    rest = [measured(one, variants, *rungs) for one in every if one.name not in {s.name for s in some}]
    return variants, Surrogate(WANTED, features(variants), [*some, *rest]), rest


def test_nothing_is_known_of_nothing():
    _, model, rest = learned(1)
    assert model.guess(rest[0], "decode_speedup").sd == UNKNOWN
    assert 0.0 < model.feasible(rest[0]) < 1.0


@pytest.mark.parametrize("rungs", [(), ("made",)])
def test_speeds_are_told_within_their_uncertainty(rungs):
    variants, model, rest = learned(9, *rungs)
    from math import log2

    errors = []
    for one in rest:
        guess, real = model.guess(one, "decode_speedup"), log2(truth(variants[one.name])["decode_speedup"])
        errors.append(abs(guess.mean - real))
        assert abs(guess.mean - real) <= max(4 * guess.sd, 0.15)
    assert sum(errors) / len(errors) < 0.12


def test_a_cheap_figure_sharpens_what_is_expected():
    variants, model, rest = learned(9, "made")
    bad = max(rest, key=lambda one: truth(variants[one.name])["mean_kl"])
    good = min(rest, key=lambda one: truth(variants[one.name])["mean_kl"])
    assert model.guess(bad, "mean_kl").mean < model.guess(good, "mean_kl").mean


def test_chances():
    assert Guess(1.0, 0.0).above(1.0) == 1.0
    assert Guess(1.0, 0.5).above(1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", ["mean_kl", "retention", "decode_speedup", "memory_share"])
@pytest.mark.parametrize("gain", [-3.0, -0.02, 0.0, 0.4])
def test_scales_go_back_and_forth(metric, gain):
    assert straight(KNOWN[metric], bent(KNOWN[metric], gain)) == pytest.approx(gain)
