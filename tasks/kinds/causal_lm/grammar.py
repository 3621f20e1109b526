"""Answers held to a form: JSON, a JSON schema, calls of tools. By llguidance, over the package's own tokenizer.

Of the two libraries that hold a model to a grammar at the speed of decoding, llguidance needs nothing but itself and
xgrammar brings PyTorch and transformers (76 against 606 MB in a process); both take some hundredths of a millisecond
for a token, so the small one is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import DataError

# As Python and most training data write it; a small model that may put white space anywhere can go on with it for good.
STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MOST_CHARACTERS = 100_000  # of a grammar


def json_of(schema: Mapping[str, Any]) -> str:
    """The grammar of JSON that a schema allows, for use in a rule: `%json {...}`.

    >>> json_of({"type": "object"})[:14]
    '%json {"type":'
    """
    return "%json " + json.dumps({**schema, "x-guidance": STYLE})


def whole(schema: Mapping[str, Any]) -> str:
    """The grammar of an answer that is nothing but JSON of a schema; raises DataError where there is none."""
    return checked(f"start: {json_of(schema)}\n")


def checked(grammar: str) -> str:
    """The grammar as it came; raises DataError, with what is wrong, for one that cannot be held to."""
    from llguidance import LLMatcher

    if len(grammar) > MOST_CHARACTERS:
        raise DataError(f"the form of the answer has {len(grammar)} characters; at most {MOST_CHARACTERS} are taken")
    said = str(LLMatcher.validate_grammar(grammar))
    if said:
        raise DataError(f"the answer cannot be held to this form: {said.splitlines()[0]}")
    return grammar


class Grammars:
    """Makes guides over one tokenizer."""

    def __init__(self, tokenizer: Path, ends: Sequence[int]) -> None:
        """Read the folder `tokenizer`; `ends`: tokens that end a text."""
        from llguidance import LLTokenizer

        self._tokenizer: Any = LLTokenizer(str(tokenizer / "tokenizer.json"), eos_token=sorted(ends) or None)
        self._ends = sorted(ends) or list(self._tokenizer.eos_tokens)

    def guide(self, grammar: str) -> Form:
        """A guide for one answer."""
        return Form(self._tokenizer, grammar, self._ends)


class Form:
    """Holds one answer to a grammar; at its end, and where the library gives up, only an end of text may come."""

    def __init__(self, tokenizer: Any, grammar: str, ends: Sequence[int]) -> None:
        """Begin at the grammar's start; raises DataError where the tokenizer and it do not go together."""
        from llguidance import LLMatcher

        self._matcher: Any = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise DataError(f"the answer cannot be held to this form: {self._matcher.get_error()}")
        self._mask = np.zeros((tokenizer.vocab_size + 31) // 32, dtype=np.int32)
        self._ends = list(ends)

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, shape (vocabulary of the tokenizer, to the next 32)."""
        if not self._over:
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._over:
            self._mask[:] = 0
            for end in self._ends:
                self._mask[end // 32] |= np.int32(np.uint32(1 << end % 32).astype(np.int32))
        return np.unpackbits(self._mask.view(np.uint8), bitorder="little").astype(np.bool_)

    def took(self, token: int) -> None:
        """Go on with a token."""
        if not self._over:
            self._matcher.consume_token(token)

    @property
    def _over(self) -> bool:
        return bool(self._matcher.is_stopped() or self._matcher.is_error())
