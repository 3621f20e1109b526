"""What stands between people and a packaged model: prompts and conversations to token ids, and token ids to text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import DataError, ModelError


class Text:
    """The tokenizer of a package, with its chat template where it has one."""

    def __init__(self, folder: Path, chat: bool) -> None:
        """Read `folder`, the package's tokenizer; raises ModelError where it cannot be read."""
        os.environ["HF_HUB_OFFLINE"] = "1"  # a package is whole; nothing of the hub is wanted
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} holds no tokenizer that can be read: {error}") from error
        self.chat = chat
        self.ends = end_tokens(folder, self._tokenizer.eos_token_id)
        self.vocabulary = len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        return list(self._tokenizer(text)["input_ids"])

    def converse(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation that the model is to continue; raises DataError where the template refuses it."""
        from jinja2 import TemplateError

        if not self.chat:
            return self.encode("\n".join(message["content"] for message in messages))
        try:
            text = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise DataError(f"the model's chat template refuses these messages: {error}") from error
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token(self, number: int) -> str:
        """The text of one token, special or not."""
        return str(self._tokenizer.decode([number]))

    def unfolding(self) -> Unfolding:
        """Text of tokens as they come."""
        return Unfolding(self._tokenizer.backend_tokenizer)


class Unfolding:
    """Text of one answer, token by token; bytes of a character that is not whole yet are kept back."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a `tokenizers.Tokenizer`."""
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._stream = tokenizer, DecodeStream(skip_special_tokens=True)

    def add(self, token: int) -> str:
        """What this token adds to the text, maybe nothing yet."""
        return self._stream.step(self._tokenizer, token) or ""


def end_tokens(tokenizer: Path, own: int | None) -> frozenset[int]:
    """Ids that end a text: the tokenizer's own and those of generation_config.json."""
    settings = tokenizer / "generation_config.json"
    try:
        stated = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id") if settings.is_file() else None
    except ValueError as error:
        raise ModelError(f"{settings} is not JSON: {error}; package the model again") from error
    listed = stated if isinstance(stated, list) else [stated]
    return frozenset(int(token) for token in (*listed, own) if token is not None)
