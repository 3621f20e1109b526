"""Results into MLflow once, again after a kill, not at all without a server; and the model that comes back out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks import package as packaging
from tasks import paths, registry, track
from tasks.config import Params
from tasks.errors import DataError, ModelError, RegistryError
from tasks.ledger import LEDGER
from tasks.packaging.manifest import verify_manifest
from tasks.records import GateReport, Package, Recommendation
from tests import factories as make
from tests.finished import WINNER, database, finished

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty project with an empty MLflow store at the default place, named in full: MLflow keeps stores by name."""
    monkeypatch.chdir(tmp_path)
    for name, value in (registry.SETTINGS | {"EDGEWRIGHT_ACTOR": "ann"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database(tmp_path / "mlruns/mlflow.db"))


def packaged(**changes: Any) -> track.Results:
    """A finished run with its package."""
    params = finished(**changes)
    return repackaged(params)


def repackaged(params: Params) -> track.Results:
    report, recommendation = GateReport.read(paths.VERDICTS), Recommendation.read(paths.RECOMMENDATION)
    packaging.package(report, recommendation, paths.PACKAGE).write(paths.PACKAGE_RECORD)
    return track.read_results(params)


ECHO = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Echo(PythonModel):
    def predict(self, context, model_input, params=None):
        return list(model_input["prompt"])

set_model(Echo())
"""


def echo(run_id: str, package: Path, backend: str, tags: Mapping[str, str]) -> str:
    """Log a model of a few bytes instead of the package; everything else is MLflow's."""
    import mlflow

    Path("echo.py").write_text(ECHO)
    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="model", python_model="echo.py", signature=registry.signature(), pip_requirements=[], tags=dict(tags)
        )
    return str(info.model_id)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "log_model", echo)


def store() -> Any:
    import mlflow

    mlflow.set_tracking_uri(registry.tracking_uri())
    return mlflow.MlflowClient()


def everything() -> tuple[list[Any], list[Any], list[Any]]:
    """Active parent runs, active variant runs and versions."""
    client = store()
    experiment = client.get_experiment_by_name("edgewright")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags[track.KIND] == "pipeline"]
    return parents, [run for run in runs if run not in parents], client.search_model_versions()


