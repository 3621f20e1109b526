"""The MLflow model: a verified package behind the very runtime session that was measured.

MLflow stores this file as code and runs it when the model is loaded, so nothing of it is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from tasks.kinds.base import Predictor
from tasks.kinds.table import predicting
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.packaging.opening import packed


def opened(package: Path, manifest_sha256: str | None = None) -> Predictor:
    """Verify the package, then load it; raises ModelError for a file that is not as it was packaged."""
    verify_manifest(package, manifest_sha256)
    contents = Contents.read(package / CONTENTS)
    return predicting(contents.kind).open_package(package, packed(contents))


class PackagedModel(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """The model that `mlflow.pyfunc.load_model` gives."""

    def load_context(self, context: Any) -> None:
        """Open the package that was logged with the model."""
        settings = context.model_config or {}
        self._predictor = opened(Path(context.artifacts["package"]), settings.get("manifest_sha256"))

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer every row, as the model's kind does."""
        return self._predictor.predict(model_input, params or {})


set_model(PackagedModel())
