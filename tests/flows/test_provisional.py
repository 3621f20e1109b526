"""flows/provisional.py: when a first scorecard is worth its time, and what becomes of the run without it."""

from __future__ import annotations

import subprocess

import pytest

from flows import provisional
from flows.dvc.pipeline import Plan, Step

MADE_FROM = {"a": (), "b": ("convert@base",), "base": (), "c": (), "d": (), "e": ()}


def plan(*stale: str, benchmark: bool = True) -> Plan:
    steps = [Step(f"convert@{name}", "modified", ("fetch", *MADE_FROM[name])) for name in stale]
    steps += [Step(f"evaluate@{name}", "follows", (f"convert@{name}",)) for name in stale]
    return Plan((), (*steps, *([Step("benchmark", "follows")] if benchmark else [])))


@pytest.mark.parametrize(
    ("stale", "shown", "early"),
    [
        (tuple(MADE_FROM), ("a",), {"convert@a"}),
        (tuple(MADE_FROM), ("a", "b"), {"convert@a", "convert@b", "convert@base"}),
        (("a", "c", "d"), ("a", "b"), {"convert@a"}),  # b is made already
        (("a", "b", "base"), ("a", "b"), set()),  # nothing is to come after it
        (("c", "d", "e"), ("a", "b"), set()),  # nothing new is in it
    ],
)
def test_it_is_worth_its_time_while_as_many_are_to_come(
    stale: tuple[str, ...], shown: tuple[str, ...], early: set[str]
) -> None:
    assert provisional.worth_it(plan(*stale), shown, ()) == early
    assert not provisional.worth_it(plan(*stale, benchmark=False), shown, ())


def test_what_is_not_made_is_not_waited_for() -> None:
    """As in the quick profile, which makes only what would be shown."""
    assert provisional.worth_it(plan(*MADE_FROM), ("a", "b"), ("d",)) == set()


def test_a_run_goes_on_without_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", failing)
    provisional.show(".")
    assert "provisional: none, which the run does not need" in capsys.readouterr().out


def test_a_stopped_run_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **how: subprocess.CompletedProcess(command, 143))
    provisional.stopping.set()
    try:
        with pytest.raises(KeyboardInterrupt):
            provisional.show(".")
    finally:
        provisional.stopping.clear()
