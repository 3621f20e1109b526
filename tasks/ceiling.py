"""Ceiling: what this machine can do at most, measured once, so that each speed can be seen as a share of it."""

from __future__ import annotations

import shutil

from tasks.hardware import cores
from tasks.measure import guard
from tasks.measure.roofline import Roofline, RooflineRequest
from tasks.measure.timing import quantity
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.records.speed import Ceiling
from tasks.run.child import Child, run_child
from tasks.run.disk import fresh_folder
from tasks.run.memo import Memo, key_of
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace

COMMAND = "dvc repro --single-item --force ceiling"


def ceiling(workspace: Workspace, params: Params) -> Ceiling:
    """Measure in a fresh process with the device to itself; raises ChildError when it cannot be measured."""
    settings, threads = params.benchmark, cores.threads(params.benchmark.threads)
    work = Child(
        "tasks.measure.roofline:measure",
        RooflineRequest(threads=threads),
        settings.limits,
        workspace.logs / "ceiling.log",
        "ceiling",
        threads,
        timed=True,
    )
    with guard.device_to_itself():
        timed = guard.undisturbed(
            lambda: run_child(work, Roofline), "ceiling", settings.max_others_cores, settings.retries
        )
    answer = timed.answer
    return Ceiling(
        threads=threads,
        memory_gb_s=quantity(answer.memory_gb_s),
        gflop_s={kind: quantity(samples) for kind, samples in answer.gflop_s.items()},
        reasons=answer.reasons,
        disturbance=timed.disturbance,
        busy=timed.objection,
        command=COMMAND,
    )


def found_again(workspace: Workspace, params: Params) -> Ceiling:
    """The ceiling that was measured on this machine before, in its place, or a new one."""
    memo = Memo(workspace.memo)
    settings = params.benchmark.model_dump_json(include={"limits", "threads", "max_others_cores", "retries"})
    digest = key_of([settings], [workspace.hardware, *workspace.listed("ceiling")])
    kept = memo.find("ceiling", "host", digest)
    if kept is not None:
        return Ceiling.read(kept / workspace.ceiling.name)
    found = ceiling(workspace, params)
    if not found.busy:
        partial = fresh_folder(workspace.ceiling)
        found.write(partial / workspace.ceiling.name)
        memo.keep("ceiling", "host", digest, partial)
        shutil.rmtree(partial)
    return found


def work() -> None:
    """Measure this machine, or find again what was measured."""
    workspace = Workspace()
    found = found_again(workspace, load_params())
    found.write(workspace.ceiling)
    products = ", ".join(f"{kind} {speed.p50:.0f}" for kind, speed in found.gflop_s.items())
    print(f"ceiling: memory {found.memory_gb_s.p50:.1f} GB/s, matrix products {products} GFLOP/s")


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.ceiling", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
