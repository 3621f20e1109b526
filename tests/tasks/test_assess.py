"""The assess stage: profile, selection and one plan per variant; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import assess
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Selection
from tasks.run.workspace import Workspace
from tasks.sources.files import Source
from tests import factories
from tests.tasks.kinds.causal_lm.test_describing import LLAMA, LLAMA_SHAPES, checkpoint


def project(tmp_path: Path, **blocks: Any) -> Path:
    (tmp_path / "params.yaml").write_text(json.dumps({"variants": factories.VARIANTS, **blocks}))
    checkpoint(tmp_path / Workspace().model, LLAMA, LLAMA_SHAPES)
    Source(name="tiny", source="hub/tiny", origin="the hub", sha256="ab").write(tmp_path / Workspace().source)
    factories.hardware().write(tmp_path / Workspace().hardware)
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*.json"))}


def test_the_stage_writes_profile_selection_and_one_plan_per_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project(tmp_path))
    (Workspace().plans).mkdir(parents=True)
    Workspace().plan("gone").write_text("{}")
    assert assess.main([]) == 0
    shown = capsys.readouterr().out
    assert "frameworks for host" in shown
    assert "openvino-int8" in shown
    assert ModelProfile.read(Workspace().profile).architecture == "LlamaForCausalLM"
    assert Selection.read(Workspace().selection).ranking[0].framework == "openvino"
    assert {file.stem for file in Workspace().plans.iterdir()} == set(factories.VARIANTS), "the stale file is gone"
    assert PlanEntry.read(Workspace().plan("gguf-q8_0")).source == "variants/gguf-f16"
    first = snapshot(Workspace().root)
    assert assess.main([]) == 0
    assert snapshot(Workspace().root) == first, "unchanged input, unchanged bytes"


@pytest.mark.parametrize(
    ("blocks", "remove", "words"),
    [
        ({"assess": {"frameworks": ["mxl"]}}, None, "'mxl' is not known; did you mean 'mlx'?"),
        ({}, Workspace().hardware, "hardware.json does not exist; run the stage that writes it"),
        ({}, Workspace().model / "config.json", "has no config.json; run the fetch stage"),
    ],
)
def test_bad_input_ends_with_code_2_and_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    blocks: dict[str, Any],
    remove: Path | None,
    words: str,
) -> None:
    monkeypatch.chdir(project(tmp_path, **blocks))
    if remove is not None:
        remove.unlink()
    assert assess.main([]) == 2
    assert words in capsys.readouterr().err
    assert not Workspace().plans.exists(), "nothing half-written"
