"""Calibration texts for Olive's passes, registered by the name Olive's data configuration refers to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from olive.data.registry import Registry

TOKENS = 256


class Texts(torch.utils.data.Dataset[tuple[dict[str, Any], int]]):  # type: ignore[misc]
    """Tokenized texts of one length each; shape (tokens,) per field."""

    def __init__(self, model: str, path: str) -> None:
        """Read a JSON list of texts and tokenize it by the checkpoint's own tokenizer."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self._ids = [tokenizer.encode(text).ids[:TOKENS] for text in json.loads(Path(path).read_text())]

    def __len__(self) -> int:
        """Count texts."""
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        """Input ids and an all-ones mask; Olive wants a label, which weight quantization ignores."""
        ids = torch.tensor(self._ids[index], dtype=torch.long)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 0


@Registry.register_dataset(name="edgewright_texts")  # type: ignore[untyped-decorator]
def edgewright_texts(data_dir: str | None = None, model: str = "", path: str = "", **_: Any) -> Texts:
    """Build the dataset from Olive's load_dataset_config."""
    return Texts(model, path)
