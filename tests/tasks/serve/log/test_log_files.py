"""Files of the log are read as they stood at one moment, whatever turns them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.serve.log import log_files
from tasks.serve.log.log_files import NAME


def turn(folder: Path, kept: int) -> None:
    """Put the files aside as the server does."""
    for old in range(kept - 1, 0, -1):
        if (later := folder / f"{NAME}.{old}").exists():
            later.replace(folder / f"{NAME}.{old + 1}")
    (folder / NAME).replace(folder / f"{NAME}.1")
    (folder / NAME).touch()


def read(folder: Path) -> list[int]:
    with log_files.opened(folder) as found:
        return [int(line) for file in found for line in log_files.lines(file)]


def test_a_log_that_is_turned_while_it_is_read_loses_and_repeats_no_row(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    stop, written = threading.Event(), 0

    def write() -> None:
        nonlocal written
        while not stop.is_set() and written < 20_000:
            with (tmp_path / NAME).open("a") as out:
                out.write("".join(f"{number}\n" for number in range(written, written + 10)))
            written += 10
            if written % 50 == 0:
                turn(tmp_path, 10_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            before = written
            rows = read(tmp_path)
            assert rows == list(range(len(rows))), "none lost, none twice, in order"
            assert len(rows) >= before
    finally:
        stop.set()
        writer.join()


def test_what_else_lies_there_is_left_alone(tmp_path: Path) -> None:
    for name, line in (
        (f"{NAME}.2", "0\n"),
        (f"{NAME}.1", "1\n"),
        (NAME, "2\n"),
        (f"{NAME}.1.gz", "x"),
        (f"{NAME}.old", "x"),
    ):
        (tmp_path / name).write_text(line)
    assert read(tmp_path) == [0, 1, 2]
    assert read(tmp_path / "no") == []


def test_separators_inside_of_a_line_do_not_cut_it(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("one\u2028two\x85three\x0cfour\nlast")
    with log_files.opened(tmp_path) as found:
        assert [line.decode() for line in log_files.lines(found[0])] == ["one\u2028two\x85three\x0cfour", "last"]


def test_one_that_never_stands_still_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).touch()
    numbers = iter(range(10_000))
    monkeypatch.setattr(log_files, "_number", lambda _: next(numbers))
    with pytest.raises(DataError, match="turned faster than it can be read"), log_files.opened(tmp_path):
        pass
