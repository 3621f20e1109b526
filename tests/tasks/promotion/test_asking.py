"""What versions are asked, and how alike answers are."""

from __future__ import annotations

import base64
import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.kinds.image_classifier import pictures
from tasks.promotion import asking
from tests.mapped import classifier, encoder


def embedded(*vectors: Any, packed: bool = False) -> bytes:
    rows = [base64.b64encode(np.array(v, np.float32).tobytes()).decode() if packed else v for v in vectors]
    return json.dumps({"data": [{"embedding": row} for row in rows]}).encode()


def classes(*names: int) -> bytes:
    return json.dumps({"data": [{"classes": [{"class": name}, {"class": 99}]} for name in names]}).encode()


def outputs(**arrays: list[Any]) -> bytes:
    return json.dumps({"outputs": [{"name": name, "data": data} for name, data in arrays.items()]}).encode()


ME, CL, IN = asking.EMBEDDINGS, asking.CLASSIFY, "/v2/models/x/infer"


@pytest.mark.parametrize(
    ("path", "ours", "theirs", "alike"),
    [
        (ME, embedded([3.0, 4.0]), embedded([0.6, 0.8]), 1.0),
        (ME, embedded([3.0, 4.0]), embedded([0.6, 0.8], packed=True), 1.0),
        (ME, embedded([1.0, 0.0], [0.0, 1.0]), embedded([1.0, 0.0], [1.0, 0.0]), 0.5),
        (ME, embedded([1.0, 0.0]), embedded([-1.0, 0.0]), 0.0),
        (ME, embedded([1.0, 0.0]), embedded([1.0]), 0.0),
        (ME, embedded([1.0, 0.0]), embedded([1.0, 0.0], [1.0, 0.0]), 0.0),
        (ME, embedded([1.0, 0.0]), b"no answer", None),
        (CL, classes(1, 2, 3, 4), classes(1, 2, 3, 5), 0.75),
        (CL, classes(1), classes(1, 2), 0.0),
        (CL, classes(1), b"[]", None),
        (IN, outputs(a=[1.0, 2.0]), outputs(a=[2.0, 4.0]), 1.0),
        (IN, outputs(a=[1.0, 2.0]), outputs(b=[1.0, 2.0]), 0.0),
        (IN, outputs(a=["one two"]), outputs(a=["one two"]), 1.0),
        (IN, b"{}", outputs(a=[1.0]), None),
    ],
)
def test_likeness(path: str, ours: bytes, theirs: bytes, alike: float | None) -> None:
    found = asking.likeness(path)
    assert found is not None
    told = found(ours, theirs)
    assert told is None if alike is None else told == pytest.approx(alike, abs=1e-6)


def test_only_answers_of_the_model_are_compared() -> None:
    assert asking.likeness("/v1/models") is None
    assert asking.likeness("/v2/models/x/versions/3/infer") is not None


def test_examples_hold() -> None:
    assert doctest.testmod(asking).failed == 0


def test_what_a_package_serves(tmp_path: Path) -> None:
    assert asking.form_of(str(encoder(tmp_path / "e"))) == "texts"
    assert asking.form_of(str(classifier(tmp_path / "c"))) == "pictures"
    assert asking.form_of(str(tmp_path / "nothing")) == "generation"


def test_pictures_of_our_own_differ_and_can_be_opened() -> None:
    import io

    made = [asking.picture(number) for number in range(3)]
    assert len(set(made)) == 3
    assert pictures.decoded(io.BytesIO(made[0]), "p").size == (asking.SIDE, asking.SIDE)
    assert asking.question("tensors", 0) is None
