"""How far outputs stay with the unquantized ones: classes where an output has them, else directions and differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.kinds.arrays import comparing
from tasks.kinds.arrays.rows import OUTPUTS, load
from tasks.kinds.arrays.scoring import REFERENCE_BACKEND as REFERENCE_BACKEND
from tasks.kinds.arrays.scoring import SCORES as SCORES
from tasks.kinds.arrays.scoring import refer as refer
from tasks.kinds.arrays.scoring import score as score
from tasks.kinds.arrays.scoring import undecided as undecided
from tasks.records.base import Estimate


def summarise(scores: Path, reference: Path, level: float) -> dict[str, Any]:
    """Agreement, cosine and difference of the output that stays least with the reference; accuracy where labels are."""
    found, wanted = load(scores / OUTPUTS), load(reference / OUTPUTS)
    ours, theirs = comparing.outputs(found), comparing.outputs(wanted)
    agreement, cosine, error = {}, {}, {}
    for name, value in theirs.items():
        agreement[name] = comparing.mean(agrees(ours[name], value))
        cosine[name] = comparing.mean(comparing.cosine(ours[name], value))
        error[name] = comparing.mean(comparing.relative_error(ours[name], value))
    figures = {
        "agreement": min(agreement.values(), key=_value),
        "cosine": min(cosine.values(), key=_value),
        "output_error": max(error.values(), key=_value),
        **{f"agreement of {name}": one for name, one in agreement.items()},
    }
    counts = {"rows": len(next(iter(theirs.values())))}
    label = comparing.beside(found, "label")
    if label is not None:
        more, flips = _labelled(ours, theirs, label, level)
        figures, counts = figures | more, counts | flips
    return {"figures": figures, "counts": counts}


def _value(one: Estimate) -> float:
    return one.value if one.value is not None else float("-inf")


def has_classes(output: NDArray[Any]) -> bool:
    """Whether each row gives one number for each of some classes: (rows, classes), in floating point."""
    axes = sum(size > 1 for size in output.shape[1:])
    return output.dtype.kind == "f" and axes == 1


def agrees(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    """Per row: whether the class is the reference's; of integers, whether all are; else the cosine."""
    a, b = (one.reshape(len(one), -1) for one in (ours, theirs))
    found: NDArray[np.float64]
    if has_classes(theirs):
        found = (a.argmax(1) == b.argmax(1)).astype(np.float64)
    elif theirs.dtype.kind != "f":
        found = (a == b).all(1).astype(np.float64)
    elif b.shape[1] == 1:  # one number a row, which has no direction: 1 less its error, as a share of the spread
        found = 1 - np.minimum(comparing.relative_error(ours, theirs), 1.0)
    else:
        found = comparing.cosine(ours, theirs)
    return found


def _labelled(
    ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]], label: NDArray[Any], level: float
) -> tuple[dict[str, Estimate], dict[str, int]]:
    name = next((name for name, value in theirs.items() if has_classes(value)), None)
    if name is None:
        return {"accuracy": Estimate(reason="labels are given, but no output has classes")}, {}
    right = [one[name].reshape(len(label), -1).argmax(1) == label.ravel() for one in (ours, theirs)]
    flips, p = comparing.flips(right[0], right[1])
    kept = comparing.retention(right[0], right[1], level)
    return {"accuracy": comparing.mean(right[0].astype(float)), "retention": kept, "mcnemar_p": p}, flips
