"""What embeddings find: the text a sentence was taken out of, the same neighbours, the same order of likeness."""

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
from tasks.kinds.text_encoder.preparing import DOCUMENT, QUERY
from tasks.kinds.text_encoder.words import VECTOR

TOP, NEIGHBOURS = 5, 10


def summarise(scores: Path, reference: Path, level: float) -> dict[str, Any]:
    """Retrieval, neighbours, likeness and direction beside the reference's, with intervals over sentences and texts."""
    found, wanted = load(scores / OUTPUTS), load(reference / OUTPUTS)
    side = comparing.beside(found, "side")
    assert side is not None  # written with the rows
    ours, theirs = (unit(one[VECTOR]) for one in (found, wanted))
    likeness = [one[side == QUERY] @ one[side == DOCUMENT].T for one in (ours, theirs)]
    right = [recalled(one, TOP) for one in likeness]
    flips, p = comparing.flips(right[0], right[1])
    figures = {
        "recall_5": comparing.mean(right[0].astype(float)),
        "retention": comparing.retention(right[0], right[1], level),
        "mcnemar_p": p,
        "neighbours_10": comparing.mean(shared(ours[side == DOCUMENT], theirs[side == DOCUMENT], NEIGHBOURS)),
        "rank_correlation": comparing.mean(rank_correlation(*likeness)),
        "cosine": comparing.mean((ours * theirs).sum(1)),
    }
    return {"figures": figures, "counts": {"rows": len(right[0]), "texts": len(ours), **flips}}


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Vectors of length one, (rows, size)."""
    long = vectors.astype(np.float64)
    found: NDArray[np.float64] = long / np.maximum(np.linalg.norm(long, axis=1, keepdims=True), 1e-12)
    return found


def recalled(likeness: NDArray[np.float64], top: int) -> NDArray[np.bool_]:
    """Per query, whether its own text is among the `top` most alike; of (queries, texts), own ones on the diagonal."""
    own = np.diagonal(likeness)[:, None]
    found: NDArray[np.bool_] = (likeness > own).sum(1) < top
    return found


def shared(ours: NDArray[np.float64], theirs: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Per text, the share of its nearest `count` others that the reference's vectors find as well."""
    count = min(count, len(ours) - 1)
    sets = []
    for vectors in (ours, theirs):
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -np.inf)
        sets.append(np.argsort(-likeness, axis=1)[:, :count])
    return np.array([len(set(a) & set(b)) / count for a, b in zip(sets[0].tolist(), sets[1].tolist(), strict=True)])


def rank_correlation(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per query, Spearman's correlation of its likeness to all texts with the reference's."""
    ranks = [one.argsort(1).argsort(1).astype(np.float64) for one in (ours, theirs)]
    centred = [one - one.mean(1, keepdims=True) for one in ranks]
    sizes = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    found: NDArray[np.float64] = (centred[0] * centred[1]).sum(1) / np.maximum(sizes, 1e-12)
    return found
