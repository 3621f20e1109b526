"""Tests side by side: one that is timed waits for the others, and they for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests import turns

SOON_S, LATE_S = 0.2, 30.0


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other locks than those that this session's own tests hold."""
    for name in ("DOOR", "ROOM"):
        (tmp_path / name).touch()
        monkeypatch.setattr(turns, name, tmp_path / name)


class Other:
    """Another test, on a thread of its own."""

    def __init__(self, alone: bool) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, args=(alone,), daemon=True)
        self.thread.start()

    def _run(self, alone: bool) -> None:
        with turns.turn(alone):
            self.inside.set()
            self.leave.wait(LATE_S)

    def end(self) -> None:
        self.leave.set()
        self.thread.join(LATE_S)


def test_ordinary_tests_run_side_by_side() -> None:
    with turns.turn(alone=False):
        other = Other(alone=False)
        assert other.inside.wait(LATE_S)
        other.end()


def test_one_that_is_alone_waits_for_the_others_and_lets_none_in_before_it() -> None:
    first = Other(alone=False)
    assert first.inside.wait(LATE_S)
    timed = Other(alone=True)
    assert not timed.inside.wait(SOON_S)
    late = Other(alone=False)
    assert not late.inside.wait(SOON_S)
    first.end()
    assert timed.inside.wait(LATE_S)
    assert not late.inside.wait(SOON_S)
    timed.end()
    assert late.inside.wait(LATE_S)
    late.end()


def test_a_room_is_left_when_a_test_fails() -> None:
    with pytest.raises(RuntimeError), turns.turn(alone=True):
        raise RuntimeError
    other = Other(alone=True)
    assert other.inside.wait(LATE_S)
    other.end()


def test_the_longest_files_come_first_and_stay_whole(request: pytest.FixtureRequest) -> None:
    assert (turns.HERE.parent / turns.FIRST).is_file()
    items = list(request.session.items)
    turns.order(items)
    files = [turns.file_of(item) for item in items]
    groups = [file for file, before in zip(files, [None, *files], strict=False) if file != before]
    assert len(groups) == len(set(files))
    assert sorted(item.nodeid for item in items) == sorted(item.nodeid for item in request.session.items)
    assert turns.FIRST not in files or files[0] == turns.FIRST
