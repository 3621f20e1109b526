"""What belongs beside a classifier: how pictures become its input, and the names of classes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.errors import DataError
from tasks.kinds.arrays.packing import converses as converses
from tasks.kinds.image_classifier import pictures
from tasks.kinds.image_classifier.expanding import CLASSES

FOLDER = "pictures"


def companions(model: Path, out: Path) -> None:
    """Copy them into the package's folder `out`; raises DataError where the preparation is absent."""
    if not (model / pictures.FILE).is_file():
        raise DataError(f"{model} has no {pictures.FILE}; run `dvc repro --force fetch`")
    (out / FOLDER).mkdir()
    for name in (pictures.FILE, CLASSES):
        if (model / name).is_file():
            shutil.copy2(model / name, out / FOLDER / name)
