"""Rows of inputs: batches, what is cut off, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backends.base import Port
from tasks.errors import DataError
from tasks.kinds.arrays import comparing, split
from tasks.kinds.arrays.checking import distance
from tasks.kinds.arrays.rows import Rows, answers, load
from tasks.params.pipeline import Data


class Doubling:
    """A session that doubles, in batches of the size it is told."""

    def __init__(self, size: int | None) -> None:
        self.inputs = {"x": Port((size, 2), "float32")}
        self.seen: list[int] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.seen.append(len(feeds["x"]))
        return {"y": 2 * feeds["x"]}

    def runtime(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        pass


@given(st.integers(1, 40), st.integers(1, 9))
def test_answers_come_in_the_order_of_the_rows(count: int, batch: int) -> None:
    rows = Rows({"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)})
    assert (answers(Doubling(None), rows, batch)["y"] == 2 * rows.arrays["x"]).all()


def test_a_model_of_one_size_of_batch_gets_that() -> None:
    session = Doubling(1)
    answers(session, Rows({"x": np.zeros((5, 2), np.float32)}), 4)
    assert session.seen == [1] * 5


def test_a_batch_is_cut_to_its_longest_row() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    rows = Rows({"ids": 7 * mask, "mask": mask}, mask="mask")
    assert rows.take([0, 1])["ids"].shape == (2, 3)
    assert rows.take([2])["ids"].shape == (1, 4)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = Rows({"a": np.eye(3), "b": np.arange(3)}, mask="", whole=True)
    rows.save(tmp_path / "in" / "rows.npz")
    again = Rows.load(tmp_path / "in" / "rows.npz")
    assert again.whole
    assert (again.arrays["a"] == rows.arrays["a"]).all()


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(DataError, match="plain arrays"):
        load(tmp_path / "bad.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "cut.npz")


def test_no_row_is_judged_by_that_was_calibrated_with() -> None:
    rows = Rows({"x": np.repeat(np.arange(40, dtype=np.float32)[:, None], 2, axis=1)[np.r_[0:40, 0:5]]})
    parts, notes = split.choose(rows, Data(evaluation_rows=20, calibration_rows=10), "here")
    values = {name: set(rows.arrays["x"][numbers][:, 0]) for name, numbers in parts.items()}
    assert not values["evaluation"] & values["calibration"]
    assert "5 rows stood there twice" in notes[0]
    with pytest.raises(DataError, match="3 different rows"):
        split.choose(Rows({"x": np.arange(3.0)}), Data(), "here")


@pytest.mark.parametrize(
    ("ours", "far"),
    [
        ({"y": np.array([[0.0, 1.0]])}, 0.0),
        ({"y": np.array([[1.0, 0.0]])}, 2.0),
        ({"y": np.array([[np.nan, 1.0]])}, float("inf")),
        ({"y": np.array([0.0])}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_outputs_that_are_absent_or_no_numbers_are_infinitely_far(ours: dict[str, Any], far: float) -> None:
    assert distance(ours, {"y": np.array([[0.0, 1.0]])}) == pytest.approx(far)


def test_cosine_of_nothing_with_nothing_is_one() -> None:
    assert comparing.cosine(np.zeros((2, 3)), np.array([[0, 0, 0], [1, 0, 0]])).tolist() == [1, 0]


def test_a_mean_of_equal_answers_keeps_an_error() -> None:
    assert comparing.mean(np.ones(100)).se == pytest.approx(0.001)
