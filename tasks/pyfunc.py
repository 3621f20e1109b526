"""The MLflow model: a verified package behind the very runtime session that was measured.

MLflow stores this file as code and runs it when the model is loaded, so nothing of it is pickled.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from tasks import config
from tasks.backends.base import Session, backend
from tasks.errors import DataError, ModelError
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest

COLUMN = "prompt"
NEW_TOKENS = 64


class Answerer:
    """Prompt in, text out: a package's tokenizer around its runtime session."""

    def __init__(self, package: Path, manifest_sha256: str | None = None) -> None:
        """Verify the package, then load it; raises ModelError for a file that is not as it was packaged."""
        verify_manifest(package, manifest_sha256)
        contents = Contents.read(package / CONTENTS)
        os.environ["HF_HUB_OFFLINE"] = "1"  # the package is whole; nothing of the hub is wanted
        from transformers import AutoTokenizer

        self._chat = contents.chat
        self._tokenizer: Any = AutoTokenizer.from_pretrained(package / "tokenizer")
        self._ends = end_tokens(package / "tokenizer", self._tokenizer.eos_token_id)
        self._session: Session = backend(contents.backend).load(
            package / "model", config.usable_cores(), "generate", contents.settings
        )

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt, put into the chat template where there is one."""
        if not self._chat:
            return list(self._tokenizer(prompt)["input_ids"])
        turn = [{"role": "user", "content": prompt}]
        text = self._tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, prompt: str, new_tokens: int) -> str:
        """The greedy continuation, up to `new_tokens` tokens or the end of the text."""
        made = self._session.generate(self.encode(prompt), new_tokens)
        return str(self._tokenizer.decode(until(made, self._ends), skip_special_tokens=True))


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


def end_tokens(tokenizer: Path, own: int | None) -> frozenset[int]:
    """Ids that end a text: the tokenizer's own and those of generation_config.json."""
    settings = tokenizer / "generation_config.json"
    try:
        stated = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id") if settings.is_file() else None
    except ValueError as error:
        raise ModelError(f"{settings} is not JSON: {error}; package the model again") from error
    listed = stated if isinstance(stated, list) else [stated]
    return frozenset(int(token) for token in (*listed, own) if token is not None)


def until(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """The tokens before the first that ends the text."""
    return list(itertools.takewhile(lambda token: token not in ends, tokens))


set_model(PackagedModel())
