"""The stage gate and its answer to a caller: verdicts, their digest, and what enforce refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import gate as stage
from tasks.gates import suites
from tasks.records.scores import Metric, Recommendation
from tasks.run.workspace import Workspace
from tests import factories as make
from tests.tasks.test_gate import ELSEWHERE, GGUF, GONE, OPENVINO, REFERENCE, candidate


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(make.params().model_dump_json(include={"variants"}))
    return tmp_path


@pytest.mark.parametrize(
    ("cells", "code", "line"),
    [
        ({}, 0, "gate: pass: openvino-int8 passes every gate and ranks 1 of 1 (1 pass)"),
        ({"retention": 0.9}, 1, "gate: fail: no candidate passed (1 fail)"),
        ({"memory_share": GONE}, 1, "gate: fail: no candidate passed (1 fail)"),
        ({"memory_share": ELSEWHERE}, 3, "gate: inconclusive: no candidate passed, and some could not be decided"),
    ],
)
def test_the_stage_always_succeeds_and_enforce_says_the_verdict(
    project: Path, capsys: pytest.CaptureFixture[str], cells: dict[str, float | Metric], code: int, line: str
) -> None:
    make.recommendation(candidate(**cells)).write(Workspace().recommendation)
    assert stage.main([]) == 0
    assert json.loads((Workspace().gate / stage.SUITE_FILE).read_text())["name"] == suites.SUITE
    capsys.readouterr()
    assert stage.main(["--enforce"]) == code
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(line)
    assert [text.startswith("nearest: openvino-int8 ") for text in said[1:]] == ([True] if code else [])


def test_enforce_without_verdicts_is_bad_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main(["--enforce"]) == 2
    assert "verdicts.json does not exist; run the stage that writes it" in capsys.readouterr().err


def test_enforce_with_broken_or_half_a_verdict_file_is_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.recommendation(candidate()).write(Workspace().recommendation)
    assert stage.main([]) == 0
    whole = Workspace().verdicts.read_text()
    for broken in ("", "{}", whole[: len(whole) // 2]):
        Workspace().verdicts.write_text(broken)
        assert stage.main(["--enforce"]) == 2
        assert "verdicts.json is not a GateReport" in capsys.readouterr().err


def test_enforce_refuses_a_verdict_on_other_results(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.recommendation(candidate()).write(Workspace().recommendation)
    assert stage.main([]) == 0
    make.recommendation(candidate(retention=0.5)).write(Workspace().recommendation)
    assert stage.main(["--enforce"]) == 2
    assert "was made from other results than artifacts/recommendation.json holds" in capsys.readouterr().err


def test_enforce_refuses_a_verdict_with_other_limits(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.recommendation(candidate()).write(Workspace().recommendation)
    assert stage.main([]) == 0
    Path("params.yaml").write_text(
        make.params(gate={"decode_speedup": {"min": 9.0}}).model_dump_json(include={"variants", "gate"})
    )
    assert stage.main(["--enforce"]) == 2
    assert "was made with other limits than params.yaml; run `dvc repro gate`" in capsys.readouterr().err


def test_the_stage_without_a_recommendation_is_bad_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main([]) == 2
    assert "recommendation.json does not exist" in capsys.readouterr().err


def test_equal_results_give_equal_files(project: Path) -> None:
    make.recommendation(candidate(GGUF), candidate(OPENVINO, retention=0.9)).write(Workspace().recommendation)
    assert stage.main([]) == 0
    first = Workspace().verdicts.read_bytes(), (Workspace().gate / stage.SUITE_FILE).read_bytes()
    assert stage.main([]) == 0
    assert (Workspace().verdicts.read_bytes(), (Workspace().gate / stage.SUITE_FILE).read_bytes()) == first
    assert Recommendation.read(Workspace().recommendation).reference == REFERENCE
