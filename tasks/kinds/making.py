"""What the child processes of a conversion do: make an artifact, and look at it in a fresh process."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.backends.base import Work
from tasks.backends.table import backend
from tasks.kinds.base import Calibration, Checked, CheckRequest
from tasks.kinds.table import checking, family, preparing, transforming
from tasks.records.base import Record
from tasks.records.plan import Recipe


class MakeRequest(Record):
    """Convert the checkpoint, or an unquantized artifact of the same backend."""

    kind: str
    recipe: Recipe
    model: Path
    data: Path
    intermediate: Path | None
    out: Path
    threads: int


class Made(Record):
    """A conversion came to its end."""

    out: Path


def make(request: MakeRequest) -> Made:
    """Convert."""
    calibration = preparing(request.kind).calibration(request.data)
    out = request.out.resolve()
    out.mkdir(parents=True)
    model, changed = request.model.resolve(), out.with_name(f"{out.name}.changed")
    try:
        if request.recipe.transforms:
            transforming(request.kind).transform(model, request.recipe, calibration, changed, request.threads)
            model = changed
        _convert(request, calibration, model, out)
    finally:
        shutil.rmtree(changed, ignore_errors=True)
    return Made(out=out)


def _convert(request: MakeRequest, calibration: Calibration, model: Path, out: Path) -> None:
    work = Work(
        family=family(request.kind),
        calibration_arrays=calibration.arrays,
        model=model,
        calibration=calibration.texts,
        threads=request.threads,
        intermediate=None if request.intermediate is None else request.intermediate.resolve(),
    )
    backend(request.recipe.backend).convert(work, request.recipe, out)


def check(request: CheckRequest) -> Checked:
    """Load a fresh artifact and compare it with the reference's probe."""
    return checking(request.opening.kind).check(request)
