"""How classes stay with the reference's, and with the true ones where these are known."""

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

TOP = 5


def summarise(scores: Path, reference: Path, level: float) -> dict[str, Any]:
    """The same class, the same five, their likelihoods; accuracy and flips per class where classes are known."""
    found, wanted = load(scores / OUTPUTS), load(reference / OUTPUTS)
    ours, theirs = (next(iter(comparing.outputs(one).values())) for one in (found, wanted))
    figures = {
        "agreement": comparing.mean((ours.argmax(1) == theirs.argmax(1)).astype(float)),
        "top5_agreement": comparing.mean(among(ours, theirs.argmax(1), TOP).astype(float)),
        "mean_kl": comparing.mean(divergence(theirs, ours)),
    }
    counts = {"rows": len(ours)}
    label = comparing.beside(found, "label")
    if label is not None:
        right = [one.argmax(1) == label for one in (ours, theirs)]
        flips, p = comparing.flips(right[0], right[1])
        figures |= {
            "top1": comparing.mean(right[0].astype(float)),
            "top5": comparing.mean(among(ours, label, TOP).astype(float)),
            "retention": comparing.retention(right[0], right[1], level),
            "mcnemar_p": p,
            **{
                f"flips of class {name}": Estimate(value=share)
                for name, share in by_class(right[0], right[1], label).items()
            },
        }
        counts |= flips
    return {"figures": figures, "counts": counts}


def among(scores: NDArray[Any], classes: NDArray[Any], top: int) -> NDArray[np.bool_]:
    """Per picture, whether a class is among the `top` likeliest."""
    own = np.take_along_axis(scores, classes.astype(np.int64)[:, None], 1)
    found: NDArray[np.bool_] = (scores > own).sum(1) < top
    return found


def divergence(theirs: NDArray[Any], ours: NDArray[Any]) -> NDArray[np.float64]:
    """Kullback and Leibler's divergence of the classes' likelihoods from the reference's, nats a picture."""
    p, q = (_log_softmax(one.astype(np.float64)) for one in (theirs, ours))
    found: NDArray[np.float64] = np.maximum((np.exp(p) * (p - q)).sum(1), 0.0)
    return found


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found


def by_class(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], label: NDArray[Any]) -> dict[int, float]:
    """The share of each class' pictures whose answer turned from right to wrong or back."""
    return {int(name): float((ours != theirs)[label == name].mean()) for name in np.unique(label)}
