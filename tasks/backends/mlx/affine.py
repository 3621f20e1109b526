"""Weights that lie on a grid already: found again from the expanded values, and packed as MLX has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = 32  # weights of a block of GGUF's Q4_0, Q4_1 and Q8_0, and of a group here
NEAR = 2e-3  # of the largest weight of a block; half-precision scales round by a quarter of that

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """weight = scale * step + bias, a scale and bias for each group of a row."""

    bits: int
    steps: NDArray[np.uint32]  # shape (rows, columns)
    scales: NDArray[np.float16]  # shape (rows, columns / GROUP)
    biases: NDArray[np.float16]

    def packed(self) -> NDArray[np.uint32]:
        """The steps as MLX stores them, the first in the lowest bits, shape (rows, columns * bits / 32)."""
        each = 32 // self.bits
        apart = self.steps.reshape(len(self.steps), -1, each) << (np.arange(each, dtype=np.uint32) * self.bits)
        packed: NDArray[np.uint32] = np.bitwise_or.reduce(apart, axis=2)
        return packed


def grid_of(weights: Values) -> Grid | None:
    """The grid that all groups of a matrix lie on, shape (rows, columns); None where they lie on none.

    >>> steps = np.array([[0, 15, *([7] * 30)]], dtype=np.float32)
    >>> grid_of(steps * np.float32(0.25) - 1).bits
    4
    """
    rows, columns = weights.shape
    if columns % GROUP:
        return None
    blocks = weights.reshape(rows, columns // GROUP, GROUP)
    largest = np.abs(blocks).max(axis=2)
    for bits, scales, biases in _grids(blocks, largest):
        scale, bias = scales.astype(np.float32)[..., None], biases.astype(np.float32)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(scale == 0, 0.0, np.rint((blocks - bias) / scale)).clip(0, 2**bits - 1)
        if (np.abs(scale * steps + bias - blocks).max(axis=2) <= NEAR * largest).all():
            return Grid(bits, steps.astype(np.uint32).reshape(rows, columns), scales, biases)
    return None


def _grids(blocks: Values, largest: Values) -> Iterator[tuple[int, NDArray[np.float16], NDArray[np.float16]]]:
    """Scales and biases as Q4_1, Q4_0 and Q8_0 have them."""
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    yield 4, ((high - low) / 15).astype(np.float16), low.astype(np.float16)
    furthest = np.where(np.abs(low) > np.abs(high), low, high)
    step = (furthest / -8).astype(np.float16)
    yield 4, step, (-8 * step.astype(np.float32)).astype(np.float16)
    step = (largest / 127).astype(np.float16)
    yield 8, step, (-128 * step.astype(np.float32)).astype(np.float16)


def grids_of(model: Path) -> dict[str, Grid]:
    """The grid of each layer of a checkpoint whose weights lie on one, by the layer's name."""
    return {
        name.removesuffix(".weight"): grid
        for file in sorted(model.glob("*.safetensors"))
        for name, values in _matrices(file)
        if (grid := grid_of(values)) is not None
    }


def _matrices(file: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        for name in opened.keys():  # noqa: SIM118 - no mapping
            if name.endswith(".weight") and len(opened.get_slice(name).get_shape()) == 2:
                yield name, opened.get_tensor(name)


def put(grids: Mapping[str, Grid], out: Path) -> None:
    """Write the grids in place of those that mlx-lm made: its own have zero among their steps, and so lie elsewhere."""
    from safetensors.numpy import load_file, save_file

    for file in sorted(out.glob("*.safetensors")):
        made = load_file(file)
        for layer, grid in grids.items():
            if f"{layer}.scales" in made:
                parts = {"weight": grid.packed(), "scales": grid.scales, "biases": grid.biases}
                made |= {f"{layer}.{name}": values for name, values in parts.items()}
        save_file(made, file, metadata={"format": "mlx"})
