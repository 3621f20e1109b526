"""What belongs into a language model's package beside the model: its tokenizer, as it came."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tasks.errors import DataError

TOKENIZER = "tokenizer"  # folder inside a package
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json", "config.json",
)  # fmt: skip


def companions(model: Path, out: Path) -> None:
    """Copy the tokenizer into the package's folder `out`; raises DataError when the checkpoint has none."""
    if not (model / "tokenizer.json").is_file():
        raise DataError(f"{model} has no tokenizer.json; run `dvc repro --force fetch`")
    (out / TOKENIZER).mkdir()
    for name in TOKENIZER_FILES:
        if (model / name).is_file():
            shutil.copy2(model / name, out / TOKENIZER / name)


def converses(model: Path) -> bool:
    """Tell whether the tokenizer brings a chat template."""
    settings = model / "tokenizer_config.json"
    inside = settings.is_file() and bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))
    return inside or (model / "chat_template.jinja").is_file()
