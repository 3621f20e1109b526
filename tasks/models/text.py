"""What stands between people and a packaged model: prompts and conversations to token ids, and token ids to text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.errors import DataError, ModelError


class Text:
    """The tokenizer of a package, with its chat template where it has one.

    By `tokenizers` and Jinja alone: transformers brings PyTorch, hundreds of megabytes beside a small model.
    """

    def __init__(self, folder: Path, chat: bool) -> None:
        """Read `folder`, the package's tokenizer; raises ModelError where it cannot be read."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # of its own kind, and of no class in particular
            raise ModelError(f"{folder} holds no tokenizer that can be read: {error}") from error
        self._config = _json(folder / "tokenizer_config.json")
        self._special = _special(self._config | _json(folder / "special_tokens_map.json"))
        self._folder, self.chat = folder, chat
        eos = self._special.get("eos_token")
        self.ends = end_tokens(folder, None if eos is None else self._tokenizer.token_to_id(eos))
        self.vocabulary = int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        return list(self._tokenizer.encode(text).ids)

    def converse(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation that the model is to continue; raises DataError where the template refuses it."""
        if not self.chat:
            return self.encode("\n".join(message["content"] for message in messages))
        try:
            text = self._template.render(messages=list(messages), add_generation_prompt=True, **self._special)
        except TemplateError as error:
            raise DataError(f"the model's chat template refuses these messages: {error}") from error
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _template(self) -> Template:
        """The chat template, in a sandbox: it came with the model."""
        file, stated = self._folder / "chat_template.jinja", self._config.get("chat_template")
        if isinstance(stated, list):  # several by name
            stated = next((one["template"] for one in stated if one.get("name") == "default"), None)
        source = file.read_text(encoding="utf-8") if file.is_file() else stated
        if not isinstance(source, str):
            raise ModelError(f"{self._folder} holds no chat template")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        try:
            return environment.from_string(source)
        except TemplateError as error:
            raise ModelError(f"the chat template in {self._folder} cannot be read: {error}") from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token(self, number: int) -> str:
        """The text of one token, special or not."""
        return str(self._tokenizer.decode([number], skip_special_tokens=False))

    def unfolding(self) -> Unfolding:
        """Text of tokens as they come."""
        return Unfolding(self._tokenizer)


class Generation(Extension):
    """Templates mark what the assistant says by a `generation` block; here its content is all that counts."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Any) -> Any:
        """The nodes inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(why: str) -> None:
    raise TemplateError(why)


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _json(file: Path) -> dict[str, Any]:
    """A settings file; empty where there is none. Raises ModelError for one that is not JSON."""
    try:
        read = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}; package the model again") from error
    return read if isinstance(read, dict) else {}


def _special(config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name, stated as texts or as records.

    >>> _special({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None, "model_max_length": 9})
    {'bos_token': '<s>', 'eos_token': '</s>'}
    """
    named = {name: value for name, value in config.items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()}
    return {name: value for name, value in texts.items() if isinstance(value, str)}


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
    stated = _json(tokenizer / "generation_config.json").get("eos_token_id")
    listed = stated if isinstance(stated, list) else [stated]
    return frozenset(int(token) for token in (*listed, own) if token is not None)
