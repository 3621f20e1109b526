"""A small DVC checkout with the real pipeline's stage names and a script that only notes when it ran."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests import ROOT

VARIANTS = ("ref", "a", "b")

WORK = '''"""Note start, end and process in OUT; fail when a file fail-STAGE exists, with the exit code it holds.

While a file hold-STAGE exists it waits; where a file meet-VERB does, until so many stages of the verb are at work.
"""
import json, os, pathlib, sys, time
stage, seconds, out = sys.argv[1:4]
verb, begun = stage.split("-")[0], time.time()
mark = pathlib.Path("at-work", stage)
mark.parent.mkdir(exist_ok=True)
mark.touch()
with open("ran.log", "a") as log:
    log.write(stage + "\\n")
print(f"words of {stage}", flush=True)
hold, meet = pathlib.Path(f"hold-{stage}"), pathlib.Path(f"meet-{verb}")
while (hold.exists() or meet.exists()) and time.time() < begun + 120:
    try:
        if len(list(mark.parent.glob(f"{verb}-*"))) >= int(meet.read_text()):
            meet.unlink()
    except FileNotFoundError:
        pass
    time.sleep(0.02)
time.sleep(float(seconds))
mark.unlink()
failure = pathlib.Path(f"fail-{stage}")
if failure.exists():
    sys.path.insert(0, "CHECKOUT")
    from tasks.errors import DataError
    from tasks.run.stage import run_stage
    def fail():
        raise DataError(f"there is nothing to do {stage} with")
    run_stage(fail)
    sys.exit(int(failure.read_text() or 1))
path = pathlib.Path(out)
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps({"begun": begun, "ended": time.time(), "parent": os.getppid()}))
'''

EFFECTIVE = "artifacts/params.yaml"
COMPOSED = [{name: {"cache": False, "persist": True}} for name in (EFFECTIVE, "artifacts/told.json")]
TRACKED = {
    "digest": "d", "tracking_uri": "sqlite://", "experiment": "e", "parent_run_id": "r", "model_name": "m",
    "version": None, "reason": "nothing passed the gates",
}  # fmt: skip


def make(root: Path, benchmark_s: float = 0.0) -> Path:
    """Write the checkout; each benchmark takes `benchmark_s`."""
    (root / "work.py").write_text(WORK.replace("CHECKOUT", str(ROOT)))
    (root / "tracked.template").write_text(json.dumps(TRACKED))
    variants = {
        "ref": {"backend": "torch", "precision": "fp32", "role": "reference"},
        "a": {"backend": "gguf", "precision": "int8"},
        "b": {"backend": "gguf", "precision": "int4"},
    }
    params = {"convert": {"probe_tokens": 10}, "benchmark": {"rounds": 2}, "variants": variants}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages(benchmark_s)}, sort_keys=False))
    (root / ".gitignore").write_text("/artifacts/\n/at-work/\n/ran.log\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    return root


def stages(benchmark_s: float) -> dict[str, Any]:
    """The `stages` of dvc.yaml."""
    return {
        "compose": {"cmd": "python -m tasks.compose", "always_changed": True, "outs": COMPOSED},
        "code": one("code", "artifacts/code.txt", deps=["work.py"], cmd="echo work.py > artifacts/code.txt"),
        "detect": one(
            "detect", "artifacts/hardware.json", always_changed=True, cmd="echo hw > artifacts/hardware.json"
        ),
        "fetch": one("fetch", "artifacts/model/w", deps=["work.py"]),
        "assess": one("assess", "artifacts/plan/p", deps=["artifacts/hardware.json", "artifacts/model/w"]),
        "convert": each("convert", 0.0, ["artifacts/plan/p"], params=[{EFFECTIVE: ["convert"]}]),
        "evaluate": each("evaluate", 0.0, ["artifacts/convert-${key}.json"]),
        "benchmark": each(
            "benchmark", benchmark_s, ["artifacts/convert-${key}.json"], params=[{EFFECTIVE: ["benchmark"]}]
        ),
        "recommend": one(
            "recommend",
            "artifacts/ranking.json",
            deps=[f"artifacts/{verb}-{variant}.json" for verb in ("evaluate", "benchmark") for variant in VARIANTS],
        ),
        "track": one(
            "track", "artifacts/tracked.json", deps=["artifacts/ranking.json"], always_changed=True,
            cmd="cp tracked.template artifacts/tracked.json",
        ),
    }  # fmt: skip


def one(verb: str, out: str, seconds: float = 0.0, cmd: str = "", **rest: Any) -> dict[str, Any]:
    run = cmd or f"python work.py {verb} {seconds} {out}"
    return {"cmd": f"mkdir -p artifacts && {run}", "outs": [out], **rest}


def each(verb: str, seconds: float, deps: list[str], **rest: Any) -> dict[str, Any]:
    out = f"artifacts/{verb}-${{key}}.json"
    command = f"python work.py {verb}-${{key}} {seconds} {out}"
    return {"foreach": "${variants}", "do": {"cmd": command, "deps": deps, "outs": [out], **rest}}


def environment(root: Path, **more: str) -> dict[str, str]:
    """For a command in the checkout: this project's code, its own Prefect database, no server named."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DASK_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    code = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    return {**inherited, "PATH": path, "PYTHONPATH": code, "PREFECT_HOME": str(root / ".prefect"), **more}


def command(root: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m ...` in the checkout, to its end."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root,
        env=environment(root, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=400,
    )


def start(root: Path, *arguments: str, before: Callable[[], None] | None = None, **more: str) -> subprocess.Popen[str]:
    """`python -m ...` in the checkout, in a group of its own as a terminal would have it."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=root, env=environment(root, **more), text=True,
        stdout=(root / "out.txt").open("w"), stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=before,
    )  # fmt: skip


def until(condition: Callable[[], Any], what: str, limit_s: float = 400) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {limit_s:.0f} s"
        time.sleep(0.1)
    return found


def left(root: Path) -> list[str]:
    """Command lines of processes that are at work in the checkout, or that were started from a command there."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(root) or process.environ().get("PREFECT_HOME", "").startswith(
                str(root)
            ):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def ran(root: Path) -> list[str]:
    """The stages' commands that were really run, in order."""
    log = root / "ran.log"
    return log.read_text().split() if log.exists() else []


def noted(root: Path, verb: str, variant: str) -> dict[str, float]:
    """What a stage noted about its own run."""
    return json.loads((root / "artifacts" / f"{verb}-{variant}.json").read_text())
