"""Each kind of model goes through every stage, to a model in the registry that answers as the artifact does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport
from tasks.registry.receipts import Tracked
from tasks.run.workspace import Workspace
from tests.through_stages import go

pytestmark = pytest.mark.model
QUICK = {
    "profile": "quick", "profiles.quick.benchmark.rounds": 1, "profiles.quick.benchmark.soak_s": 0.2,
    "profiles.quick.benchmark.max_others_cores": 64.0,
}  # fmt: skip


def metrics(variant: str) -> dict[str, Any]:
    rows = {row.variant: row for row in Recommendation.read(Workspace().recommendation).rows}
    return {name: one.value for name, one in rows[variant].metrics.items() if one.value is not None}


def registered() -> Any:
    import mlflow

    tracked = Tracked.read(Workspace().tracked)
    return mlflow.pyfunc.load_model(f"models:/{tracked.model_name}/{tracked.version}")


def outcomes() -> dict[str, str]:
    return {one.variant: one.outcome for one in GateReport.read(Workspace().verdicts).verdicts}


def test_digits_are_classified_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, monkeypatch, QUICK | {"fetch.model": "digits"})
    assert outcomes()["onnx-int8"] == "pass"
    found = metrics("onnx-int8")
    assert found["top1"] > 0.9
    assert found["agreement"] >= 0.95
    assert found["artifact_share"] < 0.5
    from tasks.kinds.image_classifier import digits

    images, classes = digits.pictures()
    scores = registered().predict({"image": images[-50:]})
    assert (np.asarray(scores).argmax(1) == classes[-50:]).mean() > 0.9


def test_minilm_finds_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, monkeypatch, QUICK | {"fetch.model": "minilm", "profiles.quick.data.evaluation_rows": 60})
    passed = [name for name, outcome in outcomes().items() if outcome == "pass"]
    assert {"onnx-int8", "openvino-int8"} & set(passed)
    found = metrics("openvino-int8")
    assert found["recall_5"] > 0.8
    assert found["neighbours_10"] > 0.8
    texts = pd.DataFrame({"text": ["a red apple", "an apple that is red", "the stock market fell"]})
    vectors = np.asarray(registered().predict(texts))
    likeness = vectors @ vectors.T
    assert vectors.shape == (3, 384)
    assert likeness[0, 1] > 0.8 > likeness[0, 2] + 0.3


def test_an_onnx_file_is_quantized_and_stays_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import magika

    file = Path(magika.__file__).parent / "models" / "standard_v3_3" / "model.onnx"
    np.savez(tmp_path / "inputs.npz", bytes=file_beginnings(200))
    go(
        tmp_path, monkeypatch, QUICK | {"fetch.model": str(file), "data.source": str(tmp_path / "inputs.npz")}
    )  # fmt: skip
    found = metrics("openvino-int8")
    assert found["agreement"] > 0.9
    assert found["artifact_share"] < 0.6
    assert metrics("onnx-int8")["rows_per_s"] > 0


def file_beginnings(count: int) -> np.ndarray:
    """Beginnings and ends of this environment's files, as magika takes them: 2,048 bytes."""
    import sysconfig

    files = sorted(Path(sysconfig.get_paths()["purelib"]).glob("numpy/**/*.*"))
    rows = []
    for file in files[:: max(1, len(files) // (2 * count))]:
        data = file.read_bytes() if file.is_file() else b""
        if len(data) > 2048:
            parts = [np.frombuffer(part, np.uint8).astype(np.int32) for part in (data[:1024], data[-1024:])]
            rows.append(np.concatenate(parts))
    return np.stack(rows[:count])
