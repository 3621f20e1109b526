"""The main job where little is as on a developer's machine, all at once: a ZIP without git, no home, a quota, ..."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.hardware import cores
from tasks.params.load import LOCAL
from tasks.records.artifact import Artifact
from tasks.records.speed import Benchmark
from tasks.run.workspace import Workspace
from tests import ROOT, tiny
from tests.bench.harness import copy

GROUPS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))  # of version 1 and 2
SMALLER = """\
profile: quick
profiles:
  quick:
    data: {evaluation_rows: 6, choices: 4, prompt_tokens_long: 48, prompt_tokens_longest: 96}
    benchmark: {rounds: 2, new_tokens: 8, stress_tokens: 64, soak_s: 0.1}
benchmark: {max_others_cores: 64.0}
assess: {frameworks: [llama.cpp]}
"""


@dataclass(frozen=True)
class Group:
    """A control group with a quota, and how to start something in it."""

    folder: Path
    share: float

    def words(self, *command: str) -> list[str]:
        """The command, in the group."""
        return ["/bin/sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *command]


@contextmanager
def grouped(share: float) -> Iterator[Group | None]:
    """A group with a quota of so many cores; None where this process may make none."""
    made = None
    for parent in GROUPS:
        folder = parent / f"edgewright-test-{os.getpid()}-{share:g}"
        try:
            folder.mkdir()
            made = folder
            if (folder / "cpu.cfs_quota_us").exists():
                (folder / "cpu.cfs_quota_us").write_text(str(int(share * 100_000)))
            else:
                (folder / "cpu.max").write_text(f"{int(share * 100_000)} 100000")
            break
        except OSError:
            if made is not None:
                made.rmdir()
            made = None
    try:
        yield Group(made, share) if made else None
    finally:
        if made is not None:
            made.rmdir()


@pytest.fixture(scope="module")
def group() -> Iterator[Group | None]:
    """Half a core less than there are."""
    with grouped(len(cores.cores()) - 0.5) as made:
        yield made


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, group: Group | None) -> tuple[Path, str]:
    """The main job on a tiny model, run to its end."""
    place = tmp_path_factory.mktemp("mein Ordner é漢")
    model = tiny.model(place / "the model ü", tiny.tokenizer(place / "tokenizer"))
    for file in model.iterdir():
        file.chmod(0o444)
    model.chmod(0o555)
    folder = copy(place / "as a ZIP gives it")
    subprocess.run(["rm", "-rf", ".git"], cwd=folder, check=True)
    (folder / LOCAL).write_text(SMALLER)
    dead = "http://127.0.0.1:9"
    around = {"HOME": "/proc/none", **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), dead)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "XDG_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "flows.run", "--model", str(model)]
    done = subprocess.run(
        group.words(*command) if group else command,
        cwd=folder, env={**kept, **around, "PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=900, start_new_session=True, check=False,
    )  # fmt: skip
    model.chmod(0o755)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout + done.stderr


@pytest.mark.slow
def test_the_main_job_runs_to_its_end(job: tuple[Path, str]) -> None:
    folder, printed = job
    assert Artifact.read(folder / Workspace().artifact_record("gguf-q4_k_m")).status == "ok"
    assert (folder / Workspace().report / "index.html").is_file() and "gguf-q4_k_m" in printed
    repeat = (folder / Workspace().variants / "gguf-q4_k_m" / "reproduce.sh").read_text()
    assert "git" not in repeat
    assert "no_scm" in (folder / ".dvc" / "config.local").read_text()


@pytest.mark.slow
def test_a_quota_counts_as_cores(job: tuple[Path, str], group: Group | None) -> None:
    if group is None:
        pytest.skip("no control group with a quota can be made here; it takes root and a writable cgroup")
    found = Benchmark.read(job[0] / Workspace().benchmark_record("gguf-q4_k_m"))
    assert found.threads == max(1, int(group.share))
    assert found.disturbance is not None and found.disturbance.throttled_s is not None


BUSY = """
import time
from tasks.hardware import cores
from tasks.measure import guard

def spin(until):
    while time.monotonic() < until:
        hash("x" * 999)

import multiprocessing
before, until = guard.read(), time.monotonic() + 2
workers = [multiprocessing.Process(target=spin, args=(until,)) for _ in cores.cores()]
[one.start() for one in workers]
[one.join() for one in workers]
found = guard.between(before, guard.read())
print(cores.usable_cores(), guard.objection(found, 0.05))
"""


def test_the_guard_sees_that_a_quota_held_something_back() -> None:
    with grouped(0.5) as group:  # so little that it is used up beside other tests too
        if group is None:
            pytest.skip("no control group with a quota can be made here; it takes root and a writable cgroup")
        run = subprocess.run(
            group.words(sys.executable, "-c", BUSY), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
    count, _, said = run.stdout.strip().partition(" ")
    assert int(count) == 1 and "CPU quota took" in said
