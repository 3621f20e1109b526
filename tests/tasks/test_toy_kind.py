"""A kind of model in one file outside of the product goes through every stage to a registered, loadable model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml

from tasks.convert import convert
from tasks.data import data
from tasks.fetch import fetch
from tasks.kinds.evaluating import evaluate
from tasks.measure.benchmarks import Benchmarking
from tasks.params.load import load_params, parse
from tasks.records.artifact import Artifact
from tasks.records.plan import PlanEntry, Recipe
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport
from tasks.reference import reference
from tasks.registry.receipts import Tracked
from tasks.run.memo import content_of
from tasks.run.workspace import Workspace
from tests import ROOT, factories
from tests.finished import database

VARIANTS = {
    "onnx-fp32": {"backend": "onnx", "precision": "fp32", "role": "reference"},
    "onnx-int8": {"backend": "onnx", "precision": "int8"},
    "openvino-int8": {"backend": "openvino", "precision": "int8"},
    "toy-fp16": {"backend": "tests.tasks.toy_backend", "precision": "fp16"},
}
# What a layer of some weights shows of speed, size and memory is the runtime's, and no matter of this test.
GATE = {"artifact_share": None, "memory_share": None, "latency_drift": None, "memory_growth": None}
KEYED = {
    "reference": "tasks.reference", "evaluate": "tasks.kinds.evaluating", "tune": "tasks.tune",
    "benchmark": "tasks.measure.benchmarks",
}  # fmt: skip
pytestmark = pytest.mark.model  # a small one, through every stage
STAGES = ("code", "detect", "fetch", "data", "reference", "assess")
AFTER = ("ceiling", "benchmark", "recommend", "gate", "package", "report", "track")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stages one after the other, in a folder with a model of the toy kind."""
    root, patch = tmp_path_factory.mktemp("toy"), pytest.MonkeyPatch()
    patch.chdir(root)
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setenv("MLFLOW_TRACKING_URI", database(root / "mlruns/mlflow.db"))
    dice = np.random.default_rng(1)
    np.savez("linear.npz", weight=dice.normal(size=(8, 3)), bias=dice.normal(size=3))
    (root / "params.yaml").write_text(yaml.safe_dump(params()))
    for name in ("tasks", "requirements.lock"):  # what the stage `code` lists
        (root / name).symlink_to(ROOT / name)
    for stage in STAGES:
        run(stage)
    for variant in VARIANTS:
        run("convert", "--variant", variant)
    run("tune")
    for variant in VARIANTS:
        run("evaluate", "--variant", variant)
    for stage in AFTER:
        run(stage)
    yield root
    patch.undo()


def params() -> dict[str, object]:
    return {
        "fetch": {"model": "linear.npz", "kind": "tests.tasks.toy_kind"},
        "data": {"evaluation_rows": 40, "calibration_rows": 8},
        "tune": {"budget_s": 0.0},
        "benchmark": {
            "sessions": 2, "more_sessions": 0, "repeats": 3, "soak_s": 0.1, "energy": False, "max_others_cores": 64.0,
        },
        "gate": GATE,
        "variants": VARIANTS,
    }  # fmt: skip


def run(stage: str, *arguments: str) -> None:
    assert import_module(f"tasks.{stage}").main([*arguments]) == 0, stage


def test_every_backend_of_arrays_passes(project: Path) -> None:
    report = GateReport.read(Workspace().verdicts)
    verdicts = {one.variant: one.outcome for one in report.verdicts}
    candidates = {name for name, variant in VARIANTS.items() if "role" not in variant}
    assert {name for name in candidates if verdicts[name] == "pass"} == candidates, report
    assert report.winner in candidates


def test_its_own_metrics_are_in_the_scorecard(project: Path) -> None:
    rows = {row.variant: row for row in Recommendation.read(Workspace().recommendation).rows}
    assert rows["onnx-int8"].metrics["agreement"].value == pytest.approx(1.0, abs=0.1)
    assert rows["onnx-int8"].metrics["rows_per_s"].value > 0
    assert rows["onnx-int8"].metrics["rows_speedup"].value > 0
    assert "same class" in (Workspace().report / "index.html").read_text()


