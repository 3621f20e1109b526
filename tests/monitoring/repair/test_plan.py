"""Diagnoses by table, and the course of a repair: tried, judged, kept or undone, escalated, within its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.collect.signals import Signal
from monitoring.collect.windows import Machine, Window
from monitoring.repair import plan
from monitoring.repair.diagnose import Setting, diagnose, remedies
from monitoring.repair.plan import Repair
from tasks.params.watching import Repair as Settings
from tests.monitoring.judge.test_alerts import window

SETTING = Setting(backend="gguf", version="3", slots=8)
QUIET = Machine(cores=4, cpu_share=0.3, others_share=0.05, memory_mb=400, free_memory_mb=8000, total_memory_mb=16000)
INPUT = Signal(name="vocabulary of prompts", family="input", effect=1.0, limit=0.3, p_value=0.0, drifted=True, rows=500)
ANSWERS = INPUT.model_copy(update={"name": "right answers", "family": "performance"})


def before(**figures: float) -> list[Window]:
    return [window(number, **figures) for number in range(5)]


@pytest.mark.parametrize(
    ("metric", "machine", "setting", "now", "cause", "step"),
    [
        ("inter_token_p50_ms", {"others_share": 0.5, "crowded": (1,)}, {}, {}, "other processes", "cores"),
        ("inter_token_p50_ms", {"others_share": 0.9, "crowded": (0, 1, 2, 3)}, {}, {}, "other processes", "threads"),
        ("first_token_p95_ms", {"throttled": True}, {}, {}, "throttling", "threads"),
        ("first_token_p95_ms", {"throttled": True}, {"accelerators": ("GPU",)}, {}, "throttling", "device"),
        ("first_token_p95_ms", {"on_battery": True}, {"accelerators": ("NPU",)}, {}, "battery", "device"),
        ("whole_p95_ms", {"cpu_share": 0.95}, {}, {}, "processor-bound", "smaller"),
        ("inter_token_p50_ms", {}, {"bandwidth_gb_s": 20.0, "artifact_mb": 190.0}, {}, "memory bandwidth", "smaller"),
        ("first_token_p95_ms", {}, {"artifact_mb": 9000.0}, {}, "model too large", "smaller"),
        (
            "first_token_p95_ms", {}, {}, {"queue_p95_ms": 900.0, "whole_p50_ms": 1000.0}, "more requests than places",
            "smaller",
        ),
        (
            "inter_token_p50_ms", {}, {}, {"inter_token_p50_ms": 30.0, "requests_per_s": 20.0}, "batch too large",
            "batch",
        ),
        ("inter_token_p50_ms", {}, {"windows_since_promotion": 1}, {}, "the new version", "rollback"),
        ("memory_mb", {}, {}, {"memory_mb": 900.0}, "memory grows", "fresh"),
        ("memory_mb", {"free_memory_mb": 500}, {}, {"memory_mb": 420.0}, "memory", "context"),
        ("error_rate", {}, {}, {"error_rate": 0.4}, "the server", "fresh"),
    ],
)  # fmt: skip
def test_the_likeliest_cause_and_its_first_step(
    metric: str, machine: dict[str, object], setting: dict[str, object], now: dict[str, float], cause: str, step: str
) -> None:
    usual = {"memory_mb": 400.0, "inter_token_p50_ms": 10.0, "requests_per_s": 4.0}
    windows = [*before(**usual), window(9, **{**usual, **now})]
    found = diagnose(metric, windows, QUIET.model_copy(update=machine), SETTING.model_copy(update=setting))
    assert found[0].name == cause
    assert found[0].steps[0] == step
    assert found[0].evidence
    assert found[0].remedy == remedies()["llama.cpp"][found[0].trouble]


def test_nothing_wrong_is_no_cause() -> None:
    assert diagnose("inter_token_p50_ms", before(inter_token_p50_ms=10.0), QUIET, SETTING) == ()


def test_wrong_answers_to_usual_prompts_are_the_new_versions_and_to_other_prompts_are_not() -> None:
    new = SETTING.model_copy(update={"windows_since_promotion": 3})
    usual = [*before(), window(9, "drift").model_copy(update={"signals": (ANSWERS,)})]
    assert diagnose("drift", usual, QUIET, new)[0].steps == ("rollback",)
    other = [*before(), window(9, "drift").model_copy(update={"signals": (ANSWERS, INPUT)})]
    assert diagnose("drift", other, QUIET, new)[0].steps == ("reoptimize", "retrain")


def test_a_missing_log_is_no_reason_to_touch_the_server() -> None:
    busy = QUIET.model_copy(update={"cpu_share": 0.95, "others_share": 0.5})
    found = diagnose("requests_per_s", [*before(), window(9, rows=0, answered=40.0)], busy, SETTING)
    assert [(cause.name, cause.steps) for cause in found] == [("the log is missing", ())]
    assert diagnose("requests_per_s", [*before(), window(9, rows=0, answered=0.0)], busy, SETTING)[0].steps


def test_every_framework_has_a_remedy_for_every_trouble() -> None:
    troubles = {"slow", "memory", "accuracy", "compatibility"}
    assert {name: set(table) for name, table in remedies().items()} == dict.fromkeys(
        ("llama.cpp", "olive", "openvino", "mlx"), troubles
    )


# -- the course of a repair --------------------------------------------------------------------------------------------

BEGUN = Repair(
    alert="slow",
    metric="inter_token_p50_ms",
    version="3",
    began=0,
    causes=("x",),
    steps=("cores", "smaller"),
    before=100,
)
SETTINGS = Settings(observe_s=10.0)


def test_a_step_is_judged_by_a_window_that_began_after_it() -> None:
    under_way = plan.applied(BEGUN, "cores 1", 50.0)
    assert plan.observed(under_way, SETTINGS, False, 10.0, began=45.0, now=70.0).act == "wait"
    assert plan.observed(under_way, SETTINGS, False, 10.0, began=50.0, now=55.0).act == "wait"
    assert plan.observed(under_way, SETTINGS, None, None, began=50.0, now=70.0).act == "wait"
    solved = plan.observed(under_way, SETTINGS, False, 10.0, began=50.0, now=70.0)
    assert (solved.act, solved.repair) == ("solved", None)
    assert solved.tried is not None
    assert (solved.tried.outcome, solved.tried.before, solved.tried.after) == ("kept", 100, 10.0)


def test_a_step_that_helps_is_kept_and_one_that_does_not_is_undone_before_the_next() -> None:
    under_way = plan.applied(BEGUN, "cores 1", 50.0)
    helped = plan.observed(under_way, SETTINGS, True, 70.0, began=50.0, now=70.0)
    assert helped.act == "apply"
    assert helped.repair is not None
    assert (helped.repair.steps, helped.repair.before) == (("smaller",), 70.0)
    useless = plan.observed(under_way, SETTINGS, True, 95.0, began=50.0, now=70.0)
    assert useless.act == "undo"
    assert useless.repair is not None
    assert useless.tried is not None
    after = plan.undone(useless.repair, useless.tried)
    assert after.repair is not None
    assert (after.act, after.repair.steps, after.repair.tries[0].outcome) == ("apply", ("smaller",), "undone")


def test_the_last_step_that_does_not_help_calls_a_person_with_the_whole_history() -> None:
    first = plan.failed(BEGUN, "no processor is free")
    assert first.repair is not None
    last = plan.failed(first.repair, "no version is smaller")
    assert (last.act, last.repair) == ("escalate", None)


@pytest.mark.parametrize(
    ("changes", "steps", "ended", "said"),
    [
        ({}, (), None, ""),
        ({"enabled": False}, (), None, "switched off"),
        ({"max_steps_per_day": 2}, (99_000.0, 99_500.0), None, "as many as are allowed"),
        ({"max_steps_per_day": 2}, (1.0, 99_500.0), None, ""),  # the other was the day before
        ({"cool_down_s": 900.0}, (), 99_500.0, "ended less than"),
        ({"cool_down_s": 900.0}, (), 90_000.0, ""),
    ],
)
def test_what_holds_a_repair_back(
    changes: dict[str, object], steps: tuple[float, ...], ended: float | None, said: str
) -> None:
    why = plan.may(Settings.model_validate(changes), steps, ended, 100_000.0)
    assert (said in why) if said else why == ""


@given(st.lists(st.sampled_from(["fails", "solved", "better", "useless"]), min_size=1, max_size=12))
def test_every_repair_comes_to_an_end_and_loses_no_try(course: list[str]) -> None:
    under_way: Repair | None = BEGUN.model_copy(update={"steps": ("cores", "threads", "smaller", "rollback")})
    turns = tries = 0
    while under_way is not None:
        what = course[turns % len(course)]
        turns += 1
        if what == "fails":
            move = plan.failed(under_way, "no")
        else:
            done = plan.applied(under_way, "done", 0.0)
            value = {"solved": 1.0, "better": (done.before or 0) * 0.5, "useless": done.before}[what]
            move = plan.observed(done, SETTINGS, what != "solved", value, 0.0, 20.0)
            if move.act == "undo":
                assert move.repair is not None
                assert move.tried is not None
                move = plan.undone(move.repair, move.tried)
        tries += 1
        assert move.repair is None or len(move.repair.tries) == tries
        under_way = move.repair
    assert turns <= 4
