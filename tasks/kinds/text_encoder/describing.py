"""Describe an encoder: its graph, and what its configuration says of its architecture."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.kinds.arrays import describing
from tasks.kinds.text_encoder.checkpoint import CONFIG
from tasks.records.model import ModelProfile


def describe(folder: Path) -> ModelProfile:
    """Describe the model in `folder`."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    sizes = {
        "layers": "num_hidden_layers", "hidden_size": "hidden_size", "heads": "num_attention_heads",
        "vocabulary": "vocab_size", "context_length": "max_position_embeddings",
    }  # fmt: skip
    known = {name: int(config[key]) for name, key in sizes.items() if isinstance(config.get(key), int)}
    named = {"architecture": config["architectures"][0], "model_type": str(config.get("model_type", ""))}
    return describing.describe(folder).model_copy(update=known | named)
