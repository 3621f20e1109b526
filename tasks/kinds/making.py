"""What the child processes of a conversion do: make an artifact, and look at it in a fresh process."""

from __future__ import annotations

from pathlib import Path

from tasks.backends.base import Work
from tasks.backends.table import backend
from tasks.kinds.base import Checked, CheckRequest
from tasks.kinds.table import checking, family, preparing
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
    work = Work(
        family=family(request.kind),
        calibration_arrays=calibration.arrays,
        model=request.model.resolve(),
        calibration=calibration.texts,
        threads=request.threads,
        intermediate=None if request.intermediate is None else request.intermediate.resolve(),
    )
    backend(request.recipe.backend).convert(work, request.recipe, out)
    return Made(out=out)


def check(request: CheckRequest) -> Checked:
    """Load a fresh artifact and compare it with the reference's probe."""
    return checking(request.opening.kind).check(request)