@pytest.mark.usefixtures("light")
def test_a_run_is_tracked_whole() -> None:
    results = packaged()
    tracked = track.track(results)
    parents, variants, versions = everything()
    assert [run.info.run_id for run in parents] == [tracked.parent_run_id]
    parent = parents[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[track.COMPLETE] == "true"
    assert parent.data.tags["winner"] == WINNER
    assert parent.data.tags["gate.outcome"] == "pass"
    assert parent.data.tags["hardware.cpu"] == "Test CPU"
    assert parent.data.tags["dvc.lock.sha256"] == "no dvc.lock"
    assert parent.data.params["gate.min_retention"] == "0.95"
    assert parent.data.metrics["winner/decode_tokens_per_s"] == 75.0
    assert (parent.data.metrics["variants/pass"], parent.data.metrics["variants/fail"]) == (1, 1)
    names = {entry.path for entry in store().list_artifacts(tracked.parent_run_id)}
    assert {"scorecard.json", "reproduce.md", "verdicts.json", "CARD.md", "params.yaml"} <= names
    assert {run.info.run_name for run in variants} == {"torch-fp32", WINNER, "gguf-q8_0"}
    assert {run.data.tags["mlflow.parentRunId"] for run in variants} == {tracked.parent_run_id}
    assert [(v.version, v.tags[registry.VERDICT]) for v in versions] == [(int(str(tracked.version)), "pass")]


@pytest.mark.usefixtures("light")
def test_a_variants_run_holds_its_recipe_its_figures_and_its_gaps() -> None:
    track.track(packaged())
    runs = {run.info.run_name: run for run in everything()[1]}
    good, crashed = runs[WINNER], runs["gguf-q8_0"]
    assert (good.data.params["precision"], good.data.params["group_size"]) == ("int8", "64")
    assert good.data.metrics["retention"] == 0.996
    assert good.data.tags["version.openvino"] == "2026.4.1"
    assert (good.data.tags["status"], good.data.tags[registry.VERDICT]) == ("ok", "pass")
    assert {entry.path for entry in store().list_artifacts(good.info.run_id)} >= {"artifact.json", "evaluation.json"}
    assert (crashed.info.status, crashed.data.metrics) == ("FAILED", {})
    assert crashed.data.tags["absent"] == "retention: missing, crash: out of memory"
    assert crashed.data.tags["reason"] == "crash: out of memory"


@pytest.mark.usefixtures("light")
def test_tracking_twice_adds_nothing_even_when_mlflow_itself_is_asked() -> None:
    results = packaged()
    first = track.track(results)
    counts = [len(part) for part in everything()]
    assert track.track(results) == first
    assert track.track(results, force=True) == first
    (track.RECEIPTS / f"{results.digest}.json").unlink()
    assert track.track(results) == first
    assert [len(part) for part in everything()] == counts == [1, 3, 1]


@pytest.mark.usefixtures("light")
def test_a_broken_receipt_is_no_receipt() -> None:
    results = packaged()
    first = track.track(results)
    (track.RECEIPTS / f"{results.digest}.json").write_text("{")
    assert track.track(results) == first


@pytest.mark.usefixtures("light")
def test_a_receipt_for_another_store_or_a_lost_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    results = packaged()
    here = track.track(results)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database(Path("other/mlflow.db").resolve()))
    there = track.track(results)
    assert (there.parent_run_id != here.parent_run_id, there.version) == (True, "1")
    Path("other/mlflow.db").unlink()
    assert track.receipt(results.digest, registry.tracking_uri()) is None


@pytest.mark.usefixtures("light")
def test_other_results_make_another_run_and_version() -> None:
    first = track.track(packaged(decode=75.0))
    second = track.track(packaged(decode=90.0))
    assert (first.version, second.version) == ("1", "2")
    assert [len(part) for part in everything()] == [2, 6, 2]


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_without_a_pass_the_runs_are_tracked_and_nothing_is_registered(outcome: Any) -> None:
    tracked = track.track(packaged(outcome=outcome))
    parents, variants, versions = everything()
    assert (tracked.version, len(variants), versions) == (None, 3, [])
    assert tracked.reason == "nothing to register: no candidate passed"
    assert parents[0].data.tags["winner"] == "none"


@pytest.mark.usefixtures("light")
def test_a_package_that_was_touched_is_not_registered() -> None:
    results = packaged()
    (paths.PACKAGE / "model/openvino_model.xml").write_text("<net other>")
    with pytest.raises(ModelError, match=r"model/openvino_model.xml was changed"):
        track.track(results)
    repackaged(results.params)
    assert track.track(results).version == "1"
    assert [len(part) for part in everything()] == [1, 3, 1]


@pytest.mark.usefixtures("light")
def test_a_package_of_other_results_is_not_registered() -> None:
    old = packaged(decode=75.0)
    finished(decode=90.0)
    mixed = track.read_results(old.params)
    with pytest.raises(DataError, match="was made from other results"):
        track.track(mixed)


