"""The registered model: MLflow loads this file and the package beside it, and asks for answers to prompts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

MAX_NEW_TOKENS = 64


class PackagedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A package folder behind MLflow's predict, through the session that was measured."""

    def load_context(self, context: Any) -> None:
        """Check every file against the manifest, then open model and tokenizer."""
        from tasks.backends.base import backend
        from tasks.config import usable_cores
        from tasks.packaging.manifest import verify_manifest

        os.environ["HF_HUB_OFFLINE"] = "1"
        package = Path(context.artifacts["package"])
        verify_manifest(package)
        about = json.loads((package / "package.json").read_text())
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(package / "tokenizer")
        self._session = backend(about["backend"]).load(package / "model", usable_cores(), "generate")

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """Answer each prompt; `model_input` is a frame with a column `prompt`, params may hold `max_new_tokens`."""
        wanted = int((params or {}).get("max_new_tokens", MAX_NEW_TOKENS))
        prompts = model_input["prompt"] if isinstance(model_input, pd.DataFrame) else model_input
        return [self._answer(str(prompt), wanted) for prompt in prompts]

    def _answer(self, prompt: str, new_tokens: int) -> str:
        if self._tokenizer.chat_template:
            message = [{"role": "user", "content": prompt}]
            text = self._tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
            ids = self._tokenizer(text, add_special_tokens=False).input_ids
        else:
            ids = self._tokenizer(prompt).input_ids
        made = self._session.generate(ids, new_tokens)
        end = self._tokenizer.eos_token_id
        kept = made[: made.index(end)] if end in made else made
        return str(self._tokenizer.decode(kept, skip_special_tokens=True))


mlflow.models.set_model(PackagedModel())
