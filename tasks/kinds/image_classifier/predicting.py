"""A package as a function: pictures, or their numbers, in; a number for each class out."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Arrays
from tasks.backends.table import arrays
from tasks.errors import DataError
from tasks.kinds.arrays import predicting
from tasks.kinds.base import Form, Packed, Signature
from tasks.kinds.image_classifier import pictures
from tasks.kinds.image_classifier.expanding import CLASSES
from tasks.kinds.image_classifier.packing import FOLDER
from tasks.kinds.image_classifier.pictures import Preprocessing

SERVES: tuple[Form, ...] = ("pictures", "tensors")
BATCH = 32


def open_package(package: Path, packed: Packed) -> Classifier:
    """Load session and preparation."""
    session = arrays(packed.backend).arrays(package / "model", packed.threads, packed.settings)
    return Classifier(session, pictures.read(package / FOLDER))


def signature(package: Path, packed: Packed) -> Signature:
    """Pictures as numbers in, a number for each class out, and the names of classes where the package has them."""
    named = package / FOLDER / CLASSES
    classes = tuple(json.loads(named.read_text(encoding="utf-8"))) if named.is_file() else ()
    return predicting.signature(package, packed).model_copy(update={"classes": classes})


@dataclass
class Classifier:
    """Pictures in, classes out."""

    session: Arrays
    told: Preprocessing

    def predict(self, rows: Any, parameters: Mapping[str, Any]) -> NDArray[Any]:
        """A number for each class, (pictures, classes).

        Rows are numbers as the model takes them, or pictures: paths, bytes of files or those in base64.
        """
        if rows is None:
            return next(iter(self.session.run(predicting.zeros(self.session)).values()))
        if isinstance(rows, Mapping) or (isinstance(rows, np.ndarray) and rows.dtype.kind in "fiu"):
            return next(iter(self.session.run(predicting.feeds(self.session, rows)).values()))
        if hasattr(rows, "columns"):
            rows = rows.iloc[:, 0].tolist()
        given = [rows] if isinstance(rows, str | bytes | Path) else list(rows)
        return self.classify([_picture(one, number) for number, one in enumerate(given)])

    def classify(self, given: list[Any]) -> NDArray[Any]:
        """The same for pictures of Pillow's."""
        if not given:
            raise DataError("there is no picture to classify")
        name, numbers = next(iter(self.session.inputs)), [self.told.numbers(one) for one in given]
        found = [
            next(iter(self.session.run({name: pictures.stacked(numbers[start : start + BATCH])}).values()))
            for start in range(0, len(numbers), BATCH)
        ]
        return np.concatenate(found)


def _picture(given: Any, number: int) -> Any:
    """A picture from a path, from bytes, or from base64; raises DataError."""
    if isinstance(given, Path) or (isinstance(given, str) and len(given) < 4096 and Path(given).is_file()):
        return pictures.opened(Path(given))
    if isinstance(given, str):
        try:
            given = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            raise DataError(f"picture {number} is neither a file that is there nor base64 of one") from None
    if not isinstance(given, bytes | bytearray):
        raise DataError(f"picture {number} is {type(given).__name__}; it must be a path, bytes, or base64")
    return pictures.decoded(io.BytesIO(bytes(given)), f"picture {number}")
