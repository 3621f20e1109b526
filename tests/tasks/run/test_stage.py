"""tasks/run/stage.py: the arguments reach the work by name, and how it ends becomes the exit code."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import ChildError, ConfigError
from tasks.run.stage import VARIANT, argument, main_of

ABOUT = """Do a thing.

  in lines that stay lines
"""
AGAIN = argument("--again", action="append", default=[], metavar="NAME")
EITHER = (argument("--json", action="store_true"), argument("--markdown", action="store_true"))


def call(argv: list[str], *arguments: Any, ends: int | Exception | None = None) -> tuple[int, dict[str, Any]]:
    got: dict[str, Any] = {}

    def work(**given: Any) -> int | None:
        got.update(given)
        if isinstance(ends, Exception):
            raise ends
        return ends

    return main_of("tasks.thing", ABOUT, work, argv, *arguments), got


@pytest.mark.parametrize(
    ("argv", "arguments", "got"),
    [
        ([], (), {}),
        (["--variant", "a"], (VARIANT,), {"variant": "a"}),
        ([], (AGAIN,), {"again": []}),
        (["--again", "a", "--again", "b"], (AGAIN,), {"again": ["a", "b"]}),
        (["--json"], (EITHER, AGAIN), {"json": True, "markdown": False, "again": []}),
    ],
)
def test_arguments_reach_the_work_by_name(argv: list[str], arguments: Any, got: dict[str, Any]) -> None:
    assert call(argv, *arguments) == (0, got)


@pytest.mark.parametrize(
    ("ends", "code"), [(None, 0), (3, 3), (ConfigError("no such thing"), 2), (ChildError("broke", kind="crash"), 1)]
)
def test_how_the_work_ends_is_the_exit_code(ends: Any, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([], ends=ends)[0] == code
    assert capsys.readouterr().err == (f"error: {ends}\n" if isinstance(ends, Exception) else "")


def test_an_error_that_nobody_foresaw_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        call([], ends=ZeroDivisionError())


@pytest.mark.parametrize(
    ("argv", "arguments", "said"),
    [
        (["--more"], (), "unrecognized arguments: --more"),
        ([], (VARIANT,), "required: --variant"),
        (["--json", "--markdown"], (EITHER,), "not allowed with argument --json"),
    ],
)
def test_bad_arguments_are_refused(
    argv: list[str], arguments: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(argv, *arguments)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and said in told and "python -m tasks.thing" in told


def test_help_keeps_the_lines_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(["--help"], VARIANT)
    assert ended.value.code == 0
    assert "Do a thing.\n\n  in lines that stay lines\n" in capsys.readouterr().out
