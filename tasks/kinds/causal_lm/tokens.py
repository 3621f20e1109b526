"""Text to token ids and back, by the model's own tokenizer and without any framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def encoder(model: Path, special: bool = True) -> Callable[[str], list[int]]:
    """Text to token ids; `special`: with the tokens that the tokenizer adds at its ends."""
    tokenizer = _tokenizer(model)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=special).ids)


def decoder(model: Path) -> Callable[[Sequence[int]], str]:
    """Token ids to text, special tokens left out."""
    tokenizer = _tokenizer(model)
    return lambda ids: str(tokenizer.decode(list(ids)))


def _tokenizer(model: Path) -> Any:
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(model / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    return made
