"""dvc.yaml holds what the code says: each stage depends on every source file it imports, and outputs lie in paths."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
IN_CHILD = {"reference", "convert", "evaluate", "benchmark"}  # work through tasks.measure.worker and a backend


@cache
def graph():
    return grimp.build_graph("tasks")


def closure(module: str) -> set[str]:
    files = set()
    for name in {module} | graph().find_upstream_modules(module):
        path = Path(name.replace(".", "/"))
        file = path.with_suffix(".py") if (ROOT / path).with_suffix(".py").exists() else path / "__init__.py"
        if (ROOT / file).stat().st_size:
            files.add(str(file))
    return files


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_all_code_it_imports(stage):
    deps = set(body(stage)["deps"])
    assert closure(f"tasks.{stage}") - deps == set()
    named = {dep for dep in deps if dep.startswith("tasks/") and "$" not in dep}
    assert {dep for dep in named if not (ROOT / dep).exists()} == set()


@pytest.mark.parametrize("stage", sorted(IN_CHILD))
def test_stages_that_load_models_depend_on_worker_and_backend(stage):
    deps = set(body(stage)["deps"])
    assert "tasks/backends/${item.backend}.py" in deps or "tasks/backends/torch.py" in deps
    if stage != "reference":
        assert "tasks/measure/worker.py" in deps


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_runs_its_own_module(stage):
    assert body(stage)["cmd"].split()[:3] == ["python", "-m", f"tasks.{stage}"]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_parameters_named_by_a_stage_exist(stage):
    for name in body(stage).get("params", []):
        value = PARAMS
        for part in name.split("."):
            assert part in value, f"{stage} names {name}"
            value = value[part]


def test_data_files_next_to_code_are_dependencies():
    for stage, folder in (("detect", "tasks/hardware"), ("assess", "tasks/planning")):
        files = {str(file.relative_to(ROOT)) for file in (ROOT / folder).glob("*.yaml")}
        assert files
        assert files <= set(body(stage)["deps"])


def test_numbers_of_another_machine_do_not_come_from_the_cache():
    assert "artifacts/hardware.json" in body("benchmark")["deps"]


def test_every_output_has_one_stage():
    outs = [next(iter(out)) if isinstance(out, dict) else out for stage in STAGES for out in body(stage)["outs"]]
    assert len(outs) == len(set(outs))
