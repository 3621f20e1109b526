"""Names of an encoder's inputs and output, and texts as its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.errors import ModelError
from tasks.kinds.arrays.rows import Rows

IDS, MASK, VECTOR = "input_ids", "attention_mask", "embedding"


def rows(folder: Path, texts: Sequence[str], longest: int) -> Rows:
    """Token ids of texts, filled up to the longest; raises ModelError where the tokenizer cannot be read."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{folder}/tokenizer.json cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    found = [one.ids for one in tokenizer.encode_batch(list(texts))]
    width = max((len(ids) for ids in found), default=1) or 1
    ids, mask = np.zeros((len(found), width), np.int64), np.zeros((len(found), width), np.int64)
    for number, row in enumerate(found):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return Rows({IDS: ids, MASK: mask}, mask=MASK)
