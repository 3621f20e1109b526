"""flows/dvc/pipeline.py: what is stale and why, one stage reproduced, several processes at once, dvc.lock mended."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import _yaml

from flows.dvc import lock_file, pipeline
from flows.dvc.pipeline import PipelineBusy, StageFailed, stale
from tasks.params.settings import compose
from tests import ROOT, pipelines


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pipelines.make(tmp_path)


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = pipelines.make(tmp_path_factory.mktemp("built"))
    with contextlib.chdir(root):
        build(root)
    return root


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A checkout in which every stage has run."""
    return shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)


def build(root: Path) -> None:
    for step in stale(root).steps:
        pipeline.reproduce(step.name, root)


def change(root: Path, block: str, values: dict[str, object]) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params[block] = values
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    pipeline.reproduce("compose", root)


def test_everything_is_stale_in_a_fresh_checkout_by_phase(root: Path) -> None:
    plan = stale(root)
    assert [step.name for step in plan.steps] == list(plan.stages)
    verbs = [step.verb for step in plan.steps]
    assert verbs == ["compose", "code", "detect", "fetch", "assess", *["convert"] * 3, *["evaluate"] * 3,
                     *["benchmark"] * 3, "recommend", "track"]  # fmt: skip
    seen: set[str] = set()
    for step in plan.steps:
        assert set(step.needs) <= seen
        seen.add(step.name)
    assert set(plan.steps[5].needs) == {"assess", "compose"}
    assert all(step.reason == "not there yet" for step in plan.steps)


def test_nothing_is_work_after_a_run(built: Path) -> None:
    plan = stale(built)
    assert [(step.name, step.reason) for step in plan.steps] == [
        ("compose", "runs every time"),
        ("detect", "runs every time"),
        ("track", "runs every time"),
    ]
    assert plan.work == ()


def test_a_parameter_drags_only_what_is_behind_it(built: Path) -> None:
    change(built, "benchmark", {"rounds": 3})
    reasons = {step.name: step.reason for step in stale(built).steps}
    assert reasons == {
        "compose": "runs every time",
        "detect": "runs every time",
        **{f"benchmark@{variant}": "benchmark modified" for variant in pipelines.VARIANTS},
        "recommend": "follows benchmark@a",
        "track": "runs every time",
    }


def test_what_other_parameters_would_redo_is_found_without_writing(built: Path) -> None:
    text = (built / "artifacts/params.yaml").read_text()
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if ".dvc" not in path.parts}
    told = compose({"benchmark.rounds": 3, "variants.c": {"backend": "gguf", "precision": "int4"}}, built)
    reasons = {step.name: step.reason for step in pipeline.stale_with(built, told.text).steps}
    assert reasons["benchmark@a"] == "benchmark modified" and reasons["convert@c"] == "not there yet"
    assert "convert@a" not in reasons and reasons["compose"] == "runs every time"
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*") if ".dvc" not in path.parts} == before
    assert (built / "artifacts/params.yaml").read_text() == text and stale(built).work == ()


def test_variants_are_those_of_the_effective_file_for_a_run_and_of_the_users_for_dvc_alone(built: Path) -> None:
    compose({"variants.c": {"backend": "gguf", "precision": "int4"}}, built).write(built)
    assert {step.name for step in stale(built).work} >= {"convert@c", "benchmark@c"}
    alone = pipelines.command(built, "dvc", "status")
    assert "convert@c" not in alone.stdout and "convert@a" not in alone.stdout, alone.stdout


def test_a_stage_run_anew_with_the_same_outcome_leaves_the_rest_unchanged(built: Path) -> None:
    before = pipelines.ran(built)
    text = (built / "dvc.yaml").read_text()
    (built / "dvc.yaml").write_text(text.replace("echo hw >", "printf 'hw\\n' >"))
    reasons = {step.name: step.reason for step in stale(built).steps}
    assert reasons["detect"] == "its command changed" and reasons["assess"] == "follows detect"
    assert pipeline.reproduce("detect", built) is True
    assert pipeline.reproduce("assess", built) is False
    assert pipelines.ran(built) == before


def test_results_of_earlier_parameters_come_back_without_running(built: Path) -> None:
    change(built, "benchmark", {"rounds": 3})
    assert pipeline.reproduce("benchmark@a", built)
    count = len(pipelines.ran(built))
    change(built, "benchmark", {"rounds": 2})
    assert pipeline.reproduce("benchmark@a", built)
    assert len(pipelines.ran(built)) == count


