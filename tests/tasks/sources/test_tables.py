"""Rows from files as other tools write them; any bytes give rows or words."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import DataError
from tasks.sources import tables

A, B = {"text": "one"}, {"text": "two, with a comma"}


def values(path: Path, raw: bytes | str) -> list[object]:
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return [value for _, value in tables.read(path).rows]


@pytest.mark.parametrize(
    ("name", "raw", "rows"),
    [
        ("a.jsonl", '{"text": "one"}\n{"text": "two, with a comma"}\n', [A, B]),
        ("a.JSONL", '{"text": "one"}\r\n\r\n{"text": "two, with a comma"}', [A, B]),
        ("a.ndjson", '"plain"\n', ["plain"]),
        ("a.jsonl", '{"text": "a\u2028b\u2029c\x85d"}\n', [{"text": "a\u2028b\u2029c\x85d"}]),
        ("a.jsonl", json.dumps([A, B], indent=1), [A, B]),
        ("a.json", json.dumps({"version": 1, "data": [A, B]}), [A, B]),
        ("a.json", '{"text": "one"}\n{"text": "two, with a comma"}', [A, B]),
        ("a.json", json.dumps({"messages": [{"role": "user", "content": "x"}]}),
         [{"messages": [{"role": "user", "content": "x"}]}]),
        ("a.csv", 'text,n\none,1\n"two, with a comma",2\n\n', [A | {"n": "1"}, B | {"n": "2"}]),
        ("a.csv", 'text;n\n"a ""quoted"" cell\nof two lines";1\n', [{"text": 'a "quoted" cell\nof two lines',
                                                                        "n": "1"}]),
        ("a.tsv", "text\tn\none, two\t1\n", [{"text": "one, two", "n": "1"}]),
        ("a.txt", "first\nline\n\n \n\nsecond\n\n", ["first\nline", "second"]),
        ("a.txt", "each\nis a row", ["each", "is a row"]),
        ("a.md", "alone", ["alone"]),
        ("a.jsonl", "", []),
    ],
)  # fmt: skip
def test_rows_of_each_form(tmp_path: Path, name: str, raw: str, rows: list[object]) -> None:
    assert values(tmp_path / name, raw) == rows


def test_parquet(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([A, B]), tmp_path / "a.parquet")
    assert [value for _, value in tables.read(tmp_path / "a.parquet").rows] == [A, B]


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("a.jsonl", '{"text": "fine"}\n{broken\n', r"a.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "cut', r"a.jsonl:1: not JSON"),
        ("a.jsonl", "[" * 100_000, "nested too deep"),
        ("a.jsonl", "1" * 10_000, "not JSON"),
        ("a.csv", "text,n\na,b,c\n", r"a.csv:2: 3 cells, the header has 2"),
        ("a.csv", "text,text\na,b\n", "two columns have one name"),
        ("a.csv", 'text\n"open', "not CSV"),
        ("a.parquet", "PAR1 but no more", "not a Parquet file, or is damaged"),
        ("a.jsonl.gz", "x", "is packed; unpack it"),
        ("a.xlsx", "x", r"the ending .xlsx is not known; allowed: .jsonl"),
        ("rows", "x", "the ending is missing, it is not known"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, raw: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        values(tmp_path / name, raw)


def test_a_file_that_is_not_there_and_one_that_is_far_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "no.jsonl", tmp_path):
        with pytest.raises(DataError, match=r"is not there, or is no file; allowed"):
            tables.read(path)
    monkeypatch.setattr(tables, "MOST_MB", 0.00001)
    with pytest.raises(DataError, match="give a part of it"):
        values(tmp_path / "a.txt", "some twenty characters")


PIECES = (
    '{"text": "', '"}', "\n", "\r", "[", "]", ",", '"', ";", "a", "\0", "\\ud83d", "\u2028", "PAR1", "1e999", "NaN",
)  # fmt: skip
ODD = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\xed\xa0\xbd")
BYTES = st.binary(max_size=80) | st.lists(
    st.sampled_from([*(piece.encode() for piece in PIECES), *ODD]), max_size=12
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize("ending", tables.ENDINGS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=BYTES)
def test_any_bytes_give_rows_or_words(tmp_path: Path, ending: str, raw: bytes) -> None:
    try:
        values(tmp_path / f"a{ending}", raw)
    except DataError as error:
        assert f"a{ending}" in str(error)