KILLED = """
import os, signal, sys
import mlflow
from tasks import registry, track
from tests import factories as make
from tests.test_track import echo

registry.log_model = echo
victim, count = sys.argv[1], int(sys.argv[2])
owner = {"log_variant": track, "register": registry, "set_tag": mlflow.MlflowClient}[victim]
original, calls = getattr(owner, victim), []

def fatal(*arguments, **named):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(owner, victim, fatal)
track.track(track.read_results(make.params()))
"""


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("victim", "count"),
    [("log_variant", 2), ("register", 1), ("set_tag", 1)],
    ids=["between variants", "before registering", "before completeness"],
)
def test_a_track_killed_in_the_middle_is_done_again_and_leaves_nothing_double(victim: str, count: int) -> None:
    results = packaged()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, victim, str(count)], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert not track.RECEIPTS.exists()
    assert len(everything()[0]) == 1
    tracked = track.track(results)
    parents, variants, versions = everything()
    assert [run.info.run_id for run in parents] == [tracked.parent_run_id]
    assert [run.data.tags[track.COMPLETE] for run in parents] == ["true"]
    assert {run.data.tags["mlflow.parentRunId"] for run in variants} == {tracked.parent_run_id}
    assert [v.run_id for v in versions] == [tracked.parent_run_id]
    client = store()
    models = client.search_logged_models([client.get_experiment_by_name("edgewright").experiment_id])
    assert [model.source_run_id for model in models] == [tracked.parent_run_id]


def test_an_unreachable_server_keeps_the_results_and_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert track.main([]) == 2
    said = capsys.readouterr().err
    assert "MLflow at http://127.0.0.1:9 did not do its part" in said
    assert "results are kept in artifacts/" in said
    assert "repeat with `python -m tasks.track`" in said
    assert not paths.TRACKED.exists()
    assert Package.read(paths.PACKAGE_RECORD).status == "ok"


@pytest.mark.usefixtures("light")
def test_an_experiment_deleted_in_mlflow_is_named() -> None:
    results = packaged()
    track.track(results)
    client = store()
    client.delete_experiment(client.get_experiment_by_name("edgewright").experiment_id)
    with pytest.raises(RegistryError, match="'edgewright' was deleted in MLflow; restore it"):
        track.track(results, force=True)


def test_with_a_receipt_mlflow_is_not_even_imported() -> None:
    results = packaged()
    noted = track.Tracked(
        digest=results.digest, tracking_uri=registry.tracking_uri(), experiment="edgewright", parent_run_id="r",
        model_name="m", version="1", reason="noted",
    )  # fmt: skip
    noted.write(track.RECEIPTS / f"{results.digest}.json")
    code = (
        "import sys; from tasks import track; track.main([]); print('mlflow' in sys.modules, 'pandas' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert run.stdout.split("\n")[-2] == "False False", run.stdout + run.stderr
    assert track.Tracked.read(paths.TRACKED) == noted


def test_the_digest_changes_with_results_package_and_parameters_only() -> None:
    results = packaged()
    assert track.read_results(results.params).digest == results.digest
    others = [
        track.Results(make.params(track={"experiment": "x"}), results.report, results.recommendation, results.package),
        track.Results(
            results.params, results.report, results.recommendation,
            results.package.model_copy(update={"manifest_sha256": "0"}),
        ),
        track.Results(
            results.params, results.report.model_copy(update={"results_digest": "0"}), results.recommendation,
            results.package,
        ),
    ]  # fmt: skip
    assert len({results.digest, *(other.digest for other in others)}) == 4


# the model that MLflow gives back


def tiny_checkpoint(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A random Llama of a few thousand weights and a tokenizer for it: files of a model and of a tokenizer folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(3)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "<end>"])}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder / "tokenizer")
    shape = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1, eos_token_id=256)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    read = {part: {f.name: f.read_bytes() for f in (folder / part).iterdir()} for part in ("model", "tokenizer")}
    return read["model"], read["tokenizer"]


@pytest.mark.slow
def test_the_registered_champion_answers_from_its_own_package(tmp_path: Path) -> None:
    files, tokenizer = tiny_checkpoint(tmp_path / "made")
    results = packaged(files=files, tokenizer=tokenizer, backend="torch")
    tracked = track.track(results)
    promoted = registry.promote(tracked.model_name, tracked.version, results.report, "ann", "passed", LEDGER)
    assert promoted.changed
    code = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/edgewright-sample@champion")
