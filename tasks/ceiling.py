"""Ceiling: what this machine can do at most, measured once, so that each speed can be seen as a share of it."""

from __future__ import annotations

import argparse

from tasks import config, paths
from tasks.measure import guard
from tasks.measure.child import Child, run_child
from tasks.measure.timing import quantity
from tasks.records import Ceiling
from tasks.stage import run_stage

COMMAND = "dvc repro --single-item --force ceiling"


def ceiling(params: config.Params) -> Ceiling:
    """Measure in a fresh process with the device to itself; raises ChildError when it cannot be measured."""
    settings, threads = params.benchmark, config.threads(params)
    work = Child(
        "tasks.measure.ceiling:measure",
        {"threads": threads},
        settings.limits,
        paths.LOGS / "ceiling.log",
        "ceiling",
        threads,
        timed=True,
    )
    with guard.device_to_itself():
        timed = guard.undisturbed(lambda: run_child(work), "ceiling", settings.max_others_cores, settings.retries)
    answer = timed.answer
    return Ceiling(
        threads=threads,
        memory_gb_s=quantity(answer["memory_gb_s"]),
        gflop_s={kind: quantity(samples) for kind, samples in answer["gflop_s"].items()},
        reasons=answer["reasons"],
        disturbance=timed.disturbance,
        busy=timed.objection,
        command=COMMAND,
    )


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.ceiling", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    parser().parse_args(argv)

    def work() -> None:
        found = ceiling(config.load())
        found.write(paths.CEILING)
        products = ", ".join(f"{kind} {speed.p50:.0f}" for kind, speed in found.gflop_s.items())
        print(f"ceiling: memory {found.memory_gb_s.p50:.1f} GB/s, matrix products {products} GFLOP/s")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
