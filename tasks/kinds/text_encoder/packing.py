"""What belongs beside an encoder: its tokenizer, and how texts become vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.errors import DataError
from tasks.kinds.arrays.packing import converses as converses
from tasks.kinds.text_encoder import checkpoint

FOLDER = "tokenizer"
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json", checkpoint.FILE)


def companions(model: Path, out: Path) -> None:
    """Copy the tokenizer and the encoder's record into the package's folder `out`; raises DataError without them."""
    absent = [name for name in ("tokenizer.json", checkpoint.FILE) if not (model / name).is_file()]
    if absent:
        raise DataError(f"{model} has no {absent[0]}; run `dvc repro --force fetch`")
    (out / FOLDER).mkdir()
    for name in FILES:
        if (model / name).is_file():
            shutil.copy2(model / name, out / FOLDER / name)
