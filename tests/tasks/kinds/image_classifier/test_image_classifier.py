"""Image classifiers: pictures become numbers as written down, bad ones are refused, int8 keeps the classes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.backends.base import Work
from tasks.backends.table import arrays, backend
from tasks.errors import DataError, ModelError
from tasks.kinds.image_classifier import digits, expanding, pictures, predicting, preparing, scoring
from tasks.kinds.image_classifier.pictures import Preprocessing
from tasks.params.pipeline import Data, Fetch
from tests.factories import recipe

RGB = Preprocessing(mode="RGB", size=(8, 6), scale=255.0, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_a_picture_is_resized_cropped_and_scaled() -> None:
    found = RGB.numbers(Image.new("RGBA", (60, 40), (255, 0, 0, 255)))
    assert found.shape == (3, 8, 6)
    assert found[0] == pytest.approx(np.full((8, 6), 2.0))
    assert found[1] == pytest.approx(np.full((8, 6), -2.0))


def test_the_middle_of_a_picture_is_taken() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    found = Preprocessing(mode="L", size=(10, 10), mean=(0.0,), std=(1.0,)).numbers(Image.fromarray(wide))
    assert found.min() == pytest.approx(1.0)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="no picture"):
        pictures.opened(tmp_path / "a.png")


def test_a_picture_made_to_fill_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pictures, "LARGEST", 100)
    Image.new("L", (20, 20)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="at most 100 are opened"):
        pictures.opened(tmp_path / "large.png")


def test_without_a_source_a_model_gets_pictures_that_it_takes() -> None:
    assert preparing.fitting("auto", digits.PREPROCESSING) == "digits"
    assert preparing.fitting("auto", RGB) == "photos"
    assert preparing.fitting("some/folder", RGB) == "some/folder"
    with pytest.raises(DataError, match="pictures of 8x8, and the model takes RGB of 6x8; give photos, or"):
        preparing.fitting("digits", RGB)


def test_a_folder_of_pictures_may_tell_their_classes(tmp_path: Path) -> None:
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (9, 9), 40 * number).save(tmp_path / name / f"{number}.png")
    images, labels = preparing._images(str(tmp_path), Data(), digits.PREPROCESSING)
    assert images.shape == (6, 1, 8, 8)
    assert labels["label"].tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="holds no pictures"):
        preparing.refuse(Data(source=str(tmp_path / "absent")))


def test_a_folder_without_its_preparation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.onnx"):
        expanding.refuse(Fetch(model=str(tmp_path)))
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="does not tell how pictures are prepared"):
        expanding.refuse(Fetch(model=str(tmp_path)))


def test_classes_are_compared_by_the_likeliest_and_by_likelihood() -> None:
    theirs = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert scoring.among(theirs[:, ::-1], theirs.argmax(1), 1).tolist() == [False, False]
    assert scoring.among(theirs[:, ::-1], theirs.argmax(1), 3).tolist() == [True, True]
    assert scoring.divergence(theirs, theirs) == pytest.approx([0, 0])
    assert (scoring.divergence(theirs, theirs[:, ::-1]) > 0.5).all()


@pytest.mark.model
def test_real_pictures_keep_their_class_in_int8(tmp_path: Path) -> None:
    """EfficientNet-Lite0, by both frameworks, on parts of photographs."""
    out = tmp_path / "model"
    out.mkdir()
    expanding.expand(Fetch(model=expanding.LITE), out)
    images = preparing._parts(expanding.LITE_PREPROCESSING, 24, 17)
    plain = arrays("onnx").arrays(out, 2).run({pictures.INPUT: images})[pictures.OUTPUT]
    assert len(set(plain.argmax(1))) > 3
    feeds = tuple({pictures.INPUT: one[None]} for one in images[:8])
    for name in ("onnx", "openvino"):
        folder = tmp_path / name
        folder.mkdir()
        work = Work(model=out, calibration=(), threads=2, family="arrays", calibration_arrays=feeds)
        backend(name).convert(work, recipe(backend=name, precision="int8", method="static", group_size=0), folder)
        found = arrays(name).arrays(folder, 2).run({pictures.INPUT: images[8:]})[pictures.OUTPUT]
        assert (found.argmax(1) == plain[8:].argmax(1)).mean() >= 0.7, name
        assert scoring.among(found, plain[8:].argmax(1), 5).mean() >= 0.9, name


def test_a_package_takes_paths_bytes_and_base64(tmp_path: Path) -> None:
    class Session:
        inputs = {"image": None}

        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"classes": feeds["image"].reshape(len(feeds["image"]), -1)[:, :2]}

    held = io.BytesIO()
    Image.new("L", (8, 8), 16).save(held, "PNG")
    (tmp_path / "a.png").write_bytes(held.getvalue())
    one = predicting.Classifier(Session(), digits.PREPROCESSING)  # type: ignore[arg-type]
    given = [str(tmp_path / "a.png"), held.getvalue(), base64.b64encode(held.getvalue()).decode()]
    assert one.predict(given, {}) == pytest.approx(np.ones((3, 2)))
    with pytest.raises(DataError, match="neither a file"):
        one.predict(["nothing"], {})
