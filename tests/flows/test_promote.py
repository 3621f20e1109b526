"""flows/promote.py: once by the registry, and the flow that leads a version through a rollout's steps."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows import prefect_server, promote
from flows.promote import RolledBackError
from tasks.params.load import load_params
from tasks.promotion.rollout import Slot, State
from tasks.promotion.store import Store
from tasks.registry import logged_model, versions
from tasks.registry.ledger import Entry
from tasks.track import track
from tests import pipelines, tracked
from tests.finished import finished

NEW, OLD = Slot(version="2"), Slot(version="1")


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
    got = promote.settled([entry(*change) for change in history], "2")
    assert got.startswith(answer) and bool(got) == bool(answer)


def test_a_quick_run_does_not_take_a_full_champions_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.project(tmp_path, monkeypatch)
    monkeypatch.setattr(logged_model, "log_model", tracked.echo)
    full = track(tracked.packaged())
    full.write(tracked.SPACE.tracked)
    assert promote.promote_winner() == f"{full.model_name}: version 1 is champion"
    finished(decode=90.0)
    quick = track(tracked.repackaged(load_params().model_copy(update={"profile": "quick"})))
    quick.write(tracked.SPACE.tracked)
    said = promote.promote_winner()
    assert "version 2 does not take the place of champion version 1" in said
    assert "its profile is quick, the champion's full" in said and "`make promote VERSION=2 FORCE=1`" in said
    assert versions.champion(full.model_name) == "1"
    assert promote.command(Path("none"), "2", None, "told to", anyway=True) == 0
    assert versions.champion(full.model_name) == "2"


@pytest.mark.parametrize(
    ("state", "over", "label"),
    [
        (State(), True, "idle"),
        (State(phase="shadow", blue=OLD, green=NEW), False, "shadow"),
        (State(phase="ramp", blue=OLD, green=NEW, step=1), False, "ramp 5%"),
        (State(phase="staging", blue=OLD, green=Slot(version="3")), True, "staging"),
        (State(phase="rollback", blue=OLD), False, "rollback"),
    ],
)
def test_a_rollout_is_over_when_it_rests_or_is_another_versions(state: State, over: bool, label: str) -> None:
    assert (promote.over(state, "2"), promote.label(state)) == (over, label)


def test_an_order_is_not_given_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(State(phase="shadow", blue=OLD, green=NEW))
    assert promote.order(str(tmp_path), NEW, "why") == "version 2 is under way: shadow"
    store.save(State(blue=NEW))
    assert promote.order(str(tmp_path), NEW, "why") == "version 2 is champion already"
    assert store.waiting() is None


def test_a_step_is_watched_to_its_end_and_a_rollback_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(State(phase="shadow", blue=OLD, green=NEW))

    def later() -> None:
        time.sleep(0.5)
        store.save(State(phase="ramp", blue=OLD, green=NEW, reason="answers agree"))

    moving = threading.Thread(target=later)
    with store.held():
        moving.start()
        assert promote.watch(str(tmp_path), "2", "shadow") == "answers agree"
        moving.join()
        store.save(State(blue=OLD, reason="too slow"))
        with pytest.raises(RolledBackError, match="version 2 was rolled back: too slow"):
            promote.watch(str(tmp_path), "2", "ramp 1%")


def watched(command: subprocess.Popen[str]) -> bool:
    """Whether the command's Prefect server knows a task run for the step `staging`."""
    servers = [one for one in psutil.Process(command.pid).children() if "flows.prefect_server" in one.cmdline()]
    url = f"http://127.0.0.1:{servers[0].cmdline()[-1]}/api" if servers else ""
    if not url or not prefect_server.healthy(url):
        return False
    return "staging" in [run["name"] for run in httpx.post(f"{url}/task_runs/filter", json={}, timeout=30).json()]


@pytest.mark.slow
def test_the_flow_follows_what_the_router_did(tmp_path: Path) -> None:
    """The command in a process of its own, against the files of a router that this test holds."""
    root = pipelines.make(tmp_path)
    store = Store(root / "artifacts/serve")
    with store.held():
        store.save(State(blue=NEW))
        done = pipelines.command(root, "flows.promote", "--version", "2")
        assert done.returncode == 0 and "version 2 is champion" in done.stdout, done.stdout
        store.save(State(phase="staging", blue=OLD, green=NEW))
        undone = pipelines.start(root, "flows.promote", "--version", "2")
        try:
            pipelines.until(lambda: watched(undone) or undone.poll() is not None, "step")
            store.save(State(blue=OLD, reason="it does not load"))
            assert undone.wait(timeout=120) == 1
        finally:
            undone.kill()
    assert "error: version 2 was rolled back: it does not load" in (root / "out.txt").read_text()


def test_a_package_without_a_router_is_refused(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    done = pipelines.command(root, "flows.promote", "--package", "artifacts/package")
    assert done.returncode == 2 and "no router is at work on artifacts/serve" in done.stdout, done.stdout
