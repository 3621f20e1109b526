"""The repair loop: steps that help, steps that do not, and a monitor that is killed in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitoring.repair.diagnose import Step
from monitoring.watch import Watch
from tasks.errors import EdgewrightError
from tasks.params.watching import Repair
from tests.monitoring.course import Course


def test_a_slow_server_is_diagnosed_repaired_and_told_of(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)

    def effect(what: str, step: Step) -> None:
        course.slow = 1.0 if (what, step) == ("apply", "cores") else course.slow

    course.actuator.effect, course.slow = effect, 4.0
    course.look()
    assert course.actuator.did == ["apply cores"]
    course.look()
    assert course.actuator.did == ["apply cores", "keep cores"]
    assert course.watching.state.repair is None
    assert [entry.outcome for entry in course.watching.state.shown] == ["applied", "kept"]
    assert "FIRES [page] slow" in course.sent[0]
    assert "cores is tried" in course.sent[0]
    assert any("over" in text for text in course.sent[1:])


def test_steps_that_do_not_help_are_undone_and_a_person_is_called_with_the_history(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)
    course.slow, course.actuator.cannot = 4.0, {"threads"}
    for _ in range(6):
        course.look()
        if course.watching.state.repaired:
            break
    assert course.actuator.did == ["apply cores", "undo cores", "apply smaller", "undo smaller"]
    last = course.watching.state.shown[-1]
    assert (last.step, last.outcome) == ("person", "called")
    assert "threads: impossible (threads cannot be done here)" in last.said
    assert any("A person is needed" in text for text in course.sent)


@pytest.mark.parametrize(
    ("repair", "outcome"),
    [({"enabled": False}, "not repaired"), ({"dry_run": True}, "dry run"), ({"max_steps_per_day": 0}, "not repaired")],
)
def test_switched_off_dry_or_out_of_budget_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: dict[str, Any], outcome: str
) -> None:
    course = Course(tmp_path, repair=Repair.model_validate(repair))
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)
    course.slow = 4.0
    course.look()
    course.look()
    assert course.actuator.did == []
    assert [entry.outcome for entry in course.watching.state.shown] == [outcome]


@pytest.mark.parametrize("done", [True, False])
def test_a_monitor_that_was_killed_goes_on_and_does_nothing_twice(
    course: Course, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)

    def killed(what: str, step: Step) -> None:
        raise KeyboardInterrupt

    course.slow, course.actuator.effect = 4.0, killed
    with pytest.raises(KeyboardInterrupt):
        course.look()
    assert course.watching.state.repair is not None
    course.watching = Watch(course.place, course.settings, lambda: course.now)
    course.actuator.effect = lambda what, step: None
    if done:
        course.actuator.serves = "version 3 with cores 1"
    course.look()
    assert course.actuator.did == ["apply cores"] * (1 if done else 2)
    assert course.watching.state.repair is not None
    assert course.watching.state.repair.phase == "observe"
    assert ("begun before this monitor was" in course.watching.state.repair.done) is done


def test_other_prompts_start_an_optimization_that_is_waited_for(compared: Course) -> None:
    for _ in range(3):
        compared.look()
    compared.actuator.effect = lambda what, step: setattr(compared.actuator, "at", "the optimization runs")
    assert compared.look(rarity=2.0, content=1.0).drift == "drift"
    assert compared.actuator.did == ["apply reoptimize"]
    for _ in range(3):
        compared.look(rarity=2.0, content=1.0)
    assert compared.actuator.did == ["apply reoptimize"]
    compared.actuator.at = ""
    compared.look()
    compared.look()
    assert compared.watching.state.repair is None
    assert [entry.outcome for entry in compared.watching.state.shown] == ["applied", "kept"]


def test_an_actuator_that_fails_while_undoing_does_not_stop_the_watch(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)

    def refuse(step: Step, why: str) -> str:
        raise EdgewrightError("the router is gone")

    monkeypatch.setattr(course.actuator, "undo", refuse)
    course.slow = 4.0
    for _ in range(3):
        course.look()
    assert any("could not be taken back" in entry.said for entry in course.watching.state.shown)
