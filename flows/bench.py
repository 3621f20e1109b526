"""Time the whole job against the same work called bare, and what small changes cost.

Every run is made in a fresh copy of the checkout with its own DVC cache and MLflow store. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import overrides
from tasks import paths
from tasks.records import GateReport, Metric, Recommendation, ScoreRow
from tasks.stage import run_stage

CHANGED = "gguf-q4_k_m"  # the variant whose parameter is changed
CHANGE = {f"variants.{CHANGED}.method": "q5_k_m"}
AFTER = (
    "code",
    "detect",
    "assess",
    "tune",
    "benchmark",
    "recommend",
    "gate",
    "package",
    "report",
    "track",
)  # what may run again beside the variant


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


MEASURING = ("reference", "tune", "evaluate", "ceiling", "benchmark")
LIMITS = {
    "run_s": Limit(most=900),
    "measurement_s": Limit(most=1200),  # of the default variants, on two cores: what is scored and timed, all of it
    "run_over_bare": Limit(most=1.10),
    "unchanged_repro_s": Limit(most=5),
    "unchanged_run_s": Limit(most=30),
    "stages_of_other_variants_rerun": Limit(most=0),
    "quick_run_s": Limit(most=240),
    "winner_decode_x": Limit(least=5),
    "winner_prefill_x": Limit(least=3),
    "winner_retention": Limit(least=0.97),
    "winner_memory_saved": Limit(least=0.60),
}


def bench(root: Path, scratch: Path) -> dict[str, float | None]:
    """Measure all figures; `root` is a checkout, `scratch` an empty folder with room for two runs."""
    figures: dict[str, float | None] = {}
    work = copy(root, scratch / "run")
    figures["run_s"] = timed(work, "-m", "flows.run")
    figures |= where_time_goes(work) | winner(work)
    figures["unchanged_repro_s"] = timed(work, "-m", "dvc", "repro")
    figures["unchanged_run_s"] = timed(work, "-m", "flows.run")
    figures["variant_changed_s"], again = changed(work)
    figures["stages_of_other_variants_rerun"] = float(again)
    shutil.rmtree(work)
    quick = copy(root, scratch / "quick")
    figures["quick_run_s"] = timed(quick, "-m", "flows.run", "--profile", "quick")
    shutil.rmtree(quick)
    bare = copy(root, scratch / "bare")
    figures["bare_s"] = timed(bare, "-m", "flows.bench", "--bare")
    figures["run_over_bare"] = _over(figures["run_s"], figures["bare_s"])
    shutil.rmtree(bare)
    return figures


def copy(root: Path, out: Path) -> Path:
    """A checkout of what git knows under `root`, as it stands there, with nothing cached."""
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


def changed(folder: Path) -> tuple[float | None, int]:
    """Change one variant's parameter and run again; returns seconds and how many stages of other variants ran."""
    before = _locked(folder)
    here = Path.cwd()
    os.chdir(folder)
    try:
        overrides.apply(CHANGE)
    finally:
        os.chdir(here)
    took = timed(folder, "-m", "flows.run")
    ran = _ran(folder, before)
    others = [name for name in ran if name not in AFTER and not name.endswith(f"@{CHANGED}")]
    tell(f"  ran again: {', '.join(ran)}")
    return took, len(others)


def _locked(folder: Path) -> dict[str, float]:
    """When each stage's first output was last written; of the stage benchmark each variant's too."""
    import yaml

    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    written = {name: (folder / stage["outs"][0]["path"]).lstat().st_mtime_ns for name, stage in stages.items()}
    timed = (folder / paths.BENCHMARK).iterdir()
    return written | {f"benchmark@{one.name}": one.lstat().st_mtime_ns for one in timed}


def _ran(folder: Path, before: dict[str, float]) -> list[str]:
    return [name for name, stamp in _locked(folder).items() if before.get(name) != stamp]


def bare() -> None:
    """The same conversions, evaluations and measurements one after another, without DVC, Prefect or MLflow."""
    from tasks import assess, benchmark, ceiling, config, convert, data, detect, evaluate, fetch, reference, tune

    variants = list(config.load().variants)
    for stage in (detect, fetch, data, reference, assess):
        _check(stage.main([]))
    _check(ceiling.main([]))
    for variant in variants:
        _check(convert.main(["--variant", variant]))
    _check(tune.main([]))
    for variant in variants:
        _check(evaluate.main(["--variant", variant]))
    _check(benchmark.main([]))


def _check(code: int) -> None:
    if code:
        raise SystemExit(code)


def where_time_goes(folder: Path) -> dict[str, float | None]:
    """Seconds of the run per kind of stage, and of all measuring together; kinds follow one another."""
    file = folder / paths.TIMES
    if not file.exists():
        return {"measurement_s": None}
    taken: dict[str, float] = json.loads(file.read_text())
    measuring = sum(taken.get(kind, 0.0) for kind in MEASURING)
    return {"measurement_s": measuring, **{f"run_{kind}_s": seconds for kind, seconds in taken.items() if seconds > 1}}


def winner(folder: Path) -> dict[str, float | None]:
    """The winner's figures against PyTorch fp32 and bf16, from the run's own records."""
    name = GateReport.read(folder / paths.VERDICTS).winner
    row = next((r for r in Recommendation.read(folder / paths.RECOMMENDATION).rows if r.variant == name), None)
    tell(f"winner: {name or 'none'}")
    if row is None:
        return {}
    found = {
        "winner_decode_x": _value(row, "decode_speedup"),
        "winner_prefill_x": _value(row, "prefill_speedup"),
        "winner_retention": _value(row, "retention"),
        "winner_decode_x_vs_bf16": _value(row, "decode_speedup_vs_bf16"),
        "winner_prefill_x_vs_bf16": _value(row, "prefill_speedup_vs_bf16"),
    }
    for key, metric in (
        ("winner_memory_saved", "memory_share"),
        ("winner_memory_saved_vs_bf16", "memory_share_vs_bf16"),
    ):
        share = _value(row, metric)
        found[key] = None if share is None else 1 - share
    return found


def _value(row: ScoreRow, name: str) -> float | None:
    return row.metrics.get(name, Metric(state="missing")).value


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def table(figures: Mapping[str, float | None], limits: Mapping[str, Limit] = LIMITS) -> str:
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


def conclude(name: str, figures: Mapping[str, float | None], limits: Mapping[str, Limit]) -> int:
    """Print the table and the closing line; the exit code is 1 when a limit is not kept."""
    closing = summary(name, figures, limits)
    print(f"{table(figures, limits)}\n{json.dumps(closing)}")
    return 0 if closing["ok"] else 1


def tell(line: str) -> None:
    """One line of progress."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Command line of `make bench`."""
    made = argparse.ArgumentParser(prog="python -m flows.bench", description=__doc__)
    made.add_argument("--bare", action="store_true", help="only the bare work, in this folder")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit code 1 when a limit is not kept."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        if arguments.bare:
            bare()
            return 0
        with tempfile.TemporaryDirectory(prefix="edgewright-bench-") as scratch:
            figures = bench(Path.cwd(), Path(scratch))
        return conclude("bench", figures, LIMITS)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
