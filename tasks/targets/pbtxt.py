"""Protobuf's text format: messages written and read back without their descriptors, and checked against known fields.

A message is a mapping of field names to values; a value that is a list stands for a repeated field. What is read has a
list for every field, as the text alone does not tell which of them repeat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Scalar: TypeAlias = "str | int | float | bool"
Value: TypeAlias = "Scalar | Mapping[str, Any] | Sequence[Any]"
Message: TypeAlias = "Mapping[str, Any]"
Read: TypeAlias = "dict[str, list[Any]]"  # what was parsed: every field a list

TOKENS = re.compile(
    r"(?P<skip>\s+|#[^\n]*)|(?P<text>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])|(?P<word>[A-Za-z_][\w.]*)|(?P<sign>[{}\[\]:,;<>/])"
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


class Word(str):
    """The name of an enum's value, which is written without quotes."""

    __slots__ = ()


@dataclass(frozen=True)
class Field:
    """What a field may hold: `of` is a type, the names of an enum, or the fields of a message; None: anything."""

    of: type | tuple[str, ...] | Mapping[str, Field] | None
    repeated: bool = False
    required: bool = False


def written(message: Message, indent: int = 0) -> str:
    """The message as text, a field a line, in the order it is given.

    >>> print(written({"name": "a", "kind": Word("KIND_CPU"), "dims": [1, -1], "policy": {"decoupled": True}}), end="")
    name: "a"
    kind: KIND_CPU
    dims: [1, -1]
    policy {
      decoupled: true
    }
    """
    lines, pad = list[str](), "  " * indent
    for name, value in message.items():
        for one in _each(value):
            if isinstance(one, Mapping):
                lines.append(f"{pad}{name} {{\n{written(one, indent + 1)}{pad}}}\n")
            else:
                lines.append(f"{pad}{name}: {_scalar(one)}\n")
    return "".join(lines)


def _each(value: Value) -> Sequence[Any]:
    """What is written one by one: messages and texts of a list, or a list of numbers as one."""
    if isinstance(value, Mapping | str) or not isinstance(value, Sequence):
        return [value]
    return value if any(isinstance(one, Mapping | str) for one in value) else [value]


def _scalar(value: Any) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # its escapes for what occurs here are protobuf's, too
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence):
        return f"[{', '.join(_scalar(one) for one in value)}]"
    return str(value)


def parsed(text: str) -> Read:
    """The message in a text; raises ValueError with the line for what is no text format."""
    return _Reader(text).message("")


class _Reader:
    """Tokens of a text, one after the other."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def message(self, end: str) -> Read:
        """Fields up to the closing sign, or to the end of the text."""
        found: Read = {}
        while True:
            kind, piece, line = self._next()
            if piece == end and kind in ("sign", "end"):
                return found
            if piece in (",", ";") and found:
                continue
            if kind == "word":
                name = piece
            elif piece == "[":
                name = self._extension()
            else:
                raise ValueError(f"line {line}: a field's name was expected, not {piece or 'the end'!r}")
            found.setdefault(name, []).extend(self._values())

    def _extension(self) -> str:
        """The name in square brackets of an extension or of the type in an Any."""
        parts = list[str]()
        while True:
            kind, piece, line = self._next()
            if piece == "]":
                return f"[{''.join(parts)}]"
            if kind not in ("word", "sign") or piece in "{}<>:":
                raise ValueError(f"line {line}: {piece or 'the end'!r} in the name of an extension")
            parts.append(piece)

    def _values(self) -> list[Any]:
        _, piece, line = self._peek()
        if piece == ":":
            self._next()
        elif piece not in ("{", "<", "["):
            raise ValueError(f"line {line}: ':' or '{{' was expected, not {piece or 'the end'!r}")
        if self._peek()[1] != "[" or self._peek()[0] != "sign":
            return [self._value()]
        self._next()
        found = list[Any]()
        while True:
            if self._peek()[1] == "]":
                self._next()
                return found
            found.append(self._value())
            _, after, line = self._peek()
            if after == ",":
                self._next()
            elif after != "]":
                raise ValueError(f"line {line}: ',' or ']' was expected, not {after or 'the end'!r}")

    def _value(self) -> Any:
        kind, piece, line = self._next()
        if kind == "sign" and piece in ("{", "<"):
            return self.message({"{": "}", "<": ">"}[piece])
        if kind == "text":
            while self._peek()[0] == "text":  # texts beside each other are one
                piece = piece[:-1] + piece[-1] + self._next()[1]
            return "".join(_unquoted(one) for one in re.findall(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", piece))
        if kind == "number":
            return float(piece) if re.search(r"[.eE]", piece) else int(piece)
        if kind == "word":
            return {"true": True, "false": False}.get(piece, Word(piece))
        raise ValueError(f"line {line}: a value was expected, not {piece or 'the end'!r}")

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at]

    def _next(self) -> tuple[str, str, int]:
        found = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return found


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at, line = 0, 1
    while at < len(text):
        match = TOKENS.match(text, at)
        if match is None:
            raise ValueError(f"line {line}: {text[at : at + 10]!r} is no part of the text format")
        if match.lastgroup and match.lastgroup != "skip":
            yield match.lastgroup, match.group(), line
        line += match.group().count("\n")
        at = match.end()
    yield "end", "", line


def _unquoted(piece: str) -> str:
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found.group(1), found.group(1)), piece[1:-1])


def fault(message: Read, known: Mapping[str, Field], where: str = "") -> str:
    """What is wrong with the fields of a parsed message, in words; empty where nothing is."""
    for name, values in message.items():
        place = f"{where}.{name}" if where else name
        if name not in known:
            return f"{place} is no field that is known here; allowed: {', '.join(sorted(known))}"
        field = known[name]
        if len(values) > 1 and not field.repeated:
            return f"{place} is given {len(values)} times, and is no repeated field"
        for value in values:
            if wrong := _value_fault(value, field, place):
                return wrong
    gone = [name for name, field in known.items() if field.required and not message.get(name)]
    return f"{where or 'the file'} lacks {', '.join(gone)}" if gone else ""


def _value_fault(value: Any, field: Field, place: str) -> str:
    if field.of is None:
        return ""
    if isinstance(field.of, Mapping):
        return fault(value, field.of, place) if isinstance(value, dict) else f"{place} is no message: {value!r}"
    if isinstance(field.of, tuple):
        good = isinstance(value, Word) and value in field.of
        return "" if good else f"{place}: {value!r} is not known; allowed: {', '.join(field.of)}"
    if field.of is float and type(value) is int:
        return ""
    return "" if type(value) is field.of else f"{place}: {value!r} is no {field.of.__name__}"
