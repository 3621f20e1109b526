"""A package as a function: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Arrays
from tasks.backends.table import arrays
from tasks.errors import DataError
from tasks.kinds.arrays import predicting
from tasks.kinds.base import Form, Packed, Signature
from tasks.kinds.text_encoder import checkpoint
from tasks.kinds.text_encoder.checkpoint import Encoder
from tasks.kinds.text_encoder.packing import FOLDER
from tasks.kinds.text_encoder.words import VECTOR, rows

SERVES: tuple[Form, ...] = ("texts", "tensors")
COLUMN = "text"
EXAMPLE = "What is the capital of France?"
BATCH = 32


def signature(package: Path, packed: Packed) -> Signature:
    """Tell that a column of texts goes in, and a vector for each comes out."""
    return Signature(inputs={COLUMN: "string"}, outputs={VECTOR: "float32[-1,-1]"})


def open_package(package: Path, packed: Packed) -> Embedder:
    """Load tokenizer and session."""
    session = arrays(packed.backend).arrays(package / "model", packed.threads, packed.settings)
    return Embedder(session, package / FOLDER, Encoder.read(package / FOLDER / checkpoint.FILE))


@dataclass
class Embedder:
    """Texts in, vectors out."""

    session: Arrays
    tokenizer: Path
    told: Encoder

    def predict(self, given: Any, parameters: Mapping[str, Any]) -> NDArray[Any]:
        """A vector for each text, (texts, size); tensors are texts by name, or token ids with their mask."""
        if given is None:
            return self.embed([EXAMPLE])
        if isinstance(given, Mapping):
            if COLUMN in given:
                given = given[COLUMN]
            else:
                return self.session.run(predicting.feeds(self.session, given))[VECTOR]
        return self.embed(texts(given))

    def embed(self, said: Sequence[str]) -> NDArray[Any]:
        """Vectors in the order of the texts; those of like lengths go together."""
        encoded = rows(self.tokenizer, said, self.told.max_tokens)
        order = np.argsort(encoded.arrays[encoded.mask].sum(1), kind="stable")
        found = [
            self.session.run(encoded.take(order[start : start + BATCH].tolist()))[VECTOR]
            for start in range(0, len(said), BATCH)
        ]
        vectors = np.concatenate(found)
        return vectors[np.argsort(order)]


def texts(given: Any) -> list[str]:
    """Texts of a data frame with a column `text`, one string, or a list; raises DataError for what is none."""
    if hasattr(given, "columns"):
        if COLUMN not in given.columns:
            raise DataError(f"the input has no column {COLUMN!r}; found {', '.join(map(str, given.columns))}")
        given = given[COLUMN].tolist()
    found = [given] if isinstance(given, str) else list(given)
    if not found:
        raise DataError("there is no text to embed")
    for number, text in enumerate(found):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"text {number} is {text!r}; it must be text that is not empty")
    return found
