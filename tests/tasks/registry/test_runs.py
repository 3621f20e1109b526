"""What MLflow holds of a run, of each variant, and when a package becomes a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DataError, ModelError, RegistryError
from tasks.records.targets import TargetVerdict, TargetVerdicts
from tasks.registry import logged_model
from tasks.registry.precedence import from_tags, strength
from tasks.registry.results import Results
from tasks.registry.tags import COMPLETE, VERDICT
from tasks.track import track
from tests.finished import WINNER, finished
from tests.tracked import SPACE, client, echo, everything, packaged, project, repackaged


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    monkeypatch.setattr(logged_model, "log_model", echo)


def test_a_run_is_tracked_whole() -> None:
    results = packaged()
    tracked = track(results)
    parents, variants, versions = everything()
    assert [run.info.run_id for run in parents] == [tracked.parent_run_id]
    parent = parents[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[COMPLETE] == "true"
    assert parent.data.tags["winner"] == WINNER
    assert parent.data.tags["gate.outcome"] == "pass"
    assert parent.data.tags["hardware.cpu"] == "Test CPU"
    assert parent.data.tags["dvc.lock.sha256"] == "no dvc.lock"
    assert parent.data.params["gate.retention.min"] == "0.95"
    assert parent.data.metrics["winner/decode_tokens_per_s"] == 75.0
    assert (parent.data.metrics["variants/pass"], parent.data.metrics["variants/fail"]) == (1, 1)
    names = {entry.path for entry in client().list_artifacts(tracked.parent_run_id)}
    assert {"scorecard.json", "reproduce.md", "verdicts.json", "CARD.md", "params.yaml"} <= names
    assert {run.info.run_name for run in variants} == {"torch-fp32", WINNER, "gguf-q8_0"}
    assert {run.data.tags["mlflow.parentRunId"] for run in variants} == {tracked.parent_run_id}
    assert [(v.version, v.tags[VERDICT]) for v in versions] == [(int(str(tracked.version)), "pass")]


def test_each_of_several_targets_has_tags_of_its_own() -> None:
    results = packaged()
    other = results.report.model_copy(update={"outcome": "inconclusive", "winner": None, "reason": "some could not"})
    reports = {"here": ("host", results.report), "pi": ("raspberry-pi", other)}
    found = tuple(TargetVerdict(target=n, device=device, report=one) for n, (device, one) in reports.items())
    TargetVerdicts(targets=found).write(SPACE.target_verdicts)
    tracked = track(Results.read(SPACE, results.params))
    [parent] = everything()[0]
    tags = {key: value for key, value in parent.data.tags.items() if key.startswith("target.")}
    assert (tags["target.here.winner"], tags["target.here.outcome"]) == (WINNER, "pass")
    assert {key: value for key, value in tags.items() if ".pi." in key} == {
        "target.pi.device": "raspberry-pi", "target.pi.outcome": "inconclusive", "target.pi.winner": "none",
        "target.pi.reason": "some could not",
    }  # fmt: skip
    assert "targets.json" in {entry.path for entry in client().list_artifacts(tracked.parent_run_id)}


def test_a_variants_run_holds_its_recipe_its_figures_and_its_gaps() -> None:
    track(packaged())
    runs = {run.info.run_name: run for run in everything()[1]}
    good, crashed = runs[WINNER], runs["gguf-q8_0"]
    assert (good.data.params["precision"], good.data.params["group_size"]) == ("int8", "64")
    assert good.data.metrics["retention"] == 0.996
    assert good.data.tags["version.openvino"] == "2026.4.1"
    assert (good.data.tags["status"], good.data.tags[VERDICT]) == ("ok", "pass")
    assert {entry.path for entry in client().list_artifacts(good.info.run_id)} >= {"artifact.json", "evaluation.json"}
    assert (crashed.info.status, crashed.data.metrics) == ("FAILED", {})
    assert crashed.data.tags["absent"] == "retention: missing, crash: out of memory"
    assert crashed.data.tags["reason"] == "crash: out of memory"


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_without_a_pass_the_runs_are_tracked_and_nothing_is_registered(outcome: Any) -> None:
    tracked = track(packaged(outcome=outcome))
    parents, variants, versions = everything()
    assert (tracked.version, len(variants), versions) == (None, 3, [])
    assert tracked.reason == "nothing to register: no candidate passed"
    assert parents[0].data.tags["winner"] == "none"


def test_a_package_that_was_touched_is_not_registered() -> None:
    results = packaged()
    (SPACE.package / "model/openvino_model.xml").write_text("<net other>")
    with pytest.raises(ModelError, match=r"model/openvino_model.xml was changed"):
        track(results)
    repackaged(results.params)
    assert track(results).version == "1"
    assert [len(part) for part in everything()] == [1, 3, 1]


def test_a_package_of_other_results_is_not_registered() -> None:
    old = packaged(decode=75.0)
    finished(decode=90.0)
    mixed = Results.read(SPACE, old.params)
    with pytest.raises(DataError, match="was made from other results"):
        track(mixed)


def test_an_experiment_deleted_in_mlflow_is_named() -> None:
    results = packaged()
    track(results)
    own = client()
    own.delete_experiment(own.get_experiment_by_name("edgewright").experiment_id)
    with pytest.raises(RegistryError, match="'edgewright' was deleted in MLflow; restore it"):
        track(results, force=True)


def test_a_version_says_by_which_profile_and_gates_it_passed() -> None:
    results = packaged()
    track(results)
    found = from_tags(everything()[2][0].tags)
    assert results.winner is not None
    assert found == strength("full", results.report.verdicts[0], results.winner)
    assert set(found.gates) == {"retention"}
