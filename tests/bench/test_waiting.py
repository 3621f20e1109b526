"""The parts of `make bench` that compare with an older commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.records.base import write_text
from tasks.run.workspace import Workspace
from tests.bench import waiting


def test_a_quotient_needs_both_figures() -> None:
    assert waiting.over(3.0, 4.0) == 0.75
    assert waiting.over(None, 4.0) is waiting.over(3.0, None) is waiting.over(3.0, 0.0) is None


def test_a_commit_that_is_not_here_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_BENCH_BASE", "0" * 40)
    assert waiting._base(tmp_path / "base", waiting.RUN, "run_base_s") == ({"run_base_s": None}, None)


def test_without_a_winner_before_nothing_is_said_of_ours(tmp_path: Path) -> None:
    assert waiting._changed("openvino-int8", tmp_path) is waiting._changed(None, tmp_path) is None


def test_stages_are_told_by_their_first_output(tmp_path: Path) -> None:
    write_text(tmp_path / "dvc.lock", "stages: {gate: {outs: [{path: artifacts/gate}]}}\n")
    write_text(tmp_path / Workspace().gate / "suite.json", "{}")
    before = waiting.stages_written(tmp_path)
    assert before.keys() == {"gate"} and waiting.stages_written(tmp_path) == before
    write_text(tmp_path / Workspace().gate / "verdicts.json", "{}")
    assert waiting.stages_written(tmp_path) != before
