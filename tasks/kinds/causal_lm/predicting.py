"""A language model's package as a function: prompts in, texts out."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.backends.base import TokenSpeaker
from tasks.backends.table import tokens
from tasks.errors import DataError
from tasks.kinds.base import Form, Packed, Signature
from tasks.kinds.causal_lm.chat import Text

SERVES: tuple[Form, ...] = ("generation",)
COLUMN = "prompt"
LONGEST = "max_new_tokens"
NEW_TOKENS = 64  # of an answer, unless the caller says otherwise


def signature(package: Path, packed: Packed) -> Signature:
    """Tell what it takes and gives: a column of prompts, how many tokens to write, texts."""
    return Signature(inputs={COLUMN: "string"}, outputs={"text": "string"}, parameters={LONGEST: NEW_TOKENS})


def open_package(package: Path, packed: Packed) -> Answerer:
    """Load the tokenizer and the runtime's session; raises ModelError where the tokenizer cannot be read."""
    session = tokens(packed.backend).speaker(package / "model", packed.threads, packed.settings)
    return Answerer(Text(package / "tokenizer", packed.chat), session)


class Answerer:
    """Prompt in, text out: a package's tokenizer around its runtime session."""

    def __init__(self, text: Text, session: TokenSpeaker) -> None:
        """Join both."""
        self._text, self._session = text, session

    def answer(self, prompt: str, new_tokens: int) -> str:
        """Continue a prompt greedily, put into the chat template where there is one.

        Up to `new_tokens` tokens or the end of the text.
        """
        ids = self._text.converse([{"role": "user", "content": prompt}])
        return self._text.decode(until(self._session.generate(ids, new_tokens), self._text.ends))

    def predict(self, rows: Any, parameters: Mapping[str, Any]) -> list[str]:
        """Answer every prompt; `parameters` may hold max_new_tokens."""
        new_tokens = int(parameters.get(LONGEST, NEW_TOKENS))
        if new_tokens < 1:
            raise DataError(f"{LONGEST} is {new_tokens}; it must be 1 or more")
        return [self.answer(prompt, new_tokens) for prompt in prompts(rows)]


def prompts(rows: Any) -> list[str]:
    """Prompts of a data frame with a column `prompt`, a string, or a list of strings or of {"prompt": ...}."""
    if hasattr(rows, "columns"):
        if COLUMN not in rows.columns:
            raise DataError(f"the input has no column {COLUMN!r}; found {', '.join(map(str, rows.columns))}")
        rows = rows[COLUMN].tolist()
    given = [rows] if isinstance(rows, str | dict) else list(rows)
    texts: list[Any] = [row.get(COLUMN) if isinstance(row, dict) else row for row in given]
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise DataError(f"prompt {number} is {text!r}; it must be text that is not empty")
    return texts


def until(written: Sequence[int], ends: Collection[int]) -> list[int]:
    """The tokens before the first that ends the text."""
    return list(itertools.takewhile(lambda token: token not in ends, written))
