"""The search: it finds what is best, gives up what cannot keep a limit, and says what would have to be given up."""

from __future__ import annotations

import pytest

from tasks.records.search import RUNGS, Found
from tests.tasks.search.worlds import Table, asked, searching, trials, truth, world

GATES = {"mean_kl": {"max": 0.2}, "retention": {"min": 0.98}, "decode_speedup": {"min": 2.0}}


def run(wanted, bench, **more) -> Found:
    return searching(wanted, bench, **more).run(trials(bench.variants))


def best_of(wanted, variants, **limits) -> str:
    from tasks.records.search import Figure

    def worth(name: str) -> float:
        figures = {metric: Figure(value=value) for metric, value in truth(variants[name]).items()}
        return -1e9 if wanted.broken(figures) else sum(wanted.worth(wanted.gains(figures)))

    return max(variants, key=worth)


@pytest.mark.parametrize("objective", ["decode", "weights", "memory", "artifact_mb"])
def test_the_best_is_found_with_a_part_of_the_work(objective):
    variants = world()
    wanted, bench = asked(objective, **GATES), Table(variants)
    found = run(wanted, bench)
    assert found.sure
    assert found.best is not None
    own, top = (truth(variants[name]) for name in (found.best, best_of(wanted, variants)))
    assert own["decode_speedup"] >= 0.97 * top["decode_speedup"] or own["artifact_mb"] <= 1.03 * top["artifact_mb"]
    timed = [name for name, rung in bench.done if rung == "timed"]
    assert len(timed) <= len(variants) / 2
    assert len(set(bench.done)) == len(bench.done), "nothing is done twice"


def test_rungs_are_climbed_one_by_one_and_a_broken_limit_ends_it():
    variants = world()
    bench = Table(variants)
    found = run(asked("decode", artifact_mb={"max": 100.0}), bench)
    for one in found.trials:
        climbed = [rung for name, rung in bench.done if name == one.name]
        assert climbed == list(RUNGS[1 : 1 + len(climbed)])
        if one.standing == "cut":
            assert one.rung == "made"
            assert "at most 100 is wanted" in one.reason
    assert found.best is not None
    assert truth(variants[found.best])["artifact_mb"] <= 100


def test_where_nothing_passes_the_nearest_is_told_and_what_to_give_up():
    found = run(asked("decode", mean_kl={"max": 0.01}, artifact_mb={"max": 100.0}), Table(world()))
    assert found.best is None
    assert found.nearest is not None
    assert found.misses
    assert "Nothing keeps all limits" in found.reason
    assert "give up" in found.reason
    assert "All other limits are kept with" in found.reason


def test_what_fails_is_kept_with_its_reason_and_the_rest_goes_on():
    variants = world()
    wanted = asked("decode", **GATES)
    top = best_of(wanted, variants)
    found = run(wanted, Table(variants, failing=frozenset({top})), seeds=[top])
    assert found.trial(top).standing == "failed"
    assert found.trial(top).reason == "it does not build"
    assert found.best not in (None, top)


def test_a_candidate_without_a_figure_that_a_limit_asks_for_never_wins():
    class Silent(Table):
        def advance(self, names, rung):
            found = super().advance(names, rung)
            return {
                name: step.model_copy(
                    update={"figures": {n: f for n, f in step.figures.items() if n != "decode_long_speedup"}}
                )
                for name, step in found.items()
            }

    found = run(asked("decode", **GATES, decode_long_speedup={"min": 1.0}), Silent(world()))
    assert found.best is None
    assert "decode_long_speedup" in {miss.metric for miss in found.misses}


def test_the_time_ends_it_and_what_was_left_is_counted():
    variants = world()
    bench = Table(variants)
    found = run(asked("decode", **GATES), bench, within_s=100.0)
    assert "the time was up" in found.ended
    assert found.spent_s <= 100 + 160
    assert any(not one.steps for one in found.trials)


def test_a_front_is_searched_from_all_sides():
    variants = world()
    found = run(asked("front", **GATES), Table(variants))
    assert found.best == found.knee
    assert len(found.front) >= 2
    assert {variants[name].backend for name in found.front} >= {"onnx", "openvino"}
    volumes = [one.volume for one in found.volumes]
    assert volumes == sorted(volumes)


def test_artifacts_are_deleted_within_a_budget_and_never_those_on_the_front():
    bench = Table(world())
    found = run(asked("decode", **GATES), bench, disk_mb=400.0)
    assert bench.dropped
    assert not set(bench.dropped) & set(found.front)
    left = [
        o.figures["artifact_mb"].value
        for o in found.trials
        if "artifact_mb" in o.figures and o.name not in bench.dropped
    ]
    still = [*found.front, *(one.name for one in found.trials if one.standing == "open" and one.steps)]
    assert sum(left) <= 400 + sum(truth(world()[name])["artifact_mb"] for name in still)


@pytest.mark.parametrize("way", ["random", "tpe"])
def test_other_ways_search_too(way):
    variants = world()
    found = run(asked("decode", **GATES), Table(variants), way=way)
    assert found.best == best_of(asked("decode", **GATES), variants)
    assert all(one.standing != "open" for one in found.trials)


def test_noise_is_not_taken_for_a_difference():
    variants = world()
    wanted = asked("decode", **GATES)
    top = truth(variants[best_of(wanted, variants)])["decode_speedup"]
    for seed in range(5):
        found = run(wanted, Table(variants, noise=0.03, seed=seed))
        assert found.best is not None
        assert truth(variants[found.best])["decode_speedup"] >= 0.9 * top


def test_leaders_that_noise_does_not_tell_apart_are_timed_again():
    variants = world()
    wanted, bench = asked("decode", **GATES), Table(variants, noise=0.05, seed=4)
    found = run(wanted, bench)
    assert len(bench.repeated) > 1
    assert found.best in bench.repeated
    for one in found.trials:
        assert sum(step.rung == "timed" for step in one.steps) == (2 if one.name in bench.repeated else 1) or (
            one.standing != "measured"
        )
    own = found.trial(found.best).figures["decode_speedup"]
    assert own.ends[1] - own.ends[0] < 0.2 * 0.3 * own.value, "the later, narrower figure counts"


def test_a_sure_leader_is_not_timed_again():
    bench = Table(world(), noise=0.0)
    found = run(asked("artifact_mb", **GATES), bench)
    worths = sorted(one.figures["artifact_mb"].value for one in found.trials if one.standing == "measured")
    assert bench.repeated == [] or worths[0] == worths[1]


def test_what_fails_the_second_time_keeps_what_was_measured():
    class Once(Table):
        def again(self, names):
            from tasks.records.search import Step

            return {name: Step(rung="timed", ok=False, reason="the machine was busy") for name in names}

    found = run(asked("decode", **GATES), Once(world(), noise=0.05, seed=4))
    assert found.best is not None
    assert found.trial(found.best).standing == "measured"
