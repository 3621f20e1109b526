"""Tasks a small language model can do: choose the right continuation among some, and answer prompts in words.

Made from the data source itself, or read from the user's JSONL file.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import model_validator

from tasks.errors import DataError
from tasks.kinds.causal_lm.rows import Encode, no_more_than
from tasks.params.pipeline import Data
from tasks.records.base import Record
from tasks.sources import tables
from tasks.sources.text import mended

CHOICES = 4  # the right answer and three of other questions
ANSWER = "\nAnswer:"  # where a question ends and its worked answer begins
FEWEST = 10  # items below which choosing says nothing


class ChoiceItem(Record):
    """A prompt and its continuations, as token ids; `answer` is the index of the right one."""

    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    answer: int

    @model_validator(mode="after")
    def _whole(self) -> ChoiceItem:
        if not self.prompt or len(self.choices) < 2 or not all(self.choices):
            raise ValueError("needs a prompt and at least two choices, none of them empty")
        if not 0 <= self.answer < len(self.choices):
            raise ValueError(f"answer {self.answer} is none of the {len(self.choices)} choices")
        return self


class OpenItem(Record):
    """A prompt to be answered in words; `expected` is the user's own answer, where there is one."""

    text: str
    prompt: tuple[int, ...]
    expected: str = ""


class TaskSet(Record):
    """Choices and prompts that every runtime is asked beside the running text."""

    source: str
    choices: tuple[ChoiceItem, ...] = ()
    looks: tuple[int, ...] = (0,)  # numbers of choices, growing, at which it is asked whether the gates are decided
    open: tuple[OpenItem, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """Encode prompts and their continuations as token ids: only what begins a text has the special tokens."""

    begin: tuple[int, ...]  # special tokens before any text
    encode: Encode  # adds none

    def prompt(self, text: str, longest: int | None = None) -> tuple[int, ...]:
        """The text from its begin, or its last `longest` tokens, after the special ones."""
        ids = self.encode(text)
        return (*self.begin, *(ids if longest is None else ids[-longest:]))

    def ending(self, text: str, longest: int) -> tuple[int, ...]:
        """The first tokens of what follows a prompt."""
        return tuple(self.encode(text)[:longest])


def task_set(texts: Sequence[str], encoder: Encoder, params: Data) -> TaskSet:
    """Items from the user's file, else made from `texts`, which must hold nothing a quantizer was calibrated on."""
    if params.tasks is not None:
        return read_tasks(Path(params.tasks).expanduser(), encoder, params)
    pairs = [halves(text) for text in texts]
    choices = choice_items(pairs, encoder, params)
    return TaskSet(
        source=params.source,
        choices=choices,
        looks=no_more_than(len(choices), params.looks(params.choices)),
        open=tuple(OpenItem(text=text, prompt=encoder.prompt(text)) for text, _ in pairs[: params.answers]),
    )


def halves(text: str) -> tuple[str, str]:
    """Prompt and continuation: at the answer of a question, else at the space nearest to the middle.

    >>> halves("Question: How many?\\nAnswer: Two of them.")
    ('Question: How many?\\nAnswer:', ' Two of them.')
    >>> halves("one two three four")
    ('one two', ' three four')
    """
    if ANSWER in text:
        prompt, answer = text.split(ANSWER, 1)
        return prompt + ANSWER, answer
    middle = len(text) // 2
    at = min((i for i, c in enumerate(text) if c.isspace()), key=lambda i: abs(i - middle), default=middle)
    return text[:at], text[at:]


def choice_items(pairs: Sequence[tuple[str, str]], encoder: Encoder, params: Data) -> tuple[ChoiceItem, ...]:
    """For each prompt its own continuation among those of three other prompts, in an order fixed by the seed.

    Prompts keep their last tokens, continuations their first. Too few texts give no items.
    """
    wanted = params.looks(params.choices)[-1]
    encoded = [
        (encoder.prompt(prompt, params.choice_prompt_tokens), encoder.ending(answer, params.choice_tokens))
        for prompt, answer in pairs[: max(wanted, CHOICES)]
    ]
    usable = [(prompt, answer) for prompt, answer in encoded if prompt and answer]
    if len(usable) < max(FEWEST, CHOICES) or not params.choices:
        return ()
    dice = random.Random(params.seed)  # noqa: S311 - reproducible, no secret
    made = []
    for i, (prompt, right) in enumerate(usable[:wanted]):
        others = sorted({answer for j, (_, answer) in enumerate(usable) if j != i and answer != right})
        if len(others) < CHOICES - 1:
            continue
        options = [right, *dice.sample(others, CHOICES - 1)]
        dice.shuffle(options)
        made.append(ChoiceItem(prompt=prompt, choices=tuple(options), answer=options.index(right)))
    return tuple(made)


def read_tasks(path: Path, encoder: Encoder, params: Data) -> TaskSet:
    """The user's tasks, a JSON object a line: prompt, choices and answer, or prompt and reference.

    `answer` is the right choice's index, from 0, or its text. Raises DataError naming the bad row and the reason.
    """
    if not path.is_file():
        raise DataError(f"data.tasks {str(path)!r} is not there; give a .jsonl file, or null for tasks from the source")
    choices, answers = [], []
    for where, row in tables.read(path).rows:
        item = _item(row, where, encoder, params)
        if isinstance(item, ChoiceItem):
            choices.append(item)
        else:
            answers.append(item)
    if not choices and not answers:
        raise DataError(f"{path} holds no task; each line must be an object with prompt, choices and answer")
    return TaskSet(source=str(path), choices=tuple(choices), looks=(len(choices),), open=tuple(answers))


def _item(row: Any, where: str, encoder: Encoder, params: Data) -> ChoiceItem | OpenItem:
    allowed = '{"prompt", "choices", "answer"} or {"prompt", "reference"}'
    row = _mended(row)
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise DataError(f'{where}: needs "prompt" as a string that is not empty; allowed: {allowed}')
    unknown = set(row) - {"prompt", "choices", "answer", "reference"}
    if unknown or ("choices" in row) == ("reference" in row):
        said = f"unknown key {sorted(unknown)[0]!r}" if unknown else 'needs either "choices" or "reference"'
        raise DataError(f"{where}: {said}; allowed: {allowed}")
    prompt = encoder.prompt(row["prompt"])
    longest = params.max_tokens
    if len(prompt) > longest:
        raise DataError(f"{where}: the prompt has {len(prompt)} tokens, data.max_tokens allows {longest}")
    if "reference" in row:
        if not isinstance(row["reference"], str):
            raise DataError(f'{where}: "reference" must be a string')
        return OpenItem(text=row["prompt"], prompt=prompt, expected=row["reference"])
    options = row["choices"]
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) and o for o in options):
        raise DataError(f'{where}: "choices" must be a list of at least two strings, none of them empty')
    answer = row.get("answer")
    right = options.index(answer) if isinstance(answer, str) and answer in options else answer
    if not isinstance(right, int) or isinstance(right, bool) or not 0 <= right < len(options):
        raise DataError(f'{where}: "answer" is {answer!r}; it must be one of the choices, or its index from 0')
    encoded = tuple(encoder.ending(option, longest) for option in options)
    return ChoiceItem(prompt=prompt, choices=encoded, answer=right)


def _mended(row: Any) -> Any:
    """The row with its texts without what cannot be written."""
    if not isinstance(row, dict):
        return row
    clean = {
        key: [_text(one) for one in value] if isinstance(value, list) else _text(value) for key, value in row.items()
    }
    return clean


def _text(value: Any) -> Any:
    return mended(value)[0] if isinstance(value, str) else value
