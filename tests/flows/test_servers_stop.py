"""Commands that go on until they are told to end: SIGTERM to that one process leaves nobody behind."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from flows import prefect_server
from tests import pipelines
from tests.drill.rig import rig
from tests.flows.test_stop import stopped
from tests.pipelines import left, ran, start, until


def ports(*flags: str) -> list[str]:
    return [word for flag in flags for word in (flag, str(prefect_server.free_port()))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGTERM, "Ctrl-C stops them"), (signal.SIGINT, "starting Prefect and MLflow")]
)
def test_the_pages_are_gone_with_the_command(tmp_path: Path, number: int, when: str) -> None:
    root = pipelines.make(tmp_path)
    (root / "mlruns").mkdir()
    process = start(root, "flows.ui", *ports("--prefect-port", "--mlflow-port"))
    until(lambda: when in (root / "out.txt").read_text() or process.poll() is not None, when)
    assert len(left(root)) >= 2 or number == signal.SIGINT
    said = stopped(root, process, number)
    assert process.returncode == 0 and "Traceback" not in said, said


@pytest.mark.slow
def test_a_scheduled_run_under_way_is_ended_with_its_schedule(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    for variant in pipelines.VARIANTS:
        (root / f"hold-convert-{variant}").touch()
    process = start(root, "flows.deploy", "--interval", "5", *ports("--prefect-port"))
    until(lambda: "convert" in " ".join(ran(root)) or process.poll() is not None, "scheduled run")
    assert process.poll() is None, (root / "out.txt").read_text()
    stopped(root, process, signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_monitor_ends_between_two_windows(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    process = start(root, "flows.monitor", "--every", "600")
    until(lambda: "window 1:" in (root / "out.txt").read_text() or process.poll() is not None, "window")
    said = stopped(root, process, signal.SIGTERM)
    assert process.returncode == 0 and "Traceback" not in said, said


@pytest.mark.slow
def test_a_router_takes_its_servers_with_it(tmp_path: Path) -> None:
    with rig(tmp_path) as one:
        assert one.process is not None
        servers = psutil.Process(one.process.pid).children(recursive=True)
        assert servers
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(timeout=40)
        _, alive = psutil.wait_procs(servers, timeout=5)
        assert not alive and not left(tmp_path)
