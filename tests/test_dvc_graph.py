"""dvc.yaml holds what the code says: each stage depends on the sources it runs, and outputs lie in paths."""

from __future__ import annotations

import re
import shutil
from functools import cache

import grimp
import pytest
import yaml

from tasks import code, config
from tasks.backends.base import MODULES
from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
IN_CHILD = {"reference", "convert", "evaluate", "benchmark"}  # work through tasks.measure.worker and a backend


@cache
def listed() -> dict[str, set[str]]:
    """File names per listing of the stage `code`."""
    made = code.listings(ROOT)
    return {
        str(place.with_suffix("")): {line.split("  ")[1] for line in text.splitlines()} for place, text in made.items()
    }


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def test_every_stage_and_backend_is_listed():
    assert set(code.STAGES) == set(STAGES) - {"code"}
    assert {f"backends/{name}" for name in MODULES} <= set(listed())


@pytest.mark.parametrize("stage", code.STAGES)
def test_a_stage_depends_on_all_code_it_imports(stage):
    assert f"artifacts/code/{stage}.txt" in body(stage)["deps"]
    upstream = grimp.build_graph("tasks", cache_dir=None).find_upstream_modules(f"tasks.{stage}")
    imported = {f"{name.replace('.', '/')}.py" for name in upstream | {f"tasks.{stage}"}}
    assert {file for file in imported if (ROOT / file).exists()} <= listed()[stage]


@pytest.mark.parametrize("stage", sorted(IN_CHILD))
def test_stages_that_load_models_depend_on_worker_and_backend(stage):
    deps = set(body(stage)["deps"])
    backends = "artifacts/code/backends"
    assert deps & {backends, f"{backends}/${{item.backend}}.txt", f"{backends}/torch.txt"}
    assert {"tasks/measure/child.py", "tasks/measure/worker.py"} <= listed()[stage]


def test_code_started_or_opened_by_name_is_listed():
    assert "tasks/backends/olive_data.py" in listed()["backends/onnx"]
    assert "tasks/backends/olive_data.py" not in listed()["convert"] | listed()["backends/gguf"]
    for stage, file in (
        ("detect", "tasks/hardware/devices.yaml"), ("assess", "tasks/planning/matrix.yaml"),
        ("report", "tasks/reporting/template.html.j2"), ("report", "tasks/reporting/style.css"),
    ):  # fmt: skip
        assert file in listed()[stage]


def test_names_of_modules_in_strings_are_known():
    """A module that is run by its name alone would be missed by the import graph."""
    by_name = {*code.BY_NAME, *(name for names in code.BY_NAME.values() for name in names)}
    for file in (ROOT / "tasks").rglob("*.py"):
        own = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for name in re.findall(r'"(tasks\.[a-z_.]+?)[:"]', file.read_text()):
            assert name == own or name in by_name or name in MODULES.values() or name.startswith("tasks.measure."), name


def test_a_changed_file_changes_the_listings_that_hold_it_and_no_other(tmp_path, monkeypatch):
    before = code.listings(ROOT)
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tasks/backends/gguf.py").write_text("# changed\n")
    after = code.listings(tmp_path)
    changed = {str(place) for place in before if before[place] != after[place]}
    assert "backends/gguf.txt" in changed
    assert changed <= {"backends/gguf.txt", "fetch.txt"}  # fetch reads GGUF files


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


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_that_reads_what_a_profile_may_change_depends_on_the_profile(stage):
    named = {name.split(".")[0] for name in body(stage).get("params", [])}
    assert {"profile", "profiles"} <= named or not named & set(config.OF_PROFILES)


def test_numbers_of_another_machine_do_not_come_from_the_cache():
    assert "artifacts/hardware.json" in body("benchmark")["deps"]


def test_every_output_has_one_stage():
    outs = [next(iter(out)) if isinstance(out, dict) else out for stage in STAGES for out in body(stage)["outs"]]
    assert len(outs) == len(set(outs))
