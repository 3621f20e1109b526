"""The Great Expectations suite over the prepared data."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
import pytest

from tasks.errors import DataError
from tasks.gates.data_checks import COLUMNS, DataCheck, check_data, require_clean

Row = tuple[str, Any, Any]
GOOD: list[Row] = [
    ("evaluation", "How many eggs are left?", 8),
    ("evaluation", "Each box holds\n\n  twelve.", 256),
    ("calibration", "A train leaves at noon.", 30),
]


def frame(*rows: Row, **columns: list[Any]) -> pd.DataFrame:
    made = [
        {"split": split, "text": text, "size": tokens, "sha256": hashlib.sha256(str(text).encode()).hexdigest()}
        for split, text, tokens in rows
    ]
    return pd.DataFrame(made, columns=list(COLUMNS)).assign(**columns)


def checked(data: pd.DataFrame) -> DataCheck:
    return check_data(data, (8, 256), "tokens", (2, 1))


def failed(check: DataCheck) -> set[str]:
    return {line.name for line in check.lines if not line.passed}


def test_clean_data_passes_with_a_line_for_everything_checked() -> None:
    found = checked(frame(*GOOD))
    assert found.passed
    assert found.counts == {"evaluation": 2, "calibration": 1}
    names = {line.name for line in found.lines}
    assert {"text is not empty", "no text twice in a split", "no text in both splits"} <= names
    assert {"tokens between 8 and 256", "at least 2 evaluation rows", "at least 1 calibration rows"} <= names
    require_clean(found)


@pytest.mark.parametrize(
    ("extra", "lines", "example"),
    [
        (("evaluation", "", 9), {"text is not empty"}, "row 3 (evaluation, 9 tokens): ''"),
        (("calibration", " \n\t ", 9), {"text is not empty"}, r"row 3 (calibration, 9 tokens): ' \n\t '"),
        (("evaluation", None, 9), {"text has no nulls"}, "row 3 (evaluation, 9 tokens): 'None'"),
        (("evaluation", 5, 9), {"text is a string"}, "row 3 (evaluation, 9 tokens): '5'"),
        (("evaluation", "too short", 7), {"tokens between 8 and 256"}, "row 3 (evaluation, 7 tokens): 'too short'"),
        (
            ("evaluation", "x" * 99, 257),
            {"tokens between 8 and 256"},
            f"row 3 (evaluation, 257 tokens): '{'x' * 60}...'",
        ),
        (("calibration", GOOD[2][1], 30), {"no text twice in a split"}, "row 2 (calibration, 30 tokens): 'A train"),
        (("calibration", GOOD[0][1], 8), {"no text in both splits"}, "row 0 (evaluation, 8 tokens): 'How many eggs"),
        (
            ("test", "Another text.", 9),
            {"split is evaluation or calibration"},
            "row 3 (test, 9 tokens): 'Another text.'",
        ),
    ],
)
def test_one_bad_row_fails_its_own_line_and_is_shown(extra: Row, lines: set[str], example: str) -> None:
    found = checked(frame(*GOOD, extra))
    assert failed(found) == lines
    with pytest.raises(DataError) as error:
        require_clean(found)
    text = str(error.value)
    assert text.startswith("the evaluation and calibration data failed its checks:\n- ")
    assert all(line in text for line in lines)
    assert example in text
    assert text.endswith("at other text, or ask for fewer rows")


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        (GOOD[:1] + GOOD[2:], {"at least 2 evaluation rows"}),
        (GOOD[:2], {"at least 1 calibration rows"}),
    ],
)
def test_too_few_rows_in_a_split(rows: list[Row], lines: set[str]) -> None:
    assert failed(checked(frame(*rows))) == lines


@pytest.mark.parametrize("empty", [frame(), pd.DataFrame([])])
def test_no_rows_at_all(empty: pd.DataFrame) -> None:
    found = checked(empty)
    assert {"at least 2 evaluation rows", "at least 1 calibration rows"} <= failed(found)
    assert found.counts == {"evaluation": 0, "calibration": 0}


@pytest.mark.parametrize("column", COLUMNS)
def test_an_absent_column_is_named_and_the_rows_are_left_alone(column: str) -> None:
    found = checked(frame(*GOOD).drop(columns=column))
    assert failed(found) == {f"column {column} exists"}
    assert len(found.lines) == len(COLUMNS)
    with pytest.raises(DataError, match=f"- column {column} exists: not there"):
        require_clean(found)


def test_token_counts_that_are_no_whole_numbers() -> None:
    assert failed(checked(frame(*GOOD, size=[8.5, 20.0, 30.0]))) == {"tokens are whole numbers"}
    assert "size has no nulls" in failed(checked(frame(*GOOD, size=[8, None, 30])))
    words = checked(frame(*GOOD, size=["many", "few", "some"]))
    assert {"tokens are whole numbers", "tokens between 8 and 256"} <= failed(words)
    assert any(line.observed.startswith("could not be checked: ") for line in words.lines)


def test_a_digest_that_is_none() -> None:
    assert "sha256 is a digest" in failed(checked(frame(*GOOD, sha256=["a", "b", "c"])))
    assert "sha256 has no nulls" in failed(checked(frame(*GOOD, sha256=[None, "0" * 64, "1" * 64])))


def test_only_the_first_broken_rows_are_shown() -> None:
    many = [("calibration", f"short {i}", 3) for i in range(9)]
    line = next(line for line in checked(frame(*GOOD, *many)).lines if line.name == "tokens between 8 and 256")
    assert line.observed == "9 of 12 rows break it"
    assert len(line.examples) == 3


def test_the_callers_frame_and_its_index_are_left_as_they_were() -> None:
    data = frame(*GOOD)
    data.index = pd.Index([7, 7, 7])
    before = data.copy()
    assert checked(data).passed
    pd.testing.assert_frame_equal(data, before)
