"""flows/failures.py: what failed, in words, and whose the scorecard on the disk is."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import failures
from flows.steps import Result
from tasks.errors import ChildError
from tasks.run.stage import last_words, run_stage

OK, BAD = Result("fetch", "done"), Result("convert@a", "failed", reason="convert@a: exited with 1; repeat it", code=1)


def test_a_failed_stage_is_shown_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "convert@a")

    def work() -> None:
        raise ChildError("needed 20 GB", kind="memory", log_tail="allocating\nallocating more\n")

    assert run_stage(work) == 1
    assert failures.lines([OK, BAD, Result("gate", "blocked")], tmp_path) == [
        "failed: convert@a: exited with 1; repeat it",
        "  | error: needed 20 GB",
        "  | allocating",
        "  | allocating more",
        "not run because of that: gate",
    ]
    assert run_stage(lambda: None) == 0 and not last_words("convert@a").exists()


def test_the_end_of_a_traceback_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "gate")
    with pytest.raises(ZeroDivisionError):
        run_stage(lambda: 1 // 0)
    assert failures.said("gate", tmp_path)[-1].startswith("ZeroDivisionError")
    assert len(failures.said("gate", tmp_path)) <= failures.SHOWN


def test_a_stage_that_was_killed_left_no_words(tmp_path: Path) -> None:
    assert failures.lines([BAD], tmp_path) == [f"failed: {BAD.reason}"]
    assert failures.lines([OK], tmp_path) == []


@pytest.mark.parametrize(
    ("results", "own"),
    [
        ([OK, Result("recommend", "done"), Result("gate", "unchanged")], True),
        ([BAD, Result("recommend", "blocked"), Result("gate", "blocked")], False),
        ([OK, Result("recommend", "done"), Result("gate", "failed", code=1)], False),
        ([OK, Result("recommend", "done"), Result("gate", "done"), Result("track", "failed", code=2)], True),
    ],
)
def test_whose_scorecard_it_is(results: list[Result], own: bool) -> None:
    assert failures.has_own_scores(results) is own
