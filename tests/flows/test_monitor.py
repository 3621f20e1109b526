"""The command `python -m flows.monitor` and its flows."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows import monitor as command
from monitoring.collect.place import WINDOWS
from monitoring.watch import held
from tests import ROOT, logs, pipelines


def test_the_command_takes_a_window_by_its_flow_and_shows_it(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["monitor"]["window_s"] = 3600.0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    logs.write(tmp_path / "artifacts" / "serve", logs.traffic(200, time.time() - 1800, 1700.0))
    done = pipelines.command(tmp_path, "flows.monitor", "--url", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout
    assert "window 1: 200 requests" in done.stdout
    shown = pipelines.command(tmp_path, "flows.monitor", "--show")
    assert "is the reference from now on" in shown.stdout
    assert (tmp_path / "artifacts" / "monitor" / "evidently").is_dir() is False  # nothing was compared yet
    assert (tmp_path / "artifacts" / "monitor" / WINDOWS).read_text().count("\n") == 1
    review = pipelines.command(tmp_path, "monitoring.show.weekly").stdout.strip().splitlines()[-1]
    assert "1 windows, 200 requests" in (tmp_path / review).read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--every", "0"), "must be above 0"), (("--every", "soon"), "invalid float")],
)
def test_a_wrong_word_is_named(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = command.main(list(words))
    except SystemExit as ended:  # argparse's own
        code = int(str(ended.code))
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_monitor_that_runs_keeps_another_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with held(tmp_path / "artifacts" / "monitor"):
        assert command.main([]) == 2


def test_a_look_gives_way_to_the_server_and_never_comes_back_up() -> None:
    told = (
        "import os; from flows.monitor import give_way; give_way(); give_way(); print(os.nice(5)); "
        "give_way(); print(os.nice(0))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    first, last = (int(line) for line in done.stdout.split()[-2:])
    assert first >= 15
    assert last == first


def test_scheduled_flows_are_found_by_the_entry_points_of_their_deployments() -> None:
    told = (
        "from prefect.deployments.runner import RunnerDeployment; from prefect.flows import load_flow_from_entrypoint\n"
        "from prefect.types.entrypoint import EntrypointType; from flows.monitor import scheduled, weekly\n"
        "for one in (scheduled, weekly):\n"
        "    made = RunnerDeployment.from_flow(one, 'x', entrypoint_type=EntrypointType.MODULE_PATH)\n"
        "    print(made.entrypoint, load_flow_from_entrypoint(made.entrypoint).name)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    lines = done.stdout.split("\n")
    assert lines[:2] == ["flows.monitor.scheduled scheduled-monitor", "flows.monitor.weekly weekly"]


def test_nothing_else_is_made_up_as_a_flow() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nightly'"):
        command.nightly  # noqa: B018
