"""Lines that are only ever added, and what a write that was cut off costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import ResourceError
from tasks.records.base import Record
from tasks.records.lines import OWN, append, entries, now


class Said(Record):
    number: int
    text: str = ""


def numbers(file: Path) -> tuple[list[int], int]:
    found, unreadable = entries(file, Said)
    return [one.number for one in found], unreadable


def test_an_absent_file_has_no_lines(tmp_path: Path) -> None:
    assert entries(tmp_path / "none.jsonl", Said) == ([], 0)


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "book.jsonl"
    append(file, Said(number=1))
    append(file, Said(number=2))
    file.write_bytes(file.read_bytes()[:-5])
    assert numbers(file) == ([1], 1)
    append(file, Said(number=3))
    assert numbers(file) == ([1, 3], 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(), min_size=1, max_size=4), cut=st.integers(1, 15))
def test_whatever_was_said_is_read_back(tmp_path: Path, texts: list[str], cut: int) -> None:
    file = tmp_path / "book.jsonl"
    file.unlink(missing_ok=True)
    said = [Said(number=1, text=text) for text in texts]
    for one in said:
        append(file, one)
    assert entries(file, Said) == (said, 0)
    file.write_bytes(file.read_bytes()[:-cut])
    assert entries(file, Said)[0] in (said, said[:-1])


def test_a_line_is_plain_json(tmp_path: Path) -> None:
    append(tmp_path / "l", Said(number=1, text="a\nzoë"))
    assert json.loads((tmp_path / "l").read_text().strip())["text"] == "a\nzoë"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ResourceError, match=r"taken/book.jsonl cannot be written .*; make room or mend"):
        append(tmp_path / "taken" / "book.jsonl", Said(number=1))


def test_a_moment_is_in_utc_to_the_millisecond() -> None:
    assert now().endswith("+00:00") and len(now().partition(".")[2]) == len("123+00:00")


def test_lines_from_before_our_own_folder_are_not_lost(tmp_path: Path) -> None:
    former, book = tmp_path / "mlruns" / "ledger.jsonl", tmp_path / OWN / "ledger.jsonl"
    append(former, Said(number=1))
    assert numbers(book) == ([1], 0)
    append(book, Said(number=2))
    append(former, Said(number=3))  # by a process of the version before, which still runs
    assert numbers(book) == ([1, 3, 2], 0)
    assert numbers(former) == ([1, 3], 0)
