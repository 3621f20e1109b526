"""The longest repair: callers of another language, an optimization with their prompts, and its winner promoted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from monitoring.repair.reoptimize import PipelineReoptimizer, window_file
from tasks.errors import EdgewrightError
from tasks.params.whole import load_whole
from tasks.promotion.packages import packaged
from tests import ROOT
from tests.drill.faults import Timeline, fault
from tests.drill.rig import tell
from tests.drill.watched import Watched, sentences

PATIENCE = 90  # windows
# The quick profile, but with as many rows as its gates need to decide: with ten, retention is inconclusive.
ROWS = {"profiles.quick.data.evaluation_rows": 40}


class Checkout(PipelineReoptimizer):
    """The way back to optimization in a copy of this checkout, whose winner is ordered into the rig's router."""

    def __init__(self, one: Watched) -> None:
        """Of one bench."""
        super().__init__(one.watching.place, load_whole(one.rig.folder))
        self._one, self._folder = one, one.scratch / "checkout"
        self._run: subprocess.Popen[bytes] | None = None
        self.winner = ""

    def reoptimize(self) -> str:
        """Begin it, in the quick profile."""
        file = window_file(self._where, 80)
        _checkout(self._folder)
        line = [sys.executable, "-m", "flows.run", "--profile", "quick"]
        for key, value in {"data.source": str(file), **ROWS}.items():
            line += ["-S", f"{key}={value}"]
        with (self._one.scratch / "reoptimize.log").open("ab") as log:
            self._run = subprocess.Popen(line, cwd=self._folder, stdout=log, stderr=log, start_new_session=True)
        # Callers wait: an optimization measures, and on a machine that serves nothing that it measures would decide.
        self._one.traffic.paused = True
        return f"optimization with what callers asked, process {self._run.pid}"

    def busy(self) -> str:
        """Whether it runs; what it made is promoted once."""
        if self._run is None or self.winner:
            return ""
        if self._run.poll() is None:
            return "the optimization runs"
        self._one.traffic.paused = False
        log = (self._one.scratch / "reoptimize.log").read_text()
        tell(f"the optimization ended with {self._run.returncode}: {log.strip().splitlines()[-1]}")
        try:
            slot = packaged(self._folder / "artifacts" / "package")
        except EdgewrightError as problem:  # nothing passed, or the run failed: the next step, then a person
            tell(f"there is no winner: {problem}")
            self._run = None
            return ""
        self.winner = slot.version
        self._one.rig.store.give("deploy", "monitor", "optimized with what callers ask", slot)
        return "its winner is promoted"

    def end(self) -> None:
        """Kill what still runs."""
        if self._run is not None and self._run.poll() is None:
            os.killpg(self._run.pid, signal.SIGKILL)


def foreign(one: Watched) -> Timeline:
    """Callers of another country: an optimization with their prompts is begun, gated, and its winner promoted."""
    before, loop = one.traffic.prompts, Checkout(one)
    asked = sentences(600)
    one.reoptimizer = loop

    def inject() -> None:
        one.traffic.prompts = asked

    def mend() -> None:
        one.traffic.prompts, one.traffic.paused, one.reoptimizer = before, False, None
        loop.end()

    def over() -> bool:
        state = one.rig.state()
        return loop.winner != "" and state.slot(state.champion).version == loop.winner

    return fault(one, "callers of another language", "drift", inject, mend, over, PATIENCE)


def _checkout(folder: Path) -> None:
    """This checkout's files, and its cache of DVC, so that what did not change is not made again."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    cache = ROOT / ".dvc" / "cache"
    if cache.is_dir():
        subprocess.run([sys.executable, "-m", "dvc", "cache", "dir", "--local", str(cache)], cwd=folder, check=True)
