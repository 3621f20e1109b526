"""What stands between people and a packaged model: prompts and conversations to token ids, and token ids to text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.kinds.causal_lm import templates
from tasks.kinds.causal_lm.calling import CallForm, Tool, form_of, native, plain, with_tools
from tasks.kinds.causal_lm.templates import ChatTemplate
from tasks.sources.text import mended

HELD = 8  # tokens that are kept back at most: a character has four bytes, a few tokens more may be none at all
UNFINISHED = 3  # bytes, and so tokens, of a character that is not whole
SHIELD = re.compile("\ue000(\\d+)\ue001")  # private characters, which a message may not hold
_MARKS = {0xE000: None, 0xE001: None}


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
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._config = _json(folder / "tokenizer_config.json")
        self._special = _special(self._config | _json(folder / "special_tokens_map.json"))
        self._folder, self.chat = folder, chat
        eos = self._special.get("eos_token")
        self.ends = end_tokens(folder, None if eos is None else self._tokenizer.token_to_id(eos))
        known = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self.vocabulary = min(known, rows_of_embedding(folder) or known)

    def special_tokens(self) -> tuple[tuple[str, int], ...]:
        """Tokens that mean something else than their text, the longest first, with their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        named = [(token.content, int(number)) for number, token in added.items() if token.special]
        return tuple(sorted(named, key=lambda one: -len(one[0])))

    @cached_property
    def _written(self) -> re.Pattern[str] | None:
        """Special tokens as they stand in a text; Gemma has some thousand, so it is made once."""
        special = [re.escape(token) for token, _ in self.special_tokens()]
        return re.compile("|".join(special)) if special else None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it is, special tokens in it read as such."""
        return list(self._tokenizer.encode(mended(text)[0]).ids)

    def converse(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool] = ()) -> list[int]:
        """Token ids of a conversation that the model is to continue; raises DataError where the template refuses it.

        Special tokens that somebody wrote into a message are read as the text that they are. A message may have
        `tool_calls`, or be a tool's result; `tools` are what the answer may call. Templates that know none of it are
        given it as text.
        """
        if not self.chat:
            told = with_tools(messages, [tool.stated for tool in tools]) if tools else messages
            return self.encode("\n".join(plain(message, self.calls)["content"] for message in told))
        shield = _Shield(self._written)  # over what calls say as well, whose arguments may spell anything
        told = [shield.message(one) for one in self._told(messages)]
        text = self._rendered(told, True, shield.over([tool.stated for tool in tools]))
        if not shield.written:
            return self._ids(text)
        parts = SHIELD.split(text)  # what stands between, and in every second place the number of what was written
        return [
            one
            for place, part in enumerate(parts)
            for one in (self._literal(shield.written[int(part)]) if place % 2 else self._ids(part))
        ]

    @cached_property
    def calls(self) -> CallForm:
        """How the model writes calls of tools."""
        return form_of(self._template.source if self.chat else "")

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _literal(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = True
        try:
            return self._ids(text)
        finally:
            self._tokenizer.encode_special_tokens = False

    def render(self, messages: Sequence[Mapping[str, Any]], ask: bool = True) -> str:
        """The conversation as the template writes it; `ask`: with what makes the model answer."""
        return self._rendered(self._told(messages), ask, ())

    def _rendered(self, told: Sequence[Mapping[str, Any]], ask: bool, tools: Sequence[Mapping[str, Any]]) -> str:
        """Messages in the template's own form, with tools in it or told before them."""
        if tools and not self._template.knows("tools"):
            told, tools = with_tools(told, tools), ()
        return self._template.render(told, ask, tools)

    def _told(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Messages in the form that the template knows; what is in it stays as it is."""
        knows = self._template.knows("tool_calls")
        return [native(one) if knows else plain(one, self.calls) for one in messages]

    @cached_property
    def _template(self) -> ChatTemplate:
        return templates.read(self._folder, self._config, self._special)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token(self, number: int) -> str:
        """The text of one token, special or not."""
        return str(self._tokenizer.decode([number], skip_special_tokens=False))

    def written(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens as they are written."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def unfolding(self) -> Unfolding:
        """Text of tokens as they come."""
        return Unfolding(self._tokenizer)


class _Shield:
    """Puts a numbered mark for each special token that a text holds, and keeps what each mark stands for."""

    def __init__(self, pattern: re.Pattern[str] | None) -> None:
        self._pattern = pattern
        self.written: list[str] = []

    def message(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """A message with all its texts marked, but for its role."""
        return {key: value if key == "role" else self.over(value) for key, value in told.items()}

    def over(self, value: Any) -> Any:
        """The value with all its texts marked, names among them."""
        if isinstance(value, str):
            clean = mended(value)[0].translate(_MARKS)
            return self._pattern.sub(self._mark, clean) if self._pattern else clean
        if isinstance(value, list):
            return [self.over(one) for one in value]
        if isinstance(value, Mapping):
            return {self.over(str(key)): self.over(one) for key, one in value.items()}
        return value

    def _mark(self, found: re.Match[str]) -> str:
        self.written.append(found.group())
        return f"\ue000{len(self.written) - 1}\ue001"


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
        self._tokenizer = tokenizer
        self._before: list[int] = []  # tokens shown last: some texts depend on the token before them
        self._held: list[int] = []  # not shown yet

    def add(self, token: int) -> str:
        """Return the text that this token adds, maybe none yet.

        What was shown stays as it is, also where later bytes turn a byte before them into another character.
        """
        self._held.append(token)
        if not self._added().endswith("\ufffd"):
            return self._shown(len(self._held))
        return self._shown(self._settled()) if len(self._held) >= HELD else ""

    def rest(self) -> str:
        """Return what was kept back, when no more comes."""
        return self._shown(len(self._held)) if self._held else ""

    def _settled(self) -> int:
        """How many of the tokens kept back to show: up to where a character begins that may not be whole.

        A text may hold U+FFFD itself, so that its end tells nothing; where the parts before and after give the same
        as the whole, no character is cut.
        """
        whole = self._added()
        for count in range(len(self._held) - UNFINISHED, len(self._held)):
            if self._added(count) + self._decoded(self._held[count:]) == whole:
                return count
        return len(self._held)

    def _added(self, count: int | None = None) -> str:
        known = self._decoded(self._before)
        return self._decoded(self._before + self._held[:count])[len(known) :]

    def _shown(self, count: int) -> str:
        text, shown = self._added(count), self._held[:count]
        # Tokens without a text, special ones, are no beginning before which a space would be left out.
        self._before = shown if text else (self._before + shown)[-HELD:]
        self._held = self._held[count:]
        return text

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""


def end_tokens(tokenizer: Path, own: int | None) -> frozenset[int]:
    """Ids that end a text: the tokenizer's own and those of generation_config.json."""
    stated = _json(tokenizer / "generation_config.json").get("eos_token_id")
    listed = stated if isinstance(stated, list) else [stated]
    return frozenset(int(token) for token in (*listed, own) if token is not None)


def rows_of_embedding(folder: Path) -> int:
    """How many tokens the model has a row for, by the configuration beside the tokenizer; 0 where there is none."""
    config = _json(folder / "config.json")
    inner = config.get("text_config")
    stated = config.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else None)
    return stated if isinstance(stated, int) else 0
