"""How pictures become a classifier's input: written down as data, done by NumPy and Pillow, shipped with the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.errors import DataError, ModelError
from tasks.records.base import Record

INPUT, OUTPUT = "image", "classes"
FILE = "preprocessing.json"
LARGEST = 40_000_000  # pixels of a picture that is opened; larger ones are made to fill memory
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class Preprocessing(Record):
    """The steps from a picture to numbers, in this order."""

    mode: Literal["L", "RGB"]  # grey or colours
    size: tuple[int, int]  # height and width that go in
    crop: float = 1.0  # the share of the resized picture that its middle is
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    scale: float = 255.0  # bytes are divided by this
    mean: tuple[float, ...]  # then this is taken off, by channel
    std: tuple[float, ...]  # and divided by this

    def numbers(self, picture: Any) -> NDArray[np.float32]:
        """One picture of Pillow's as (channels, height, width)."""
        from PIL import Image

        way = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[self.interpolation]
        converted = picture.convert(self.mode)
        height, width = self.size
        ratio = max(height / converted.height, width / converted.width) / self.crop
        resized = converted.resize(
            (max(width, round(converted.width * ratio)), max(height, round(converted.height * ratio))), way
        )
        left, top = (resized.width - width) // 2, (resized.height - height) // 2
        return self.of_pixels(np.asarray(resized.crop((left, top, left + width, top + height))))

    def of_pixels(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Pixels of the right size, (height, width) or (height, width, channels), as (channels, height, width)."""
        values = np.asarray(pixels, np.float32) / self.scale
        values = values[..., None] if values.ndim == 2 else values
        moved = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(moved.transpose(2, 0, 1), dtype=np.float32)


def read(folder: Path) -> Preprocessing:
    """How the pictures of the model in `folder` are prepared; raises ModelError where that is not told."""
    try:
        return Preprocessing.model_validate(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} does not tell how pictures are prepared ({FILE}): {error}") from error


def opened(file: Path) -> Any:
    """A picture; raises DataError for what is none, is cut, or has more pixels than are opened."""
    import io

    return decoded(io.BytesIO(file.read_bytes()), file.name)


def decoded(data: Any, name: str) -> Any:
    """The same of a file's content."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(data)
        if picture.width * picture.height > LARGEST:
            raise DataError(f"{name} has {picture.width} x {picture.height} pixels; at most {LARGEST:,} are opened")
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is no picture that can be opened: {error}") from error
    return picture


def files(folder: Path) -> list[Path]:
    """The pictures in a folder and its folders, in the order of their names; none where it is no folder."""
    return sorted(file for file in folder.glob("**/*") if file.suffix.lower() in ENDINGS) if folder.is_dir() else []


def labelled(folder: Path, told: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Pictures of a folder as numbers; with their classes where each lies in a folder named by a number.

    Raises DataError for a folder without any.
    """
    found = files(folder)
    if not found:
        raise DataError(f"{folder} holds no pictures; allowed: {', '.join(ENDINGS)}")
    named = [file.parent.name for file in found]
    classes = np.array([int(one) for one in named], np.int64) if all(one.isdigit() for one in named) else None
    return stacked([told.numbers(opened(file)) for file in found]), classes


def stacked(pictures: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(pictures, channels, height, width)."""
    return np.stack(list(pictures)).astype(np.float32)
