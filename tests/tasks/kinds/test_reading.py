"""Texts out of rows of many forms; what is left out is counted, what cannot be used is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import DataError
from tasks.kinds import reading
from tests.tasks.sources.test_tables import BYTES

TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": [{"type": "text", "text": "So."}]}]


def test_gsm8k_has_its_rows_without_machine_annotations() -> None:
    found = reading.read_rows("gsm8k")
    assert len(found.rows) == 1319 and not found.words
    assert all(row.startswith("Question: ") and "\nAnswer: " in row for row in found.rows)
    assert not any("<<" in row for row in found.rows)


@pytest.mark.parametrize(
    ("row", "columns", "text"),
    [
        ("plain", None, "plain"),
        ({"text": "plain", "meta": "x"}, None, "plain"),
        ({"text": {"value": "inside"}}, None, "inside"),
        ({"text": ["in ", "parts"]}, None, "in parts"),
        ({"question": "q", "answer": "a"}, None, "Question: q\nAnswer: a"),
        ({"prompt": "p", "completion": "c"}, None, "Question: p\nAnswer: c"),
        ({"instruction": "i", "input": "about", "output": "o"}, None, "Question: i\nabout\nAnswer: o"),
        ({"instruction": "i", "input": "", "output": "o"}, None, "Question: i\nAnswer: o"),
        ({"query": "q", "response": "r"}, None, "Question: q\nAnswer: r"),
        ({"messages": TALK}, None, "Question: Why?\nAnswer: So."),
        ({"messages": [{"role": "system", "content": "Be."}, *TALK]}, None, "Be.\nQuestion: Why?\nAnswer: So."),
        ({"messages": [{"role": "assistant", "content": None}, *TALK]}, None, "Question: Why?\nAnswer: So."),
        (
            {"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]},
            None,
            "Question: h\nAnswer: g",
        ),
        ({"body": "b", "title": "t"}, {"text": "body"}, "b"),
        (
            {"frage": "f", "antwort": {"value": "a"}},
            {"question": "frage", "answer": "antwort"},
            "Question: f\nAnswer: a",
        ),
        ({"turns": TALK}, {"messages": "turns"}, "Question: Why?\nAnswer: So."),
        ({"text": None}, None, ""),
    ],
)
def test_the_text_of_a_row(row: Any, columns: Mapping[str, str] | None, text: str) -> None:
    assert reading.text_of(row, "here", columns) == text


@pytest.mark.parametrize(
    ("row", "columns", "words"),
    [
        ({"other": 1}, None, 'here: needs "text".*found: other. Say where the text is by data.columns'),
        ({}, None, "found: none"),
        ([1], None, "is an array; a row must be an object"),
        (5, None, "is a number"),
        (None, None, "is null"),
        ({"text": 5}, None, "as strings"),
        ({"question": "q"}, None, "found: question"),
        ({"messages": [{"content": "x"}]}, None, 'message 1 has no "role"'),
        ({"a": "x"}, {"text": "body"}, r"has no column 'body' \(data.columns\); found: a"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: Any, columns: Mapping[str, str] | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        reading.text_of(row, "here", columns)


def read(tmp_path: Path, *rows: object, columns: Mapping[str, str] | None = None) -> reading.Texts:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return reading.read_rows(str(file), columns)


def test_what_is_left_out_or_mended_is_counted(tmp_path: Path) -> None:
    found = read(
        tmp_path, {"text": "one"}, {"text": " \t\n"}, {"text": "one"}, {"text": "half \ud83d"}, {"text": "a" * 200_000}
    )
    assert found.rows == ("one", "half \ufffd", "a" * 100_000)
    assert found.words == (
        "1 rows held NUL or half of a character, which were taken out or replaced",
        "1 rows are longer than 100,000 characters and were cut there",
        "rows left out: 1 empty, 1 double",
    )


def test_the_one_column_of_text_is_taken_and_told(tmp_path: Path) -> None:
    found = read(tmp_path, {"id": 1, "sentence": "so"}, {"id": 2, "sentence": "and so"})
    assert found.rows == ("so", "and so")
    assert found.words == ("the column 'sentence' was taken for the text, the only one that holds any",)
    with pytest.raises(DataError, match="found: title, body"):
        read(tmp_path, {"title": "t", "body": "b"})


def test_a_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:2: needs"):
        read(tmp_path, {"text": "fine"}, {"other": 1})


@pytest.mark.parametrize(
    ("source", "columns", "words"),
    [
        ("no.jsonl", None, "is not there; allowed: gsm8k, or a file"),
        ("gsm8k", {"txt": "a"}, "'txt' is no role of a column; allowed: text"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(source: str, columns: Mapping[str, str] | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        reading.read_rows(source, columns)


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no row; each needs"):
        read(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=BYTES, ending=st.sampled_from([".jsonl", ".json", ".csv", ".txt"]))
def test_any_bytes_give_texts_or_words(tmp_path: Path, raw: bytes, ending: str) -> None:
    file = tmp_path / f"rows{ending}"
    file.write_bytes(raw)
    try:
        rows = reading.read_rows(str(file)).rows
    except DataError:
        return
    assert all(row.encode() and "\0" not in row for row in rows)
