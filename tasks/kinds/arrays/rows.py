"""Rows of a model's inputs, and what it answers to them, as named arrays in one file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Arrays, Feeds
from tasks.errors import DataError

Named = dict[str, NDArray[Any]]
FILE = "rows.npz"
OUTPUTS = "outputs.npz"
LABELS = "labels.npz"  # beside the rows: what is known of each, by name
MASK, WHOLE = "__mask__", "__whole__"  # what a file of rows says of itself beside them


@dataclass(frozen=True)
class Rows:
    """Inputs row by row.

    `mask` names an array of ones and zeros beyond whose last one nothing counts: a batch is cut to its longest row.
    `whole`: a row is all of the inputs by itself, as with a model that takes no batches.
    """

    arrays: Named  # name -> (rows, ...)
    mask: str = ""
    whole: bool = False

    def __len__(self) -> int:
        """Count rows."""
        return len(next(iter(self.arrays.values())))

    def take(self, numbers: Sequence[int]) -> Feeds:
        """The inputs of some rows together, of one where a row is whole."""
        if self.whole:
            [number] = numbers
            return {name: np.asarray(value[number]) for name, value in self.arrays.items()}
        found = {name: value[list(numbers)] for name, value in self.arrays.items()}
        if not self.mask:
            return found
        longest = max(1, int(found[self.mask].sum(1).max()))
        return {name: np.ascontiguousarray(value[:, :longest]) for name, value in found.items()}

    def batches(self, size: int) -> Iterator[Feeds]:
        """All rows in their order, `size` at a time."""
        step = 1 if self.whole else size
        for start in range(0, len(self), step):
            yield self.take(range(start, min(start + step, len(self))))

    def first(self, count: int) -> Rows:
        """The first rows."""
        return Rows({name: value[:count] for name, value in self.arrays.items()}, self.mask, self.whole)

    def save(self, file: Path) -> None:
        """Write the file and its folder."""
        file.parent.mkdir(parents=True, exist_ok=True)
        save({**self.arrays, MASK: np.array(self.mask), WHOLE: np.array(self.whole)}, file)

    @classmethod
    def load(cls, file: Path) -> Rows:
        """Read what `save` wrote; raises DataError for another file."""
        arrays = load(file)
        if MASK not in arrays or WHOLE not in arrays:
            raise DataError(f"{file} is no file of rows; run `dvc repro --force data`")
        mask, whole = str(arrays.pop(MASK)), bool(arrays.pop(WHOLE))
        return cls(arrays, mask, whole)


def load(file: Path) -> Named:
    """Named arrays of a .npz file, without anything that could run code; raises DataError for what is none."""
    try:
        with np.load(file, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:  # .npy has no names of arrays
        raise DataError(f"{file} cannot be read as .npz of plain arrays: {error}") from error


def save(arrays: Mapping[str, NDArray[Any]], file: Path) -> None:
    """Write named arrays."""
    np.savez(file, allow_pickle=False, **dict(arrays))


def answers(session: Arrays, rows: Rows, batch: int) -> Named:
    """Outputs for all rows: (rows, ...) by name; raises DataError where they differ in shape from row to row."""
    found: dict[str, list[NDArray[Any]]] = {}
    for feeds in rows.batches(fixed_batch(session) or batch):
        for name, value in session.run(feeds).items():
            found.setdefault(name, []).append(value[None] if rows.whole else value)
    for name, parts in found.items():
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            shown = ", ".join(map(str, sorted(shapes)[:3]))
            raise DataError(f"output {name!r} has another shape for other rows ({shown}); give rows of one size")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def fixed_batch(session: Arrays) -> int:
    """The number of rows that the model takes at once where it takes one number alone; 0: any."""
    sizes = {port.shape[0] for port in session.inputs.values() if port.shape}
    known = {size for size in sizes if size is not None}
    return known.pop() if len(known) == 1 else 0
