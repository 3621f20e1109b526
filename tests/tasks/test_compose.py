"""tasks/compose.py: the first stage says what it is about to use, and refuses what DVC alone cannot know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import compose
from tasks.params.load import EFFECTIVE, LOCAL, PARAMS, load_params
from tests import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / PARAMS).write_text((ROOT / PARAMS).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(compose.SAID, raising=False)
    return tmp_path


def test_a_plain_run_after_another_model_says_which_model_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(compose.SAID, json.dumps({"fetch.model": "/models/x", "profile": "quick"}))
    assert compose.main([]) == 0
    assert load_params().fetch.model == "/models/x"
    assert "model /models/x, target host, profile quick" in capsys.readouterr().out
    monkeypatch.delenv(compose.SAID)
    assert compose.main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "compose: model sample, target host, profile full; artifacts/params.yaml of params.yaml",
        "compose: the run before was told fetch.model=/models/x, profile=quick; this one is not",
    ]
    assert compose.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("said", ["[1]", "{", "3"])
def test_settings_that_are_no_object_are_refused(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(compose.SAID, said)
    assert compose.main([]) == 2
    assert "must be a JSON object" in capsys.readouterr().err and not EFFECTIVE.exists()


@pytest.mark.parametrize(
    ("local", "message"),
    [
        ("variants: {mine: {backend: gguf, precision: int8}}", "adds or changes the variants mine"),
        ("variants: {mlx-int4: {backend: onnx}}", "adds or changes the variants mlx-int4"),
        ("variants: {mlx-int4: {group_size: 32}}", ""),
        ("benchmark: {rounds: 3}", ""),
    ],
)
def test_variants_that_dvc_alone_does_not_know_are_for_make_run(
    local: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LOCAL.write_text(local)
    assert compose.main([]) == (2 if message else 0)
    assert message in capsys.readouterr().err
    monkeypatch.setenv(compose.SAID, "{}")
    assert compose.main([]) == 0


def test_a_broken_file_leaves_what_was_composed(capsys: pytest.CaptureFixture[str]) -> None:
    assert compose.main([]) == 0
    text = EFFECTIVE.read_text()
    PARAMS.write_text("datta: {}\n")
    assert compose.main([]) == 2
    assert EFFECTIVE.read_text() == text and "did you mean 'data'" in capsys.readouterr().err
