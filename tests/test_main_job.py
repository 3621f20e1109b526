"""The main job on the real sample model with a reduced sample: run it, run it again, change it, kill it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.packaging.manifest import verify_manifest
from tasks.params.load import LOCAL
from tasks.records.artifact import Artifact, Package
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation
from tasks.records.speed import Benchmark
from tasks.records.verdict import GateReport
from tasks.registry import ledger
from tasks.run.memo import content_of
from tasks.run.workspace import Workspace
from tests.bench.harness import copy
from tests.bench.waiting import stages_written

pytestmark = pytest.mark.slow

# How fast the machine is, and what else runs on it, is no matter of this test.
SMALLER = """\
profile: quick
profiles:
  quick:
    data: {evaluation_rows: 8, choices: 8, prompt_tokens_long: 96, prompt_tokens_longest: 160}
    benchmark: {rounds: 2, new_tokens: 12, stress_tokens: 160}
    gate: {decode_speedup: null}
convert: {probe_tokens: 96}
benchmark: {max_others_cores: 64.0}
gate: {prefill_speedup: null, decode_long_speedup: null, tail_ratio: null}
"""
QUICK = {"torch-fp32", "openvino-int8", "onnx-int8", "gguf-q4_k_m", "mlx-int4"}
ENV = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))},
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "EDGEWRIGHT_ACTOR": "the test",
}


def call(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in the job's folder and keep what it printed."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=ENV | changes, capture_output=True, text=True, timeout=1200
    )


def stamps(folder: Path) -> dict[str, float | str]:
    """When each stage's first output was written; of the stage benchmark each variant's timings instead.

    DVC copies what a stage keeps from run to run before it starts it, so that those times tell nothing.
    """
    written = {name: stamp for name, stamp in stages_written(folder).items() if name != "benchmark"}
    timed = (folder / Workspace().benchmarks).iterdir()
    return written | {f"benchmark@{place.name}": content_of(place) for place in timed}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A checkout in which the main job has run once."""
    folder = copy(tmp_path_factory.mktemp("job") / "checkout")
    (folder / LOCAL).write_text(SMALLER)
    done = call(folder, "flows.run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


def test_the_scorecard_is_printed_with_every_variant(job):
    _, printed = job
    for variant in QUICK:
        assert variant in printed
    assert re.search(r"not part of the\s+quick", printed)


def test_every_measured_variant_has_quality_and_speed_and_others_a_reason(job):
    folder, _ = job
    for row in Recommendation.read(folder / Workspace().recommendation).rows:
        artifact = Artifact.read(folder / Workspace().artifact_record(row.variant))
        evaluation = Evaluation.read(folder / Workspace().evaluation_record(row.variant))
        benchmark = Benchmark.read(folder / Workspace().benchmark_record(row.variant))
        if row.variant not in QUICK:
            assert evaluation.status == benchmark.status == "skipped"
            assert evaluation.reason
            continue
        assert artifact.status == "ok", artifact.reason
        assert artifact.check is not None
        assert artifact.check.distance <= artifact.check.distance_limit
        assert evaluation.figures["perplexity_ratio"].value is not None
        assert evaluation.counts["predictions"] > 50
        assert ("decode_tokens_per_s" in benchmark.phases) == benchmark.speed.ok


def test_all_four_frameworks_made_something(job):
    folder, _ = job
    made = {Artifact.read(folder / Workspace().artifact_record(v)).recipe.backend for v in QUICK}
    assert made == {"torch", "openvino", "onnx", "gguf", "mlx"}


def test_the_winner_passed_and_its_package_is_whole(job):
    folder, _ = job
    verdicts = GateReport.read(folder / Workspace().verdicts)
    package = Package.read(folder / Workspace().package_record)
    assert verdicts.outcome == "pass", verdicts.reason
    assert (package.status, package.variant) == ("ok", verdicts.winner)
    assert verify_manifest(folder / Workspace().package) == package.manifest_sha256
    assert call(folder, "tasks.gate", "--enforce").returncode == 0


def test_the_lines_of_the_package_run(job):
    folder, _ = job
    readme = (folder / Workspace().package / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.S)
    assert code, readme
    done = subprocess.run(
        [sys.executable, "-c", code.group(1)],
        cwd=folder / Workspace().package,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search("Paris|France", done.stdout), done.stdout  # which variant wins is up to the machine


def test_the_champion_answers_through_mlflow(job):
    folder, _ = job
    script = (
        "import mlflow, pandas as pd; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/edgewright-sample@champion');"
        "question = 'What is the capital of France?'; frame = pd.DataFrame({'prompt': [question]});"
        "answers = model.predict(frame, params={'max_new_tokens': 24});"
        "from pathlib import Path; from tasks.registry.pyfunc import opened;"
        "alone = opened(Path('artifacts/package')).answer(question, 24);"
        "assert answers == [alone] and len(alone.split()) > 1, (answers, alone)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=ENV, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr  # what it answers is up to the variant, and that up to the machine


def test_promotion_is_in_the_ledger(job):
    folder, _ = job
    first = ledger.read(folder / ledger.LEDGER).entries[0]
    assert (first.action, first.who, first.from_version, first.to_version) == ("promote", "the test", None, "1")


def test_the_report_is_one_file_without_requests(job):
    folder, _ = job
    page = (folder / Workspace().report / "index.html").read_text()
    assert "openvino-int8" in page
    assert not re.search(r'(src|href)="https?://', page)


def test_a_first_scorecard_says_what_it_is_and_scores_nothing_twice(job):
    folder, _ = job
    scored = {name: content_of(folder / Workspace().evaluation(name)) for name in QUICK}
    known = call(folder, "tasks.provisional")
    assert known.returncode == 0 and "all of it was measured before" in known.stdout, known.stderr
    shutil.rmtree(folder / Workspace().memo / "benchmark")
    done = call(folder, "tasks.provisional")
    assert done.returncode == 0, done.stderr
    assert f"PROVISIONAL, {len(QUICK)} of {len(QUICK)} variants, timed once each" in done.stdout
    assert not re.search(r"passes every gate|No candidate passed", done.stdout), "nothing is decided by it"
    assert all(variant in done.stdout for variant in QUICK)
    assert "PROVISIONAL" in (folder / Workspace().provisional).read_text()
    assert {name: content_of(folder / Workspace().evaluation(name)) for name in QUICK} == scored


def test_tracking_twice_adds_nothing(job):
    folder, _ = job
    count = (
        "import mlflow; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db'); c = mlflow.MlflowClient();"
        "print(len(c.search_runs([e.experiment_id for e in c.search_experiments()], max_results=1000)),"
        "len(c.search_model_versions('')))"
    )

    def counted():
        return subprocess.run([sys.executable, "-c", count], cwd=folder, env=ENV, capture_output=True, text=True).stdout

    before = counted()
    assert call(folder, "tasks.track", "--force").returncode == 0
    assert counted() == before
    runs, versions = map(int, before.split())
    assert (runs, versions) == (1 + len(Recommendation.read(folder / Workspace().recommendation).rows), 1)


def test_running_again_changes_nothing(job):
    folder, _ = job
    every_time = ("compose", "detect", "track")
    before = stamps(folder)
    again = call(folder, "flows.run")
    assert again.returncode == 0, again.stderr
    assert "nothing changed" in again.stdout + again.stderr
    assert {k: v for k, v in stamps(folder).items() if k not in every_time} == {
        k: v for k, v in before.items() if k not in every_time
    }


def test_mlflow_unreachable_is_said_and_tracking_can_be_repeated(job):
    folder, _ = job
    failed = call(folder, "tasks.track", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert failed.returncode == 2
    assert "127.0.0.1:9" in failed.stderr
    assert "repeat" in failed.stderr
    assert call(folder, "tasks.track").returncode == 0


def test_a_killed_run_goes_on_where_it_was_and_one_variant_stays_one_variant(job):
    """Change one variant, kill everything in the middle of its conversion, run again."""
    folder, _ = job
    before = stamps(folder)
    change = ("-S", "variants.gguf-q4_k_m.method=q5_k_m")
    running = subprocess.Popen(
        [sys.executable, "-m", "flows.run", *change],
        cwd=folder, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    partial = folder / Workspace().variants / ".gguf-q4_k_m.partial"
    deadline = time.monotonic() + 240
    while not partial.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert partial.exists(), "the conversion never began"
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()

    again = call(folder, "flows.run", *change)
    assert again.returncode == 0, again.stdout + again.stderr
    after = stamps(folder)
    tail = {"compose", "code", "detect", "assess", "tune", "place", "recommend", "gate", "package", "report", "track"}
    ran = {name for name in after if after[name] != before.get(name)} - tail
    assert ran == {f"{verb}@gguf-q4_k_m" for verb in ("convert", "evaluate", "benchmark")}
    remade = Artifact.read(folder / Workspace().artifact_record("gguf-q4_k_m"))
    assert (remade.status, remade.recipe.method) == ("ok", "q5_k_m")
    assert not partial.exists()


def test_dvc_alone_finds_nothing_to_do(job):
    folder, _ = job
    local = folder / LOCAL  # DVC alone knows no command's settings
    local.write_text(local.read_text() + "variants: {gguf-q4_k_m: {method: q5_k_m}}\n")
    done = call(folder, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert "convert" not in re.sub(r"Stage '[^']*' didn't change, skipping", "", done.stdout + done.stderr)


def test_a_second_run_at_the_same_time_says_who_holds_the_lock(job):
    folder, _ = job
    script = (
        "import time; from pathlib import Path; from flows import run_lock;\n"
        "with run_lock.hold(Path.cwd(), True, print):\n    print('held', flush=True); time.sleep(120)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=folder, env=ENV, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert "held" in holder.stdout.readline()
        second = call(folder, "flows.run", "--no-wait")
        assert second.returncode == 2
        assert str(holder.pid) in second.stderr
    finally:
        holder.kill()
        holder.wait()