def test_the_registered_model_answers_as_the_layer_does(project: Path) -> None:
    import mlflow

    tracked = Tracked.read(Workspace().tracked)
    assert (tracked.model_name, tracked.version) == ("edgewright-linear", "1")
    model = mlflow.pyfunc.load_model(f"models:/{tracked.model_name}/{tracked.version}")
    with np.load("linear.npz") as stored:
        rows = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
        expected = rows @ stored["weight"] + stored["bias"]
    found = model.predict({"x": rows})
    assert found.shape == (5, 3)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.8
    assert not os.environ.get("PYTHONPATH") or Path(os.environ["PYTHONPATH"]) == ROOT


# --- two optimizations in one process, and what the memo hashes ---


def optimize(root: Path, seed: int) -> tuple[str, ...]:
    """Fetch to evaluate in a workspace of its own, without the current folder; digests of what was scored."""
    place = Workspace(root / "artifacts")
    given = parse(params() | {"data": {"evaluation_rows": 40, "calibration_rows": 8, "seed": seed}})
    fetch(given.fetch, place.model)
    data(given, place.model, place.data)
    reference(place, given)
    entries = {name: factories.plan_entry(name, recipe=recipe_of(name), source="model") for name in VARIANTS}
    found = []
    for entry in entries.values():
        assert convert(place, entry, given).status == "ok"
        scored = evaluate(place, entry, given, ())
        assert scored.status == "ok", scored.reason
        found.append(content_of(place.evaluation(entry.variant) / "outputs.npy"))
    return tuple(found)


def recipe_of(name: str) -> Recipe:
    chosen = {"role": "candidate", **VARIANTS[name]}
    return factories.recipe(**chosen, method="default", group_size=0)


def test_two_optimizations_in_one_process_do_not_meet(project: Path, tmp_path: Path) -> None:
    alone = [optimize(tmp_path / f"alone-{seed}", seed) for seed in (1, 2)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        together = list(pool.map(lambda seed: optimize(tmp_path / f"together-{seed}", seed), (1, 2)))
    assert together == alone
    assert not set(alone[0]) & set(alone[1])


def test_coming_back_to_other_settings_measures_nothing_again(project: Path, tmp_path: Path) -> None:
    root, started = tmp_path / "back", []
    first = optimize(root, 1)
    optimize(root, 2)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tasks.reference", "tasks.kinds.evaluating"):
            real = import_module(module).run_child
            patch.setattr(f"{module}.run_child", lambda *given, real=real: started.append(given) or real(*given))
        assert optimize(root, 1) == first
    assert started == []


def test_a_memo_hashes_only_what_dvc_hashes(project: Path) -> None:
    """Every file under a key lies under a dependency of its stage, so that DVC asks whenever the key could differ."""
    hashed: dict[str, list[Path]] = {}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    given = load_params()
    with pytest.MonkeyPatch.context() as patch:
        for stage, module in KEYED.items():
            noting = hashed.setdefault(stage, [])
            patch.setattr(f"{module}.key_of", lambda words, files, noting=noting: noting.extend(files) or "k" * 64)
        entry = PlanEntry.read(Workspace().plan("onnx-int8"))
        import_module("tasks.reference").key(Workspace(), "tests.tasks.toy_kind", given)
        import_module("tasks.kinds.evaluating").key(Workspace(), entry, given)
        import_module("tasks.tune").key(Workspace(), "onnx", "onnx-int8", given)
        entries = {name: PlanEntry.read(Workspace().plan(name)) for name in VARIANTS}
        made = {name: Artifact.read(Workspace().artifact_record(name)) for name in VARIANTS}
        Benchmarking(Workspace(), given, entries, made, {}, {}, ()).key("onnx-int8")
    for stage, files in hashed.items():
        body = stages[stage].get("do", stages[stage])
        text = [one.replace("${key}", "onnx-int8").replace("${item.backend}", "onnx") for one in body["deps"]]
        assert files, stage
        for file in files:
            assert any(file.is_relative_to(one) for one in text), f"{stage} hashes {file}, which DVC does not"
