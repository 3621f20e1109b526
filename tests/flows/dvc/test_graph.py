"""dvc.yaml holds what the code says: each stage depends on the sources it runs, and outputs lie in paths."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import yaml

from tasks import code
from tasks.backends.table import MODULES
from tasks.kinds.table import KINDS
from tasks.packaging import closure
from tasks.params.load import EFFECTIVE, PARAMS
from tasks.params.settings import compose
from tests import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMETERS = yaml.safe_load(compose({}, ROOT).text)
IN_CHILD = {"reference", "convert", "evaluate", "benchmark"}  # work through tasks.run.worker and a backend


@cache
def texts() -> dict[Path, str]:
    """The listings of this checkout."""
    return code.listings(ROOT)


@cache
def listed() -> dict[str, set[str]]:
    """File names per listing of the stage `code`."""
    return {
        str(place.with_suffix("")): {line.split("  ")[1] for line in text.splitlines()}
        for place, text in texts().items()
    }


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def test_every_stage_and_backend_is_listed():
    assert set(code.STAGES) == set(STAGES) - {"code", "compose"}
    assert {f"backends/{name}" for name in MODULES} <= set(listed())


@pytest.mark.parametrize("stage", code.STAGES)
def test_a_stage_depends_on_all_code_it_imports(stage):
    assert f"artifacts/code/{stage}.txt" in body(stage)["deps"]
    upstream = closure.graph_of().find_upstream_modules(f"tasks.{stage}")
    imported = {f"{name.replace('.', '/')}.py" for name in upstream | {f"tasks.{stage}"}}
    assert {file for file in imported if (ROOT / file).exists()} <= listed()[stage]


@pytest.mark.parametrize("stage", sorted(IN_CHILD))
def test_stages_that_load_models_depend_on_worker_and_backend(stage):
    deps = set(body(stage)["deps"])
    backends = "artifacts/code/backends"
    assert deps & {backends, f"{backends}/${{item.backend}}.txt", f"{backends}/torch.txt"}
    assert {"tasks/run/child.py", "tasks/run/worker.py"} <= listed()[stage]


def test_code_started_or_opened_by_name_is_listed():
    assert "tasks/backends/onnx/olive_data.py" in listed()["backends/onnx"]
    assert "tasks/backends/onnx/olive_data.py" not in listed()["convert"] | listed()["backends/gguf"]
    for stage, file in (
        ("detect", "tasks/hardware/devices.yaml"), ("assess", "tasks/planning/matrix.yaml"),
        ("report", "tasks/reporting/template.html.j2"), ("report", "tasks/reporting/style.css"),
    ):  # fmt: skip
        assert file in listed()[stage]


def test_names_of_modules_in_strings_are_known():
    """A module that is run by its name alone would be missed by the import graph."""
    known = {*MODULES.values(), *KINDS.values()}
    by_name = {*closure.BY_NAME, *(name for names in closure.BY_NAME.values() for name in names)}
    for file in (ROOT / "tasks").rglob("*.py"):
        own = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for name in re.findall(r'"(tasks\.[a-z_.]+?)[:"]', file.read_text()):
            assert name == own or name in by_name or name in known or name.startswith("tasks.measure."), name


@pytest.fixture
def copied(tmp_path):
    """A copy of the sources, to be changed."""
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / code.LOCK, tmp_path / code.LOCK)
    return tmp_path


def changed(root):
    """Names of the listings that differ from this checkout's."""
    before, after = texts(), code.listings(root)
    return {str(place) for place in before if before[place] != after[place]}


def test_a_changed_file_changes_the_listings_that_hold_it_and_no_other(copied):
    (copied / "tasks/backends/gguf/tokens.py").write_text("CHANGED = True\n")
    assert {"backends/gguf.txt"} <= changed(copied) <= {"backends/gguf.txt", "fetch.txt"}  # fetch reads GGUF files


def test_a_changed_comment_or_docstring_redoes_nothing(copied):
    file = copied / "tasks/backends/gguf/tokens.py"
    lines = file.read_text().splitlines()
    assert lines[0].startswith('"""')
    file.write_text("\n".join(['"""Other words."""', "# a comment", *lines[1:]]) + "\n")
    assert changed(copied) == set()


def test_data_counts_by_its_bytes(copied):
    file = copied / "tasks/hardware/devices.yaml"
    file.write_text(file.read_text() + "# a comment\n")
    assert "detect.txt" in changed(copied)


@pytest.mark.parametrize(
    ("package", "redone"),
    [("ruff", set()), ("pytest", set()), ("prefect", set()), ("llama-cpp-python", {"gguf"}), ("nncf", {"openvino"}),
     ("torch", set(MODULES) - {"mlx"})],
)  # fmt: skip
def test_a_new_pin_redoes_the_backends_that_need_the_package(copied, package, redone):
    lock = copied / code.LOCK
    text = re.sub(rf"(?m)^{package}==\S+", f"{package}==999", lock.read_text())
    assert text != lock.read_text()
    lock.write_text(text)
    assert changed(copied) == {f"backends/{name}.txt" for name in redone}


def test_no_stage_but_code_depends_on_the_whole_lock_file():
    assert [stage for stage in STAGES if str(code.LOCK) in body(stage).get("deps", [])] == ["code"]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_runs_its_own_module(stage):
    assert body(stage)["cmd"].split()[:3] == ["python", "-m", f"tasks.{stage}"]


def named(stage: str) -> set[str]:
    """Parameters a stage depends on."""
    return {name for file in body(stage).get("params", []) for name in file[str(EFFECTIVE)]}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_parameters_named_by_a_stage_exist(stage):
    for name in named(stage):
        value = PARAMETERS
        for part in name.split("."):
            assert part in value, f"{stage} names {name}"
            value = value[part]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_parameters_come_from_the_effective_file_alone(stage):
    """DVC's default file is the user's: there a changed limit of a profile not in use would redo the stage."""
    assert all(isinstance(file, dict) and set(file) == {str(EFFECTIVE)} for file in body(stage).get("params", []))
    assert str(PARAMS) not in body(stage).get("deps", [])


def test_compose_comes_first_and_writes_what_the_others_read():
    assert next(iter(STAGES)) == "compose"
    assert str(EFFECTIVE) in [name for out in body("compose")["outs"] for name in out]


@pytest.mark.parametrize("targets", [{}, {"desk": {"device": "host"}, "phone": {"device": "iphone", "kind": "ios"}}])
def test_each_target_that_is_named_has_a_stage_for_its_bundle(tmp_path, targets):
    from dvc.repo import Repo

    for name in ("dvc.yaml", "variants.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    if targets:
        with (tmp_path / "params.yaml").open("a") as params:
            params.write(yaml.safe_dump({"targets": targets}))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    named = {stage.name for stage in Repo(str(tmp_path)).index.stages}
    assert {name for name in named if name.startswith("bundle@")} == {f"bundle@{name}" for name in targets}


def test_what_is_opened_by_name_to_be_placed_redoes_the_placement():
    assert {f"tasks/backends/{name}/placing.py" for name in ("gguf", "mlx", "onnx", "openvino")} <= listed()["place"]


def test_numbers_of_another_machine_do_not_come_from_the_cache():
    assert "artifacts/hardware.json" in body("benchmark")["deps"]


def test_every_output_has_one_stage():
    outs = [next(iter(out)) if isinstance(out, dict) else out for stage in STAGES for out in body(stage)["outs"]]
    assert len(outs) == len(set(outs))
