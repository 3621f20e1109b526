"""A checkout without git, and what DVC was told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from configobj import ConfigObj

from flows.dvc import without_git


@pytest.mark.parametrize("before", [None, "", "[core]\n    analytics = false\n['remote \"x\"']\n    url = /y\n"])
def test_dvc_is_told_once_and_keeps_what_it_knew(tmp_path: Path, before: str | None) -> None:
    (tmp_path / ".dvc").mkdir()
    file = tmp_path / without_git.SETTINGS
    if before is not None:
        file.write_text(before)
    assert without_git.settle(tmp_path)
    assert not without_git.settle(tmp_path)
    known = ConfigObj(str(file))
    assert known["core"]["no_scm"] == "true"
    if before:
        assert known["core"]["analytics"] == "false" and known['remote "x"']["url"] == "/y"


def test_a_checkout_with_git_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".git").mkdir()
    assert not without_git.settle(tmp_path)
    assert list((tmp_path / ".dvc").iterdir()) == []
    assert not without_git.settle(tmp_path / "nowhere")
