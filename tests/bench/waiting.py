"""How long somebody waits: this checkout in turns with an older commit, and what small changes and coming back cost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import yaml

from tasks.params.load import PARAMS
from tasks.records.verdict import GateReport
from tasks.run.workspace import Workspace
from tests import ROOT
from tests.bench.harness import Figures, Limit, copy, tell, timed

# What waiting is compared with, unless EDGEWRIGHT_BENCH_BASE names another commit: one kind of model, one target.
BASE = "df9a244"
RUN, QUICK = ("-m", "flows.run"), ("-m", "flows.run", "--profile", "quick")
EVERY_TIME = {"compose", "code", "detect", "track"}
LIMITS = {
    "run_over_base": Limit(most=0.6),
    "quick_over_base": Limit(most=0.6),
    "first_scorecard_share": Limit(most=0.34),
    "winner_changed": Limit(most=0),
    "quick_winner_changed": Limit(most=0),
    "stages_rerun_by_a_default_a_comment_and_a_pin": Limit(most=0),
    "plain_after_quick_s": Limit(most=60),
}


def default_runs(scratch: Path, work: Path) -> Figures:
    """The default run from nothing, at the older commit and then in `work`, which it leaves behind."""
    figures, winner = _base(scratch / "base", RUN, "run_base_s")
    began = time.time()
    figures["run_s"] = timed(work, *RUN)
    shown = work / Workspace().provisional
    figures["first_scorecard_s"] = shown.stat().st_mtime - began if shown.exists() else None
    figures["run_over_base"] = over(figures["run_s"], figures["run_base_s"])
    figures["first_scorecard_share"] = over(figures["first_scorecard_s"], figures["run_s"])
    figures["winner_changed"] = _changed(winner, work)
    return figures


def quick_runs(scratch: Path) -> Figures:
    """The quick run from nothing, at the older commit and here."""
    figures, winner = _base(scratch / "quick-base", QUICK, "quick_base_s")
    work = copy(scratch / "quick")
    figures["quick_run_s"] = timed(work, *QUICK)
    figures["quick_over_base"] = over(figures["quick_run_s"], figures["quick_base_s"])
    figures["quick_winner_changed"] = _changed(winner, work)
    return figures


def coming_back(work: Path) -> Figures:
    """In a checkout with a whole run: the quick profile in between, then the plain run again."""
    between = timed(work, *QUICK)
    return {"quick_after_plain_s": between, "plain_after_quick_s": timed(work, *RUN)}


def small_changes(work: Path) -> Figures:
    """In a checkout with a whole run: another default of serving, a comment, a linter's version; which stages ran."""
    before = stages_written(work)
    source, lock = work / "tasks/convert.py", work / "requirements.lock"
    source.write_text(source.read_text() + "\n# Nothing that runs.\n")
    lock.write_text(re.sub(r"^ruff==.*$", "ruff==99.0.0", lock.read_text(), flags=re.MULTILINE))
    params = work / PARAMS
    params.write_text(re.sub(r"^  queue: \d+", "  queue: 33", params.read_text(), flags=re.MULTILINE))
    took = timed(work, *RUN)
    ran = [name for name, stamp in stages_written(work).items() if before.get(name) != stamp and name not in EVERY_TIME]
    tell(f"  ran again: {', '.join(ran) or 'nothing'}")
    figure = None if took is None else float(len(ran))
    return {"small_changes_s": took, "stages_rerun_by_a_default_a_comment_and_a_pin": figure}


def stages_written(folder: Path) -> dict[str, float]:
    """When each stage's first output was last written."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {name: (folder / stage["outs"][0]["path"]).lstat().st_mtime_ns for name, stage in stages.items()}


def over(a: float | None, b: float | None) -> float | None:
    """The quotient, where there is one."""
    return a / b if a is not None and b else None


def _base(folder: Path, command: tuple[str, ...], name: str) -> tuple[Figures, str | None]:
    """Seconds that a command takes at the older commit, and the winner found by it; none where git has no such."""
    commit = os.environ.get("EDGEWRIGHT_BENCH_BASE", BASE)
    folder.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        tell(f"{commit} is not in this clone (git fetch --unshallow): nothing to compare with")
        return {name: None}, None
    subprocess.run(["tar", "-x"], cwd=folder, input=packed.stdout, check=True)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    took = timed(folder, *command)
    found = re.search(r'"winner": "([^"]+)"', (folder / "artifacts/gate/verdicts.json").read_text()) if took else None
    shutil.rmtree(folder)
    return {name: took}, found.group(1) if found else None


def _changed(winner: str | None, work: Path) -> float | None:
    """Whether another variant won, 0 or 1; None where the older commit had no winner."""
    file = work / Workspace().verdicts
    if winner is None or not file.exists():
        return None
    ours = GateReport.read(file).winner
    tell(f"  winner: {ours or 'none'}, before {winner}")
    return float(ours != winner)
