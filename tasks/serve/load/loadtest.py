"""Load test of a server: step by step to the rate at which it no longer keeps the objectives, or a soak at one rate.

Requests leave at random (Poisson) whether or not earlier ones came back; their prompts are those of the pipeline's
data. The last line is JSON, the report is artifacts/loadtest/index.html.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from tasks.errors import DataError, ResourceError
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.rows import Prompts
from tasks.measure.statistics import smallest_sample, trend
from tasks.params.whole import load_whole
from tasks.records.base import write_text
from tasks.records.load import LoadStep as Step
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.serve.load import load
from tasks.serve.load.load import Objectives
from tasks.serve.load.page import page
from tasks.serve.server import API_KEY

REPORT = Path("artifacts/loadtest")
FIRST_RATE, FACTOR, CLOSEST = 0.5, 1.7, 1.25
LENGTHS = (8, 16, 32, 64)  # of answers, tokens
ENOUGH = smallest_sample(load.QUANTILE) + 11  # requests a step should have


def reachable(base: str, key: str | None) -> str:
    """The name of the model that the server has; raises ResourceError when it is not ready."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        ready = httpx.get(f"{base}/v2/health/ready", timeout=10)
        if ready.status_code != 200:
            raise ResourceError(f"{base} is not ready: {ready.text[:200]}")
        return str(httpx.get(f"{base}/v1/models", headers=headers, timeout=10).json()["data"][0]["id"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise ResourceError(f"no server answers at {base} ({error}); `make serve` starts one") from error


def step(base: str, model: str, rate: float, seconds: float, prompts: Sequence[Sequence[int]], seed: int) -> Step:
    """Load the server at one rate, for as long as it takes to have enough requests."""
    planned_s = max(seconds, ENOUGH / rate)
    asks = load.schedule(rate, planned_s, prompts, LENGTHS, seed)
    outcomes, took = asyncio.run(load.run(base, model, asks, os.environ.get(API_KEY) or None))
    found = load.summarise(rate, planned_s, outcomes, took)
    first = "n too small" if found.first_ms_p95 is None else f"{found.first_ms_p95:.0f} ms"
    tell(
        f"{rate:.2f} requests/s: {found.requests} sent, {found.error_rate:.1%} failed, "
        f"{found.tokens_per_s:.0f} tokens/s, first token p95 {first}"
    )
    return found


def to_the_knee(
    base: str, model: str, prompts: Sequence[Sequence[int]], seconds: float, objectives: Objectives
) -> list[Step]:
    """Steps up to the first rate that is not kept, then closer."""
    steps: list[Step] = []
    rate: float | None = FIRST_RATE
    while rate is not None:
        steps.append(step(base, model, rate, seconds, prompts, len(steps)))
        rate = load.next_rate(steps, objectives, FACTOR, CLOSEST)
    return steps


def highest(steps: Sequence[Step], objectives: Objectives) -> float | None:
    """The highest rate that keeps the objectives, among rates below every one that does not."""
    missed = [one.rate for one in steps if not load.within(one, objectives)]
    return max((one.rate for one in steps if one.rate < min(missed, default=float("inf"))), default=None)


def soak(
    base: str, model: str, prompts: Sequence[Sequence[int]], rate: float, seconds: float
) -> dict[str, float | None]:
    """Load the server at one rate for long; latency's drift is a share of its median from beginning to end."""
    asks = load.schedule(rate, seconds, prompts, (32,), seed=1)
    outcomes, took = asyncio.run(load.run(base, model, asks, os.environ.get(API_KEY) or None))
    found = load.summarise(rate, seconds, outcomes, took)
    drift = trend([one.whole for one in outcomes if one.whole is not None])
    return {
        "requests": float(found.requests),
        "error_rate": found.error_rate,
        "tokens_per_s": found.tokens_per_s,
        "first_ms_p95": found.first_ms_p95,
        "latency_drift": None if drift is None else drift.value,
        "latency_drift_low": None if drift is None else drift.low,
        "latency_drift_high": None if drift is None else drift.high,
    }


def tell(line: str) -> None:
    """Print a line of progress."""
    print(f"load: {line}", file=sys.stderr, flush=True)


def conclude(figures: dict[str, float | None], limits: dict[str, str], ok: bool) -> int:
    """Table and closing line."""
    for name, value in figures.items():
        print(f"{name:<28}{'none' if value is None else f'{value:.4g}':>12}  {limits.get(name, '')}")
    rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
    print(json.dumps({"name": "loadtest", "figures": rounded, "limits": limits, "ok": ok}))
    return 0 if ok else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tasks.serve.load.loadtest", description=__doc__)
    made.add_argument("--url", help="the server's address; left out, serve.host and serve.port")
    made.add_argument("--seconds", type=float, default=20.0, help="least length of a step (20)")
    made.add_argument("--first-ms", type=float, default=1000.0, help="objective: p95 of the time to first token (1000)")
    made.add_argument("--between-ms", type=float, default=150.0, help="objective: p95 between two pieces (150)")
    made.add_argument("--soak", type=float, metavar="RATE", help="instead of steps, this rate for --minutes")
    made.add_argument("--minutes", type=float, default=10.0, help="length of a soak (10)")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the test; exit code 1 when no rate keeps the objectives."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        serve = load_whole().serve
        base = arguments.url or f"http://{serve.host}:{serve.port}"
        if not (Workspace().data / files.PROMPTS).exists():
            raise DataError(f"{(Workspace().data / files.PROMPTS)} does not exist; `dvc repro data` makes it")
        data = Prompts.read(Workspace().data / files.PROMPTS)
        prompts = [ids for ids in (*data.short, *data.long) if len(ids) + max(LENGTHS) <= serve.context_tokens]
        model = reachable(base, os.environ.get(API_KEY) or None)
        if arguments.soak:
            figures = soak(base, model, prompts, arguments.soak, 60 * arguments.minutes)
            low = figures["latency_drift_low"]
            ok = figures["error_rate"] == 0 and not (low is not None and low > 0.1)
            return conclude(figures, {"error_rate": "0", "latency_drift": "not above 0.1"}, ok)
        objectives = Objectives(arguments.first_ms, arguments.between_ms)
        steps = to_the_knee(base, model, prompts, arguments.seconds, objectives)
        best = highest(steps, objectives)
        most = max(one.tokens_per_s for one in steps)
        said = (
            f"{f'{best:.2f} requests per second keep' if best else 'no rate keeps'} the 95th percentile of the time to "
            f"first token under {objectives.first_ms:g} ms "
            f"and between pieces of an answer under {objectives.between_ms:g} ms"
        )
        write_text(
            REPORT / "index.html",
            page(f"Load test of {model}", f"{said}.", steps, objectives.first_ms, objectives.between_ms),
        )
        write_text(REPORT / "steps.json", json.dumps([one.model_dump() for one in steps], indent=1) + "\n")
        tell(f"report: {REPORT / 'index.html'}")
        limits = {"highest_rate": "> 0"}
        return conclude(
            {"highest_rate": best, "most_tokens_per_s": most, "steps": float(len(steps))}, limits, bool(best)
        )

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
