"""The main job on the real sample model with a reduced sample: run it, run it again, change it, kill it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows.bench import copy
from tasks import ledger, paths
from tasks.packaging.manifest import verify_manifest
from tasks.records import Artifact, Benchmark, Evaluation, GateReport, Package, Recommendation
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SMALLER = (
    "profiles.quick.data.evaluation_rows=8",
    # how fast the machine is, and what else runs on it, is no matter of this test
    "benchmark.max_others_cores=64",
    "profiles.quick.gate.min_decode_speedup=null",
    "gate.min_prefill_speedup=null",
    "gate.min_decode_long_speedup=null",
    "gate.max_tail_ratio=null",
)
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


def stamps(folder: Path) -> dict[str, int]:
    """When each stage's first output was written; of the stage benchmark each variant's."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    places = {name: folder / stage["outs"][0]["path"] for name, stage in stages.items() if name != "benchmark"}
    places |= {f"benchmark@{place.name}": place for place in (folder / paths.BENCHMARK).iterdir()}
    return {name: place.lstat().st_mtime_ns for name, place in places.items()}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A checkout in which the main job has run once."""
    folder = copy(ROOT, tmp_path_factory.mktemp("job") / "checkout")
    settings = [part for setting in SMALLER for part in ("-S", setting)]
    done = call(folder, "flows.run", "--profile", "quick", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


def test_the_scorecard_is_printed_with_every_variant(job):
    _, printed = job
    for variant in QUICK:
        assert variant in printed
    assert re.search(r"not part of the\s+quick", printed)


def test_every_measured_variant_has_quality_and_speed_and_others_a_reason(job):
    folder, _ = job
    for row in Recommendation.read(folder / paths.RECOMMENDATION).rows:
        artifact = Artifact.read(folder / paths.artifact_record(row.variant))
        evaluation = Evaluation.read(folder / paths.evaluation_record(row.variant))
        benchmark = Benchmark.read(folder / paths.benchmark_record(row.variant))
        if row.variant not in QUICK:
            assert evaluation.status == benchmark.status == "skipped"
            assert evaluation.reason
            continue
        assert artifact.status == "ok", artifact.reason
        assert artifact.check is not None
        assert artifact.check.mean_kl <= artifact.check.kl_limit
        assert evaluation.perplexity_ratio is not None
        assert evaluation.predictions > 50
        assert (benchmark.decode_tokens_per_s is not None) == benchmark.speed.ok


def test_all_four_frameworks_made_something(job):
    folder, _ = job
    made = {Artifact.read(folder / paths.artifact_record(v)).recipe.backend for v in QUICK}
    assert made == {"torch", "openvino", "onnx", "gguf", "mlx"}


def test_the_winner_passed_and_its_package_is_whole(job):
    folder, _ = job
    verdicts = GateReport.read(folder / paths.VERDICTS)
    package = Package.read(folder / paths.PACKAGE_RECORD)
    assert verdicts.outcome == "pass", verdicts.reason
    assert (package.status, package.variant) == ("ok", verdicts.winner)
    assert verify_manifest(folder / paths.PACKAGE) == package.manifest_sha256
    assert call(folder, "tasks.gate", "--enforce").returncode == 0


def test_the_lines_of_the_package_run(job):
    folder, _ = job
    readme = (folder / paths.PACKAGE / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.S)
    assert code, readme
    done = subprocess.run(
        [sys.executable, "-c", code.group(1)],
        cwd=folder / paths.PACKAGE,
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
        "from pathlib import Path; from tasks.pyfunc import Answerer;"
        "alone = Answerer(Path('artifacts/package')).answer(question, 24);"
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
    page = (folder / paths.REPORT / "index.html").read_text()
    assert "openvino-int8" in page
    assert not re.search(r'(src|href)="https?://', page)


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
    assert (runs, versions) == (1 + len(Recommendation.read(folder / paths.RECOMMENDATION).rows), 1)


def test_running_again_changes_nothing(job):
    folder, _ = job
    before = stamps(folder)
    again = call(folder, "flows.run")
    assert again.returncode == 0, again.stderr
    assert "nothing changed" in again.stdout + again.stderr
    assert {k: v for k, v in stamps(folder).items() if k not in ("detect", "track")} == {
        k: v for k, v in before.items() if k not in ("detect", "track")
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
    running = subprocess.Popen(
        [sys.executable, "-m", "flows.run", "-S", "variants.gguf-q4_k_m.method=q5_k_m"],
        cwd=folder, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    partial = folder / paths.VARIANTS / ".gguf-q4_k_m.partial"
    deadline = time.monotonic() + 240
    while not partial.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert partial.exists(), "the conversion never began"
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()

    again = call(folder, "flows.run")
    assert again.returncode == 0, again.stdout + again.stderr
    after = stamps(folder)
    tail = {"detect", "assess", "tune", "recommend", "gate", "package", "report", "track"}
    ran = {name for name in after if after[name] != before.get(name)} - tail
    assert ran == {f"{verb}@gguf-q4_k_m" for verb in ("convert", "evaluate", "benchmark")}
    remade = Artifact.read(folder / paths.artifact_record("gguf-q4_k_m"))
    assert (remade.status, remade.recipe.method) == ("ok", "q5_k_m")
    assert not partial.exists()


def test_dvc_alone_finds_nothing_to_do(job):
    folder, _ = job
    done = call(folder, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert "convert" not in re.sub(r"Stage '[^']*' didn't change, skipping", "", done.stdout + done.stderr)


def test_a_second_run_at_the_same_time_says_who_holds_the_lock(job):
    folder, _ = job
    script = (
        "import time; from pathlib import Path; from flows import lock;\n"
        "with lock.hold(Path.cwd(), True, print):\n    print('held', flush=True); time.sleep(120)"
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
