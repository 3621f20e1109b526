"""Protobuf's text format written, read back, and checked."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.targets.pbtxt import Field, Word, fault, parsed, written

KNOWN = {
    "name": Field(str, required=True),
    "size": Field(int),
    "share": Field(float),
    "kind": Field(("KIND_CPU", "KIND_GPU")),
    "on": Field(bool),
    "dims": Field(int, repeated=True),
    "part": Field({"key": Field(str, required=True)}, repeated=True),
}


def test_what_is_written_is_read_back() -> None:
    text = 'a "quote", a \\ and\na line with ü'
    given = {
        "name": text,
        "kind": Word("KIND_CPU"),
        "dims": [1, -1],
        "share": 0.5,
        "on": True,
        "part": [{"key": "a"}, {}],
    }
    assert parsed(written(given)) == {
        "name": [text], "kind": ["KIND_CPU"], "dims": [1, -1], "share": [0.5], "on": [True],
        "part": [{"key": ["a"]}, {}],
    }  # fmt: skip


@pytest.mark.parametrize(("text", "found"), [
    ("a: 1 # said\nb: 'x' \"y\"", {"a": [1], "b": ["xy"]}),
    ("a { b: { c: TYPE_X } } a <b: 1>", {"a": [{"b": [{"c": ["TYPE_X"]}]}, {"b": [1]}]}),
    ("a: [1, 2], a: 3; b [ {c: 1}, {} ]", {"a": [1, 2, 3], "b": [{"c": [1]}, {}]}),
    ("[type.googleapis.com / x.Y]: { a: -1.5e3 }", {"[type.googleapis.com/x.Y]": [{"a": [-1500.0]}]}),
    ("a: []", {"a": []}),
    ("", {}),
])  # fmt: skip
def test_forms_that_the_format_allows(text: str, found: dict[str, list[Any]]) -> None:
    assert parsed(text) == found


@pytest.mark.parametrize(("text", "words"), [
    ("a: 1\nb { c: 2", "line 2: a field's name was expected, not 'the end'"),
    ("a: 1 }", "line 1: a field's name was expected, not '}'"),
    ("a\n1", "line 2: ':' or '{' was expected, not '1'"),
    ("a: [1 2]", "',' or ']' was expected, not '2'"),
    ("a: [1,", "a value was expected, not 'the end'"),
    ("a: ", "a value was expected"),
    ('a: "open', "is no part of the text format"),
    ("[a.b: 1", "in the name of an extension"),
])  # fmt: skip
def test_what_is_no_text_format_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="line") as caught:
        parsed(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [
    ('name: "a" size: 1 share: 1 kind: KIND_GPU dims: [1, 2] dims: 3 part { key: "b" }', ""),
    ('name: "a" colour: 1', "colour is no field that is known here; allowed: dims, kind,"),
    ('name: "a" name: "b"', "name is given 2 times, and is no repeated field"),
    ("size: 1", "the file lacks name"),
    ('name: "a" part { }', "part lacks key"),
    ('name: "a" part { key: "b" other: 1 }', "part.other is no field"),
    ('name: "a" part: 1', "part is no message: 1"),
    ('name: "a" kind: KIND_NPU', "kind: 'KIND_NPU' is not known; allowed: KIND_CPU, KIND_GPU"),
    ('name: "a" kind: "KIND_CPU"', "kind: 'KIND_CPU' is not known"),
    ("name: a", "name: 'a' is no str"),
    ('name: "a" size: true', "size: True is no int"),
])  # fmt: skip
def test_fields_are_checked(text: str, words: str) -> None:
    found = fault(parsed(text), KNOWN)
    assert words in found if words else found == ""
