"""The MLflow model: a verified package behind the very runtime session that was measured.

MLflow stores this file as code and runs it when the model is loaded, so nothing of it is pickled.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from tasks import config
from tasks.backends.base import Session, backend
from tasks.errors import DataError
from tasks.models.text import Text
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest

COLUMN = "prompt"
NEW_TOKENS = 64


class Answerer:
    """Prompt in, text out: a package's tokenizer around its runtime session."""

    def __init__(self, package: Path, manifest_sha256: str | None = None) -> None:
        """Verify the package, then load it; raises ModelError for a file that is not as it was packaged."""
        verify_manifest(package, manifest_sha256)
        contents = Contents.read(package / CONTENTS)
        self._text = Text(package / "tokenizer", contents.chat)
        self._session: Session = backend(contents.backend).load(
            package / "model", config.usable_cores(), "generate", contents.settings
        )

    def answer(self, prompt: str, new_tokens: int) -> str:
        """The greedy continuation of a prompt, put into the chat template where there is one.

        Up to `new_tokens` tokens or the end of the text.
        """
        ids = self._text.converse([{"role": "user", "content": prompt}])
        return self._text.decode(until(self._session.generate(ids, new_tokens), self._text.ends))


class PackagedModel(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """What `mlflow.pyfunc.load_model` gives: a column of prompts in, a list of texts out."""

    def load_context(self, context: Any) -> None:
        """Open the package that was logged with the model."""
        settings = context.model_config or {}
        self._answerer = Answerer(Path(context.artifacts["package"]), settings.get("manifest_sha256"))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Answer every prompt; `params` may hold max_new_tokens."""
        new_tokens = int((params or {}).get("max_new_tokens", NEW_TOKENS))
        if new_tokens < 1:
            raise DataError(f"max_new_tokens is {new_tokens}; it must be 1 or more")
        return [self._answerer.answer(prompt, new_tokens) for prompt in prompts(model_input)]


def prompts(model_input: Any) -> list[str]:
    """Prompts of a data frame with a column `prompt`, a string, or a list of strings or of {"prompt": ...}."""
    if hasattr(model_input, "columns"):
        if COLUMN not in model_input.columns:
            raise DataError(f"the input has no column {COLUMN!r}; found {', '.join(map(str, model_input.columns))}")
        model_input = model_input[COLUMN].tolist()
    rows = [model_input] if isinstance(model_input, str | dict) else list(model_input)
    texts: list[Any] = [row.get(COLUMN) if isinstance(row, dict) else row for row in rows]
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise DataError(f"prompt {number} is {text!r}; it must be text that is not empty")
    return texts


def until(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """The tokens before the first that ends the text."""
    return list(itertools.takewhile(lambda token: token not in ends, tokens))


set_model(PackagedModel())
