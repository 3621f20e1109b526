"""A package is loaded only as it was packaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ModelError
from tasks.registry.pyfunc import opened
from tests.tracked import SPACE, packaged


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_package_changed_inside_mlflow_is_not_loaded(tmp_path: Path) -> None:
    results = packaged()
    weights = SPACE.package / "model/openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ModelError, match=r"model/openvino_model.bin was changed"):
        opened(SPACE.package, results.package.manifest_sha256)
