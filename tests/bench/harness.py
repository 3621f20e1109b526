"""What benches and drills share: limits, a fresh checkout to measure in, the closing table and its JSON line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.run.stage import run_stage
from tests import ROOT

Figures = dict[str, float | None]  # None: it could not be measured
BEFORE = ("code", "detect", "fetch", "data", "reference", "assess")  # the stages before the first conversion


@dataclass(frozen=True)
class Limit:
    """A bound on a figure; both ends are inclusive, None is open."""

    least: float | None = None
    most: float | None = None

    def holds(self, value: float | None) -> bool:
        """Whether the value keeps the bound; a figure that is absent does not."""
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        """Words for the table."""
        return f">= {self.least:g}" if self.most is None else f"<= {self.most:g}"


# -- a checkout of its own ---------------------------------------------------------------------------------------------


def copy(out: Path, root: Path = ROOT) -> Path:
    """Copy to `out` what git knows under `root`, as it stands there, with nothing cached; returns `out`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = root / name
        if source.is_file() and name != "dvc.lock":
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, out / name)
    subprocess.run(["git", "init", "--quiet"], cwd=out, check=True)
    return out


def timed(folder: Path, *arguments: str) -> float | None:
    """Seconds that a Python command takes in `folder`, its output shown; None when it fails."""
    tell(f"{folder.name}: python {' '.join(arguments)}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    began = time.monotonic()
    code = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PATH": path}, check=False
    ).returncode
    took = time.monotonic() - began
    tell(f"  {took:.1f} s, exit code {code}")
    return took if code == 0 else None


def prepared(out: Path, variants: Sequence[str] = ()) -> Path | None:
    """A fresh copy in `out` with model, data, reference and these variants made in it; None when a stage fails."""
    folder = copy(out)
    commands = [[f"tasks.{stage}"] for stage in BEFORE]
    commands += [["tasks.convert", "--variant", variant] for variant in variants]
    well = all(timed(folder, "-m", *command) is not None for command in commands)
    return folder if well else None


# -- the end -----------------------------------------------------------------------------------------------------------


def table(figures: Mapping[str, float | None], limits: Mapping[str, Limit]) -> str:
    """Figures beside their limits."""
    lines = [f"{'figure':<34}{'value':>10}  {'limit':<10} kept"]
    for name, value in figures.items():
        limit = limits.get(name)
        shown = "none" if value is None else f"{value:.3g}" if value < 10 else f"{value:.0f}"
        lines.append(f"{name:<34}{shown:>10}  {limit or ''!s:<10} {'' if limit is None else limit.holds(value)}")
    return "\n".join(lines)


def summary(name: str, figures: Mapping[str, float | None], limits: Mapping[str, Limit]) -> dict[str, Any]:
    """The closing JSON line."""
    ok = all(limit.holds(figures.get(key)) for key, limit in limits.items())
    rounded = {key: None if value is None else round(value, 4) for key, value in figures.items()}
    return {"name": name, "figures": rounded, "limits": {key: str(limit) for key, limit in limits.items()}, "ok": ok}


def tell(line: str) -> None:
    """Print one line of progress."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


# -- the command -------------------------------------------------------------------------------------------------------


def parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """Command line of `python -m tests.<module>`, with no options yet."""
    return argparse.ArgumentParser(prog=f"python -m tests.{module}", description=about)


def main(name: str, bench: Callable[[Path], Figures], limits: Mapping[str, Limit]) -> int:
    """Measure in an empty folder, print table and closing line; exit code 1 when a limit is not kept."""

    def work() -> int:
        with tempfile.TemporaryDirectory(prefix=f"edgewright-{name}-") as scratch:
            figures = bench(Path(scratch))
        closing = summary(name, figures, limits)
        print(f"{table(figures, limits)}\n{json.dumps(closing)}")
        return 0 if closing["ok"] else 1

    return run_stage(work)
