"""The checks before a commit are those of CI: the commands of `make check`, offline, from the project's environment."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
ENVIRONMENT = ".venv/bin/"


def hooks() -> list[dict[str, Any]]:
    """The hooks of all repositories that the configuration names."""
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"], "another repository would have to be fetched"
    return repos[0]["hooks"]


def checks(makefile: str) -> list[str]:
    """Commands of the Makefile's target `check`."""
    found = re.search(r"^check:[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.M)
    assert found is not None
    return [line.strip() for line in found[1].splitlines()]


def test_hooks_run_the_commands_of_make_check() -> None:
    ran = [hook["entry"] + (" .github/workflows/*.yml" if hook.get("pass_filenames", True) else "") for hook in hooks()]
    assert ran == [ENVIRONMENT + command for command in checks(MAKEFILE)]


def test_hooks_fetch_nothing_and_their_tools_are_locked() -> None:
    locked = (ROOT / "requirements.lock").read_text()
    packages = {"lint-imports": "import-linter"}
    for hook in hooks():
        assert hook["language"] == "system" and "additional_dependencies" not in hook
        tool = hook["entry"].removeprefix(ENVIRONMENT).split()[0]
        assert re.search(rf"^{packages.get(tool, tool)}==", locked, re.M), tool


@pytest.mark.parametrize(
    ("file", "ids"),
    [
        ("tasks/gate.py", {"format", "lint", "types", "layers"}),
        ("pyproject.toml", {"format", "lint", "types", "layers"}),
        (".github/workflows/ci.yml", {"workflows"}),
        ("README.md", set()),
    ],
)
def test_each_file_meets_its_hooks(file: str, ids: set[str]) -> None:
    assert (ROOT / file).is_file()
    assert {hook["id"] for hook in hooks() if re.search(hook["files"], file)} == ids


def test_a_check_that_no_hook_has_is_seen() -> None:
    assert checks("check: env  ## all\n\tone .\n\ttwo\n\ntest:\n\tthree\n") == ["one .", "two"]
