"""Choose how the input of matrix products is quantized: by the error in their outputs, tried on what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.backends.onnx.w8a8.integer import BLOCK, LARGEST, MIDDLE, in_blocks, per_output
from tasks.backends.onnx.w8a8.seen import Floats, Seen
from tasks.backends.onnx.w8a8.smooth import Fold, scale_of, spread

Way = Literal["tensor", "rows", "blocks"]
ALPHAS = (None, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LIMIT = 0.002  # of an output's energy, mean over rows; products without outliers stay below by one scale
LEVELS = 255
COLUMNS = 4096  # outputs of the products that are looked at, spread over all


@dataclass(frozen=True)
class Choice:
    """How one value is quantized."""

    way: Way  # one scale for all of it, for each of its rows, or for each block of a row
    alpha: float | None  # of smoothing; None: no channel is scaled
    error: float  # share of the outputs' energy that is lost, mean over the rows of texts that alpha was not found by


def choose(fold: Fold | None, seen: Seen, weights: Sequence[Floats]) -> Choice:
    """The cheapest way whose error keeps the limit; where none does, that of the smallest error.

    `fold` None: the value's channels cannot be scaled.
    """
    joined = np.concatenate(weights, axis=1)
    sample = joined[:, np.linspace(0, joined.shape[1] - 1, min(COLUMNS, joined.shape[1])).astype(int)]
    by_rows, others = seen.halves()
    tried = []
    for way in ("tensor", "rows"):
        smoothed = [
            Choice(way, alpha, _error(others, sample, divisors(fold, by_rows, weights, alpha), way))
            for alpha in (ALPHAS if fold is not None else ALPHAS[:1])
        ]
        tried.append(min(smoothed, key=lambda one: one.error))
        if tried[-1].error <= LIMIT:
            return tried[-1]
    tried.append(Choice("blocks", None, _error_in_blocks(others.rows, sample)))
    return min(tried, key=lambda one: one.error)


def divisors(fold: Fold | None, seen: Seen, weights: Sequence[Floats], alpha: float | None) -> Floats:
    """What each channel of a value is divided by, (channels,)."""
    if fold is None or alpha is None:
        return np.ones(seen.rows.shape[1], np.float32)
    return spread(scale_of(fold, seen.magnitudes, weights, alpha), fold)


def _error(seen: Seen, weight: Floats, scale: Floats, way: Way) -> float:
    """What is lost of the products' outputs by one scale for all rows of a text, or for each row."""
    integers, step = per_output(weight * scale[:, None])
    rows = seen.rows / scale
    if way == "rows":
        high, low = rows.max(1, keepdims=True), rows.min(1, keepdims=True)
        high, low = np.maximum(high, -low), np.minimum(low, -high)
    else:
        high, low = ((one / scale)[seen.text] for one in (seen.high, seen.low))
    size = np.maximum(np.maximum(high.max(1), 0) - np.minimum(low.min(1), 0), 1e-12)[:, None] / LEVELS
    return _lost((np.rint(rows / size) * size @ integers.astype(np.float32)) * step, seen.rows @ weight)


def _error_in_blocks(rows: Floats, weight: Floats) -> float:
    held, scales = in_blocks(weight.T)
    whole = (held.reshape(len(held), -1, BLOCK).astype(np.float32) - MIDDLE) * scales[..., None]
    filled = np.pad(rows, ((0, 0), (0, whole[0].size - rows.shape[1])))
    blocks = filled.reshape(len(rows), -1, BLOCK)
    size = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-12) / LARGEST
    rounded = (np.rint(blocks / size) * size).reshape(len(rows), -1)
    return _lost(rounded @ whole.reshape(len(held), -1).T, rows @ weight)


def _lost(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    energy = np.maximum((wanted.astype(np.float64) ** 2).sum(1), 1e-12)
    return float((((found - wanted) ** 2).sum(1) / energy).mean())
