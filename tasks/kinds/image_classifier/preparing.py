"""Pictures to classify: of digits the half that was not trained on, of others the user's, or parts of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.backends.table import arrays
from tasks.errors import DataError
from tasks.kinds.arrays import split
from tasks.kinds.arrays.rows import Named, Rows
from tasks.kinds.arrays.scoring import REFERENCE_BACKEND
from tasks.kinds.arrays.split import calibration as calibration
from tasks.kinds.base import Prepared
from tasks.kinds.image_classifier import digits, pictures
from tasks.kinds.image_classifier.pictures import Preprocessing
from tasks.params.pipeline import Convert, Data

PHOTOS, AUTO = "photos", "auto"
LABELS = "a folder for each class, named by its number, or pictures without classes in one folder"


def refuse(params: Data) -> None:
    """Raise DataError for a folder that is not there or holds no pictures."""
    if params.source not in (AUTO, digits.NAME, PHOTOS):
        _files(params.source)


def prepare(params: Data, convert: Convert, model: Path, out: Path) -> Prepared:
    """Write pictures as numbers, with their classes where they are known."""
    told = pictures.read(model)
    source = fitting(params.source, told)
    images, labels = _images(source, params, told)
    name = _input(model)
    rows = Rows({name: images})
    parts, notes = split.choose(rows, params, source)
    if not labels:
        notes = (*notes, "pictures without classes: judged by the reference's answers")
    return split.put(rows, labels, parts, split.numbers_in(rows), out, split.Said(source, "numbers", notes))


def _input(model: Path) -> str:
    session = arrays(REFERENCE_BACKEND).arrays(model, 1)
    names = list(session.inputs)
    session.close()
    if len(names) != 1:
        raise DataError(f"the classifier has inputs {', '.join(names)}; it must have one")
    return names[0]


def fitting(source: str, told: Preprocessing) -> str:
    """The source that `auto` stands for; raises DataError for digits where the model takes other pictures.

    >>> fitting("auto", digits.PREPROCESSING)
    'digits'
    """
    of_digits = (told.mode, told.size) == (digits.PREPROCESSING.mode, digits.PREPROCESSING.size)
    if source == AUTO:
        return digits.NAME if of_digits else PHOTOS
    if source == digits.NAME and not of_digits:
        height, width = told.size
        raise DataError(
            f"data.source is {digits.NAME}, grey pictures of 8x8, and the model takes {told.mode} of {width}x{height}; "
            f"give {PHOTOS}, or {LABELS}"
        )
    return source


def _images(source: str, params: Data, told: Preprocessing) -> tuple[NDArray[np.float32], Named]:
    if source == digits.NAME:
        images, classes = digits.pictures()
        return images[digits.TRAINED :], {"label": classes[digits.TRAINED :]}
    if source == PHOTOS:
        return _parts(told, params.evaluation_rows + params.calibration_rows, params.seed), {}
    _files(source)
    images, named = pictures.labelled(Path(source).expanduser(), told)
    return images, {} if named is None else {"label": named}


def _files(source: str) -> list[Path]:
    found = pictures.files(Path(source).expanduser())
    if not found:
        raise DataError(
            f"data.source {source!r} holds no pictures; allowed: {AUTO}, {digits.NAME}, {PHOTOS}, or {LABELS}"
        )
    return found


def _parts(told: Preprocessing, count: int, seed: int) -> NDArray[np.float32]:
    """Parts of scikit-learn's two photographs, of any size and place, some mirrored: without classes, but real."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    dice, found = np.random.default_rng(seed), list[NDArray[np.float32]]()
    photos = [Image.fromarray(one) for one in load_sample_images().images]
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(dice.integers(100, min(photo.size)))
        left, top = (int(dice.integers(0, room - side + 1)) for room in photo.size)
        part = photo.crop((left, top, left + side, top + side))
        found.append(told.numbers(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if dice.random() < 0.5 else part))
    return pictures.stacked(found)
