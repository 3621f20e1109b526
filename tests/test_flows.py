"""The run as a command: order, failures, Dask, interruption, locks, servers; and a schedule that really fires."""

from __future__ import annotations

import doctest
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import deploy, pipeline, progress, promotion, run, server, ui
from flows.pipeline import Plan, StageFailed, Step
from tasks.errors import ConfigError, ResourceError
from tasks.ledger import Entry
from tests import pipelines


def start(root: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """`python -m ...` in the checkout, in a group of its own as a terminal would have it."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=root, env=pipelines.environment(root, **more), text=True,
        stdout=(root / "out.txt").open("w"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def until(condition: Callable[[], Any], what: str, limit_s: float = 180) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {limit_s:.0f} s"
        time.sleep(0.1)
    return found


def overlap(first: dict[str, float], second: dict[str, float]) -> bool:
    return max(first["begun"], second["begun"]) < min(first["ended"], second["ended"])


# -- the pure parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [deploy, pipeline, progress], ids=lambda module: module.__name__)
def test_examples(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def entry(action: str, old: str | None, new: str) -> Entry:
    return Entry.model_validate(
        {"when": "2026-01-02T03:04:05Z", "who": "x", "action": action, "model": "m", "from_version": old,
         "to_version": new, "why": "y", "verdict_digest": "d"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("history", "answer"),
    [
        ([], ""),
        ([("promote", None, "1")], ""),
        ([("promote", None, "1"), ("promote", "1", "2")], "version 2 is champion since 2026-01-02T03:04:05Z"),
        ([("promote", "1", "2"), ("rollback", "2", "1")], "version 2 was rolled back"),
        ([("promote", "1", "2"), ("rollback", "2", "1"), ("promote", "1", "3")], ""),
        ([("rollback", "1", "2")], "version 2 is champion"),
    ],
)
def test_a_run_promotes_once_and_does_not_undo_a_rollback(history: list[Any], answer: str) -> None:
    got = promotion.settled([entry(*change) for change in history], "2")
    assert got.startswith(answer) and bool(got) == bool(answer)


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
    root = pipelines.make(tmp_path)
    done = pipelines.command(root, "flows.run", "--dry-run")
    assert done.returncode == 0, done.stdout
    assert "15 of 15 stages would run" in done.stdout and re.search(r"convert@a +not there yet", done.stdout)
    assert pipelines.ran(root) == [] and not (root / "dvc.lock").exists()


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
    from flows import lock

    root = pipelines.make(tmp_path)
    with lock.hold(root):
        done = pipelines.command(root, "flows.run", "--no-wait")
    assert done.returncode == 2 and f"in use by process {os.getpid()} since" in done.stdout


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failure_stops_only_what_reads_from_it_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path, convert_s=2.0, benchmark_s=0.5)
    (root / "fail-convert-a").write_text("1")
    first = pipelines.command(root, "flows.run")
    assert first.returncode == 1, first.stdout
    assert "words of convert-b" in first.stdout
    assert re.search(r"^\[ ?4/13\] convert a: FAILED, ", first.stdout, re.MULTILINE)
    assert re.search(r"^\[ ?8/13\] evaluate b: done, ", first.stdout, re.MULTILINE)
    assert re.search(r"^failed: convert@a: .*exited with 1; repeat it with", first.stdout, re.MULTILINE)
    assert "not run because of that: evaluate@a, benchmark@a, recommend, track" in first.stdout
    assert "Traceback" not in first.stdout and "prefect" not in first.stdout

    # Dask takes the rest: the conversions at once, in two processes; then nothing is left to do.
    (root / "fail-convert-a").unlink()
    second = pipelines.command(
        root, "flows.run", "--task-runner", "dask", "-S", "convert.probe_tokens=11", "-S", "benchmark.rounds=3"
    )
    assert second.returncode == 0, second.stdout
    notes = {variant: pipelines.noted(root, "convert", variant) for variant in pipelines.VARIANTS}
    assert len({note["parent"] for note in notes.values()}) >= 2
    pairs = [("ref", "a"), ("a", "b"), ("ref", "b")]
    assert any(overlap(notes[one], notes[other]) for one, other in pairs), "nothing was converted at once"
    timed = {variant: pipelines.noted(root, "benchmark", variant) for variant in pipelines.VARIANTS}
    assert not any(overlap(timed[one], timed[other]) for one, other in pairs), "two measurements at once"
    assert pipelines.ran(root).count("fetch") == 1
    assert "not promoted: nothing passed the gates" in second.stdout

    before = pipelines.ran(root)
    began = time.monotonic()
    third = pipelines.command(root, "flows.run")
    assert third.returncode == 0 and "nothing changed since the last run" in third.stdout, third.stdout
    assert "starting Prefect" not in third.stdout and time.monotonic() - began < 30
    assert pipelines.ran(root) == before


@pytest.mark.slow
def test_a_killed_run_leaves_nobody_at_work_and_is_taken_up_where_it_was(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path, convert_s=3.0)
    first = start(root, "flows.run", EDGEWRIGHT_WORKERS="1")
    until(lambda: "convert-a" in pipelines.ran(root), "second conversion")
    first.send_signal(signal.SIGKILL)
    first.wait()
    record = json.loads((root / "artifacts/.run.json").read_text())
    assert record["pid"] == first.pid

    second = pipelines.command(root, "flows.run")
    assert second.returncode == 0, second.stdout
    assert f"process {first.pid} was killed; ending" in second.stdout
    counts = {name: pipelines.ran(root).count(name) for name in set(pipelines.ran(root))}
    assert counts.pop("convert-a") == 2 and set(counts.values()) == {1}, counts
    assert [p for p in psutil.process_iter() if record["run"] in _environment(p)] == []


def _environment(process: psutil.Process) -> str:
    try:
        return str(process.environ())
    except (psutil.Error, OSError):
        return ""


def test_ctrl_c_stops_the_stage_and_everything_behind_it(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path, convert_s=20.0)
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
    port = server.free_port()
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
    assert not server.healthy(url), "the server outlived the command"


@pytest.mark.slow
def test_a_schedule_fires_and_a_run_reports_to_that_server(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    with deployed(root) as url:
        done = pipelines.command(root, "flows.run", PREFECT_API_URL=url)
        assert done.returncode == 0, done.stdout
        artifacts = {found["key"]: found for found in ask(url, "/artifacts/filter", {})}
        rows = json.loads(artifacts["edgewright-stages"]["data"])
        assert {row["stage"]: row["status"] for row in rows}["convert@a"] == "done" and len(rows) == 16
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
    ports = [server.free_port(), server.free_port()]
    done = pipelines.command(
        root, "flows.ui", "--check", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])
    )
    assert done.returncode == 0, done.stdout
    for port in ports:
        assert f"http://127.0.0.1:{port}" in done.stdout
        until(lambda port=port: not server.healthy(f"http://127.0.0.1:{port}"), "end of the server", 20)
    assert "none yet: `make run` writes one" in done.stdout and (root / "mlruns/mlflow.db").exists()


def test_another_program_on_the_port_is_not_taken_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ui.Page("Page", server.free_port(), "/", "never said", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(ResourceError, match=r"Page ended with code 3; is port \d+ taken"), ui.running([page]):
        pass


def test_a_plan_knows_what_is_work() -> None:
    plan = Plan(("detect", "fetch"), (Step("detect", pipeline.ALWAYS), Step("fetch", "fetch modified")))
    assert [step.name for step in plan.work] == ["fetch"]
