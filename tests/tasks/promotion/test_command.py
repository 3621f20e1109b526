"""The command `python -m tasks.promotion`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ResourceError
from tasks.promotion.command import main


def test_commands_without_a_router_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path / "none")]
    assert main([*folder, "deploy", "--version", "2"]) == ResourceError.exit_code
    assert "no router is at work" in capsys.readouterr().err
    assert main([*folder, "status"]) == 0
    assert "no router is at work; idle" in capsys.readouterr().out
