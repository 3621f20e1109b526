"""CI: the workflows follow GitHub's schema, ask for few rights, and hold no logic of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.errors import EXIT_BAD_INPUT
from tests import ROOT
from tests.drill import lanes
from tests.drill.lanes import LANES

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKE = re.compile(r'make( -s)? [a-z]+( [A-Z_]+=\S+)*( >>? ("\$GITHUB_STEP_SUMMARY"|[a-z]+\.md))?')
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in load(path)["jobs"].values():
        yield from job["steps"]


def test_the_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "deploy.yml", "gates.yml"]


def test_every_lane_but_the_fast_one_runs_by_label_and_each_night() -> None:
    jobs = load(ROOT / ".github/workflows/deploy.yml")["jobs"]
    assert set(jobs["lanes"]["strategy"]["matrix"]["lane"]) == set(LANES) - {"fast"}
    assert "'deploy'" in jobs["lanes"]["if"]
    assert "if" not in jobs["fast"]


def test_a_lane_that_is_not_known_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert lanes.main(["nobody"]) == EXIT_BAD_INPUT
    assert "allowed: fast, android" in capsys.readouterr().err


def test_the_schema_is_kept_and_can_be_broken(tmp_path: Path) -> None:
    def check(*files: Path) -> subprocess.CompletedProcess[str]:
        tool = Path(sys.executable).parent / "check-jsonschema"
        command = [str(tool), "--builtin-schema", "vendor.github-workflows", *map(str, files)]
        return subprocess.run(command, text=True, capture_output=True)

    good = check(*WORKFLOWS)
    assert good.returncode == 0, good.stdout + good.stderr
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-at:"))
    assert check(broken).returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_is_a_make_target(path: Path) -> None:
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for command in commands:
        assert MAKE.fullmatch(command), f"{path.name}: {command!r} is more than a make target"
        assert re.split(r"\s+", command.replace(" -s", ""))[1] in TARGETS, command


@pytest.mark.parametrize(
    "command", ["make check && make test", "python -m tasks.gate", "make a; rm b", "make x | tee y"]
)
def test_the_rule_catches_logic(command: str) -> None:
    assert not MAKE.fullmatch(command)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_rights_are_few(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+(\.\d+)*|[0-9a-f]{40})", step["uses"]), step["uses"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        extra = set(job.get("permissions", {}).items()) - {("contents", "read")}
        assert extra <= {("pull-requests", "write")}


def test_actions_run_on_node24() -> None:
    """GitHub has removed node20, which the versions before these run on."""
    oldest = {"checkout": 5, "setup-python": 6, "cache": 5, "upload-artifact": 6, "sticky-pull-request-comment": 3}
    used = {tuple(re.split("[/@]", step["uses"])[1:]) for path in WORKFLOWS for step in steps(path) if "uses" in step}
    assert {action for action, _ in used} == set(oldest)
    assert [one for one in used if int(one[1].removeprefix("v")) < oldest[one[0]]] == []


def test_the_gate_comes_last_so_that_the_scorecard_is_seen_before_it_blocks() -> None:
    order = [step.get("run") or step["uses"] for step in steps(ROOT / ".github/workflows/gates.yml")]
    assert order[-1] == "make gate"
    assert order.index("make run PROFILE=quick") < order.index('make -s scorecard >> "$GITHUB_STEP_SUMMARY"')


def test_no_command_takes_text_from_outside() -> None:
    for path in WORKFLOWS:
        for step in steps(path):
            assert "${{" not in step.get("run", ""), "a pull request could write that text"


def test_ci_run_sets_up_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail" and lines[-1] == "make test"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