def test_a_failed_stage_names_itself_its_exit_code_and_how_to_repeat_it(root: Path) -> None:
    (root / "fail-fetch").write_text("2")
    with pytest.raises(StageFailed) as caught:
        pipeline.reproduce("fetch", root)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.stage, error.code, error.exit_code) == ("fetch", 2, 2)
    assert "dvc repro --single-item fetch" in str(error)
    (root / "fail-fetch").write_text("1")
    with pytest.raises(StageFailed) as caught:
        pipeline.reproduce("fetch", root)
    assert caught.value.exit_code == 1


def test_a_broken_pipeline_file_is_bad_input(root: Path) -> None:
    (root / "dvc.yaml").write_text("stages: {fetch: {comand: x}}\n")
    with pytest.raises(pipeline.ResourceError, match="DVC cannot read the pipeline"):
        stale(root)


@pytest.mark.parametrize(("code", "stopped"), [("130", True), ("1", False)])
def test_an_interrupted_command_stops_the_run_and_what_is_queued(root: Path, code: str, stopped: bool) -> None:
    (root / "fail-fetch").write_text(code)
    with pytest.raises(KeyboardInterrupt if stopped else StageFailed):
        pipeline.reproduce("fetch", root)
    try:
        assert pipeline.stopping.is_set() is stopped
        if stopped:
            with pytest.raises(KeyboardInterrupt):
                pipeline.reproduce("assess", root)
    finally:
        pipeline.stopping.clear()
    assert pipelines.ran(root) == ["fetch"]


REPRODUCE = """
import sys
from pathlib import Path
from flows.dvc import pipeline
for stage in sys.argv[1:]:
    try:
        print(stage, pipeline.reproduce(stage, Path.cwd()))
    except pipeline.PipelineBusy as error:
        print(stage, "busy", error)
"""


