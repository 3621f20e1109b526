"""tasks/run/memo.py: what is found again, what is not, and how much is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.run.memo import KEEP, Memo, content_of, key_of


def folder(root: Path, **files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name).unlink(missing_ok=True)  # as stages do: they replace files
        (root / name).write_text(text)
    return root


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    memo, made = Memo(tmp_path / "memo"), folder(tmp_path / "out", a="1", b="2")
    (made / "deep").mkdir()
    (made / "deep" / "c").write_text("3")
    memo.keep("evaluate", "gguf-q8_0", "k" * 64, made)
    content = content_of(made)
    folder(made, a="another run wrote this")  # the stage's own place is used by others meanwhile
    assert memo.restore("evaluate", "gguf-q8_0", "k" * 64, made)
    assert content_of(made) == content
    assert (made / "deep" / "c").read_text() == "3"


@pytest.mark.parametrize("asked", [("tune", "n", "k" * 64), ("evaluate", "m", "k" * 64), ("evaluate", "n", "l" * 64)])
def test_another_stage_name_or_key_finds_nothing(tmp_path: Path, asked: tuple[str, str, str]) -> None:
    memo = Memo(tmp_path / "memo")
    memo.keep("evaluate", "n", "k" * 64, folder(tmp_path / "out", a="1"))
    assert memo.find(*asked) is None
    assert not memo.restore(*asked, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_damaged_entry_is_measured_anew(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    memo.keep("evaluate", "n", "k" * 64, folder(tmp_path / "out", a="1"))
    kept = memo.find("evaluate", "n", "k" * 64)
    assert kept is not None
    (kept / "a").unlink()
    (kept / "a").write_text("not what was measured")
    assert memo.find("evaluate", "n", "k" * 64) is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    for number in range(KEEP + 2):
        memo.keep("evaluate", "n", str(number) * 64, folder(tmp_path / "out", a=str(number)))
        os.utime(tmp_path / "memo" / "evaluate" / "n" / (str(number) * 32), (number, number))
    found = [memo.find("evaluate", "n", str(number) * 64) is not None for number in range(KEEP + 2)]
    assert found == [False] * 2 + [True] * KEEP


def test_a_key_is_over_contents(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "x", a="1"), folder(tmp_path / "y" / "x", a="1")
    assert key_of(["w"], [one]) == key_of(["w"], [other])
    assert key_of(["w"], [one]) != key_of(["v"], [one])
    assert key_of(["ab", "c"], []) != key_of(["a", "bc"], [])
    os.utime(one / "a", (1, 1))
    assert key_of(["w"], [one]) == key_of(["w"], [other])
    (one / "a").write_text("2")
    assert key_of(["w"], [one]) != key_of(["w"], [other])


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist; run the stage"):
        key_of([], [tmp_path / "nowhere"])