frame = pandas.DataFrame({"prompt": ["Hello", "two plus two"]})
answers = [model.predict(frame, params={"max_new_tokens": 5}), model.predict([{"prompt": "Hello"}])]
import tasks
print(json.dumps([answers, tasks.__file__ or list(tasks.__path__)[0]]))
"""
    elsewhere = tmp_path / "elsewhere"  # no checkout of this project in sight: the model brings its code
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code, registry.tracking_uri()],
        env=environment,
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (several, one), home = json.loads(run.stdout.strip().splitlines()[-1])
    assert "mlruns/artifacts" in home
    assert several == [expected(tmp_path, "Hello", 5), expected(tmp_path, "two plus two", 5)]
    assert one == [expected(tmp_path, "Hello", 64)]


def expected(folder: Path, prompt: str, new_tokens: int) -> str:
    """The same answer by transformers' own generation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "made" / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder / "made" / "model")
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    made = model.generate(ids, max_new_tokens=new_tokens, do_sample=False, pad_token_id=256)[0][ids.shape[1] :]
    return tokenizer.decode(made, skip_special_tokens=True)


@pytest.mark.slow
def test_the_package_of_a_version_is_found_to_be_served() -> None:
    results = packaged()
    tracked = track.track(results)
    with pytest.raises(RegistryError, match="no champion"):
        registry.located(tracked.model_name, registry.CHAMPION)
    registry.promote(tracked.model_name, tracked.version, results.report, "ann", "passed", LEDGER)
    found = registry.located(tracked.model_name, registry.CHAMPION)
    assert found == registry.located(tracked.model_name, str(tracked.version))
    assert found.version == str(tracked.version)
    assert verify_manifest(found.package, found.manifest_sha256) == found.manifest_sha256
    client = store()
    client.set_model_version_tag(tracked.model_name, found.version, registry.VERDICT, "fail")
    with pytest.raises(RegistryError, match="its verdict is fail"):
        registry.located(tracked.model_name, found.version)


def test_a_package_changed_inside_mlflow_is_not_loaded(tmp_path: Path) -> None:
    from tasks.pyfunc import Answerer

    results = packaged()
    weights = paths.PACKAGE / "model/openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ModelError, match=r"model/openvino_model.bin was changed"):
        Answerer(paths.PACKAGE, results.package.manifest_sha256)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1], "prompt 0 is 1"),
        (["a", ""], "prompt 1 is ''"),
        ([{"text": "a"}], "prompt 0 is None"),
    ],
)
def test_prompts_that_are_no_text_are_refused(given: Any, text: str) -> None:
    from tasks.pyfunc import prompts

    with pytest.raises(DataError, match=text):
        prompts(given)


def test_prompts_come_in_several_forms() -> None:
    import pandas as pd

    from tasks.pyfunc import prompts

    assert prompts("a") == prompts(["a"]) == prompts({"prompt": "a"}) == prompts([{"prompt": "a"}]) == ["a"]
    assert prompts(pd.DataFrame({"prompt": ["a", "b"]})) == ["a", "b"]
    with pytest.raises(DataError, match="no column 'prompt'; found text"):
        prompts(pd.DataFrame({"text": ["a"]}))


@pytest.mark.parametrize(
    ("stated", "own", "ends"),
    [
        (None, 2, {2}),
        ('{"eos_token_id": 5}', 2, {2, 5}),
        ('{"eos_token_id": [5, 6]}', None, {5, 6}),
        ("{}", None, set()),
    ],
)
def test_what_ends_a_text(stated: str | None, own: int | None, ends: set[int]) -> None:
    from tasks.models.text import end_tokens
    from tasks.pyfunc import until

    if stated is not None:
        Path("generation_config.json").write_text(stated)
    assert end_tokens(Path(), own) == ends
    assert until([1, 3, 2, 4], {2}) == [1, 3]
    assert until([1, 3], ends) == [1, 3]
