"""The run as a command: order, failures, Dask, interruption, locks, servers; and a schedule that really fires."""

from __future__ import annotations

import doctest
import json
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import deploy, prefect_server, progress, run, run_lock, ui
from flows.dvc import pipeline
from flows.dvc.pipeline import Plan, StageFailed, Step
from tasks.errors import ConfigError, ResourceError
from tasks.params.load import load_params
from tests import pipelines
from tests.pipelines import start, until
from tests.tasks.kinds.causal_lm.test_describing import LLAMA, LLAMA_SHAPES, checkpoint


def overlap(first: dict[str, float], second: dict[str, float]) -> bool:
    return max(first["begun"], second["begun"]) < min(first["ended"], second["ended"])


# -- the pure parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [deploy, pipeline, progress], ids=lambda module: module.__name__)
def test_examples(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_conclusion_and_exit_code() -> None:
    from flows.steps import Result

    done = [Result("fetch", "done"), Result("promote", "done", reason="m: version 1 is champion")]
    assert run.conclude(done) == 0
    bad = Result("fetch", "failed", reason="no such model", code=2)
    broken = Result("convert@a", "failed", reason="boom", code=1)
    blocked = Result("evaluate@a", "blocked")
    assert run.conclude([bad, blocked]) == 2
    assert run.conclude([bad, broken, blocked]) == 1
    with pytest.raises(KeyboardInterrupt):
        run.conclude([Result("fetch", "failed", code=130), blocked])


def test_where_the_time_went_is_told_per_kind_of_stage() -> None:
    from flows import summary
    from flows.steps import Result

    two = [Result("convert@a", "done", 5.0, began=10.0), Result("convert@b", "failed", 2.0, began=14.0)]
    assert summary.spans([Result("fetch", "unchanged"), *two]) == {"convert": 6.0}


def test_a_task_runs_state_tells_how_its_stage_ended() -> None:
    from prefect.states import Completed, Failed, Pending

    from flows import steps

    step = Step("convert@a", "x modified")
    done = steps.Result("convert@a", "done", 1.0)
    assert steps.result(step, Completed(data=done)) == done
    assert steps.result(step, Pending(name="NotReady")).status == "blocked"
    failed = steps.result(step, Failed(data=StageFailed("convert@a", 1, "exited with 1")))
    assert (failed.status, failed.code) == ("failed", 1) and "dvc repro --single-item convert@a" in failed.reason


def test_retries_are_for_busy_files_and_an_unreachable_registry_only() -> None:
    from prefect.states import Failed

    from flows import steps
    from tasks.errors import RegistryError

    def retries(condition: Any, error: Exception) -> bool:
        return bool(condition(None, None, Failed(data=error)))

    assert retries(steps.run.retry_condition_fn, pipeline.PipelineBusy("busy"))
    assert not retries(steps.run.retry_condition_fn, StageFailed("convert@a", 1, "boom"))
    unreachable = RegistryError("MLflow does not answer")
    unreachable.__cause__ = ConnectionError()
    assert retries(steps.promote.retry_condition_fn, unreachable)
    assert not retries(steps.promote.retry_condition_fn, RegistryError("the verdict is fail"))


@pytest.mark.parametrize(
    ("cron", "interval", "message"),
    [(None, 0.0, "must be above 0"), ("every night", None, "five fields"), ("* * *", None, "five fields")],
)
def test_a_bad_schedule_is_refused(cron: str | None, interval: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        deploy.schedule(cron, interval)


# -- refusals that need no Prefect -------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_and_why_and_runs_nothing(tmp_path: Path) -> None:
    (root := tmp_path / "checkout").mkdir()
    mine = checkpoint(tmp_path / "mine", LLAMA, LLAMA_SHAPES)
    pipelines.make(root)
    before = files(root)
    done = pipelines.command(root, "flows.run", "--dry-run", "--model", str(mine), "--profile", "quick")
    assert done.returncode == 0, done.stdout
    assert "15 of 16 stages would run" in done.stdout and re.search(r"convert@a +not there yet", done.stdout)
    assert f"fetch.model = {mine}" in done.stdout
    assert files(root) == before


def files(root: Path) -> dict[Path, bytes]:
    """Every file of the checkout but DVC's own scratch files, with its content."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".dvc" not in path.parts}


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (["-S", "benchmark.round=1"], {}, "did you mean 'rounds'"),
        (["--task-runner", "spark"], {}, "allowed: local, dask"),
        ([], {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "no Prefect server answers at PREFECT_API_URL=http://127"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    tmp_path: Path, arguments: list[str], more: dict[str, str], message: str
) -> None:
    root = pipelines.make(tmp_path)
    text = (root / "params.yaml").read_text()
    done = pipelines.command(root, "flows.run", *arguments, **more)
    assert done.returncode == 2 and "error: " in done.stdout and message in done.stdout
    assert pipelines.ran(root) == [] and (root / "params.yaml").read_text() == text


def test_an_unreachable_dask_scheduler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.optimize import runner

    monkeypatch.setenv("DASK_ADDRESS", "tcp://127.0.0.1:9")
    with pytest.raises(ResourceError, match=r"no Dask scheduler answers at DASK_ADDRESS=tcp://127\.0\.0\.1:9"):
        runner("dask")


def test_a_run_in_a_held_checkout_is_refused_with_no_wait(tmp_path: Path) -> None:
    from flows import run_lock

    root = pipelines.make(tmp_path)
    with run_lock.hold(root):
        done = pipelines.command(root, "flows.run", "--no-wait")
    assert done.returncode == 2 and f"in use by process {os.getpid()} since" in done.stdout


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failure_stops_only_what_reads_from_it_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path, benchmark_s=0.5)
    (root / "fail-convert-a").write_text("1")
    text = (root / "params.yaml").read_text()
    first = pipelines.command(root, "flows.run")
    assert first.returncode == 1, first.stdout
    assert "words of convert-b" in first.stdout
    assert re.search(r"^\[ ?4/13\] convert a: FAILED, ", first.stdout, re.MULTILINE)
    assert re.search(r"^\[ ?8/13\] evaluate b: done, ", first.stdout, re.MULTILINE)
    assert re.search(r"^failed: convert@a: .*exited with 1; repeat it with", first.stdout, re.MULTILINE)
    assert "\n  | error: there is nothing to do convert-a with\n" in first.stdout
    assert "not run because of that: evaluate@a, benchmark@a, recommend, track" in first.stdout
    assert "scorecard" not in first.stdout  # what lies there is an earlier run's
    assert first.stdout.index("\nfailed: ") > first.stdout.index("benchmark b: done")
    assert "Traceback" not in first.stdout and "prefect" not in first.stdout

    # Dask takes the rest: the conversions at once, in two processes; then nothing is left to do.
    (root / "fail-convert-a").unlink()
    (root / "meet-convert").write_text("2")
    second = pipelines.command(
        root, "flows.run", "--task-runner", "dask", "-S", "convert.probe_tokens=11", "-S", "benchmark.rounds=3"
    )
    assert second.returncode == 0, second.stdout
    assert (root / "params.yaml").read_text() == text
    notes = {variant: pipelines.noted(root, "convert", variant) for variant in pipelines.VARIANTS}
    assert len({note["parent"] for note in notes.values()}) >= 2
    pairs = [("ref", "a"), ("a", "b"), ("ref", "b")]
    assert any(overlap(notes[one], notes[other]) for one, other in pairs), "nothing was converted at once"
    timed = {variant: pipelines.noted(root, "benchmark", variant) for variant in pipelines.VARIANTS}
    assert not any(overlap(timed[one], timed[other]) for one, other in pairs), "two measurements at once"
    assert pipelines.ran(root).count("fetch") == 1
    assert "not promoted: nothing passed the gates" in second.stdout

    before = pipelines.ran(root)
    third = pipelines.command(root, "flows.run", "-S", "convert.probe_tokens=11", "-S", "benchmark.rounds=3")
    assert third.returncode == 0 and "nothing changed since the last run" in third.stdout, third.stdout
    assert "starting Prefect" not in third.stdout
    assert pipelines.ran(root) == before

    # A run that is told nothing is plain again, and says so.
    fourth = pipelines.command(root, "flows.run")
    assert fourth.returncode == 0, fourth.stdout
    assert "the run before was told convert.probe_tokens=11, benchmark.rounds=3; this one is not" in fourth.stdout
    assert load_params(root).benchmark.rounds == 2
    assert pipelines.ran(root).count("convert-b") == 2  # with the first probe it had been made before: from the cache


@pytest.mark.slow
def test_a_killed_run_leaves_nobody_at_work_and_is_taken_up_where_it_was(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    (root / "hold-convert-a").touch()
    first = start(root, "flows.run", EDGEWRIGHT_WORKERS="1")
    until(lambda: "convert-a" in pipelines.ran(root), "second conversion")
    first.send_signal(signal.SIGKILL)
    first.wait()
    record = json.loads((root / "artifacts/.run.json").read_text())
    assert record["pid"] == first.pid

    second = start(root, "flows.run")
    until(lambda: not run_lock.leftovers(record["run"]), "end of the killed run's processes")
    (root / "hold-convert-a").unlink()
    code, told = second.wait(), (root / "out.txt").read_text()
    assert code == 0, told
    assert f"process {first.pid} was killed; ending" in told
    counts = {name: pipelines.ran(root).count(name) for name in set(pipelines.ran(root))}
    assert counts.pop("convert-a") == 2 and set(counts.values()) == {1}, counts
    assert [p for p in psutil.process_iter() if record["run"] in _environment(p)] == []


def _environment(process: psutil.Process) -> str:
    try:
        return str(process.environ())
    except (psutil.Error, OSError):
        return ""


def test_ctrl_c_stops_the_stage_and_everything_behind_it(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    for variant in ("ref", "a"):
        (root / f"hold-convert-{variant}").touch()
    process = start(root, "flows.run", EDGEWRIGHT_WORKERS="2")
    until(lambda: {"convert-ref", "convert-a"} <= set(pipelines.ran(root)), "two conversions at once")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    said = (root / "out.txt").read_text()
    assert "stopped; finished stages are kept, `make run` goes on from there" in said, said
    assert sorted(pipelines.ran(root)) == ["assess", "convert-a", "convert-ref", "fetch"]


# -- servers -----------------------------------------------------------------------------------------------------------


def ask(url: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{url}{path}", json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def scheduled(url: str) -> Any:
    runs = ask(
        url, "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}}
    )
    return [run for run in runs if run["auto_scheduled"] and "dry_run" in run["parameters"]]  # the nightly one


@contextmanager
def deployed(root: Path) -> Iterator[str]:
    """`make deploy` with a short interval and dry runs; gives the address of the API it started."""
    port = prefect_server.free_port()
    process = start(root, "flows.deploy", "--interval", "10", "--dry-run", "--prefect-port", str(port))
    try:
        url = f"http://127.0.0.1:{port}/api"
        until(lambda: process.poll() is not None or "serving" in (root / "out.txt").read_text(), "deployment")
        assert process.poll() is None, (root / "out.txt").read_text()
        yield url
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not prefect_server.healthy(url), "the server outlived the command"


@pytest.mark.slow
def test_a_schedule_fires_and_a_run_reports_to_that_server(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    with deployed(root) as url:
        done = pipelines.command(root, "flows.run", PREFECT_API_URL=url)
        assert done.returncode == 0, done.stdout
        artifacts = {found["key"]: found for found in ask(url, "/artifacts/filter", {})}
        rows = json.loads(artifacts["edgewright-stages"]["data"])
        assert {row["stage"]: row["status"] for row in rows}["convert@a"] == "done" and len(rows) == 17
        limits = ask(url, "/v2/concurrency_limits/filter", {})
        assert ("tag:measure", 1) in [(limit["name"], limit["limit"]) for limit in limits]
        made = {one["id"]: one["entrypoint"] for one in ask(url, "/deployments/filter", {})}
        assert sorted(one.rpartition(".")[2] for one in made.values()) == ["nightly", "scheduled", "weekly"]
        tasks = ask(url, "/task_runs/filter", {"task_runs": {"tags": {"all_": ["measure"]}}})
        assert sorted(task["name"] for task in tasks) == ["benchmark@a", "benchmark@b", "benchmark@ref"]

        first = until(lambda: scheduled(url), "scheduled run", limit_s=150)[0]
        assert first["state_type"] == "COMPLETED", first
        assert first["parameters"]["dry_run"] is True


@pytest.mark.slow
def test_ui_starts_both_pages_and_stops_them(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    (root / "mlruns").mkdir()
    ports = [prefect_server.free_port(), prefect_server.free_port()]
    done = pipelines.command(
        root, "flows.ui", "--check", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])
    )
    assert done.returncode == 0, done.stdout
    for port in ports:
        assert f"http://127.0.0.1:{port}" in done.stdout
        until(lambda port=port: not prefect_server.healthy(f"http://127.0.0.1:{port}"), "end of the server", 20)
    assert "none yet: `make run` writes one" in done.stdout and (root / "mlruns/mlflow.db").exists()


def test_another_program_on_the_port_is_not_taken_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ui.Page("Page", prefect_server.free_port(), "/", "never said", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(ResourceError, match=r"Page ended with code 3; is port \d+ taken"), ui.running([page]):
        pass


def test_a_plan_knows_what_is_work() -> None:
    plan = Plan(("detect", "fetch"), (Step("detect", pipeline.ALWAYS), Step("fetch", "fetch modified")))
    assert [step.name for step in plan.work] == ["fetch"]
