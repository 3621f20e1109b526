"""flows/cli.py: the Makefile's commands without make; what a target calls is what the subcommand calls."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows import cli
from tests import ROOT, pipelines

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = dict(re.findall(r"^([a-z-]+):.*##.*\n((?:\t.*\n)+)", MAKEFILE, re.M))  # and their recipes
FOR_DEVELOPERS = {
    "help",
    "env",
    "lock",
    "test",
    "test-fast",
    "check",
    "clean",
    "drill",
    "drill-requests",
    "drill-deploy",
    "drill-firmware",
    "drill-cores",
    "drill-containers",
    "lane",
    "clients",
}  # they need the tools of a checkout


def developers(target: str) -> bool:
    return target in FOR_DEVELOPERS or target.startswith("bench")


def test_subcommands_are_the_makefiles_targets() -> None:
    assert set(cli.COMMANDS) == {target for target in TARGETS if not developers(target)}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_subcommand_calls_what_the_target_calls(name: str) -> None:
    command = cli.COMMANDS[name]
    words = "".join(f" {word}" for word in command.words)
    called = f"python -m {command.module}{words}"
    assert re.search(rf"^\t@?{re.escape(called)}(?= |$)", TARGETS[name], re.M), TARGETS[name]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["help"]):
        assert cli.main(argv) == 0
        said = capsys.readouterr().out
        assert all(re.search(rf"^  {name} +\w", said, re.M) for name in cli.COMMANDS)


def test_an_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["promot"]) == 2
    assert "no command 'promot'; did you mean 'promote'? allowed: run, repro" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["run", "--profile", "slow"], 2, "slow"),
        (["run", "--dry-run"], 0, "15 of 16 stages would run"),
        (["repro", "--dry-run"], 0, "fetch"),
        (["status"], 0, "no router is at work; idle"),
        (["gate"], 2, "error: "),
        (["promote", "--nonsense"], 2, "unrecognized arguments: --nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_go_through_and_the_exit_code_comes_back(tmp_path: Path, argv: list[str], code: int, said: str) -> None:
    root = pipelines.make(tmp_path)
    done = pipelines.command(root, "flows.cli", *argv)
    assert done.returncode == code and said in done.stdout, done.stdout


def test_the_console_script_is_this_main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"edgewright": "flows.cli:main"}
    script = Path(sys.executable).parent / "edgewright"  # `make env` puts it there
    if script.exists():
        done = subprocess.run([script, "--help"], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0 and "usage: edgewright COMMAND" in done.stdout, done.stderr