def spawn(root: Path, *names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", REPRODUCE, *names], cwd=root, env=pipelines.environment(root), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def wait_for(root: Path, name: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while name not in pipelines.ran(root):
        assert time.monotonic() < deadline, f"{name} did not begin"
        time.sleep(0.05)


def test_two_processes_run_different_stages_at_once_and_both_are_recorded(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    (root / "meet-convert").write_text("2")
    for name in ("compose", "code", "detect", "fetch", "assess"):
        pipeline.reproduce(name, root)
    children = [spawn(root, "convert@ref", "evaluate@ref"), spawn(root, "convert@a", "evaluate@a")]
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert "convert@ref True" in outputs[0] and "convert@a True" in outputs[1], outputs
    assert "words of convert-ref" in outputs[0]
    first, second = pipelines.noted(root, "convert", "ref"), pipelines.noted(root, "convert", "a")
    assert max(first["begun"], second["begun"]) < min(first["ended"], second["ended"])
    left = {step.name for step in stale(root).steps}
    assert not {"convert@ref", "convert@a", "evaluate@ref", "evaluate@a"} & left
    assert "convert@b" in left


def test_two_threads_run_different_stages_at_once_and_both_are_recorded(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    (root / "meet-convert").write_text("3")
    for name in ("compose", "code", "detect", "fetch", "assess"):
        pipeline.reproduce(name, root)

    def both(variant: str) -> list[bool]:
        return [pipeline.reproduce(f"{verb}@{variant}", root) for verb in ("convert", "evaluate", "benchmark")]

    with ThreadPoolExecutor(max_workers=3) as threads:
        assert list(threads.map(both, pipelines.VARIANTS)) == [[True] * 3] * 3
    first, second = pipelines.noted(root, "convert", "ref"), pipelines.noted(root, "convert", "a")
    assert max(first["begun"], second["begun"]) < min(first["ended"], second["ended"])
    assert {step.name for step in stale(root).work} == {"recommend", "track"}
    assert yaml.safe_load((root / lock_file.LAST_GOOD).read_text()) == yaml.safe_load((root / "dvc.lock").read_text())


def test_a_folder_that_is_no_checkout_is_said(tmp_path: Path) -> None:
    with pytest.raises(pipeline.ResourceError, match="run from the project's root"):
        stale(tmp_path)


def test_the_same_stage_twice_at_once_is_busy_and_says_who_has_it(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    (root / "hold-convert-ref").touch()
    for name in ("compose", "code", "detect", "fetch", "assess"):
        pipeline.reproduce(name, root)
    child = spawn(root, "convert@ref")
    wait_for(root, "convert-ref")
    with pytest.raises(PipelineBusy, match=rf"convert@ref: another DVC process .*PID {child.pid}"):
        pipeline.reproduce("convert@ref", root)
    (root / "hold-convert-ref").unlink()
    assert "convert@ref True" in child.communicate(timeout=60)[0]
    assert pipeline.reproduce("convert@ref", root) is False


def test_a_killed_process_blocks_nobody_and_its_stage_runs_again(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    (root / "hold-convert-ref").touch()
    for name in ("compose", "code", "detect", "fetch", "assess"):
        pipeline.reproduce(name, root)
    child = spawn(root, "convert@ref")
    wait_for(root, "convert-ref")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    (root / "hold-convert-ref").unlink()
    assert "convert@ref" in {step.name for step in stale(root).work}
    assert pipeline.reproduce("convert@ref", root) is True
    assert pipelines.ran(root).count("convert-ref") == 2 and pipelines.ran(root).count("fetch") == 1


@pytest.mark.parametrize("share", [0.3, 0.55, 0.999])
def test_a_half_written_lock_file_is_put_back_and_nothing_runs_again(built: Path, share: float) -> None:
    path = built / "dvc.lock"
    whole = path.read_text()
    before = pipelines.ran(built)
    cut = whole[: int(len(whole) * share)]
    path.write_text(cut[: cut.rindex(":")] + ": {")
    assert pipeline.mend(built)
    assert path.read_text() == whole
    assert stale(built).work == () and pipelines.ran(built) == before


@pytest.mark.parametrize("left", ["", '{"artifacts/code.txt": {"wri'])
def test_a_half_written_list_of_paths_in_use_is_dropped(built: Path, left: str) -> None:
    (built / lock_file.IN_USE).write_text(left)
    with pytest.raises(StageFailed):  # DVC would refuse everything from now on
        pipeline.reproduce("fetch", built)
    assert pipeline.mend(built) and not pipeline.mend(built)
    build(built)


def test_a_lock_file_without_a_copy_is_dropped_and_results_come_from_the_cache(built: Path) -> None:
    (built / "dvc.lock").write_text("schema: '2.0'\nstages:\n  fetch:\n    outs:\n    - path")
    (built / lock_file.LAST_GOOD).unlink()
    before = pipelines.ran(built)
    assert pipeline.mend(built) and not (built / "dvc.lock").exists()
    build(built)
    assert pipelines.ran(built) == before and not pipeline.mend(built)


def test_the_quick_reader_and_writer_leave_the_lock_file_as_dvc_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [after_two_builds(tmp_path / "quick")]
    assert _yaml._dump.quick, "the quick writer was not in place"

    def parse(text: str, path: str) -> object:
        return _yaml.parse_yaml(text, path, "rt")

    def dump(data: object, stream: object) -> None:
        _yaml._get_yaml().dump(data, stream)

    dump.quick = True  # type: ignore[attr-defined]
    monkeypatch.setattr(_yaml, "parse_yaml_for_update", parse)
    monkeypatch.setattr(_yaml, "_dump", dump)
    texts.append(after_two_builds(tmp_path / "slow"))
    assert len(yaml.safe_load(texts[0])["stages"]) == 16 and "calibration_source:" in texts[0]
    assert unfolded(texts[0]) == unfolded(texts[1])


def unfolded(text: str) -> str:
    """Without the breaks inside long scalars, which the two emitters place differently past 70 columns."""
    return " ".join(text.split())


def after_two_builds(root: Path) -> str:
    """dvc.lock after two builds with awkward parameters and results that do not depend on time or process."""
    root.mkdir()
    os.chdir(root)
    pipelines.make(root)
    script = (root / "work.py").read_text()
    (root / "work.py").write_text(script.replace("time.time()", "0").replace("os.getppid()", "0"))
    change(root, "data", {"calibration_source": None, "source": "a: b #c", "seed": 17})
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"]["fetch"] |= {"params": ["data", "variants"], "desc": "words: 'quoted'"}
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    build(root)
    change(root, "convert", {"probe_tokens": 11})
    build(root)
    return (root / "dvc.lock").read_text()
