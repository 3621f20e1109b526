"""Trials on disk: a search that is killed at any moment goes on, and does nothing twice that was finished."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.errors import ResourceError
from tasks.records.search import Figure, Step
from tasks.search.study import RETRIES, Study, opened
from tests import ROOT
from tests.tasks.search.worlds import Table, asked, searching, world

SCRIPT = """
import sys, time
from pathlib import Path
from tasks.search.study import Study, opened
from tests.tasks.search.worlds import Table, asked, searching, world

class Slow(Table):
    def advance(self, names, rung):
        time.sleep(0.02)
        found = super().advance(names, rung)
        with Path(sys.argv[2]).open("a") as log:
            for name in names:
                log.write(f"{name} {rung}\\n")
        return found

variants = world()
wanted = asked("decode", mean_kl={"max": 0.2}, retention={"min": 0.98})
study = Study(Path(sys.argv[1]), "one", variants)
bench = Slow(variants)
search = searching(wanted, bench, way=sys.argv[3])
search.study = study
print("begun", flush=True)
found = search.run(opened(variants, study.recovered()))
Path(sys.argv[4]).write_text(found.model_dump_json())
"""

OPENING = """
from pathlib import Path
from tasks.search.study import Study
from tests.tasks.search.worlds import world
Study(Path({file!r}), 'one', world())
"""


def step(rung: str, ok: bool = True, **figures: float) -> Step:
    return Step(rung=rung, ok=ok, figures={n: Figure(value=v) for n, v in figures.items()})


def test_trials_come_back_as_they_were_left(tmp_path: Path) -> None:
    variants = world()
    study = Study(tmp_path / "study.db", "one", variants)
    first, second, third = opened(variants, [])[:3]
    done = study.begin(first).after(step("made", artifact_mb=100.0))
    study.note(done)
    ended = study.begin(second).after(step("made", ok=False))
    study.end(ended, -1.0, imputed=True)
    study.begin(third)
    study.close()
    again = Study(tmp_path / "study.db", "one", variants)
    back = {one.name: one for one in again.recovered()}
    assert back[first.name].steps == done.steps
    assert back[first.name].standing == "open"
    assert back[second.name].standing == "failed"
    assert back[third.name].steps == ()
    assert len(opened(variants, back.values())) == len(variants)
    again.close()


def test_one_that_always_ends_the_search_is_given_up(tmp_path: Path) -> None:
    variants = world()
    name = next(iter(variants))
    study = Study(tmp_path / "study.db", "one", variants)
    study.begin(opened(variants, [])[0])
    study.close()
    for number in range(RETRIES + 1):
        study = Study(tmp_path / "study.db", "one", variants)
        [back] = study.recovered()
        study.close()
        assert back.name == name
        assert (back.standing == "failed") == (number == RETRIES)
    assert "the search ended" in back.reason


def test_only_one_search_writes(tmp_path: Path) -> None:
    study = Study(tmp_path / "study.db", "one", world())
    program = OPENING.format(file=str(tmp_path / "study.db"))
    second = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ResourceError.__name__ in second.stderr
    assert "another search writes" in second.stderr
    study.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["surrogate"])
def test_killed_at_any_moment_it_goes_on_and_repeats_nothing_finished(tmp_path: Path, way: str) -> None:
    dice = random.Random(5)
    out, log = tmp_path / "found.json", tmp_path / "log.txt"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "study.db"), str(log), way, str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(5):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(dice.uniform(0.1, 0.9))
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    twice = len(lines) - len(set(lines))
    assert twice <= 5 * 4, "at most what was under way at each kill is done again"
    alone = searching(asked("decode", mean_kl={"max": 0.2}, retention={"min": 0.98}), Table(world()), way=way)
    from tasks.records.search import Found

    assert Found.model_validate_json(out.read_text()).best == alone.run(opened(world(), [])).best
